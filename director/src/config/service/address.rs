//! Reads what clients ask: addresses and ranges of them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lvs_configuration::address;
use lvs_configuration::error::{Findings, Located};
use lvs_configuration::reader::{self, Place};
use lvs_proto::Family;

use super::intervals::Intervals;
use crate::config::defaults;

/// Addresses of one family, one after the other: at least one, at most
/// [`defaults::MAXIMUM_VIRTUAL_SERVICES`].
///
/// Written `192.0.2.1` and `192.0.2.1-192.0.2.9`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) struct AddressRange {
    first: IpAddr,
    last: IpAddr,
}

impl AddressRange {
    /// How many.
    pub(super) fn length(self) -> usize {
        // No more than a range may have.
        (number(self.last) - number(self.first) + 1) as usize
    }

    /// Both ends included.
    pub(in crate::config) fn addresses(self) -> impl Iterator<Item = IpAddr> {
        let (first, last) = (number(self.first), number(self.last));
        (first..=last).map(move |number| match self.first {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(number as u32)),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(number)),
        })
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            return self.first.fmt(formatter);
        }
        write!(formatter, "{}-{}", self.first, self.last)
    }
}

pub(super) fn one(
    place: &Place<'_>,
    findings: &mut Findings,
) -> Option<Vec<Located<AddressRange>>> {
    let text = reader::text(place, "the VIP that clients ask", findings)?;
    let judged = address::parse(text).and_then(judged);
    match judged {
        Ok(address) => Some(vec![place.located(AddressRange {
            first: address,
            last: address,
        })]),
        Err(_) if parse(text).is_ok_and(|range| range.first != range.last) => {
            let message = format!("`{text}` is a range; write it as `addresses: [{text}]`");
            findings.add(&place.origin(), message);
            None
        }
        Err(message) => {
            findings.add(&place.origin(), message);
            None
        }
    }
}

pub(super) fn several(
    place: &Place<'_>,
    findings: &mut Findings,
) -> Option<Vec<Located<AddressRange>>> {
    let what = "a list of addresses and ranges, such as [192.0.2.1, 192.0.2.8-192.0.2.11]";
    let mut taken = Intervals::new();
    reader::filled_list(place, what, findings, |place, findings| {
        let text = reader::text(place, "an address or a range of them", findings)?;
        let range = match parse(text) {
            Ok(range) => range,
            Err(message) => {
                findings.add(&place.origin(), message);
                return None;
            }
        };
        let line = place.origin().line();
        if let Err((address, line)) = taken.take(range.first, range.last, line) {
            let message = format!("{address} is already listed in line {line}; list it once");
            findings.add(&place.origin(), message);
            return None;
        }
        Some(place.located(range))
    })
}

/// `A`, `A-B`, or `A-b` where `b` is what the last byte (two bytes for IPv6) of the last one is.
fn parse(text: &str) -> Result<AddressRange, String> {
    let Some((first, last)) = text.split_once('-') else {
        let address = address::parse(text).and_then(judged)?;
        return Ok(AddressRange {
            first: address,
            last: address,
        });
    };
    let first = address::parse(first.trim()).and_then(judged)?;
    let last = last.trim();
    let last = match with_last_part(first, last) {
        Some(last) => last,
        None => last.parse().map_err(|_| {
            let part = match first {
                IpAddr::V4(_) => "its last byte",
                IpAddr::V6(_) => "its last two bytes in hexadecimal digits",
            };
            format!("`{last}` can't end a range; write an address of {first}'s family, or {part}")
        })?,
    };
    let last = judged(last)?;
    if Family::of(first) != Family::of(last) {
        return Err(format!(
            "goes from {first} to {last}, which is of the other family; write two addresses"
        ));
    }
    if first > last {
        return Err(format!("runs backwards; write {last}-{first}"));
    }
    let most = defaults::MAXIMUM_VIRTUAL_SERVICES as u128;
    if number(last) - number(first) >= most {
        return Err(format!(
            "{text} has more than {most} addresses; give what is sent to them a mark, and write \
             `firewall_mark`"
        ));
    }
    Ok(AddressRange { first, last })
}

fn with_last_part(first: IpAddr, part: &str) -> Option<IpAddr> {
    match first {
        IpAddr::V4(first) => {
            let [a, b, c, _] = first.octets();
            Some(Ipv4Addr::new(a, b, c, part.parse().ok()?).into())
        }
        IpAddr::V6(first) => {
            let last = u16::from_str_radix(part, 16).ok()?;
            let upper = first.to_bits() & !u128::from(u16::MAX);
            Some(Ipv6Addr::from_bits(upper | u128::from(last)).into())
        }
    }
}

fn judged(address: IpAddr) -> Result<IpAddr, String> {
    if let Some(reason) = address::why_not_a_virtual_address(address) {
        return Err(format!(
            "{address} {reason}; a service's address is one of the LAN"
        ));
    }
    if address::is_link_local(address) {
        return Err(format!(
            "{address} is link-local, and IPVS doesn't tell one link from another; write a global \
             address, or a unique local one (fd00::/8)"
        ));
    }
    Ok(address)
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}
