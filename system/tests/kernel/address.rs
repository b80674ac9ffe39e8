//! VIPs as ip(8) sees them.

use std::net::{IpAddr, Ipv6Addr};

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
