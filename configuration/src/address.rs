//! Reads addresses, and says what is wrong with one.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::error::Findings;
use crate::reader::{self, Place};

/// The address of a host that isn't us, or our own one.
pub fn host(place: &Place<'_>, what: &str, findings: &mut Findings) -> Option<IpAddr> {
    let text = reader::text(place, what, findings)?;
    let judged = parse(text).and_then(|address| match why_not_a_virtual_address(address) {
        Some(reason) => Err(format!("{address} {reason}; must be {what}")),
        None => Ok(address),
    });
    judged
        .map_err(|message| findings.add(&place.origin(), message))
        .ok()
}

/// An address and a port of this machine to listen on.
pub fn listen(place: &Place<'_>, findings: &mut Findings) -> Option<SocketAddr> {
    let what = "an address and a port, such as \"127.0.0.1:9712\" or \"[::1]:9712\"";
    let text = reader::text(place, what, findings)?;
    let listen = text
        .parse::<SocketAddr>()
        .ok()
        .filter(|listen| listen.port() != 0);
    if listen.is_none() {
        let message = format!("`{text}` can't be listened on; must be {what}");
        findings.add(&place.origin(), message);
    }
    listen
}

/// An address of either family.
pub fn parse(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| {
        let (kind, example) = if text.contains(':') {
            ("IPv6", "2001:db8::1")
        } else {
            ("IPv4", "192.0.2.1")
        };
        format!("`{text}` is not an {kind} address; write one such as {example}")
    })
}

/// Why no host can have the address, if so.
pub fn why_not_a_host(address: IpAddr) -> Option<&'static str> {
    let unspecified = match address {
        IpAddr::V4(address) => address.octets()[0] == 0,
        IpAddr::V6(address) => address.is_unspecified(),
    };
    if unspecified {
        Some("is unspecified")
    } else if address.is_multicast() {
        Some("is a multicast address")
    } else if address == Ipv4Addr::BROADCAST {
        Some("is the broadcast address")
    } else {
        None
    }
}

/// Why a service's address or a VIP can't be this one, if so.
pub fn why_not_a_virtual_address(address: IpAddr) -> Option<&'static str> {
    let mapped = matches!(address, IpAddr::V6(address) if address.to_ipv4_mapped().is_some());
    why_not_a_host(address)
        .or_else(|| address.is_loopback().then_some("is a loopback address"))
        .or_else(|| mapped.then_some("is an IPv4 address written as IPv6"))
}

/// Whether it is valid on one link only.
pub fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}
