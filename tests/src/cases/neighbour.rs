//! What a neighbour on the LAN asks, and what it believes.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};

use crate::capture::Capture;
use crate::lab::{Host, Mac};

/// A broadcast ARP request (RFC 826) from Ethernet header on: who has `target`?
pub(super) fn arp_request(mac: Mac, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut frame = Vec::with_capacity(42);
    frame.extend([0xff; 6]);
    frame.extend(mac);
    // ARP; Ethernet and IPv4, their address lengths, a request.
    frame.extend([0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1]);
    frame.extend(mac);
    frame.extend(sender.octets());
    frame.extend([0; 6]);
    frame.extend(target.octets());
    frame
}

/// How many ARP replies for `address` came in by `interface`.
pub(super) fn replies(capture: &Capture, interface: &str, address: Ipv4Addr) -> usize {
    let replies = capture.arps().into_iter().filter(|(frame, arp)| {
        !frame.outgoing && frame.interface == interface && !arp.request && arp.sender == address
    });
    replies.count()
}

/// The Ethernet address that a host's neighbour table has for `address`.
pub(super) fn neighbour(host: &Host, address: impl Into<IpAddr>) -> Option<Mac> {
    let text = match address.into() {
        IpAddr::V4(address) => {
            let table = host.within(|| fs::read_to_string("/proc/thread-self/net/arp"));
            let table = table.ok()?;
            let own = |line: &&str| line.split_whitespace().next() == Some(&address.to_string());
            let line = table.lines().find(own)?;
            line.split_whitespace().nth(3)?.to_owned()
        }
        // The kernel shows IPv6 neighbours through netlink only.
        IpAddr::V6(address) => {
            let table = host.run(&format!("ip neighbour show {address}")).ok()?;
            let mut words = table.split_whitespace();
            words.find(|word| *word == "lladdr")?;
            words.next()?.to_owned()
        }
    };
    let mut octets = text.split(':');
    let mut mac = Mac::default();
    for octet in &mut mac {
        *octet = u8::from_str_radix(octets.next()?, 16).ok()?;
    }
    Some(mac)
}
