//! What an Active looks after: its addresses, its announcements, its machine.

use std::net::Ipv4Addr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::pair::{Pair, Settings, within};
use super::{PAUSE, PING_INTERVAL};
use crate::cases::metrics::Scrape;
use crate::cases::neighbour::neighbour;
use crate::lab::{Lab, wait_until};
use crate::scenario::{CONFIGURATION, PATIENCE, edited, worker};
use crate::topology::{ANSWERS, DnsPair, VIP, director_file, start_director};
use crate::{bind, ping};

/// The addresses are looked at once a second; the rest is for a busy machine.
const BACK_WITHIN: Duration = Duration::from_millis(1200);

pub(super) fn a_missing_address_is_put_back(lab: &mut Lab) -> Result<()> {
    let pair = Pair::start(lab, Settings::FAST)?;
    let load = ping::start(&pair.client, VIP, PING_INTERVAL);
    sleep(PAUSE);
    // It is back before anybody could look; the count says that it was gone.
    pair.hosts[0].run(&format!("ip address del {VIP}/24 dev eth2"))?;
    let restored = "director_vrrp_addresses_restored_total{virtual_router=\"dns\"}";
    wait_until("the repair is counted", PATIENCE, || {
        Scrape::of(&pair.hosts[0]).is_ok_and(|scrape| scrape.value(restored) == Some(1))
    })?;
    ensure!(pair.hosts[0].holds(VIP), "the VIP isn't back");
    sleep(PAUSE);
    let report = load.stop();
    within("without the VIP", report.longest_gap(), BACK_WITHIN)?;
    ensure!(
        Scrape::of(&pair.hosts[1])?.value(restored) == Some(0),
        "the Backup repairs what it doesn't hold"
    );
    Ok(())
}

/// A machine that pauses longer than its Backup waits wakes up as a second Active. The Backup's
/// announcements have moved the LAN; who stays Active has to move it back.
pub(super) fn the_lan_follows_whoever_stays_active(lab: &mut Lab) -> Result<()> {
    let pair = Pair::start(lab, Settings::FAST)?;
    let paused = Pid::from_raw(worker(&pair.directors[0])?);
    ensure!(
        ping::answers(&pair.client, VIP, Duration::from_secs(1)),
        "the VIP doesn't answer"
    );
    kill(paused, Signal::SIGSTOP)?;
    wait_until("ds2 takes over", PATIENCE, || pair.hosts[1].holds(VIP))?;
    wait_until("the client follows ds2", PATIENCE, || {
        neighbour(&pair.client, VIP) == Some(pair.hosts[1].mac("eth2"))
    })?;
    kill(paused, Signal::SIGCONT)?;
    let woken = Instant::now();
    pair.wait_for_active(0)?;
    wait_until("the client follows ds1", PATIENCE, || {
        neighbour(&pair.client, VIP) == Some(pair.hosts[0].mac("eth2"))
    })?;
    // A burst, if the last one was more than a second ago, or one packet a second after it.
    within(
        "until the client followed",
        woken.elapsed(),
        Duration::from_millis(1500),
    )
}

pub(super) fn a_second_director_is_refused(lab: &mut Lab) -> Result<()> {
    let pair = Pair::start(lab, Settings::FAST)?;
    let file = director_file(&pair.hosts[0], &pair.settings.yaml())?;
    let before = pair.hosts[0].run("ip -d address")?;
    let arguments = ["run".as_ref(), "--config".as_ref(), file.as_os_str()];
    let second = pair.hosts[0].output("director", arguments, PATIENCE)?;
    ensure!(second.code() == Some(1), "{second:?}");
    let holder = format!("process {}", pair.directors[0].pid());
    ensure!(second.stderr.contains(&holder), "{}", second.stderr);
    ensure!(
        pair.hosts[0].run("ip -d address")? == before,
        "it changed addresses"
    );
    Ok(())
}

pub(super) fn a_dead_director_s_addresses_go(lab: &mut Lab) -> Result<()> {
    let mut pair = Pair::start(lab, Settings::FAST)?;
    pair.hosts[0].kill_processes();
    ensure!(
        pair.hosts[0].holds(VIP),
        "nothing is left of a director that was killed whole"
    );
    // Meanwhile somebody gave the virtual router another address.
    let other = Ipv4Addr::new(192, 168, 56, 186);
    let yaml = pair
        .settings
        .yaml()
        .replace("192.168.56.185", "192.168.56.186");
    pair.directors[0] = start_director(&pair.hosts[0], &yaml)?;
    wait_until("ds1 holds its new address", PATIENCE, || {
        pair.hosts[0].holds(other)
    })?;
    ensure!(
        !pair.hosts[0].holds(VIP),
        "the dead director's address stays"
    );
    Ok(())
}

pub(super) fn a_reload_without_its_interface_changes_nothing(lab: &mut Lab) -> Result<()> {
    let pair = Pair::start(lab, Settings::FAST)?;
    let load = ping::start(&pair.client, VIP, PING_INTERVAL);
    director_file(
        &pair.hosts[0],
        &pair.settings.yaml().replace("eth2", "eth9"),
    )?;
    pair.directors[0].signal(Signal::SIGHUP)?;
    let failed = "director_configuration_reloads_total{result=\"failure\"}";
    wait_until("the reload fails", PATIENCE, || {
        Scrape::of(&pair.hosts[0]).is_ok_and(|scrape| scrape.value(failed) == Some(1))
    })?;
    sleep(PAUSE);
    let report = load.stop();
    ensure!(report.lost() == 0, "{report}");
    pair.wait_for_active(0)?;
    Ok(())
}

/// A director that sees no real server, for its own reasons perhaps, leaves a working one alone.
pub(super) fn a_director_without_servers_does_not_preempt(lab: &mut Lab) -> Result<()> {
    let hosts = DnsPair::with_service_lan_only(lab)?;
    let one_server = edited(
        CONFIGURATION,
        "      - { address: 192.168.56.184, weight: 1 }\n",
        "",
    );
    let yaml = format!("{one_server}dataplane: none\n");
    let _second = start_director(&hosts.ds2, &yaml)?;
    wait_until("ds2 is Active, for nobody else is", PATIENCE, || {
        hosts.ds2.holds(VIP)
    })?;
    let _first = start_director(&hosts.ds1, &yaml)?;
    // Both failures and the time in which it would have taken over, several times.
    sleep(Duration::from_secs(3));
    ensure!(
        hosts.ds2.holds(VIP) && !hosts.ds1.holds(VIP),
        "it took over without a server"
    );
    let _named = bind::start(&hosts.rs1, ANSWERS[0])?;
    wait_until("ds1 takes over with a server", PATIENCE, || {
        hosts.ds1.holds(VIP) && !hosts.ds2.holds(VIP)
    })?;
    Ok(())
}

/// A name is only a label.
pub(super) fn a_renamed_instance_keeps_its_state(lab: &mut Lab) -> Result<()> {
    let pair = Pair::start(lab, Settings::FAST)?;
    let load = ping::start(&pair.client, VIP, PING_INTERVAL);
    director_file(
        &pair.hosts[0],
        &pair.settings.yaml().replace("name: dns", "name: resolver"),
    )?;
    pair.directors[0].signal(Signal::SIGHUP)?;
    let active = "director_vrrp_state{state=\"active\",virtual_router=\"resolver\"}";
    wait_until("the new name", PATIENCE, || {
        Scrape::of(&pair.hosts[0]).is_ok_and(|scrape| scrape.value(active) == Some(1))
    })?;
    sleep(PAUSE);
    let report = load.stop();
    ensure!(report.lost() == 0, "{report}");
    let scrape = Scrape::of(&pair.hosts[0])?;
    let states = scrape.family("director_vrrp_state");
    ensure!(
        !states.keys().any(|series| series.contains("\"dns\"")),
        "the old name's metrics stay: {states:?}"
    );
    // What the supervisor knows goes by the new name.
    kill(Pid::from_raw(worker(&pair.directors[0])?), Signal::SIGKILL)?;
    wait_until(
        "the VIP goes with the worker",
        Duration::from_millis(500),
        || !pair.hosts[0].holds(VIP),
    )?;
    Ok(())
}
