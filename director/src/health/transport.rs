//! One question over UDP or TCP, from the socket to the judgement.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use lvs_proto::dns::{Fault, Frame, Judgement, Probe, frame};
use lvs_proto::ipvs::Protocol;
use nix::errno::Errno;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

/// What a UDP answer without EDNS can't exceed by much; longer datagrams are cut and judged by
/// their header.
const DATAGRAM_LENGTH: usize = 4096;

/// Why a probe failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Nothing that answers the question came in time.
    #[error("no answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// The server's host said that nobody listens, or the server closed the connection.
    #[error("{0}")]
    Socket(io::Error),
    /// This machine couldn't ask: it says nothing about the server.
    #[error("{0}")]
    Local(io::Error),
    /// The answer isn't good enough.
    #[error("{0}")]
    Fault(Fault),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let local = [
            Errno::EMFILE,
            Errno::ENFILE,
            Errno::ENOBUFS,
            Errno::ENOMEM,
            Errno::EADDRNOTAVAIL,
            Errno::ENETUNREACH,
            Errno::ENETDOWN,
            Errno::EPERM,
        ];
        let errno = error.raw_os_error().map(Errno::from_raw);
        if errno.is_some_and(|errno| local.contains(&errno)) {
            Self::Local(error)
        } else {
            Self::Socket(error)
        }
    }
}

/// Asks `server` once.
///
/// # Errors
/// When there is no good answer within `timeout`.
pub(super) async fn ask(
    probe: &Probe,
    protocol: Protocol,
    server: SocketAddr,
    timeout: Duration,
) -> Result<(), Failure> {
    let identifier = rand::random();
    let asked = async {
        match protocol {
            Protocol::Udp => ask_udp(probe, identifier, server).await,
            Protocol::Tcp => ask_tcp(probe, identifier, server).await,
        }
    };
    tokio::time::timeout(timeout, asked)
        .await
        .unwrap_or(Err(Failure::TimedOut(timeout)))
}

/// A fresh socket a probe, so that every probe has a port of its own; connected, so that only the
/// server's packets arrive and ICMP errors do too.
async fn ask_udp(probe: &Probe, identifier: u16, server: SocketAddr) -> Result<(), Failure> {
    let socket = UdpSocket::bind(("0.0.0.0", 0)).await?;
    socket.connect(server).await?;
    socket.send(&probe.query(identifier)).await?;
    let mut buffer = [0; DATAGRAM_LENGTH];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if let Some(result) = settled(probe.judge(identifier, &buffer[..length])) {
            return result;
        }
    }
}

async fn ask_tcp(probe: &Probe, identifier: u16, server: SocketAddr) -> Result<(), Failure> {
    let mut stream = TcpStream::connect(server).await?;
    stream.set_nodelay(true)?;
    let query = frame(&probe.query(identifier)).expect("a query of one question is short");
    stream.write_all(&query).await?;
    let mut received = Vec::new();
    loop {
        while let Frame::Whole { message, rest } = Frame::split(&received) {
            if let Some(result) = settled(probe.judge(identifier, message)) {
                return result;
            }
            received = rest.to_vec();
        }
        if stream.read_buf(&mut received).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
}

/// `None` for what isn't the answer: the next message may be.
fn settled(judgement: Judgement) -> Option<Result<(), Failure>> {
    match judgement {
        Judgement::Ignore(_) => None,
        Judgement::Pass => Some(Ok(())),
        Judgement::Fail(fault) => Some(Err(Failure::Fault(fault))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::Ipv4Addr;

    use lvs_proto::dns::{Name, RecordType};
    use tokio::net::TcpListener;

    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(300);

    fn probe() -> Probe {
        Probe {
            name: "www.abc.local".parse::<Name>().unwrap(),
            record_type: RecordType::A,
            recursion_desired: true,
        }
    }

    /// A server's answer to `query`: the question again, with one A record or none.
    fn answer(query: &[u8], response_code: u8) -> Vec<u8> {
        let mut message = query.to_vec();
        message[2] |= 0x80;
        message[3] = response_code;
        if response_code == 0 {
            message[7] = 1;
            // The question's name, A, IN, 60 s, 4 octets.
            message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 1, 2, 3, 4]);
        }
        message
    }

    /// Answers one query with all that `reply` makes of it.
    async fn udp_server(reply: fn(&[u8]) -> Vec<Vec<u8>>) -> SocketAddr {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            let (length, client) = socket.recv_from(&mut buffer).await.unwrap();
            for datagram in reply(&buffer[..length]) {
                socket.send_to(&datagram, client).await.unwrap();
            }
            // Kept open: a closed socket would answer for it.
            std::future::pending::<()>().await;
        });
        address
    }

    async fn ask_once(protocol: Protocol, server: SocketAddr) -> Result<(), Failure> {
        ask(&probe(), protocol, server, TIMEOUT).await
    }

    #[tokio::test]
    async fn what_is_not_the_answer_is_waited_through() {
        let server = udp_server(|query| {
            let mut forged = answer(query, 2);
            forged[0] ^= 0xff;
            vec![forged, vec![1, 2, 3], answer(query, 0)]
        })
        .await;
        ask_once(Protocol::Udp, server).await.unwrap();
    }

    #[tokio::test]
    async fn a_bad_answer_fails_at_once_and_silence_in_time() {
        let refuses = udp_server(|query| vec![answer(query, 5)]).await;
        let failure = ask_once(Protocol::Udp, refuses).await.unwrap_err();
        assert_eq!(failure.to_string(), "REFUSED");
        let silent = udp_server(|_| Vec::new()).await;
        let failure = ask_once(Protocol::Udp, silent).await.unwrap_err();
        assert_eq!(failure.to_string(), "no answer within 300 ms");
    }

    #[tokio::test]
    async fn a_closed_port_fails_without_waiting() {
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let address = free.local_addr().unwrap();
            drop(free);
            let failure = ask_once(protocol, address).await.unwrap_err();
            let Failure::Socket(error) = failure else {
                panic!("{failure}")
            };
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        }
    }

    #[test]
    fn what_this_machine_lacks_is_not_the_servers_fault() {
        let failure = |errno: Errno| Failure::from(io::Error::from(errno));
        assert!(matches!(failure(Errno::EMFILE), Failure::Local(_)));
        assert!(matches!(failure(Errno::ECONNREFUSED), Failure::Socket(_)));
        assert!(matches!(failure(Errno::EHOSTUNREACH), Failure::Socket(_)));
    }

    #[tokio::test]
    async fn an_answer_over_tcp_may_come_in_pieces() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let length = stream.read_u16().await.unwrap();
            let mut query = vec![0; usize::from(length)];
            stream.read_exact(&mut query).await.unwrap();
            for piece in frame(&answer(&query, 0)).unwrap().chunks(7) {
                stream.write_all(piece).await.unwrap();
                stream.flush().await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        ask_once(Protocol::Tcp, address).await.unwrap();
    }
}
