//! The kernel's counters under the operator's names.

use lvs_proto::ipvs::{DestinationKey, ServiceKey, Statistics};

use super::reconcile::ServiceCounters;
use super::table::DesiredService;
use crate::metrics::{Figures, Part, Standing, Subject, Traffic};

/// What a desired service and its servers are in metrics.
pub(super) fn subjects(service: &DesiredService) -> impl Iterator<Item = Subject> + '_ {
    let key = service.service.key;
    let servers = service.destinations.keys();
    let servers = servers.map(move |server| label(key, *server));
    std::iter::once(String::new())
        .chain(servers)
        .map(move |server| subject(&service.name, key, server))
}

/// What the kernel has counted of a service and its servers.
pub(super) fn figures(counters: &ServiceCounters) -> impl Iterator<Item = Figures> + '_ {
    let ServiceCounters {
        name,
        key,
        statistics,
        destinations,
    } = counters;
    let service = Figures {
        subject: subject(name, *key, String::new()),
        part: Part {
            service: *key,
            server: None,
        },
        traffic: traffic(statistics),
        standing: None,
    };
    let servers = destinations.iter().map(move |found| Figures {
        subject: subject(name, *key, label(*key, found.destination.key)),
        part: Part {
            service: *key,
            server: Some(found.destination.key),
        },
        traffic: traffic(&found.statistics),
        standing: Some(Standing {
            weight: found.destination.weight,
            active_connections: found.active_connections,
            inactive_connections: found.inactive_connections,
        }),
    });
    std::iter::once(service).chain(servers)
}

fn subject(name: &str, key: ServiceKey, real_server: String) -> Subject {
    Subject {
        service: name.to_owned(),
        protocol: key
            .protocol()
            .map_or_else(|| "any".to_owned(), |protocol| protocol.to_string()),
        real_server,
    }
}

/// As the operator names a server: with a port only where it differs from the service's.
pub(crate) fn label(service: ServiceKey, server: DestinationKey) -> String {
    let port = match service {
        ServiceKey::Socket { port, .. } => port,
        ServiceKey::FirewallMark { .. } => 0,
    };
    if server.port == port {
        server.address.to_string()
    } else {
        server.to_string()
    }
}

fn traffic(statistics: &Statistics) -> Traffic {
    Traffic {
        connections: statistics.connections,
        packets: statistics.incoming_packets,
        bytes: statistics.incoming_bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake;
    use super::*;

    #[test]
    fn a_server_has_a_port_in_its_label_where_it_has_one_of_its_own() {
        let service = fake::service_key(0);
        let same = fake::destination(0, 1).key;
        assert_eq!(label(service, same), "192.0.2.10");
        let other = DestinationKey { port: 5353, ..same };
        assert_eq!(label(service, other), "192.0.2.10:5353");
    }
}
