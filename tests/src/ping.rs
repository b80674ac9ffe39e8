//! ICMP echo requests, of either family, at a steady rate.

use std::collections::VecDeque;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, ppoll};
use pnet::packet::Packet;
use pnet::packet::icmp::echo_reply::EchoReplyPacket;
use pnet::packet::icmp::echo_request::MutableEchoRequestPacket;
use pnet::packet::icmp::{IcmpPacket, IcmpType, IcmpTypes, checksum};
use pnet::packet::icmpv6::Icmpv6Types;
use pnet::packet::ipv4::Ipv4Packet;
use socket2::{Domain, Protocol, Socket, Type};

use crate::lab::Host;
use crate::traffic::{Load, Log, Outcome};

const IDENTIFIER: u16 = 0x4c56;
/// How long an echo may take before it counts as lost.
const TIMEOUT: Duration = Duration::from_secs(1);
/// How far behind its time it goes on sending without a pause.
const CATCH_UP: Duration = Duration::from_millis(20);

/// Starts to ping `address` from `host` every `interval`.
pub fn start(host: &Host, address: impl Into<IpAddr>, interval: Duration) -> Load {
    let address = address.into();
    Load::start(host, move |log| client(address, interval, log))
}

/// Whether `address` answers one of several pings within `limit`.
pub fn answers(host: &Host, address: impl Into<IpAddr>, limit: Duration) -> bool {
    let load = start(host, address, Duration::from_millis(20));
    let begin = Instant::now();
    while begin.elapsed() < limit {
        if load.report().answered() > 0 {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

fn client(address: IpAddr, interval: Duration, log: &Log) {
    let socket = match open(address) {
        Ok(socket) => socket,
        Err(error) => panic!("no socket to ping {address}: {error}"),
    };
    let mut waiting: VecDeque<(usize, Instant)> = VecDeque::new();
    let mut next = Instant::now();
    while log.wanted() || !waiting.is_empty() {
        let now = Instant::now();
        if log.wanted() && now >= next {
            let number = log.sent();
            // Without a route it is lost, like any other.
            let _ = socket.send(&request(address, number));
            waiting.push_back((number, now + TIMEOUT));
            // What a busy machine delays is made up for, within reason.
            next = (next + interval).max(now - CATCH_UP);
        }
        let until = if log.wanted() {
            next
        } else {
            waiting.front().map_or(now, |(_, end)| *end)
        };
        receive(&socket, until.saturating_duration_since(now), address, log);
        waiting.retain(|(number, _)| log.is_waiting(*number));
        // What was there at that time has been read, however long this thread was held up.
        while waiting.front().is_some_and(|(_, end)| *end <= now) {
            if let Some((number, _)) = waiting.pop_front() {
                log.ended(number, Outcome::Lost);
            }
        }
    }
}

fn open(address: IpAddr) -> std::io::Result<Socket> {
    let (domain, protocol) = match address {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
    };
    let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
    socket.connect(&SocketAddr::new(address, 0).into())?;
    Ok(socket)
}

/// Reads what is there, or what comes first before `wait` has passed.
fn receive(socket: &Socket, wait: Duration, address: IpAddr, log: &Log) {
    // Bounded, so that a stop is noticed. A socket's own time-out counts in ticks of the kernel,
    // too coarse for an interval of 5 ms.
    let mut wait = wait.min(Duration::from_millis(50));
    let mut descriptors = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    let mut buffer = [0; 2048];
    while ppoll(&mut descriptors, Some(wait.into()), None) == Ok(1) {
        wait = Duration::ZERO;
        // An error is an ICMP error for an earlier request: that one is lost when its time is over.
        if let Ok(length) = Read::read(&mut &*socket, &mut buffer)
            && let Some(number) = reply(address, &buffer[..length])
        {
            let at = Instant::now();
            let by = address.to_string();
            // Of the attempts that share these 16 bits only the last can be waiting.
            log.ended_by_low_bits(number, Outcome::Answered { at, by });
        }
    }
}

/// An echo request with this number; the kernel computes the checksum of ICMPv6 itself.
fn request(address: IpAddr, number: usize) -> Vec<u8> {
    let mut bytes = vec![0; MutableEchoRequestPacket::minimum_packet_size()];
    if let Some(mut packet) = MutableEchoRequestPacket::new(&mut bytes) {
        packet.set_icmp_type(match address {
            IpAddr::V4(_) => IcmpTypes::EchoRequest,
            IpAddr::V6(_) => IcmpType(Icmpv6Types::EchoRequest.0),
        });
        packet.set_identifier(IDENTIFIER);
        packet.set_sequence_number(number as u16);
    }
    if address.is_ipv4()
        && let Some(sum) = IcmpPacket::new(&bytes).map(|packet| checksum(&packet))
        && let Some(mut packet) = MutableEchoRequestPacket::new(&mut bytes)
    {
        packet.set_checksum(sum);
    }
    bytes
}

/// The sequence number of an answer to one of our requests.
fn reply(address: IpAddr, bytes: &[u8]) -> Option<u16> {
    // Raw sockets deliver the header of IPv4, and not that of IPv6. What follows is alike.
    let (message, wanted) = match address {
        IpAddr::V4(_) => (
            Ipv4Packet::new(bytes)?.payload().to_vec(),
            IcmpTypes::EchoReply,
        ),
        IpAddr::V6(_) => (bytes.to_vec(), IcmpType(Icmpv6Types::EchoReply.0)),
    };
    let reply = EchoReplyPacket::new(&message)?;
    (reply.get_icmp_type() == wanted && reply.get_identifier() == IDENTIFIER)
        .then(|| reply.get_sequence_number())
}
