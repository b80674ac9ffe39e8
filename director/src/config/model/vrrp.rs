//! A virtual router, complete and checked.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use lvs_proto::vrrp::{
    AcceptedIntervals, AdvertInterval, AlsoAccept, Announcements, ChecksumForm, Family, Password,
    Peers, Priority, Version, VirtualRouterId, hmac,
};
use serde::{Deserialize, Serialize};

use super::{Effect, Hook, Track};

/// A virtual router on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its name in logs, metrics and commands.
    pub name: String,
    /// The interface that carries its adverts and VIPs: at most 15 bytes.
    pub interface: String,
    /// Which virtual router of the LAN it is, in its family.
    pub virtual_router_id: VirtualRouterId,
    /// Before anything tracked changes it; 255 on one node at most, and then without weights.
    pub priority: Priority,
    /// What the version can say on the wire.
    pub advert_interval: AdvertInterval,
    /// Which of a peer's version 3 intervals are adopted; the own one lies between them. Without
    /// version 3 the own one is both.
    pub accepted_intervals: AcceptedIntervals,
    /// The protocol version with what only that version has.
    pub version: VersionSettings,
    /// What a peer may still send while a pair is changed one director at a time.
    pub also_accept: AlsoAccept,
    /// Whether it takes over from an Active of lower priority.
    pub preempt: bool,
    /// How long it leaves such an Active alone first; 0 without preemption.
    pub preempt_delay: Duration,
    /// The own address to send from; the interface's first when absent. Never a VIP.
    pub source: Option<IpAddr>,
    /// Whom adverts are exchanged with.
    pub peers: Peers,
    /// The name of the macvlan with the virtual MAC address to make for it, if any.
    pub virtual_mac: Option<String>,
    /// The VIPs that are advertised: 1 to 255 of one family.
    pub addresses: Vec<VirtualAddress>,
    /// VIPs that are held with the others and not advertised, of any family.
    pub further_addresses: Vec<VirtualAddress>,
    /// How the LAN is told where the VIPs are.
    pub announcements: Announcements,
    /// Between two packets of those; zero sends them at once.
    pub announcement_pause: Duration,
    /// The sync group whose members move together.
    pub group: Option<String>,
    /// What else decides over it.
    pub track: Track,
    /// What is told of its transitions.
    pub hooks: Vec<Hook>,
}

impl Instance {
    /// The family of its adverts and of the VIPs in them.
    pub fn family(&self) -> Family {
        // There is at least one VIP.
        self.addresses
            .first()
            .map_or(Family::Ipv4, |vip| Family::of(vip.address))
    }

    /// What tells the virtual routers of one machine apart: its name is only a label.
    pub fn identity(&self) -> (&str, Family, VirtualRouterId) {
        (&self.interface, self.family(), self.virtual_router_id)
    }

    /// The interface that an address of its stands on: its own choice, or the macvlan, or the
    /// instance's.
    pub fn interface_of<'i>(&'i self, address: &'i VirtualAddress) -> &'i str {
        let own = self.virtual_mac.as_ref().unwrap_or(&self.interface);
        address.interface.as_ref().unwrap_or(own)
    }

    /// The priorities that weights can lead to, from all that it tracks failing to all being well.
    /// Files are left aside: what they hold can't be known.
    pub fn priorities(&self) -> RangeInclusive<u8> {
        let Track {
            interfaces,
            scripts,
            services,
            files: _,
        } = &self.track;
        let named = interfaces.iter().chain(services).map(|(_, effect)| effect);
        let effects = named.chain(scripts.iter().map(|script| &script.effect));
        let weights = effects.filter_map(|effect| match effect {
            Effect::Weight(weight) => Some(i32::from(weight.get())),
            Effect::Fault => None,
        });
        let (mut worst, mut best) = (0, 0);
        for weight in weights {
            worst += weight.min(0);
            best += weight.max(0);
        }
        let adjusted = |change| self.priority.adjusted(change).get();
        adjusted(worst)..=adjusted(best)
    }
}

/// The protocol version of an instance, with what only that version has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionSettings {
    /// Version 2 (RFC 3768), IPv4 only.
    V2 {
        /// The password that adverts carry, if any.
        password: Option<Password>,
    },
    /// Version 3 (RFC 9568).
    V3 {
        /// What the checksums of our adverts cover; both forms are accepted over IPv4, and over IPv6
        /// there is only the one with the pseudo-header.
        checksum: ChecksumForm,
        /// The keys that adverts are signed with, if they are.
        hmac: Option<hmac::Configuration>,
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
    /// The interface that it is put on; see [`Instance::interface_of`] when absent.
    pub interface: Option<String>,
    /// How far it is valid; IPv4 only, the kernel derives that of an IPv6 address.
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

impl fmt::Display for AddressScope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Global => "global",
            Self::Link => "link",
            Self::Host => "host",
        })
    }
}
