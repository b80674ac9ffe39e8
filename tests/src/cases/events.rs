//! What `director events` tells of a pair to which things happen, and what is left of it after them.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use director::events::{Event, Kind};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::case::Case;
use crate::figures;
use crate::lab::{Host, Lab, Process, wait_until};
use crate::responder::Responder;
use crate::scenario::{PATIENCE, edited, worker};
use crate::service_file::ServiceFile;
use crate::topology::{DnsPair, STATE_DIRECTORY, VIP, director_file, start_director};

/// The cases of this theme.
pub(super) const CASES: &[Case] = &[Case::new(
    "events::what_happens_is_told_and_outlives_every_end",
    what_happens_is_told_and_outlives_every_end,
)
.needing_operator()];

fn configuration() -> String {
    ServiceFile::probing().over_udp().both_servers().to_string()
}

/// Nothing to do.
const ALONE: &str = "dataplane: none
services:
  - name: resolver
    external: true
    address: 192.0.2.53
    port: 53
    protocols: [udp]
    check: none
    real_servers: [{ address: 192.168.56.183 }]
";

fn what_happens_is_told_and_outlives_every_end(lab: &mut Lab) -> Result<()> {
    let hosts = DnsPair::with_service_lan_only(lab)?;
    let answer = |host: &Host, last: u8| {
        let address = Ipv4Addr::new(192, 168, 56, last);
        Responder::start(host, address, Ipv4Addr::new(1, 2, 3, 4))
    };
    let _first = answer(&hosts.rs1, 183)?;
    let second = answer(&hosts.rs2, 184)?;
    let [ds1, ds2] = [&hosts.ds1, &hosts.ds2];
    let mut director = start_director(ds1, &configuration())?;
    wait_until("ds1 holds the VIP", PATIENCE, || ds1.holds(VIP))?;
    let _peer = start_director(ds2, &configuration())?;
    until_told(ds2, Kind::Ready, "")?;

    // Servers, the operator's hand, reloads.
    drop(second);
    let out = until_told(ds1, Kind::ServerOut, "resolver/192.168.56.184")?;
    ensure!(out.text.starts_with("out for udp, after "), "{out:?}");
    ensure!(out.details.contains_key("reason"), "{out:?}");
    let _second = answer(&hosts.rs2, 184)?;
    let back = until_told(ds1, Kind::ServerIn, "resolver/192.168.56.184")?;
    ensure!(back.details["was"] == "out", "{back:?}");
    ds1.output(
        "director",
        [
            "drain",
            "resolver/192.168.56.183",
            "--for",
            "1h",
            "--reason",
            "new disk",
        ],
        PATIENCE,
    )?;
    let hand = until_told(ds1, Kind::Hand, "resolver/192.168.56.183")?;
    ensure!(
        hand.text == "drained by hand for 1h 0m (new disk); was enabled",
        "{hand:?}"
    );
    director_file(
        ds1,
        &edited(&configuration(), "interval: 200ms", "interval: 250ms"),
    )?;
    director.signal(Signal::SIGHUP)?;
    let reloaded = until_told(ds1, Kind::Reloaded, "")?;
    ensure!(reloaded.text.contains("200ms → 250ms"), "{reloaded:?}");
    director_file(ds1, "vrrp: 7\n")?;
    director.signal(Signal::SIGHUP)?;
    let refused = until_told(ds1, Kind::ReloadRefused, "")?;
    ensure!(refused.text.contains("director.yaml:1:"), "{refused:?}");
    director_file(ds1, &configuration())?;

    // The worker is killed: the peer takes over, and the next run knows.
    let killed = Instant::now();
    kill(Pid::from_raw(worker(&director)?), Signal::SIGKILL)?;
    director.wait(PATIENCE)?;
    wait_until("ds2's event", PATIENCE, || {
        let events = told(ds2, &[]).unwrap_or_default();
        let mut changes = events
            .iter()
            .filter(|event| is_about(event, Kind::RoleChanged, "dns"));
        changes.any(|event| event.text.starts_with("backup → active"))
    })?;
    figures::note(
        "from the kill of the Active's worker to the peer's event",
        killed.elapsed().as_secs_f64() * 1000.0,
        "ms",
        None,
    );
    let before = told(ds1, &["--state-directory", STATE_DIRECTORY])?;
    ensure!(
        before.last().map(|event| event.kind) == Some(Kind::Crashed),
        "{before:?}"
    );
    let mut director = start_director(ds1, &configuration())?;
    until_told(ds1, Kind::Ready, "")?;
    let after = told(ds1, &["--last", "1000"])?;
    ensure!(
        after.starts_with(&before),
        "{after:?}\nis no sequel of\n{before:?}"
    );
    let crash = after.iter().find(|event| event.kind == Kind::Crashed);
    let crash = crash.context("no crash")?;
    ensure!(crash.text.contains("SIGKILL"), "{crash:?}");

    // Everything is killed at once, and then the file is damaged.
    let pid = worker(&director)?;
    director.kill();
    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    let (damaged, kept) = (
        format!("{STATE_DIRECTORY}/events.jsonl"),
        format!("{STATE_DIRECTORY}/events.jsonl.damaged"),
    );
    ds1.within(move || -> Result<()> {
        let contents = fs::read(&damaged)?;
        let middle = contents.len() / 2;
        fs::write(
            &damaged,
            [&contents[..middle], b"\0\n", &contents[middle..]].concat(),
        )?;
        Ok(())
    })?;
    let mut director = start_director(ds1, &configuration())?;
    until_told(ds1, Kind::EventsDamaged, "")?;
    ensure!(
        ds1.within(move || Path::new(&kept).exists()),
        "the damaged file is gone"
    );
    let all = told(ds1, &["--last", "1000"])?;
    let lost = before.iter().filter(|event| !all.contains(event)).count();
    ensure!(
        lost <= 2,
        "{lost} events are lost with a line that was cut in two"
    );
    let crashes = all
        .iter()
        .filter(|event| event.kind == Kind::Crashed)
        .count();
    ensure!(crashes == 2, "{all:?}");

    // It leaves in order, and a follower sees that and the next start.
    let follower = ds1.spawn("director", ["events", "--follow", "--json", "--last", "0"])?;
    wait_until("ds1 is ready", PATIENCE, || is_told(ds1, Kind::Ready, &all))?;
    director.terminate(PATIENCE)?;
    let _director = start_director(ds1, &configuration())?;
    for kind in [Kind::Stopping, Kind::Stopped, Kind::Started] {
        wait_until("the follower sees it", PATIENCE, || {
            followed(&follower).iter().any(|event| event.kind == kind)
        })?;
    }
    let numbers: Vec<u64> = followed(&follower)
        .iter()
        .map(|event| event.number)
        .collect();
    ensure!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
    json_log(ds2)
}

/// Each line of the log is an object, where that is asked for.
fn json_log(host: &Host) -> Result<()> {
    let file = director_file(host, ALONE)?;
    let mut director = host.spawn(
        "director",
        [
            "run".as_ref(),
            "--config".as_ref(),
            file.as_os_str(),
            "--log-format".as_ref(),
            "json".as_ref(),
            "--runtime-directory".as_ref(),
            "/run/other".as_ref(),
            "--state-directory".as_ref(),
            "/run/other-state".as_ref(),
        ],
    )?;
    wait_until("it runs", PATIENCE, || {
        let asked = host.output(
            "director",
            ["status", "--runtime-directory", "/run/other"],
            PATIENCE,
        );
        asked.is_ok_and(|output| output.success())
    })?;
    director.terminate(PATIENCE)?;
    let log = director.log();
    ensure!(log.contains("\"message\":\"leaving\""), "{log}");
    for line in log.lines() {
        let object: serde_json::Value =
            serde_json::from_str(line).with_context(|| line.to_owned())?;
        ensure!(
            object["level"].is_string() && object["timestamp"].is_string(),
            "{line}"
        );
    }
    Ok(())
}

/// What `director events --json` prints.
fn told(host: &Host, options: &[&str]) -> Result<Vec<Event>> {
    let arguments = ["events", "--json"].iter().chain(options);
    let output = host.output("director", arguments, PATIENCE)?;
    ensure!(output.success(), "{}", output.stderr);
    Ok(serde_json::from_str(&output.stdout)?)
}

fn is_about(event: &Event, kind: Kind, subject: &str) -> bool {
    event.kind == kind && (subject.is_empty() || event.subject.as_deref() == Some(subject))
}

/// The newest event of this kind and subject, if any is named, as soon as there is one.
fn until_told(host: &Host, kind: Kind, subject: &str) -> Result<Event> {
    let mut found = None;
    wait_until(&format!("{kind:?} on {}", host.name()), PATIENCE, || {
        let events = told(host, &[]).unwrap_or_default();
        let mut newest_first = events.into_iter().rev();
        found = newest_first.find(|event| is_about(event, kind, subject));
        found.is_some()
    })?;
    found.context("it was there a moment ago")
}

/// Whether there is one of this kind that isn't among the `known`.
fn is_told(host: &Host, kind: Kind, known: &[Event]) -> bool {
    let newest = known.last().map_or(0, |event| event.number);
    let events = told(host, &[]).unwrap_or_default();
    let mut new = events.iter().filter(|event| event.number > newest);
    new.any(|event| event.kind == kind)
        || known
            .iter()
            .rev()
            .take_while(|event| event.kind != Kind::Started)
            .any(|event| event.kind == kind)
}

fn followed(follower: &Process) -> Vec<Event> {
    let log = follower.log();
    let lines = log.lines();
    lines
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}
