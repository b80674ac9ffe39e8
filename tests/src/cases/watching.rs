//! What is watched of the DNS data that real servers have.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::metrics::Scrape;
use crate::case::Case;
use crate::lab::{Host, Lab, Process, wait_until};
use crate::misbehaving::{Behaviour, Misbehaving};
use crate::name_servers::{Period, named, sign, unbound};
use crate::scenario::PATIENCE;
use crate::topology::start_director;

/// The cases of this theme.
pub(super) const CASES: &[Case] = &[
    Case::new(
        "watching::who_lags_leaves_and_who_is_ahead_stays",
        who_lags_leaves_and_who_is_ahead_stays,
    ),
    Case::new(
        "watching::who_does_not_validate_leaves",
        who_does_not_validate_leaves,
    ),
];

const SERVERS: [Ipv4Addr; 3] = [
    Ipv4Addr::new(192, 168, 56, 101),
    Ipv4Addr::new(192, 168, 56, 102),
    Ipv4Addr::new(192, 168, 56, 103),
];

/// Looks come every second; three in a row may be lost on a busy machine.
const SOON: Duration = Duration::from_secs(4);

/// A director and a host with the addresses of all servers.
fn two_machines(lab: &mut Lab) -> Result<(Host, Host)> {
    let lan = lab.add_lan("lan")?;
    let director = lab.add_host("director")?;
    lab.attach(&director, "eth0", &lan, &["192.168.56.1/24"])?;
    let servers = lab.add_host("servers")?;
    lab.attach(&servers, "eth0", &lan, &["192.168.56.2/24"])?;
    for address in SERVERS {
        servers.add_address("eth0", &format!("{address}/24"))?;
    }
    Ok((director, servers))
}

fn start(director: &Host, check: &str, watch: &str, pool: &str, servers: usize) -> Result<Process> {
    let servers: Vec<String> = SERVERS[..servers]
        .iter()
        .map(|address| format!("{{ address: {address} }}"))
        .collect();
    let servers = servers.join(", ");
    let yaml = format!(
        "dataplane: none
metrics: {{ listen: \"127.0.0.1:9712\" }}
services:
  - name: dns
    address: 192.168.56.10
    external: true
    port: 53
    protocols: [udp]
    check: {{ dns: {{ {check} }} }}
    watch: {{ interval: 1s, {watch} }}
    pool: {{ {pool} }}
    real_servers: [{servers}]
"
    );
    start_director(director, &yaml)
}

/// Waits until exactly these servers, by their places, are in.
fn wait_for(director: &Host, what: &str, limit: Duration, expected: &[usize]) -> Result<()> {
    let present = || {
        let scrape = Scrape::of(director).ok()?;
        let states = scrape.family("director_real_server_state");
        let is_in = |address: &Ipv4Addr| {
            states.iter().any(|(series, value)| {
                let has = |label: &str| series.contains(label);
                let there = has("state=\"in\"") || has("state=\"kept\"");
                *value == 1 && there && has(&format!("real_server=\"{address}\""))
            })
        };
        let places = SERVERS.iter().enumerate();
        let present: Vec<usize> = places
            .filter(|(_, address)| is_in(address))
            .map(|(place, _)| place)
            .collect();
        Some(present)
    };
    wait_until(what, limit, || present().as_deref() == Some(expected))?;
    Ok(())
}

fn who_lags_leaves_and_who_is_ahead_stays(lab: &mut Lab) -> Result<()> {
    let (director, host) = two_machines(lab)?;
    let serve =
        |place: usize, serial| Misbehaving::start(&host, SERVERS[place], Behaviour::Serial(serial));
    // The serial numbers are about to begin anew.
    let old = u32::MAX - 2;
    let mut running = Vec::new();
    for place in 0..3 {
        running.push(Some(serve(place, old)?));
    }
    let mut change = |place: usize, serial| -> Result<()> {
        running[place] = None;
        running[place] = Some(serve(place, serial)?);
        Ok(())
    };
    let watch = "zones: [{ name: abc.local, maximum_lag: 5, for: 5s }]";
    let check = "name: abc.local, type: SOA";
    let _director = start(&director, check, watch, "floor: 2", 3)?;
    wait_for(&director, "all are in", PATIENCE, &[0, 1, 2])?;
    // Three behind, which is allowed for a while.
    change(0, 0)?;
    change(1, 0)?;
    wait_for(
        &director,
        "the third was behind for too long",
        PATIENCE,
        &[0, 1],
    )?;
    change(2, 0)?;
    wait_for(&director, "it has caught up", SOON, &[0, 1, 2])?;
    // Six behind is too much at once; the floor keeps one of the two.
    change(0, 6)?;
    wait_until("two lag, of which one is kept", SOON, || {
        Scrape::of(&director).is_ok_and(|scrape| {
            let lagging = scrape.family("director_zone_lagging");
            let kept = scrape.family("director_real_server_state");
            let kept = kept
                .iter()
                .filter(|(series, value)| series.contains("state=\"kept\"") && **value == 1);
            lagging.values().sum::<u64>() == 2 && kept.count() == 1
        })
    })?;
    let scrape = Scrape::of(&director)?;
    let ahead = format!(
        "director_zone_lag{{real_server=\"{}\",service=\"dns\",zone=\"abc.local\"}}",
        SERVERS[0]
    );
    ensure!(scrape.value(&ahead) == Some(0), "{ahead}");
    let states = scrape.family("director_real_server_state");
    let of_first = format!("real_server=\"{}\"", SERVERS[0]);
    ensure!(
        states.iter().any(|(series, value)| {
            *value == 1 && series.contains(&of_first) && series.contains("state=\"in\"")
        }),
        "the one that is ahead isn't in: {states:?}"
    );
    change(1, 6)?;
    change(2, 6)?;
    wait_for(&director, "all are up to date", SOON, &[0, 1, 2])
}

fn who_does_not_validate_leaves(lab: &mut Lab) -> Result<()> {
    let (director, host) = two_machines(lab)?;
    let [authority, careful, careless] = [SERVERS[2], SERVERS[0], SERVERS[1]];
    let zone = "$TTL 60\n@ IN SOA ns root 1 3600 600 86400 60\n@ IN NS ns\n@ IN A 192.0.2.1\nns IN A \
                127.0.0.1\n";
    let good = host.write_file("zones/good.zone", zone)?;
    let bad = host.write_file("zones/bad.zone", zone)?;
    let good_key = sign(&host, "good.local", &good, Period::Now)?;
    let bad_key = sign(&host, "bad.local", &bad, Period::Past)?;
    let zones = ["good.local", "bad.local"];
    let _named = named(
        &host,
        authority,
        &[
            ("good.local", "type primary; file \"good.zone.signed\";"),
            ("bad.local", "type primary; file \"bad.zone.signed\";"),
        ],
    )?;
    let _careful = unbound(&host, careful, authority, &zones, &[&good_key, &bad_key])?;
    let _careless = unbound(&host, careless, authority, &zones, &[])?;
    let watch = "dnssec: { signed: good.local, bogus: bad.local }";
    let check = "name: good.local, preset: recursive";
    let _director = start(&director, check, watch, "floor: 1", 2)?;
    let validates = |address, name| {
        let series = format!(
            "director_resolver_validates{{name=\"{name}\",real_server=\"{address}\",service=\"dns\"}}"
        );
        Scrape::of(&director).ok()?.value(&series)
    };
    wait_until("both were looked at", PATIENCE, || {
        ["signed", "bogus"]
            .iter()
            .all(|name| validates(careful, name) == Some(1) && validates(careless, name) == Some(0))
    })?;
    wait_for(&director, "only the careful one is in", SOON, &[0])?;
    let scrape = Scrape::of(&director)?;
    let series = format!(
        "director_zone_signature_expiry_timestamp_seconds{{real_server=\"{careful}\",service=\"dns\",zone=\"good.local\"}}"
    );
    let expiry = scrape.value(&series);
    let now = std::time::SystemTime::now()
        .duration_since(std::time::SystemTime::UNIX_EPOCH)?
        .as_secs();
    let days = expiry.map(|expiry| expiry.saturating_sub(now).div_ceil(86_400));
    ensure!(days == Some(30), "signatures end in {days:?} days");
    Ok(())
}
