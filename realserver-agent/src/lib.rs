//! `rs-agent`: makes a machine a correct direct-routing (LVS-DR) real server.
//!
//! A real server has the VIP as an address of its own, so that it accepts what the director passes
//! on, but must keep silent about it on the LAN: the VIP is put on `lo`, and `arp_ignore` and
//! `arp_announce` are set before it appears.
//!
//! [`cli`] reads arguments and file, [`agent`] knows what start, stop and reload mean, [`plan`]
//! compares what is wanted with what is found, [`step`] carries the difference out and takes it
//! back when something fails, and [`machine`] alone touches the kernel.

pub mod agent;
pub mod anycast;
pub mod audit;
pub mod cli;
pub mod config;
pub mod filter;
pub mod machine;
pub mod plan;
pub mod run;
pub mod step;
pub mod vip;

#[cfg(test)]
mod fake;
