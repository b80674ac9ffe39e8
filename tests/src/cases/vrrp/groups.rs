//! Virtual routers of one machine that move together.

use std::net::{IpAddr, Ipv4Addr};
use std::thread::sleep;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::duo::{Duo, INTERVAL, PRIORITIES, TOLERANCE, claims, entry, wait_for};
use super::pair::{ADDRESSES, first_advert, within};
use super::{PAUSE, PING_INTERVAL};
use crate::capture::Capture;
use crate::lab::Lab;
use crate::ping;
use crate::topology::{VIP, two_seats};
use crate::traffic::Load;

/// The directors on the second LAN, and its VIP.
const OFFICE: [Ipv4Addr; 2] = [
    Ipv4Addr::new(192, 168, 1, 181),
    Ipv4Addr::new(192, 168, 1, 182),
];
const OFFICE_VIP: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 185);

/// A router that lost one of its two LANs would get packets on the other that it can't pass on.
pub(super) fn a_lost_link_moves_all(lab: &mut Lab) -> Result<()> {
    let (client, seats) = two_seats(lab, "")?;
    let office = lab.add_hub("office")?;
    lab.attach(&client, "eth1", &office, &["192.168.1.10/24"])?;
    let hosts = seats.map(|seat| seat.host);
    for (host, address) in hosts.iter().zip(OFFICE) {
        lab.attach(host, "eth1", &office, &[format!("{address}/24")])?;
    }
    let yaml = format!(
        "vrrp:\n{}{}",
        entry("dns", 50, &["addresses: [192.168.56.185/24]", "group: all"]),
        entry(
            "office",
            51,
            &[
                "interface: eth1",
                "addresses: [192.168.1.185/24]",
                "group: all"
            ]
        ),
    );
    let duo = Duo::start_on(client, hosts, &yaml)?;
    let capture = Capture::start(&duo.client)?;
    let loads = [VIP, OFFICE_VIP].map(|vip| ping::start(&duo.client, vip, PING_INTERVAL));
    sleep(PAUSE);

    let lost = Instant::now();
    duo.hosts[0].link_down("eth1")?;
    for name in ["dns", "office"] {
        wait_for("ds1 is in fault", &duo.hosts[0], name, |one| {
            one["state"] == "fault"
        })?;
        wait_for("ds2 is Active", &duo.hosts[1], name, |one| {
            one["state"] == "active"
        })?;
    }
    sleep(PAUSE);
    let moved = Instant::now();
    // Nobody hears ds1 leave on the lost LAN: ds2 takes both over when an advert is missing there, not
    // one without the other.
    let missed = INTERVAL * 3 / 2;
    let resigned = first_advert(&capture, ADDRESSES[0], 0, lost)?;
    within(
        "from the loss to priority 0",
        resigned.saturating_duration_since(lost),
        TOLERANCE,
    )?;
    for (own, what) in [(ADDRESSES[1], "service LAN"), (OFFICE[1], "office LAN")] {
        let taken = first_advert(&capture, own, PRIORITIES[1], lost)?;
        let took = taken.saturating_duration_since(resigned);
        within(&format!("takeover on the {what}"), took, missed + TOLERANCE)?;
    }
    for own in [IpAddr::from(ADDRESSES[0]), OFFICE[0].into()] {
        let late = claims(&capture, own, resigned);
        ensure!(late.is_empty(), "{own} went on: {late:02x?}");
    }
    for vip in [VIP, OFFICE_VIP] {
        ensure!(!duo.hosts[0].holds(vip), "ds1 still holds {vip}");
    }

    duo.hosts[0].link_up("eth1")?;
    duo.wait_for_active(0)?;
    sleep(PAUSE);
    let first_claim = |own: Ipv4Addr| {
        let first = claims(&capture, own, moved).into_iter().next();
        let (at, _) = first.with_context(|| format!("{own} never came back"))?;
        anyhow::Ok(at)
    };
    let (service, office) = (first_claim(ADDRESSES[0])?, first_claim(OFFICE[0])?);
    let apart = service
        .saturating_duration_since(office)
        .max(office.saturating_duration_since(service));
    within("apart on the way back", apart, TOLERANCE)?;
    for (own, back) in [(ADDRESSES[1], service), (OFFICE[1], office)] {
        let late = claims(&capture, own, back + INTERVAL + TOLERANCE);
        ensure!(late.is_empty(), "{own} went on: {late:02x?}");
    }
    let [service, office] = loads.map(Load::stop);
    println!("measured: service LAN: {service}; office LAN: {office}");
    // Where the link is whole, what is lost is lost before ds2 has taken over.
    let gap = service.longest_gap();
    within("gap on the service LAN", gap, missed + 2 * TOLERANCE)?;
    let returned = service.since(moved);
    ensure!(returned.lost() == 0, "on the way back: {returned}");
    Ok(())
}
