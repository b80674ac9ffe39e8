#![allow(clippy::unwrap_used)]
use std::io::Write;

use lvs_proto::ipvs::Scheduler;
use lvs_proto::vrrp::{ChecksumForm, Password, Version};

use super::*;

/// The issue's example, line by line: positions in the cases below count in it.
const EXAMPLE: &str = "\
vrrp:
  - name: dns
    interface: eth2
    virtual_router_id: 50
    priority: { ds1: 200, ds2: 150 }
    advert_interval: 100ms
    addresses: [192.168.56.185/24]
services:
  - name: resolver
    address: 192.168.56.185
    port: 53
    protocols: [udp, tcp]
    scheduler: wrr
    forwarding: direct-routing
    check:
      dns: { name: www.abc.local, type: A }
      interval: 500ms
      timeout: 300ms
      rise: 2
      fall: 2
    real_servers:
      - { address: 192.168.56.183, weight: 1 }
      - { address: 192.168.56.184, weight: 1 }
metrics: { listen: \"127.0.0.1:9712\" }
";

const SECRET: &str = "s3cr3t";

fn parsed(text: &str) -> Result<File, Errors> {
    parse(Path::new("d.yaml"), text)
}

fn errors(text: &str) -> Vec<String> {
    match parsed(text) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.to_string().lines().map(str::to_owned).collect(),
    }
}

/// The example with one of its texts exchanged, which must be there.
fn changed(from: &str, to: &str) -> String {
    assert_eq!(
        EXAMPLE.matches(from).count(),
        1,
        "`{from}` must be in the example once"
    );
    EXAMPLE.replace(from, to)
}

/// Exchanges one text of the example and expects exactly these errors.
fn check(cases: &[(&str, &str, &[&str])]) {
    for (from, to, expected) in cases {
        assert_eq!(errors(&changed(from, to)), *expected, "`{from}` to `{to}`");
    }
}

fn configuration(text: &str, node: &str) -> Configuration {
    match parsed(text).and_then(|file| file.for_node(node)) {
        Ok(configuration) => configuration,
        Err(errors) => panic!("{errors}"),
    }
}

#[test]
fn the_example_says_what_it_says() {
    let file = parsed(EXAMPLE)
        .map_err(|errors| errors.to_string())
        .unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(file.nodes().into_iter().collect::<Vec<_>>(), ["ds1", "ds2"]);
    let first = file.for_node("ds1").unwrap();
    let second = file.for_node("ds2").unwrap();
    assert_eq!(first.instances[0].priority.get(), 200);
    assert_eq!(second.instances[0].priority.get(), 150);
    assert_eq!(first.services, second.services);
    let instance = &first.instances[0];
    assert_eq!(instance.name, "dns");
    assert_eq!(instance.interface, "eth2");
    assert_eq!(instance.virtual_router_id.get(), 50);
    assert_eq!(instance.advert_interval.get().as_millis(), 100);
    assert_eq!(
        instance.version,
        VersionSettings::V3 {
            checksum: ChecksumForm::PseudoHeader
        }
    );
    assert!(instance.preempt);
    assert_eq!(instance.addresses[0].to_string(), "192.168.56.185/24");
    let service = &first.services[0];
    assert_eq!(service.holder, Holder::Instance("dns".to_owned()));
    assert_eq!(service.protocols, [Protocol::Udp, Protocol::Tcp]);
    assert_eq!(service.scheduler, Scheduler::WeightedRoundRobin);
    assert_eq!(
        service.one_packet_scheduling,
        OnePacketScheduling {
            enabled: true,
            configured: false
        }
    );
    let servers: Vec<_> = service
        .real_servers
        .iter()
        .map(|it| (it.address.to_string(), it.weight))
        .collect();
    assert_eq!(
        servers,
        [
            ("192.168.56.183".to_owned(), 1),
            ("192.168.56.184".to_owned(), 1)
        ]
    );
    assert_eq!(first.metrics.unwrap().listen.to_string(), "127.0.0.1:9712");
    assert_eq!(first.dataplane, Dataplane::Ipvs);
}

#[test]
fn the_packaged_example_is_the_issues() {
    let packaged = include_str!("../../../deploy/director.yaml");
    for node in ["ds1", "ds2"] {
        assert_eq!(configuration(packaged, node), configuration(EXAMPLE, node));
    }
}

#[test]
fn what_the_file_leaves_out_has_its_default() {
    let text = "\
vrrp: [{ name: a, interface: e, virtual_router_id: 1, priority: 1, addresses: [192.0.2.1/32] }]
services:
  - name: a
    address: 192.0.2.1
    port: 53
    protocols: [tcp]
    check: { dns: { name: . } }
    real_servers: [{ address: 192.0.2.2, port: 53 }]
";
    let found = configuration(text, "anywhere");
    let instance = &found.instances[0];
    assert_eq!(instance.advert_interval.get().as_millis(), 100);
    assert_eq!(instance.version.version(), Version::V3);
    assert!(instance.preempt);
    let service = &found.services[0];
    assert_eq!(service.scheduler, Scheduler::WeightedRoundRobin);
    assert_eq!(service.forwarding, Forwarding::DirectRouting);
    assert!(!service.one_packet_scheduling.enabled, "there is no UDP");
    let check = service.check.as_ref().unwrap();
    let Probe::Dns { record_type, .. } = &check.probe;
    assert_eq!(record_type.mnemonic(), "A");
    assert_eq!(
        (check.interval.as_millis(), check.timeout.as_millis()),
        (500, 300)
    );
    assert_eq!((check.rise.get(), check.fall.get()), (2, 2));
    assert_eq!(service.real_servers[0].weight, 1);
    assert_eq!((found.metrics, found.dataplane), (None, Dataplane::Ipvs));
}

#[test]
fn what_the_file_says_counts() {
    let text = changed(
        "    advert_interval: 100ms\n",
        "    version: 2\n    preempt: false\n",
    )
    .replace("[udp, tcp]\n", "[udp]\n    one_packet_scheduling: false\n")
    .replace("scheduler: wrr", "scheduler: mh")
    .replace("interval: 500ms\n      timeout: 300ms", "interval: 100ms")
    .replace("184, weight: 1", "184, weight: 0")
        + "dataplane: none\n";
    let found = configuration(&text, "ds1");
    let instance = &found.instances[0];
    assert_eq!(instance.version, VersionSettings::V2 { password: None });
    assert_eq!(
        instance.advert_interval.get().as_secs(),
        1,
        "the least that version 2 can say"
    );
    assert!(!instance.preempt);
    let service = &found.services[0];
    assert_eq!(
        service.one_packet_scheduling,
        OnePacketScheduling {
            enabled: false,
            configured: true
        }
    );
    assert_eq!(service.scheduler, Scheduler::MaglevHashing);
    let timeout = service.check.as_ref().unwrap().timeout;
    assert_eq!(timeout.as_millis(), 100, "no longer than the interval");
    assert_eq!(service.real_servers[1].weight, 0);
    assert_eq!(found.dataplane, Dataplane::None);
    let none = changed(
        "check:\n      dns: { name: www.abc.local, type: A }\n      interval: 500ms\n      \
         timeout: 300ms\n      rise: 2\n      fall: 2\n",
        "check: none\n",
    );
    assert_eq!(configuration(&none, "ds1").services[0].check, None);
    let external = changed("port: 53\n", "port: 5353\n    external: true\n")
        .replace("[192.168.56.185/24]", "[192.168.56.186/24]");
    let service = &configuration(&external, "ds1").services[0];
    assert_eq!(service.holder, Holder::External);
    assert!(
        !service.one_packet_scheduling.enabled,
        "the default is for port 53"
    );
}

#[test]
fn every_vrrp_field_may_differ_by_node() {
    let text = "\
vrrp:
  - name: { a: left, b: right }
    interface: { a: eth1, b: eth2 }
    virtual_router_id: { a: 1, b: 2 }
    priority: { a: 10, b: 20 }
    advert_interval: { a: 10ms, b: 2s }
    version: { a: 3, b: 2 }
    addresses: { a: [192.0.2.1/24], b: [192.0.2.2/24, 192.0.2.3/32] }
    preempt: { a: true, b: false }
";
    let a = configuration(text, "a").instances.remove(0);
    let b = configuration(text, "b").instances.remove(0);
    assert_eq!((a.name.as_str(), b.name.as_str()), ("left", "right"));
    assert_eq!(
        (a.interface.as_str(), b.interface.as_str()),
        ("eth1", "eth2")
    );
    assert_eq!(
        (a.virtual_router_id.get(), b.virtual_router_id.get()),
        (1, 2)
    );
    assert_eq!((a.priority.get(), b.priority.get()), (10, 20));
    assert_eq!(
        (
            a.advert_interval.get().as_millis(),
            b.advert_interval.get().as_secs()
        ),
        (10, 2)
    );
    assert_eq!(
        (a.version.version(), b.version.version()),
        (Version::V3, Version::V2)
    );
    assert_eq!((a.addresses.len(), b.addresses.len()), (1, 2));
    assert_eq!((a.preempt, b.preempt), (true, false));
    let text = changed(
        "    advert_interval: 100ms\n",
        "    checksum: { ds1: message-only, ds2: pseudo-header }\n",
    );
    let checksum = |node| configuration(&text, node).instances.remove(0).version;
    assert_eq!(
        checksum("ds1"),
        VersionSettings::V3 {
            checksum: ChecksumForm::MessageOnly
        }
    );
    assert_eq!(
        checksum("ds2"),
        VersionSettings::V3 {
            checksum: ChecksumForm::PseudoHeader
        }
    );
    let text = changed(
        "    advert_interval: 100ms\n",
        "    version: 2\n    authentication: { ds1: { password: one }, ds2: { password: two } }\n",
    );
    for (node, word) in [("ds1", "one"), ("ds2", "two")] {
        let password = Some(Password::new(word).unwrap());
        let version = configuration(&text, node).instances.remove(0).version;
        assert_eq!(version, VersionSettings::V2 { password });
    }
}

#[test]
fn yaml_anchors_and_merge_keys_work() {
    let text = changed(
        "      - { address: 192.168.56.183, weight: 1 }\n      - { address: 192.168.56.184, weight: 1 }\n",
        "      - &first { address: 192.168.56.183, weight: 7 }\n      - { <<: *first, address: 192.168.56.184 }\n",
    );
    let servers = &configuration(&text, "ds1").services[0].real_servers;
    assert_eq!(
        (servers[1].address.to_string().as_str(), servers[1].weight),
        ("192.168.56.184", 7)
    );
}

#[test]
fn nodes_that_a_map_lacks_are_named() {
    check(&[(
        "addresses: [192.168.56.185/24]",
        "addresses: { ds1: [192.168.56.185/24], ds3: [192.168.56.185/24] }",
        &[
            "d.yaml:5:15: vrrp[0].priority: has no value for node `ds3`; it has ds1, ds2",
            "d.yaml:7:16: vrrp[0].addresses: has no value for node `ds2`; it has ds1, ds3",
        ],
    )]);
    let errors = parsed(EXAMPLE)
        .unwrap_or_else(|e| panic!("{e}"))
        .for_node("ds9")
        .unwrap_err();
    assert_eq!(
        errors.to_string(),
        "d.yaml:5:15: vrrp[0].priority: has no value for node `ds9`; it has ds1, ds2"
    );
    check(&[(
        "priority: { ds1: 200, ds2: 150 }",
        "priority: {}",
        &["d.yaml:5:15: vrrp[0].priority: is empty; write a value, or a value for each node"],
    )]);
}

#[test]
fn unknown_missing_and_repeated_keys() {
    check(&[
        (
            "priority:",
            "prioritty:",
            &[
                "d.yaml:2:5: vrrp[0]: `priority` is missing; write a number from 1 to 254 for each \
                 node, the highest for the one to be Active",
                "d.yaml:5:5: vrrp[0].prioritty: unknown key; did you mean `priority`?",
            ],
        ),
        (
            "    port: 53\n",
            "    port: 53\n    lb_algo: rr\n",
            &[
                "d.yaml:12:5: services[0].lb_algo: unknown key; known here: name, address, port, \
               protocols, scheduler, forwarding, one_packet_scheduling, check, real_servers, \
               external",
            ],
        ),
        (
            "metrics:",
            "metric:",
            &["d.yaml:24:1: metric: unknown key; did you mean `metrics`?"],
        ),
        (
            "183, weight: 1",
            "183, wieght: 1",
            &[
                "d.yaml:22:36: services[0].real_servers[0].wieght: unknown key; did you mean \
               `weight`?",
            ],
        ),
        (
            "    interface: eth2\n",
            "    interface: eth2\n    interface: eth2\n",
            &["d.yaml:4:5: vrrp[0].interface: is written twice, first in line 3; keep one"],
        ),
        (
            "    interface: eth2\n",
            "",
            &[
                "d.yaml:2:5: vrrp[0]: `interface` is missing; write the interface that carries the \
               adverts, such as eth0",
            ],
        ),
        (
            "    port: 53\n",
            "    1: 2\n    port: 53\n",
            &[
                "d.yaml:11:5: services[0]: a key must be a text, but is a number; write it in \
               quotes",
            ],
        ),
        (
            "    check:\n      dns: { name: www.abc.local, type: A }\n      interval: 500ms\n      \
             timeout: 300ms\n      rise: 2\n      fall: 2\n",
            "",
            &[
                "d.yaml:9:5: services[0]: `check` is missing; without one a dead real server keeps \
               its share of the clients; write a `dns` check, or `check: none` to have it so",
            ],
        ),
    ]);
}

#[test]
fn wrong_types() {
    check(&[
        (
            "virtual_router_id: 50",
            "virtual_router_id: fifty",
            &[
                "d.yaml:4:24: vrrp[0].virtual_router_id: must be a whole number from 1 to 255, but \
               is a text",
            ],
        ),
        (
            "virtual_router_id: 50",
            "virtual_router_id: \"50\"",
            &[
                "d.yaml:4:24: vrrp[0].virtual_router_id: must be a whole number from 1 to 255, but \
               is a text; write it without quotes",
            ],
        ),
        (
            "virtual_router_id: 50",
            "virtual_router_id: 050",
            &[
                "d.yaml:4:24: vrrp[0].virtual_router_id: must be a whole number from 1 to 255, but \
               is a number that is not whole",
            ],
        ),
        (
            "ds2: 150",
            "ds2: [1]",
            &[
                "d.yaml:5:32: vrrp[0].priority.ds2: must be a whole number from 1 to 254, but is a \
               list",
            ],
        ),
        (
            "name: dns",
            "name: 5",
            &["d.yaml:2:11: vrrp[0].name: must be a name, but is a number; write it in quotes"],
        ),
        (
            "    advert_interval: 100ms\n",
            "    preempt: yes\n",
            &["d.yaml:6:14: vrrp[0].preempt: must be `true` or `false`, but is a text"],
        ),
        (
            "addresses: [192.168.56.185/24]",
            "addresses: 192.168.56.185/24",
            &[
                "d.yaml:7:16: vrrp[0].addresses: must be a list of VIPs, such as [192.0.2.1/24], \
               but is a text",
            ],
        ),
        (
            "metrics: { listen: \"127.0.0.1:9712\" }",
            "metrics: 9712",
            &["d.yaml:24:10: metrics: must be a mapping, but is a number"],
        ),
        (
            "check:\n      dns: { name: www.abc.local, type: A }\n      interval: 500ms\n      \
             timeout: 300ms\n      rise: 2\n      fall: 2\n",
            "check:\n",
            &[
                "d.yaml:15:10: services[0].check: must be `none` or a mapping with `dns`, but is \
               empty",
            ],
        ),
    ]);
    let nothing = "d.yaml:1:1: must be a mapping, but is";
    assert_eq!(errors(""), [format!("{nothing} empty")]);
    assert_eq!(errors("- a"), [format!("{nothing} a list")]);
    assert_eq!(errors("vrrp"), [format!("{nothing} a text")]);
    assert_eq!(
        errors("metrics: { listen: '[::1]:9712' }"),
        ["d.yaml:1:1: configures nothing; write `vrrp`, `services` or both"]
    );
    assert_eq!(
        errors("vrrp: []"),
        ["d.yaml:1:7: vrrp: is empty; must be a list of virtual routers"]
    );
}

#[test]
fn wrong_values_of_virtual_routers() {
    check(&[
        (
            "virtual_router_id: 50",
            "virtual_router_id: 0",
            &[
                "d.yaml:4:24: vrrp[0].virtual_router_id: 0 is out of range; must be a whole number \
               from 1 to 255",
            ],
        ),
        (
            "virtual_router_id: 50",
            "virtual_router_id: -1",
            &[
                "d.yaml:4:24: vrrp[0].virtual_router_id: -1 is out of range; must be a whole number \
               from 1 to 255",
            ],
        ),
        (
            "ds1: 200, ds2: 150",
            "ds1: 256, ds2: 255",
            &[
                "d.yaml:5:22: vrrp[0].priority.ds1: 256 is out of range; must be a whole number \
                 from 1 to 254",
                "d.yaml:5:32: vrrp[0].priority.ds2: 255 belongs to the router that owns the \
                 addresses, and directors share them; must be a whole number from 1 to 254",
            ],
        ),
        (
            "advert_interval: 100ms",
            "advert_interval: 100",
            &[
                "d.yaml:6:22: vrrp[0].advert_interval: 100 has no unit; must be a whole number with \
               its unit, such as 500ms or 2s",
            ],
        ),
        (
            "advert_interval: 100ms",
            "advert_interval: 1.5s",
            &[
                "d.yaml:6:22: vrrp[0].advert_interval: `1.5s` is not a time; must be a whole number \
               with its unit, such as 500ms or 2s",
            ],
        ),
        (
            "advert_interval: 100ms",
            "advert_interval: 15ms",
            &[
                "d.yaml:6:22: vrrp[0].advert_interval: 15ms can't be advertised: version 3 counts \
               hundredths of a second; must be 10ms to 40950ms",
            ],
        ),
        (
            "advert_interval: 100ms",
            "advert_interval: 41s",
            &[
                "d.yaml:6:22: vrrp[0].advert_interval: 41s can't be advertised: version 3 counts \
               hundredths of a second; must be 10ms to 40950ms",
            ],
        ),
        (
            "    advert_interval: 100ms\n",
            "    advert_interval: 100ms\n    version: { ds1: 3, ds2: 2 }\n",
            &[
                "d.yaml:6:22: vrrp[0].advert_interval: 100ms can't be advertised: version 2 counts \
               whole seconds; must be 1s to 255s, or set version: 3",
            ],
        ),
        (
            "    advert_interval: 100ms\n",
            "    version: 4\n",
            &[
                "d.yaml:6:14: vrrp[0].version: 4 is out of range; must be a whole number from 2 to 3",
            ],
        ),
        (
            "    advert_interval: 100ms\n",
            "    version: 2\n    checksum: message-only\n",
            &[
                "d.yaml:7:15: vrrp[0].checksum: version 2 has one form of checksum; leave it out, \
               or set version: 3",
            ],
        ),
        (
            "    advert_interval: 100ms\n",
            "    checksum: both\n",
            &[
                "d.yaml:6:15: vrrp[0].checksum: `both` is not known; must be one of pseudo-header, \
               message-only",
            ],
        ),
        (
            "interface: eth2",
            "interface: an-interface-too-long",
            &[
                "d.yaml:3:16: vrrp[0].interface: `an-interface-too-long` is not the name of an \
               interface; must be 1 to 15 printable characters other than `/` and `:`",
            ],
        ),
        (
            "name: dns",
            "name: the DNS",
            &[
                "d.yaml:2:11: vrrp[0].name: is not a name; must be 1 to 64 letters, digits, dots, \
               hyphens and underscores",
            ],
        ),
    ]);
}

#[test]
fn addresses_that_cannot_be_vips() {
    let cases = [
        (
            "2001:db8::1/64",
            "`2001:db8::1` is an IPv6 address; VIPs are IPv4 only for now",
        ),
        (
            "192.0.2.1",
            "192.0.2.1 has no prefix length; write that of its LAN, such as 192.0.2.1/24, or \
             192.0.2.1/32",
        ),
        (
            "192.0.2.1/33",
            "`/33` is not a prefix length; must be /1 to /32",
        ),
        (
            "192.0.2.1/0",
            "`/0` is not a prefix length; must be /1 to /32",
        ),
        (
            "192.0.2/24",
            "`192.0.2` is not an IPv4 address; write one such as 192.0.2.1",
        ),
        (
            "192.0.2.0/24",
            "192.0.2.0/24 is the address of its own network; write one of a host",
        ),
        (
            "192.0.2.255/24",
            "192.0.2.255/24 is the broadcast address of its network; write a host's",
        ),
        (
            "224.0.0.18/24",
            "224.0.0.18 is a multicast address; a VIP is a unicast address of the LAN",
        ),
        (
            "127.0.0.1/8",
            "127.0.0.1 is a loopback address; a VIP is a unicast address of the LAN",
        ),
        (
            "0.0.0.0/0",
            "0.0.0.0 is unspecified; a VIP is a unicast address of the LAN",
        ),
        (
            "255.255.255.255/32",
            "255.255.255.255 is the broadcast address; a VIP is a unicast address of the LAN",
        ),
    ];
    for (address, message) in cases {
        // Listed behind a good one, which serves the service.
        let text = changed(
            "[192.168.56.185/24]",
            &format!("[192.168.56.185/24, {address}]"),
        );
        let expected = format!("d.yaml:7:36: vrrp[0].addresses[1]: {message}");
        assert_eq!(errors(&text), [expected]);
    }
    // Networks without an address for themselves or for all.
    for address in [
        "192.0.2.0/31",
        "192.0.2.1/31",
        "192.0.2.0/32",
        "192.0.2.255/32",
    ] {
        let text = changed(
            "[192.168.56.185/24]",
            &format!("[192.168.56.185/24, {address}]"),
        );
        assert_eq!(
            configuration(&text, "ds1").instances[0].addresses[1].to_string(),
            address
        );
    }
    let many: Vec<String> = (0..256).map(|host| format!("10.0.{host}.1/24")).collect();
    let text = changed("[192.168.56.185/24]", &format!("[{}]", many.join(", ")));
    let expected = "d.yaml:7:16: vrrp[0].addresses: has 256 VIPs; an advert carries at most 255";
    assert_eq!(errors(&text), [expected]);
}

#[test]
fn virtual_routers_that_collide() {
    let second = |lines: &str| changed("services:\n", &format!("  - {lines}\nservices:\n"));
    assert_eq!(
        errors(&second(
            "{ name: dns, interface: eth2, virtual_router_id: 50, priority: 1, \
             addresses: [192.168.56.185/32] }"
        )),
        [
            "d.yaml:8:13: vrrp[1].name: `dns` already names the one in line 2; names must differ",
            "d.yaml:8:54: vrrp[1].virtual_router_id: 50 is already used on eth2 in line 4; must \
             differ on one interface",
            "d.yaml:8:83: vrrp[1].addresses[0]: 192.168.56.185 is already a VIP in line 7; list it \
             once",
        ]
    );
    assert_eq!(
        errors(&second(
            "{ name: other, interface: eth3, virtual_router_id: 50, priority: 1, \
             addresses: [192.168.56.1/32] }"
        )),
        Vec::<String>::new(),
        "the number may be used again on another LAN"
    );
    assert_eq!(
        errors(&second(
            "{ name: other, interface: { ds1: eth3, ds2: eth2 }, virtual_router_id: 50, \
             priority: 1, addresses: [192.168.56.1/32] }"
        )),
        [
            "d.yaml:8:76: vrrp[1].virtual_router_id: 50 is already used on eth2 in line 4; must \
          differ on one interface"
        ],
        "on the other node too"
    );
}

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
            "    address: 2001:db8::1\n",
            &[
                "d.yaml:10:14: services[0].address: `2001:db8::1` is an IPv6 address; services are \
               IPv4 only for now",
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
            "[udp, sctp]",
            &[
                "d.yaml:12:22: services[0].protocols[1]: `sctp` is not known; must be one of udp, \
               tcp",
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
            &[
                "d.yaml:14:17: services[0].forwarding: `nat` is not supported in this version; must \
               be `direct-routing`",
            ],
        ),
        (
            "forwarding: direct-routing",
            "forwarding: dr",
            &["d.yaml:14:17: services[0].forwarding: `dr` is not known; must be `direct-routing`"],
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
               a probe would start while the one before it waits; must be at most 500ms",
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
        (
            "dns: {",
            "http: {",
            &[
                "d.yaml:16:7: services[0].check: `dns` is missing; write the query, such as \
                 { name: example.org }",
                "d.yaml:16:7: services[0].check.http: unknown key; known here: dns, interval, \
                 timeout, rise, fall",
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
                "d.yaml:23:20: services[0].real_servers[1].address: `2001:db8::1` is an IPv6 address; \
               direct routing hands packets on unchanged, so that a real server is of its \
               service's family; write its IPv4 address",
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

#[test]
fn all_mistakes_are_reported_at_once_by_position() {
    let text = EXAMPLE
        .replace("eth2", "eth/2")
        .replace("port: 53", "port: 70000")
        .replace("rise: 2", "rize: 2")
        .replace("9712", "97120");
    assert_eq!(
        errors(&text),
        [
            "d.yaml:3:16: vrrp[0].interface: `eth/2` is not the name of an interface; must be 1 to \
             15 printable characters other than `/` and `:`",
            "d.yaml:11:11: services[0].port: 70000 is out of range; must be a whole number from 1 \
             to 65535",
            "d.yaml:19:7: services[0].check.rize: unknown key; did you mean `rise`?",
            "d.yaml:24:20: metrics.listen: `127.0.0.1:97120` can't be listened on; must be an \
             address and a port, such as \"127.0.0.1:9712\" or \"[::1]:9712\"",
        ]
    );
}

#[test]
fn syntax_errors_have_positions() {
    let cases = [
        (
            "vrrp: [1\n",
            "d.yaml:1:7: not valid YAML: unclosed bracket '['",
        ),
        (
            "vrrp:\n\t- a\n",
            "d.yaml:2:2: not valid YAML: tabs disallowed within this context (block indentation)",
        ),
        (
            "a: b: c\n",
            "d.yaml:1:5: not valid YAML: mapping values are not allowed in this context",
        ),
        (
            "a: *b\n",
            "d.yaml:1:4: not valid YAML: alias references unknown anchor",
        ),
        (
            "a: 1\n---\nb: 1\n",
            "d.yaml:3:1: a second YAML document starts here; a configuration is one",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(errors(text), [expected]);
    }
}

/// Whatever is written under `authentication`, in whatever broken way, is never printed.
#[test]
fn secrets_are_never_printed() {
    let at = "d.yaml:6:21: vrrp[0].authentication";
    let known = "unknown key; known here: password";
    let missing = "`password` is missing; write it in quotes, at most 8 bytes";
    let cases = [
        // A scalar, a list or nothing where a mapping should be.
        (
            "s3cr3t",
            vec![format!("{at}: must be a mapping, but is a text")],
        ),
        (
            "[s3cr3t]",
            vec![format!("{at}: must be a mapping, but is a list")],
        ),
        (
            "",
            vec!["d.yaml:6:19: vrrp[0].authentication: must be a mapping, but is empty".to_owned()],
        ),
        ("{}", vec![format!("{at}: {missing}")]),
        // Misspelt keys, which may be the password itself.
        (
            "{ pasword: s3cr3t }",
            vec![
                format!("{at}: {missing}"),
                format!("d.yaml:6:23: vrrp[0].authentication: {known}"),
            ],
        ),
        (
            "{ s3cr3t }",
            vec![
                format!("{at}: {missing}"),
                format!("d.yaml:6:23: vrrp[0].authentication: {known}"),
            ],
        ),
        (
            "{ password: { s3cr3t: s3cr3t } }",
            vec![
                "d.yaml:6:33: vrrp[0].authentication: must be a text of 1 to 8 bytes, but is a \
                 mapping"
                    .to_owned(),
            ],
        ),
        (
            "{ s3cr3t: { s3cr3t: s3cr3t } }",
            vec![
                "d.yaml:6:31: vrrp[0].authentication: `password` is missing; write it in quotes, \
                 at most 8 bytes"
                    .to_owned(),
                format!("d.yaml:6:33: vrrp[0].authentication: {known}"),
            ],
        ),
        // Too long, empty, of another type, written twice.
        (
            "{ password: s3cr3ts3cr3t }",
            vec![
                "d.yaml:6:33: vrrp[0].authentication: must be a text of 1 to 8 bytes, but has 12 \
                 bytes"
                    .to_owned(),
            ],
        ),
        (
            "{ password: '' }",
            vec![
                "d.yaml:6:33: vrrp[0].authentication: must be a text of 1 to 8 bytes, but has 0 \
                 bytes"
                    .to_owned(),
            ],
        ),
        (
            "{ password: 12345678 }",
            vec![
                "d.yaml:6:33: vrrp[0].authentication: must be a text of 1 to 8 bytes, but is a \
                 number; write it in quotes"
                    .to_owned(),
            ],
        ),
        (
            "{ password: s3cr3t, password: s3cr3t }",
            vec![
                "d.yaml:6:41: vrrp[0].authentication: is written twice, first in line 6; keep one"
                    .to_owned(),
            ],
        ),
        // Where a version or a node has no use for it.
        (
            "{ password: s3cr3t }\n    version: 3",
            vec![format!(
                "{at}: version 3 has no authentication; leave it out, or set version: 2"
            )],
        ),
        (
            "{ s3cr3t: { password: s3cr3t } }",
            vec![
                format!("{at}: has no value for node `ds1`"),
                format!("{at}: has no value for node `ds2`"),
            ],
        ),
        // Not YAML.
        (
            "{ password: @s3cr3t }",
            vec!["d.yaml:6:33: not valid YAML: unexpected character".into()],
        ),
        (
            "{ password: *s3cr3t }",
            vec!["d.yaml:6:33: not valid YAML: alias references unknown anchor".into()],
        ),
        (
            "{ password: \"s3cr3t\\q\" }",
            vec![
                "d.yaml:6:33: not valid YAML: while parsing a quoted scalar, found unknown escape \
                 character"
                    .into(),
            ],
        ),
        (
            "{ password: s3cr3t",
            vec!["d.yaml:7:12: not valid YAML: while parsing a flow mapping, did not find expected ',' or '}'".to_owned()],
        ),
        (
            "{ password: !!int s3cr3t }",
            vec!["d.yaml:6:39: not valid YAML: invalid u64".to_owned()],
        ),
    ];
    for (authentication, expected) in cases {
        let version = if authentication.contains("version") {
            ""
        } else {
            "    version: 2\n"
        };
        let text = changed(
            "    advert_interval: 100ms\n",
            &format!("    authentication: {authentication}\n{version}"),
        );
        let found = errors(&text);
        assert!(!found.concat().contains(SECRET), "printed: {found:?}");
        assert!(!found.concat().contains("12345678"), "printed: {found:?}");
        assert_eq!(found, expected, "{authentication}");
    }
    let text = changed(
        "    advert_interval: 100ms\n",
        "    authentication: { password: s3cr3t }\n    version: 2\n",
    );
    let found = configuration(&text, "ds1");
    let misplaced = errors("vrrp: [{ password:s3cr3t }, { password: s3cr3t }]").concat();
    assert!(
        misplaced.contains("unknown key") && !misplaced.contains(SECRET),
        "{misplaced}"
    );
    assert!(!format!("{found:?}").contains(SECRET));
    let password = Some(Password::new(SECRET).unwrap());
    assert_eq!(found.instances[0].version, VersionSettings::V2 { password });
}

#[test]
fn files_that_cannot_be_read() {
    let missing = Path::new("/nonexistent/director.yaml");
    assert_eq!(
        load(missing).err().unwrap().to_string(),
        "/nonexistent/director.yaml: cannot be read: No such file or directory (os error 2)"
    );
    let loaded = |bytes: &[u8]| {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        let path = file.path().display().to_string();
        load(file.path())
            .map(|_| ())
            .map_err(|errors| errors.to_string().replace(&path, "FILE"))
    };
    assert_eq!(loaded(EXAMPLE.as_bytes()), Ok(()));
    assert_eq!(
        loaded(b"vrrp: \xff"),
        Err("FILE: is not UTF-8 at byte 6".to_owned())
    );
    let mut large = EXAMPLE.as_bytes().to_vec();
    large.resize(1024 * 1024, b'\n');
    assert_eq!(loaded(&large), Ok(()));
    large.push(b'\n');
    let expected = "FILE: is larger than 1 MiB; a configuration has at most that";
    assert_eq!(loaded(&large), Err(expected.to_owned()));
}

#[test]
fn hostile_files_end_soon_and_with_an_error() {
    let bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned()
        + &('b'..='k')
            .map(|letter| {
                let before = char::from(letter as u8 - 1);
                let aliases = vec![format!("*{before}"); 9].join(", ");
                format!("{letter}: &{letter} [{aliases}]\n")
            })
            .collect::<String>();
    for text in [
        "[".repeat(100_000),
        "{a: ".repeat(100_000),
        "- ".repeat(100_000),
        bomb,
    ] {
        assert!(!errors(&text).is_empty());
    }
    // As deep as the parser lets through.
    for depth in [60, 100, 500, 1900] {
        let text = format!("vrrp: {}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(!errors(&text).is_empty());
    }
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in "[a-z:\\-\\[\\]{}&*!|>'\"%@`#, \n0-9.]{0,200}") {
        let _ = errors(&text);
    }

    #[test]
    fn no_change_of_the_example_panics(at in 0..EXAMPLE.len(), byte in 0x20u8..0x7f) {
        let mut bytes = EXAMPLE.as_bytes().to_vec();
        bytes[at] = byte;
        let _ = errors(&String::from_utf8(bytes).unwrap_or_default());
    }
}
