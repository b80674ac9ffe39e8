//! How the servers of a service stand for each other.

use std::time::Duration;

use lvs_proto::health::{Floor, LatencyRules, Quorum};

use super::RealServer;

/// How the servers of a service stand for each other: those of each family and protocol by themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSettings {
    /// How many have to be healthy for the service to count as served.
    pub quorum: Quorum,
    /// How many stay, whatever checks say.
    pub floor: Floor,
    /// Who takes the queries while there is nobody else; one of a family at most.
    pub sorry_servers: Vec<RealServer>,
    /// The largest weight that a server gets, not less than any configured one.
    pub maximum_weight: u16,
    /// In what time a server that returns gets its whole share.
    pub slow_start: Option<Duration>,
    /// How weights follow latency.
    pub latency: Option<LatencyRules>,
}
