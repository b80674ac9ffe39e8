//! What one router knows of a virtual router before the protocol starts.

use core::net::IpAddr;
use core::time::Duration;

use super::{
    AdvertInterval, ChecksumForm, Family, Password, Priority, TIME_TO_LIVE, Version,
    VirtualRouterId, hmac,
};

/// What one router knows of a virtual router before the protocol starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// Which version to speak and to accept.
    pub version: Version,
    /// The number on the wire.
    pub virtual_router: VirtualRouterId,
    /// Own priority, before anything tracked changes it.
    pub priority: Priority,
    /// Own interval.
    pub interval: AdvertInterval,
    /// Which of the Active's intervals a Backup follows.
    pub accepted_intervals: AcceptedIntervals,
    /// The virtual addresses, in the order in which they are sent: all of one family.
    pub addresses: Vec<IpAddr>,
    /// Whether a Backup takes over from an Active of lower priority.
    pub preempt: bool,
    /// How long a Backup that could take over from a lower Active leaves it alone.
    pub preempt_delay: Duration,
    /// What adverts prove themselves by.
    pub authentication: Authentication,
    /// What a peer may still send while a pair is changed one at a time.
    pub also_accept: AlsoAccept,
    /// Whom adverts are sent to and accepted from.
    pub peers: Peers,
    /// What the checksums of own adverts cover; both forms are accepted.
    pub checksum: ChecksumForm,
    /// Source address of own adverts; the larger one wins between equal priorities.
    pub primary_address: IpAddr,
    /// How the LAN is told where the addresses are.
    pub announcements: Announcements,
}

impl Configuration {
    /// The family of the adverts and of the addresses in them.
    pub fn family(&self) -> Family {
        Family::of(self.primary_address)
    }

    /// The keys that adverts are signed with, where version 3 has any.
    pub fn hmac(&self) -> Option<&hmac::Configuration> {
        match &self.authentication {
            Authentication::Hmac(hmac) if self.version == Version::V3 => Some(hmac),
            _ => None,
        }
    }

    /// Where adverts are sent.
    pub fn destinations(&self) -> Vec<IpAddr> {
        match &self.peers {
            Peers::Multicast => vec![self.family().multicast_group()],
            Peers::Unicast { addresses, .. } => addresses.clone(),
        }
    }
}

/// Bounds for the interval that a Backup adopts from the Active's adverts: a single forged one could
/// otherwise make it promote after 40 ms, or sleep for two minutes. What lies outside is taken for
/// the nearer bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptedIntervals {
    /// The shortest.
    pub least: Duration,
    /// The longest.
    pub most: Duration,
}

impl AcceptedIntervals {
    /// A tenth to ten times the own interval.
    pub fn around(interval: AdvertInterval) -> Self {
        Self {
            least: interval.get() / 10,
            most: interval.get() * 10,
        }
    }

    pub(super) fn nearest(self, interval: Duration) -> Duration {
        interval.min(self.most).max(self.least)
    }
}

/// What adverts prove themselves by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// Nothing. An advert that carries a trailer nevertheless is accepted without looking at it, so
    /// that a pair can be given keys one at a time.
    None,
    /// Version 2: eight octets in clear.
    Password(Password),
    /// Version 3: a trailer signed with a key.
    Hmac(hmac::Configuration),
}

/// What a peer may still send, or send already, while a pair is changed one router at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlsoAccept {
    /// Another version than the own.
    pub version: Option<Version>,
    /// Another password than the own, in version 2.
    pub password: Option<Password>,
}

/// Whom adverts are sent to and accepted from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peers {
    /// All VRRP routers on the link.
    Multicast,
    /// These only.
    Unicast {
        /// The peers, of the family of the addresses.
        addresses: Vec<IpAddr>,
        /// The time to live that their adverts must have left: 255 where no router is in between.
        minimum_hop_limit: u8,
    },
}

impl Peers {
    /// The time to live that adverts must have left.
    pub(super) fn minimum_hop_limit(&self) -> u8 {
        match self {
            Self::Multicast => TIME_TO_LIVE,
            Self::Unicast {
                minimum_hop_limit, ..
            } => *minimum_hop_limit,
        }
    }
}

/// How the LAN is told where the addresses are: by gratuitous ARP or unsolicited neighbour
/// advertisements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announcements {
    /// Rounds of a burst, at least 1; each round announces every address once.
    pub burst: u8,
    /// A second burst that long after a promotion, for switches and hosts that missed the first.
    pub second_after: Option<Duration>,
    /// An Active announces once in that time, for neighbours that learned something else meanwhile.
    pub refresh: Option<Duration>,
}

impl Default for Announcements {
    fn default() -> Self {
        Self {
            burst: 5,
            second_after: Some(Duration::from_secs(5)),
            refresh: Some(Duration::from_secs(60)),
        }
    }
}
