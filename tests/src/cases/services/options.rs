//! What a service can be told beside its servers.

use std::net::SocketAddr;

use anyhow::{Result, ensure};

use super::forwarding::VRRP;
use super::programmed;
use crate::lab::Lab;
use crate::scenario::PATIENCE;
use crate::site::{INSIDE, OUTSIDE, Site};
use crate::whoami::{Conversation, Question, Transport};

/// Persistence, ranges, all ports, marks, thresholds, packets by themselves, and the kernel's
/// time-outs.
pub(super) fn each_option_is_kept(lab: &mut Lab) -> Result<()> {
    let site = Site::new(lab)?;
    let _servers = site.serve(&[7200, 7201, 7202, 7204])?;
    site.own_outside()?;
    let marks = site.director.write_file("marks", MARKS)?;
    site.director.run(&format!("nft -f {}", marks.display()))?;
    let yaml = format!("{VRRP}{SERVICES}");
    let mut director = programmed(&site.director, &yaml, &table())?;
    site.wait_for_vips()?;
    let timeouts = || site.director.run("ipvsadm -L --timeout");
    let said = timeouts()?;
    ensure!(said.contains(": 600 60 120"), "{said}");
    let thresholds = site.director.run("ipvsadm -L -n --thresholds")?;
    let limited = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().take(4).collect();
        words == ["->", "192.168.56.183:7201", "2", "1"]
    };
    ensure!(thresholds.lines().any(limited), "{thresholds}");

    for (transport, vip, port, alternating) in [
        (Transport::Tcp, INSIDE[0], 7200, false),
        (Transport::Tcp, INSIDE[1], 7200, false),
        (Transport::Tcp, INSIDE[0], 7204, false),
        (Transport::Udp, INSIDE[0], 7202, true),
        (Transport::Tcp, OUTSIDE[0], 7200, true),
        (Transport::Udp, OUTSIDE[0], 7202, true),
        (Transport::Sctp, OUTSIDE[0], 7204, true),
        (Transport::Tcp, OUTSIDE[1], 7200, true),
    ] {
        let mut question = Question::new(transport, SocketAddr::new(vip, port));
        if (transport, vip) == (Transport::Udp, INSIDE[0]) {
            question = question.from_port(40_000);
        }
        let answers = question.ask(&site.client, 4)?;
        let shares: Vec<usize> = answers.values().copied().collect();
        let expected: &[usize] = if alternating { &[2, 2] } else { &[4] };
        ensure!(
            shares == expected,
            "{transport:?} to {vip}:{port}: {answers:?}"
        );
    }
    let mut open = Vec::new();
    let mut near1 = 0;
    for _ in 0..5 {
        let server = SocketAddr::new(INSIDE[0], 7201);
        let mut conversation = Conversation::open(&site.client, Transport::Tcp, server)?;
        near1 += usize::from(conversation.ask()? == "near1");
        open.push(conversation);
    }
    ensure!(near1 == 2, "{near1} connections to a server that takes 2");

    let ended = director.terminate(PATIENCE)?;
    ensure!(ended.success(), "SIGTERM ended it with {ended}");
    let said = timeouts()?;
    ensure!(said.contains(": 900 120 300"), "not put back: {said}");
    Ok(())
}

const MARKS: &str = "\
table inet marks {
  chain prerouting {
    type filter hook prerouting priority mangle
    ip daddr 203.0.113.53 meta mark set 7
    ip6 daddr 2001:db8:203::53 meta mark set 7
  }
}
";

const SERVICES: &str = r#"
ipvs:
  timeouts: { tcp: 600s, tcp_fin: 60s, udp: 120s }
services:
  - name: persistent
    addresses: [192.168.56.185, "2001:db8:56::185"]
    port: 7200
    protocols: [tcp]
    scheduler: rr
    persistence: { timeout: 300s, ipv4_mask: 24, ipv6_mask: 64 }
    check: none
    real_servers:
      - { address: 192.168.56.183 }
      - { address: 192.168.56.184 }
      - { address: "2001:db8:56::183" }
      - { address: "2001:db8:56::184" }
  - name: all-ports
    address: 192.168.56.185
    ports: any
    protocols: [tcp]
    scheduler: rr
    persistence: 360s
    check: none
    real_servers: &four
      - { address: 192.168.56.183 }
      - { address: 192.168.56.184 }
  - name: limited
    address: 192.168.56.185
    port: 7201
    protocols: [tcp]
    scheduler: wlc
    persistence: 0s
    check: none
    real_servers:
      - { address: 192.168.56.183, weight: 100, stop_at: 2, resume_below: 1 }
      - { address: 192.168.56.184 }
  - name: packets
    address: 192.168.56.185
    port: 7202
    protocols: [udp]
    scheduler: rr
    one_packet_scheduling: true
    check: none
    real_servers: *four
  - name: marked
    firewall_mark: 7
    external: true
    scheduler: rr
    check: none
    real_servers: *four
  - name: marked6
    firewall_mark: 7
    family: ipv6
    instance: six
    scheduler: rr
    check: none
    real_servers:
      - { address: "2001:db8:56::183" }
      - { address: "2001:db8:56::184" }
  - name: ranges
    addresses: [203.0.113.60-62, 203.0.113.64]
    external: true
    ports: [53, 7300-7302]
    protocols: [udp, tcp]
    check: none
    real_servers: *four
"#;

fn table() -> String {
    let mut lines = "\
-A -t 192.168.56.185:7200 -s rr -p 300 -M 255.255.255.0
-a -t 192.168.56.185:7200 -r 192.168.56.183:7200 -g -w 1
-a -t 192.168.56.185:7200 -r 192.168.56.184:7200 -g -w 1
-A -t [2001:db8:56::185]:7200 -s rr -p 300 -M 64
-a -t [2001:db8:56::185]:7200 -r [2001:db8:56::183]:7200 -g -w 1
-a -t [2001:db8:56::185]:7200 -r [2001:db8:56::184]:7200 -g -w 1
-A -t 192.168.56.185:0 -s rr -p 360
-a -t 192.168.56.185:0 -r 192.168.56.183:0 -g -w 1
-a -t 192.168.56.185:0 -r 192.168.56.184:0 -g -w 1
-A -t 192.168.56.185:7201 -s wlc
-a -t 192.168.56.185:7201 -r 192.168.56.183:7201 -g -w 100
-a -t 192.168.56.185:7201 -r 192.168.56.184:7201 -g -w 1
-A -u 192.168.56.185:7202 -s rr -o
-a -u 192.168.56.185:7202 -r 192.168.56.183:7202 -g -w 1
-a -u 192.168.56.185:7202 -r 192.168.56.184:7202 -g -w 1
-A -f 7 -s rr
-a -f 7 -r 192.168.56.183:0 -g -w 1
-a -f 7 -r 192.168.56.184:0 -g -w 1
-A -f 7 -6 -s rr
-a -f 7 -6 -r [2001:db8:56::183]:0 -g -w 1
-a -f 7 -6 -r [2001:db8:56::184]:0 -g -w 1
"
    .to_owned();
    for last in [60, 61, 62, 64] {
        for port in [53, 7300, 7301, 7302] {
            for (protocol, one_packet) in [("-t", ""), ("-u", " -o")] {
                let service = format!("{protocol} 203.0.113.{last}:{port}");
                let one_packet = if port == 53 { one_packet } else { "" };
                lines += &format!("-A {service} -s wrr{one_packet}\n");
                for server in ["192.168.56.183", "192.168.56.184"] {
                    lines += &format!("-a {service} -r {server}:{port} -g -w 1\n");
                }
            }
        }
    }
    lines
}
