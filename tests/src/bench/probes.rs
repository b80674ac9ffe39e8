//! How many probes a second cost what, on the host's kernel: thousands of servers in one namespace,
//! and a director that is Active and forwards nothing.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::io::Write;
use std::net::Ipv4Addr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::meter;
use crate::capture::Capture;
use crate::crowd::{self, Crowd, Question};
use crate::http;
use crate::lab::{Host, Lab, Process, wait_until};
use crate::stall::{self, NAP, Stall, Watchers};
use crate::topology::start_director;

/// The numbers of servers that are probed five times a second.
pub const CROWDS: &[u16] = &[250, 500, 1000, 2000];
/// Between two probes of a server.
const INTERVAL: Duration = Duration::from_millis(200);
/// Between two adverts.
const ADVERT_INTERVAL: Duration = Duration::from_millis(100);
/// How long is measured.
const MEASURED: Duration = Duration::from_secs(20);
/// Until all have their verdicts.
const PATIENCE: Duration = Duration::from_secs(20);
/// One server in so many is silent.
const SILENT: u16 = 50;

/// The heading of the section that this fills.
pub const HEADING: &str = "## To probe";

/// What probing so many servers has cost.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    servers: u16,
    /// Counted by the servers.
    probes_per_second: f64,
    /// Parts of a processor, of supervisor and worker.
    processors: f64,
    /// Bytes of both, with what they share counted twice.
    resident: u64,
    /// The same with what they share counted once.
    proportional: u64,
    /// The longest time between two adverts, less the interval.
    lateness: Duration,
    /// The same less the time in which a processor stood still.
    own_lateness: Duration,
    /// The longest time in which a processor stood still.
    stall: Duration,
    /// From the first probe until each server that answers was healthy.
    first_verdicts: Duration,
    /// The most queries of one server in a row from one port.
    longest_run: usize,
}

/// Probes so many servers, one number after the other, and tells how far it is.
///
/// # Errors
/// When a verdict is wrong, or a port or an identifier is kept for too long.
pub fn run(crowds: &[u16], out: &mut dyn Write) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for servers in crowds {
        let mut lab = Lab::new("probes")?;
        let row = probe(&mut lab, *servers)
            .with_context(|| format!("{servers} servers\n{}", lab.logs(20)))?;
        writeln!(out, "{row:?}")?;
        rows.push(row);
    }
    Ok(rows)
}

/// The section of the document.
pub fn section(rows: &[Row], date: &str) -> String {
    let mut text = format!(
        "{HEADING}\n\n\
         Measured on {date} on this machine, whose two processors the servers share: every server is asked \
         for an A record over UDP each {INTERVAL:?}, one in {SILENT} is silent. The director is Active \
         with adverts every {ADVERT_INTERVAL:?}, and forwards nothing. Each row is {MEASURED:?} long; \
         probes are counted by the servers, adverts by a neighbour. Memory is that of supervisor and \
         worker together; proportional is without counting twice what they share. On each processor a thread \
         of the benchmark with a priority above the one that sends adverts does nothing but sleep for {NAP:?} \
         at a time: what it oversleeps is a stall of the machine, whose own machine or kernel was busy, and \
         isn't counted where it says without stalls.\n\n\
         | servers | probes a second | processor | resident | proportional | latest advert | \
         without stalls | longest stall | first verdicts | queries from a port |\n\
         |---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n"
    );
    for row in rows {
        let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
        let _ = writeln!(
            text,
            "| {} | {:.0} | {:.0} % | {:.1} MiB | {:.1} MiB | {:.1} ms | {:.1} ms | {:.1} ms | {:.0} ms | {} |",
            row.servers,
            row.probes_per_second,
            row.processors * 100.0,
            mebibytes(row.resident),
            mebibytes(row.proportional),
            milliseconds(row.lateness),
            milliseconds(row.own_lateness),
            milliseconds(row.stall),
            milliseconds(row.first_verdicts),
            row.longest_run,
        );
    }
    text
}

fn is_silent(server: Ipv4Addr) -> bool {
    let [_, _, high, low] = server.octets();
    u16::from_be_bytes([high, low]).is_multiple_of(SILENT)
}

fn probe(lab: &mut Lab, servers: u16) -> Result<Row> {
    let lan = lab.add_lan("lan")?;
    let [director, crowd, neighbour] =
        ["director", "crowd", "neighbour"].map(|name| lab.add_host(name));
    let (director, crowd, neighbour) = (director?, crowd?, neighbour?);
    for (host, number) in [(&director, 1), (&crowd, 2), (&neighbour, 3)] {
        lab.attach(host, "eth0", &lan, &[format!("192.168.56.{number}/24")])?;
    }
    director.run(&format!("ip route add {} via 192.168.56.2", crowd::NETWORK))?;
    let answering = Crowd::start(&crowd, is_silent)?;
    let capture = Capture::start(&neighbour)?;
    let process = start_director(&director, &configuration(servers))?;
    let silent = usize::from(servers / SILENT);
    let healthy = usize::from(servers) - silent;
    wait_until("a first question", PATIENCE, || {
        !answering.questions().is_empty()
    })?;
    // Until the silent ones are settled too, and the VIP is here; asking for metrics would disturb.
    sleep(Duration::from_secs(3));
    wait_until("verdicts", PATIENCE, || {
        healthy_servers(&director).is_ok_and(|found| found.len() == healthy)
    })?;
    let first_verdicts = first_answers(&answering.questions(), healthy)?;

    answering.forget();
    let processes = processes(&process);
    let (before, adverts_before) = (meter::processor_time(&processes), capture.adverts().len());
    let watchers = Watchers::start()?;
    sleep(MEASURED);
    let stalls = watchers.stop()?;
    let spent = meter::processor_time(&processes) - before;
    let questions = answering.questions();
    let adverts = capture.adverts().split_off(adverts_before);
    let (resident, proportional) = meter::memory(&processes)?;

    let found = healthy_servers(&director)?;
    let wrong = (1..=servers).find(|number| {
        let server = crowd::server(*number);
        found.contains(&server) == is_silent(server)
    });
    ensure!(wrong.is_none(), "server {wrong:?} has a wrong verdict");
    let times: Vec<Instant> = adverts.iter().map(|(frame, _)| frame.at).collect();
    ensure!(times.len() > 1, "no adverts");
    let (lateness, own_lateness) = stall::lateness(&times, ADVERT_INTERVAL, &stalls);
    let longest_run = longest_run(&questions);
    ensure!(longest_run <= 16, "{longest_run} queries from one port");
    judge_identifiers(&questions)?;
    Ok(Row {
        servers,
        probes_per_second: questions.len() as f64 / MEASURED.as_secs_f64(),
        processors: spent.as_secs_f64() / MEASURED.as_secs_f64(),
        resident,
        proportional,
        lateness,
        own_lateness,
        stall: stalls.iter().map(Stall::length).max().unwrap_or_default(),
        first_verdicts,
        longest_run,
    })
}

/// Supervisor and worker.
fn processes(supervisor: &Process) -> Vec<i32> {
    let mut processes = supervisor.children();
    processes.push(supervisor.pid());
    processes
}

fn configuration(servers: u16) -> String {
    let mut text = format!(
        "dataplane: none
vrrp:
  - {{ name: dns, interface: eth0, virtual_router_id: 50, priority: 200, advert_interval: {ADVERT_INTERVAL:?}, addresses: [192.168.56.10/24] }}
services:
  - name: resolver
    address: 192.168.56.10
    port: 53
    protocols: [udp]
    check: {{ dns: {{ name: www.abc.local }}, interval: {INTERVAL:?}, timeout: 150ms }}
    real_servers:
"
    );
    for number in 1..=servers {
        let _ = writeln!(text, "      - {{ address: {} }}", crowd::server(number));
    }
    text + "metrics: { listen: \"127.0.0.1:9712\" }\n"
}

fn healthy_servers(host: &Host) -> Result<HashSet<Ipv4Addr>> {
    let text = http::get(host, ([127, 0, 0, 1], 9712).into(), "/metrics")?;
    let series = text.lines().filter_map(|line| {
        let line = line.strip_prefix("director_real_server_healthy{")?;
        let (_, rest) = line.strip_suffix(" 1")?.split_once("real_server=\"")?;
        rest.split('"').next()?.parse().ok()
    });
    Ok(series.collect())
}

/// From the first question of all until the last of the first questions of those that answer: they
/// are healthy a moment later.
fn first_answers(questions: &[Question], expected: usize) -> Result<Duration> {
    let mut first = HashMap::new();
    for question in questions {
        if !is_silent(question.server) {
            first.entry(question.server).or_insert(question.at);
        }
    }
    ensure!(first.len() == expected, "{} were asked", first.len());
    let (begin, end) = (first.values().min(), first.values().max());
    Ok(*end.context("no questions")? - *begin.context("no questions")?)
}

fn longest_run(questions: &[Question]) -> usize {
    let mut runs = HashMap::<Ipv4Addr, (u16, usize)>::new();
    let mut longest = 0;
    for question in questions {
        let (port, length) = runs.entry(question.server).or_insert((question.port, 0));
        if *port != question.port {
            (*port, *length) = (question.port, 0);
        }
        *length += 1;
        longest = longest.max(*length);
    }
    longest
}

/// No pattern from one to the next of a server, and all of them used.
fn judge_identifiers(questions: &[Question]) -> Result<()> {
    let mut last = HashMap::new();
    let (mut pairs, mut near) = (0_usize, 0_usize);
    let mut seen = HashSet::new();
    for question in questions {
        seen.insert(question.identifier);
        if let Some(previous) = last.insert(question.server, question.identifier) {
            pairs += 1;
            near += usize::from(question.identifier.wrapping_sub(previous).wrapping_add(8) <= 16);
        }
    }
    // 17 of 65,536 by chance.
    ensure!(
        near * 1000 <= pairs + 10_000,
        "{near} of {pairs} identifiers are near the one before"
    );
    let drawn = questions.len() as f64;
    let expected = 65_536.0 * (1.0 - (-drawn / 65_536.0).exp());
    ensure!(
        seen.len() as f64 > 0.95 * expected,
        "{} of {} identifiers differ",
        seen.len(),
        questions.len()
    );
    Ok(())
}
