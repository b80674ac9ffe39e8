//! Checkers: the sockets around `lvs_proto`'s probe and tally.
//!
//! Every real server of every service has one checker a protocol, for a server whose TCP is dead
//! can still answer UDP. The [`crate::engine`] starts and ends them and hears their verdicts.

mod checker;
mod transport;

use std::net::Ipv4Addr;

use lvs_proto::health::Verdict;
use lvs_proto::ipvs::Protocol;

pub use checker::spawn;
pub use transport::Failure;

/// Whose health it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subject {
    /// The service's name.
    pub service: String,
    /// How the service reaches the server.
    pub protocol: Protocol,
    /// The server's own address.
    pub real_server: Ipv4Addr,
}

/// A changed verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The number that the checker was started with.
    pub checker: u64,
    /// Whose.
    pub subject: Subject,
    /// The new one.
    pub verdict: Verdict,
}
