//! What there is to say of one virtual router on one node, for people, a line each.

use std::time::Duration;

use lvs_proto::vrrp::hmac::Mode;
use lvs_proto::vrrp::{Family, Peers, Priority, Version, VirtualRouterId};

use super::lines::Lines;
use crate::config::{
    AddressScope, Configuration, Effect, Instance, Track, VersionSettings, VirtualAddress,
};

pub(super) fn describe(instance: &Instance, configuration: &Configuration) -> Lines {
    let mut lines = Lines::default();
    lines.add("adverts", adverts(instance));
    lines.add("accepts", accepts(instance));
    lines.extend("authentication", authentication(&instance.version));
    let mac = |name| virtual_mac(instance.family(), instance.virtual_router_id, name);
    lines.extend("virtual MAC", instance.virtual_mac.as_deref().map(mac));
    if !instance.preempt_delay.is_zero() {
        let delay = instance.preempt_delay;
        lines.add("preempts", format!("a lower Active after {delay:?}"));
    }
    let special = instance.addresses.iter().filter(|vip| is_special(vip));
    lines.extend("addresses", special.map(|vip| place_of(instance, vip)));
    let further = instance.further_addresses.iter();
    lines.extend(
        "further addresses",
        further.map(|vip| place_of(instance, vip)),
    );
    lines.add("announces", announcements(instance));
    lines.extend("tracks", tracked(&instance.track));
    lines.extend("priority", priorities(instance));
    lines.extend("group", group(instance, configuration));
    let hooks = instance.hooks.iter().map(|hook| {
        let states: Vec<String> = hook.on.iter().map(ToString::to_string).collect();
        let (states, command) = (states.join(" "), hook.command.join(" "));
        format!("{states}: {command} (timeout {:?})", hook.timeout)
    });
    lines.extend("hooks", hooks);
    lines
}

fn adverts(instance: &Instance) -> String {
    let from = match instance.source {
        Some(source) => format!("from {source}"),
        None => "from the interface's first address".to_owned(),
    };
    match &instance.peers {
        Peers::Multicast => format!("multicast, {from}"),
        Peers::Unicast {
            addresses,
            minimum_hop_limit,
        } => {
            let peers: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            let peers = peers.join(" ");
            format!("to {peers}, {from}; theirs with a TTL of {minimum_hop_limit} or more")
        }
    }
}

fn accepts(instance: &Instance) -> String {
    let intervals = instance.accepted_intervals;
    let mut words = if intervals.least == intervals.most {
        "its own interval".to_owned()
    } else {
        format!("intervals of {:?} to {:?}", intervals.least, intervals.most)
    };
    let also = &instance.also_accept;
    let own = instance.version.version();
    match (also.version, &also.password) {
        (Some(version), None) if version == own => words += ", adverts without a password too",
        (Some(Version::V2), None) => words += ", version 2 too",
        (Some(Version::V2), Some(_)) => words += ", version 2 with a password too",
        (Some(Version::V3), password) => {
            words += ", version 3 too";
            words += if password.is_some() {
                ", another password too"
            } else {
                ""
            };
        }
        (None, Some(_)) => words += ", another password too",
        (None, None) => {}
    }
    words
}

fn authentication(version: &VersionSettings) -> Option<String> {
    match version {
        VersionSettings::V2 { password } => {
            password.as_ref().map(|_| "password, in clear".to_owned())
        }
        VersionSettings::V3 { hmac, .. } => hmac.as_ref().map(|hmac| {
            let mode = match hmac.mode() {
                Mode::Enforce => "enforced",
                Mode::Permissive => "not enforced yet",
                Mode::ReceiveOnly => "verified where it comes, not sent yet",
            };
            let key = hmac.signing_key();
            let key = key.map_or_else(String::new, |(id, _)| format!(", signed with key {id}"));
            format!("HMAC, {mode}{key}, clocks within {:?}", hmac.window())
        }),
    }
}

fn virtual_mac(family: Family, id: VirtualRouterId, interface: &str) -> String {
    let bytes = family.virtual_mac(id).map(|byte| format!("{byte:02x}"));
    format!("{} on {interface}", bytes.join(":"))
}

fn is_special(vip: &VirtualAddress) -> bool {
    vip.interface.is_some() || vip.scope != AddressScope::Global || vip.label.is_some()
}

fn place_of(instance: &Instance, vip: &VirtualAddress) -> String {
    let mut words = format!("{vip} on {}", instance.interface_of(vip));
    if vip.scope != AddressScope::Global {
        words += &format!(", scope {}", vip.scope);
    }
    if let Some(label) = &vip.label {
        words += &format!(", label {label}");
    }
    words
}

fn announcements(instance: &Instance) -> String {
    let how = instance.announcements;
    let mut words = format!("{} times on promotion", how.burst);
    if let Some(after) = how.second_after {
        words += &format!(", {} more after {after:?}", how.burst);
    }
    if let Some(refresh) = how.refresh {
        words += &format!(", once every {refresh:?}");
    }
    if !instance.announcement_pause.is_zero() {
        words += &format!("; {:?} between packets", instance.announcement_pause);
    }
    words
}

fn tracked(track: &Track) -> Vec<String> {
    let mut words = Vec::new();
    for (name, effect) in &track.interfaces {
        words.push(format!("interface {name}: {}", consequence(*effect)));
    }
    for script in &track.scripts {
        words.push(format!(
            "script {} every {:?}, timeout {:?}, rise {}, fall {}: {}",
            script.name,
            script.interval,
            script.timeout,
            script.rise,
            script.fall,
            consequence(script.effect)
        ));
    }
    for file in &track.files {
        let path = file.path.display();
        words.push(format!("file {path}: {:+} times its number", file.weight));
    }
    for (name, effect) in &track.services {
        words.push(format!("service {name}: {}", consequence(*effect)));
    }
    words
}

fn consequence(effect: Effect) -> String {
    match effect {
        Effect::Fault => "fault while it fails".to_owned(),
        Effect::Weight(weight) if weight.get() < 0 => format!("{weight} while it fails"),
        Effect::Weight(weight) => format!("{weight:+} while it is well"),
    }
}

fn priorities(instance: &Instance) -> Option<String> {
    let possible = instance.priorities();
    let files = !instance.track.files.is_empty();
    if possible.start() == possible.end() && !files {
        return None;
    }
    let takeover = |priority: u8| -> Duration {
        let priority = Priority::new(priority).unwrap_or(instance.priority);
        let interval = instance.advert_interval.get();
        priority.active_down_interval(instance.version.version(), interval)
    };
    let (least, most) = (*possible.start(), *possible.end());
    let words = format!(
        "{least} to {most} by weights, active-down {:.1?} to {:.1?}",
        takeover(least),
        takeover(most)
    );
    Some(if files {
        words + ", and what files add"
    } else {
        words
    })
}

fn group(instance: &Instance, configuration: &Configuration) -> Option<String> {
    let group = instance.group.as_deref()?;
    let others: Vec<&str> = configuration
        .instances
        .iter()
        .filter(|other| other.name != instance.name && other.group.as_deref() == Some(group))
        .map(|other| other.name.as_str())
        .collect();
    Some(if others.is_empty() {
        format!("{group}, alone")
    } else {
        format!("{group}, with {}", others.join(" "))
    })
}
