//! Whether a port answers at all: over TCP, and over UDP for what isn't DNS.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpStream, UdpSocket};

use crate::check::UdpCheck;
use crate::failure::Failure;
use crate::probe::Good;

/// Opens a connection and closes it.
///
/// # Errors
/// When it isn't open within `limit`.
pub(crate) async fn connect(server: SocketAddr, limit: Duration) -> Result<Good, Failure> {
    let connected = tokio::time::timeout(limit, TcpStream::connect(server)).await;
    connected.map_err(|_| Failure::TimedOut(limit))??;
    Ok(Good::answer())
}

/// Sends a datagram, and takes silence for health where no reply is required: a host says when
/// nobody listens, and many protocols have no answer to what they don't know.
///
/// # Errors
/// When nobody listens, or a required reply doesn't come within `limit`.
pub(crate) async fn send(
    check: &UdpCheck,
    server: SocketAddr,
    limit: Duration,
) -> Result<Good, Failure> {
    let socket = connected(server).await?;
    socket.send(&check.payload).await?;
    match tokio::time::timeout(limit, socket.recv(&mut [0; 1])).await {
        Ok(received) => {
            received?;
            Ok(Good::answer())
        }
        Err(_) if check.require_reply => Err(Failure::TimedOut(limit)),
        Err(_) => Ok(Good::silence()),
    }
}

/// A fresh socket, so with a port of its own; connected, so that only the server's packets arrive and
/// ICMP errors do too.
async fn connected(server: SocketAddr) -> std::io::Result<UdpSocket> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use lvs_proto::health::FailureKind;
    use tokio::net::TcpListener;

    use super::*;

    const LIMIT: Duration = Duration::from_millis(100);

    async fn closed() -> SocketAddr {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        free.local_addr().unwrap()
    }

    fn check(payload: &str, require_reply: bool) -> UdpCheck {
        UdpCheck {
            payload: payload.into(),
            require_reply,
        }
    }

    #[tokio::test]
    async fn a_port_that_accepts_is_enough() {
        let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.unwrap();
        let server = listener.local_addr().unwrap();
        assert!(connect(server, LIMIT).await.unwrap().answered);
        let failure = connect(closed().await, LIMIT).await.unwrap_err();
        assert_eq!(failure.kind(), FailureKind::Refused);
    }

    #[tokio::test]
    async fn silence_is_health_where_no_reply_is_required() {
        let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let server = silent.local_addr().unwrap();
        let good = send(&check("", false), server, LIMIT).await.unwrap();
        assert!(!good.answered);
        let failure = send(&check("", true), server, LIMIT).await.unwrap_err();
        assert_eq!(failure.to_string(), "no answer within 100 ms");
    }

    #[tokio::test]
    async fn nobody_listens_whatever_is_required() {
        for require_reply in [false, true] {
            let check = check("", require_reply);
            let failure = send(&check, closed().await, LIMIT).await.unwrap_err();
            assert_eq!(failure.kind(), FailureKind::Refused);
        }
    }

    #[tokio::test]
    async fn what_is_configured_is_sent_and_any_reply_counts() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let server = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 16];
            let (length, client) = socket.recv_from(&mut buffer).await.unwrap();
            if &buffer[..length] == b"ping" {
                socket.send_to(b"", client).await.unwrap();
            }
            std::future::pending::<()>().await;
        });
        let good = send(&check("ping", true), server, LIMIT).await.unwrap();
        assert!(good.answered);
    }
}
