//! Sockets that hear what neighbours say of their addresses: ARP and IPv6 neighbour discovery, on all
//! interfaces.
//!
//! They take nothing else, so that forwarded packets cost nothing for them. Neither blocks.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use lvs_proto::sentinel::Claim;
use lvs_proto::{arp, ndp};
use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessageOwned, LinkAddr, MsgFlags, SockaddrIn6, recvfrom, recvmsg, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::filter::{equals, instruction};

/// The longest message that is read whole.
const LONGEST: usize = 2048;

/// Hears claims of IPv4 and IPv6 addresses.
#[derive(Debug)]
pub struct NeighbourSockets {
    arp: Socket,
    /// A kernel without IPv6 has none.
    discovery: Option<Socket>,
    buffer: Vec<u8>,
}

impl NeighbourSockets {
    /// Opens the sockets in the calling thread's network namespace; needs `CAP_NET_RAW`.
    pub fn open() -> io::Result<Self> {
        let discovery = match open_discovery() {
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => None,
            other => Some(other?),
        };
        let arp = Protocol::from(i32::from((libc::ETH_P_ARP as u16).to_be()));
        Ok(Self {
            arp: Socket::new(Domain::PACKET, Type::RAW.nonblocking(), Some(arp))?,
            discovery,
            buffer: vec![0; LONGEST],
        })
    }

    /// What to wait for: whether there is something to read.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let discovery = self.discovery.as_ref().map(Socket::as_fd);
        std::iter::once(self.arp.as_fd()).chain(discovery)
    }

    /// Takes queued messages, at most `most` of each kind, and hands on what they claim, with the number
    /// of the interface that each came in by. What claims nothing is dropped.
    ///
    /// # Errors
    /// What the kernel says of a socket; `ENETDOWN` once after an interface has gone down.
    pub fn take(&mut self, most: usize, mut hear: impl FnMut(u32, &Claim)) -> io::Result<()> {
        for _ in 0..most {
            let Some((length, interface)) = receive_frame(&self.arp, &mut self.buffer)? else {
                break;
            };
            if let Some(claim) = self.buffer.get(..length).and_then(arp::claim) {
                hear(interface, &claim);
            }
        }
        let Some(discovery) = &self.discovery else {
            return Ok(());
        };
        for _ in 0..most {
            match receive_message(discovery, &mut self.buffer)? {
                Received::Nothing => break,
                Received::Other => {}
                Received::Claim(interface, claim) => hear(interface, &claim),
            }
        }
        Ok(())
    }
}

/// Types of ICMPv6 (RFC 4861, sections 4.3 and 4.4).
const SOLICITATION: u32 = 135;
const ADVERTISEMENT: u32 = 136;

fn open_discovery() -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::IPV6,
        Type::RAW.nonblocking(),
        Some(Protocol::ICMPV6),
    )?;
    socket.attach_filter(&[
        // The type: what a raw IPv6 socket filters begins behind the IPv6 header.
        instruction(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, 0),
        equals(SOLICITATION, 1, 0),
        equals(ADVERTISEMENT, 0, 1),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
    ])?;
    setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
    socket.set_recv_hoplimit_v6(true)?;
    Ok(socket)
}

/// The interface is the one that the kernel takes the frame to: a VLAN's or a macvlan's own.
fn receive_frame(socket: &Socket, buffer: &mut [u8]) -> io::Result<Option<(usize, u32)>> {
    loop {
        match recvfrom::<LinkAddr>(socket.as_raw_fd(), buffer) {
            Ok((length, sender)) => {
                let interface = sender.map_or(0, |sender| sender.ifindex());
                return Ok(Some((length, interface as u32)));
            }
            Err(Errno::EAGAIN) => return Ok(None),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

enum Received {
    Nothing,
    Other,
    Claim(u32, Claim),
}

fn receive_message(socket: &Socket, buffer: &mut [u8]) -> io::Result<Received> {
    let mut control = cmsg_space!(libc::in6_pktinfo, libc::c_int);
    let (mut interface, mut hop_limit) = (None, None);
    let (length, source) = loop {
        let mut parts = [IoSliceMut::new(&mut *buffer)];
        let received = recvmsg::<SockaddrIn6>(
            socket.as_raw_fd(),
            &mut parts,
            Some(&mut control),
            MsgFlags::MSG_DONTWAIT,
        );
        match received {
            Ok(message) => {
                for item in message.cmsgs()? {
                    match item {
                        ControlMessageOwned::Ipv6PacketInfo(information) => {
                            interface = Some(information.ipi6_ifindex);
                        }
                        ControlMessageOwned::Ipv6HopLimit(limit) => {
                            hop_limit = u8::try_from(limit).ok();
                        }
                        _ => {}
                    }
                }
                break (message.bytes, message.address.map(|source| source.ip()));
            }
            Err(Errno::EAGAIN) => return Ok(Received::Nothing),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    };
    let claim = || {
        let message = buffer.get(..length)?;
        let claim = ndp::claim(source?, hop_limit?, message)?;
        Some(Received::Claim(interface?, claim))
    };
    Ok(claim().unwrap_or(Received::Other))
}
