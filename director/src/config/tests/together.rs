//! What several services, and they and `ipvs`, mean for each other.

use super::*;

fn check_files(cases: &[(&str, &[&str])]) {
    for (text, expected) in cases {
        let expected: Vec<String> = expected.iter().map(|it| format!("d.yaml:{it}")).collect();
        assert_eq!(errors(text), expected, "{text}");
    }
}

#[test]
fn services_that_share_what_they_cannot() {
    check_files(&[
        (
            "services:
  - { name: a, addresses: [192.0.2.1-9], ports: [50-60], protocols: [udp, tcp], external: true, check: none, real_servers: [{ address: 10.0.0.1 }] }
  - { name: b, addresses: [192.0.2.20, 192.0.2.5-8], port: 53, protocols: [tcp], external: true, check: none, real_servers: [{ address: 10.0.0.1 }] }
",
            &[
                "3:40: services[1].addresses[1]: 192.0.2.5 port 53 tcp already belongs to the \
                 service in line 2; address, port or protocol must differ",
            ],
        ),
        (
            "services:
  - { name: a, firewall_mark: 3, external: true, check: none, real_servers: [{ address: 10.0.0.1 }] }
  - { name: b, firewall_mark: 3, external: true, check: none, real_servers: [{ address: 10.0.0.1 }] }
  - { name: c, firewall_mark: 3, family: ipv6, external: true, check: none, real_servers: [{ address: 'fd00::1' }] }
",
            &[
                "3:31: services[1].firewall_mark: mark 3 for IPv4 already belongs to the service \
                 in line 2; mark or family must differ",
            ],
        ),
    ]);
}

#[test]
fn what_decides_when_and_what_is_probed() {
    check_files(&[
        (
            "services:
  - { name: a, firewall_mark: 3, check: none, real_servers: [{ address: 10.0.0.1 }] }
  - { name: b, firewall_mark: 4, instance: dns, check: { dns: { name: . } }, real_servers: [{ address: 10.0.0.1 }] }
  - { name: c, firewall_mark: 5, external: true, check: { dns: { name: . }, port: 53 }, protocols: [sctp], real_servers: [{ address: 10.0.0.1 }] }
",
            &[
                "2:31: services[0].firewall_mark: nothing says when this machine is to take it; \
                 write `instance` with the virtual router that holds the addresses, or `external: \
                 true`",
                "3:44: services[1].instance: there is no virtual router `dns`; the file has none",
                "3:56: services[1].check: `port` is missing; the service hasn't one, so write \
                 which is probed",
                "3:56: services[1].check: nothing says what is probed; write `protocols: [udp, \
                 tcp]`",
                "4:57: services[2].check: a DNS check asks over UDP and TCP, and `protocols` has \
                 neither; write `check: none`",
            ],
        ),
        (
            "services:
  - { name: a, addresses: [192.0.2.5-9, 192.0.2.1], port: 53, protocols: [udp, tcp], check: none, real_servers: [{ address: 10.0.0.1 }] }
",
            &[
                "2:28: services[0].addresses[0]: no virtual router lists 192.0.2.5 (and 4 more of \
                 the range); add it to the `addresses` of one, or write `external: true` if \
                 something else brings it to this machine",
                "2:41: services[0].addresses[1]: no virtual router lists 192.0.2.1; add it to the \
                 `addresses` of one, or write `external: true` if something else brings it to \
                 this machine",
            ],
        ),
        (
            "services:
  - { name: a, address: 192.0.2.5, port: 53, protocols: [sctp], external: true, check: { dns: { name: . } }, real_servers: [{ address: 10.0.0.1 }] }
  - { name: b, address: 192.0.2.6, ports: any, protocols: [tcp], persistence: 1s, external: true, check: { dns: { name: . } }, real_servers: [{ address: 10.0.0.1 }] }
",
            &[
                "2:88: services[0].check: a DNS check asks over UDP and TCP, and `protocols` has \
                 neither; write `check: none`",
                "3:106: services[1].check: `port` is missing; the service hasn't one, so write \
                 which is probed",
            ],
        ),
    ]);
}

/// Lines behind the example, from line 25 on.
fn check_ipvs(cases: &[(&str, &[&str])]) {
    for (lines, expected) in cases {
        let expected: Vec<String> = expected.iter().map(|it| format!("d.yaml:{it}")).collect();
        assert_eq!(errors(&format!("{EXAMPLE}{lines}\n")), expected, "{lines}");
    }
}

#[test]
fn wrong_values_of_ipvs() {
    check_ipvs(&[
        (
            "ipvs: { program: sometimes, exclusive: 1, timeouts: { tcp: 0s, tcp_fin: 100ms, udp: \
             2073601s, sctp: 1s } }",
            &[
                "25:18: ipvs.program: `sometimes` is not known; must be one of always, \
                 when-active",
                "25:40: ipvs.exclusive: must be `true` or `false`, but is a number",
                "25:60: ipvs.timeouts.tcp: 0s is out of range; must be from 1s to 2073600s",
                "25:73: ipvs.timeouts.tcp_fin: 100ms is out of range; must be from 1s to 2073600s",
                "25:85: ipvs.timeouts.udp: 2073601s is out of range; must be from 1s to 2073600s",
                "25:95: ipvs.timeouts.sctp: unknown key; known here: tcp, tcp_fin, udp",
            ],
        ),
        (
            "ipvs: { sync: {} }",
            &[
                "25:15: ipvs.sync: `instance` is missing; write the virtual router that it \
                 follows: it tells while that is Active, and listens otherwise",
                "25:15: ipvs.sync: `interface` is missing; write the interface between the \
                 directors",
            ],
        ),
        (
            "ipvs: { sync: { instance: other, interface: eth1 } }",
            &["25:27: ipvs.sync.instance: there is no virtual router `other`; the file has dns"],
        ),
        (
            "ipvs: { sync: { instance: dns, interface: eth1/2, id: 256, group: 192.0.2.1, port: \
             0, ttl: 0, maximum_length: 1023 } }",
            &[
                "25:43: ipvs.sync.interface: `eth1/2` is not the name of an interface; must be 1 \
                 to 15 printable characters other than `/` and `:`",
                "25:55: ipvs.sync.id: 256 is out of range; must be a whole number from 0 to 255",
                "25:67: ipvs.sync.group: 192.0.2.1 is no multicast address; must be one such as \
                 224.0.0.81",
                "25:84: ipvs.sync.port: 0 is out of range; must be a whole number from 1 to 65535",
                "25:92: ipvs.sync.ttl: 0 is out of range; must be a whole number from 1 to 255",
                "25:111: ipvs.sync.maximum_length: 1023 is out of range; must be a whole number \
                 from 1024 to 65507",
            ],
        ),
        (
            "ipvs: { sync: { instance: dns, interface: eth1, group: 'ff02::1', maximum_length: \
             65488 } }",
            &[
                "25:83: ipvs.sync.maximum_length: 65488 is out of range; must be a whole number \
                 from 1024 to 65487",
            ],
        ),
        (
            "ipvs: { exclusive: true }
dataplane: none",
            &[
                "25:7: ipvs: with `dataplane: none` nothing is forwarded; leave one of the two \
                 out",
            ],
        ),
        (
            "ipvs: { sync: { instance: dns, interface: { ds1: eth1 } } }",
            &["25:43: ipvs.sync.interface: has no value for node `ds2`; it has ds1"],
        ),
    ]);
}

#[test]
fn tunnels_that_cross_cannot_be_synchronized() {
    let text = |server| {
        changed(
            "      - { address: 192.168.56.184, weight: 1 }\n",
            &format!("      - {{ address: {server}, forwarding: tunnel }}\n"),
        ) + "ipvs: { sync: { instance: dns, interface: eth1 } }\n"
    };
    assert_eq!(errors(&text("192.168.56.184")), Vec::<String>::new());
    let expected = "d.yaml:25:15: ipvs.sync: connections through a tunnel to the other family can't \
                    be told, and fd00::1 of service `resolver` is reached by one from \
                    192.168.56.185:53/udp; leave out one of the two";
    assert_eq!(errors(&text("'fd00::1'")), [expected]);
}

#[test]
fn a_file_has_no_end_of_virtual_services() {
    let services: String = (0..17)
        .map(|index| {
            format!(
                "  - {{ name: s{index}, address: 192.0.2.{index}, ports: [1-4096], protocols: [tcp], \
                 external: true, check: none, real_servers: [{{ address: 10.0.0.1 }}] }}\n"
            )
        })
        .collect();
    let expected = "d.yaml:18:5: services[16]: the services up to this one make 69632 virtual \
                    services, and a file has at most 65536; give packets a mark, and write \
                    `firewall_mark`";
    assert_eq!(errors(&format!("services:\n{services}")), [expected]);
}
