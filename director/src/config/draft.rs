//! Reads a whole file into values that may still differ from node to node.

use std::collections::BTreeSet;
use std::path::PathBuf;

use lvs_configuration::address;
use lvs_configuration::document::Node;
use lvs_configuration::error::{Findings, Located};
use lvs_configuration::reader::{self, Mapping, Place};

use super::defaults;
use super::ipvs::IpvsDraft;
use super::model::{Control, Dataplane, Metrics};
use super::service::ServiceDraft;
use super::vrrp::InstanceDraft;

/// What could be read of a file.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) instances: Vec<InstanceDraft>,
    /// Whether those are all that the file has.
    pub(super) instances_complete: bool,
    pub(super) services: Vec<ServiceDraft>,
    /// Whether those are all that the file has.
    pub(super) services_complete: bool,
    pub(super) metrics: Option<Metrics>,
    pub(super) dataplane: Option<Dataplane>,
    pub(super) ipvs: Option<IpvsDraft>,
    pub(super) control: Control,
}

const KEYS: [&str; 6] = [
    "vrrp",
    "services",
    "metrics",
    "dataplane",
    "ipvs",
    "control",
];

impl Draft {
    /// Reads what can be read, and reports what can't.
    pub(super) fn read(root: &Node<'_>, findings: &mut Findings) -> Self {
        let place = Place::root(root);
        let Some(keys) = Mapping::of_known_keys(&place, &KEYS, findings) else {
            return Self::default();
        };
        if keys.get("vrrp").is_none() && keys.get("services").is_none() {
            let message = "configures nothing; write `vrrp`, `services` or both";
            findings.add(keys.origin(), message);
        }
        let (instances, instances_complete) = match keys.get("vrrp") {
            Some(place) => {
                let what = "a list of virtual routers";
                let instances = reader::filled_list(place, what, findings, |place, findings| {
                    Some(InstanceDraft::read(place, findings))
                })
                .unwrap_or_default();
                let complete = !instances.is_empty() && instances.iter().all(Option::is_some);
                (instances.into_iter().flatten().collect(), complete)
            }
            None => (Vec::new(), true),
        };
        let services = keys.optional("services", findings, |place, findings| {
            reader::list(place, "a list of services", findings, |place, findings| {
                Some(ServiceDraft::read(place, findings))
            })
        });
        let services_complete = services
            .as_ref()
            .is_some_and(|services| services.iter().flatten().all(Option::is_some));
        let metrics = keys.optional("metrics", findings, metrics);
        let dataplane = keys.optional("dataplane", findings, |place, findings| {
            let words = [("ipvs", Dataplane::Ipvs), ("none", Dataplane::None)];
            reader::word(place, &words, findings)
        });
        let ipvs = keys.optional("ipvs", findings, IpvsDraft::read).flatten();
        if let Some(Some(Dataplane::None)) = dataplane
            && let Some(ipvs) = &ipvs
        {
            let message = "with `dataplane: none` nothing is forwarded; leave one of the two out";
            findings.add(&ipvs.origin, message);
        }
        let control = keys.optional("control", findings, control);
        Self {
            instances,
            instances_complete,
            services: services.flatten().into_iter().flatten().flatten().collect(),
            services_complete,
            metrics: metrics.flatten(),
            dataplane: dataplane.flatten(),
            ipvs,
            control: control.flatten().unwrap_or_default(),
        }
    }

    /// The programs that checks run.
    pub(super) fn programs(&self) -> impl Iterator<Item = &Located<String>> {
        self.services.iter().flat_map(|service| &service.programs)
    }

    /// The nodes that the file names.
    pub(super) fn nodes(&self) -> BTreeSet<&str> {
        self.instances
            .iter()
            .flat_map(InstanceDraft::nodes)
            .chain(self.ipvs.iter().flat_map(IpvsDraft::nodes))
            .collect()
    }

    /// The nodes to judge the file for: those it names, or any one when all are alike.
    pub(super) fn nodes_to_judge(&self) -> BTreeSet<&str> {
        let nodes = self.nodes();
        if nodes.is_empty() {
            BTreeSet::from([""])
        } else {
            nodes
        }
    }

    /// The key files that are named for a node.
    pub(super) fn key_files(&self, node: &str) -> Vec<PathBuf> {
        // Whoever resolves the file for the node reports these.
        let mut findings = Findings::default();
        let instances = self.instances.iter();
        let written = instances.filter_map(|instance| instance.on(node, &mut findings));
        written.flat_map(|written| written.key_files()).collect()
    }

    pub(super) fn dataplane(&self) -> Dataplane {
        self.dataplane.unwrap_or(defaults::DATAPLANE)
    }
}

fn metrics(place: &Place<'_>, findings: &mut Findings) -> Option<Metrics> {
    let keys = Mapping::of_known_keys(place, &["listen"], findings)?;
    let right = "write an address and a port, such as 127.0.0.1:9712";
    let listen = keys.required("listen", right, findings, address::listen)?;
    Some(Metrics { listen })
}

fn control(place: &Place<'_>, findings: &mut Findings) -> Option<Control> {
    let keys = Mapping::of_known_keys(place, &["group"], findings)?;
    let right = "write the group whose members may use the control socket";
    let group = keys.required("group", right, findings, reader::name);
    Some(Control {
        group: Some(group?),
    })
}
