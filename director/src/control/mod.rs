//! The control socket: what `director status` and `director handover` talk to.
//!
//! A request is one line of JSON, its answer another; then the connection ends. [`Server`] knows
//! the protocol and nothing of the daemon: [`crate::worker`] takes each [`Query`] from a channel
//! and answers it. [`ask`] is the other end, for [`crate::cli`].

mod client;
mod seconds;
mod server;
mod status;

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

pub use client::{AskError, ask};
pub use server::{BindError, Server};
pub use status::{
    ActiveRouter, Aside, Checksum, Counters, Family, InstanceStatus, Margin, Ownership, Priorities,
    State, Status, Transition,
};

/// The socket's name in the runtime directory.
pub const SOCKET: &str = "control.sock";

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// How everything is.
    Status,
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
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To [`Request::Status`].
    Status(Status),
    /// To [`Request::Handover`]: one for each instance.
    Handover(Vec<Handover>),
    /// To [`Request::Release`]: the instances that stood aside.
    Released(Vec<String>),
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

/// A request that waits for its answer. When it is dropped, the client hears that it can't be
/// answered.
#[derive(Debug)]
pub struct Query {
    /// What is asked.
    pub request: Request,
    /// Where the answer goes; nobody may listen any more.
    pub answer: oneshot::Sender<Answer>,
}
