//! The way that clients' queries take to a real server: what goes wrong there while the server answers on
//! its own address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::case::{Case, Mode};
use crate::forwarding;
use crate::lab::{Host, Lab, wait_until};
use crate::peer::virtual_server::{Recipe, VirtualServer, balance};
use crate::responder::Responder;
use crate::scenario::{CONFIGURATION, PATIENCE, Pair, SERVERS};
use crate::topology::{DnsPair, VIP, hold_vip_silently};

/// The cases of this theme.
pub(super) const CASES: &[Case] = &[
    Case::new("path::a_missing_vip_is_named", a_missing_vip_is_named)
        .needing_ipvs()
        .within(Duration::from_secs(240))
        .soaked(),
    Case::new(
        "path::what_is_wrong_is_told_apart",
        what_is_wrong_is_told_apart,
    )
    .needing_ipvs()
    .within(Duration::from_secs(240)),
    Case::new(
        "path::a_missing_ipv6_vip_is_named",
        a_missing_ipv6_vip_is_named,
    )
    .needing_ipvs(),
    Case::new(
        "path::a_vip_missing_behind_a_tunnel_is_named",
        a_vip_missing_behind_a_tunnel_is_named,
    )
    .needing_ipvs(),
    Case::new(
        "path::a_vip_on_no_server_takes_nobody_out",
        a_vip_on_no_server_takes_nobody_out,
    )
    .needing_ipvs(),
];

/// From `rs-agent stop` to a table without the server.
const OUT_WITHIN: Duration = Duration::from_secs(2);
/// Programs run about 20 times slower in the guest, and on a busy machine they wait for each other.
const PROGRAM_ALLOWANCE: Duration = Duration::from_secs(8);
const ACCEPT_LOCAL: &str = "net.ipv4.conf.eth2.accept_local";

fn a_missing_vip_is_named(lab: &mut Lab) -> Result<()> {
    let hosts = DnsPair::with_service_lan_only(lab)?;
    let third = lab.add_host("keepalived")?;
    lab.attach(&third, "eth2", &hosts.service_lan, &["192.168.56.180/24"])?;
    let mut pair = Pair::start_on(hosts, CONFIGURATION)?;
    let servers = SERVERS.map(|server| (server, 1));
    let theirs = VirtualServer::new(VIP, servers).checked(Recipe::DnsCheck);
    let _keepalived = balance(&third, &[theirs.eager().one_packet()])?;
    let both = |host: &Host| {
        forwarding::table(host).is_ok_and(|table| {
            let has = |server: &str| {
                let start = format!("UDP {VIP}:53 -> {server}:53");
                table.iter().any(|line| line.starts_with(&start))
            };
            SERVERS.iter().all(|server| has(server))
        })
    };
    wait_until("keepalived forwards to both", PATIENCE, || both(&third))?;
    for director in [0, 1] {
        let host = pair.director(director);
        let probes = forwarding::probes(host)?;
        ensure!(probes.len() == 4, "{probes:#?}");
        ensure!(host.sysctl(ACCEPT_LOCAL)? == "1");
    }

    let (server, name) = (&pair.hosts.rs1, SERVERS[0]);
    for round in 0..2 {
        server.run("rs-agent stop")?;
        let stopped = Instant::now();
        for director in [0, 1] {
            pair.wait_for_servers(director, &SERVERS[1..])?;
        }
        let elapsed = stopped.elapsed();
        let limit = match lab.mode() {
            Mode::Soak => OUT_WITHIN,
            Mode::Once => OUT_WITHIN + PROGRAM_ALLOWANCE,
        };
        println!("measured: out of both tables {elapsed:.3?} after `rs-agent stop`");
        ensure!(elapsed <= limit, "out after {elapsed:?}");
        for director in [0, 1] {
            let host = pair.director(director);
            said_of(host, name, "vip-missing")?;
        }
        if round == 0 {
            // keepalived looks every second, and has had time for several looks.
            sleep(Duration::from_secs(4));
            ensure!(both(&third), "keepalived has taken the server out");
            println!("measured: keepalived keeps it");
        }
        server.run(&format!("rs-agent start --vip {VIP}"))?;
        for director in [0, 1] {
            pair.wait_for_servers(director, &SERVERS)?;
        }
        if round == 0 {
            // The roles change, and nobody leaves for it.
            pair.director(0).run("director handover --for 60s")?;
            pair.wait_for_active(1)?;
            sleep(Duration::from_secs(2));
            for director in [0, 1] {
                pair.wait_for_servers(director, &SERVERS)?;
            }
        }
    }

    for director in [0, 1] {
        let found = pair.directors[director].terminate(PATIENCE)?;
        ensure!(found.success(), "{found}");
        let host = pair.director(director);
        let probes = forwarding::probes(host)?;
        ensure!(probes.is_empty(), "{probes:#?}");
        ensure!(host.sysctl(ACCEPT_LOCAL)? == "0");
    }
    Ok(())
}

fn what_is_wrong_is_told_apart(lab: &mut Lab) -> Result<()> {
    let yaml = CONFIGURATION.replace("protocols: [udp, tcp]", "protocols: [udp]");
    let hosts = DnsPair::with_service_lan_only(lab)?;
    for server in [&hosts.rs1, &hosts.rs2] {
        server.run(&format!("rs-agent start --vip {VIP}"))?;
    }
    let any = SocketAddr::from(([0, 0, 0, 0], 53));
    let own = |server: &str| anyhow::Ok(SocketAddr::new(server.parse()?, 53));
    let _second = Echo::start(&hosts.rs2, vec![own(SERVERS[1])?, (VIP, 53).into()])?;
    let _directors = [
        crate::topology::start_director(&hosts.ds1, &yaml)?,
        crate::topology::start_director(&hosts.ds2, &yaml)?,
    ];
    let directors = [&hosts.ds1, &hosts.ds2];
    wait_until("ds1 is Active", PATIENCE, || hosts.ds1.holds(VIP))?;
    let first_server = format!("UDP {VIP}:53 -> {}:53 Route 1", SERVERS[0]);
    let out = |is_out: bool| follow(&directors, &first_server, !is_out);
    // On its own address only.
    let first = Echo::start(&hosts.rs1, vec![own(SERVERS[0])?])?;
    sleep(Duration::from_secs(1));
    out(true)?;
    for director in directors {
        said_of(director, SERVERS[0], "not-listening-on-vip")?;
    }
    drop(first);
    // On both.
    let first = Echo::start(&hosts.rs1, vec![own(SERVERS[0])?, (VIP, 53).into()])?;
    out(false)?;
    drop(first);
    // On every address, and it answers from whichever the kernel likes.
    let first = Echo::start(&hosts.rs1, vec![any])?;
    out(true)?;
    for director in directors {
        said_of(director, SERVERS[0], "wrong-source")?;
    }
    drop(first);
    let _first = Echo::start(&hosts.rs1, vec![own(SERVERS[0])?, (VIP, 53).into()])?;
    out(false)?;
    // A server without the VIP that forwards: to the Active, which has another one answer.
    hosts.rs1.set_sysctl("net.ipv4.ip_forward", "1")?;
    hosts.rs1.run("rs-agent stop")?;
    out(true)?;
    for director in directors {
        said_of(director, SERVERS[0], "vip-missing")?;
    }
    Ok(())
}

const IPV6_VIP: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x56, 0, 0, 0, 0, 0x185);
const IPV6_SERVERS: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0x2001, 0xdb8, 0x56, 0, 0, 0, 0, 0x183),
    Ipv6Addr::new(0x2001, 0xdb8, 0x56, 0, 0, 0, 0, 0x184),
];
const IPV6: &str = "\
vrrp:
  - name: dns
    interface: eth2
    virtual_router_id: 50
    priority: { ds1: 200, ds2: 150 }
    advert_interval: 500ms
    addresses: [\"fe80::185/64\", \"2001:db8:56::185/64\"]
services:
  - name: resolver
    address: \"2001:db8:56::185\"
    port: 53
    protocols: [udp]
    check: { dns: { name: www.abc.local } }
    real_servers: [{ address: \"2001:db8:56::183\" }, { address: \"2001:db8:56::184\" }]
";

fn a_missing_ipv6_vip_is_named(lab: &mut Lab) -> Result<()> {
    let hosts = DnsPair::with_service_lan_only(lab)?;
    let mut responders = Vec::new();
    for (server, own) in [&hosts.rs1, &hosts.rs2].into_iter().zip(IPV6_SERVERS) {
        hold(server, true)?;
        for address in [own, IPV6_VIP] {
            responders.push(Responder::start(server, address, Ipv4Addr::LOCALHOST)?);
        }
    }
    let directors = [&hosts.ds1, &hosts.ds2];
    let _directors = [
        crate::topology::start_director(&hosts.ds1, IPV6)?,
        crate::topology::start_director(&hosts.ds2, IPV6)?,
    ];
    let [first, second] =
        IPV6_SERVERS.map(|server| format!("UDP [{IPV6_VIP}]:53 -> [{server}]:53 Route 1"));
    follow(&directors, &first, true)?;
    wait_until("ds1 is Active", PATIENCE, || hosts.ds1.holds(IPV6_VIP))?;
    // A server that forwards would pass the probe on to the Active, which has another one answer.
    for forwarding in ["0", "1"] {
        // The Active's own probes reach it, and their answers it.
        sleep(Duration::from_secs(2));
        for line in [&first, &second] {
            follow(&directors, line, true)?;
        }
        hosts
            .rs1
            .set_sysctl("net.ipv6.conf.all.forwarding", forwarding)?;
        hold(&hosts.rs1, false)?;
        follow(&directors, &first, false)?;
        for director in directors {
            said_of(director, &IPV6_SERVERS[0].to_string(), "vip-missing")?;
        }
        follow(&directors, &second, true)?;
        hold(&hosts.rs1, true)?;
        follow(&directors, &first, true)?;
    }
    Ok(())
}

const TUNNELS: &str = "\
services:
  - name: resolver
    addresses: [192.168.56.185, \"2001:db8:56::185\"]
    external: true
    port: 53
    protocols: [udp]
    forwarding: tunnel
    check: { dns: { name: www.abc.local } }
    real_servers:
      - { address: 192.168.56.183 }
      - { address: 192.168.56.184 }
      - { address: \"2001:db8:56::183\" }
      - { address: \"2001:db8:56::184\" }
";

fn a_vip_missing_behind_a_tunnel_is_named(lab: &mut Lab) -> Result<()> {
    let hosts = DnsPair::with_service_lan_only(lab)?;
    let mut responders = Vec::new();
    let mut tables = [Vec::new(), Vec::new()];
    for (place, server) in [&hosts.rs1, &hosts.rs2].into_iter().enumerate() {
        let (four, six) = (SERVERS[place].parse::<Ipv4Addr>()?, IPV6_SERVERS[place]);
        for device in [
            format!("ipip0 type ipip local {four}"),
            format!("six0 type ip6tnl mode any local {six}"),
        ] {
            server.run(&format!("ip link add {device}"))?;
        }
        for device in ["ipip0", "six0"] {
            server.link_up(device)?;
        }
        hold_vip_silently(server, VIP)?;
        hold(server, true)?;
        for address in [VIP.into(), four.into(), IPV6_VIP.into(), six.into()] {
            let address: IpAddr = address;
            responders.push(Responder::start(server, address, Ipv4Addr::LOCALHOST)?);
        }
        tables[place] = vec![
            format!("UDP {VIP}:53 -> {four}:53 Tunnel 1"),
            format!("UDP [{IPV6_VIP}]:53 -> [{six}]:53 Tunnel 1"),
        ];
    }
    let _director = crate::topology::start_director(&hosts.ds1, TUNNELS)?;
    let director = [&hosts.ds1];
    let [first, second] = &tables;
    for line in first.iter().chain(second) {
        follow(&director, line, true)?;
    }
    let probes = forwarding::probes(&hosts.ds1)?;
    ensure!(probes.len() == 8, "{probes:#?}");
    // They were asked by then, and all have answered.
    sleep(Duration::from_secs(2));
    hosts
        .rs1
        .run(&format!("ip address delete {VIP}/32 dev lo"))?;
    hold(&hosts.rs1, false)?;
    for line in first {
        follow(&director, line, false)?;
    }
    for server in [SERVERS[0], &IPV6_SERVERS[0].to_string()] {
        said_of(&hosts.ds1, server, "vip-missing")?;
    }
    for line in second {
        follow(&director, line, true)?;
    }
    Ok(())
}

/// Gives a real server the IPv6 VIP, or takes it away.
fn hold(server: &Host, is_held: bool) -> Result<()> {
    let action = if is_held { "add" } else { "delete" };
    server.run(&format!("ip -6 address {action} {IPV6_VIP}/128 dev lo"))?;
    Ok(())
}

/// Waits until the tables of all have this line, or don't.
fn follow(directors: &[&Host], line: &str, is_in: bool) -> Result<()> {
    for director in directors {
        let what = format!("{line} in the table of {}: {is_in}", director.name());
        wait_until(&what, PATIENCE, || {
            forwarding::table(director).is_ok_and(|table| table.contains(line) == is_in)
        })?;
    }
    Ok(())
}

fn a_vip_on_no_server_takes_nobody_out(lab: &mut Lab) -> Result<()> {
    let hosts = DnsPair::with_service_lan_only(lab)?;
    let pair = Pair::start_without_agents(hosts, CONFIGURATION)?;
    sleep(Duration::from_secs(3));
    for director in [0, 1] {
        pair.wait_for_servers(director, &SERVERS)?;
        let host = pair.director(director);
        wait_until("the status says so", PATIENCE, || {
            host.run("director status")
                .is_ok_and(|said| said.contains("no real server answers by the way"))
        })
        .with_context(|| host.run("director status").unwrap_or_default())?;
    }
    // One that is found to have it speaks against the other.
    pair.hosts.rs2.run(&format!("rs-agent start --vip {VIP}"))?;
    for director in [0, 1] {
        pair.wait_for_servers(director, &SERVERS[1..])?;
        said_of(pair.director(director), SERVERS[0], "vip-missing")?;
    }
    Ok(())
}

/// Waits until the status gives this as the reason for which a real server is out.
fn said_of(director: &Host, server: &str, diagnosis: &str) -> Result<()> {
    let reason = format!("{diagnosis}: ");
    let status = || director.run("director status --json");
    wait_until(
        &format!("{} says {diagnosis} of {server}", director.name()),
        PATIENCE,
        || {
            status().is_ok_and(|status| {
                let mut lines = status.lines();
                lines.any(|line| line.contains(&reason) && line.contains(server))
            })
        },
    )
    .with_context(|| status().unwrap_or_default())?;
    Ok(())
}

/// A DNS server in miniature, at places that the machine has or will have: its answer is the question
/// with an A record.
struct Echo {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Echo {
    fn start(host: &Host, places: Vec<SocketAddr>) -> Result<Self> {
        let sockets = host.within(move || {
            places
                .into_iter()
                .map(|place| {
                    let socket = UdpSocket::bind(place)?;
                    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
                    Ok(socket)
                })
                .collect::<std::io::Result<Vec<_>>>()
        })?;
        let stop = Arc::new(AtomicBool::new(false));
        let threads = sockets.into_iter().map(|socket| {
            let stop = Arc::clone(&stop);
            host.thread(move || answer(&socket, &stop))
        });
        Ok(Self {
            threads: threads.collect(),
            stop,
        })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            // Its panic would show as missing answers.
            let _ = thread.join();
        }
    }
}

fn answer(socket: &UdpSocket, stop: &AtomicBool) {
    let mut buffer = [0; 512];
    while !stop.load(Ordering::SeqCst) {
        let Ok((length, client)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        if let Some(response) = crate::responder::response(&buffer[..length], Ipv4Addr::LOCALHOST) {
            let _ = socket.send_to(&response, client);
        }
    }
}
