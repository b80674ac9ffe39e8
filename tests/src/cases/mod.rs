//! The end-to-end tests, a file a theme.
//!
//! To add one: write a function that takes `&mut Lab`, and a line in its file's table. To add a
//! theme: a file with a table, and a line in [`all`].

use crate::case::Case;

mod agent;
mod agent_run;
mod anycast;
mod anycast_agent;
mod checkers;
mod doctor;
mod events;
mod failover;
mod lab;
mod manual;
mod metrics;
mod neighbour;
mod newcomer;
mod package;
mod page;
mod path;
mod planning;
mod pool;
mod prometheus;
mod reload;
mod services;
mod table;
mod top;
mod trace;
mod verdicts;
mod vrrp;
mod watching;

/// Every case of every theme.
pub fn all() -> impl Iterator<Item = &'static Case> {
    [
        lab::CASES,
        agent::CASES,
        agent_run::CASES,
        anycast::bgp::CASES,
        anycast::bird::CASES,
        anycast::comparison::CASES,
        anycast::container::CASES,
        anycast::ospf::CASES,
        anycast::static_route::CASES,
        anycast::tiers::CASES,
        anycast_agent::CASES,
        checkers::CASES,
        doctor::CASES,
        vrrp::CASES,
        metrics::CASES,
        planning::CASES,
        newcomer::CASES,
        package::CASES,
        pool::CASES,
        prometheus::CASES,
        reload::CASES,
        services::CASES,
        table::CASES,
        verdicts::CASES,
        watching::CASES,
        events::CASES,
        trace::CASES,
        failover::CASES,
        page::CASES,
        manual::CASES,
        top::CASES,
        path::CASES,
    ]
    .into_iter()
    .flatten()
}
