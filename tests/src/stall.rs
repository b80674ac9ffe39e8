//! Whether the machine itself stands still, which no program on it can help.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, available_parallelism, sleep, spawn};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use lvs_system::syscalls;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::figures;
use crate::lab::is_initial_root;

/// How long a watcher sleeps at a time.
pub const NAP: Duration = Duration::from_millis(1);
/// Above that of the director's thread for adverts, so that a watcher never waits for it.
const REAL_TIME_PRIORITY: u8 = 51;

/// A time in which a processor didn't run who was next.
#[derive(Clone, Copy, Debug)]
pub struct Stall {
    from: Instant,
    until: Instant,
}

impl Stall {
    /// How long it was.
    pub fn length(&self) -> Duration {
        self.until - self.from
    }

    /// How much of the time from `from` until `until` it was.
    pub fn overlap(&self, from: Instant, until: Instant) -> Duration {
        let (from, until) = (from.max(self.from), until.min(self.until));
        until.saturating_duration_since(from)
    }
}

/// Threads that sleep again and again with real-time priority, one on each processor.
#[derive(Debug)]
pub struct Watchers {
    stop: Arc<AtomicBool>,
    sleepers: Vec<JoinHandle<Result<Vec<Stall>>>>,
}

impl Watchers {
    /// Starts them. Only root may have that priority; for another user nobody watches.
    ///
    /// # Errors
    /// When the number of processors isn't known.
    pub fn start() -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let processors = match is_initial_root() {
            true => available_parallelism()?.get(),
            false => 0,
        };
        let start = |processor| {
            let stop = Arc::clone(&stop);
            spawn(move || watch(processor, &stop))
        };
        Ok(Self {
            sleepers: (0..processors).map(start).collect(),
            stop,
        })
    }

    /// Ends them, and tells when they were not woken in time.
    ///
    /// # Errors
    /// When one couldn't watch.
    pub fn stop(mut self) -> Result<Vec<Stall>> {
        self.stop.store(true, Ordering::SeqCst);
        let mut stalls = Vec::new();
        for sleeper in self.sleepers.drain(..) {
            let found = sleeper.join().map_err(|_| anyhow!("a sleeper panicked"))?;
            stalls.extend(found?);
        }
        Ok(stalls)
    }
}

impl Drop for Watchers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

fn watch(processor: usize, stop: &AtomicBool) -> Result<Vec<Stall>> {
    let mut processors = CpuSet::new();
    processors.set(processor)?;
    sched_setaffinity(Pid::from_raw(0), &processors)?;
    syscalls::set_real_time_priority(REAL_TIME_PRIORITY)?;
    let mut stalls = Vec::new();
    let mut due = Instant::now() + NAP;
    while !stop.load(Ordering::SeqCst) {
        sleep(due.saturating_duration_since(Instant::now()));
        let now = Instant::now();
        if now - due > NAP {
            stalls.push(Stall {
                from: due,
                until: now,
            });
        }
        due = now + NAP;
    }
    Ok(stalls)
}

/// How much of the time from `from` until `until` the longest of these stalls was.
pub fn longest(stalls: &[Stall], from: Instant, until: Instant) -> Duration {
    let overlaps = stalls.iter().map(|stall| stall.overlap(from, until));
    overlaps.max().unwrap_or_default()
}

/// How late the latest of these adverts was that are due each `interval`, and how late without stalls.
pub fn lateness(adverts: &[Instant], interval: Duration, stalls: &[Stall]) -> (Duration, Duration) {
    let (mut latest, mut own) = (Duration::ZERO, Duration::ZERO);
    for pair in adverts.windows(2) {
        let (due, sent) = (pair[0] + interval, pair[1]);
        let late = sent.saturating_duration_since(due);
        latest = latest.max(late);
        own = own.max(late - longest(stalls, due, sent));
    }
    (latest, own)
}

/// Fails when one of these adverts came more than `limit` after it was due, the machine's own stalls apart.
pub fn adverts_in_time(
    adverts: impl IntoIterator<Item = Instant>,
    interval: Duration,
    limit: Duration,
    watchers: Watchers,
) -> Result<()> {
    let adverts: Vec<Instant> = adverts.into_iter().collect();
    ensure!(adverts.len() > 1, "no adverts");
    let (latest, own) = lateness(&adverts, interval, &watchers.stop()?);
    // Nothing excuses what would make another one Active.
    figures::within("latest advert", latest, 2 * interval)?;
    figures::within("latest advert, the machine's stalls apart", own, limit)
}
