//! What a director says of a file or a machine it can't work with, and what a reload changes.

use std::collections::BTreeMap;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;

use super::pair::{ADDRESSES, Pair, Settings, adverts_of};
use super::{PAUSE, PING_INTERVAL};
use crate::capture::Capture;
use crate::cases::metrics::Scrape;
use crate::lab::{Host, Lab, wait_until};
use crate::ping;
use crate::scenario::{PATIENCE, SERVERS, edited};
use crate::service_file::ServiceFile;
use crate::stall::{Watchers, adverts_in_time};
use crate::topology::{DnsPair, STATE_DIRECTORY, VIP, director_file};

/// A service, and nothing that forwards.
fn configuration() -> String {
    let file = ServiceFile::probing().over_udp().check("none");
    file.server(SERVERS[0], 1).to_string()
}

/// What is wrong, the line and the column where it is, and the file.
fn mistakes() -> [(&'static str, &'static str, String); 4] {
    let duplicate = "  - name: other\n    address: 192.168.56.185\n    port: 53\n    \
                     protocols: [udp]\n    check: none\n    real_servers:\n      \
                     - { address: 192.168.56.184 }\nmetrics:";
    [
        (
            "syntax",
            "12:13",
            edited(&configuration(), "port: 53", "port: 53: 54"),
        ),
        (
            "unknown key",
            "7:5",
            edited(&configuration(), "advert_interval", "advert_intervall"),
        ),
        (
            "duplicate service",
            "18:14",
            edited(&configuration(), "metrics:", duplicate),
        ),
        (
            "port that differs",
            "16:53",
            edited(&configuration(), "weight: 1 }", "weight: 1, port: 54 }"),
        ),
    ]
}

pub(super) fn no_ipvs_is_said_at_once(lab: &mut Lab) -> Result<()> {
    let hosts = DnsPair::with_service_lan_only(lab)?;
    let watch = hosts
        .ds1
        .spawn("ip", ["-o", "monitor", "address", "route"])?;
    let yaml = edited(&configuration(), "dataplane: none", "dataplane: ipvs");
    let file = director_file(&hosts.ds1, &yaml)?;
    sleep(PAUSE);
    let start = Instant::now();
    let run = hosts.ds1.output("director", run_arguments(&file), LIMIT);
    let took = start.elapsed();
    // The kernel loads the module at the first question, where it has one.
    let ipvs = || Path::new("/proc/thread-self/net/ip_vs").exists();
    if hosts.ds1.within(ipvs) {
        println!("not shown: this kernel has IPVS");
        return Ok(());
    }
    let output = run?;
    println!("measured: ended after {took:.1?}: {}", output.stderr.trim());
    ensure!(output.code().is_some_and(|code| code != 0), "{output:?}");
    ensure!(took < Duration::from_secs(2), "only after {took:?}");
    for remedy in ["modprobe ip_vs", "dataplane: none"] {
        ensure!(output.stderr.contains(remedy), "{}", output.stderr);
    }
    sleep(PAUSE);
    ensure!(!watch.log().contains("192.168.56.185"), "{}", watch.log());
    // The watch does see an address.
    hosts.ds1.add_address("eth2", &format!("{VIP}/24"))?;
    wait_until("the watch sees the VIP", PATIENCE, || {
        watch.log().contains("192.168.56.185")
    })?;
    Ok(())
}

pub(super) fn mistakes_are_located(lab: &mut Lab) -> Result<()> {
    let host = lab.add_host("ds1")?;
    let good = director_file(&host, &configuration())?;
    let output = host.output("director", ["check".as_ref(), good.as_os_str()], LIMIT)?;
    ensure!(output.success() && output.stderr.is_empty(), "{output:?}");
    for (mistake, place, yaml) in mistakes() {
        let file = director_file(&host, &yaml)?;
        let place = format!("{}:{place}: ", file.display());
        let check = vec!["check".into(), file.clone().into_os_string()];
        for arguments in [check, run_arguments(&file)] {
            let output = host.output("director", &arguments, LIMIT)?;
            ensure!(
                output.code().is_some_and(|code| code != 0),
                "{arguments:?} with {mistake}: {output:?}"
            );
            ensure!(
                output.stderr.lines().any(|line| line.starts_with(&place)),
                "{arguments:?} with {mistake}, at {place}: {}",
                output.stderr
            );
        }
    }
    Ok(())
}

pub(super) fn a_refused_reload_changes_nothing(lab: &mut Lab) -> Result<()> {
    let pair = pair_with_service(lab)?;
    let before = [State::of(&pair.hosts[0])?, State::of(&pair.hosts[1])?];
    let watchers = Watchers::start()?;
    let capture = Capture::start(&pair.client)?;
    let load = ping::start(&pair.client, VIP, PING_INTERVAL);
    for (mistake, _, yaml) in mistakes() {
        for director in [0, 1] {
            reload(&pair, director, &yaml, "failure")?;
        }
        sleep(PAUSE);
        for (host, before) in pair.hosts.iter().zip(&before) {
            let after = State::of(host)?;
            ensure!(after == *before, "{mistake}: {before:#?}, then {after:#?}");
        }
    }
    let report = load.stop();
    ensure!(report.lost() == 0, "{report}");
    let adverts = adverts_of(&capture, ADDRESSES[0]);
    ensure!(
        adverts_of(&capture, ADDRESSES[1]).is_empty(),
        "the Backup advertises"
    );
    let interval = pair.settings.interval;
    let times = adverts.into_iter().map(|(at, _)| at);
    adverts_in_time(times, interval, interval / 2, watchers)
}

pub(super) fn a_reload_changes_the_priority(lab: &mut Lab) -> Result<()> {
    let pair = pair_with_service(lab)?;
    let capture = Capture::start(&pair.client)?;
    let load = ping::start(&pair.client, VIP, PING_INTERVAL);
    sleep(PAUSE);
    let raised = edited(&configuration(), "ds1: 200", "ds1: 220");
    reload(&pair, 0, &raised, "success")?;
    capture.wait_for("advert with priority 220", LIMIT, |frame| {
        frame.advert().is_some_and(|advert| advert.priority == 220)
    })?;
    sleep(PAUSE);
    ensure!(pair.hosts[0].holds(VIP), "the VIP has moved");
    // Below its peer, it gives way.
    let lowered = edited(&configuration(), "ds1: 200", "ds1: 100");
    reload(&pair, 0, &lowered, "success")?;
    pair.wait_for_active(1)?;
    sleep(PAUSE);
    reload(&pair, 0, &configuration(), "success")?;
    pair.wait_for_active(0)?;
    sleep(PAUSE);
    let report = load.stop();
    println!("measured: three reloads, two changes of the Active: {report}");
    ensure!(report.lost() == 0, "{report}");
    ensure!(
        capture
            .adverts()
            .iter()
            .all(|(_, advert)| advert.priority != 0),
        "a reload is no reason to leave"
    );
    Ok(())
}

/// Nobody needs more, not even to fail.
const LIMIT: Duration = Duration::from_secs(10);

fn run_arguments(file: &Path) -> Vec<std::ffi::OsString> {
    let state = ["--state-directory".into(), STATE_DIRECTORY.into()];
    let mut arguments = vec!["run".into(), "--config".into(), file.into()];
    arguments.extend(state);
    arguments
}

fn pair_with_service(lab: &mut Lab) -> Result<Pair> {
    let pair = Pair::start(lab, Settings::FAST)?;
    for director in [0, 1] {
        reload(&pair, director, &configuration(), "success")?;
    }
    Ok(pair)
}

/// Gives a director another file, and waits until one more reload has this result.
fn reload(pair: &Pair, director: usize, yaml: &str, result: &str) -> Result<()> {
    let host = &pair.hosts[director];
    let series = format!("director_configuration_reloads_total{{result=\"{result}\"}}");
    let count = || Scrape::of(host).map(|scrape| scrape.value(&series).unwrap_or(0));
    let found = count()?;
    director_file(host, yaml)?;
    pair.directors[director].signal(Signal::SIGHUP)?;
    wait_until(&format!("a reload with {result}"), LIMIT, || {
        count().is_ok_and(|count| count == found + 1)
    })?;
    Ok(())
}

/// What must stay.
#[derive(Debug, PartialEq, Eq)]
struct State {
    addresses: String,
    routes: String,
    figures: BTreeMap<String, u64>,
}

impl State {
    fn of(host: &Host) -> Result<Self> {
        let scrape = Scrape::of(host)?;
        let mut figures = scrape.family("director_vrrp_state");
        figures.extend(scrape.family("director_vrrp_transitions_total"));
        Ok(Self {
            addresses: host.run("ip -d address")?,
            routes: host.run("ip route show table all")?,
            figures,
        })
    }
}
