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
use crate::topology::VIP;

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
