//! Network interfaces: found by name, with what VRRP and ARP need to know of them.

use netlink_packet_core::{NlasIterator, parse_string};
use netlink_packet_route::link::{LinkAttribute, LinkHeader, LinkMessage};
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
}

/// Finds the interface called `name` in the connection's network namespace.
///
/// # Errors
/// [`Error::NotFound`] when there is none, also for a name that no interface can have (empty, or
/// longer than 15 bytes: `IFNAMSIZ` in `linux/if.h`).
pub fn find(connection: &mut Connection, name: &str) -> Result<Link, Error> {
    let not_found = || Error::NotFound { name: name.into() };
    if name.is_empty() || name.len() >= libc::IFNAMSIZ {
        return Err(not_found());
    }
    let mut message = LinkMessage::default();
    message
        .attributes
        .push(LinkAttribute::IfName(name.to_owned()));
    let request = Request::of(libc::RTM_GETLINK, 0, &message);
    let read = |reason| Error::Read {
        name: name.into(),
        reason,
    };
    let replies = connection
        .request(&request)
        .map_err(|reason| match reason.errno() {
            Some(Errno::ENODEV) => not_found(),
            _ => read(reason),
        })?;
    let reply = replies.first().ok_or_else(not_found)?;
    parse(reply).ok_or_else(|| read(netlink::Error::Malformed("a link message")))
}

/// The name of interface `index` for a person to read, also when it is gone.
pub(crate) fn display_name(index: u32) -> String {
    nix::net::if_::if_indextoname(index)
        .ok()
        .and_then(|name| name.into_string().ok())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| format!("interface number {index}"))
}

/// Reads two attributes only, so that one that the library doesn't know hides no interface.
fn parse(reply: &Reply) -> Option<Link> {
    let header = LinkHeader::parse(&reply.payload).ok()?;
    let mut link = Link {
        index: header.index,
        name: String::new(),
        hardware_address: [0; 6],
    };
    for attribute in NlasIterator::new(reply.payload.get(LINK_HEADER_LENGTH..)?) {
        let attribute = attribute.ok()?;
        match attribute.kind() {
            libc::IFLA_IFNAME => link.name = parse_string(attribute.value()).ok()?,
            libc::IFLA_ADDRESS => {
                link.hardware_address = attribute.value().try_into().unwrap_or_default();
            }
            _ => {}
        }
    }
    Some(link)
}

/// `sizeof(struct ifinfomsg)`, `linux/rtnetlink.h`.
const LINK_HEADER_LENGTH: usize = 16;

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

    #[test]
    fn reads_number_name_and_hardware_address() {
        let mut message = LinkMessage::default();
        message.header.index = 7;
        message
            .attributes
            .push(LinkAttribute::Address(vec![2, 0, 0, 0, 0, 9]));
        message
            .attributes
            .push(LinkAttribute::IfName("eth2".into()));
        let request = Request::of(libc::RTM_NEWLINK, 0, &message);
        let link = parse(&Reply {
            message_type: request.message_type,
            payload: request.payload,
        })
        .unwrap();
        assert_eq!(
            link,
            Link {
                index: 7,
                name: "eth2".into(),
                hardware_address: [2, 0, 0, 0, 0, 9],
            }
        );
    }

    #[test]
    fn cut_messages_are_no_links() {
        for length in 0..LINK_HEADER_LENGTH {
            let payload = vec![0xff; length];
            let reply = Reply {
                message_type: libc::RTM_NEWLINK,
                payload,
            };
            assert_eq!(parse(&reply), None);
        }
    }
}
