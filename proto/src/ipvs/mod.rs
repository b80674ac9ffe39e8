//! IPVS over generic netlink: the table's terms, requests out, replies in.
//!
//! Numbers and rules are those of `include/uapi/linux/ip_vs.h` and
//! `net/netfilter/ipvs/ip_vs_ctl.c`.

mod scheduler;

pub use scheduler::{Scheduler, UnknownScheduler};
