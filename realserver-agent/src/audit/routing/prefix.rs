//! Prefixes.

use std::fmt;
use std::net::IpAddr;

/// Addresses that begin alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prefix {
    address: IpAddr,
    length: u8,
}

impl Prefix {
    /// All addresses that have the first `length` bits of `address`.
    pub(crate) fn new(address: IpAddr, length: u8) -> Self {
        Self { address, length }
    }

    /// `None` unless it is `ADDRESS/LENGTH`, with a length that the family has.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let length = length.parse().ok()?;
        (length <= bits(address).1).then_some(Self { address, length })
    }

    /// Whether the address begins like that. A default route contains all of its family.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let ((own, width), (other, other_width)) = (bits(self.address), bits(address));
        // All bits behind the prefix are shifted out; none is left of a prefix without length.
        let behind = u32::from(width.saturating_sub(self.length));
        width == other_width && (own ^ other).checked_shr(behind).unwrap_or(0) == 0
    }

    /// Whether it is a default route.
    pub(crate) fn is_all(&self) -> bool {
        self.length == 0
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.address, self.length)
    }
}

/// The bits of an address in the lowest places, and how many there are.
fn bits(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(address) => (address.to_bits().into(), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_contains_what_begins_like_it() {
        let contains = |prefix: &str, address: &str| {
            Prefix::parse(prefix)
                .unwrap()
                .contains(address.parse().unwrap())
        };
        assert!(contains("6.6.6.0/24", "6.6.6.6"));
        assert!(contains("6.6.6.6/32", "6.6.6.6"));
        assert!(contains("0.0.0.0/0", "6.6.6.6"));
        assert!(contains("::/0", "2001:db8::1"));
        assert!(contains("2001:db8::/32", "2001:db8::1"));
        assert!(!contains("6.6.6.0/29", "6.6.6.8"));
        assert!(!contains("0.0.0.0/0", "2001:db8::1"));
        assert!(!contains("::/0", "6.6.6.6"));
        for wrong in [
            "6.6.6.6",
            "6.6.6.6/33",
            "6.6.6/24",
            "2001:db8::/129",
            "/",
            "",
        ] {
            assert_eq!(Prefix::parse(wrong), None, "{wrong}");
        }
    }
}
