//! BGP: two sites with AS paths of different length, and two equal servers in one of them.

use anyhow::{Context, Result, ensure};

use super::bird::OSPF;
use super::server::Server;
use super::{
    DETECTION, MARGIN, SHORTEST_PATHS, TELLING, VIP, WITHDRAWN, answered_by, change, spread,
};
use crate::case::Case;
use crate::figures;
use crate::lab::{Host, Lab, Process};
use crate::routing::frr::Frr;
use crate::routing::{self, adapted, bird, ways};

/// The cases of this theme.
pub(in crate::cases) const CASES: &[Case] = &[Case::new(
    "anycast::bgp::the_shortest_path_wins",
    the_shortest_path_wins,
)
.among_routers()];

pub(super) const FRR: &str = include_str!("../../../../deploy/anycast/frr-bgp.conf");
pub(super) const BIRD: &str = include_str!("../../../../deploy/anycast/bird-bgp.conf");
pub(super) const HOST: &str = include_str!("../../../../deploy/anycast/frr-bgp-ospf-host.conf");

const ANSWERS: [&str; 3] = ["1.2.3.1", "1.2.3.2", "1.2.3.3"];
const COVERING: &str = "6.6.6.0/24";

/// | host | eth0 | eth1 | eth2 |
/// |---|---|---|---|
/// | client | 10.9.0.100/24 | | |
/// | core, AS 65000 | 10.9.0.1/24 | 10.9.1.1/24 | 10.9.2.1/24 |
/// | edge, AS 65001 | 10.9.1.2/24 | 10.211.77.1/24 | |
/// | dns1 (FRR), dns2 (BIRD), AS 65101 | 10.211.77.11/24 and 12 | | |
/// | transit, AS 65003, twice in its paths | 10.9.2.2/24 | 10.9.3.1/24 | |
/// | host, AS 65002 | 10.9.3.2/24 | 10.211.88.1/24 (svc0) | |
/// | dns3 (OSPF to its host) | 10.211.88.11/24 | | |
struct Internet {
    client: Host,
    core: Host,
    edge: Host,
    servers: Vec<Server>,
    routers: Vec<Frr>,
    _birds: Vec<Process>,
}

impl Internet {
    fn new(lab: &mut Lab) -> Result<Self> {
        let clients = lab.add_lan("clients")?;
        let near = lab.add_lan("near")?;
        let far = lab.add_lan("far")?;
        let farther = lab.add_lan("farther")?;
        let dns = lab.add_lan("dns")?;
        let services = lab.add_lan("services")?;

        let client = lab.add_host("client")?;
        lab.attach(&client, "eth0", &clients, &["10.9.0.100/24"])?;
        client.run("ip route add default via 10.9.0.1")?;
        let core = lab.add_host("core")?;
        lab.attach(&core, "eth0", &clients, &["10.9.0.1/24"])?;
        lab.attach(&core, "eth1", &near, &["10.9.1.1/24"])?;
        lab.attach(&core, "eth2", &far, &["10.9.2.1/24"])?;
        let edge = lab.add_host("edge")?;
        lab.attach(&edge, "eth0", &near, &["10.9.1.2/24"])?;
        lab.attach(&edge, "eth1", &dns, &["10.211.77.1/24"])?;
        let transit = lab.add_host("transit")?;
        lab.attach(&transit, "eth0", &far, &["10.9.2.2/24"])?;
        lab.attach(&transit, "eth1", &farther, &["10.9.3.1/24"])?;
        let host = lab.add_host("host")?;
        lab.attach(&host, "eth0", &farther, &["10.9.3.2/24"])?;
        lab.attach(&host, "svc0", &services, &["10.211.88.1/24"])?;

        let mut routers = Vec::new();
        for (host, configuration) in [
            (
                &core,
                router(
                    65000,
                    "10.9.0.1",
                    &[("10.9.1.2", 65001), ("10.9.2.2", 65003)],
                    "",
                ),
            ),
            (
                &edge,
                router(
                    65001,
                    "10.9.1.2",
                    &[
                        ("10.9.1.1", 65000),
                        ("10.211.77.11", 65101),
                        ("10.211.77.12", 65101),
                    ],
                    "",
                ),
            ),
            (
                &transit,
                router(
                    65003,
                    "10.9.2.2",
                    &[("10.9.2.1", 65000), ("10.9.3.2", 65002)],
                    "65003",
                ),
            ),
        ] {
            routing::forward(host)?;
            routers.push(Frr::start(host, &["bgpd"], &configuration)?);
        }
        routing::forward(&host)?;
        routers.push(Frr::start(&host, &["ospfd", "bgpd"], HOST)?);

        let mut birds = Vec::new();
        let mut servers = Vec::new();
        for number in 1..=3 {
            let host = lab.add_host(&format!("dns{number}"))?;
            if number == 3 {
                lab.attach(&host, "eth0", &services, &["10.211.88.11/24"])?;
                let here = [("10.211.77.11", "10.211.88.11"), ("0.0.0.2", "0.0.0.0")];
                birds.push(bird::start(&host, &adapted(OSPF, &here))?);
            } else {
                lab.attach(&host, "eth0", &dns, &[format!("10.211.77.1{number}/24")])?;
                if number == 1 {
                    routers.push(Frr::start(&host, &["bgpd"], FRR)?);
                } else {
                    birds.push(bird::start(&host, BIRD)?);
                }
            }
            servers.push(Server::start(&host, number, &[VIP.into()])?);
        }
        Ok(Self {
            client,
            core,
            edge,
            servers,
            routers,
            _birds: birds,
        })
    }

    fn explain(&self) -> String {
        let mut text = String::new();
        for router in &self.routers {
            text += &router.show("show bgp ipv4 unicast");
            text += &router.show("show ip route");
        }
        text
    }
}

/// What a router of the lab is told: tell all neighbours everything, and of a default route.
pub(super) fn router(
    system: u32,
    own: &str,
    neighbours: &[(&str, u32)],
    prepended: &str,
) -> String {
    let mut text = format!(
        "frr defaults datacenter
route-map OUT permit 10
 {}
exit
router bgp {system}
 bgp router-id {own}
 no bgp ebgp-requires-policy
",
        if prepended.is_empty() {
            String::new()
        } else {
            format!("set as-path prepend {prepended}")
        }
    );
    for (address, remote) in neighbours {
        text += &format!(
            " neighbor {address} remote-as {remote}
 neighbor {address} timers 1 3
 neighbor {address} timers connect 1
 address-family ipv4 unicast
  neighbor {address} default-originate
  neighbor {address} route-map OUT out
  maximum-paths 4
 exit-address-family
"
        );
    }
    text + "exit\n"
}

fn the_shortest_path_wins(lab: &mut Lab) -> Result<()> {
    let mut internet = Internet::new(lab)?;
    let client = internet.client.clone();
    let set = |ways: &[&str]| ways.iter().map(|way| (*way).to_owned()).collect();

    // The shorter path, by both servers of the site; nobody tells more than the covering prefix.
    answered_by(&client, VIP, &ANSWERS[..2]).with_context(|| internet.explain())?;
    let report = spread(&client, VIP, 100)?;
    for answer in &ANSWERS[..2] {
        // 50 are expected; fewer than 25 come about once in two million runs.
        ensure!(report.answers_by(answer) >= 25, "{report}");
    }
    ensure!(ways(&internet.core, COVERING)? == set(&["10.9.1.2"]));
    let both = set(&["10.211.77.11", "10.211.77.12"]);
    ensure!(ways(&internet.edge, COVERING)? == both);
    for host in [&internet.core, &internet.edge] {
        ensure!(
            ways(host, &format!("{VIP}/32"))?.is_empty(),
            "{}",
            host.name()
        );
    }

    let limit = DETECTION + WITHDRAWN + MARGIN;
    let dies = change(&client, VIP, &ANSWERS[1..2], || internet.servers[0].die())?;
    figures::within(
        "BIND killed, until its neighbour answers all",
        dies.outage,
        limit,
    )?;
    let dies = change(&client, VIP, &ANSWERS[2..], || internet.servers[1].die())
        .with_context(|| internet.explain())?;
    figures::within(
        "BIND killed, until the other site answers",
        dies.outage,
        limit,
    )?;
    let returns = change(&client, VIP, &ANSWERS[..1], || {
        internet.servers[0].recover()
    })?;
    figures::time("FRR's server back, until it answers all", returns.moved);
    change(&client, VIP, &ANSWERS[2..], || internet.servers[0].die())?;
    let returns = change(&client, VIP, &ANSWERS[1..2], || {
        internet.servers[1].recover()
    })?;
    figures::time("BIRD's server back, until it answers all", returns.moved);
    internet.servers[1].die()?;

    // The last one: the host stops telling what its service no longer tells.
    internet.servers[2].die()?;
    let limit = limit + TELLING + SHORTEST_PATHS;
    let gone = crate::lab::wait_until("the end of the route", limit, || {
        ways(&internet.core, COVERING).is_ok_and(|ways| ways.is_empty())
    })?;
    figures::time(
        "OSPF re-exported: BIND killed, until the route is gone",
        gone,
    );
    Ok(())
}
