//! Anycast: routers send clients to the servers whose DNS answers, and to no others.
//!
//! The routing daemons on servers run the files of `deploy/anycast`, with nothing but addresses
//! replaced. Times are what a client sees.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::dns::Questions;
use crate::lab::{Host, Lab, Lan, wait_until};
use crate::routing::{self, CONVERGENCE};
use crate::traffic::{Load, Outcome, Report};

pub(super) mod bgp;
pub(super) mod bird;
pub(super) mod comparison;
pub(super) mod container;
pub(super) mod ospf;
mod server;
pub(super) mod static_route;
pub(super) mod tiers;

/// The VIP everywhere.
const VIP: std::net::Ipv4Addr = std::net::Ipv4Addr::new(6, 6, 6, 6);
/// The same, of the other family.
const VIP_6: std::net::Ipv6Addr = std::net::Ipv6Addr::new(0x2001, 0xdb8, 6, 0, 0, 0, 0, 6);

/// From the death of a DNS server to the VIP's end at the agent's defaults: 500 ms until the next
/// probe, 300 ms until it counts as lost, the same again in doubt, which comes five times as fast.
const DETECTION: Duration = Duration::from_millis(1300);
/// `throttle lsa` of the files: as long may a router wait before it tells what it has heard.
const TELLING: Duration = Duration::from_millis(100);
/// The longest pause of `throttle spf`.
const SHORTEST_PATHS: Duration = Duration::from_millis(500);
/// A dead interval: two hellos of 2 s each.
const DEAD_INTERVAL: Duration = Duration::from_secs(4);
/// From what a server says to the route at a router some hops away, by BGP, or by OSPF to the next
/// router. BGP has no timer to wait for at the defaults of FRR and BIRD; FRR recomputes aggregates and
/// best paths within a second.
const WITHDRAWN: Duration = Duration::from_secs(1);
/// What two processors that several dozen programs share may add.
const MARGIN: Duration = Duration::from_millis(700);

const INTERVAL: Duration = Duration::from_millis(10);
/// What a router drops is not sent again, so that only what was dropped has no answer by then.
const TIMEOUT: Duration = Duration::from_secs(1);
/// For so long only those answer who are meant to, until that counts.
const WINDOW: Duration = Duration::from_millis(400);

/// A client behind a router that has servers on its other LAN.
///
/// | host | clients | dns |
/// |---|---|---|
/// | client | 10.9.0.100/24 | |
/// | router | 10.9.0.1/24 | 10.211.77.1/24 |
struct Edge {
    client: Host,
    router: Host,
    dns: Lan,
}

impl Edge {
    fn new(lab: &mut Lab) -> Result<Self> {
        let clients = lab.add_lan("clients")?;
        let dns = lab.add_lan("dns")?;
        let client = lab.add_host("client")?;
        lab.attach(&client, "eth0", &clients, &["10.9.0.100/24"])?;
        client.run("ip route add default via 10.9.0.1")?;
        let router = lab.add_host("router")?;
        lab.attach(&router, "eth0", &clients, &["10.9.0.1/24"])?;
        lab.attach(&router, "eth1", &dns, &["10.211.77.1/24"])?;
        routing::forward(&router)?;
        Ok(Self {
            client,
            router,
            dns,
        })
    }
}

/// What a client saw of a change.
#[derive(Clone, Copy, Debug)]
struct Change {
    /// Questions without an answer.
    lost: usize,
    /// From the change to the last question that was lost.
    outage: Duration,
    /// From the change until only those answered who are meant to.
    moved: Duration,
}

/// Asks the VIP from `client` while `event` happens, until only `expected` answer, all of them.
fn change(
    client: &Host,
    vip: impl Into<IpAddr>,
    expected: &[&str],
    event: impl FnOnce() -> Result<()>,
) -> Result<Change> {
    let load = ask(client, vip);
    std::thread::sleep(Duration::from_millis(200));
    let at = Instant::now();
    event()?;
    settled(&load, expected)?;
    let report = load.stop().since(at);
    let last_other = report
        .attempts
        .iter()
        .rev()
        .find(|attempt| match &attempt.outcome {
            Outcome::Answered { by, .. } => !expected.contains(&by.as_str()),
            _ => false,
        })
        .map(|attempt| attempt.sent);
    let since =
        |moment: Option<Instant>| moment.map_or(Duration::ZERO, |moment| moment + INTERVAL - at);
    Ok(Change {
        lost: report.lost(),
        outage: since(report.last_loss()),
        moved: since(report.last_loss().max(last_other)),
    })
}

/// Waits until only `expected` answer, all of them.
fn answered_by(client: &Host, vip: impl Into<IpAddr>, expected: &[&str]) -> Result<()> {
    settled(&ask(client, vip), expected)
}

fn ask(client: &Host, vip: impl Into<IpAddr>) -> Load {
    let questions = Questions::at(vip).every(INTERVAL).timeout(TIMEOUT);
    questions.start(client)
}

fn settled(load: &Load, expected: &[&str]) -> Result<()> {
    let begin = Instant::now();
    let expected: BTreeSet<&str> = expected.iter().copied().collect();
    let recent = || -> Report {
        // None of these can still be answered.
        let end = Instant::now() - TIMEOUT - INTERVAL;
        load.report().between(begin.max(end - WINDOW), end)
    };
    wait_until("answers by those who are meant to", CONVERGENCE, || {
        let report = recent();
        let answers = report.answers();
        report.sent() >= 30
            && report.lost() == 0
            && answers
                .keys()
                .map(String::as_str)
                .eq(expected.iter().copied())
    })
    .with_context(|| format!("wanted {expected:?}, but: {}", recent()))?;
    Ok(())
}

/// How many of `count` flows each server answers.
fn spread(client: &Host, vip: impl Into<IpAddr>, count: usize) -> Result<Report> {
    let load = ask(client, vip);
    wait_until("enough questions", CONVERGENCE, || {
        load.report().sent() >= count
    })?;
    let report = load.stop();
    ensure!(report.lost() == 0, "{report}");
    Ok(report)
}

/// Where a host sends packets for the VIP.
fn ways_to_vip(host: &Host) -> BTreeSet<String> {
    routing::ways(host, &VIP.to_string()).unwrap_or_default()
}
