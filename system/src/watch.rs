//! What happens to interfaces and addresses, as the kernel tells it.
//!
//! A watcher opens the [`Watch`] first and takes a [`picture`] then, so that nothing falls between
//! the two; an event may repeat what the picture had.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::errno::Errno;

use crate::address::{self, Address};
use crate::link::{self, Link};
use crate::netlink::{self, Connection, Message};

/// What has changed in the network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An interface is new, or something about it has changed; possibly nothing that [`Link`] shows.
    LinkChanged(Link),
    /// An interface is gone, and with it its addresses, of which no word need follow.
    LinkRemoved {
        /// The kernel's number for it.
        index: u32,
        /// The name that it had.
        name: String,
    },
    /// An address is new on an interface, or something about it has changed, such as
    /// [`Address::tentative`].
    AddressAdded(Address),
    /// An address has gone from an interface.
    AddressRemoved(Address),
    /// Events were lost, and those before them dropped: only a [`picture`] tells how things are.
    Overrun,
}

/// All interfaces and addresses at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Picture {
    /// All interfaces.
    pub links: Vec<Link>,
    /// All IPv4 and IPv6 addresses.
    pub addresses: Vec<Address>,
}

/// Why a [`picture`] could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// The interfaces could not be listed.
    #[error(transparent)]
    Links(#[from] link::Error),
    /// The addresses could not be listed.
    #[error(transparent)]
    Addresses(#[from] address::Error),
}

/// A netlink socket that hears of changes; poll it for readability.
#[derive(Debug)]
pub struct Watch {
    socket: Socket,
}

impl Watch {
    /// Watches the network namespace of the calling thread from now on. Needs no rights.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.set_non_blocking(true)?;
        // A modest buffer is enough: what doesn't fit costs a picture, never the truth.
        socket.set_rx_buf_sz(RECEIVE_BUFFER)?;
        for group in [
            libc::RTNLGRP_LINK,
            libc::RTNLGRP_IPV4_IFADDR,
            libc::RTNLGRP_IPV6_IFADDR,
        ] {
            socket.add_membership(group)?;
        }
        Ok(Self { socket })
    }

    /// Takes what is queued, in the order in which it happened; empty when nothing is. Doesn't
    /// block, and leaves the rest of a flood for the next call.
    ///
    /// After a loss [`Event::Overrun`] is the only event.
    pub fn take(&mut self) -> io::Result<Vec<Event>> {
        let mut events = Vec::new();
        for _ in 0..DATAGRAMS_AT_ONCE {
            match self.receive()? {
                Received::Nothing => break,
                Received::Datagram(datagram) => {
                    if read(&datagram, &mut events).is_none() {
                        return self.overrun();
                    }
                }
                Received::Loss => return self.overrun(),
            }
        }
        Ok(events)
    }

    /// What is still queued is older than the picture that is taken next, so it goes.
    fn overrun(&mut self) -> io::Result<Vec<Event>> {
        while !matches!(self.receive()?, Received::Nothing) {}
        Ok(vec![Event::Overrun])
    }

    fn receive(&self) -> io::Result<Received> {
        loop {
            let error = match self.socket.recv_from_full() {
                Ok((_, sender)) if sender.port_number() != 0 => continue, // not from the kernel
                Ok((datagram, _)) => return Ok(Received::Datagram(datagram)),
                Err(error) => error,
            };
            match error.raw_os_error().map(Errno::from_raw) {
                Some(Errno::EAGAIN) => return Ok(Received::Nothing),
                Some(Errno::ENOBUFS) => return Ok(Received::Loss),
                Some(Errno::EINTR) => {}
                _ => return Err(error),
            }
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Reads all interfaces and addresses.
pub fn picture(connection: &mut Connection) -> Result<Picture, PictureError> {
    Ok(Picture {
        links: link::list(connection)?,
        addresses: address::list(connection, None)?,
    })
}

impl Picture {
    /// Makes the picture what it is after `event`; an [`Event::Overrun`] calls for a new one.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::LinkChanged(link) => {
                match self.links.iter_mut().find(|old| old.index == link.index) {
                    Some(old) => old.clone_from(link),
                    None => self.links.push(link.clone()),
                }
            }
            Event::LinkRemoved { index, .. } => {
                self.links.retain(|link| link.index != *index);
                self.addresses
                    .retain(|address| address.interface_index != *index);
            }
            Event::AddressAdded(address) => {
                match self.addresses.iter_mut().find(|old| old.is_same(address)) {
                    Some(old) => old.clone_from(address),
                    None => self.addresses.push(address.clone()),
                }
            }
            Event::AddressRemoved(address) => self.addresses.retain(|old| !old.is_same(address)),
            Event::Overrun => {}
        }
    }
}

enum Received {
    Nothing,
    Datagram(Vec<u8>),
    Loss,
}

/// Datagrams taken in one call: the kernel sends each event in one of its own.
const DATAGRAMS_AT_ONCE: usize = 256;
const RECEIVE_BUFFER: u32 = 128 * 1024;

/// `None` when something can't be read, which is as bad as a loss.
pub(crate) fn read(datagram: &[u8], events: &mut Vec<Event>) -> Option<()> {
    for message in netlink::split(datagram).ok()? {
        events.extend(event(&message)?);
    }
    Some(())
}

/// `Some(None)` for what is no event: other messages, families and views of an interface.
fn event(message: &Message) -> Option<Option<Event>> {
    let payload = &message.payload;
    Some(match message.message_type {
        libc::RTM_NEWLINK => link::parse(payload)?.map(Event::LinkChanged),
        libc::RTM_DELLINK => link::parse(payload)?.map(|link| Event::LinkRemoved {
            index: link.index,
            name: link.name,
        }),
        libc::RTM_NEWADDR => address::parse(payload)?.map(Event::AddressAdded),
        libc::RTM_DELADDR => address::parse(payload)?.map(Event::AddressRemoved),
        _ => None,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use netlink_packet_route::AddressFamily;
    use netlink_packet_route::address::{AddressAttribute, AddressMessage};
    use netlink_packet_route::link::{LinkAttribute, LinkMessage};

    use super::*;
    use crate::netlink::Request;

    /// One message with its netlink header.
    fn datagram(message_type: u16, payload: &[u8]) -> Vec<u8> {
        let length = (16 + payload.len()) as u32;
        let mut datagram = length.to_ne_bytes().to_vec();
        datagram.extend_from_slice(&message_type.to_ne_bytes());
        datagram.extend_from_slice(&[0; 10]);
        datagram.extend_from_slice(payload);
        datagram
    }

    fn link_gone() -> Vec<u8> {
        let mut message = LinkMessage::default();
        message.header.index = 7;
        message
            .attributes
            .push(LinkAttribute::IfName("eth2".into()));
        datagram(
            libc::RTM_DELLINK,
            &Request::of(libc::RTM_DELLINK, 0, &message).payload,
        )
    }

    fn events(datagram: &[u8]) -> Option<Vec<Event>> {
        let mut events = Vec::new();
        read(datagram, &mut events).map(|()| events)
    }

    #[test]
    fn what_can_not_be_read_is_a_loss_and_never_a_panic() {
        let whole = link_gone();
        let gone = Event::LinkRemoved {
            index: 7,
            name: "eth2".into(),
        };
        assert_eq!(events(&whole), Some(vec![gone]));
        for length in 16..whole.len() {
            assert_eq!(events(&whole[..length]), None, "{length} bytes");
        }
        for message_type in 0..=u16::from(u8::MAX) {
            for filler in [0x00, 0x01, 0x02, 0x0a, 0x7f, 0xff] {
                for length in 0..64 {
                    let _ = events(&datagram(message_type, &vec![filler; length]));
                }
            }
        }
    }

    #[test]
    fn messages_of_others_are_no_events() {
        assert_eq!(
            events(&datagram(libc::RTM_NEWROUTE, &[0; 12])),
            Some(vec![])
        );
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Mctp;
        message.attributes.push(AddressAttribute::Label("x".into()));
        let request = Request::of(libc::RTM_NEWADDR, 0, &message);
        assert_eq!(
            events(&datagram(libc::RTM_NEWADDR, &request.payload)),
            Some(vec![])
        );
    }
}
