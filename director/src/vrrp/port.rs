//! The sockets of one virtual router on its interface.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use lvs_proto::vrrp::{Family, Peers};
use lvs_proto::{arp, ndp};
use lvs_system::link::{self, Link};
use lvs_system::macvlan::{self, Macvlan};
use lvs_system::netlink::Connection;
use lvs_system::packet::{self, PacketSocket};
use lvs_system::vrrp_socket::{Mode, VrrpSocket};

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
    /// Where adverts come in.
    socket: VrrpSocket,
    /// Where they go out, with a virtual MAC.
    outlet: Option<(Link, VrrpSocket)>,
    frames: HashMap<u32, PacketSocket>,
}

impl Port {
    /// Opens the sockets on `link`, and makes the interface with the virtual MAC where one is wanted.
    pub(super) fn open(
        settings: &Settings,
        link: &Link,
        route: &mut Connection,
        virtual_macs: &mut VirtualMacs,
    ) -> Result<Self, PortError> {
        let family = settings.family();
        let open = |link: &Link, mode| {
            VrrpSocket::open(family, &link.name, link.index, mode).map_err(|reason| {
                PortError::Adverts {
                    interface: link.name.clone(),
                    reason,
                }
            })
        };
        let (socket, outlet) = match &settings.virtual_mac {
            None => (open(link, mode(settings))?, None),
            Some(name) => {
                let wanted = Macvlan {
                    name: name.clone(),
                    parent_index: link.index,
                    hardware_address: family.virtual_mac(settings.virtual_router_id),
                };
                let (own, _) = macvlan::make(route, &wanted)?;
                virtual_macs.settle(&link.name, name);
                link::set_up(route, own.index)?;
                // A peer's frames come from the same virtual MAC, so the kernel takes them to the
                // macvlan that has it and never to the parent (`macvlan_handle_frame()`); unicast
                // is addressed to the parent's own.
                let heard_on = match mode(settings) {
                    Mode::Multicast => &own,
                    Mode::Unicast | Mode::SendOnly => link,
                };
                let socket = open(heard_on, mode(settings))?;
                let outlet = open(&own, Mode::SendOnly)?;
                (socket, Some((own, outlet)))
            }
        };
        Ok(Self {
            link: link.clone(),
            socket,
            outlet,
            frames: HashMap::new(),
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
        match self.outlet {
            Some((own, _)) => link::delete(route, own.index).map(|_| ()),
            None => Ok(()),
        }
    }

    /// The socket to receive with.
    pub(super) fn socket(&self) -> &VrrpSocket {
        &self.socket
    }

    /// How the supervisor sends what we would.
    pub(super) fn outlet(&self, settings: &Settings) -> Outlet {
        let link = self.outlet.as_ref().map_or(&self.link, |(own, _)| own);
        Outlet {
            ipv6: settings.family() == Family::Ipv6,
            interface: link.name.clone(),
            interface_index: link.index,
        }
    }

    /// Sends one message.
    pub(super) fn send(&self, message: &[u8], source: IpAddr, to: IpAddr) -> io::Result<()> {
        let socket = self.outlet.as_ref().map_or(&self.socket, |(_, own)| own);
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

impl AsFd for Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn mode(settings: &Settings) -> Mode {
    match settings.peers {
        Peers::Multicast => Mode::Multicast,
        Peers::Unicast { .. } => Mode::Unicast,
    }
}
