//! A service on a node, and the table as a whole, for programs.

use std::collections::BTreeSet;
use std::num::NonZeroU16;

use lvs_proto::Family;
use lvs_proto::dns::{RecordData, Records};
use lvs_proto::health;
use lvs_proto::ipvs::{Protocol, ServiceKey, Timeouts};
use serde::Serialize;

use crate::cli::check::{policy, service as facts};
use crate::config::{
    self, CheckKind, Configuration, DnsCheck, ExecCheck, Holder, PersistenceSettings, Program,
    RealServer, Service, Synchronization, UdpCheck,
};

#[derive(Serialize)]
pub(super) struct ServiceReport<'s> {
    name: &'s str,
    /// Null when the file is the same for every node.
    node: Option<&'s str>,
    /// Addresses and ranges of them; empty for a mark.
    addresses: Vec<String>,
    /// Ports and ranges of them, or `any`; empty for a mark.
    ports: Vec<String>,
    protocols: Vec<String>,
    firewall_mark: Option<Mark>,
    /// How many virtual services of the kernel that makes, and when they are there.
    virtual_services: usize,
    programmed: &'static str,
    held_by: Vec<Held<'s>>,
    scheduler: &'static str,
    scheduler_flags: Vec<&'static str>,
    /// Null when it is off.
    persistence: Option<Persistence>,
    one_packet_scheduling: OnePacketScheduling,
    /// Empty when there is none.
    checks: Vec<Check>,
    pool: Pool,
    /// Null without it.
    watch: Option<Watch>,
    real_servers: Vec<Server>,
}

/// Null is off.
#[derive(Serialize)]
struct Pool {
    quorum: Quorum,
    floor: Floor,
    sorry_servers: Vec<Server>,
    maximum_weight: u16,
    slow_start: Option<f64>,
    latency: Option<Latency>,
}

#[derive(Serialize)]
struct Quorum {
    servers: usize,
    hysteresis: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Floor {
    Servers(usize),
    Percent(u8),
}

#[derive(Serialize)]
struct Latency {
    smoothing: f64,
    dead_band_percent: u8,
    largest_step_percent: u8,
}

#[derive(Serialize)]
struct Mark {
    mark: u32,
    family: &'static str,
}

/// Without an instance the operator holds them.
#[derive(Serialize)]
struct Held<'s> {
    instance: Option<&'s str>,
    addresses: Vec<String>,
}

#[derive(Serialize)]
struct Persistence {
    timeout: f64,
    ipv4_mask: u8,
    ipv6_mask: u8,
}

#[derive(Serialize)]
struct OnePacketScheduling {
    enabled: bool,
    reason: &'static str,
    costs: Vec<&'static str>,
}

#[derive(Serialize)]
struct Check {
    #[serde(flatten)]
    kind: Kind,
    protocols: Vec<String>,
    /// Null for the real server's own, or the service's first.
    port: Option<u16>,
    /// Whether the VIPs on the real servers are probed too.
    path: bool,
    interval: f64,
    timeout: f64,
    rise: u8,
    fall: u8,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Dns(Question),
    Tcp {},
    Udp {
        /// In hexadecimal digits.
        payload: String,
        require_reply: bool,
    },
    Http(Page),
    Https {
        #[serde(flatten)]
        page: Page,
        verify: bool,
    },
    Exec {
        command: Vec<String>,
        weight_by_exit: bool,
    },
    Agent {},
}

/// The host is null where it's the server's address.
#[derive(Serialize)]
struct Page {
    host: Option<String>,
    path: String,
    status: Vec<[u16; 2]>,
    body: Option<String>,
}

/// Weights are what is left of them, in percent.
#[derive(Serialize)]
struct Watch {
    interval: f64,
    zones: Vec<WatchedZone>,
    dnssec: Option<WatchedDnssec>,
}

#[derive(Serialize)]
struct WatchedZone {
    name: String,
    maximum_lag: Option<u32>,
    #[serde(rename = "for")]
    maximum_time: Option<f64>,
    weight: u8,
}

#[derive(Serialize)]
struct WatchedDnssec {
    signed: Option<String>,
    bogus: Option<String>,
    weight: u8,
}

#[derive(Serialize)]
struct Question {
    names: Vec<String>,
    /// `all`, `any` or `majority` of the names.
    require: &'static str,
    #[serde(rename = "type")]
    record_type: &'static str,
    class: &'static str,
    recursion_desired: bool,
    checking_disabled: bool,
    dnssec_ok: bool,
    /// Null without EDNS.
    edns_size: Option<u16>,
    nsid: bool,
    cookie: bool,
    mixed_case: bool,
    response_codes: Vec<String>,
    flags: Vec<&'static str>,
    /// Null where anything will do.
    records: Option<Contents>,
    minimum_records: u16,
    /// In seconds; null where anything will do.
    ttl: Option<Bounds>,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Contents {
    Exact(Vec<String>),
    AnyOf(Vec<String>),
    Pattern(String),
}

#[derive(Serialize)]
struct Bounds {
    from: u32,
    to: u32,
}

/// The port is null where it is the service's; thresholds are null where there is none.
#[derive(Serialize)]
struct Server {
    address: String,
    port: Option<u16>,
    weight: u16,
    forwarding: String,
    serves: Vec<&'static str>,
    stop_at: Option<u32>,
    resume_below: Option<u32>,
}

#[derive(Serialize)]
pub(super) struct Table<'s> {
    program: &'static str,
    exclusive: bool,
    /// Null is left as it is.
    timeouts: TimeoutsReport,
    /// By node; empty without it.
    sync: Vec<Sync<'s>>,
    settings: Vec<Setting>,
}

#[derive(Serialize)]
struct TimeoutsReport {
    tcp: Option<u32>,
    tcp_fin: Option<u32>,
    udp: Option<u32>,
}

/// Null is the kernel's choice.
#[derive(Serialize)]
struct Sync<'s> {
    node: Option<&'s str>,
    instance: &'s str,
    interface: &'s str,
    id: u8,
    group: Option<String>,
    port: Option<u16>,
    ttl: Option<u8>,
    maximum_length: Option<u16>,
}

#[derive(Serialize)]
struct Setting {
    name: &'static str,
    value: &'static str,
    reason: &'static str,
}

pub(super) fn service<'s>(
    node: Option<&'s str>,
    service: &'s Service,
    configuration: &Configuration,
) -> ServiceReport<'s> {
    let subject = facts::subject(service);
    let firewall_mark = subject.marks.iter().find_map(|key| match key {
        ServiceKey::FirewallMark { mark, family } => Some(Mark {
            mark: mark.get(),
            family: family_name(*family),
        }),
        ServiceKey::Socket { .. } => None,
    });
    let held = facts::held(service).into_iter();
    let policy = policy::one_packet_scheduling(service);
    ServiceReport {
        name: &service.name,
        node,
        protocols: texts(&subject.protocols),
        addresses: subject.addresses,
        ports: subject.ports,
        firewall_mark,
        virtual_services: service.virtual_services.len(),
        programmed: policy::programmed(service, configuration.ipvs.program),
        held_by: held
            .map(|(holder, addresses)| Held {
                instance: match holder {
                    Holder::Instance(name) => Some(name),
                    Holder::External => None,
                },
                addresses,
            })
            .collect(),
        scheduler: service.scheduler.name(),
        scheduler_flags: facts::scheduler_flags(service).collect(),
        persistence: service.persistence.map(persistence),
        one_packet_scheduling: OnePacketScheduling {
            enabled: policy.enabled,
            reason: policy.reason,
            costs: policy.costs,
        },
        checks: service.checks.iter().map(check).collect(),
        pool: pool(service),
        watch: service.watch.as_ref().map(watch),
        real_servers: service
            .real_servers
            .iter()
            .map(|server| real_server(service, server))
            .collect(),
    }
}

fn check(check: &config::Check) -> Check {
    let probing = &check.probing;
    Check {
        kind: kind(&probing.kind),
        protocols: texts(&check.protocols),
        port: check.port.map(NonZeroU16::get),
        path: check.path,
        interval: probing.interval.as_secs_f64(),
        timeout: probing.timeout.as_secs_f64(),
        rise: probing.rise.get(),
        fall: probing.fall.get(),
    }
}

fn kind(kind: &CheckKind) -> Kind {
    match kind {
        CheckKind::Dns(check) => Kind::Dns(question(check)),
        CheckKind::Tcp => Kind::Tcp {},
        CheckKind::Udp(UdpCheck {
            payload,
            require_reply,
        }) => Kind::Udp {
            payload: payload.iter().map(|byte| format!("{byte:02x}")).collect(),
            require_reply: *require_reply,
        },
        CheckKind::Http(check) => {
            let page = Page {
                host: check.host.clone(),
                path: check.path.clone(),
                status: check
                    .status
                    .iter()
                    .map(|range| [*range.start(), *range.end()])
                    .collect(),
                body: check.body.as_ref().map(ToString::to_string),
            };
            match check.verify {
                None => Kind::Http(page),
                Some(verify) => Kind::Https { page, verify },
            }
        }
        CheckKind::Exec(ExecCheck {
            command,
            weight_by_exit,
        }) => Kind::Exec {
            command: command.clone(),
            weight_by_exit: *weight_by_exit,
        },
        CheckKind::Agent => Kind::Agent {},
    }
}

/// All probes of a check differ in their names only.
fn question(check: &DnsCheck) -> Question {
    let probe = &check.probes[0];
    let expected = &probe.expected;
    let texts = |data: &BTreeSet<RecordData>| data.iter().map(ToString::to_string).collect();
    Question {
        names: check.probes.iter().map(|it| it.name.to_string()).collect(),
        require: check.require.word(),
        record_type: probe.record_type.mnemonic(),
        class: probe.class.mnemonic(),
        recursion_desired: probe.recursion_desired,
        checking_disabled: probe.checking_disabled,
        dnssec_ok: probe.dnssec_ok,
        edns_size: probe.edns,
        nsid: probe.nsid,
        cookie: probe.cookie,
        mixed_case: probe.mixed_case,
        response_codes: expected
            .response_codes
            .iter()
            .map(ToString::to_string)
            .collect(),
        flags: expected.flags.iter().map(|flag| flag.mnemonic()).collect(),
        records: expected.records.as_ref().map(|records| match records {
            Records::Exact(data) => Contents::Exact(texts(data)),
            Records::AnyOf(data) => Contents::AnyOf(texts(data)),
            Records::Pattern(pattern) => Contents::Pattern(pattern.to_string()),
        }),
        minimum_records: expected.minimum_records,
        ttl: expected.time_to_live.as_ref().map(|range| Bounds {
            from: *range.start(),
            to: *range.end(),
        }),
    }
}

fn watch(watch: &config::Watch) -> Watch {
    Watch {
        interval: watch.interval.as_secs_f64(),
        zones: watch
            .zones
            .iter()
            .map(|zone| WatchedZone {
                name: zone.name.to_string(),
                maximum_lag: zone.rules.maximum_lag,
                maximum_time: zone.rules.maximum_time.map(|time| time.as_secs_f64()),
                weight: zone.weight.get(),
            })
            .collect(),
        dnssec: watch.dnssec.as_ref().map(|dnssec| WatchedDnssec {
            signed: dnssec.signed.as_ref().map(ToString::to_string),
            bogus: dnssec.bogus.as_ref().map(ToString::to_string),
            weight: dnssec.weight.get(),
        }),
    }
}

fn pool(service: &Service) -> Pool {
    let settings = &service.pool;
    let sorry_servers = settings.sorry_servers.iter();
    Pool {
        quorum: Quorum {
            servers: settings.quorum.servers,
            hysteresis: settings.quorum.hysteresis,
        },
        floor: match settings.floor {
            health::Floor::Servers(number) => Floor::Servers(number),
            health::Floor::Part(part) => Floor::Percent(part.get()),
        },
        sorry_servers: sorry_servers
            .map(|server| real_server(service, server))
            .collect(),
        maximum_weight: settings.maximum_weight,
        slow_start: settings.slow_start.map(|time| time.as_secs_f64()),
        latency: settings.latency.map(|latency| Latency {
            smoothing: latency.smoothing.as_secs_f64(),
            dead_band_percent: latency.dead_band.get(),
            largest_step_percent: latency.largest_step.get(),
        }),
    }
}

fn texts(protocols: &[Protocol]) -> Vec<String> {
    protocols.iter().map(ToString::to_string).collect()
}

fn persistence(settings: PersistenceSettings) -> Persistence {
    Persistence {
        timeout: settings.timeout.as_secs_f64(),
        ipv4_mask: settings.ipv4_prefix_length,
        ipv6_mask: settings.ipv6_prefix_length,
    }
}

fn real_server(service: &Service, server: &RealServer) -> Server {
    let threshold = |connections| (connections > 0).then_some(connections);
    Server {
        address: server.key.address.to_string(),
        port: server.key.port.map(NonZeroU16::get),
        weight: server.weight,
        forwarding: server.forwarding.to_string(),
        serves: facts::families(service, server).map(family_name).collect(),
        stop_at: threshold(server.upper_threshold),
        resume_below: threshold(server.lower_threshold),
    }
}

/// The table of all nodes, between which only the synchronization differs.
pub(super) fn table<'s>(
    nodes: impl Iterator<Item = (Option<&'s str>, &'s Configuration)> + Clone,
) -> Option<Table<'s>> {
    let (_, first) = nodes.clone().next()?;
    let Timeouts { tcp, tcp_fin, udp } = first.ipvs.timeouts;
    let written = |seconds| (seconds > 0).then_some(seconds);
    let synchronizations = nodes.filter_map(|(node, configuration)| {
        let synchronization = configuration.ipvs.synchronization.as_ref()?;
        Some(sync(node, synchronization))
    });
    Some(Table {
        program: match first.ipvs.program {
            Program::Always => "always",
            Program::WhenActive => "when-active",
        },
        exclusive: first.ipvs.exclusive,
        timeouts: TimeoutsReport {
            tcp: written(tcp),
            tcp_fin: written(tcp_fin),
            udp: written(udp),
        },
        sync: synchronizations.collect(),
        settings: policy::settings(first)
            .into_iter()
            .map(|setting| Setting {
                name: setting.name,
                value: setting.value,
                reason: setting.reason,
            })
            .collect(),
    })
}

fn sync<'s>(node: Option<&'s str>, synchronization: &'s Synchronization) -> Sync<'s> {
    let daemon = &synchronization.daemon;
    Sync {
        node,
        instance: &synchronization.instance,
        interface: &daemon.interface,
        id: daemon.identifier,
        group: daemon.group.map(|group| group.to_string()),
        port: daemon.port.map(NonZeroU16::get),
        ttl: daemon.time_to_live.map(std::num::NonZeroU8::get),
        maximum_length: daemon.maximum_length.map(NonZeroU16::get),
    }
}

fn family_name(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "ipv4",
        Family::Ipv6 => "ipv6",
    }
}
