//! What a monitoring system reads.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::capture::Capture;
use crate::case::Case;
use crate::http;
use crate::lab::{Host, Lab, wait_until};
use crate::scenario::PATIENCE;
use crate::topology::{ANSWERS, DnsPair, VIP, start_director};
use crate::{bind, ping};

/// The cases of this theme.
pub(super) const CASES: &[Case] = &[
    Case::new("metrics::promtool_finds_no_fault", promtool_finds_no_fault),
    Case::new(
        "metrics::http_answers_as_it_should",
        http_answers_as_it_should,
    ),
    Case::new(
        "metrics::idle_connections_delay_nothing",
        idle_connections_delay_nothing,
    ),
    Case::new(
        "metrics::figures_are_what_happened",
        figures_are_what_happened,
    ),
];

const LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9712);

/// Probes two servers and forwards nothing.
const CONFIGURATION: &str = r#"dataplane: none
vrrp:
  - name: dns
    interface: eth2
    virtual_router_id: 50
    priority: { ds1: 200, ds2: 150 }
    advert_interval: 100ms
    addresses: [192.168.56.185/24]
services:
  - name: resolver
    address: 192.168.56.185
    port: 53
    protocols: [udp, tcp]
    check:
      dns: { name: www.abc.local, type: A }
      interval: 200ms
      timeout: 200ms
    real_servers:
      - { address: 192.168.56.183 }
      - { address: 192.168.56.184 }
metrics: { listen: "127.0.0.1:9712" }
"#;

/// What a director said when it was asked.
#[derive(Debug)]
pub(super) struct Scrape(BTreeMap<String, u64>);

impl Scrape {
    /// Asks the director on `host` for its metrics. Only whole values are kept.
    pub(super) fn of(host: &Host) -> Result<Self> {
        Ok(Self::read(&http::get(host, LISTEN, "/metrics")?))
    }

    /// The value behind `name{label="value",…}`.
    pub(super) fn value(&self, series: &str) -> Option<u64> {
        self.0.get(series).copied()
    }

    /// All series whose names begin so.
    pub(super) fn family(&self, name: &str) -> BTreeMap<String, u64> {
        let series = self.0.iter().filter(|(series, _)| series.starts_with(name));
        series
            .map(|(series, value)| (series.clone(), *value))
            .collect()
    }

    fn read(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let values = lines.filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            Some((series.to_owned(), value.parse().ok()?))
        });
        Self(values.collect())
    }
}

fn promtool_finds_no_fault(lab: &mut Lab) -> Result<()> {
    let hosts = DnsPair::with_service_lan_only(lab)?;
    let _named = hosts.start_named()?;
    let _director = start_director(&hosts.ds1, CONFIGURATION)?;
    wait_until("verdicts", PATIENCE, || {
        Scrape::of(&hosts.ds1).is_ok_and(|scrape| healthy(&scrape) == [1; 4])
    })?;
    let text = http::get(&hosts.ds1, LISTEN, "/metrics")?;
    for name in [
        "director_build_info",
        "director_vrrp_state",
        "director_vrrp_transitions_total",
        "director_vrrp_adverts_sent_total",
        "director_vrrp_adverts_received_total",
        "director_vrrp_adverts_rejected_total",
        "director_real_server_healthy",
        "director_probe_duration_seconds_bucket",
    ] {
        ensure!(text.contains(&format!("\n{name}")), "no {name} in\n{text}");
    }
    let file = hosts.ds1.write_file("metrics", &text)?;
    let check = |file: &str| {
        let command = format!("promtool check metrics < {file}");
        hosts.ds1.output("sh", ["-c", &command], PATIENCE)
    };
    let output = check(&file.display().to_string())?;
    ensure!(
        output.success() && output.stdout.is_empty() && output.stderr.is_empty(),
        "promtool: {output:?}\n{text}"
    );
    // It does find faults where there are some.
    let faulty = text.replace(
        "director_vrrp_adverts_sent_total",
        "director_vrrp_adverts_sent",
    );
    let file = hosts.ds1.write_file("faulty", &faulty)?;
    let output = check(&file.display().to_string())?;
    ensure!(!output.success(), "promtool accepts anything");
    Ok(())
}

fn http_answers_as_it_should(lab: &mut Lab) -> Result<()> {
    let hosts = DnsPair::with_service_lan_only(lab)?;
    let _director = start_director(&hosts.ds1, CONFIGURATION)?;
    wait_until("metrics", PATIENCE, || Scrape::of(&hosts.ds1).is_ok())?;
    for (request, status, content) in [
        ("GET /metrics", "200", "director_build_info"),
        ("HEAD /metrics", "200", ""),
        ("GET /healthz", "200", "ok"),
        ("POST /metrics", "405", ""),
        ("DELETE /metrics", "405", ""),
        ("GET /", "404", ""),
        ("GET /metrics/../../etc/passwd", "404", ""),
    ] {
        let text = format!("{request} HTTP/1.1\r\nHost: ds1\r\nConnection: close\r\n\r\n");
        let answer = exchange(&hosts.ds1, text)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no head")?;
        ensure!(
            head.starts_with(&format!("HTTP/1.1 {status} ")) && body.contains(content),
            "{request}: {answer}"
        );
        if request == "GET /metrics" {
            let expected = "content-type: text/plain; version=0.0.4";
            ensure!(head.contains(expected), "{head}");
        }
        if request == "HEAD /metrics" {
            ensure!(body.is_empty(), "HEAD has a body: {body}");
        }
    }
    let answer = exchange(&hosts.ds1, "no HTTP at all\r\n\r\n".into())?;
    ensure!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    ensure!(Scrape::of(&hosts.ds1).is_ok(), "no metrics any more");
    // Nobody outside is served by an address of the machine itself.
    let outside = SocketAddr::new("192.168.56.181".parse()?, 9712);
    ensure!(
        http::get(&hosts.client, outside, "/metrics").is_err(),
        "the whole LAN is served"
    );
    Ok(())
}

fn idle_connections_delay_nothing(lab: &mut Lab) -> Result<()> {
    let hosts = DnsPair::with_service_lan_only(lab)?;
    let _director = start_director(&hosts.ds1, CONFIGURATION)?;
    wait_until("the VIP", PATIENCE, || hosts.ds1.holds(VIP))?;
    let capture = Capture::start(&hosts.client)?;
    let load = ping::start(&hosts.client, VIP, Duration::from_millis(5));
    let idle = hosts.ds1.within(|| {
        let connect = |_| TcpStream::connect(LISTEN);
        (0..40).map(connect).collect::<std::io::Result<Vec<_>>>()
    })?;
    // Prometheus waits for 10 s.
    let start = Instant::now();
    let answer = exchange(
        &hosts.ds1,
        "GET /metrics HTTP/1.1\r\nHost: ds1\r\nConnection: close\r\n\r\n".into(),
    )?;
    let took = start.elapsed();
    println!("measured: a scrape beside 40 idle connections took {took:.1?}");
    ensure!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    ensure!(took < Duration::from_secs(10), "a scrape took {took:?}");
    drop(idle);
    let report = load.stop();
    ensure!(report.lost() == 0, "{report}");
    let adverts = capture.adverts();
    let pauses = adverts.windows(2).map(|pair| pair[1].0.at - pair[0].0.at);
    let longest = pauses.max().context("no adverts")?;
    println!("measured: longest pause between adverts {longest:.1?}");
    ensure!(longest < Duration::from_millis(200), "{longest:?}");
    Ok(())
}

fn figures_are_what_happened(lab: &mut Lab) -> Result<()> {
    let hosts = DnsPair::with_service_lan_only(lab)?;
    let [mut first, _second] = hosts.start_named()?;
    let _ds1 = start_director(&hosts.ds1, CONFIGURATION)?;
    wait_until("the VIP", PATIENCE, || hosts.ds1.holds(VIP))?;
    let mut ds2 = start_director(&hosts.ds2, CONFIGURATION)?;
    wait_until("verdicts", PATIENCE, || {
        [&hosts.ds1, &hosts.ds2]
            .into_iter()
            .all(|host| Scrape::of(host).is_ok_and(|scrape| healthy(&scrape) == [1; 4]))
    })?;
    let states = |host: &Host| -> Result<[Option<u64>; 3]> {
        let scrape = Scrape::of(host)?;
        Ok(["initialize", "backup", "active"].map(|state| {
            scrape.value(&format!(
                "director_vrrp_state{{instance=\"dns\",state=\"{state}\"}}"
            ))
        }))
    };
    ensure!(states(&hosts.ds1)? == [Some(0), Some(0), Some(1)], "ds1");
    ensure!(states(&hosts.ds2)? == [Some(0), Some(1), Some(0)], "ds2");

    // Adverts on the wire, and what sender and receiver count.
    let counts = || -> Result<[u64; 2]> {
        let sent = "director_vrrp_adverts_sent_total{instance=\"dns\"}";
        let received = "director_vrrp_adverts_received_total{instance=\"dns\"}";
        Ok([
            Scrape::of(&hosts.ds1)?.value(sent).context(sent)?,
            Scrape::of(&hosts.ds2)?.value(received).context(received)?,
        ])
    };
    let before = counts()?;
    let capture = Capture::start(&hosts.client)?;
    std::thread::sleep(Duration::from_secs(1));
    let seen = capture.adverts().len() as u64;
    let after = counts()?;
    for (before, after) in before.into_iter().zip(after) {
        let counted = after - before;
        ensure!(
            seen >= 8 && counted.abs_diff(seen) <= 1,
            "{counted} of {seen}"
        );
    }

    // A probe that gets no answer, and one that does again.
    first.kill();
    wait_until("rs1 is out", PATIENCE, || {
        Scrape::of(&hosts.ds1).is_ok_and(|scrape| healthy(&scrape) == [0, 1, 0, 1])
    })?;
    let failures = Scrape::of(&hosts.ds1)?.family("director_probe_failures_total");
    for (series, count) in failures {
        let expected = series.contains("192.168.56.183");
        ensure!((count >= 2) == expected, "{series} {count}");
    }
    let mut first = bind::spawn(&hosts.rs1, ANSWERS[0])?;
    bind::wait_for(&hosts.rs1, &mut first, ANSWERS[0])?;
    wait_until("rs1 is back", PATIENCE, || {
        Scrape::of(&hosts.ds1).is_ok_and(|scrape| healthy(&scrape) == [1; 4])
    })?;

    // A handover counts once on the one that takes over.
    let entered = "director_vrrp_transitions_total{instance=\"dns\",state=\"active\"}";
    ensure!(Scrape::of(&hosts.ds2)?.value(entered) == Some(0), "ds2");
    hosts.ds1.kill_processes();
    hosts
        .ds1
        .run(&format!("ip address flush dev eth2 to {VIP}/32"))?;
    wait_until("ds2 has taken over", PATIENCE, || hosts.ds2.holds(VIP))?;
    wait_until("ds2 says so", Duration::from_secs(1), || {
        Scrape::of(&hosts.ds2).is_ok_and(|scrape| scrape.value(entered) == Some(1))
    })?;
    ensure!(states(&hosts.ds2)? == [Some(0), Some(0), Some(1)], "ds2");
    ensure!(ds2.terminate(PATIENCE)?.success(), "SIGTERM");
    Ok(())
}

/// What is believed of the servers, TCP first, rs1 first.
fn healthy(scrape: &Scrape) -> Vec<u64> {
    let family = scrape.family("director_real_server_healthy");
    let mut series: Vec<_> = family.into_iter().collect();
    let key = |series: &str| (series.contains("udp"), series.contains("184"));
    series.sort_by_key(|(series, _)| key(series));
    series.into_iter().map(|(_, value)| value).collect()
}

/// Sends these bytes to the director on `host` and reads until it closes.
fn exchange(host: &Host, request: String) -> Result<String> {
    let limit = Duration::from_secs(15);
    let exchanged = host.thread(move || -> Result<String> {
        let mut stream = TcpStream::connect_timeout(&LISTEN, limit)?;
        stream.set_read_timeout(Some(limit))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    });
    match exchanged.join() {
        Ok(answer) => answer,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}
