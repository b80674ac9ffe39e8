//! VIPs as ip(8) sees them.

use std::net::{IpAddr, Ipv6Addr, SocketAddrV6, UdpSocket};
use std::time::Duration;

use lvs_system::address::{self, AddOutcome, Address, Scope};

use crate::Case;
use crate::namespace::Namespace;

pub const CASES: &[Case] = &[
    (
        "address::scope_label_and_prefix_are_as_asked_for",
        scope_label_and_prefix_are_as_asked_for,
    ),
    (
        "address::a_vip_over_ipv6_is_never_tentative",
        a_vip_over_ipv6_is_never_tentative,
    ),
    (
        "address::packets_to_a_vip_over_ipv6_are_taken",
        packets_to_a_vip_over_ipv6_are_taken,
    ),
    (
        "address::nothing_is_sent_from_a_vip_unasked",
        nothing_is_sent_from_a_vip_unasked,
    ),
    (
        "address::the_link_local_address_is_primary_once_it_is_checked",
        the_link_local_address_is_primary_once_it_is_checked,
    ),
];

fn scope_label_and_prefix_are_as_asked_for() {
    let (here, there) = (Namespace::new(), Namespace::new());
    here.connect("eth0", &there, "eth0");
    let mut route = here.route();
    let vip = Address {
        scope: Scope::Host,
        label: Some("eth0:vip".into()),
        ..Address::new(
            here.link("eth0").index,
            "192.168.56.185".parse().unwrap(),
            24,
        )
    };
    assert_eq!(address::add(&mut route, &vip).unwrap(), AddOutcome::Added);
    assert_eq!(
        address::add(&mut route, &vip).unwrap(),
        AddOutcome::AlreadyThere
    );
    let shown = here.ip("-oneline -4 address show dev eth0");
    for part in ["192.168.56.185/24", "scope host", " eth0:vip"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    let found = address::list(&mut route, Some(vip.interface_index)).unwrap();
    assert!(found.contains(&vip), "{found:?}");
    address::remove(&mut route, &found[0]).unwrap();
    assert_eq!(here.ip("-4 address show dev eth0"), "");
}

fn a_vip_over_ipv6_is_never_tentative() {
    let (here, there) = (Namespace::new(), Namespace::new());
    here.connect("eth0", &there, "eth0");
    let mut route = here.route();
    let index = here.link("eth0").index;
    for (text, scope) in [("2001:db8::185", Scope::Global), ("fe80::185", Scope::Link)] {
        let vip: IpAddr = text.parse().unwrap();
        address::add(&mut route, &Address::new(index, vip, 64)).unwrap();
        let found = address::list(&mut route, Some(index)).unwrap();
        let found = found.iter().find(|found| found.address == vip).unwrap();
        assert_eq!((found.tentative, found.duplicate), (false, false));
        assert_eq!(found.scope, scope);
        assert!(found.is_ours());
        assert_eq!(found.prefix_length, 64);
    }
}

fn packets_to_a_vip_over_ipv6_are_taken() {
    let (here, there) = (Namespace::new(), Namespace::new());
    here.connect("eth0", &there, "eth0");
    let mut route = here.route();
    let index = here.link("eth0").index;
    let limit = Duration::from_secs(5);
    for number in 1..=50 {
        for prefix in ["fe80::1", "2001:db8:56::"] {
            let vip: Ipv6Addr = format!("{prefix}{number:x}").parse().unwrap();
            address::add(&mut route, &Address::new(index, vip.into(), 64)).unwrap();
            assert!(address::await_routes(&mut route, &[(index, vip)], limit));
            // Without this route, `bind()` refuses the address.
            let socket = here.within(|| UdpSocket::bind(SocketAddrV6::new(vip, 0, 0, index)));
            assert!(socket.is_ok(), "{vip}: {socket:?}");
            let shown = here.read("/proc/thread-self/net/ipv6_route");
            let local = format!("{:032x} 80", vip.to_bits());
            assert!(shown.contains(&local), "{vip} isn't local");
        }
    }
    let vip: Ipv6Addr = "2001:db8:56::185".parse().unwrap();
    let limit = Duration::from_millis(10);
    assert!(!address::await_routes(&mut route, &[(index, vip)], limit));
}

fn nothing_is_sent_from_a_vip_unasked() {
    let (here, there) = (Namespace::new(), Namespace::new());
    here.connect("eth0", &there, "eth0");
    let mut route = here.route();
    let index = here.link("eth0").index;
    for (own, vip, length, other) in [
        ("192.168.56.181", "192.168.56.185", 24, "192.168.56.183"),
        (
            "2001:db8:56::181",
            "2001:db8:56::185",
            64,
            "2001:db8:56::183",
        ),
    ] {
        here.add_address(own, length, "eth0");
        address::add(
            &mut route,
            &Address::new(index, vip.parse().unwrap(), length),
        )
        .unwrap();
        let shown = here.ip(&format!("-oneline route get {other}"));
        assert!(shown.contains(&format!(" src {own} ")), "{shown}");
    }
}

fn the_link_local_address_is_primary_once_it_is_checked() {
    let (here, there) = (Namespace::new(), Namespace::new());
    here.connect("eth0", &there, "eth0");
    let mut route = here.route();
    let index = here.link("eth0").index;
    let vip: IpAddr = "fe80::53".parse().unwrap();
    here.ip("address add fe80::53/64 dev eth0 nodad");
    let started = std::time::Instant::now();
    let (mut tentative_seen, mut own) = (false, None::<Ipv6Addr>);
    while own.is_none() && started.elapsed().as_secs() < 10 {
        let addresses = address::list(&mut route, None).unwrap();
        tentative_seen |= addresses.iter().any(|address| address.tentative);
        own = address::primary_ipv6(&addresses, index, &[vip]);
    }
    assert!(tentative_seen);
    let own = own.unwrap().to_string();
    let shown = here.ip("-6 address show dev eth0 scope link -tentative");
    assert!(shown.contains(&format!("{own}/64")), "{own} in {shown}");
}
