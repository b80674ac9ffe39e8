//! A DNS server that does one thing wrong, over UDP and TCP.
//!
//! It answers for address and authority records only, at one address of a host; several share a host.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::lab::Host;

/// What it does to every query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Behaviour {
    /// Answers as an authority: AA.
    Authority,
    /// Answers as a resolver: RA.
    Resolver,
    /// FORMERR to a query with EDNS, otherwise a good answer with AA and RA.
    WithoutEdns,
    /// BADCOOKIE to a query without its own cookie, otherwise a good answer with AA and RA.
    WantsItsCookie,
    /// NOERROR with AA and RA, and no record.
    NoRecord,
    /// This response code, by its number, with AA and RA.
    ResponseCode(u8),
    /// A good answer under another identifier.
    OtherIdentifier,
    /// A good answer to another question.
    OtherQuestion,
    /// Octets that are no DNS message.
    Garbage,
    /// A good answer that ends before its record does.
    CutShort,
    /// TC over UDP, a good answer over TCP.
    Truncated,
    /// TC over UDP, and nobody listens on TCP.
    TruncatedWithoutTcp,
    /// Takes the query and says nothing.
    Silent,
    /// A good answer after this time.
    Slow(Duration),
    /// A good answer over UDP, and nobody listens on TCP.
    WithoutTcp,
    /// A good answer over UDP; connections are taken and never answered.
    SilentTcp,
    /// The same as an authority, for the zone's serial.
    Serial(u32),
}

/// How often threads look whether they shall end.
const TICK: Duration = Duration::from_millis(50);

const AA: u8 = 0x04;
const TC: u8 = 0x02;
const RA: u8 = 0x80;
const HEADER: usize = 12;

/// A server at work, until it is dropped.
#[derive(Debug)]
pub struct Misbehaving {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Misbehaving {
    /// Serves port 53 of `address`, which the host has.
    ///
    /// # Errors
    /// When the host refuses a socket.
    pub fn start(host: &Host, address: Ipv4Addr, behaviour: Behaviour) -> Result<Self> {
        let address = SocketAddr::from((address, 53));
        let sockets = host.within(move || -> io::Result<_> {
            let udp = UdpSocket::bind(address)?;
            udp.set_read_timeout(Some(TICK))?;
            if !behaviour.listens_on_tcp() {
                return Ok((udp, None));
            }
            let tcp = TcpListener::bind(address)?;
            tcp.set_nonblocking(true)?;
            Ok((udp, Some(tcp)))
        });
        let (udp, tcp) =
            sockets.with_context(|| format!("no server at {address} on {}", host.name()))?;
        let stop = Arc::new(AtomicBool::new(false));
        let own = Arc::clone(&stop);
        let mut threads = vec![host.thread(move || serve_udp(&udp, behaviour, &own))];
        if let Some(tcp) = tcp {
            let own = Arc::clone(&stop);
            threads.push(host.thread(move || serve_tcp(&tcp, behaviour, &own)));
        }
        Ok(Self { stop, threads })
    }
}

impl Drop for Misbehaving {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            // Its panic would show as missing answers.
            let _ = thread.join();
        }
    }
}

impl Behaviour {
    fn listens_on_tcp(self) -> bool {
        !matches!(self, Self::TruncatedWithoutTcp | Self::WithoutTcp)
    }

    /// What it answers, if anything, and after which time.
    fn answer(self, query: &[u8], over_tcp: bool) -> Option<(Duration, Vec<u8>)> {
        let question = Question::read(query)?;
        let with_edns = query.get(11) != Some(&0);
        let both = AA | RA;
        let message = match self {
            Self::Authority => question.answered(AA, 1),
            Self::Resolver => question.answered(RA, 1),
            Self::WithoutEdns if with_edns => question.with_code(1),
            Self::WantsItsCookie if !over_tcp => question.for_cookie(query),
            Self::NoRecord => question.with_code(0),
            Self::ResponseCode(code) => question.with_code(code),
            Self::OtherIdentifier => {
                let mut message = question.answered(both, 1);
                message[0] ^= 0xff;
                message
            }
            Self::OtherQuestion => {
                let mut message = question.answered(both, 1);
                // The first letter of the name is another one.
                message[HEADER + 1] ^= 1;
                message
            }
            Self::Garbage => b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
            Self::CutShort => {
                let mut message = question.answered(both, 1);
                message.truncate(message.len() - 3);
                message
            }
            Self::Truncated | Self::TruncatedWithoutTcp if !over_tcp => {
                let mut message = question.with_code(0);
                message[2] |= TC;
                message
            }
            Self::Silent => return None,
            Self::SilentTcp if over_tcp => return None,
            Self::Slow(time) => return Some((time, question.answered(both, 1))),
            Self::Serial(serial) => question.answered(both, serial),
            Self::WithoutEdns
            | Self::WantsItsCookie
            | Self::Truncated
            | Self::TruncatedWithoutTcp
            | Self::WithoutTcp
            | Self::SilentTcp => question.answered(both, 1),
        };
        Some((Duration::ZERO, message))
    }
}

/// A query's identifier, flags and question.
struct Question<'q> {
    header: &'q [u8; HEADER],
    /// Name, type and class.
    octets: &'q [u8],
}

impl<'q> Question<'q> {
    fn read(query: &'q [u8]) -> Option<Self> {
        let (header, rest) = query.split_first_chunk::<HEADER>()?;
        let name = rest.iter().position(|octet| *octet == 0)? + 1;
        Some(Self {
            header,
            octets: rest.get(..name + 4)?,
        })
    }

    /// No records, AA and RA.
    fn with_code(&self, code: u8) -> Vec<u8> {
        let [id0, id1, flags, ..] = *self.header;
        let recursion_desired = flags & 1;
        let mut message = vec![id0, id1, 0x80 | AA | recursion_desired, RA | code];
        message.extend([0, 1, 0, 0, 0, 0, 0, 0]);
        message.extend(self.octets);
        message
    }

    /// NOERROR with AA or RA or both, and one record: 192.0.2.1, or an authority of this serial.
    fn answered(&self, flags: u8, serial: u32) -> Vec<u8> {
        let mut message = self.with_code(0);
        message[2] &= !AA | flags;
        message[3] &= !RA | flags;
        message[7] = 1;
        let kind = &self.octets[self.octets.len() - 4..];
        // The question's name, type and class, and a time to live of 60 s.
        message.extend([0xc0, 12]);
        message.extend(kind);
        message.extend([0, 0, 0, 60]);
        if kind[..2] == [0, 6] {
            // Both names are the question's.
            message.extend([0, 24, 0xc0, 12, 0xc0, 12]);
            for number in [serial, 3600, 600, 86_400, 60] {
                message.extend(number.to_be_bytes());
            }
        } else {
            message.extend([0, 4, 192, 0, 2, 1]);
        }
        message
    }

    /// BADCOOKIE and a server's cookie, or a good answer to who has sent that one.
    fn for_cookie(&self, query: &[u8]) -> Vec<u8> {
        const OURS: &[u8] = b"servers.";
        let sent = query
            .windows(4)
            .position(|it| matches!(it, [0, 10, 0, 8 | 16]));
        let client = sent.and_then(|place| query.get(place + 4..place + 12));
        let Some(client) = client.filter(|_| !query.ends_with(OURS)) else {
            return self.answered(AA | RA, 1);
        };
        let mut message = self.with_code(7);
        message[11] = 1;
        // EDNS with the upper bits of BADCOOKIE.
        message.extend([0, 0, 41, 4, 0xd0, 1, 0, 0, 0, 0, 20, 0, 10, 0, 16]);
        message.extend(client);
        message.extend(OURS);
        message
    }
}

fn serve_udp(socket: &UdpSocket, behaviour: Behaviour, stop: &AtomicBool) {
    let mut buffer = [0; 4096];
    while !stop.load(Ordering::SeqCst) {
        let Ok((length, client)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        if let Some((after, answer)) = behaviour.answer(&buffer[..length], false) {
            std::thread::sleep(after);
            // Who asked may be gone.
            let _ = socket.send_to(&answer, client);
        }
    }
}

/// A thread a connection, which ends when the client closes it.
fn serve_tcp(listener: &TcpListener, behaviour: Behaviour, stop: &AtomicBool) {
    while !stop.load(Ordering::SeqCst) {
        match listener.accept() {
            // The client may have gone.
            Ok((stream, _)) => drop(std::thread::spawn(move || answer_stream(stream, behaviour))),
            Err(_) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

fn answer_stream(mut stream: TcpStream, behaviour: Behaviour) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut query)?;
        if let Some((after, answer)) = behaviour.answer(&query, true) {
            std::thread::sleep(after);
            let length = u16::try_from(answer.len()).unwrap_or(u16::MAX);
            stream.write_all(&[&length.to_be_bytes(), &answer[..]].concat())?;
        }
    }
}
