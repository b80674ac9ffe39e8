//! IPVS over generic netlink: the table's terms, requests out, replies in.
//!
//! Requests and replies are the octets behind the netlink header, which the owner of the socket
//! adds and removes: the generic netlink header and attributes. Numbers and rules are those of
//! `include/uapi/linux/ip_vs.h` and `net/netfilter/ipvs/ip_vs_ctl.c`; the tests compare with what
//! a kernel was recorded to say (`recorded_messages.json`).
//!
//! Left out: persistence engines, and rates (they follow from the counters).

mod attribute;
mod command;
mod daemon;
mod family;
pub mod hashing;
mod reply;
mod scheduler;
mod table;

pub use command::{Command, Query, Timeouts};
pub use daemon::{Daemon, DaemonRole};
pub use family::{CONTROLLER, FAMILY_NAME, family_identifier, family_request};
pub use reply::{DecodeError, FoundDestination, FoundService, Information, Statistics};
pub use scheduler::{Scheduler, UnknownScheduler};
pub use table::{
    Destination, DestinationKey, Forwarding, Persistence, Protocol, Service, ServiceFlags,
    ServiceKey, Tunnel, TunnelChecksum,
};

#[cfg(test)]
mod recorded;
