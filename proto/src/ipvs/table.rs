//! What the table consists of.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::BitOr;
use std::time::Duration;

use super::Scheduler;

/// The transport that a service forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// UDP, number 17.
    Udp,
    /// TCP, number 6.
    Tcp,
}

/// What makes a virtual service the one it is.
///
/// Written `192.0.2.1:53/udp` and `[2001:db8::1]:53/udp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    /// The virtual address.
    pub address: IpAddr,
    /// The port; 0 means every port and is of use with persistence only.
    pub port: u16,
    /// The transport.
    pub protocol: Protocol,
}

/// A virtual service without its destinations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Service {
    /// Address, port and protocol.
    pub key: ServiceKey,
    /// How a destination is picked; `None` where the kernel has no scheduler for it, or one that
    /// this program doesn't know.
    pub scheduler: Option<Scheduler>,
    /// Switches of the service and its scheduler.
    pub flags: ServiceFlags,
    /// Whether a client stays with its destination beyond one connection.
    pub persistence: Option<Persistence>,
}

/// `IP_VS_SVC_F_*`, without those that the kernel keeps for itself (`HASHED`) and the one that
/// [`Persistence`] stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ServiceFlags(u32);

/// A client, or a network of clients, stays with its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Persistence {
    /// How long after the last connection, in whole seconds.
    pub timeout: Duration,
    /// How many bits of the client's address count: 1 to 32 for IPv4, 1 to 128 for IPv6.
    pub prefix_length: u8,
}

/// How packets reach a destination (`IP_VS_CONN_F_FWD_MASK`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Forwarding {
    /// Network address translation.
    Masquerading,
    /// The director itself.
    LocalNode,
    /// IP in IP, GUE or GRE.
    Tunnel,
    /// Unchanged, with the destination's link-layer address.
    DirectRouting,
    /// To the original destination, for transparent caches.
    Bypass,
}

/// What makes a destination the one it is, within its service.
///
/// Written `192.0.2.11:53`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DestinationKey {
    /// The real server's address.
    pub address: IpAddr,
    /// The real server's port. Direct routing doesn't change ports, whatever stands here.
    pub port: u16,
}

/// A real server of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Destination {
    /// Address and port.
    pub key: DestinationKey,
    /// How packets get there.
    pub forwarding: Forwarding,
    /// Share of the work, 0 to 2147483647; 0 takes no new connections.
    pub weight: u32,
    /// Connections at which the kernel stops sending new ones; 0 for no limit.
    pub upper_threshold: u32,
    /// Connections below which it starts again; not above `upper_threshold`.
    pub lower_threshold: u32,
}

impl Protocol {
    pub(super) fn number(self) -> u16 {
        match self {
            Self::Udp => 17,
            Self::Tcp => 6,
        }
    }

    pub(super) fn from_number(number: u16) -> Option<Self> {
        match number {
            17 => Some(Self::Udp),
            6 => Some(Self::Tcp),
            _ => None,
        }
    }
}

impl ServiceFlags {
    /// No flags.
    pub const NONE: Self = Self(0);
    /// One-packet scheduling: each UDP packet is scheduled on its own, and no entry stays.
    pub const ONE_PACKET: Self = Self(0x4);
    /// The scheduler's first switch: `sh-fallback`, `mh-fallback`.
    pub const SCHEDULER_1: Self = Self(0x8);
    /// The scheduler's second switch: `sh-port`, `mh-port`.
    pub const SCHEDULER_2: Self = Self(0x10);
    /// The scheduler's third switch.
    pub const SCHEDULER_3: Self = Self(0x20);

    const ALL: u32 = 0x3c;

    /// Whether all of `flags` are set.
    pub fn contains(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    pub(super) fn bits(self) -> u32 {
        self.0
    }

    pub(super) fn from_bits(bits: u32) -> Self {
        Self(bits & Self::ALL)
    }
}

impl BitOr for ServiceFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Forwarding {
    const MASK: u32 = 0x7;

    pub(super) fn number(self) -> u32 {
        match self {
            Self::Masquerading => 0,
            Self::LocalNode => 1,
            Self::Tunnel => 2,
            Self::DirectRouting => 3,
            Self::Bypass => 4,
        }
    }

    pub(super) fn from_number(number: u32) -> Option<Self> {
        match number & Self::MASK {
            0 => Some(Self::Masquerading),
            1 => Some(Self::LocalNode),
            2 => Some(Self::Tunnel),
            3 => Some(Self::DirectRouting),
            4 => Some(Self::Bypass),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        })
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            address,
            port,
            protocol,
        } = *self;
        write!(formatter, "{}/{protocol}", SocketAddr::new(address, port))
    }
}

impl fmt::Display for DestinationKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::new(self.address, self.port).fmt(formatter)
    }
}

impl fmt::Display for ServiceFlags {
    /// As `ipvsadm` writes them, separated by commas; nothing when none is set.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (flag, name) in [
            (Self::ONE_PACKET, "ops"),
            (Self::SCHEDULER_1, "flag-1"),
            (Self::SCHEDULER_2, "flag-2"),
            (Self::SCHEDULER_3, "flag-3"),
        ] {
            if self.contains(flag) {
                write!(formatter, "{separator}{name}")?;
                separator = ",";
            }
        }
        Ok(())
    }
}

impl fmt::Display for Forwarding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Masquerading => "masquerading",
            Self::LocalNode => "local-node",
            Self::Tunnel => "tunnel",
            Self::DirectRouting => "direct-routing",
            Self::Bypass => "bypass",
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_as_operators_write_them() {
        let key = |address: &str| ServiceKey {
            address: address.parse().unwrap(),
            port: 53,
            protocol: Protocol::Udp,
        };
        assert_eq!(key("192.0.2.1").to_string(), "192.0.2.1:53/udp");
        assert_eq!(key("2001:db8::1").to_string(), "[2001:db8::1]:53/udp");
        assert_eq!(
            (ServiceFlags::ONE_PACKET | ServiceFlags::SCHEDULER_2).to_string(),
            "ops,flag-2"
        );
    }
}
