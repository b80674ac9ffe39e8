//! Many seeds, on all processors.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::invariants::Violation;
use super::lan::run;
use super::scenario::Scenario;
use super::story::Story;

/// What came of many seeds.
#[derive(Clone, Debug, Default)]
pub struct Campaign {
    /// The lowest seed that violates something, and what.
    pub failure: Option<(u64, Violation)>,
    /// Packets and wake-ups in all of them.
    pub events: u64,
}

/// Plays every seed, or all up to the first that fails: which seed that is doesn't depend on how
/// many processors there are.
pub fn run_seeds(seeds: Range<u64>) -> Campaign {
    let next = AtomicU64::new(seeds.start);
    let end = AtomicU64::new(seeds.end);
    let campaign = Mutex::new(Campaign::default());
    let work = || {
        let mut events = 0;
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end.load(Ordering::Relaxed) {
                break;
            }
            let outcome = run(&Scenario::random(seed), Story::default());
            events += outcome.events;
            if let Some(violation) = outcome.violation {
                end.fetch_min(seed, Ordering::Relaxed);
                note(&campaign, seed, violation);
            }
        }
        if let Ok(mut campaign) = campaign.lock() {
            campaign.events += events;
        }
    };
    thread::scope(|scope| {
        let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        for _ in 0..processors {
            scope.spawn(work);
        }
    });
    campaign.into_inner().unwrap_or_default()
}

fn note(campaign: &Mutex<Campaign>, seed: u64, violation: Violation) {
    if let Ok(mut campaign) = campaign.lock()
        && campaign
            .failure
            .as_ref()
            .is_none_or(|(lowest, _)| seed < *lowest)
    {
        campaign.failure = Some((seed, violation));
    }
}
