//! How IPVS is used on one node.

use lvs_configuration::error::Findings;
use lvs_proto::Family;
use lvs_proto::ipvs::{Daemon, DaemonRole};

use crate::config::draft::Draft;
use crate::config::ipvs::SynchronizationDraft;
use crate::config::model::{Instance, Ipvs, Service, Synchronization, VirtualService};

/// The settings, with the virtual router that the daemon follows.
pub(super) fn ipvs(
    draft: &Draft,
    node: &str,
    instances: &[Instance],
    services: &[Service],
    findings: &mut Findings,
) -> Ipvs {
    let Some(ipvs) = &draft.ipvs else {
        return Ipvs::default();
    };
    let synchronization = ipvs.synchronization.as_ref().and_then(|written| {
        judge_crossing(written, services, findings);
        synchronization(draft, written, node, instances, findings)
    });
    Ipvs {
        program: ipvs.program,
        exclusive: ipvs.exclusive,
        timeouts: ipvs.timeouts,
        synchronization,
    }
}

fn synchronization(
    draft: &Draft,
    written: &SynchronizationDraft,
    node: &str,
    instances: &[Instance],
    findings: &mut Findings,
) -> Option<Synchronization> {
    let name = written.instance.required(node, findings);
    let interface = written.interface.required(node, findings);
    let (name, interface) = (name?, &interface?.value);
    let Some(instance) = instances.iter().find(|it| it.name == name.value) else {
        if draft.instances_complete && instances.len() == draft.instances.len() {
            let message = unknown_instance(&name.value, instances);
            findings.add(&name.origin, message);
        }
        return None;
    };
    let identifier = instance.virtual_router_id.get();
    Some(Synchronization {
        instance: name.value.clone(),
        daemon: Daemon {
            role: DaemonRole::Backup,
            interface: interface.clone(),
            identifier: written.identifier.unwrap_or(identifier),
            maximum_length: written.maximum_length,
            group: written.group,
            port: written.port,
            time_to_live: written.time_to_live,
        },
    })
}

/// What to say of a virtual router that doesn't exist.
pub(super) fn unknown_instance(name: &str, instances: &[Instance]) -> String {
    let names: Vec<&str> = instances.iter().map(|it| it.name.as_str()).collect();
    if names.is_empty() {
        return format!("there is no virtual router `{name}`; the file has none");
    }
    let names = names.join(", ");
    format!("there is no virtual router `{name}`; the file has {names}")
}

/// The kernel has no message for a connection between two families, and refuses one or the other
/// (`ip_vs_genl_set_cmd` and `ip_vs_genl_new_daemon`, `net/netfilter/ipvs/ip_vs_ctl.c`).
fn judge_crossing(written: &SynchronizationDraft, services: &[Service], findings: &mut Findings) {
    for service in services {
        for family in [Family::Ipv4, Family::Ipv6] {
            let of_family = |one: &&VirtualService| one.key.family() == family;
            let crossing = service
                .real_servers_of(family)
                .find(|server| Family::of(server.key.address) != family);
            if let Some(one) = service.virtual_services.iter().find(of_family)
                && let Some(server) = crossing
            {
                let message = format!(
                    "connections through a tunnel to the other family can't be told, and {} of \
                     service `{}` is reached by one from {}; leave out one of the two",
                    server.key, service.name, one.key
                );
                findings.add(&written.origin, message);
                return;
            }
        }
    }
}
