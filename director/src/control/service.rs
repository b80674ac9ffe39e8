//! What `director status` tells of services and their real servers.

use std::time::Duration;

use lvs_system::seconds;
use serde::{Deserialize, Serialize};

use super::status::Family;
use crate::hand;

/// How one service is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// Its servers for each family and protocol.
    pub pools: Vec<PoolStatus>,
}

/// How the servers of a service are for one family and one protocol.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PoolStatus {
    /// Of the packets.
    pub family: Family,
    /// Of the packets; null where a firewall mark decides.
    pub protocol: Option<String>,
    /// The healthy servers that take queries.
    pub healthy: usize,
    /// How many have to be healthy.
    pub needed: usize,
    /// Whether enough are; null while it isn't known.
    pub quorum: Option<bool>,
    /// What the floor does, as words for people.
    pub floor: Option<String>,
    /// The sorry server that answers, as there is nobody else.
    pub sorry_server: Option<String>,
    /// What clients asked in the last seconds, by the kernel's counters: packets over UDP and where a
    /// firewall mark decides, else connections. Null while it isn't known, and without a data plane.
    pub queries_per_second: Option<f64>,
    /// The real servers, in the order of their addresses.
    pub servers: Vec<ServerStatus>,
}

/// How one real server is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// Which of the service's servers.
    pub server: String,
    /// What becomes of it.
    pub state: ServerState,
    /// The last failure of its check, while it fails.
    pub failure: Option<Failure>,
    /// What it has in the table, or would have.
    pub weight: u16,
    /// What the configuration says.
    pub configured_weight: u16,
    /// What counts for less than the configured weight, in percent.
    pub factors: FactorStatus,
    /// What the server says of itself where it wants less than everything: `drain` or `maint`.
    pub agent: Option<String>,
    /// How long it took to answer the last probe that it passed, the slowest of all its checks; null if it has
    /// passed none, and for checks that ask nobody.
    #[serde(rename = "latency_seconds", with = "seconds::optional")]
    pub latency: Option<Duration>,
    /// Its part of what clients asked; null where the kernel hasn't got it.
    pub queries_per_second: Option<f64>,
    /// What an operator said.
    pub hand: Option<HandStatus>,
    /// Who the server says that it is, where the check has `nsid`.
    pub identity: Option<String>,
}

/// What becomes of a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerState {
    /// It takes queries.
    In,
    /// It fails, and takes queries for the floor's sake.
    Kept,
    /// It is there and takes nothing new.
    Drained,
    /// It isn't there.
    Out,
    /// It was taken out by hand.
    Disabled,
    /// Nothing is known of it yet: it is as it was found.
    Unknown,
}

impl ServerState {
    /// All there are.
    pub const ALL: [Self; 6] = [
        Self::In,
        Self::Kept,
        Self::Drained,
        Self::Out,
        Self::Disabled,
        Self::Unknown,
    ];

    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Kept => "kept",
            Self::Drained => "drained",
            Self::Out => "out",
            Self::Disabled => "disabled",
            Self::Unknown => "unknown",
        }
    }
}

/// Why a check fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The kind: `timeout`, `refused`, `network`, `parse`, `mismatch`, `rcode`, `content`, `exit`.
    pub kind: String,
    /// In words.
    pub text: String,
}

/// In percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FactorStatus {
    /// What the server says of itself.
    pub agent: u8,
    /// How its latency compares.
    pub latency: u8,
    /// How far it has come since it returned.
    pub slow_start: u8,
    /// How far its zones are behind.
    pub serial: u8,
}

impl FactorStatus {
    /// By name.
    pub fn named(&self) -> [(&'static str, u8); 4] {
        [
            ("agent", self.agent),
            ("latency", self.latency),
            ("slow_start", self.slow_start),
            ("serial", self.serial),
        ]
    }
}

/// What an operator said of a server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HandStatus {
    /// How it's to be.
    pub state: hand::State,
    /// For so long; until told otherwise if null.
    #[serde(rename = "left_seconds", with = "seconds::optional")]
    pub left: Option<Duration>,
    /// Why, in the operator's words.
    pub reason: Option<String>,
}
