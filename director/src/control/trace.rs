//! What `director trace` tells.

use serde::{Deserialize, Serialize};

/// Where queries of a client would go.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tracing {
    /// One for each of the kernel's services that is meant.
    pub traces: Vec<Trace>,
    /// What else there is to know.
    pub notes: Vec<String>,
}

/// Where a query to one of the kernel's services would go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    /// The configured service.
    pub service: String,
    /// The kernel's, as `192.0.2.1:53/udp` or `mark 7/ipv4`.
    pub virtual_service: String,
    /// What decides.
    pub basis: Basis,
    /// To whom: one if that is sure, none if it's nobody.
    pub servers: Vec<Part>,
    /// Why, as words for people.
    pub why: Vec<String>,
}

/// What decides where a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// An entry of its flow.
    Connection,
    /// A template of its client, as the service is persistent.
    Persistence,
    /// A hash, computed as the kernel does.
    Hash,
    /// Weights alone.
    Weight,
    /// The order of all packets, or how many connections each server has at that moment.
    Order,
    /// Nobody gets it.
    Nobody,
}

/// A server that may be picked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// As `director status` names it.
    pub server: String,
    /// How probable it is: above 0, and 1 if it's sure.
    pub share: f64,
}
