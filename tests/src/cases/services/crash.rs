//! A director without a peer that dies and comes back, while its kernel goes on.

use std::net::Ipv4Addr;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lvs_proto::vrrp::{Advert, AdvertInterval, ChecksumForm, Version, VirtualRouterId};

use crate::capture::Capture;
use crate::cases::metrics::Scrape;
use crate::forwarding;
use crate::inject::{self, Ipv4Header};
use crate::lab::{Host, Lab, wait_until};
use crate::scenario::{PATIENCE, edited, nothing_lost, same_table};
use crate::solo::{Solo, configuration};
use crate::topology::VIP;

const SERVICES: [&str; 2] = ["UDP 192.168.56.185:53", "TCP 192.168.56.185:53"];

/// What an address owner's neighbour would be: any machine of the LAN.
const OTHER: Ipv4Addr = Ipv4Addr::new(192, 168, 56, 182);

/// `kill -9` for all processes: the kernel answers on, and who is started again takes over what it
/// finds. While it listens it keeps the VIP, unless there is another Active.
pub(super) fn a_killed_director_takes_up_where_it_was(lab: &mut Lab) -> Result<()> {
    let yaml = configuration(&[(0, 1), (1, 1)]);
    // Time enough to look while it listens.
    let yaml = edited(&yaml, "advert_interval: 500ms", "advert_interval: 1s");
    let mut solo = Solo::start(lab, &yaml)?;
    let host = solo.host().clone();
    for _ in 0..3 {
        // Nobody listens there; the kernel counts the connection nevertheless.
        let _ = solo.questions().over_tcp().ask(&solo.hosts.client);
    }
    let load = solo.questions().start(&solo.hosts.client);
    wait_until("the kernel has counted", PATIENCE, || {
        SERVICES.iter().all(|service| counted(&host, service) >= 3)
    })?;
    let table = forwarding::listed(&host)?;

    solo.director.kill_family();
    let before = SERVICES.map(|service| counted(&host, service));
    sleep(Duration::from_secs(1));
    ensure!(host.processes().is_empty(), "not all have been killed");
    let capture = Capture::start(&solo.hosts.client)?;
    solo.restart(&yaml)?;
    let mut kept = Ok(());
    wait_until("it is Active again", PATIENCE, || {
        if kept.is_ok() {
            kept =
                forwarding::table(&host).and_then(|found| same_table("on the way", &found, &table));
        }
        if !host.holds(VIP) && kept.is_ok() {
            kept = Err(anyhow::anyhow!("the VIP was given up"));
        }
        !capture.adverts().is_empty()
    })?;
    kept?;
    // The kernel renews what it counts every 2 s.
    sleep(Duration::from_millis(2500));
    let after = SERVICES.map(|service| counted(&host, service));
    let report = load.stop();
    println!("measured: killed and started again: {report}; {before:?} counted, then {after:?}");
    nothing_lost(&report)?;
    ensure!(after[0] > before[0] && after[1] >= before[1], "made anew");

    solo.director.kill_family();
    solo.restart(&yaml)?;
    wait_until("it listens", PATIENCE, || {
        Scrape::of(&host).is_ok_and(|scrape| !scrape.family("director_vrrp_state").is_empty())
    })?;
    ensure!(
        host.holds(VIP),
        "the VIP was given up before there was another Active"
    );
    advertise(&solo.hosts.ds2)?;
    let took = wait_until("the VIP is given up", PATIENCE, || !host.holds(VIP))?;
    println!("measured: another's advert took the VIP within {took:.1?}");
    // It would have become Active by itself after 3 s.
    let limit = lab.mode().choose(2000, 500);
    ensure!(
        took < Duration::from_millis(limit),
        "given up after {took:?}"
    );
    Ok(())
}

fn counted(host: &Host, service: &str) -> u64 {
    forwarding::connections(host, service).unwrap_or_default()
}

/// One advert of a router with a lower priority, which is Active nevertheless.
fn advertise(from: &Host) -> Result<()> {
    let group = Ipv4Addr::new(224, 0, 0, 18);
    let advert = Advert {
        version: Version::V3,
        virtual_router: VirtualRouterId::new(50).context("no identifier")?,
        priority: 100,
        interval: AdvertInterval::new(Version::V3, Duration::from_secs(1))
            .context("no interval")?,
        addresses: vec![VIP.into()],
        password: None,
    };
    let message = advert.to_bytes(OTHER.into(), group.into(), ChecksumForm::PseudoHeader);
    let header = Ipv4Header {
        source: OTHER,
        destination: group,
        ttl: 255,
        protocol: 112,
    };
    inject::ipv4(from, "eth2", header, &message)
}
