//! Reads how a real server is picked.

use std::time::Duration;

use lvs_configuration::document::Value;
use lvs_configuration::error::{Findings, Located};
use lvs_configuration::reader::{self, Mapping, Place};
use lvs_proto::ipvs::{Scheduler, ServiceFlags};

use crate::config::defaults;
use crate::config::model::{OnePacketScheduling, PersistenceSettings};

pub(super) fn scheduler(keys: &Mapping<'_>, findings: &mut Findings) -> Option<Located<Scheduler>> {
    let asked = keys.optional("scheduler", findings, |place, findings| {
        let what = "the name of a scheduler, such as wrr";
        Some(place.located(reader::parsed(place, what, findings)?))
    })?;
    Some(asked.unwrap_or_else(|| Located {
        value: defaults::SCHEDULER,
        origin: keys.origin().clone(),
    }))
}

/// The switches of the hashing schedulers (`IP_VS_SVC_F_SCHED_SH_*`, `IP_VS_SVC_F_SCHED_MH_*`).
pub(super) fn flags(
    keys: &Mapping<'_>,
    scheduler: Option<&Located<Scheduler>>,
    findings: &mut Findings,
) -> Option<ServiceFlags> {
    let words = [
        ("fallback", ServiceFlags::SCHEDULER_1),
        ("port", ServiceFlags::SCHEDULER_2),
    ];
    let Some(place) = keys.get("scheduler_flags") else {
        return Some(ServiceFlags::NONE);
    };
    let what = "a list of fallback, port or both";
    let flags = reader::distinct_words(place, what, &words, findings)?;
    let scheduler = scheduler?.value;
    if !matches!(
        scheduler,
        Scheduler::SourceHashing | Scheduler::MaglevHashing
    ) {
        let message = format!("`{scheduler}` has none, only sh and mh do; leave it out");
        findings.add(&place.origin(), message);
        return None;
    }
    Some(
        flags
            .into_iter()
            .fold(ServiceFlags::NONE, |all, flag| all | flag),
    )
}

/// A time, or a mapping that says more; a time of 0 is none.
pub(super) fn persistence(
    place: &Place<'_>,
    findings: &mut Findings,
) -> Option<Option<Located<PersistenceSettings>>> {
    let whole = |family: lvs_proto::Family| family.address_bits();
    let (v4, v6) = (lvs_proto::Family::Ipv4, lvs_proto::Family::Ipv6);
    let settings = if matches!(place.value(), Value::Mapping(_)) {
        let known = ["timeout", "ipv4_mask", "ipv6_mask"];
        let keys = Mapping::of_known_keys(place, &known, findings)?;
        let right = "write how long a client stays, such as 300s";
        let timeout = keys.required("timeout", right, findings, persistence_timeout);
        let mask = |key, family, findings: &mut Findings| {
            let most = whole(family);
            let mask = keys.optional(key, findings, |place, findings| {
                let bits = reader::integer(place, 1..=i64::from(most), findings)?;
                u8::try_from(bits).ok()
            })?;
            Some(mask.unwrap_or(most))
        };
        let (ipv4, ipv6) = (
            mask("ipv4_mask", v4, findings),
            mask("ipv6_mask", v6, findings),
        );
        PersistenceSettings {
            timeout: timeout?,
            ipv4_prefix_length: ipv4?,
            ipv6_prefix_length: ipv6?,
        }
    } else {
        PersistenceSettings {
            timeout: persistence_timeout(place, findings)?,
            ipv4_prefix_length: whole(v4),
            ipv6_prefix_length: whole(v6),
        }
    };
    Some((!settings.timeout.is_zero()).then(|| place.located(settings)))
}

fn persistence_timeout(place: &Place<'_>, findings: &mut Findings) -> Option<Duration> {
    reader::seconds_in(
        place,
        Duration::ZERO..=*defaults::KERNEL_TIMES.end(),
        findings,
    )
}

pub(super) fn one_packet(
    keys: &Mapping<'_>,
    findings: &mut Findings,
) -> Option<Located<OnePacketScheduling>> {
    let asked = keys.optional("one_packet_scheduling", findings, |place, findings| {
        Some(place.located(if reader::boolean(place, findings)? {
            OnePacketScheduling::On
        } else {
            OnePacketScheduling::Off
        }))
    })?;
    Some(asked.unwrap_or_else(|| Located {
        value: OnePacketScheduling::default(),
        origin: keys.origin().clone(),
    }))
}
