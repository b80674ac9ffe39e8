//! A kernel that keeps its table in memory and answers as the real one does.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use lvs_proto::ipvs::{
    Command, Destination, DestinationKey, Forwarding, FoundDestination, Protocol, Scheduler,
    Service, ServiceFlags, ServiceKey, Statistics,
};
use lvs_system::netlink;
use nix::errno::Errno;
use proptest::prelude::*;

use super::{Actual, ActualService, Desired, DesiredDestination, DesiredService, Owned, Presence};

/// Services with their destinations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FakeKernel {
    pub(super) services: BTreeMap<ServiceKey, (Service, BTreeMap<DestinationKey, Destination>)>,
    /// Destinations that are refused with EINVAL.
    pub(super) refused: BTreeSet<DestinationKey>,
    /// Schedulers that this kernel has no module for.
    pub(super) refused_schedulers: Vec<Scheduler>,
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
        }
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
        match *command {
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
                if self.refused.contains(&destination.key) {
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
            Command::SetTimeouts(_) => {}
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

pub(super) fn kernel(errno: Errno) -> netlink::Error {
    netlink::Error::Kernel { errno, text: None }
}

/// 192.0.2.100:53 by UDP and TCP, then 192.0.2.101 likewise.
pub(super) fn service_key(number: u8) -> ServiceKey {
    ServiceKey {
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
        };
        (destination.key, desired)
    });
    DesiredService {
        name: "resolver".to_owned(),
        service,
        destinations: destinations.collect(),
    }
}

fn any_key() -> impl Strategy<Value = ServiceKey> {
    (0u8..4).prop_map(service_key)
}

fn any_service() -> impl Strategy<Value = Service> {
    let schedulers = [
        None,
        Some(Scheduler::RoundRobin),
        Some(Scheduler::WeightedRoundRobin),
    ];
    let flags = [ServiceFlags::NONE, ServiceFlags::ONE_PACKET];
    (
        any_key(),
        prop::sample::select(schedulers.to_vec()),
        prop::sample::select(flags.to_vec()),
    )
        .prop_map(|(key, scheduler, flags)| Service {
            scheduler,
            flags,
            ..service(key)
        })
}

fn any_destination() -> impl Strategy<Value = Destination> {
    let forwarding = [Forwarding::DirectRouting, Forwarding::Tunnel];
    (
        0u8..4,
        prop::sample::select(vec![0u32, 0, 1, 3]),
        prop::sample::select(forwarding.to_vec()),
    )
        .prop_map(|(number, weight, forwarding)| Destination {
            forwarding,
            ..destination(number, weight)
        })
}

pub(super) fn any_desired() -> impl Strategy<Value = Desired> {
    let presence =
        prop::sample::select(vec![Presence::Present, Presence::Absent, Presence::AsFound]);
    let destinations = prop::collection::vec((any_destination(), presence), 0..5);
    let service = (any_service(), destinations)
        .prop_map(|(service, destinations)| desired_service(service, destinations));
    prop::collection::vec(service, 0..4).prop_map(|services| Desired {
        services: services
            .into_iter()
            .map(|service| (service.service.key, service))
            .collect(),
    })
}

pub(super) fn any_kernel() -> impl Strategy<Value = FakeKernel> {
    let service = (
        any_service(),
        prop::collection::vec(any_destination(), 0..5),
    );
    prop::collection::vec(service, 0..4).prop_map(|services| FakeKernel {
        services: services
            .into_iter()
            .map(|(service, destinations)| {
                let destinations = destinations.into_iter().map(|one| (one.key, one));
                (service.key, (service, destinations.collect()))
            })
            .collect(),
        ..FakeKernel::default()
    })
}

pub(super) fn any_owned() -> impl Strategy<Value = Owned> {
    prop::collection::btree_map(any_key(), Just("resolver".to_owned()), 0..4)
}
