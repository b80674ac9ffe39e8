//! The sockets of one virtual router on its interface.

use std::collections::HashMap;
use std::io;
use std::iter;
use std::net::IpAddr;

use lvs_proto::vrrp::{Family, Peers};
use lvs_proto::{arp, ndp};
use lvs_system::link::{self, Link};
use lvs_system::macvlan::{self, Macvlan};
use lvs_system::netlink::Connection;
use lvs_system::packet::{self, PacketSocket};
use lvs_system::vrrp_socket::{Mode, VrrpSocket};

use super::closer::Closer;
use super::virtual_mac::VirtualMacs;
use crate::address::Placed;
use crate::config::Instance as Settings;
use crate::supervisor::Outlet;

/// Why a virtual router can't use its interface.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// The socket for adverts was refused.
    #[error("socket on {interface}: {reason} (needs CAP_NET_RAW)")]
    Adverts {
        /// The interface's name.
        interface: String,
        /// What the kernel said.
        reason: io::Error,
    },
    /// The interface with the virtual MAC can't be made.
    #[error(transparent)]
    VirtualMac(#[from] macvlan::Error),
    /// Or can't be set up.
    #[error(transparent)]
    Link(#[from] link::Error),
}

/// Open sockets.
#[derive(Debug)]
pub(super) struct Port {
    /// The interface that it is on.
    link: Link,
    socket: VrrpSocket,
    own: Option<Own>,
    frames: HashMap<u32, PacketSocket>,
    closer: Closer,
}

/// The interface with the virtual MAC, where adverts go out.
#[derive(Debug)]
struct Own {
    /// Its name is the provisional one until [`Port::settle`].
    link: Link,
    name: String,
    sender: VrrpSocket,
    /// While it is up, the kernel takes frames that come from the same virtual MAC, which are those of
    /// another Active, to it and never to its parent (`macvlan_handle_frame()`). Unicast is addressed
    /// to the parent's own.
    receiver: Option<VrrpSocket>,
}

impl Own {
    fn open(
        settings: &Settings,
        parent: &Link,
        name: &str,
        provisional: Option<&str>,
        route: &mut Connection,
    ) -> Result<Self, PortError> {
        let wanted = Macvlan {
            name: provisional.unwrap_or(name).to_owned(),
            parent_index: parent.index,
            hardware_address: settings.family().virtual_mac(settings.virtual_router_id),
        };
        let (link, _) = macvlan::make(route, &wanted)?;
        let sockets = || {
            let hears = mode(settings) == Mode::Multicast;
            let receiver = hears.then(|| open(settings, &link, Mode::Multicast));
            Ok((
                open(settings, &link, Mode::SendOnly)?,
                receiver.transpose()?,
            ))
        };
        match sockets() {
            Ok((sender, receiver)) => Ok(Self {
                link,
                name: name.to_owned(),
                sender,
                receiver,
            }),
            Err(error) => {
                // Without sockets it is of no use to anybody; what went wrong is said.
                let _ = link::delete(route, link.index);
                Err(error)
            }
        }
    }
}

impl Port {
    /// Opens the sockets on `link`, and makes the interface with the virtual MAC where one is wanted. As
    /// long as another port has its name, it has the name `provisional`.
    ///
    /// Nothing else changes before [`Self::settle`].
    pub(super) fn open(
        settings: &Settings,
        link: &Link,
        provisional: Option<&str>,
        route: &mut Connection,
        closer: &Closer,
    ) -> Result<Self, PortError> {
        let socket = open(settings, link, mode(settings))?;
        let own = match &settings.virtual_mac {
            None => None,
            Some(name) => Some(Own::open(settings, link, name, provisional, route)?),
        };
        Ok(Self {
            link: link.clone(),
            socket,
            own,
            frames: HashMap::new(),
            closer: closer.clone(),
        })
    }

    /// Gives the interface with the virtual MAC its name, which must be free now, and makes the settings
    /// that it needs.
    pub(super) fn settle(
        &mut self,
        route: &mut Connection,
        virtual_macs: &mut VirtualMacs,
    ) -> Result<(), link::Error> {
        let Some(own) = &mut self.own else {
            return Ok(());
        };
        if own.link.name != own.name {
            link::rename(route, own.link.index, &own.name)?;
            own.link.name.clone_from(&own.name);
        }
        virtual_macs.settle(&self.link.name, &own.name);
        Ok(())
    }

    /// The interface with the virtual MAC, as it is called when the port is settled.
    pub(super) fn macvlan(&self) -> Option<Link> {
        self.own.as_ref().map(|own| Link {
            name: own.name.clone(),
            ..own.link.clone()
        })
    }

    /// Whether this is still the right way to speak on `link`.
    pub(super) fn suits(&self, previous: &Settings, settings: &Settings, link: &Link) -> bool {
        self.link.index == link.index
            && mode(previous) == mode(settings)
            && previous.virtual_mac == settings.virtual_mac
    }

    /// Removes the interface with the virtual MAC.
    pub(super) fn close(self, route: &mut Connection) -> Result<(), link::Error> {
        let index = self.own.as_ref().map(|own| own.link.index);
        let closer = self.closer.clone();
        closer.close(self);
        index.map_or(Ok(()), |index| link::delete(route, index).map(|_| ()))
    }

    /// Sets the interface with the virtual MAC up, for whoever holds the addresses, or down: a Backup
    /// discards what is sent to the virtual MAC (RFC 9568, section 6.4.2), and sends nothing from it
    /// that could draw a switch.
    pub(super) fn set_up(&mut self, route: &mut Connection, up: bool) -> Result<(), link::Error> {
        match &self.own {
            None => Ok(()),
            Some(own) if up => link::set_up(route, own.link.index),
            Some(own) => {
                // A packet socket fails once after its interface was down.
                self.closer.close(self.frames.remove(&own.link.index));
                link::set_down(route, own.link.index)
            }
        }
    }

    /// The sockets to receive with.
    pub(super) fn sockets(&self) -> impl Iterator<Item = &VrrpSocket> {
        let own = self.own.as_ref().and_then(|own| own.receiver.as_ref());
        iter::once(&self.socket).chain(own)
    }

    /// How the supervisor sends what we would.
    pub(super) fn outlet(&self, settings: &Settings) -> Outlet {
        let link = self.own.as_ref().map_or(&self.link, |own| &own.link);
        Outlet {
            ipv6: settings.family() == Family::Ipv6,
            interface: link.name.clone(),
            interface_index: link.index,
        }
    }

    /// Sends one message.
    pub(super) fn send(&self, message: &[u8], source: IpAddr, to: IpAddr) -> io::Result<()> {
        let socket = self.own.as_ref().map_or(&self.socket, |own| &own.sender);
        socket.send(message, source, to)
    }

    /// Tells the LAN that an address is at `hardware_address`.
    pub(super) fn announce(
        &mut self,
        placed: &Placed,
        hardware_address: [u8; 6],
    ) -> Result<(), packet::Error> {
        let index = placed.interface_index;
        let frames = match self.frames.entry(index) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(PacketSocket::open(index)?)
            }
        };
        match placed.address.address {
            IpAddr::V4(address) => frames.send(&arp::gratuitous(hardware_address, address)),
            IpAddr::V6(address) => {
                // A director is no router to its LAN: direct routing needs no forwarding.
                let frame = ndp::unsolicited_advertisement(hardware_address, address, false);
                frames.send(&frame)
            }
        }
    }
}

fn open(settings: &Settings, link: &Link, mode: Mode) -> Result<VrrpSocket, PortError> {
    let opened = VrrpSocket::open(settings.family(), &link.name, link.index, mode);
    opened.map_err(|reason| PortError::Adverts {
        interface: link.name.clone(),
        reason,
    })
}

fn mode(settings: &Settings) -> Mode {
    match settings.peers {
        Peers::Multicast => Mode::Multicast,
        Peers::Unicast { .. } => Mode::Unicast,
    }
}
