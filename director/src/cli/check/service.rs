//! What there is to say of one service, for people, a line each.

use lvs_proto::Family;
use lvs_proto::ipvs::ServiceFlags;

use super::compact::{self, Subject, join};
use super::lines::Lines;
use super::policy;
use crate::config::{
    CheckKind, Configuration, Dataplane, DnsCheck, Holder, PersistenceSettings, Probing,
    RealServer, Service,
};
use crate::wording::{self, described, dns_check};

/// What it schedules.
pub(super) fn subject(service: &Service) -> Subject {
    compact::subject(service.virtual_services.iter().map(|one| one.key))
}

/// `everywhere` is the service on all nodes, between which only holders differ.
pub(super) fn describe(
    service: &Service,
    everywhere: &[&Service],
    configuration: &Configuration,
) -> Lines {
    let mut lines = Lines::default();
    let mut held = Vec::new();
    for line in everywhere.iter().flat_map(|service| holders(service)) {
        if !held.contains(&line) {
            held.push(line);
        }
    }
    lines.extend("held by", held);
    if configuration.dataplane == Dataplane::Ipvs {
        let number = match service.virtual_services.len() {
            1 => "1 virtual service".to_owned(),
            number => format!("{number} virtual services"),
        };
        let when = policy::programmed(service, configuration.ipvs.program);
        lines.add("in the kernel", format!("{number}, {when}"));
    }
    lines.add("scheduler", scheduler(service));
    lines.extend("persistence", service.persistence.map(persistence));
    let one_packet = policy::one_packet_scheduling(service);
    let switch = if one_packet.enabled { "on" } else { "off," };
    lines.add(
        "one-packet scheduling",
        format!("{switch} {}", one_packet.reason),
    );
    let costs = one_packet.costs.into_iter().map(str::to_owned);
    lines.extend("  which costs", costs);
    describe_check(service, configuration.dataplane, &mut lines);
    let pool = described(&wording::pool(&service.pool));
    lines.add("pool", pool);
    if service.watch.is_some() {
        lines.add(
            "watched",
            described(&wording::watch(service.watch.as_ref())),
        );
    }
    let servers = service.real_servers.iter();
    lines.extend("real servers", servers.map(|it| real_server(service, it)));
    lines
}

/// One line, or one for each holder where there are several.
fn holders(service: &Service) -> Vec<String> {
    let words = |holder: &Holder| match holder {
        Holder::Instance(name) => format!("virtual router {name}"),
        Holder::External => "the operator (external)".to_owned(),
    };
    let runs: Vec<_> = held(service);
    match runs.as_slice() {
        [(holder, _)] => vec![words(holder)],
        several => several
            .iter()
            .map(|(holder, addresses)| format!("{} ({})", words(holder), join(addresses)))
            .collect(),
    }
}

/// Holders in the order of the file, each with its addresses.
pub(super) fn held(service: &Service) -> Vec<(&Holder, Vec<String>)> {
    let mut holders: Vec<&Holder> = Vec::new();
    for one in &service.virtual_services {
        if !holders.contains(&&one.holder) {
            holders.push(&one.holder);
        }
    }
    let addresses = |holder: &Holder| {
        let all = service.virtual_services.iter();
        let held = all.filter(|one| one.holder == *holder);
        compact::subject(held.map(|one| one.key)).addresses
    };
    holders
        .into_iter()
        .map(|holder| (holder, addresses(holder)))
        .collect()
}

fn scheduler(service: &Service) -> String {
    let mut words = service.scheduler.name().to_owned();
    for flag in scheduler_flags(service) {
        words = format!("{words}, {flag}");
    }
    words
}

pub(super) fn scheduler_flags(service: &Service) -> impl Iterator<Item = &'static str> {
    let flags = service.scheduler_flags;
    [
        (ServiceFlags::SCHEDULER_1, "fallback"),
        (ServiceFlags::SCHEDULER_2, "port"),
    ]
    .into_iter()
    .filter_map(move |(flag, name)| flags.contains(flag).then_some(name))
}

fn persistence(settings: PersistenceSettings) -> String {
    let PersistenceSettings {
        timeout,
        ipv4_prefix_length,
        ipv6_prefix_length,
    } = settings;
    let mut words = format!("until a client was silent for {timeout:?}");
    for (family, length) in [
        (Family::Ipv4, ipv4_prefix_length),
        (Family::Ipv6, ipv6_prefix_length),
    ] {
        if length < family.address_bits() {
            words = format!("{words}, an {family} /{length} being one");
        }
    }
    words
}

fn describe_check(service: &Service, dataplane: Dataplane, lines: &mut Lines) {
    if service.checks.is_empty() {
        lines.add("check", "none: real servers are always in");
    }
    for check in &service.checks {
        let Probing {
            kind,
            interval,
            timeout,
            rise,
            fall,
        } = &*check.probing;
        let port = check
            .port
            .map_or_else(String::new, |port| format!(" to port {port}"));
        let whom = if check.protocols == service.protocols {
            String::new()
        } else {
            format!(", for {}", join(&check.protocols))
        };
        lines.add(
            "check",
            format!("{kind}{port} every {interval:?}, timeout {timeout:?}{whom}"),
        );
        if let CheckKind::Dns(dns) = kind {
            describe_dns_check(dns, lines);
        }
        if check.path && dataplane == Dataplane::Ipvs {
            lines.add(
                "asked by the VIP too",
                "on real servers that hold it".to_owned(),
            );
        }
        // A server that dies right after a good probe is asked an interval later.
        let at_most = *interval * u32::from(fall.get()) + *timeout;
        lines.add(
            "taken out",
            format!("after {fall} failed in a row, within {at_most:?}"),
        );
        lines.add(
            "brought in",
            format!("after {rise} passed in a row; at start after the first"),
        );
    }
}

fn describe_dns_check(check: &DnsCheck, lines: &mut Lines) {
    if let Some(probe) = check.probes.first() {
        let asked = described(&dns_check::asked(probe));
        if !asked.is_empty() {
            lines.add("asked with", asked);
        }
        lines.add("expected", described(&dns_check::expected(&probe.expected)));
    }
}

fn real_server(service: &Service, server: &RealServer) -> String {
    let RealServer {
        key,
        weight,
        forwarding,
        upper_threshold,
        lower_threshold,
    } = server;
    let mut words = format!("{key} weight {weight}, {forwarding}");
    let own = Family::of(key.address);
    for family in families(service, server).filter(|family| *family != own) {
        words = format!("{words}, for {family}");
    }
    if *upper_threshold > 0 {
        words = format!("{words}, stops at {upper_threshold} connections");
    }
    if *lower_threshold > 0 {
        words = format!("{words}, resumes below {lower_threshold}");
    }
    words
}

/// The families whose packets it gets.
pub(super) fn families(service: &Service, server: &RealServer) -> impl Iterator<Item = Family> {
    [Family::Ipv4, Family::Ipv6].into_iter().filter(|family| {
        let served = |one: &crate::config::VirtualService| one.key.family() == *family;
        service.virtual_services.iter().any(served)
            && service
                .real_servers_of(*family)
                .any(|it| it.key == server.key)
    })
}
