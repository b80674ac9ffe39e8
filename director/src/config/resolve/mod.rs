//! Picks one node's values and judges what one value means for another.

mod across;
mod instance;
mod instances;
mod ipvs;
mod keys;
mod services;
mod vips;

pub(super) use across::judge as judge_across_nodes;
pub(super) use keys::{Keys, MAXIMUM_KEY_FILE_SIZE};

use instances::Instances;
use lvs_configuration::error::Findings;
use services::{Holders, Services};

use super::draft::Draft;
use super::model::Configuration;

/// The configuration of a node: what is left of it when something was found.
pub(super) fn configuration(
    draft: &Draft,
    node: &str,
    keys: Keys,
    findings: &mut Findings,
) -> Configuration {
    let mut instances = Instances::default();
    for instance in &draft.instances {
        if let Some(written) = instance.on(node, findings) {
            instances.add(written, keys, findings);
        }
    }
    let complete = draft.instances_complete && instances.built.len() == draft.instances.len();
    instances.judge_together(draft, findings);
    // Of a router that could not be read, the VIPs are unknown too.
    instances.vips.complete = complete;
    let mut services = Services::default();
    let holders = Holders {
        vips: &instances.vips,
        instances: &instances.built,
    };
    for service in &draft.services {
        services.add(service, &holders, findings);
    }
    let ipvs = ipvs::ipvs(draft, node, &instances.built, &services.built, findings);
    Configuration {
        instances: instances.built,
        services: services.built,
        metrics: draft.metrics,
        dataplane: draft.dataplane(),
        ipvs,
        control: draft.control.clone(),
    }
}
