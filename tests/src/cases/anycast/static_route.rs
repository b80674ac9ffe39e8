//! No routing protocol on servers: a router's static routes, watched by BFD.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::server::Server;
use super::{DETECTION, Edge, MARGIN, VIP, answered_by, change};
use crate::case::Case;
use crate::figures;
use crate::lab::Lab;
use crate::routing::{adapted, bird, frr::Frr, ways};

/// The cases of this theme.
pub(in crate::cases) const CASES: &[Case] = &[Case::new(
    "anycast::static_route::bfd_tells_of_the_server",
    bfd_tells_of_the_server,
)
.among_routers()];

const SERVER: &str = include_str!("../../../../deploy/anycast/static-bfd-server-frr.conf");
const ROUTER: &str = include_str!("../../../../deploy/anycast/static-bfd-router-bird.conf");

const ANSWERS: [&str; 2] = ["1.2.3.1", "1.2.3.2"];

/// Three times 100 ms without a packet.
const SILENCE: Duration = Duration::from_millis(300);

fn bfd_tells_of_the_server(lab: &mut Lab) -> Result<()> {
    let Edge {
        client,
        router,
        dns,
    } = Edge::new(lab)?;
    let _bird = bird::start(&router, ROUTER)?;
    let mut servers = Vec::new();
    let mut speakers = Vec::new();
    for number in 1..=2 {
        let host = lab.add_host(&format!("dns{number}"))?;
        lab.attach(&host, "eth0", &dns, &[format!("10.211.77.1{number}/24")])?;
        host.run("ip route add default via 10.211.77.1")?;
        let gateway = format!("10.211.77.11{number}");
        let configuration = adapted(SERVER, &[("10.211.77.111", &gateway)]);
        speakers.push(Frr::start(&host, &["bfdd"], &configuration)?);
        let vips = [VIP.into(), gateway.parse()?];
        servers.push(Server::start(&host, number, &vips)?);
    }
    answered_by(&client, VIP, &ANSWERS)?;
    let limit = DETECTION + SILENCE + MARGIN;
    let dies = change(&client, VIP, &ANSWERS[1..], || servers[0].die())?;
    figures::within(
        "BIND killed, until only the other answers",
        dies.outage,
        limit,
    )?;
    let ways = ways(&router, &VIP.to_string())?;
    ensure!(ways == ["10.211.77.112".to_owned()].into(), "{ways:?}");
    let returns = change(&client, VIP, &ANSWERS, || servers[0].recover())?;
    figures::time("BIND back, until both answer", returns.moved);
    // Without any of them there is no route, and clients are told so at once.
    servers[0].die()?;
    servers[1].die()?;
    crate::lab::wait_until("the end of the route", limit, || {
        super::ways_to_vip(&router).is_empty()
    })?;
    Ok(())
}
