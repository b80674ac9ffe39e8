//! Two agents on one machine at once.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;

use super::{LIMIT, State, agent, settled_hosts, succeeds};
use crate::lab::{Host, Lab, Process};
use crate::topology::VIP;

/// How often an agent may be too fast to be caught at its work.
const ATTEMPTS: usize = 100;

/// Each waits for the other as long as that takes; one that waits in vain names the other, and has
/// changed nothing.
pub(super) fn one_wins_and_the_other_says_who(lab: &mut Lab) -> Result<()> {
    let (_, host) = settled_hosts(lab)?;
    let found = State::of(&host)?;
    for _ in 0..10 {
        let verbs = ["start", "start", "reload"];
        let agents: Result<Vec<Process>> = verbs.iter().map(|verb| spawn(&host, verb)).collect();
        for mut agent in agents? {
            ensure!(agent.wait(LIMIT)?.success(), "{}", agent.log());
        }
        ensure!(host.holds(VIP), "no VIP");
        succeeds(&host, "stop", "stop")?;
        found.is_still(&host)?;
    }

    let mut first = caught_at_work(&host)?;
    let began = Instant::now();
    let second = agent(&host, "start --vip 192.168.56.186")?;
    let waited = began.elapsed();
    let named = format!("(process {}, `", first.pid());
    ensure!(
        !second.success() && second.stderr.contains(&named),
        "{second:?}"
    );
    ensure!(
        second.stderr.contains("reload --vip") && second.stderr.contains("nothing was changed"),
        "{second:?}"
    );
    ensure!(
        !host.holds(std::net::Ipv4Addr::new(192, 168, 56, 186)),
        "the second changed something"
    );
    first.signal(Signal::SIGCONT)?;
    ensure!(first.wait(LIMIT)?.success(), "{}", first.log());
    succeeds(&host, "stop", "stop")?;
    found.is_still(&host)?;
    println!(
        "measured: the second gave up after {:.1} s and named the first",
        waited.as_secs_f64()
    );
    Ok(())
}

fn spawn(host: &Host, verb: &str) -> Result<Process> {
    host.spawn("rs-agent", [verb, "--vip", "192.168.56.185"])
}

/// An agent that is stopped in the middle, holding the lock.
fn caught_at_work(host: &Host) -> Result<Process> {
    for _ in 0..ATTEMPTS {
        let mut agent = spawn(host, "reload")?;
        let id = agent.pid().to_string();
        while agent.is_running()
            && lock(host).and_then(|(_, text)| holder(&text)) != Some(id.clone())
        {}
        if agent.is_running() {
            agent.signal(Signal::SIGSTOP)?;
            // It may have let go before the signal came.
            if is_locked(host)? {
                return Ok(agent);
            }
            agent.signal(Signal::SIGCONT)?;
        }
        agent.wait(LIMIT)?;
        succeeds(host, "stop", "stop")?;
    }
    bail!("no agent was caught at its work in {ATTEMPTS} attempts")
}

/// The lock's file and what is in it.
fn lock(host: &Host) -> Option<(PathBuf, String)> {
    host.within(|| {
        let mut files = fs::read_dir("/run/rs-agent").ok()?.flatten();
        let file = files.find(|file| file.file_name().to_string_lossy().starts_with("lock-"))?;
        Some((file.path(), fs::read_to_string(file.path()).ok()?))
    })
}

fn holder(signature: &str) -> Option<String> {
    Some(signature.lines().next()?.to_owned())
}

fn is_locked(host: &Host) -> Result<bool> {
    let (path, _) = lock(host).context("no lock")?;
    let path = path.to_string_lossy().into_owned();
    Ok(!host
        .output("flock", ["--nonblock", &path, "true"], LIMIT)?
        .success())
}
