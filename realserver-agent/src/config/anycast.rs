//! `mode: anycast`: when a VIP comes and goes.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use lvs_configuration::error::{Findings, Located};
use lvs_configuration::reader::{self, Mapping, Place};
use lvs_health::check::{Check, CheckKind, DnsCheck, Probing};
use lvs_health::{defaults, reading};
use lvs_proto::dns::{Expectation, Name, Probe, RecordType, Requirement, ResponseCode};
use lvs_proto::ipvs::Protocol;

use crate::anycast::{AnycastVip, DNS_PORT, Degraded};
use crate::vip::Vip;

/// Keys of a VIP that only anycast has.
pub(super) const VIP_KEYS: [&str; 4] = ["check", "probe", "degraded", "last_site"];

const LIFETIME: Duration = Duration::from_secs(3);
/// The kernel counts in seconds, and looks about once a second.
const LIFETIMES: RangeInclusive<Duration> = Duration::from_secs(2)..=Duration::from_secs(60);
const MINIMUM_HOLD: Duration = Duration::from_secs(10);
/// Unless the minimum is longer.
const MAXIMUM_HOLD: Duration = Duration::from_secs(300);
const HOLDS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3600);

/// What holds for all VIPs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Common {
    /// How long a VIP outlives who renews it.
    pub(super) lifetime: Duration,
    minimum_hold: Duration,
    maximum_hold: Duration,
}

impl Default for Common {
    fn default() -> Self {
        Self {
            lifetime: LIFETIME,
            minimum_hold: MINIMUM_HOLD,
            maximum_hold: MAXIMUM_HOLD,
        }
    }
}

/// Reads `anycast`.
pub(super) fn common(place: &Place<'_>, findings: &mut Findings) -> Option<Common> {
    let known = ["minimum_hold", "maximum_hold", "lifetime"];
    let keys = Mapping::of_known_keys_if_any(place, &known, findings)?;
    let hold = |place: &Place<'_>, findings: &mut Findings| {
        Some(place.located(reader::duration_in(place, HOLDS, findings)?))
    };
    let minimum = keys.optional("minimum_hold", findings, hold);
    let maximum = keys.optional("maximum_hold", findings, hold);
    let lifetime = keys.optional("lifetime", findings, |place, findings| {
        reader::seconds_in(place, LIFETIMES, findings)
    });
    let minimum_hold = minimum?.map_or(MINIMUM_HOLD, |minimum| minimum.value);
    let maximum_hold = match maximum? {
        Some(maximum) if maximum.value < minimum_hold => {
            let message = format!(
                "{:?} is shorter than `minimum_hold`, {minimum_hold:?}; must be at least that",
                maximum.value
            );
            findings.add(&maximum.origin, message);
            return None;
        }
        Some(maximum) => maximum.value,
        None => MAXIMUM_HOLD.max(minimum_hold),
    };
    Some(Common {
        lifetime: lifetime?.unwrap_or(LIFETIME),
        minimum_hold,
        maximum_hold,
    })
}

/// Reads what an item of `vips` says beside `vip`; nothing in the short form.
pub(super) fn vip(
    keys: Option<&Mapping<'_>>,
    vip: &Vip,
    common: &Common,
    findings: &mut Findings,
) -> Option<AnycastVip> {
    let plain = AnycastVip {
        vip: Vip {
            lifetime: Some(common.lifetime),
            ..vip.clone()
        },
        check: usual_check(),
        probe: SocketAddr::new(loopback(vip.address), DNS_PORT),
        degraded: None,
        other_sites: Vec::new(),
        minimum_hold: common.minimum_hold,
        maximum_hold: common.maximum_hold,
    };
    let Some(keys) = keys else {
        return Some(plain);
    };
    let check = keys.optional("check", findings, reading::alone);
    let probe = keys.optional("probe", findings, |place, findings| {
        probe(place, vip.address, findings)
    });
    let degraded = keys.optional("degraded", findings, |place, findings| {
        degraded(place, vip, findings)
    });
    let other_sites = keys.optional("last_site", findings, |place, findings| {
        last_site(place, vip.address, findings)
    });
    Some(AnycastVip {
        check: check?.unwrap_or(plain.check),
        probe: probe?.unwrap_or(plain.probe),
        degraded: degraded?,
        other_sites: other_sites?.unwrap_or_default(),
        ..plain
    })
}

/// Reports keys that are of no use without `mode: anycast`.
pub(super) fn refuse(keys: &Mapping<'_>, findings: &mut Findings) {
    for key in VIP_KEYS {
        if let Some(place) = keys.get(key) {
            let message = "is for `mode: anycast`; a director checks a real server by itself, so \
                           leave it out, or write that mode";
            findings.add(&place.origin(), message);
        }
    }
}

/// Whether the DNS answers at all: any server knows the root, or refuses to speak of it.
fn usual_check() -> Check {
    let root: Name = ".".parse().expect("the root is a name");
    let probe = Probe {
        recursion_desired: false,
        expected: Expectation {
            response_codes: BTreeSet::from([
                ResponseCode::NO_ERROR,
                ResponseCode::NAME_ERROR,
                ResponseCode::REFUSED,
            ]),
            minimum_records: 0,
            ..Expectation::default()
        },
        ..Probe::new(root, RecordType::Ns)
    };
    Check {
        probing: Arc::new(Probing {
            kind: CheckKind::Dns(DnsCheck {
                probes: vec![probe],
                require: Requirement::default(),
                follows_truncation: false,
            }),
            interval: defaults::CHECK_INTERVAL,
            timeout: defaults::CHECK_TIMEOUT,
            rise: defaults::RISE,
            fall: defaults::FALL,
        }),
        port: None,
        protocols: vec![Protocol::Udp],
        path: false,
    }
}

fn loopback(of_family: IpAddr) -> IpAddr {
    match of_family {
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    }
}

/// An address of this machine's, with or without a port.
fn probe(place: &Place<'_>, vip: IpAddr, findings: &mut Findings) -> Option<SocketAddr> {
    let what = "an address of this machine's that is always there, such as 127.0.0.1 or \
                \"127.0.0.1:5353\"";
    let at = socket(place, what, findings)?;
    if at.ip() == vip {
        let message = "is the VIP, which isn't on the machine while it is withdrawn; write \
                       another address that the DNS listens on";
        findings.add(&place.origin(), message);
        return None;
    }
    Some(at)
}

fn socket(place: &Place<'_>, what: &str, findings: &mut Findings) -> Option<SocketAddr> {
    let text = reader::text(place, what, findings)?;
    let address = text
        .parse()
        .map(|address| SocketAddr::new(address, DNS_PORT));
    let at = address.or_else(|_| text.parse()).ok();
    let at = at.filter(|at: &SocketAddr| {
        at.port() != 0 && !at.ip().is_unspecified() && !at.ip().is_multicast()
    });
    if at.is_none() {
        findings.add(
            &place.origin(),
            format!("`{text}` can't be asked; must be {what}"),
        );
    }
    at
}

fn degraded(place: &Place<'_>, vip: &Vip, findings: &mut Findings) -> Option<Degraded> {
    let keys = Mapping::of_known_keys(place, &["interface", "check"], findings)?;
    let right =
        "write the interface whose addresses the routing daemon announces at a worse metric";
    let interface = keys.required("interface", right, findings, |place, findings| {
        let interface = reader::interface(place, findings)?;
        if interface == vip.interface {
            let message = format!(
                "{interface} is where the VIP is while all is well; write another interface"
            );
            findings.add(&place.origin(), message);
            return None;
        }
        Some(interface)
    });
    let right = "write what says that the DNS still serves, such as a name of a local zone";
    let check = keys.required("check", right, findings, reading::alone);
    Some(Degraded {
        interface: interface?,
        check: check?,
    })
}

fn last_site(place: &Place<'_>, vip: IpAddr, findings: &mut Findings) -> Option<Vec<SocketAddr>> {
    let keys = Mapping::of_known_keys(place, &["ask"], findings)?;
    let what = "a list of other sites' own addresses, such as [10.0.0.1, 10.1.0.1]";
    let right = "write the other sites' own addresses";
    keys.required("ask", right, findings, |place, findings| {
        let mut seen = Vec::<Located<SocketAddr>>::new();
        reader::filled_list(place, what, findings, |place, findings| {
            let site = socket(
                place,
                "another site's own address, such as 10.0.0.1",
                findings,
            )?;
            if site.ip() == vip {
                let message = "is the VIP, by which this site would ask itself; write the other \
                               site's own address";
                findings.add(&place.origin(), message);
                return None;
            }
            if seen.iter().any(|other| other.value == site) {
                findings.add(
                    &place.origin(),
                    format!("{site} is listed already; list it once"),
                );
                return None;
            }
            seen.push(place.located(site));
            Some(site)
        })
    })
}
