//! Reads what is watched of the DNS data that real servers have.

use lvs_configuration::error::Findings;
use lvs_configuration::reader::{self, Mapping, Place};
use lvs_proto::dns::Name;
use lvs_proto::health::Percent;
use lvs_proto::health::serial::LagRules;

use super::pool::percent;
use crate::config::defaults;
use crate::config::model::{DnssecWatch, Watch, ZoneWatch};

pub(super) fn read(place: &Place<'_>, findings: &mut Findings) -> Option<Watch> {
    let keys = Mapping::of_known_keys(place, &["interval", "zones", "dnssec"], findings)?;
    let interval = keys.optional("interval", findings, |place, findings| {
        reader::duration_in(place, defaults::WATCH_INTERVALS, findings)
    });
    let interval = interval?.unwrap_or(defaults::WATCH_INTERVAL);
    let zones = keys.optional("zones", findings, |place, findings| {
        let mut seen = Vec::new();
        let what = "a list of zones, such as [{ name: example.org }]";
        reader::filled_list(place, what, findings, |place, findings| {
            let zone = zone(place, findings)?;
            if seen.contains(&zone.name) {
                let message = format!("`{}` is already listed; list it once", zone.name);
                findings.add(&place.origin(), message);
                return None;
            }
            seen.push(zone.name.clone());
            Some(ZoneWatch {
                rules: LagRules {
                    memory: interval * defaults::WATCH_MEMORY,
                    ..zone.rules
                },
                ..zone
            })
        })
    });
    let dnssec = keys.optional("dnssec", findings, dnssec);
    let (zones, dnssec) = (zones?.unwrap_or_default(), dnssec?);
    if zones.is_empty() && dnssec.is_none() {
        let message = "watches nothing; write `zones` or `dnssec`, or leave it out";
        findings.add(&place.origin(), message);
        return None;
    }
    Some(Watch {
        interval,
        zones,
        dnssec,
    })
}

fn zone(place: &Place<'_>, findings: &mut Findings) -> Option<ZoneWatch> {
    let known = ["name", "maximum_lag", "for", "weight"];
    let keys = Mapping::of_known_keys(place, &known, findings)?;
    let right = "write the zone's name, such as example.org";
    let name = keys.required("name", right, findings, name);
    let maximum_lag = keys.optional("maximum_lag", findings, |place, findings| {
        let most = i64::from(defaults::MAXIMUM_LAG);
        u32::try_from(reader::integer(place, 0..=most, findings)?).ok()
    });
    let maximum_time = keys.optional("for", findings, |place, findings| {
        reader::duration_in(place, defaults::LAG_TIMES, findings)
    });
    let weight = weight(&keys, findings);
    let (maximum_lag, maximum_time) = (maximum_lag?, maximum_time?);
    let by_default = maximum_lag.is_none().then_some(defaults::LAG_TIME);
    Some(ZoneWatch {
        name: name?,
        rules: LagRules {
            maximum_lag,
            maximum_time: maximum_time.or(by_default),
            memory: defaults::WATCH_INTERVAL,
        },
        weight: weight?,
    })
}

fn dnssec(place: &Place<'_>, findings: &mut Findings) -> Option<DnssecWatch> {
    let keys = Mapping::of_known_keys(place, &["signed", "bogus", "weight"], findings)?;
    let signed = keys.optional("signed", findings, name);
    let bogus = keys.optional("bogus", findings, name);
    let weight = weight(&keys, findings);
    let (signed, bogus) = (signed?, bogus?);
    if signed.is_none() && bogus.is_none() {
        let message = "needs `signed`, the name of a zone whose signatures are good, or `bogus`, a \
                       name whose signatures are bad";
        findings.add(&place.origin(), message);
        return None;
    }
    Some(DnssecWatch {
        signed,
        bogus,
        weight: weight?,
    })
}

fn name(place: &Place<'_>, findings: &mut Findings) -> Option<Name> {
    reader::parsed::<Name>(place, "a domain name", findings)
}

/// What is left; by default nothing.
fn weight(keys: &Mapping<'_>, findings: &mut Findings) -> Option<Percent> {
    let weight = keys.optional("weight", findings, |place, findings| {
        percent(place, 0, findings)
    });
    Some(weight?.unwrap_or(Percent::NONE))
}
