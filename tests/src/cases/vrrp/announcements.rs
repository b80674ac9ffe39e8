//! When neighbours are told where the VIPs are.

use std::net::IpAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::PAUSE;
use super::duo::{Duo, INTERVAL, TOLERANCE, claims, file};
use super::pair::{ADDRESSES, within};
use crate::capture::Capture;
use crate::cases::neighbour::neighbour;
use crate::lab::{Lab, Mac, wait_until};
use crate::peer::INTERFACE;
use crate::ping;
use crate::scenario::PATIENCE;
use crate::topology::{VIP, two_seats};

const OTHER: [u8; 4] = [192, 168, 56, 186];
const TWO: &str = "addresses: [192.168.56.185/24, 192.168.56.186/24]";

/// As configured: three rounds of two addresses with a pause between two packets, all that again
/// after a second, then a round every 1.5 s.
pub(super) fn bursts_and_refreshes_keep_their_pace(lab: &mut Lab) -> Result<()> {
    const BURST: usize = 3;
    const PAUSE_BETWEEN: Duration = Duration::from_millis(25);
    const AGAIN: Duration = Duration::from_secs(1);
    const REFRESH: Duration = Duration::from_millis(1500);
    let yaml = file(&[
        TWO,
        "announce: { burst: 3, pause: 25ms, again_after: 1s, refresh: 1500ms }",
    ]);
    let (client, seats) = two_seats(lab, "")?;
    let hosts = seats.map(|seat| seat.host);
    let (capture, begin) = (Capture::start(&client)?, Instant::now());
    let duo = Duo::start_on(client, hosts, &yaml)?;
    let (promoted, _) = claims(&capture, ADDRESSES[0], begin)
        .first()
        .cloned()
        .context("no advert of ds1")?;
    // The second burst, and two refreshes after it.
    let end = promoted + AGAIN + 2 * REFRESH + 2 * TOLERANCE + 6 * PAUSE_BETWEEN;
    sleep(end.saturating_duration_since(Instant::now()));

    let told = announcements(&capture, duo.hosts[0].mac(INTERFACE))?;
    let addresses: Vec<IpAddr> = told.iter().map(|(_, address)| *address).collect();
    let rounds: Vec<&[IpAddr]> = addresses.chunks(2).collect();
    let round: &[IpAddr] = &[VIP.into(), OTHER.into()];
    ensure!(rounds.iter().all(|found| *found == round), "{told:?}");
    ensure!(rounds.len() == 2 * BURST + 2, "{} rounds", rounds.len());
    for pair in told.windows(2) {
        let pause = pair[1].0 - pair[0].0;
        // The receiver's time stamps may shrink it a little.
        ensure!(
            pause + Duration::from_millis(5) >= PAUSE_BETWEEN,
            "only {pause:?} between two packets"
        );
    }
    let first_of_round = |round: usize| told[2 * round].0.saturating_duration_since(promoted);
    within("first burst", first_of_round(0), TOLERANCE)?;
    let last = told[2 * BURST - 1].0.saturating_duration_since(promoted);
    within(
        "end of the first burst",
        last,
        5 * PAUSE_BETWEEN + 2 * TOLERANCE,
    )?;
    near("second burst", first_of_round(BURST), AGAIN)?;
    // A refresh counts from the last round.
    let refreshes = first_of_round(2 * BURST + 1) - first_of_round(2 * BURST);
    near("from refresh to refresh", refreshes, REFRESH)
}

pub(super) fn without_a_pause_all_go_at_once_and_nothing_follows(lab: &mut Lab) -> Result<()> {
    let yaml = file(&[TWO, "announce: { burst: 2, again_after: 0s, refresh: 0s }"]);
    let (client, seats) = two_seats(lab, "")?;
    let hosts = seats.map(|seat| seat.host);
    let capture = Capture::start(&client)?;
    let duo = Duo::start_on(client, hosts, &yaml)?;
    sleep(Duration::from_secs(1));
    let told = announcements(&capture, duo.hosts[0].mac(INTERFACE))?;
    ensure!(told.len() == 4, "{told:?}");
    for round in told.chunks(2) {
        within("a round", round[1].0 - round[0].0, Duration::from_millis(5))?;
    }
    Ok(())
}

/// The switch has learned from the other half who has the VIP, and so has a client.
pub(super) fn a_healed_lan_follows_the_winner(lab: &mut Lab) -> Result<()> {
    let duo = Duo::start(lab, &file(&[TWO]))?;
    let winner = duo.hosts[0].mac(INTERFACE);
    // The client is in the half of ds2.
    duo.hosts[0].split_off(INTERFACE)?;
    wait_until("ds2 is Active too", PATIENCE, || duo.hosts[1].holds(VIP))?;
    ensure!(ping::answers(&duo.client, VIP, PATIENCE), "no answer");
    ensure!(
        neighbour(&duo.client, VIP) == Some(duo.hosts[1].mac(INTERFACE)),
        "the client doesn't know ds2"
    );
    // So that nothing is left of what followed the promotions: a burst a second, at most.
    sleep(Duration::from_millis(2200));
    let capture = Capture::start(&duo.client)?;
    let healed = Instant::now();
    duo.hosts[0].rejoin(INTERFACE)?;
    wait_until("the client follows ds1", PATIENCE, || {
        neighbour(&duo.client, VIP) == Some(winner)
    })?;
    within(
        "until the client followed",
        healed.elapsed(),
        2 * INTERVAL + TOLERANCE,
    )?;
    duo.wait_for_active(0)?;
    sleep(PAUSE);
    let told = announcements(&capture, winner)?;
    for address in [IpAddr::from(VIP), OTHER.into()] {
        let count = told.iter().filter(|(_, of)| *of == address).count();
        ensure!(count == 5, "{address} was announced {count} times");
    }
    Ok(())
}

/// What a router announced, in order.
fn announcements(capture: &Capture, of: Mac) -> Result<Vec<(Instant, IpAddr)>> {
    let frames = capture.frames(|frame| !frame.outgoing);
    let told: Vec<_> = frames
        .iter()
        .filter_map(|frame| {
            let (address, mac) = frame.announcement()?;
            (mac == of && address.is_ipv4()).then_some((frame.at, address))
        })
        .collect();
    ensure!(!told.is_empty(), "nothing was announced");
    Ok(told)
}

fn near(what: &str, found: Duration, expected: Duration) -> Result<()> {
    println!("measured: {what}: {found:.3?} for {expected:?}");
    ensure!(found.abs_diff(expected) <= TOLERANCE, "{what}: {found:?}");
    Ok(())
}
