//! Services on one node.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use lvs_proto::ipvs::Protocol;

use super::vips::Vips;
use crate::config::error::{Findings, Origin, already};
use crate::config::model::{Holder, Service};
use crate::config::service::ServiceDraft;

/// The services so far, and what no two of them may share.
#[derive(Default)]
pub(super) struct Services {
    pub(super) built: Vec<Service>,
    names: HashMap<String, Origin>,
    sockets: HashMap<(Ipv4Addr, u16, Protocol), Origin>,
}

impl Services {
    pub(super) fn add(&mut self, draft: &ServiceDraft, vips: &Vips, findings: &mut Findings) {
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
            if address == draft.address.value || vips.holder(address).is_some() {
                let message = format!("{address} is a VIP; write the real server's own address");
                findings.add(&real_server.origin, message);
            }
        }
        let Some(holder) = holder(draft, vips, findings) else {
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

fn holder(draft: &ServiceDraft, vips: &Vips, findings: &mut Findings) -> Option<Holder> {
    let address = draft.address.value;
    let external = draft.external.as_ref().filter(|external| external.value);
    match (vips.holder(address), external) {
        (Some((instance, _)), None) => Some(Holder::Instance(instance.to_owned())),
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
            if vips.complete {
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
