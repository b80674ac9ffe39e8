//! Sending ready-made Ethernet frames, such as gratuitous ARP.

use std::io;

use socket2::{Domain, SockAddr, Socket, Type};

use crate::link::display_name;
use crate::syscalls::packet_address;

/// A socket that sends whole Ethernet frames out of one interface and receives nothing.
///
/// It never blocks: a frame that finds the queue full is an error ([`io::ErrorKind::WouldBlock`]).
#[derive(Debug)]
pub struct PacketSocket {
    socket: Socket,
    address: SockAddr,
    interface_index: u32,
}

/// Why a frame was not sent.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket could not be opened; `EPERM` without `CAP_NET_RAW`.
    #[error("cannot open a packet socket for {interface}: {reason}")]
    Open {
        /// The interface's name.
        interface: String,
        /// The kernel's answer.
        reason: io::Error,
    },
    /// The kernel did not take the frame; `ENETDOWN` while the interface is down.
    #[error("cannot send a frame of {length} bytes on {interface}: {reason}")]
    Send {
        /// Bytes in the frame.
        length: usize,
        /// The interface's name.
        interface: String,
        /// The kernel's answer.
        reason: io::Error,
    },
}

impl PacketSocket {
    /// Opens a socket for the interface with this index (see [`crate::link::Link::index`]).
    pub fn open(interface_index: u32) -> Result<Self, Error> {
        let open = |reason| Error::Open {
            interface: display_name(interface_index),
            reason,
        };
        // Protocol 0 receives nothing (packet(7)), so that no buffer fills unread.
        let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking(), None).map_err(open)?;
        let address = packet_address(interface_index, 0).map_err(open)?;
        Ok(Self {
            socket,
            address,
            interface_index,
        })
    }

    /// Sends `frame`, Ethernet header included and frame check sequence not.
    pub fn send(&self, frame: &[u8]) -> Result<(), Error> {
        self.socket
            .send_to(frame, &self.address)
            .map(|_| ())
            .map_err(|reason| Error::Send {
                length: frame.len(),
                interface: display_name(self.interface_index),
                reason,
            })
    }
}
