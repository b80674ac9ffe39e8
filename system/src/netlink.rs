//! One blocking netlink conversation: requests out in batches, replies matched by sequence number.
//!
//! Every request is answered or times out: an acknowledgement is asked of the last message of a
//! batch, and the kernel reports failures of the others unasked. The kernel runs all messages of a
//! batch in order and goes on after a failure (`net/netlink/af_netlink.c`, `netlink_rcv_skb`).
//!
//! Called by [`crate::address`], [`crate::link`], [`crate::route`], [`crate::listeners`] and [`crate::ipvs`]; each owner
//! of something in the kernel opens a connection of its own, so that none waits for another.

use std::io;
use std::time::Duration;

use netlink_packet_core::Emitable;
use netlink_sys::Socket;
use netlink_sys::protocols::{NETLINK_GENERIC, NETLINK_ROUTE, NETLINK_SOCK_DIAG};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

/// Which netlink protocol a [`Connection`] speaks (`linux/netlink.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Links, addresses, routes and neighbours.
    Route,
    /// Families found by name, IPVS among them.
    Generic,
    /// Sockets (`linux/inet_diag.h`).
    Sockets,
}

/// A request without its netlink header, which [`Connection`] adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `nlmsg_type`: an rtnetlink message type, or the id of a generic netlink family.
    pub message_type: u16,
    /// `nlmsg_flags` beyond `NLM_F_REQUEST`, `NLM_F_ACK` and `NLM_F_DUMP`, which the connection sets.
    pub flags: u16,
    /// Everything after the netlink header.
    pub payload: Vec<u8>,
}

impl Request {
    /// A request whose payload is `message` as netlink-packet-route writes it.
    pub(crate) fn of(message_type: u16, flags: u16, message: &impl Emitable) -> Self {
        let mut payload = vec![0; message.buffer_len()];
        message.emit(&mut payload);
        Self {
            message_type,
            flags,
            payload,
        }
    }
}

/// A reply without its netlink header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// `nlmsg_type`.
    pub message_type: u16,
    /// Everything after the netlink header.
    pub payload: Vec<u8>,
}

/// Why a request has no result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused the request.
    #[error("{}{}", .errno.desc(), .text.as_deref().map(|t| format!(" ({t})")).unwrap_or_default())]
    Kernel {
        /// The kernel's error number.
        errno: Errno,
        /// The kernel's own words (`NLMSGERR_ATTR_MSG`), where it gave any.
        text: Option<String>,
    },
    /// The socket failed.
    #[error("netlink socket: {0}")]
    Socket(#[from] io::Error),
    /// No answer within [`ANSWER_TIMEOUT`].
    #[error("the kernel did not answer within {} ms", ANSWER_TIMEOUT.as_millis())]
    TimedOut,
    /// The answer is not netlink as `linux/netlink.h` defines it.
    #[error("malformed netlink answer: {0}")]
    Malformed(&'static str),
    /// The dumped objects changed during each of several dumps (`NLM_F_DUMP_INTR`).
    #[error("the kernel's table kept changing while it was read")]
    DumpInterrupted,
}

impl Error {
    /// The kernel's error number, where the kernel refused.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Kernel { errno, .. } => Some(*errno),
            _ => None,
        }
    }
}

/// How long an answer may take. The kernel answers within the sending system call; the margin is
/// for module loading and for emulated processors.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Messages in one datagram: 256 acknowledgements overflow a default receive buffer, 64 do not.
const BATCH_LENGTH: usize = 64;
const DUMP_ATTEMPTS: usize = 5;
const HEADER_LENGTH: usize = 16;
const RECEIVE_BUFFER: usize = 1 << 20;
/// The kernel packs up to 32 KiB into one datagram of a dump; a single message is far shorter.
const LONGEST_DATAGRAM: usize = 64 * 1024;
/// The same where many short dumps are asked for. The kernel takes, and zeroes, as much memory for each
/// datagram as its reader has room for (`netlink_dump`, `net/netlink/af_netlink.c`): these fit into
/// 8 KiB with what it keeps beside (`struct skb_shared_info`), and are what it takes at least on a
/// machine with large pages (`NLMSG_GOODSIZE`).
const LONGEST_SHORT_DATAGRAM: usize = 8 * 1024 - 320;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLM_F_DUMP: u16 = 0x300;
const NLMSGERR_ATTR_MSG: u16 = 1;

/// A netlink socket and its sequence counter.
#[derive(Debug)]
pub struct Connection {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Connection {
    /// Opens a socket in the network namespace of the calling thread.
    pub fn open(protocol: Protocol) -> Result<Self, Error> {
        let mut socket = Socket::new(match protocol {
            Protocol::Route => NETLINK_ROUTE,
            Protocol::Generic => NETLINK_GENERIC,
            Protocol::Sockets => NETLINK_SOCK_DIAG,
        })?;
        socket.bind_auto()?;
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        // A larger buffer only saves retries; without CAP_NET_ADMIN the kernel caps it.
        if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            let _ = setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER);
        }
        // So that waiting needs no system call of its own.
        let limit = TimeVal::seconds(ANSWER_TIMEOUT.as_secs() as i64);
        setsockopt(&socket, sockopt::ReceiveTimeout, &limit).map_err(io::Error::from)?;
        Ok(Self {
            socket,
            sequence: 0,
            buffer: Vec::with_capacity(match protocol {
                Protocol::Route | Protocol::Sockets => LONGEST_DATAGRAM,
                Protocol::Generic => LONGEST_SHORT_DATAGRAM,
            }),
        })
    }

    /// Sends one request and returns what the kernel replied before its acknowledgement.
    pub fn request(&mut self, request: &Request) -> Result<Vec<Reply>, Error> {
        let sequence = self.next_sequence();
        let mut datagram = Vec::new();
        append(&mut datagram, request, NLM_F_ACK, sequence);
        self.send(&datagram)?;
        let mut replies = Vec::new();
        loop {
            for message in self.receive()? {
                if message.sequence != sequence {
                    continue;
                }
                match message.content()? {
                    Content::Acknowledgement => return Ok(replies),
                    Content::Failure(error) => return Err(error),
                    Content::Reply(reply) => replies.push(reply),
                }
            }
        }
    }

    /// Asks for all objects (`NLM_F_DUMP`); starts again when they changed meanwhile.
    pub fn dump(&mut self, request: &Request) -> Result<Vec<Reply>, Error> {
        for _ in 0..DUMP_ATTEMPTS {
            if let Some(replies) = self.dump_once(request)? {
                return Ok(replies);
            }
        }
        Err(Error::DumpInterrupted)
    }

    /// Sends all requests, in order, and returns one result for each.
    ///
    /// A request that the kernel refuses doesn't keep the later ones from being carried out.
    pub fn batch(&mut self, requests: &[Request]) -> Vec<Result<(), Error>> {
        requests
            .chunks(BATCH_LENGTH)
            .flat_map(|chunk| self.batch_once(chunk))
            .collect()
    }

    fn batch_once(&mut self, requests: &[Request]) -> Vec<Result<(), Error>> {
        let mut results: Vec<Result<(), Error>> = requests.iter().map(|_| Ok(())).collect();
        let first = self.sequence.wrapping_add(1);
        let last = requests.len() - 1;
        let mut datagram = Vec::new();
        for (position, request) in requests.iter().enumerate() {
            let sequence = self.next_sequence();
            append(
                &mut datagram,
                request,
                if position == last { NLM_F_ACK } else { 0 },
                sequence,
            );
        }
        if let Err(error) = self
            .send(&datagram)
            .and_then(|()| self.collect(first, &mut results))
        {
            let text = error.to_string();
            for result in &mut results {
                if result.is_ok() {
                    *result = Err(Error::Socket(io::Error::other(text.clone())));
                }
            }
        }
        results
    }

    /// Reads until the last message of the batch that began with sequence number `first` is answered.
    fn collect(&mut self, first: u32, results: &mut [Result<(), Error>]) -> Result<(), Error> {
        loop {
            for message in self.receive()? {
                let position = message.sequence.wrapping_sub(first) as usize;
                let Some(result) = results.get_mut(position) else {
                    continue;
                };
                let finished = match message.content()? {
                    Content::Acknowledgement => true,
                    Content::Failure(error) => {
                        *result = Err(error);
                        true
                    }
                    Content::Reply(_) => false,
                };
                if finished && position + 1 == results.len() {
                    return Ok(());
                }
            }
        }
    }

    /// `None` when the objects changed during the dump.
    fn dump_once(&mut self, request: &Request) -> Result<Option<Vec<Reply>>, Error> {
        let sequence = self.next_sequence();
        let mut datagram = Vec::new();
        append(&mut datagram, request, NLM_F_DUMP, sequence);
        self.send(&datagram)?;
        let mut replies = Vec::new();
        let mut interrupted = false;
        loop {
            for message in self.receive()? {
                if message.sequence != sequence {
                    continue;
                }
                interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
                match message.content()? {
                    Content::Acknowledgement => return Ok((!interrupted).then_some(replies)),
                    Content::Failure(error) => return Err(error),
                    Content::Reply(reply) => replies.push(reply),
                }
            }
        }
    }

    fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    fn send(&self, datagram: &[u8]) -> Result<(), Error> {
        self.socket.send(datagram, 0)?;
        Ok(())
    }

    fn receive(&mut self) -> Result<Vec<Message>, Error> {
        self.buffer.clear();
        // MSG_TRUNC: the whole length, though the buffer be shorter.
        let (length, sender) = loop {
            match self.socket.recv_from(&mut self.buffer, libc::MSG_TRUNC) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(Error::TimedOut);
                }
                other => break other?,
            }
        };
        if length > self.buffer.len() {
            return Err(Error::Malformed(
                "a datagram longer than any of the kernel's",
            ));
        }
        if sender.port_number() != 0 {
            return Ok(Vec::new()); // not from the kernel
        }
        split(&self.buffer)
    }
}

/// One netlink message as it was received.
pub(crate) struct Message {
    pub(crate) message_type: u16,
    flags: u16,
    sequence: u32,
    pub(crate) payload: Vec<u8>,
}

pub(crate) enum Content {
    Acknowledgement,
    Failure(Error),
    Reply(Reply),
}

impl Message {
    pub(crate) fn content(self) -> Result<Content, Error> {
        if self.message_type != NLMSG_ERROR && self.message_type != NLMSG_DONE {
            let Self {
                message_type,
                payload,
                ..
            } = self;
            return Ok(Content::Reply(Reply {
                message_type,
                payload,
            }));
        }
        // An NLMSG_DONE may come without the error number that newer kernels append.
        let code = match (self.payload.first_chunk::<4>(), self.message_type) {
            (Some(bytes), _) => i32::from_ne_bytes(*bytes),
            (None, NLMSG_DONE) => 0,
            (None, _) => return Err(Error::Malformed("an error message without a code")),
        };
        if code == 0 {
            return Ok(Content::Acknowledgement);
        }
        let errno = Errno::from_raw(code.wrapping_neg());
        Ok(Content::Failure(Error::Kernel {
            errno,
            text: self.extended_text(),
        }))
    }

    fn extended_text(&self) -> Option<String> {
        if self.flags & NLM_F_ACK_TLVS == 0 {
            return None;
        }
        let start = if self.message_type == NLMSG_DONE {
            4
        } else if self.flags & NLM_F_CAPPED != 0 {
            4 + HEADER_LENGTH
        } else {
            4 + align(u32::from_ne_bytes(*self.payload.get(4..)?.first_chunk()?) as usize)
        };
        let mut rest = self.payload.get(start..)?;
        loop {
            let length = usize::from(u16::from_ne_bytes(*rest.first_chunk()?));
            let kind = u16::from_ne_bytes(*rest.get(2..)?.first_chunk()?);
            let value = rest.get(4..length)?;
            if kind == NLMSGERR_ATTR_MSG {
                let text = value.split(|byte| *byte == 0).next()?;
                return Some(String::from_utf8_lossy(text).into_owned());
            }
            rest = rest.get(align(length)..)?;
        }
    }
}

fn append(datagram: &mut Vec<u8>, request: &Request, flags: u16, sequence: u32) {
    let length = HEADER_LENGTH + request.payload.len();
    datagram.extend_from_slice(&(length as u32).to_ne_bytes());
    datagram.extend_from_slice(&request.message_type.to_ne_bytes());
    datagram.extend_from_slice(&(NLM_F_REQUEST | flags | request.flags).to_ne_bytes());
    datagram.extend_from_slice(&sequence.to_ne_bytes());
    datagram.extend_from_slice(&0u32.to_ne_bytes());
    datagram.extend_from_slice(&request.payload);
    datagram.resize(datagram.len() + align(length) - length, 0);
}

/// Takes a datagram of the kernel apart.
pub(crate) fn split(mut datagram: &[u8]) -> Result<Vec<Message>, Error> {
    let mut messages = Vec::new();
    while let Some(header) = datagram.first_chunk::<HEADER_LENGTH>() {
        let [l0, l1, l2, l3, t0, t1, f0, f1, s0, s1, s2, s3, ..] = *header;
        let length = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
        let payload = datagram
            .get(HEADER_LENGTH..length)
            .ok_or(Error::Malformed("a message longer than its datagram"))?;
        messages.push(Message {
            message_type: u16::from_ne_bytes([t0, t1]),
            flags: u16::from_ne_bytes([f0, f1]),
            sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
            payload: payload.to_vec(),
        });
        datagram = datagram.get(align(length)..).unwrap_or_default();
    }
    Ok(messages)
}

fn align(length: usize) -> usize {
    length.next_multiple_of(4)
}
