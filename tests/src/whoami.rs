//! Servers that answer with the name of their host, over UDP, TCP and SCTP, and who asks them.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, ppoll};
use socket2::{Domain, Protocol, Socket, Type};

use crate::lab::Host;

/// How long it may take to notice that it shall end.
const TICK: Duration = Duration::from_millis(50);

/// How long an answer may take on an emulated processor.
const TIMEOUT: Duration = Duration::from_secs(2);

/// How long a connection may be idle.
const SILENCE: Duration = Duration::from_secs(60);

/// How a question travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// A datagram there, a datagram back.
    Udp,
    /// A connection.
    Tcp,
    /// An association.
    Sctp,
}

impl Transport {
    fn socket(self, address: SocketAddr) -> std::io::Result<Socket> {
        let (kind, protocol) = match self {
            Self::Udp => (Type::DGRAM, Protocol::UDP),
            Self::Tcp => (Type::STREAM, Protocol::TCP),
            Self::Sctp => (Type::STREAM, Protocol::SCTP),
        };
        let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        Ok(socket)
    }
}

/// Servers at work on a host, until this is dropped.
#[derive(Debug)]
pub struct Whoami {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Whoami {
    /// Answers at these places. An address that the host doesn't have yet is fine.
    ///
    /// # Errors
    /// When the host refuses a socket.
    pub fn start(
        host: &Host,
        places: impl IntoIterator<Item = (Transport, SocketAddr)>,
    ) -> Result<Self> {
        let places: Vec<_> = places.into_iter().collect();
        let listeners: Vec<Listener> = host
            .within(move || {
                places
                    .into_iter()
                    .map(Listener::open)
                    .collect::<Result<_>>()
            })
            .with_context(|| format!("no server on {}", host.name()))?;
        let stop = Arc::new(AtomicBool::new(false));
        let (own, name) = (Arc::clone(&stop), host.name().to_owned());
        let thread = host.thread(move || {
            while !own.load(Ordering::SeqCst) {
                for listener in readable(&listeners) {
                    listener.serve(&name);
                }
            }
        });
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Whoami {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // Its panic would show as missing answers.
            let _ = thread.join();
        }
    }
}

/// Asks who is behind an address, each time from another port.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    transport: Transport,
    server: SocketAddr,
    from_port: u16,
}

impl Question {
    /// Asks this place.
    pub fn new(transport: Transport, server: SocketAddr) -> Self {
        Self {
            transport,
            server,
            from_port: 0,
        }
    }

    /// Asks always from this port; UDP only, since a connection blocks its port for a while.
    pub fn from_port(self, from_port: u16) -> Self {
        Self { from_port, ..self }
    }

    /// Asks from `host` so often, one after the other, and counts the names.
    ///
    /// # Errors
    /// When one wasn't answered within 2 s; it says which.
    pub fn ask(self, host: &Host, count: usize) -> Result<BTreeMap<String, usize>> {
        let mut names = BTreeMap::new();
        for name in self.ask_in_turn(host, count)? {
            *names.entry(name).or_insert(0) += 1;
        }
        Ok(names)
    }

    /// The same, with the names in the order they came.
    ///
    /// # Errors
    /// As [`Question::ask`].
    pub fn ask_in_turn(self, host: &Host, count: usize) -> Result<Vec<String>> {
        let asking = host.thread(move || {
            let mut names = Vec::new();
            for number in 1..=count {
                let name = self.ask_here();
                names.push(name.with_context(|| {
                    let Self {
                        transport, server, ..
                    } = self;
                    format!("{transport:?} to {server}, question {number}, after {names:?}")
                })?);
            }
            Ok(names)
        });
        asking
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    fn ask_here(self) -> Result<String> {
        if self.transport != Transport::Udp {
            return Conversation::open_here(self.transport, self.server)?.ask();
        }
        let socket = self.transport.socket(self.server)?;
        socket.set_reuse_address(true)?;
        let port = match self.from_port {
            0 => fresh_port(),
            port => port,
        };
        socket.bind(&unspecified(self.server, port).into())?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        socket.connect(&self.server.into())?;
        let socket = UdpSocket::from(socket);
        socket.send(QUESTION)?;
        let mut answer = [0; 64];
        let length = socket.recv(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
    }
}

/// A connection that stays open from question to question.
#[derive(Debug)]
pub struct Conversation(TcpStream);

impl Conversation {
    /// Connects from `host`.
    ///
    /// # Errors
    /// When nobody accepts within 2 s.
    pub fn open(host: &Host, transport: Transport, server: SocketAddr) -> Result<Self> {
        let opening = host.thread(move || Self::open_here(transport, server));
        opening
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Asks who is at the other end.
    ///
    /// # Errors
    /// When the connection is broken, or nothing came within 2 s.
    pub fn ask(&mut self) -> Result<String> {
        self.0.write_all(QUESTION).context("cannot ask")?;
        let mut answer = [0; 64];
        let length = self.0.read(&mut answer).context("no answer")?;
        anyhow::ensure!(length > 0, "the other end has closed the connection");
        Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
    }

    fn open_here(transport: Transport, server: SocketAddr) -> Result<Self> {
        let socket = transport.socket(server)?;
        if transport == Transport::Sctp {
            socket.bind(&unspecified(server, fresh_port()).into())?;
        }
        socket
            .connect_timeout(&server.into(), TIMEOUT)
            .context("cannot connect")?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        Ok(Self(stream))
    }
}

const QUESTION: &[u8] = b"?";

/// A source port that nobody here has used: of two questions from one port IPVS sends the second where it
/// sent the first. The kernel would draw lots for UDP and SCTP.
fn fresh_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(10_000);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Any own address of the family of `server`.
fn unspecified(server: SocketAddr, port: u16) -> SocketAddr {
    match server {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
    }
}

#[derive(Debug)]
enum Listener {
    Datagrams(UdpSocket),
    Connections(Socket),
}

impl Listener {
    fn open((transport, address): (Transport, SocketAddr)) -> Result<Self> {
        let open = || {
            let socket = transport.socket(address)?;
            match address {
                SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
                SocketAddr::V6(_) => socket.set_freebind_v6(true)?,
            }
            if transport == Transport::Tcp {
                socket.set_reuse_address(true)?;
            }
            socket.bind(&address.into())?;
            socket.set_nonblocking(true)?;
            if transport == Transport::Udp {
                return Ok(Self::Datagrams(socket.into()));
            }
            socket.listen(128)?;
            std::io::Result::Ok(Self::Connections(socket))
        };
        open().with_context(|| format!("{transport:?} at {address}"))
    }

    fn serve(&self, name: &str) {
        match self {
            Self::Datagrams(socket) => {
                let mut question = [0; 64];
                while let Ok((_, client)) = socket.recv_from(&mut question) {
                    // Without the address there is no way back, and the question is lost.
                    let _ = socket.send_to(name.as_bytes(), client);
                }
            }
            Self::Connections(socket) => {
                while let Ok((connection, _)) = socket.accept() {
                    let name = name.to_owned();
                    // It ends with the other end, or when that is silent for long.
                    std::thread::spawn(move || converse(connection.into(), &name));
                }
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Datagrams(socket) => socket.as_fd(),
            Self::Connections(socket) => socket.as_fd(),
        }
    }
}

fn readable(listeners: &[Listener]) -> impl Iterator<Item = &Listener> {
    let mut descriptors: Vec<PollFd<'_>> = listeners
        .iter()
        .map(|listener| PollFd::new(listener.as_fd(), PollFlags::POLLIN))
        .collect();
    let ready = ppoll(&mut descriptors, Some(TICK.into()), None).is_ok();
    let ready: Vec<bool> = descriptors
        .iter()
        .map(|descriptor| ready && descriptor.any() == Some(true))
        .collect();
    listeners
        .iter()
        .zip(ready)
        .filter_map(|(listener, ready)| ready.then_some(listener))
}

/// Answers until the client has enough.
fn converse(mut connection: TcpStream, name: &str) {
    let mut question = [0; 64];
    let ready = connection
        .set_nonblocking(false)
        .and_then(|()| connection.set_read_timeout(Some(SILENCE)));
    if ready.is_err() {
        return;
    }
    while connection
        .read(&mut question)
        .is_ok_and(|length| length > 0)
    {
        if connection.write_all(name.as_bytes()).is_err() {
            return;
        }
    }
}
