//! The kernel's daemons that tell connections from one director to another.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::{NonZeroU8, NonZeroU16};

use super::DecodeError;
use super::attribute::{Attribute, Attributes, OfDaemon, Top, attribute, nest};

/// Which end of the conversation a daemon is (`IP_VS_STATE_*`). A machine may have one of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DaemonRole {
    /// It tells of its connections.
    Master,
    /// It listens, and knows them when it takes over.
    Backup,
}

/// A synchronization daemon (`struct ip_vs_sync_daemon`, `net/netfilter/ipvs/ip_vs_sync.c`).
///
/// What is `None` is the kernel's choice in a request; a reply has a value for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daemon {
    /// Which end it is.
    pub role: DaemonRole,
    /// The interface that the messages take: at most 15 bytes.
    pub interface: String,
    /// Messages of another number are ignored.
    pub identifier: u8,
    /// Bytes of a message without its headers; by the interface's MTU.
    pub maximum_length: Option<NonZeroU16>,
    /// The multicast group; 224.0.0.81.
    pub group: Option<IpAddr>,
    /// The UDP port; 8848.
    pub port: Option<NonZeroU16>,
    /// Time to live, or hop limit; 1.
    pub time_to_live: Option<NonZeroU8>,
}

impl DaemonRole {
    fn number(self) -> u32 {
        match self {
            Self::Master => 1,
            Self::Backup => 2,
        }
    }
}

impl Daemon {
    /// Whether a running daemon, as a reply describes it, is what this one asks for.
    pub fn is_satisfied_by(&self, running: &Self) -> bool {
        fn wanted<T: PartialEq>(wanted: &Option<T>, found: &Option<T>) -> bool {
            wanted.is_none() || wanted == found
        }
        self.role == running.role
            && self.interface == running.interface
            && self.identifier == running.identifier
            && wanted(&self.maximum_length, &running.maximum_length)
            && wanted(&self.group, &running.group)
            && wanted(&self.port, &running.port)
            && wanted(&self.time_to_live, &running.time_to_live)
    }

    /// Reads one reply to [`super::Query::Daemons`].
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let attributes = Attributes::of_message(payload)?.nested(Top::Daemon)?;
        let invalid = |what: &str| DecodeError::Invalid(what.to_owned());
        let interface = attributes.find(OfDaemon::Interface)?;
        let interface = interface.split(|octet| *octet == 0).next();
        let interface = interface.and_then(|name| str::from_utf8(name).ok());
        Ok(Self {
            role: match attributes.u32(OfDaemon::State)? {
                1 => DaemonRole::Master,
                2 => DaemonRole::Backup,
                _ => return Err(invalid("State")),
            },
            interface: interface.ok_or_else(|| invalid("Interface"))?.to_owned(),
            identifier: u8::try_from(attributes.u32(OfDaemon::Identifier)?)
                .map_err(|_| invalid("Identifier"))?,
            maximum_length: attributes
                .u16(OfDaemon::MaximumLength)
                .ok()
                .and_then(NonZeroU16::new),
            group: group(&attributes),
            port: attributes
                .u16(OfDaemon::Port)
                .ok()
                .and_then(NonZeroU16::new),
            time_to_live: attributes
                .u8(OfDaemon::TimeToLive)
                .ok()
                .and_then(NonZeroU8::new),
        })
    }

    pub(super) fn encode(&self) -> Attribute<Top> {
        let mut attributes = vec![
            attribute(OfDaemon::State, self.role.number()),
            attribute(OfDaemon::Interface, self.interface.as_str()),
            attribute(OfDaemon::Identifier, u32::from(self.identifier)),
        ];
        if let Some(length) = self.maximum_length {
            attributes.push(attribute(OfDaemon::MaximumLength, length.get()));
        }
        match self.group {
            Some(IpAddr::V4(group)) => {
                attributes.push(attribute(OfDaemon::Group, group.octets().to_vec()));
            }
            Some(IpAddr::V6(group)) => {
                attributes.push(attribute(OfDaemon::GroupIpv6, group.octets().to_vec()));
            }
            None => {}
        }
        // Unlike a service's port, in host order.
        if let Some(port) = self.port {
            attributes.push(attribute(OfDaemon::Port, port.get()));
        }
        if let Some(time_to_live) = self.time_to_live {
            attributes.push(attribute(OfDaemon::TimeToLive, time_to_live.get()));
        }
        nest(Top::Daemon, attributes)
    }
}

/// What is needed to end the daemon of that role.
pub(super) fn role_only(role: DaemonRole) -> Attribute<Top> {
    nest(Top::Daemon, vec![attribute(OfDaemon::State, role.number())])
}

fn group(attributes: &Attributes<'_, OfDaemon>) -> Option<IpAddr> {
    if let Ok(octets) = attributes.octets::<4>(OfDaemon::Group) {
        return Some(Ipv4Addr::from(octets).into());
    }
    let octets = attributes.octets::<16>(OfDaemon::GroupIpv6).ok()?;
    Some(Ipv6Addr::from(octets).into())
}

impl fmt::Display for DaemonRole {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Master => "master",
            Self::Backup => "backup",
        })
    }
}

impl fmt::Display for Daemon {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            role,
            interface,
            identifier,
            maximum_length,
            group,
            port,
            time_to_live,
        } = self;
        write!(formatter, "{role} on {interface}, id {identifier}")?;
        if let Some(group) = group {
            write!(formatter, ", group {group}")?;
        }
        if let Some(port) = port {
            write!(formatter, ", port {port}")?;
        }
        if let Some(time_to_live) = time_to_live {
            write!(formatter, ", ttl {time_to_live}")?;
        }
        if let Some(length) = maximum_length {
            write!(formatter, ", maximum length {length}")?;
        }
        Ok(())
    }
}
