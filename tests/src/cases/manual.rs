//! What the manuals of both programs say, held against the programs.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lvs_manual::{Section, called, commands, programs};
use serde_json::Value;

use crate::case::Case;
use crate::lab::{Host, Lab, Output, Process, wait_until};
use crate::scenario::PATIENCE;
use crate::topology::{DnsPair, VIP, start_director};
use crate::whoami::{Transport, Whoami};

/// The cases of this theme.
pub(super) const CASES: &[Case] = &[
    Case::new("manual::pages_are_right", pages_are_right).needing_operator(),
    Case::new(
        "manual::exit_statuses_are_as_listed",
        exit_statuses_are_as_listed,
    )
    .needing_operator(),
];

/// Longer than any command here takes.
const LIMIT: Duration = Duration::from_secs(30);

/// Exit statuses that other cases show.
const ELSEWHERE: &[(&str, u8, &str)] = &[("director top", 0, "top::is_driven_by_keys")];

/// Commands whose exit statuses cases of their own theme show.
const THEMES: &[&str] = &["director doctor", "director events", "director trace"];

const GOOD: &str = "\
dataplane: none
vrrp:
  - { name: dns, interface: eth2, virtual_router_id: 50, priority: 200, addresses: [192.168.56.185/24] }
services:
  - name: resolver
    address: 192.168.56.185
    port: 53
    protocols: [udp, tcp]
    check: none
    real_servers: [{ address: 192.168.56.183 }, { address: 192.168.56.184 }]
";
const BAD: &str = "vrrp: []\n";
const BAD_AGENT: &str = "vips: [nobody]\n";

fn pages_are_right(lab: &mut Lab) -> Result<()> {
    let host = lab.add_host("desk")?;
    let folder = lab.directory().join("man");
    lvs_manual::write(&folder)?;
    let mut pages = 0;
    for program in programs() {
        for command in commands(&program) {
            let name = called(command);
            let page = folder.join(format!("man8/{}.8", name.replace(' ', "-")));
            let page = page.display().to_string();
            let formatted = host.output("groff", ["-man", "-ww", "-z", "-Tutf8", &page], LIMIT)?;
            ensure!(
                formatted.success() && formatted.stderr.is_empty(),
                "{page}: {}",
                formatted.stderr
            );
            pages += 1;
            // The program says the same.
            let help = run(&host, &format!("{name} --help"))?;
            ensure!(help.success() && help.stderr.is_empty(), "{name}: {help:?}");
            let said = command.get_after_help().map(ToString::to_string);
            let said = said.context("no examples")?;
            ensure!(help.stdout.trim_end().ends_with(&said), "{}", help.stdout);
        }
    }
    for (program, begun, completed) in [("director", "dr", "drain"), ("rs-agent", "relo", "reload")]
    {
        let completion = folder.join("bash").join(program);
        let script = format!(
            "source {}; COMP_WORDS=({program} {begun}); COMP_CWORD=1; \
             $(complete -p {program} | sed 's/.*-F \\([^ ]*\\).*/\\1/') {program} {begun} {program}; \
             echo ${{COMPREPLY[*]}}",
            completion.display()
        );
        let offered = host.output("bash", ["-c", &script], LIMIT)?;
        ensure!(offered.stdout.trim() == completed, "{begun}: {offered:?}");
    }
    crate::figures::at_most("man pages", pages, 100)?;
    Ok(())
}

/// Runs commands, and keeps in mind how each ended.
struct Desk {
    seen: BTreeSet<(String, u8)>,
    names: Vec<String>,
}

impl Desk {
    fn new() -> Self {
        let programs = programs();
        let all = programs.iter().flat_map(commands);
        Self {
            seen: BTreeSet::new(),
            names: all.map(|command| called(command).to_owned()).collect(),
        }
    }

    fn saw(&mut self, line: &str, status: u8) {
        let command = self.names.iter().filter(|name| line.starts_with(*name));
        let command = command.max_by_key(|name| name.len());
        if let Some(command) = command {
            self.seen.insert((command.clone(), status));
        }
    }

    /// The line ends with this status. What failed says why on standard error, and there alone, but for
    /// programs; a result for programs is JSON.
    fn expect(&mut self, host: &Host, line: &str, status: u8) -> Result<()> {
        let output = run(host, line)?;
        ensure!(output.code() == Some(status.into()), "{line}: {output:?}");
        self.saw(line, status);
        let failed = matches!(status, 1 | 64 | 78);
        if line.contains("--json") && !output.stdout.is_empty() {
            let read = serde_json::from_str::<Value>(&output.stdout);
            ensure!(
                read.is_ok_and(|it| it.is_object() || it.is_array()),
                "{line}: {output:?}"
            );
        } else if failed {
            ensure!(!output.stderr.is_empty(), "{line} fails without a word");
            ensure!(output.stdout.is_empty(), "{line}: {output:?}");
        } else if line.contains("--json") {
            ensure!(false, "{line} prints nothing");
        }
        Ok(())
    }

    fn expect_all(&mut self, host: &Host, lines: &[(&str, u8)]) -> Result<()> {
        lines
            .iter()
            .try_for_each(|(line, status)| self.expect(host, line, *status))
    }

    /// A program that ran ends so.
    fn ended(&mut self, line: &str, mut process: Process, status: u8) -> Result<()> {
        let ended = process.wait(LIMIT)?;
        ensure!(
            ended.code() == Some(status.into()),
            "{line}: {ended}: {}",
            process.log()
        );
        self.saw(line, status);
        Ok(())
    }
}

fn run(host: &Host, line: &str) -> Result<Output> {
    let mut words = line.split_whitespace();
    let program = words.next().context("no program")?;
    host.output(program, words, LIMIT)
}

fn exit_statuses_are_as_listed(lab: &mut Lab) -> Result<()> {
    let hosts = DnsPair::with_service_lan_only(lab)?;
    let mut desk = Desk::new();
    for program in programs() {
        for command in commands(&program) {
            desk.expect(
                &hosts.client,
                &format!("{} --nonsense", called(command)),
                64,
            )?;
        }
    }
    director(&mut desk, &hosts)?;
    agent(&mut desk, &hosts.rs1)?;
    judge(&desk)
}

fn director(desk: &mut Desk, hosts: &DnsPair) -> Result<()> {
    let host = &hosts.ds1;
    let file = |name: &str, text: &str| {
        let path = host.write_file(name, text)?;
        anyhow::Ok(path.display().to_string())
    };
    let bad = file("bad.yaml", BAD)?;
    let good = file("director.yaml", GOOD)?;
    let other = file("other.yaml", &GOOD.replace("200", "100"))?;
    desk.expect_all(
        host,
        &[
            ("director --version", 0),
            (&format!("director check {good}"), 0),
            (&format!("director check --json {good}"), 0),
            (&format!("director check {bad}"), 1),
            (&format!("director check --json {bad}"), 1),
            (&format!("director plan --config {bad}"), 1),
            (&format!("director plan --config {bad} --json"), 1),
            (&format!("director run --config {bad}"), 78),
            ("director status", 1),
            ("director status --json", 1),
            ("director top", 1),
            ("director reload", 1),
            ("director reload --json", 1),
            ("director handover", 1),
            ("director handover --json", 1),
            ("director drain resolver/192.168.56.183", 1),
            ("director disable resolver/192.168.56.183", 1),
            ("director enable resolver/192.168.56.183", 1),
        ],
    )?;
    let process = start_director(host, GOOD)?;
    wait_until("the VIP", PATIENCE, || host.holds(VIP))?;
    desk.expect_all(
        host,
        &[
            (&format!("director run --config {good}"), 1),
            ("director status", 0),
            ("director status --json", 0),
            ("director plan", 0),
            ("director plan --json", 0),
            (&format!("director plan --config {other}"), 2),
            (&format!("director plan --config {other} --json"), 2),
            ("director reload", 0),
            ("director reload --json", 0),
            ("director drain resolver/192.168.56.183 --for 1h", 0),
            ("director disable resolver/192.168.56.183 --json", 0),
            ("director enable resolver/192.168.56.183 --json", 0),
            ("director drain resolver/192.0.2.1", 1),
            // Nobody else is there.
            ("director handover --json", 1),
            ("director handover --release --json", 0),
        ],
    )?;
    file("director.yaml", BAD)?;
    desk.expect_all(
        host,
        &[("director reload", 1), ("director reload --json", 1)],
    )?;
    file("director.yaml", GOOD)?;
    host.link_down("eth2")?;
    wait_until("a fault", PATIENCE, || {
        run(host, "director status").is_ok_and(|output| output.code() == Some(2))
    })?;
    desk.expect_all(
        host,
        &[("director status", 2), ("director status --json", 2)],
    )?;
    process.signal(nix::sys::signal::Signal::SIGTERM)?;
    desk.ended("director run", process, 0)
}

fn agent(desk: &mut Desk, host: &Host) -> Result<()> {
    let bad = host
        .write_file("bad.yaml", BAD_AGENT)?
        .display()
        .to_string();
    let vip = format!("--vip {VIP}");
    desk.expect_all(
        host,
        &[
            ("rs-agent --version", 0),
            (&format!("rs-agent run --config {bad}"), 78),
            (&format!("rs-agent start --config {bad}"), 1),
            (&format!("rs-agent start --json --config {bad}"), 1),
            (&format!("rs-agent reload --config {bad}"), 1),
            (&format!("rs-agent check --config {bad}"), 1),
            (&format!("rs-agent status --config {bad}"), 1),
            (&format!("rs-agent check {vip}"), 2),
            (&format!("rs-agent status {vip} --json"), 2),
            (&format!("rs-agent start {vip}"), 0),
            (&format!("rs-agent start {vip} --json"), 0),
            (&format!("rs-agent reload {vip} --json"), 0),
        ],
    )?;
    let place = SocketAddr::new(VIP.into(), 53);
    let datagrams = Whoami::start(host, [(Transport::Udp, place)])?;
    desk.expect_all(
        host,
        &[
            (&format!("rs-agent check {vip}"), 3),
            (&format!("rs-agent status {vip}"), 3),
        ],
    )?;
    let _connections = Whoami::start(host, [(Transport::Tcp, place)])?;
    desk.expect_all(
        host,
        &[
            (&format!("rs-agent check {vip} --json"), 0),
            (&format!("rs-agent status {vip} --json"), 0),
            ("rs-agent stop --drain --quiet 200ms --json", 3),
            (&format!("rs-agent start {vip}"), 0),
            ("rs-agent stop --drain --quiet 10s --limit 200ms", 2),
            (&format!("rs-agent start {vip}"), 0),
            ("rs-agent stop --json", 0),
        ],
    )?;
    drop(datagrams);
    for (quiet, limit, status) in [("10s", "3s", 2), ("3s", "20s", 3)] {
        ended_in_a_drain(desk, host, [quiet, limit], status)?;
        // What was stopped by hand stays so.
        desk.expect(host, &format!("rs-agent start {vip}"), 0)?;
    }
    let process = serve(host)?;
    desk.expect_all(
        host,
        &[
            (&format!("rs-agent run {vip}"), 1),
            ("rs-agent stop --vip 192.0.2.99", 1),
        ],
    )?;
    process.signal(nix::sys::signal::Signal::SIGTERM)?;
    desk.ended("rs-agent run", process, 0)
}

/// Told to end while a drain is under way, the service ends as the drain does.
fn ended_in_a_drain(
    desk: &mut Desk,
    host: &Host,
    [quiet, limit]: [&str; 2],
    status: u8,
) -> Result<()> {
    let process = serve(host)?;
    let line = ["stop", "--drain", "--quiet", quiet, "--limit", limit];
    let mut stop = host.spawn("rs-agent", line)?;
    wait_until("the drain", PATIENCE, || process.log().contains("draining"))?;
    // One is under way already.
    desk.expect(host, "rs-agent stop --drain", 1)?;
    process.signal(nix::sys::signal::Signal::SIGTERM)?;
    desk.ended("rs-agent run", process, status)?;
    let stopped = stop.wait(LIMIT)?;
    ensure!(
        stopped.code() == Some(status.into()),
        "{stopped}: {}",
        stop.log()
    );
    Ok(())
}

/// `rs-agent run`, when it has the VIP.
fn serve(host: &Host) -> Result<Process> {
    let process = host.spawn("rs-agent", ["run", "--vip", &VIP.to_string()])?;
    // An earlier `start` may have brought the VIP.
    wait_until("the service", PATIENCE, || {
        host.run("find /run/rs-agent -name control-*")
            .is_ok_and(|found| !found.is_empty())
    })?;
    wait_until("the VIP", PATIENCE, || host.holds(VIP))?;
    Ok(process)
}

/// What was seen is listed, and what is listed was seen.
fn judge(desk: &Desk) -> Result<()> {
    let mut listed = BTreeSet::new();
    for program in programs() {
        for command in commands(&program) {
            let sections = Section::all_of(command);
            let statuses = sections.iter().find_map(Section::exit_statuses);
            let statuses = statuses.context("no exit statuses")?;
            let name = called(command);
            listed.extend(
                statuses
                    .into_iter()
                    .map(|(code, _)| (name.to_owned(), code)),
            );
        }
    }
    let unlisted: Vec<_> = desk.seen.difference(&listed).collect();
    ensure!(unlisted.is_empty(), "in no manual: {unlisted:?}");
    let shown = |(command, code): &&(String, u8)| {
        // The program's own page sums up those of its commands.
        let sums_up = !command.contains(' ');
        sums_up
            || THEMES.contains(&command.as_str())
            || ELSEWHERE
                .iter()
                .any(|it| (it.0, it.1) == (command.as_str(), *code))
    };
    let unseen: Vec<_> = listed
        .difference(&desk.seen)
        .filter(|it| !shown(it))
        .collect();
    ensure!(unseen.is_empty(), "listed, and shown nowhere: {unseen:?}");
    for (_, _, case) in ELSEWHERE {
        let is_there = super::all().any(|known| known.name == *case);
        ensure!(is_there, "no case {case}");
    }
    crate::figures::at_most("exit statuses of commands seen", desk.seen.len(), 500)?;
    Ok(())
}
