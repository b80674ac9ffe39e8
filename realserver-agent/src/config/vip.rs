//! An item of `vips`.

use std::net::IpAddr;

use lvs_configuration::document::Value;
use lvs_configuration::error::{Findings, Located};
use lvs_configuration::reader::{self, Mapping, Place};

use super::anycast;
use crate::vip::{self, Vip};

const KEYS: [&str; 3] = ["address", "interface", "label"];

/// An address, or a mapping with one; on `interface` unless it says otherwise. With the mapping, which may
/// have keys for anycast.
pub(super) fn read<'n>(
    place: &Place<'n>,
    interface: &str,
    findings: &mut Findings,
) -> Option<(Located<Vip>, Option<Mapping<'n>>)> {
    if !matches!(place.value(), Value::Mapping(_)) {
        let address = address(place, findings)?;
        let vip = place.located(Vip {
            interface: interface.to_owned(),
            ..Vip::on_loopback(address)
        });
        return Some((vip, None));
    }
    let known = [KEYS.as_slice(), &anycast::VIP_KEYS].concat();
    let mapping = Mapping::of_known_keys(place, &known, findings)?;
    let address = mapping.required("address", "write the VIP", findings, address);
    let own = mapping.optional("interface", findings, reader::interface);
    let interface = own.map(|own| own.unwrap_or_else(|| interface.to_owned()));
    let label = mapping.optional("label", findings, |place, findings| {
        label(place, address?, interface.as_deref()?, findings)
    });
    let vip = mapping.get("address")?.located(Vip {
        address: address?,
        interface: interface?,
        label: label?,
        lifetime: None,
    });
    Some((vip, Some(mapping)))
}

fn address(place: &Place<'_>, findings: &mut Findings) -> Option<IpAddr> {
    let text = reader::text(place, "a VIP, such as 192.168.56.185", findings)?;
    vip::parse(text)
        .map_err(|error| findings.add(&place.origin(), error.to_string()))
        .ok()
}

fn label(
    place: &Place<'_>,
    address: IpAddr,
    interface: &str,
    findings: &mut Findings,
) -> Option<String> {
    let text = reader::text(place, "a label, such as `lo:1`", findings)?;
    parse_label(text, address, interface)
        .map_err(|message| findings.add(&place.origin(), message))
        .ok()
}

/// A label for `address` on `interface`: what the kernel takes, and `ifconfig` understands.
///
/// # Errors
/// What is wrong with it, for a person to read.
pub fn parse_label(text: &str, address: IpAddr, interface: &str) -> Result<String, String> {
    if address.is_ipv6() {
        return Err("an IPv6 address has no label; remove it".to_owned());
    }
    let suffix = text.strip_prefix(interface);
    let fits = suffix.is_some_and(|rest| rest.is_empty() || (rest.starts_with(':') && rest != ":"));
    let printable = text.bytes().all(|byte| byte.is_ascii_graphic());
    if fits && printable && text.len() <= LONGEST_LABEL {
        return Ok(text.to_owned());
    }
    Err(format!(
        "{text} is not a label on {interface}; must be {interface}, or {interface}: and something after it, at most {LONGEST_LABEL} bytes in all"
    ))
}

/// `IFNAMSIZ` without the zero byte, `linux/if.h`.
const LONGEST_LABEL: usize = 15;
