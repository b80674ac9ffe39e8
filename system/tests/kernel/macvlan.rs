//! A virtual router's own Ethernet address.

use std::os::fd::AsFd;

use lvs_proto::{arp, ndp};
use lvs_system::address::{self, Address};
use lvs_system::link::{self, DeleteOutcome};
use lvs_system::macvlan::{self, Error, Macvlan, MakeOutcome};
use lvs_system::packet::PacketSocket;
use lvs_system::sysctl::Journal;
use lvs_system::virtual_mac;
use nix::poll::{PollFd, PollFlags, poll};
use socket2::{Domain, Protocol, Socket, Type};

use crate::Case;
use crate::namespace::{Namespace, within_five_seconds};

pub const CASES: &[Case] = &[
    (
        "macvlan::is_made_once_and_deleted",
        is_made_once_and_deleted,
    ),
    (
        "macvlan::another_interface_of_the_name_is_left_alone",
        another_interface_of_the_name_is_left_alone,
    ),
    (
        "macvlan::what_the_kernel_refuses_is_named",
        what_the_kernel_refuses_is_named,
    ),
    (
        "macvlan::neighbours_reach_the_vip_by_the_virtual_mac",
        neighbours_reach_the_vip_by_the_virtual_mac,
    ),
];

const VIRTUAL_MAC: [u8; 6] = [0, 0, 0x5e, 0, 1, 50];
const NAME: &str = "vrrp.50";

fn wanted(here: &Namespace, parent: &str) -> Macvlan {
    Macvlan {
        name: NAME.into(),
        parent_index: here.link(parent).index,
        hardware_address: VIRTUAL_MAC,
    }
}

fn is_made_once_and_deleted() {
    let (here, there) = (Namespace::new(), Namespace::new());
    here.connect("eth0", &there, "eth0");
    let mut route = here.route();
    let macvlan = wanted(&here, "eth0");
    let (made, outcome) = macvlan::make(&mut route, &macvlan).unwrap();
    assert_eq!(outcome, MakeOutcome::Made);
    assert_eq!((made.up, made.hardware_address), (false, VIRTUAL_MAC));
    for _ in 0..2 {
        link::set_up(&mut route, made.index).unwrap();
        assert!(here.link(NAME).up);
    }
    for _ in 0..2 {
        link::set_down(&mut route, made.index).unwrap();
        assert!(!here.link(NAME).up);
    }
    link::set_up(&mut route, made.index).unwrap();

    let (found, outcome) = macvlan::make(&mut route, &macvlan).unwrap();
    assert_eq!(outcome, MakeOutcome::AlreadyThere);
    assert_eq!((found.index, found.up), (made.index, true));

    let shown = here.ip("-details link show dev vrrp.50");
    for part in [
        "vrrp.50@eth0",
        "macvlan mode private",
        "00:00:5e:00:01:32",
        "addrgenmode none",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    assert_eq!(here.ip("-oneline -6 address show dev vrrp.50"), "");

    // Without its carrier it isn't up, though nobody has set it down.
    there.ip("link set eth0 down");
    assert!(!here.link("eth0").up && !here.link(NAME).up);

    let delete = |route: &mut _| link::delete(route, made.index).unwrap();
    assert_eq!(delete(&mut route), DeleteOutcome::Deleted);
    assert_eq!(delete(&mut route), DeleteOutcome::WasAbsent);
    assert!(link::find(&mut route, NAME).is_err());
}

fn another_interface_of_the_name_is_left_alone() {
    let (here, there) = (Namespace::new(), Namespace::new());
    here.connect("eth0", &there, "eth0");
    here.connect("eth1", &there, "eth1");
    let mut route = here.route();
    let macvlan = wanted(&here, "eth0");
    for other in [
        "link add vrrp.50 type bridge",
        "link add vrrp.50 link eth1 address 00:00:5e:00:01:32 type macvlan mode private",
        "link add vrrp.50 link eth0 address 00:00:5e:00:01:33 type macvlan mode private",
        "link add vrrp.50 link eth0 address 00:00:5e:00:01:32 type macvlan mode bridge",
    ] {
        here.ip(other);
        let before = here.ip("-details link show dev vrrp.50");
        let error = here.within(|| macvlan::make(&mut route, &macvlan).unwrap_err());
        assert!(matches!(error, Error::Taken { .. }), "{other}: {error}");
        assert_eq!(
            error.to_string(),
            "interface vrrp.50 exists and is not a private macvlan on eth0 with address \
             00:00:5e:00:01:32: delete it (ip link delete vrrp.50) or choose another name"
        );
        assert_eq!(here.ip("-details link show dev vrrp.50"), before);
        here.ip("link delete vrrp.50");
    }
}

fn what_the_kernel_refuses_is_named() {
    let here = Namespace::new();
    let macvlan = Macvlan {
        parent_index: 999,
        ..wanted(&here, "lo")
    };
    let error = macvlan::make(&mut here.route(), &macvlan).unwrap_err();
    assert!(matches!(error, Error::Make { .. }), "{error}");
    assert!(error.to_string().contains("named vrrp.50"), "{error}");
}

fn neighbours_reach_the_vip_by_the_virtual_mac() {
    let (here, there) = (Namespace::new(), Namespace::new());
    here.connect("eth0", &there, "eth0");
    here.ip("address add 192.168.56.181/24 dev eth0");
    there.ip("address add 192.168.56.184/24 dev eth0");
    there.ip("address add 2001:db8::184/64 dev eth0 nodad");
    let strict = || {
        std::fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", "1").unwrap();
    };
    here.within(strict);
    let before = [
        here.read("/proc/sys/net/ipv4/conf/eth0/rp_filter"),
        here.read("/proc/sys/net/ipv4/conf/eth0/arp_filter"),
    ];

    let mut route = here.route();
    let (macvlan, _) = macvlan::make(&mut route, &wanted(&here, "eth0")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mut journal = here.within(|| {
        let mut journal = Journal::open(directory.path()).unwrap();
        virtual_mac::settle(&mut journal, "eth0", NAME).unwrap();
        journal
    });
    link::set_up(&mut route, macvlan.index).unwrap();
    // Reverse path filtering stays what it was where it belongs.
    assert_eq!(here.read("/proc/sys/net/ipv4/conf/eth0/rp_filter"), "1");
    assert_eq!(here.read("/proc/sys/net/ipv4/conf/vrrp.50/rp_filter"), "0");

    let (vip4, vip6) = ("192.168.56.185", "2001:db8::185");
    for (vip, prefix) in [(vip4, 24), (vip6, 64)] {
        let vip = Address::new(macvlan.index, vip.parse().unwrap(), prefix);
        address::add(&mut route, &vip).unwrap();
    }
    there.within(|| ping(vip4));
    let neighbours = there.ip("neighbour show");
    let entry = |address: &str, mac: &str| {
        neighbours.lines().any(|line| {
            line.starts_with(&format!("{address} ")) && line.contains(&format!("lladdr {mac}"))
        })
    };
    assert!(entry(vip4, "00:00:5e:00:01:32"), "{neighbours}");

    // Announcements move entries that point elsewhere.
    for vip in [vip4, vip6] {
        there.ip(&format!(
            "neighbour replace {vip} lladdr 02:00:00:00:00:99 dev eth0 nud reachable"
        ));
    }
    let packets = here.within(|| PacketSocket::open(macvlan.index).unwrap());
    let garp = arp::gratuitous(VIRTUAL_MAC, vip4.parse().unwrap());
    packets.send(&garp).unwrap();
    let advertisement = ndp::unsolicited_advertisement(VIRTUAL_MAC, vip6.parse().unwrap(), false);
    packets.send(&advertisement).unwrap();
    let moved = || {
        let neighbours = there.ip("neighbour show");
        neighbours.matches("lladdr 00:00:5e:00:01:32").count() == 2
    };
    within_five_seconds("neighbour moved by announcements", moved);

    here.within(|| journal.restore().unwrap());
    assert_eq!(here.read("/proc/sys/net/ipv4/conf/all/rp_filter"), "1");
    let after = [
        here.read("/proc/sys/net/ipv4/conf/eth0/rp_filter"),
        here.read("/proc/sys/net/ipv4/conf/eth0/arp_filter"),
    ];
    assert_eq!(before, after);
}

/// One ICMP echo, answered within 5 s.
fn ping(address: &str) {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)).unwrap();
    let target = std::net::SocketAddr::new(address.parse().unwrap(), 0);
    socket.connect(&target.into()).unwrap();
    // Type 8, code 0, checksum, identifier 0, sequence number 0.
    socket.send(&[8, 0, 0xf7, 0xff, 0, 0, 0, 0]).unwrap();
    let mut descriptors = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    let answers = poll(&mut descriptors, 5_000u16).unwrap();
    assert_eq!(answers, 1, "{address} does not answer");
}
