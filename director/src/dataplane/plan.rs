//! The difference between the desired and the actual table.

use std::collections::BTreeMap;
use std::fmt;

use lvs_proto::ipvs::{
    Command, Destination, DestinationKey, FoundDestination, Scheduler, Service, ServiceFlags,
    ServiceKey,
};

use super::table::{Actual, Desired, DesiredService, Owned, Presence};

/// Changes in the order in which they are to be made; none when the table is as desired.
///
/// Written with one change a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The changes.
    pub changes: Vec<Change>,
}

/// One change, in operator's words on one line when written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The operator's name of the service.
    pub service: String,
    /// Which of the service's keys.
    pub key: ServiceKey,
    /// What is done to it.
    pub action: Action,
}

/// What is done to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is made, without destinations.
    AddService {
        /// What it becomes.
        to: Service,
    },
    /// Its settings are changed; destinations and connections stay.
    SetService {
        /// What it is.
        from: Service,
        /// What it becomes.
        to: Service,
    },
    /// It is removed with its destinations.
    RemoveService,
    /// It gets another destination.
    AddDestination {
        /// What it becomes.
        to: Destination,
    },
    /// A destination's settings are changed.
    SetDestination {
        /// What it is.
        from: Destination,
        /// What it becomes.
        to: Destination,
    },
    /// A destination is removed.
    RemoveDestination {
        /// Which one.
        destination: DestinationKey,
    },
}

/// What has to be done to `actual` so that it becomes `desired`.
///
/// Services that are neither desired nor in `owned` are somebody else's and left alone; owned ones
/// that are no longer desired are removed. A desired service that is already there is changed
/// where it differs, never removed and made again. Within a service, servers come and gain weight
/// before others lose weight and go: a service that has a server before and after is never
/// without one. Servers that are not desired go once there is a verdict on every one that is.
pub fn plan(desired: &Desired, actual: &Actual, owned: &Owned) -> Plan {
    let mut changes = Vec::new();
    for (key, wanted) in &desired.services {
        plan_service(*key, wanted, actual, &mut changes);
    }
    for (key, name) in owned {
        if !desired.services.contains_key(key) && actual.services.contains_key(key) {
            changes.push(Change {
                service: name.clone(),
                key: *key,
                action: Action::RemoveService,
            });
        }
    }
    Plan { changes }
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

impl Change {
    /// The request that makes the change.
    pub fn command(&self) -> Command {
        match self.action {
            Action::AddService { to } => Command::NewService(to),
            Action::SetService { to, .. } => Command::SetService(to),
            Action::RemoveService => Command::DeleteService(self.key),
            Action::AddDestination { to } => Command::NewDestination(self.key, to),
            Action::SetDestination { to, .. } => Command::SetDestination(self.key, to),
            Action::RemoveDestination { destination } => {
                Command::DeleteDestination(self.key, destination)
            }
        }
    }
}

fn plan_service(
    key: ServiceKey,
    wanted: &DesiredService,
    actual: &Actual,
    changes: &mut Vec<Change>,
) {
    let mut push = |action| {
        changes.push(Change {
            service: wanted.name.clone(),
            key,
            action,
        });
    };
    let none = BTreeMap::new();
    let found = match actual.services.get(&key) {
        None => {
            push(Action::AddService { to: wanted.service });
            &none
        }
        Some(found) => {
            if found.service != wanted.service {
                push(Action::SetService {
                    from: found.service,
                    to: wanted.service,
                });
            }
            &found.destinations
        }
    };
    let mut actions = destination_actions(wanted, found);
    actions.sort_by_key(|action| rank(*action));
    actions.into_iter().for_each(push);
}

fn destination_actions(
    wanted: &DesiredService,
    found: &BTreeMap<DestinationKey, FoundDestination>,
) -> Vec<Action> {
    let mut actions = Vec::new();
    for (key, wanted) in &wanted.destinations {
        let to = wanted.destination;
        match (found.get(key), wanted.presence) {
            (None, Presence::Present) => actions.push(Action::AddDestination { to }),
            (Some(found), Presence::Present | Presence::AsFound) => {
                let from = found.destination;
                if from != to {
                    actions.push(Action::SetDestination { from, to });
                }
            }
            (Some(_), Presence::Absent) => {
                actions.push(Action::RemoveDestination { destination: *key });
            }
            (None, Presence::Absent | Presence::AsFound) => {}
        }
    }
    // Others keep the service going until there is a verdict on each of ours.
    let settled = wanted
        .destinations
        .values()
        .all(|one| one.presence != Presence::AsFound);
    if settled {
        for key in found
            .keys()
            .filter(|key| !wanted.destinations.contains_key(key))
        {
            actions.push(Action::RemoveDestination { destination: *key });
        }
    }
    actions
}

/// Smaller ones are done first.
fn rank(action: Action) -> u8 {
    match action {
        Action::AddService { .. } | Action::SetService { .. } => 0,
        Action::AddDestination { .. } => 1,
        Action::SetDestination { from, to } if to.weight > from.weight => 2,
        Action::SetDestination { .. } => 3,
        Action::RemoveDestination { .. } => 4,
        Action::RemoveService => 5,
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.changes
            .iter()
            .try_for_each(|change| writeln!(formatter, "{change}"))
    }
}

impl fmt::Display for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "service {} {}: ", self.service, self.key)?;
        match self.action {
            Action::AddService { to } => {
                write!(formatter, "add, {}", described(&service_settings(&to)))
            }
            Action::SetService { from, to } => formatter.write_str(&differences(
                &service_settings(&from),
                &service_settings(&to),
            )),
            Action::RemoveService => formatter.write_str("remove"),
            Action::AddDestination { to } => write!(
                formatter,
                "add server {}, {}",
                to.key,
                described(&destination_settings(&to))
            ),
            Action::SetDestination { from, to } => write!(
                formatter,
                "server {}: {}",
                to.key,
                differences(&destination_settings(&from), &destination_settings(&to))
            ),
            Action::RemoveDestination { destination } => {
                write!(formatter, "remove server {destination}")
            }
        }
    }
}

/// A setting's name and its value; [`OFF`] where it isn't used.
type Setting = (&'static str, String);

const OFF: &str = "off";

fn service_settings(service: &Service) -> Vec<Setting> {
    let scheduler = service.scheduler.map_or("unknown", Scheduler::name);
    let flags = match service.flags {
        ServiceFlags::NONE => OFF.to_owned(),
        flags => flags.to_string(),
    };
    let persistence = service.persistence.map_or_else(
        || OFF.to_owned(),
        |kept| format!("{} s /{}", kept.timeout.as_secs(), kept.prefix_length),
    );
    vec![
        ("scheduler", scheduler.to_owned()),
        ("flags", flags),
        ("persistence", persistence),
    ]
}

fn destination_settings(destination: &Destination) -> Vec<Setting> {
    let threshold = |connections: u32| match connections {
        0 => OFF.to_owned(),
        connections => connections.to_string(),
    };
    vec![
        ("forwarding", destination.forwarding.to_string()),
        ("weight", destination.weight.to_string()),
        ("upper threshold", threshold(destination.upper_threshold)),
        ("lower threshold", threshold(destination.lower_threshold)),
    ]
}

/// Those settings that are used.
fn described(settings: &[Setting]) -> String {
    let used = settings.iter().filter(|(_, value)| value != OFF);
    let described: Vec<String> = used
        .map(|(name, value)| format!("{name} {value}"))
        .collect();
    described.join(", ")
}

/// Those settings that differ.
fn differences(from: &[Setting], to: &[Setting]) -> String {
    let differences: Vec<String> = from
        .iter()
        .zip(to)
        .filter(|(from, to)| from != to)
        .map(|((name, from), (_, to))| format!("{name} {from} → {to}"))
        .collect();
    differences.join(", ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use lvs_proto::ipvs::Forwarding;

    use super::super::fake::{self, FakeKernel};
    use super::*;

    use proptest::prelude::*;

    fn written(desired: &Desired, kernel: &FakeKernel, owned: &Owned) -> Vec<String> {
        plan(desired, &kernel.actual(), owned)
            .to_string()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn a_plan_reads_as_an_operator_would_say_it() {
        let key = fake::service_key(0);
        let mut service = fake::service(key);
        service.flags = ServiceFlags::ONE_PACKET;
        let mut wanted = Desired::default();
        wanted.services.insert(
            key,
            fake::desired_service(
                service,
                [
                    (fake::destination(0, 1), Presence::Present),
                    (fake::destination(1, 3), Presence::Present),
                    (fake::destination(2, 1), Presence::AsFound),
                ],
            ),
        );
        let mut kernel = FakeKernel::default();
        assert_eq!(
            written(&wanted, &kernel, &Owned::new()),
            [
                "service resolver 192.0.2.100:53/udp: add, scheduler wrr, flags ops",
                "service resolver 192.0.2.100:53/udp: add server 192.0.2.10:53, \
                 forwarding direct-routing, weight 1",
                "service resolver 192.0.2.100:53/udp: add server 192.0.2.11:53, \
                 forwarding direct-routing, weight 3",
            ]
        );

        kernel.add_service(Service {
            scheduler: Some(Scheduler::RoundRobin),
            flags: ServiceFlags::NONE,
            ..service
        });
        kernel.add_destination(key, fake::destination(1, 1));
        kernel.add_destination(
            key,
            Destination {
                forwarding: Forwarding::Masquerading,
                ..fake::destination(0, 1)
            },
        );
        kernel.add_destination(key, fake::destination(3, 1));
        let gone = fake::service_key(1);
        kernel.add_service(fake::service(gone));
        let owned = Owned::from([(gone, "retired".to_owned())]);
        assert_eq!(
            written(&wanted, &kernel, &owned),
            [
                "service resolver 192.0.2.100:53/udp: scheduler rr → wrr, flags off → ops",
                "service resolver 192.0.2.100:53/udp: server 192.0.2.11:53: weight 1 → 3",
                "service resolver 192.0.2.100:53/udp: server 192.0.2.10:53: \
                 forwarding masquerading → direct-routing",
                "service retired 192.0.2.100:53/tcp: remove",
            ]
        );
    }

    /// All servers replaced at once: the old ones serve until the new ones are known.
    #[test]
    fn undesired_servers_go_once_there_is_a_verdict_on_every_desired_one() {
        let key = fake::service_key(0);
        let mut kernel = FakeKernel::default();
        kernel.add_service(fake::service(key));
        kernel.add_destination(key, fake::destination(3, 1));
        let wanted = |presence| {
            let destinations = [(fake::destination(0, 1), presence)];
            let service = fake::desired_service(fake::service(key), destinations);
            Desired {
                services: BTreeMap::from([(key, service)]),
            }
        };
        let plan = |presence| written(&wanted(presence), &kernel, &Owned::new());
        assert!(plan(Presence::AsFound).is_empty());
        let remove = "service resolver 192.0.2.100:53/udp: remove server 192.0.2.13:53";
        assert_eq!(plan(Presence::Absent), [remove]);
        assert_eq!(
            plan(Presence::Present).last().map(String::as_str),
            Some(remove)
        );
    }

    #[test]
    fn somebody_else_s_services_are_left_alone() {
        let mut kernel = FakeKernel::default();
        kernel.add_service(fake::service(fake::service_key(0)));
        assert!(plan(&Desired::default(), &kernel.actual(), &Owned::new()).is_empty());
    }

    /// What the table must be after `plan` was applied to `before`.
    fn expected(desired: &Desired, before: &FakeKernel, owned: &Owned) -> FakeKernel {
        let mut expected = before.clone();
        for key in owned.keys() {
            expected.services.remove(key);
        }
        for (key, wanted) in &desired.services {
            let found = before.services.get(key);
            let stays = |key| found.is_some_and(|(_, destinations)| destinations.contains_key(key));
            let mut destinations: BTreeMap<_, _> = wanted
                .destinations
                .iter()
                .filter(|(key, wanted)| match wanted.presence {
                    Presence::Present => true,
                    Presence::Absent => false,
                    Presence::AsFound => stays(key),
                })
                .map(|(key, wanted)| (*key, wanted.destination))
                .collect();
            let mut presences = wanted.destinations.values().map(|one| one.presence);
            if presences.any(|presence| presence == Presence::AsFound)
                && let Some((_, found)) = found
            {
                let others = found
                    .iter()
                    .filter(|(key, _)| !wanted.destinations.contains_key(key));
                destinations.extend(others.map(|(key, other)| (*key, *other)));
            }
            expected
                .services
                .insert(*key, (wanted.service, destinations));
        }
        expected
    }

    /// Services that can take a packet.
    fn usable(kernel: &FakeKernel) -> Vec<ServiceKey> {
        let usable = kernel.services.iter().filter(|(_, (_, destinations))| {
            destinations
                .values()
                .any(|destination| destination.weight > 0)
        });
        usable.map(|(key, _)| *key).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn a_plan_makes_the_table_as_desired_without_emptying_a_service_on_the_way(
            desired in fake::any_desired(),
            before in fake::any_kernel(),
            owned in fake::any_owned(),
        ) {
            let mut kernel = before.clone();
            let steps = plan(&desired, &kernel.actual(), &owned);
            let after = expected(&desired, &before, &owned);
            let throughout: Vec<ServiceKey> = usable(&before)
                .into_iter()
                .filter(|key| usable(&after).contains(key))
                .collect();
            for change in &steps.changes {
                prop_assert!(kernel.execute(&change.command()).is_ok(), "{}", change);
                for key in &throughout {
                    prop_assert!(usable(&kernel).contains(key), "{} empties {}", change, key);
                }
            }
            prop_assert_eq!(&kernel, &after);
            let again = plan(&desired, &kernel.actual(), &owned);
            prop_assert!(again.is_empty(), "{}", again);
        }
    }
}
