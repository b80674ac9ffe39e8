//! The way of a probe: straight to an address, or through IPVS to a VIP on one real server.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::os::fd::AsRawFd;
use std::time::Duration;

use lvs_system::address;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, SockaddrStorage, recv, recvfrom, setsockopt, sockopt};
use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

use crate::path::Path;

/// Whom a probe asks, and by which way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    to: SocketAddr,
    through: Option<Through>,
}

/// By the way that clients' queries take: IPVS has a service for the mark, whose one destination is the
/// real server.
#[derive(Clone, Copy, Debug)]
struct Through {
    mark: NonZeroU32,
    real_server: IpAddr,
    /// This machine's own address (DIP), which no answer may be sent past.
    source: IpAddr,
    on_link: bool,
}

/// The hops of a probe to a server on a LAN of this machine: one is IPVS', which forwards as a router does,
/// and one the server's own. A server without the VIP that forwards packets, to the Active and by that to a
/// server that is well, says instead that their time is over.
const ON_LINK_HOPS: u32 = 2;

/// What has come.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Received {
    /// A datagram of whom was asked, so long.
    Datagram(usize),
    /// One from the own address of a real server that was asked by the VIP.
    FromOwnAddress(IpAddr),
    /// Anybody's.
    FromElsewhere,
}

impl From<SocketAddr> for Route {
    fn from(to: SocketAddr) -> Self {
        Self { to, through: None }
    }
}

impl Route {
    /// To the VIP of `path` on the machine whose own address is `server`.
    ///
    /// # Errors
    /// When this machine has no way there, or none of its own addresses to ask from.
    pub(crate) fn through(path: &Path, server: SocketAddr) -> io::Result<Self> {
        let Path { vip, mark, on_link } = *path;
        let source = source(vip, server)?;
        Ok(Self {
            to: vip,
            through: Some(Through {
                mark,
                real_server: server.ip(),
                source,
                on_link,
            }),
        })
    }

    /// A socket of its own, so that every query has a port of its own. ICMP errors are its errors.
    ///
    /// One that goes straight is connected: only the server's packets arrive.
    pub(crate) async fn datagrams(&self) -> io::Result<UdpSocket> {
        let Some(through) = &self.through else {
            let socket = UdpSocket::bind((any(self.to), 0)).await?;
            socket.connect(self.to).await?;
            return Ok(socket);
        };
        let socket = UdpSocket::bind((through.source, 0)).await?;
        match self.to {
            SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?,
            SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?,
        }
        through.prepare(&SockRef::from(&socket))?;
        Ok(socket)
    }

    /// Sends a datagram.
    pub(crate) async fn send(&self, socket: &UdpSocket, datagram: &[u8]) -> io::Result<()> {
        match self.through {
            None => socket.send(datagram).await?,
            Some(_) => socket.send_to(datagram, self.to).await?,
        };
        Ok(())
    }

    /// Takes a datagram that has come.
    ///
    /// # Errors
    /// What the kernel says of the socket, that nothing has come too.
    pub(crate) fn receive(&self, socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Received> {
        let Some(through) = &self.through else {
            let length = recv(socket.as_raw_fd(), buffer, MsgFlags::empty())?;
            return Ok(Received::Datagram(length));
        };
        let (length, sender) = recvfrom::<SockaddrStorage>(socket.as_raw_fd(), buffer)?;
        let sender = sender.and_then(|sender| {
            let four = sender
                .as_sockaddr_in()
                .map(|it| (it.ip().into(), it.port()));
            let six = || {
                sender
                    .as_sockaddr_in6()
                    .map(|it| (it.ip().into(), it.port()))
            };
            four.or_else(six)
        });
        Ok(match sender {
            Some(sender) if sender == (self.to.ip(), self.to.port()) => Received::Datagram(length),
            Some(sender) if sender == (through.real_server, self.to.port()) => {
                Received::FromOwnAddress(through.real_server)
            }
            _ => Received::FromElsewhere,
        })
    }

    /// Connects.
    pub(crate) async fn connect(&self) -> io::Result<TcpStream> {
        let Some(through) = &self.through else {
            return TcpStream::connect(self.to).await;
        };
        let socket = match self.to {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        let options = SockRef::from(&socket);
        through.prepare(&options)?;
        // It ends with a reset: the kernel's entry of the connection then goes within 10 s, not 2 min.
        options.set_linger(Some(Duration::ZERO))?;
        socket.bind((through.source, 0).into())?;
        socket.connect(self.to).await
    }
}

impl Through {
    /// Sends a socket's packets this way.
    fn prepare(&self, socket: &SockRef<'_>) -> io::Result<()> {
        socket.set_mark(self.mark.get())?;
        match self.source {
            _ if !self.on_link => Ok(()),
            IpAddr::V4(_) => socket.set_ttl_v4(ON_LINK_HOPS),
            IpAddr::V6(_) => socket.set_unicast_hops_v6(ON_LINK_HOPS),
        }
    }
}

fn any(of_family: SocketAddr) -> IpAddr {
    match of_family {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// The address that this machine speaks to a server from. A server of the other family, behind a tunnel,
/// answers to what this machine would speak to the VIP from.
fn source(vip: SocketAddr, server: SocketAddr) -> io::Result<IpAddr> {
    let towards = if server.is_ipv4() == vip.is_ipv4() {
        server
    } else {
        vip
    };
    let source = address::source_towards(towards.ip())?;
    if source == vip.ip() {
        return Err(Errno::EADDRNOTAVAIL.into());
    }
    Ok(source)
}
