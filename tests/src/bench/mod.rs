//! `make bench`: the director beside keepalived and ipvsadm, with the same table, in one run.
//!
//! Seconds mean little on a machine that is emulated and shared; ratios between programs that ran
//! one after the other on it do, and counts of system calls and netlink messages hold anywhere.

mod contestant;
pub mod deaths;
mod meter;
pub mod probes;
mod report;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::lab::{Host, Lab};
use contestant::{Contestant, Director, Ipvsadm, Keepalived};
use meter::{Cost, Netlink, Snapshot};

pub use report::document;

/// Virtual services of the table.
pub const SERVICES: usize = 500;
/// Real servers of each.
pub const SERVERS: usize = 4;
/// How often each program plays all phases.
pub const ROUNDS: usize = 3;

/// A phase may take this long.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is measured where there is IPVS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Large tables.
    Tables,
    /// What is lost when servers die: [`deaths`].
    Deaths,
}

/// What a program is made to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The whole table, into an empty kernel, from the start of the program.
    Program,
    /// Its configuration is read again, and is the same.
    ReloadSame,
    /// Its configuration is read again, and has one more server.
    ReloadOneMore,
    /// Nothing is left of it.
    Teardown,
}

impl Phase {
    /// In order.
    pub const ALL: [Self; 4] = [
        Self::Program,
        Self::ReloadSame,
        Self::ReloadOneMore,
        Self::Teardown,
    ];
}

/// What one program has cost.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// One for each round.
    pub costs: Vec<(Phase, Cost)>,
    /// System calls on sockets in each phase, from a round under strace.
    pub socket_calls: Vec<(Phase, usize)>,
    /// Bytes of all its processes together, once the table is there.
    pub resident: u64,
    /// The same without what they share.
    pub proportional: u64,
    /// Processor time of a minute in which nothing happens.
    pub idle_minute: Duration,
}

/// Plays all phases with all programs, and tells how far it is.
///
/// # Errors
/// When a program doesn't do what it is asked.
pub fn run(lab: &mut Lab, out: &mut dyn Write) -> Result<Vec<(&'static str, Figures)>> {
    let host = lab.add_host("bench")?;
    host.link_up("lo")?;
    host.run("ip link add nlmon0 type nlmon")?;
    host.link_up("nlmon0")?;
    let netlink = Netlink::start(&host)?;
    let mut all = Vec::new();
    let contestants: [&mut dyn Contestant; 3] = [
        &mut Director::new(&host)?,
        &mut Keepalived::new(&host),
        &mut Ipvsadm::new(&host),
    ];
    for contestant in contestants {
        let mut figures = Figures::default();
        for round in 0..ROUNDS {
            writeln!(
                out,
                "{}: round {} of {ROUNDS}",
                contestant.name(),
                round + 1
            )?;
            play(&host, contestant, &netlink, &mut figures)?;
        }
        writeln!(out, "{}: under strace", contestant.name())?;
        let trace = lab
            .directory()
            .join(format!("strace-{}.txt", contestant.name()));
        fs::write(&trace, "")?;
        count_socket_calls(&host, contestant, &netlink, &trace, &mut figures)?;
        all.push((contestant.name(), figures));
    }
    Ok(all)
}

fn play(
    host: &Host,
    contestant: &mut dyn Contestant,
    netlink: &Netlink,
    figures: &mut Figures,
) -> Result<()> {
    for phase in Phase::ALL {
        let before = Snapshot::take(&contestant.processes(), netlink);
        let Some(cost) = perform(contestant, phase, netlink, &before, None)? else {
            continue;
        };
        figures.costs.push((phase, cost));
        let expected = match phase {
            Phase::Program | Phase::ReloadSame => SERVICES * SERVERS,
            Phase::ReloadOneMore => SERVICES * SERVERS + 1,
            Phase::Teardown => 0,
        };
        let found = servers(host)?;
        ensure!(
            found == expected,
            "{}: {found} servers after {phase:?} instead of {expected}",
            contestant.name()
        );
        if phase == Phase::Program {
            let processes = contestant.processes();
            if !processes.is_empty() {
                figures.idle_minute = meter::idle_minute(&processes)?;
                // What it takes for good, rather than what it took to get here.
                (figures.resident, figures.proportional) = meter::memory(&processes)?;
            }
        }
    }
    Ok(())
}

fn count_socket_calls(
    host: &Host,
    contestant: &mut dyn Contestant,
    netlink: &Netlink,
    trace: &Path,
    figures: &mut Figures,
) -> Result<()> {
    for phase in Phase::ALL {
        let calls = meter::calls(trace)?;
        let before = Snapshot::take(&contestant.processes(), netlink);
        let done = perform(contestant, phase, netlink, &before, Some(trace))?.is_some();
        // Under strace, on an emulated processor, a program may be too slow for its own supervisor.
        if done && (phase != Phase::Teardown || servers(host)? == 0) {
            let calls = meter::calls(trace)? - calls;
            figures.socket_calls.push((phase, calls));
        }
    }
    host.run("ipvsadm -C")?;
    Ok(())
}

/// What the phase has cost; nothing if the program has no such thing.
fn perform(
    contestant: &mut dyn Contestant,
    phase: Phase,
    netlink: &Netlink,
    before: &Snapshot,
    trace: Option<&Path>,
) -> Result<Option<Cost>> {
    let what = format!("{} in {phase:?}", contestant.name());
    match phase {
        Phase::Program => {
            let changes = netlink.changes() + SERVICES * (1 + SERVERS);
            contestant.start(trace).with_context(|| what.clone())?;
            netlink.wait_for_changes(changes, PATIENCE).context(what)?;
        }
        Phase::ReloadSame | Phase::ReloadOneMore => {
            let more = phase == Phase::ReloadOneMore;
            if !contestant.reload(more).with_context(|| what.clone())? {
                return Ok(None);
            }
            if !contestant.says_when_done() {
                let end = before.wait_until_quiet(&contestant.processes(), PATIENCE)?;
                return Ok(Some(before.cost_until(end, netlink)));
            }
        }
        Phase::Teardown => contestant.stop(PATIENCE).context(what)?,
    }
    Ok(Some(before.cost(&contestant.processes(), netlink)))
}

fn servers(host: &Host) -> Result<usize> {
    let table = host.within(|| fs::read_to_string("/proc/thread-self/net/ip_vs"))?;
    let servers = table.lines().filter(|line| line.starts_with("  -> "));
    // The head has such a line too.
    Ok(servers.count().saturating_sub(1))
}
