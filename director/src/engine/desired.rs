//! What the forwarding table should be: a pure function of configuration, verdicts and roles.

use std::collections::BTreeSet;
use std::num::NonZeroU16;

use lvs_proto::health::Share;
use lvs_proto::ipvs::{
    self, Daemon, DaemonRole, Destination, DestinationKey, ServiceFlags, ServiceKey,
};
use lvs_proto::vrrp::Ownership;

use super::paths::marks;
use super::pools::{Outcomes, PoolKey};
use crate::config::{
    Configuration, Dataplane, Holder, RealServer, Service, Synchronization, VirtualService,
};
use crate::dataplane::{Desired, DesiredDestination, DesiredService, Presence, Standing};
use crate::vrrp::Ownerships;

/// Real servers in the table whose check has still to pass.
pub type Unjudged = BTreeSet<(ServiceKey, DestinationKey)>;

/// What the forwarding table should be. A server without a verdict stays as it is found, and so does
/// a service while nothing is known of its instance.
pub(super) fn desired(
    configuration: &Configuration,
    outcomes: &Outcomes,
    ownerships: &Ownerships,
) -> Desired {
    if configuration.dataplane == Dataplane::None {
        return Desired::default();
    }
    let services = configuration.services.iter().flat_map(|service| {
        let virtual_services = service.virtual_services.iter();
        virtual_services.map(move |one| (one.key, service, one))
    });
    let ipvs = &configuration.ipvs;
    let services = services.map(|(key, service, one)| {
        let standing = standing(&one.holder, ownerships);
        (key, desired_service(service, one, outcomes, standing))
    });
    Desired {
        services: services.chain(marks(configuration).services()).collect(),
        further_settings: BTreeSet::new(),
        program: ipvs.program,
        exclusive: ipvs.exclusive,
        timeouts: ipvs.timeouts,
        synchronization: ipvs
            .synchronization
            .as_ref()
            .map(|synchronization| daemon(synchronization, ownerships)),
    }
}

/// Which real servers have no verdict yet.
pub(super) fn unjudged(desired: &Desired) -> Unjudged {
    let services = desired.services.iter();
    services
        .flat_map(|(service, wanted)| {
            let destinations = wanted.destinations.iter();
            destinations
                .filter(|(_, wanted)| wanted.presence == Presence::AsFound)
                .map(|(destination, _)| (*service, *destination))
        })
        .collect()
}

fn standing(holder: &Holder, ownerships: &Ownerships) -> Standing {
    match holder {
        Holder::External => Standing::External,
        Holder::Instance(name) => match ownerships.get(name) {
            Some(Ownership::Held) => Standing::Held,
            Some(Ownership::HandingOver) => Standing::HandingOver,
            Some(Ownership::Absent) => Standing::NotHeld,
            Some(Ownership::Adopting) | None => Standing::Adopting,
        },
    }
}

/// It tells of connections where they are made, and listens elsewhere.
fn daemon(synchronization: &Synchronization, ownerships: &Ownerships) -> Daemon {
    let role = match ownerships.get(&synchronization.instance) {
        Some(Ownership::Held | Ownership::HandingOver) => DaemonRole::Master,
        Some(Ownership::Absent | Ownership::Adopting) | None => DaemonRole::Backup,
    };
    synchronization.daemon_in(role)
}

fn desired_service(
    service: &Service,
    virtual_service: &VirtualService,
    outcomes: &Outcomes,
    standing: Standing,
) -> DesiredService {
    let key = virtual_service.key;
    let family = key.family();
    let port = match key {
        ServiceKey::Socket { port, .. } => port,
        ServiceKey::FirewallMark { .. } => 0,
    };
    let one_packet = if service.has_one_packet_scheduling(&key) {
        ServiceFlags::ONE_PACKET
    } else {
        ServiceFlags::NONE
    };
    let outcome = outcomes.get(&PoolKey::of(service, key));
    // Weights count beside each other only: as long as one is as found, the others are.
    let is_settled = outcome.is_some_and(|outcome| {
        let mut servers = outcome.servers.values();
        servers.all(|one| one.share != Share::AsFound)
    });
    let destination = |server: &RealServer, weight: u16| Destination {
        key: DestinationKey {
            address: server.key.address,
            port: server.key.port.map_or(port, NonZeroU16::get),
        },
        forwarding: server.forwarding,
        weight: u32::from(weight),
        upper_threshold: server.upper_threshold,
        lower_threshold: server.lower_threshold,
    };
    let destinations = service.real_servers_of(family).map(|server| {
        let decision = outcome.and_then(|outcome| outcome.servers.get(&server.key));
        let (share, weight) = decision.map_or((Share::AsFound, server.weight), |decision| {
            (decision.share, decision.weight)
        });
        DesiredDestination {
            destination: destination(server, weight),
            presence: presence(share),
            weight_as_found: !is_settled && weight > 0,
        }
    });
    let sorry_server = service.sorry_server_of(family).map(|server| {
        let share = outcome.map_or(Share::AsFound, |outcome| outcome.sorry);
        DesiredDestination {
            destination: destination(server, server.weight),
            presence: presence(share),
            weight_as_found: false,
        }
    });
    let destinations = destinations.chain(sorry_server);
    DesiredService {
        name: service.name.clone(),
        service: ipvs::Service {
            key,
            scheduler: Some(service.scheduler),
            flags: service.scheduler_flags | one_packet,
            persistence: service.persistence.map(|kept| kept.of(family)),
        },
        destinations: destinations
            .map(|wanted| (wanted.destination.key, wanted))
            .collect(),
        standing,
    }
}

fn presence(share: Share) -> Presence {
    match share {
        Share::Present => Presence::Present,
        Share::Absent => Presence::Absent,
        Share::AsFound => Presence::AsFound,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use lvs_proto::health::Verdict;
    use lvs_proto::ipvs::Protocol;

    use super::*;
    use crate::config::Program;
    use crate::engine::judged::Healths;
    use crate::engine::judged::tests::{FILE, subject};
    use crate::engine::pools::tests::outcomes;
    use crate::engine::tests::configuration;

    fn ownerships(ownership: Ownership) -> Ownerships {
        Ownerships::from([("dns".to_owned(), ownership)])
    }

    #[test]
    fn verdicts_decide_who_is_in_each_protocol_for_itself() {
        let healths = Healths::from([
            (subject(Protocol::Udp, 183), Verdict::Healthy.into()),
            (subject(Protocol::Udp, 184), Verdict::Unhealthy.into()),
            (subject(Protocol::Tcp, 183), Verdict::Unknown.into()),
        ]);
        let configuration = configuration(FILE);
        let desired = desired(
            &configuration,
            &outcomes(&configuration, &healths),
            &ownerships(Ownership::Absent),
        );
        let seen = |desired: &Desired| {
            let mut seen = Vec::new();
            for (key, service) in &desired.services {
                let one_packet = service.service.flags.contains(ServiceFlags::ONE_PACKET);
                for wanted in service.destinations.values() {
                    let weight = wanted.destination.weight;
                    seen.push((key.protocol().unwrap(), one_packet, weight, wanted.presence));
                }
            }
            seen
        };
        let (udp, tcp) = (Protocol::Udp, Protocol::Tcp);
        let expected = [
            (udp, true, 3, Presence::Present),
            (udp, true, 1, Presence::Absent),
            (tcp, false, 3, Presence::AsFound),
            (tcp, false, 1, Presence::AsFound),
        ];
        assert_eq!(seen(&desired), expected);

        let unjudged = unjudged(&desired);
        let of_tcp = |(key, _): &(ServiceKey, DestinationKey)| key.protocol() == Some(tcp);
        assert_eq!(unjudged.len(), 2);
        assert!(unjudged.iter().all(of_tcp), "{unjudged:?}");
    }

    #[test]
    fn a_service_stands_as_its_instance_does_with_its_addresses() {
        let own = configuration(FILE);
        for (ownership, expected) in [
            (Some(Ownership::Held), Standing::Held),
            (Some(Ownership::HandingOver), Standing::HandingOver),
            (Some(Ownership::Absent), Standing::NotHeld),
            (Some(Ownership::Adopting), Standing::Adopting),
            // Nothing was told yet: what is found stays.
            (None, Standing::Adopting),
        ] {
            let ownerships = ownership.map(ownerships).unwrap_or_default();
            let desired = desired(&own, &Outcomes::new(), &ownerships);
            let standings: Vec<Standing> = desired
                .services
                .values()
                .map(|service| service.standing)
                .collect();
            assert_eq!(standings, [expected; 2], "{ownership:?}");
        }
        let external = FILE.replace("    port: 53", "    external: true\n    port: 53");
        let external = external.replace("192.168.56.185\n", "192.168.56.186\n");
        let desired = desired(
            &configuration(&external),
            &Outcomes::new(),
            &ownerships(Ownership::Absent),
        );
        let mut services = desired.services.values();
        assert!(services.all(|service| service.standing == Standing::External));
    }

    #[test]
    fn the_synchronization_daemon_tells_where_the_addresses_are() {
        let mut configuration = configuration(FILE);
        let daemon = Daemon {
            role: DaemonRole::Backup,
            interface: "eth1".to_owned(),
            identifier: 50,
            maximum_length: None,
            group: None,
            port: None,
            time_to_live: None,
        };
        configuration.ipvs.synchronization = Some(Synchronization {
            instance: "dns".to_owned(),
            daemon: daemon.clone(),
        });
        for (ownership, role) in [
            (Ownership::Held, DaemonRole::Master),
            (Ownership::HandingOver, DaemonRole::Master),
            (Ownership::Adopting, DaemonRole::Backup),
            (Ownership::Absent, DaemonRole::Backup),
        ] {
            let desired = desired(&configuration, &Outcomes::new(), &ownerships(ownership));
            let expected = Daemon {
                role,
                ..daemon.clone()
            };
            assert_eq!(desired.synchronization, Some(expected), "{ownership:?}");
        }
    }

    #[test]
    fn the_settings_of_the_whole_table_are_passed_on() {
        let mut configuration = configuration(FILE);
        configuration.ipvs.program = Program::WhenActive;
        configuration.ipvs.exclusive = true;
        configuration.ipvs.timeouts.udp = 60;
        let of = |configuration: &Configuration| {
            desired(configuration, &Outcomes::new(), &Ownerships::new())
        };
        let all = of(&configuration);
        assert_eq!(all.program, Program::WhenActive);
        assert!(all.exclusive);
        assert_eq!(all.timeouts, configuration.ipvs.timeouts);
        assert_eq!(all.synchronization, None);
        configuration.dataplane = Dataplane::None;
        assert_eq!(of(&configuration), Desired::default());
    }
}
