//! The director's data plane against a real kernel, without the rest of the director.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use director::dataplane::{
    Desired, DesiredDestination, DesiredService, IpvsPlane, Presence, Reconciler,
};
use lvs_proto::ipvs::{
    Command, Destination, DestinationKey, Forwarding, Persistence, Protocol, Scheduler, Service,
    ServiceFlags, ServiceKey,
};
use lvs_system::ipvs::Ipvs;
use nix::errno::Errno;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use crate::forwarding::{self, Table};
use crate::lab::Lab;

/// Without lblc and lblcr. The kernel loads a scheduler's module while it holds the lock of IPVS, and
/// these two register with the network namespaces then: where one is just being removed, as after
/// every case, it waits for that lock, and they for it (seen with Linux 6.1).
const SCHEDULERS: [Scheduler; 11] = [
    Scheduler::RoundRobin,
    Scheduler::WeightedRoundRobin,
    Scheduler::LeastConnection,
    Scheduler::WeightedLeastConnection,
    Scheduler::DestinationHashing,
    Scheduler::SourceHashing,
    Scheduler::MaglevHashing,
    Scheduler::ShortestExpectedDelay,
    Scheduler::NeverQueue,
    Scheduler::WeightedFailover,
    Scheduler::WeightedOverflow,
];

type Services = BTreeMap<ServiceKey, (Service, BTreeMap<DestinationKey, Destination>)>;

/// Any table becomes any other, whoever made the first one.
pub(super) fn the_kernel_becomes_what_is_desired(lab: &mut Lab) -> Result<()> {
    const PAIRS: usize = 50;
    let seed: u64 = rand::random();
    let host = lab.add_host("director")?;
    host.thread(move || {
        let mut random = StdRng::seed_from_u64(seed);
        let mut kernel = Ipvs::open()?;
        let plane = IpvsPlane::open(Path::new("/run/lab/plane"))?;
        let mut reconciler = Reconciler::open(plane, Path::new("/run/lab/plane"))?;
        let mut owned = BTreeSet::new();
        for pair in 0..PAIRS {
            let before = any_services(&mut random);
            let desired = any_desired(&mut random);
            let outcome =
                become_desired(&mut kernel, &mut reconciler, &before, &desired).and_then(|()| {
                    let expected = expected(&before, &desired, &owned);
                    crate::scenario::same_table("the kernel", &shown()?, &expected)
                });
            outcome.with_context(|| {
                format!("seed {seed}, pair {pair}: from {before:#?} to {desired:#?}")
            })?;
            owned = desired.services.into_keys().collect();
        }
        Ok(())
    })
    .join()
    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// What the reconciler believes a refusal means, the kernel means (`ip_vs_ctl.c`).
pub(super) fn the_kernel_refuses_as_expected(lab: &mut Lab) -> Result<()> {
    let host = lab.add_host("director")?;
    let (service, other) = (service(0), service(1).key);
    let [found, missing] = [destination(0), destination(1)];
    let steps = [
        (Command::NewService(service), None),
        (Command::NewService(service), Some(Errno::EEXIST)),
        (Command::SetService(self::service(1)), Some(Errno::ESRCH)),
        (Command::DeleteService(other), Some(Errno::ESRCH)),
        (Command::NewDestination(service.key, found), None),
        (
            Command::NewDestination(service.key, found),
            Some(Errno::EEXIST),
        ),
        (
            Command::SetDestination(service.key, missing),
            Some(Errno::ENOENT),
        ),
        (
            Command::DeleteDestination(service.key, missing.key),
            Some(Errno::ENOENT),
        ),
        (Command::NewDestination(other, found), Some(Errno::ESRCH)),
        (Command::SetDestination(other, found), Some(Errno::ESRCH)),
        (
            Command::DeleteDestination(other, found.key),
            Some(Errno::ESRCH),
        ),
        // A refused one keeps no later one from being carried out.
        (Command::NewDestination(service.key, missing), None),
        (Command::DeleteService(service.key), None),
    ];
    let (commands, expected): (Vec<Command>, Vec<Option<Errno>>) = steps.into_iter().unzip();
    let results = host.within({
        let commands = commands.clone();
        move || anyhow::Ok(Ipvs::open()?.apply(&commands))
    })?;
    ensure!(results.len() == expected.len(), "{results:?}");
    for ((command, result), expected) in commands.iter().zip(results).zip(expected) {
        let errno = result.as_ref().err().and_then(|error| error.errno());
        ensure!(
            errno == expected && result.is_ok() == expected.is_none(),
            "{command:?}: {result:?} instead of {expected:?}"
        );
    }
    ensure!(forwarding::table(&host)?.is_empty(), "something is left");
    Ok(())
}

fn become_desired(
    kernel: &mut Ipvs,
    reconciler: &mut Reconciler<IpvsPlane>,
    before: &Services,
    desired: &Desired,
) -> Result<()> {
    let mut commands = vec![Command::Flush];
    for (key, (service, destinations)) in before {
        commands.push(Command::NewService(*service));
        let add = |destination: &Destination| Command::NewDestination(*key, *destination);
        commands.extend(destinations.values().map(add));
    }
    for (command, result) in commands.iter().zip(kernel.apply(&commands)) {
        result.with_context(|| format!("{command:?}"))?;
    }
    let outcome = reconciler.reconcile(desired)?;
    ensure!(
        outcome.failures.is_empty() && outcome.complaints.is_empty(),
        "{outcome:?}"
    );
    let again = reconciler.plan(desired)?;
    ensure!(again.is_empty(), "still to do: {again}");
    Ok(())
}

/// The table of the calling thread's host; `/proc` tells of persistence in ticks of the kernel.
fn shown() -> Result<Table> {
    let lines = forwarding::here()?.into_iter();
    let cut = |line: String| match line.split_once(" persistent ") {
        Some((line, _)) => line.to_owned(),
        None => line,
    };
    Ok(lines.map(cut).collect())
}

/// What `/proc` shall show.
fn expected(before: &Services, desired: &Desired, owned: &BTreeSet<ServiceKey>) -> Table {
    let strangers = before
        .iter()
        .filter(|(key, _)| !owned.contains(key) && !desired.services.contains_key(key));
    let mut services: Services = strangers
        .map(|(key, value)| (*key, value.clone()))
        .collect();
    for (key, wanted) in &desired.services {
        let stays = |destination| {
            let found = before.get(key);
            found.is_some_and(|(_, destinations)| destinations.contains_key(destination))
        };
        let there = wanted.destinations.iter().filter(|(key, wanted)| {
            wanted.presence == Presence::Present
                || (wanted.presence == Presence::AsFound && stays(*key))
        });
        let there = there.map(|(key, wanted)| (*key, wanted.destination));
        let mut destinations: BTreeMap<_, _> = there.collect();
        // Others stay until there is a verdict on every server that is desired.
        let mut desired = wanted.destinations.values();
        if desired.any(|desired| desired.presence == Presence::AsFound) {
            let found = before.get(key).into_iter().flat_map(|(_, found)| found);
            let others = found.filter(|(key, _)| !wanted.destinations.contains_key(key));
            destinations.extend(others.map(|(key, other)| (*key, *other)));
        }
        services.insert(*key, (wanted.service, destinations));
    }
    let mut table = Table::new();
    for (key, (service, destinations)) in services {
        let protocol = key.protocol.to_string().to_uppercase();
        let name = format!("{protocol} {}:{}", key.address, key.port);
        let scheduler = service.scheduler.map_or("none", Scheduler::name);
        let one_packet = service.flags.contains(ServiceFlags::ONE_PACKET);
        let flags = if one_packet { " ops" } else { "" };
        table.insert(format!("{name} {scheduler}{flags}"));
        for destination in destinations.values() {
            let forwarding = match destination.forwarding {
                Forwarding::DirectRouting => "Route",
                Forwarding::Tunnel => "Tunnel",
                _ => "Masq",
            };
            let Destination { key, weight, .. } = destination;
            table.insert(format!("{name} -> {key} {forwarding} {weight}"));
        }
    }
    table
}

fn any_services(random: &mut StdRng) -> Services {
    let mut services = Services::new();
    for number in 0..4 {
        if random.random_bool(0.6) {
            let service = Service {
                persistence: random.random_bool(0.3).then_some(Persistence {
                    timeout: Duration::from_secs(60),
                    prefix_length: 24,
                }),
                ..any_service(random, number)
            };
            services.insert(service.key, (service, any_destinations(random)));
        }
    }
    services
}

fn any_desired(random: &mut StdRng) -> Desired {
    let presences = [Presence::Present, Presence::Absent, Presence::AsFound];
    let mut desired = Desired::default();
    for number in 0..4 {
        if random.random_bool(0.6) {
            let service = any_service(random, number);
            let destinations = any_destinations(random);
            let destinations = destinations.into_iter().map(|(key, destination)| {
                let presence = *presences.choose(random).unwrap_or(&Presence::Present);
                let desired = DesiredDestination {
                    destination,
                    presence,
                };
                (key, desired)
            });
            let wanted = DesiredService {
                name: format!("service {number}"),
                service,
                destinations: destinations.collect(),
            };
            desired.services.insert(service.key, wanted);
        }
    }
    desired
}

fn any_service(random: &mut StdRng, number: u8) -> Service {
    let flags = [
        ServiceFlags::NONE,
        ServiceFlags::ONE_PACKET,
        ServiceFlags::SCHEDULER_1,
        ServiceFlags::ONE_PACKET | ServiceFlags::SCHEDULER_2,
    ];
    Service {
        scheduler: SCHEDULERS.choose(random).copied(),
        flags: flags.choose(random).copied().unwrap_or_default(),
        ..service(number)
    }
}

fn any_destinations(random: &mut StdRng) -> BTreeMap<DestinationKey, Destination> {
    let ways = [
        Forwarding::DirectRouting,
        Forwarding::Tunnel,
        Forwarding::Masquerading,
    ];
    let mut destinations = BTreeMap::new();
    for number in 0..4 {
        if random.random_bool(0.6) {
            let upper_threshold = random.random_range(0..100);
            let destination = Destination {
                forwarding: *ways.choose(random).unwrap_or(&Forwarding::Tunnel),
                weight: random.random_range(0..4),
                upper_threshold,
                lower_threshold: random.random_range(0..=upper_threshold),
                ..destination(number)
            };
            destinations.insert(destination.key, destination);
        }
    }
    destinations
}

/// 192.0.2.100:53 by UDP and TCP, then 192.0.2.101 likewise.
fn service(number: u8) -> Service {
    Service {
        key: ServiceKey {
            address: Ipv4Addr::new(192, 0, 2, 100 + number / 2).into(),
            port: 53,
            protocol: [Protocol::Udp, Protocol::Tcp][usize::from(number % 2)],
        },
        scheduler: Some(Scheduler::WeightedRoundRobin),
        flags: ServiceFlags::NONE,
        persistence: None,
    }
}

/// 192.0.2.10:53 and up.
fn destination(number: u8) -> Destination {
    Destination {
        key: DestinationKey {
            address: Ipv4Addr::new(192, 0, 2, 10 + number).into(),
            port: 53,
        },
        forwarding: Forwarding::DirectRouting,
        weight: 1,
        upper_threshold: 0,
        lower_threshold: 0,
    }
}
