//! What is wrong with services.

use super::*;

#[test]
fn wrong_values_of_services() {
    check(&[
        (
            "    address: 192.168.56.185\n",
            "    address: 192.168.56.186\n",
            &[
                "d.yaml:10:14: services[0].address: no virtual router lists 192.168.56.186; add it \
               to the `addresses` of one, or write `external: true` if something else brings it to \
               this machine",
            ],
        ),
        (
            "    address: 192.168.56.185\n",
            "    address: 2001:db8::1\n    external: true\n",
            &[
                "d.yaml:23:20: services[0].real_servers[0].address: 192.168.56.183 is IPv4, the \
               service IPv6, and direct routing hands packets on unchanged; write its IPv6 \
               address, or `forwarding: tunnel`, which may cross",
                "d.yaml:24:20: services[0].real_servers[1].address: 192.168.56.184 is IPv4, the \
               service IPv6, and direct routing hands packets on unchanged; write its IPv6 \
               address, or `forwarding: tunnel`, which may cross",
            ],
        ),
        (
            "    address: 192.168.56.185\n",
            "    address: 127.0.0.1\n",
            &[
                "d.yaml:10:14: services[0].address: 127.0.0.1 is a loopback address; a service's \
               address is one of the LAN",
            ],
        ),
        (
            "    port: 53\n",
            "    port: 53\n    external: true\n",
            &[
                "d.yaml:12:15: services[0].external: `external` says that no virtual router holds \
               192.168.56.185, but `dns` lists it in line 7; leave one of the two out",
            ],
        ),
        (
            "    port: 53\n",
            "    port: 0\n",
            &[
                "d.yaml:11:11: services[0].port: 0 is out of range; must be a whole number from 1 to \
               65535",
            ],
        ),
        (
            "[udp, tcp]",
            "[udp, icmp]",
            &[
                "d.yaml:12:22: services[0].protocols[1]: `icmp` is not known; must be one of udp, \
               tcp, sctp",
            ],
        ),
        (
            "[udp, tcp]",
            "[udp, udp]",
            &["d.yaml:12:22: services[0].protocols[1]: `udp` is already listed; list it once"],
        ),
        (
            "[udp, tcp]",
            "[]",
            &["d.yaml:12:16: services[0].protocols: is empty; must be a list such as [udp, tcp]"],
        ),
        (
            "scheduler: wrr",
            "scheduler: WRR",
            &[
                "d.yaml:13:16: services[0].scheduler: unknown scheduler `WRR`; known are rr, wrr, lc, \
               wlc, lblc, lblcr, dh, sh, mh, sed, nq, fo, ovf",
            ],
        ),
        (
            "forwarding: direct-routing",
            "forwarding: nat",
            &["d.yaml:14:17: services[0].forwarding: `nat` is not known here; write `masquerade`"],
        ),
        (
            "forwarding: direct-routing",
            "forwarding: fullnat",
            &[
                "d.yaml:14:17: services[0].forwarding: `fullnat` is not known; must be one of \
               direct-routing, masquerade, tunnel, or a mapping such as \
               { tunnel: gue, port: 6080 }",
            ],
        ),
        (
            "[udp, tcp]",
            "[tcp]\n    one_packet_scheduling: true",
            &[
                "d.yaml:13:28: services[0].one_packet_scheduling: is for UDP, which `protocols` \
               doesn't list; add `udp` there, or leave this out",
            ],
        ),
        (
            "127.0.0.1:9712",
            "127.0.0.1",
            &[
                "d.yaml:24:20: metrics.listen: `127.0.0.1` can't be listened on; must be an address \
               and a port, such as \"127.0.0.1:9712\" or \"[::1]:9712\"",
            ],
        ),
        (
            "metrics:",
            "dataplane: xdp\nmetrics:",
            &["d.yaml:24:12: dataplane: `xdp` is not known; must be one of ipvs, none"],
        ),
    ]);
}

#[test]
fn wrong_values_of_checks() {
    check(&[
        (
            "timeout: 300ms",
            "timeout: 600ms",
            &[
                "d.yaml:18:16: services[0].check.timeout: 600ms is longer than the interval, so that \
               the next would start while one still waits; must be at most 500ms",
            ],
        ),
        (
            "timeout: 300ms",
            "timeout: 0s",
            &["d.yaml:18:16: services[0].check.timeout: must be from 1ms to the interval, 500ms"],
        ),
        (
            "interval: 500ms",
            "interval: 2h",
            &[
                "d.yaml:17:17: services[0].check.interval: `2h` is not a time; must be a whole number \
               with its unit, such as 500ms or 2s",
            ],
        ),
        (
            "interval: 500ms",
            "interval: 7200s",
            &[
                "d.yaml:17:17: services[0].check.interval: 7200s is out of range; must be from 10ms \
               to 3600s",
            ],
        ),
        (
            "rise: 2",
            "rise: 0",
            &[
                "d.yaml:19:13: services[0].check.rise: 0 is out of range; must be a whole number from \
               1 to 255",
            ],
        ),
        (
            "name: www.abc.local",
            "name: www..local",
            &[
                "d.yaml:16:20: services[0].check.dns.name: `www..local` isn't a domain name: an empty \
               label",
            ],
        ),
        (
            "type: A ",
            "type: ANY ",
            &[
                "d.yaml:16:41: services[0].check.dns.type: unknown record type `ANY`; known are A, \
               AAAA, CAA, CNAME, DNSKEY, DS, HTTPS, MX, NAPTR, NS, PTR, SOA, SRV, SVCB, TLSA, TXT",
            ],
        ),
    ]);
}

#[test]
fn wrong_values_of_real_servers() {
    check(&[
        (
            "183, weight: 1",
            "183, port: 5353",
            &[
                "d.yaml:22:42: services[0].real_servers[0].port: 5353 differs from the service's \
               port, and direct routing cannot change a packet's port; must be 53, or leave it \
               out",
            ],
        ),
        (
            "192.168.56.184,",
            "2001:db8::1,",
            &[
                "d.yaml:23:20: services[0].real_servers[1].address: 2001:db8::1 is IPv6, the service \
               IPv4, and direct routing hands packets on unchanged; write its IPv4 address, or \
               `forwarding: tunnel`, which may cross",
            ],
        ),
        (
            "192.168.56.184,",
            "192.168.56.183,",
            &[
                "d.yaml:23:20: services[0].real_servers[1].address: 192.168.56.183 is already a real \
               server in line 22; list it once",
            ],
        ),
        (
            "192.168.56.184,",
            "192.168.56.185,",
            &[
                "d.yaml:23:20: services[0].real_servers[1].address: 192.168.56.185 is a VIP; write \
               the real server's own address",
            ],
        ),
        (
            "192.168.56.184,",
            "224.0.0.1,",
            &[
                "d.yaml:23:20: services[0].real_servers[1].address: 224.0.0.1 is a multicast address; \
               write the real server's own address",
            ],
        ),
        (
            "184, weight: 1",
            "184, weight: 65536",
            &[
                "d.yaml:23:44: services[0].real_servers[1].weight: 65536 is out of range; must be a \
               whole number from 0 to 65535",
            ],
        ),
        (
            "\n      - { address: 192.168.56.183, weight: 1 }\n      - { address: 192.168.56.184, \
             weight: 1 }",
            " []",
            &[
                "d.yaml:21:19: services[0].real_servers: is empty; must be a list such as \
               [{ address: 192.0.2.2 }]",
            ],
        ),
    ]);
}

#[test]
fn a_real_server_is_no_vip_of_any_service() {
    let text = changed(
        "[192.168.56.185/24]",
        "[192.168.56.185/24, 192.168.56.183/24]",
    );
    let expected = "d.yaml:22:20: services[0].real_servers[0].address: 192.168.56.183 is a VIP; \
                    write the real server's own address";
    assert_eq!(errors(&text), [expected]);
}

#[test]
fn services_that_collide() {
    let second = "  - { name: resolver, address: 192.168.56.185, port: 53, protocols: [tcp], \
                  check: none, real_servers: [{ address: 192.168.56.183 }] }\nmetrics:";
    check(&[(
        "metrics:",
        second,
        &[
            "d.yaml:24:13: services[1].name: `resolver` already names the one in line 9; names \
             must differ",
            "d.yaml:24:32: services[1].address: 192.168.56.185 port 53 tcp already belongs to the \
             service in line 10; address, port or protocol must differ",
        ],
    )]);
    let other_port = second
        .replace("name: resolver", "name: other")
        .replace("53,", "853,");
    assert_eq!(
        errors(&changed("metrics:", &other_port)),
        Vec::<String>::new()
    );
}
