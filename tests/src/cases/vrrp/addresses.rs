//! What is held, where, and what of it is advertised.

use std::net::{IpAddr, Ipv4Addr};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::duo::{Duo, INTERVAL, TOLERANCE, claims, file};
use super::pair::{ADDRESSES, first_advert, within};
use super::{PAUSE, PING_INTERVAL};
use crate::capture::Capture;
use crate::lab::{Host, Lab, wait_until};
use crate::ping;
use crate::scenario::PATIENCE;
use crate::topology::{DnsPair, VIP};

/// Address, prefix length, interface, scope and label of each, as the kernel has them.
const HELD: [(&str, u64, &str, &str, &str); 6] = [
    ("192.168.56.185", 24, "eth2", "global", "eth2"),
    ("192.168.56.187", 32, "eth2", "host", "eth2"),
    ("192.168.1.185", 32, "eth1", "link", "eth1:vip"),
    ("192.168.56.188", 24, "eth2", "global", "eth2:more"),
    ("2001:db8:56::185", 64, "eth2", "global", ""),
    ("2001:db8:1::185", 64, "eth1", "global", ""),
];
/// Those that adverts carry, in their order.
const ADVERTISED: usize = 3;

const FILE: [&str; 2] = [
    "addresses: [192.168.56.185/24, { address: 192.168.56.187/32, scope: host }, \
     { address: 192.168.1.185/32, interface: eth1, scope: link, label: 'eth1:vip' }]",
    "further_addresses: [{ address: 192.168.56.188/24, label: 'eth2:more' }, \
     '2001:db8:56::185/64', { address: '2001:db8:1::185/64', interface: eth1 }]",
];

pub(super) fn each_is_as_configured(lab: &mut Lab) -> Result<()> {
    let lan = DnsPair::new(lab)?;
    let hosts = [lan.ds1, lan.ds2];
    let found = [held(&hosts[0])?, held(&hosts[1])?];
    let capture = [Capture::start(&lan.client)?, Capture::start(&hosts[1])?];
    let mut duo = Duo::start_on(lan.client, hosts, &file(&FILE))?;
    has_all(&duo.hosts[0])?;
    ensure!(
        held(&duo.hosts[1])? == found[1],
        "the Backup holds something"
    );
    for address in ["192.168.56.185", "192.168.56.188", "2001:db8:56::185"] {
        let address: IpAddr = address.parse()?;
        ensure!(
            ping::answers(&duo.client, address, PATIENCE),
            "no answer of {address}"
        );
    }
    // On the other LAN too, and nowhere but there.
    let office: IpAddr = "192.168.1.185".parse()?;
    ensure!(ping::answers(&duo.hosts[1], office, PATIENCE), "{office}");
    for (capture, interface, announced) in [
        (&capture[0], "eth2", vec![0, 1, 3, 4]),
        (&capture[1], "eth1", vec![2, 5]),
    ] {
        let frames = capture.frames(|frame| frame.interface == interface && !frame.outgoing);
        for (index, (address, ..)) in HELD.iter().enumerate() {
            let address: IpAddr = address.parse()?;
            let told = frames
                .iter()
                .any(|frame| frame.announcement().is_some_and(|(of, _)| of == address));
            ensure!(
                told == announced.contains(&index),
                "{address} on {interface}: {told}"
            );
        }
    }
    let (_, advert) = capture[0].adverts().pop().context("no advert")?;
    let mut expected = vec![ADVERTISED as u8];
    expected.extend_from_slice(&advert.bytes[4..8]);
    for (address, ..) in &HELD[..ADVERTISED] {
        expected.extend(address.parse::<Ipv4Addr>()?.octets());
    }
    ensure!(advert.bytes[3..] == expected, "{advert:02x?}");

    // One that somebody takes away comes back as it was.
    duo.hosts[0].run("ip address delete 192.168.1.185/32 dev eth1")?;
    wait_until("it is back", Duration::from_secs(1), || {
        has_all(&duo.hosts[0]).is_ok()
    })?;
    ensure!(duo.directors[0].terminate(PATIENCE)?.success(), "SIGTERM");
    ensure!(held(&duo.hosts[0])? == found[0], "something stays behind");
    has_all(&duo.hosts[1])
}

/// An owner's addresses are its machine's, which has them whether or not a director runs.
pub(super) fn an_owner_keeps_its_own(lab: &mut Lab) -> Result<()> {
    const PRIORITY: &str = "priority: { ds1: 255, ds2: 100 }";
    let lan = DnsPair::with_service_lan_only(lab)?;
    let hosts = [lan.ds1, lan.ds2];
    hosts[0].add_address("eth2", &format!("{VIP}/24"))?;
    let before = hosts[0].run("ip -4 address show dev eth2")?;
    let capture = Capture::start(&lan.client)?;
    let yaml = file(&[PRIORITY, "addresses: [192.168.56.185/24]"]);
    let mut duo = Duo::start_on(lan.client, hosts, &yaml)?;
    let (_, advert) = capture.adverts().pop().context("no advert")?;
    ensure!(
        (advert.source, advert.priority) == (ADDRESSES[0].into(), 255),
        "{advert:02x?}"
    );
    ensure!(!duo.hosts[1].holds(VIP), "the Backup holds it");
    let load = ping::start(&duo.client, VIP, PING_INTERVAL);
    sleep(PAUSE);

    let asked = Instant::now();
    ensure!(duo.directors[0].terminate(PATIENCE)?.success(), "SIGTERM");
    wait_until("ds2 holds it", PATIENCE, || duo.hosts[1].holds(VIP))?;
    let resigned = first_advert(&capture, ADDRESSES[0], 0, asked)?;
    let taken = first_advert(&capture, ADDRESSES[1], 100, asked)?;
    within(
        "after an owner's priority 0",
        taken.saturating_duration_since(resigned),
        INTERVAL * 156 / 256 + TOLERANCE,
    )?;
    let after = duo.hosts[0].run("ip -4 address show dev eth2")?;
    ensure!(after == before, "it was {before} and is {after}");

    let started = Instant::now();
    duo.restart(0)?;
    duo.wait_for_active(0)?;
    sleep(PAUSE);
    // It asks nobody: what ds2 says ends with its first advert.
    let first = first_advert(&capture, ADDRESSES[0], 255, started)?;
    let late = claims(&capture, ADDRESSES[1], first + TOLERANCE);
    ensure!(late.is_empty(), "ds2 went on: {late:02x?}");
    ensure!(!duo.hosts[1].holds(VIP), "ds2 still holds it");
    duo.hosts[0].kill_processes();
    duo.directors[0].wait(PATIENCE)?;
    let after = duo.hosts[0].run("ip -4 address show dev eth2")?;
    ensure!(after == before, "it was {before} and is {after}");
    drop(load);
    Ok(())
}

type Held = (String, u64, String, String, String);

/// All addresses of a machine but those of `lo`, as [`HELD`] has them.
fn held(host: &Host) -> Result<Vec<Held>> {
    let links: Value = serde_json::from_str(&host.run("ip -j address show")?)?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut all = Vec::new();
    for link in links.as_array().context("no links")? {
        for info in link["addr_info"].as_array().into_iter().flatten() {
            if link["ifname"] != "lo" {
                all.push((
                    text(&info["local"]),
                    info["prefixlen"].as_u64().unwrap_or_default(),
                    text(&link["ifname"]),
                    text(&info["scope"]),
                    text(&info["label"]),
                ));
            }
        }
    }
    all.sort();
    Ok(all)
}

fn has_all(host: &Host) -> Result<()> {
    let held = held(host)?;
    for (address, length, interface, scope, label) in HELD {
        let wanted = (
            address.to_owned(),
            length,
            interface.to_owned(),
            scope.to_owned(),
            label.to_owned(),
        );
        ensure!(held.contains(&wanted), "no {wanted:?} in {held:#?}");
    }
    Ok(())
}
