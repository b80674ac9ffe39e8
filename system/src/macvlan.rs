//! The interface that carries a virtual router's own Ethernet address.
//!
//! A macvlan in private mode takes what is sent to its address on its parent's wire, and sends
//! from it. [`crate::virtual_mac`] has the settings that it needs before it is set up with
//! [`crate::link::set_up`]; it goes with [`crate::link::delete`], and with its parent. It is marked as
//! ours, so that a successor of whoever made it can [find](ours) it.

use std::fmt;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, parse_u32};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoMacVlan, LinkAttribute, LinkInfo, LinkMessage, MacVlanMode,
};

use crate::link::{self, Link, attribute, display_name};
use crate::netlink::{self, Connection, Request};

/// A macvlan as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Macvlan {
    /// Its name, at most 15 bytes.
    pub name: String,
    /// The interface whose wire it shares, as [`Link::index`].
    pub parent_index: u32,
    /// Its Ethernet address (RFC 9568, section 7.3, for a virtual router).
    pub hardware_address: [u8; 6],
}

/// The alias of those that [`make`] has made.
const MARK: &str = "lvs-director virtual MAC";

/// What [`make`] met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MakeOutcome {
    /// There was no interface of this name; it is made, and still down.
    Made,
    /// It was there, as it should be, and was left as it is.
    AlreadyThere,
}

/// Why there is no such macvlan.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name belongs to another interface.
    #[error(
        "interface {name} exists and is not {wanted}: delete it (ip link delete {name}) or choose another name"
    )]
    Taken {
        /// The name.
        name: String,
        /// What was wanted.
        wanted: String,
    },
    /// The kernel refused to make it.
    #[error("cannot make {wanted} named {name}: {reason}")]
    Make {
        /// The name.
        name: String,
        /// What was wanted.
        wanted: String,
        /// The kernel's answer.
        reason: netlink::Error,
    },
    /// It could not be read or prepared.
    #[error(transparent)]
    Link(#[from] link::Error),
}

/// Makes `macvlan` in private mode and without a link-local IPv6 address, or finds it as it should
/// be: name, parent, mode and Ethernet address.
pub fn make(connection: &mut Connection, macvlan: &Macvlan) -> Result<(Link, MakeOutcome), Error> {
    match find(connection, macvlan) {
        Ok(link) => return Ok((link, MakeOutcome::AlreadyThere)),
        Err(Error::Link(link::Error::NotFound { .. })) => {}
        Err(error) => return Err(error),
    }
    let request = Request::of(
        libc::RTM_NEWLINK,
        NLM_F_CREATE | NLM_F_EXCL,
        &message(macvlan),
    );
    connection.request(&request).map_err(|reason| Error::Make {
        name: macvlan.name.clone(),
        wanted: macvlan.to_string(),
        reason,
    })?;
    let link = find(connection, macvlan)?;
    // Taken only in a message of its own, and only before the interface is up.
    link::without_link_local(connection, link.index)?;
    link::set_alias(connection, link.index, MARK)?;
    Ok((link, MakeOutcome::Made))
}

/// Lists all that [`make`] has made, in this process or another.
pub fn ours(connection: &mut Connection) -> Result<Vec<Link>, link::Error> {
    let request = Request::of(libc::RTM_GETLINK, 0, &LinkMessage::default());
    let replies = connection.dump(&request).map_err(link::Error::List)?;
    let marked = replies.iter().filter(|reply| is_marked(&reply.payload));
    Ok(marked
        .filter_map(|reply| link::parse(&reply.payload).flatten())
        .collect())
}

fn is_marked(payload: &[u8]) -> bool {
    link::alias(payload).as_deref() == Some(MARK) && parse(payload).is_some()
}

fn find(connection: &mut Connection, macvlan: &Macvlan) -> Result<Link, Error> {
    let reply = link::read(connection, &macvlan.name)?;
    let link = link::parse(&reply.payload)
        .flatten()
        .ok_or_else(|| link::malformed(&macvlan.name))?;
    let found = parse(&reply.payload);
    let right = found == Some((macvlan.parent_index, PRIVATE))
        && link.hardware_address == macvlan.hardware_address;
    if !right {
        return Err(Error::Taken {
            name: macvlan.name.clone(),
            wanted: macvlan.to_string(),
        });
    }
    Ok(link)
}

impl fmt::Display for Macvlan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parent = display_name(self.parent_index);
        write!(formatter, "a private macvlan on {parent} with address ")?;
        let [first, rest @ ..] = self.hardware_address;
        write!(formatter, "{first:02x}")?;
        rest.iter()
            .try_for_each(|octet| write!(formatter, ":{octet:02x}"))
    }
}

fn message(macvlan: &Macvlan) -> LinkMessage {
    let mode = InfoMacVlan::Mode(MacVlanMode::Private);
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(macvlan.name.clone()),
        LinkAttribute::Link(macvlan.parent_index),
        LinkAttribute::Address(macvlan.hardware_address.to_vec()),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::MacVlan),
            LinkInfo::Data(InfoData::MacVlan(vec![mode])),
        ]),
    ];
    message
}

/// Parent and mode of what is a macvlan.
pub(crate) fn parse(payload: &[u8]) -> Option<(u32, u32)> {
    let attributes = payload.get(link::LINK_HEADER_LENGTH..)?;
    let information = attribute(attributes, libc::IFLA_LINKINFO)?;
    if link::kind(payload)? != "macvlan" {
        return None;
    }
    let data = attribute(information, libc::IFLA_INFO_DATA)?;
    let parent = parse_u32(attribute(attributes, libc::IFLA_LINK)?).ok()?;
    let mode = parse_u32(attribute(data, IFLA_MACVLAN_MODE)?).ok()?;
    Some((parent, mode))
}

/// `IFLA_MACVLAN_MODE`, `linux/if_link.h`.
const IFLA_MACVLAN_MODE: u16 = 1;
/// `MACVLAN_MODE_PRIVATE`, `linux/if_link.h`.
const PRIVATE: u32 = 1;
