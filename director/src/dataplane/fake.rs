//! A kernel that keeps its table in memory and answers as the real one does.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

use lvs_proto::Family;
use lvs_proto::ipvs::{
    Command, Daemon, DaemonRole, Destination, DestinationKey, Forwarding, FoundDestination,
    Persistence, Protocol, Scheduler, Service, ServiceFlags, ServiceKey, Statistics, Timeouts,
    Tunnel,
};
use lvs_system::netlink;
use nix::errno::Errno;
use proptest::prelude::*;

use super::change::Change;
use super::settings::EXPIRE_NODEST_CONN;
use super::{
    Actual, ActualService, Desired, DesiredDestination, DesiredService, Owned, Presence, Settings,
    Standing,
};
use crate::config::Program;

/// Services with their destinations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FakeKernel {
    pub(super) services: BTreeMap<ServiceKey, (Service, BTreeMap<DestinationKey, Destination>)>,
    pub(super) settings: Settings,
    pub(super) found_settings: Settings,
    pub(super) timeouts: Timeouts,
    pub(super) daemons: Vec<Daemon>,
    pub(super) local_addresses: BTreeSet<IpAddr>,
    pub(super) connection_table_rows: u32,
    /// Destinations that are refused with EINVAL.
    pub(super) refused: BTreeSet<DestinationKey>,
    /// Schedulers that this kernel has no module for.
    pub(super) refused_schedulers: Vec<Scheduler>,
    /// Interfaces that this kernel doesn't have.
    pub(super) missing_interfaces: BTreeSet<String>,
}

impl Default for FakeKernel {
    /// An empty table and the kernel's defaults.
    fn default() -> Self {
        Self {
            services: BTreeMap::new(),
            settings: [
                (EXPIRE_NODEST_CONN, "0"),
                ("net.ipv4.vs.expire_quiescent_template", "0"),
                ("net.ipv4.vs.run_estimation", "1"),
                ("net.ipv4.ip_forward", "0"),
                ("net.ipv6.conf.all.forwarding", "0"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
            found_settings: Settings::new(),
            timeouts: Timeouts {
                tcp: 900,
                tcp_fin: 120,
                udp: 300,
            },
            daemons: Vec::new(),
            local_addresses: BTreeSet::new(),
            connection_table_rows: 1 << 20,
            refused: BTreeSet::new(),
            refused_schedulers: Vec::new(),
            missing_interfaces: BTreeSet::new(),
        }
    }
}

impl FakeKernel {
    pub(super) fn actual(&self) -> Actual {
        let found = |destination: &Destination| FoundDestination {
            destination: *destination,
            active_connections: 0,
            inactive_connections: 0,
            persistent_connections: 0,
            statistics: Statistics::default(),
        };
        let services = self.services.iter().map(|(key, (service, destinations))| {
            let destinations = destinations.iter();
            let service = ActualService {
                service: *service,
                statistics: Statistics::default(),
                destinations: destinations.map(|(key, one)| (*key, found(one))).collect(),
            };
            (*key, service)
        });
        Actual {
            services: services.collect(),
            settings: self.settings.clone(),
            timeouts: self.timeouts,
            daemons: self.daemons.clone(),
            local_addresses: self.local_addresses.clone(),
            connection_table_rows: self.connection_table_rows,
        }
    }

    /// Makes a change, and records the value found of a setting.
    pub(super) fn make(&mut self, change: &Change) -> Result<(), netlink::Error> {
        match change {
            Change::Setting { name, to, .. } => {
                let found = self.settings.insert(name.clone(), to.clone()).unwrap();
                if self.found_settings.get(name) == Some(to) {
                    self.found_settings.remove(name);
                } else {
                    self.found_settings.entry(name.clone()).or_insert(found);
                }
                Ok(())
            }
            other => self.execute(&other.command().unwrap()),
        }
    }

    /// Whether a server is reached over another family than its service's.
    pub(super) fn has_mixed_destinations(&self) -> bool {
        let mut services = self.services.iter();
        services.any(|(key, (_, found))| found.values().any(|one| is_mixed(*key, one)))
    }

    /// Whether flows to a removed server go elsewhere.
    pub(super) fn expires_entries(&self) -> bool {
        self.settings[EXPIRE_NODEST_CONN] == "1"
    }

    pub(super) fn add_service(&mut self, service: Service) {
        self.execute(&Command::NewService(service)).unwrap();
    }

    pub(super) fn add_destination(&mut self, key: ServiceKey, destination: Destination) {
        self.execute(&Command::NewDestination(key, destination))
            .unwrap();
    }

    /// Answers as Linux 6.12 was recorded to.
    pub(super) fn execute(&mut self, command: &Command) -> Result<(), netlink::Error> {
        match command.clone() {
            Command::NewService(service) => {
                if self.services.contains_key(&service.key) {
                    return Err(kernel(Errno::EEXIST));
                }
                let scheduler = service.scheduler;
                if scheduler.is_some_and(|wanted| self.refused_schedulers.contains(&wanted)) {
                    return Err(kernel(Errno::ENOENT));
                }
                self.services
                    .insert(service.key, (service, BTreeMap::new()));
            }
            Command::SetService(service) => {
                let found = self.services.get_mut(&service.key);
                found.ok_or_else(|| kernel(Errno::ESRCH))?.0 = service;
            }
            Command::DeleteService(key) => {
                let found = self.services.remove(&key);
                found.ok_or_else(|| kernel(Errno::ESRCH))?;
            }
            Command::NewDestination(key, destination) => {
                let mixed = is_mixed(key, &destination);
                let tunnelled = matches!(destination.forwarding, Forwarding::Tunnel(_));
                if self.refused.contains(&destination.key)
                    || mixed && (!tunnelled || !self.daemons.is_empty())
                {
                    return Err(kernel(Errno::EINVAL));
                }
                let destinations = self.destinations(key)?;
                if destinations.contains_key(&destination.key) {
                    return Err(kernel(Errno::EEXIST));
                }
                destinations.insert(destination.key, destination);
            }
            Command::SetDestination(key, destination) => {
                let found = self.destinations(key)?.get_mut(&destination.key);
                *found.ok_or_else(|| kernel(Errno::ENOENT))? = destination;
            }
            Command::DeleteDestination(key, destination) => {
                let found = self.destinations(key)?.remove(&destination);
                found.ok_or_else(|| kernel(Errno::ENOENT))?;
            }
            Command::Flush => self.services.clear(),
            Command::SetTimeouts(timeouts) => {
                let Timeouts { tcp, tcp_fin, udp } = timeouts;
                for (value, becomes) in [
                    (&mut self.timeouts.tcp, tcp),
                    (&mut self.timeouts.tcp_fin, tcp_fin),
                    (&mut self.timeouts.udp, udp),
                ] {
                    if becomes != 0 {
                        *value = becomes;
                    }
                }
            }
            Command::NewDaemon(daemon) => {
                if self.missing_interfaces.contains(&daemon.interface) {
                    return Err(kernel(Errno::ENODEV));
                }
                if self.daemons.iter().any(|one| one.role == daemon.role) {
                    return Err(kernel(Errno::EEXIST));
                }
                if self.has_mixed_destinations() {
                    return Err(kernel(Errno::EINVAL));
                }
                self.daemons.push(daemon);
            }
            Command::DeleteDaemon(role) => {
                let found = self.daemons.iter().position(|one| one.role == role);
                self.daemons
                    .remove(found.ok_or_else(|| kernel(Errno::ESRCH))?);
            }
        }
        Ok(())
    }

    fn destinations(
        &mut self,
        key: ServiceKey,
    ) -> Result<&mut BTreeMap<DestinationKey, Destination>, netlink::Error> {
        match self.services.get_mut(&key) {
            Some((_, destinations)) => Ok(destinations),
            None => Err(kernel(Errno::ESRCH)),
        }
    }
}

fn is_mixed(service: ServiceKey, destination: &Destination) -> bool {
    Family::of(destination.key.address) != service.family()
}

pub(super) fn kernel(errno: Errno) -> netlink::Error {
    netlink::Error::Kernel { errno, text: None }
}

/// 192.0.2.100:53 by UDP and TCP, then 192.0.2.101 likewise.
pub(super) fn service_key(number: u8) -> ServiceKey {
    ServiceKey::Socket {
        address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 100 + number / 2)),
        port: 53,
        protocol: [Protocol::Udp, Protocol::Tcp][usize::from(number % 2)],
    }
}

pub(super) fn service(key: ServiceKey) -> Service {
    Service {
        key,
        scheduler: Some(Scheduler::WeightedRoundRobin),
        flags: ServiceFlags::NONE,
        persistence: None,
    }
}

/// 192.0.2.10 and up, by direct routing.
pub(super) fn destination(number: u8, weight: u32) -> Destination {
    Destination {
        key: DestinationKey {
            address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10 + number)),
            port: 53,
        },
        forwarding: Forwarding::DirectRouting,
        weight,
        upper_threshold: 0,
        lower_threshold: 0,
    }
}

pub(super) fn desired_service(
    service: Service,
    destinations: impl IntoIterator<Item = (Destination, Presence)>,
) -> DesiredService {
    let destinations = destinations.into_iter().map(|(destination, presence)| {
        let desired = DesiredDestination {
            destination,
            presence,
            weight_as_found: false,
        };
        (destination.key, desired)
    });
    DesiredService {
        name: "resolver".to_owned(),
        service,
        destinations: destinations.collect(),
        standing: Standing::Held,
    }
}

fn any_key() -> impl Strategy<Value = ServiceKey> {
    let socket = |address: &str, port, protocol| ServiceKey::Socket {
        address: address.parse().unwrap(),
        port,
        protocol,
    };
    let mark = |family| ServiceKey::FirewallMark {
        mark: NonZeroU32::MIN,
        family,
    };
    prop::sample::select(vec![
        service_key(0),
        service_key(1),
        socket("192.0.2.101", 0, Protocol::Sctp),
        socket("2001:db8::100", 53, Protocol::Udp),
        mark(Family::Ipv4),
        mark(Family::Ipv6),
    ])
}

fn any_service() -> impl Strategy<Value = Service> {
    let schedulers = [
        None,
        Some(Scheduler::RoundRobin),
        Some(Scheduler::WeightedRoundRobin),
    ];
    let flags = [ServiceFlags::NONE, ServiceFlags::ONE_PACKET];
    let persistence = Persistence {
        timeout: Duration::from_secs(300),
        prefix_length: 24,
    };
    (
        any_key(),
        prop::sample::select(schedulers.to_vec()),
        prop::sample::select(flags.to_vec()),
        prop::sample::select(vec![None, None, Some(persistence)]),
    )
        .prop_map(|(key, scheduler, flags, persistence)| Service {
            scheduler,
            flags,
            persistence,
            ..service(key)
        })
}

/// Of the service's family, or of the other one by a tunnel.
fn any_destination(family: Family) -> impl Strategy<Value = Destination> {
    let forwarding = [
        Forwarding::DirectRouting,
        Forwarding::Masquerading,
        Forwarding::Tunnel(Tunnel::IpIp),
    ];
    (
        0u16..4,
        prop::sample::select(vec![0u32, 0, 1, 3]),
        prop::sample::select(forwarding.to_vec()),
        prop::bool::weighted(0.1),
    )
        .prop_map(move |(number, weight, forwarding, crosses)| {
            let same = destination(number as u8, weight);
            let address = match (family, crosses) {
                (Family::Ipv4, false) | (Family::Ipv6, true) => same.key.address,
                _ => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 10 + number)),
            };
            Destination {
                key: DestinationKey {
                    address,
                    ..same.key
                },
                forwarding: if crosses {
                    Forwarding::Tunnel(Tunnel::IpIp)
                } else {
                    forwarding
                },
                ..same
            }
        })
}

fn any_role() -> impl Strategy<Value = DaemonRole> {
    prop::sample::select(vec![DaemonRole::Master, DaemonRole::Backup])
}

pub(super) fn any_daemon() -> impl Strategy<Value = Daemon> {
    (any_role(), 0u8..2).prop_map(|(role, identifier)| Daemon {
        role,
        interface: "eth1".into(),
        identifier,
        maximum_length: None,
        group: None,
        port: None,
        time_to_live: None,
    })
}

fn any_timeouts() -> impl Strategy<Value = Timeouts> {
    let seconds = || prop::sample::select(vec![0u32, 0, 60, 300]);
    (seconds(), seconds(), seconds()).prop_map(|(tcp, tcp_fin, udp)| Timeouts { tcp, tcp_fin, udp })
}

pub(super) fn any_desired() -> impl Strategy<Value = Desired> {
    let presence =
        prop::sample::select(vec![Presence::Present, Presence::Absent, Presence::AsFound]);
    let standing = prop::sample::select(vec![
        Standing::Held,
        Standing::Held,
        Standing::NotHeld,
        Standing::Adopting,
        Standing::HandingOver,
        Standing::External,
    ]);
    let service = (any_service(), standing).prop_flat_map(move |(service, standing)| {
        let destination = any_destination(service.key.family());
        prop::collection::vec((destination, presence.clone()), 0..5).prop_map(move |destinations| {
            DesiredService {
                standing,
                ..desired_service(service, destinations)
            }
        })
    });
    (
        prop::collection::vec(service, 0..4),
        prop::sample::select(vec![Program::Always, Program::WhenActive]),
        prop::bool::weighted(0.2),
        any_timeouts(),
        prop::option::of(any_daemon()),
    )
        .prop_map(
            |(services, program, exclusive, timeouts, synchronization)| Desired {
                services: services
                    .into_iter()
                    .map(|service| (service.service.key, service))
                    .collect(),
                program,
                exclusive,
                timeouts,
                further_settings: BTreeSet::new(),
                synchronization,
            },
        )
}

/// A table as somebody may have left it; at times this machine is a real server too.
pub(super) fn any_kernel() -> impl Strategy<Value = FakeKernel> {
    let service = any_service().prop_flat_map(|service| {
        let destinations = prop::collection::vec(any_destination(service.key.family()), 0..5);
        (Just(service), destinations)
    });
    (
        prop::collection::vec(service, 0..4),
        prop::option::of(any_daemon()),
        any_timeouts(),
        prop::bool::ANY,
    )
        .prop_map(|(services, daemon, timeouts, serves_itself)| {
            let mut kernel = FakeKernel {
                services: services
                    .into_iter()
                    .map(|(service, destinations)| {
                        let destinations = destinations.into_iter().map(|one| (one.key, one));
                        (service.key, (service, destinations.collect()))
                    })
                    .collect(),
                ..FakeKernel::default()
            };
            if serves_itself {
                kernel.local_addresses = [
                    destination(0, 1).key.address,
                    "2001:db8::a".parse().unwrap(),
                ]
                .into();
            }
            if !kernel.has_mixed_destinations() {
                kernel.daemons.extend(daemon);
            }
            kernel.execute(&Command::SetTimeouts(timeouts)).unwrap();
            kernel
        })
}

/// With some of the time-outs and settings that were found.
pub(super) fn any_owned() -> impl Strategy<Value = Owned> {
    let services = prop::collection::btree_map(any_key(), Just("resolver".to_owned()), 0..4);
    let settings =
        prop::sample::subsequence(vec![EXPIRE_NODEST_CONN, "net.ipv4.ip_forward"], 0..=2);
    let daemons = prop::collection::vec(any_daemon(), 0..3);
    (services, settings, any_timeouts(), daemons).prop_map(
        |(services, settings, timeouts, daemons)| Owned {
            services,
            settings: settings
                .into_iter()
                .map(|name| (name.to_owned(), "0".to_owned()))
                .collect(),
            timeouts,
            daemons,
        },
    )
}
