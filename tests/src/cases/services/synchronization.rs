//! Connections that survive a failover.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::lab::{Host, Lab, wait_until};
use crate::scenario::PATIENCE;
use crate::topology::{DnsPair, VIP, hold_vip_silently, start_director};
use crate::whoami::{Conversation, Transport, Whoami};

const CONFIGURATION: &str = "\
vrrp:
  - name: web
    interface: eth2
    virtual_router_id: 50
    priority: { ds1: 200, ds2: 150 }
    advert_interval: 500ms
    addresses: [192.168.56.185/24]
ipvs:
  sync: { instance: web, interface: eth2 }
services:
  - name: web
    address: 192.168.56.185
    port: 80
    protocols: [tcp]
    scheduler: rr
    check: none
    real_servers:
      - { address: 192.168.56.183 }
      - { address: 192.168.56.184 }
";

/// The Backup learns of every connection, and carries them on when it takes over.
pub(super) fn open_connections_survive(lab: &mut Lab) -> Result<()> {
    const CONNECTIONS: usize = 4;
    let hosts = DnsPair::with_service_lan_only(lab)?;
    let web = SocketAddr::from((VIP, 80));
    let mut servers = Vec::new();
    for server in [&hosts.rs1, &hosts.rs2] {
        hold_vip_silently(server, VIP)?;
        servers.push(Whoami::start(server, [(Transport::Tcp, web)])?);
    }
    let mut ds1 = start_director(&hosts.ds1, CONFIGURATION)?;
    let _ds2 = start_director(&hosts.ds2, CONFIGURATION)?;
    daemons(&hosts.ds1, "master")?;
    daemons(&hosts.ds2, "backup")?;

    let mut open = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut conversation = Conversation::open(&hosts.client, Transport::Tcp, web)?;
        let name = conversation.ask()?;
        // A connection is told of with its third packet.
        for _ in 0..3 {
            conversation.ask()?;
        }
        open.push((conversation, name));
    }
    wait_until("ds2 knows of the connections", PATIENCE, || {
        connections(&hosts.ds2).is_ok_and(|count| count == CONNECTIONS)
    })?;
    // What happens to a machine that loses its power.
    hosts.ds1.link_down("eth2")?;
    ds1.kill_family();
    wait_until("ds2 holds the VIP", PATIENCE, || hosts.ds2.holds(VIP))?;
    for (number, (conversation, name)) in open.iter_mut().enumerate() {
        let answer = conversation.ask();
        let answer = answer.with_context(|| format!("connection {number} to {name}"))?;
        ensure!(
            answer == *name,
            "connection {number} went from {name} to {answer}"
        );
    }
    daemons(&hosts.ds2, "master")
}

/// Waits until the kernel says that it has exactly this daemon.
fn daemons(host: &Host, role: &str) -> Result<()> {
    let mut said = String::new();
    let expected = format!("{role} sync daemon (mcast=eth2, syncid=50");
    wait_until(
        &format!("{} is {role}", host.name()),
        Duration::from_secs(20),
        || {
            said = host.run("ipvsadm -L --daemon").unwrap_or_default();
            said.lines().count() == 1 && said.starts_with(&expected)
        },
    )
    .with_context(|| said)?;
    Ok(())
}

/// How many connections a kernel knows of.
fn connections(host: &Host) -> Result<usize> {
    let text = host.run("ipvsadm -L -n -c")?;
    Ok(text.lines().filter(|line| line.starts_with("TCP ")).count())
}
