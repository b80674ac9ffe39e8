//! Two directors with any file, on a LAN where the client hears everything.

use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::pair::adverts_of;
use crate::capture::{Advert, Capture};
use crate::cases::metrics::Scrape;
use crate::lab::{Host, Lab, Process, wait_until};
use crate::peer::INTERFACE;
use crate::scenario::PATIENCE;
use crate::topology::{STATE_DIRECTORY, director_file, two_seats};

/// From advert to advert in [`file`].
pub(super) const INTERVAL: Duration = Duration::from_millis(100);
/// The priorities of ds1 and ds2 in [`file`].
pub(super) const PRIORITIES: [u8; 2] = [200, 150];
/// How much later than by the formula something may happen on a busy machine.
pub(super) const TOLERANCE: Duration = Duration::from_millis(60);

/// The identifier in [`file`].
pub(super) const VIRTUAL_ROUTER_ID: u8 = 50;
const NODES: [&str; 2] = ["ds1", "ds2"];
const CONTROL: &str = "/run/lvs-director/control.sock";

/// A file with one virtual router, `dns`: version 3 with an advert every 100 ms, ds1 preferred, and
/// these lines, which have to have its addresses.
pub(super) fn file(lines: &[&str]) -> String {
    configuration(&[entry("dns", VIRTUAL_ROUTER_ID, lines)])
}

/// A file with these virtual routers.
pub(super) fn configuration(entries: &[String]) -> String {
    let entries = entries.concat();
    format!("vrrp:\n{entries}metrics: {{ listen: \"127.0.0.1:9712\" }}\n")
}

/// One virtual router of a file.
pub(super) fn entry(name: &str, virtual_router_id: u8, lines: &[&str]) -> String {
    let [first, second] = PRIORITIES;
    let mut entry = format!("  - name: {name}\n    virtual_router_id: {virtual_router_id}\n");
    for (key, line) in [
        ("interface", format!("interface: {INTERFACE}")),
        (
            "priority",
            format!("priority: {{ ds1: {first}, ds2: {second} }}"),
        ),
        (
            "advert_interval",
            format!("advert_interval: {}ms", INTERVAL.as_millis()),
        ),
    ] {
        if !lines.iter().any(|own| own.starts_with(key)) {
            entry.push_str(&format!("    {line}\n"));
        }
    }
    for line in lines {
        entry.push_str(&format!("    {line}\n"));
    }
    entry
}

/// How long ds2 waits after priority 0 (RFC 9568, section 6.1).
pub(super) fn skew_time() -> Duration {
    INTERVAL * (256 - u32::from(PRIORITIES[1])) / 256
}

/// How long ds2 waits for an Active that has fallen silent (RFC 9568, section 6.1).
pub(super) fn active_down_interval() -> Duration {
    3 * INTERVAL + skew_time()
}

/// The directors, and a client.
#[derive(Debug)]
pub(super) struct Duo {
    pub(super) client: Host,
    pub(super) hosts: [Host; 2],
    pub(super) directors: [Process; 2],
    yaml: String,
}

impl Duo {
    /// Starts both with this file, and waits until ds1 is Active in all it says, and ds2 Backup.
    pub(super) fn start(lab: &mut Lab, yaml: &str) -> Result<Self> {
        let (client, seats) = two_seats(lab, "")?;
        Self::start_on(client, seats.map(|seat| seat.host), yaml)
    }

    /// The same on hosts that are there already.
    pub(super) fn start_on(client: Host, hosts: [Host; 2], yaml: &str) -> Result<Self> {
        let first = run(&hosts, 0, yaml)?;
        // Otherwise ds2 might be Active for a moment, and ds1 would have to announce itself again.
        wait_until("ds1 is Active", PATIENCE, || all_are(&hosts[0], "active"))?;
        let directors = [first, run(&hosts, 1, yaml)?];
        let duo = Self {
            client,
            hosts,
            directors,
            yaml: yaml.to_owned(),
        };
        duo.wait_for_active(0)?;
        Ok(duo)
    }

    /// Starts a director that has ended, with the same file.
    pub(super) fn restart(&mut self, director: usize) -> Result<()> {
        self.directors[director] = run(&self.hosts, director, &self.yaml)?;
        Ok(())
    }

    /// Waits until this director is Active in all its virtual routers, and the other one Backup.
    pub(super) fn wait_for_active(&self, director: usize) -> Result<Duration> {
        let [this, other] = [director, 1 - director].map(|index| &self.hosts[index]);
        let what = format!("{} alone is Active", NODES[director]);
        wait_until(&what, PATIENCE, || {
            all_are(this, "active") && all_are(other, "backup")
        })
    }

    /// Gives a director another file, and waits until it goes by it.
    pub(super) fn reload(&self, director: usize, yaml: &str) -> Result<()> {
        self.have_read(director, yaml, "success")
    }

    /// Gives it one that can't be gone by, and waits until it says so.
    pub(super) fn refuses(&self, director: usize, yaml: &str) -> Result<()> {
        self.have_read(director, yaml, "failure")
    }

    fn have_read(&self, director: usize, yaml: &str, result: &str) -> Result<()> {
        let host = &self.hosts[director];
        let series = &format!("director_configuration_reloads_total{{result=\"{result}\"}}");
        let count = || Scrape::of(host).map(|scrape| scrape.value(series).unwrap_or(0));
        let found = count()?;
        director_file(host, yaml)?;
        self.directors[director].signal(Signal::SIGHUP)?;
        wait_until("another reload", PATIENCE, || {
            count().is_ok_and(|count| count == found + 1)
        })?;
        Ok(())
    }

    /// A machine loses its power: its link goes down with its programs.
    pub(super) fn cut_off(&self, director: usize) -> Result<()> {
        self.hosts[director].link_down(INTERFACE)?;
        self.hosts[director].kill_processes();
        Ok(())
    }
}

/// All that a director says of its virtual routers, in the order of its file.
pub(super) fn instances(host: &Host) -> Result<Vec<Value>> {
    let answer = ask(host, "{\"command\":\"status\"}\n")?;
    let instances = answer["status"]["instances"].as_array();
    Ok(instances.context("no instances")?.clone())
}

/// What it says of one.
pub(super) fn instance(host: &Host, name: &str) -> Result<Value> {
    let mut all = instances(host)?.into_iter();
    let found = all.find(|instance| instance["name"] == name);
    found.with_context(|| format!("no instance {name}"))
}

fn all_are(host: &Host, state: &str) -> bool {
    instances(host)
        .is_ok_and(|all| !all.is_empty() && all.iter().all(|instance| instance["state"] == state))
}

/// Waits until a director says this of one of its virtual routers.
pub(super) fn wait_for(
    what: &str,
    host: &Host,
    name: &str,
    ready: impl Fn(&Value) -> bool,
) -> Result<Duration> {
    wait_until(what, PATIENCE, || {
        instance(host, name).is_ok_and(|instance| ready(&instance))
    })
    .with_context(|| format!("{:#}", instance(host, name).unwrap_or_default()))
}

/// Asks the control socket.
pub(super) fn ask(host: &Host, request: &'static str) -> Result<Value> {
    let answer = host.within(move || {
        let mut stream = UnixStream::connect(CONTROL)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    })?;
    serde_json::from_str(&answer).with_context(|| answer)
}

/// The adverts with which `source` says that it is Active, at or after `since`.
pub(super) fn claims(
    capture: &Capture,
    source: impl Into<IpAddr>,
    since: Instant,
) -> Vec<(Instant, Advert)> {
    let mut adverts = adverts_of(capture, source);
    adverts.retain(|(at, advert)| *at >= since && advert.priority != 0);
    adverts
}

/// Fails when the second of these routers has said at any time that it is Active.
pub(super) fn never_active(capture: &Capture, source: impl Into<IpAddr>) -> Result<()> {
    let source = source.into();
    let adverts = adverts_of(capture, source);
    let claims = adverts.iter().filter(|(_, advert)| advert.priority != 0);
    let count = claims.count();
    ensure!(count == 0, "{source} said {count} times that it is Active");
    Ok(())
}

fn run(hosts: &[Host; 2], director: usize, yaml: &str) -> Result<Process> {
    let file = director_file(&hosts[director], yaml)?;
    hosts[director].spawn(
        "director",
        [
            "run".as_ref(),
            "--node".as_ref(),
            NODES[director].as_ref(),
            "--config".as_ref(),
            file.as_os_str(),
            "--state-directory".as_ref(),
            STATE_DIRECTORY.as_ref(),
        ],
    )
}
