//! Services on one node.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lvs_configuration::error::{Findings, Located, Origin, already};
use lvs_proto::Family;
use lvs_proto::health::Floor;
use lvs_proto::ipvs::{Forwarding, ServiceKey};

use super::ipvs::unknown_instance;
use super::vips::Vips;
use crate::config::defaults;
use crate::config::model::{Holder, Instance, RealServer, RealServerKey, Service, VirtualService};
use crate::config::service::{ServiceDraft, Subject};

/// The services so far, and what no two of them may share.
#[derive(Default)]
pub(super) struct Services {
    pub(super) built: Vec<Service>,
    names: BTreeMap<String, Origin>,
    keys: BTreeMap<ServiceKey, Origin>,
    /// How many there are, with those that are shared.
    number: usize,
}

/// A virtual service and where it stands in the file.
type Key<'d> = (ServiceKey, &'d Origin);

/// What holds addresses on the node.
pub(super) struct Holders<'h> {
    pub(super) vips: &'h Vips,
    pub(super) instances: &'h [Instance],
}

impl Services {
    pub(super) fn add(
        &mut self,
        draft: &ServiceDraft,
        holders: &Holders<'_>,
        findings: &mut Findings,
    ) {
        let name = &draft.name;
        if let Some(first) = already(&mut self.names, name.value.clone(), &name.origin) {
            let message = format!("`{}` already names the one in line {first}", name.value);
            findings.add(&name.origin, format!("{message}; names must differ"));
        }
        let most = defaults::MAXIMUM_TABLE;
        let before = self.number;
        self.number += draft.subject.number();
        if self.number > most {
            if before <= most {
                let message = format!(
                    "the services up to this one make {} virtual services, and a file has at most \
                     {most}; give packets a mark, and write `firewall_mark`",
                    self.number
                );
                findings.add(&draft.origin, message);
            }
            return;
        }
        let keys = draft.subject.keys();
        self.judge_collisions(&keys, findings);
        let held = holders_of(draft, &keys, holders, findings);
        let service = Service {
            name: name.value.clone(),
            virtual_services: keys
                .iter()
                .zip(held)
                .map(|((key, _), holder)| VirtualService { key: *key, holder })
                .collect(),
            protocols: draft.protocols.clone(),
            scheduler: draft.scheduler.value,
            scheduler_flags: draft.scheduler_flags,
            persistence: draft.persistence.as_ref().map(|it| it.value),
            one_packet_scheduling: draft.one_packet_scheduling.value,
            checks: draft.checks.clone(),
            real_servers: draft.real_servers.iter().map(|it| it.value).collect(),
            watch: draft.watch.clone(),
            pool: draft.pool.resolve(
                &draft.real_servers,
                draft.scheduler.value,
                !draft.checks.is_empty(),
                findings,
            ),
        };
        judge_addresses(draft, &keys, holders.vips, findings);
        judge_families(draft, &service, &keys, findings);
        judge_pool(draft, &service, findings);
        self.built.push(service);
    }

    /// One message for each place in the file is enough.
    fn judge_collisions(&mut self, keys: &[Key<'_>], findings: &mut Findings) {
        let mut told = None;
        for (key, origin) in keys {
            let Some(first) = already(&mut self.keys, *key, origin) else {
                continue;
            };
            if told == Some(*origin) {
                continue;
            }
            told = Some(*origin);
            let what = match key {
                ServiceKey::Socket {
                    address,
                    port,
                    protocol,
                } => format!(
                    "{address} port {port} {protocol} already belongs to the service in line {first}; \
                     address, port or protocol must differ"
                ),
                ServiceKey::FirewallMark { mark, family } => format!(
                    "mark {mark} for {family} already belongs to the service in line {first}; mark \
                     or family must differ"
                ),
            };
            findings.add(origin, what);
        }
    }
}

/// A real server is asked at its own address.
fn judge_addresses(draft: &ServiceDraft, keys: &[Key<'_>], vips: &Vips, findings: &mut Findings) {
    let own: BTreeSet<IpAddr> = keys.iter().filter_map(|(key, _)| address(*key)).collect();
    for server in draft.real_servers.iter().chain(&draft.pool.sorry_servers) {
        let address = server.value.key.address;
        if own.contains(&address) || vips.holder(address).is_some() {
            let message = format!("{address} is a VIP; write the real server's own address");
            findings.add(&server.origin, message);
        }
    }
}

/// Every packet must find a server that can take it, and every server a packet.
fn judge_families(
    draft: &ServiceDraft,
    service: &Service,
    keys: &[Key<'_>],
    findings: &mut Findings,
) {
    let of = |family| keys.iter().find(|(key, _)| key.family() == family);
    let families = [Family::Ipv4, Family::Ipv6].into_iter();
    let served: Vec<Family> = families.filter(|family| of(*family).is_some()).collect();
    let used: BTreeSet<RealServerKey> = served
        .iter()
        .flat_map(|family| service.real_servers_of(*family))
        .map(|server| server.key)
        .collect();
    let idle: Vec<&Located<RealServer>> = draft
        .real_servers
        .iter()
        .filter(|server| !used.contains(&server.value.key))
        .collect();
    for server in &idle {
        let address = server.value.key.address;
        let (own, other) = match Family::of(address) {
            Family::Ipv4 => (Family::Ipv4, Family::Ipv6),
            Family::Ipv6 => (Family::Ipv6, Family::Ipv4),
        };
        let why = match server.value.forwarding {
            Forwarding::Masquerading => "masquerading doesn't translate between families",
            _ => "direct routing hands packets on unchanged",
        };
        let message = format!(
            "{address} is {own}, the service {other}, and {why}; write its {other} address, or \
             `forwarding: tunnel`, which may cross"
        );
        findings.add(&server.origin, message);
    }
    if !idle.is_empty() {
        return;
    }
    for family in served {
        if let (None, Some((key, origin))) = (service.real_servers_of(family).next(), of(family)) {
            let what = match key {
                ServiceKey::Socket { address, .. } => address.to_string(),
                ServiceKey::FirewallMark { mark, .. } => format!("mark {mark}"),
            };
            let message = format!(
                "no real server can take what is sent to {what}: none is {family}, and none is \
                 reached by a tunnel, which may cross; add one, or leave the address out"
            );
            findings.add(origin, message);
        }
    }
}

/// What is asked of the servers of a family can't be more than there are.
fn judge_pool(draft: &ServiceDraft, service: &Service, findings: &mut Findings) {
    let pool = &draft.pool;
    let mut sorry_servers = BTreeSet::new();
    for family in service.families() {
        let servers = service.real_servers_of(family);
        let number = servers.filter(|server| server.weight > 0).count();
        let whom = format!("{number} {family} servers that take queries");
        let asked = service.pool.quorum.servers + service.pool.quorum.hysteresis;
        if let Some(quorum) = &pool.quorum
            && asked > number
            && number > 0
        {
            let message = format!("asks for {asked} of {whom}; write less, or add servers");
            findings.add(&quorum.origin, message);
        }
        if let Some(floor) = &pool.floor
            && let Floor::Servers(least) = floor.value
            && least > number
            && number > 0
        {
            let message = format!("asks for {least} of {whom}; write less, or a part of them");
            findings.add(&floor.origin, message);
        }
        sorry_servers.extend(service.sorry_server_of(family).map(|server| server.key));
    }
    for server in &pool.sorry_servers {
        let key = server.value.key;
        if !sorry_servers.contains(&key) {
            let message = format!(
                "{key} has nothing to do: the service has no address of its family, or another \
                 sorry server has it already"
            );
            findings.add(&server.origin, message);
        }
    }
}

/// Who holds each of the keys' addresses: the operator, where that can't be said.
fn holders_of(
    draft: &ServiceDraft,
    keys: &[Key<'_>],
    holders: &Holders<'_>,
    findings: &mut Findings,
) -> Vec<Holder> {
    if let Subject::FirewallMark { mark, instance, .. } = &draft.subject {
        let holder = holder_of_mark(
            draft,
            mark.origin.clone(),
            instance.as_ref(),
            holders,
            findings,
        );
        return vec![holder];
    }
    let external = draft.external.as_ref().filter(|external| external.value);
    let mut contradicted = false;
    let mut unheld: Vec<(&Origin, Vec<IpAddr>)> = Vec::new();
    let mut found = Vec::with_capacity(keys.len());
    for (key, origin) in keys {
        let Some(address) = address(*key) else {
            continue;
        };
        let holder = match (holders.vips.holder(address), external) {
            (Some((instance, _)), None) => Holder::Instance(instance.to_owned()),
            (None, Some(_)) => Holder::External,
            (Some((instance, listed)), Some(external)) => {
                if !contradicted {
                    let message = format!(
                        "`external` says that no virtual router holds {address}, but `{instance}` \
                         lists it in line {}; leave one of the two out",
                        listed.line()
                    );
                    findings.add(&external.origin, message);
                }
                contradicted = true;
                Holder::External
            }
            (None, None) => {
                match unheld.last_mut() {
                    Some((place, addresses)) if place == origin => {
                        if addresses.last() != Some(&address) {
                            addresses.push(address);
                        }
                    }
                    _ => unheld.push((origin, vec![address])),
                }
                Holder::External
            }
        };
        found.push(holder);
    }
    if holders.vips.complete {
        for (origin, addresses) in unheld {
            let more = match addresses.len() - 1 {
                0 => String::new(),
                more => format!(" (and {more} more of the range)"),
            };
            let message = format!(
                "no virtual router lists {}{more}; add it to the `addresses` of one, or write \
                 `external: true` if something else brings it to this machine",
                addresses[0]
            );
            findings.add(origin, message);
        }
    }
    found
}

fn holder_of_mark(
    draft: &ServiceDraft,
    mark: Origin,
    instance: Option<&Located<String>>,
    holders: &Holders<'_>,
    findings: &mut Findings,
) -> Holder {
    let external = draft.external.as_ref().is_some_and(|it| it.value);
    match instance {
        Some(name) if external => {
            let message =
                "`external` says that no virtual router decides; leave one of the two out";
            findings.add(&name.origin, message);
        }
        Some(name) => {
            let known = |name: &str| holders.instances.iter().any(|it| it.name == name);
            if holders.vips.complete && !known(&name.value) {
                findings.add(
                    &name.origin,
                    unknown_instance(&name.value, holders.instances),
                );
            }
            return Holder::Instance(name.value.clone());
        }
        None if !external => {
            let message = "nothing says when this machine is to take it; write `instance` with the \
                           virtual router that holds the addresses, or `external: true`";
            findings.add(&mark, message);
        }
        None => {}
    }
    Holder::External
}

fn address(key: ServiceKey) -> Option<IpAddr> {
    match key {
        ServiceKey::Socket { address, .. } => Some(address),
        ServiceKey::FirewallMark { .. } => None,
    }
}
