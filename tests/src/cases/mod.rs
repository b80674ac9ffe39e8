//! The end-to-end tests, a file a theme.
//!
//! To add one: write a function that takes `&mut Lab`, and a line in its file's table. To add a
//! theme: a file with a table, and a line in [`all`].

use crate::case::Case;

mod agent;
mod failover;
mod lab;
mod metrics;
mod neighbour;
mod reload;
mod table;
mod vrrp;

/// Every case of every theme.
pub fn all() -> impl Iterator<Item = &'static Case> {
    [
        lab::CASES,
        agent::CASES,
        vrrp::CASES,
        metrics::CASES,
        reload::CASES,
        table::CASES,
        failover::CASES,
    ]
    .into_iter()
    .flatten()
}
