//! Each way to a real server and back.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};

use super::programmed;
use crate::lab::Lab;
use crate::scenario::PATIENCE;
use crate::site::{INSIDE, OUTSIDE, Site};
use crate::whoami::{Question, Transport};

/// Every method in one service, for each protocol and family; tunnels that cross families; and a
/// web service whose address is in the real servers' subnet, and one whose isn't.
pub(super) fn each_method_is_answered(lab: &mut Lab) -> Result<()> {
    let site = Site::new(lab)?;
    let _servers = site.serve(&[PORT, 80])?;
    site.own_outside()?;
    let mut director = programmed(&site.director, &configuration(), &table())?;
    site.wait_for_vips()?;
    for vip in INSIDE {
        for transport in [Transport::Udp, Transport::Tcp, Transport::Sctp] {
            let question = Question::new(transport, SocketAddr::new(vip, PORT));
            let answers = question.ask(&site.client, WAYS)?;
            let expected = [("inner", 1), ("near1", 1), ("remote", WAYS - 2)];
            let expected = expected.map(|(name, count)| (name.to_owned(), count));
            ensure!(
                answers == BTreeMap::from(expected),
                "{transport:?} to {vip}: {answers:?}"
            );
        }
    }
    for vip in OUTSIDE {
        for transport in [Transport::Udp, Transport::Tcp] {
            let question = Question::new(transport, SocketAddr::new(vip, PORT));
            let answers = question.ask(&site.client, 1).context("another family")?;
            ensure!(answers.contains_key("remote"), "{vip}: {answers:?}");
        }
    }
    for vip in [INSIDE[0], OUTSIDE[0]] {
        let question = Question::new(Transport::Tcp, SocketAddr::new(vip, 80));
        let answers = question.ask(&site.client, 30)?;
        println!("measured: TCP/80 at {vip}, wlc, 2:1: {answers:?}");
        let heavy = answers.get("near1").copied().unwrap_or_default();
        ensure!(heavy.abs_diff(20) <= 1, "{vip}: {answers:?}");
    }
    for setting in FORWARDING {
        let value = site.director.sysctl(setting)?;
        ensure!(value == "1", "{setting} is {value} beside masquerading");
    }
    let ended = director.terminate(PATIENCE)?;
    ensure!(ended.success(), "SIGTERM ended it with {ended}");
    for setting in FORWARDING {
        let value = site.director.sysctl(setting)?;
        ensure!(value == "0", "{setting} is {value} and was 0");
    }
    Ok(())
}

const FORWARDING: [&str; 2] = ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"];

const PORT: u16 = 7000;

/// How many real servers of a family there are, on three machines.
const WAYS: usize = 8;

fn configuration() -> String {
    let mut servers = String::new();
    for (near, inner, remote) in [
        ("192.168.56.183", "10.1.0.186", "192.0.2."),
        ("2001:db8:56::183", "2001:db8:10::186", "2001:db8:2::"),
    ] {
        servers += &format!(
            r#"
      - {{ address: "{near}" }}
      - {{ address: "{inner}", forwarding: masquerade, port: 7001 }}
      - {{ address: "{remote}11", forwarding: tunnel }}
      - {{ address: "{remote}12", forwarding: {{ tunnel: gue, port: 6080 }} }}
      - {{ address: "{remote}13", forwarding: {{ tunnel: gue, port: 6080, checksum: plain }} }}
      - {{ address: "{remote}14", forwarding: {{ tunnel: gue, port: 6080, checksum: remote }} }}
      - {{ address: "{remote}15", forwarding: {{ tunnel: gre }} }}
      - {{ address: "{remote}16", forwarding: {{ tunnel: gre, checksum: plain }} }}"#
        );
    }
    format!(
        r#"{VRRP}services:
  - name: ways
    addresses: [192.168.56.185, "2001:db8:56::185"]
    port: {PORT}
    protocols: [udp, tcp, sctp]
    scheduler: rr
    check: none
    real_servers:{servers}
  - name: crossing4
    address: 203.0.113.53
    external: true
    port: {PORT}
    protocols: [udp, tcp]
    forwarding: tunnel
    check: none
    real_servers: [{{ address: "2001:db8:2::11" }}]
  - name: crossing6
    address: "2001:db8:203::53"
    external: true
    port: {PORT}
    protocols: [udp, tcp]
    forwarding: tunnel
    check: none
    real_servers: [{{ address: 192.0.2.11 }}]
  - &web
    name: web
    address: 192.168.56.185
    port: 80
    protocols: [tcp]
    scheduler: wlc
    check: none
    real_servers: [{{ address: 192.168.56.183, weight: 2 }}, {{ address: 192.168.56.184, weight: 1 }}]
  - <<: *web
    name: web-outside
    address: 203.0.113.53
    external: true
"#
    )
}

/// Two virtual routers without peers, for [`INSIDE`].
pub(super) const VRRP: &str = r#"vrrp:
  - name: four
    interface: eth2
    virtual_router_id: 50
    priority: 200
    advert_interval: 500ms
    addresses: [192.168.56.185/24]
  - name: six
    interface: eth2
    virtual_router_id: 50
    priority: 200
    advert_interval: 500ms
    addresses: ["fe80::185/64", "2001:db8:56::185/64"]
"#;

fn table() -> String {
    let mut lines = String::new();
    for (vip, [near, inner, remote, end]) in [
        (
            "192.168.56.185",
            ["192.168.56.183", "10.1.0.186", "192.0.2.", ""],
        ),
        (
            "[2001:db8:56::185]",
            [
                "[2001:db8:56::183]",
                "[2001:db8:10::186]",
                "[2001:db8:2::",
                "]",
            ],
        ),
    ] {
        for protocol in ["-u", "-t", "--sctp-service"] {
            let service = format!("{protocol} {vip}:7000");
            lines += &format!("-A {service} -s rr\n");
            for server in [
                format!("{near}:7000 -g -w 1"),
                format!("{inner}:7001 -m -w 1"),
                format!("{remote}11{end}:7000 -i -w 1 --tun-type ipip"),
                format!("{remote}12{end}:7000 -i -w 1 --tun-type gue --tun-port 6080 --tun-nocsum"),
                format!("{remote}13{end}:7000 -i -w 1 --tun-type gue --tun-port 6080 --tun-csum"),
                format!(
                    "{remote}14{end}:7000 -i -w 1 --tun-type gue --tun-port 6080 --tun-remcsum"
                ),
                format!("{remote}15{end}:7000 -i -w 1 --tun-type gre --tun-nocsum"),
                format!("{remote}16{end}:7000 -i -w 1 --tun-type gre --tun-csum"),
            ] {
                lines += &format!("-a {service} -r {server}\n");
            }
        }
    }
    for protocol in ["-u", "-t"] {
        for (vip, server) in [
            ("203.0.113.53", "[2001:db8:2::11]"),
            ("[2001:db8:203::53]", "192.0.2.11"),
        ] {
            let service = format!("{protocol} {vip}:7000");
            lines += &format!(
                "-A {service} -s wrr\n-a {service} -r {server}:7000 -i -w 1 --tun-type ipip\n"
            );
        }
    }
    for vip in [INSIDE[0], OUTSIDE[0]] {
        lines += &format!(
            "-A -t {vip}:80 -s wlc\n\
             -a -t {vip}:80 -r 192.168.56.183:80 -g -w 2\n\
             -a -t {vip}:80 -r 192.168.56.184:80 -g -w 1\n"
        );
    }
    lines
}
