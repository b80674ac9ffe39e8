//! OSPF with BIRD 2: two sites with a host that routes, and a service in a namespace of its own.

use anyhow::{Context, Result, ensure};

use super::server::Server;
use super::{DEAD_INTERVAL, DETECTION, MARGIN, TELLING, VIP, VIP_6, answered_by, change};
use crate::case::Case;
use crate::figures;
use crate::lab::{Host, Lab, Process, wait_until};
use crate::routing::{self, CONVERGENCE, adapted, bird, ways};

/// The cases of this theme.
pub(in crate::cases) const CASES: &[Case] = &[Case::new(
    "anycast::bird::transit_traffic_passes_through",
    transit_traffic_passes_through,
)
.among_routers()];

pub(super) const OSPF: &str = include_str!("../../../../deploy/anycast/bird-ospf.conf");

const ANSWERS: [&str; 2] = ["1.2.3.1", "1.2.3.2"];

/// `tick` of the files: as long may BIRD wait before it computes routes.
pub(super) const TICK: std::time::Duration = std::time::Duration::from_secs(1);

/// | host | eth0 | eth1 | svc0 |
/// |---|---|---|---|
/// | client | 10.9.0.100/24 | | |
/// | host1 | 10.9.0.1/24 | 10.9.1.1/24 | 10.211.81.1/24 |
/// | host2 | | 10.9.1.2/24 | 10.211.82.1/24 |
/// | service1 | 10.211.81.11/24 | | |
/// | service2 | 10.211.82.11/24 | | |
///
/// IPv6: 2001:db8:90::/64, 2001:db8:91::/64, 2001:db8:81::/64 and 2001:db8:82::/64 likewise.
struct Sites {
    client: Host,
    hosts: Vec<Host>,
    services: Vec<Server>,
    _speakers: Vec<Process>,
}

impl Sites {
    fn new(lab: &mut Lab) -> Result<Self> {
        let clients = lab.add_lan("clients")?;
        let between = lab.add_lan("between")?;
        let client = lab.add_host("client")?;
        let addresses = ["10.9.0.100/24", "2001:db8:90::100/64"];
        lab.attach(&client, "eth0", &clients, &addresses)?;
        client.run("ip route add default via 10.9.0.1")?;
        client.run("ip -6 route add default via 2001:db8:90::1")?;
        let mut sites = Self {
            client,
            hosts: Vec::new(),
            services: Vec::new(),
            _speakers: Vec::new(),
        };
        for number in 1..=2 {
            let host = lab.add_host(&format!("host{number}"))?;
            if number == 1 {
                lab.attach(
                    &host,
                    "eth0",
                    &clients,
                    &["10.9.0.1/24", "2001:db8:90::1/64"],
                )?;
            }
            let own = [
                format!("10.9.1.{number}/24"),
                format!("2001:db8:91::{number}/64"),
            ];
            lab.attach(&host, "eth1", &between, &own)?;
            let services = lab.add_lan(&format!("services{number}"))?;
            let own = [
                format!("10.211.8{number}.1/24"),
                format!("2001:db8:8{number}::1/64"),
            ];
            lab.attach(&host, "svc0", &services, &own)?;
            routing::forward(&host)?;
            sites._speakers.push(bird::start(&host, &router(number))?);
            sites.hosts.push(host);

            let service = lab.add_host(&format!("service{number}"))?;
            let own = format!("10.211.8{number}.11");
            let addresses = [format!("{own}/24"), format!("2001:db8:8{number}::11/64")];
            lab.attach(&service, "eth0", &services, &addresses)?;
            let here = [("10.211.77.11", own.as_str()), ("0.0.0.2", "0.0.0.0")];
            let configuration = adapted(OSPF, &here);
            sites._speakers.push(bird::start(&service, &configuration)?);
            let vips = [VIP.into(), VIP_6.into()];
            let server = Server::start(&service, number, &vips)?;
            sites.services.push(server);
        }
        Ok(sites)
    }
}

/// What a host that routes is told.
fn router(number: u8) -> String {
    let interfaces = "area 0 {
        interface \"eth0\" { stub; };
        interface \"eth1\", \"svc0\" { cost 1; hello 2; dead count 2; retransmit 2; };
    };";
    format!(
        "log stderr all;
router id 0.0.0.{number};
protocol device {{ }}
protocol ospf v2 {{ tick 1; ipv4 {{ import all; }}; {interfaces} }}
protocol ospf v3 {{ tick 1; ipv6 {{ import all; }}; {interfaces} }}
protocol kernel {{ merge paths on; ipv4 {{ export all; }}; }}
protocol kernel {{ merge paths on; ipv6 {{ export all; }}; }}
"
    )
}

fn transit_traffic_passes_through(lab: &mut Lab) -> Result<()> {
    let mut sites = Sites::new(lab)?;
    let client = sites.client.clone();
    let vips: [std::net::IpAddr; 2] = [VIP.into(), VIP_6.into()];
    for vip in vips {
        answered_by(&client, vip, &ANSWERS[..1]).with_context(|| sites.explain())?;
    }

    // The host's route goes, and what is for the VIP passes through to the other site.
    let limit = DETECTION + TELLING + TICK + MARGIN;
    let dies = change(&client, VIP, &ANSWERS[1..], || sites.services[0].die())?;
    figures::within(
        "BIND killed, until the other site answers",
        dies.outage,
        limit,
    )?;
    answered_by(&client, VIP_6, &ANSWERS[1..])?;
    ensure!(ways(&sites.hosts[0], &VIP.to_string())? == ["10.9.1.2".to_owned()].into());

    // The same by IPv6, and while the VIP's subnet stays announced by the host.
    change(&client, VIP, &ANSWERS[..1], || sites.services[0].recover())?;
    sites.hosts[0].add_address("svc0", "6.6.6.1/29")?;
    sites.hosts[0].add_address("svc0", "2001:db8:6::1/64")?;
    for covering in ["6.6.6.0/29", "2001:db8:6::/64"] {
        wait_until("the covering prefix at the other site", CONVERGENCE, || {
            ways(&sites.hosts[1], covering).is_ok_and(|ways| !ways.is_empty())
        })?;
    }
    answered_by(&client, VIP_6, &ANSWERS[..1])?;
    let dies = change(&client, VIP_6, &ANSWERS[1..], || sites.services[0].die())?;
    figures::within(
        "IPv6, covering prefix announced: BIND killed, until the other site answers",
        dies.outage,
        limit,
    )?;
    answered_by(&client, VIP, &ANSWERS[1..])?;
    for covering in ["6.6.6.0/29", "2001:db8:6::/64"] {
        let ways = ways(&sites.hosts[1], covering)?;
        ensure!(!ways.is_empty(), "{covering} was withdrawn");
    }

    // All of the service is gone at once, and nobody says so.
    change(&client, VIP, &ANSWERS[..1], || sites.services[0].recover())?;
    answered_by(&client, VIP_6, &ANSWERS[..1])?;
    let service = sites.services[0].host.clone();
    let gone = change(&client, VIP, &ANSWERS[1..], || {
        service.kill_processes();
        Ok(())
    })?;
    figures::within(
        "the whole namespace killed, until the other site answers",
        gone.outage,
        DEAD_INTERVAL + TICK + MARGIN,
    )?;
    answered_by(&client, VIP_6, &ANSWERS[1..])
}

impl Sites {
    fn explain(&self) -> String {
        let mut text = String::new();
        for host in &self.hosts {
            for command in [
                "ip route",
                "ip -6 route",
                "birdc -s /run/bird.ctl show protocols",
                "birdc -s /run/bird.ctl show ospf neighbors ospf1",
            ] {
                let output = host.run(command).unwrap_or_else(|error| error.to_string());
                text += &format!("{} {command}:\n{output}", host.name());
            }
        }
        text
    }
}
