//! Who is Active, and how long clients notice a change.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::pair::{ADDRESSES, Pair, Settings, adverts_of, first_advert, within};
use super::{PAUSE, PING_INTERVAL};
use crate::capture::{Capture, Frame};
use crate::cases::neighbour::neighbour;
use crate::lab::{Lab, wait_until};
use crate::ping;
use crate::scenario::PATIENCE;
use crate::topology::VIP;

/// What the promise for an interval of 100 ms is.
const LIMIT_AT_100_MS: Duration = Duration::from_millis(450);
/// What the promise for longer intervals adds to the active-down interval.
const TOLERANCE: Duration = Duration::from_millis(100);

const CRASHES: u32 = 10;

pub(super) fn a_dead_active_is_replaced(lab: &mut Lab) -> Result<()> {
    let mut pair = Pair::start(lab, Settings::FAST)?;
    for run in 0..CRASHES {
        // From right after an advert, which is the worst, to right before the next.
        let gap = crash(&pair, pair.settings.interval * run / CRASHES)?;
        within(&format!("gap of crash {run}"), gap, LIMIT_AT_100_MS)?;
        pair.boot(0)?;
        pair.wait_for_active(0)?;
        pair.wait_for_backup(1)?;
    }
    Ok(())
}

pub(super) fn a_dead_active_is_replaced_at_one_second(lab: &mut Lab) -> Result<()> {
    let settings = Settings {
        interval: Duration::from_secs(1),
        ..Settings::FAST
    };
    let mut pair = Pair::start(lab, settings)?;
    let limit = pair.settings.active_down_interval(1) + TOLERANCE;
    for phase in [Duration::ZERO, pair.settings.interval / 2] {
        let gap = crash(&pair, phase)?;
        within(
            &format!("gap of a crash {phase:?} after an advert"),
            gap,
            limit,
        )?;
        pair.boot(0)?;
        pair.wait_for_active(0)?;
        pair.wait_for_backup(1)?;
    }
    Ok(())
}

/// Cuts ds1 off that long after one of its adverts, and returns for how long nobody answered.
fn crash(pair: &Pair, phase: Duration) -> Result<Duration> {
    let capture = Capture::start(&pair.client)?;
    let load = ping::start(&pair.client, VIP, PING_INTERVAL);
    sleep(PAUSE);
    let now = Instant::now();
    let advert = first_advert(&capture, ADDRESSES[0], pair.settings.priorities[0], now)?;
    sleep((advert + phase).saturating_duration_since(Instant::now()));
    let down = pair.cut_off(0)?;
    wait_until("ds2 holds the VIP", PATIENCE, || pair.hosts[1].holds(VIP))?;
    sleep(PAUSE);
    let report = load.stop();
    let said = adverts_of(&capture, ADDRESSES[0]);
    ensure!(
        said.iter().all(|(_, advert)| advert.priority != 0),
        "a machine without power said goodbye"
    );
    let gap = report.longest_gap();
    // Otherwise the cut wasn't one, and nothing was measured.
    let (last, _) = said.last().context("no advert of ds1")?;
    let least = pair
        .settings
        .active_down_interval(1)
        .saturating_sub(down.saturating_duration_since(*last))
        .saturating_sub(pair.settings.interval / 5);
    ensure!(gap >= least, "only {gap:?} without an answer: {report}");
    Ok(gap)
}

pub(super) fn an_announcement_moves_the_neighbours(lab: &mut Lab) -> Result<()> {
    let pair = Pair::start(lab, Settings::FAST)?;
    let [before, after] = [0, 1].map(|director| pair.hosts[director].mac("eth2"));
    ensure!(ping::answers(&pair.client, VIP, PATIENCE), "no answer");
    let found = neighbour(&pair.client, VIP);
    ensure!(found == Some(before), "the entry names {found:02x?}");

    // Until ds1 has announced it for the last time.
    sleep(PAUSE);
    let capture = Capture::start(&pair.client)?;
    pair.cut_off(0)?;
    wait_until("the entry names ds2", Duration::from_secs(1), || {
        neighbour(&pair.client, VIP) == Some(after)
    })?;
    let asked = |capture: &Capture| {
        let arps = capture.arps().into_iter();
        arps.filter(|(frame, arp)| frame.outgoing && arp.request && arp.target == VIP)
            .count()
    };
    ensure!(asked(&capture) == 0, "the client asked who has the VIP");
    ensure!(ping::answers(&pair.client, VIP, PATIENCE), "no answer");
    ensure!(asked(&capture) == 0, "the client asked who has the VIP");

    let announcements: Vec<_> = capture
        .arps()
        .into_iter()
        .filter(|(_, arp)| arp.is_gratuitous() && arp.sender == VIP)
        .collect();
    for (_, arp) in &announcements {
        ensure!(
            arp.source == after && arp.sender_mac == after && arp.destination == [0xff; 6],
            "{arp:02x?}"
        );
    }
    ensure!(!announcements.is_empty(), "no announcement");
    Ok(())
}

pub(super) fn a_returning_director_loses_nothing(lab: &mut Lab) -> Result<()> {
    let mut pair = Pair::start(lab, Settings::FAST)?;
    for run in 0..10 {
        pair.directors[0].terminate(PATIENCE)?;
        pair.wait_for_active(1)?;
        sleep(PAUSE);
        let load = ping::start(&pair.client, VIP, PING_INTERVAL);
        sleep(PAUSE);
        pair.restart(0)?;
        pair.wait_for_active(0)?;
        sleep(PAUSE);
        let report = load.stop();
        println!("measured: preemption {run}: {report}");
        ensure!(report.lost() == 0, "preemption {run}: {report}");
    }
    Ok(())
}

pub(super) fn the_larger_address_wins_a_tie(lab: &mut Lab) -> Result<()> {
    let settings = Settings {
        priorities: [150, 150],
        ..Settings::FAST
    };
    let pair = Pair::start(lab, settings)?;
    // A Backup of equal priority doesn't take over, whatever its address.
    sleep(2 * pair.settings.active_down_interval(1));
    ensure!(
        pair.hosts[0].holds(VIP) && !pair.hosts[1].holds(VIP),
        "an equal took over"
    );
    // Two Actives that meet settle it by their addresses.
    pair.hosts[1].split_off("eth2")?;
    wait_until("ds2 is Active too", PATIENCE, || pair.hosts[1].holds(VIP))?;
    ensure!(pair.hosts[0].holds(VIP), "ds1 gave up alone");
    let capture = Capture::start(&pair.client)?;
    let joined = Instant::now();
    pair.hosts[1].rejoin("eth2")?;
    let took = pair.wait_for_active(1)?;
    println!("measured: a tie was settled in {took:.1?}");
    sleep(PAUSE);
    ensure!(pair.hosts[1].holds(VIP), "the winner gave up as well");
    let first = first_advert(&capture, ADDRESSES[1], 150, joined)?;
    let last = adverts_of(&capture, ADDRESSES[0]).last().map(|(at, _)| *at);
    ensure!(
        last.is_none_or(|last| last <= first + pair.settings.interval),
        "the loser went on"
    );
    Ok(())
}

pub(super) fn a_healed_lan_follows_the_winner(lab: &mut Lab) -> Result<()> {
    let pair = Pair::start(lab, Settings::FAST)?;
    let [winner, loser] = &pair.hosts;
    // Whichever Active speaks first after the heal, the LAN must follow ds1: once that is ds1, since
    // ds2 has just spoken, and once ds2.
    for speaks_last in [loser, winner] {
        // Announcements come once a second at most.
        sleep(Duration::from_secs(1));
        winner.split_off("eth2")?;
        wait_until("ds2 is Active too", PATIENCE, || loser.holds(VIP))?;
        ensure!(winner.holds(VIP), "ds1 gave up alone");
        ensure!(ping::answers(&pair.client, VIP, PATIENCE), "no answer");
        let load = ping::start(&pair.client, VIP, PING_INTERVAL);
        sleep(PAUSE);
        let capture = Capture::start(speaks_last)?;
        let is_own_advert = |frame: &Frame| frame.outgoing && frame.advert().is_some();
        capture.wait_for("own advert", PATIENCE, is_own_advert)?;
        winner.rejoin("eth2")?;
        pair.wait_for_active(0)?;
        sleep(2 * PAUSE);
        let report = load.stop();
        println!(
            "measured: {} spoke last before the heal: {report}",
            speaks_last.name()
        );
        within(
            &format!("a heal right after an advert of {}", speaks_last.name()),
            report.longest_gap(),
            pair.settings.interval + TOLERANCE,
        )?;
        ensure!(
            neighbour(&pair.client, VIP) == Some(winner.mac("eth2")),
            "the client's packets still go to ds2"
        );
    }
    Ok(())
}
