//! ARP over Ethernet (RFC 826): the announcement of an address that has moved here.

use core::net::Ipv4Addr;

use pnet::packet::arp::{ArpHardwareTypes, ArpOperations, MutableArpPacket};
use pnet::packet::ethernet::{EtherTypes, MutableEthernetPacket};
use pnet::util::MacAddr;

/// An Ethernet header and an ARP packet, in bytes.
pub const FRAME_LENGTH: usize = 42;

/// A gratuitous ARP request: neighbours that have an entry for `address` move it to
/// `hardware_address` (RFC 9568, section 8.1.2; the request form is what keepalived sends and switches
/// are used to). That is the target's hardware address too (errata 7947 and 7949).
pub fn gratuitous(hardware_address: [u8; 6], address: Ipv4Addr) -> [u8; FRAME_LENGTH] {
    let own = MacAddr::from(hardware_address);
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
    arp.set_sender_proto_addr(address);
    arp.set_target_hw_addr(own);
    arp.set_target_proto_addr(address);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes() {
        let frame = gratuitous([0x02, 0, 0, 0, 0, 0x0b], Ipv4Addr::new(192, 168, 56, 185));
        #[rustfmt::skip]
        let expected = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0, 0, 0, 0, 0x0b, 0x08, 0x06,
            0, 1, 0x08, 0, 6, 4, 0, 1,
            0x02, 0, 0, 0, 0, 0x0b, 192, 168, 56, 185,
            0x02, 0, 0, 0, 0, 0x0b, 192, 168, 56, 185,
        ];
        assert_eq!(frame, expected);
    }
}
