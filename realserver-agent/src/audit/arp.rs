//! Whether neighbours hear of a VIP by ARP.
//!
//! The kernel uses the larger of `all` and of the interface that a request comes in on or goes out on; the
//! settings of `lo`, where the VIP is, have no effect.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lvs_system::address::Scope;
use lvs_system::arp::{ANNOUNCE, IGNORE, Setting};
use lvs_system::sysctl;

use super::{Finding, Quiet, View};
use crate::config::Configuration;
use crate::machine::Kind;
use crate::vip::LOOPBACK;

/// The name that stands for every interface.
const ALL: &str = "all";
/// Answers for no address at all.
const NOTHING: i32 = 8;

/// What keeps a VIP quiet.
pub(super) fn quiet(view: &View, vip: IpAddr) -> Quiet {
    let IpAddr::V4(ipv4) = vip else {
        return Quiet::Ipv6;
    };
    let loud = !answering(view, vip).is_empty() || !announcing(view).is_empty();
    match (view.filtered.contains(&ipv4), loud) {
        (_, false) => Quiet::Sysctls,
        (true, true) => Quiet::Filter,
        (false, true) => Quiet::No,
    }
}

/// One finding for each setting and the VIPs that it lets out.
pub(super) fn judge(view: &View, wanted: &Configuration) -> Vec<Finding> {
    let mut findings = Vec::new();
    for vip in &wanted.vips {
        let address = vip.address;
        // Of an address that isn't here nobody hears; the agent sets this right before it comes.
        let is_here = view.scopes_of(address).next().is_some();
        if !is_here || quiet(view, address) != Quiet::No {
            continue;
        }
        let answering = answering(view, address);
        if !answering.is_empty() {
            let mut problem = format!(
                "this machine answers ARP for {address} on {}, so that clients' packets come here past the directors: arp_ignore, the larger of all and of the interface, is {}",
                names(&answering),
                shown(&answering)
            );
            let of_loopback = view.ignore.get(LOOPBACK).copied().unwrap_or_default();
            if IGNORE.suffices(of_loopback) {
                problem += &format!(" (that of {LOOPBACK} has no effect)");
            }
            findings.push(Finding::error(
                Some(address),
                problem,
                write(&IGNORE, &view.ignore, view),
            ));
        }
        let announcing = announcing(view);
        if !announcing.is_empty() {
            let problem = format!(
                "this machine may ask in the name of {address} on {}, and whoever hears that sends its packets here: arp_announce, the larger of all and of the interface, is {}, and only 2 will do",
                names(&announcing),
                shown(&announcing)
            );
            findings.push(Finding::error(
                Some(address),
                problem,
                write(&ANNOUNCE, &view.announce, view),
            ));
        }
    }
    findings.extend(deaf(view, wanted));
    findings
}

/// `arp_ignore` 8, which silences the machine's own addresses with the VIP.
fn deaf(view: &View, wanted: &Configuration) -> Option<Finding> {
    let mut deaf = in_force(view, &view.ignore);
    deaf.retain(|_, value| *value >= NOTHING);
    if deaf.is_empty() || !wanted.vips.iter().any(|vip| vip.address.is_ipv4()) {
        return None;
    }
    let places = view.ignore.iter().filter(|(name, value)| {
        **value >= NOTHING && (*name == ALL || deaf.contains_key(&sysctl::part(name)))
    });
    Some(Finding::warning(
        None,
        format!(
            "arp_ignore is 8 on {}: no address is answered for there, and nobody without a static neighbour entry reaches this machine",
            names(&deaf)
        ),
        assignments(places.map(|(name, _)| IGNORE.of(name)), IGNORE.wanted),
    ))
}

/// The interfaces on which the VIP is answered for, with the value in force (`arp_ignore()`,
/// `net/ipv4/arp.c`).
fn answering(view: &View, vip: IpAddr) -> BTreeMap<String, i32> {
    let mut scopes = view.scopes_of(vip).peekable();
    let on_this_host_only = scopes.peek().is_some() && scopes.all(|scope| scope == Scope::Host);
    let mut values = in_force(view, &view.ignore);
    values.retain(|_, value| match *value {
        // It answers for no address of scope host.
        3 => !on_this_host_only,
        other => !IGNORE.suffices(other),
    });
    values
}

/// The interfaces on which requests may carry the VIP, with the value in force.
fn announcing(view: &View) -> BTreeMap<String, i32> {
    let mut values = in_force(view, &view.announce);
    values.retain(|_, value| !ANNOUNCE.suffices(*value));
    values
}

/// The value in force on each interface that leads to a LAN.
fn in_force(view: &View, values: &BTreeMap<String, i32>) -> BTreeMap<String, i32> {
    let on_all = values.get(ALL).copied().unwrap_or_default();
    let lans = view
        .interfaces
        .iter()
        .filter(|(_, interface)| interface.kind == Kind::Other);
    lans.filter_map(|(name, _)| {
        let own = values.get(&sysctl::part(name))?;
        Some((name.clone(), on_all.max(*own)))
    })
    .collect()
}

/// The command that makes a setting suffice everywhere.
fn write(setting: &Setting, values: &BTreeMap<String, i32>, view: &View) -> String {
    let mut values = values.clone();
    values.retain(|name, _| {
        let interface = view.interfaces.get(&sysctl::part(name));
        name == ALL || interface.is_some_and(|interface| interface.kind == Kind::Other)
    });
    let places: BTreeSet<String> = setting
        .insufficient(&values)
        .into_iter()
        .map(str::to_owned)
        .collect();
    assignments(places.iter().map(|name| setting.of(name)), setting.wanted)
}

fn assignments(names: impl Iterator<Item = String>, value: i32) -> String {
    let assignments: Vec<String> = names.map(|name| format!("{name}={value}")).collect();
    format!("sysctl -w {}", assignments.join(" "))
}

fn names(values: &BTreeMap<String, i32>) -> String {
    values.keys().cloned().collect::<Vec<_>>().join(", ")
}

/// `0`, or `0 on eth0, 3 on eth1`.
fn shown(values: &BTreeMap<String, i32>) -> String {
    let different: BTreeSet<&i32> = values.values().collect();
    if let (1, Some(value)) = (different.len(), values.values().next()) {
        return value.to_string();
    }
    let each: Vec<String> = values
        .iter()
        .map(|(name, value)| format!("{value} on {name}"))
        .collect();
    each.join(", ")
}
