//! The raw socket that carries VRRP adverts on one interface, over IPv4 or IPv6.
//!
//! Checksums are the caller's, in both directions: the kernel computes and verifies none.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use lvs_proto::vrrp::{
    Datagram, Family, IP_PROTOCOL, MULTICAST_GROUP_IPV4, MULTICAST_GROUP_IPV6, TIME_TO_LIVE,
};
use nix::cmsg_space;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, recv, recvmsg, sendmsg,
    setsockopt, sockopt,
};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockFilter, Socket, Type};

/// Network control traffic (RFC 4594): what keepalived marks its adverts with.
const TYPE_OF_SERVICE: u32 = 0xc0;
/// Above all interactive traffic in the interface's queue (`linux/pkt_sched.h`, `TC_PRIO_CONTROL`
/// is 7; up to 6 needs no capability).
const QUEUE_PRIORITY: u32 = 6;

/// What a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Hears the VRRP group, and what is sent to an address of this machine.
    Multicast,
    /// Hears only what is sent to an address of this machine.
    Unicast,
    /// Hears nothing: for a virtual MAC's interface, whose adverts come in on its parent, and for who
    /// only says goodbye. It may send from an address that isn't on its interface.
    SendOnly,
}

/// Sends and receives on one interface only. Never blocks.
#[derive(Debug)]
pub struct VrrpSocket {
    family: Family,
    socket: Socket,
    interface_index: u32,
}

impl VrrpSocket {
    /// Opens the socket in the calling thread's network namespace; needs `CAP_NET_RAW`.
    pub fn open(
        family: Family,
        interface_name: &str,
        interface_index: u32,
        mode: Mode,
    ) -> io::Result<Self> {
        let protocol = Protocol::from(i32::from(IP_PROTOCOL));
        let domain = match family {
            Family::Ipv4 => Domain::IPV4,
            Family::Ipv6 => Domain::IPV6,
        };
        let socket = Socket::new(domain, Type::RAW.nonblocking(), Some(protocol))?;
        if mode == Mode::SendOnly {
            socket.attach_filter(&[DISCARD])?;
        }
        socket.bind_device(Some(interface_name.as_bytes()))?;
        socket.set_priority(QUEUE_PRIORITY)?;
        match family {
            Family::Ipv4 => prepare_ipv4(&socket, interface_index, mode)?,
            Family::Ipv6 => prepare_ipv6(&socket, interface_index, mode)?,
        }
        Ok(Self {
            family,
            socket,
            interface_index,
        })
    }

    /// Sends one VRRP message from `source` to `destination`, both of the socket's family.
    ///
    /// The source is given because the checksum covers it: the kernel's own choice could change.
    ///
    /// # Errors
    /// `EINVAL` when no address of this machine (for IPv6 and except with [`Mode::SendOnly`]: of
    /// this interface, if link-local) is `source`; [`io::ErrorKind::InvalidInput`] for addresses of
    /// another family.
    pub fn send(&self, message: &[u8], source: IpAddr, destination: IpAddr) -> io::Result<()> {
        match (self.family, source, destination) {
            (Family::Ipv4, IpAddr::V4(source), IpAddr::V4(destination)) => {
                self.send_ipv4(message, source, destination)
            }
            (Family::Ipv6, IpAddr::V6(source), IpAddr::V6(destination)) => {
                self.send_ipv6(message, source, destination)
            }
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// Takes the next queued packet; `None` when there is none.
    ///
    /// What doesn't fit into `buffer` (for IPv4 with the IP header) is lost: the message is shorter
    /// then.
    pub fn receive<'buffer>(
        &self,
        buffer: &'buffer mut [u8],
    ) -> io::Result<Option<Datagram<'buffer>>> {
        match self.family {
            Family::Ipv4 => self.receive_ipv4(buffer),
            Family::Ipv6 => self.receive_ipv6(buffer),
        }
    }

    fn send_ipv4(&self, message: &[u8], source: Ipv4Addr, destination: Ipv4Addr) -> io::Result<()> {
        let information = libc::in_pktinfo {
            ipi_ifindex: self.interface_index as libc::c_int,
            ipi_spec_dst: libc::in_addr {
                s_addr: u32::from(source).to_be(),
            },
            ipi_addr: libc::in_addr { s_addr: 0 },
        };
        sendmsg(
            self.socket.as_raw_fd(),
            &[IoSlice::new(message)],
            &[ControlMessage::Ipv4PacketInfo(&information)],
            MsgFlags::MSG_DONTWAIT,
            Some(&SockaddrIn::from(SocketAddrV4::new(destination, 0))),
        )?;
        Ok(())
    }

    fn send_ipv6(&self, message: &[u8], source: Ipv6Addr, destination: Ipv6Addr) -> io::Result<()> {
        let information = libc::in6_pktinfo {
            ipi6_addr: libc::in6_addr {
                s6_addr: source.octets(),
            },
            ipi6_ifindex: self.interface_index,
        };
        let destination = SocketAddrV6::new(destination, 0, 0, self.interface_index);
        sendmsg(
            self.socket.as_raw_fd(),
            &[IoSlice::new(message)],
            &[ControlMessage::Ipv6PacketInfo(&information)],
            MsgFlags::MSG_DONTWAIT,
            Some(&SockaddrIn6::from(destination)),
        )?;
        Ok(())
    }

    /// Raw IPv4 sockets deliver the IP header, which the kernel has checked (raw(7)).
    fn receive_ipv4<'buffer>(
        &self,
        buffer: &'buffer mut [u8],
    ) -> io::Result<Option<Datagram<'buffer>>> {
        let taken = retried(|| recv(self.socket.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT))?;
        let Some(length) = taken else {
            return Ok(None);
        };
        let packet = buffer.get(..length).unwrap_or_default();
        let received = split_ipv4(packet).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Some(received))
    }

    /// Raw IPv6 sockets deliver the message only; what the header says comes beside it (RFC 3542).
    fn receive_ipv6<'buffer>(
        &self,
        buffer: &'buffer mut [u8],
    ) -> io::Result<Option<Datagram<'buffer>>> {
        let mut control = cmsg_space!(libc::in6_pktinfo, libc::c_int);
        let taken = retried(|| {
            let mut parts = [IoSliceMut::new(buffer)];
            let message = recvmsg::<SockaddrIn6>(
                self.socket.as_raw_fd(),
                &mut parts,
                Some(&mut control),
                MsgFlags::MSG_DONTWAIT,
            )?;
            let (mut destination, mut hop_limit) = (None, None);
            for item in message.cmsgs()? {
                match item {
                    ControlMessageOwned::Ipv6PacketInfo(information) => {
                        destination = Some(Ipv6Addr::from(information.ipi6_addr.s6_addr));
                    }
                    ControlMessageOwned::Ipv6HopLimit(limit) => hop_limit = limit.try_into().ok(),
                    _ => {}
                }
            }
            let source = message.address.map(|address| address.ip());
            Ok((message.bytes, source, destination, hop_limit))
        })?;
        let Some((length, source, destination, hop_limit)) = taken else {
            return Ok(None);
        };
        let (Some(source), Some(destination), Some(hop_limit)) = (source, destination, hop_limit)
        else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        Ok(Some(Datagram {
            source: source.into(),
            destination: destination.into(),
            hop_limit,
            message: buffer.get(..length).unwrap_or_default(),
        }))
    }
}

impl AsFd for VrrpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Filter instructions (`linux/filter.h`): all of the packet, or nothing.
const TAKE: SockFilter = SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, u32::MAX);
const DISCARD: SockFilter = SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, 0);

fn prepare_ipv4(socket: &Socket, interface_index: u32, mode: Mode) -> io::Result<()> {
    let time_to_live = u32::from(TIME_TO_LIVE);
    socket.set_tos_v4(TYPE_OF_SERVICE)?;
    socket.set_ttl_v4(time_to_live)?;
    socket.set_multicast_ttl_v4(time_to_live)?;
    socket.set_multicast_loop_v4(false)?;
    // Without this, groups that other programs have joined would be delivered too.
    socket.set_multicast_all_v4(false)?;
    if mode == Mode::Multicast {
        let interface = InterfaceIndexOrAddress::Index(interface_index);
        socket.join_multicast_v4_n(&MULTICAST_GROUP_IPV4, &interface)?;
    }
    Ok(())
}

fn prepare_ipv6(socket: &Socket, interface_index: u32, mode: Mode) -> io::Result<()> {
    let hop_limit = u32::from(TIME_TO_LIVE);
    socket.set_tclass_v6(TYPE_OF_SERVICE)?;
    socket.set_unicast_hops_v6(hop_limit)?;
    socket.set_multicast_hops_v6(hop_limit)?;
    socket.set_multicast_loop_v6(false)?;
    match mode {
        Mode::Multicast => {
            socket.join_multicast_v6(&MULTICAST_GROUP_IPV6, interface_index)?;
            socket.attach_filter(&only_group(MULTICAST_GROUP_IPV6))?;
        }
        Mode::Unicast => socket.attach_filter(&NO_MULTICAST)?,
        // The parent's link-local address, which the kernel doesn't take from another interface.
        Mode::SendOnly => return socket.set_freebind_v6(true),
    }
    setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?;
    socket.set_recv_hoplimit_v6(true)
}

/// Raw IPv6 sockets get what was sent to any group that somebody on this machine has joined, whatever
/// `IPV6_MULTICAST_ALL` says (`raw_v6_match()` in `net/ipv6/raw.c`), so filters keep it away.
const NO_MULTICAST: [SockFilter; 4] = [load(libc::BPF_B, 0), jump_if(0xff, 1, 0), TAKE, DISCARD];

/// Everything but multicast to other groups.
fn only_group(group: Ipv6Addr) -> [SockFilter; 12] {
    let bits = group.to_bits();
    let word = |position: u32| (bits >> (96 - 32 * position)) as u32;
    [
        load(libc::BPF_B, 0),
        jump_if(0xff, 0, 8),
        load(libc::BPF_W, 0),
        jump_if(word(0), 0, 7),
        load(libc::BPF_W, 4),
        jump_if(word(1), 0, 5),
        load(libc::BPF_W, 8),
        jump_if(word(2), 0, 3),
        load(libc::BPF_W, 12),
        jump_if(word(3), 0, 1),
        TAKE,
        DISCARD,
    ]
}

/// Loads a byte or word of the IPv6 header's destination.
const fn load(size: u32, offset: u32) -> SockFilter {
    /// Relative to the IP header, which isn't delivered.
    const IP_HEADER: u32 = libc::SKF_NET_OFF as u32;
    const DESTINATION: u32 = 24;
    let code = (libc::BPF_LD | size | libc::BPF_ABS) as u16;
    SockFilter::new(code, 0, 0, IP_HEADER + DESTINATION + offset)
}

/// Skips so many instructions if what was loaded is `value`, so many others if not.
const fn jump_if(value: u32, equal: u8, different: u8) -> SockFilter {
    let code = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    SockFilter::new(code, equal, different, value)
}

fn split_ipv4(packet: &[u8]) -> Option<Datagram<'_>> {
    let header = packet.first_chunk::<20>()?;
    let [first, .., s0, s1, s2, s3, d0, d1, d2, d3] = *header;
    Some(Datagram {
        source: Ipv4Addr::new(s0, s1, s2, s3).into(),
        destination: Ipv4Addr::new(d0, d1, d2, d3).into(),
        hop_limit: header[8],
        message: packet.get(usize::from(first & 0x0f) * 4..)?,
    })
}

/// `None` when nothing is queued.
fn retried<T>(mut call: impl FnMut() -> nix::Result<T>) -> io::Result<Option<T>> {
    loop {
        match call() {
            Ok(taken) => return Ok(Some(taken)),
            Err(Errno::EAGAIN) => return Ok(None),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn options_belong_to_the_ipv4_header() {
        let mut packet = [0u8; 28];
        packet[0] = 0x46;
        packet[8] = 254;
        packet[12..20].copy_from_slice(&[192, 168, 56, 181, 224, 0, 0, 18]);
        packet[24..].copy_from_slice(b"VRRP");
        let received = split_ipv4(&packet).unwrap();
        assert_eq!(received.source, Ipv4Addr::new(192, 168, 56, 181));
        assert_eq!(received.destination, MULTICAST_GROUP_IPV4);
        assert_eq!(received.hop_limit, 254);
        assert_eq!(received.message, b"VRRP");
        for length in 0..24 {
            assert!(split_ipv4(&packet[..length]).is_none(), "{length} bytes");
        }
    }
}
