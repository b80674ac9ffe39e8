//! Network interfaces: found by name, with what VRRP and ARP need to know of them.

use netlink_packet_core::{NLA_HEADER_SIZE, NlasIterator, parse_string, parse_u32};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, LinkFlags, LinkHeader, LinkMessage,
};
use nix::errno::Errno;

use crate::netlink::{self, Connection, Reply, Request};

/// An interface as the kernel described it when it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number for it, at least 1. It changes when the interface is made anew.
    pub index: u32,
    /// Its name, such as `eth2`.
    pub name: String,
    /// Its Ethernet address; all zero on `lo` and on interfaces that have none.
    pub hardware_address: [u8; 6],
    /// Whether it carries packets: set up by an administrator (`IFF_UP`) and with a carrier
    /// (`IFF_RUNNING`, which follows `operstate`; RFC 2863).
    pub up: bool,
    /// The longest packet that it carries, in bytes; 0 where the kernel says none.
    pub mtu: u32,
}

/// Why an interface could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No interface has this name in this network namespace.
    #[error("there is no interface named {name}")]
    NotFound {
        /// The name asked for.
        name: String,
    },
    /// The kernel could not be asked, or refused.
    #[error("cannot read interface {name}: {reason}")]
    Read {
        /// The name asked for.
        name: String,
        /// The kernel's answer.
        reason: netlink::Error,
    },
    /// [`list`] failed.
    #[error("cannot list interfaces: {0}")]
    List(netlink::Error),
    /// [`set_up`], [`without_link_local`], [`set_alias`] or [`delete`] was refused.
    #[error("cannot {action} interface {interface}: {reason}")]
    Change {
        /// What was attempted.
        action: &'static str,
        /// The interface's name.
        interface: String,
        /// The kernel's answer.
        reason: netlink::Error,
    },
}

/// What [`delete`] met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteOutcome {
    /// The interface was there and is gone, with its addresses.
    Deleted,
    /// There was none.
    WasAbsent,
}

/// Finds the interface called `name` in the connection's network namespace.
///
/// # Errors
/// [`Error::NotFound`] when there is none, also for a name that no interface can have (empty, or
/// longer than 15 bytes: `IFNAMSIZ` in `linux/if.h`).
pub fn find(connection: &mut Connection, name: &str) -> Result<Link, Error> {
    let reply = read(connection, name)?;
    parse(&reply.payload)
        .flatten()
        .ok_or_else(|| malformed(name))
}

/// Lists all interfaces of the connection's network namespace, in the kernel's order.
pub fn list(connection: &mut Connection) -> Result<Vec<Link>, Error> {
    let request = Request::of(libc::RTM_GETLINK, 0, &LinkMessage::default());
    let mut links = Vec::new();
    for reply in connection.dump(&request).map_err(Error::List)? {
        let malformed = Error::List(netlink::Error::Malformed("a link message"));
        links.extend(parse(&reply.payload).ok_or(malformed)?);
    }
    Ok(links)
}

/// Sets an interface up (`IFF_UP`), which one that is up already doesn't mind.
pub fn set_up(connection: &mut Connection, interface_index: u32) -> Result<(), Error> {
    set_flags(connection, interface_index, LinkFlags::Up)
        .map_err(refused("set up", interface_index))
}

/// Sets an interface down, which one that is down already doesn't mind. Its IPv6 addresses go.
pub fn set_down(connection: &mut Connection, interface_index: u32) -> Result<(), Error> {
    set_flags(connection, interface_index, LinkFlags::empty())
        .map_err(refused("set down", interface_index))
}

/// Keeps the kernel from giving an interface that isn't up yet a link-local IPv6 address
/// (`IN6_ADDR_GEN_MODE_NONE`, `linux/if_link.h`). A kernel without IPv6 does so anyway.
pub fn without_link_local(connection: &mut Connection, interface_index: u32) -> Result<(), Error> {
    let mut message = LinkMessage::default();
    message.header.index = interface_index;
    let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
    message.attributes = vec![LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(
        vec![mode],
    )])];
    match change(connection, libc::RTM_SETLINK, &message) {
        Err(reason) if reason.errno() == Some(Errno::EAFNOSUPPORT) => Ok(()),
        other => other.map_err(refused("turn off link-local addresses of", interface_index)),
    }
}

/// Gives an interface a text that `ip link` shows with it (`IFLA_IFALIAS`, `linux/if_link.h`).
pub fn set_alias(
    connection: &mut Connection,
    interface_index: u32,
    alias: &str,
) -> Result<(), Error> {
    let mut message = LinkMessage::default();
    message.header.index = interface_index;
    message.attributes = vec![LinkAttribute::IfAlias(alias.to_owned())];
    change(connection, libc::RTM_SETLINK, &message).map_err(refused("mark", interface_index))
}

/// Gives an interface another name, at most 15 bytes long. Kernels older than 6.2 demand that it is down.
pub fn rename(connection: &mut Connection, interface_index: u32, name: &str) -> Result<(), Error> {
    let mut message = LinkMessage::default();
    message.header.index = interface_index;
    message.attributes = vec![LinkAttribute::IfName(name.to_owned())];
    change(connection, libc::RTM_SETLINK, &message).map_err(refused("rename", interface_index))
}

/// Deletes an interface that was made by software, such as a macvlan.
pub fn delete(connection: &mut Connection, interface_index: u32) -> Result<DeleteOutcome, Error> {
    let mut message = LinkMessage::default();
    message.header.index = interface_index;
    let name = display_name(interface_index);
    match change(connection, libc::RTM_DELLINK, &message) {
        Ok(()) => Ok(DeleteOutcome::Deleted),
        Err(reason) if reason.errno() == Some(Errno::ENODEV) => Ok(DeleteOutcome::WasAbsent),
        Err(reason) => Err(Error::Change {
            action: "delete",
            interface: name,
            reason,
        }),
    }
}

/// The name of interface `index` for a person to read, also when it is gone.
pub(crate) fn display_name(index: u32) -> String {
    nix::net::if_::if_indextoname(index)
        .ok()
        .and_then(|name| name.into_string().ok())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| format!("interface number {index}"))
}

/// What the kernel says of the interface called `name`.
pub(crate) fn read(connection: &mut Connection, name: &str) -> Result<Reply, Error> {
    let not_found = || Error::NotFound { name: name.into() };
    if name.is_empty() || name.len() >= libc::IFNAMSIZ {
        return Err(not_found());
    }
    let mut message = LinkMessage::default();
    message
        .attributes
        .push(LinkAttribute::IfName(name.to_owned()));
    let request = Request::of(libc::RTM_GETLINK, 0, &message);
    let replies = connection
        .request(&request)
        .map_err(|reason| match reason.errno() {
            Some(Errno::ENODEV) => not_found(),
            _ => Error::Read {
                name: name.into(),
                reason,
            },
        })?;
    replies.into_iter().next().ok_or_else(not_found)
}

/// Reads what [`Link`] needs and nothing else, so that an attribute that the library doesn't know
/// hides no interface. `None` for a malformed message, `Some(None)` for one that isn't about an
/// interface itself, such as a bridge's view of its ports.
pub(crate) fn parse(payload: &[u8]) -> Option<Option<Link>> {
    let header = LinkHeader::parse(payload).ok()?;
    if header.interface_family != AddressFamily::Unspec {
        return Some(None);
    }
    let mut link = Link {
        index: header.index,
        name: String::new(),
        hardware_address: [0; 6],
        up: header.flags.contains(LinkFlags::Up | LinkFlags::Running),
        mtu: 0,
    };
    for attribute in NlasIterator::new(payload.get(LINK_HEADER_LENGTH..)?) {
        let attribute = attribute.ok()?;
        match attribute.kind() {
            libc::IFLA_IFNAME => link.name = parse_string(attribute.value()).ok()?,
            libc::IFLA_ADDRESS => {
                link.hardware_address = attribute.value().try_into().unwrap_or_default();
            }
            libc::IFLA_MTU => link.mtu = parse_u32(attribute.value()).ok()?,
            _ => {}
        }
    }
    Some(Some(link))
}

/// What sort of software makes an interface, such as `dummy`; `None` for hardware and `lo`.
pub(crate) fn kind(payload: &[u8]) -> Option<String> {
    let attributes = payload.get(LINK_HEADER_LENGTH..)?;
    let information = attribute(attributes, libc::IFLA_LINKINFO)?;
    parse_string(attribute(information, libc::IFLA_INFO_KIND)?).ok()
}

/// The text that [`set_alias`] gave an interface.
pub(crate) fn alias(payload: &[u8]) -> Option<String> {
    let attributes = payload.get(LINK_HEADER_LENGTH..)?;
    parse_string(attribute(attributes, libc::IFLA_IFALIAS)?).ok()
}

/// The value of the first attribute of a kind.
pub(crate) fn attribute(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    let found = NlasIterator::new(attributes)
        .map_while(Result::ok)
        .find(|attribute| attribute.kind() == kind)?;
    let length = usize::from(found.length());
    found.into_inner().get(NLA_HEADER_SIZE..length)
}

pub(crate) fn malformed(name: &str) -> Error {
    Error::Read {
        name: name.into(),
        reason: netlink::Error::Malformed("a link message"),
    }
}

fn set_flags(
    connection: &mut Connection,
    interface_index: u32,
    flags: LinkFlags,
) -> Result<(), netlink::Error> {
    let mut message = LinkMessage::default();
    message.header.index = interface_index;
    message.header.flags = flags;
    message.header.change_mask = LinkFlags::Up;
    change(connection, libc::RTM_SETLINK, &message)
}

fn change(
    connection: &mut Connection,
    message_type: u16,
    message: &LinkMessage,
) -> Result<(), netlink::Error> {
    connection.request(&Request::of(message_type, 0, message))?;
    Ok(())
}

fn refused(action: &'static str, interface_index: u32) -> impl FnOnce(netlink::Error) -> Error {
    move |reason| Error::Change {
        action,
        interface: display_name(interface_index),
        reason,
    }
}

/// `sizeof(struct ifinfomsg)`, `linux/rtnetlink.h`.
pub(crate) const LINK_HEADER_LENGTH: usize = 16;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::netlink::Protocol;

    #[test]
    fn finds_loopback() {
        let mut connection = Connection::open(Protocol::Route).unwrap();
        let link = find(&mut connection, "lo").unwrap();
        assert_eq!(link.index, 1);
        assert_eq!(link.name, "lo");
        assert_eq!(link.hardware_address, [0; 6]);
        assert!(list(&mut connection).unwrap().contains(&link));
    }

    #[test]
    fn names_the_missing_interface() {
        let mut connection = Connection::open(Protocol::Route).unwrap();
        for name in ["none9", "", "longer-than-fifteen"] {
            let error = find(&mut connection, name).unwrap_err();
            assert!(matches!(&error, Error::NotFound { name: n } if n == name));
            assert!(error.to_string().contains(name));
        }
    }

    #[test]
    fn an_interface_that_is_gone_still_has_something_to_call_it() {
        assert_eq!(display_name(1), "lo");
        assert_eq!(display_name(999_999), "interface number 999999");
    }

    fn payload(message: &LinkMessage) -> Vec<u8> {
        Request::of(libc::RTM_NEWLINK, 0, message).payload
    }

    #[test]
    fn reads_what_matters_of_an_interface() {
        let mut message = LinkMessage::default();
        message.header.index = 7;
        message.attributes = vec![
            LinkAttribute::Address(vec![2, 0, 0, 0, 0, 9]),
            LinkAttribute::Mtu(1500),
            LinkAttribute::IfName("eth2".into()),
        ];
        let link = Link {
            index: 7,
            name: "eth2".into(),
            hardware_address: [2, 0, 0, 0, 0, 9],
            up: false,
            mtu: 1500,
        };
        assert_eq!(parse(&payload(&message)), Some(Some(link)));
    }

    #[test]
    fn up_is_set_up_and_with_a_carrier() {
        let both = LinkFlags::Up | LinkFlags::Running;
        let cases = [
            (LinkFlags::empty(), false),
            (LinkFlags::Up, false),
            (LinkFlags::Running, false),
            (both, true),
            (both | LinkFlags::Multicast, true),
        ];
        for (flags, up) in cases {
            let mut message = LinkMessage::default();
            message.header.flags = flags;
            let link = parse(&payload(&message)).unwrap().unwrap();
            assert_eq!(link.up, up, "{flags:?}");
        }
    }

    #[test]
    fn a_bridge_s_view_of_a_port_is_no_interface() {
        let mut message = LinkMessage::default();
        message.header.interface_family = AddressFamily::Bridge;
        message
            .attributes
            .push(LinkAttribute::IfName("eth2".into()));
        assert_eq!(parse(&payload(&message)), Some(None));
    }

    #[test]
    fn cut_messages_are_no_links() {
        for length in 0..LINK_HEADER_LENGTH {
            assert_eq!(parse(&vec![0xff; length]), None);
        }
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::Mtu(1500));
        let whole = payload(&message);
        for length in LINK_HEADER_LENGTH + 1..whole.len() {
            assert_eq!(parse(&whole[..length]), None, "{length} bytes");
        }
    }
}
