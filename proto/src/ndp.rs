//! Neighbour discovery over Ethernet (RFC 4861): the announcement of an IPv6 address that has moved
//! here, the question who has one, and what others say of theirs.

use core::net::Ipv6Addr;

use pnet::packet::ethernet::{EtherTypes, MutableEthernetPacket};
use pnet::packet::icmpv6::ndp::{
    Icmpv6Codes, MutableNdpOptionPacket, MutableNeighborAdvertPacket, MutableNeighborSolicitPacket,
    NdpOptionType, NdpOptionTypes, NeighborAdvertFlags, NeighborAdvertPacket,
};
use pnet::packet::icmpv6::{Icmpv6Packet, Icmpv6Types, MutableIcmpv6Packet, checksum};
use pnet::packet::ip::IpNextHeaderProtocols;
use pnet::packet::ipv6::MutableIpv6Packet;
use pnet::util::MacAddr;

use crate::sentinel::{Claim, Form};

/// An Ethernet header, an IPv6 header, a neighbour advertisement or solicitation and its one option, in
/// bytes.
pub const FRAME_LENGTH: usize = 86;

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
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

/// A neighbour solicitation (RFC 4861, section 4.3) from `source`, which should be a link-local address
/// of the interface with `hardware_address`: who has `target`?
pub fn solicitation(
    hardware_address: [u8; 6],
    source: Ipv6Addr,
    target: Ipv6Addr,
) -> [u8; FRAME_LENGTH] {
    let mut frame = [0; FRAME_LENGTH];
    let group = solicited_node_group(target);
    emit_message(&mut frame, hardware_address, source, group, |message| {
        let (body, option) =
            message.split_at_mut(MutableNeighborSolicitPacket::minimum_packet_size());
        let mut solicitation = MutableNeighborSolicitPacket::new(body).expect(SIZES);
        solicitation.set_icmpv6_type(Icmpv6Types::NeighborSolicit);
        solicitation.set_icmpv6_code(Icmpv6Codes::NoCode);
        solicitation.set_reserved(0);
        solicitation.set_target_addr(target);
        emit_option(option, NdpOptionTypes::SourceLLAddr, hardware_address);
    });
    frame
}

/// Whom an ICMPv6 message says to have an address: an advertisement its target, a solicitation its
/// source. `None` for any other message, for one that was forwarded (RFC 4861, section 7.1), and for one
/// without a link-layer address.
pub fn claim(source: Ipv6Addr, hop_limit: u8, message: &[u8]) -> Option<Claim> {
    if hop_limit != HOP_LIMIT {
        return None;
    }
    let (address, form, hardware_address) = match Icmpv6Packet::new(message)?.get_icmpv6_type() {
        Icmpv6Types::NeighborAdvert => {
            let advertisement = NeighborAdvertPacket::new(message)?;
            let is_answer = advertisement.get_flags() & SOLICITED != 0;
            let form = if is_answer {
                Form::Answer
            } else {
                Form::Announcement
            };
            let hardware_address = link_layer_address(message, NdpOptionTypes::TargetLLAddr)?;
            (advertisement.get_target_addr(), form, hardware_address)
        }
        Icmpv6Types::NeighborSolicit if !source.is_unspecified() => {
            let hardware_address = link_layer_address(message, NdpOptionTypes::SourceLLAddr)?;
            (source, Form::Question, hardware_address)
        }
        _ => return None,
    };
    Some(Claim {
        address: address.into(),
        hardware_address,
        form,
    })
}

/// The flag S of an advertisement (RFC 4861, section 4.4).
const SOLICITED: u8 = 0x40;
const SIZES: &str = "FRAME_LENGTH holds three headers and an option";

/// The group that who has `target` listens to (RFC 4291, section 2.7.1).
fn solicited_node_group(target: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = target.octets();
    let (high, low) = (0xff00 | u16::from(a), u16::from_be_bytes([b, c]));
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, high, low)
}

/// The first option of a kind in a solicitation or advertisement (RFC 4861, section 4.6), whose lengths
/// are counted in 8 bytes. By hand: the library's arithmetic overflows on a hostile length.
fn link_layer_address(message: &[u8], kind: NdpOptionType) -> Option<[u8; 6]> {
    let mut options = message.get(MutableNeighborAdvertPacket::minimum_packet_size()..)?;
    loop {
        let (found, length) = (*options.first()?, usize::from(*options.get(1)?) * 8);
        let option = options.get(..length)?;
        if found == kind.0 {
            return option.get(2..)?.try_into().ok();
        }
        // A length of zero would go on for ever (RFC 4861, section 4.6).
        options = options.get(length..).filter(|_| length > 0)?;
    }
}

/// Writes every bit of the frame, whatever was there.
fn emit(
    frame: &mut [u8; FRAME_LENGTH],
    hardware_address: [u8; 6],
    address: Ipv6Addr,
    router: bool,
) {
    emit_message(frame, hardware_address, address, ALL_NODES, |message| {
        let (body, option) =
            message.split_at_mut(MutableNeighborAdvertPacket::minimum_packet_size());
        let mut advertisement = MutableNeighborAdvertPacket::new(body).expect(SIZES);
        advertisement.set_icmpv6_type(Icmpv6Types::NeighborAdvert);
        advertisement.set_icmpv6_code(Icmpv6Codes::NoCode);
        advertisement.set_flags(if router {
            NeighborAdvertFlags::Override | NeighborAdvertFlags::Router
        } else {
            NeighborAdvertFlags::Override
        });
        advertisement.set_reserved(0);
        advertisement.set_target_addr(address);
        emit_option(option, NdpOptionTypes::TargetLLAddr, hardware_address);
    });
}

/// Writes the headers, lets `write` fill all of the message but its checksum, and writes that.
fn emit_message(
    frame: &mut [u8; FRAME_LENGTH],
    hardware_address: [u8; 6],
    source: Ipv6Addr,
    group: Ipv6Addr,
    write: impl FnOnce(&mut [u8]),
) {
    let (header, packet) = frame.split_at_mut(MutableEthernetPacket::minimum_packet_size());
    let mut ethernet = MutableEthernetPacket::new(header).expect(SIZES);
    let [.., a, b, c, d] = group.octets();
    // RFC 2464, section 7.
    ethernet.set_destination(MacAddr(0x33, 0x33, a, b, c, d));
    ethernet.set_source(hardware_address.into());
    ethernet.set_ethertype(EtherTypes::Ipv6);

    let (header, message) = packet.split_at_mut(MutableIpv6Packet::minimum_packet_size());
    let mut ip = MutableIpv6Packet::new(header).expect(SIZES);
    ip.set_version(6);
    ip.set_traffic_class(0);
    ip.set_flow_label(0);
    ip.set_payload_length(message.len() as u16);
    ip.set_next_header(IpNextHeaderProtocols::Icmpv6);
    ip.set_hop_limit(HOP_LIMIT);
    ip.set_source(source);
    ip.set_destination(group);

    write(message);
    let sum = checksum(&Icmpv6Packet::new(message).expect(SIZES), &source, &group);
    MutableIcmpv6Packet::new(message)
        .expect(SIZES)
        .set_checksum(sum);
}

fn emit_option(option: &mut [u8], kind: NdpOptionType, hardware_address: [u8; 6]) {
    let mut option = MutableNdpOptionPacket::new(option).expect(SIZES);
    option.set_option_type(kind);
    option.set_length((OPTION_LENGTH / 8) as u8);
    option.set_data(&hardware_address);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
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

    const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

    #[test]
    fn golden_bytes_of_a_question() {
        let frame = solicitation(HARDWARE_ADDRESS, LINK_LOCAL, VIP);
        #[rustfmt::skip]
        let expected = [
            // Ethernet
            0x33, 0x33, 0xff, 0, 0, 0x53, 0x00, 0x00, 0x5e, 0x00, 0x02, 0x32, 0x86, 0xdd,
            // IPv6: 32 bytes of ICMPv6, hop limit 255, to the VIP's solicited-node group
            0x60, 0, 0, 0, 0, 32, 58, 255,
            0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
            0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 0x53,
            // Neighbour solicitation, its checksum aside
            135, 0, frame[56], frame[57], 0, 0, 0, 0,
            0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x53,
            // Source link-layer address
            1, 1, 0x00, 0x00, 0x5e, 0x00, 0x02, 0x32,
        ];
        assert_eq!(frame, expected);
        assert_eq!(checksum_of(&frame), 0);
    }

    #[test]
    fn who_advertises_or_asks_claims_an_address() {
        let claimed = |source, frame: &[u8]| {
            let claim = claim(source, HOP_LIMIT, &frame[54..])?;
            assert_eq!(claim.hardware_address, HARDWARE_ADDRESS);
            assert_eq!(claim.address, VIP);
            Some(claim.form)
        };
        let mut advertisement = unsolicited_advertisement(HARDWARE_ADDRESS, VIP, false);
        assert_eq!(claimed(VIP, &advertisement), Some(Form::Announcement));
        advertisement[58] |= SOLICITED;
        assert_eq!(claimed(LINK_LOCAL, &advertisement), Some(Form::Answer));
        let question = solicitation(HARDWARE_ADDRESS, VIP, LINK_LOCAL);
        assert_eq!(claimed(VIP, &question), Some(Form::Question));
    }

    #[test]
    fn what_claims_nothing() {
        let question = solicitation(HARDWARE_ADDRESS, VIP, LINK_LOCAL);
        let advertisement = unsolicited_advertisement(HARDWARE_ADDRESS, VIP, false);
        for frame in [question, advertisement] {
            assert_eq!(claim(VIP, 254, &frame[54..]), None);
            for length in 54..FRAME_LENGTH {
                assert_eq!(claim(VIP, HOP_LIMIT, &frame[54..length]), None);
            }
        }
        for length in [0, 2, 32, 255] {
            let mut other = advertisement;
            other[79] = length;
            assert_eq!(claim(VIP, HOP_LIMIT, &other[54..]), None);
            other[78] = 14;
            assert_eq!(claim(VIP, HOP_LIMIT, &other[54..]), None);
        }
        let probe = claim(Ipv6Addr::UNSPECIFIED, HOP_LIMIT, &question[54..]);
        assert_eq!(probe, None);
        let mut other = question;
        other[54] = 128;
        assert_eq!(claim(VIP, HOP_LIMIT, &other[54..]), None);
    }
}
