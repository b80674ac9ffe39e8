//! What no two virtual routers of a node may share, and what they must agree on.

use std::collections::{BTreeMap, HashSet};

use lvs_configuration::error::{Findings, Origin, already};
use lvs_proto::vrrp::Family;

use super::instance;
use super::keys::Keys;
use super::vips::Vips;
use crate::config::draft::Draft;
use crate::config::model::Instance;
use crate::config::vrrp::Written;

/// The instances so far.
#[derive(Default)]
pub(super) struct Instances<'d> {
    pub(super) built: Vec<Instance>,
    pub(super) vips: Vips,
    written: Vec<Written<'d>>,
    names: BTreeMap<String, Origin>,
    routers: BTreeMap<(String, u8, Family), Origin>,
}

impl<'d> Instances<'d> {
    pub(super) fn add(&mut self, written: Written<'d>, keys: Keys, findings: &mut Findings) {
        let name = written.name;
        if let Some(first) = already(&mut self.names, name.value.clone(), &name.origin) {
            let message = format!("`{}` already names the one in line {first}", name.value);
            findings.add(&name.origin, format!("{message}; names must differ"));
        }
        let (router, interface) = (written.virtual_router_id, &written.interface.value);
        let family = instance::family(&written);
        let key = (interface.clone(), router.value.get(), family);
        if let Some(first) = already(&mut self.routers, key, &router.origin) {
            let id = router.value;
            let message = format!("{id} is already used on {interface} in line {first}");
            findings.add(
                &router.origin,
                format!("{message}; must differ on one interface"),
            );
        }
        let own_interface = instance::virtual_mac(&written).unwrap_or_else(|| interface.clone());
        let further = written.further_addresses.map(|further| &further.value);
        for vip in written
            .addresses
            .value
            .iter()
            .chain(further.into_iter().flatten())
        {
            let interface = vip.value.interface.as_ref().unwrap_or(&own_interface);
            self.vips.add(&name.value, interface, vip, findings);
        }
        self.built.extend(instance::judge(&written, keys, findings));
        self.written.push(written);
    }

    /// Judges what needs all of them.
    pub(super) fn judge_together(&self, draft: &Draft, findings: &mut Findings) {
        self.judge_own_addresses(findings);
        self.judge_virtual_macs(findings);
        self.judge_groups(findings);
        self.judge_tracked_services(draft, findings);
    }

    fn judge_own_addresses(&self, findings: &mut Findings) {
        for written in &self.written {
            let source = written
                .source
                .map(|source| (source, "an own address of this machine"));
            let peers = written.peers.iter().flat_map(|peers| &peers.value);
            let peers = peers.map(|peer| (peer, "the other director's own address"));
            for (address, right) in source.into_iter().chain(peers) {
                if self.vips.holder(address.value).is_some() {
                    let message = format!("{} is a VIP; write {right}", address.value);
                    findings.add(&address.origin, message);
                }
            }
        }
    }

    fn judge_virtual_macs(&self, findings: &mut Findings) {
        let taken: HashSet<&str> = self
            .written
            .iter()
            .map(|written| written.interface.value.as_str())
            .collect();
        let mut made = BTreeMap::new();
        for written in &self.written {
            let (Some(name), Some(asked)) = (instance::virtual_mac(written), written.virtual_mac)
            else {
                continue;
            };
            if taken.contains(name.as_str()) {
                let message = format!(
                    "`{name}` is the interface of a virtual router; write another name for the one \
                     to make"
                );
                findings.add(&asked.origin, message);
            } else if let Some(first) = already(&mut made, name.clone(), &asked.origin) {
                let message = format!(
                    "`{name}` is already the name of the interface to make in line {first}; write \
                     another one"
                );
                findings.add(&asked.origin, message);
            }
        }
    }

    fn judge_groups(&self, findings: &mut Findings) {
        for group in self.written.iter().filter_map(|written| written.group) {
            let name = &group.value;
            let groups = self.written.iter().filter_map(|written| written.group);
            if groups.filter(|other| other.value == *name).count() == 1 {
                let message = format!(
                    "no other virtual router is in the group `{name}`; write `group: {name}` where \
                     it belongs too, or leave it out"
                );
                findings.warn(&group.origin, message);
            }
        }
    }

    fn judge_tracked_services(&self, draft: &Draft, findings: &mut Findings) {
        let tracks = self.written.iter().filter_map(|written| written.track);
        for tracked in tracks.flat_map(|track| &track.value.services) {
            let (name, _) = &tracked.value;
            match draft.services.iter().find(|it| it.name.value == *name) {
                Some(service) if service.checks.is_empty() => {
                    let message = format!("`{name}` has no check, so that it never fails");
                    findings.warn(&tracked.origin, message);
                }
                Some(_) => {}
                None if draft.services_complete => {
                    findings.add(&tracked.origin, unknown_service(name, draft));
                }
                None => {}
            }
        }
    }
}

fn unknown_service(name: &str, draft: &Draft) -> String {
    let names: Vec<&str> = draft
        .services
        .iter()
        .map(|service| service.name.value.as_str())
        .collect();
    if names.is_empty() {
        return format!("there is no service `{name}`; the file has none");
    }
    format!(
        "there is no service `{name}`; the file has {}",
        names.join(", ")
    )
}
