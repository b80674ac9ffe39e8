//! The difference between the desired and the actual table.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use lvs_proto::Family;
use lvs_proto::ipvs::{
    Daemon, DestinationKey, FoundDestination, Protocol, ServiceFlags, ServiceKey, Timeouts,
};

use super::change::{Action, Change};
use super::rotation::{REST, flows_move};
use super::settings;
use super::table::{
    Actual, Desired, DesiredDestination, DesiredService, Owned, Presence, Standing,
};
use crate::config::Program;

/// Changes in the order in which they are to be made; none when the table is as desired.
///
/// Written with one change a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The changes.
    pub changes: Vec<Change>,
    /// What can't be as desired, and changes nothing.
    pub complaints: Vec<PlanComplaint>,
    /// What an operator should know of.
    pub notes: BTreeSet<PlanNote>,
}

/// Something that an operator should know of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum PlanNote {
    /// The changes are followed by others that move flows.
    #[error(
        "service {service}: each of its servers leaves for {} ms, one at a time, so that the flows \
         that are pinned to it move", REST.as_millis()
    )]
    FlowsMove {
        /// The operator's name of the service.
        service: String,
    },
    /// The kernel keeps an entry for every client's port and finds them slowly.
    #[error(
        "service {service}: one-packet scheduling is off for UDP on port 53, so that every port of \
         every client becomes an entry of the kernel's connection table, which has only {rows} rows \
         and gets slow with many; write `options ip_vs conn_tab_bits=20` to {place}, in \
         place of what stands there, which counts from the next time that the module is loaded",
        place = MODULE_OPTIONS
    )]
    SmallConnectionTable {
        /// The operator's name of the service.
        service: String,
        /// The rows of the kernel's hash table.
        rows: u32,
    },
}

/// Below so many rows of the connection table each holds several entries as soon as a few hundred new
/// flows a second stay for the kernel's 300 s.
pub(crate) const FEW_ROWS: u32 = 1 << 16;

/// The package's own: of two files that give an option, the one whose name comes last counts.
pub(crate) const MODULE_OPTIONS: &str = "/etc/modprobe.d/lvs-director.conf";

/// Something that is desired and can't be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanComplaint {
    /// The operator brings the address of a service, and this machine is one of its real servers.
    #[error(
        "service {service} has an external address, and its real server {} is this machine: only \
         this machine serves it here, since two directors that name each other would pass a query \
         to and fro until its TTL ends; let a virtual router hold the address, or take this \
         machine out of the service", listed(.servers)
    )]
    OwnServer {
        /// The operator's name of the service.
        service: String,
        /// The real servers that are this machine.
        servers: BTreeSet<IpAddr>,
    },
    /// A synchronization daemon runs that this program has not started.
    #[error(
        "synchronization: somebody else runs a daemon as {found}, not as {wanted}; end it with \
         `ipvsadm --stop-daemon {}`", .found.role
    )]
    ForeignDaemon {
        /// The one that should run.
        wanted: Daemon,
        /// The one that does.
        found: Daemon,
    },
    /// The kernel can't synchronize while a server is reached over another family.
    #[error(
        "synchronization: the kernel can't tell of connections while service {service} has real \
         servers of another family than its own; no daemon runs until these are gone"
    )]
    MixedFamilies {
        /// The operator's name of the service.
        service: String,
    },
}

/// How much of a desired service is in the kernel of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// All of it.
    Whole,
    /// Those of its servers that are this machine.
    OwnServers,
    /// None of it.
    Nothing,
    /// What is there: it is neither made nor removed nor changed.
    AsFound,
}

/// Servers that are out of the table for the moment.
pub(super) type Resting = BTreeSet<(ServiceKey, DestinationKey)>;

/// What has to be done to `actual` so that it becomes `desired`.
///
/// Services that are neither desired nor in `owned` are somebody else's and left alone unless
/// `exclusive` is desired; owned ones that are no longer desired are removed. A desired service
/// that is already there is changed where it differs, never removed and made again. Within a
/// service, servers come and gain weight before others lose weight and go: a service that has a
/// server before and after is never without one. Servers that are not desired go once there is a
/// verdict on every one that is.
///
/// A service is there while its address is held here or external. One that another director holds
/// is there too, if so desired. But where one of its servers is this machine, the other director
/// sends packets here, and this one would send them back: such a service has no server here but
/// this machine until the address is held here alone, and is there only while this machine can take
/// what comes. So a promotion adds the other servers to a service that takes packets all the while.
///
/// The `resting` servers are taken out whatever is desired.
pub(super) fn plan(desired: &Desired, actual: &Actual, owned: &Owned, resting: &Resting) -> Plan {
    let mut plan = Plan::default();
    let (wanted_settings, unwanted_settings) = plan_settings(desired, actual, owned);
    plan.changes.extend(wanted_settings);
    plan.changes.extend(plan_timeouts(desired, actual, owned));
    let mut services = Plan::default();
    plan_services(desired, actual, owned, resting, &mut services);
    let daemons = plan_daemons(desired, actual, owned, &services);
    plan.changes.extend(daemons.before);
    plan.changes.extend(services.changes);
    plan.changes.extend(daemons.after);
    plan.changes.extend(unwanted_settings);
    plan.complaints.extend(services.complaints);
    plan.notes = services.notes;
    plan.notes.extend(small_connection_table(desired, actual));
    plan.complaints.extend(daemons.complaint);
    plan
}

impl Plan {
    /// The same without what concerns services for probes, which are nobody's.
    pub(super) fn without_probes(mut self) -> Self {
        self.changes.retain(|change| !change.is_for_probes());
        self
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// How much of a service is in the kernel of a machine with these addresses, where it `found` these
/// servers.
pub(super) fn extent(
    service: &DesiredService,
    program: Program,
    local_addresses: &BTreeSet<IpAddr>,
    found: Option<&BTreeMap<DestinationKey, FoundDestination>>,
) -> Extent {
    let serves_itself = || own_servers(service, local_addresses).next().is_some();
    let takes = |(key, wanted): (&DestinationKey, &DesiredDestination)| match wanted.presence {
        Presence::Present => wanted.destination.weight > 0,
        Presence::Absent => false,
        Presence::AsFound => found.is_some_and(|found| found.contains_key(key)),
    };
    let takes_packets = || {
        let mut destinations = service.destinations.iter();
        destinations.any(|one| is_own(one.0.address, local_addresses) && takes(one))
    };
    match service.standing {
        Standing::External | Standing::HandingOver if serves_itself() => Extent::OwnServers,
        Standing::Held | Standing::External | Standing::HandingOver => Extent::Whole,
        Standing::NotHeld | Standing::Adopting
            if program == Program::Always && !serves_itself() =>
        {
            Extent::Whole
        }
        Standing::NotHeld if program == Program::Always && takes_packets() => Extent::OwnServers,
        Standing::NotHeld => Extent::Nothing,
        Standing::Adopting => Extent::AsFound,
    }
}

/// Whether a real server is used by a service of that extent, on a machine with these addresses.
pub(super) fn is_used(
    destination: &DestinationKey,
    extent: Extent,
    local_addresses: &BTreeSet<IpAddr>,
) -> bool {
    match extent {
        Extent::Whole => true,
        Extent::OwnServers => is_own(destination.address, local_addresses),
        Extent::Nothing | Extent::AsFound => false,
    }
}

fn own_servers<'a>(
    service: &'a DesiredService,
    local_addresses: &'a BTreeSet<IpAddr>,
) -> impl Iterator<Item = IpAddr> + 'a {
    let addresses = service.destinations.keys().map(|key| key.address);
    addresses.filter(|address| is_own(*address, local_addresses))
}

/// Whether packets to `address` end on a machine with these addresses.
pub(super) fn is_own(address: IpAddr, local_addresses: &BTreeSet<IpAddr>) -> bool {
    address.is_loopback() || local_addresses.contains(&address)
}

fn plan_services(
    desired: &Desired,
    actual: &Actual,
    owned: &Owned,
    resting: &Resting,
    plan: &mut Plan,
) {
    let mut serving_themselves: BTreeMap<&str, BTreeSet<IpAddr>> = BTreeMap::new();
    let mut leaving = Vec::new();
    for (key, wanted) in &desired.services {
        let local = &actual.local_addresses;
        let found = actual.services.get(key).map(|found| &found.destinations);
        let extent = extent(wanted, desired.program, local, found);
        let used = |destination: &DestinationKey| is_used(destination, extent, local);
        match extent {
            Extent::Whole => plan_service(*key, wanted, used, actual, resting, plan),
            Extent::OwnServers => {
                if wanted.standing == Standing::External {
                    let servers = serving_themselves.entry(&wanted.name).or_default();
                    servers.extend(own_servers(wanted, local));
                }
                plan_service(*key, wanted, used, actual, resting, plan);
            }
            Extent::Nothing => leaving.push((*key, Some(wanted.name.clone()))),
            Extent::AsFound => {}
        }
    }
    let undesired = actual.services.keys().filter_map(|key| {
        let name = owned.services.get(key);
        let goes = !desired.services.contains_key(key) && (name.is_some() || desired.exclusive);
        goes.then(|| (*key, name.cloned()))
    });
    leaving.extend(undesired);
    for (key, service) in leaving {
        if actual.services.contains_key(&key) {
            plan.changes.push(Change::Service {
                service,
                key,
                action: Action::RemoveService,
            });
        }
    }
    for (service, servers) in serving_themselves {
        plan.complaints.push(PlanComplaint::OwnServer {
            service: service.to_owned(),
            servers,
        });
    }
}

fn small_connection_table(desired: &Desired, actual: &Actual) -> impl Iterator<Item = PlanNote> {
    let rows = actual.connection_table_rows;
    let keeps_flows = move |(key, service): &(&ServiceKey, &DesiredService)| {
        rows < FEW_ROWS
            && matches!(
                key,
                ServiceKey::Socket {
                    port: 53,
                    protocol: Protocol::Udp,
                    ..
                }
            )
            && !service.service.flags.contains(ServiceFlags::ONE_PACKET)
    };
    let services = desired.services.iter().filter(keeps_flows);
    services.map(move |(_, service)| PlanNote::SmallConnectionTable {
        service: service.name.clone(),
        rows,
    })
}

fn plan_service(
    key: ServiceKey,
    wanted: &DesiredService,
    is_used: impl Fn(&DestinationKey) -> bool,
    actual: &Actual,
    resting: &Resting,
    plan: &mut Plan,
) {
    let Plan { changes, notes, .. } = plan;
    let mut push = |action| {
        changes.push(Change::Service {
            service: Some(wanted.name.clone()),
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
                let (from, to) = (found.service, wanted.service);
                push(Action::SetService { from, to });
                if flows_move(&from, &to) && found.destinations.len() > 1 {
                    let service = wanted.name.clone();
                    notes.insert(PlanNote::FlowsMove { service });
                }
            }
            &found.destinations
        }
    };
    let used = wanted.destinations.iter().map(|(destination, wanted)| {
        let rests = resting.contains(&(key, *destination));
        let presence = if is_used(destination) && !rests {
            wanted.presence
        } else {
            Presence::Absent
        };
        DesiredDestination {
            presence,
            ..*wanted
        }
    });
    let mut actions = destination_actions(used, &wanted.destinations, found);
    actions.sort_by_key(|action| rank(*action));
    actions.into_iter().for_each(push);
}

fn destination_actions(
    used: impl Iterator<Item = DesiredDestination>,
    known: &BTreeMap<DestinationKey, DesiredDestination>,
    found: &BTreeMap<DestinationKey, FoundDestination>,
) -> Vec<Action> {
    let mut actions = Vec::new();
    // Others keep the service going until there is a verdict on each of ours.
    let mut settled = true;
    for wanted in used {
        let mut to = wanted.destination;
        settled &= wanted.presence != Presence::AsFound;
        match (found.get(&to.key), wanted.presence) {
            (None, Presence::Present) => actions.push(Action::AddDestination { to }),
            (Some(found), Presence::Present | Presence::AsFound) => {
                let from = found.destination;
                if wanted.weight_as_found {
                    to.weight = from.weight;
                }
                if from != to {
                    actions.push(Action::SetDestination { from, to });
                }
            }
            (Some(_), Presence::Absent) => actions.push(Action::RemoveDestination {
                destination: to.key,
            }),
            (None, Presence::Absent | Presence::AsFound) => {}
        }
    }
    if settled {
        let others = found.keys().filter(|key| !known.contains_key(key));
        actions.extend(others.map(|key| Action::RemoveDestination { destination: *key }));
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

/// Those that have to be made before anything is forwarded, and those to put back at last.
fn plan_settings(desired: &Desired, actual: &Actual, owned: &Owned) -> (Vec<Change>, Vec<Change>) {
    let change = |name: &str, to: &str| {
        let from = actual.settings.get(name)?;
        (from != to).then(|| Change::Setting {
            name: name.to_owned(),
            from: from.clone(),
            to: to.to_owned(),
        })
    };
    let wanted: BTreeSet<&str> = settings::wanted(desired).collect();
    let made = wanted.iter().filter_map(|name| change(name, settings::ON));
    let unwanted = owned
        .settings
        .iter()
        .filter(|(name, _)| !wanted.contains(name.as_str()));
    let put_back = unwanted.filter_map(|(name, found)| change(name, found));
    (made.collect(), put_back.collect())
}

fn plan_timeouts(desired: &Desired, actual: &Actual, owned: &Owned) -> Option<Change> {
    let [wanted, actually, found] = [desired.timeouts, actual.timeouts, owned.timeouts]
        .map(|one| [one.tcp, one.tcp_fin, one.udp]);
    let becomes = |index: usize| {
        let to = if wanted[index] == 0 {
            found[index]
        } else {
            wanted[index]
        };
        if to == actually[index] { 0 } else { to }
    };
    let to = Timeouts {
        tcp: becomes(0),
        tcp_fin: becomes(1),
        udp: becomes(2),
    };
    (to != Timeouts::default()).then_some(Change::Timeouts {
        from: actual.timeouts,
        to,
    })
}

#[derive(Default)]
struct DaemonChanges {
    /// Those that would keep the services from becoming what they should be.
    before: Vec<Change>,
    after: Vec<Change>,
    complaint: Option<PlanComplaint>,
}

/// A daemon is started before the one of the other role is ended, so that a director that becomes
/// Active misses nothing that its predecessor still says.
fn plan_daemons(
    desired: &Desired,
    actual: &Actual,
    owned: &Owned,
    services: &Plan,
) -> DaemonChanges {
    let mut changes = DaemonChanges::default();
    let ours = |found: &Daemon| owned.daemons.iter().any(|one| one.is_satisfied_by(found));
    let mixed = mixed_service(desired, actual, services);
    let wanted = match (&desired.synchronization, mixed) {
        (Some(_), Some(service)) => {
            changes.complaint = Some(PlanComplaint::MixedFamilies { service });
            None
        }
        (wanted, _) => wanted.as_ref(),
    };
    let Some(wanted) = wanted else {
        let ends = actual.daemons.iter().filter(|found| ours(found));
        changes.before = ends.cloned().map(Change::EndDaemon).collect();
        return changes;
    };
    let of_role = |found: &&Daemon| found.role == wanted.role;
    match actual.daemons.iter().find(of_role) {
        Some(found) if wanted.is_satisfied_by(found) => {}
        Some(found) if ours(found) => {
            changes.after.push(Change::EndDaemon(found.clone()));
            changes.after.push(Change::StartDaemon(wanted.clone()));
        }
        Some(found) => {
            changes.complaint = Some(PlanComplaint::ForeignDaemon {
                wanted: wanted.clone(),
                found: found.clone(),
            });
        }
        None => changes.after.push(Change::StartDaemon(wanted.clone())),
    }
    let others = actual.daemons.iter().filter(|found| !of_role(found));
    let ends = others.filter(|found| ours(found));
    changes.after.extend(ends.cloned().map(Change::EndDaemon));
    changes
}

/// A service that has, or may come to have, real servers of another family; `services` is what is
/// done to them.
fn mixed_service(desired: &Desired, actual: &Actual, services: &Plan) -> Option<String> {
    let is_mixed = |key: ServiceKey, destination: DestinationKey| {
        Family::of(destination.address) != key.family()
    };
    let configured = desired.services.iter().find(|(key, service)| {
        let mut destinations = service.destinations.keys();
        destinations.any(|destination| is_mixed(**key, *destination))
    });
    let goes = |key: ServiceKey, destination: DestinationKey| {
        services.changes.iter().any(|change| {
            matches!(change, Change::Service { key: changed, action, .. } if *changed == key
                && (*action == Action::RemoveService
                    || *action == Action::RemoveDestination { destination }))
        })
    };
    let left = actual.services.iter().find(|(key, service)| {
        let destinations = service.destinations.keys();
        let mut mixed = destinations.filter(|destination| is_mixed(**key, **destination));
        mixed.any(|destination| !goes(**key, *destination))
    });
    configured
        .map(|(_, service)| service.name.clone())
        .or_else(|| left.map(|(key, _)| key.to_string()))
}

fn listed(addresses: &BTreeSet<IpAddr>) -> String {
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    addresses.join(", ")
}

impl fmt::Display for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.changes
            .iter()
            .try_for_each(|change| writeln!(formatter, "{change}"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use lvs_proto::ipvs::{Destination, Forwarding, Scheduler, Service};

    use super::super::fake::{self, FakeKernel};
    use super::*;

    use proptest::prelude::*;

    fn written(desired: &Desired, kernel: &FakeKernel, owned: &Owned) -> Vec<String> {
        plan(desired, &kernel.actual(), owned, &Resting::new())
            .to_string()
            .lines()
            .filter(|line| !line.starts_with("setting "))
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
            written(&wanted, &kernel, &Owned::default()),
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
        let owned = Owned {
            services: [(gone, "retired".to_owned())].into(),
            ..Owned::default()
        };
        assert_eq!(
            written(&wanted, &kernel, &owned),
            [
                "service resolver 192.0.2.100:53/udp: scheduler rr → wrr, flags off → ops",
                "service resolver 192.0.2.100:53/udp: server 192.0.2.11:53: weight 1 → 3",
                "service resolver 192.0.2.100:53/udp: server 192.0.2.10:53: \
                 forwarding masquerade → direct-routing",
                "service retired 192.0.2.100:53/tcp: remove",
            ]
        );
    }

    /// All servers replaced at once: the old ones serve until the new ones are known.
    #[test]
    fn a_weight_may_stay_as_it_is_found() {
        let key = fake::service_key(0);
        let mut kernel = FakeKernel::default();
        kernel.add_service(fake::service(key));
        kernel.add_destination(key, fake::destination(0, 50));
        let plan = |weight_as_found, presence| {
            let destinations = [0, 1].map(|index| (fake::destination(index, 1), presence));
            let mut service = fake::desired_service(fake::service(key), destinations);
            for wanted in service.destinations.values_mut() {
                wanted.weight_as_found = weight_as_found;
            }
            let mut wanted = Desired::default();
            wanted.services.insert(key, service);
            written(&wanted, &kernel, &Owned::default())
        };
        let new = "service resolver 192.0.2.100:53/udp: add server 192.0.2.11:53, forwarding \
                   direct-routing, weight 1";
        assert_eq!(plan(true, Presence::Present), [new]);
        assert_eq!(plan(true, Presence::AsFound), Vec::<String>::new());
        let less = "service resolver 192.0.2.100:53/udp: server 192.0.2.10:53: weight 50 → 1";
        assert_eq!(plan(false, Presence::Present), [new, less]);
    }

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
                ..Desired::default()
            }
        };
        let plan = |presence| written(&wanted(presence), &kernel, &Owned::default());
        assert!(plan(Presence::AsFound).is_empty());
        let remove = "service resolver 192.0.2.100:53/udp: remove server 192.0.2.13:53";
        assert_eq!(plan(Presence::Absent), [remove]);
        assert_eq!(
            plan(Presence::Present).last().map(String::as_str),
            Some(remove)
        );
    }

    /// Its successor is Active already, and sends queries here too.
    #[test]
    fn a_director_that_hands_over_sends_no_query_to_its_successor() {
        let key = fake::service_key(0);
        let here = fake::destination(0, 1);
        let mut kernel = FakeKernel::default();
        kernel.local_addresses.insert(here.key.address);
        kernel.add_service(fake::service(key));
        kernel.add_destination(key, here);
        kernel.add_destination(key, fake::destination(1, 1));
        let both = [here, fake::destination(1, 1)].map(|one| (one, Presence::Present));
        let mut service = fake::desired_service(fake::service(key), both);
        service.standing = Standing::HandingOver;
        let desired = Desired {
            services: BTreeMap::from([(key, service)]),
            ..Desired::default()
        };
        let owned = Owned::default();
        assert_eq!(
            written(&desired, &kernel, &owned),
            ["service resolver 192.0.2.100:53/udp: remove server 192.0.2.11:53"]
        );
        let complaints = plan(&desired, &kernel.actual(), &owned, &Resting::new()).complaints;
        assert!(complaints.is_empty(), "{complaints:?}");
        // One whose servers are other machines goes on whole.
        kernel.local_addresses.clear();
        assert!(written(&desired, &kernel, &owned).is_empty());
    }

    /// A promotion makes no service that has nobody for a moment.
    #[test]
    fn a_backup_that_is_a_real_server_too_serves_what_comes_to_it_by_itself() {
        let key = fake::service_key(0);
        let (here, other) = (fake::destination(0, 1), fake::destination(1, 1));
        let mut kernel = FakeKernel::default();
        kernel.local_addresses.insert(here.key.address);
        let owned = Owned {
            services: BTreeMap::from([(key, "resolver".to_owned())]),
            ..Owned::default()
        };
        let desired = |standing, own| {
            let servers = [(here, own), (other, Presence::Present)];
            let mut service = fake::desired_service(fake::service(key), servers);
            service.standing = standing;
            Desired {
                services: BTreeMap::from([(key, service)]),
                ..Desired::default()
            }
        };
        let backup = |own| desired(Standing::NotHeld, own);
        // Without it, packets meet the DNS server here, not an empty service.
        for own in [Presence::AsFound, Presence::Absent] {
            assert!(written(&backup(own), &kernel, &owned).is_empty());
        }
        let alone = written(&backup(Presence::Present), &kernel, &owned);
        assert_eq!(
            alone,
            [
                "service resolver 192.0.2.100:53/udp: add, scheduler wrr",
                "service resolver 192.0.2.100:53/udp: add server 192.0.2.10:53, forwarding \
                 direct-routing, weight 1",
            ]
        );
        kernel.add_service(fake::service(key));
        kernel.add_destination(key, here);
        assert!(written(&backup(Presence::Present), &kernel, &owned).is_empty());
        assert!(written(&backup(Presence::AsFound), &kernel, &owned).is_empty());
        assert_eq!(
            written(&desired(Standing::Held, Presence::Present), &kernel, &owned),
            [
                "service resolver 192.0.2.100:53/udp: add server 192.0.2.11:53, forwarding direct-routing, weight 1"
            ]
        );
        kernel.add_destination(key, other);
        assert_eq!(
            written(&backup(Presence::Present), &kernel, &owned),
            ["service resolver 192.0.2.100:53/udp: remove server 192.0.2.11:53"]
        );
        assert_eq!(
            written(&backup(Presence::Absent), &kernel, &owned),
            ["service resolver 192.0.2.100:53/udp: remove"]
        );
    }

    #[test]
    fn somebody_else_s_services_are_left_alone() {
        let mut kernel = FakeKernel::default();
        kernel.add_service(fake::service(fake::service_key(0)));
        assert!(written(&Desired::default(), &kernel, &Owned::default()).is_empty());
    }

    #[test]
    fn a_plan_says_what_follows_from_one_packet_scheduling() {
        let key = fake::service_key(0);
        let mut kernel = FakeKernel::default();
        kernel.add_service(fake::service(key));
        let notes = |kernel: &FakeKernel, flags| {
            let mut service = fake::desired_service(fake::service(key), []);
            service.service.flags = flags;
            let desired = Desired {
                services: BTreeMap::from([(key, service)]),
                ..Desired::default()
            };
            let plan = plan(
                &desired,
                &kernel.actual(),
                &Owned::default(),
                &Resting::new(),
            );
            let notes = plan.notes.iter().map(ToString::to_string);
            notes.collect::<Vec<String>>()
        };
        kernel.add_destination(key, fake::destination(0, 1));
        assert!(notes(&kernel, ServiceFlags::ONE_PACKET).is_empty());
        kernel.add_destination(key, fake::destination(1, 1));
        assert_eq!(
            notes(&kernel, ServiceFlags::ONE_PACKET),
            [
                "service resolver: each of its servers leaves for 200 ms, one at a time, so that the \
                 flows that are pinned to it move"
            ]
        );
        assert!(notes(&kernel, ServiceFlags::NONE).is_empty());
        kernel.connection_table_rows = 4096;
        let [note] = &notes(&kernel, ServiceFlags::NONE)[..] else {
            panic!("one note");
        };
        assert!(note.contains("only 4096 rows"), "{note}");
        assert!(note.contains("conn_tab_bits=20"), "{note}");
    }

    /// What the table must be after `plan` was applied to `before`.
    fn expected(desired: &Desired, before: &FakeKernel, owned: &Owned) -> FakeKernel {
        let mut expected = before.clone();
        for key in owned.services.keys() {
            expected.services.remove(key);
        }
        if desired.exclusive {
            expected.services.clear();
        }
        for (key, wanted) in &desired.services {
            let found = before.services.get(key);
            let is_own = |key: &DestinationKey| before.local_addresses.contains(&key.address);
            let own = wanted.destinations.keys().any(is_own);
            let warm = desired.program == Program::Always && !own;
            let only_own = match wanted.standing {
                Standing::Held => false,
                Standing::External | Standing::HandingOver => own,
                Standing::NotHeld | Standing::Adopting if warm => false,
                Standing::NotHeld
                    if desired.program == Program::Always
                        && wanted.destinations.iter().any(|(key, one)| {
                            let found = found.is_some_and(|(_, found)| found.contains_key(key));
                            let (here, weight) = (is_own(key), one.destination.weight);
                            here && match one.presence {
                                Presence::Present => weight > 0,
                                Presence::Absent => false,
                                Presence::AsFound => found,
                            }
                        }) =>
                {
                    true
                }
                Standing::NotHeld => {
                    expected.services.remove(key);
                    continue;
                }
                Standing::Adopting => {
                    let found = found.map(|found| (*key, found.clone()));
                    expected.services.extend(found);
                    continue;
                }
            };
            let stays = |key| found.is_some_and(|(_, destinations)| destinations.contains_key(key));
            let known = || {
                let known = wanted.destinations.iter();
                known.filter(|(key, _)| is_own(key) || !only_own)
            };
            let mut destinations: BTreeMap<_, _> = known()
                .filter(|(key, wanted)| match wanted.presence {
                    Presence::Present => true,
                    Presence::Absent => false,
                    Presence::AsFound => stays(key),
                })
                .map(|(key, wanted)| (*key, wanted.destination))
                .collect();
            if known().any(|(_, one)| one.presence == Presence::AsFound)
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
            let ours = |daemon: &Daemon| owned.daemons.contains(daemon);
            let foreign = before.daemons.iter().any(|daemon| !ours(daemon));
            let mixed = desired.services.iter().any(|(key, service)| {
                let mut addresses = service.destinations.keys().map(|one| one.address);
                addresses.any(|address| Family::of(address) != key.family())
            });
            // The kernel refuses such a server, and somebody else's daemon isn't ours to end.
            prop_assume!(!(foreign && mixed));

            let mut kernel = before.clone();
            let steps = plan(&desired, &kernel.actual(), &owned, &Resting::new());
            let after = expected(&desired, &before, &owned);
            let throughout: Vec<ServiceKey> = usable(&before)
                .into_iter()
                .filter(|key| usable(&after).contains(key))
                .collect();
            for change in &steps.changes {
                prop_assert!(kernel.make(change).is_ok(), "{}", change);
                for key in &throughout {
                    prop_assert!(usable(&kernel).contains(key), "{} empties {}", change, key);
                }
            }
            prop_assert_eq!(&kernel.services, &after.services);
            for name in settings::wanted(&desired) {
                prop_assert_eq!(&kernel.settings[name], "1");
            }
            let [wanted, is] = [desired.timeouts, kernel.timeouts];
            for (wanted, is) in [(wanted.tcp, is.tcp), (wanted.tcp_fin, is.tcp_fin), (wanted.udp, is.udp)] {
                prop_assert!(wanted == 0 || wanted == is, "{} instead of {}", is, wanted);
            }
            for daemon in &kernel.daemons {
                let wanted = desired.synchronization.as_ref() == Some(daemon);
                prop_assert!(wanted || !ours(daemon), "{} is left", daemon);
            }
            if let (Some(wanted), true) = (&desired.synchronization, steps.complaints.is_empty()) {
                prop_assert!(kernel.daemons.contains(wanted), "{} does not run", wanted);
            }
            let again = plan(&desired, &kernel.actual(), &owned, &Resting::new());
            prop_assert!(again.is_empty(), "{}", again);
        }
    }
}
