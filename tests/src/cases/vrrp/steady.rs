//! Adverts every 10 ms beside a busy processor: nobody fails over without a cause, and a crash is
//! answered in time.
//!
//! Times are the kernel's, of the client's capture.

use std::thread::{available_parallelism, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::pair::{ADDRESSES, Pair, Settings, adverts_of, first_advert, within};
use crate::capture::Capture;
use crate::case::Mode;
use crate::cases::metrics::Scrape;
use crate::figures;
use crate::lab::{Host, Lab, Process, is_initial_root, wait_until};
use crate::scenario::PATIENCE;
use crate::stall::Watchers;
use crate::topology::VIP;

/// Between a frame's ways to two machines.
const SKEW: Duration = Duration::from_millis(1);

/// Often enough that two adverts may be late by more than one.
fn often() -> Settings {
    Settings {
        // Without real-time priority a busy machine keeps no 10 ms.
        interval: Duration::from_millis(if is_initial_root() { 10 } else { 100 }),
        ..Settings::FAST
    }
}

/// When the machine stands still for this long, a Backup at 10 ms has a cause: two adverts and more are late.
const STANDSTILL: Duration = Duration::from_millis(20);

pub(super) fn nobody_fails_over_without_a_cause(lab: &mut Lab) -> Result<()> {
    let watched = Duration::from_secs(lab.mode().choose(10, 60));
    let pair = Pair::start(lab, often())?;
    let _busy = keep_a_processor_busy(&pair.client)?;
    for _ in 0..lab.mode().choose(10, 3) {
        // What the last standstill has changed is over.
        pair.wait_for_active(0)?;
        pair.wait_for_backup(1)?;
        let watchers = Watchers::start()?;
        let outcome = nobody_fails_over(&pair, watched);
        let stalls = watchers.stop()?.into_iter();
        let standstill = stalls.map(|stall| stall.length()).max().unwrap_or_default();
        match outcome {
            Err(words) if standstill >= STANDSTILL => println!(
                "measured: nothing, for a thread above all others was held up for {standstill:.1?}: {words}"
            ),
            outcome => return outcome,
        }
    }
    bail!("this machine stands still too often")
}

fn nobody_fails_over(pair: &Pair, watched: Duration) -> Result<()> {
    let transitions = || -> Result<_> {
        let of = |host| anyhow::Ok(Scrape::of(host)?.family("director_vrrp_transitions_total"));
        Ok([of(&pair.hosts[0])?, of(&pair.hosts[1])?])
    };
    let before = transitions()?;
    let capture = Capture::start(&pair.client)?;
    sleep(watched);
    let adverts = adverts_of(&capture, ADDRESSES[0]);
    let needless = adverts_of(&capture, ADDRESSES[1]).len();
    let pauses = adverts.windows(2).map(|pair| pair[1].0 - pair[0].0);
    let longest = pauses.max().context("no adverts")?;
    figures::time("longest pause between adverts", longest);
    figures::at_most("adverts of the Backup", needless, 0)?;
    let after = transitions()?;
    ensure!(after == before, "{before:#?} became {after:#?}");
    ensure!(
        pair.hosts[0].holds(VIP) && !pair.hosts[1].holds(VIP),
        "the VIP has moved"
    );
    Ok(())
}

pub(super) fn a_crash_is_answered_in_time(lab: &mut Lab) -> Result<()> {
    let (runs, tolerance) = match lab.mode() {
        Mode::Once => (3, Duration::from_millis(100)),
        Mode::Soak => (5, Duration::from_millis(10)),
    };
    let mut pair = Pair::start(lab, often())?;
    let _busy = keep_a_processor_busy(&pair.client)?;
    let expected = pair.settings.active_down_interval(1);
    for run in 0..runs {
        let capture = Capture::start(&pair.client)?;
        let since = Instant::now();
        let advert = capture.wait_for("advert of ds1", PATIENCE, |frame| {
            let advert = frame.advert();
            frame.at > since && advert.is_some_and(|advert| advert.source == ADDRESSES[0])
        })?;
        // Sooner or later after an advert.
        let phase = pair.settings.interval * run / runs;
        sleep((advert.at + phase).saturating_duration_since(Instant::now()));
        pair.cut_off(0)?;
        wait_until("ds2 holds the VIP", PATIENCE, || pair.hosts[1].holds(VIP))?;
        sleep(super::PAUSE);
        let said = adverts_of(&capture, ADDRESSES[0]);
        let (last, _) = said.last().context("no advert of ds1")?;
        let taken = first_advert(&capture, ADDRESSES[1], pair.settings.priorities[1], *last)?;
        let took = taken - *last;
        within(
            "from the last advert to the other's first",
            took,
            expected + tolerance,
        )?;
        ensure!(took + SKEW >= expected, "too early: {took:?}");
        pair.boot(0)?;
        pair.wait_for_active(0)?;
        pair.wait_for_backup(1)?;
    }
    Ok(())
}

/// A program that computes on the last processor until it is dropped.
fn keep_a_processor_busy(host: &Host) -> Result<Process> {
    let last = available_parallelism()?.get() - 1;
    let last = last.to_string();
    host.spawn("taskset", ["-c", &last, "sh", "-c", "while :; do :; done"])
}
