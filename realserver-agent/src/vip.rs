//! Which addresses can be a VIP.

use std::net::Ipv4Addr;

/// Why a text is no VIP.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidVip {
    /// Not an IPv4 address at all.
    #[error(
        "{0:?} is not an IPv4 address; a VIP is written like 192.168.56.185, without a prefix length"
    )]
    NotAnAddress(String),
    /// An IPv4 address that no host can be reached under.
    #[error("{address} is {kind} address; a VIP is one that clients can reach")]
    NotReachable {
        /// The address.
        address: Ipv4Addr,
        /// What it is instead, with its article.
        kind: &'static str,
    },
}

/// Reads a VIP: a unicast IPv4 address without a prefix length.
pub fn parse(text: &str) -> Result<Ipv4Addr, InvalidVip> {
    let address: Ipv4Addr = text
        .parse()
        .map_err(|_| InvalidVip::NotAnAddress(text.into()))?;
    let kind = match address.octets()[0] {
        0 => "an unspecified",
        127 => "a loopback",
        224..=239 => "a multicast",
        240.. => "a reserved or broadcast",
        _ => return Ok(address),
    };
    Err(InvalidVip::NotReachable { address, kind })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn unicast_only() {
        assert_eq!(
            parse("192.168.56.185"),
            Ok(Ipv4Addr::new(192, 168, 56, 185))
        );
        assert_eq!(parse("6.6.6.6"), Ok(Ipv4Addr::new(6, 6, 6, 6)));
        for text in [
            "0.0.0.0",
            "127.0.0.1",
            "224.0.0.18",
            "240.0.0.1",
            "255.255.255.255",
        ] {
            assert!(
                matches!(parse(text), Err(InvalidVip::NotReachable { .. })),
                "{text}"
            );
        }
        for text in [
            "",
            "vip",
            "192.168.56",
            "192.168.56.185/32",
            "2001:db8::1",
            "010.0.0.1",
        ] {
            assert_eq!(parse(text), Err(InvalidVip::NotAnAddress(text.into())));
        }
    }
}
