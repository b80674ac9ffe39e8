//! Hand-made packets on the wire.

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::{Context, Result, bail};
use pnet::datalink::{self, Channel, Config};
use pnet::packet::ip::IpNextHeaderProtocol;
use pnet::packet::ipv4::{MutableIpv4Packet, checksum};
use socket2::{Domain, Protocol, Socket, Type};

use crate::lab::Host;

/// Sends an Ethernet frame, from its destination address on, out of an interface of `host`.
pub fn frame(host: &Host, interface: &str, bytes: Vec<u8>) -> Result<()> {
    let name = interface.to_owned();
    host.within(move || {
        let interface = datalink::interfaces()
            .into_iter()
            .find(|interface| interface.name == name)
            .with_context(|| format!("no interface {name}"))?;
        let Channel::Ethernet(mut sender, _) = datalink::channel(&interface, Config::default())?
        else {
            bail!("{name} is no Ethernet interface");
        };
        sender
            .send_to(&bytes, None)
            .context("the kernel took no frame")??;
        Ok(())
    })
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
    let packet = build(header, payload);
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

fn build(header: Ipv4Header, payload: &[u8]) -> Vec<u8> {
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
