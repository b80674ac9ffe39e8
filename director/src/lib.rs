//! Holds a virtual IP with VRRP and spreads DNS queries over real servers with IPVS.
//!
//! `docs/architecture.md` describes how the modules work together.

pub mod address;
pub mod cli;
pub mod config;
pub mod control;
pub mod dataplane;
pub mod engine;
#[doc(hidden)]
pub mod fuzzing;
pub mod health;
pub mod hooks;
pub mod metrics;
mod program;
pub mod supervisor;
pub mod tracking;
pub mod vrrp;
pub mod worker;
