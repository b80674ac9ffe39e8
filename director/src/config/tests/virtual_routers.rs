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
