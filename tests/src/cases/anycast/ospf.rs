//! OSPF with FRR: three DNS servers in an area of their own, a client behind two routers.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::server::Server;
use super::{
    DEAD_INTERVAL, DETECTION, MARGIN, SHORTEST_PATHS, TELLING, VIP, VIP_6, answered_by, change,
    spread,
};
use crate::case::Case;
use crate::figures;
use crate::lab::{Host, Lab};
use crate::routing::frr::Frr;
use crate::routing::{self, adapted};
use crate::{dns, ping};

/// The cases of this theme.
pub(in crate::cases) const CASES: &[Case] = &[
    Case::new(
        "anycast::ospf::the_next_server_takes_over",
        the_next_server_takes_over,
    )
    .among_routers(),
    Case::new(
        "anycast::ospf::equal_costs_spread_flows",
        equal_costs_spread_flows,
    )
    .among_routers(),
];

pub(super) const OSPF: &str = include_str!("../../../../deploy/anycast/frr-ospfv2.conf");
const OSPF_V3: &str = include_str!("../../../../deploy/anycast/frr-ospfv3.conf");

const ANSWERS: [&str; 3] = ["1.2.3.1", "1.2.3.2", "1.2.3.3"];

/// From the moment that a server leaves OSPF until the far router has another way: the server tells
/// its area, the near router computes and tells the others, the far router computes.
const CONVERGED: Duration = TELLING
    .saturating_mul(2)
    .saturating_add(SHORTEST_PATHS.saturating_mul(2));

/// | host | eth0 | eth1 |
/// |---|---|---|
/// | client | 10.211.66.100/24 | |
/// | far | 10.211.66.1/24, area 1 | 10.211.55.1/24, area 0 |
/// | near | 10.211.55.2/24, area 0 | 10.211.77.1/24, area 2 |
/// | dns1, dns2, dns3 | 10.211.77.11/24 to 13, area 2 | 10.0.2.15/24, their own way out |
///
/// IPv6: 2001:db8:66::/64, 2001:db8:55::/64 and 2001:db8:77::/64 likewise.
struct Network {
    client: Host,
    near: Host,
    far: Host,
    servers: Vec<Server>,
    /// The daemons of the servers.
    speakers: Vec<Frr>,
    _routers: Vec<Frr>,
}

impl Network {
    fn new(lab: &mut Lab) -> Result<Self> {
        let clients = lab.add_lan("clients")?;
        let backbone = lab.add_lan("backbone")?;
        let dns = lab.add_lan("dns")?;
        let client = lab.add_host("client")?;
        let addresses = ["10.211.66.100/24", "2001:db8:66::100/64"];
        lab.attach(&client, "eth0", &clients, &addresses)?;
        client.run("ip route add default via 10.211.66.1")?;
        client.run("ip -6 route add default via 2001:db8:66::1")?;
        let far = lab.add_host("far")?;
        lab.attach(
            &far,
            "eth0",
            &clients,
            &["10.211.66.1/24", "2001:db8:66::1/64"],
        )?;
        lab.attach(
            &far,
            "eth1",
            &backbone,
            &["10.211.55.1/24", "2001:db8:55::1/64"],
        )?;
        let near = lab.add_host("near")?;
        lab.attach(
            &near,
            "eth0",
            &backbone,
            &["10.211.55.2/24", "2001:db8:55::2/64"],
        )?;
        lab.attach(
            &near,
            "eth1",
            &dns,
            &["10.211.77.1/24", "2001:db8:77::1/64"],
        )?;
        let mut routers = Vec::new();
        for (host, number, areas) in [(&far, 1, [1, 0]), (&near, 2, [0, 2])] {
            routing::forward(host)?;
            routers.push(Frr::start(
                host,
                &["ospfd", "ospf6d"],
                &router(number, areas),
            )?);
        }
        let mut servers = Vec::new();
        let mut speakers = Vec::new();
        for number in 1..=3 {
            let host = lab.add_host(&format!("dns{number}"))?;
            let own = format!("10.211.77.1{number}");
            let addresses = [format!("{own}/24"), format!("2001:db8:77::1{number}/64")];
            lab.attach(&host, "eth0", &dns, &addresses)?;
            lab.attach_alone(&host, "eth1", &["10.0.2.15/24"])?;
            host.run("ip route add default via 10.0.2.2")?;
            let configuration = OSPF.to_owned() + OSPF_V3;
            let configuration = adapted(&configuration, &[("10.211.77.11", &own)]);
            speakers.push(Frr::start(&host, &["ospfd", "ospf6d"], &configuration)?);
            servers.push(Server::start(&host, number, &[VIP.into(), VIP_6.into()])?);
        }
        Ok(Self {
            client,
            near,
            far,
            servers,
            speakers,
            _routers: routers,
        })
    }

    fn set_cost(&self, server: usize, cost: u16) -> Result<()> {
        let cost = [
            "interface lo".to_owned(),
            format!("ip ospf cost {cost}"),
            format!("ipv6 ospf6 cost {cost}"),
        ];
        self.speakers[server].configure(&cost.each_ref().map(String::as_str))
    }

    fn explain(&self) -> String {
        let mut text = String::new();
        for host in [&self.near, &self.far] {
            let routes = host.run("ip route").unwrap_or_default();
            let routes_6 = host.run("ip -6 route").unwrap_or_default();
            text += &format!("{}:\n{routes}{routes_6}", host.name());
        }
        for router in &self._routers {
            text += &router.show("show ip ospf neighbor");
            text += &router.show("show ipv6 ospf6 neighbor");
        }
        text
    }
}

/// What a router of the lab is told.
pub(super) fn router(number: u8, areas: [u8; 2]) -> String {
    let mut text = String::from("frr defaults traditional\n");
    for (interface, area) in ["eth0", "eth1"].into_iter().zip(areas) {
        text += &format!(
            "interface {interface}
 ip ospf area {area}
 ip ospf hello-interval 2
 ip ospf dead-interval 4
 ip ospf retransmit-interval 1
 ipv6 ospf6 area 0.0.0.{area}
 ipv6 ospf6 hello-interval 2
 ipv6 ospf6 dead-interval 4
 ipv6 ospf6 retransmit-interval 1
exit
"
        );
    }
    text + &format!(
        "router ospf
 ospf router-id 0.0.0.{number}
 timers throttle lsa all 100
 timers throttle spf 10 50 500
 timers lsa min-arrival 50
exit
router ospf6
 ospf6 router-id 0.0.0.{number}
 timers throttle spf 10 50 500
 timers lsa min-arrival 50
exit
"
    )
}

fn the_next_server_takes_over(lab: &mut Lab) -> Result<()> {
    let mut network = Network::new(lab)?;
    network.set_cost(1, 20)?;
    network.set_cost(2, 30)?;
    answered_by(&network.client, VIP, &ANSWERS[..1]).with_context(|| network.explain())?;
    answered_by(&network.client, VIP_6, &ANSWERS[..1]).with_context(|| network.explain())?;
    ensure!(dns::dig(&network.client, VIP, "")? == ANSWERS[..1], "dig");
    ensure!(dns::dig(&network.client, VIP_6, "")? == ANSWERS[..1], "dig");
    ensure!(
        ping::answers(&network.client, VIP, Duration::from_secs(1)),
        "ping"
    );

    let client = network.client.clone();
    let dies = change(&client, VIP, &ANSWERS[1..2], || network.servers[0].die())?;
    let limit = DETECTION + CONVERGED + MARGIN;
    figures::within(
        "BIND killed, until the next server answers",
        dies.outage,
        limit,
    )?;
    let returns = change(&client, VIP, &ANSWERS[..1], || network.servers[0].recover())?;
    figures::time(
        "BIND back, until the near server answers all",
        returns.moved,
    );
    println!("lost on return: {}", returns.lost);

    let host = network.servers[0].host.clone();
    let fails = change(&client, VIP, &ANSWERS[1..2], || host.link_down("eth0"))?;
    let limit = DEAD_INTERVAL + CONVERGED + MARGIN;
    figures::within(
        "link lost, until the next server answers",
        fails.outage,
        limit,
    )?;
    let returns = change(&client, VIP, &ANSWERS[..1], || host.link_up("eth0"))?;
    figures::time(
        "link back, until the near server answers all",
        returns.moved,
    );
    println!("lost on return: {}", returns.lost);

    // Who plans to leave makes the route worse first.
    let worse = change(&client, VIP, &ANSWERS[1..2], || network.set_cost(0, 60_000))?;
    figures::at_most("lost by a worse cost", worse.lost, 0)?;
    let leaves = change(&client, VIP, &ANSWERS[1..2], || {
        let status = network.servers[0].leave(&[])?;
        ensure!(status == Some(0), "stop ended with {status:?}");
        Ok(())
    })?;
    figures::at_most("lost by the stop after that", leaves.lost, 0)
}

fn equal_costs_spread_flows(lab: &mut Lab) -> Result<()> {
    let network = Network::new(lab)?;
    for vip in [VIP.into(), VIP_6.into()] {
        let vip: std::net::IpAddr = vip;
        answered_by(&network.client, vip, &ANSWERS).with_context(|| network.explain())?;
        let ways = routing::ways(&network.near, &vip.to_string())?;
        ensure!(ways.len() == 3, "{vip} goes by {ways:?}");
        // 40 each are expected; fewer than 20 come about once in 50,000 runs.
        let report = spread(&network.client, vip, 120)?;
        for answer in ANSWERS {
            ensure!(report.answers_by(answer) >= 20, "{vip}: {report}");
        }
    }
    Ok(())
}
