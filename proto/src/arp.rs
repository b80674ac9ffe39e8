//! ARP over Ethernet (RFC 826): the announcement of an address that has moved here, the question who has
//! one, and what others say of theirs.

use core::net::Ipv4Addr;

use pnet::packet::Packet;
use pnet::packet::arp::{ArpHardwareTypes, ArpOperations, ArpPacket, MutableArpPacket};
use pnet::packet::ethernet::{EtherTypes, EthernetPacket, MutableEthernetPacket};
use pnet::util::MacAddr;

use crate::sentinel::{Claim, Form};

/// An Ethernet header and an ARP packet, in bytes.
pub const FRAME_LENGTH: usize = 42;

/// A gratuitous ARP request: neighbours that have an entry for `address` move it to
/// `hardware_address` (RFC 9568, section 8.1.2; the request form is what keepalived sends and switches
/// are used to). That is the target's hardware address too (errata 7947 and 7949).
pub fn gratuitous(hardware_address: [u8; 6], address: Ipv4Addr) -> [u8; FRAME_LENGTH] {
    request(hardware_address, address, hardware_address, address)
}

/// A broadcast request: who has `target`? The answer goes to `hardware_address`, and who hears the
/// question believes that `sender` is there too.
pub fn question(
    hardware_address: [u8; 6],
    sender: Ipv4Addr,
    target: Ipv4Addr,
) -> [u8; FRAME_LENGTH] {
    request(hardware_address, sender, [0; 6], target)
}

/// Whom a frame, from its Ethernet header on, says to have the sender's address: every ARP message does,
/// whatever else it is for. `None` for what is no ARP, and for a sender without an address (RFC 5227,
/// section 1.1).
pub fn claim(frame: &[u8]) -> Option<Claim> {
    let ethernet = EthernetPacket::new(frame)?;
    let arp = ArpPacket::new(ethernet.payload())?;
    let is_ipv4_over_ethernet = ethernet.get_ethertype() == EtherTypes::Arp
        && arp.get_hardware_type() == ArpHardwareTypes::Ethernet
        && arp.get_protocol_type() == EtherTypes::Ipv4
        && (arp.get_hw_addr_len(), arp.get_proto_addr_len()) == (6, 4);
    let sender = arp.get_sender_proto_addr();
    if !is_ipv4_over_ethernet || sender.is_unspecified() {
        return None;
    }
    let form = match arp.get_operation() {
        _ if sender == arp.get_target_proto_addr() => Form::Announcement,
        ArpOperations::Reply => Form::Answer,
        ArpOperations::Request => Form::Question,
        _ => return None,
    };
    Some(Claim {
        address: sender.into(),
        hardware_address: arp.get_sender_hw_addr().octets(),
        form,
    })
}

fn request(
    sender_hardware_address: [u8; 6],
    sender: Ipv4Addr,
    target_hardware_address: [u8; 6],
    target: Ipv4Addr,
) -> [u8; FRAME_LENGTH] {
    let own = MacAddr::from(sender_hardware_address);
    let mut frame = [0; FRAME_LENGTH];
    let (header, body) = frame.split_at_mut(MutableEthernetPacket::minimum_packet_size());
    let sizes = "FRAME_LENGTH holds an Ethernet header and an ARP packet";
    let mut ethernet = MutableEthernetPacket::new(header).expect(sizes);
    ethernet.set_destination(MacAddr::broadcast());
    ethernet.set_source(own);
    ethernet.set_ethertype(EtherTypes::Arp);
    let mut arp = MutableArpPacket::new(body).expect(sizes);
    arp.set_hardware_type(ArpHardwareTypes::Ethernet);
    arp.set_protocol_type(EtherTypes::Ipv4);
    arp.set_hw_addr_len(6);
    arp.set_proto_addr_len(4);
    arp.set_operation(ArpOperations::Request);
    arp.set_sender_hw_addr(own);
    arp.set_sender_proto_addr(sender);
    arp.set_target_hw_addr(target_hardware_address.into());
    arp.set_target_proto_addr(target);
    frame
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const HARDWARE_ADDRESS: [u8; 6] = [0x02, 0, 0, 0, 0, 0x0b];
    const VIP: Ipv4Addr = Ipv4Addr::new(192, 168, 56, 185);

    #[test]
    fn golden_bytes() {
        #[rustfmt::skip]
        let expected = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0, 0, 0, 0, 0x0b, 0x08, 0x06,
            0, 1, 0x08, 0, 6, 4, 0, 1,
            0x02, 0, 0, 0, 0, 0x0b, 192, 168, 56, 185,
            0x02, 0, 0, 0, 0, 0x0b, 192, 168, 56, 185,
        ];
        assert_eq!(gratuitous(HARDWARE_ADDRESS, VIP), expected);
        let mut expected = expected;
        expected[28..32].copy_from_slice(&[192, 168, 56, 181]);
        expected[32..38].fill(0);
        let sender = Ipv4Addr::new(192, 168, 56, 181);
        assert_eq!(question(HARDWARE_ADDRESS, sender, VIP), expected);
    }

    #[test]
    fn every_message_claims_its_senders_address() {
        let form = |frame: &[u8]| {
            let claim = claim(frame)?;
            assert_eq!(claim.hardware_address, HARDWARE_ADDRESS);
            assert_eq!(claim.address, VIP);
            Some(claim.form)
        };
        let gratuitous = gratuitous(HARDWARE_ADDRESS, VIP);
        assert_eq!(form(&gratuitous), Some(Form::Announcement));
        let other = Ipv4Addr::new(192, 168, 56, 10);
        let question = question(HARDWARE_ADDRESS, VIP, other);
        assert_eq!(form(&question), Some(Form::Question));
        let mut answer = question;
        answer[21] = 2;
        assert_eq!(form(&answer), Some(Form::Answer));
        // As it arrives, with the padding of a short frame.
        let padded = [&answer[..], &[0; 18]].concat();
        assert_eq!(form(&padded), Some(Form::Answer));
    }

    #[test]
    fn what_claims_nothing() {
        let probe = question(HARDWARE_ADDRESS, Ipv4Addr::UNSPECIFIED, VIP);
        assert_eq!(claim(&probe), None);
        let whole = gratuitous(HARDWARE_ADDRESS, VIP);
        for length in 0..FRAME_LENGTH {
            assert_eq!(claim(&whole[..length]), None, "{length} bytes");
        }
        // Ethertype, hardware type, protocol type, both lengths, operation.
        for (place, value) in [(13, 0), (15, 6), (16, 0x86), (18, 8), (19, 16)] {
            let mut other = whole;
            other[place] = value;
            assert_eq!(claim(&other), None, "{value} at {place}");
        }
    }
}
