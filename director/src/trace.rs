//! Which server a client's query would go to, and why: what the kernel does with it, computed from its
//! table and its connection entries.
//!
//! Reads the kernel by itself, so that whoever asks waits and nobody else.

use std::io;
use std::net::{IpAddr, SocketAddr};

use lvs_proto::Family;
use lvs_proto::ipvs::hashing::{self, Candidate};
use lvs_proto::ipvs::{
    DestinationKey, FoundDestination, Persistence, Scheduler, ServiceFlags, ServiceKey,
};
use lvs_system::connections::{self, Connection};
use lvs_system::ipvs::{Entry, Ipvs, OpenError};
use lvs_system::sysctl;

use crate::config::{Configuration, Dataplane, Holder, Service};
use crate::control::{Basis, Part, State, Trace, Tracing};
use crate::dataplane::label;
use crate::vrrp::Ownerships;
use crate::wording::age;

const EXPIRE_NODEST_CONN: &str = "net.ipv4.vs.expire_nodest_conn";
const EXPIRE_QUIESCENT_TEMPLATE: &str = "net.ipv4.vs.expire_quiescent_template";

/// Whose query it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// The client's address.
    pub address: IpAddr,
    /// The port that it sends from, where that is known.
    pub port: Option<u16>,
}

/// A query to be followed.
#[derive(Debug)]
pub struct Question {
    client: Client,
    services: Vec<(Service, Vec<ServiceKey>)>,
    notes: Vec<String>,
}

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// There is no such service.
    #[error("no service is meant: {0}")]
    NoService(String),
    /// The director keeps no table.
    #[error("this director keeps no table (`dataplane: none`)")]
    NoTable,
    /// The kernel's IPVS is out of reach.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Its table can't be read.
    #[error("cannot read the kernel's table: {0}")]
    Table(#[from] lvs_system::ipvs::Error),
    /// Its connection entries can't be read.
    #[error("cannot read the kernel's connection entries: {0}")]
    Connections(#[from] io::Error),
}

impl Question {
    /// To all services for the client's family, or to one, over all protocols or one.
    ///
    /// # Errors
    /// When no service is meant.
    pub fn new(
        configuration: &Configuration,
        ownerships: Option<&Ownerships>,
        client: Client,
        service: Option<&str>,
        protocol: Option<&str>,
    ) -> Result<Self, TraceError> {
        if configuration.dataplane != Dataplane::Ipvs {
            return Err(TraceError::NoTable);
        }
        let family = Family::of(client.address);
        let is_meant = |key: &ServiceKey| {
            let has_protocol = |wanted: &str| match key.protocol() {
                Some(protocol) => protocol.to_string() == wanted,
                None => true,
            };
            key.family() == family && protocol.is_none_or(has_protocol)
        };
        let mut notes = Vec::new();
        let mut services = Vec::new();
        for one in &configuration.services {
            if service.is_some_and(|name| name != one.name) {
                continue;
            }
            let meant = one.virtual_services.iter();
            let meant: Vec<_> = meant.filter(|one| is_meant(&one.key)).collect();
            for holder in meant.iter().map(|one| &one.holder) {
                notes.extend(elsewhere(holder, ownerships));
            }
            let keys: Vec<ServiceKey> = meant.iter().map(|one| one.key).collect();
            if !keys.is_empty() {
                services.push((one.clone(), keys));
            }
        }
        notes.sort();
        notes.dedup();
        if services.is_empty() {
            let names = configuration.services.iter();
            let names: Vec<&str> = names.map(|one| one.name.as_str()).collect();
            return Err(TraceError::NoService(format!(
                "of {}, none that is asked for has an address for {family}{}",
                names.join(", "),
                protocol.map_or_else(String::new, |protocol| format!(" over {protocol}")),
            )));
        }
        Ok(Self {
            client,
            services,
            notes,
        })
    }

    /// Reads the kernel, in the network namespace of this thread, and follows the query.
    ///
    /// # Errors
    /// When the kernel can't be read.
    pub fn answer(self) -> Result<Tracing, TraceError> {
        let Self {
            client,
            services,
            mut notes,
        } = self;
        let table = Ipvs::open()?.table()?;
        let is_near = |connection: &Connection| {
            let entry = connection.client;
            Some(entry.port()) == client.port && entry.ip() == client.address || entry.port() == 0
        };
        let picture = Picture {
            connections: connections::read(is_near)?,
            expires_without_server: is_on(EXPIRE_NODEST_CONN),
            expires_templates: is_on(EXPIRE_QUIESCENT_TEMPLATE),
        };
        if client.port.is_none() {
            notes.push(
                "the client's port isn't known, so entries of single flows are not looked at; say \
                 CLIENT:PORT to have them"
                    .to_owned(),
            );
        }
        let mut traces = Vec::new();
        for (service, keys) in &services {
            for key in keys {
                match table.iter().find(|entry| entry.service.key == *key) {
                    Some(entry) => traces.push(picture.follow(service, entry, client)),
                    None => notes.push(format!(
                        "service {} {key} is not in the kernel's table now; `director status` says why",
                        service.name
                    )),
                }
            }
        }
        Ok(Tracing { traces, notes })
    }
}

/// That queries come to another director, where they do.
fn elsewhere(holder: &Holder, ownerships: Option<&Ownerships>) -> Option<String> {
    let Holder::Instance(instance) = holder else {
        return None;
    };
    let ownership = ownerships?.get(instance)?;
    let is_here = *ownership != lvs_proto::vrrp::Ownership::Absent;
    (!is_here).then(|| {
        format!(
            "instance {instance} is {} here: queries come to another director, which decides by itself",
            State::Backup
        )
    })
}

fn is_on(setting: &str) -> bool {
    sysctl::read(setting).is_ok_and(|value| value.trim() != "0")
}

/// What the kernel has besides its table.
struct Picture {
    connections: Vec<Connection>,
    expires_without_server: bool,
    expires_templates: bool,
}

/// What a scheduler does.
struct Choice {
    basis: Basis,
    parts: Vec<(DestinationKey, f64)>,
    why: String,
}

impl Picture {
    fn follow(&self, service: &Service, entry: &Entry, client: Client) -> Trace {
        let key = entry.service.key;
        let mut why = Vec::new();
        let (basis, parts) = if let Some(found) = self.by_entry(entry, client, &mut why) {
            found
        } else if let Some(found) = self.by_template(entry, client, &mut why) {
            found
        } else {
            let Choice {
                basis,
                parts,
                why: reason,
            } = choose(service, entry, client);
            why.push(reason);
            if entry.service.flags.contains(ServiceFlags::ONE_PACKET) {
                why.push("one-packet scheduling: each packet is scheduled by itself".to_owned());
            }
            (basis, parts)
        };
        Trace {
            service: service.name.clone(),
            virtual_service: key.to_string(),
            basis,
            servers: parts
                .into_iter()
                .map(|(server, share)| Part {
                    server: label(key, server),
                    share,
                })
                .collect(),
            why,
        }
    }

    /// An entry of the client's flow goes before everything else.
    fn by_entry(
        &self,
        entry: &Entry,
        client: Client,
        why: &mut Vec<String>,
    ) -> Option<(Basis, Vec<(DestinationKey, f64)>)> {
        let ServiceKey::Socket {
            address,
            port,
            protocol,
        } = entry.service.key
        else {
            return None;
        };
        let from = SocketAddr::new(client.address, client.port?);
        let mut flows = self.connections.iter();
        let flow = flows.find(|one| {
            one.client == from
                && one.service == SocketAddr::new(address, port)
                && one.protocol.eq_ignore_ascii_case(&protocol.to_string())
        })?;
        let (state, left) = (&flow.state, age(flow.expires));
        let server = server_of(flow);
        if has(entry, server) {
            why.push(format!(
                "an entry of this flow ({state}, {left} left) goes before every choice"
            ));
            return Some((Basis::Connection, vec![(server, 1.0)]));
        }
        let gone = label(entry.service.key, server);
        if self.expires_without_server {
            why.push(format!(
                "an entry of this flow to {gone}, which is no longer in the table, ends with the next \
                 packet ({EXPIRE_NODEST_CONN} is 1)"
            ));
            return None;
        }
        why.push(format!(
            "an entry of this flow to {gone}, which is no longer in the table, has its packets dropped for \
             {left} more ({EXPIRE_NODEST_CONN} is 0)"
        ));
        Some((Basis::Nobody, Vec::new()))
    }

    /// A client of a persistent service stays.
    fn by_template(
        &self,
        entry: &Entry,
        client: Client,
        why: &mut Vec<String>,
    ) -> Option<(Basis, Vec<(DestinationKey, f64)>)> {
        let persistence = entry.service.persistence?;
        let mut templates = self.connections.iter();
        let template =
            templates.find(|one| is_template_of(one, entry.service.key, client, persistence))?;
        let server = server_of(template);
        let left = age(template.expires);
        let name = label(entry.service.key, server);
        let mut found = entry.destinations.iter();
        match found.find(|one| one.destination.key == server) {
            Some(found) if found.destination.weight > 0 || !self.expires_templates => {
                why.push(format!(
                    "the service is persistent, and this client's template stays for {left} more"
                ));
                Some((Basis::Persistence, vec![(server, 1.0)]))
            }
            Some(_) => {
                why.push(format!(
                    "the service is persistent, and this client's template to {name} ends, since that has the \
                     weight 0 ({EXPIRE_QUIESCENT_TEMPLATE} is 1)"
                ));
                None
            }
            None => {
                why.push(format!(
                    "the service is persistent, and this client's template to {name} ends, since that is no \
                     longer in the table"
                ));
                None
            }
        }
    }
}

fn server_of(connection: &Connection) -> DestinationKey {
    DestinationKey {
        address: connection.destination.ip(),
        port: connection.destination.port(),
    }
}

fn has(entry: &Entry, server: DestinationKey) -> bool {
    let mut found = entry.destinations.iter();
    found.any(|one| one.destination.key == server)
}

fn is_template_of(
    connection: &Connection,
    key: ServiceKey,
    client: Client,
    persistence: Persistence,
) -> bool {
    let is_its_service = match key {
        ServiceKey::Socket {
            address,
            port,
            protocol,
        } => {
            connection.service == SocketAddr::new(address, port)
                && connection
                    .protocol
                    .eq_ignore_ascii_case(&protocol.to_string())
        }
        ServiceKey::FirewallMark { mark, .. } => {
            let octets = mark.get().to_be_bytes();
            let begins = match connection.service.ip() {
                IpAddr::V4(address) => address.octets() == octets,
                IpAddr::V6(address) => address.octets().starts_with(&octets),
            };
            begins && connection.protocol == "IP"
        }
    };
    is_its_service
        && connection.client.port() == 0
        && connection.client.ip() == network_of(client.address, persistence.prefix_length)
}

fn network_of(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length.min(32)));
            IpAddr::from((address.to_bits() & mask.unwrap_or(0)).to_be_bytes())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length.min(128)));
            IpAddr::from((address.to_bits() & mask.unwrap_or(0)).to_be_bytes())
        }
    }
}

/// What the scheduler does with a packet that nothing else decides of.
fn choose(service: &Service, entry: &Entry, client: Client) -> Choice {
    let weight_of = |one: &FoundDestination| one.destination.weight;
    let takes = |one: &&FoundDestination| weight_of(one) > 0 && !is_full(one);
    let taking: Vec<&FoundDestination> = entry.destinations.iter().filter(takes).collect();
    let nobody = |why: &str| Choice {
        basis: Basis::Nobody,
        parts: Vec::new(),
        why: why.to_owned(),
    };
    if taking.is_empty() {
        return nobody(
            "no server in the kernel's table takes anything new: clients are told that nobody listens",
        );
    }
    let all = |why: &str, share: &dyn Fn(&FoundDestination) -> f64| {
        let sum: f64 = taking.iter().map(|one| share(one)).sum();
        let parts = taking
            .iter()
            .map(|one| (one.destination.key, share(one) / sum));
        Choice {
            basis: Basis::Order,
            parts: parts.collect(),
            why: why.to_owned(),
        }
    };
    let equal = |_: &FoundDestination| 1.0;
    let by_weight = |one: &FoundDestination| f64::from(weight_of(one));
    let heaviest = |candidates: &mut dyn Iterator<Item = &FoundDestination>| {
        // The first of several, as the kernel takes it.
        let best = candidates.reduce(|best, one| {
            if weight_of(one) > weight_of(best) {
                one
            } else {
                best
            }
        })?;
        Some(best.destination.key)
    };
    match entry.service.scheduler {
        Some(scheduler @ (Scheduler::SourceHashing | Scheduler::MaglevHashing)) => {
            by_hash(service, entry, client, scheduler)
                .unwrap_or_else(|| all(
                    "the scheduler hashes the client's address and port, and the port isn't known: shares \
                     follow weights",
                    &by_weight,
                ))
                .unless_nobody(nobody)
        }
        Some(Scheduler::RoundRobin) => all("rr: one after the other, by the order of all packets", &equal),
        Some(Scheduler::LeastConnection) => {
            all("lc: whoever has the fewest connections at that moment", &equal)
        }
        Some(Scheduler::WeightedRoundRobin) => all(
            "wrr: by weights, in an order that all packets share",
            &by_weight,
        ),
        Some(Scheduler::WeightedFailover) => match heaviest(&mut taking.iter().copied()) {
            Some(server) => Choice {
                basis: Basis::Weight,
                parts: vec![(server, 1.0)],
                why: "fo: whoever has the highest weight".to_owned(),
            },
            None => nobody("no server takes anything new"),
        },
        Some(Scheduler::WeightedOverflow) => {
            let mut idle = taking
                .iter()
                .copied()
                .filter(|one| one.active_connections <= weight_of(one));
            match heaviest(&mut idle) {
                Some(server) => Choice {
                    basis: Basis::Weight,
                    parts: vec![(server, 1.0)],
                    why: "ovf: the highest weight among those with no more active connections than weight"
                        .to_owned(),
                },
                None => nobody("ovf: every server has more active connections than weight"),
            }
        }
        Some(Scheduler::DestinationHashing) => all(
            "dh: the VIP's address decides, so that all clients of a VIP go to one of these",
            &equal,
        ),
        Some(
            Scheduler::LocalityBasedLeastConnection
            | Scheduler::LocalityBasedLeastConnectionWithReplication,
        ) => all(
            "the kernel keeps a VIP with one server, or with a few, and doesn't show with which: one of these",
            &by_weight,
        ),
        Some(
            scheduler @ (Scheduler::WeightedLeastConnection
            | Scheduler::ShortestExpectedDelay
            | Scheduler::NeverQueue),
        ) => all(
            &format!(
                "{}: whoever has the fewest connections for its weight at that moment; shares follow weights",
                scheduler.name()
            ),
            &by_weight,
        ),
        None => all("a scheduler that this program doesn't know: one of these", &by_weight),
    }
}

impl Choice {
    /// A choice of nobody in particular is one of nobody.
    fn unless_nobody(self, nobody: impl Fn(&str) -> Self) -> Self {
        if self.parts.is_empty() {
            nobody(&self.why)
        } else {
            self
        }
    }
}

/// What a scheduler by hash does; `None` where it counts the port, and that isn't known.
fn by_hash(
    service: &Service,
    entry: &Entry,
    client: Client,
    scheduler: Scheduler,
) -> Option<Choice> {
    let flags = entry.service.flags;
    let counts_port = flags.contains(ServiceFlags::SCHEDULER_2);
    let fallback = flags.contains(ServiceFlags::SCHEDULER_1);
    let of = hashing::Client {
        address: client.address,
        port: if counts_port { client.port? } else { 0 },
    };
    let candidates: Vec<Candidate> = entry
        .destinations
        .iter()
        .map(|found| candidate(service, entry.service.key, found))
        .collect();
    let name = scheduler.name();
    let hash = match scheduler {
        Scheduler::MaglevHashing => hashing::maglev_hash,
        _ => hashing::source_hash,
    };
    let what = if counts_port {
        "the client's address and port"
    } else {
        "the client's address"
    };
    let original = hash(&candidates, of, false);
    let picked = if fallback {
        hash(&candidates, of, true)
    } else {
        original
    };
    let why = match (picked, original) {
        (Some(_), Some(_)) => format!("{name}: the hash of {what}"),
        (Some(_), None) => {
            format!("{name}-fallback: the hash of {what} is of a server that takes nothing new")
        }
        (None, _) => format!(
            "{name}: the hash of {what} is of a server that takes nothing new, and `{name}-fallback` is \
             not set: clients are told that nobody listens"
        ),
    };
    Some(Choice {
        basis: Basis::Hash,
        parts: picked
            .map(|place| (candidates[place].key, 1.0))
            .into_iter()
            .collect(),
        why,
    })
}

fn candidate(service: &Service, key: ServiceKey, found: &FoundDestination) -> Candidate {
    let destination = &found.destination;
    let weight = if is_full(found) {
        0
    } else {
        destination.weight
    };
    let name = label(key, destination.key);
    let mut servers = service.real_servers.iter();
    let configured = servers.find(|server| server.key.to_string() == name);
    // The kernel doesn't show what a drained one had.
    let last_weight = match (destination.weight, configured) {
        (0, Some(server)) => u32::from(server.weight),
        (weight, _) => weight,
    };
    Candidate {
        key: destination.key,
        weight,
        last_weight,
    }
}

/// It has as many connections as it may.
fn is_full(found: &FoundDestination) -> bool {
    let connections = found.active_connections + found.inactive_connections;
    let most = found.destination.upper_threshold;
    most > 0 && connections >= most
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use lvs_proto::ipvs::{Destination, Forwarding, Protocol, Statistics};
    use std::time::Duration;

    use super::*;
    use crate::engine::tests::configuration;

    const FILE: &str = "
services:
  - name: resolver
    external: true
    address: 192.0.2.53
    port: 53
    protocols: [udp, tcp]
    check: none
    real_servers: [{ address: 192.0.2.11, weight: 3 }, { address: 192.0.2.12 }]
";

    fn key(protocol: Protocol) -> ServiceKey {
        ServiceKey::Socket {
            address: "192.0.2.53".parse().unwrap(),
            port: 53,
            protocol,
        }
    }

    fn found(last: u8, weight: u32) -> FoundDestination {
        FoundDestination {
            destination: Destination {
                key: DestinationKey {
                    address: [192, 0, 2, last].into(),
                    port: 53,
                },
                forwarding: Forwarding::DirectRouting,
                weight,
                upper_threshold: 0,
                lower_threshold: 0,
            },
            active_connections: 0,
            inactive_connections: 0,
            persistent_connections: 0,
            statistics: Statistics::default(),
        }
    }

    fn entry(scheduler: Scheduler) -> Entry {
        Entry {
            service: lvs_proto::ipvs::Service {
                key: key(Protocol::Udp),
                scheduler: Some(scheduler),
                flags: ServiceFlags::NONE,
                persistence: None,
            },
            statistics: Statistics::default(),
            destinations: vec![found(11, 3), found(12, 1)],
        }
    }

    fn picture(lines: &[&str]) -> Picture {
        Picture {
            connections: lines
                .iter()
                .filter_map(|line| connections::parse(line))
                .collect(),
            expires_without_server: true,
            expires_templates: true,
        }
    }

    const CLIENT: Client = Client {
        address: IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 7)),
        port: Some(5353),
    };

    fn follow(picture: &Picture, entry: &Entry) -> (Basis, Vec<(String, f64)>, String) {
        let configuration = configuration(FILE);
        let trace = picture.follow(&configuration.services[0], entry, CLIENT);
        let servers = trace.servers.into_iter();
        let servers = servers.map(|part| (part.server, part.share)).collect();
        (trace.basis, servers, trace.why.join("; "))
    }

    fn sure(basis: Basis, last: u8) -> (Basis, Vec<(String, f64)>) {
        (basis, vec![(format!("192.0.2.{last}"), 1.0)])
    }

    #[test]
    fn an_entry_of_the_flow_goes_before_everything() {
        let flow = "UDP C6336407 14E9 C0000235 0035 C000020C 0035 UDP 298";
        let (basis, servers, why) = follow(&picture(&[flow]), &entry(Scheduler::RoundRobin));
        assert_eq!((basis, servers), sure(Basis::Connection, 12));
        assert!(why.contains("(UDP, 4m 58s left)"), "{why}");
        for other in [
            "TCP C6336407 14E9",
            "UDP C6336407 14EA",
            "UDP C6336408 14E9",
        ] {
            let flow = format!("{other} C0000235 0035 C000020C 0035 X 298");
            let (basis, ..) = follow(&picture(&[&flow]), &entry(Scheduler::RoundRobin));
            assert_eq!(basis, Basis::Order, "{other}");
        }
        let mut gone = picture(&[&flow.replace("C000020C", "C000020D")]);
        let (basis, _, why) = follow(&gone, &entry(Scheduler::RoundRobin));
        assert_eq!(basis, Basis::Order);
        assert!(why.contains("ends with the next packet"), "{why}");
        gone.expires_without_server = false;
        let (basis, servers, why) = follow(&gone, &entry(Scheduler::RoundRobin));
        assert_eq!((basis, servers), (Basis::Nobody, vec![]));
        assert!(
            why.contains("192.0.2.13, which is no longer in the table"),
            "{why}"
        );
    }

    #[test]
    fn a_persistent_client_stays_while_its_server_takes_new_flows() {
        let template = picture(&["UDP C6336400 0000 C0000235 0035 C000020C 0035 NONE 42"]);
        let mut persistent = entry(Scheduler::WeightedRoundRobin);
        persistent.service.persistence = Some(Persistence {
            timeout: Duration::from_secs(300),
            prefix_length: 24,
        });
        let (basis, servers, _) = follow(&template, &persistent);
        assert_eq!((basis, servers), sure(Basis::Persistence, 12));
        persistent.destinations[1] = found(12, 0);
        let (basis, servers, why) = follow(&template, &persistent);
        assert_eq!((basis, servers), sure(Basis::Order, 11));
        assert!(why.contains("has the weight 0"), "{why}");
        let (basis, ..) = follow(&template, &entry(Scheduler::WeightedRoundRobin));
        assert_eq!(basis, Basis::Order, "it isn't persistent any more");
    }

    #[test]
    fn where_order_decides_there_are_shares() {
        let none = picture(&[]);
        let shares = |scheduler| {
            let (basis, servers, _) = follow(&none, &entry(scheduler));
            let shares: Vec<f64> = servers.iter().map(|(_, share)| *share).collect();
            (basis, shares)
        };
        assert_eq!(
            shares(Scheduler::RoundRobin),
            (Basis::Order, vec![0.5, 0.5])
        );
        let wrr = shares(Scheduler::WeightedRoundRobin);
        assert_eq!(wrr, (Basis::Order, vec![0.75, 0.25]));
        assert_eq!(
            shares(Scheduler::WeightedFailover),
            (Basis::Weight, vec![1.0])
        );
        let mut full = entry(Scheduler::WeightedRoundRobin);
        full.destinations[0].destination.upper_threshold = 5;
        full.destinations[0].active_connections = 5;
        assert_eq!(follow(&none, &full).1, sure(Basis::Order, 12).1);
        full.destinations[1] = found(12, 0);
        assert_eq!(follow(&none, &full).0, Basis::Nobody);
    }

    #[test]
    fn a_hash_is_sure_unless_the_port_counts_and_is_not_known() {
        let none = picture(&[]);
        for scheduler in [Scheduler::SourceHashing, Scheduler::MaglevHashing] {
            let mut hashed = entry(scheduler);
            let (basis, servers, _) = follow(&none, &hashed);
            assert_eq!(basis, Basis::Hash);
            let picked = hashed
                .destinations
                .iter()
                .position(|one| one.destination.key.address.to_string() == servers[0].0)
                .unwrap();
            hashed.destinations[picked].destination.weight = 0;
            let (basis, servers, why) = follow(&none, &hashed);
            assert_eq!((basis, servers), (Basis::Nobody, vec![]), "{why}");
            hashed.service.flags = ServiceFlags::SCHEDULER_1;
            let (basis, others, why) = follow(&none, &hashed);
            assert_eq!((basis, others.len()), (Basis::Hash, 1));
            assert!(why.contains("-fallback: "), "{why}");
            hashed.service.flags = ServiceFlags::SCHEDULER_2;
            let configuration = configuration(FILE);
            let client = Client {
                port: None,
                ..CLIENT
            };
            let trace = none.follow(&configuration.services[0], &hashed, client);
            assert_eq!(trace.basis, Basis::Order);
        }
    }

    #[test]
    fn only_services_that_are_meant_are_followed() {
        let configuration = configuration(FILE);
        let ask = |address: &str, service, protocol| {
            let client = Client {
                address: address.parse().unwrap(),
                port: None,
            };
            let question = Question::new(&configuration, None, client, service, protocol);
            question.map(|question| {
                question
                    .services
                    .iter()
                    .map(|(_, keys)| keys.len())
                    .sum::<usize>()
            })
        };
        assert_eq!(ask("198.51.100.7", None, None).unwrap(), 2);
        assert_eq!(
            ask("198.51.100.7", Some("resolver"), Some("tcp")).unwrap(),
            1
        );
        for (client, service) in [("2001:db8::7", None), ("198.51.100.7", Some("web"))] {
            let said = ask(client, service, None).unwrap_err().to_string();
            assert!(
                said.starts_with("no service is meant: of resolver, none"),
                "{said}"
            );
        }
    }
}
