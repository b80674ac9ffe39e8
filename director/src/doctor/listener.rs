//! Who else here listens where the director or its clients are to be heard.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use lvs_proto::ipvs::Protocol;
use lvs_system::listeners::{self, Listener, Transport};
use lvs_system::netlink::{self, Connection};

use super::Report;
use super::machine::Machine;
use crate::config::Dataplane;

pub(super) fn examine(machine: &Machine<'_>, report: &mut Report) {
    let mut sockets = match Connection::open(netlink::Protocol::Sockets) {
        Ok(sockets) => sockets,
        Err(error) => return report.unknown("listener", "", error.to_string(), None),
    };
    of_vips(machine, &mut sockets, report);
    of_metrics(machine, &mut sockets, report);
}

/// Queries that come before the kernel has the table, or after it was lost, would be answered here.
fn of_vips(machine: &Machine<'_>, sockets: &mut Connection, report: &mut Report) {
    let configuration = machine.configuration();
    if configuration.dataplane != Dataplane::Ipvs {
        return;
    }
    let mut said = BTreeSet::new();
    let mut by_port: BTreeMap<u16, Vec<Listener>> = BTreeMap::new();
    for service in &configuration.services {
        // Where this machine is a real server itself, that is as it should be.
        let mut servers = service.real_servers.iter();
        if servers.any(|server| machine.is_own(server.key.address)) {
            continue;
        }
        for (address, protocol, port) in Machine::questions(service) {
            let Some(transport) = transport(protocol) else {
                continue;
            };
            if port == 0 || !said.insert((address, protocol, port)) {
                continue;
            }
            let found = match by_port.entry(port) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(place) => match listeners::list(sockets, port) {
                    Ok(found) => place.insert(found),
                    Err(error) => return report.unknown("listener", "", error.to_string(), None),
                },
            };
            let subject = format!("{address} port {port} {protocol}");
            let takes = |one: &&Listener| one.takes(address) && one.transport == transport;
            match found.iter().find(takes) {
                Some(one) => report.warning(
                    "listener",
                    subject,
                    format!(
                        "a program of this machine listens on {}: it answers in service {}'s name for a \
                         moment at each failover, and as long as the table lacks the service",
                        one.address, service.name
                    ),
                    format!(
                        "`ss -lntup sport = :{port}` names it; bind it to the addresses that it is for \
                         (systemd-resolved: `DNSStubListener=`)"
                    ),
                ),
                None => report.ok("listener", subject, "nobody here listens"),
            }
        }
    }
}

/// The kernel isn't asked for listeners of SCTP.
fn transport(protocol: Protocol) -> Option<Transport> {
    match protocol {
        Protocol::Udp => Some(Transport::Udp),
        Protocol::Tcp => Some(Transport::Tcp),
        Protocol::Sctp => None,
    }
}

/// Before the director is started.
fn of_metrics(machine: &Machine<'_>, sockets: &mut Connection, report: &mut Report) {
    let Some(metrics) = &machine.configuration().metrics else {
        return;
    };
    if machine.patient.running.is_some() {
        return;
    }
    let listen = metrics.listen;
    let found = match listeners::list(sockets, listen.port()) {
        Ok(found) => found,
        Err(error) => return report.unknown("listener", listen, error.to_string(), None),
    };
    let is_in_the_way = |one: &&Listener| {
        let wanted = listen.ip();
        one.transport == Transport::Tcp && (one.takes(wanted) || wanted.is_unspecified())
    };
    match found.iter().find(is_in_the_way) {
        Some(one) => report.error(
            "listener",
            listen,
            format!(
                "another program has port {} of {}, where metrics are to be (`metrics: {{ listen }}`)",
                listen.port(),
                one.address
            ),
            format!("`ss -lntp sport = :{}` names it; end it, or choose another port", listen.port()),
        ),
        None => report.ok("listener", listen, "is free for metrics"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;

    #[test]
    fn a_listener_is_looked_for_by_the_transport_that_is_asked() {
        let text = "services: [{ name: a, address: 192.0.2.1, port: 53, protocols: [udp, tcp, sctp], external: true, \
                    check: none, real_servers: [{ address: 192.0.2.2 }] }]";
        let file = config::parse(Path::new("d.yaml"), text);
        let file = file.unwrap_or_else(|errors| panic!("{errors}"));
        let services = file.outline("").unwrap().services;
        let questions = Machine::questions(&services[0]).into_iter();
        let found: Vec<_> = questions
            .map(|(_, protocol, _)| (protocol.to_string(), transport(protocol)))
            .collect();
        let expected = [
            ("udp".to_owned(), Some(Transport::Udp)),
            ("tcp".to_owned(), Some(Transport::Tcp)),
            ("sctp".to_owned(), None),
        ];
        assert_eq!(found, expected);
    }
}
