//! Picks one node's values and judges what one value means for another.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use lvs_proto::ipvs::Protocol;
use lvs_proto::vrrp::{AdvertInterval, Version};

use super::defaults;
use super::draft::Draft;
use super::error::{Findings, Located, Origin, already};
use super::model::{Configuration, Holder, Instance, Service, VersionSettings};
use super::per_node::PerNode;
use super::service::ServiceDraft;
use super::vrrp::InstanceDraft;

/// The configuration of a node: what is left of it when something was found.
pub(super) fn configuration(draft: &Draft, node: &str, findings: &mut Findings) -> Configuration {
    let mut vips = Vips::default();
    let mut instances = Instances::default();
    for instance in &draft.instances {
        instances.add(instance, node, &mut vips, findings);
    }
    // Of a router that could not be read, the VIPs are unknown too.
    let vips_known = draft.instances_complete && instances.built.len() == draft.instances.len();
    let mut services = Services::default();
    for service in &draft.services {
        services.add(service, &vips, vips_known, findings);
    }
    Configuration {
        instances: instances.built,
        services: services.built,
        metrics: draft.metrics,
        dataplane: draft.dataplane(),
    }
}

/// VIPs with the name of the instance that lists each, and where.
type Vips = HashMap<IpAddr, (String, Origin)>;

/// The instances so far, and what no two of them may share.
#[derive(Default)]
struct Instances {
    built: Vec<Instance>,
    names: HashMap<String, Origin>,
    routers: HashMap<(String, u8), Origin>,
}

impl Instances {
    fn add(&mut self, draft: &InstanceDraft, node: &str, vips: &mut Vips, findings: &mut Findings) {
        let name = draft.name.of(node, findings);
        let interface = draft.interface.of(node, findings);
        let router = draft.virtual_router_id.of(node, findings);
        let priority = draft.priority.of(node, findings);
        let addresses = draft.addresses.of(node, findings);
        let preempt = optional(draft.preempt.as_ref(), node, findings);
        let timing = timing(draft, node, findings);
        let (Some(name), Some(interface), Some(router)) = (name, interface, router) else {
            return;
        };
        if let Some(first) = already(&mut self.names, name.value.clone(), &name.origin) {
            let message = format!("`{}` already names the one in line {first}", name.value);
            findings.add(&name.origin, format!("{message}; names must differ"));
        }
        let key = (interface.value.clone(), router.value.get());
        if let Some(first) = already(&mut self.routers, key, &router.origin) {
            let (id, interface) = (router.value, &interface.value);
            let message = format!("{id} is already used on {interface} in line {first}");
            findings.add(
                &router.origin,
                format!("{message}; must differ on one interface"),
            );
        }
        let (Some(priority), Some(addresses)) = (priority, addresses) else {
            return;
        };
        for vip in &addresses.value {
            let address = vip.value.address;
            if let Some((_, first)) = vips.get(&address) {
                let line = first.line();
                let message = format!("{address} is already a VIP in line {line}; list it once");
                findings.add(&vip.origin, message);
            } else {
                vips.insert(address, (name.value.clone(), vip.origin.clone()));
            }
        }
        let (Some(preempt), Some((version, advert_interval))) = (preempt, timing) else {
            return;
        };
        self.built.push(Instance {
            name: name.value.clone(),
            interface: interface.value.clone(),
            virtual_router_id: router.value,
            priority: priority.value,
            advert_interval,
            version,
            preempt: preempt.map_or(defaults::PREEMPT, |preempt| preempt.value),
            addresses: addresses
                .value
                .iter()
                .map(|vip| vip.value.clone())
                .collect(),
        });
    }
}

/// The version, what only it has, and an interval that it can say on the wire.
fn timing(
    draft: &InstanceDraft,
    node: &str,
    findings: &mut Findings,
) -> Option<(VersionSettings, AdvertInterval)> {
    let version = optional(draft.version.as_ref(), node, findings);
    let interval = optional(draft.advert_interval.as_ref(), node, findings);
    let authentication = optional(draft.authentication.as_ref(), node, findings);
    let checksum = optional(draft.checksum.as_ref(), node, findings);
    let version = version?.map_or(defaults::VERSION, |version| version.value);
    let settings = match version {
        Version::V2 => {
            if let Some(Some(checksum)) = checksum {
                let message = "version 2 has one form of checksum; leave it out, or set version: 3";
                findings.add(&checksum.origin, message);
            }
            VersionSettings::V2 {
                password: authentication?.map(|found| found.value.clone()),
            }
        }
        Version::V3 => {
            if let Some(Some(authentication)) = authentication {
                let message = "version 3 has no authentication; leave it out, or set version: 2";
                findings.add(&authentication.origin, message);
            }
            let checksum = checksum?.map_or(defaults::CHECKSUM, |checksum| checksum.value);
            VersionSettings::V3 { checksum }
        }
    };
    Some((settings, advert_interval(version, interval?, findings)?))
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

/// The services so far, and what no two of them may share.
#[derive(Default)]
struct Services {
    built: Vec<Service>,
    names: HashMap<String, Origin>,
    sockets: HashMap<(Ipv4Addr, u16, Protocol), Origin>,
}

impl Services {
    fn add(
        &mut self,
        draft: &ServiceDraft,
        vips: &Vips,
        vips_known: bool,
        findings: &mut Findings,
    ) {
        let name = &draft.name;
        if let Some(first) = already(&mut self.names, name.value.clone(), &name.origin) {
            let message = format!("`{}` already names the one in line {first}", name.value);
            findings.add(&name.origin, format!("{message}; names must differ"));
        }
        for protocol in &draft.protocols {
            let (address, port) = (draft.address.value, draft.port.get());
            let key = (address, port, *protocol);
            if let Some(first) = already(&mut self.sockets, key, &draft.address.origin) {
                let message = format!(
                    "{address} port {port} {protocol} already belongs to the service in line \
                     {first}; address, port or protocol must differ"
                );
                findings.add(&draft.address.origin, message);
            }
        }
        for real_server in &draft.real_servers {
            let address = real_server.value.address;
            if address == draft.address.value || vips.contains_key(&address.into()) {
                let message = format!("{address} is a VIP; write the real server's own address");
                findings.add(&real_server.origin, message);
            }
        }
        let Some(holder) = holder(draft, vips, vips_known, findings) else {
            return;
        };
        self.built.push(Service {
            name: name.value.clone(),
            address: draft.address.value,
            port: draft.port,
            protocols: draft.protocols.clone(),
            scheduler: draft.scheduler,
            forwarding: draft.forwarding,
            one_packet_scheduling: draft.one_packet_scheduling,
            check: draft.check.clone(),
            real_servers: draft
                .real_servers
                .iter()
                .map(|server| server.value)
                .collect(),
            holder,
        });
    }
}

fn holder(
    draft: &ServiceDraft,
    vips: &Vips,
    vips_known: bool,
    findings: &mut Findings,
) -> Option<Holder> {
    let address = draft.address.value;
    let external = draft.external.as_ref().filter(|external| external.value);
    match (vips.get(&address.into()), external) {
        (Some((instance, _)), None) => Some(Holder::Instance(instance.clone())),
        (None, Some(_)) => Some(Holder::External),
        (Some((instance, origin)), Some(external)) => {
            let message = format!(
                "`external` says that no virtual router holds {address}, but `{instance}` lists it \
                 in line {}; leave one of the two out",
                origin.line()
            );
            findings.add(&external.origin, message);
            None
        }
        (None, None) => {
            if vips_known {
                let message = format!(
                    "no virtual router lists {address}; add it to the `addresses` of one, or write \
                     `external: true` if something else brings it to this machine"
                );
                findings.add(&draft.address.origin, message);
            }
            None
        }
    }
}

/// `Some(None)` when the file doesn't say, `None` when it says nothing for this node.
fn optional<'d, T>(
    field: Option<&'d PerNode<T>>,
    node: &str,
    findings: &mut Findings,
) -> Option<Option<&'d Located<T>>> {
    match field {
        Some(field) => field.of(node, findings).map(Some),
        None => Some(None),
    }
}
