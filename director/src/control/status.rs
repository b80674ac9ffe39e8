//! What `director status` tells. Times are seconds in JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use lvs_proto::vrrp;
use lvs_system::seconds;
use serde::{Deserialize, Serialize};

use super::service::ServiceStatus;
use crate::sentinel::Conflict;
use crate::tracking::Tracked;

/// How everything is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// Which node of the configuration this machine is.
    pub node: String,
    /// A hash of what has to be the same on both directors ([`crate::config::Hashes`]): 16 hexadecimal
    /// digits.
    pub configuration_hash: String,
    /// The same by part, such as `service resolver`.
    pub configuration_parts: BTreeMap<String, String>,
    /// Since the worker was started.
    #[serde(rename = "uptime_seconds", with = "seconds")]
    pub uptime: Duration,
    /// Every instance, in the order of the configuration.
    pub instances: Vec<InstanceStatus>,
    /// Every service, in the order of the configuration.
    pub services: Vec<ServiceStatus>,
    /// What is wrong with what operators said of real servers, as words for people with what to do.
    pub hand_problems: Vec<String>,
    /// Who else claims VIPs that are held here.
    pub address_conflicts: Vec<Conflict>,
    /// VIPs for which no real server answers, as words for people with what to do about it.
    pub path_problems: Vec<String>,
    /// What is wrong with the forwarding table, as words for people with what to do about it.
    pub table_problems: Vec<String>,
    /// All that is not well, a line each with what to do about it ([`super::findings`]).
    pub findings: Vec<String>,
}

/// How one instance is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: State,
    /// How long it has been in it.
    #[serde(rename = "in_state_seconds", with = "seconds")]
    pub in_state: Duration,
    /// How it stands with the addresses.
    pub ownership: Ownership,
    /// Its services can be served from here.
    pub ready: bool,
    /// Why not, as words for people.
    pub obstacle: Option<String>,
    /// How it came to its state; nothing before the first one.
    pub last_transition: Option<Transition>,
    /// Its priority.
    pub priority: Priorities,
    /// The protocol's version: 2 or 3.
    pub vrrp_version: u8,
    /// Of its adverts.
    pub family: Family,
    /// The interface that carries its adverts.
    pub interface: String,
    /// 1 to 255.
    pub virtual_router_id: u8,
    /// The sync group that it moves with.
    pub group: Option<String>,
    /// The VIPs that are held now, with their prefix lengths.
    pub addresses: Vec<String>,
    /// Who is Active, as far as is known, if it is another router.
    pub active: Option<ActiveRouter>,
    /// It doesn't take over from an Active, as it was told to.
    pub stands_aside: Option<Aside>,
    /// As Backup, since it became that: the longest silence, and the active-down interval at which it takes over.
    pub silence: Option<Margin>,
    /// As Active, since it became that: the longest that an advert was late, and how late it would step down.
    pub lateness: Option<Margin>,
    /// What it tracks.
    pub tracked: Vec<Tracked>,
    /// What keeps it in fault, as words for people.
    pub faults: Vec<String>,
    /// What was sent and heard.
    pub counters: Counters,
}

/// The state of an instance (RFC 9568, section 6.4), and fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Not running.
    Initialize,
    /// Watches the Active.
    Backup,
    /// Holds the addresses.
    Active,
    /// Can't take part.
    Fault,
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Initialize => "initialize",
            Self::Backup => "backup",
            Self::Active => "active",
            Self::Fault => "fault",
        })
    }
}

impl From<vrrp::State> for State {
    fn from(state: vrrp::State) -> Self {
        match state {
            vrrp::State::Initialize => Self::Initialize,
            vrrp::State::Backup => Self::Backup,
            vrrp::State::Active => Self::Active,
            vrrp::State::Fault => Self::Fault,
        }
    }
}

/// How an instance stands with its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ownership {
    /// It has none.
    Absent,
    /// It found them at start, and listens whether another router has them.
    Adopting,
    /// It has them.
    Held,
    /// It keeps them until another router has them.
    HandingOver,
}

impl From<vrrp::Ownership> for Ownership {
    fn from(ownership: vrrp::Ownership) -> Self {
        match ownership {
            vrrp::Ownership::Absent => Self::Absent,
            vrrp::Ownership::Adopting => Self::Adopting,
            vrrp::Ownership::Held => Self::Held,
            vrrp::Ownership::HandingOver => Self::HandingOver,
        }
    }
}

/// Protocol of adverts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl From<vrrp::Family> for Family {
    fn from(family: vrrp::Family) -> Self {
        match family {
            vrrp::Family::Ipv4 => Self::Ipv4,
            vrrp::Family::Ipv6 => Self::Ipv6,
        }
    }
}

/// A change of state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Transition {
    /// The state before.
    pub from: State,
    /// The state after.
    pub to: State,
    /// Why, as words for people.
    pub reason: String,
    /// How long ago.
    #[serde(rename = "ago_seconds", with = "seconds")]
    pub ago: Duration,
}

/// Priorities of one instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Priorities {
    /// As configured.
    pub base: u8,
    /// With what is tracked.
    pub effective: u8,
}

/// The router that is Active, by its last advert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActiveRouter {
    /// Its address.
    pub address: IpAddr,
    /// Its priority.
    pub priority: u8,
    /// Between its adverts.
    #[serde(rename = "interval_seconds", with = "seconds")]
    pub interval: Duration,
    /// What its checksums cover, where that is a choice: with version 3 over IPv4.
    pub checksum: Option<Checksum>,
    /// It has shown that it knows the key or the password.
    pub authenticated: bool,
}

impl From<vrrp::Active> for ActiveRouter {
    fn from(active: vrrp::Active) -> Self {
        let is_choice = active.version == vrrp::Version::V3 && active.address.is_ipv4();
        Self {
            address: active.address,
            priority: active.priority,
            interval: active.interval,
            checksum: is_choice.then(|| active.form.into()),
            authenticated: active.authenticated,
        }
    }
}

/// What a checksum covers, in the configuration's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Checksum {
    /// The IPv4 pseudo-header and the message.
    PseudoHeader,
    /// The message.
    MessageOnly,
}

impl From<vrrp::ChecksumForm> for Checksum {
    fn from(form: vrrp::ChecksumForm) -> Self {
        match form {
            vrrp::ChecksumForm::PseudoHeader => Self::PseudoHeader,
            vrrp::ChecksumForm::MessageOnly => Self::MessageOnly,
        }
    }
}

/// For how long an instance stands aside.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "until")]
pub enum Aside {
    /// For a while.
    Time {
        /// As much of it is left.
        #[serde(rename = "left_seconds", with = "seconds")]
        left: Duration,
    },
    /// Until `director handover --release`.
    Release,
}

/// How near something came to its limit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Margin {
    /// The longest time so far.
    #[serde(rename = "longest_seconds", with = "seconds")]
    pub longest: Duration,
    /// The time at which something happens.
    #[serde(rename = "limit_seconds", with = "seconds")]
    pub limit: Duration,
}

/// What was sent and heard since the worker was started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Adverts sent.
    pub adverts_sent: u64,
    /// Adverts of other routers that were accepted.
    pub adverts_received: u64,
    /// Packets that were discarded, by reason.
    pub adverts_rejected: BTreeMap<String, u64>,
}
