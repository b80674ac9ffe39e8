//! Holds a virtual IP with VRRP and spreads DNS queries over real servers with IPVS.
//!
//! `docs/architecture.md` describes how the modules work together.

pub mod address;
pub mod cli;
pub mod config;
pub mod control;
pub mod dataplane;
pub mod doctor;
pub mod engine;
pub mod events;
#[doc(hidden)]
pub mod fuzzing;
pub mod hand;
pub mod health;
pub mod history;
pub mod hooks;
pub mod metrics;
pub mod page;
pub mod sentinel;
pub mod state_file;
pub mod supervisor;
pub mod trace;
pub mod tracking;
pub mod vrrp;
mod wording;
pub mod worker;
