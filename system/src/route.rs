//! Host routes to addresses of this machine.

use std::net::IpAddr;

use netlink_packet_core::{
    NLM_F_CREATE, NLM_F_EXCL, NlaBuffer, NlasIterator, ParseableParametrized,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteLwEnCapType, RouteMessage, RouteProtocol,
    RouteScope, RouteType,
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
