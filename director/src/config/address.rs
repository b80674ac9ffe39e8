//! Reads addresses, and judges each by itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::document::Value;
use super::error::{Findings, Located};
use super::model::{AddressScope, VirtualAddress};
use super::reader::{self, Mapping, Place};

/// A list of VIPs: texts, or mappings with what else there is to say of one.
pub(super) fn virtual_addresses(
    place: &Place<'_>,
    findings: &mut Findings,
) -> Option<Vec<Located<VirtualAddress>>> {
    let what = "a list of VIPs, such as [192.0.2.1/24]";
    reader::filled_list(place, what, findings, |place, findings| {
        Some(place.located(virtual_address(place, findings)?))
    })
}

fn virtual_address(place: &Place<'_>, findings: &mut Findings) -> Option<VirtualAddress> {
    if !matches!(place.value(), Value::Mapping(_)) {
        let (address, prefix_length) = network_address(place, findings)?;
        return Some(VirtualAddress {
            address,
            prefix_length,
            interface: None,
            scope: AddressScope::default(),
            label: None,
        });
    }
    let known = ["address", "interface", "scope", "label"];
    let keys = Mapping::of_known_keys(place, &known, findings)?;
    let right = "write the VIP, such as 192.0.2.1/24";
    let network_address = keys.required("address", right, findings, network_address);
    let interface = keys.optional("interface", findings, reader::interface);
    let for_ipv4 = network_address.is_none_or(|(address, _)| address.is_ipv4());
    let scope = keys.optional("scope", findings, |place, findings| {
        if !for_ipv4 {
            let message = "is IPv4's; the kernel derives an IPv6 address's scope from the address, \
                           so leave it out";
            findings.add(&place.origin(), message);
            return None;
        }
        let words = [
            ("global", AddressScope::Global),
            ("link", AddressScope::Link),
            ("host", AddressScope::Host),
        ];
        reader::word(place, &words, findings)
    });
    let label = keys.optional("label", findings, |place, findings| {
        if !for_ipv4 {
            findings.add(&place.origin(), "is IPv4's; an IPv6 address has none");
            return None;
        }
        label(place, findings)
    });
    let (address, prefix_length) = network_address?;
    Some(VirtualAddress {
        address,
        prefix_length,
        interface: interface?,
        scope: scope?.unwrap_or_default(),
        label: label?,
    })
}

/// What it begins with is judged when the interface is known.
fn label(place: &Place<'_>, findings: &mut Findings) -> Option<String> {
    let text = reader::text(place, "a label, such as \"eth0:vip\"", findings)?;
    if (1..=15).contains(&text.len()) && text.chars().all(|letter| letter.is_ascii_graphic()) {
        return Some(text.to_owned());
    }
    let message = format!("`{text}` is not a label; must be 1 to 15 printable characters");
    findings.add(&place.origin(), message);
    None
}

fn network_address(place: &Place<'_>, findings: &mut Findings) -> Option<(IpAddr, u8)> {
    let text = reader::text(place, "a VIP, such as 192.0.2.1/24", findings)?;
    parse_network_address(text)
        .map_err(|message| findings.add(&place.origin(), message))
        .ok()
}

fn parse_network_address(text: &str) -> Result<(IpAddr, u8), String> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let address = parse(address)?;
    if let Some(reason) = why_not_a_virtual_address(address) {
        return Err(format!(
            "{address} {reason}; a VIP is a unicast address of the LAN"
        ));
    }
    let (whole, common) = match address {
        IpAddr::V4(_) => (32, 24),
        IpAddr::V6(_) => (128, 64),
    };
    let Some(length) = length else {
        return Err(format!(
            "{address} has no prefix length; write that of its LAN, such as {address}/{common}, \
             or {address}/{whole}"
        ));
    };
    let prefix_length = length
        .parse()
        .ok()
        .filter(|length| (1..=whole).contains(length))
        .ok_or_else(|| format!("`/{length}` is not a prefix length; must be /1 to /{whole}"))?;
    match why_not_in_its_network(address, prefix_length) {
        Some(reason) => Err(format!("{text} {reason}")),
        None => Ok((address, prefix_length)),
    }
}

/// Networks of two addresses (RFC 3021, RFC 6164) and of one have none that is special.
fn why_not_in_its_network(address: IpAddr, prefix_length: u8) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) if prefix_length <= 30 => {
            let host = u32::MAX >> prefix_length;
            match address.to_bits() & host {
                0 => Some("is the address of its own network; write one of a host"),
                all if all == host => {
                    Some("is the broadcast address of its network; write a host's")
                }
                _ => None,
            }
        }
        IpAddr::V6(address) if prefix_length <= 126 => {
            let host = u128::MAX >> prefix_length;
            (address.to_bits() & host == 0).then_some(
                "is the anycast address of its network's routers (RFC 4291, section 2.6.1); write \
                 one of a host",
            )
        }
        _ => None,
    }
}

/// The address of a host that isn't us, or our own one.
pub(super) fn host(place: &Place<'_>, what: &str, findings: &mut Findings) -> Option<IpAddr> {
    let text = reader::text(place, what, findings)?;
    let judged = parse(text).and_then(|address| match why_not_a_virtual_address(address) {
        Some(reason) => Err(format!("{address} {reason}; must be {what}")),
        None => Ok(address),
    });
    judged
        .map_err(|message| findings.add(&place.origin(), message))
        .ok()
}

/// An IPv4 address; `for_ipv6` is what is said of an IPv6 address.
pub(super) fn ipv4(place: &Place<'_>, for_ipv6: &str, findings: &mut Findings) -> Option<Ipv4Addr> {
    let text = reader::text(place, "an IPv4 address", findings)?;
    let message = match text.parse() {
        Ok(address) => return Some(address),
        Err(_) if text.parse::<Ipv6Addr>().is_ok() => {
            format!("`{text}` is an IPv6 address; {for_ipv6}")
        }
        Err(_) => format!("`{text}` is not an IPv4 address; write one such as 192.0.2.1"),
    };
    findings.add(&place.origin(), message);
    None
}

fn parse(text: &str) -> Result<IpAddr, String> {
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
pub(super) fn why_not_a_host(address: IpAddr) -> Option<&'static str> {
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
pub(super) fn why_not_a_virtual_address(address: IpAddr) -> Option<&'static str> {
    let mapped = matches!(address, IpAddr::V6(address) if address.to_ipv4_mapped().is_some());
    why_not_a_host(address)
        .or_else(|| address.is_loopback().then_some("is a loopback address"))
        .or_else(|| mapped.then_some("is an IPv4 address written as IPv6"))
}

/// Whether it is valid on one link only.
pub(super) fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}
