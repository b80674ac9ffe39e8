//! One question over UDP or TCP, from the socket to the judgement.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use lvs_proto::dns::{Fault, Frame, Judgement, Probe, frame};
use lvs_proto::ipvs::Protocol;
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
    Socket(#[from] io::Error),
    /// The answer isn't good enough.
    #[error("{0}")]
    Fault(Fault),
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
            return Err(Failure::Socket(io::ErrorKind::UnexpectedEof.into()));
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
