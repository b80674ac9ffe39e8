//! A server in miniature: answers every DNS question about an address with the same A record.
//!
//! It answers as soon as the machine has the VIP, where BIND would first have to notice.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use hickory_proto::op::{Message, MessageType};
use hickory_proto::rr::{RData, Record};
use socket2::{Domain, Protocol, Socket, Type};

use crate::lab::Host;

/// How long it may take to notice that it shall end.
const TICK: Duration = Duration::from_millis(50);

/// A responder at work, until it is dropped.
#[derive(Debug)]
pub struct Responder {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Responder {
    /// Answers `answer` at port 53 of `address`, which the host need not have yet.
    ///
    /// # Errors
    /// When the host refuses the socket.
    pub fn start(host: &Host, address: impl Into<IpAddr>, answer: Ipv4Addr) -> Result<Self> {
        let address = SocketAddr::new(address.into(), 53);
        let socket = host
            .within(move || open(address))
            .with_context(|| format!("no responder on {}", host.name()))?;
        let stop = Arc::new(AtomicBool::new(false));
        let own = Arc::clone(&stop);
        let thread = host.thread(move || serve(&socket, answer, &own));
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // Its panic would show as missing answers.
            let _ = thread.join();
        }
    }
}

fn open(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    match address {
        SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
        SocketAddr::V6(_) => socket.set_freebind_v6(true)?,
    }
    socket.set_read_timeout(Some(TICK))?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn serve(socket: &UdpSocket, answer: Ipv4Addr, stop: &AtomicBool) {
    let mut buffer = [0; 1024];
    while !stop.load(Ordering::SeqCst) {
        if let Ok((length, client)) = socket.recv_from(&mut buffer)
            && let Some(response) = response(&buffer[..length], answer)
        {
            // Without the address there is no way back, and the question is lost.
            let _ = socket.send_to(&response, client);
        }
    }
}

pub(crate) fn response(question: &[u8], answer: Ipv4Addr) -> Option<Vec<u8>> {
    let mut message = Message::from_vec(question).ok()?;
    let name = message.queries.first()?.name().clone();
    message.metadata.message_type = MessageType::Response;
    message.add_answer(Record::from_rdata(name, 0, RData::A(answer.into())));
    message.to_vec().ok()
}
