//! The sentinel: notices when anybody else claims a VIP that this machine holds.
//!
//! `lvs_proto::sentinel` judges what is heard; here are the sockets around it, on a thread of their own
//! that [`crate::worker`] starts and tells what is held. A machine that holds nothing listens to nothing.

mod conflict;
mod guard;
mod thread;

#[cfg(test)]
pub(crate) use conflict::tests::conflict as conflict_for_tests;

pub use conflict::Conflict;
pub(crate) use conflict::hardware_address_text;
pub use guard::{Guard, guard};
pub use thread::{Sentinel, SpawnError};
