//! Who else sends adverts for our virtual routers.

use std::collections::BTreeSet;
use std::net::IpAddr;

use lvs_proto::vrrp::{Peers, Received, Rejection, Version, hmac};

use super::Report;
use super::lan::Heard;
use super::machine::Machine;
use crate::config::{Instance, VersionSettings};
use crate::control::State;

pub(super) fn examine(machine: &Machine<'_>, heard: &Heard, report: &mut Report) {
    for instance in &machine.configuration().instances {
        if !heard.deaf.contains(&instance.name) {
            let speakers: Vec<_> = heard.of(&instance.name).collect();
            judge(instance, machine.state(instance), &speakers, report);
        }
    }
}

type Speaker<'h> = (IpAddr, &'h Result<Received, Rejection>);

fn judge(instance: &Instance, here: Option<State>, speakers: &[Speaker<'_>], report: &mut Report) {
    let name = &instance.name;
    let id = instance.virtual_router_id;
    let place = format!("virtual router id {id} on {}", instance.interface);
    let mut peers = Vec::new();
    for (source, advert) in speakers {
        match advert {
            Err(rejection) => report.warning(
                "speaker",
                name,
                format!("{source} sends packets for {place} that are discarded: {rejection}"),
                "compare `vrrp` in the files of both; if it is none of your directors, end it or choose \
                 another `virtual_router_id`",
            ),
            Ok(received) if is_stranger(instance, *source, received) => report.error(
                "speaker",
                name,
                stranger(instance, *source, received, &place),
                "choose a `virtual_router_id` that nobody else on this LAN has, on both directors; or give \
                 both the same addresses, if it is the other one",
            ),
            Ok(received) => peers.push((*source, received)),
        }
    }
    match peers.as_slice() {
        [(source, received)] if here == Some(State::Active) => report.error(
            "speaker",
            name,
            format!(
                "{source} is Active for {place} as well, with priority {}: each takes a part of the clients",
                received.advert.priority
            ),
            "adverts pass in one direction only, or are discarded there: look at `director status` on both \
             (rejected adverts), and at the firewall of the other one for IP protocol 112",
        ),
        [(source, received)] => {
            report.ok(
                "speaker",
                name,
                format!("{source} is Active, with priority {}", received.advert.priority),
            );
            compare(instance, *source, received, report);
        }
        [] if here == Some(State::Active) => report.ok(
            "speaker",
            name,
            "nobody else is Active; whether a Backup listens can only be seen there",
        ),
        // It's about to take over, or has a stranger above it.
        [] if here.is_some() => report.ok("speaker", name, "nobody is heard as Active"),
        [] if speakers.is_empty() => report.note(
            "speaker",
            name,
            format!("nobody is heard for {place}"),
            Some(
                "if the other director is Active now, its adverts don't reach this machine: a firewall, a \
                 switch that filters multicast (then use `peers`), another VLAN"
                    .to_owned(),
            ),
        ),
        [] => {}
        several => {
            let sources: Vec<String> = several.iter().map(|(source, _)| source.to_string()).collect();
            report.error(
                "speaker",
                name,
                format!("{} are all Active for {place}", sources.join(" and ")),
                "they don't hear each other, or there is one director too many with this \
                 `virtual_router_id`: look at `director status` on each",
            );
        }
    }
}

/// It advertises other addresses, or isn't one of the peers that the file lists.
pub(super) fn is_stranger(instance: &Instance, source: IpAddr, received: &Received) -> bool {
    let is_listed = match &instance.peers {
        Peers::Multicast => true,
        Peers::Unicast { addresses, .. } => addresses.contains(&source),
    };
    !is_listed || vips(instance) != listed(received)
}

fn vips(instance: &Instance) -> BTreeSet<IpAddr> {
    instance.addresses.iter().map(|vip| vip.address).collect()
}

fn listed(received: &Received) -> BTreeSet<IpAddr> {
    received.advert.addresses.iter().copied().collect()
}

fn stranger(instance: &Instance, source: IpAddr, received: &Received, place: &str) -> String {
    let (own, other) = (vips(instance), listed(received));
    if own == other {
        return format!("{source} sends adverts for {place} and isn't one of `peers`");
    }
    let words = |addresses: &BTreeSet<IpAddr>| {
        let words: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
        words.join(", ")
    };
    format!(
        "{source} uses {place} for {}, and this file for {}",
        words(&other),
        words(&own)
    )
}

/// What two directors of a pair have to agree on.
fn compare(instance: &Instance, source: IpAddr, received: &Received, report: &mut Report) {
    let name = &instance.name;
    let advert = &received.advert;
    let own = instance.version.version();
    let mut differs = |what: String, advice: &str| {
        report.warning("speaker", name, format!("{source} {what}"), advice);
    };
    if advert.version != own && instance.also_accept.version != Some(advert.version) {
        differs(
            format!(
                "speaks version {}, and this file version {}",
                number(advert.version),
                number(own)
            ),
            "give both the same `version`; `also_accept: { version }` bridges the change",
        );
        return;
    }
    let interval = advert.interval.get();
    if interval != instance.advert_interval.get() {
        let what = format!(
            "sends an advert every {} ms, and this file says {} ms",
            interval.as_millis(),
            instance.advert_interval.get().as_millis()
        );
        let advice = if own == Version::V2 {
            "give both the same `advert_interval`: version 2 discards others"
        } else {
            "give both the same `advert_interval`: a failover takes as long as the Active's says"
        };
        differs(what, advice);
    }
    if advert.priority == instance.priority.get() {
        differs(
            format!("has priority {} as well", advert.priority),
            "give them different ones: between equals the larger address decides",
        );
    }
    let wants_trailer = match &instance.version {
        VersionSettings::V3 {
            hmac: Some(keys), ..
        } => Some(keys.mode() == hmac::Mode::Enforce),
        VersionSettings::V2 { .. } | VersionSettings::V3 { hmac: None, .. } => None,
    };
    match (wants_trailer, received.sealed_at) {
        (Some(true), None) => differs(
            "doesn't sign its adverts, and this file wants them signed".to_owned(),
            "give both the same `authentication`; `mode: permissive` bridges the change",
        ),
        (None, Some(_)) => differs(
            "signs its adverts, and this file has no keys: it discards what is sent from here"
                .to_owned(),
            "give both the same `authentication`",
        ),
        _ => {}
    }
}

fn number(version: Version) -> u8 {
    match version {
        Version::V2 => 2,
        Version::V3 => 3,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use lvs_proto::vrrp::{Advert, AdvertInterval, ChecksumForm};

    use super::*;
    use crate::config;
    use crate::doctor::Verdict;

    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 12));

    fn instance(more: &str) -> Instance {
        let text = format!(
            "vrrp: [{{ name: dns, interface: eth2, virtual_router_id: 50, priority: 200, \
             addresses: [192.0.2.1/24]{more} }}]"
        );
        let file = config::parse(Path::new("d.yaml"), &text);
        let file = file.unwrap_or_else(|errors| panic!("{errors}"));
        file.outline("").unwrap().instances.remove(0)
    }

    fn advert(instance: &Instance) -> Received {
        Received {
            advert: Advert {
                version: Version::V3,
                virtual_router: instance.virtual_router_id,
                priority: 100,
                interval: AdvertInterval::new(Version::V3, Duration::from_millis(100)).unwrap(),
                addresses: vec!["192.0.2.1".parse().unwrap()],
                password: None,
            },
            form: ChecksumForm::PseudoHeader,
            sealed_at: None,
        }
    }

    fn verdicts(
        instance: &Instance,
        here: Option<State>,
        adverts: &[Result<Received, Rejection>],
    ) -> Vec<Verdict> {
        let mut report = Report::default();
        let sources = [OTHER, "192.0.2.13".parse().unwrap()];
        let speakers: Vec<_> = sources.into_iter().zip(adverts).collect();
        judge(instance, here, &speakers, &mut report);
        report
            .verdicts()
            .into_iter()
            .map(|(.., verdict)| verdict)
            .collect()
    }

    #[test]
    fn a_peer_that_agrees_is_well_unless_both_are_active() {
        let dns = instance("");
        let good = [Ok(advert(&dns))];
        assert_eq!(verdicts(&dns, None, &good), [Verdict::Ok]);
        assert_eq!(verdicts(&dns, Some(State::Backup), &good), [Verdict::Ok]);
        assert_eq!(verdicts(&dns, Some(State::Active), &good), [Verdict::Error]);
        assert_eq!(verdicts(&dns, Some(State::Active), &[]), [Verdict::Ok]);
        assert_eq!(verdicts(&dns, None, &[]), [Verdict::Note]);
    }

    #[test]
    fn two_active_ones_are_one_too_many() {
        let dns = instance("");
        let two = [Ok(advert(&dns)), Ok(advert(&dns))];
        assert_eq!(verdicts(&dns, None, &two), [Verdict::Error]);
    }

    #[test]
    fn one_with_other_addresses_or_that_is_not_listed_is_a_stranger() {
        let dns = instance("");
        let mut other = advert(&dns);
        other.advert.addresses.push("192.0.2.99".parse().unwrap());
        assert_eq!(
            verdicts(&dns, Some(State::Backup), &[Ok(other)]),
            [Verdict::Error, Verdict::Ok]
        );
        let listed = instance(", source: 192.0.2.11, peers: [192.0.2.12]");
        assert_eq!(verdicts(&listed, None, &[Ok(advert(&dns))]), [Verdict::Ok]);
        let elsewhere = instance(", source: 192.0.2.11, peers: [192.0.2.14]");
        assert_eq!(
            verdicts(&elsewhere, None, &[Ok(advert(&dns))]),
            [Verdict::Error]
        );
    }

    #[test]
    fn what_a_pair_has_to_agree_on_is_compared() {
        let key = ", authentication: { hmac: { send: 1, keys: { 1: '0123456789abcdef0123456789abcdef' } } }";
        let cases = [
            (", advert_interval: 200ms", 1),
            (", version: 2, advert_interval: 1s", 1),
            (key, 1),
            (", also_accept: { version: 2 }", 0),
        ];
        for (more, differences) in cases {
            let dns = instance(more);
            let found = verdicts(&dns, None, &[Ok(advert(&instance("")))]);
            assert_eq!(found.len() - 1, differences, "{more}: {found:?}");
            assert!(found[1..].iter().all(|one| *one == Verdict::Warning));
        }
        let dns = instance("");
        let mut equal = advert(&dns);
        equal.advert.priority = 200;
        equal.sealed_at = Some(40);
        let expected = [Verdict::Ok, Verdict::Warning, Verdict::Warning];
        assert_eq!(verdicts(&dns, None, &[Ok(equal)]), expected);
    }

    #[test]
    fn what_is_discarded_is_said() {
        let dns = instance("");
        let found = verdicts(&dns, Some(State::Backup), &[Err(Rejection::Checksum)]);
        assert_eq!(found, [Verdict::Warning, Verdict::Ok]);
    }
}
