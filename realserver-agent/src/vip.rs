//! VIPs: which addresses can be one, and where it is put.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The interface that carries VIPs unless another one is named.
pub const LOOPBACK: &str = "lo";

/// A VIP as this machine should hold it: a single address (`/32` or `/128`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vip {
    /// The address.
    pub address: IpAddr,
    /// [`LOOPBACK`] or a dummy interface, which is made where it is missing.
    pub interface: String,
    /// IPv4 only: how `ifconfig` lists it. `None` is `lo:0`, or the next number that is free, and on a
    /// dummy interface no label.
    pub label: Option<String>,
    /// How long the kernel keeps the address unless it is renewed, in whole seconds (rounded up).
    /// `None` for ever, on a real server.
    pub lifetime: Option<Duration>,
}

/// An address on an interface: what a VIP is known by on the machine and in the records.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The address.
    pub address: IpAddr,
    /// The interface's name.
    pub interface: String,
}

/// Why a text is no VIP.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidVip {
    /// Not an IP address at all.
    #[error(
        "{0:?} is not an IP address; a VIP is written like 192.168.56.185 or 2001:db8::53, without a prefix length"
    )]
    NotAnAddress(String),
    /// An address that no host can be reached under.
    #[error("{address} is {kind} address; a VIP is one that clients can reach")]
    NotReachable {
        /// The address.
        address: IpAddr,
        /// What it is instead, with its article.
        kind: &'static str,
    },
}

impl Vip {
    /// `address` on [`LOOPBACK`], for ever.
    pub fn on_loopback(address: IpAddr) -> Self {
        Self {
            address,
            interface: LOOPBACK.into(),
            label: None,
            lifetime: None,
        }
    }

    /// Whether routers are to hear of it, as with `mode: anycast`; they hear of a director's otherwise.
    pub fn is_announced(&self) -> bool {
        self.lifetime.is_some()
    }

    /// Whether the main table has a route for it, besides the kernel's own: for IPv4, where no routing
    /// daemon is to make one.
    pub fn has_host_route(&self) -> bool {
        self.address.is_ipv4() && !self.is_announced()
    }

    /// Where it is put.
    pub fn place(&self) -> Place {
        Place {
            address: self.address,
            interface: self.interface.clone(),
        }
    }
}

/// The length of the prefix that is one address: 32, or 128 for IPv6.
pub fn host_prefix_length(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// Reads a VIP: a unicast address without a prefix length or a zone.
pub fn parse(text: &str) -> Result<IpAddr, InvalidVip> {
    let address: IpAddr = text
        .parse()
        .map_err(|_| InvalidVip::NotAnAddress(text.into()))?;
    let unreachable = match address {
        IpAddr::V4(address) => unreachable_ipv4(address),
        IpAddr::V6(address) => unreachable_ipv6(address),
    };
    match unreachable {
        Some(kind) => Err(InvalidVip::NotReachable { address, kind }),
        None => Ok(address),
    }
}

fn unreachable_ipv4(address: Ipv4Addr) -> Option<&'static str> {
    match address.octets()[0] {
        0 => Some("an unspecified"),
        127 => Some("a loopback"),
        224..=239 => Some("a multicast"),
        240.. => Some("a reserved or broadcast"),
        _ => None,
    }
}

fn unreachable_ipv6(address: Ipv6Addr) -> Option<&'static str> {
    if address.is_unspecified() {
        Some("an unspecified")
    } else if address.is_loopback() {
        Some("a loopback")
    } else if address.is_multicast() {
        Some("a multicast")
    } else if address.is_unicast_link_local() {
        Some("a link-local")
    } else if address.to_ipv4_mapped().is_some() {
        Some("an IPv4-mapped")
    } else {
        None
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} on {}", self.address, self.interface)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn unicast_only() {
        for text in ["192.168.56.185", "6.6.6.6", "2001:db8::53", "fd00::53"] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
        for text in [
            "0.0.0.0",
            "127.0.0.1",
            "224.0.0.18",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "ff02::12",
            "fe80::1",
            "::ffff:192.168.56.185",
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
            "2001:db8::1/128",
            "2001:db8::1%eth0",
            "010.0.0.1",
        ] {
            assert_eq!(parse(text), Err(InvalidVip::NotAnAddress(text.into())));
        }
    }
}
