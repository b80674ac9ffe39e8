//! Attribute numbers (`include/uapi/linux/ip_vs.h`), and reading and writing attributes.

use std::fmt::Debug;
use std::io::Cursor;
use std::marker::PhantomData;

use neli::ToBytes;
use neli::consts::genl::{Cmd, NlAttrType};
use neli::neli_enum;

use super::DecodeError;
use crate::Family;

/// `IPVS_CMD_*`.
#[neli_enum(serialized_type = "u8")]
pub(super) enum CommandNumber {
    NewService = 1,
    SetService = 2,
    DeleteService = 3,
    GetService = 4,
    NewDestination = 5,
    SetDestination = 6,
    DeleteDestination = 7,
    GetDestination = 8,
    NewDaemon = 9,
    DeleteDaemon = 10,
    GetDaemon = 11,
    SetConfiguration = 12,
    GetConfiguration = 13,
    GetInformation = 15,
    Flush = 17,
}

/// `IPVS_CMD_ATTR_*`.
#[neli_enum(serialized_type = "u16")]
pub(super) enum Top {
    Service = 1,
    Destination = 2,
    Daemon = 3,
    TimeoutTcp = 4,
    TimeoutTcpFin = 5,
    TimeoutUdp = 6,
}

/// `IPVS_SVC_ATTR_*`.
#[neli_enum(serialized_type = "u16")]
pub(super) enum OfService {
    AddressFamily = 1,
    Protocol = 2,
    Address = 3,
    Port = 4,
    FirewallMark = 5,
    SchedulerName = 6,
    Flags = 7,
    Timeout = 8,
    Netmask = 9,
    Statistics = 10,
    Statistics64 = 12,
}

/// `IPVS_DEST_ATTR_*`.
#[neli_enum(serialized_type = "u16")]
pub(super) enum OfDestination {
    Address = 1,
    Port = 2,
    ForwardingMethod = 3,
    Weight = 4,
    UpperThreshold = 5,
    LowerThreshold = 6,
    ActiveConnections = 7,
    InactiveConnections = 8,
    PersistentConnections = 9,
    Statistics = 10,
    AddressFamily = 11,
    Statistics64 = 12,
    TunnelType = 13,
    TunnelPort = 14,
    TunnelFlags = 15,
}

/// `IPVS_DAEMON_ATTR_*`.
#[neli_enum(serialized_type = "u16")]
pub(super) enum OfDaemon {
    State = 1,
    Interface = 2,
    Identifier = 3,
    MaximumLength = 4,
    Group = 5,
    GroupIpv6 = 6,
    Port = 7,
    TimeToLive = 8,
}

/// `IPVS_STATS_ATTR_*`.
#[neli_enum(serialized_type = "u16")]
pub(super) enum OfStatistics {
    Connections = 1,
    IncomingPackets = 2,
    OutgoingPackets = 3,
    IncomingBytes = 4,
    OutgoingBytes = 5,
}

/// `IPVS_INFO_ATTR_*`.
#[neli_enum(serialized_type = "u16")]
pub(super) enum OfInformation {
    Version = 1,
    ConnectionTableSize = 2,
}

impl Cmd for CommandNumber {}
impl NlAttrType for Top {}
impl NlAttrType for OfService {}
impl NlAttrType for OfDestination {}
impl NlAttrType for OfDaemon {}
impl NlAttrType for OfStatistics {}
impl NlAttrType for OfInformation {}

/// `AF_INET` or `AF_INET6`.
pub(super) fn family_number(family: Family) -> u16 {
    match family {
        Family::Ipv4 => 2,
        Family::Ipv6 => 10,
    }
}

/// The family of that number; nothing else has services.
pub(super) fn family_of_number(number: u16) -> Result<Family, DecodeError> {
    [Family::Ipv4, Family::Ipv6]
        .into_iter()
        .find(|family| family_number(*family) == number)
        .ok_or_else(|| DecodeError::Invalid("AddressFamily".to_owned()))
}

/// `IP_VS_SVC_F_PERSISTENT`.
pub(super) const PERSISTENT: u32 = 0x1;

/// Length of the generic netlink header.
const HEADER_LENGTH: usize = 4;

/// An attribute of a request, with its header and padding.
#[derive(Clone)]
pub(super) struct Attribute<T> {
    octets: Vec<u8>,
    kind: PhantomData<T>,
}

pub(super) fn attribute<T: NlAttrType>(kind: T, payload: impl ToBytes) -> Attribute<T> {
    Attribute::new(kind.into(), |octets| {
        payload
            .to_bytes(octets)
            .expect("writing to memory doesn't fail");
    })
}

pub(super) fn nest<T: NlAttrType, C: NlAttrType>(
    kind: T,
    children: Vec<Attribute<C>>,
) -> Attribute<T> {
    Attribute::new(kind.into() | NESTED, |octets| {
        for child in children {
            octets.get_mut().extend_from_slice(&child.octets);
        }
    })
}

/// The generic netlink header and the attributes.
pub(super) fn message<C: Cmd, T: NlAttrType>(
    command: C,
    version: u8,
    attributes: Vec<Attribute<T>>,
) -> Vec<u8> {
    let mut octets = vec![command.into(), version, 0, 0];
    for attribute in attributes {
        octets.extend_from_slice(&attribute.octets);
    }
    octets
}

impl<T> Attribute<T> {
    /// Header, payload and padding.
    #[cfg(test)]
    pub(super) fn octets(&self) -> &[u8] {
        &self.octets
    }

    fn new(kind: u16, write: impl FnOnce(&mut Cursor<Vec<u8>>)) -> Self {
        let mut octets = Cursor::new(Vec::with_capacity(ATTRIBUTE_HEADER_LENGTH + 16));
        octets.get_mut().resize(ATTRIBUTE_HEADER_LENGTH, 0);
        octets.set_position(ATTRIBUTE_HEADER_LENGTH as u64);
        write(&mut octets);
        let mut octets = octets.into_inner();
        let length = u16::try_from(octets.len()).expect("no attribute is that long");
        octets[..2].copy_from_slice(&length.to_ne_bytes());
        octets[2..4].copy_from_slice(&kind.to_ne_bytes());
        octets.resize(octets.len().next_multiple_of(4), 0);
        Self {
            octets,
            kind: PhantomData,
        }
    }
}

/// `NLA_F_NESTED`, and `NLA_F_NET_BYTEORDER` that nobody uses.
const NESTED: u16 = 0x8000;
const FLAGS: u16 = 0xc000;

/// Length of an attribute's header (`struct nlattr`).
const ATTRIBUTE_HEADER_LENGTH: usize = 4;

/// One more than the highest number that any of the enumerations above has.
const NUMBERS: usize = 16;

/// Attributes of one level of a reply by number, read in place: a large table has a hundred thousand.
pub(super) struct Attributes<'a, T> {
    payloads: [Option<&'a [u8]>; NUMBERS],
    kind: PhantomData<T>,
}

impl<'a, T: NlAttrType + Copy + Debug> Attributes<'a, T> {
    /// Of a whole message, behind its generic netlink header.
    pub(super) fn of_message(payload: &'a [u8]) -> Result<Self, DecodeError> {
        Self::read(payload.get(HEADER_LENGTH..).ok_or(DecodeError::Truncated)?)
    }

    /// Nested ones.
    pub(super) fn nested<C>(&self, kind: T) -> Result<Attributes<'a, C>, DecodeError>
    where
        C: NlAttrType + Copy + Debug,
    {
        Attributes::read(self.find(kind)?)
    }

    pub(super) fn find(&self, kind: T) -> Result<&'a [u8], DecodeError> {
        let number: u16 = kind.into();
        let payload = self.payloads.get(usize::from(number)).copied().flatten();
        payload.ok_or_else(|| DecodeError::Missing(format!("{kind:?}")))
    }

    pub(super) fn u8(&self, kind: T) -> Result<u8, DecodeError> {
        self.octets(kind).map(u8::from_ne_bytes)
    }

    pub(super) fn u16(&self, kind: T) -> Result<u16, DecodeError> {
        self.octets(kind).map(u16::from_ne_bytes)
    }

    pub(super) fn u32(&self, kind: T) -> Result<u32, DecodeError> {
        self.octets(kind).map(u32::from_ne_bytes)
    }

    pub(super) fn u64(&self, kind: T) -> Result<u64, DecodeError> {
        self.octets(kind).map(u64::from_ne_bytes)
    }

    pub(super) fn octets<const N: usize>(&self, kind: T) -> Result<[u8; N], DecodeError> {
        self.find(kind)?
            .first_chunk::<N>()
            .copied()
            .ok_or_else(|| DecodeError::Invalid(format!("{kind:?}")))
    }

    /// All of them must be whole. Of those that come twice the first counts.
    fn read(octets: &'a [u8]) -> Result<Self, DecodeError> {
        let mut payloads = [None; NUMBERS];
        let mut rest = octets;
        while !rest.is_empty() {
            let (number, payload, next) = first(rest).ok_or(DecodeError::Truncated)?;
            if let Some(place @ None) = payloads.get_mut(usize::from(number)) {
                *place = Some(payload);
            }
            rest = next;
        }
        Ok(Self {
            payloads,
            kind: PhantomData,
        })
    }
}

/// Type and payload of the first attribute (`struct nlattr`, `linux/netlink.h`), and what follows
/// it.
fn first(octets: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let [l0, l1, t0, t1] = *octets.first_chunk()?;
    let length = usize::from(u16::from_ne_bytes([l0, l1]));
    let payload = octets.get(ATTRIBUTE_HEADER_LENGTH..length)?;
    // The last one may do without its padding.
    let next = octets.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((u16::from_ne_bytes([t0, t1]) & !FLAGS, payload, next))
}
