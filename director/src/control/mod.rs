//! The control socket: what `director status`, `handover`, `plan` and `reload` talk to.
//!
//! A request is one line of JSON, its answer another; then the connection ends. [`Server`] knows
//! the protocol and nothing of the daemon: [`crate::worker`] takes each [`Query`] from a channel
//! and answers it. [`ask`] is the other end, for [`crate::cli`].

mod client;
pub mod findings;
mod plan;
mod server;
mod service;
mod status;
mod trace;

use std::net::IpAddr;
use std::time::Duration;

use lvs_system::seconds;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::events::Event;
use crate::hand::{self, Pattern, Place};

pub use client::{AskError, ask};
pub use plan::{Action, Change, ConfigurationText, Finding, Object, Plan, Reload};
pub use server::{BindError, Server};
pub use service::{
    FactorStatus, Failure, HandStatus, PoolStatus, ServerState, ServerStatus, ServiceStatus,
};
pub use status::{
    ActiveRouter, Aside, Checksum, Counters, Family, InstanceStatus, Margin, Ownership, Priorities,
    State, Status, Transition,
};

pub use trace::{Basis, Part, Trace, Tracing};

/// The socket's name in the runtime directory.
pub const SOCKET: &str = "control.sock";

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// How everything is.
    Status,
    /// What happened, oldest first.
    Events {
        /// At most so many, the newest; all that are kept if not given.
        #[serde(default)]
        last: Option<usize>,
        /// Only those with a higher number.
        #[serde(default)]
        after: Option<u64>,
    },
    /// Which server a query would go to.
    Trace {
        /// Who asks.
        client: IpAddr,
        /// The port that it sends from, where that is known.
        #[serde(default)]
        port: Option<u16>,
        /// The service that it asks; all if not given.
        #[serde(default)]
        service: Option<String>,
        /// `udp`, `tcp` or `sctp`; all if not given.
        #[serde(default)]
        protocol: Option<String>,
    },
    /// Another router shall take over, and this one not take over again for a while.
    Handover {
        /// The instances by name; all if there are none.
        #[serde(default)]
        instances: Vec<String>,
        /// How long to stand aside; until [`Request::Release`] if not given.
        #[serde(default)]
        for_seconds: Option<u64>,
    },
    /// Standing aside ends.
    Release,
    /// What would change with another configuration.
    Plan {
        /// The file; the one that the director runs with, as it is now, if not given.
        #[serde(default)]
        configuration: Option<ConfigurationText>,
    },
    /// The director reads its file again, and goes by it.
    Reload,
    /// Servers shall be drained, out, or take part again, whatever their checks say.
    Hand {
        /// Which.
        servers: Pattern,
        /// How they are to be.
        state: hand::State,
        /// For how long; until told otherwise if not given.
        #[serde(default)]
        for_seconds: Option<u64>,
        /// Why, in a line.
        #[serde(default)]
        reason: Option<String>,
    },
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To [`Request::Status`].
    Status(Status),
    /// To [`Request::Events`].
    Events(Vec<Event>),
    /// To [`Request::Trace`].
    Trace(Tracing),
    /// To [`Request::Handover`]: one for each instance.
    Handover(Vec<Handover>),
    /// To [`Request::Release`]: the instances that stood aside.
    Released(Vec<String>),
    /// To [`Request::Plan`].
    Plan(Plan),
    /// To [`Request::Reload`].
    Reloaded(Reload),
    /// To [`Request::Hand`].
    Hand(HandReport),
    /// To both: the file has mistakes, and nothing was changed.
    Invalid(Vec<Finding>),
    /// It can't be done, and why.
    Error(String),
}

/// What became of handing over one instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handover {
    /// The instance's name.
    pub instance: String,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: HandoverOutcome,
}

/// What became of handing over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum HandoverOutcome {
    /// Another router is Active now.
    TakenOver {
        /// Its address.
        by: IpAddr,
        /// From the request to its first advert.
        #[serde(rename = "after_seconds", with = "seconds")]
        after: Duration,
    },
    /// No other router took over: this one stays Active.
    NobodyAnswered,
    /// It was not Active, and stands aside now.
    NotActive,
    /// It owns the addresses (priority 255), and takes over from everybody.
    Owner,
    /// There is no instance of this name.
    Unknown,
}

/// What became of an order of the operator's hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandReport {
    /// The servers that it concerns.
    pub servers: Vec<HandOutcome>,
    /// What else there is to know, a line each.
    pub notes: Vec<String>,
    /// Why it isn't written down, so that a restart forgets it; it's in force nevertheless.
    pub not_kept: Option<String>,
}

/// What became of one server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandOutcome {
    /// The service, and which of its servers.
    pub server: Place,
    /// How it is.
    pub state: hand::State,
    /// How it was.
    pub was: hand::State,
}

/// A request that waits for its answer. When it is dropped, the client hears that it can't be
/// answered.
#[derive(Debug)]
pub struct Query {
    /// What is asked.
    pub request: Request,
    /// Where the answer goes; nobody may listen any more.
    pub answer: oneshot::Sender<Answer>,
}
