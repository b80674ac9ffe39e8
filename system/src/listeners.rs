//! Who listens on a port, as the kernel tells it (`linux/inet_diag.h`); nothing is sent or bound.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::NlasIterator;

use crate::netlink::{self, Connection, Request};

/// A socket that takes what comes to a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// What it takes.
    pub transport: Transport,
    /// The address that it is bound to; unspecified is any address.
    pub address: IpAddr,
    /// Bound to an IPv6 address, it takes no IPv4 (`IPV6_V6ONLY`).
    pub only_ipv6: bool,
    /// The one interface whose packets it takes (`SO_BINDTODEVICE`); 0 is any.
    pub interface_index: u32,
}

/// UDP or TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// Sockets without a peer.
    Udp,
    /// Sockets in state LISTEN.
    Tcp,
}

impl Listener {
    /// Whether it takes packets to `address`.
    pub fn takes(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V4(_)) => !self.only_ipv6,
            (IpAddr::V6(own), IpAddr::V4(_)) => {
                own.to_ipv4_mapped().map(IpAddr::V4) == Some(address)
            }
            (own, _) => {
                own == address || (own.is_unspecified() && own.is_ipv4() == address.is_ipv4())
            }
        }
    }
}

/// Lists the sockets that listen on `port`, UDP and TCP, IPv4 and IPv6. The connection's protocol is
/// [`netlink::Protocol::Sockets`].
///
/// # Errors
/// When the kernel can't tell, as without its modules `udp_diag` and `tcp_diag`.
pub fn list(connection: &mut Connection, port: u16) -> Result<Vec<Listener>, netlink::Error> {
    let mut listeners = Vec::new();
    for transport in [Transport::Udp, Transport::Tcp] {
        for family in [libc::AF_INET, libc::AF_INET6] {
            let replies = connection.dump(&request(transport, family as u8, port))?;
            let found = replies
                .iter()
                .filter_map(|reply| parse(transport, &reply.payload));
            listeners.extend(found);
        }
    }
    Ok(listeners)
}

/// `struct inet_diag_req_v2`.
fn request(transport: Transport, family: u8, port: u16) -> Request {
    let (protocol, states) = match transport {
        Transport::Udp => (libc::IPPROTO_UDP, 1_u32 << TCP_CLOSE),
        Transport::Tcp => (libc::IPPROTO_TCP, 1_u32 << TCP_LISTEN),
    };
    let mut payload = vec![family, protocol as u8, 0, 0];
    payload.extend(states.to_ne_bytes());
    payload.extend(port.to_be_bytes());
    payload.resize(REQUEST_LENGTH, 0);
    Request {
        message_type: SOCK_DIAG_BY_FAMILY,
        flags: 0,
        payload,
    }
}

/// `struct inet_diag_msg` and its attributes. `None` for a malformed one.
fn parse(transport: Transport, payload: &[u8]) -> Option<Listener> {
    let address = payload.get(8..24)?;
    let address = match i32::from(*payload.first()?) {
        libc::AF_INET => Ipv4Addr::from(<[u8; 4]>::try_from(address.get(..4)?).ok()?).into(),
        libc::AF_INET6 => Ipv6Addr::from(<[u8; 16]>::try_from(address).ok()?).into(),
        _ => return None,
    };
    let interface_index = u32::from_ne_bytes(payload.get(40..44)?.try_into().ok()?);
    let only_ipv6 = NlasIterator::new(payload.get(MESSAGE_LENGTH..)?)
        .map_while(Result::ok)
        .any(|attribute| attribute.kind() == INET_DIAG_SKV6ONLY && attribute.value() == [1]);
    Some(Listener {
        transport,
        address,
        only_ipv6,
        interface_index,
    })
}

/// `linux/sock_diag.h`.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// `net/tcp_states.h`; a UDP socket without a peer is in the first.
const TCP_CLOSE: u32 = 7;
const TCP_LISTEN: u32 = 10;
const REQUEST_LENGTH: usize = 56;
const MESSAGE_LENGTH: usize = 72;
/// `linux/inet_diag.h`.
const INET_DIAG_SKV6ONLY: u16 = 11;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use socket2::{Domain, Socket, Type};

    use super::*;
    use crate::netlink::Protocol;

    fn on(port: u16, transport: Transport) -> Vec<Listener> {
        let mut connection = Connection::open(Protocol::Sockets).unwrap();
        let mut listeners = list(&mut connection, port).unwrap();
        listeners.retain(|listener| listener.transport == transport);
        listeners
    }

    #[test]
    fn finds_sockets_and_what_they_take() {
        let address: IpAddr = [127, 0, 0, 1].into();
        let other: IpAddr = [127, 0, 0, 2].into();
        let udp = UdpSocket::bind((address, 0)).unwrap();
        let found = on(udp.local_addr().unwrap().port(), Transport::Udp);
        assert_eq!(found.len(), 1);
        assert!(found[0].takes(address) && !found[0].takes(other));
        // One with a peer takes nothing from anybody else.
        udp.connect((other, 9)).unwrap();
        assert!(on(udp.local_addr().unwrap().port(), Transport::Udp).is_empty());

        let tcp = TcpListener::bind("0.0.0.0:0").unwrap();
        let found = on(tcp.local_addr().unwrap().port(), Transport::Tcp);
        assert!(found[0].takes(address) && found[0].takes(other));
        assert!(!found[0].takes(Ipv6Addr::LOCALHOST.into()));
    }

    #[test]
    fn an_ipv6_socket_takes_ipv4_unless_it_was_told_not_to() {
        for only in [false, true] {
            let socket = Socket::new(Domain::IPV6, Type::DGRAM, None).unwrap();
            socket.set_only_v6(only).unwrap();
            socket
                .bind(&std::net::SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)).into())
                .unwrap();
            let port = socket.local_addr().unwrap().as_socket().unwrap().port();
            let found = on(port, Transport::Udp);
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].takes([127, 0, 0, 1].into()), !only);
            assert!(found[0].takes(Ipv6Addr::LOCALHOST.into()));
        }
    }
}
