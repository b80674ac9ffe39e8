//! DNS questions: at a steady rate from a thread, once from a thread, and by the real `dig`.

use std::collections::HashMap;
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use nix::poll::{PollFd, PollFlags, ppoll};
use socket2::{Domain, Protocol, Socket, Type};

use crate::lab::Host;
use crate::traffic::{Load, Log, Outcome};

/// The name whose answer tells the real servers of [`crate::bind`] apart.
pub const NAME: &str = "www.abc.local";

/// Where questions come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// All from this port, as a resolver behind NAT or with a fixed `query-source` sends them.
    Port(u16),
    /// Each from a port of its own.
    FreshPorts,
}

/// How to ask.
#[derive(Clone, Debug)]
pub struct Questions {
    server: SocketAddr,
    name: String,
    interval: Duration,
    timeout: Duration,
    source: Source,
    tcp: bool,
}

impl Questions {
    /// Asks port 53 of `server` for the A record of [`NAME`] over UDP, 50 times a second from
    /// fresh ports; an answer may take 1 s.
    pub fn new(server: Ipv4Addr) -> Self {
        Self::at(server)
    }

    /// As [`Questions::new`], of either family.
    pub fn at(server: impl Into<IpAddr>) -> Self {
        Self {
            server: SocketAddr::new(server.into(), 53),
            name: NAME.into(),
            interval: Duration::from_millis(20),
            timeout: Duration::from_secs(1),
            source: Source::FreshPorts,
            tcp: false,
        }
    }

    /// Asks for the A record of another name.
    pub fn name(self, name: &str) -> Self {
        Self {
            name: name.into(),
            ..self
        }
    }

    /// The time from question to question.
    pub fn every(self, interval: Duration) -> Self {
        Self { interval, ..self }
    }

    /// How long an answer may take before the question counts as lost.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Asks over UDP always from this source port.
    pub fn from_port(self, port: u16) -> Self {
        Self {
            source: Source::Port(port),
            ..self
        }
    }

    /// Asks over TCP, a connection a question, from fresh ports.
    pub fn over_tcp(self) -> Self {
        Self { tcp: true, ..self }
    }

    /// Starts asking from `host`.
    pub fn start(self, host: &Host) -> Load {
        if self.tcp {
            Load::start(host, move |log| tcp_client(&self, log))
        } else {
            Load::start(host, move |log| udp_client(&self, log))
        }
    }

    /// Asks once from `host` and returns the first address of the answer.
    ///
    /// # Errors
    /// When nothing, an error or an answer without an address came.
    pub fn ask(self, host: &Host) -> Result<String> {
        host.thread(move || {
            if self.tcp {
                return self.ask_tcp();
            }
            let socket = self.socket()?;
            socket.set_read_timeout(Some(self.timeout))?;
            socket.send(&question(0, &self.name)?)?;
            let mut buffer = [0; 4096];
            let length = socket.recv(&mut buffer)?;
            let (_, answer) = parse(&buffer[..length]).context("the answer is no DNS message")?;
            answer.map_err(anyhow::Error::msg)
        })
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    fn socket(&self) -> Result<UdpSocket> {
        let socket = Socket::new(
            Domain::for_address(self.server),
            Type::DGRAM,
            Some(Protocol::UDP),
        )?;
        socket.set_reuse_address(true)?;
        let port = match self.source {
            Source::Port(port) => port,
            Source::FreshPorts => 0,
        };
        let own: IpAddr = match self.server {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        socket.bind(&SocketAddr::new(own, port).into())?;
        socket.connect(&self.server.into())?;
        Ok(socket.into())
    }

    fn ask_tcp(&self) -> Result<String> {
        let mut stream = TcpStream::connect_timeout(&self.server, self.timeout)?;
        stream.set_read_timeout(Some(self.timeout))?;
        let message = question(0, &self.name)?;
        let mut framed = (message.len() as u16).to_be_bytes().to_vec();
        framed.extend(message);
        stream.write_all(&framed)?;
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut answer)?;
        let (_, answer) = parse(&answer).context("the answer is no DNS message")?;
        answer.map_err(anyhow::Error::msg)
    }
}

/// Runs the real `dig +short` on `host` and returns the lines of the answer.
///
/// `options` are dig's own, such as `"+tcp"` or `"-b 192.168.56.10#40000"`.
///
/// # Errors
/// When dig reports that no server answered.
pub fn dig(host: &Host, server: impl fmt::Display, options: &str) -> Result<Vec<String>> {
    let arguments = format!("@{server} {NAME} A +short +time=1 +tries=1 {options}");
    let output = host.output("dig", arguments.split_whitespace(), Duration::from_secs(10))?;
    if !output.success() {
        bail!("dig {arguments}: {}{}", output.stdout, output.stderr);
    }
    Ok(output.stdout.lines().map(str::to_owned).collect())
}

/// A question that can still be answered.
struct Open {
    attempt: usize,
    deadline: Instant,
    /// The port of its own, unless all share one.
    socket: Option<UdpSocket>,
}

fn udp_client(questions: &Questions, log: &Log) {
    let shared = match questions.source {
        Source::Port(_) => Some(or_panic(questions.socket())),
        Source::FreshPorts => None,
    };
    let mut open: HashMap<u16, Open> = HashMap::new();
    let mut id: u16 = rand::random();
    let mut next = Instant::now();
    while log.wanted() || !open.is_empty() {
        let now = Instant::now();
        if log.wanted() && now >= next {
            id = id.wrapping_add(1);
            let own = match shared {
                Some(_) => None,
                None => Some(or_panic(questions.socket())),
            };
            let attempt = log.sent();
            if let Some(socket) = own.as_ref().or(shared.as_ref()) {
                send(socket, &or_panic(question(id, &questions.name)));
            }
            open.insert(
                id,
                Open {
                    attempt,
                    deadline: now + questions.timeout,
                    socket: own,
                },
            );
            next = (next + questions.interval).max(now);
        }
        let first = open.values().map(|question| question.deadline).min();
        let until = if log.wanted() {
            first.map_or(next, |first| first.min(next))
        } else {
            first.unwrap_or(now)
        };
        let sockets: Vec<&UdpSocket> = shared
            .iter()
            .chain(
                open.values()
                    .filter_map(|question| question.socket.as_ref()),
            )
            .collect();
        let mut ended = Vec::new();
        for position in readable(&sockets, until.saturating_duration_since(now)) {
            receive(sockets[position], &open, log, &mut ended);
        }
        for id in ended {
            open.remove(&id);
        }
        // What was there at that time has been read, however long this thread was held up.
        open.retain(|_, question| {
            if question.deadline <= now {
                log.ended(question.attempt, Outcome::Lost);
            }
            question.deadline > now
        });
    }
}

/// Sends; an error that an earlier question left on the socket is cleared by the first attempt.
fn send(socket: &UdpSocket, message: &[u8]) {
    if socket.send(message).is_err() {
        // Without a route the question is lost, like any other.
        let _ = socket.send(message);
    }
}

/// The positions of the sockets that have something to read.
fn readable(sockets: &[&UdpSocket], wait: Duration) -> Vec<usize> {
    let mut descriptors: Vec<PollFd<'_>> = sockets
        .iter()
        .map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN))
        .collect();
    // Bounded, so that a stop is noticed.
    let wait = wait.min(Duration::from_millis(50));
    if ppoll(&mut descriptors, Some(wait.into()), None).is_err() {
        return Vec::new();
    }
    descriptors
        .iter()
        .enumerate()
        .filter(|(_, descriptor)| descriptor.any() == Some(true))
        .map(|(position, _)| position)
        .collect()
}

/// Reads all that a socket has and adds the ids of the questions that this ends.
fn receive(socket: &UdpSocket, open: &HashMap<u16, Open>, log: &Log, ended: &mut Vec<u16>) {
    let mut buffer = [0; 4096];
    if socket.set_nonblocking(true).is_err() {
        return;
    }
    loop {
        match socket.recv(&mut buffer) {
            Ok(length) => {
                let Some((id, answer)) = parse(&buffer[..length]) else {
                    continue;
                };
                let Some(question) = open.get(&id) else {
                    continue;
                };
                log.ended(
                    question.attempt,
                    match answer {
                        Ok(by) => Outcome::Answered {
                            at: Instant::now(),
                            by,
                        },
                        Err(reason) => Outcome::Refused(reason),
                    },
                );
                ended.push(id);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => {
                // An ICMP error belongs to the question of this socket, if it has only one.
                let own = open.iter().find(|(_, question)| {
                    question
                        .socket
                        .as_ref()
                        .is_some_and(|own| std::ptr::eq(own, socket))
                });
                if let Some((id, question)) = own {
                    log.ended(question.attempt, Outcome::Refused(error.to_string()));
                    ended.push(*id);
                    break;
                }
            }
        }
    }
}

/// A thread for each question, since connecting and reading block.
fn tcp_client(questions: &Questions, log: &Log) {
    let mut next = Instant::now();
    std::thread::scope(|scope| {
        while log.wanted() {
            let attempt = log.sent();
            scope.spawn(move || {
                log.ended(
                    attempt,
                    match questions.ask_tcp() {
                        Ok(by) => Outcome::Answered {
                            at: Instant::now(),
                            by,
                        },
                        Err(error) => Outcome::Refused(error.to_string()),
                    },
                );
            });
            next += questions.interval;
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    });
}

fn question(id: u16, name: &str) -> Result<Vec<u8>> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    let mut name = Name::from_str(name)?;
    name.set_fqdn(true);
    message.add_query(Query::query(name, RecordType::A));
    Ok(message.to_vec()?)
}

/// The id of a response and its first address, or what it says instead.
fn parse(bytes: &[u8]) -> Option<(u16, Result<String, String>)> {
    let message = Message::from_vec(bytes).ok()?;
    let code = message.metadata.response_code;
    let address = message
        .answers
        .iter()
        .find_map(|record| match &record.data {
            RData::A(address) => Some(address.0.to_string()),
            _ => None,
        });
    let answer = match (code, address) {
        (ResponseCode::NoError, Some(address)) => Ok(address),
        (ResponseCode::NoError, None) => Err("no address".into()),
        (code, _) => Err(code.to_string()),
    };
    Some((message.metadata.id, answer))
}

fn or_panic<T>(result: Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("a DNS client of the lab: {error:#}"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::A;

    use super::*;

    fn response(code: ResponseCode, address: Option<Ipv4Addr>) -> Vec<u8> {
        let mut message = Message::response(7, OpCode::Query);
        message.metadata.response_code = code;
        let name = Name::from_str("www.abc.local.").unwrap();
        if let Some(address) = address {
            message.add_answer(Record::from_rdata(name, 60, RData::A(A(address))));
        }
        message.to_vec().unwrap()
    }

    #[test]
    fn a_question_is_a_query_for_one_address() {
        let message = Message::from_vec(&question(7, NAME).unwrap()).unwrap();
        assert_eq!(message.metadata.id, 7);
        assert_eq!(message.queries.len(), 1);
        assert_eq!(message.queries[0].name().to_string(), "www.abc.local.");
        assert_eq!(message.queries[0].query_type(), RecordType::A);
    }

    #[test]
    fn only_an_address_is_an_answer() {
        let address = Some(Ipv4Addr::new(1, 2, 3, 4));
        let read = |bytes: &[u8]| parse(bytes).unwrap();
        assert_eq!(
            read(&response(ResponseCode::NoError, address)),
            (7, Ok("1.2.3.4".into()))
        );
        assert_eq!(
            read(&response(ResponseCode::NoError, None)),
            (7, Err("no address".into()))
        );
        assert!(read(&response(ResponseCode::ServFail, address)).1.is_err());
        assert_eq!(parse(&[0; 5]), None);
    }
}
