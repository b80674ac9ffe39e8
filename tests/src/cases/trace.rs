//! `director trace` against the kernel: the server that it names is the one that answers.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use director::control::{self, Answer, Basis, Request, Trace};

use crate::case::Case;
use crate::figures;
use crate::forwarding;
use crate::lab::{Lab, wait_until};
use crate::scenario::PATIENCE;
use crate::service_file::ServiceFile;
use crate::solo::{SERVERS, Solo};
use crate::topology::VIP;

/// The cases of this theme.
pub(super) const CASES: &[Case] = &[Case::new(
    "trace::the_server_that_is_named_is_the_one_that_answers",
    the_server_that_is_named_is_the_one_that_answers,
)
.needing_ipvs()];

/// With weights, since tables of hashes depend on them.
fn file(keys: &[&'static str]) -> String {
    let file = ServiceFile::new().over_udp();
    let file = keys.iter().fold(file, |file, key| file.with(key));
    let servers = SERVERS.iter().zip([3, 1, 2]);
    let file = servers.fold(file, |file, ((address, _), weight)| {
        file.server(address, weight)
    });
    file.to_string()
}

fn the_server_that_is_named_is_the_one_that_answers(lab: &mut Lab) -> Result<()> {
    const PORTS: std::ops::Range<u16> = 41_000..41_016;
    let hashes = |scheduler, flags| file(&[scheduler, flags]);
    let maglev = hashes("scheduler: mh", "scheduler_flags: [port, fallback]");
    let solo = Solo::start(lab, &maglev)?;
    let mut compared = 0_u32;
    let source = hashes("scheduler: sh", "scheduler_flags: [port, fallback]");
    for (scheduler, yaml) in [("mh", &maglev), ("sh", &source)] {
        solo.reload(yaml)?;
        for drained in [false, true] {
            let named = compare(&solo, PORTS, Basis::Hash)?;
            compared += u32::from(PORTS.end - PORTS.start);
            let first = SERVERS[0].0;
            ensure!(named.contains(first) != drained, "{scheduler}: {named:?}");
            ensure!(drained || named.len() > 1, "{scheduler}: {named:?}");
            let word = if drained { "enable" } else { "drain" };
            solo.host()
                .run(&format!("director {word} resolver/{first}"))?;
        }
    }
    // The address alone: all ports go to one server.
    solo.reload(&file(&["scheduler: mh"]))?;
    let named = compare(&solo, 41_000..41_004, Basis::Hash)?;
    ensure!(named.len() == 1, "{named:?}");
    compared += 4;
    figures::note(
        "answers that came from the server that a hash was said to pick",
        f64::from(compared),
        "of as many",
        None,
    );

    // Where order decides there are shares; an entry of the flow goes before it.
    let pinned = ["scheduler: wrr", "one_packet_scheduling: false"];
    solo.reload(&file(&pinned))?;
    let trace = ask(&solo, Some(42_000))?;
    let shares: Vec<f64> = trace.servers.iter().map(|part| part.share).collect();
    ensure!(
        trace.basis == Basis::Order && shares.len() == 3,
        "{trace:?}"
    );
    let sum: f64 = shares.iter().sum();
    ensure!(
        (sum - 1.0).abs() < 1e-9 && shares.contains(&0.5),
        "{trace:?}"
    );
    let answered = answer(&solo, 42_000)?;
    let trace = ask(&solo, Some(42_000))?;
    ensure!(
        trace.basis == Basis::Connection && names(&trace) == [answered],
        "{trace:?}"
    );
    ensure!(
        ask(&solo, Some(42_001))?.basis == Basis::Order,
        "another flow"
    );

    // A persistent client stays, whatever its port.
    solo.reload(&file(&[
        pinned[0],
        pinned[1],
        "persistence: { timeout: 60s }",
    ]))?;
    let answered = answer(&solo, 43_000)?;
    for port in [None, Some(43_001)] {
        let trace = ask(&solo, port)?;
        ensure!(
            trace.basis == Basis::Persistence && names(&trace) == [answered],
            "{trace:?}"
        );
    }

    // Nobody takes anything, and the command says so.
    solo.host().run("director drain resolver/*")?;
    wait_until("everybody is drained", PATIENCE, || {
        let table = forwarding::table(solo.host());
        table.is_ok_and(|table| {
            table
                .iter()
                .filter(|line| line.ends_with("Route 0"))
                .count()
                == 3
        })
    })?;
    let output = solo
        .host()
        .output("director", ["trace", "192.168.56.10:44000"], PATIENCE)?;
    ensure!(
        output.code() == Some(2),
        "{}{}",
        output.stdout,
        output.stderr
    );
    let expected = format!("resolver {VIP}:53/udp → nobody\n");
    ensure!(output.stdout.starts_with(&expected), "{}", output.stdout);
    Ok(())
}

/// Asks from each of these ports, and returns the servers that were named.
fn compare(
    solo: &Solo,
    ports: impl Iterator<Item = u16>,
    basis: Basis,
) -> Result<BTreeSet<&'static str>> {
    let mut all = BTreeSet::new();
    for port in ports {
        let trace = ask(solo, Some(port))?;
        let answered = answer(solo, port)?;
        ensure!(
            trace.basis == basis && names(&trace) == [answered],
            "from port {port} {answered} answers, and this was said: {trace:?}"
        );
        all.insert(answered);
    }
    Ok(all)
}

fn names(trace: &Trace) -> Vec<&str> {
    trace
        .servers
        .iter()
        .map(|part| part.server.as_str())
        .collect()
}

/// Who answers a question from this port.
fn answer(solo: &Solo, port: u16) -> Result<&'static str> {
    let answer = solo.questions().from_port(port).ask(&solo.hosts.client)?;
    let mut servers = SERVERS.iter();
    let found = servers.find(|(_, address)| address.to_string() == answer);
    Ok(found.with_context(|| format!("nobody answers {answer}"))?.0)
}

/// What the director says of a question from this port.
fn ask(solo: &Solo, port: Option<u16>) -> Result<Trace> {
    let request = Request::Trace {
        client: "192.168.56.10".parse()?,
        port,
        service: Some("resolver".to_owned()),
        protocol: None,
    };
    let answer = solo.host().within(move || {
        let directory = Path::new("/run/lvs-director");
        control::ask(directory, &request, Duration::from_secs(10))
    })?;
    match answer {
        Answer::Trace(mut tracing) => tracing.traces.pop().context("no trace"),
        other => anyhow::bail!("{other:?}"),
    }
}
