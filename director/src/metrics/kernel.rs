//! What the kernel counts, mirrored into Prometheus.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lvs_metrics::text::{Family, Text};
use lvs_proto::ipvs::{DestinationKey, ServiceKey};

/// The kernel sums up what its processors count every 2 s (`ip_vs_est.c`), and shows nothing in between.
const FOLD: Duration = Duration::from_secs(2);

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
    /// `udp`, `tcp` or `sctp`; `any` for packets with a mark.
    pub protocol: String,
    /// The real server's address, and its port where that isn't the service's; empty for the
    /// service as a whole.
    pub real_server: String,
}

/// Queries a second.
pub type Rates = HashMap<Subject, f64>;

/// What the kernel counts by itself. A subject has several where its service has several addresses
/// or ports; its counters are their sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Part {
    /// The virtual service.
    pub service: ServiceKey,
    /// One of its destinations, or the service as a whole.
    pub server: Option<DestinationKey>,
}

/// What the kernel says of one part of a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Whose traffic it is.
    pub subject: Subject,
    /// Which part of it.
    pub part: Part,
    /// Since the kernel's object exists.
    pub traffic: Traffic,
    /// Of a real server.
    pub standing: Option<Standing>,
}

/// How a real server stands in the kernel's table now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The same in each part of a subject.
    pub weight: u32,
    /// Entries of connections that carry data.
    pub active_connections: u32,
    /// Entries of other connections, UDP flows among them.
    pub inactive_connections: u32,
}

/// Counters of services and of real servers.
///
/// Under direct routing the answers don't pass the director, so only what clients send is counted.
/// Families are written of them when somebody asks: there may be thousands of subjects, and a metric of
/// its own for each figure would be most of this program's memory.
#[derive(Default)]
pub struct KernelCounters(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    subjects: BTreeMap<Subject, Count>,
    updates: u64,
    updated: Option<Instant>,
}

/// What was counted of a subject.
#[derive(Default)]
struct Count {
    /// The last figures of each of its parts, in order.
    parts: Vec<(Part, Traffic)>,
    total: Traffic,
    /// Since the last update, of the parts that were there then.
    growth: Option<Traffic>,
    rates: LastRates,
    /// Of a real server that the kernel has; connections are the sum of its parts.
    standing: Option<Standing>,
    /// The update that it was last part of.
    seen: u64,
}

impl KernelCounters {
    /// Takes the kernel's present figures, all of them. What is neither there nor `configured` is
    /// forgotten; what is only configured keeps its counters, so that rates are right when it
    /// returns. `configured` is asked only if something isn't there.
    pub fn update(
        &self,
        present: impl IntoIterator<Item = Figures>,
        configured: impl FnOnce() -> HashSet<Subject>,
        now: Instant,
    ) {
        let mut counts = self.counts();
        let Counts {
            subjects,
            updates,
            updated,
        } = &mut *counts;
        *updates += 1;
        let elapsed = updated.replace(now).map(|before| now - before);
        for figures in present {
            let count = subjects.entry(figures.subject).or_default();
            if count.seen != *updates {
                count.seen = *updates;
                count.standing = None;
            }
            count.stand(figures.standing);
            count.add(figures.part, figures.traffic);
        }
        for (subject, count) in subjects.iter_mut() {
            match (count.growth.take(), elapsed) {
                (Some(growth), Some(elapsed)) => count.rates.note(subject.queries(growth), elapsed),
                _ => count.rates = LastRates::default(),
            }
        }
        if subjects.values().all(|count| count.seen == *updates) {
            return;
        }
        let configured = configured();
        subjects.retain(|subject, count| {
            let is_there = count.seen == *updates;
            if !is_there {
                count.standing = None;
            }
            is_there || configured.contains(subject)
        });
    }

    /// What clients ask of each subject that the kernel has, in queries a second, of the last seconds; nothing
    /// of those that are new.
    pub fn queries_per_second(&self) -> Rates {
        let counts = self.counts();
        let subjects = counts.subjects.iter();
        let known = subjects.filter_map(|(subject, count)| {
            let rate = count.rates.median()?;
            Some((subject.clone(), rate))
        });
        known.collect()
    }

    /// Writes all families.
    pub(super) fn write(&self, text: &mut Text) {
        let counts = self.counts();
        for (family, value) in OF_SERVICES {
            let mut series = text.family(family);
            let services = counts.subjects.iter();
            for (subject, count) in services.filter(|(subject, _)| subject.is_service()) {
                let labels = [
                    ("protocol", subject.protocol.as_str()),
                    ("service", &subject.service),
                ];
                series.add(labels, value(count));
            }
        }
        for (family, value) in OF_SERVERS {
            let mut series = text.family(family);
            let servers = counts.subjects.iter();
            for (subject, count) in servers.filter(|(subject, _)| !subject.is_service()) {
                if let Some(value) = value(count) {
                    let labels = [
                        ("protocol", subject.protocol.as_str()),
                        ("real_server", &subject.real_server),
                        ("service", &subject.service),
                    ];
                    series.add(labels, value);
                }
            }
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Count {
    fn add(&mut self, part: Part, traffic: Traffic) {
        let growth = match self.parts.binary_search_by_key(&part, |(part, _)| *part) {
            Ok(place) => {
                let before = std::mem::replace(&mut self.parts[place].1, traffic);
                let growth = traffic.since(before);
                self.growth.get_or_insert_default().add(growth);
                growth
            }
            Err(place) => {
                self.parts.insert(place, (part, traffic));
                traffic
            }
        };
        self.total.add(growth);
    }

    fn stand(&mut self, part: Option<Standing>) {
        self.standing = match (self.standing, part) {
            (Some(others), Some(part)) => Some(Standing {
                weight: part.weight,
                active_connections: others.active_connections + part.active_connections,
                inactive_connections: others.inactive_connections + part.inactive_connections,
            }),
            (others, part) => part.or(others),
        };
    }
}

/// Queries a second in each of the last times between updates, newest last.
///
/// An update comes every 2 s and a little, so that now and then one sees two of the kernel's sums at once and
/// another none: the median knows nothing of these.
#[derive(Default)]
struct LastRates(Vec<f64>);

impl LastRates {
    const KEPT: usize = 3;

    fn note(&mut self, queries: u64, elapsed: Duration) {
        // What is seen was counted in whole times of the kernel's.
        let folds = (elapsed.as_secs_f64() / FOLD.as_secs_f64())
            .round()
            .max(1.0);
        if self.0.len() == Self::KEPT {
            self.0.remove(0);
        }
        // Counts of a few seconds are far below 2^53.
        self.0.push(queries as f64 / (folds * FOLD.as_secs_f64()));
    }

    fn median(&self) -> Option<f64> {
        let mut rates = self.0.clone();
        rates.sort_by(f64::total_cmp);
        rates.get(rates.len() / 2).copied()
    }
}

/// A figure of services, and where it is found.
type OfService = (Family, fn(&Count) -> u64);
/// A figure of real servers; not of those that the kernel hasn't got, where it has none then.
type OfServer = (Family, fn(&Count) -> Option<u64>);

const OF_SERVICES: &[OfService] = &[
    (
        Family::counter(
            "director_service_connections_total",
            "Connections that IPVS scheduled for a service; packets where one-packet scheduling is on.",
        ),
        |count| count.total.connections,
    ),
    (
        Family::counter(
            "director_service_incoming_packets_total",
            "Packets that IPVS forwarded for a service.",
        ),
        |count| count.total.packets,
    ),
    (
        Family::counter(
            "director_service_incoming_bytes_total",
            "Bytes that IPVS forwarded for a service.",
        ),
        |count| count.total.bytes,
    ),
];

const OF_SERVERS: &[OfServer] = &[
    (
        Family::counter(
            "director_real_server_connections_total",
            "Connections that IPVS scheduled to a real server; packets where one-packet scheduling is on.",
        ),
        |count| Some(count.total.connections),
    ),
    (
        Family::counter(
            "director_real_server_incoming_packets_total",
            "Packets that IPVS forwarded to a real server.",
        ),
        |count| Some(count.total.packets),
    ),
    (
        Family::counter(
            "director_real_server_incoming_bytes_total",
            "Bytes that IPVS forwarded to a real server.",
        ),
        |count| Some(count.total.bytes),
    ),
    (
        Family::gauge(
            "director_real_server_weight",
            "Weight of a real server in the kernel's table; absent when it is not in the table.",
        ),
        |count| Some(count.standing?.weight.into()),
    ),
    (
        Family::gauge(
            "director_real_server_active_connections",
            "Entries of IPVS for connections to a real server that carry data; absent when it is not in the table.",
        ),
        |count| Some(count.standing?.active_connections.into()),
    ),
    (
        Family::gauge(
            "director_real_server_inactive_connections",
            "Entries of IPVS for other connections to a real server, UDP flows among them; absent when it is not in the table.",
        ),
        |count| Some(count.standing?.inactive_connections.into()),
    ),
];

impl Traffic {
    /// What was counted since `before`; if less than before, the kernel made the object anew and
    /// counts from 0.
    fn since(self, before: Self) -> Self {
        let grown = |before: u64, now: u64| now.checked_sub(before).unwrap_or(now);
        Self {
            connections: grown(before.connections, self.connections),
            packets: grown(before.packets, self.packets),
            bytes: grown(before.bytes, self.bytes),
        }
    }

    fn add(&mut self, other: Self) {
        self.connections += other.connections;
        self.packets += other.packets;
        self.bytes += other.bytes;
    }
}

impl Subject {
    /// How many queries that traffic was: packets, of which a connection has several.
    fn queries(&self, traffic: Traffic) -> u64 {
        match self.protocol.as_str() {
            "tcp" | "sctp" => traffic.connections,
            _ => traffic.packets,
        }
    }

    /// The service as a whole.
    fn is_service(&self) -> bool {
        self.real_server.is_empty()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use lvs_proto::ipvs::Protocol;

    use super::*;

    const LABEL: &str = "192.168.56.183";

    fn subject() -> Subject {
        Subject {
            service: "resolver".into(),
            protocol: "udp".into(),
            real_server: LABEL.into(),
        }
    }

    /// The figures of one server in the virtual service on that port.
    fn figures(port: u16, count: u64) -> Figures {
        let address = LABEL.parse().unwrap();
        Figures {
            subject: subject(),
            part: Part {
                service: ServiceKey::Socket {
                    address: "192.168.56.185".parse().unwrap(),
                    port,
                    protocol: Protocol::Udp,
                },
                server: Some(DestinationKey { address, port }),
            },
            traffic: Traffic {
                connections: count,
                packets: count,
                bytes: count,
            },
            standing: Some(Standing {
                weight: 1,
                active_connections: 2,
                inactive_connections: 3,
            }),
        }
    }

    /// The value that a scrape shows of the only subject, if it shows one.
    fn shown(counters: &KernelCounters, family: &str) -> Option<u64> {
        let mut text = Text::default();
        counters.write(&mut text);
        let series =
            format!("{family}{{protocol=\"udp\",real_server=\"{LABEL}\",service=\"resolver\"}} ");
        let text = text.into_string();
        let mut lines = text.lines().filter(|line| line.starts_with(family));
        let value = lines.next()?.strip_prefix(&series).unwrap();
        assert_eq!(lines.next(), None);
        Some(value.parse().unwrap())
    }

    const COUNTERS: [&str; 3] = [
        "director_real_server_connections_total",
        "director_real_server_incoming_packets_total",
        "director_real_server_incoming_bytes_total",
    ];
    const WEIGHT: &str = "director_real_server_weight";

    #[test]
    fn counters_never_go_back() {
        let counters = KernelCounters::default();
        let configured = || HashSet::from([subject()]);
        let mut expected = 0;
        for (now, grown) in [(10, 10), (15, 5), (15, 0), (3, 3), (4, 1)] {
            counters.update([figures(53, now)], configured, Instant::now());
            expected += grown;
            for counter in COUNTERS {
                assert_eq!(shown(&counters, counter), Some(expected), "{counter}");
            }
            assert_eq!(shown(&counters, WEIGHT), Some(1));
            assert_eq!(shown(&counters, "director_service_connections_total"), None);
        }
        counters.update([], configured, Instant::now());
        assert_eq!(shown(&counters, COUNTERS[0]), Some(expected));
        assert_eq!(shown(&counters, WEIGHT), None);
        counters.update([], HashSet::new, Instant::now());
        assert_eq!(shown(&counters, COUNTERS[0]), None);
    }

    /// One part that starts anew doesn't make the sum count twice.
    #[test]
    fn the_parts_of_a_service_are_summed() {
        let counters = KernelCounters::default();
        for ([first, second], sum) in [
            ([10, 100], 110),
            ([12, 100], 112),
            ([12, 0], 112),
            ([12, 5], 117),
        ] {
            let present = [figures(853, second), figures(53, first)];
            counters.update(present, HashSet::new, Instant::now());
            for (gauge, value) in [
                (WEIGHT, 1),
                ("director_real_server_active_connections", 4),
                ("director_real_server_inactive_connections", 6),
            ] {
                assert_eq!(shown(&counters, gauge), Some(value), "{gauge}");
            }
            for counter in COUNTERS {
                assert_eq!(shown(&counters, counter), Some(sum), "{counter}");
            }
        }
    }

    /// Each read sees what was counted up to the kernel's last sum.
    #[test]
    fn rates_are_those_of_the_last_seconds_however_reads_and_sums_meet() {
        for pace in [2.0, 2.03, 2.1, 2.3, 2.5] {
            let counters = KernelCounters::default();
            let start = Instant::now();
            let mut rate = None;
            for read in 0..50 {
                let time = f64::from(read) * pace;
                let sums = ((time + 0.5) / 2.0).floor().min(20.0);
                let figures = figures(53, 1_000_000 + (sums * 2.0 * 500.0) as u64);
                let now = start + Duration::from_secs_f64(time);
                counters.update([figures], HashSet::new, now);
                rate = counters.queries_per_second().get(&subject()).copied();
                match read {
                    0 => assert_eq!(rate, None, "what was counted before is no rate"),
                    3.. if time < 39.0 => assert_eq!(rate, Some(500.0), "{pace} {read}"),
                    _ => {}
                }
            }
            assert_eq!(rate, Some(0.0), "nobody asks any more");
            counters.update([], || HashSet::from([subject()]), start);
            assert!(counters.queries_per_second().is_empty());
        }
    }

    #[test]
    fn a_query_over_tcp_is_a_connection() {
        let traffic = Traffic {
            connections: 2,
            packets: 10,
            bytes: 600,
        };
        for (protocol, queries) in [("udp", 10), ("any", 10), ("tcp", 2), ("sctp", 2)] {
            let subject = Subject {
                protocol: protocol.to_owned(),
                ..subject()
            };
            assert_eq!(subject.queries(traffic), queries);
        }
    }
}
