//! What a monitoring system reads.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::capture::Capture;
use crate::case::Case;
use crate::http;
use crate::lab::{Host, Lab, wait_until};
use crate::metrics_page::Page;
use crate::prometheus::RULES;
use crate::scenario::PATIENCE;
use crate::service_file::ServiceFile;
use crate::stall::{Watchers, adverts_in_time};
use crate::topology::{ANSWERS, DnsPair, VIP, start_director};
use crate::{bind, ping};

/// The cases of this theme.
pub(super) const CASES: &[Case] = &[
    Case::new("metrics::promtool_finds_no_fault", promtool_finds_no_fault),
    Case::new(
        "metrics::alerts_come_when_they_should",
        alerts_come_when_they_should,
    ),
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

/// Two servers.
pub(super) fn configuration() -> String {
    ServiceFile::probing().both_servers().to_string()
}

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

/// Fails when Prometheus' own tool finds fault with what a program shows.
pub(super) fn promtool_accepts(host: &Host, text: &str) -> Result<()> {
    let file = host.write_file("metrics", text)?;
    let command = format!("promtool check metrics < {}", file.display());
    let output = host.output("sh", ["-c", &command], PATIENCE)?;
    ensure!(
        output.success() && output.stdout.is_empty() && output.stderr.is_empty(),
        "promtool: {output:?}\n{text}"
    );
    Ok(())
}

fn promtool_finds_no_fault(lab: &mut Lab) -> Result<()> {
    let hosts = DnsPair::with_service_lan_only(lab)?;
    let _named = hosts.start_named()?;
    let _director = start_director(&hosts.ds1, &configuration())?;
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
        "director_pool_quorum",
        "director_pool_floor_in_effect",
        "director_real_server_state",
        "director_real_server_effective_weight",
        "director_real_server_weight_factor_ratio",
    ] {
        ensure!(text.contains(&format!("\n{name}")), "no {name} in\n{text}");
    }
    promtool_accepts(&hosts.ds1, &text)?;
    // It does find faults where there are some.
    let faulty = text.replace(
        "director_vrrp_adverts_sent_total",
        "director_vrrp_adverts_sent",
    );
    ensure!(
        promtool_accepts(&hosts.ds1, &faulty).is_err(),
        "promtool accepts anything"
    );
    Ok(())
}

/// Each rule has a test of its own, a paragraph that says what to do, and metrics that exist.
fn alerts_come_when_they_should(lab: &mut Lab) -> Result<()> {
    const TESTS: [&str; 2] = [
        include_str!("../../../deploy/prometheus/lvs-director.rules.test.yaml"),
        include_str!("../../../deploy/prometheus/lvs-rs-agent.rules.test.yaml"),
    ];
    const PAGE: &str = include_str!("../../../docs/operating.md");
    let host = lab.add_host("prometheus")?;
    let metrics = Page::read()?;
    let mut count = 0;
    for ((name, rules), tests) in RULES.into_iter().zip(TESTS) {
        let rules_file = host.write_file(name, rules)?.display().to_string();
        let tests_file = host.write_file("tests.yaml", tests)?.display().to_string();
        for arguments in [
            ["check", "rules", &rules_file],
            ["test", "rules", &tests_file],
        ] {
            let output = host.output("promtool", arguments, PATIENCE)?;
            ensure!(output.success(), "{output:?}");
        }
        let alerts = rules
            .lines()
            .filter_map(|line| line.trim().strip_prefix("- alert: "));
        for alert in alerts {
            ensure!(
                tests.contains(&format!("alertname: {alert}\n")),
                "no test of {alert}"
            );
            ensure!(
                PAGE.contains(&format!("\n**{alert}** (")),
                "{alert} isn't in docs/operating.md"
            );
            count += 1;
        }
        let words = rules.split(|letter: char| !letter.is_ascii_lowercase() && letter != '_');
        let ours = ["director_", "rs_agent_"];
        for metric in words.filter(|word| ours.iter().any(|prefix| word.starts_with(prefix))) {
            ensure!(metrics.has(metric), "no metric {metric}");
        }
    }
    ensure!(count > 30, "{count} alerts");
    Ok(())
}

fn http_answers_as_it_should(lab: &mut Lab) -> Result<()> {
    let hosts = DnsPair::with_service_lan_only(lab)?;
    let _director = start_director(&hosts.ds1, &configuration())?;
    wait_until("metrics", PATIENCE, || Scrape::of(&hosts.ds1).is_ok())?;
    for (request, status, content) in [
        ("GET /metrics", "200", "director_build_info"),
        ("HEAD /metrics", "200", ""),
        ("GET /healthz", "200", "ok"),
        ("POST /metrics", "405", ""),
        ("DELETE /metrics", "405", ""),
        ("GET /", "200", "<!doctype html>"),
        ("GET /metrics/../../etc/passwd", "404", ""),
    ] {
        let answer = http::exchange(&hosts.ds1, LISTEN, http::request(request))?;
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
    let answer = http::exchange(&hosts.ds1, LISTEN, "no HTTP at all\r\n\r\n".into())?;
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
    let _director = start_director(&hosts.ds1, &configuration())?;
    wait_until("the VIP", PATIENCE, || hosts.ds1.holds(VIP))?;
    let watchers = Watchers::start()?;
    let capture = Capture::start(&hosts.client)?;
    let load = ping::start(&hosts.client, VIP, Duration::from_millis(5));
    let idle = hosts.ds1.within(|| {
        let connect = |_| TcpStream::connect(LISTEN);
        (0..40).map(connect).collect::<std::io::Result<Vec<_>>>()
    })?;
    // Prometheus waits for 10 s.
    let start = Instant::now();
    let answer = http::exchange(&hosts.ds1, LISTEN, http::request("GET /metrics"))?;
    let took = start.elapsed();
    println!("measured: a scrape beside 40 idle connections took {took:.1?}");
    ensure!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    ensure!(took < Duration::from_secs(10), "a scrape took {took:?}");
    drop(idle);
    let report = load.stop();
    ensure!(report.lost() == 0, "{report}");
    let adverts = capture.adverts();
    // One may be left out.
    let interval = Duration::from_millis(100);
    let times = adverts.into_iter().map(|(frame, _)| frame.at);
    adverts_in_time(times, interval, interval, watchers)
}

fn figures_are_what_happened(lab: &mut Lab) -> Result<()> {
    let hosts = DnsPair::with_service_lan_only(lab)?;
    let [mut first, _second] = hosts.start_named()?;
    let _ds1 = start_director(&hosts.ds1, &configuration())?;
    wait_until("the VIP", PATIENCE, || hosts.ds1.holds(VIP))?;
    let mut ds2 = start_director(&hosts.ds2, &configuration())?;
    wait_until("verdicts", PATIENCE, || {
        [&hosts.ds1, &hosts.ds2]
            .into_iter()
            .all(|host| Scrape::of(host).is_ok_and(|scrape| healthy(&scrape) == [1; 4]))
    })?;
    let states = |host: &Host| -> Result<[Option<u64>; 3]> {
        let scrape = Scrape::of(host)?;
        Ok(["initialize", "backup", "active"].map(|state| {
            scrape.value(&format!(
                "director_vrrp_state{{state=\"{state}\",virtual_router=\"dns\"}}"
            ))
        }))
    };
    ensure!(states(&hosts.ds1)? == [Some(0), Some(0), Some(1)], "ds1");
    ensure!(states(&hosts.ds2)? == [Some(0), Some(1), Some(0)], "ds2");

    // Adverts on the wire, and what sender and receiver count.
    let counts = || -> Result<[u64; 2]> {
        let sent = "director_vrrp_adverts_sent_total{virtual_router=\"dns\"}";
        let received = "director_vrrp_adverts_received_total{virtual_router=\"dns\"}";
        Ok([
            Scrape::of(&hosts.ds1)?.value(sent).context(sent)?,
            Scrape::of(&hosts.ds2)?.value(received).context(received)?,
        ])
    };
    let capture = Capture::start(&hosts.client)?;
    let asked = |moments: &mut Vec<Instant>| -> Result<[u64; 2]> {
        moments.push(Instant::now());
        let counts = counts()?;
        moments.push(Instant::now());
        Ok(counts)
    };
    let mut moments = Vec::new();
    let before = asked(&mut moments)?;
    std::thread::sleep(Duration::from_secs(1));
    let after = asked(&mut moments)?;
    // What is captured is read a little later.
    capture.wait_for("a later advert", PATIENCE, |frame| {
        frame.at >= moments[3] && frame.advert().is_some()
    })?;
    let adverts = capture.adverts();
    let seen = |from: Instant, until: Instant| {
        let at = adverts.iter().map(|(frame, _)| frame.at);
        at.filter(|at| (from..until).contains(at)).count() as u64
    };
    // A director was asked at some time in between.
    let least = seen(moments[1], moments[2]);
    let most = seen(moments[0], moments[3]);
    for (before, after) in before.into_iter().zip(after) {
        let counted = after - before;
        ensure!(
            least >= 8 && (least - 1..=most + 1).contains(&counted),
            "{counted} of {least} to {most}"
        );
    }

    // A probe that gets no answer, and one that does again.
    let failures = || -> Result<BTreeMap<String, u64>> {
        Ok(Scrape::of(&hosts.ds1)?.family("director_probe_failures_total"))
    };
    let before = failures()?;
    first.kill();
    wait_until("rs1 is out", PATIENCE, || {
        Scrape::of(&hosts.ds1).is_ok_and(|scrape| healthy(&scrape) == [0, 1, 0, 1])
    })?;
    // Its port is closed. A probe that was on its way when it died may have failed otherwise.
    let closed =
        |series: &str| series.contains("192.168.56.183") && series.contains("kind=\"refused\"");
    let grown = |series: &str, now: u64| now - before.get(series).copied().unwrap_or(0);
    wait_until("each protocol's probes are refused", PATIENCE, || {
        failures().is_ok_and(|now| {
            let refused = now.iter().filter(|(series, _)| closed(series));
            refused
                .filter(|(series, count)| grown(series, **count) >= 2)
                .count()
                == 2
        })
    })?;
    for (series, count) in failures()? {
        let more = grown(&series, count);
        ensure!(more < 2 || closed(&series), "{series}: {more} more");
    }
    let mut first = bind::spawn(&hosts.rs1, ANSWERS[0])?;
    bind::wait_for(&hosts.rs1, &mut first, ANSWERS[0])?;
    wait_until("rs1 is back", PATIENCE, || {
        Scrape::of(&hosts.ds1).is_ok_and(|scrape| healthy(&scrape) == [1; 4])
    })?;

    // A handover counts once on the one that takes over.
    let entered = "director_vrrp_transitions_total{reason=\"nothing_heard\",state=\"active\",virtual_router=\"dns\"}";
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
