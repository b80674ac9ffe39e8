//! What the table consists of.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU16, NonZeroU32};
use std::ops::BitOr;
use std::time::Duration;

use super::Scheduler;
use crate::Family;

/// The transport that a service forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// UDP, number 17.
    Udp,
    /// TCP, number 6.
    Tcp,
    /// SCTP, number 132.
    Sctp,
}

/// What makes a virtual service the one it is.
///
/// Written `192.0.2.1:53/udp`, `[2001:db8::1]:53/udp` and `mark 7/ipv4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServiceKey {
    /// What is sent to an address and a port.
    Socket {
        /// The virtual address.
        address: IpAddr,
        /// The port; 0 means every port and is of use with persistence only.
        port: u16,
        /// The transport.
        protocol: Protocol,
    },
    /// What the director's packet filter has given a mark, whatever its address, port and
    /// transport.
    FirewallMark {
        /// The mark.
        mark: NonZeroU32,
        /// The family of the packets.
        family: Family,
    },
}

/// A virtual service without its destinations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Service {
    /// What is scheduled.
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
    /// Inside another packet.
    Tunnel(Tunnel),
    /// Unchanged, with the destination's link-layer address.
    DirectRouting,
    /// To the original destination, for transparent caches.
    Bypass,
}

/// How a packet is wrapped on its way to a destination (`IP_VS_CONN_F_TUNNEL_TYPE_*`).
///
/// Written `ipip`, `gue port 6080` and `gre, checksum plain`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tunnel {
    /// IP in IP (RFC 2003).
    #[default]
    IpIp,
    /// Generic UDP encapsulation.
    Gue {
        /// The UDP port that the real server listens on.
        port: NonZeroU16,
        /// What is checked on the way.
        checksum: TunnelChecksum,
    },
    /// Generic routing encapsulation (RFC 2784).
    Gre {
        /// What is checked on the way; not [`TunnelChecksum::Remote`].
        checksum: TunnelChecksum,
    },
}

/// Which checksum the outer packet has (`IP_VS_TUNNEL_ENCAP_FLAG_*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TunnelChecksum {
    /// None.
    #[default]
    None,
    /// One of its own.
    Plain,
    /// That of the inner packet, by remote checksum offload.
    Remote,
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
    /// Its number (the IANA's protocol numbers), as `linux/in.h` has it.
    pub fn number(self) -> u16 {
        match self {
            Self::Udp => 17,
            Self::Tcp => 6,
            Self::Sctp => 132,
        }
    }

    pub(super) fn from_number(number: u16) -> Option<Self> {
        match number {
            17 => Some(Self::Udp),
            6 => Some(Self::Tcp),
            132 => Some(Self::Sctp),
            _ => None,
        }
    }
}

impl ServiceKey {
    /// The family of the packets that are scheduled.
    pub fn family(&self) -> Family {
        match self {
            Self::Socket { address, .. } => Family::of(*address),
            Self::FirewallMark { family, .. } => *family,
        }
    }

    /// The transport, where there is only one.
    pub fn protocol(&self) -> Option<Protocol> {
        match self {
            Self::Socket { protocol, .. } => Some(*protocol),
            Self::FirewallMark { .. } => None,
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
            Self::Tunnel(_) => 2,
            Self::DirectRouting => 3,
            Self::Bypass => 4,
        }
    }

    /// `tunnel` is what it would be if it is one.
    pub(super) fn from_number(number: u32, tunnel: Tunnel) -> Option<Self> {
        match number & Self::MASK {
            0 => Some(Self::Masquerading),
            1 => Some(Self::LocalNode),
            2 => Some(Self::Tunnel(tunnel)),
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
            Self::Sctp => "sctp",
        })
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Socket {
                address,
                port,
                protocol,
            } => write!(formatter, "{}/{protocol}", SocketAddr::new(address, port)),
            Self::FirewallMark { mark, family } => match family {
                Family::Ipv4 => write!(formatter, "mark {mark}/ipv4"),
                Family::Ipv6 => write!(formatter, "mark {mark}/ipv6"),
            },
        }
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
            Self::Masquerading => "masquerade",
            Self::LocalNode => "local-node",
            Self::Tunnel(tunnel) => return write!(formatter, "tunnel {tunnel}"),
            Self::DirectRouting => "direct-routing",
            Self::Bypass => "bypass",
        })
    }
}

impl fmt::Display for Tunnel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let checksum = match self {
            Self::IpIp => return formatter.write_str("ipip"),
            Self::Gue { port, checksum } => {
                write!(formatter, "gue port {port}")?;
                checksum
            }
            Self::Gre { checksum } => {
                formatter.write_str("gre")?;
                checksum
            }
        };
        match checksum {
            TunnelChecksum::None => Ok(()),
            TunnelChecksum::Plain => formatter.write_str(", checksum plain"),
            TunnelChecksum::Remote => formatter.write_str(", checksum remote"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_as_operators_write_them() {
        let key = |address: &str| ServiceKey::Socket {
            address: address.parse().unwrap(),
            port: 53,
            protocol: Protocol::Udp,
        };
        assert_eq!(key("192.0.2.1").to_string(), "192.0.2.1:53/udp");
        assert_eq!(key("2001:db8::1").to_string(), "[2001:db8::1]:53/udp");
        let mark = ServiceKey::FirewallMark {
            mark: NonZeroU32::MIN,
            family: Family::Ipv6,
        };
        assert_eq!(mark.to_string(), "mark 1/ipv6");
        assert_eq!(
            (ServiceFlags::ONE_PACKET | ServiceFlags::SCHEDULER_2).to_string(),
            "ops,flag-2"
        );
    }
}
