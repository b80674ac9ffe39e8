//! What the kernel counts, mirrored into Prometheus.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use prometheus::{IntCounter, IntCounterVec, IntGaugeVec, Registry};

use super::Registered;

/// What the kernel has counted of a service or a real server since it exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Connections scheduled; with one-packet scheduling, packets.
    pub connections: u64,
    /// Packets from clients.
    pub packets: u64,
    /// Bytes from clients.
    pub bytes: u64,
}

/// Whose traffic it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subject {
    /// The service's name.
    pub service: String,
    /// `udp` or `tcp`.
    pub protocol: String,
    /// The real server's address; empty for the service as a whole.
    pub real_server: String,
}

/// What the kernel says of one subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Whose traffic it is.
    pub subject: Subject,
    /// Since the kernel's object exists.
    pub traffic: Traffic,
    /// Of a real server.
    pub weight: Option<i64>,
}

/// Counters of services and of real servers.
///
/// Under direct routing the answers don't pass the director, so only what clients send is counted.
pub struct KernelCounters {
    services: Family,
    servers: Family,
    weight: IntGaugeVec,
    seen: Mutex<HashMap<Subject, Traffic>>,
}

struct Family {
    connections: IntCounterVec,
    packets: IntCounterVec,
    bytes: IntCounterVec,
}

impl KernelCounters {
    pub(super) fn register(registry: &Registry) -> Self {
        let register = Registered(registry);
        let family = |prefix: &str, whose: &str, labels: &[&str]| {
            Family {
            connections: register.counters(
                &format!("{prefix}_connections_total"),
                &format!("Connections that IPVS scheduled {whose}; packets where one-packet scheduling is on."),
                labels,
            ),
            packets: register.counters(
                &format!("{prefix}_incoming_packets_total"),
                &format!("Packets that IPVS forwarded {whose}."),
                labels,
            ),
            bytes: register.counters(
                &format!("{prefix}_incoming_bytes_total"),
                &format!("Bytes that IPVS forwarded {whose}."),
                labels,
            ),
        }
        };
        let server = &["service", "protocol", "real_server"];
        Self {
            services: family("director_service", "for a service", &["service", "protocol"]),
            servers: family("director_real_server", "to a real server", server),
            weight: register.gauges(
                "director_real_server_weight",
                "Weight of a real server in the kernel's table; absent when it is not in the table.",
                server,
            ),
            seen: Mutex::new(HashMap::new()),
        }
    }

    /// Takes the kernel's present figures, all of them. What is neither there nor `configured` is
    /// forgotten; what is only configured keeps its counters, so that rates are right when it
    /// returns.
    pub fn update(&self, present: &[Figures], configured: &HashSet<Subject>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let here: HashSet<&Subject> = present.iter().map(|figures| &figures.subject).collect();
        seen.retain(|subject, _| {
            if here.contains(subject) {
                return true;
            }
            // What was never shown needs no removing.
            let _ = self.weight.remove_label_values(&subject.labels());
            let stays = configured.contains(subject);
            if !stays {
                self.forget(subject);
            }
            stays
        });
        for Figures {
            subject,
            traffic,
            weight,
        } in present
        {
            let before = seen.insert(subject.clone(), *traffic).unwrap_or_default();
            // Less than before: the kernel made the object anew and counts from 0.
            let grown = |before: u64, now: u64| now.checked_sub(before).unwrap_or(now);
            let [connections, packets, bytes] = self.counters(subject);
            connections.inc_by(grown(before.connections, traffic.connections));
            packets.inc_by(grown(before.packets, traffic.packets));
            bytes.inc_by(grown(before.bytes, traffic.bytes));
            if let Some(weight) = weight {
                self.weight
                    .with_label_values(&subject.labels())
                    .set(*weight);
            }
        }
    }

    fn forget(&self, subject: &Subject) {
        let labels = subject.labels();
        let (family, labels) = self.family(subject, &labels);
        for counter in [&family.connections, &family.packets, &family.bytes] {
            let _ = counter.remove_label_values(labels);
        }
    }

    fn counters(&self, subject: &Subject) -> [IntCounter; 3] {
        let labels = subject.labels();
        let (family, labels) = self.family(subject, &labels);
        [&family.connections, &family.packets, &family.bytes]
            .map(|counter| counter.with_label_values(labels))
    }

    fn family<'a, 'b>(
        &self,
        subject: &Subject,
        labels: &'a [&'b str; 3],
    ) -> (&Family, &'a [&'b str]) {
        if subject.real_server.is_empty() {
            (&self.services, &labels[..2])
        } else {
            (&self.servers, &labels[..])
        }
    }
}

impl Subject {
    fn labels(&self) -> [&str; 3] {
        [&self.service, &self.protocol, &self.real_server]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_never_go_back() {
        let registry = Registry::new();
        let counters = KernelCounters::register(&registry);
        let subject = Subject {
            service: "resolver".into(),
            protocol: "udp".into(),
            real_server: "192.168.56.183".into(),
        };
        let configured = HashSet::from([subject.clone()]);
        let mut expected = 0;
        for (now, grown) in [(10, 10), (15, 5), (15, 0), (3, 3), (4, 1)] {
            let traffic = Traffic {
                connections: now,
                packets: now,
                bytes: now,
            };
            let figures = Figures {
                subject: subject.clone(),
                traffic,
                weight: Some(1),
            };
            counters.update(&[figures], &configured);
            expected += grown;
            assert_eq!(counters.counters(&subject).map(|c| c.get()), [expected; 3]);
        }
        counters.update(&[], &configured);
        assert_eq!(counters.counters(&subject)[0].get(), expected);
        let shown = |name: &str| registry.gather().iter().any(|family| family.name() == name);
        assert!(!shown("director_real_server_weight"));
        counters.update(&[], &HashSet::new());
        assert!(!shown("director_real_server_connections_total"));
    }
}
