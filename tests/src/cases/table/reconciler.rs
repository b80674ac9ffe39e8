//! The director's data plane against a real kernel, without the rest of the director.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use director::config::Program;
use director::dataplane::{
    Desired, DesiredDestination, DesiredService, IpvsPlane, Presence, Reconciler, Standing,
};
use lvs_proto::Family;
use lvs_proto::ipvs::{
    Command, Daemon, DaemonRole, Destination, DestinationKey, Forwarding, Persistence, Protocol,
    Scheduler, Service, ServiceFlags, ServiceKey, Timeouts, Tunnel, TunnelChecksum,
};
use lvs_system::ipvs::Ipvs;
use nix::errno::Errno;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};

use crate::forwarding::{self, Table};
use crate::lab::{Host, Lab};
use crate::scenario::same_table;

type Services = BTreeMap<ServiceKey, (Service, BTreeMap<DestinationKey, Destination>)>;

/// The kernel's own: a record of 4 KiB is all that one read of `/proc` gives.
const MOST_SERVICES: usize = 5;
const MOST_SERVERS: u8 = 4;

/// The last octet of the servers that are this machine.
const OWN: u8 = 12;

const DIRECTORY: &str = "/run/lab/plane";

/// Any table becomes any other, whoever made the first one.
pub(super) fn the_kernel_becomes_what_is_desired(lab: &mut Lab) -> Result<()> {
    let pairs = lab.mode().choose(250, 1000);
    let seed: u64 = rand::random();
    let host = director(lab)?;
    in_thread(&host, move || {
        let start = Instant::now();
        let mut random = StdRng::seed_from_u64(seed);
        let mut kernel = Ipvs::open()?;
        let mut owned = BTreeSet::new();
        for pair in 0..pairs {
            let before = any_services(&mut random);
            let desired = any_desired(&mut random);
            let expected = expected(&before, &desired, &owned);
            become_desired(&mut kernel, &before, &desired, &expected).with_context(|| {
                format!("seed {seed}, pair {pair}: from {before:#?} to {desired:#?}")
            })?;
            owned = desired.services.into_keys().collect();
        }
        println!(
            "measured: {pairs} pairs, {:.1?} each",
            start.elapsed() / pairs
        );
        let mut reconciler = reconciler()?;
        reconciler.withdraw(Instant::now())?;
        for setting in SETTINGS {
            ensure!(sysctl(setting)? == "0", "{setting} is not put back");
        }
        Ok(())
    })
}

/// Time-outs and synchronization daemons are made, follow the role, and are put back.
pub(super) fn what_surrounds_the_table_is_put_back(lab: &mut Lab) -> Result<()> {
    let host = director(lab)?;
    in_thread(&host, || {
        let mut kernel = Ipvs::open()?;
        let found = kernel.timeouts()?;
        let mut reconciler = reconciler()?;
        let mut desired = Desired {
            timeouts: Timeouts {
                udp: 60,
                tcp: 0,
                tcp_fin: 30,
            },
            synchronization: Some(daemon(DaemonRole::Backup, 51)),
            ..Desired::default()
        };
        let roles = |kernel: &mut Ipvs| -> Result<Vec<(DaemonRole, u8)>> {
            let daemons = kernel.daemons()?.into_iter();
            Ok(daemons.map(|one| (one.role, one.identifier)).collect())
        };
        for (role, identifier) in [
            (DaemonRole::Backup, 51),
            (DaemonRole::Master, 51),
            (DaemonRole::Master, 52),
            (DaemonRole::Backup, 52),
        ] {
            desired.synchronization = Some(daemon(role, identifier));
            let outcome = reconciler.reconcile(&desired, Instant::now())?;
            ensure!(
                outcome.failures.is_empty() && outcome.complaints.is_empty(),
                "{outcome:?}"
            );
            let running = roles(&mut kernel)?;
            ensure!(running == [(role, identifier)], "{running:?}");
            let again = reconciler.plan(&desired)?;
            ensure!(again.is_empty(), "still to do: {again}");
        }
        let expected = Timeouts {
            udp: 60,
            tcp_fin: 30,
            ..found
        };
        ensure!(kernel.timeouts()? == expected, "{:?}", kernel.timeouts());

        // Somebody ends it: started again, and counted as drift.
        let command = Command::DeleteDaemon(DaemonRole::Backup);
        kernel.apply(&[command]).remove(0)?;
        let outcome = reconciler.reconcile(&desired, Instant::now())?;
        ensure!(
            outcome.repairs.len() == 1 && outcome.changes.len() == 1,
            "{outcome:?}"
        );

        // A successor that wants nothing any more finds what was there in the records.
        drop(reconciler);
        let mut successor = self::reconciler()?;
        successor.withdraw(Instant::now())?;
        ensure!(kernel.timeouts()? == found, "{:?}", kernel.timeouts());
        ensure!(roles(&mut kernel)?.is_empty(), "a daemon is left");

        // One that somebody else has started stays, and is named.
        let command = Command::NewDaemon(daemon(DaemonRole::Backup, 7));
        kernel.apply(&[command]).remove(0)?;
        let outcome = successor.reconcile(&desired, Instant::now())?;
        let complaints: Vec<String> = outcome.complaints.iter().map(ToString::to_string).collect();
        ensure!(
            complaints.len() == 1 && complaints[0].contains("id 7"),
            "{complaints:?}"
        );
        successor.withdraw(Instant::now())?;
        ensure!(roles(&mut kernel)? == [(DaemonRole::Backup, 7)], "ended");
        Ok(())
    })
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

/// A machine that has an address of each family that is also a real server's.
fn director(lab: &mut Lab) -> Result<Host> {
    let host = lab.add_host("director")?;
    host.add_address("lo", &format!("192.0.2.{OWN}/32"))?;
    host.add_address("lo", &format!("2001:db8::{OWN}/128"))?;
    Ok(host)
}

fn in_thread(host: &Host, job: impl FnOnce() -> Result<()> + Send + 'static) -> Result<()> {
    let thread = host.thread(job);
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn reconciler() -> Result<Reconciler<IpvsPlane>> {
    let directory = Path::new(DIRECTORY);
    Ok(Reconciler::open(IpvsPlane::open(directory)?, directory)?)
}

fn daemon(role: DaemonRole, identifier: u8) -> Daemon {
    Daemon {
        role,
        interface: "lo".into(),
        identifier,
        maximum_length: None,
        group: None,
        port: None,
        time_to_live: None,
    }
}

/// Each time by a director that has just started, so that what is owned comes from the record.
fn become_desired(
    kernel: &mut Ipvs,
    before: &Services,
    desired: &Desired,
    expected: &Services,
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
    let mut reconciler = reconciler()?;
    let planned = reconciler.plan(desired)?;
    let outcome = reconciler.reconcile(desired, Instant::now())?;
    ensure!(outcome.failures.is_empty(), "{outcome:?}");
    ensure!(outcome.changes == planned.changes, "planned {planned}");
    let again = reconciler.plan(desired)?;
    ensure!(again.is_empty(), "still to do: {again}");
    same_table("/proc", &shown()?, &written(expected))?;
    let found: Services = kernel
        .table()?
        .into_iter()
        .map(|entry| {
            let destinations = entry.destinations.iter().map(|found| found.destination);
            let destinations = destinations.map(|one| (one.key, one)).collect();
            (entry.service.key, (entry.service, destinations))
        })
        .collect();
    ensure!(&found == expected, "{found:#?} instead of {expected:#?}");
    for (setting, expected) in SETTINGS.into_iter().zip(expected_settings(desired)) {
        let value = sysctl(setting)?;
        let expected = if expected { "1" } else { "0" };
        ensure!(value == expected, "{setting} is {value}");
    }
    Ok(())
}

/// Those that are off by default.
const SETTINGS: [&str; 4] = [
    "net/ipv4/vs/expire_nodest_conn",
    "net/ipv4/vs/expire_quiescent_template",
    "net/ipv4/ip_forward",
    "net/ipv6/conf/all/forwarding",
];

fn sysctl(path: &str) -> Result<String> {
    let value = std::fs::read_to_string(format!("/proc/sys/{path}")).context(path.to_owned())?;
    Ok(value.trim_end().to_owned())
}

fn expected_settings(desired: &Desired) -> [bool; 4] {
    let services = || desired.services.values();
    let masquerades = |family| {
        let mut destinations = services().flat_map(|service| service.destinations.values());
        destinations.any(|one| {
            one.destination.forwarding == Forwarding::Masquerading
                && Family::of(one.destination.key.address) == family
        })
    };
    [
        services().next().is_some(),
        services().any(|one| one.service.persistence.is_some()),
        masquerades(Family::Ipv4),
        masquerades(Family::Ipv6),
    ]
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

/// What the kernel shall have.
fn expected(before: &Services, desired: &Desired, owned: &BTreeSet<ServiceKey>) -> Services {
    let strangers = before.iter().filter(|(key, _)| {
        !desired.services.contains_key(key) && !owned.contains(key) && !desired.exclusive
    });
    let mut services: Services = strangers
        .map(|(key, value)| (*key, value.clone()))
        .collect();
    for (key, wanted) in &desired.services {
        let is_own = |key: &DestinationKey| match key.address {
            IpAddr::V4(address) => address.octets()[3] == OWN,
            IpAddr::V6(address) => address.segments()[7] == 0x12,
        };
        let own = wanted.destinations.keys().any(is_own);
        let warm = desired.program == Program::Always && !own;
        let found = before.get(key);
        let only_own = match wanted.standing {
            Standing::Held => false,
            Standing::External | Standing::HandingOver => own,
            Standing::NotHeld | Standing::Adopting if warm => false,
            // What comes is taken here alone, while it can be.
            Standing::NotHeld => {
                let mut servers = wanted.destinations.iter();
                let takes = servers.any(|(key, one)| match one.presence {
                    Presence::Present => is_own(key) && one.destination.weight > 0,
                    Presence::Absent => false,
                    Presence::AsFound => {
                        is_own(key) && found.is_some_and(|(_, found)| found.contains_key(key))
                    }
                });
                if desired.program != Program::Always || !takes {
                    continue;
                }
                true
            }
            Standing::Adopting => {
                services.extend(found.map(|found| (*key, found.clone())));
                continue;
            }
        };
        let found = found.map(|(_, found)| found.clone()).unwrap_or_default();
        let used = |key: &DestinationKey| is_own(key) || !only_own;
        let here = wanted.destinations.iter().filter(|(key, wanted)| {
            let stays = wanted.presence == Presence::AsFound && found.contains_key(key);
            used(key) && (wanted.presence == Presence::Present || stays)
        });
        let mut destinations: BTreeMap<_, _> = here
            .map(|(key, wanted)| (*key, wanted.destination))
            .collect();
        // Others stay until there is a verdict on every server that is desired.
        let mut known = wanted.destinations.iter().filter(|(key, _)| used(key));
        if known.any(|(_, one)| one.presence == Presence::AsFound) {
            let others = found.iter();
            let others = others.filter(|(key, _)| !wanted.destinations.contains_key(key));
            destinations.extend(others.map(|(key, other)| (*key, *other)));
        }
        services.insert(*key, (wanted.service, destinations));
    }
    services
}

/// As `/proc` shows it.
fn written(services: &Services) -> Table {
    let mut table = Table::new();
    for (key, (service, destinations)) in services {
        let name = match key {
            ServiceKey::Socket { protocol, .. } => {
                let key = key.to_string();
                let (socket, _) = key.rsplit_once('/').unwrap_or_default();
                format!("{} {socket}", protocol.to_string().to_uppercase())
            }
            ServiceKey::FirewallMark { mark, .. } => format!("FWM {mark}"),
        };
        let scheduler = service.scheduler.map_or("none", Scheduler::name);
        let one_packet = service.flags.contains(ServiceFlags::ONE_PACKET);
        // It doesn't tell of an IPv6 service that has an address.
        let told = match key {
            ServiceKey::Socket { address, .. } => address.is_ipv4(),
            ServiceKey::FirewallMark { .. } => true,
        };
        let flags = if one_packet && told { " ops" } else { "" };
        table.insert(format!("{name} {scheduler}{flags}"));
        for destination in destinations.values() {
            let forwarding = match destination.forwarding {
                Forwarding::DirectRouting => "Route",
                Forwarding::Tunnel(_) => "Tunnel",
                _ => "Masq",
            };
            let Destination { key, weight, .. } = destination;
            table.insert(format!("{name} -> {key} {forwarding} {weight}"));
        }
    }
    table
}

fn any_services(random: &mut StdRng) -> Services {
    let services = any_keys(random).into_iter().map(|key| {
        let service = any_service(random, key);
        (key, (service, any_destinations(random, key)))
    });
    services.collect()
}

fn any_desired(random: &mut StdRng) -> Desired {
    let presences = [Presence::Present, Presence::Absent, Presence::AsFound];
    let standings = [
        Standing::Held,
        Standing::HandingOver,
        Standing::NotHeld,
        Standing::Adopting,
        Standing::External,
    ];
    let services = any_keys(random).into_iter().map(|key| {
        let destinations = any_destinations(random, key);
        let destinations = destinations.into_iter().map(|(key, destination)| {
            let presence = one_of(random, &presences);
            let desired = DesiredDestination {
                destination,
                presence,
                weight_as_found: false,
            };
            (key, desired)
        });
        let wanted = DesiredService {
            name: format!("service {key}"),
            destinations: destinations.collect(),
            service: any_service(random, key),
            standing: one_of(random, &standings),
        };
        (key, wanted)
    });
    Desired {
        services: services.collect(),
        program: one_of(random, &[Program::Always, Program::WhenActive]),
        exclusive: random.random_bool(0.2),
        ..Desired::default()
    }
}

fn one_of<T: Clone>(random: &mut StdRng, choices: &[T]) -> T {
    choices.choose(random).expect("choices").clone()
}

/// Some of two sockets of each family and transport, two that stand for all ports, and a mark of
/// each family.
fn any_keys(random: &mut StdRng) -> Vec<ServiceKey> {
    let mut keys = Vec::new();
    for address in [
        "192.0.2.100",
        "192.0.2.101",
        "2001:db8::100",
        "2001:db8::101",
    ] {
        for protocol in [Protocol::Udp, Protocol::Tcp, Protocol::Sctp] {
            keys.push(ServiceKey::Socket {
                address: address.parse().expect("an address"),
                port: 53,
                protocol,
            });
        }
    }
    for address in ["192.0.2.100", "2001:db8::100"] {
        keys.push(ServiceKey::Socket {
            address: address.parse().expect("an address"),
            port: 0,
            protocol: Protocol::Tcp,
        });
    }
    for (mark, family) in [(7, Family::Ipv4), (8, Family::Ipv6)] {
        let mark = NonZeroU32::new(mark).expect("a mark");
        keys.push(ServiceKey::FirewallMark { mark, family });
    }
    keys.shuffle(random);
    keys.truncate(random.random_range(0..=MOST_SERVICES));
    keys
}

fn any_service(random: &mut StdRng, key: ServiceKey) -> Service {
    let flags = [
        ServiceFlags::NONE,
        ServiceFlags::ONE_PACKET,
        ServiceFlags::SCHEDULER_1,
        ServiceFlags::ONE_PACKET | ServiceFlags::SCHEDULER_2,
    ];
    let prefix_length = match key.family() {
        Family::Ipv4 => random.random_range(1..=32),
        Family::Ipv6 => random.random_range(1..=128),
    };
    let all_ports = port(key) == 0;
    Service {
        key,
        scheduler: Some(one_of(random, &Scheduler::ALL)),
        flags: one_of(random, &flags),
        persistence: (all_ports || random.random_bool(0.3)).then_some(Persistence {
            timeout: Duration::from_secs(random.random_range(1..1000)),
            prefix_length,
        }),
    }
}

fn port(key: ServiceKey) -> u16 {
    match key {
        ServiceKey::Socket { port, .. } => port,
        ServiceKey::FirewallMark { .. } => 0,
    }
}

/// Of the service's family, and now and then of the other one by a tunnel.
fn any_destinations(random: &mut StdRng, key: ServiceKey) -> BTreeMap<DestinationKey, Destination> {
    let port_number = NonZeroU16::new(6080).expect("a port");
    let checksums = [
        TunnelChecksum::None,
        TunnelChecksum::Plain,
        TunnelChecksum::Remote,
    ];
    let mut destinations = BTreeMap::new();
    for number in 0..MOST_SERVERS {
        if random.random_bool(0.4) {
            continue;
        }
        let tunnels = [
            Tunnel::IpIp,
            Tunnel::Gue {
                port: port_number,
                checksum: one_of(random, &checksums),
            },
            Tunnel::Gre {
                checksum: one_of(random, &checksums[..2]),
            },
        ];
        let tunnel = Forwarding::Tunnel(one_of(random, &tunnels));
        let crosses = random.random_bool(0.1);
        let is_ipv4 = (key.family() == Family::Ipv4) != crosses;
        let address = if is_ipv4 {
            format!("192.0.2.{}", 10 + number)
        } else {
            format!("2001:db8::{}", 10 + number)
        };
        let masqueraded = !crosses && random.random_bool(0.3);
        let forwarding = if masqueraded {
            Forwarding::Masquerading
        } else if crosses {
            tunnel
        } else {
            one_of(random, &[Forwarding::DirectRouting, tunnel])
        };
        let upper_threshold = random.random_range(0..100);
        let destination = Destination {
            key: DestinationKey {
                address: address.parse().expect("an address"),
                port: if masqueraded && port(key) != 0 && random.random() {
                    5353
                } else {
                    port(key)
                },
            },
            forwarding,
            weight: random.random_range(0..4),
            upper_threshold,
            lower_threshold: random.random_range(0..=upper_threshold),
        };
        destinations.insert(destination.key, destination);
    }
    destinations
}

fn service(number: u8) -> Service {
    Service {
        key: ServiceKey::Socket {
            address: [192, 0, 2, 100 + number].into(),
            port: 53,
            protocol: Protocol::Udp,
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
            address: [192, 0, 2, 10 + number].into(),
            port: 53,
        },
        forwarding: Forwarding::DirectRouting,
        weight: 1,
        upper_threshold: 0,
        lower_threshold: 0,
    }
}
