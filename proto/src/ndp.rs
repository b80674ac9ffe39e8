//! Neighbour discovery over Ethernet (RFC 4861): the announcement of an IPv6 address that has moved
//! here.

use core::net::Ipv6Addr;

use pnet::packet::ethernet::{EtherTypes, MutableEthernetPacket};
use pnet::packet::icmpv6::ndp::{
    Icmpv6Codes, MutableNdpOptionPacket, MutableNeighborAdvertPacket, NdpOptionTypes,
    NeighborAdvertFlags,
};
use pnet::packet::icmpv6::{Icmpv6Packet, Icmpv6Types, MutableIcmpv6Packet, checksum};
use pnet::packet::ip::IpNextHeaderProtocols;
use pnet::packet::ipv6::MutableIpv6Packet;
use pnet::util::MacAddr;

/// An Ethernet header, an IPv6 header, a neighbour advertisement and its one option, in bytes.
pub const FRAME_LENGTH: usize = 86;

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// RFC 2464, section 7.
const ALL_NODES_HARDWARE_ADDRESS: MacAddr = MacAddr(0x33, 0x33, 0, 0, 0, 1);
/// What receivers require (RFC 4861, section 7.1.2).
const HOP_LIMIT: u8 = 255;
const OPTION_LENGTH: usize = 8;

/// An unsolicited neighbour advertisement (RFC 4861, section 4.4): neighbours that have an entry
/// for `address` move it to `hardware_address` (RFC 9568, section 8.2.2).
///
/// `router` says that the sender forwards packets; hosts that hear otherwise drop it from their
/// default routers.
pub fn unsolicited_advertisement(
    hardware_address: [u8; 6],
    address: Ipv6Addr,
    router: bool,
) -> [u8; FRAME_LENGTH] {
    let mut frame = [0; FRAME_LENGTH];
    emit(&mut frame, hardware_address, address, router);
    frame
}

/// Writes every bit of the frame, whatever was there.
fn emit(
    frame: &mut [u8; FRAME_LENGTH],
    hardware_address: [u8; 6],
    address: Ipv6Addr,
    router: bool,
) {
    let sizes = "FRAME_LENGTH holds three headers and an option";
    let (header, packet) = frame.split_at_mut(MutableEthernetPacket::minimum_packet_size());
    let mut ethernet = MutableEthernetPacket::new(header).expect(sizes);
    ethernet.set_destination(ALL_NODES_HARDWARE_ADDRESS);
    ethernet.set_source(hardware_address.into());
    ethernet.set_ethertype(EtherTypes::Ipv6);

    let (header, message) = packet.split_at_mut(MutableIpv6Packet::minimum_packet_size());
    let mut ip = MutableIpv6Packet::new(header).expect(sizes);
    ip.set_version(6);
    ip.set_traffic_class(0);
    ip.set_flow_label(0);
    ip.set_payload_length(message.len() as u16);
    ip.set_next_header(IpNextHeaderProtocols::Icmpv6);
    ip.set_hop_limit(HOP_LIMIT);
    ip.set_source(address);
    ip.set_destination(ALL_NODES);

    let (body, option) = message.split_at_mut(MutableNeighborAdvertPacket::minimum_packet_size());
    let mut advertisement = MutableNeighborAdvertPacket::new(body).expect(sizes);
    advertisement.set_icmpv6_type(Icmpv6Types::NeighborAdvert);
    advertisement.set_icmpv6_code(Icmpv6Codes::NoCode);
    advertisement.set_flags(if router {
        NeighborAdvertFlags::Override | NeighborAdvertFlags::Router
    } else {
        NeighborAdvertFlags::Override
    });
    advertisement.set_reserved(0);
    advertisement.set_target_addr(address);

    let mut target = MutableNdpOptionPacket::new(option).expect(sizes);
    target.set_option_type(NdpOptionTypes::TargetLLAddr);
    target.set_length((OPTION_LENGTH / 8) as u8);
    target.set_data(&hardware_address);

    let sum = checksum(
        &Icmpv6Packet::new(message).expect(sizes),
        &address,
        &ALL_NODES,
    );
    MutableIcmpv6Packet::new(message)
        .expect(sizes)
        .set_checksum(sum);
}

#[cfg(test)]
mod tests {
    use super::*;

    const HARDWARE_ADDRESS: [u8; 6] = [0x00, 0x00, 0x5e, 0x00, 0x02, 0x32];
    const VIP: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x53);

    /// The Internet checksum of the ICMPv6 pseudo-header and message (RFC 8200, section 8.1), added
    /// up here because the code under test leaves it to a library.
    fn checksum_of(frame: &[u8]) -> u16 {
        let (addresses, message) = (&frame[22..54], &frame[54..]);
        let words = [addresses, message]
            .concat()
            .chunks(2)
            .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
            .sum::<u32>();
        let mut sum = words + message.len() as u32 + 58;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn golden_bytes() {
        let mut frame = [0xa5; FRAME_LENGTH];
        emit(&mut frame, HARDWARE_ADDRESS, VIP, false);
        #[rustfmt::skip]
        let expected = [
            // Ethernet
            0x33, 0x33, 0, 0, 0, 1, 0x00, 0x00, 0x5e, 0x00, 0x02, 0x32, 0x86, 0xdd,
            // IPv6: 32 bytes of ICMPv6, hop limit 255, from the VIP to ff02::1
            0x60, 0, 0, 0, 0, 32, 58, 255,
            0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x53,
            0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
            // Neighbour advertisement with the flag O only
            136, 0, 0x9a, 0x55, 0x20, 0, 0, 0,
            0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x53,
            // Target link-layer address
            2, 1, 0x00, 0x00, 0x5e, 0x00, 0x02, 0x32,
        ];
        assert_eq!(frame, expected);
        assert_eq!(
            unsolicited_advertisement(HARDWARE_ADDRESS, VIP, false),
            frame
        );
    }

    #[test]
    fn routers_say_so() {
        let host = unsolicited_advertisement(HARDWARE_ADDRESS, VIP, false);
        let router = unsolicited_advertisement(HARDWARE_ADDRESS, VIP, true);
        assert_eq!((host[58], router[58]), (0x20, 0xa0));
        for frame in [host, router] {
            assert_eq!(checksum_of(&frame), 0);
        }
    }
}
