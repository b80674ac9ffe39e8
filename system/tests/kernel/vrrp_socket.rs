//! Adverts between two machines, over both families.

use std::io::Read;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use lvs_proto::vrrp::{Family, VirtualRouterId};
use lvs_system::address;
use lvs_system::link;
use lvs_system::macvlan::{self, Macvlan};
use lvs_system::vrrp_socket::{Mode, VrrpSocket};
use nix::libc;
use nix::poll::{PollFd, PollFlags, poll};
use socket2::{Domain, Protocol, Socket, Type};

use crate::Case;
use crate::namespace::Namespace;

pub const CASES: &[Case] = &[
    ("vrrp_socket::multicast_and_unicast", multicast_and_unicast),
    (
        "vrrp_socket::unicast_hears_no_multicast",
        unicast_hears_no_multicast,
    ),
    (
        "vrrp_socket::other_groups_are_not_heard",
        other_groups_are_not_heard,
    ),
    (
        "vrrp_socket::a_sender_hears_nothing_and_nobody_itself",
        a_sender_hears_nothing_and_nobody_itself,
    ),
    (
        "vrrp_socket::the_wire_shows_virtual_mac_and_parent_s_address",
        the_wire_shows_virtual_mac_and_parent_s_address,
    ),
    (
        "vrrp_socket::foreign_sources_and_families_are_refused",
        foreign_sources_and_families_are_refused,
    ),
    (
        "vrrp_socket::a_hop_limit_on_the_way_is_seen",
        a_hop_limit_on_the_way_is_seen,
    ),
];

const FAMILIES: [Family; 2] = [Family::Ipv4, Family::Ipv6];

/// Two machines on one wire, with an address of each family and a link-local one.
struct Pair {
    near: Namespace,
    far: Namespace,
}

impl Pair {
    fn new() -> Self {
        let (near, far) = (Namespace::new(), Namespace::new());
        near.connect("eth0", &far, "eth0");
        for (host, last) in [(&near, 1), (&far, 2)] {
            host.add_address(&format!("192.168.56.{last}"), 24, "eth0");
            host.add_address(&format!("2001:db8::{last}"), 64, "eth0");
            host.add_address(&format!("fe80::{last}"), 64, "eth0");
        }
        Self { near, far }
    }
}

fn open(host: &Namespace, family: Family, interface: &str, mode: Mode) -> VrrpSocket {
    let index = host.link(interface).index;
    host.within(|| VrrpSocket::open(family, interface, index, mode).unwrap())
}

fn own(family: Family, last: u8) -> IpAddr {
    match family {
        Family::Ipv4 => format!("192.168.56.{last}"),
        Family::Ipv6 => format!("fe80::{last}"),
    }
    .parse()
    .unwrap()
}

/// Whether a packet comes within so many milliseconds.
fn hears(socket: &VrrpSocket, milliseconds: u16) -> bool {
    let mut descriptors = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    poll(&mut descriptors, milliseconds).unwrap() == 1
}

fn assert_received(socket: &VrrpSocket, source: IpAddr, destination: IpAddr, message: &[u8]) {
    assert!(hears(socket, 5_000), "{destination} heard nothing");
    let mut buffer = [0xa5; 2048];
    let datagram = socket.receive(&mut buffer).unwrap().unwrap();
    assert_eq!(datagram.source, source);
    assert_eq!(datagram.destination, destination);
    assert_eq!(datagram.hop_limit, 255);
    assert_eq!(datagram.message, message);
    assert!(socket.receive(&mut buffer).unwrap().is_none());
}

fn multicast_and_unicast() {
    let pair = Pair::new();
    for family in FAMILIES {
        let near = open(&pair.near, family, "eth0", Mode::Multicast);
        let far = open(&pair.far, family, "eth0", Mode::Multicast);
        let (source, group) = (own(family, 1), family.multicast_group());
        near.send(b"to all", source, group).unwrap();
        assert_received(&far, source, group, b"to all");
        near.send(b"to one", source, own(family, 2)).unwrap();
        assert_received(&far, source, own(family, 2), b"to one");
    }
    let near = open(&pair.near, Family::Ipv6, "eth0", Mode::Unicast);
    let far = open(&pair.far, Family::Ipv6, "eth0", Mode::Unicast);
    let (source, destination) = (
        "2001:db8::1".parse().unwrap(),
        "2001:db8::2".parse().unwrap(),
    );
    near.send(b"global", source, destination).unwrap();
    assert_received(&far, source, destination, b"global");
}

fn unicast_hears_no_multicast() {
    let pair = Pair::new();
    for family in FAMILIES {
        let near = open(&pair.near, family, "eth0", Mode::Unicast);
        let far = open(&pair.far, family, "eth0", Mode::Unicast);
        // The machine is in the group, this socket isn't.
        let other = open(&pair.far, family, "eth0", Mode::Multicast);
        let source = own(family, 1);
        near.send(b"all", source, family.multicast_group()).unwrap();
        near.send(b"one", source, own(family, 2)).unwrap();
        assert_received(&far, source, own(family, 2), b"one");
        assert!(hears(&other, 5_000));
    }
}

fn other_groups_are_not_heard() {
    let pair = Pair::new();
    for (family, group) in [(Family::Ipv4, "224.0.0.1"), (Family::Ipv6, "ff02::1")] {
        let near = open(&pair.near, family, "eth0", Mode::Multicast);
        let far = open(&pair.far, family, "eth0", Mode::Multicast);
        let source = own(family, 1);
        near.send(b"all hosts", source, group.parse().unwrap())
            .unwrap();
        near.send(b"routers", source, family.multicast_group())
            .unwrap();
        assert_received(&far, source, family.multicast_group(), b"routers");
    }
}

fn a_sender_hears_nothing_and_nobody_itself() {
    let pair = Pair::new();
    for family in FAMILIES {
        let near = open(&pair.near, family, "eth0", Mode::Multicast);
        let far = open(&pair.far, family, "eth0", Mode::SendOnly);
        let (source, group) = (own(family, 1), family.multicast_group());
        let other = open(&pair.far, family, "eth0", Mode::Multicast);
        near.send(b"one", source, own(family, 2)).unwrap();
        near.send(b"all", source, group).unwrap();
        assert!(hears(&other, 5_000));
        assert!(!hears(&far, 50) && !hears(&near, 50));
        far.send(b"back", own(family, 2), group).unwrap();
        assert_received(&near, own(family, 2), group, b"back");
    }
}

fn the_wire_shows_virtual_mac_and_parent_s_address() {
    let pair = Pair::new();
    let mut route = pair.near.route();
    for family in FAMILIES {
        let name = format!("vrrp-{family}");
        let macvlan = Macvlan {
            name: name.clone(),
            parent_index: pair.near.link("eth0").index,
            hardware_address: family.virtual_mac(VirtualRouterId::new(50).unwrap()),
        };
        let mac = macvlan.hardware_address;
        let (macvlan, _) = macvlan::make(&mut route, &macvlan).unwrap();
        link::set_up(&mut route, macvlan.index).unwrap();
        let sender = open(&pair.near, family, &name, Mode::SendOnly);
        let far = open(&pair.far, family, "eth0", Mode::Multicast);
        let wire = pair.far.within(|| frames(family));
        let source = own(family, 1);
        sender
            .send(b"virtual", source, family.multicast_group())
            .unwrap();
        assert_received(&far, source, family.multicast_group(), b"virtual");
        let mut frame = [0; 256];
        let length = (&wire).read(&mut frame).unwrap();
        assert_eq!(frame[6..12], mac);
        assert!(frame[..length].ends_with(b"virtual"));
        // The parent hears the others, whose adverts the macvlan needn't see.
        let receiver = open(&pair.near, family, "eth0", Mode::Multicast);
        far.send(b"other", own(family, 2), family.multicast_group())
            .unwrap();
        assert_received(
            &receiver,
            own(family, 2),
            family.multicast_group(),
            b"other",
        );
        assert_eq!(
            address::list(&mut route, Some(macvlan.index)).unwrap(),
            [],
            "the macvlan has an address"
        );
    }
}

/// Whole frames of a family as they come in on any interface.
fn frames(family: Family) -> Socket {
    let ethernet_type = match family {
        Family::Ipv4 => libc::ETH_P_IP,
        Family::Ipv6 => libc::ETH_P_IPV6,
    };
    let protocol = Protocol::from(i32::from((ethernet_type as u16).to_be()));
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol)).unwrap();
    let timeout = Duration::from_secs(5);
    socket.set_read_timeout(Some(timeout)).unwrap();
    socket
}

fn foreign_sources_and_families_are_refused() {
    let pair = Pair::new();
    for family in FAMILIES {
        let near = open(&pair.near, family, "eth0", Mode::Multicast);
        let foreign = near.send(b"", own(family, 9), family.multicast_group());
        assert!(foreign.is_err());
        for (source, destination) in [(Family::Ipv4, Family::Ipv6), (Family::Ipv6, Family::Ipv4)] {
            let error = near
                .send(b"", own(source, 1), destination.multicast_group())
                .unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
        }
    }
}

/// A router between the two takes one off.
fn a_hop_limit_on_the_way_is_seen() {
    let (near, router, far) = (Namespace::new(), Namespace::new(), Namespace::new());
    near.connect("eth0", &router, "eth0");
    far.connect("eth0", &router, "eth1");
    for (host, interface, last, net) in [
        (&near, "eth0", 1, 1),
        (&router, "eth0", 9, 1),
        (&router, "eth1", 9, 2),
        (&far, "eth0", 2, 2),
    ] {
        host.add_address(&format!("10.0.{net}.{last}"), 24, interface);
        host.add_address(&format!("2001:db8:{net}::{last}"), 64, interface);
    }
    for (host, net) in [(&near, 1), (&far, 2)] {
        host.ip(&format!("route add default via 10.0.{net}.9"));
        host.ip(&format!("-6 route add default via 2001:db8:{net}::9"));
    }
    router.within(|| {
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
    });
    for (family, source, destination) in [
        (Family::Ipv4, "10.0.1.1", "10.0.2.2"),
        (Family::Ipv6, "2001:db8:1::1", "2001:db8:2::2"),
    ] {
        let sender = open(&near, family, "eth0", Mode::Unicast);
        let receiver = open(&far, family, "eth0", Mode::Unicast);
        sender
            .send(
                b"far",
                source.parse().unwrap(),
                destination.parse().unwrap(),
            )
            .unwrap();
        assert!(hears(&receiver, 5_000), "{family}");
        let mut buffer = [0; 2048];
        let datagram = receiver.receive(&mut buffer).unwrap().unwrap();
        assert_eq!(datagram.hop_limit, 254);
    }
}
