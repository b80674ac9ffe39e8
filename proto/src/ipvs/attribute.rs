//! Attribute numbers (`include/uapi/linux/ip_vs.h`), and reading and writing attributes.

use std::fmt::Debug;
use std::io::Cursor;

use neli::consts::genl::{Cmd, NlAttrType};
use neli::genl::{AttrTypeBuilder, GenlmsghdrBuilder, Nlattr, NlattrBuilder};
use neli::neli_enum;
use neli::types::{Buffer, GenlBuffer};
use neli::{FromBytesWithInput, Size, ToBytes};

use super::DecodeError;

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
impl NlAttrType for OfStatistics {}
impl NlAttrType for OfInformation {}

/// `AF_INET` and `AF_INET6`.
pub(super) const INET: u16 = 2;
pub(super) const INET6: u16 = 10;

/// `IP_VS_SVC_F_PERSISTENT`.
pub(super) const PERSISTENT: u32 = 0x1;

/// Length of the generic netlink header.
const HEADER_LENGTH: usize = 4;

pub(super) fn attribute<T: NlAttrType>(kind: T, payload: impl Size + ToBytes) -> Nlattr<T, Buffer> {
    NlattrBuilder::default()
        .nla_type(
            AttrTypeBuilder::default()
                .nla_type(kind)
                .build()
                .expect("the type is set"),
        )
        .nla_payload(payload)
        .build()
        .expect("type and payload are set")
}

pub(super) fn nest<T: NlAttrType, C: NlAttrType>(
    kind: T,
    children: Vec<Nlattr<C, Buffer>>,
) -> Nlattr<T, Buffer> {
    children
        .iter()
        .try_fold(attribute(kind, ()), Nlattr::nest)
        .expect("writing to memory doesn't fail")
}

/// The generic netlink header and the attributes.
pub(super) fn message<C: Cmd, T: NlAttrType>(
    command: C,
    version: u8,
    attributes: Vec<Nlattr<T, Buffer>>,
) -> Vec<u8> {
    let header = GenlmsghdrBuilder::<C, T>::default()
        .cmd(command)
        .version(version)
        .attrs(attributes.into_iter().collect())
        .build()
        .expect("command and version are set");
    let mut octets = Cursor::new(Vec::new());
    header
        .to_bytes(&mut octets)
        .expect("writing to memory doesn't fail");
    octets.into_inner()
}

/// Attributes of one level of a reply.
pub(super) struct Attributes<T>(GenlBuffer<T, Buffer>);

impl<T: NlAttrType + PartialEq + Debug> Attributes<T> {
    /// Of a whole message, behind its generic netlink header.
    pub(super) fn of_message(payload: &[u8]) -> Result<Self, DecodeError> {
        Self::read(payload.get(HEADER_LENGTH..).ok_or(DecodeError::Truncated)?)
    }

    /// Nested ones.
    pub(super) fn nested<C>(&self, kind: T) -> Result<Attributes<C>, DecodeError>
    where
        C: NlAttrType + PartialEq + Debug,
    {
        Attributes::read(self.find(kind)?)
    }

    pub(super) fn find(&self, kind: T) -> Result<&[u8], DecodeError> {
        let name = format!("{kind:?}");
        self.0
            .iter()
            .find(|attribute| *attribute.nla_type().nla_type() == kind)
            .map(|attribute| attribute.nla_payload().as_ref())
            .ok_or(DecodeError::Missing(name))
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
        let name = format!("{kind:?}");
        self.find(kind)?
            .first_chunk::<N>()
            .copied()
            .ok_or(DecodeError::Invalid(name))
    }

    fn read(octets: &[u8]) -> Result<Self, DecodeError> {
        GenlBuffer::from_bytes_with_input(&mut Cursor::new(octets), octets.len())
            .map(Self)
            .map_err(|_| DecodeError::Truncated)
    }
}
