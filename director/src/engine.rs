//! Where role, verdicts and configuration meet and become desired state.
//!
//! The engine holds no sockets and decides nothing about packets: it hears of verdicts, says what
//! the forwarding table should be, and tells the VRRP thread when this machine is ready to serve.
//! Called by [`crate::worker`] only.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use lvs_proto::health::Verdict;
use lvs_proto::ipvs::{self, Destination, DestinationKey, Protocol, ServiceFlags, ServiceKey};
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::AbortHandle;
use tracing::{info, warn};

use crate::config::{Check, Configuration, Dataplane, Holder, Service};
use crate::dataplane::{
    Desired, DesiredDestination, DesiredService, Presence, TableEvent, TableThread,
};
use crate::health::{self, Subject};
use crate::metrics::Metrics;
use crate::tracking;
use crate::vrrp::{self, VrrpThread};

/// The state of the worker.
pub struct Engine {
    configuration: Configuration,
    verdicts: HashMap<Subject, Verdict>,
    checkers: HashMap<Subject, Checker>,
    started_checkers: u64,
    /// Instances whose services can be served.
    ready: HashSet<String>,
    /// The table that was asked for last, and the last one that the kernel has.
    asked: u64,
    applied: u64,
    vrrp: VrrpThread,
    table: TableThread,
    metrics: Arc<Metrics>,
    health_events: UnboundedSender<health::Event>,
}

struct Checker {
    number: u64,
    check: Check,
    port: u16,
    handle: AbortHandle,
}

impl Engine {
    /// Starts the checkers and asks for the first table.
    pub fn start(
        configuration: Configuration,
        vrrp: VrrpThread,
        table: TableThread,
        metrics: Arc<Metrics>,
        health_events: UnboundedSender<health::Event>,
    ) -> Self {
        let mut engine = Self {
            configuration,
            verdicts: HashMap::new(),
            checkers: HashMap::new(),
            started_checkers: 0,
            ready: HashSet::new(),
            asked: 0,
            applied: 0,
            vrrp,
            table,
            metrics,
            health_events,
        };
        engine.arrange_checkers();
        engine.ask_for_table();
        engine.update_readiness();
        engine
    }

    /// Goes on with another configuration. Servers that stay keep their verdicts, instances that
    /// stay their state.
    ///
    /// # Errors
    /// When an instance can't start; nothing has changed then.
    pub async fn configure(
        &mut self,
        configuration: Configuration,
    ) -> Result<(), vrrp::SpawnError> {
        self.vrrp.configure(configuration.instances.clone()).await?;
        let previous = std::mem::replace(&mut self.configuration, configuration);
        for instance in &previous.instances {
            if !self
                .configuration
                .instances
                .iter()
                .any(|one| one.name == instance.name)
            {
                self.metrics.forget_vrrp(&instance.name);
            }
        }
        // A virtual router that was opened anew has to hear it again.
        let instances = &self.configuration.instances;
        self.ready
            .retain(|name| instances.iter().any(|instance| instance.name == *name));
        for name in &self.ready {
            self.vrrp.set_ready(name, true);
        }
        self.arrange_checkers();
        self.ask_for_table();
        self.update_readiness();
        self.metrics.reloaded(true);
        Ok(())
    }

    /// Counts a configuration that was refused; nothing else changes.
    pub fn refuse(&mut self) {
        self.metrics.reloaded(false);
    }

    /// A verdict has changed.
    pub fn hear_health(&mut self, event: health::Event) {
        // A checker that was ended may have had a last word.
        let running = self.checkers.get(&event.subject);
        if running.is_some_and(|checker| checker.number == event.checker) {
            self.verdicts.insert(event.subject, event.verdict);
            self.ask_for_table();
            self.update_readiness();
        }
    }

    /// The kernel has a table that was asked for.
    pub fn hear_table(&mut self, event: TableEvent) {
        let TableEvent::Applied { generation } = event;
        self.applied = generation;
        self.update_readiness();
    }

    /// Something that an instance tracks has changed what it's worth.
    pub fn hear_tracking(&mut self, event: &tracking::Event) {
        let fault = event.fault.is_some();
        self.vrrp.track(&event.instance, event.priority, fault);
    }

    /// The VRRP thread, for status and handover.
    pub fn vrrp(&self) -> &VrrpThread {
        &self.vrrp
    }

    /// The names of the instances.
    pub fn instances(&self) -> impl Iterator<Item = &str> {
        let instances = self.configuration.instances.iter();
        instances.map(|instance| instance.name.as_str())
    }

    /// Whether each service can be served, as far as that is known.
    pub fn quorums(&self) -> Vec<(&str, bool)> {
        let services = self.configuration.services.iter();
        services
            .filter_map(|service| Some((service.name.as_str(), quorum(service, &self.verdicts)?)))
            .collect()
    }

    /// Begins to leave the LAN, so that the peer takes over while everything goes on here; a second
    /// call ends that at once.
    pub fn begin_stop(&self) {
        self.vrrp.begin_stop();
    }

    /// Takes the table away, after the LAN was left.
    pub fn stop(self) {
        self.vrrp.join();
        for checker in self.checkers.into_values() {
            checker.handle.abort();
        }
        self.table.stop();
    }

    fn arrange_checkers(&mut self) {
        let wanted: Vec<_> = self
            .configuration
            .services
            .iter()
            .flat_map(subjects)
            .collect();
        let kept: HashSet<&Subject> = wanted.iter().map(|(subject, ..)| subject).collect();
        let forgotten: Vec<Subject> = self
            .verdicts
            .keys()
            .filter(|subject| !kept.contains(subject))
            .cloned()
            .collect();
        for subject in forgotten {
            self.verdicts.remove(&subject);
            self.end_checker(&subject);
        }
        for (subject, port, check) in wanted {
            let Some(check) = check else {
                // Nobody asks, so nobody doubts.
                self.end_checker(&subject);
                self.verdicts.insert(subject, Verdict::Healthy);
                continue;
            };
            let same = |running: &Checker| running.check == check && running.port == port;
            if self.checkers.get(&subject).is_some_and(same) {
                continue;
            }
            self.end_checker(&subject);
            // Another check knows nothing of the server; until it does, the table stays as it is.
            self.verdicts.insert(subject.clone(), Verdict::Unknown);
            let real_server = subject.real_server.to_string();
            let metrics = self
                .metrics
                .probe(&subject.service, subject.protocol, &real_server);
            metrics.set_verdict(Verdict::Unknown);
            self.started_checkers += 1;
            let number = self.started_checkers;
            let handle = health::spawn(
                number,
                subject.clone(),
                port,
                check.clone(),
                metrics,
                self.health_events.clone(),
            );
            self.checkers.insert(
                subject,
                Checker {
                    number,
                    check,
                    port,
                    handle,
                },
            );
        }
    }

    fn end_checker(&mut self, subject: &Subject) {
        if let Some(checker) = self.checkers.remove(subject) {
            checker.handle.abort();
            let real_server = subject.real_server.to_string();
            self.metrics
                .forget_probe(&subject.service, subject.protocol, &real_server);
        }
    }

    fn ask_for_table(&mut self) {
        self.asked += 1;
        self.table
            .set(self.asked, desired(&self.configuration, &self.verdicts));
    }

    /// Tells the VRRP thread which instances could serve, where that has changed.
    fn update_readiness(&mut self) {
        let table_follows = self.applied == self.asked;
        for instance in &self.configuration.instances {
            let name = &instance.name;
            let was_ready = self.ready.contains(name);
            let obstacle = obstacle(&self.configuration, name, &self.verdicts);
            match obstacle {
                None if !was_ready && table_follows => {
                    info!(instance = %name, "ready to serve");
                    self.ready.insert(name.clone());
                    self.vrrp.set_ready(name, true);
                }
                // A server that was added a moment ago takes nothing away from the others.
                Some(obstacle @ Obstacle::NoServer { .. }) if was_ready => {
                    warn!(instance = %name, "not ready to serve: {obstacle}");
                    self.ready.remove(name);
                    self.vrrp.set_ready(name, false);
                }
                _ => {}
            }
        }
    }
}

/// Why an instance's services can't be served. A director that took over nevertheless would serve
/// worse than the one that works.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Obstacle {
    #[error("service {service} has a server without a verdict")]
    NoVerdict { service: String },
    #[error("service {service} has no healthy server for {protocol}")]
    NoServer { service: String, protocol: Protocol },
}

fn obstacle(
    configuration: &Configuration,
    instance: &str,
    verdicts: &HashMap<Subject, Verdict>,
) -> Option<Obstacle> {
    let held =
        |service: &&Service| matches!(&service.holder, Holder::Instance(name) if name == instance);
    let services = configuration.services.iter().filter(held);
    let halves = services.flat_map(|service| {
        service
            .protocols
            .iter()
            .map(move |protocol| (service, *protocol))
    });
    let mut obstacles = halves.filter_map(|(service, protocol)| {
        let servers = subjects(service).map(|(subject, ..)| subject);
        let verdicts: Vec<Verdict> = servers
            .filter(|subject| subject.protocol == protocol)
            .map(|subject| verdicts.get(&subject).copied().unwrap_or(Verdict::Unknown))
            .collect();
        let service = service.name.clone();
        if verdicts.contains(&Verdict::Unknown) {
            Some(Obstacle::NoVerdict { service })
        } else if !verdicts.contains(&Verdict::Healthy) {
            Some(Obstacle::NoServer { service, protocol })
        } else {
            None
        }
    });
    obstacles.next()
}

/// Whether a service has a healthy server for each of its protocols; `None` while that isn't known.
fn quorum(service: &Service, verdicts: &HashMap<Subject, Verdict>) -> Option<bool> {
    let mut known = true;
    for protocol in &service.protocols {
        let verdicts: Vec<Verdict> = subjects(service)
            .filter(|(subject, ..)| subject.protocol == *protocol)
            .map(|(subject, ..)| verdicts.get(&subject).copied().unwrap_or(Verdict::Unknown))
            .collect();
        if verdicts.contains(&Verdict::Healthy) {
            continue;
        }
        if !verdicts.contains(&Verdict::Unknown) {
            return Some(false);
        }
        known = false;
    }
    known.then_some(true)
}

/// Every server of a service, once for each protocol.
fn subjects(service: &Service) -> impl Iterator<Item = (Subject, u16, Option<Check>)> + '_ {
    service.protocols.iter().flat_map(move |protocol| {
        service.real_servers.iter().map(move |server| {
            let subject = Subject {
                service: service.name.clone(),
                protocol: *protocol,
                real_server: server.address,
            };
            (subject, service.port.get(), service.check.clone())
        })
    })
}

/// What the forwarding table should be.
fn desired(configuration: &Configuration, verdicts: &HashMap<Subject, Verdict>) -> Desired {
    let mut desired = Desired::default();
    if configuration.dataplane == Dataplane::None {
        return desired;
    }
    for service in &configuration.services {
        for protocol in &service.protocols {
            let wanted = desired_service(service, *protocol, verdicts);
            desired.services.insert(wanted.service.key, wanted);
        }
    }
    desired
}

fn desired_service(
    service: &Service,
    protocol: Protocol,
    verdicts: &HashMap<Subject, Verdict>,
) -> DesiredService {
    let port = service.port.get();
    let one_packet = protocol == Protocol::Udp && service.one_packet_scheduling.enabled;
    let destinations = service.real_servers.iter().map(|server| {
        let key = DestinationKey {
            address: IpAddr::from(server.address),
            port,
        };
        let subject = Subject {
            service: service.name.clone(),
            protocol,
            real_server: server.address,
        };
        let presence = match verdicts.get(&subject) {
            Some(Verdict::Healthy) => Presence::Present,
            Some(Verdict::Unhealthy) => Presence::Absent,
            Some(Verdict::Unknown) | None => Presence::AsFound,
        };
        let destination = Destination {
            key,
            forwarding: service.forwarding,
            weight: u32::from(server.weight),
            upper_threshold: 0,
            lower_threshold: 0,
        };
        (
            key,
            DesiredDestination {
                destination,
                presence,
            },
        )
    });
    DesiredService {
        name: service.name.clone(),
        service: ipvs::Service {
            key: ServiceKey {
                address: IpAddr::from(service.address),
                port,
                protocol,
            },
            scheduler: Some(service.scheduler),
            flags: if one_packet {
                ServiceFlags::ONE_PACKET
            } else {
                ServiceFlags::NONE
            },
            persistence: None,
        },
        destinations: destinations.collect(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write;

    use super::*;

    fn configuration(extra: &str) -> Configuration {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let text = "
services:
  - name: resolver
    address: 192.168.56.185
    external: true
    port: 53
    protocols: [udp, tcp]
    check: { dns: { name: www.abc.local } }
    real_servers:
      - { address: 192.168.56.183, weight: 3 }
      - { address: 192.168.56.184 }
";
        write!(file, "{text}{extra}").unwrap();
        crate::config::load(file.path())
            .unwrap()
            .for_node("ds1")
            .unwrap()
    }

    fn subject(protocol: Protocol, last_octet: u8) -> Subject {
        Subject {
            service: "resolver".into(),
            protocol,
            real_server: [192, 168, 56, last_octet].into(),
        }
    }

    #[test]
    fn verdicts_decide_who_is_in_each_protocol_for_itself() {
        let verdicts = HashMap::from([
            (subject(Protocol::Udp, 183), Verdict::Healthy),
            (subject(Protocol::Udp, 184), Verdict::Unhealthy),
            (subject(Protocol::Tcp, 183), Verdict::Unknown),
        ]);
        let desired = desired(&configuration(""), &verdicts);
        let mut seen = Vec::new();
        for (key, service) in &desired.services {
            let one_packet = service.service.flags.contains(ServiceFlags::ONE_PACKET);
            for wanted in service.destinations.values() {
                let weight = wanted.destination.weight;
                seen.push((key.protocol, one_packet, weight, wanted.presence));
            }
        }
        assert_eq!(
            seen,
            [
                (Protocol::Udp, true, 3, Presence::Present),
                (Protocol::Udp, true, 1, Presence::Absent),
                (Protocol::Tcp, false, 3, Presence::AsFound),
                (Protocol::Tcp, false, 1, Presence::AsFound),
            ]
        );
    }

    #[test]
    fn an_instance_is_ready_with_a_verdict_on_all_and_a_server_for_each_protocol() {
        let mut configuration = configuration("");
        configuration.services[0].holder = Holder::Instance("dns".into());
        let mut verdicts = HashMap::new();
        let mut say = |protocol, last_octet, verdict| {
            verdicts.insert(subject(protocol, last_octet), verdict);
            obstacle(&configuration, "dns", &verdicts)
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
        assert_eq!(obstacle(&configuration, "other", &HashMap::new()), None);
    }

    #[test]
    fn without_a_data_plane_nothing_is_wanted() {
        let desired = desired(&configuration("dataplane: none\n"), &HashMap::new());
        assert_eq!(desired, Desired::default());
    }
}
