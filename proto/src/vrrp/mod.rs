//! The Virtual Router Redundancy Protocol over IPv4 and IPv6: version 3 (RFC 9568) and, over IPv4,
//! version 2 (RFC 3768).
//!
//! [`packet`] turns bytes into an [`Advert`] and back, [`instance`] is the protocol's state machine
//! for one virtual router, [`group`] keeps several of them together. None has sockets or a clock:
//! the daemon's VRRP thread and the tests call them with bytes and with the present time.

mod announcing;
mod authentication;
mod configuration;
#[cfg(test)]
mod conformance;
pub mod group;
pub mod hmac;
mod instance;
mod packet;
mod state;
mod timers;

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::num::NonZeroU8;
use core::time::Duration;

pub use crate::family::Family;
pub use authentication::{Password, PasswordTooLong};
pub use configuration::{
    AcceptedIntervals, AlsoAccept, Announcements, Authentication, Configuration, Peers,
};
pub use instance::Instance;
pub use packet::{Advert, ChecksumForm, Datagram, Received, Rejection, seal};
pub use state::{
    Action, Active, Aside, Fault, Heard, Margins, Ownership, Reason, Silence, State, Transition,
};
pub use timers::{Timer, TimerTable};

/// Where VRRP adverts over IPv4 are sent (RFC 9568, section 5.1.1.2).
pub const MULTICAST_GROUP_IPV4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);

/// Where VRRP adverts over IPv6 are sent (RFC 9568, section 5.1.2.2).
pub const MULTICAST_GROUP_IPV6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);

/// VRRP's protocol number in the IP header (RFC 9568, section 5.1.1.4).
pub const IP_PROTOCOL: u8 = 112;

/// Time to live, or hop limit, of every advert that is sent, and of every one that is accepted by
/// multicast (RFC 9568, sections 5.1.1.3 and 5.1.2.3).
pub const TIME_TO_LIVE: u8 = 255;

impl Family {
    /// The multicast group of all VRRP routers.
    pub fn multicast_group(self) -> IpAddr {
        match self {
            Self::Ipv4 => MULTICAST_GROUP_IPV4.into(),
            Self::Ipv6 => MULTICAST_GROUP_IPV6.into(),
        }
    }

    /// The virtual MAC of a router of this family (RFC 9568, section 7.3).
    pub fn virtual_mac(self, virtual_router: VirtualRouterId) -> [u8; 6] {
        let family = match self {
            Self::Ipv4 => 1,
            Self::Ipv6 => 2,
        };
        [0, 0, 0x5e, 0, family, virtual_router.get()]
    }

    /// Length of an address in bytes.
    pub(crate) fn address_length(self) -> usize {
        match self {
            Self::Ipv4 => 4,
            Self::Ipv6 => 16,
        }
    }
}

/// The protocol version that a virtual router speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// RFC 3768, with the simple password of RFC 2338.
    V2,
    /// RFC 9568.
    V3,
}

impl Version {
    /// What the skew time of any priority is less than.
    fn longest_skew_time(self, interval: Duration) -> Duration {
        match self {
            Self::V2 => Duration::from_secs(1),
            Self::V3 => interval,
        }
    }
}

/// Identifies a virtual router on its LAN: 1 to 255 (RFC 9568, section 5.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VirtualRouterId(NonZeroU8);

impl VirtualRouterId {
    /// `None` for 0, which the RFC doesn't allow.
    pub fn new(value: u8) -> Option<Self> {
        NonZeroU8::new(value).map(Self)
    }

    /// The number on the wire.
    pub fn get(self) -> u8 {
        self.0.get()
    }
}

impl fmt::Display for VirtualRouterId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// How much a router wants to be Active: 1 to 255 (RFC 9568, section 5.2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(NonZeroU8);

impl Priority {
    /// The priority of the router that owns the addresses; it always preempts.
    pub const OWNER: Self = Self(NonZeroU8::MAX);

    /// `None` for 0, which on the wire says that the Active is leaving.
    pub fn new(value: u8) -> Option<Self> {
        NonZeroU8::new(value).map(Self)
    }

    /// The number on the wire.
    pub fn get(self) -> u8 {
        self.0.get()
    }

    /// How long a Backup of this priority waits beyond three intervals (RFC 9568, section 6.1):
    /// less for a higher priority, so that the best Backup is first. Version 2 counts in fractions
    /// of a second, whatever the interval (RFC 3768, section 6.1).
    pub fn skew_time(self, version: Version, interval: Duration) -> Duration {
        version.longest_skew_time(interval) * (256 - u32::from(self.get())) / 256
    }

    /// How long a Backup of this priority hears nothing before it becomes Active
    /// (`Active_Down_Interval`, RFC 9568, section 6.1).
    pub fn active_down_interval(self, version: Version, interval: Duration) -> Duration {
        interval * 3 + self.skew_time(version, interval)
    }
}

impl Priority {
    /// The priority moved by `points`, within 1 to 254; an owner stays an owner.
    #[must_use]
    pub fn adjusted(self, points: i32) -> Self {
        if self == Self::OWNER {
            return self;
        }
        let moved = i32::from(self.get()).saturating_add(points).clamp(1, 254);
        Self::new(moved as u8).unwrap_or(self)
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Time between two adverts, exactly as its version can say it on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AdvertInterval(Duration);

impl AdvertInterval {
    /// Version 2 counts whole seconds from 1 to 255, version 3 centiseconds from 1 to 4095; `None`
    /// for anything else, 0 included (RFC 9568, erratum 8301).
    pub fn new(version: Version, interval: Duration) -> Option<Self> {
        let (unit, most) = match version {
            Version::V2 => (1_000_000_000, 255),
            Version::V3 => (10_000_000, 4095),
        };
        let nanoseconds = interval.as_nanos();
        let exact = nanoseconds.is_multiple_of(unit);
        (exact && (1..=most).contains(&(nanoseconds / unit))).then_some(Self(interval))
    }

    /// The time itself.
    pub fn get(self) -> Duration {
        self.0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Figures of `Priority` 100 that keepalived and FRR keep too, within their own rounding.
    #[test]
    fn timers_follow_the_formulas() {
        let priority = Priority::new(100).unwrap();
        let cases = [
            (Version::V3, 1_000, 609_375, 3_609_375),
            (Version::V2, 1_000, 609_375, 3_609_375),
            (Version::V2, 3_000, 609_375, 9_609_375),
            (Version::V3, 3_000, 1_828_125, 10_828_125),
            (Version::V3, 100, 60_937, 360_937),
        ];
        for (version, interval, skew, down) in cases {
            let interval = Duration::from_millis(interval);
            assert_eq!(priority.skew_time(version, interval).as_micros(), skew);
            assert_eq!(
                priority.active_down_interval(version, interval).as_micros(),
                down
            );
        }
    }

    #[test]
    fn intervals_that_the_wire_cannot_carry_are_refused() {
        let new = |version, milliseconds| {
            AdvertInterval::new(version, Duration::from_millis(milliseconds)).is_some()
        };
        assert!(new(Version::V3, 10) && new(Version::V3, 40_950));
        assert!(!new(Version::V3, 0) && !new(Version::V3, 15) && !new(Version::V3, 40_960));
        assert!(new(Version::V2, 1_000) && new(Version::V2, 255_000));
        assert!(!new(Version::V2, 100) && !new(Version::V2, 0) && !new(Version::V2, 256_000));
    }
}
