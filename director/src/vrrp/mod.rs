//! VRRP in the daemon: sockets, a thread of its own and the addresses it holds.
//!
//! The protocol is [`lvs_proto::vrrp::Instance`]; this room gives it a clock, sockets and hands. The
//! `thread` runs the `router`s and blocks for nothing else; the `monitor` watches links and addresses
//! beside it. Called by [`crate::worker`]; the [`crate::engine`] says when the machine is ready to
//! serve and hears who holds addresses, and [`crate::tracking`] says what it is worth.

mod announcer;
mod closer;
mod complaints;
mod monitor;
mod port;
mod router;
mod surroundings;
mod thread;
mod virtual_mac;
mod watchdog;

pub use complaints::Oddity;
pub use monitor::InterfaceEvent;
pub use port::PortError;
pub use router::{OpenError, TransitionEvent};
pub use thread::{Events, Ownerships, Routers, SpawnError, VrrpThread};
