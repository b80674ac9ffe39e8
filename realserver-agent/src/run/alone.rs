//! A drain without a service: nobody is told, so the quiet is all there is.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::drain::{Certificate, Drain, Patience, Progress};
use super::wire::Wire;
use super::{AFTERMATH, COUNT_EVERY};
use crate::agent;
use crate::machine::Machine;

/// Waits until no query has come for the agent's VIPs, of which those from `directors` don't count, and
/// takes them away.
///
/// # Errors
/// When they can't be taken away.
pub fn drain_alone(
    machine: &mut dyn Machine,
    directors: &BTreeSet<IpAddr>,
    patience: Patience,
) -> Result<Certificate, agent::Error> {
    let owned = machine.owned().addresses.iter();
    let vips: BTreeSet<IpAddr> = owned.map(|place| place.address).collect();
    let directors: Vec<IpAddr> = directors.iter().copied().collect();
    let mut wire = Wire::default();
    wire.follow(&vips, &directors);
    let counted = wire.counts(&vips);
    let mut drain = Drain::announce(Instant::now(), patience, [], [], counted);
    while let Progress::Waiting(until) = drain.progress(Instant::now()) {
        let left = until.saturating_duration_since(Instant::now());
        sleep(left.clamp(Duration::from_millis(1), COUNT_EVERY));
        let queries = sum(&wire);
        drain.hear_queries(Instant::now(), queries);
    }
    let gone = Instant::now();
    agent::stop(machine, &[])?;
    sleep(AFTERMATH);
    Ok(drain.certify(gone, counted.then(|| sum(&wire))))
}

fn sum(wire: &Wire) -> u64 {
    wire.take().map(|(_, _, queries)| queries).sum()
}
