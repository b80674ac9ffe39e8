//! Who is judged, and what the verdicts say of a service.

use std::collections::{BTreeSet, HashMap};

use lvs_proto::health::{Decision, Outcome, Share};

use super::pools::{Outcomes, PoolKey, keys_of};
use crate::config::{Configuration, Holder, Service, VirtualService};
use crate::health::{Health, Subject};

/// What is known of real servers.
pub(super) type Healths = HashMap<Subject, Health>;

/// The verdict on a real server.
#[cfg(test)]
pub(super) fn verdict(healths: &Healths, subject: &Subject) -> lvs_proto::health::Verdict {
    let health = healths.get(subject);
    health.map_or(lvs_proto::health::Verdict::Unknown, |health| health.verdict)
}

/// Every server of a service, once for each protocol that is judged.
pub(super) fn subjects(service: &Service) -> impl Iterator<Item = Subject> + '_ {
    service.protocols.iter().flat_map(move |protocol| {
        service.real_servers.iter().map(move |server| Subject {
            service: service.name.clone(),
            protocol: *protocol,
            real_server: server.key,
        })
    })
}

/// Every server of every service, as [`subjects`].
pub(super) fn all_subjects(configuration: &Configuration) -> impl Iterator<Item = Subject> + '_ {
    configuration.services.iter().flat_map(subjects)
}

/// Whether a service has its quorum in each of its pools; `None` while that isn't known.
pub(super) fn quorum(service: &Service, outcomes: &Outcomes) -> Option<bool> {
    let mut known = true;
    for key in keys_of(service) {
        match outcomes.get(&key).and_then(|outcome| outcome.quorum) {
            Some(true) => {}
            Some(false) => return Some(false),
            None => known = false,
        }
    }
    known.then_some(true)
}

/// Why an instance's services can't be served. A director that took over nevertheless would serve
/// worse than the one that works.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Obstacle {
    #[error("service {service} has a server without a verdict")]
    NoVerdict { service: String },
    #[error("service {service} has {} for {of}{}", servers(*.healthy), quorum_words(*.needed))]
    NoQuorum {
        service: String,
        of: String,
        healthy: usize,
        needed: usize,
    },
    #[error("the kernel has refused a part of service {service}")]
    Refused { service: String },
}

fn servers(healthy: usize) -> String {
    match healthy {
        0 => "no healthy server".to_owned(),
        1 => "one healthy server".to_owned(),
        number => format!("{number} healthy servers"),
    }
}

fn quorum_words(needed: usize) -> String {
    if needed > 1 {
        format!(", and its quorum takes {needed}")
    } else {
        String::new()
    }
}

/// The first obstacle that an instance meets, if any; `refused` are the services that the kernel
/// didn't take as asked.
pub(super) fn obstacle(
    configuration: &Configuration,
    instance: &str,
    outcomes: &Outcomes,
    refused: &BTreeSet<String>,
) -> Option<Obstacle> {
    let held = |service: &&Service| service.instances().any(|name| name == instance);
    let services = configuration.services.iter().filter(held);
    let mut obstacles = services.clone().flat_map(|service| {
        let pools = pools_of(service, instance);
        pools
            .into_iter()
            .filter_map(|key| obstacle_of(service, &key, outcomes))
    });
    let judged = obstacles.next();
    judged.or_else(|| {
        let mut services = services.map(|service| &service.name);
        let service = services.find(|name| refused.contains(*name))?.clone();
        Some(Obstacle::Refused { service })
    })
}

/// Those that are for addresses of an instance.
fn pools_of(service: &Service, instance: &str) -> BTreeSet<PoolKey> {
    let held = |one: &&VirtualService| one.holder == Holder::Instance(instance.to_owned());
    let virtual_services = service.virtual_services.iter().filter(held);
    virtual_services
        .map(|one| PoolKey::of(service, one.key))
        .collect()
}

fn obstacle_of(service: &Service, key: &PoolKey, outcomes: &Outcomes) -> Option<Obstacle> {
    let name = service.name.clone();
    let outcome = outcomes.get(key);
    let is_unknown = |outcome: &&Outcome<_>| {
        let mut servers = outcome.servers.values();
        outcome.quorum.is_none() || servers.any(|one: &Decision| one.share == Share::AsFound)
    };
    let Some(outcome) = outcome.filter(|outcome| !is_unknown(outcome)) else {
        return Some(Obstacle::NoVerdict { service: name });
    };
    (outcome.quorum == Some(false)).then(|| Obstacle::NoQuorum {
        service: name,
        of: key.words(service),
        healthy: outcome.healthy,
        needed: outcome.needed,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use lvs_proto::health::Verdict;
    use lvs_proto::ipvs::Protocol;

    use super::*;
    use crate::config::RealServerKey;
    use crate::engine::pools::tests::outcomes;
    use crate::engine::tests::configuration;

    /// A service with two servers and two protocols, of an instance.
    pub(in crate::engine) const FILE: &str = "
vrrp:
  - { name: dns, interface: eth2, virtual_router_id: 50, priority: 100, addresses: [192.168.56.185/24] }
services:
  - name: resolver
    address: 192.168.56.185
    port: 53
    protocols: [udp, tcp]
    check: { dns: { name: www.abc.local }, path: false }
    real_servers:
      - { address: 192.168.56.183, weight: 3 }
      - { address: 192.168.56.184 }
";

    /// One of its servers.
    pub(in crate::engine) fn subject(protocol: Protocol, last_octet: u8) -> Subject {
        Subject {
            service: "resolver".into(),
            protocol,
            real_server: RealServerKey {
                address: [192, 168, 56, last_octet].into(),
                port: None,
            },
        }
    }

    #[test]
    fn an_instance_is_ready_with_a_verdict_on_all_and_a_server_for_each_protocol() {
        let configuration = configuration(FILE);
        let mut healths = HashMap::new();
        let mut say = |protocol, last_octet, verdict: Verdict| {
            healths.insert(subject(protocol, last_octet), verdict.into());
            let outcomes = outcomes(&configuration, &healths);
            obstacle(&configuration, "dns", &outcomes, &BTreeSet::new())
        };
        let unknown = "service resolver has a server without a verdict";
        let nobody = "service resolver has no healthy server for tcp";
        for (protocol, last_octet, verdict, expected) in [
            (Protocol::Udp, 183, Verdict::Healthy, Some(unknown)),
            (Protocol::Udp, 184, Verdict::Unhealthy, Some(unknown)),
            (Protocol::Tcp, 183, Verdict::Unhealthy, Some(unknown)),
            (Protocol::Tcp, 184, Verdict::Unhealthy, Some(nobody)),
            (Protocol::Tcp, 184, Verdict::Healthy, None),
        ] {
            let obstacle = say(protocol, last_octet, verdict).map(|obstacle| obstacle.to_string());
            assert_eq!(obstacle.as_deref(), expected);
        }
        let outcomes = outcomes(&configuration, &healths);
        let refused = |service: &str| {
            let obstacle = obstacle(
                &configuration,
                "dns",
                &outcomes,
                &[service.to_owned()].into(),
            );
            obstacle.map(|obstacle| obstacle.to_string())
        };
        let part = "the kernel has refused a part of service resolver";
        assert_eq!(refused("resolver").as_deref(), Some(part));
        assert_eq!(refused("web"), None);
        let none = BTreeSet::new();
        assert_eq!(
            obstacle(&configuration, "other", &Outcomes::new(), &none),
            None
        );
    }
}
