//! Replies. Attributes are found by number, in any order; unknown ones are passed over.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use super::attribute::{
    Attributes, OfDestination, OfInformation, OfService, OfStatistics, PERSISTENT, Top,
    family_of_number,
};
use super::command::{CHECKSUM, GRE, GUE, REMOTE_CHECKSUM};
use super::{
    Destination, DestinationKey, Forwarding, Persistence, Protocol, Scheduler, Service,
    ServiceFlags, ServiceKey, Timeouts, Tunnel, TunnelChecksum,
};
use crate::Family;

/// Why a reply can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The message or an attribute in it ends early.
    #[error("the kernel's reply ends early")]
    Truncated,
    /// An attribute that every kernel sends is absent.
    #[error("the kernel's reply lacks {0}")]
    Missing(String),
    /// An attribute is too short, or has a value that means nothing.
    #[error("the kernel's reply has an invalid {0}")]
    Invalid(String),
}

/// Counters since the service or destination was made; they lag up to 2 s behind.
///
/// 64 bits wide; kernels before 4.1 give 32 bits of the first three, which wrap around.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Connections scheduled; each packet of a one-packet service is one.
    pub connections: u64,
    /// Packets towards the real servers.
    pub incoming_packets: u64,
    /// Packets back through the director: none with direct routing.
    pub outgoing_packets: u64,
    /// Bytes towards the real servers.
    pub incoming_bytes: u64,
    /// Bytes back through the director: none with direct routing.
    pub outgoing_bytes: u64,
}

/// A service as the kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundService {
    /// What it is.
    pub service: Service,
    /// What it did.
    pub statistics: Statistics,
}

/// A destination as the kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundDestination {
    /// What it is.
    pub destination: Destination,
    /// Entries of connections that carry data now.
    pub active_connections: u32,
    /// Entries of other connections, UDP flows among them.
    pub inactive_connections: u32,
    /// Entries that keep persistent clients.
    pub persistent_connections: u32,
    /// What it did.
    pub statistics: Statistics,
}

/// What the kernel says about its IPVS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Information {
    /// Major, minor and patch number.
    pub version: (u8, u8, u8),
    /// Buckets of the connection table.
    pub connection_table_size: u32,
}

impl FoundService {
    /// Reads a reply to [`super::Query::Services`] or [`super::Query::Service`].
    ///
    /// `None` for a service that has no [`ServiceKey`]: one of another protocol than UDP, TCP and
    /// SCTP.
    pub fn decode(payload: &[u8]) -> Result<Option<Self>, DecodeError> {
        let attributes = Attributes::of_message(payload)?.nested(Top::Service)?;
        let Some(key) = service_key(&attributes)? else {
            return Ok(None);
        };
        let flags = u32::from_ne_bytes(attributes.octets(OfService::Flags)?);
        let persistence = if flags & PERSISTENT == 0 {
            None
        } else {
            let seconds = attributes.u32(OfService::Timeout)?;
            Some(Persistence {
                timeout: Duration::from_secs(seconds.into()),
                prefix_length: prefix_length(key.family(), attributes.octets(OfService::Netmask)?)?,
            })
        };
        Ok(Some(Self {
            service: Service {
                key,
                scheduler: scheduler(attributes.find(OfService::SchedulerName)?),
                flags: ServiceFlags::from_bits(flags),
                persistence,
            },
            statistics: match attributes.nested(OfService::Statistics64) {
                Ok(wide) => Statistics::wide(&wide)?,
                Err(_) => Statistics::narrow(&attributes.nested(OfService::Statistics)?)?,
            },
        }))
    }
}

impl FoundDestination {
    /// Reads a reply to [`super::Query::Destinations`] about `service`.
    pub fn decode(service: &ServiceKey, payload: &[u8]) -> Result<Self, DecodeError> {
        let attributes = Attributes::of_message(payload)?.nested(Top::Destination)?;
        // Kernels before 3.18 know destinations of the service's family only, and don't name it.
        let family = match attributes.u16(OfDestination::AddressFamily) {
            Ok(number) => family_of_number(number)?,
            Err(_) => service.family(),
        };
        let forwarding = attributes.u32(OfDestination::ForwardingMethod)?;
        Ok(Self {
            destination: Destination {
                key: DestinationKey {
                    address: address(family, attributes.find(OfDestination::Address)?)?,
                    port: u16::from_be(attributes.u16(OfDestination::Port)?),
                },
                forwarding: Forwarding::from_number(forwarding, tunnel(&attributes)?)
                    .ok_or_else(|| DecodeError::Invalid("ForwardingMethod".to_owned()))?,
                weight: attributes.u32(OfDestination::Weight)?,
                upper_threshold: attributes.u32(OfDestination::UpperThreshold)?,
                lower_threshold: attributes.u32(OfDestination::LowerThreshold)?,
            },
            active_connections: attributes.u32(OfDestination::ActiveConnections)?,
            inactive_connections: attributes.u32(OfDestination::InactiveConnections)?,
            persistent_connections: attributes.u32(OfDestination::PersistentConnections)?,
            statistics: match attributes.nested(OfDestination::Statistics64) {
                Ok(wide) => Statistics::wide(&wide)?,
                Err(_) => Statistics::narrow(&attributes.nested(OfDestination::Statistics)?)?,
            },
        })
    }
}

impl Information {
    /// Reads a reply to [`super::Query::Information`].
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let attributes = Attributes::of_message(payload)?;
        let [_, major, minor, patch] = attributes.u32(OfInformation::Version)?.to_be_bytes();
        Ok(Self {
            version: (major, minor, patch),
            connection_table_size: attributes.u32(OfInformation::ConnectionTableSize)?,
        })
    }
}

impl Timeouts {
    /// Reads a reply to [`super::Query::Timeouts`]; a kernel without TCP or UDP in its IPVS
    /// leaves out their values, which read as 0.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let attributes = Attributes::of_message(payload)?;
        let seconds = |kind| match attributes.u32(kind) {
            Err(DecodeError::Missing(_)) => Ok(0),
            other => other,
        };
        Ok(Self {
            tcp: seconds(Top::TimeoutTcp)?,
            tcp_fin: seconds(Top::TimeoutTcpFin)?,
            udp: seconds(Top::TimeoutUdp)?,
        })
    }
}

impl Statistics {
    fn wide(attributes: &Attributes<'_, OfStatistics>) -> Result<Self, DecodeError> {
        Ok(Self {
            connections: attributes.u64(OfStatistics::Connections)?,
            incoming_packets: attributes.u64(OfStatistics::IncomingPackets)?,
            outgoing_packets: attributes.u64(OfStatistics::OutgoingPackets)?,
            incoming_bytes: attributes.u64(OfStatistics::IncomingBytes)?,
            outgoing_bytes: attributes.u64(OfStatistics::OutgoingBytes)?,
        })
    }

    fn narrow(attributes: &Attributes<'_, OfStatistics>) -> Result<Self, DecodeError> {
        Ok(Self {
            connections: attributes.u32(OfStatistics::Connections)?.into(),
            incoming_packets: attributes.u32(OfStatistics::IncomingPackets)?.into(),
            outgoing_packets: attributes.u32(OfStatistics::OutgoingPackets)?.into(),
            incoming_bytes: attributes.u64(OfStatistics::IncomingBytes)?,
            outgoing_bytes: attributes.u64(OfStatistics::OutgoingBytes)?,
        })
    }
}

fn service_key(attributes: &Attributes<'_, OfService>) -> Result<Option<ServiceKey>, DecodeError> {
    let family = family_of_number(attributes.u16(OfService::AddressFamily)?)?;
    if let Ok(mark) = attributes.u32(OfService::FirewallMark)
        && let Some(mark) = NonZeroU32::new(mark)
    {
        return Ok(Some(ServiceKey::FirewallMark { mark, family }));
    }
    let number = attributes.u16(OfService::Protocol)?;
    let Some(protocol) = Protocol::from_number(number) else {
        return Ok(None);
    };
    Ok(Some(ServiceKey::Socket {
        address: address(family, attributes.find(OfService::Address)?)?,
        port: u16::from_be(attributes.u16(OfService::Port)?),
        protocol,
    }))
}

/// How the destination's packets would be wrapped; kernels before 5.3 don't say.
fn tunnel(attributes: &Attributes<'_, OfDestination>) -> Result<Tunnel, DecodeError> {
    let kind = attributes.u8(OfDestination::TunnelType).unwrap_or_default();
    let flags = attributes
        .u16(OfDestination::TunnelFlags)
        .unwrap_or_default();
    let checksum = match flags {
        CHECKSUM => TunnelChecksum::Plain,
        REMOTE_CHECKSUM => TunnelChecksum::Remote,
        _ => TunnelChecksum::None,
    };
    match kind {
        GUE => {
            let port = u16::from_be(attributes.u16(OfDestination::TunnelPort)?);
            let port = NonZeroU16::new(port)
                .ok_or_else(|| DecodeError::Invalid("TunnelPort".to_owned()))?;
            Ok(Tunnel::Gue { port, checksum })
        }
        GRE => Ok(Tunnel::Gre { checksum }),
        _ => Ok(Tunnel::IpIp),
    }
}

fn address(family: Family, octets: &[u8]) -> Result<IpAddr, DecodeError> {
    let invalid = || DecodeError::Invalid("Address".to_owned());
    match family {
        Family::Ipv4 => octets
            .first_chunk::<4>()
            .map(|octets| Ipv4Addr::from(*octets).into())
            .ok_or_else(invalid),
        Family::Ipv6 => octets
            .first_chunk::<16>()
            .map(|octets| Ipv6Addr::from(*octets).into())
            .ok_or_else(invalid),
    }
}

fn prefix_length(family: Family, netmask: [u8; 4]) -> Result<u8, DecodeError> {
    let length = match family {
        Family::Ipv4 => u32::from_be_bytes(netmask).leading_ones(),
        Family::Ipv6 => u32::from_ne_bytes(netmask),
    };
    u8::try_from(length)
        .ok()
        .filter(|length| *length <= family.address_bits())
        .ok_or_else(|| DecodeError::Invalid("Netmask".to_owned()))
}

fn scheduler(name: &[u8]) -> Option<Scheduler> {
    let name = name.split(|octet| *octet == 0).next()?;
    str::from_utf8(name).ok()?.parse().ok()
}
