//! Tiers: a degraded server stays announced, at a worse metric.

use anyhow::{Context, Result, ensure};

use super::server::Server;
use super::{DETECTION, Edge, MARGIN, VIP, answered_by, bgp, change, ospf};
use crate::case::Case;
use crate::figures;
use crate::lab::{Host, Lab};
use crate::routing::frr::Frr;
use crate::routing::{adapted, bird};

/// The cases of this theme.
pub(in crate::cases) const CASES: &[Case] = &[
    Case::new("anycast::tiers::by_ospf_of_frr", by_ospf_of_frr).among_routers(),
    Case::new("anycast::tiers::by_ospf_of_bird", by_ospf_of_bird).among_routers(),
    Case::new("anycast::tiers::by_bgp", by_bgp).among_routers(),
];

const ANSWERS: [&str; 2] = ["1.2.3.1", "1.2.3.2"];

#[derive(Clone, Copy)]
enum Speaker {
    FrrOspf,
    BirdOspf,
    FrrBgp,
    BirdBgp,
}

impl Speaker {
    fn start(self, host: &Host, own: &str) -> Result<Box<dyn std::any::Any>> {
        let daemon: Box<dyn std::any::Any> = match self {
            Self::FrrOspf => {
                let configuration = adapted(ospf::OSPF, &[("10.211.77.11", own)]);
                Box::new(Frr::start(host, &["ospfd"], &configuration)?)
            }
            Self::BirdOspf => {
                let configuration = adapted(super::bird::OSPF, &[("10.211.77.11", own)]);
                Box::new(bird::start(host, &configuration)?)
            }
            Self::FrrBgp => {
                let configuration = adapted(bgp::FRR, &[("10.211.77.11", own)]);
                Box::new(Frr::start(host, &["bgpd"], &configuration)?)
            }
            Self::BirdBgp => {
                let configuration = adapted(bgp::BIRD, &[("10.211.77.12", own)]);
                Box::new(bird::start(host, &configuration)?)
            }
        };
        Ok(daemon)
    }
}

fn by_ospf_of_frr(lab: &mut Lab) -> Result<()> {
    let router = ospf::router(1, [0, 2]);
    a_degraded_server_comes_last(lab, &["ospfd", "ospf6d"], &router, [Speaker::FrrOspf; 2])
}

fn by_ospf_of_bird(lab: &mut Lab) -> Result<()> {
    let router = ospf::router(1, [0, 2]);
    a_degraded_server_comes_last(lab, &["ospfd", "ospf6d"], &router, [Speaker::BirdOspf; 2])
}

fn by_bgp(lab: &mut Lab) -> Result<()> {
    let servers = [("10.211.77.11", 65101), ("10.211.77.12", 65101)];
    let router = bgp::router(65001, "10.211.77.1", &servers, "");
    a_degraded_server_comes_last(lab, &["bgpd"], &router, [Speaker::FrrBgp, Speaker::BirdBgp])
}

/// Of two equal servers one is degraded, then the other; then the healthy one dies.
fn a_degraded_server_comes_last(
    lab: &mut Lab,
    daemons: &[&str],
    configuration: &str,
    speakers: [Speaker; 2],
) -> Result<()> {
    let Edge {
        client,
        router,
        dns,
    } = Edge::new(lab)?;
    let frr = Frr::start(&router, daemons, configuration)?;
    let mut running = Vec::new();
    let mut servers = Vec::new();
    for (number, speaker) in (1..).zip(speakers) {
        let host = lab.add_host(&format!("dns{number}"))?;
        let own = format!("10.211.77.1{number}");
        lab.attach(&host, "eth0", &dns, &[format!("{own}/24")])?;
        // Not every kernel has dummy interfaces.
        lab.attach_alone(&host, "dns1", &[] as &[&str])?;
        running.push(speaker.start(&host, &own)?);
        servers.push(Server::start_in_tiers(&host, number, &[VIP.into()])?);
    }
    answered_by(&client, VIP, &ANSWERS)
        .with_context(|| frr.show("show ip route") + &frr.show("show bgp ipv4"))?;
    for degraded in [0, 1] {
        let healthy = 1 - degraded;
        let moves = change(&client, VIP, &ANSWERS[healthy..=healthy], || {
            servers[degraded].degrade()
        })?;
        figures::time(
            "degraded, until the healthy server answers all",
            moves.moved,
        );
        let dies = change(&client, VIP, &ANSWERS[degraded..=degraded], || {
            servers[healthy].die()
        })?;
        figures::within(
            "the healthy server killed, until the degraded one answers",
            dies.outage,
            // BIRD tells and computes once a tick.
            DETECTION + super::bird::TICK + super::WITHDRAWN + MARGIN,
        )?;
        servers[healthy].recover()?;
        servers[healthy].improve()?;
        servers[degraded].improve()?;
        answered_by(&client, VIP, &ANSWERS)?;
    }
    // Within the last look they may have answered one after the other.
    answered_by(&client, VIP, &ANSWERS)?;
    // One leaves: routers prefer the other before the VIP goes.
    let mut status = None;
    let leaves = change(&client, VIP, &ANSWERS[1..], || {
        status = servers[0].leave(&["--drain", "--quiet", "1s"])?;
        Ok(())
    })?;
    ensure!(status == Some(3), "stop --drain ended with {status:?}");
    // BIND listens anew when the VIP changes its interface.
    figures::at_most("lost by stop --drain", leaves.lost, 10)
}
