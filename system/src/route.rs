//! Host routes to addresses of this machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{
    NLM_F_CREATE, NLM_F_EXCL, NlaBuffer, NlasIterator, ParseableParametrized,
};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteLwEnCapType, RouteMessage, RouteProtocol,
    RouteScope, RouteType, RouteVia,
};
use nix::errno::Errno;

use crate::address::{AddOutcome, RemoveOutcome, family};
use crate::link::display_name;
use crate::netlink::{self, Connection, Reply, Request};

/// A route to one address through an interface, as `ip route add ADDRESS dev IFACE src ADDRESS`
/// makes it: main table, scope link, protocol boot. The kernel drops it when the address goes,
/// because the address is its preferred source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostRoute {
    /// The destination (one address) and the preferred source.
    pub address: IpAddr,
    /// The interface, as [`crate::link::Link::index`].
    pub interface_index: u32,
}

/// A route of any table but `local`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The first address that it is for.
    pub destination: IpAddr,
    /// In bits; 0 is a default route.
    pub prefix_length: u8,
    /// Its table's number, `RT_TABLE_*` (`linux/rtnetlink.h`).
    pub table: u32,
    /// Where it leads.
    pub kind: Kind,
    /// Who made it.
    pub origin: Origin,
}

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// To an interface, mostly by a router.
    Unicast,
    /// Nowhere, silently.
    Blackhole,
    /// Nowhere, and ICMP says so.
    Unreachable,
    /// Nowhere, and ICMP says that it is forbidden.
    Prohibit,
}

/// Who made a route (`RTPROT_*`, `linux/rtnetlink.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The kernel, for an address or a router's advertisement.
    Kernel,
    /// Somebody by hand, or what sets up the network at boot.
    Administrator,
    /// A routing daemon, by its number.
    Daemon(u8),
}

/// The way that the kernel would send a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// The interface, as [`crate::link::Link::index`].
    pub interface_index: u32,
    /// The router, where the address isn't on a LAN of this machine.
    pub gateway: Option<IpAddr>,
    /// Nowhere: this machine takes the packet itself.
    pub local: bool,
}

/// Why routes could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// [`add_host`] was refused.
    #[error("cannot add the route {address} dev {interface} src {address}: {reason}")]
    Add {
        /// Destination and source.
        address: IpAddr,
        /// The interface's name.
        interface: String,
        /// The kernel's answer.
        reason: netlink::Error,
    },
    /// Another route of equal metric leads to the address, and the kernel keeps only one.
    #[error(
        "cannot add the route {address} dev {interface} src {address}: the main table has another route to {address}; see `ip route show {address}`"
    )]
    Occupied {
        /// Destination and source.
        address: IpAddr,
        /// The interface's name.
        interface: String,
    },
    /// [`remove_host`] was refused.
    #[error("cannot remove the route {address} dev {interface} src {address}: {reason}")]
    Remove {
        /// Destination and source.
        address: IpAddr,
        /// The interface's name.
        interface: String,
        /// The kernel's answer.
        reason: netlink::Error,
    },
    /// [`list_host`] failed.
    #[error("cannot list routes: {0}")]
    List(netlink::Error),
}

/// Adds `route` to the main table. Its address must be on this machine first.
pub fn add_host(connection: &mut Connection, route: &HostRoute) -> Result<AddOutcome, Error> {
    let request = Request::of(
        libc::RTM_NEWROUTE,
        NLM_F_CREATE | NLM_F_EXCL,
        &message(route),
    );
    match connection.request(&request) {
        Ok(_) => Ok(AddOutcome::Added),
        Err(error) if error.errno() == Some(Errno::EEXIST) => {
            if list_host(connection)?.contains(route) {
                Ok(AddOutcome::AlreadyThere)
            } else {
                Err(Error::Occupied {
                    address: route.address,
                    interface: display_name(route.interface_index),
                })
            }
        }
        Err(reason) => Err(Error::Add {
            address: route.address,
            interface: display_name(route.interface_index),
            reason,
        }),
    }
}

/// Removes `route`, and only it, from the main table.
pub fn remove_host(connection: &mut Connection, route: &HostRoute) -> Result<RemoveOutcome, Error> {
    let request = Request::of(libc::RTM_DELROUTE, 0, &message(route));
    match connection.request(&request) {
        Ok(_) => Ok(RemoveOutcome::Removed),
        Err(error) if matches!(error.errno(), Some(Errno::ESRCH | Errno::ENODEV)) => {
            Ok(RemoveOutcome::WasAbsent)
        }
        Err(reason) => Err(Error::Remove {
            address: route.address,
            interface: display_name(route.interface_index),
            reason,
        }),
    }
}

/// Lists the main table's routes that have the form of [`HostRoute`], IPv4 and IPv6.
pub fn list_host(connection: &mut Connection) -> Result<Vec<HostRoute>, Error> {
    let request = Request::of(libc::RTM_GETROUTE, 0, &RouteMessage::default());
    let replies = connection.dump(&request).map_err(Error::List)?;
    Ok(replies.iter().filter_map(parse).collect())
}

/// The routers of the main table's default routes, IPv4 and IPv6, each once and in the kernel's order.
pub fn default_gateways(connection: &mut Connection) -> Result<Vec<IpAddr>, Error> {
    let request = Request::of(libc::RTM_GETROUTE, 0, &RouteMessage::default());
    let mut gateways = Vec::new();
    for reply in connection.dump(&request).map_err(Error::List)? {
        for gateway in gateways_of(&reply).unwrap_or_default() {
            if !gateways.contains(&gateway) {
                gateways.push(gateway);
            }
        }
    }
    Ok(gateways)
}

/// `None` for anything but a default route of the main table.
fn gateways_of(reply: &Reply) -> Option<Vec<IpAddr>> {
    let header = RouteHeader::parse(&reply.payload).ok()?;
    if header.table != RouteHeader::RT_TABLE_MAIN || header.destination_prefix_length != 0 {
        return None;
    }
    let context = (header.address_family, header.kind, RouteLwEnCapType::None);
    let mut gateways = Vec::new();
    for attribute in NlasIterator::new(reply.payload.get(ROUTE_HEADER_LENGTH..)?) {
        let attribute: NlaBuffer<&[u8]> = attribute.ok()?;
        let Ok(attribute) = RouteAttribute::parse_with_param(&attribute, context) else {
            continue;
        };
        let next_hops = match attribute {
            RouteAttribute::MultiPath(hops) => {
                hops.into_iter().flat_map(|hop| hop.attributes).collect()
            }
            other => vec![other],
        };
        gateways.extend(next_hops.iter().filter_map(gateway));
    }
    Some(gateways)
}

fn gateway(attribute: &RouteAttribute) -> Option<IpAddr> {
    match attribute {
        RouteAttribute::Gateway(address) => ip_address(address),
        RouteAttribute::Via(RouteVia::Inet(address)) => Some(IpAddr::V4(*address)),
        RouteAttribute::Via(RouteVia::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

/// The way to an address; `None` where the kernel has none. Nothing is sent.
pub fn way_to(connection: &mut Connection, address: IpAddr) -> Option<Way> {
    let mut message = RouteMessage::default();
    message.header.address_family = family(address);
    message.header.destination_prefix_length = host_prefix_length(address);
    message.attributes = vec![RouteAttribute::Destination(address.into())];
    let replies = connection.request(&Request::of(libc::RTM_GETROUTE, 0, &message));
    // Refused where there is no route, or one that leads nowhere.
    replies.ok()?.iter().find_map(way)
}

fn way(reply: &Reply) -> Option<Way> {
    let header = RouteHeader::parse(&reply.payload).ok()?;
    let context = (header.address_family, header.kind, RouteLwEnCapType::None);
    let mut way = Way {
        interface_index: 0,
        gateway: None,
        local: header.kind == RouteType::Local,
    };
    for attribute in NlasIterator::new(reply.payload.get(ROUTE_HEADER_LENGTH..)?) {
        let attribute: NlaBuffer<&[u8]> = attribute.ok()?;
        match RouteAttribute::parse_with_param(&attribute, context) {
            Ok(RouteAttribute::Oif(index)) => way.interface_index = index,
            Ok(ref other) => way.gateway = way.gateway.or_else(|| gateway(other)),
            Err(_) => {}
        }
    }
    (way.interface_index != 0).then_some(way)
}

/// Lists the routes of all tables but `local`, IPv4 and IPv6, that lead to an interface or nowhere.
///
/// # Errors
/// When the kernel doesn't tell.
pub fn list(connection: &mut Connection) -> Result<Vec<Route>, Error> {
    let request = Request::of(libc::RTM_GETROUTE, 0, &RouteMessage::default());
    let replies = connection.dump(&request).map_err(Error::List)?;
    Ok(replies.iter().filter_map(parse_any).collect())
}

fn message(route: &HostRoute) -> RouteMessage {
    let address = RouteAddress::from(route.address);
    let mut message = RouteMessage::default();
    message.header.address_family = family(route.address);
    message.header.destination_prefix_length = host_prefix_length(route.address);
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Boot;
    message.header.scope = RouteScope::Link;
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![
        RouteAttribute::Destination(address.clone()),
        RouteAttribute::PrefSource(address),
        RouteAttribute::Oif(route.interface_index),
    ];
    message
}

/// `None` for any other route. An attribute that the library can't read is none of ours.
pub(crate) fn parse(reply: &Reply) -> Option<HostRoute> {
    let header = RouteHeader::parse(&reply.payload).ok()?;
    if header.table != RouteHeader::RT_TABLE_MAIN || header.kind != RouteType::Unicast {
        return None;
    }
    let (mut destination, mut source, mut interface_index) = (None, None, None);
    for attribute in NlasIterator::new(reply.payload.get(ROUTE_HEADER_LENGTH..)?) {
        let attribute: NlaBuffer<&[u8]> = attribute.ok()?;
        let context = (header.address_family, header.kind, RouteLwEnCapType::None);
        match RouteAttribute::parse_with_param(&attribute, context) {
            Ok(RouteAttribute::Destination(address)) => destination = ip_address(&address),
            Ok(RouteAttribute::PrefSource(address)) => source = ip_address(&address),
            Ok(RouteAttribute::Oif(index)) => interface_index = Some(index),
            _ => {}
        }
    }
    let address = destination?;
    (source == Some(address) && header.destination_prefix_length == host_prefix_length(address))
        .then_some(HostRoute {
            address,
            interface_index: interface_index?,
        })
}

/// `None` for what [`list`] leaves out.
fn parse_any(reply: &Reply) -> Option<Route> {
    let header = RouteHeader::parse(&reply.payload).ok()?;
    let kind = match header.kind {
        RouteType::Unicast => Kind::Unicast,
        RouteType::BlackHole => Kind::Blackhole,
        RouteType::Unreachable => Kind::Unreachable,
        RouteType::Prohibit => Kind::Prohibit,
        _ => return None,
    };
    let mut destination = None;
    let mut table = u32::from(header.table);
    for attribute in NlasIterator::new(reply.payload.get(ROUTE_HEADER_LENGTH..)?) {
        let attribute: NlaBuffer<&[u8]> = attribute.ok()?;
        let context = (header.address_family, header.kind, RouteLwEnCapType::None);
        match RouteAttribute::parse_with_param(&attribute, context) {
            Ok(RouteAttribute::Destination(address)) => destination = ip_address(&address),
            Ok(RouteAttribute::Table(number)) => table = number,
            _ => {}
        }
    }
    let unspecified = match header.address_family {
        AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    if table == u32::from(libc::RT_TABLE_LOCAL) {
        return None;
    }
    Some(Route {
        // A default route has none.
        destination: destination.unwrap_or(unspecified),
        prefix_length: header.destination_prefix_length,
        table,
        kind,
        origin: match u8::from(header.protocol) {
            libc::RTPROT_UNSPEC | libc::RTPROT_BOOT | libc::RTPROT_STATIC => Origin::Administrator,
            libc::RTPROT_KERNEL | libc::RTPROT_REDIRECT | ROUTER_ADVERTISEMENT => Origin::Kernel,
            number => Origin::Daemon(number),
        },
    })
}

fn ip_address(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

fn host_prefix_length(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// `RTPROT_RA`, `linux/rtnetlink.h`.
const ROUTER_ADVERTISEMENT: u8 = 9;

/// `sizeof(struct rtmsg)`, `linux/rtnetlink.h`.
const ROUTE_HEADER_LENGTH: usize = 12;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::netlink::Protocol;

    fn host_route() -> HostRoute {
        HostRoute {
            address: "192.168.56.185".parse().unwrap(),
            interface_index: 1,
        }
    }

    fn reply(message: &RouteMessage) -> Reply {
        Reply {
            message_type: libc::RTM_NEWROUTE,
            payload: Request::of(0, 0, message).payload,
        }
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn writes_what_ip_route_add_writes() {
        assert_eq!(
            reply(&message(&host_route())).payload,
            [
                2, 32, 0, 0, 254, 3, 253, 1, 0, 0, 0, 0, // rtmsg: main, boot, link, unicast
                8, 0, 1, 0, 192, 168, 56, 185, // RTA_DST
                8, 0, 7, 0, 192, 168, 56, 185, // RTA_PREFSRC
                8, 0, 4, 0, 1, 0, 0, 0, // RTA_OIF
            ]
        );
    }

    #[test]
    fn knows_its_own_and_no_other() {
        let ours = message(&host_route());
        assert_eq!(parse(&reply(&ours)), Some(host_route()));
        let mut shorter = ours.clone();
        shorter.header.destination_prefix_length = 24;
        let mut local = ours.clone();
        local.header.table = 255;
        let mut without_source = ours.clone();
        without_source.attributes.remove(1);
        let mut blackhole = ours;
        blackhole.header.kind = RouteType::BlackHole;
        for other in [shorter, local, without_source, blackhole] {
            assert_eq!(parse(&reply(&other)), None, "{other:?}");
        }
    }

    #[test]
    fn lists_the_main_table() {
        let mut connection = Connection::open(Protocol::Route).unwrap();
        list_host(&mut connection).unwrap();
    }
}
