//! A director that is stopped for longer than its neighbour waits, as a paused virtual machine is,
//! and goes on as if no time had passed.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::news::News;
use super::pair::{ADDRESSES, Pair, Settings, adverts_of, within};
use super::{PAUSE, PING_INTERVAL};
use crate::capture::Capture;
use crate::lab::{Lab, Process, wait_until};
use crate::ping;
use crate::scenario::{PATIENCE, worker};
use crate::topology::VIP;

/// How long it is stopped.
const STOP: Duration = Duration::from_secs(5);
/// How soon one host alone has the VIP again.
const SETTLED_WITHIN: Duration = Duration::from_millis(200);

/// The Active that is stopped has the lower priority, and the other one leaves it alone.
const LOWER: Settings = Settings {
    priorities: [150, 200],
    preempt: false,
    ..Settings::FAST
};

/// What is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Supervisor and worker.
    Program,
    /// The worker, while its supervisor lives.
    Worker,
}

impl Part {
    fn signal(self, director: &Process, signal: Signal) -> Result<()> {
        match self {
            Self::Program => killpg(Pid::from_raw(director.pid()), signal)?,
            Self::Worker => kill(Pid::from_raw(worker(director)?), signal)?,
        }
        Ok(())
    }
}

pub(super) fn a_stopped_active_takes_the_vip_back(lab: &mut Lab) -> Result<()> {
    let pair = Pair::start(lab, Settings::FAST)?;
    for part in [Part::Program, Part::Worker] {
        yields_before_it_speaks(&pair, part)?;
        pair.wait_for_active(0)?;
        pair.wait_for_backup(1)?;
    }
    Ok(())
}

pub(super) fn a_stopped_active_of_lower_priority_is_silent(lab: &mut Lab) -> Result<()> {
    let pair = Pair::start(lab, LOWER)?;
    let capture = yields_before_it_speaks(&pair, Part::Program)?;
    ensure!(
        adverts_of(&capture, ADDRESSES[0]).is_empty(),
        "it spoke as Active"
    );
    pair.wait_for_backup(0)
}

pub(super) fn a_stopped_backup_stays_one(lab: &mut Lab) -> Result<()> {
    let pair = Pair::start(lab, Settings::FAST)?;
    for part in [Part::Program, Part::Worker] {
        let capture = Capture::start(&pair.client)?;
        let load = ping::start(&pair.client, VIP, PING_INTERVAL);
        part.signal(&pair.directors[1], Signal::SIGSTOP)?;
        sleep(STOP);
        part.signal(&pair.directors[1], Signal::SIGCONT)?;
        sleep(pair.settings.active_down_interval(1) * 2);
        ensure!(
            adverts_of(&capture, ADDRESSES[1]).is_empty(),
            "{part:?}: it took its own deafness for silence"
        );
        ensure!(!pair.hosts[1].holds(VIP), "{part:?}: it has the VIP");
        let report = load.stop();
        ensure!(report.lost() == 0, "{part:?}: {report}");
    }
    Ok(())
}

/// Stops ds1, the Active, lets ds2 take over and wakes ds1. Returns what the client saw since then.
fn yields_before_it_speaks(pair: &Pair, part: Part) -> Result<Capture> {
    let [stopped, successor] = &pair.hosts;
    // The client has asked before: one that asks for the address first while two have it may hear either.
    let before = ping::start(&pair.client, VIP, PING_INTERVAL);
    sleep(PAUSE);
    before.stop();
    part.signal(&pair.directors[0], Signal::SIGSTOP)?;
    let begin = Instant::now();
    wait_until("ds2 holds the VIP too", PATIENCE, || successor.holds(VIP))?;
    sleep(STOP.saturating_sub(begin.elapsed()));
    ensure!(stopped.holds(VIP), "{part:?}: who took the VIP away?");

    let news = News::start(stopped)?;
    let capture = Capture::start(&pair.client)?;
    let load = ping::start(&pair.client, VIP, PING_INTERVAL);
    let woken = Instant::now();
    part.signal(&pair.directors[0], Signal::SIGCONT)?;
    let yielded = news.wait_for_loss("ds1 gives the VIP up", VIP)?;
    within(
        "from SIGCONT until one host has the VIP",
        yielded.saturating_duration_since(woken),
        SETTLED_WITHIN,
    )?;
    ensure!(successor.holds(VIP), "{part:?}: nobody has the VIP");
    sleep(PAUSE + pair.settings.active_down_interval(0));
    // When it was seen to be gone it had gone before, so that this is no excuse.
    if let Some((at, advert)) = adverts_of(&capture, ADDRESSES[0]).first() {
        ensure!(
            *at >= yielded || advert.priority == 0,
            "{part:?}: it spoke {:?} before it yielded",
            yielded - *at
        );
    }
    let report = load.stop();
    ensure!(report.lost() == 0, "{part:?}: {report}");
    Ok(capture)
}
