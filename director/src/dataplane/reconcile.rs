//! Making the table what it should be, and knowing what of it is ours.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;

use lvs_proto::ipvs::{FoundDestination, Protocol, ServiceKey, Statistics};
use lvs_system::record::{self, Record};
use lvs_system::{ipvs, netlink, sysctl};
use nix::errno::Errno;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::plan::{Action, Change, Plan, plan};
use super::table::{Actual, Desired, Owned};

/// Something that has a forwarding table.
pub trait Plane {
    /// Makes the settings that forwarding depends on, where they aren't made; called before every
    /// change of the table.
    fn prepare(&mut self) -> Result<(), PlaneError>;

    /// The whole table.
    fn read(&mut self) -> Result<Actual, PlaneError>;

    /// Makes the changes in order and returns one result for each; a refused one doesn't keep the
    /// later ones from being made.
    fn apply(&mut self, changes: &[Change]) -> Vec<Result<(), netlink::Error>>;

    /// Puts back the settings that [`Self::prepare`] found.
    fn release(&mut self) -> Result<(), PlaneError>;
}

/// Why a plane could not be read or prepared.
#[derive(Debug, thiserror::Error)]
pub enum PlaneError {
    /// The table.
    #[error("cannot read the forwarding table: {0}")]
    Table(#[from] ipvs::Error),
    /// A setting of the kernel.
    #[error(transparent)]
    Setting(#[from] sysctl::Error),
}

/// Keeps a plane's table as desired. The one writer of services.
///
/// The services that it made or adopted are kept in a record that outlives the process, so that a
/// restarted director removes those that its configuration dropped meanwhile. Without the record
/// they are taken for somebody else's and left alone.
#[derive(Debug)]
pub struct Reconciler<P> {
    plane: P,
    record: Record<Vec<RecordedService>>,
    owned: Owned,
}

/// What one reconciliation did. A change that the table no longer needed, because somebody else
/// had made it, counts as made.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The changes made, in order.
    pub changes: Vec<Change>,
    /// The changes that were refused; they are tried again next time.
    pub failures: Vec<Failure>,
    /// What went wrong beside the table: settings, the record. Forwarding goes on.
    pub complaints: Vec<Complaint>,
    /// The counters of the services of ours, as they were before the last changes. The kernel
    /// renews them every 2 s.
    pub counters: Vec<ServiceCounters>,
}

/// A change that was refused; written with the service, the server and the kernel's words.
#[derive(Debug)]
pub struct Failure {
    /// The change.
    pub change: Change,
    /// Why it was not made.
    pub error: netlink::Error,
}

/// What went wrong beside the table.
#[derive(Debug, thiserror::Error)]
pub enum Complaint {
    /// A setting could not be made or put back.
    #[error(transparent)]
    Plane(#[from] PlaneError),
    /// The record of owned services could not be kept.
    #[error(transparent)]
    Record(#[from] record::Error),
}

/// The counters of a service of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceCounters {
    /// The operator's name.
    pub name: String,
    /// Which of the service's keys.
    pub key: ServiceKey,
    /// Of the service.
    pub statistics: Statistics,
    /// Of its destinations, by address and port.
    pub destinations: Vec<FoundDestination>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct RecordedService {
    name: String,
    address: IpAddr,
    port: u16,
    protocol: RecordedProtocol,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RecordedProtocol {
    Udp,
    Tcp,
}

/// How often one reconciliation reads the table again because it changed under its hands.
const PASSES: usize = 3;

/// Whether the record in `directory` says that a predecessor left services behind.
///
/// # Errors
/// When the record can't be read.
pub(super) fn left_behind(directory: &Path) -> Result<bool, record::Error> {
    Ok(!open_record(directory)?.contents().is_empty())
}

fn open_record(directory: &Path) -> Result<Record<Vec<RecordedService>>, record::Error> {
    let record = Record::open(directory, "services")?;
    if let Some(damage) = record.damage() {
        warn!(
            "{damage}; services of an earlier run that are not configured any more stay in the table"
        );
    }
    Ok(record)
}

impl<P: Plane> Reconciler<P> {
    /// Takes over what the record in `directory` says is ours; changes nothing yet.
    pub fn open(plane: P, directory: &Path) -> Result<Self, record::Error> {
        let record = open_record(directory)?;
        let owned = record.contents().iter().map(RecordedService::owned);
        Ok(Self {
            plane,
            owned: owned.collect(),
            record,
        })
    }

    /// What [`Self::reconcile`] would do.
    pub fn plan(&mut self, desired: &Desired) -> Result<Plan, PlaneError> {
        Ok(plan(desired, &self.plane.read()?, &self.owned))
    }

    /// Makes the table as desired.
    ///
    /// # Errors
    /// When the table can't be read; nothing was changed then, or, in a later pass, nothing more.
    pub fn reconcile(&mut self, desired: &Desired) -> Result<Outcome, PlaneError> {
        let mut outcome = Outcome::default();
        if !desired.services.is_empty() {
            outcome.complain(self.plane.prepare());
        }
        // Recorded before they are made: a record too many is harmless, a service too many isn't.
        let names = desired.services.iter();
        let names = names.map(|(key, wanted)| (*key, wanted.name.clone()));
        self.owned.extend(names);
        outcome.complain(self.record_owned());
        for _ in 0..PASSES {
            let actual = self.plane.read()?;
            let plan = plan(desired, &actual, &self.owned);
            outcome.counters = self.counters(actual);
            if !self.apply(plan, &mut outcome) {
                break;
            }
        }
        let not_removed: BTreeSet<ServiceKey> = outcome
            .failures
            .iter()
            .map(|failure| failure.change.key)
            .collect();
        self.owned
            .retain(|key, _| desired.services.contains_key(key) || not_removed.contains(key));
        outcome.complain(self.record_owned());
        if desired.services.is_empty() {
            outcome.complain(self.plane.release());
        }
        Ok(outcome)
    }

    /// Removes every service of ours and puts back the settings found.
    pub fn withdraw(&mut self) -> Result<Outcome, PlaneError> {
        self.reconcile(&Desired::default())
    }

    fn counters(&self, mut actual: Actual) -> Vec<ServiceCounters> {
        let counters = self.owned.iter().filter_map(|(key, name)| {
            let found = actual.services.remove(key)?;
            Some(ServiceCounters {
                name: name.clone(),
                key: *key,
                statistics: found.statistics,
                destinations: found.destinations.into_values().collect(),
            })
        });
        counters.collect()
    }

    /// Whether the table turned out to be another one than was planned for.
    fn apply(&mut self, plan: Plan, outcome: &mut Outcome) -> bool {
        let results = self.plane.apply(&plan.changes);
        outcome.failures.clear();
        let mut refused_services = BTreeSet::new();
        let mut outdated = false;
        for (change, result) in plan.changes.into_iter().zip(results) {
            let Err(error) = result else {
                outcome.changes.push(change);
                continue;
            };
            match verdict(change.action, error.errno()) {
                Verdict::Done => outcome.changes.push(change),
                // Follows from the service's own failure, which is reported.
                Verdict::Outdated if refused_services.contains(&change.key) => {}
                verdict => {
                    if let Action::AddService { .. } = change.action {
                        refused_services.insert(change.key);
                    }
                    outdated |= verdict == Verdict::Outdated;
                    outcome.failures.push(Failure { change, error });
                }
            }
        }
        outdated
    }

    fn record_owned(&mut self) -> Result<(), record::Error> {
        let owned = self.owned.iter().map(RecordedService::new).collect();
        self.record.update(|recorded| *recorded = owned)
    }
}

/// What a refusal means (`ip_vs_ctl.c`; recorded in `lvs_proto::ipvs`).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// Somebody else made the change before.
    Done,
    /// Somebody else changed the table since it was read.
    Outdated,
    /// The kernel won't have it.
    Refused,
}

fn verdict(action: Action, errno: Option<Errno>) -> Verdict {
    match (action, errno) {
        (
            Action::RemoveService | Action::RemoveDestination { .. },
            Some(Errno::ESRCH | Errno::ENOENT),
        ) => Verdict::Done,
        (Action::AddService { .. } | Action::AddDestination { .. }, Some(Errno::EEXIST))
        | (
            Action::SetService { .. }
            | Action::AddDestination { .. }
            | Action::SetDestination { .. },
            Some(Errno::ESRCH),
        )
        | (Action::SetDestination { .. }, Some(Errno::ENOENT)) => Verdict::Outdated,
        _ => Verdict::Refused,
    }
}

impl Outcome {
    fn complain(&mut self, result: Result<(), impl Into<Complaint>>) {
        if let Err(error) = result {
            self.complaints.push(error.into());
        }
    }
}

impl RecordedService {
    fn new((key, name): (&ServiceKey, &String)) -> Self {
        Self {
            name: name.clone(),
            address: key.address,
            port: key.port,
            protocol: match key.protocol {
                Protocol::Udp => RecordedProtocol::Udp,
                Protocol::Tcp => RecordedProtocol::Tcp,
            },
        }
    }

    fn owned(&self) -> (ServiceKey, String) {
        let key = ServiceKey {
            address: self.address,
            port: self.port,
            protocol: match self.protocol {
                RecordedProtocol::Udp => Protocol::Udp,
                RecordedProtocol::Tcp => Protocol::Tcp,
            },
        };
        (key, self.name.clone())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.change, self.error)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::VecDeque;

    use lvs_proto::ipvs::{Command, Scheduler, Service};

    use super::super::fake::{self, FakeKernel};
    use super::super::table::Presence;
    use super::*;

    /// A kernel, and what somebody else does to it just before changes arrive.
    #[derive(Default)]
    struct FakePlane {
        kernel: FakeKernel,
        strangers: VecDeque<Vec<Command>>,
        prepared: bool,
    }

    impl Plane for FakePlane {
        fn prepare(&mut self) -> Result<(), PlaneError> {
            self.prepared = true;
            Ok(())
        }

        fn read(&mut self) -> Result<Actual, PlaneError> {
            Ok(self.kernel.actual())
        }

        fn apply(&mut self, changes: &[Change]) -> Vec<Result<(), netlink::Error>> {
            for command in self.strangers.pop_front().unwrap_or_default() {
                self.kernel.execute(&command).unwrap();
            }
            let results = changes
                .iter()
                .map(|change| self.kernel.execute(&change.command()));
            results.collect()
        }

        fn release(&mut self) -> Result<(), PlaneError> {
            self.prepared = false;
            Ok(())
        }
    }

    fn open(plane: FakePlane, directory: &Path) -> Reconciler<FakePlane> {
        Reconciler::open(plane, directory).unwrap()
    }

    /// The service of that number with two servers.
    fn desired(number: u8) -> Desired {
        let service = fake::service(fake::service_key(number));
        let servers = [
            (fake::destination(0, 1), Presence::Present),
            (fake::destination(1, 1), Presence::Present),
        ];
        let service = fake::desired_service(service, servers);
        Desired {
            services: [(service.service.key, service)].into(),
        }
    }

    fn written(lines: &[impl ToString]) -> Vec<String> {
        lines.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_second_reconciliation_does_nothing_and_withdrawal_leaves_the_rest() {
        let directory = tempfile::tempdir().unwrap();
        let mut plane = FakePlane::default();
        let stranger = fake::service_key(3);
        plane.kernel.add_service(fake::service(stranger));
        let before = plane.kernel.clone();
        let mut reconciler = open(plane, directory.path());

        let first = reconciler.reconcile(&desired(0)).unwrap();
        assert_eq!(first.changes.len(), 3);
        assert!(first.failures.is_empty());
        assert!(first.complaints.is_empty());
        assert!(reconciler.plane.prepared);
        assert!(reconciler.plan(&desired(0)).unwrap().is_empty());
        let second = reconciler.reconcile(&desired(0)).unwrap();
        assert!(second.changes.is_empty());
        let counters = reconciler.reconcile(&desired(0)).unwrap().counters;
        assert_eq!(counters.len(), 1);
        assert_eq!(counters[0].name, "resolver");
        assert_eq!(counters[0].destinations.len(), 2);

        let last = reconciler.withdraw().unwrap();
        assert_eq!(
            written(&last.changes),
            ["service resolver 192.0.2.100:53/udp: remove"]
        );
        assert!(!reconciler.plane.prepared);
        assert_eq!(reconciler.plane.kernel, before);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_empty_table_needs_no_settings() {
        let directory = tempfile::tempdir().unwrap();
        let mut reconciler = open(FakePlane::default(), directory.path());
        reconciler.reconcile(&Desired::default()).unwrap();
        assert!(!reconciler.plane.prepared);
    }

    #[test]
    fn a_service_dropped_while_the_director_was_away_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let mut reconciler = open(FakePlane::default(), directory.path());
        reconciler.reconcile(&desired(0)).unwrap();

        let mut restarted = open(reconciler.plane, directory.path());
        let outcome = restarted.reconcile(&desired(1)).unwrap();
        let written = written(&outcome.changes);
        assert_eq!(written.len(), 4);
        assert_eq!(written[3], "service resolver 192.0.2.100:53/udp: remove");

        // Without the record the service is somebody else's.
        let elsewhere = tempfile::tempdir().unwrap();
        let mut forgetful = open(restarted.plane, elsewhere.path());
        let outcome = forgetful.reconcile(&Desired::default()).unwrap();
        assert!(outcome.changes.is_empty());
    }

    #[test]
    fn a_table_that_changed_under_the_plan_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let mut plane = FakePlane::default();
        let key = fake::service_key(0);
        let other_scheduler = Service {
            scheduler: Some(Scheduler::RoundRobin),
            ..fake::service(key)
        };
        // EEXIST on the new service, and then on a new server.
        plane.strangers = [
            vec![
                Command::NewService(other_scheduler),
                Command::NewDestination(key, fake::destination(3, 1)),
                Command::NewDestination(key, fake::destination(1, 7)),
            ],
            // ESRCH on all that the second pass does.
            vec![Command::DeleteService(key)],
        ]
        .into();
        let mut reconciler = open(plane, directory.path());
        let outcome = reconciler.reconcile(&desired(0)).unwrap();
        assert!(
            outcome.failures.is_empty(),
            "{:?}",
            written(&outcome.failures)
        );
        assert!(reconciler.plan(&desired(0)).unwrap().is_empty());
        assert_eq!(reconciler.plane.kernel.services[&key].1.len(), 2);
    }

    #[test]
    fn what_is_gone_already_counts_as_removed() {
        let directory = tempfile::tempdir().unwrap();
        let mut reconciler = open(FakePlane::default(), directory.path());
        reconciler.reconcile(&desired(0)).unwrap();
        reconciler.plane.strangers = [vec![Command::Flush]].into();
        let outcome = reconciler.withdraw().unwrap();
        assert_eq!(outcome.changes.len(), 1);
        assert!(outcome.failures.is_empty());
        assert!(reconciler.owned.is_empty());
    }

    #[test]
    fn a_refusal_names_service_server_and_reason_and_stops_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let mut plane = FakePlane::default();
        let refused = fake::destination(0, 1).key;
        plane.kernel.refused.insert(refused);
        let mut reconciler = open(plane, directory.path());
        let outcome = reconciler.reconcile(&desired(0)).unwrap();
        assert_eq!(
            written(&outcome.failures),
            [
                "service resolver 192.0.2.100:53/udp: add server 192.0.2.10:53, \
                 forwarding direct-routing, weight 1: Invalid argument"
            ]
        );
        assert_eq!(outcome.changes.len(), 2);

        reconciler.plane.kernel.refused.clear();
        let outcome = reconciler.reconcile(&desired(0)).unwrap();
        assert_eq!(outcome.changes.len(), 1);
        assert!(outcome.failures.is_empty());
    }

    #[test]
    fn a_refused_service_is_reported_once_and_not_for_each_of_its_servers() {
        let directory = tempfile::tempdir().unwrap();
        let mut plane = FakePlane::default();
        plane.kernel.refused_schedulers = vec![Scheduler::WeightedRoundRobin];
        let mut reconciler = open(plane, directory.path());
        let outcome = reconciler.reconcile(&desired(0)).unwrap();
        assert_eq!(
            written(&outcome.failures),
            ["service resolver 192.0.2.100:53/udp: add, scheduler wrr: \
                 No such file or directory"]
        );
        assert!(outcome.changes.is_empty());
    }

    #[test]
    fn forwarding_goes_on_without_a_record() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("runtime");
        let mut reconciler = open(FakePlane::default(), &place);
        std::fs::write(&place, "in the way of the directory").unwrap();
        let outcome = reconciler.reconcile(&desired(0)).unwrap();
        assert_eq!(outcome.changes.len(), 3);
        assert!(matches!(outcome.complaints[..], [Complaint::Record(_), ..]));
    }
}
