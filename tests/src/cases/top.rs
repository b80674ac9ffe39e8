//! `director top`, in a terminal and by keys.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::binaries;
use crate::case::Case;
use crate::lab::{Host, Lab, wait_until};
use crate::scenario::{PATIENCE, worker};
use crate::service_file::ServiceFile;
use crate::terminal::Terminal;
use crate::topology::{DnsPair, VIP, start_director};

/// The cases of this theme.
pub(super) const CASES: &[Case] = &[
    Case::new("top::is_driven_by_keys", is_driven_by_keys).needing_operator(),
    Case::new("top::survives_what_happens", survives_what_happens).needing_operator(),
];

const FIRST: &str = "192.168.56.183";
const SECOND: &str = "192.168.56.184";
const KEYS: &str = "d drain  x disable  e enable  ? help  q quit";

fn configuration() -> String {
    let file = ServiceFile::probing().server(FIRST, 1).server(SECOND, 3);
    file.to_string()
}

/// Opens `director top` on this host, and waits for its picture.
fn open(host: &Host, columns: u16, lines: u16) -> Result<Terminal> {
    let terminal = Terminal::start(host, columns, lines)?;
    start_top(&terminal)?;
    Ok(terminal)
}

fn start_top(terminal: &Terminal) -> Result<()> {
    let director = binaries::path("director")?;
    terminal.enter(&format!("{} top", director.display()))?;
    terminal.wait_for("the picture", |screen| screen.contains(KEYS))?;
    Ok(())
}

/// The lines of a server: over UDP, and over TCP.
fn lines<'s>(screen: &'s str, server: &str) -> Vec<&'s str> {
    let begin = format!("  {server} ");
    screen
        .lines()
        .filter(|line| line.starts_with(&begin))
        .collect()
}

fn is(screen: &str, server: &str, state: &str) -> bool {
    let lines = lines(screen, server);
    lines.len() == 2
        && lines
            .iter()
            .all(|line| line.split_whitespace().nth(1) == Some(state))
}

/// What was said by hand of a server, as another program is told.
fn hand(host: &Host, server: &str) -> Result<Value> {
    let output = host.output("director", ["status", "--json"], PATIENCE)?;
    let status: Value = serde_json::from_str(&output.stdout)?;
    let servers = status["services"][0]["pools"][0]["servers"].as_array();
    let mut servers = servers.context("no servers")?.iter();
    let server = servers.find(|one| one["server"] == server);
    Ok(server.context("no such server")?["hand"]["state"].clone())
}

fn is_driven_by_keys(lab: &mut Lab) -> Result<()> {
    let hosts = DnsPair::with_service_lan_only(lab)?;
    let _named = hosts.start_named()?;
    let _first = start_director(&hosts.ds1, &configuration())?;
    wait_until("the VIP", PATIENCE, || hosts.ds1.holds(VIP))?;
    let _second = start_director(&hosts.ds2, &configuration())?;
    // One that isn't there to begin with is an error.
    wait_until("ds2's director answers", PATIENCE, || {
        hand(&hosts.ds2, SECOND).is_ok()
    })?;
    let terminal = open(&hosts.ds2, 80, 24)?;
    let screen = terminal.wait_for("a Backup with two servers", |screen| {
        is(screen, FIRST, "in")
            && is(screen, SECOND, "in")
            && screen.contains(" backup ")
            && screen.contains("192.168.56.181 (200)")
            && screen.contains(" of 341 ms")
            && !screen.contains(" - ms")
    })?;
    // Their latency is shown, weights as configured, and what happened.
    for server in [FIRST, SECOND] {
        ensure!(lines(&screen, server)[0].contains(" ms"), "{screen}");
    }
    ensure!(lines(&screen, SECOND)[0].contains(" 3 "), "{screen}");
    ensure!(
        screen.contains("LAST EVENTS") && screen.contains(" ago  "),
        "{screen}"
    );

    terminal.press(&["Down", "d"])?;
    let question = "drain resolver/192.168.56.184 on this director?\ny: yes";
    terminal.wait_for("the question", |screen| screen.contains(question))?;
    terminal.press(&["n"])?;
    terminal.wait_for("that nothing was done", |screen| {
        screen.contains("nothing was done")
    })?;
    ensure!(hand(&hosts.ds2, SECOND)?.is_null(), "drained without a yes");

    terminal.press(&["d", "y"])?;
    let screen = terminal.wait_for("one drained server", |screen| {
        is(screen, SECOND, "drained") && is(screen, FIRST, "in")
    })?;
    ensure!(
        screen.contains("resolver/192.168.56.184: drained, was enabled"),
        "{screen}"
    );
    ensure!(hand(&hosts.ds2, SECOND)? == "drained", "not drained");
    ensure!(
        hand(&hosts.ds1, SECOND)?.is_null(),
        "drained on the other director"
    );
    let path = lab.directory().join("screen.txt");
    fs::write(path, &screen)?;

    // The last one is asked for with more words, and may go.
    terminal.press(&["Up", "x"])?;
    terminal.wait_for("a warning", |screen| {
        screen.contains("NOBODY ELSE TAKES QUERIES over udp and tcp")
    })?;
    terminal.press(&["y"])?;
    terminal.wait_for("a disabled server", |screen| is(screen, FIRST, "disabled"))?;
    ensure!(hand(&hosts.ds2, FIRST)? == "disabled", "not disabled");
    // On the line of the service all of its servers are meant.
    terminal.press(&["Home", "e", "y"])?;
    terminal.wait_for("both in", |screen| {
        is(screen, FIRST, "in") && is(screen, SECOND, "in")
    })?;
    for server in [FIRST, SECOND] {
        let said = hand(&hosts.ds2, server)?;
        ensure!(said.is_null(), "{server}: {said}");
    }

    terminal.press(&["?"])?;
    terminal.wait_for("help", |screen| screen.contains("this help"))?;
    terminal.press(&["q"])?;
    terminal.wait_for("the picture again", |screen| screen.contains(KEYS))?;
    terminal.press(&["q"])?;
    let status = terminal.restored()?;
    ensure!(status == 0, "ended with {status}");
    Ok(())
}

fn survives_what_happens(lab: &mut Lab) -> Result<()> {
    let hosts = DnsPair::with_service_lan_only(lab)?;
    let _named = hosts.start_named()?;
    let terminal = Terminal::start(&hosts.ds1, 80, 24)?;
    let director = binaries::path("director")?;
    terminal.enter(&format!("{} top", director.display()))?;
    terminal.wait_for("that no director runs", |screen| {
        screen.contains("error: no director answers")
    })?;
    let status = terminal.restored()?;
    ensure!(status == 1, "without a director it ended with {status}");

    let mut first = start_director(&hosts.ds1, &configuration())?;
    wait_until("the VIP", PATIENCE, || hosts.ds1.holds(VIP))?;
    let _second = start_director(&hosts.ds2, &configuration())?;
    start_top(&terminal)?;
    terminal.wait_for("an Active", |screen| {
        screen.contains(" active ") && is(screen, FIRST, "in")
    })?;

    for (columns, lines, events) in [
        (60, 12, false),
        (140, 50, true),
        (10, 3, false),
        (80, 24, true),
    ] {
        terminal.resize(columns, lines)?;
        if columns > 40 {
            terminal.wait_for("the other size", |screen| {
                screen.lines().count() == usize::from(lines)
                    && screen.contains(FIRST)
                    && screen.contains("d drain")
                    && screen.contains("LAST EVENTS") == events
            })?;
        }
    }

    // A change of role is seen.
    hosts.ds1.run("director handover --for 1h")?;
    terminal.wait_for("a Backup that stands aside", |screen| {
        screen.contains(" backup ") && screen.contains("dns: stands aside for 59m")
    })?;
    hosts.ds1.run("director handover --release")?;
    terminal.wait_for("an Active again", |screen| screen.contains(" active "))?;

    // The director goes, and comes back.
    first.terminate(Duration::from_secs(20))?;
    terminal.wait_for("that nobody answers", |screen| {
        let head = screen.lines().next().unwrap_or_default();
        head.contains("old, asked again and again: no director answers") && screen.contains(FIRST)
    })?;
    terminal.press(&["d"])?;
    terminal.wait_for("that nothing was done", |screen| {
        screen.contains("the director doesn't answer; nothing was done")
    })?;
    let first = start_director(&hosts.ds1, &configuration())?;
    terminal.wait_for("the new one", |screen| {
        let head = screen.lines().next().unwrap_or_default();
        head.contains(", up ") && is(screen, FIRST, "in")
    })?;

    // One that hangs keeps no key waiting.
    let worker = worker(&first)?;
    kill(Pid::from_raw(worker), Signal::SIGSTOP)?;
    terminal.wait_for("that the picture is old", |screen| {
        screen.contains("old, waiting for its answer")
    })?;
    terminal.press(&["?"])?;
    terminal.wait_for("help", |screen| screen.contains("this help"))?;
    kill(Pid::from_raw(worker), Signal::SIGCONT)?;

    // Whatever ends it, the terminal is as it was.
    let is_top = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.ends_with(b"/director\0top\0")
    };
    let top = hosts.ds1.processes().into_iter().find(is_top);
    kill(Pid::from_raw(top.context("no top")?), Signal::SIGTERM)?;
    terminal.restored()?;
    start_top(&terminal)?;
    terminal.press(&["C-c"])?;
    terminal.restored()?;
    Ok(())
}
