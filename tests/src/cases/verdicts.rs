//! What a DNS check makes of servers, good and bad: the table of `docs/health.md`, row by row.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;

use super::metrics::Scrape;
use crate::case::Case;
use crate::lab::{Host, Lab, Process, wait_until};
use crate::misbehaving::{Behaviour, Misbehaving};
use crate::name_servers::{Period, named, sign, unbound};
use crate::scenario::PATIENCE;
use crate::topology::start_director;

/// The cases of this theme.
pub(super) const CASES: &[Case] = &[Case::new(
    "verdicts::are_those_that_the_documentation_promises",
    are_those_that_the_documentation_promises,
)];

const DOCUMENTATION: &str = include_str!("../../../docs/health.md");

/// How the table begins.
const HEAD: &str =
    "| the server | no preset | `recursive` | `authoritative` |\n|---|---|---|---|\n";

/// The services that stand for the table's columns, with what they ask.
const CHECKS: [(&str, &str); 3] = [
    ("plain", "name: www.abc.local"),
    ("recursive", "name: www.abc.local, preset: recursive"),
    ("authoritative", "name: abc.local, preset: authoritative"),
];

/// A probe's time-out; what is slow takes longer.
const TIMEOUT: Duration = Duration::from_millis(400);
const SLOW: Duration = Duration::from_millis(600);

/// So many failures of a kind make a verdict that isn't one of the first moment.
const FAILURES: u64 = 3;

/// What is at the address of a row.
#[derive(Clone, Copy, Debug)]
enum Server {
    Scripted(Behaviour),
    Nobody,
    Bind(Zone),
    /// Resolves through the BIND at the address of another row.
    Unbound(Zone),
}

/// What a BIND has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Zone {
    Good,
    Missing,
    Expired,
    BadlySigned,
}

const ROWS: &[(&str, Server)] = {
    use Behaviour as B;
    use Server::{Bind, Nobody, Scripted, Unbound};
    &[
        ("answers as an authority (AA)", Scripted(B::Authority)),
        ("answers as a resolver (RA)", Scripted(B::Resolver)),
        ("says NOERROR without the record", Scripted(B::NoRecord)),
        ("says NXDOMAIN", Scripted(B::ResponseCode(3))),
        ("says SERVFAIL", Scripted(B::ResponseCode(2))),
        ("says REFUSED", Scripted(B::ResponseCode(5))),
        (
            "says FORMERR to EDNS, answers without it",
            Scripted(B::WithoutEdns),
        ),
        (
            "wants its own cookie first (BADCOOKIE)",
            Scripted(B::WantsItsCookie),
        ),
        (
            "answers with another identifier",
            Scripted(B::OtherIdentifier),
        ),
        ("answers another question", Scripted(B::OtherQuestion)),
        ("sends garbage", Scripted(B::Garbage)),
        ("sends an answer that ends too early", Scripted(B::CutShort)),
        (
            "truncates, and has the whole answer over TCP",
            Scripted(B::Truncated),
        ),
        (
            "truncates, and nobody listens on TCP",
            Scripted(B::TruncatedWithoutTcp),
        ),
        ("says nothing", Scripted(B::Silent)),
        ("answers after the time-out", Scripted(B::Slow(SLOW))),
        ("has nobody on its port", Nobody),
        (
            "answers over UDP, and nobody listens on TCP",
            Scripted(B::WithoutTcp),
        ),
        ("answers over UDP, and not over TCP", Scripted(B::SilentTcp)),
        ("is BIND with the zone", Bind(Zone::Good)),
        ("is BIND without the zone", Bind(Zone::Missing)),
        (
            "is BIND, a secondary whose zone has expired",
            Bind(Zone::Expired),
        ),
        (
            "is BIND with a zone whose signatures have ended, with `dnssec_ok`",
            Bind(Zone::BadlySigned),
        ),
        ("is unbound, a resolver", Unbound(Zone::Good)),
        (
            "is unbound, and the zone's signatures have ended",
            Unbound(Zone::BadlySigned),
        ),
    ]
};

/// A verdict, and the kind of failure where it's bad.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    In,
    Out(String),
}

fn are_those_that_the_documentation_promises(lab: &mut Lab) -> Result<()> {
    let promised = promised()?;
    let lan = lab.add_lan("lan")?;
    let director = lab.add_host("director")?;
    lab.attach(&director, "eth0", &lan, &["192.168.56.1/24"])?;
    let servers = lab.add_host("servers")?;
    lab.attach(&servers, "eth0", &lan, &["192.168.56.2/24"])?;
    let addresses: Vec<Ipv4Addr> = (100..).take(ROWS.len()).map(address).collect();
    for address in addresses.iter().chain([&PRIMARY]) {
        servers.add_address("eth0", &format!("{address}/24"))?;
    }
    // Linux tells one client once a second that nobody is on a port, and this one asks oftener.
    servers.set_sysctl("net.ipv4.icmp_ratelimit", "0")?;
    let _started = start_servers(&servers, &addresses)?;
    let _director = start_director(&director, &configuration(&addresses))?;
    let mut wrong = String::new();
    let mut checked = 0;
    let settled = Instant::now() + Duration::from_secs(20);
    for ((label, _), address) in ROWS.iter().zip(&addresses) {
        for ((service, _), cell) in CHECKS.iter().zip(&promised[*label]) {
            for (protocol, expected) in ["udp", "tcp"].iter().zip(cell) {
                let seen = wait_for(&director, service, protocol, *address, expected, settled)?;
                checked += 1;
                if seen.as_ref() != Some(expected) {
                    writeln!(
                        wrong,
                        "{label} ({address}), {service}, {protocol}: promised {expected:?}, seen {seen:?}"
                    )?;
                }
            }
        }
    }
    ensure!(wrong.is_empty(), "{wrong}");
    println!("{} rows, {checked} verdicts as promised", ROWS.len());
    Ok(())
}

/// The table, by its rows: for each preset the verdicts over UDP and TCP.
fn promised() -> Result<BTreeMap<&'static str, Vec<[Verdict; 2]>>> {
    let (_, rest) = DOCUMENTATION
        .split_once(HEAD)
        .context("docs/health.md has no such table any more")?;
    let lines = rest.lines().take_while(|line| line.starts_with('|'));
    let mut rows = BTreeMap::new();
    for line in lines {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [label, cells @ ..] = &cells[..] else {
            bail!("a row without cells: {line}");
        };
        let verdicts: Result<Vec<_>> = cells.iter().map(|cell| verdicts(cell)).collect();
        rows.insert(*label, verdicts.with_context(|| format!("row {label}"))?);
    }
    let documented: BTreeSet<&str> = rows.keys().copied().collect();
    let staged: BTreeSet<&str> = ROWS.iter().map(|(label, _)| *label).collect();
    ensure!(
        documented == staged,
        "rows of docs/health.md that this case doesn't stage, or the other way round: {:?}",
        documented.symmetric_difference(&staged)
    );
    Ok(rows)
}

/// `in`, "out: `kind`", or both by protocol.
fn verdicts(cell: &str) -> Result<[Verdict; 2]> {
    if let Some(cell) = cell.strip_prefix("UDP ") {
        let (udp, tcp) = cell.split_once(", TCP ").context("no TCP")?;
        return Ok([verdict(udp)?, verdict(tcp)?]);
    }
    let both = verdict(cell)?;
    Ok([both.clone(), both])
}

fn verdict(words: &str) -> Result<Verdict> {
    if words == "in" {
        return Ok(Verdict::In);
    }
    let kind = words
        .strip_prefix("out: `")
        .and_then(|rest| rest.strip_suffix('`'));
    Ok(Verdict::Out(
        kind.with_context(|| format!("`{words}`"))?.to_owned(),
    ))
}

/// What is seen once it's as expected, or at `settled` at the latest: nothing while there is neither an
/// answer nor a row of failures.
fn wait_for(
    director: &Host,
    service: &str,
    protocol: &str,
    address: Ipv4Addr,
    expected: &Verdict,
    settled: Instant,
) -> Result<Option<Verdict>> {
    loop {
        let scrape = Scrape::of(director);
        let seen = scrape
            .as_ref()
            .ok()
            .and_then(|it| seen(it, service, protocol, address));
        if seen.as_ref() == Some(expected) || Instant::now() > settled {
            scrape?;
            return Ok(seen);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn seen(scrape: &Scrape, service: &str, protocol: &str, address: Ipv4Addr) -> Option<Verdict> {
    let whom = format!("protocol=\"{protocol}\",real_server=\"{address}\",service=\"{service}\"");
    if scrape.value(&format!("director_real_server_healthy{{{whom}}}"))? == 1 {
        return Some(Verdict::In);
    }
    let failures = scrape.family("director_probe_failures_total");
    let (series, count) = failures
        .iter()
        .filter(|(series, _)| series.contains(&format!("\"{address}\"")))
        .filter(|(series, _)| series.contains(&format!("protocol=\"{protocol}\"")))
        .filter(|(series, _)| series.contains(&format!("service=\"{service}\"")))
        .max_by_key(|(_, count)| **count)?;
    let (_, rest) = series.split_once("kind=\"")?;
    let (kind, _) = rest.split_once('"')?;
    (*count >= FAILURES).then(|| Verdict::Out(kind.to_owned()))
}

fn configuration(addresses: &[Ipv4Addr]) -> String {
    let servers: Vec<String> = addresses
        .iter()
        .map(|address| format!("{{ address: {address} }}"))
        .collect();
    let servers = servers.join(", ");
    let mut text =
        "dataplane: none\nmetrics: { listen: \"127.0.0.1:9712\" }\nservices:\n".to_owned();
    for (place, (service, query)) in (10..).zip(CHECKS) {
        write!(
            text,
            "  - name: {service}
    address: 192.168.56.{place}
    external: true
    port: 53
    protocols: [udp, tcp]
    check:
      dns: {{ {query}, cookie: true, dnssec_ok: true }}
      timeout: {}ms
    real_servers: [{servers}]
",
            TIMEOUT.as_millis()
        )
        .expect("a string takes all");
    }
    text
}

fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 56, number)
}

/// From whom the secondary has its zone, for a while.
const PRIMARY: Ipv4Addr = Ipv4Addr::new(192, 168, 56, 99);

fn start_servers(host: &Host, addresses: &[Ipv4Addr]) -> Result<(Vec<Misbehaving>, Vec<Process>)> {
    let (mut scripted, mut processes) = (Vec::new(), Vec::new());
    let key = write_zones(host)?;
    let zone = ("abc.local", "type primary; file \"short-lived.zone\";");
    let primary = named(host, PRIMARY, &[zone])?;
    let at = |zone: Zone| {
        let mut rows = ROWS.iter().zip(addresses);
        let found =
            rows.find(|((_, server), _)| matches!(server, Server::Bind(its) if *its == zone));
        found
            .map(|(_, address)| *address)
            .context("no BIND has that zone")
    };
    for ((_, server), address) in ROWS.iter().zip(addresses) {
        match server {
            Server::Scripted(behaviour) => {
                scripted.push(Misbehaving::start(host, *address, *behaviour)?);
            }
            Server::Nobody => {}
            Server::Bind(zone) => {
                let (name, options) = match zone {
                    Zone::Good => ("abc.local", "type primary; file \"good.zone\";".to_owned()),
                    Zone::Missing => ("elsewhere", "type primary; file \"good.zone\";".to_owned()),
                    Zone::BadlySigned => (
                        "abc.local",
                        "type primary; file \"good.zone.signed\";".to_owned(),
                    ),
                    Zone::Expired => (
                        "abc.local",
                        format!(
                            "type secondary; primaries {{ {PRIMARY}; }}; min-refresh-time 1; \
                             max-refresh-time 1; min-retry-time 1; max-retry-time 1;"
                        ),
                    ),
                };
                processes.push(named(host, *address, &[(name, &options)])?);
            }
            Server::Unbound(zone) => {
                let key = (*zone == Zone::BadlySigned).then_some(key.as_str());
                let keys: Vec<&str> = key.into_iter().collect();
                processes.push(unbound(host, *address, at(*zone)?, &["abc.local"], &keys)?);
            }
        }
    }
    let secondary = at(Zone::Expired)?;
    let says = |word: &'static str| {
        move || {
            let dig = format!("dig +time=1 +tries=1 +norecurse @{secondary} abc.local SOA");
            host.run(&dig).is_ok_and(|output| output.contains(word))
        }
    };
    wait_until(
        "the secondary has its zone",
        PATIENCE,
        says("status: NOERROR"),
    )?;
    primary.signal(Signal::SIGKILL)?;
    wait_until("its zone has expired", PATIENCE, says("status: SERVFAIL"))?;
    processes.push(primary);
    Ok((scripted, processes))
}

/// The zone as it should be, with signatures that ended long ago, and one that lives 3 s without its
/// primary. Returns the key that the signatures were made with.
fn write_zones(host: &Host) -> Result<String> {
    let zone = |expire: u32| {
        format!(
            "$TTL 60\n@ IN SOA ns.abc.local. root.abc.local. 1 1 1 {expire} 60\n@ IN NS \
             ns.abc.local.\nns IN A 127.0.0.1\nwww IN A 192.0.2.1\n"
        )
    };
    host.write_file("zones/short-lived.zone", &zone(3))?;
    let good = host.write_file("zones/good.zone", &zone(86_400))?;
    sign(host, "abc.local", &good, Period::Past)
}
