//! Dummy interfaces: a place for addresses that belong to no wire.
//!
//! What is sent through one is lost; an address on one is this machine's as any other. They carry a
//! mark when [`make`] made them, so that a successor of whoever did can tell.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};

use crate::link::{self, Link};
use crate::netlink::{self, Connection, Request};

/// A dummy interface that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dummy {
    /// The interface.
    pub link: Link,
    /// Whether [`make`] made it, in this process or another.
    pub ours: bool,
}

/// Why there is no such interface.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused to make it, as when the name is taken.
    #[error("cannot make the dummy interface {name}: {reason}")]
    Make {
        /// The name.
        name: String,
        /// The kernel's answer.
        reason: netlink::Error,
    },
    /// It could not be read or prepared.
    #[error(transparent)]
    Link(#[from] link::Error),
}

/// The alias of those that [`make`] has made.
const MARK: &str = "lvs-director VIPs";

/// Makes a dummy interface without a link-local IPv6 address, and sets it up.
///
/// # Errors
/// Also when an interface of this name is there. Half an interface is deleted again.
pub fn make(connection: &mut Connection, name: &str) -> Result<Link, Error> {
    let refused = |reason| Error::Make {
        name: name.into(),
        reason,
    };
    let request = Request::of(libc::RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &message(name));
    connection.request(&request).map_err(refused)?;
    let link = link::find(connection, name)?;
    if let Err(error) = prepare(connection, link.index) {
        // Its error says more than one of the way back.
        let _ = link::delete(connection, link.index);
        return Err(error.into());
    }
    Ok(link::find(connection, name)?)
}

/// Lists all dummy interfaces of the connection's network namespace.
pub fn list(connection: &mut Connection) -> Result<Vec<Dummy>, link::Error> {
    let request = Request::of(libc::RTM_GETLINK, 0, &LinkMessage::default());
    let replies = connection.dump(&request).map_err(link::Error::List)?;
    Ok(replies
        .iter()
        .filter_map(|reply| parse(&reply.payload))
        .collect())
}

fn prepare(connection: &mut Connection, interface_index: u32) -> Result<(), link::Error> {
    // Taken only in a message of its own, and only before the interface is up.
    link::without_link_local(connection, interface_index)?;
    link::set_alias(connection, interface_index, MARK)?;
    link::set_up(connection, interface_index)
}

fn message(name: &str) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Dummy)]),
    ];
    message
}

fn parse(payload: &[u8]) -> Option<Dummy> {
    let link = link::parse(payload)??;
    (link::kind(payload)? == "dummy").then(|| Dummy {
        link,
        ours: link::alias(payload).as_deref() == Some(MARK),
    })
}
