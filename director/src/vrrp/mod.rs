//! VRRP in the daemon: sockets, a thread of its own and the addresses it holds.
//!
//! The protocol is [`lvs_proto::vrrp::Instance`]; this room gives it a clock, sockets and hands.
//! Called by [`crate::worker`]; the [`crate::engine`] says when the machine is ready to serve.

mod router;
mod thread;

pub use router::OpenError;
pub use thread::{Routers, SpawnError, VrrpThread};
