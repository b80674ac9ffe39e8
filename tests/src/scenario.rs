//! A pair of directors at work, which most cases that need IPVS start from.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::dns::Questions;
use crate::forwarding::{self, Table};
use crate::lab::{Host, Lab, Process, wait_until};
use crate::topology::{ANSWERS, DnsPair, VIP, start_director};
use crate::traffic::{Attempt, Load, Outcome, Report};

/// The file that users start from: two servers of weight 1, adverts every 100 ms.
pub const CONFIGURATION: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../deploy/director.yaml"
));

/// The first and the second real server.
pub const SERVERS: [&str; 2] = ["192.168.56.183", "192.168.56.184"];

/// How long a program may take to start on an emulated processor.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The hardest case for a balancer: a client that keeps its port.
const SOURCE_PORT: u16 = 40_000;

/// The pair with everything running.
#[derive(Debug)]
pub struct Pair {
    /// The machines.
    pub hosts: DnsPair,
    /// BIND on the real servers.
    pub named: [Process; 2],
    /// `director run` on ds1 and ds2.
    pub directors: [Process; 2],
    configuration: String,
}

impl Pair {
    /// Starts everything with this configuration on hosts of its own, and waits until ds1 is
    /// Active, both tables are full and both real servers answer through the VIP.
    ///
    /// # Errors
    /// When that takes longer than [`PATIENCE`].
    pub fn start(lab: &mut Lab, configuration: &str) -> Result<Self> {
        Self::start_on(DnsPair::with_service_lan_only(lab)?, configuration)
    }

    /// The same on hosts that are there already.
    pub fn start_on(hosts: DnsPair, configuration: &str) -> Result<Self> {
        for server in [&hosts.rs1, &hosts.rs2] {
            server.run(&format!("rs-agent start --vip {VIP}"))?;
        }
        Self::start_without_agents(hosts, configuration)
    }

    /// The same while no real server has the VIP, so that nobody answers for it.
    pub fn start_without_agents(hosts: DnsPair, configuration: &str) -> Result<Self> {
        let directors = [
            start_director(&hosts.ds1, configuration)?,
            start_director(&hosts.ds2, configuration)?,
        ];
        let pair = Self {
            named: hosts.start_named()?,
            hosts,
            directors,
            configuration: configuration.to_owned(),
        };
        pair.wait_for_active(0)?;
        for director in [0, 1] {
            pair.wait_for_servers(director, &SERVERS)?;
        }
        Ok(pair)
    }

    /// ds1 or ds2.
    pub fn director(&self, index: usize) -> &Host {
        [&self.hosts.ds1, &self.hosts.ds2][index]
    }

    /// Starts a director again that has ended.
    pub fn restart_director(&mut self, index: usize) -> Result<()> {
        self.directors[index] = start_director(self.director(index), &self.configuration)?;
        Ok(())
    }

    /// What happens to a machine that loses its power: its link goes down with its programs.
    pub fn cut_off(&self, index: usize) -> Result<()> {
        let director = self.director(index);
        director.link_down("eth2")?;
        director.kill_processes();
        Ok(())
    }

    /// Boots a machine that was cut off, without what it held in memory, and starts its director.
    pub fn boot(&mut self, index: usize) -> Result<()> {
        let director = self.director(index);
        director.run("ipvsadm -C")?;
        director.run(&format!("ip address flush dev eth2 to {VIP}/32"))?;
        // Kept in files that a boot empties.
        director.run("rm -r /run/lvs-director")?;
        director.link_up("eth2")?;
        self.restart_director(index)
    }

    /// Waits until this director holds the VIP and the other one doesn't.
    pub fn wait_for_active(&self, index: usize) -> Result<Duration> {
        wait_until(
            &format!("{} alone holds the VIP", self.director(index).name()),
            PATIENCE,
            || self.director(index).holds(VIP) && !self.director(1 - index).holds(VIP),
        )
    }

    /// Waits until ds2 holds the VIP, whatever is left of a dead ds1.
    pub fn wait_for_successor(&self) -> Result<Duration> {
        let ds2 = &self.hosts.ds2;
        wait_until("ds2 holds the VIP", PATIENCE, || ds2.holds(VIP))
    }

    /// Waits until a director's table has exactly these real servers, by UDP and by TCP.
    pub fn wait_for_servers(&self, index: usize, servers: &[&str]) -> Result<Duration> {
        wait_until(
            &format!("{} forwards to {servers:?}", self.director(index).name()),
            PATIENCE,
            || {
                forwarding::table(self.director(index)).is_ok_and(|table| {
                    ["UDP", "TCP"].iter().all(|protocol| {
                        let mut found = servers_of(&table, protocol);
                        found.sort_unstable();
                        found == servers
                    })
                })
            },
        )
    }

    /// 50 questions a second from one port. An answer may take as long as a busy emulated machine stands
    /// still: nobody asks twice, so what was dropped is lost all the same.
    pub fn ask(&self) -> Load {
        self.questions().start(&self.hosts.client)
    }

    /// What [`Pair::ask`] asks.
    pub fn questions(&self) -> Questions {
        Questions::new(VIP)
            .from_port(SOURCE_PORT)
            .timeout(Duration::from_secs(2))
    }
}

/// What the table should be with the services of [`CONFIGURATION`] and these weights.
pub fn expected_table(weights: &[(&str, u32)]) -> Table {
    let mut table = Table::new();
    for (protocol, settings) in [("UDP", "wrr ops"), ("TCP", "wrr")] {
        table.insert(format!("{protocol} {VIP}:53 {settings}"));
        for (server, weight) in weights {
            table.insert(format!("{protocol} {VIP}:53 -> {server}:53 Route {weight}"));
        }
    }
    table
}

/// An emulated machine may stand still for longer than the others wait at adverts every 100 ms; then its
/// director steps down, which is no matter of most cases.
pub fn calm(yaml: &str) -> String {
    edited(yaml, "advert_interval: 100ms", "advert_interval: 500ms")
}

/// [`CONFIGURATION`] with other weights.
pub fn weighted(weights: [u32; 2]) -> String {
    let mut yaml = CONFIGURATION.to_owned();
    for (server, weight) in SERVERS.into_iter().zip(weights) {
        yaml = edited(
            &yaml,
            &format!("address: {server}, weight: 1"),
            &format!("address: {server}, weight: {weight}"),
        );
    }
    yaml
}

/// The file with one place changed.
///
/// # Panics
/// When there is no such place.
pub fn edited(yaml: &str, from: &str, to: &str) -> String {
    assert!(yaml.contains(from), "no `{from}` in\n{yaml}");
    yaml.replacen(from, to, 1)
}

/// How many answers each of the real servers gave.
pub fn shares(report: &Report) -> [usize; 2] {
    ANSWERS.map(|answer| report.answers_by(&answer.to_string()))
}

/// Fails when any question was not answered, and says when it was asked and what came instead.
pub fn nothing_lost(report: &Report) -> Result<()> {
    let unanswered = |attempt: &&Attempt| !matches!(attempt.outcome, Outcome::Answered { .. });
    let start = report.attempts.first().map(|attempt| attempt.sent);
    let losses = report.attempts.iter().filter(unanswered).map(|attempt| {
        let at = start.map_or(Duration::ZERO, |start| attempt.sent - start);
        format!("{:?} after {at:.3?}", attempt.outcome)
    });
    let losses: Vec<String> = losses.collect();
    ensure!(losses.is_empty(), "{report}: {}", losses.join(", "));
    Ok(())
}

/// Waits until so many questions were asked and their time is over, and returns exactly them.
pub fn first(load: Load, count: usize) -> Result<Report> {
    let start = Instant::now();
    while load.report().sent() < count {
        ensure!(start.elapsed() < PATIENCE, "a client that doesn't ask");
        sleep(Duration::from_millis(20));
    }
    let mut report = load.stop();
    report.attempts.truncate(count);
    Ok(report)
}

/// Fails when the two differ, and says in what.
pub fn same_table(what: &str, found: &Table, expected: &Table) -> Result<()> {
    let lines = |table: Vec<&String>| format!("{table:#?}");
    ensure!(
        found == expected,
        "{what}: missing {}, too many {}",
        lines(expected.difference(found).collect()),
        lines(found.difference(expected).collect())
    );
    Ok(())
}

/// The worker of a running `director run`.
pub fn worker(director: &Process) -> Result<i32> {
    let children = director.children();
    children.first().copied().context("a director's worker")
}

/// How much of a process is in memory, in KiB.
pub fn resident(process: i32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let amount = line.and_then(|line| line.split_whitespace().next());
    Ok(amount.context("no VmRSS")?.parse()?)
}

fn servers_of<'a>(table: &'a Table, protocol: &str) -> Vec<&'a str> {
    let service = format!("{protocol} {VIP}:53 -> ");
    let servers = table.iter().filter_map(|line| {
        let (server, _) = line.strip_prefix(&service)?.split_once(':')?;
        Some(server)
    });
    servers.collect()
}
