//! What is announced, when, and by whose word: complete and checked.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::time::Duration;

use lvs_health::Target;
use lvs_health::check::Check;

use super::announcement::{Counts, Rules};
use crate::vip::Vip;

/// `mode: anycast` of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long a VIP outlives who renews it: whole seconds.
    pub lifetime: Duration,
    /// At least one, with different addresses.
    pub vips: Vec<AnycastVip>,
}

/// A VIP that comes and goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnycastVip {
    /// Where it is while all is well, with [`Settings::lifetime`].
    pub vip: Vip,
    /// What says that all is well.
    pub check: Check,
    /// Where the DNS is asked while the VIP isn't on the machine.
    pub probe: SocketAddr,
    /// Where the VIP is when only less than that is well.
    pub degraded: Option<Degraded>,
    /// Other sites' own addresses: the VIP stays unless one of these answers. None for no guard.
    pub other_sites: Vec<SocketAddr>,
    /// How long it stays down at least.
    pub minimum_hold: Duration,
    /// The same when it flaps: at least [`Self::minimum_hold`].
    pub maximum_hold: Duration,
}

/// The tier of a server that still serves, and not as well as others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Degraded {
    /// Another interface than the VIP's own, where the routing daemon gives it a worse metric.
    pub interface: String,
    /// What says that it still serves.
    pub check: Check,
}

impl AnycastVip {
    pub(super) fn rules(&self) -> Rules {
        Rules {
            full: counts(&self.check),
            degraded: self.degraded.as_ref().map(|tier| counts(&tier.check)),
            minimum_hold: self.minimum_hold,
            maximum_hold: self.maximum_hold,
            guarded: !self.other_sites.is_empty(),
        }
    }

    /// The VIP itself, as clients ask it.
    pub(super) fn itself(&self) -> SocketAddr {
        SocketAddr::new(self.vip.address, super::DNS_PORT)
    }
}

fn counts(check: &Check) -> Counts {
    Counts {
        rise: check.probing.rise,
        fall: check.probing.fall,
    }
}

/// What a check probes at a place: one target for each transport.
pub(super) fn targets(check: &Check, at: SocketAddr) -> Vec<Target> {
    let port = check.port.map_or_else(|| at.port(), NonZeroU16::get);
    let target = |transport| Target {
        server: SocketAddr::new(at.ip(), port),
        transport,
        probing: check.probing.clone(),
        path: None,
    };
    if check.probing.kind.has_transports() {
        check
            .protocols
            .iter()
            .copied()
            .map(Some)
            .map(target)
            .collect()
    } else {
        vec![target(None)]
    }
}
