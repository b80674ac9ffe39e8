//! A virtual router, complete and checked.

use std::fmt;
use std::net::IpAddr;

use lvs_proto::vrrp::{AdvertInterval, ChecksumForm, Password, Priority, Version, VirtualRouterId};
use serde::{Deserialize, Serialize};

/// A virtual router on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its name in logs, metrics and commands.
    pub name: String,
    /// The interface that carries its adverts and VIPs: at most 15 bytes.
    pub interface: String,
    /// Which virtual router of the LAN it is.
    pub virtual_router_id: VirtualRouterId,
    /// 1 to 254.
    pub priority: Priority,
    /// What the version can say on the wire.
    pub advert_interval: AdvertInterval,
    /// The protocol version with what only that version has.
    pub version: VersionSettings,
    /// Whether it takes over from an Active of lower priority.
    pub preempt: bool,
    /// The VIPs: 1 to 255.
    pub addresses: Vec<VirtualAddress>,
}

/// The protocol version of an instance, with what only that version has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionSettings {
    /// Version 2 (RFC 3768).
    V2 {
        /// The password that adverts carry, if any.
        password: Option<Password>,
    },
    /// Version 3 (RFC 9568).
    V3 {
        /// What the checksums of our adverts cover; both forms are accepted.
        checksum: ChecksumForm,
    },
}

impl VersionSettings {
    /// The bare version.
    pub fn version(&self) -> Version {
        match self {
            Self::V2 { .. } => Version::V2,
            Self::V3 { .. } => Version::V3,
        }
    }
}

/// A VIP as it stands on an interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VirtualAddress {
    /// A unicast address that is neither its network's own address nor its broadcast address.
    pub address: IpAddr,
    /// 1 to 32, or 1 to 128 for IPv6.
    pub prefix_length: u8,
    /// The interface that it is put on; the instance's own when absent.
    pub interface: Option<String>,
    /// How far it is valid.
    pub scope: AddressScope,
    /// IPv4 only: its label, which is the interface's name, or that and `:` with a suffix; at most
    /// 15 bytes. The interface's name when absent.
    pub label: Option<String>,
}

impl fmt::Display for VirtualAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.address, self.prefix_length)
    }
}

/// How far an address is valid (`linux/rtnetlink.h`, `RT_SCOPE_*`).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum AddressScope {
    /// Everywhere.
    #[default]
    Global,
    /// On the link only.
    Link,
    /// Inside this host only; never chosen as the source of what leaves it.
    Host,
}
