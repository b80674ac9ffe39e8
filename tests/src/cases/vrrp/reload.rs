//! What a reload adds and removes, and what stays meanwhile.

use std::net::{IpAddr, Ipv4Addr};
use std::thread::sleep;

use anyhow::{Context, Result, ensure};

use super::duo::{
    Duo, INTERVAL, TOLERANCE, VIRTUAL_ROUTER_ID, configuration, entry, file, instance, never_active,
};
use super::pair::{ADDRESSES, adverts_of, within};
use super::{PAUSE, PING_INTERVAL};
use crate::capture::Capture;
use crate::cases::neighbour::neighbour;
use crate::lab::{Lab, Mac, wait_until};
use crate::ping;
use crate::scenario::PATIENCE;
use crate::stall::{Watchers, adverts_in_time};
use crate::topology::{VIP, two_seats};

const ADDRESS: &str = "addresses: [192.168.56.185/24]";
const OTHER: Ipv4Addr = Ipv4Addr::new(192, 168, 56, 186);
const VIRTUAL_MAC: Mac = [0, 0, 0x5e, 0, 1, 50];

/// Who is Active stays so, and its VIP answers all the time, whatever else comes and goes.
pub(super) fn what_stays_is_not_touched(lab: &mut Lab) -> Result<()> {
    let plain = file(&[ADDRESS]);
    let duo = Duo::start(lab, &plain)?;
    let capture = Capture::start(&duo.client)?;
    let load = ping::start(&duo.client, VIP, PING_INTERVAL);
    let both = |yaml: &str| -> Result<()> {
        for director in [1, 0] {
            duo.reload(director, yaml)?;
        }
        sleep(4 * INTERVAL + PAUSE);
        for (host, state) in duo.hosts.iter().zip(["active", "backup"]) {
            let found = instance(host, "dns")?;
            ensure!(found["state"] == state, "{yaml}: {found:#}");
        }
        Ok(())
    };
    let holds = |address: Ipv4Addr| duo.hosts[0].holds(address);

    both(&file(&[
        "addresses: [192.168.56.185/24, 192.168.56.186/24]",
        "further_addresses: ['2001:db8:56::185/64']",
    ]))?;
    ensure!(
        ping::answers(&duo.client, OTHER, PATIENCE),
        "no answer of the second"
    );
    let further: IpAddr = "2001:db8:56::185".parse()?;
    ensure!(
        ping::answers(&duo.client, further, PATIENCE),
        "nor of the further one"
    );
    both(&plain)?;
    ensure!(!holds(OTHER) && !duo.hosts[0].holds(further), "they stay");

    // Another virtual router, in a group with the first, and alone again.
    for group in ["group: all", "preempt: true"] {
        both(&configuration(&[
            entry("dns", VIRTUAL_ROUTER_ID, &[ADDRESS, group]),
            entry("other", 51, &["addresses: [192.168.56.186/24]", group]),
        ]))?;
        ensure!(holds(OTHER), "the second virtual router isn't Active");
    }
    both(&plain)?;
    ensure!(!holds(OTHER), "it stays");

    let unicast = file(&[
        ADDRESS,
        "peers: { ds1: [192.168.56.182], ds2: [192.168.56.181] }",
    ]);
    for director in [0, 1] {
        duo.reload(director, &unicast)?;
    }
    both(&unicast)?;
    let (_, last) = adverts_of(&capture, ADDRESSES[0])
        .pop()
        .context("no advert")?;
    ensure!(
        last.destination == IpAddr::from(ADDRESSES[1]),
        "{last:02x?}"
    );
    both(&plain)?;
    let report = load.stop();
    println!("measured: addresses, routers, group and peers: {report}");
    ensure!(report.lost() == 0, "{report}");
    never_active(&capture, ADDRESSES[1])?;

    // The VIP moves to the macvlan and back: clients learn another Ethernet address.
    let before = (
        duo.hosts[0].run("ip -br link")?,
        duo.hosts[0].interface_sysctls(),
    );
    let virtual_mac = file(&[ADDRESS, "virtual_mac: true"]);
    let load = ping::start(&duo.client, VIP, PING_INTERVAL);
    for (yaml, mac) in [
        (&virtual_mac, VIRTUAL_MAC),
        (&plain, duo.hosts[0].mac("eth2")),
    ] {
        both(yaml)?;
        wait_until("the client follows", PATIENCE, || {
            neighbour(&duo.client, VIP) == Some(mac)
        })?;
    }
    let gap = load.stop().longest_gap();
    within("gap of another Ethernet address", gap, INTERVAL + TOLERANCE)?;
    never_active(&capture, ADDRESSES[1])?;
    let after = (
        duo.hosts[0].run("ip -br link")?,
        duo.hosts[0].interface_sysctls(),
    );
    ensure!(after == before, "{before:#?}, then {after:#?}");
    Ok(())
}

/// What has the name of the interface goes only when what takes its place is there, and stays when that
/// can't be.
pub(super) fn a_virtual_mac_moves(lab: &mut Lab) -> Result<()> {
    let (client, seats) = two_seats(lab, "")?;
    let hosts = seats.map(|seat| seat.host);
    let office = lab.add_hub("office")?;
    lab.attach(&client, "eth1", &office, &["192.168.1.10/24"])?;
    lab.attach(&hosts[0], "eth1", &office, &["192.168.1.181/24"])?;
    let director = &hosts[0];
    director.run("ip link add taken type bridge")?;
    let links = || director.run("ip -br link");
    let before = links()?;
    let plain = file(&[ADDRESS, "virtual_mac: vip"]);
    let mut duo = Duo::start_on(client, hosts.clone(), &plain)?;
    let mac_is = |vip: Ipv4Addr, id: u8| {
        wait_until("the client follows", PATIENCE, || {
            ping::answers(&duo.client, vip, PAUSE)
                && neighbour(&duo.client, vip) == Some([0, 0, 0x5e, 0, 1, id])
        })
        .with_context(|| format!("{vip} at {id}: {:02x?}", neighbour(&duo.client, vip)))
    };
    mac_is(VIP, 50)?;

    // The first could be opened, the second can't.
    let there = links()?;
    let load = ping::start(&duo.client, VIP, PING_INTERVAL);
    let other = "addresses: [192.168.56.186/24]";
    for first in [
        entry("dns", 51, &[ADDRESS, "virtual_mac: vip"]),
        entry("dns", 50, &[ADDRESS, "virtual_mac: another"]),
    ] {
        let second = entry("other", 52, &[other, "virtual_mac: taken"]);
        duo.refuses(0, &configuration(&[first, second]))?;
        ensure!(links()? == there, "{there}, then {}", links()?);
    }
    // The same interface for another socket, and another one of another name.
    let unicast = "peers: { ds1: [192.168.56.182], ds2: [192.168.56.181] }";
    for lines in [
        &[ADDRESS, "virtual_mac: vip", unicast][..],
        &[ADDRESS, "virtual_mac: vip"],
        &[ADDRESS, "virtual_mac: another"],
        &[ADDRESS, "virtual_mac: vip"],
    ] {
        for index in [1, 0] {
            duo.reload(index, &file(lines))?;
        }
        sleep(4 * INTERVAL);
        mac_is(VIP, 50)?;
        ensure!(instance(director, "dns")?["state"] == "active", "{lines:?}");
    }
    let gap = load.stop().longest_gap();
    within("gap of another interface", gap, INTERVAL + TOLERANCE)?;

    // Two change places, and one moves to the other LAN. These are new virtual routers.
    let virtual_mac = |name: &str, id: u8, address: &'static str, interface: &'static str| {
        let name = format!("virtual_mac: {name}");
        entry(&name[13..], id, &[address, &name, interface])
    };
    let near = "interface: eth2";
    for (vip, other_vip) in [("vip", "wip"), ("wip", "vip")] {
        duo.reload(
            0,
            &configuration(&[
                virtual_mac(vip, 60, ADDRESS, near),
                virtual_mac(other_vip, 61, other, near),
            ]),
        )?;
        mac_is(VIP, 60)?;
        mac_is(OTHER, 61)?;
    }
    let far = "addresses: [192.168.1.185/24]";
    duo.reload(
        0,
        &configuration(&[
            virtual_mac("vip", 60, far, "interface: eth1"),
            virtual_mac("wip", 61, other, near),
        ]),
    )?;
    mac_is(OTHER, 61)?;
    mac_is(Ipv4Addr::new(192, 168, 1, 185), 60)?;
    ensure!(!director.holds(VIP), "the VIP stays");
    ensure!(
        links()?.contains("vip@eth1") && links()?.contains("wip@eth2"),
        "{}",
        links()?
    );
    ensure!(duo.directors[0].terminate(PATIENCE)?.success(), "SIGTERM");
    ensure!(links()? == before, "{before}, then {}", links()?);
    Ok(())
}

/// Closing the socket of one announcement takes 8 ms at least on a kernel with 250 ticks a second, and
/// adverts don't wait for it.
pub(super) fn no_advert_waits(lab: &mut Lab) -> Result<()> {
    const OTHERS: u8 = 24;
    let interval = INTERVAL / 2;
    let often = format!("advert_interval: {}ms", interval.as_millis());
    let stays = entry("dns", VIRTUAL_ROUTER_ID, &[ADDRESS, &often]);
    let mut all = vec![stays.clone()];
    for number in 100..100 + OTHERS {
        let address = format!("addresses: [192.168.56.{number}/24]");
        all.push(entry(&format!("other{number}"), number, &[&address]));
    }
    let duo = Duo::start(lab, &configuration(&all))?;
    let watchers = Watchers::start()?;
    let capture = Capture::start(&duo.client)?;
    sleep(PAUSE);
    duo.reload(0, &configuration(&[stays]))?;
    sleep(PAUSE);
    let adverts: Vec<_> = adverts_of(&capture, ADDRESSES[0])
        .into_iter()
        .filter(|(_, advert)| advert.virtual_router_id == VIRTUAL_ROUTER_ID)
        .collect();
    let times = adverts.into_iter().map(|(at, _)| at);
    adverts_in_time(times, interval, TOLERANCE, watchers)
}
