//! Thousands of DNS servers in one: a host that answers at every address of a network, and remembers
//! what it was asked.

use std::io::{IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, sendmsg, setsockopt,
    sockopt,
};

use crate::lab::Host;
use crate::lock::lock;

/// How long it may take to notice that it shall end.
const TICK: Duration = Duration::from_millis(50);
/// Room for what comes while others have the processor.
const RECEIVE_BUFFER: usize = 16 * 1024 * 1024;

/// The servers' network; the last two octets are a server's number, from 1 on.
pub const NETWORK: &str = "10.1.0.0/16";

/// A question that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// When it was read.
    pub at: Instant,
    /// Which server was asked.
    pub server: Ipv4Addr,
    /// From which port.
    pub port: u16,
    /// Its identifier.
    pub identifier: u16,
}

/// The servers at work, until this is dropped.
#[derive(Debug)]
pub struct Crowd {
    questions: Arc<Mutex<Vec<Question>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// The address of a server by its number.
pub fn server(number: u16) -> Ipv4Addr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(10, 1, high, low)
}

impl Crowd {
    /// Answers at port 53 of all of [`NETWORK`] on `host`, but for those servers that are silent.
    ///
    /// # Errors
    /// When the host refuses something.
    pub fn start(host: &Host, is_silent: fn(Ipv4Addr) -> bool) -> Result<Self> {
        host.run(&format!("ip route add local {NETWORK} dev lo"))?;
        let socket = host
            .within(open)
            .with_context(|| format!("no servers on {}", host.name()))?;
        let questions = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (own_questions, own_stop) = (Arc::clone(&questions), Arc::clone(&stop));
        let thread = host.thread(move || {
            while !own_stop.load(Ordering::SeqCst) {
                if let Some(question) = serve(&socket, is_silent) {
                    lock(&own_questions).push(question);
                }
            }
        });
        Ok(Self {
            questions,
            stop,
            thread: Some(thread),
        })
    }

    /// What was asked until now, in order.
    pub fn questions(&self) -> Vec<Question> {
        lock(&self.questions).clone()
    }

    /// Forgets what was asked until now.
    pub fn forget(&self) {
        lock(&self.questions).clear();
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // Its panic would show as missing answers.
            let _ = thread.join();
        }
    }
}

fn open() -> Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 53))?;
    setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
    setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER)?;
    socket.set_read_timeout(Some(TICK))?;
    Ok(socket)
}

/// Takes one question, if one comes soon, and answers it from the address that was asked.
fn serve(socket: &UdpSocket, is_silent: fn(Ipv4Addr) -> bool) -> Option<Question> {
    let mut buffer = [0; 512];
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let mut space = nix::cmsg_space!(nix::libc::in_pktinfo);
    let socket = socket.as_raw_fd();
    let received =
        recvmsg::<SockaddrIn>(socket, &mut parts, Some(&mut space), MsgFlags::empty()).ok()?;
    let at = Instant::now();
    let client = received.address?;
    let mut asked = received.cmsgs().ok()?.filter_map(|message| match message {
        ControlMessageOwned::Ipv4PacketInfo(info) => Some(info),
        _ => None,
    });
    let mut info = asked.next()?;
    let server = Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes());
    let length = received.bytes;
    let question = buffer.get(..length.min(buffer.len()))?;
    let identifier = u16::from_be_bytes(*question.first_chunk()?);
    if !is_silent(server) {
        let answer = answer(question)?;
        info.ipi_ifindex = 0;
        info.ipi_spec_dst = info.ipi_addr;
        // What is lost shows as an unhealthy server.
        let _ = sendmsg(
            socket,
            &[IoSlice::new(&answer)],
            &[ControlMessage::Ipv4PacketInfo(&info)],
            MsgFlags::empty(),
            Some(&client),
        );
    }
    Some(Question {
        at,
        server,
        port: SocketAddr::V4(SocketAddrV4::from(client)).port(),
        identifier,
    })
}

/// The question again, with one A record.
fn answer(question: &[u8]) -> Option<Vec<u8>> {
    let mut answer = question.to_vec();
    *answer.get_mut(2)? |= 0x80;
    *answer.get_mut(3)? = 0x80;
    *answer.get_mut(7)? = 1;
    // The question's name, A, IN, 60 s, 4 octets.
    answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 1, 2, 3, 4]);
    Some(answer)
}
