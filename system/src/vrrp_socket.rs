//! The raw socket that carries VRRP adverts over IPv4 on one interface.

use std::io;
use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use lvs_proto::vrrp::{IP_PROTOCOL, MULTICAST_GROUP_IPV4, TIME_TO_LIVE};
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrIn, recv, sendmsg};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};

/// Network control traffic (RFC 4594): what keepalived marks its adverts with.
const TYPE_OF_SERVICE: u32 = 0xc0;
/// Above all interactive traffic in the interface's queue (`linux/pkt_sched.h`, `TC_PRIO_CONTROL`
/// is 7; up to 6 needs no capability).
const QUEUE_PRIORITY: u32 = 6;

/// Sends and receives on one interface and in the VRRP multicast group only. Never blocks.
#[derive(Debug)]
pub struct VrrpSocket {
    socket: Socket,
    interface_index: u32,
}

impl VrrpSocket {
    /// Opens the socket in the calling thread's network namespace; needs `CAP_NET_RAW`.
    pub fn open(interface_name: &str, interface_index: u32) -> io::Result<Self> {
        let protocol = Protocol::from(i32::from(IP_PROTOCOL));
        let socket = Socket::new(Domain::IPV4, Type::RAW.nonblocking(), Some(protocol))?;
        socket.bind_device(Some(interface_name.as_bytes()))?;
        socket.set_priority(QUEUE_PRIORITY)?;
        socket.set_tos_v4(TYPE_OF_SERVICE)?;
        socket.set_multicast_ttl_v4(u32::from(TIME_TO_LIVE))?;
        socket.set_multicast_loop_v4(false)?;
        // Without this, groups that other programs have joined would be delivered too.
        socket.set_multicast_all_v4(false)?;
        socket.join_multicast_v4_n(
            &MULTICAST_GROUP_IPV4,
            &InterfaceIndexOrAddress::Index(interface_index),
        )?;
        Ok(Self {
            socket,
            interface_index,
        })
    }

    /// Multicasts one VRRP message from `source`, an address of the interface.
    ///
    /// The source is given because the checksum covers it: the kernel's own choice could change.
    pub fn send(&self, message: &[u8], source: Ipv4Addr) -> io::Result<()> {
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
            Some(&SockaddrIn::from(SocketAddrV4::new(
                MULTICAST_GROUP_IPV4,
                0,
            ))),
        )?;
        Ok(())
    }

    /// Takes the next queued packet, IP header included; `None` when there is none.
    pub fn receive<'buffer>(&self, buffer: &'buffer mut [u8]) -> io::Result<Option<&'buffer [u8]>> {
        loop {
            match recv(self.socket.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => return Ok(buffer.get(..length)),
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl AsFd for VrrpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
