//! Protocols of a DNS director, without I/O.
//!
//! This crate is fully deterministic: it has no sockets, no clock, no runtime and no randomness of
//! its own. Bytes and events go in together with the present time, actions and bytes come out. The
//! same code therefore runs in the daemon, in unit tests and in a simulation of a whole LAN.

pub mod agent_check;
pub mod arp;
pub mod dns;
mod family;
pub mod health;
pub mod ipvs;
pub mod ndp;
mod pattern;
pub mod sentinel;
pub mod vrrp;

pub use family::Family;
pub use pattern::{InvalidPattern, Pattern};
