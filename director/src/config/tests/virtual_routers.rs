//! What is wrong with virtual routers.

use super::*;

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
                 from 1 to 255",
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
            "2001:db8::1 is IPv6, and the first VIP IPv4; write it under `further_addresses`, or \
             into a virtual router of its own",
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
fn what_belongs_to_the_other_version() {
    check_lines(&[
        (
            "version: 2\naccept_intervals: { from: 1s, to: 2s }",
            &[
                "7:23 accept_intervals: version 2 accepts no interval but its own; leave it out, or \
               set version: 3",
            ],
        ),
        (
            "version: 2\nauthentication: { hmac: { send: 1, keys: { 1: 'hex:KEY' } } }",
            &[
                "7:51 authentication: what follows \"hex:\" must be pairs of hexadecimal digits; must \
               be a text: \"hex:…\", \"file:/…\", or a key of 32 to 64 bytes",
            ],
        ),
        (
            "version: 2\nauthentication: { hmac: { send: 1, keys: { 1: 0123456789abcdef0123456789abcdef } } }",
            &["7:21 authentication: `hmac` is version 3's; write `password`, or set version: 3"],
        ),
        (
            "authentication: { password: 'x' }",
            &[
                "6:21 authentication: a password is version 2's; write `hmac`, leave it out, or set \
               version: 2",
            ],
        ),
    ]);
}

#[test]
fn intervals_that_include_the_own_one() {
    check_lines(&[
        (
            "accept_intervals: { from: 200ms, to: 1s }",
            &[
                "6:23 accept_intervals: 200ms to 1s doesn't include this director's own \
               advert_interval, 100ms",
            ],
        ),
        (
            "accept_intervals: { from: 1s, to: 10ms }",
            &["6:23 accept_intervals: `from`, 1s, is longer than `to`, 10ms; exchange them"],
        ),
        (
            "accept_intervals: { from: 5ms, to: 41s }",
            &[
                "6:31 accept_intervals.from: 5ms is out of range; must be from 10ms to 40.95s",
                "6:40 accept_intervals.to: 41s is out of range; must be from 10ms to 40.95s",
            ],
        ),
        (
            "accept_intervals: { from: 10ms }",
            &["6:23 accept_intervals: `to` is missing; write the longest, such as 1s"],
        ),
        ("accept_intervals: { from: 100ms, to: 100ms }", &[]),
        (
            "version: 2\nalso_accept: { version: 3 }\naccept_intervals: { from: 1s, to: 2s }",
            &[],
        ),
    ]);
}

#[test]
fn what_a_peer_may_also_send_must_mean_something() {
    check_lines(&[
        (
            "also_accept: { version: 3 }",
            &["6:29 also_accept: `version` is the own one, which is accepted anyway; leave it out"],
        ),
        (
            "version: 2\nalso_accept: { version: 2 }",
            &["7:29 also_accept: `version` is the own one, which is accepted anyway; leave it out"],
        ),
        (
            "also_accept: { password: old }",
            &[
                "6:30 also_accept: `password` is version 2's, which isn't spoken here; write \
               `version: 2` beside it",
            ],
        ),
        (
            "version: 2\nauthentication: { password: old }\nalso_accept: { password: old }",
            &[
                "8:30 also_accept: `password` is the own one, which is accepted anyway; leave it out",
            ],
        ),
        (
            "also_accept: {}",
            &[
                "6:18 also_accept: says nothing; write `version`, `password` or both, or leave it out",
            ],
        ),
        (
            "advert_interval: 90ms\nalso_accept: { version: 2 }",
            &[
                "7:29 also_accept: version 2 sends once a second at most, and this director follows no \
                 interval beyond 900ms: it would take over from an Active that is well; write \
                 accept_intervals up to the other's interval at least",
            ],
        ),
        (
            "advert_interval: 90ms\naccept_intervals: { from: 90ms, to: 1s }\n\
             also_accept: { version: 2 }",
            &[],
        ),
        ("also_accept: { version: 2, password: old }", &[]),
        ("version: 2\nalso_accept: { password: new }", &[]),
        ("version: 2\nalso_accept: { version: 3 }", &[]),
        // A pair that is to have a password from now on.
        (
            "version: 2\nauthentication: { password: new }\nalso_accept: { version: 2 }",
            &[],
        ),
    ]);
}

#[test]
fn families_do_not_mix() {
    let ipv6 = |lines: &str| {
        with(lines)
            .replace("[192.168.56.185/24]", "['fe80::1/64', '2001:db8::1/64']")
            .replace(
                "    address: 192.168.56.185",
                "    external: true\n    address: 192.168.56.185",
            )
    };
    assert_eq!(errors(&ipv6("")), Vec::<String>::new());
    for (lines, expected) in [
        (
            "version: 2",
            "6:14: vrrp[0].version: version 2 is IPv4's, and the VIPs are IPv6; leave it out, or \
             write version: 3",
        ),
        (
            "also_accept: { version: 2 }",
            "6:29: vrrp[0].also_accept: version 2 is IPv4's, and the VIPs are IPv6; leave it out",
        ),
        (
            "checksum: pseudo-header",
            "6:15: vrrp[0].checksum: over IPv6 there is one form of checksum (RFC 8200, section \
             8.1); leave it out",
        ),
        (
            "peers: [192.168.56.182]",
            "6:13: vrrp[0].peers[0]: 192.168.56.182 isn't IPv6 as the VIPs are; write an IPv6 address",
        ),
        (
            "source: 192.168.56.181",
            "6:13: vrrp[0].source: 192.168.56.181 isn't IPv6 as the VIPs are; write an IPv6 address",
        ),
        (
            "source: '2001:db8::2'",
            "6:13: vrrp[0].source: 2001:db8::2 isn't link-local, and over IPv6 multicast adverts come \
             from such an address (RFC 9568, section 5.1.2.1); write the interface's",
        ),
    ] {
        assert_eq!(errors(&ipv6(lines)), [format!("d.yaml:{expected}")]);
    }
    for lines in [
        "source: 'fe80::2'",
        "source: '2001:db8::2'\npeers: ['2001:db8::3']",
    ] {
        assert_eq!(errors(&ipv6(lines)), Vec::<String>::new());
    }
    check_lines(&[
        (
            "source: '2001:db8::1'",
            &["6:13 source: 2001:db8::1 isn't IPv4 as the VIPs are; write an IPv4 address"],
        ),
        ("further_addresses: ['2001:db8::1/64', 192.0.2.1/24]", &[]),
    ]);
}

#[test]
fn a_first_ipv6_address_that_is_not_link_local_is_warned_of() {
    let text = |addresses: &str| {
        format!(
            "vrrp: [{{ name: a, interface: e, virtual_router_id: 1, priority: 1, addresses: {addresses} }}]"
        )
    };
    assert_eq!(
        warnings(&text("['2001:db8::1/64', 'fe80::1/64']")),
        [
            "d.yaml:1:80: vrrp[0].addresses[0]: 2001:db8::1 isn't link-local; RFC 9568, section 5.2.9, \
          wants the first address to be one, and some routers insist"
        ]
    );
    assert_eq!(
        warnings(&text("['fe80::1/64', '2001:db8::1/64']")),
        Vec::<String>::new()
    );
    assert_eq!(warnings(&text("[192.0.2.1/24]")), Vec::<String>::new());
}

#[test]
fn peers_and_sources_are_own_addresses_of_directors() {
    check_lines(&[
        (
            "minimum_ttl: 254",
            &["6:18 minimum_ttl: is for `peers`; over multicast it is always 255, so leave it out"],
        ),
        (
            "peers: [192.168.56.182]\nminimum_ttl: 256",
            &["7:18 minimum_ttl: 256 is out of range; must be a whole number from 1 to 255"],
        ),
        (
            "peers: []",
            &[
                "6:12 peers: is empty; must be a list of the other directors' own addresses, such as \
               [192.0.2.2]",
            ],
        ),
        (
            "peers: [192.168.56.182, 192.168.56.182]",
            &["6:29 peers[1]: 192.168.56.182 is already listed; list it once"],
        ),
        (
            "peers: [224.0.0.18, 192.168.56.185]",
            &[
                "6:13 peers[0]: 224.0.0.18 is a multicast address; must be another director's own \
               address",
            ],
        ),
        (
            "peers: [192.168.56.182, 192.168.56.185]\nsource: 192.168.56.182",
            &[
                "6:13 peers[0]: 192.168.56.182 is the `source` of this node itself; leave it out",
                "6:29 peers[1]: 192.168.56.185 is a VIP; write the other director's own address",
            ],
        ),
        (
            "source: 192.168.56.185",
            &["6:13 source: 192.168.56.185 is a VIP; write an own address of this machine"],
        ),
        (
            "source: 192.0.2.7\nfurther_addresses: [192.0.2.7/24]",
            &["6:13 source: 192.0.2.7 is a VIP; write an own address of this machine"],
        ),
        (
            "peers: [192.168.56.182]\nminimum_ttl: 1\nsource: 192.168.56.181",
            &[],
        ),
    ]);
}

#[test]
fn a_delay_of_a_preemption_that_never_comes() {
    check_lines(&[
        (
            "preempt: false\npreempt_delay: 1s",
            &[
                "7:20 preempt_delay: means nothing without preemption; leave it out, or set preempt: \
               true",
            ],
        ),
        (
            "preempt_delay: 3601s",
            &["6:20 preempt_delay: 3601s is out of range; must be from 0s to 3600s"],
        ),
        (
            "preempt: { ds1: false, ds2: true }\npreempt_delay: { ds1: ~, ds2: 1s }",
            &[],
        ),
        ("preempt: false\npreempt_delay: 0s", &[]),
    ]);
}

#[test]
fn the_owner_of_the_addresses_is_one_and_takes_over_at_once() {
    let owner = |lines: &str| with(lines).replace("ds1: 200", "ds1: 255");
    assert_eq!(errors(&owner("")), Vec::<String>::new());
    assert_eq!(
        errors(&owner("preempt: false")),
        [
            "d.yaml:6:14: vrrp[0].preempt: the owner of the addresses, priority 255, always preempts; \
          leave it out, or write a priority up to 254"
        ]
    );
    assert_eq!(
        errors(&owner("preempt_delay: 1s")),
        [
            "d.yaml:6:20: vrrp[0].preempt_delay: the owner of the addresses, priority 255, never waits; \
          leave it out, or write a priority up to 254"
        ]
    );
    let weightless = "a weight changes nothing for the owner of the addresses, who keeps 255; leave it \
                      out, or write a priority up to 254";
    assert_eq!(
        errors(&owner(
            "track:\n  interfaces: [eth1, { name: eth3, weight: 1 }]\n  files: [{ path: /a }]\n  \
             scripts: [{ name: a, command: [/a], weight: -1 }]\n  \
             services: [{ name: resolver, weight: 5 }]"
        )),
        [
            format!("d.yaml:7:26: vrrp[0].track.interfaces[1]: {weightless}"),
            format!("d.yaml:8:15: vrrp[0].track.files[0]: {weightless}"),
            format!("d.yaml:9:17: vrrp[0].track.scripts[0]: {weightless}"),
            format!("d.yaml:10:18: vrrp[0].track.services[0]: {weightless}"),
        ]
    );
    assert_eq!(
        errors(&owner("track: { interfaces: [eth1] }")),
        Vec::<String>::new()
    );
    let both = "255 is the owner's of the addresses, and `ds1` has it too; write a number from 1 to \
                254 for all but one node";
    assert_eq!(
        errors(&EXAMPLE.replace("ds1: 200, ds2: 150", "ds1: 255, ds2: 255")),
        [format!("d.yaml:5:32: vrrp[0].priority.ds2: {both}")]
    );
    let text = with("preempt: { ds1: true, ds2: true }").replace("{ ds1: 200, ds2: 150 }", "255");
    assert_eq!(
        errors(&text),
        [format!("d.yaml:5:15: vrrp[0].priority: {both}")]
    );
    let text = EXAMPLE.replace("{ ds1: 200, ds2: 150 }", "255");
    assert_eq!(
        errors(&text),
        Vec::<String>::new(),
        "a file for one machine"
    );
}

#[test]
fn names_of_interfaces_to_make() {
    check_lines(&[
        (
            "virtual_mac: an-interface-too-long",
            &[
                "6:18 virtual_mac: `an-interface-too-long` is not the name of an interface; must be 1 \
               to 15 printable characters other than `/` and `:`",
            ],
        ),
        (
            "virtual_mac: 5",
            &[
                "6:18 virtual_mac: must be `true`, `false` or the name of the interface to make, but \
               is a number",
            ],
        ),
        (
            "virtual_mac: eth2",
            &[
                "6:18 virtual_mac: `eth2` is the interface of a virtual router; write another name for \
               the one to make",
            ],
        ),
        ("virtual_mac: sixteen-no-15--", &[]),
    ]);
    let second = |virtual_mac: &str, address: &str| {
        with("virtual_mac: true").replace(
            "services:\n",
            &format!(
                "  - {{ name: b, interface: eth3, virtual_router_id: 50, priority: 1, addresses: \
                 [{address}], virtual_mac: {virtual_mac} }}\nservices:\n"
            ),
        )
    };
    let taken = "d.yaml:8:109: vrrp[1].virtual_mac: `vrrp.50` is already the name of the interface to \
                 make in line 6; write another one";
    assert_eq!(errors(&second("true", "192.0.2.1/24")), [taken]);
    assert_eq!(errors(&second("vrrp.50", "192.0.2.1/24")), [taken]);
    for (virtual_mac, address) in [
        ("vrrp.51", "192.0.2.1/24"),
        ("false", "192.0.2.1/24"),
        ("true", "'fe80::1/64'"),
    ] {
        assert_eq!(errors(&second(virtual_mac, address)), Vec::<String>::new());
    }
}

#[test]
fn labels_begin_with_the_interface() {
    let vip = |rest: &str| format!("further_addresses: [{{ address: 192.0.2.1/24, {rest} }}]");
    let begin = |interface: &str, label: &str| {
        format!(
            "d.yaml:6:25: vrrp[0].further_addresses[0]: the label `{label}` doesn't begin with the \
             interface's name; must be `{interface}` or begin with `{interface}:`, of at most 15 bytes"
        )
    };
    for (rest, expected) in [
        ("label: 'eth3:a'", begin("eth2", "eth3:a")),
        ("label: eth22", begin("eth2", "eth22")),
        ("interface: eth3, label: 'eth2:a'", begin("eth3", "eth2:a")),
    ] {
        assert_eq!(errors(&with(&vip(rest))), [expected]);
    }
    let text = with(&format!("{}\nvirtual_mac: true", vip("label: 'eth2:a'")));
    assert_eq!(errors(&text), [begin("vrrp.50", "eth2:a")]);
    for rest in [
        "label: eth2",
        "label: 'eth2:9-bytes--a'",
        "interface: eth3, label: 'eth3:'",
    ] {
        assert_eq!(errors(&with(&vip(rest))), Vec::<String>::new(), "{rest}");
    }
    let text = with(&vip("label: 'eth2:a'"))
        .replace("interface: eth2", "interface: { ds1: eth2, ds2: e9 }");
    assert_eq!(errors(&text), [begin("e9", "eth2:a")]);
    let too_long = with(&vip("label: 'eth2:10-bytes--a'"));
    assert_eq!(
        errors(&too_long),
        [
            "d.yaml:6:57: vrrp[0].further_addresses[0].label: `eth2:10-bytes--a` is not a label; must be \
          1 to 15 printable characters"
        ]
    );
    let ipv6 = with("further_addresses: [{ address: '2001:db8::1/64', scope: host, label: eth2 }]");
    assert_eq!(
        errors(&ipv6),
        [
            "d.yaml:6:61: vrrp[0].further_addresses[0].scope: is IPv4's; the kernel derives an IPv6 \
             address's scope from the address, so leave it out",
            "d.yaml:6:74: vrrp[0].further_addresses[0].label: is IPv4's; an IPv6 address has none",
        ]
    );
}

#[test]
fn ipv6_addresses_that_cannot_be_vips() {
    for (address, message) in [
        (
            "2001:db8::1",
            "2001:db8::1 has no prefix length; write that of its LAN, such as \
                         2001:db8::1/64, or 2001:db8::1/128",
        ),
        (
            "2001:db8::1/129",
            "`/129` is not a prefix length; must be /1 to /128",
        ),
        (
            "2001:db8::/64",
            "2001:db8::/64 is the anycast address of its network's routers (RFC 4291, \
                           section 2.6.1); write one of a host",
        ),
        (
            "2001:db8::g/64",
            "`2001:db8::g` is not an IPv6 address; write one such as 2001:db8::1",
        ),
        (
            "ff02::12/64",
            "ff02::12 is a multicast address; a VIP is a unicast address of the LAN",
        ),
        (
            "::1/128",
            "::1 is a loopback address; a VIP is a unicast address of the LAN",
        ),
        (
            "::/128",
            ":: is unspecified; a VIP is a unicast address of the LAN",
        ),
        (
            "::ffff:192.0.2.1/128",
            "::ffff:192.0.2.1 is an IPv4 address written as IPv6; a VIP is a \
                                  unicast address of the LAN",
        ),
    ] {
        let text = with(&format!("further_addresses: ['{address}']"));
        assert_eq!(
            errors(&text),
            [format!(
                "d.yaml:6:25: vrrp[0].further_addresses[0]: {message}"
            )]
        );
    }
    for address in ["2001:db8::/127", "2001:db8::/128", "fe80::1/64"] {
        let text = with(&format!("further_addresses: ['{address}']"));
        let further = &configuration(&text, "ds1").instances[0].further_addresses;
        assert_eq!(further[0].to_string(), address);
    }
}

#[test]
fn a_vip_is_listed_once_wherever_it_is() {
    check_lines(&[(
        "further_addresses: [192.168.56.185/32]",
        &["6:25 further_addresses[0]: 192.168.56.185 is already a VIP in line 7; list it once"],
    )]);
    let routers = |second: &str| {
        format!(
            "vrrp:\n  - {{ name: a, interface: e1, virtual_router_id: 1, priority: 1, addresses: \
             ['fe80::1/64'] }}\n  - {{ name: b, {second}, priority: 1, addresses: ['fe80::1/64'] }}\n"
        )
    };
    let other_link = routers("interface: e2, virtual_router_id: 1");
    assert_eq!(
        errors(&other_link),
        Vec::<String>::new(),
        "a link-local one is another elsewhere"
    );
    assert_eq!(
        errors(&routers("interface: e1, virtual_router_id: 2")),
        ["d.yaml:3:78: vrrp[1].addresses[0]: fe80::1 is already a VIP in line 2; list it once"]
    );
}

#[test]
fn a_number_serves_both_families() {
    let second = |address: &str| {
        changed(
            "services:\n",
            &format!(
                "  - {{ name: b, interface: eth2, virtual_router_id: 50, priority: 1, addresses: \
                 ['{address}'] }}\nservices:\n"
            ),
        )
    };
    assert_eq!(errors(&second("fe80::1/64")), Vec::<String>::new());
    assert_eq!(
        errors(&second("192.0.2.1/24")),
        [
            "d.yaml:8:52: vrrp[1].virtual_router_id: 50 is already used on eth2 in line 4; must differ \
          on one interface"
        ]
    );
}

#[test]
fn announcements_within_reason() {
    check_lines(&[(
        "announce: { burst: 0, pause: 2s, again_after: 3601s, refresh: 86401s, repeat: 1 }",
        &[
            "6:24 announce.burst: 0 is out of range; must be a whole number from 1 to 255",
            "6:34 announce.pause: 2s is out of range; must be from 0s to 1s",
            "6:51 announce.again_after: 3601s is out of range; must be from 0s to 3600s",
            "6:67 announce.refresh: 86401s is out of range; must be from 0s to 86400s",
            "6:75 announce.repeat: unknown key; known here: burst, pause, again_after, refresh",
        ],
    )]);
}

#[test]
fn groups_that_cannot_stay_together_are_warned_of() {
    assert_eq!(
        warnings(&with("group: lan")),
        [
            "d.yaml:6:12: vrrp[0].group: no other virtual router is in the group `lan`; write `group: \
          lan` where it belongs too, or leave it out"
        ]
    );
    let pair = |priority: &str| {
        with("group: lan").replace(
            "services:\n",
            &format!(
                "  - {{ name: b, interface: eth3, virtual_router_id: 50, priority: {priority}, group: \
                 lan, addresses: [192.0.2.1/24] }}\nservices:\n"
            ),
        )
    };
    for priority in ["{ ds1: 2, ds2: 1 }", "100"] {
        assert_eq!(warnings(&pair(priority)), Vec::<String>::new());
    }
    assert_eq!(
        warnings(&pair("{ ds1: 1, ds2: 2 }")),
        [
            "d.yaml:8:93: vrrp[1].group: prefers `ds2`, but `dns` of the same group prefers `ds1`; give \
          one node the highest priority in both"
        ]
    );
}
