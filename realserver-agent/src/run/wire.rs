//! Queries for the VIPs, counted on the wire.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lvs_system::query_counter::{QueryCounter, Transport};
use tracing::warn;

/// Counts queries for some VIPs, but those of directors: their probes by the VIP are no traffic.
#[derive(Debug, Default)]
pub(crate) struct Wire {
    counters: BTreeMap<(IpAddr, Transport), QueryCounter>,
    directors: Vec<IpAddr>,
    complained: bool,
}

impl Wire {
    /// Counts for these VIPs, without these directors, from now on. Where that isn't possible it is said
    /// once.
    pub(crate) fn follow(&mut self, vips: &BTreeSet<IpAddr>, directors: &[IpAddr]) {
        let has_changed = self.directors != directors;
        self.directors = directors.to_vec();
        self.counters.retain(|(vip, _), counter| {
            vips.contains(vip) && (!has_changed || counter.set_uncounted(directors).is_ok())
        });
        for vip in vips {
            for transport in Transport::ALL {
                if self.counters.contains_key(&(*vip, transport)) {
                    continue;
                }
                match QueryCounter::open(*vip, transport, directors) {
                    Ok(counter) => {
                        self.counters.insert((*vip, transport), counter);
                    }
                    Err(error) => self.complain(*vip, &error),
                }
            }
        }
        self.complained &= !self.counts(vips);
    }

    /// Whether queries for all of these are counted.
    pub(crate) fn counts(&self, vips: &BTreeSet<IpAddr>) -> bool {
        let mut all = vips
            .iter()
            .flat_map(|vip| Transport::ALL.map(|transport| (*vip, transport)));
        all.all(|key| self.counters.contains_key(&key))
    }

    /// What has come since the last call, by VIP and transport.
    pub(crate) fn take(&self) -> impl Iterator<Item = (IpAddr, Transport, u64)> {
        // The kernel refuses only what it doesn't know.
        self.counters
            .iter()
            .filter_map(|((vip, transport), counter)| {
                Some((*vip, *transport, counter.take().ok()?))
            })
    }

    fn complain(&mut self, vip: IpAddr, error: &std::io::Error) {
        if !std::mem::replace(&mut self.complained, true) {
            warn!(
                "cannot count the queries for {vip}: {error}; it takes the capability CAP_NET_RAW, and \
                 without it a drain can't tell when it is quiet"
            );
        }
    }
}
