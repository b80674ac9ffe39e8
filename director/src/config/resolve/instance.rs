//! One virtual router on one node.

use std::net::IpAddr;
use std::time::Duration;

use lvs_configuration::address::is_link_local;
use lvs_configuration::error::{Findings, Located};
use lvs_proto::vrrp::{
    AcceptedIntervals, AdvertInterval, AlsoAccept, Announcements, ChecksumForm, Family, Peers,
    Priority, Version, hmac,
};

use super::keys::Keys;
use crate::config::defaults;
use crate::config::model::{Effect, Instance, Track, VersionSettings, VirtualAddress};
use crate::config::vrrp::{Credentials, HmacDraft, VirtualMac, Written};

/// The family is that of the first VIP.
pub(super) fn family(written: &Written<'_>) -> Family {
    let first = written.addresses.value.first();
    first.map_or(Family::Ipv4, |vip| Family::of(vip.value.address))
}

/// The name of the macvlan to make, if any.
pub(super) fn virtual_mac(written: &Written<'_>) -> Option<String> {
    match &written.virtual_mac?.value {
        VirtualMac::Without => None,
        VirtualMac::Named(name) => Some(name.clone()),
        VirtualMac::ByDefaultName => {
            let id = written.virtual_router_id.value;
            Some(match family(written) {
                Family::Ipv4 => format!("vrrp.{id}"),
                Family::Ipv6 => format!("vrrp6.{id}"),
            })
        }
    }
}

/// Judges what one value means for another.
pub(super) fn judge(
    written: &Written<'_>,
    keys: Keys,
    findings: &mut Findings,
) -> Option<Instance> {
    let version = version(written, findings);
    let advert_interval = advert_interval(version, written.advert_interval, findings);
    let settings = settings(written, version, advert_interval, keys, findings);
    let also_accept = also_accept(written, version, findings);
    let speaks_v3 = version == Version::V3 || also_accept.version == Some(Version::V3);
    let accepted_intervals = advert_interval
        .and_then(|interval| accepted_intervals(written, speaks_v3, interval, findings));
    if let Some(accepted) = accepted_intervals {
        judge_accepted_version(written, version, accepted, findings);
    }
    judge_addresses(written, findings);
    judge_source(written, findings);
    judge_owner(written, findings);
    judge_preemption(written, findings);
    judge_track(written, findings);
    let (announcements, announcement_pause) = announcements(written);
    let preempt = written.preempt.is_none_or(|preempt| preempt.value);
    let vips =
        |list: &[Located<VirtualAddress>]| list.iter().map(|vip| vip.value.clone()).collect();
    Some(Instance {
        name: written.name.value.clone(),
        interface: written.interface.value.clone(),
        virtual_router_id: written.virtual_router_id.value,
        priority: written.priority.value,
        advert_interval: advert_interval?,
        accepted_intervals: accepted_intervals?,
        version: settings?,
        also_accept,
        preempt,
        preempt_delay: written
            .preempt_delay
            .map_or(defaults::PREEMPT_DELAY, |delay| delay.value),
        source: written.source.map(|source| source.value),
        peers: peers(written, findings),
        virtual_mac: virtual_mac(written),
        addresses: vips(&written.addresses.value),
        further_addresses: written
            .further_addresses
            .map_or_else(Vec::new, |further| vips(&further.value)),
        announcements,
        announcement_pause,
        group: written.group.map(|group| group.value.clone()),
        track: track(written),
        hooks: written
            .hooks
            .map_or_else(Vec::new, |hooks| hooks.value.clone()),
    })
}

fn version(written: &Written<'_>, findings: &mut Findings) -> Version {
    let Some(asked) = written.version else {
        return defaults::VERSION;
    };
    if asked.value == Version::V2 && family(written) == Family::Ipv6 {
        let message =
            "version 2 is IPv4's, and the VIPs are IPv6; leave it out, or write version: 3";
        findings.add(&asked.origin, message);
    }
    asked.value
}

fn advert_interval(
    version: Version,
    asked: Option<&Located<Duration>>,
    findings: &mut Findings,
) -> Option<AdvertInterval> {
    let Some(asked) = asked else {
        return AdvertInterval::new(version, defaults::advert_interval(version));
    };
    let interval = AdvertInterval::new(version, asked.value);
    if interval.is_none() {
        let right = match version {
            Version::V2 => "version 2 counts whole seconds; must be 1s to 255s, or set version: 3",
            Version::V3 => "version 3 counts hundredths of a second; must be 10ms to 40950ms",
        };
        findings.add(
            &asked.origin,
            format!("{:?} can't be advertised: {right}", asked.value),
        );
    }
    interval
}

/// What only the version has.
fn settings(
    written: &Written<'_>,
    version: Version,
    advert_interval: Option<AdvertInterval>,
    keys: Keys,
    findings: &mut Findings,
) -> Option<VersionSettings> {
    if let Some(checksum) = written.checksum {
        let message = match (version, family(written)) {
            (Version::V2, _) => {
                Some("version 2 has one form of checksum; leave it out, or set version: 3")
            }
            (Version::V3, Family::Ipv6) => Some(
                "over IPv6 there is one form of checksum (RFC 8200, section 8.1); leave it out",
            ),
            (Version::V3, Family::Ipv4) => None,
        };
        if let Some(message) = message {
            findings.add(&checksum.origin, message);
        }
    }
    let found = written.authentication;
    match (version, found.map(|found| &found.value)) {
        (Version::V2, Some(Credentials::Password(password))) => Some(VersionSettings::V2 {
            password: Some(password.clone()),
        }),
        (Version::V2, None) => Some(VersionSettings::V2 { password: None }),
        (Version::V2, Some(Credentials::Hmac(_))) => {
            let message = "`hmac` is version 3's; write `password`, or set version: 3";
            findings.add(&found?.origin, message);
            None
        }
        (Version::V3, Some(Credentials::Password(_))) => {
            let message =
                "a password is version 2's; write `hmac`, leave it out, or set version: 2";
            findings.add(&found?.origin, message);
            None
        }
        (Version::V3, credentials) => {
            let hmac = match credentials {
                Some(Credentials::Hmac(draft)) => {
                    Some(hmac(draft, advert_interval?, keys, findings)?)
                }
                _ => None,
            };
            let checksum = written.checksum.map_or(defaults::CHECKSUM, |it| it.value);
            let checksum = match family(written) {
                Family::Ipv4 => checksum,
                Family::Ipv6 => ChecksumForm::PseudoHeader,
            };
            Some(VersionSettings::V3 { checksum, hmac })
        }
    }
}

fn hmac(
    draft: &HmacDraft,
    advert_interval: AdvertInterval,
    keys: Keys,
    findings: &mut Findings,
) -> Option<hmac::Configuration> {
    let read = |(id, key)| Some((id, keys.of(key, findings)?));
    let number = draft.keys.len();
    let keys: std::collections::BTreeMap<_, _> = draft
        .keys
        .iter()
        .map(|(id, key)| (*id, key))
        .filter_map(read)
        .collect();
    if keys.len() < number {
        return None;
    }
    let default = || hmac::Configuration::default_window(advert_interval.get());
    let window = draft.window.unwrap_or_else(default);
    // The draft's key to send with and its window were judged when they were read.
    hmac::Configuration::new(draft.mode.unwrap_or_default(), draft.send, keys, window).ok()
}

fn also_accept(written: &Written<'_>, own: Version, findings: &mut Findings) -> AlsoAccept {
    let Some(also) = written.also_accept.map(|also| &also.value) else {
        return AlsoAccept::default();
    };
    let own_password = match written.authentication.map(|found| &found.value) {
        Some(Credentials::Password(password)) => Some(password),
        _ => None,
    };
    if let Some(version) = &also.version {
        // Beside a password of one's own, version 2 alone means adverts without one.
        let without_password =
            own == Version::V2 && own_password.is_some() && also.password.is_none();
        if version.value == Version::V2 && family(written) == Family::Ipv6 {
            findings.add(
                &version.origin,
                "version 2 is IPv4's, and the VIPs are IPv6; leave it out",
            );
        } else if version.value == own && !without_password {
            let message = "`version` is the own one, which is accepted anyway; leave it out";
            findings.add(&version.origin, message);
        }
    }
    let version = also.version.as_ref().map(|version| version.value);
    if let Some(password) = &also.password {
        if own != Version::V2 && version != Some(Version::V2) {
            let message = "`password` is version 2's, which isn't spoken here; write `version: 2` \
                           beside it";
            findings.add(&password.origin, message);
        } else if own == Version::V2 && own_password == Some(&password.value) {
            let message = "`password` is the own one, which is accepted anyway; leave it out";
            findings.add(&password.origin, message);
        }
    }
    AlsoAccept {
        version,
        password: also
            .password
            .as_ref()
            .map(|password| password.value.clone()),
    }
}

fn accepted_intervals(
    written: &Written<'_>,
    speaks_v3: bool,
    own: AdvertInterval,
    findings: &mut Findings,
) -> Option<AcceptedIntervals> {
    let Some(asked) = written.accept_intervals else {
        return Some(if speaks_v3 {
            AcceptedIntervals::around(own)
        } else {
            AcceptedIntervals {
                least: own.get(),
                most: own.get(),
            }
        });
    };
    let AcceptedIntervals { least, most } = asked.value;
    if !speaks_v3 {
        let message = "version 2 accepts no interval but its own; leave it out, or set version: 3";
        findings.add(&asked.origin, message);
    } else if least > most {
        let message = format!("`from`, {least:?}, is longer than `to`, {most:?}; exchange them");
        findings.add(&asked.origin, message);
    } else if !(least..=most).contains(&own.get()) {
        let message = format!(
            "{least:?} to {most:?} doesn't include this director's own advert_interval, {:?}",
            own.get()
        );
        findings.add(&asked.origin, message);
    } else {
        return Some(asked.value);
    }
    None
}

/// Version 2 sends once a second at most: a Backup that follows no such interval would take over from
/// an Active that is well.
fn judge_accepted_version(
    written: &Written<'_>,
    own: Version,
    accepted: AcceptedIntervals,
    findings: &mut Findings,
) {
    let also = written
        .also_accept
        .and_then(|also| also.value.version.as_ref());
    let least = defaults::advert_interval(Version::V2);
    if let Some(also) = also
        && (own, also.value) == (Version::V3, Version::V2)
        && accepted.most < least
    {
        let message = format!(
            "version 2 sends once a second at most, and this director follows no interval beyond \
             {:?}: it would take over from an Active that is well; write accept_intervals up to the \
             other's interval at least",
            accepted.most
        );
        findings.add(&also.origin, message);
    }
}

fn judge_addresses(written: &Written<'_>, findings: &mut Findings) {
    let own_family = family(written);
    let addresses = &written.addresses.value;
    for vip in addresses {
        if Family::of(vip.value.address) != own_family {
            let message = format!(
                "{} is {}, and the first VIP {}; write it under `further_addresses`, or into a \
                 virtual router of its own",
                vip.value.address,
                name_of(Family::of(vip.value.address)),
                name_of(own_family),
            );
            findings.add(&vip.origin, message);
        }
    }
    if let Some(first) = addresses.first()
        && own_family == Family::Ipv6
        && !is_link_local(first.value.address)
    {
        let message = format!(
            "{} isn't link-local; RFC 9568, section 5.2.9, wants the first address to be one, and \
             some routers insist",
            first.value.address
        );
        findings.warn(&first.origin, message);
    }
    let virtual_mac = virtual_mac(written);
    let own_interface = virtual_mac.as_ref().unwrap_or(&written.interface.value);
    let further = written
        .further_addresses
        .iter()
        .flat_map(|further| &further.value);
    for vip in addresses.iter().chain(further) {
        let interface = vip.value.interface.as_ref().unwrap_or(own_interface);
        if let Some(label) = &vip.value.label
            && label != interface
            && !label
                .strip_prefix(interface.as_str())
                .is_some_and(|rest| rest.starts_with(':'))
        {
            let message = format!(
                "the label `{label}` doesn't begin with the interface's name; must be `{interface}` \
                 or begin with `{interface}:`, of at most 15 bytes"
            );
            findings.add(&vip.origin, message);
        }
    }
}

fn judge_source(written: &Written<'_>, findings: &mut Findings) {
    let Some(source) = written.source else {
        return;
    };
    let address = source.value;
    if Family::of(address) != family(written) {
        findings.add(&source.origin, of_other_family(address, family(written)));
    } else if address.is_ipv6() && !is_link_local(address) && written.peers.is_none() {
        let message = format!(
            "{address} isn't link-local, and over IPv6 multicast adverts come from such an address \
             (RFC 9568, section 5.1.2.1); write the interface's"
        );
        findings.add(&source.origin, message);
    }
}

/// The owner takes over at once and keeps its priority, whatever happens.
fn judge_owner(written: &Written<'_>, findings: &mut Findings) {
    if written.priority.value != Priority::OWNER {
        return;
    }
    let right = "leave it out, or write a priority up to 254";
    if let Some(preempt) = written.preempt.filter(|preempt| !preempt.value) {
        let message = format!("the owner of the addresses, priority 255, always preempts; {right}");
        findings.add(&preempt.origin, message);
    }
    if let Some(delay) = written.preempt_delay.filter(|delay| !delay.value.is_zero()) {
        let message = format!("the owner of the addresses, priority 255, never waits; {right}");
        findings.add(&delay.origin, message);
    }
    let Some(track) = written.track.map(|track| &track.value) else {
        return;
    };
    let named = track.interfaces.iter().chain(&track.services);
    let named = named.map(|it| (&it.origin, it.value.1));
    let scripts = track.scripts.iter().map(|it| (&it.origin, it.value.effect));
    let files = track
        .files
        .iter()
        .map(|it| (&it.origin, Effect::Weight(it.value.weight)));
    for (origin, effect) in named.chain(scripts).chain(files) {
        if matches!(effect, Effect::Weight(_)) {
            let message = "a weight changes nothing for the owner of the addresses, who keeps 255; \
                           leave it out, or write a priority up to 254";
            findings.add(origin, message);
        }
    }
}

fn judge_preemption(written: &Written<'_>, findings: &mut Findings) {
    let never = written.preempt.is_some_and(|preempt| !preempt.value);
    if let Some(delay) = written.preempt_delay
        && never
        && !delay.value.is_zero()
    {
        let message = "means nothing without preemption; leave it out, or set preempt: true";
        findings.add(&delay.origin, message);
    }
}

fn judge_track(written: &Written<'_>, findings: &mut Findings) {
    let interfaces = written
        .track
        .iter()
        .flat_map(|track| &track.value.interfaces);
    for tracked in interfaces {
        let (name, _) = &tracked.value;
        if *name == written.interface.value || Some(name) == virtual_mac(written).as_ref() {
            let message = format!(
                "`{name}` is the virtual router's own interface, which is watched anyway; leave it \
                 out"
            );
            findings.add(&tracked.origin, message);
        }
    }
}

fn peers(written: &Written<'_>, findings: &mut Findings) -> Peers {
    let Some(peers) = written.peers else {
        if let Some(minimum) = written.minimum_ttl {
            let message = "is for `peers`; over multicast it is always 255, so leave it out";
            findings.add(&minimum.origin, message);
        }
        return Peers::Multicast;
    };
    for peer in &peers.value {
        if Family::of(peer.value) != family(written) {
            findings.add(&peer.origin, of_other_family(peer.value, family(written)));
        } else if written.source.is_some_and(|own| own.value == peer.value) {
            let message = format!(
                "{} is the `source` of this node itself; leave it out",
                peer.value
            );
            findings.add(&peer.origin, message);
        }
    }
    Peers::Unicast {
        addresses: peers.value.iter().map(|peer| peer.value).collect(),
        minimum_hop_limit: written
            .minimum_ttl
            .map_or(defaults::MINIMUM_TIME_TO_LIVE, |minimum| minimum.value),
    }
}

fn of_other_family(address: IpAddr, family: Family) -> String {
    let name = name_of(family);
    format!("{address} isn't {name} as the VIPs are; write an {name} address")
}

fn name_of(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "IPv4",
        Family::Ipv6 => "IPv6",
    }
}

/// The rounds, and the pause between two packets.
fn announcements(written: &Written<'_>) -> (Announcements, Duration) {
    let default = Announcements::default();
    let Some(asked) = written.announce.map(|announce| &announce.value) else {
        return (default, defaults::ANNOUNCEMENT_PAUSE);
    };
    let time = |asked: Option<Duration>, default| match asked {
        Some(time) => (!time.is_zero()).then_some(time),
        None => default,
    };
    let announcements = Announcements {
        burst: asked.burst.unwrap_or(default.burst),
        second_after: time(asked.again_after, default.second_after),
        refresh: time(asked.refresh, default.refresh),
    };
    (
        announcements,
        asked.pause.unwrap_or(defaults::ANNOUNCEMENT_PAUSE),
    )
}

fn track(written: &Written<'_>) -> Track {
    fn values<T: Clone>(list: &[Located<T>]) -> Vec<T> {
        list.iter().map(|item| item.value.clone()).collect()
    }
    written.track.map_or_else(Track::default, |track| Track {
        interfaces: values(&track.value.interfaces),
        scripts: values(&track.value.scripts),
        files: values(&track.value.files),
        services: values(&track.value.services),
    })
}
