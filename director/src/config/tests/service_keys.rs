//! What is wrong with services, and hardly meant, key by key.

use super::*;

/// A service with these lines from line 5 on, and with what it needs beside them.
fn in_service(lines: &str) -> String {
    let has = |key: &str| lines.lines().any(|line| line.starts_with(key));
    let marked = has("firewall_mark");
    let defaults = [
        ("address", "address: 192.0.2.1", !marked),
        ("port", "port: 80", !marked),
        ("protocols", "protocols: [tcp]", !marked),
        (
            "real_servers",
            "real_servers: [{ address: 10.0.0.1 }]",
            true,
        ),
    ];
    let missing = defaults
        .iter()
        .filter(|(key, _, needed)| *needed && !has(key))
        .map(|(_, line, _)| *line);
    let lines: String = lines
        .lines()
        .chain(missing)
        .map(|line| format!("    {line}\n"))
        .collect();
    format!("services:\n  - name: s\n    external: true\n    check: none\n{lines}")
}

/// Expects exactly these mistakes of services with such lines, as `LINE:COLUMN KEY: MESSAGE`.
fn check_services(cases: &[(&str, &[&str])]) {
    for (lines, expected) in cases {
        let text = in_service(lines);
        assert_eq!(errors(&text), of_service(expected), "{text}");
    }
}

/// The same with warnings.
fn check_warnings(cases: &[(&str, &[&str])]) {
    for (lines, expected) in cases {
        let text = in_service(lines);
        assert_eq!(warnings(&text), of_service(expected), "{text}");
    }
}

fn of_service(expected: &[&str]) -> Vec<String> {
    let expand = |remark: &&str| {
        let (place, words) = remark.split_once(' ').unwrap();
        format!("d.yaml:{place}: services[0]{words}")
    };
    expected.iter().map(expand).collect()
}

#[test]
fn wrong_addresses() {
    check_services(&[
        (
            "addresses: [192.0.2.9-192.0.2.1]",
            &["5:17 .addresses[0]: runs backwards; write 192.0.2.1-192.0.2.9"],
        ),
        (
            "addresses: [192.0.2.1-2001:db8::1]",
            &[
                "5:17 .addresses[0]: goes from 192.0.2.1 to 2001:db8::1, which is of the other \
                 family; write two addresses",
            ],
        ),
        (
            "addresses: [172.16.0.0-172.16.16.0]",
            &[
                "5:17 .addresses[0]: 172.16.0.0-172.16.16.0 has more than 4096 addresses; give \
                 what is sent to them a mark, and write `firewall_mark`",
            ],
        ),
        (
            "addresses: [192.0.2.2, 192.0.2.1-3, 192.0.2.4]",
            &["5:28 .addresses[1]: 192.0.2.2 is already listed in line 5; list it once"],
        ),
        (
            "addresses: [fe80::1, '2001:db8::1-xyz', 192.0.2.4-300, 127.0.0.1-9, 2001:db8::9-1]",
            &[
                "5:17 .addresses[0]: fe80::1 is link-local, and IPVS doesn't tell one link from \
                 another; write a global address, or a unique local one (fd00::/8)",
                "5:26 .addresses[1]: `xyz` can't end a range; write an address of 2001:db8::1's \
                 family, or its last two bytes in hexadecimal digits",
                "5:45 .addresses[2]: `300` can't end a range; write an address of 192.0.2.4's \
                 family, or its last byte",
                "5:60 .addresses[3]: 127.0.0.1 is a loopback address; a service's address is one \
                 of the LAN",
                "5:73 .addresses[4]: runs backwards; write 2001:db8::1-2001:db8::9",
            ],
        ),
        (
            "addresses: []",
            &[
                "5:16 .addresses: is empty; must be a list of addresses and ranges, such as \
                 [192.0.2.1, 192.0.2.8-192.0.2.11]",
            ],
        ),
        (
            "address: 192.0.2.1-5",
            &["5:14 .address: `192.0.2.1-5` is a range; write it as `addresses: [192.0.2.1-5]`"],
        ),
        (
            "address: 192.0.2.1
addresses: [192.0.2.1]",
            &[
                "6:16 .addresses: there is `address` too; write all of them here, and leave it \
                 out",
            ],
        ),
        (
            "addresses: [172.16.0.0-172.16.3.255]
ports: [1-5]",
            &[
                "2:5 : its addresses, ports and protocols make 5120 virtual services, and a \
                 service has at most 4096; give the packets a mark, and write `firewall_mark`",
            ],
        ),
    ]);
}

#[test]
fn wrong_ports() {
    check_services(&[
        (
            "ports: [53, 50-60, 9-8, 0, x, 0-5, 1-65536]",
            &[
                "5:17 .ports[1]: 53 is already listed in line 5; list it once",
                "5:24 .ports[2]: runs backwards; write 8-9",
                "5:29 .ports[3]: 0 is out of range; must be a whole number from 1 to 65535",
                "5:32 .ports[4]: `x` is not a range of ports; write one such as 8000-8009",
                "5:35 .ports[5]: `0-5` is not a range of ports; write one such as 8000-8009",
                "5:40 .ports[6]: `1-65536` is not a range of ports; write one such as 8000-8009",
            ],
        ),
        (
            "ports: 53",
            &[
                "5:12 .ports: must be `any`, or a list of ports and ranges, such as [53, \
                 8000-8009], but is a number",
            ],
        ),
        (
            "port: 53-60",
            &["5:11 .port: must be one port; write `ports: [53-60]` for this"],
        ),
        (
            "port: any",
            &["5:11 .port: must be one port; write `ports: any` for this"],
        ),
        (
            "port: 53
ports: [53]",
            &["6:12 .ports: there is `port` too; write all of them here, and leave it out"],
        ),
        (
            "ports: any",
            &[
                "5:12 .ports: the kernel schedules every port with persistence only; write \
                 `persistence` too, or the ports",
            ],
        ),
        (
            "ports: any
persistence: 0s",
            &[
                "5:12 .ports: the kernel schedules every port with persistence only; write \
                 `persistence` too, or the ports",
            ],
        ),
    ]);
}

#[test]
fn wrong_forwarding() {
    check_services(&[
        (
            "forwarding: { tunnel: gue }",
            &[
                "5:17 .forwarding: `port` is missing; write the UDP port on which the real server \
                 takes the tunnel, such as 6080",
            ],
        ),
        (
            "forwarding: TUN",
            &["5:17 .forwarding: `TUN` is not known here; write `tunnel`"],
        ),
        (
            "forwarding: DR",
            &["5:17 .forwarding: `DR` is not known here; write `direct-routing`"],
        ),
        (
            "real_servers:
  - { address: 10.0.0.1, forwarding: { tunnel: gre, checksum: remote } }
  - { address: 10.0.0.2, forwarding: { tunnel: gre, port: 5 } }
  - { address: 10.0.0.3, forwarding: { tunnel: ipip, checksum: none } }
  - { address: 10.0.0.4, forwarding: { checksm: none } }
  - { address: 10.0.0.5, forwarding: 4 }
  - { address: 10.0.0.6, forwarding: { tunnel: gue, port: 0 } }
  - { address: 10.0.0.7, forwarding: { tunnel: l2tp } }",
            &[
                "6:67 .real_servers[0].forwarding.checksum: `remote` is for `tunnel: gue`; must \
                 be none or plain here",
                "7:63 .real_servers[1].forwarding.port: is for `tunnel: gue`, which is the one \
                 over UDP; leave it out",
                "8:68 .real_servers[2].forwarding.checksum: is for `tunnel: gue` and `tunnel: \
                 gre`; IP in IP has none, so leave it out",
                "9:42 .real_servers[3].forwarding: `tunnel` is missing; write `tunnel: ipip`, \
                 `tunnel: gue` or `tunnel: gre`",
                "9:44 .real_servers[3].forwarding.checksm: unknown key; did you mean `checksum`?",
                "10:42 .real_servers[4].forwarding: must be one of direct-routing, masquerade, \
                 tunnel, or a mapping such as { tunnel: gue, port: 6080 }, but is a number",
                "11:63 .real_servers[5].forwarding.port: 0 is out of range; must be a whole \
                 number from 1 to 65535",
                "12:52 .real_servers[6].forwarding.tunnel: `l2tp` is not known; must be one of \
                 ipip, gue, gre",
            ],
        ),
    ]);
}

#[test]
fn wrong_real_servers() {
    check_services(&[
        (
            "real_servers:
  - { address: 10.0.0.1, forwarding: tunnel, port: 5 }
  - { address: fe80::1 }
  - { address: 10.0.0.3, forwarding: masquerade, port: 81 }
  - { address: 10.0.0.3, forwarding: masquerade, port: 81 }
  - { address: 10.0.0.4, stop_at: 3, resume_below: 4 }
  - { address: 10.0.0.5, resume_below: 4 }
  - { address: 10.0.0.6, stop_at: 0 }
  - { address: 10.0.0.7, weight: -1 }
  - { address: '::ffff:10.0.0.7' }
  - { address: 10.0.0.8, port: 81 }",
            &[
                "6:56 .real_servers[0].port: 5 differs from the service's port, and a tunnel \
                 cannot change a packet's port; must be 80, or leave it out",
                "7:20 .real_servers[1].address: fe80::1 is link-local, which the kernel refuses; \
                 write the real server's own address",
                "9:20 .real_servers[3].address: 10.0.0.3:81 is already a real server in line 8; \
                 list it once",
                "10:56 .real_servers[4].resume_below: is more than `stop_at`; must be at most 3",
                "11:44 .real_servers[5].resume_below: is of use with `stop_at` only; write that \
                 too, or leave this out",
                "12:39 .real_servers[6].stop_at: 0 is out of range; must be a whole number from 1 \
                 to 2147483647",
                "13:38 .real_servers[7].weight: -1 is out of range; must be a whole number from 0 \
                 to 65535",
                "14:20 .real_servers[8].address: ::ffff:10.0.0.7 is an IPv4 address written as \
                 IPv6; write the real server's own address",
                "15:36 .real_servers[9].port: 81 differs from the service's port, and direct \
                 routing cannot change a packet's port; must be 80, or leave it out",
            ],
        ),
        (
            "ports: [80, 81]
real_servers: [{ address: 10.0.0.1, forwarding: masquerade, port: 80 }]",
            &[
                "6:71 .real_servers[0].port: the service hasn't one port that could become this \
                 one, so that packets keep theirs; leave it out",
            ],
        ),
        (
            "firewall_mark: 5
real_servers: [{ address: 10.0.0.1, forwarding: masquerade, port: 80 }]",
            &[
                "6:71 .real_servers[0].port: the service hasn't one port that could become this \
                 one, so that packets keep theirs; leave it out",
            ],
        ),
        (
            "forwarding: masquerade
real_servers: [{ address: 10.0.0.1, port: 80 }, { address: 10.0.0.1 }]",
            &[
                "6:64 .real_servers[1].address: 10.0.0.1 is already a real server in line 6; list \
                 it once",
            ],
        ),
        (
            "addresses: [192.0.2.1-9]
real_servers: [{ address: 192.0.2.4 }]",
            &[
                "6:31 .real_servers[0].address: 192.0.2.4 is a VIP; write the real server's own \
                 address",
            ],
        ),
    ]);
}

#[test]
fn servers_of_the_wrong_family() {
    check_services(&[
        (
            "addresses: [192.0.2.1, 2001:db8::1-3]",
            &[
                "5:28 .addresses[1]: no real server can take what is sent to 2001:db8::1: none is \
                 IPv6, and none is reached by a tunnel, which may cross; add one, or leave the \
                 address out",
            ],
        ),
        (
            "real_servers: [{ address: 10.0.0.1 }, { address: 'fd00::1' }, { address: 'fd00::2', \
             forwarding: masquerade }]",
            &[
                "5:54 .real_servers[1].address: fd00::1 is IPv6, the service IPv4, and direct \
                 routing hands packets on unchanged; write its IPv4 address, or `forwarding: \
                 tunnel`, which may cross",
                "5:78 .real_servers[2].address: fd00::2 is IPv6, the service IPv4, and \
                 masquerading doesn't translate between families; write its IPv4 address, or \
                 `forwarding: tunnel`, which may cross",
            ],
        ),
        (
            "firewall_mark: 5
family: ipv6
forwarding: masquerade",
            &[
                "8:31 .real_servers[0].address: 10.0.0.1 is IPv4, the service IPv6, and \
                 masquerading doesn't translate between families; write its IPv6 address, or \
                 `forwarding: tunnel`, which may cross",
            ],
        ),
        (
            "real_servers: [{ address: 10.0.0.1 }, { address: 'fd00::1', forwarding: tunnel }]",
            &[],
        ),
        (
            "addresses: [192.0.2.1, 2001:db8::1]
forwarding: tunnel",
            &[],
        ),
    ]);
}

#[test]
fn wrong_scheduling() {
    check_services(&[
        (
            "protocols: [udp]
one_packet_scheduling: true
forwarding: masquerade",
            &[
                "6:28 .one_packet_scheduling: 10.0.0.1 is masqueraded: its answers need the entry of \
                 their flow to find the way back, and one-packet scheduling leaves none; leave this \
                 out, or forward otherwise",
            ],
        ),
        (
            "scheduler: wrr
scheduler_flags: [port]
persistence: { timeout: 1500ms, ipv4_mask: 33, ipv6_mask: 0 }",
            &[
                "6:22 .scheduler_flags: `wrr` has none, only sh and mh do; leave it out",
                "7:29 .persistence.timeout: 1.5s is not whole seconds, which the kernel counts; \
                 write 1s or more",
                "7:48 .persistence.ipv4_mask: 33 is out of range; must be a whole number from 1 \
                 to 32",
                "7:63 .persistence.ipv6_mask: 0 is out of range; must be a whole number from 1 to \
                 128",
            ],
        ),
        (
            "scheduler: sh
scheduler_flags: [port, port, fast]
persistence: 2073601s",
            &[
                "6:29 .scheduler_flags[1]: `port` is already listed; list it once",
                "6:35 .scheduler_flags[2]: `fast` is not known; must be one of fallback, port",
                "7:18 .persistence: 2073601s is out of range; must be from 0s to 2073600s",
            ],
        ),
        (
            "persistence: { ipv4_mask: 24 }
one_packet_scheduling: true",
            &[
                "5:18 .persistence: `timeout` is missing; write how long a client stays, such as \
                 300s",
            ],
        ),
        (
            "persistence: { ipv4_mask: 24, timeout: 5s }
one_packet_scheduling: true",
            &[
                "6:28 .one_packet_scheduling: is for UDP, which `protocols` doesn't list; add \
                 `udp` there, or leave this out",
            ],
        ),
    ]);
}

#[test]
fn wrong_marks() {
    check_services(&[
        (
            "firewall_mark: 7
port: 80
addresses: [192.0.2.1]",
            &[
                "6:11 .port: the packet filter's rules for the mark decide that; leave it out, or \
                 leave out `firewall_mark`",
                "7:16 .addresses: the packet filter's rules for the mark decide that; leave it \
                 out, or leave out `firewall_mark`",
            ],
        ),
        (
            "firewall_mark: 1280704512",
            &[
                "5:20 .firewall_mark: 1280704512 is a mark of the director's own probes, as all from \
                 1280704512 to 1280770047 are; take another",
            ],
        ),
        (
            "firewall_mark: 0
family: v4",
            &[
                "5:20 .firewall_mark: 0 is out of range; must be a whole number from 1 to \
                 4294967295",
                "6:13 .family: `v4` is not known; must be one of ipv4, ipv6",
            ],
        ),
        (
            "firewall_mark: 7
instance: dns",
            &[
                "6:15 .instance: `external` says that no virtual router decides; leave one of the \
                 two out",
            ],
        ),
        (
            "family: ipv4
instance: dns",
            &[
                "5:13 .family: is for a service with `firewall_mark`, since addresses say it \
                 themselves; leave it out",
                "6:15 .instance: is for a service with `firewall_mark`, since addresses say it \
                 themselves; leave it out",
            ],
        ),
    ]);
}

#[test]
fn what_defeats_balancing_is_warned_of() {
    check_warnings(&[
        (
            "port: 53
protocols: [udp, tcp]
persistence: 300s",
            &[
                "7:18 .persistence: UDP/53 with persistence isn't balanced: all that a resolver \
                 asks goes to one real server until it is silent for 300s, and a few resolvers \
                 ask most; leave it out, or write a service of its own for what needs it",
            ],
        ),
        (
            "ports: [50-60]
protocols: [udp]
one_packet_scheduling: false",
            &[
                "7:28 .one_packet_scheduling: without it a resolver that asks UDP/53 from one \
                 port stays on one real server for as long as it asks, and every port of a client \
                 costs an entry for 300s (`ipvs.timeouts.udp`), of which the kernel's table has \
                 buckets for 4096 (`conn_tab_bits` of module ip_vs); leave it out",
            ],
        ),
        (
            "port: 53
protocols: [udp, tcp]
scheduler: wlc
real_servers: [{ address: 10.0.0.1 }, { address: 10.0.0.2 }]",
            &[
                "7:16 .scheduler: `wlc` counts connections, and one-packet scheduling leaves none \
                 to count: one real server would get nearly all of UDP; write wrr or mh, or a \
                 service of its own for TCP",
            ],
        ),
        (
            "scheduler: dh
real_servers: [{ address: 10.0.0.1 }, { address: 10.0.0.2 }]",
            &[
                "5:16 .scheduler: `dh` picks by the address that clients ask, so that all that \
                 goes to one VIP goes to one real server; it is for marks, in front of caches",
            ],
        ),
        (
            "scheduler: sh
real_servers: [{ address: 10.0.0.1, weight: 100 }, { address: 10.0.0.2, weight: 157 }]",
            &[
                "5:16 .scheduler: `sh` deals out 256 slots, a weight's worth to each server in \
                 turn, and the weights of its IPv4 servers add up to 257: the last ones get less \
                 or nothing; write smaller weights, or mh",
            ],
        ),
        (
            "port: 53
persistence: 300s
scheduler: wlc
real_servers: [{ address: 10.0.0.1 }, { address: 10.0.0.2 }]",
            &[],
        ),
        (
            "port: 853
protocols: [udp]
one_packet_scheduling: false",
            &[],
        ),
        (
            "firewall_mark: 7
scheduler: dh
real_servers: [{ address: 10.0.0.1 }, { address: 10.0.0.2 }]",
            &[],
        ),
    ]);
}

#[test]
fn what_has_no_effect_is_warned_of() {
    check_warnings(&[
        (
            "port: 53
protocols: [udp]
real_servers: [{ address: 10.0.0.1, stop_at: 5 }]",
            &[
                "7:31 .real_servers[0].address: `stop_at` counts connections, and one-packet \
                 scheduling leaves none: it never stops UDP",
            ],
        ),
        (
            "scheduler: rr
addresses: [192.0.2.1, 2001:db8::1]
real_servers: [{ address: 10.0.0.1, weight: 0 }, { address: 'fd00::2', weight: 2 }, { address: 'fd00::3' }]",
            &[
                "5:16 .scheduler: `rr` knows no weights but 0; write wrr",
                "7:31 .real_servers[0].address: all weights of its IPv4 servers are 0, so that \
                 nobody gets a new client: those who ask are told that the port is unreachable",
            ],
        ),
        (
            "scheduler: lc
real_servers: [{ address: 10.0.0.1, weight: 0 }, { address: 10.0.0.2 }]",
            &[
            ],
        ),
    ]);
}
