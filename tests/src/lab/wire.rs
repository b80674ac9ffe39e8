//! Links, bridges and addresses of the lab, made through netlink because that needs no fork.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use anyhow::{Context, Result};
use lvs_system::netlink::{Connection, Protocol, Request};
use netlink_packet_core::NetlinkSerializable;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoBridge, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::net::if_::if_nametoindex;

/// An Ethernet address.
pub type Mac = [u8; 6];

/// `NLM_F_CREATE | NLM_F_EXCL` (`linux/netlink.h`).
const CREATE: u16 = 0x400 | 0x200;

/// Where a bridge sends a frame for one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forwarding {
    /// To that machine, once it is known.
    Switch,
    /// To all.
    Hub,
}

/// Adds a bridge without spanning tree and without multicast snooping: it floods what a plain
/// switch floods, adverts included, from its first moment.
pub(crate) fn add_bridge(name: &str, forwarding: Forwarding) -> Result<()> {
    let mut data = vec![InfoBridge::MulticastSnooping(false)];
    if forwarding == Forwarding::Hub {
        // What it learns it forgets at once.
        data.push(InfoBridge::AgeingTime(0));
    }
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(name.into()),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Bridge),
            LinkInfo::Data(InfoData::Bridge(data)),
        ]),
    ];
    change(RouteNetlinkMessage::NewLink(message), CREATE)
        .with_context(|| format!("cannot add the bridge {name}"))?;
    set_up(name, true)
}

/// Adds a pair of joined interfaces: `near` here, `far` with `mac` in another namespace.
pub(crate) fn add_pair(near: &str, far: &str, mac: Mac, namespace: BorrowedFd<'_>) -> Result<()> {
    let mut peer = LinkMessage::default();
    peer.attributes = vec![
        LinkAttribute::IfName(far.into()),
        LinkAttribute::Address(mac.to_vec()),
        LinkAttribute::NetNsFd(namespace.as_raw_fd()),
    ];
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(near.into()),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]),
    ];
    change(RouteNetlinkMessage::NewLink(message), CREATE)
        .with_context(|| format!("cannot add the pair {near} and {far}"))
}

/// Makes an interface a port of a bridge.
pub(crate) fn plug(port: &str, bridge: &str) -> Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = index(port)?;
    message.attributes = vec![LinkAttribute::Controller(index(bridge)?)];
    change(RouteNetlinkMessage::SetLink(message), 0)
        .with_context(|| format!("cannot plug {port} into {bridge}"))
}

/// Makes an interface no bridge's port.
pub(crate) fn unplug(port: &str) -> Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = index(port)?;
    message.attributes = vec![LinkAttribute::Controller(0)];
    change(RouteNetlinkMessage::SetLink(message), 0)
        .with_context(|| format!("cannot unplug {port}"))
}

/// Sets an interface up or down.
pub(crate) fn set_up(interface: &str, up: bool) -> Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = index(interface)?;
    message.header.change_mask = LinkFlags::Up;
    if up {
        message.header.flags = LinkFlags::Up;
    }
    change(RouteNetlinkMessage::SetLink(message), 0)
        .with_context(|| format!("cannot set {interface} {}", if up { "up" } else { "down" }))
}

/// Adds an address; an IPv4 one gets its subnet's broadcast address, as machines have it.
pub(crate) fn add_address(interface: &str, address: IpAddr, prefix: u8) -> Result<()> {
    let mut message = AddressMessage::default();
    message.header.index = index(interface)?;
    message.header.prefix_len = prefix;
    message.header.family = match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    message.attributes = vec![
        AddressAttribute::Address(address),
        AddressAttribute::Local(address),
    ];
    if let (IpAddr::V4(v4), 1..=30) = (address, prefix) {
        let broadcast = v4 | Ipv4Addr::from_bits(u32::MAX >> prefix);
        message
            .attributes
            .push(AddressAttribute::Broadcast(broadcast));
    }
    change(RouteNetlinkMessage::NewAddress(message), CREATE)
        .with_context(|| format!("cannot add {address}/{prefix} to {interface}"))
}

fn index(interface: &str) -> Result<u32> {
    if_nametoindex(interface).with_context(|| format!("no interface {interface} here"))
}

/// Sends one request in the network namespace of the calling thread.
fn change(message: RouteNetlinkMessage, flags: u16) -> Result<()> {
    let mut payload = vec![0; NetlinkSerializable::buffer_len(&message)];
    message.serialize(&mut payload);
    Connection::open(Protocol::Route)?.request(&Request {
        message_type: message.message_type(),
        flags,
        payload,
    })?;
    Ok(())
}
