//! What the kernel tells of a host's links and addresses, with the time at which it was heard.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lvs_system::watch::{Event, Watch};

use crate::lab::{Host, wait_until};
use crate::lock::lock;
use crate::scenario::PATIENCE;

/// How often the thread looks.
const TICK: Duration = Duration::from_micros(500);

/// A thread that listens until it is dropped.
pub(super) struct News {
    heard: Arc<Mutex<Vec<(Instant, Event)>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl News {
    /// Everything that happens from the return of this call on is heard.
    pub(super) fn start(host: &Host) -> Result<Self> {
        let watch = host.within(Watch::open)?;
        let (heard, stop) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let (own_heard, own_stop) = (Arc::clone(&heard), Arc::clone(&stop));
        let thread = host.thread(move || listen(watch, &own_heard, &own_stop));
        Ok(Self {
            heard,
            stop,
            thread: Some(thread),
        })
    }

    /// Waits for the first event for which `wanted` is true. It happened then, or shortly before.
    pub(super) fn wait_for(&self, what: &str, wanted: impl Fn(&Event) -> bool) -> Result<Instant> {
        wait_until(what, PATIENCE, || !self.times(&wanted).is_empty())?;
        self.times(&wanted)
            .first()
            .copied()
            .context("news are kept")
    }

    /// Waits until the host has lost `address`.
    pub(super) fn wait_for_loss(&self, what: &str, address: impl Into<IpAddr>) -> Result<Instant> {
        let address = address.into();
        self.wait_for(
            what,
            |event| matches!(event, Event::AddressRemoved(gone) if gone.address == address),
        )
    }

    /// When the last event was heard for which `wanted` is true.
    pub(super) fn last(&self, wanted: impl Fn(&Event) -> bool) -> Option<Instant> {
        self.times(&wanted).last().copied()
    }

    fn times(&self, wanted: &impl Fn(&Event) -> bool) -> Vec<Instant> {
        let heard = lock(&self.heard);
        let wanted = heard.iter().filter(|(_, event)| wanted(event));
        wanted.map(|(at, _)| *at).collect()
    }
}

impl Drop for News {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // Its panic would show as missing news.
            let _ = thread.join();
        }
    }
}

fn listen(mut watch: Watch, heard: &Mutex<Vec<(Instant, Event)>>, stop: &AtomicBool) {
    while !stop.load(Ordering::SeqCst) {
        let events = watch.take().unwrap_or_default();
        let now = Instant::now();
        let mut heard = lock(heard);
        heard.extend(events.into_iter().map(|event| (now, event)));
        drop(heard);
        sleep(TICK);
    }
}
