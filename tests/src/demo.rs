//! The demo's story. `make demo` plays it in the guest, or on this kernel where it has IPVS.
//!
//! Every scene is played under a steady rate of queries from one source port, the hardest case for
//! a balancer, and every scene says what it promises: one that breaks its promise ends the demo
//! with an error.

use std::fmt::Write as _;
use std::io::Write;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use crate::dns::{Questions, dig};
use crate::forwarding;
use crate::lab::{Host, Lab, Process, wait_until};
use crate::topology::{ANSWERS, DnsPair, VIP, start_director};
use crate::traffic::{Load, Report};
use crate::{bind, ping};

/// The file that users start from.
const CONFIGURATION: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../deploy/director.yaml"
));

/// The client keeps this port, as many resolvers do.
const SOURCE_PORT: u16 = 40_000;
/// What is not answered by then is lost.
const TIMEOUT: Duration = Duration::from_millis(500);
/// An emulated machine is slow to start programs.
const PATIENCE: Duration = Duration::from_secs(60);
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
    let pair = DnsPair::new(lab)?;
    for line in TOPOLOGY.lines() {
        screen.say(line)?;
    }
    let mut cast = Cast::new(pair)?;
    let scenes: [(&str, Scene); 9] = [
        ("directors up, agents not started", Cast::directors_only),
        ("rs-agent start on both real servers", Cast::agents_start),
        ("named killed on rs1", Cast::named_killed),
        ("named back on rs1", Cast::named_back),
        (
            "named killed on rs1, Active director stopped",
            Cast::named_killed_and_active_stopped,
        ),
        ("both back: ds1 preempts", Cast::both_back),
        ("kill -9 of the Active's worker", Cast::worker_killed),
        ("the Active's machine cut off", Cast::machine_cut_off),
        ("all healthy again", Cast::all_healthy),
    ];
    let mut rows = Vec::new();
    for (index, (title, play)) in scenes.into_iter().enumerate() {
        screen.scene(index + 1, title)?;
        let report = play(&mut cast, screen).with_context(|| format!("scene {}", index + 1))?;
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

type Scene = fn(&mut Cast, &mut Screen<'_>) -> Result<Report>;

/// Who plays.
struct Cast {
    pair: DnsPair,
    named: [Process; 2],
    directors: [Process; 2],
}

impl Cast {
    fn new(pair: DnsPair) -> Result<Self> {
        let named = pair.start_named()?;
        let directors = [
            start_director(&pair.ds1, CONFIGURATION)?,
            start_director(&pair.ds2, CONFIGURATION)?,
        ];
        Ok(Self {
            pair,
            named,
            directors,
        })
    }

    fn directors_only(&mut self, screen: &mut Screen<'_>) -> Result<Report> {
        self.wait_for_active(0)?;
        for director in [&self.pair.ds1, &self.pair.ds2] {
            wait_for_servers(director, 4)?;
        }
        let alive = ping::answers(&self.pair.client, VIP, Duration::from_secs(5));
        ensure!(alive, "the VIP doesn't answer ping");
        screen.say("ds1 holds the VIP, and it answers ping; both tables are full:")?;
        for line in self.pair.ds2.run("ipvsadm -Ln")?.lines() {
            screen.say(&format!("  ds2# {line}"))?;
        }
        let load = self.ask();
        screen.watch(&load, Duration::from_secs(2))?;
        let report = load.stop();
        ensure!(
            report.answered() == 0,
            "answered without a VIP on any real server: {report}"
        );
        screen.say("no real server has the VIP yet, so nobody answers DNS")?;
        Ok(report)
    }

    fn agents_start(&mut self, screen: &mut Screen<'_>) -> Result<Report> {
        for host in [&self.pair.rs1, &self.pair.rs2] {
            let said = host.run(&format!("rs-agent start --vip {VIP}"))?;
            screen.say(&format!(
                "{}# rs-agent start --vip {VIP}   -> {}",
                host.name(),
                said.trim()
            ))?;
        }
        self.wait_for_answers(&[true, true])?;
        for _ in 0..2 {
            let answer = dig(&self.pair.client, VIP, "")?.join(" ");
            screen.say(&format!(
                "client$ dig +short @{VIP} www.abc.local   -> {answer}"
            ))?;
        }
        let report = self.play(screen, Duration::from_secs(4))?;
        self.expect_alternation(&report)?;
        Ok(report)
    }

    fn named_killed(&mut self, screen: &mut Screen<'_>) -> Result<Report> {
        let load = self.ask();
        screen.watch(&load, Duration::from_secs(1))?;
        self.named[0].kill();
        let killed = Instant::now();
        wait_for_servers(&self.pair.ds1, 2)?;
        screen.say(&format!(
            "rs1 left the table {} after its death",
            seconds(killed.elapsed())
        ))?;
        screen.watch(&load, Duration::from_secs(3))?;
        let report = load.stop();
        self.expect_only_rs2(&report.since(killed + Duration::from_secs(2)))?;
        Ok(report)
    }

    fn named_back(&mut self, screen: &mut Screen<'_>) -> Result<Report> {
        self.start_named_on_rs1()?;
        for director in [&self.pair.ds1, &self.pair.ds2] {
            wait_for_servers(director, 4)?;
        }
        let report = self.play(screen, Duration::from_secs(4))?;
        self.expect_alternation(&report)?;
        Ok(report)
    }

    fn named_killed_and_active_stopped(&mut self, screen: &mut Screen<'_>) -> Result<Report> {
        let load = self.ask();
        screen.watch(&load, Duration::from_secs(1))?;
        self.named[0].kill();
        let killed = Instant::now();
        self.directors[0].terminate(PATIENCE)?;
        screen.say("ds1 stopped by SIGTERM: priority 0, VIP and table gone")?;
        self.wait_for_active(1)?;
        screen.watch(&load, Duration::from_secs(4))?;
        let report = load.stop();
        self.expect_only_rs2(&report.since(killed + Duration::from_secs(3)))?;
        Ok(report)
    }

    fn both_back(&mut self, screen: &mut Screen<'_>) -> Result<Report> {
        let load = self.ask();
        self.start_named_on_rs1()?;
        self.start_director(0)?;
        self.wait_for_active(0)?;
        screen.say("ds1 took the VIP back once its own table was full")?;
        screen.watch(&load, Duration::from_secs(3))?;
        let report = load.stop();
        ensure!(report.lost() == 0, "lost by a preemption: {report}");
        Ok(report)
    }

    fn worker_killed(&mut self, screen: &mut Screen<'_>) -> Result<Report> {
        let load = self.ask();
        screen.watch(&load, Duration::from_secs(1))?;
        let worker = *self.directors[0]
            .children()
            .first()
            .context("ds1 has no worker")?;
        let killed = Instant::now();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(worker), Signal::SIGKILL)?;
        self.wait_for_active(1)?;
        screen.say(&format!(
            "the supervisor said priority 0 and gave the VIP up; ds2 had it {} after the kill",
            seconds(killed.elapsed())
        ))?;
        self.directors[0].wait(PATIENCE)?;
        sleep(RESTART);
        self.start_director(0)?;
        self.wait_for_active(0)?;
        screen.say("started again, as systemd does, ds1 kept its table and took the VIP back")?;
        screen.watch(&load, Duration::from_secs(2))?;
        let report = load.stop();
        ensure!(
            report.longest_gap() < Duration::from_secs(1),
            "too long a gap: {report}"
        );
        Ok(report)
    }

    fn machine_cut_off(&mut self, screen: &mut Screen<'_>) -> Result<Report> {
        let load = self.ask();
        screen.watch(&load, Duration::from_secs(1))?;
        let cut = Instant::now();
        self.pair.ds1.link_down("eth2")?;
        self.pair.ds1.kill_processes();
        wait_until("ds2 holds the VIP", PATIENCE, || self.pair.ds2.holds(VIP))?;
        screen.say(&format!(
            "all processes of ds1 killed, its link down; ds2 had the VIP {} later",
            seconds(cut.elapsed())
        ))?;
        screen.watch(&load, Duration::from_secs(3))?;
        let report = load.stop();
        ensure!(
            report.longest_gap() < Duration::from_secs(1),
            "too long a gap: {report}"
        );
        Ok(report)
    }

    fn all_healthy(&mut self, screen: &mut Screen<'_>) -> Result<Report> {
        // The machine has booted: what it had is gone.
        self.pair
            .ds1
            .run(&format!("ip address flush dev eth2 to {VIP}/32"))?;
        let load = self.ask();
        self.pair.ds1.link_up("eth2")?;
        self.start_director(0)?;
        self.wait_for_active(0)?;
        screen.watch(&load, Duration::from_secs(3))?;
        let report = load.stop();
        ensure!(report.lost() == 0, "lost by a preemption: {report}");
        self.expect_alternation(&report)?;
        Ok(report)
    }

    fn ask(&self) -> Load {
        Questions::new(VIP)
            .from_port(SOURCE_PORT)
            .timeout(TIMEOUT)
            .start(&self.pair.client)
    }

    fn play(&self, screen: &mut Screen<'_>, duration: Duration) -> Result<Report> {
        let load = self.ask();
        screen.watch(&load, duration)?;
        Ok(load.stop())
    }

    fn start_named_on_rs1(&mut self) -> Result<()> {
        self.named[0] = bind::start(&self.pair.rs1, ANSWERS[0])?;
        Ok(())
    }

    fn start_director(&mut self, index: usize) -> Result<()> {
        self.directors[index] = start_director(self.director(index), CONFIGURATION)?;
        Ok(())
    }

    fn director(&self, index: usize) -> &Host {
        [&self.pair.ds1, &self.pair.ds2][index]
    }

    /// Waits until one director holds the VIP and the other doesn't.
    fn wait_for_active(&self, index: usize) -> Result<()> {
        wait_until("a director holds the VIP", PATIENCE, || {
            self.director(index).holds(VIP) && !self.director(1 - index).holds(VIP)
        })?;
        Ok(())
    }

    /// Waits until exactly these real servers answer through the VIP.
    fn wait_for_answers(&self, wanted: &[bool; 2]) -> Result<()> {
        wait_until("the real servers answer through the VIP", PATIENCE, || {
            let answers: Vec<_> = (0..4)
                .filter_map(|_| {
                    Questions::new(VIP)
                        .timeout(TIMEOUT)
                        .ask(&self.pair.client)
                        .ok()
                })
                .collect();
            ANSWERS
                .iter()
                .zip(wanted)
                .all(|(answer, wanted)| answers.contains(&answer.to_string()) == *wanted)
        })?;
        Ok(())
    }

    fn expect_alternation(&self, report: &Report) -> Result<()> {
        let [first, second] = ANSWERS.map(|answer| report.answers_by(&answer.to_string()));
        ensure!(
            report.lost() == 0 && first.abs_diff(second) <= report.sent() / 20,
            "not balanced: {report}"
        );
        Ok(())
    }

    fn expect_only_rs2(&self, report: &Report) -> Result<()> {
        let all = report.answers_by(&ANSWERS[1].to_string()) == report.sent();
        ensure!(all, "not all from rs2: {report}");
        Ok(())
    }
}

/// Waits until a director's table has this many real servers, both protocols counted.
fn wait_for_servers(director: &Host, count: usize) -> Result<()> {
    let what = format!("{} has {count} real servers in its table", director.name());
    wait_until(&what, PATIENCE, || {
        forwarding::table(director)
            .is_ok_and(|table| table.iter().filter(|line| line.contains(" -> ")).count() == count)
    })?;
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
    let mut text = String::new();
    for (server, answer) in ["rs1", "rs2"].into_iter().zip(ANSWERS) {
        let count = report.answers_by(&answer.to_string());
        if count > 0 {
            let separator = if text.is_empty() { "" } else { ", " };
            // Writing to a string can't fail.
            let _ = write!(text, "{separator}{server} {count}");
        }
    }
    if text.is_empty() {
        "nobody".into()
    } else {
        text
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}
