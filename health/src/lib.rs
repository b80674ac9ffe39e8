//! Finds out whether a server works: the sockets around `lvs_proto`'s probes and tally.
//!
//! A [`Prober`] probes one [`Target`] when told to. A [`Checker`] does so at an interval, for ever, and tells
//! of what it comes to believe. What is asked is read from a configuration by [`reading`]. What follows for
//! whom is the business of the programs that use this crate: it knows of no services, no VIPs on this
//! machine and no metrics; whoever counts is an [`Observer`].

mod agent;
pub mod check;
mod checker;
pub mod defaults;
mod dns;
mod exec;
mod failure;
mod http;
mod path;
mod plain;
mod probe;
pub mod program;
pub mod reading;
mod route;
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub mod testing;
mod transport;
pub mod watch;
pub mod watched;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lvs_proto::agent_check::Report;
use lvs_proto::health::{FailureKind, Verdict};
use lvs_proto::ipvs::Protocol;

use check::{CheckKind, Probing};
pub use checker::{Checker, Observer};
pub use failure::Failure;
pub use path::{Gate, Path};
pub use probe::{Good, Prober};
pub use watch::Observation;

/// What a checker probes. Equal ones have one checker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The server's own address and the port that is probed; port 0 where the check has none.
    pub server: SocketAddr,
    /// Over what, where the check doesn't say it by itself.
    pub transport: Option<Protocol>,
    /// How.
    pub probing: Arc<Probing>,
    /// Where not the server's own address is probed, but a VIP on it.
    pub path: Option<Path>,
}

/// Why a real server is unhealthy; displays as its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// The kind of the last failure.
    pub kind: FailureKind,
    /// The last failure for people: `SERVFAIL`, `no answer within 300 ms`.
    pub text: String,
}

/// What a checker has come to believe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The verdict is another one; the unhealthy have a reason.
    Verdict {
        /// The new one.
        verdict: Verdict,
        /// Why.
        reason: Option<Reason>,
    },
    /// The server, or a program that looks at it, says how much it takes; or nothing any more.
    Agent(Option<Report>),
    /// How long answers took in the last second, on average, where somebody wants to know.
    Latency(Duration),
    /// Who the server says that it is (RFC 5001), in printable characters.
    Identity(String),
    /// A watcher has looked at the server's DNS data.
    Watched(Observation),
}

/// A checker's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The number that the checker was started with.
    pub checker: u64,
    /// What is new.
    pub change: Change,
}

impl Target {
    /// What its probes may fail by.
    pub fn failure_kinds(&self) -> &'static [FailureKind] {
        use FailureKind::{
            Content, Exit, Mismatch, Network, NotListeningOnVip, Parse, Path, Refused,
            ResponseCode, ServerDown, Timeout, VipMissing, WrongSource,
        };
        if self.path.is_some() {
            return &[ServerDown, VipMissing, NotListeningOnVip, WrongSource, Path];
        }
        match &self.probing.kind {
            CheckKind::Dns(_) | CheckKind::Http(_) => &[
                Timeout,
                Refused,
                Network,
                Parse,
                Mismatch,
                ResponseCode,
                Content,
            ],
            CheckKind::Tcp | CheckKind::Udp(_) => &[Timeout, Refused, Network],
            CheckKind::Exec(_) => &[Timeout, Exit],
            CheckKind::Agent => &[Timeout, Refused, Network, Parse, Content],
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.text)
    }
}
