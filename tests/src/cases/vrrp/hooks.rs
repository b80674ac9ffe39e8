//! Programs that are told of transitions.

use std::fs;
use std::time::Instant;

use anyhow::{Result, ensure};

use super::duo::{Duo, INTERVAL, TOLERANCE, file, wait_for};
use super::pair::{ADDRESSES, adverts_of};
use crate::capture::Capture;
use crate::lab::{Host, Lab, wait_until};
use crate::scenario::PATIENCE;
use crate::stall::{Watchers, adverts_in_time};
use crate::topology::two_seats;

/// Writes what it is told, and its whole environment.
const TELL: &str =
    r#"echo "$@" "|" $(env | grep -v -e ^PWD= -e ^SHLVL= -e ^_= | sort) >> /run/lab/told"#;
/// No other process sleeps that long.
const HANGS: &str = "86399";

pub(super) fn every_transition_is_told_in_order(lab: &mut Lab) -> Result<()> {
    let (client, seats) = two_seats(lab, "")?;
    let hosts = seats.map(|seat| seat.host);
    for host in &hosts {
        host.write_file("tell", TELL)?;
    }
    let yaml = file(&[
        "addresses: [192.168.56.185/24]",
        "hooks:",
        "  - { on: [fault], command: [/bin/sh, -c, exec sleep 86399], timeout: 1500ms }",
        "  - { command: [/bin/sh, /run/lab/tell, all] }",
        "  - { on: [active, stopped], command: [/bin/sh, /run/lab/tell, some] }",
        // Longer than anything else of a stop, and shorter than the last hooks may take.
        "  - { on: [stopped], command: [/bin/sh, -c, 'sleep 2.2; . /run/lab/tell', sh, slow] }",
    ]);
    let mut duo = Duo::start_on(client, hosts, &yaml)?;
    let capture = Capture::start(&duo.client)?;
    let [active, _] = &duo.hosts;
    active.link_down("eth2")?;
    wait_for("ds1 is in fault", active, "dns", |one| {
        one["state"] == "fault"
    })?;
    active.link_up("eth2")?;
    duo.wait_for_active(0)?;
    let watchers = Watchers::start()?;
    let back = Instant::now();
    wait_until("what hangs is ended", PATIENCE, || {
        told(&duo.hosts[0]).len() >= 7
    })?;
    ensure!(sleepers(&duo.hosts[0]) == 0, "it still runs");
    ensure!(duo.directors[0].terminate(PATIENCE)?.success(), "SIGTERM");

    let told = told(&duo.hosts[0]);
    let expected = [
        ("all", "backup", "stopped"),
        ("all", "active", "backup"),
        ("some", "active", "backup"),
        ("all", "fault", "active"),
        ("all", "backup", "fault"),
        ("all", "active", "backup"),
        ("some", "active", "backup"),
        ("all", "stopped", "active"),
        ("some", "stopped", "active"),
        ("slow", "stopped", "active"),
    ];
    ensure!(told.len() == expected.len(), "{told:#?}");
    for (line, (hook, state, previous)) in told.iter().zip(expected) {
        println!("{line}");
        ensure!(
            line.starts_with(&format!("{hook} dns {state} 200 | ")),
            "{line}: not {hook}, {state}"
        );
        for variable in [
            "DIRECTOR_INSTANCE=dns".to_owned(),
            format!("DIRECTOR_STATE={state}"),
            format!("DIRECTOR_PREVIOUS_STATE={previous}"),
            "DIRECTOR_PRIORITY=200".to_owned(),
        ] {
            ensure!(line.contains(&variable), "no {variable} in {line}");
        }
        ensure!(!line.contains("LC_ALL"), "the daemon's own: {line}");
    }
    // From the return of the link to the end, hooks ran all the time.
    let adverts = adverts_of(&capture, ADDRESSES[0]).into_iter();
    let times: Vec<_> = adverts.map(|(at, _)| at).filter(|at| *at >= back).collect();
    ensure!(times.len() > 8, "only {} adverts", times.len());
    adverts_in_time(times, INTERVAL, TOLERANCE, watchers)
}

fn told(host: &Host) -> Vec<String> {
    let text = host.within(|| fs::read_to_string("/run/lab/told"));
    text.unwrap_or_default()
        .lines()
        .map(str::to_owned)
        .collect()
}

fn sleepers(host: &Host) -> usize {
    let running = host.processes().into_iter().filter(|pid| {
        fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains(HANGS))
    });
    running.count()
}
