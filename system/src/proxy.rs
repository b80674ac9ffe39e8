//! Addresses that this machine answers for in another's name (`ip neighbour add proxy`).

use std::net::IpAddr;

use netlink_packet_core::NlasIterator;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::neighbour::{NeighbourFlags, NeighbourHeader, NeighbourMessage};

use crate::link::display_name;
use crate::netlink::{self, Connection, Request};

/// Lists them with the names of the interfaces whose neighbours are answered.
pub fn list(connection: &mut Connection) -> Result<Vec<(IpAddr, String)>, netlink::Error> {
    let mut message = NeighbourMessage::default();
    message.header.flags = NeighbourFlags::Proxy;
    let mut entries = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        message.header.family = family;
        let replies = connection.dump(&Request::of(libc::RTM_GETNEIGH, 0, &message))?;
        entries.extend(replies.iter().filter_map(|reply| parse(&reply.payload)));
    }
    Ok(entries)
}

fn parse(payload: &[u8]) -> Option<(IpAddr, String)> {
    let header = NeighbourHeader::parse(payload).ok()?;
    if !header.flags.contains(NeighbourFlags::Proxy) {
        return None;
    }
    let attributes = NlasIterator::new(payload.get(NEIGHBOUR_HEADER_LENGTH..)?);
    let destination = attributes
        .map_while(Result::ok)
        .find(|attribute| attribute.kind() == libc::NDA_DST)?;
    let value = destination.value();
    let address = match value.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(value).ok()?),
        _ => IpAddr::from(<[u8; 16]>::try_from(value).ok()?),
    };
    Some((address, display_name(header.ifindex)))
}

/// `sizeof(struct ndmsg)`, `linux/neighbour.h`.
const NEIGHBOUR_HEADER_LENGTH: usize = 12;
