//! The verdict and what follows, for programs. Times are seconds.

mod service;

use std::time::Duration;

use lvs_proto::vrrp::{Family, Peers, Version};
use serde::Serialize;

use self::service::{ServiceReport, Table};
use super::Node;
use crate::config::{
    Configuration, Effect, Errors, File, Finding, Hook, Instance, Track, VersionSettings,
    VirtualAddress,
};

/// `virtual_routers` and `services` have an entry for each on each node; `ipvs` is null for an
/// invalid file.
#[derive(Serialize)]
struct Verdict<'v> {
    valid: bool,
    errors: Vec<Remark<'v>>,
    warnings: Vec<Remark<'v>>,
    virtual_routers: Vec<VirtualRouter<'v>>,
    services: Vec<ServiceReport<'v>>,
    ipvs: Option<Table<'v>>,
}

/// `line` and `column` are null when the file could not be read.
#[derive(Serialize)]
struct Remark<'r> {
    file: String,
    line: Option<u64>,
    column: Option<u64>,
    key: &'r str,
    message: &'r str,
}

#[derive(Serialize)]
struct VirtualRouter<'i> {
    name: &'i str,
    /// Null when the file is the same for every node.
    node: Option<&'i str>,
    interface: &'i str,
    virtual_router_id: u8,
    family: &'static str,
    version: u8,
    priority: u8,
    /// What weights can make of the priority; files are left aside.
    priorities: Range<u8>,
    advert_interval: f64,
    accepted_intervals: Range<f64>,
    skew_time: f64,
    active_down_interval: f64,
    preempt: bool,
    preempt_delay: f64,
    authentication: &'static str,
    source: Option<String>,
    /// Null for multicast.
    peers: Option<Vec<String>>,
    minimum_ttl: u8,
    /// The name of the interface that is made for it.
    virtual_mac: Option<&'i str>,
    addresses: Vec<Address<'i>>,
    further_addresses: Vec<Address<'i>>,
    announcements: Announcements,
    group: Option<&'i str>,
    track: Tracked<'i>,
    hooks: Vec<Told<'i>>,
}

#[derive(Serialize)]
struct Range<T> {
    from: T,
    to: T,
}

#[derive(Serialize)]
struct Address<'i> {
    address: String,
    interface: &'i str,
    scope: String,
    label: Option<&'i str>,
}

/// Null is never.
#[derive(Serialize)]
struct Announcements {
    burst: u8,
    pause: f64,
    again_after: Option<f64>,
    refresh: Option<f64>,
}

#[derive(Serialize)]
struct Tracked<'i> {
    interfaces: Vec<Weighted<'i>>,
    scripts: Vec<Script<'i>>,
    files: Vec<Weighted<'i>>,
    services: Vec<Weighted<'i>>,
}

/// Without a weight failing is a fault.
#[derive(Serialize)]
struct Weighted<'i> {
    name: std::borrow::Cow<'i, str>,
    weight: Option<i16>,
}

#[derive(Serialize)]
struct Script<'i> {
    name: &'i str,
    command: &'i [String],
    interval: f64,
    timeout: f64,
    rise: u8,
    fall: u8,
    weight: Option<i16>,
}

#[derive(Serialize)]
struct Told<'i> {
    on: Vec<String>,
    command: &'i [String],
    timeout: f64,
}

pub(super) fn verdict(verdict: Result<&(File, Vec<Node>), &Errors>) -> String {
    let verdict = match verdict {
        Ok((file, nodes)) => Verdict {
            valid: true,
            errors: Vec::new(),
            warnings: file.warnings().iter().map(Remark::from).collect(),
            virtual_routers: virtual_routers(nodes),
            services: services(nodes),
            ipvs: service::table(by_name(nodes)),
        },
        Err(errors) => Verdict {
            valid: false,
            errors: errors.iter().map(Remark::from).collect(),
            warnings: Vec::new(),
            virtual_routers: Vec::new(),
            services: Vec::new(),
            ipvs: None,
        },
    };
    crate::cli::json(&verdict)
}

impl<'r> From<&'r Finding> for Remark<'r> {
    fn from(finding: &'r Finding) -> Self {
        Self {
            file: finding.file.display().to_string(),
            line: finding.position.map(|position| position.line),
            column: finding.position.map(|position| position.column),
            key: &finding.key,
            message: &finding.message,
        }
    }
}

fn virtual_routers(nodes: &[Node]) -> Vec<VirtualRouter<'_>> {
    nodes
        .iter()
        .flat_map(|node| {
            let instances = node.configuration.instances.iter();
            instances.map(|instance| virtual_router(node.name.as_deref(), instance))
        })
        .collect()
}

fn services(nodes: &[Node]) -> Vec<ServiceReport<'_>> {
    by_name(nodes)
        .flat_map(|(node, configuration)| {
            let services = configuration.services.iter();
            services.map(move |one| service::service(node, one, configuration))
        })
        .collect()
}

fn by_name(nodes: &[Node]) -> impl Iterator<Item = (Option<&str>, &Configuration)> + Clone {
    nodes
        .iter()
        .map(|node| (node.name.as_deref(), &node.configuration))
}

fn virtual_router<'i>(node: Option<&'i str>, instance: &'i Instance) -> VirtualRouter<'i> {
    let version = instance.version.version();
    let interval = instance.advert_interval.get();
    let (peers, minimum_ttl) = match &instance.peers {
        Peers::Multicast => (None, lvs_proto::vrrp::TIME_TO_LIVE),
        Peers::Unicast {
            addresses,
            minimum_hop_limit,
        } => {
            let addresses = addresses.iter().map(ToString::to_string).collect();
            (Some(addresses), *minimum_hop_limit)
        }
    };
    let priorities = instance.priorities();
    let seconds = |time: Duration| time.as_secs_f64();
    VirtualRouter {
        name: &instance.name,
        node,
        interface: &instance.interface,
        virtual_router_id: instance.virtual_router_id.get(),
        family: match instance.family() {
            Family::Ipv4 => "ipv4",
            Family::Ipv6 => "ipv6",
        },
        version: match version {
            Version::V2 => 2,
            Version::V3 => 3,
        },
        priority: instance.priority.get(),
        priorities: Range {
            from: *priorities.start(),
            to: *priorities.end(),
        },
        advert_interval: seconds(interval),
        accepted_intervals: Range {
            from: seconds(instance.accepted_intervals.least),
            to: seconds(instance.accepted_intervals.most),
        },
        skew_time: seconds(instance.priority.skew_time(version, interval)),
        active_down_interval: seconds(instance.priority.active_down_interval(version, interval)),
        preempt: instance.preempt,
        preempt_delay: seconds(instance.preempt_delay),
        authentication: match &instance.version {
            VersionSettings::V2 { password: Some(_) } => "password",
            VersionSettings::V3 { hmac: Some(_), .. } => "hmac",
            VersionSettings::V2 { .. } | VersionSettings::V3 { .. } => "none",
        },
        source: instance.source.map(|source| source.to_string()),
        peers,
        minimum_ttl,
        virtual_mac: instance.virtual_mac.as_deref(),
        addresses: addresses(instance, &instance.addresses),
        further_addresses: addresses(instance, &instance.further_addresses),
        announcements: Announcements {
            burst: instance.announcements.burst,
            pause: seconds(instance.announcement_pause),
            again_after: instance.announcements.second_after.map(seconds),
            refresh: instance.announcements.refresh.map(seconds),
        },
        group: instance.group.as_deref(),
        track: tracked(&instance.track),
        hooks: instance.hooks.iter().map(told).collect(),
    }
}

fn addresses<'i>(instance: &'i Instance, list: &'i [VirtualAddress]) -> Vec<Address<'i>> {
    let address = |vip: &'i VirtualAddress| Address {
        address: vip.to_string(),
        interface: instance.interface_of(vip),
        scope: vip.scope.to_string(),
        label: vip.label.as_deref(),
    };
    list.iter().map(address).collect()
}

fn tracked(track: &Track) -> Tracked<'_> {
    fn named(list: &[(String, Effect)]) -> Vec<Weighted<'_>> {
        list.iter()
            .map(|(name, effect)| Weighted {
                name: name.into(),
                weight: weight(*effect),
            })
            .collect()
    }
    Tracked {
        interfaces: named(&track.interfaces),
        scripts: track
            .scripts
            .iter()
            .map(|script| Script {
                name: &script.name,
                command: &script.command,
                interval: script.interval.as_secs_f64(),
                timeout: script.timeout.as_secs_f64(),
                rise: script.rise.get(),
                fall: script.fall.get(),
                weight: weight(script.effect),
            })
            .collect(),
        files: track
            .files
            .iter()
            .map(|file| Weighted {
                name: file.path.to_string_lossy(),
                weight: Some(file.weight.get()),
            })
            .collect(),
        services: named(&track.services),
    }
}

fn weight(effect: Effect) -> Option<i16> {
    match effect {
        Effect::Fault => None,
        Effect::Weight(weight) => Some(weight.get()),
    }
}

fn told(hook: &Hook) -> Told<'_> {
    Told {
        on: hook.on.iter().map(ToString::to_string).collect(),
        command: &hook.command,
        timeout: hook.timeout.as_secs_f64(),
    }
}
