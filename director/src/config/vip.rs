//! Reads VIPs, and judges each by itself.

use std::net::IpAddr;

use lvs_configuration::address::{parse, why_not_a_virtual_address};
use lvs_configuration::document::Value;
use lvs_configuration::error::{Findings, Located};
use lvs_configuration::reader::{self, Mapping, Place};

use super::model::{AddressScope, VirtualAddress};

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
