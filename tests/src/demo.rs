//! The demo's story. `make demo` plays it in the guest, or on this kernel where it has IPVS.
//!
//! Every scene is played under a steady rate of queries from one source port, the hardest case for
//! a balancer, and every scene says what it promises: one that breaks its promise ends the demo
//! with an error.

use std::io::Write;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::dns::dig;
use crate::lab::{Lab, wait_until};
use crate::scenario::{CONFIGURATION, PATIENCE, Pair, SERVERS, shares, worker};
use crate::topology::{ANSWERS, DnsPair, VIP};
use crate::traffic::{Load, Report};
use crate::{bind, ping};

/// `RestartSec=` of the unit that systemd would start the director by.
const RESTART: Duration = Duration::from_secs(1);

/// Where the story is told.
pub struct Screen<'a> {
    /// Takes the text. What doesn't end a line is seen when it is flushed.
    pub out: &'a mut dyn Write,
    /// Whether it is a terminal, with colours and a live line; plain text otherwise.
    pub terminal: bool,
}

impl Screen<'_> {
    fn scene(&mut self, number: usize, title: &str) -> Result<()> {
        let (bold, plain) = if self.terminal {
            ("\x1b[1m", "\x1b[0m")
        } else {
            ("", "")
        };
        writeln!(self.out, "\n{bold}Scene {number}: {title}{plain}")?;
        Ok(())
    }

    fn say(&mut self, line: &str) -> Result<()> {
        writeln!(self.out, "{}", format!("  {line}").trim_end())?;
        Ok(())
    }

    /// Shows how the client fares while time passes.
    fn watch(&mut self, load: &Load, duration: Duration) -> Result<()> {
        let end = Instant::now() + duration;
        while Instant::now() < end {
            sleep(Duration::from_millis(250).min(end.saturating_duration_since(Instant::now())));
            if self.terminal {
                let report = load.report();
                let answers = answered_by(&report);
                write!(
                    self.out,
                    "\r\x1b[K  sent {:4}  lost {:4}  {answers}",
                    report.sent(),
                    report.lost()
                )?;
                self.out.flush()?;
            }
        }
        if self.terminal {
            write!(self.out, "\r\x1b[K")?;
        }
        Ok(())
    }

    fn result(&mut self, report: &Report) -> Result<()> {
        let (colour, plain) = match (self.terminal, report.lost()) {
            (false, _) => ("", ""),
            (true, 0) => ("\x1b[32m", "\x1b[0m"),
            (true, _) => ("\x1b[33m", "\x1b[0m"),
        };
        self.say(&format!(
            "{colour}{}{plain}",
            Row::new("", report).line([0, 6, 6, 8])
        ))
    }
}

/// Plays the scenes in an empty lab.
///
/// # Errors
/// When a scene doesn't show what it promises.
pub fn story(lab: &mut Lab, screen: &mut Screen<'_>) -> Result<()> {
    let hosts = DnsPair::new(lab)?;
    for line in TOPOLOGY.lines() {
        screen.say(line)?;
    }
    let mut pair = Pair::start_without_agents(hosts, CONFIGURATION)?;
    let scenes: [(&str, Scene); 9] = [
        ("directors up, agents not started", directors_only),
        ("rs-agent start on both real servers", agents_start),
        ("named killed on rs1", named_killed),
        ("named back on rs1", named_back),
        (
            "named killed on rs1, Active director stopped",
            named_killed_and_active_stopped,
        ),
        ("both back: ds1 preempts", both_back),
        ("kill -9 of the Active's worker", worker_killed),
        ("the Active's machine cut off", machine_cut_off),
        ("all healthy again", all_healthy),
    ];
    let mut rows = Vec::new();
    for (index, (title, play)) in scenes.into_iter().enumerate() {
        screen.scene(index + 1, title)?;
        let report = play(&mut pair, screen).with_context(|| format!("scene {}", index + 1))?;
        screen.result(&report)?;
        rows.push(Row::new(&format!("{} {title}", index + 1), &report));
    }
    writeln!(screen.out)?;
    print_table(screen, &rows)
}

const TOPOLOGY: &str = "
client .10   ds1 .181   ds2 .182   rs1 .183   rs2 .184      eth2, 192.168.56.0/24
   |            |          |          |          |
---+------------+----------+----------+----------+---       VIP 192.168.56.185
                |          |
                +----------+  eth1, 192.168.1.0/24          eth0: 10.0.2.15 on each

rs1 answers www.abc.local with 1.2.3.4, rs2 with 1.2.3.5. The client asks 50 times a second from
one source port; a query unanswered after 0.5 s is lost.";

type Scene = fn(&mut Pair, &mut Screen<'_>) -> Result<Report>;

fn directors_only(pair: &mut Pair, screen: &mut Screen<'_>) -> Result<Report> {
    let alive = ping::answers(&pair.hosts.client, VIP, Duration::from_secs(5));
    ensure!(alive, "the VIP doesn't answer ping");
    screen.say("ds1 holds the VIP, and it answers ping; both tables are full:")?;
    for line in pair.hosts.ds2.run("ipvsadm -Ln")?.lines() {
        screen.say(&format!("  ds2# {line}"))?;
    }
    let report = play(pair, screen, Duration::from_secs(2))?;
    ensure!(
        report.answered() == 0,
        "answered without a VIP on any real server: {report}"
    );
    screen.say("no real server has the VIP yet, so nobody answers DNS")?;
    Ok(report)
}

fn agents_start(pair: &mut Pair, screen: &mut Screen<'_>) -> Result<Report> {
    for host in [&pair.hosts.rs1, &pair.hosts.rs2] {
        let command = format!("rs-agent start --vip {VIP}");
        let said = host.run(&command)?;
        screen.say(&format!("{}# {command}   -> {}", host.name(), said.trim()))?;
    }
    wait_until("both real servers answer through the VIP", PATIENCE, || {
        let ask = |_| pair.questions().ask(&pair.hosts.client).ok();
        let answers: Vec<String> = (0..4).filter_map(ask).collect();
        ANSWERS
            .iter()
            .all(|answer| answers.contains(&answer.to_string()))
    })?;
    for _ in 0..2 {
        let answer = dig(&pair.hosts.client, VIP, "")?.join(" ");
        screen.say(&format!(
            "client$ dig +short @{VIP} www.abc.local   -> {answer}"
        ))?;
    }
    let report = play(pair, screen, Duration::from_secs(4))?;
    expect_balance(&report)?;
    Ok(report)
}

/// As a resolver sees it, which asks another one then.
fn ask(pair: &Pair) -> Load {
    let questions = pair.questions().timeout(Duration::from_millis(500));
    questions.start(&pair.hosts.client)
}

fn named_killed(pair: &mut Pair, screen: &mut Screen<'_>) -> Result<Report> {
    let load = ask(pair);
    screen.watch(&load, Duration::from_secs(1))?;
    pair.named[0].kill();
    let killed = Instant::now();
    pair.wait_for_servers(0, &SERVERS[1..])?;
    let left = seconds(killed.elapsed());
    screen.say(&format!("rs1 left the table {left} after its death"))?;
    screen.watch(&load, Duration::from_secs(3))?;
    let report = load.stop();
    expect_only_rs2(&report.since(killed + Duration::from_secs(2)))?;
    Ok(report)
}

fn named_back(pair: &mut Pair, screen: &mut Screen<'_>) -> Result<Report> {
    pair.named[0] = bind::start(&pair.hosts.rs1, ANSWERS[0])?;
    for director in [0, 1] {
        pair.wait_for_servers(director, &SERVERS)?;
    }
    let report = play(pair, screen, Duration::from_secs(4))?;
    expect_balance(&report)?;
    Ok(report)
}

fn named_killed_and_active_stopped(pair: &mut Pair, screen: &mut Screen<'_>) -> Result<Report> {
    let load = ask(pair);
    screen.watch(&load, Duration::from_secs(1))?;
    pair.named[0].kill();
    let killed = Instant::now();
    pair.directors[0].terminate(PATIENCE)?;
    screen.say("ds1 stopped by SIGTERM: priority 0, VIP and table gone")?;
    pair.wait_for_active(1)?;
    screen.watch(&load, Duration::from_secs(4))?;
    let report = load.stop();
    expect_only_rs2(&report.since(killed + Duration::from_secs(3)))?;
    Ok(report)
}

fn both_back(pair: &mut Pair, screen: &mut Screen<'_>) -> Result<Report> {
    let load = ask(pair);
    pair.named[0] = bind::start(&pair.hosts.rs1, ANSWERS[0])?;
    pair.restart_director(0)?;
    pair.wait_for_active(0)?;
    screen.say("ds1 took the VIP back once its own table was full")?;
    screen.watch(&load, Duration::from_secs(3))?;
    let report = load.stop();
    ensure!(report.lost() == 0, "lost by a preemption: {report}");
    Ok(report)
}

fn worker_killed(pair: &mut Pair, screen: &mut Screen<'_>) -> Result<Report> {
    let load = ask(pair);
    screen.watch(&load, Duration::from_secs(1))?;
    let victim = Pid::from_raw(worker(&pair.directors[0])?);
    let killed = Instant::now();
    kill(victim, Signal::SIGKILL)?;
    pair.wait_for_active(1)?;
    screen.say(&format!(
        "the supervisor said priority 0 and gave the VIP up; ds2 had it {} after the kill",
        seconds(killed.elapsed())
    ))?;
    pair.directors[0].wait(PATIENCE)?;
    sleep(RESTART);
    pair.restart_director(0)?;
    pair.wait_for_active(0)?;
    screen.say("started again, as systemd does, ds1 kept its table and took the VIP back")?;
    screen.watch(&load, Duration::from_secs(2))?;
    let report = load.stop();
    expect_short_gap(&report)?;
    Ok(report)
}

fn machine_cut_off(pair: &mut Pair, screen: &mut Screen<'_>) -> Result<Report> {
    let load = ask(pair);
    screen.watch(&load, Duration::from_secs(1))?;
    let cut = Instant::now();
    pair.cut_off(0)?;
    pair.wait_for_successor()?;
    screen.say(&format!(
        "all processes of ds1 killed, its link down; ds2 had the VIP {} later",
        seconds(cut.elapsed())
    ))?;
    screen.watch(&load, Duration::from_secs(3))?;
    let report = load.stop();
    expect_short_gap(&report)?;
    Ok(report)
}

fn all_healthy(pair: &mut Pair, screen: &mut Screen<'_>) -> Result<Report> {
    let load = ask(pair);
    pair.boot(0)?;
    pair.wait_for_active(0)?;
    screen.watch(&load, Duration::from_secs(3))?;
    let report = load.stop();
    expect_balance(&report)?;
    Ok(report)
}

fn play(pair: &Pair, screen: &mut Screen<'_>, duration: Duration) -> Result<Report> {
    let load = ask(pair);
    screen.watch(&load, duration)?;
    Ok(load.stop())
}

fn expect_balance(report: &Report) -> Result<()> {
    let [first, second] = shares(report);
    ensure!(
        report.lost() == 0 && first.abs_diff(second) <= report.sent() / 20,
        "not balanced, or lost: {report}"
    );
    Ok(())
}

fn expect_only_rs2(report: &Report) -> Result<()> {
    let [_, second] = shares(report);
    ensure!(second == report.sent(), "not all from rs2: {report}");
    Ok(())
}

fn expect_short_gap(report: &Report) -> Result<()> {
    ensure!(
        report.longest_gap() < Duration::from_secs(1),
        "too long a gap: {report}"
    );
    Ok(())
}

/// A line of the table.
struct Row {
    cells: [String; 5],
}

impl Row {
    fn new(title: &str, report: &Report) -> Self {
        Self {
            cells: [
                title.to_owned(),
                report.sent().to_string(),
                report.lost().to_string(),
                seconds(report.longest_gap()),
                answered_by(report),
            ],
        }
    }

    fn line(&self, [title, sent, lost, gap]: [usize; 4]) -> String {
        let [c0, c1, c2, c3, c4] = &self.cells;
        if title == 0 {
            return format!("sent {c1}, lost {c2}, longest gap {c3}, answered by {c4}");
        }
        format!("{c0:title$}  {c1:>sent$}  {c2:>lost$}  {c3:>gap$}  {c4}")
    }
}

fn print_table(screen: &mut Screen<'_>, rows: &[Row]) -> Result<()> {
    let headings = ["scene", "sent", "lost", "longest gap", "answered by"].map(str::to_owned);
    let headings = Row { cells: headings };
    let width = |column: usize| {
        let cells = std::iter::once(&headings)
            .chain(rows)
            .map(|row| &row.cells[column]);
        cells.map(String::len).max().unwrap_or_default()
    };
    let widths = [width(0), width(1), width(2), width(3)];
    for row in std::iter::once(&headings).chain(rows) {
        writeln!(screen.out, "{}", row.line(widths))?;
    }
    Ok(())
}

fn answered_by(report: &Report) -> String {
    let answered: Vec<String> = ["rs1", "rs2"]
        .into_iter()
        .zip(shares(report))
        .filter(|(_, count)| *count > 0)
        .map(|(server, count)| format!("{server} {count}"))
        .collect();
    if answered.is_empty() {
        "nobody".into()
    } else {
        answered.join(", ")
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}
