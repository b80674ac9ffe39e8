//! What another configuration changes beside the forwarding table: VIPs on interfaces, virtual
//! routers, probes, and the director itself.
//!
//! A pure function. Nothing secret is ever in its words.

use std::collections::BTreeMap;
use std::net::IpAddr;

use lvs_proto::vrrp::{Ownership, Version};

use crate::config::{
    AddressScope, Check, CheckKind, Configuration, Dataplane, DnsCheck, Instance, Program, Service,
    VirtualAddress,
};
use crate::control::{Action, Change, Object};
use crate::vrrp::Ownerships;
use crate::wording::{self, OFF, Setting, dns_check};

/// What changes from one configuration to another, in the order in which it is done. VIPs are put on
/// and taken off interfaces of instances only that have them, by `ownerships`, which is by the
/// names of `from`.
pub(super) fn differences(
    from: &Configuration,
    to: &Configuration,
    ownerships: &Ownerships,
) -> Vec<Change> {
    let mut changes = Vec::new();
    let counterpart = |one: &Instance, others: &[Instance]| {
        let same = |other: &&Instance| other.identity() == one.identity();
        others.iter().find(same).cloned()
    };
    for previous in &from.instances {
        let held = is_held(previous, ownerships);
        match counterpart(previous, &to.instances) {
            Some(next) => changes.extend(changed_instance(previous, &next, held)),
            None => changes.extend(removed_instance(previous, held)),
        }
    }
    for next in &to.instances {
        if counterpart(next, &from.instances).is_none() {
            changes.push(added_instance(next));
        }
    }
    changes.extend(services(from, to));
    changes.extend(director(from, to));
    changes
}

/// The keys of an instance are others.
pub(super) fn other_keys(instance: &Instance) -> Change {
    of_instance(instance, Action::Change, "keys changed")
}

fn is_held(instance: &Instance, ownerships: &Ownerships) -> bool {
    let ownership = ownerships.get(&instance.name);
    ownership.is_some_and(|ownership| *ownership != Ownership::Absent)
}

fn of_instance(instance: &Instance, action: Action, what: &str) -> Change {
    Change {
        instance: Some(instance.name.clone()),
        ..Change::new(
            Object::Instance,
            action,
            format!("virtual router {}: {what}", instance.name),
        )
    }
}

fn added_instance(instance: &Instance) -> Change {
    let what = format!(
        "add, id {} on {}, priority {}, addresses {}",
        instance.virtual_router_id.get(),
        instance.interface,
        instance.priority.get(),
        listed(instance)
    );
    of_instance(instance, Action::Add, &what)
}

fn removed_instance(instance: &Instance, held: bool) -> Vec<Change> {
    let mut changes = Vec::new();
    if held {
        for (address, place) in places(instance) {
            changes.push(removed_address(instance, address, &place));
        }
    }
    let what = format!(
        "remove, id {} on {}",
        instance.virtual_router_id.get(),
        instance.interface
    );
    changes.push(of_instance(instance, Action::Remove, &what));
    changes
}

fn changed_instance(previous: &Instance, next: &Instance, held: bool) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut settings = wording::differences(&instance_settings(previous), &instance_settings(next));
    if held {
        changes.extend(moved_addresses(previous, next));
    } else if listed(previous) != listed(next) {
        settings.push(format!("addresses {} → {}", listed(previous), listed(next)));
    }
    settings.extend(instance_parts(previous, next).map(|part| format!("{part} changed")));
    if !settings.is_empty() {
        changes.push(of_instance(previous, Action::Change, &settings.join(", ")));
    }
    changes
}

/// Those that can be said in a word.
fn instance_settings(instance: &Instance) -> Vec<Setting> {
    let optional = |value: Option<String>| value.unwrap_or_else(|| OFF.to_owned());
    let switch = |on: bool| if on { "on" } else { OFF }.to_owned();
    vec![
        ("name", instance.name.clone()),
        ("priority", instance.priority.get().to_string()),
        (
            "advert interval",
            format!("{:?}", instance.advert_interval.get()),
        ),
        (
            "version",
            match instance.version.version() {
                Version::V2 => "2",
                Version::V3 => "3",
            }
            .to_owned(),
        ),
        ("preempt", switch(instance.preempt)),
        ("preempt delay", format!("{:?}", instance.preempt_delay)),
        (
            "source",
            optional(instance.source.map(|source| source.to_string())),
        ),
        ("virtual MAC", optional(instance.virtual_mac.clone())),
        ("group", optional(instance.group.clone())),
    ]
}

/// Those that take more words, or must not be said at all.
fn instance_parts(previous: &Instance, next: &Instance) -> impl Iterator<Item = &'static str> {
    // A version brings its own settings.
    let same_version = previous.version.version() == next.version.version();
    [
        (
            "accepted intervals",
            previous.accepted_intervals != next.accepted_intervals,
        ),
        (
            "checksum or authentication",
            same_version && previous.version != next.version,
        ),
        (
            "what is accepted beside",
            previous.also_accept != next.also_accept,
        ),
        ("peers", previous.peers != next.peers),
        (
            "announcements",
            previous.announcements != next.announcements
                || previous.announcement_pause != next.announcement_pause,
        ),
        ("what it tracks", previous.track != next.track),
        ("hooks", previous.hooks != next.hooks),
    ]
    .into_iter()
    .filter_map(|(part, differs)| differs.then_some(part))
}

fn all_addresses(instance: &Instance) -> impl Iterator<Item = &VirtualAddress> {
    let further = instance.further_addresses.iter();
    instance.addresses.iter().chain(further)
}

/// All addresses in short.
fn listed(instance: &Instance) -> String {
    let all: Vec<String> = all_addresses(instance).map(ToString::to_string).collect();
    all.join(" ")
}

/// How a VIP stands on an interface.
type PlaceOf = Vec<Setting>;

fn place(instance: &Instance, vip: &VirtualAddress) -> PlaceOf {
    let label = vip.label.clone();
    let scope = match vip.scope {
        AddressScope::Global => OFF.to_owned(),
        scope => scope.to_string(),
    };
    vec![
        ("prefix length", vip.prefix_length.to_string()),
        ("interface", instance.interface_of(vip).to_owned()),
        ("scope", scope),
        ("label", label.unwrap_or_else(|| OFF.to_owned())),
    ]
}

fn places(instance: &Instance) -> BTreeMap<IpAddr, PlaceOf> {
    all_addresses(instance)
        .map(|vip| (vip.address, place(instance, vip)))
        .collect()
}

fn in_words(address: IpAddr, place: &PlaceOf) -> String {
    let mut words = address.to_string();
    for (name, value) in place.iter().filter(|(_, value)| value != OFF) {
        words += &match *name {
            "prefix length" => format!("/{value}"),
            "interface" => format!(" on {value}"),
            name => format!(", {name} {value}"),
        };
    }
    words
}

fn moved_addresses(previous: &Instance, next: &Instance) -> Vec<Change> {
    let (before, after) = (places(previous), places(next));
    let mut changes = Vec::new();
    for (address, place) in &before {
        match after.get(address) {
            None => changes.push(removed_address(previous, *address, place)),
            Some(next) if next != place => {
                let differing = wording::differences(place, next).join(", ");
                let what = format!("address {address}: {differing}");
                changes.push(of_address(
                    previous,
                    *address,
                    Action::Change,
                    &what,
                    (Some(place), Some(next)),
                ));
            }
            Some(_) => {}
        }
    }
    let added = after.iter().filter(|(vip, _)| !before.contains_key(vip));
    changes.extend(added.map(|(address, place)| {
        let what = format!("add address {}", in_words(*address, place));
        of_address(previous, *address, Action::Add, &what, (None, Some(place)))
    }));
    changes
}

fn removed_address(instance: &Instance, address: IpAddr, place: &PlaceOf) -> Change {
    let what = format!("remove address {}", in_words(address, place));
    of_address(
        instance,
        address,
        Action::Remove,
        &what,
        (Some(place), None),
    )
}

fn of_address(
    instance: &Instance,
    address: IpAddr,
    action: Action,
    what: &str,
    (from, to): (Option<&PlaceOf>, Option<&PlaceOf>),
) -> Change {
    Change {
        object: Object::Address,
        address: Some(address.to_string()),
        from: from.map(|place| in_words(address, place)),
        to: to.map(|place| in_words(address, place)),
        ..of_instance(instance, action, what)
    }
}

/// What the table doesn't show: how servers are probed, and services that nothing forwards for.
fn services(from: &Configuration, to: &Configuration) -> Vec<Change> {
    let mut changes = Vec::new();
    let named = |name: &str, all: &[Service]| all.iter().find(|one| one.name == name).cloned();
    let [before, after] = [from, to].map(|one| one.dataplane == Dataplane::None);
    for previous in &from.services {
        match named(&previous.name, &to.services) {
            Some(next) => {
                if let Some(what) = checks(&previous.checks, &next.checks) {
                    changes.push(of_service(previous, Object::Check, Action::Change, &what));
                }
                let pools = [previous, &next].map(|service| wording::pool(&service.pool));
                let differing = wording::differences(&pools[0], &pools[1]);
                if !differing.is_empty() {
                    let what = format!("pool: {}", differing.join(", "));
                    changes.push(of_service(previous, Object::Pool, Action::Change, &what));
                }
                let watches = [previous, &next].map(|it| wording::watch(it.watch.as_ref()));
                let differing = wording::differences(&watches[0], &watches[1]);
                if !differing.is_empty() {
                    let what = format!("watch: {}", differing.join(", "));
                    changes.push(of_service(previous, Object::Check, Action::Change, &what));
                }
                if before && after && servers(previous) != servers(&next) {
                    let what = format!("servers {} → {}", servers(previous), servers(&next));
                    changes.push(of_service(previous, Object::Check, Action::Change, &what));
                }
            }
            None if before => {
                let what = "remove; nothing was forwarded";
                changes.push(of_service(previous, Object::Service, Action::Remove, what));
            }
            None => {}
        }
    }
    for next in &to.services {
        if after && named(&next.name, &from.services).is_none() {
            let what = format!("add, servers {}; nothing is forwarded", servers(next));
            changes.push(of_service(next, Object::Service, Action::Add, &what));
        }
    }
    changes
}

fn of_service(service: &Service, object: Object, action: Action, what: &str) -> Change {
    let text = format!("service {}: {what}", service.name);
    Change {
        service: Some(service.name.clone()),
        ..Change::new(object, action, text)
    }
}

fn servers(service: &Service) -> String {
    let servers: Vec<String> = service
        .real_servers
        .iter()
        .map(|server| server.key.to_string())
        .collect();
    servers.join(" ")
}

/// What differs between two ways to probe; nothing if they are the same.
fn checks(from: &[Check], to: &[Check]) -> Option<String> {
    if let ([from], [to]) = (from, to)
        && from.probing.kind.word() == to.probing.kind.word()
    {
        let differing = wording::differences(&check_settings(from), &check_settings(to));
        return (!differing.is_empty()).then(|| format!("check: {}", differing.join(", ")));
    }
    if from == to {
        return None;
    }
    let (from, to) = (in_short(from), in_short(to));
    Some(if from == to {
        format!("settings of the checks {from}")
    } else {
        format!("check {from} → {to}")
    })
}

fn in_short(checks: &[Check]) -> String {
    let kinds: Vec<String> = checks
        .iter()
        .map(|check| check.probing.kind.to_string())
        .collect();
    if kinds.is_empty() {
        OFF.to_owned()
    } else {
        kinds.join(" + ")
    }
}

fn check_settings(check: &Check) -> Vec<Setting> {
    let port = match check.port {
        Some(port) => port.to_string(),
        None => "the server's".to_owned(),
    };
    let probing = &check.probing;
    let mut settings = vec![
        ("question", probing.kind.to_string()),
        ("port", port),
        ("interval", format!("{:?}", probing.interval)),
        ("timeout", format!("{:?}", probing.timeout)),
        ("rise", probing.rise.to_string()),
        ("fall", probing.fall.to_string()),
        (
            "path",
            if check.path { "probed" } else { "not probed" }.to_owned(),
        ),
        (
            "for",
            check
                .protocols
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" "),
        ),
    ];
    if let CheckKind::Dns(dns) = &probing.kind {
        settings.extend(dns_settings(dns));
    }
    settings
}

fn dns_settings(check: &DnsCheck) -> Vec<Setting> {
    let mut settings = vec![("required", check.require.to_string())];
    if let Some(probe) = check.probes.first() {
        settings.extend(dns_check::asked(probe));
        settings.extend(dns_check::expected(&probe.expected));
    }
    settings
}

fn director(from: &Configuration, to: &Configuration) -> Vec<Change> {
    let differing = wording::differences(&director_settings(from), &director_settings(to));
    let change = |what: String| {
        let text = format!("director: {what}");
        Change::new(Object::Director, Action::Change, text)
    };
    differing.into_iter().map(change).collect()
}

fn director_settings(configuration: &Configuration) -> Vec<Setting> {
    let metrics = configuration.metrics.map(|metrics| metrics.listen);
    let group = configuration.control.group.clone();
    vec![
        (
            "data plane",
            match configuration.dataplane {
                Dataplane::Ipvs => "ipvs",
                Dataplane::None => "none",
            }
            .to_owned(),
        ),
        (
            "program",
            match configuration.ipvs.program {
                Program::Always => "always",
                Program::WhenActive => "when-active",
            }
            .to_owned(),
        ),
        ("exclusive", configuration.ipvs.exclusive.to_string()),
        (
            "metrics",
            metrics.map_or_else(|| OFF.to_owned(), |listen| listen.to_string()),
        ),
        ("control group", group.unwrap_or_else(|| "root".to_owned())),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tests::configuration;

    const FILE: &str = "
dataplane: none
vrrp:
  - { name: dns, interface: eth2, virtual_router_id: 50, priority: 200, addresses: [192.0.2.1/24, 192.0.2.2/24] }
services:
  - name: resolver
    address: 192.0.2.1
    port: 53
    protocols: [udp]
    check: { dns: { name: www.abc.local } }
    real_servers: [{ address: 192.0.2.11 }, { address: 192.0.2.12 }]
metrics: { listen: '127.0.0.1:9712' }
";

    /// The lines from [`FILE`] to what it is after these replacements.
    fn lines(ownership: Ownership, replacements: &[(&str, &str)]) -> Vec<String> {
        let changed = replacements
            .iter()
            .fold(FILE.to_owned(), |text, (old, new)| {
                assert!(text.contains(old), "{old}");
                text.replace(old, new)
            });
        let ownerships = Ownerships::from([("dns".to_owned(), ownership)]);
        let changes = differences(&configuration(FILE), &configuration(&changed), &ownerships);
        changes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_same_file_changes_nothing() {
        for ownership in [Ownership::Held, Ownership::Absent] {
            assert_eq!(lines(ownership, &[]), Vec::<String>::new());
        }
    }

    #[test]
    fn a_router_that_has_its_addresses_moves_them() {
        let changes = [(
            "192.0.2.1/24, 192.0.2.2/24",
            "192.0.2.1/32, { address: 192.0.2.3/24, interface: eth3, scope: host, label: 'eth3:v' }",
        )];
        let expected = [
            "virtual router dns: address 192.0.2.1: prefix length 24 → 32",
            "virtual router dns: remove address 192.0.2.2/24 on eth2",
            "virtual router dns: add address 192.0.2.3/24 on eth3, scope host, label eth3:v",
        ];
        for ownership in [Ownership::Held, Ownership::HandingOver, Ownership::Adopting] {
            assert_eq!(lines(ownership, &changes), expected, "{ownership:?}");
        }
        assert_eq!(
            lines(Ownership::Absent, &changes),
            ["virtual router dns: addresses 192.0.2.1/24 192.0.2.2/24 → 192.0.2.1/32 192.0.2.3/24"]
        );
    }

    #[test]
    fn a_virtual_mac_moves_the_addresses() {
        assert_eq!(
            lines(
                Ownership::Held,
                &[("priority: 200", "virtual_mac: true, priority: 200")]
            ),
            [
                "virtual router dns: address 192.0.2.1: interface eth2 → vrrp.50",
                "virtual router dns: address 192.0.2.2: interface eth2 → vrrp.50",
                "virtual router dns: virtual MAC off → vrrp.50",
            ]
        );
    }

    #[test]
    fn a_router_goes_by_interface_family_and_identifier_and_not_by_its_name() {
        assert_eq!(
            lines(
                Ownership::Held,
                &[
                    ("name: dns", "name: lan"),
                    ("priority: 200", "priority: 150")
                ]
            ),
            ["virtual router dns: name dns → lan, priority 200 → 150"]
        );
        let other = [("virtual_router_id: 50", "virtual_router_id: 51")];
        let added = "virtual router dns: add, id 51 on eth2, priority 200, addresses 192.0.2.1/24 192.0.2.2/24";
        assert_eq!(
            lines(Ownership::Held, &other),
            [
                "virtual router dns: remove address 192.0.2.1/24 on eth2",
                "virtual router dns: remove address 192.0.2.2/24 on eth2",
                "virtual router dns: remove, id 50 on eth2",
                added,
            ]
        );
        assert_eq!(
            lines(Ownership::Absent, &other),
            ["virtual router dns: remove, id 50 on eth2", added]
        );
    }

    #[test]
    fn whatever_else_changes_is_named_and_secrets_are_not() {
        let with = |key: &str| {
            format!(
                "version: 2, advert_interval: 1s, authentication: {{ password: {key} }}, priority: 200"
            )
        };
        let said = lines(Ownership::Held, &[("priority: 200", &with("s3cr3t"))]);
        assert_eq!(
            said,
            [
                "virtual router dns: advert interval 100ms → 1s, version 3 → 2, accepted intervals \
                 changed"
            ]
        );
        let [first, second] = ["s3cr3t", "0th3r"]
            .map(|password| configuration(&FILE.replace("priority: 200", &with(password))));
        let changes = differences(&first, &second, &Ownerships::new());
        let said: Vec<String> = changes.iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            ["virtual router dns: checksum or authentication changed"]
        );
        assert_eq!(
            lines(
                Ownership::Absent,
                &[(
                    "priority: 200",
                    "priority: 200, preempt: false, source: 192.0.2.9, peers: [192.0.2.8], \
                     group: lan, track: { services: [resolver] }, hooks: [{ command: [/bin/tell] }], \
                     announce: { pause: 3ms }"
                )]
            ),
            [
                "virtual router dns: preempt on → off, source off → 192.0.2.9, group off → lan, \
                 peers changed, announcements changed, what it tracks changed, hooks changed"
            ]
        );
    }

    #[test]
    fn probes_and_the_director_itself_change_too() {
        assert_eq!(
            lines(
                Ownership::Held,
                &[
                    (
                        "name: www.abc.local } }",
                        "name: . }, interval: 1s, fall: 3 }\n    pool: { floor: \"50%\", slow_start: 30s }",
                    ),
                    (", { address: 192.0.2.12 }", ""),
                    ("'127.0.0.1:9712'", "'[::1]:9712'"),
                ]
            ),
            [
                "service resolver: check: question DNS www.abc.local A → DNS . A, interval 500ms → \
                 1s, fall 2 → 3",
                "service resolver: pool: floor 1 → 50 %, slow start off → 30s",
                "service resolver: servers 192.0.2.11 192.0.2.12 → 192.0.2.11",
                "director: metrics 127.0.0.1:9712 → [::1]:9712",
            ]
        );
        assert_eq!(
            lines(
                Ownership::Held,
                &[
                    ("{ dns: { name: www.abc.local } }", "none"),
                    ("name: resolver", "name: other"),
                    ("metrics:", "control: { group: adm }\nmetrics:"),
                ]
            ),
            [
                "service resolver: remove; nothing was forwarded",
                "service other: add, servers 192.0.2.11 192.0.2.12; nothing is forwarded",
                "director: control group root → adm",
            ]
        );
        // The table's plan says what comes of the services.
        assert_eq!(
            lines(
                Ownership::Held,
                &[
                    ("dataplane: none", "dataplane: ipvs"),
                    ("{ dns: { name: www.abc.local } }", "none"),
                ]
            ),
            [
                "service resolver: check DNS www.abc.local A → off",
                "director: data plane none → ipvs",
            ]
        );
    }
}
