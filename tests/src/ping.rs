//! ICMP echo requests at a steady rate.

use std::collections::VecDeque;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, ppoll};
use pnet::packet::Packet;
use pnet::packet::icmp::echo_reply::EchoReplyPacket;
use pnet::packet::icmp::echo_request::MutableEchoRequestPacket;
use pnet::packet::icmp::{IcmpPacket, IcmpTypes, checksum};
use pnet::packet::ipv4::Ipv4Packet;
use socket2::{Domain, Protocol, Socket, Type};

use crate::lab::Host;
use crate::traffic::{Load, Log, Outcome};

const IDENTIFIER: u16 = 0x4c56;
/// How long an echo may take before it counts as lost.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Starts to ping `address` from `host` every `interval`.
pub fn start(host: &Host, address: Ipv4Addr, interval: Duration) -> Load {
    Load::start(host, move |log| client(address, interval, log))
}

/// Whether `address` answers one of several pings within `limit`.
pub fn answers(host: &Host, address: Ipv4Addr, limit: Duration) -> bool {
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

fn client(address: Ipv4Addr, interval: Duration, log: &Log) {
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
            let _ = socket.send(&request(number));
            waiting.push_back((number, now + TIMEOUT));
            next = (next + interval).max(now);
        }
        while waiting.front().is_some_and(|(_, end)| *end <= now) {
            if let Some((number, _)) = waiting.pop_front() {
                log.ended(number, Outcome::Lost);
            }
        }
        let until = if log.wanted() {
            next
        } else {
            waiting.front().map_or(now, |(_, end)| *end)
        };
        receive(&socket, until.saturating_duration_since(now), address, log);
        waiting.retain(|(number, _)| log.is_waiting(*number));
    }
}

fn open(address: Ipv4Addr) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
    socket.connect(&SocketAddrV4::new(address, 0).into())?;
    Ok(socket)
}

/// Reads one packet, if one comes before `wait` has passed.
fn receive(socket: &Socket, wait: Duration, address: Ipv4Addr, log: &Log) {
    // Bounded, so that a stop is noticed. A socket's own time-out counts in ticks of the kernel,
    // too coarse for an interval of 5 ms.
    let wait = wait.min(Duration::from_millis(50));
    let mut descriptors = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    if ppoll(&mut descriptors, Some(wait.into()), None) != Ok(1) {
        return;
    }
    let mut buffer = [0; 2048];
    // An error is an ICMP error for an earlier request: that one is lost when its time is over.
    if let Ok(length) = Read::read(&mut &*socket, &mut buffer)
        && let Some(number) = reply(&buffer[..length])
    {
        let at = Instant::now();
        let by = address.to_string();
        // Of the attempts that share these 16 bits only the last can be waiting.
        log.ended_by_low_bits(number, Outcome::Answered { at, by });
    }
}

fn request(number: usize) -> Vec<u8> {
    let mut bytes = vec![0; MutableEchoRequestPacket::minimum_packet_size()];
    if let Some(mut packet) = MutableEchoRequestPacket::new(&mut bytes) {
        packet.set_icmp_type(IcmpTypes::EchoRequest);
        packet.set_identifier(IDENTIFIER);
        packet.set_sequence_number(number as u16);
    }
    if let Some(sum) = IcmpPacket::new(&bytes).map(|packet| checksum(&packet))
        && let Some(mut packet) = MutableEchoRequestPacket::new(&mut bytes)
    {
        packet.set_checksum(sum);
    }
    bytes
}

/// The sequence number of an answer to one of our requests.
fn reply(bytes: &[u8]) -> Option<u16> {
    let packet = Ipv4Packet::new(bytes)?;
    let reply = EchoReplyPacket::new(packet.payload())?;
    (reply.get_icmp_type() == IcmpTypes::EchoReply && reply.get_identifier() == IDENTIFIER)
        .then(|| reply.get_sequence_number())
}
