//! A director that stops, and one that is killed in part: no VIP outlives its keeper.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::LINGER;
use super::pair::{ADDRESSES, Pair, Settings, first_advert, within};
use crate::capture::Capture;
use crate::lab::{Lab, wait_until};
use crate::scenario::{PATIENCE, worker};
use crate::topology::VIP;

/// What the promises add to the skew time, and the time in which a dead worker's VIP is gone.
const TOLERANCE: Duration = Duration::from_millis(50);

const RUNS: usize = 5;

pub(super) fn sigterm_hands_over(lab: &mut Lab) -> Result<()> {
    let mut pair = Pair::start(lab, Settings::FAST)?;
    for _ in 0..RUNS {
        let capture = Capture::start(&pair.client)?;
        let asked = Instant::now();
        let status = pair.directors[0].terminate(PATIENCE)?;
        ensure!(status.code() == Some(0), "SIGTERM ended it with {status}");
        ensure!(!pair.hosts[0].holds(VIP), "the VIP stayed");
        takes_over(&pair, &capture, asked, "SIGTERM")?;
        back(&mut pair)?;
    }
    Ok(())
}

pub(super) fn a_killed_worker_leaves_nothing(lab: &mut Lab) -> Result<()> {
    let mut pair = Pair::start(lab, Settings::FAST)?;
    for _ in 0..RUNS {
        let capture = Capture::start(&pair.client)?;
        let victim = Pid::from_raw(worker(&pair.directors[0])?);
        let killed = Instant::now();
        kill(victim, Signal::SIGKILL)?;
        gone_in_time(&pair, &capture, killed, "worker", TOLERANCE)?;
        let status = pair.directors[0].wait(PATIENCE)?;
        ensure!(
            status.code().is_some_and(|code| code != 0),
            "the supervisor of a dead worker ended with {status}"
        );
        back(&mut pair)?;
    }
    Ok(())
}

pub(super) fn a_killed_supervisor_takes_the_vip_along(lab: &mut Lab) -> Result<()> {
    let mut pair = Pair::start(lab, Settings::FAST)?;
    for _ in 0..RUNS {
        let capture = Capture::start(&pair.client)?;
        let killed = Instant::now();
        pair.directors[0].signal(Signal::SIGKILL)?;
        // The worker hands over before it lets the VIP go.
        let takeover = pair.settings.skew_time(1) + LINGER + TOLERANCE;
        gone_in_time(&pair, &capture, killed, "supervisor", takeover)?;
        wait_until("the worker has ended", PATIENCE, || {
            pair.hosts[0].processes().is_empty()
        })?;
        pair.directors[0].wait(PATIENCE)?;
        back(&mut pair)?;
    }
    Ok(())
}

/// The VIP goes and priority 0 comes soon after `killed`, and ds2 takes over.
fn gone_in_time(
    pair: &Pair,
    capture: &Capture,
    killed: Instant,
    what: &str,
    limit: Duration,
) -> Result<()> {
    let gone = loop {
        if !pair.hosts[0].holds(VIP) {
            break killed.elapsed();
        }
        ensure!(killed.elapsed() < PATIENCE, "{what}: the VIP stays");
    };
    within(&format!("{what}: VIP gone"), gone, limit)?;
    let resigned = takes_over(pair, capture, killed, what)?;
    let resigned = resigned.saturating_duration_since(killed);
    within(&format!("{what}: priority 0"), resigned, TOLERANCE)
}

/// ds2's first advert follows ds1's priority 0 by its skew time. Returns when that was.
fn takes_over(pair: &Pair, capture: &Capture, since: Instant, what: &str) -> Result<Instant> {
    let own = pair.settings.priorities[1];
    capture
        .wait_for("advert of ds2", PATIENCE, |frame| {
            let advert = frame.advert();
            advert.is_some_and(|advert| advert.source == ADDRESSES[1])
        })
        .with_context(|| what.to_owned())?;
    let resigned = first_advert(capture, ADDRESSES[0], 0, since)?;
    let taken = first_advert(capture, ADDRESSES[1], own, since)?;
    let took = taken.saturating_duration_since(resigned);
    let skew = pair.settings.skew_time(1);
    within(&format!("{what}: takeover"), took, skew + TOLERANCE)?;
    // Less would be before its turn: a better Backup could have been there.
    ensure!(took + Duration::from_millis(1) >= skew, "{what}: {took:?}");
    pair.wait_for_active(1)?;
    Ok(resigned)
}

/// Starts ds1 again, which takes over.
fn back(pair: &mut Pair) -> Result<()> {
    pair.restart(0)?;
    pair.wait_for_active(0)?;
    pair.wait_for_backup(1)
}
