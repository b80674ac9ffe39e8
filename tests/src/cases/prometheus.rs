//! A real Prometheus, and what it gets of both programs.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::metrics::promtool_accepts;
use crate::case::Case;
use crate::dashboard::{self, Query};
use crate::http;
use crate::lab::{Host, Lab, Process, wait_until};
use crate::metrics_page::{Families, Page, add_scrape};
use crate::name_servers::{Period, named, sign};
use crate::prometheus::{Prometheus, RULES};
use crate::responder::Responder;
use crate::scenario::{PATIENCE, edited};
use crate::service_file::ServiceFile;
use crate::solo::Solo;
use crate::topology::{DnsPair, VIP, director_file, start_director};
use crate::traffic::Load;

/// The cases of this theme.
pub(super) const CASES: &[Case] = &[
    Case::new(
        "prometheus::sees_a_failover_and_the_page_says_the_same",
        sees_a_failover_and_the_page_says_the_same,
    )
    .needing_operator(),
    Case::new(
        "prometheus::sees_no_more_of_what_was_removed",
        sees_no_more_of_what_was_removed,
    )
    .needing_operator(),
    Case::new(
        "prometheus::sees_what_the_kernel_counts",
        sees_what_the_kernel_counts,
    )
    .needing_ipvs(),
];

const INTERVAL: Duration = Duration::from_secs(1);
const DIRECTORS: [&str; 2] = ["192.168.56.181", "192.168.56.182"];
const AGENTS: [&str; 3] = ["192.168.56.183", "192.168.56.184", "192.168.56.190"];
const ANYCAST_VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 53);

/// All that a director can tell of without IPVS.
const CONFIGURATION: &str = r#"dataplane: none
metrics: { listen: "0.0.0.0:9712" }
vrrp:
  - name: dns
    interface: eth2
    virtual_router_id: 50
    priority: { ds1: 200, ds2: 150 }
    # Each change of role is counted here, and none may be for a machine that has other work.
    advert_interval: 500ms
    addresses: [192.168.56.185/24]
services:
  - name: dns
    address: 192.168.56.185
    port: 53
    protocols: [udp, tcp]
    check:
      - dns: { name: good.local, type: SOA }
        interval: 500ms
        timeout: 300ms
      - agent: {}
        port: 5301
        interval: 1s
        timeout: 500ms
    watch: { interval: 1s, zones: [{ name: good.local }] }
    real_servers: [{ address: 192.168.56.183 }, { address: 192.168.56.184 }]
  - name: validating
    address: 192.168.56.186
    external: true
    port: 53
    protocols: [udp]
    check: { dns: { name: good.local, type: SOA } }
    watch: { interval: 1s, dnssec: { signed: good.local, bogus: bad.local } }
    pool: { floor: 2 }
    real_servers: [{ address: 192.168.56.183 }, { address: 192.168.56.184 }]
"#;

/// Two directors, two real servers with agents, an anycast node, and a machine that scrapes them all.
struct Site {
    hosts: DnsPair,
    anycast: Host,
    monitor: Host,
    name_servers: [Process; 2],
    _agents: [Process; 3],
    _responders: [Responder; 2],
    _directors: [Process; 2],
}

impl Site {
    fn start(lab: &mut Lab, configuration: &str) -> Result<Self> {
        let hosts = DnsPair::with_service_lan_only(lab)?;
        let mut add = |name: &str, address: &str| -> Result<Host> {
            let host = lab.add_host(name)?;
            lab.attach(&host, "eth2", &hosts.service_lan, &[address])?;
            Ok(host)
        };
        let anycast = add("anycast", "192.168.56.190/24")?;
        let monitor = add("monitor", "192.168.56.20/24")?;
        let serve = |host: &Host, address: &str| -> Result<Process> {
            let zone = host.write_file("zones/good.zone", ZONE)?;
            sign(host, "good.local", &zone, Period::Now)?;
            let options = "type primary; file \"good.zone.signed\";";
            named(host, address.parse()?, &[("good.local", options)])
        };
        let name_servers = [serve(&hosts.rs1, AGENTS[0])?, serve(&hosts.rs2, AGENTS[1])?];
        let real_server = format!("vips: [{VIP}]\n");
        let node = format!(
            "mode: anycast\nvips: [{{ address: {ANYCAST_VIP}, check: {{ dns: {{ name: www.abc.local }} }} }}]\n"
        );
        Ok(Self {
            // Where the agent asks, and where it asks once the VIP is there.
            _responders: [
                Responder::start(&anycast, Ipv4Addr::LOCALHOST, ANYCAST_VIP)?,
                Responder::start(&anycast, ANYCAST_VIP, ANYCAST_VIP)?,
            ],
            _agents: [
                start_agent(&hosts.rs1, &real_server)?,
                start_agent(&hosts.rs2, &real_server)?,
                start_agent(&anycast, &node)?,
            ],
            _directors: [
                start_director(&hosts.ds1, configuration)?,
                start_director(&hosts.ds2, configuration)?,
            ],
            name_servers,
            hosts,
            anycast,
            monitor,
        })
    }

    /// What every director and every agent shows now.
    fn scrapes(&self) -> Result<Vec<String>> {
        let directors = DIRECTORS.iter().map(|address| (address, 9712));
        let agents = AGENTS.iter().map(|address| (address, 9154));
        let targets = directors.chain(agents);
        targets
            .map(|(address, port)| {
                let target = SocketAddr::new(address.parse()?, port);
                http::get(&self.monitor, target, "/metrics")
            })
            .collect()
    }
}

const ZONE: &str = "$TTL 60\n@ IN SOA ns root 1 3600 600 86400 60\n@ IN NS ns\nns IN A 127.0.0.1\n";

fn start_agent(host: &Host, yaml: &str) -> Result<Process> {
    let run = "run: { agent_check: \"0.0.0.0:5301\", metrics: \"0.0.0.0:9154\" }\n";
    let file = host.write_file("rs-agent.yaml", &format!("{yaml}{run}"))?;
    host.spawn("rs-agent", ["run", "--config", &file.to_string_lossy()])
}

fn sees_a_failover_and_the_page_says_the_same(lab: &mut Lab) -> Result<()> {
    let mut site = Site::start(lab, CONFIGURATION)?;
    let prometheus = Prometheus::start(&site.monitor, &DIRECTORS, &AGENTS, INTERVAL)?;
    let until = |what: &str, expression: &str, value: f64| -> Result<()> {
        wait_until(what, PATIENCE, || {
            prometheus.value(expression) == Some(value)
        })
        .map(|_| ())
        .with_context(|| format!("{expression}: {:?}", prometheus.now(expression)))
    };
    let mut seen = Families::new();
    let look = |site: &Site, seen: &mut Families| -> Result<()> {
        for text in site.scrapes()? {
            add_scrape(&text, seen)?;
        }
        Ok(())
    };
    until("all are scraped", "sum(up)", 5.0)?;
    // Two directors, two servers, UDP and TCP.
    let taking_part = "sum(director_real_server_state{state=\"in\",service=\"dns\"})";
    until("all servers are in", taking_part, 8.0)?;
    let announced = "sum(rs_agent_announcement{state=\"announced\"})";
    until("the anycast VIP is there", announced, 1.0)?;
    until("ds1 is Active", &active(DIRECTORS[0]), 1.0)?;
    until("ds2 stands by", &active(DIRECTORS[1]), 0.0)?;
    look(&site, &mut seen)?;

    // What an operator and a stranger do.
    let ds1 = &site.hosts.ds1;
    ds1.run("director drain dns/192.168.56.184 --for 1h")?;
    until("the drain is seen", "count(director_real_server_hand)", 2.0)?;
    site.hosts
        .client
        .add_address("eth2", &format!("{VIP}/32"))?;
    until("the claim is seen", "sum(director_vip_claimants)", 1.0)?;
    look(&site, &mut seen)?;
    let client = &site.hosts.client;
    client.run(&format!("ip address del {VIP}/32 dev eth2"))?;
    until("it is over", "sum(director_vip_claimants)", 0.0)?;
    site.name_servers[1].kill();
    let failing = "count(director_real_server_failing{real_server=\"192.168.56.184\"}) > bool 4";
    until("a dead server is seen", failing, 1.0)?;

    // The Active is cut off, and comes back.
    let changes = || {
        [("active", "nothing_heard"), ("backup", "outranked")].map(|(state, reason)| {
            let labels = format!(
                "instance=\"{}:9712\",state=\"{state}\",reason=\"{reason}\"",
                DIRECTORS[1]
            );
            prometheus.value(&format!("director_vrrp_transitions_total{{{labels}}}"))
        })
    };
    let before = changes();
    site.hosts.ds1.split_off("eth2")?;
    until("ds2 has taken over", &active(DIRECTORS[1]), 1.0)?;
    until("ds1 is out of reach", "sum(up{job=\"director\"})", 1.0)?;
    site.hosts.ds1.rejoin("eth2")?;
    until("all are scraped again", "sum(up)", 5.0)?;
    until("ds1 is Active again", &active(DIRECTORS[0]), 1.0)?;
    until("ds2 stands by again", &active(DIRECTORS[1]), 0.0)?;
    look(&site, &mut seen)?;

    let after = changes();
    let once =
        |(before, after): (&Option<f64>, &Option<f64>)| *after == before.map(|old| old + 1.0);
    ensure!(
        before.iter().zip(&after).all(once) && before[0].is_some(),
        "ds2's changes of role: {before:?}, then {after:?}"
    );
    what_prometheus_has(&prometheus)?;
    let page = Page::read()?;
    let wrong = page.disagreements(&page.of_programs, &seen);
    ensure!(wrong.is_empty(), "docs/metrics.md: {wrong:#?}");
    println!(
        "measured: {} families on the page and in scrapes",
        seen.len()
    );
    for text in site.scrapes()? {
        promtool_accepts(&site.monitor, &text)?;
    }
    let queries = dashboard::queries(INTERVAL)?.into_iter();
    answered(
        &prometheus,
        queries.filter(|query| !page.asks_the_kernel(query)),
        30,
    )?;
    for choice in dashboard::choices()? {
        let series = prometheus.now(&choice.metric)?;
        let offered = series
            .iter()
            .all(|one| one.labels[&choice.label].is_string());
        ensure!(offered && !series.is_empty(), "{choice:?} offers nothing");
    }
    let (failed, evaluated) = prometheus.rules()?;
    ensure!(failed.is_empty(), "{failed:#?}");
    let alerts: usize = RULES
        .iter()
        .map(|(_, rules)| rules.matches("- alert:").count())
        .sum();
    ensure!(evaluated == alerts, "{evaluated} of {alerts} rules");
    Ok(())
}

/// The expression of whether a director is Active.
fn active(address: &str) -> String {
    format!("director_vrrp_state{{instance=\"{address}:9712\",state=\"active\"}}")
}

/// What happened, in Prometheus' figures.
fn what_prometheus_has(prometheus: &Prometheus) -> Result<()> {
    // What was scraped: it may have been Active for less than an interval.
    let role = prometheus.now(&format!("{}[10m]", active(DIRECTORS[1])))?;
    let mut roles = role.first().context("no roles")?.values.clone();
    roles.dedup();
    ensure!(
        roles.ends_with(&[0.0, 1.0, 0.0]),
        "ds2 was Active: {roles:?}"
    );
    let ds2 = format!("instance=\"{}:9712\"", DIRECTORS[1]);
    // 1,707 ms are waited for, so that an advert each 500 ms comes after 0.29 of it.
    let share = |bound: &str| {
        let ratio = "director_vrrp_advert_interval_ratio";
        prometheus.value(&format!(
            "{ratio}_bucket{{{ds2},le=\"{bound}\"}} / ignoring (le) {ratio}_count{{{ds2}}}"
        ))
    };
    let (early, in_order) = (share("0.2").context("none")?, share("0.4").context("none")?);
    println!(
        "measured: {:.1} % of adverts in good order",
        in_order * 100.0
    );
    ensure!(early < 0.1 && in_order > 0.9, "{early} and {in_order}");
    // Looked at every 500 ms at least.
    for address in DIRECTORS {
        let looks = format!(
            "rate(director_vrrp_thread_lateness_seconds_count{{instance=\"{address}:9712\"}}[10s])"
        );
        let looks = prometheus.value(&looks).context("no lateness")?;
        ensure!(looks > 1.0, "{address}: {looks} a second");
    }
    Ok(())
}

/// Each of these has a series with a number, at least at some time.
fn answered(
    prometheus: &Prometheus,
    queries: impl Iterator<Item = Query>,
    least: usize,
) -> Result<()> {
    let mut unanswered = Vec::new();
    let mut count = 0;
    for query in queries {
        let series = prometheus.since_start(&query.expression);
        let series = series.with_context(|| format!("{query:?}"))?;
        if !series.iter().any(|one| !one.values.is_empty()) {
            unanswered.push(query);
        }
        count += 1;
    }
    ensure!(unanswered.is_empty(), "no data for {unanswered:#?}");
    ensure!(count >= least, "{count} queries only");
    println!("measured: {count} queries of the dashboard have data");
    Ok(())
}

fn sees_no_more_of_what_was_removed(lab: &mut Lab) -> Result<()> {
    const MORE: &str = "  - name: gone-router
    interface: eth2
    virtual_router_id: 51
    priority: { ds1: 200, ds2: 150 }
    advert_interval: 100ms
    addresses: [192.168.56.187/24]
services:
  - name: gone-service
    address: 192.168.56.187
    port: 53
    protocols: [udp]
    check: { dns: { name: good.local, type: SOA } }
    watch: { interval: 1s, zones: [{ name: gone.local }] }
    real_servers: [{ address: 192.168.56.183 }, { address: 192.168.56.199 }]
";
    const SERVER: &str = "{ address: 192.168.56.183 }, ";
    let site = Site::start(lab, &edited(CONFIGURATION, "services:\n", MORE))?;
    let director = SocketAddr::new(DIRECTORS[0].parse()?, 9712);
    let scrape = || http::get(&site.monitor, director, "/metrics");
    let gone = [
        "gone-",
        "192.168.56.187",
        "192.168.56.184",
        "192.168.56.199",
    ];
    wait_until("all is there", PATIENCE, || {
        scrape().is_ok_and(|text| {
            let all = ["gone-router", "gone-service", "192.168.56.184"];
            let zones = "director_zone_serial{real_server=\"192.168.56.184\"";
            all.iter().chain([&zones]).all(|part| text.contains(part))
        })
    })?;
    site.hosts.client.add_address("eth2", "192.168.56.187/32")?;
    wait_until("the claim is seen", PATIENCE, || {
        scrape().is_ok_and(|text| text.contains("address=\"192.168.56.187\""))
    })?;
    let less = CONFIGURATION
        .replace(SERVER, "")
        .replace("192.168.56.184", "192.168.56.183")
        .replace("floor: 2", "floor: 1");
    director_file(&site.hosts.ds1, &less)?;
    site.hosts.ds1.run("director reload")?;
    // Whatever was under way comes to its end.
    wait_until("nothing of it is left", PATIENCE, || {
        scrape().is_ok_and(|text| !gone.iter().any(|part| text.contains(part)))
    })
    .with_context(|| scrape().unwrap_or_default())?;
    std::thread::sleep(Duration::from_secs(3));
    let text = scrape()?;
    let left: Vec<&str> = text
        .lines()
        .filter(|line| gone.iter().any(|part| line.contains(part)))
        .collect();
    ensure!(left.is_empty(), "it has come back: {left:#?}");

    // The same of an agent.
    let agent = SocketAddr::new(AGENTS[2].parse()?, 9154);
    let scrape = || http::get(&site.monitor, agent, "/metrics");
    let vip = ANYCAST_VIP.to_string();
    wait_until("the VIP", PATIENCE, || {
        scrape().is_ok_and(|text| text.contains(&vip))
    })?;
    let yaml =
        "mode: anycast\nvips: [{ address: 192.0.2.54, check: { dns: { name: www.abc.local } } }]\n";
    let run = "run: { agent_check: \"0.0.0.0:5301\", metrics: \"0.0.0.0:9154\" }\n";
    site.anycast
        .write_file("rs-agent.yaml", &format!("{yaml}{run}"))?;
    site.anycast
        .run("rs-agent reload --config /run/lab/rs-agent.yaml")?;
    wait_until("only the other VIP", PATIENCE, || {
        scrape().is_ok_and(|text| !text.contains(&vip) && text.contains("192.0.2.54"))
    })?;
    Ok(())
}

/// What the dashboard shows of IPVS, and the page says of it.
fn sees_what_the_kernel_counts(lab: &mut Lab) -> Result<()> {
    let file = ServiceFile::new().both_servers();
    let hosts = DnsPair::with_service_lan_only(lab)?;
    // Its start takes a while on an emulated processor.
    let prometheus = Prometheus::start(&hosts.ds1, &["127.0.0.1"], &[], INTERVAL)?;
    let solo = Solo::start_on(hosts, &file.to_string())?;
    let load: Load = solo
        .questions()
        .every(Duration::from_millis(50))
        .start(&solo.hosts.client);
    let took = wait_until("the director is scraped", PATIENCE, || {
        prometheus.scrapes(1)
    })
    .with_context(|| format!("{:?}", prometheus.now("up")))?;
    println!("measured: Prometheus has scraped after {took:.1?}");
    let rate = "sum(rate(director_service_connections_total[10s]))";
    wait_until("queries are counted", PATIENCE, || {
        prometheus.value(rate).is_some_and(|rate| rate > 5.0)
    })?;
    let director = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 9712);
    // The load's 20, which the page and `director top` show.
    wait_until("the page shows queries", PATIENCE, || {
        http::get(solo.host(), director, "/api/status")
            .ok()
            .and_then(|told| serde_json::from_str::<Value>(&told).ok())
            .map(|told| told["services"][0]["pools"][0]["queries_per_second"].as_f64())
            .is_some_and(|rate| rate.is_some_and(|rate| (10.0..30.0).contains(&rate)))
    })?;
    let page = Page::read()?;
    let queries = dashboard::queries(INTERVAL)?.into_iter();
    answered(
        &prometheus,
        queries.filter(|query| page.asks_the_kernel(query)),
        5,
    )?;
    let report = load.stop();
    ensure!(report.lost() == 0, "{report}");
    let text = http::get(solo.host(), director, "/metrics")?;
    let mut seen = Families::new();
    add_scrape(&text, &mut seen)?;
    let wrong = page.disagreements(&page.of_the_kernel, &seen);
    ensure!(wrong.is_empty(), "docs/metrics.md: {wrong:#?}");
    promtool_accepts(solo.host(), &text)
}
