//! What is odd about others' adverts, said once in a while.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use lvs_proto::vrrp::Rejection;

/// Between two log lines about the same thing of the same neighbour.
const PAUSE: Duration = Duration::from_secs(60);
/// Remembered at most, so that forged sources cost neither memory nor log.
const MOST: usize = 64;

/// What is odd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Oddity {
    /// The advert was discarded.
    Rejected(Rejection),
    /// It was accepted, and carries other addresses than ours.
    Addresses,
    /// It was accepted, and says another interval than ours.
    Interval,
    /// It was accepted, and its first IPv6 address isn't link-local.
    FirstAddress,
    /// It was accepted, and comes from an owner of the addresses as we are one.
    SecondOwner,
}

impl Oddity {
    /// Those of adverts that are accepted nevertheless.
    pub const OF_ACCEPTED: [Self; 4] = [
        Self::Addresses,
        Self::Interval,
        Self::FirstAddress,
        Self::SecondOwner,
    ];

    /// As a metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Rejected(rejection) => rejection.label(),
            Self::Addresses => "addresses",
            Self::Interval => "interval",
            Self::FirstAddress => "first_address",
            Self::SecondOwner => "second_owner",
        }
    }
}

impl fmt::Display for Oddity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(rejection) => rejection.fmt(formatter),
            Self::Addresses => formatter
                .write_str("it carries other addresses than configured here: the two files differ"),
            Self::Interval => {
                formatter.write_str("it says another advert interval than configured here")
            }
            Self::FirstAddress => formatter
                .write_str("its first address is not link-local, as RFC 9568 (5.2.9) wants it"),
            Self::SecondOwner => formatter.write_str(
                "it says priority 255, as this director does: only one owns the addresses, give the other 1 to 254",
            ),
        }
    }
}

/// What was said lately.
#[derive(Debug, Default)]
pub(super) struct Complaints(BTreeMap<(IpAddr, Oddity), Instant>);

impl Complaints {
    /// Whether to say it now. Another virtual router on the LAN is nobody's fault.
    pub(super) fn is_due(&mut self, now: Instant, source: IpAddr, oddity: Oddity) -> bool {
        if oddity == Oddity::Rejected(Rejection::VirtualRouter) {
            return false;
        }
        if self.0.len() >= MOST {
            self.0.retain(|_, last| now - *last < PAUSE);
        }
        let last = self.0.get(&(source, oddity));
        let due = last.is_none_or(|last| now - *last >= PAUSE);
        if !due || self.0.len() >= MOST {
            return false;
        }
        self.0.insert((source, oddity), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_said_once_a_minute_and_no_flood_is() {
        let now = Instant::now();
        let mut complaints = Complaints::default();
        let checksum = Oddity::Rejected(Rejection::Checksum);
        let source = IpAddr::from([192, 0, 2, 1]);
        assert!(complaints.is_due(now, source, checksum));
        assert!(!complaints.is_due(now + PAUSE / 2, source, checksum));
        assert!(complaints.is_due(now, source, Oddity::Addresses));
        assert!(complaints.is_due(now + PAUSE, source, checksum));
        let said = (0..=255)
            .filter(|last| complaints.is_due(now, IpAddr::from([192, 0, 3, *last]), checksum))
            .count();
        assert_eq!(said, MOST - 2);
        assert!(!complaints.is_due(now, source, Oddity::Rejected(Rejection::VirtualRouter)));
    }
}
