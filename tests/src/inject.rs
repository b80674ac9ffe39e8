//! Hand-made packets on the wire.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use pnet::datalink::{self, Channel, Config, DataLinkSender};
use pnet::packet::ip::IpNextHeaderProtocol;
use pnet::packet::ipv4::{MutableIpv4Packet, checksum};
use pnet::packet::ipv6::MutableIpv6Packet;
use socket2::{Domain, Protocol, Socket, Type};

use crate::lab::Host;

/// Sends an Ethernet frame, from its destination address on, out of an interface of `host`.
pub fn frame(host: &Host, interface: &str, bytes: Vec<u8>) -> Result<()> {
    let name = interface.to_owned();
    host.within(move || {
        open(&name)?
            .send_to(&bytes, None)
            .context("the kernel took no frame")??;
        Ok(())
    })
}

/// Sends many Ethernet frames out of an interface of `host`, so many a second.
pub fn frames(
    host: &Host,
    interface: &str,
    rate: u32,
    frames: impl Iterator<Item = Vec<u8>> + Send + 'static,
) -> Result<()> {
    /// Sent without a pause in between.
    const AT_ONCE: u32 = 16;
    /// How far behind its time it goes on without a pause.
    const CATCH_UP: Duration = Duration::from_millis(20);
    let name = interface.to_owned();
    let thread = host.thread(move || {
        let mut sender = open(&name)?;
        let mut due = Instant::now();
        for (number, frame) in (0_u32..).zip(frames) {
            if number.is_multiple_of(AT_ONCE) {
                let now = Instant::now();
                std::thread::sleep(due.saturating_duration_since(now));
                // A machine that stood still for longer doesn't send all that at once.
                due = due.max(now - CATCH_UP) + Duration::from_secs(1) * AT_ONCE / rate;
            }
            sender
                .send_to(&frame, None)
                .context("the kernel took no frame")??;
        }
        Ok(())
    });
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn open(name: &str) -> Result<Box<dyn DataLinkSender>> {
    let interface = datalink::interfaces()
        .into_iter()
        .find(|interface| interface.name == name)
        .with_context(|| format!("no interface {name}"))?;
    match datalink::channel(&interface, Config::default())? {
        Channel::Ethernet(sender, _) => Ok(sender),
        _ => bail!("{name} is no Ethernet interface"),
    }
}

/// The fields of an IPv4 header that a test chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4Header {
    /// Source address, which need not be one of the host's.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// Time to live.
    pub ttl: u8,
    /// The payload's protocol number.
    pub protocol: u8,
}

/// Sends an IPv4 packet out of an interface of `host`.
pub fn ipv4(host: &Host, interface: &str, header: Ipv4Header, payload: &[u8]) -> Result<()> {
    let packet = ipv4_packet(header, payload);
    let interface = interface.to_owned();
    host.within(move || {
        // IPPROTO_RAW: the packet brings its own header.
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255)))?;
        socket.bind_device(Some(interface.as_bytes()))?;
        socket.send_to(&packet, &SocketAddrV4::new(header.destination, 0).into())?;
        Ok::<(), std::io::Error>(())
    })
    .with_context(|| format!("cannot inject from {}", host.name()))
}

/// The bytes of an IPv4 packet.
pub fn ipv4_packet(header: Ipv4Header, payload: &[u8]) -> Vec<u8> {
    let length = MutableIpv4Packet::minimum_packet_size() + payload.len();
    let mut bytes = vec![0; length];
    if let Some(mut packet) = MutableIpv4Packet::new(&mut bytes) {
        packet.set_version(4);
        packet.set_header_length(5);
        packet.set_total_length(length as u16);
        packet.set_ttl(header.ttl);
        packet.set_next_level_protocol(IpNextHeaderProtocol(header.protocol));
        packet.set_source(header.source);
        packet.set_destination(header.destination);
        packet.set_payload(payload);
        let sum = checksum(&packet.to_immutable());
        packet.set_checksum(sum);
    }
    bytes
}

/// The fields of an IPv6 header that a test chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6Header {
    /// Source address, which need not be one of the host's.
    pub source: Ipv6Addr,
    /// Destination address; a link-local one is on the interface that is sent out of.
    pub destination: Ipv6Addr,
    /// Hop limit.
    pub hop_limit: u8,
    /// The payload's protocol number.
    pub next_header: u8,
}

/// Sends an IPv6 packet out of an interface of `host`.
pub fn ipv6(host: &Host, interface: &str, header: Ipv6Header, payload: &[u8]) -> Result<()> {
    let length = MutableIpv6Packet::minimum_packet_size() + payload.len();
    let mut bytes = vec![0; length];
    if let Some(mut packet) = MutableIpv6Packet::new(&mut bytes) {
        packet.set_version(6);
        packet.set_payload_length(payload.len() as u16);
        packet.set_hop_limit(header.hop_limit);
        packet.set_next_header(IpNextHeaderProtocol(header.next_header));
        packet.set_source(header.source);
        packet.set_destination(header.destination);
        packet.set_payload(payload);
    }
    let interface = interface.to_owned();
    host.within(move || {
        // IPPROTO_RAW: the packet brings its own header.
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::from(255)))?;
        socket.bind_device(Some(interface.as_bytes()))?;
        let scope = nix::net::if_::if_nametoindex(interface.as_str())?;
        let to = SocketAddrV6::new(header.destination, 0, 0, scope);
        socket.send_to(&bytes, &to.into())?;
        Ok::<(), std::io::Error>(())
    })
    .with_context(|| format!("cannot inject from {}", host.name()))
}
