//! Making the table what it should be, and knowing what of it is ours.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::path::Path;
use std::time::Instant;

use lvs_proto::ipvs::{Daemon, FoundDestination, ServiceKey, Statistics};
use lvs_system::{address, ipvs, netlink, record, sysctl};
use nix::errno::Errno;

use super::change::{Action, Change};
use super::marked::is_for_probes;
use super::plan::{Extent, Plan, PlanComplaint, PlanNote, Resting, extent, plan};
use super::record::OwnershipRecord;
use super::rotation::{Rotation, flows_move};
use super::settings;
use super::table::{Actual, Desired, Owned, Settings};

/// Something that has a forwarding table.
pub trait Plane {
    /// The whole table, and those of these settings that there are.
    fn read(&mut self, settings: &BTreeSet<String>) -> Result<Actual, PlaneError>;

    /// Makes the changes in order and returns one result for each; a refused one doesn't keep the
    /// later ones from being made.
    ///
    /// Before a setting is changed for the first time the value found is recorded, until the
    /// setting is changed back to it.
    fn apply(&mut self, changes: &[Change]) -> Vec<Result<(), ApplyError>>;

    /// The recorded values of settings.
    fn found_settings(&self) -> &Settings;

    /// Forgets the recorded value of a setting that has it again.
    fn forget_setting(&mut self, name: &str) -> Result<(), PlaneError>;
}

/// Why a plane could not be read.
#[derive(Debug, thiserror::Error)]
pub enum PlaneError {
    /// The table.
    #[error("cannot read the forwarding table: {0}")]
    Table(#[from] ipvs::Error),
    /// A setting of the kernel.
    #[error(transparent)]
    Setting(#[from] sysctl::Error),
    /// The addresses of this machine.
    #[error(transparent)]
    Addresses(#[from] address::Error),
}

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] netlink::Error),
    /// A setting of the kernel.
    #[error(transparent)]
    Setting(#[from] sysctl::Error),
}

/// Keeps a plane's table as desired. The one writer of services, of the settings that forwarding
/// needs, of time-outs and of synchronization daemons.
///
/// The services that it made or adopted are kept in a record that outlives the process, so that a
/// restarted director removes those that its configuration dropped meanwhile. Without the record
/// they are taken for somebody else's and left alone.
#[derive(Debug)]
pub struct Reconciler<P> {
    plane: P,
    record: OwnershipRecord,
    owned: Owned,
    fulfilled: Option<Fulfilled>,
    rotation: Rotation,
}

/// What one reconciliation did. A change that the table no longer needed, because somebody else
/// had made it, counts as made.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The changes made, in order.
    pub changes: Vec<Change>,
    /// Those of the changes that take a server out for a moment, or in again, to move flows.
    pub moves: Vec<Change>,
    /// What an operator should know of.
    pub notes: BTreeSet<PlanNote>,
    /// The changes that were refused; they are tried again next time.
    pub failures: Vec<Failure>,
    /// Those of the changes that put right what somebody else had changed.
    pub repairs: Vec<Change>,
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
    pub error: ApplyError,
}

/// What went wrong beside the table.
#[derive(Debug, thiserror::Error)]
pub enum Complaint {
    /// Something is desired that can't be had.
    #[error(transparent)]
    Plan(#[from] PlanComplaint),
    /// A setting's record could not be kept.
    #[error(transparent)]
    Plane(#[from] PlaneError),
    /// The record of what is ours could not be kept.
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

/// What the kernel had when it was last found, or made, as desired as far as it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fulfilled {
    desired: Desired,
    extents: Vec<Extent>,
    resting: Resting,
    /// What it lacked, since it was refused.
    unmade: Vec<Change>,
}

/// How often one reconciliation reads the table again because it changed under its hands.
const PASSES: usize = 3;

impl<P: Plane> Reconciler<P> {
    /// Takes over what the record in `directory` says is ours; changes nothing yet.
    pub fn open(plane: P, directory: &Path) -> Result<Self, record::Error> {
        let record = OwnershipRecord::open(directory)?;
        Ok(Self {
            owned: record.owned(plane.found_settings()),
            plane,
            record,
            fulfilled: None,
            rotation: Rotation::default(),
        })
    }

    /// The table, with these settings beside those that matter anyway.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn read(&mut self, further: &BTreeSet<String>) -> Result<Actual, PlaneError> {
        let settings = settings::of_interest(further, self.plane.found_settings());
        self.plane.read(&settings)
    }

    /// What [`Self::reconcile`] would do.
    ///
    /// # Errors
    /// When the table can't be read.
    pub fn plan(&mut self, desired: &Desired) -> Result<Plan, PlaneError> {
        let found = self.read(&desired.further_settings)?;
        Ok(self.plan_from(&found, desired))
    }

    /// What [`Self::reconcile_from`] would do.
    pub fn plan_from(&self, found: &Actual, desired: &Desired) -> Plan {
        plan(desired, found, &self.owned, &self.rotation.resting())
    }

    /// Makes the table as desired.
    ///
    /// # Errors
    /// When the table can't be read; nothing was changed then, or, in a later pass, nothing more.
    pub fn reconcile(&mut self, desired: &Desired, now: Instant) -> Result<Outcome, PlaneError> {
        let found = self.read(&desired.further_settings)?;
        self.reconcile_from(found, desired, now)
    }

    /// Makes the table that was read a moment ago as desired.
    ///
    /// # Errors
    /// When it has changed meanwhile and can't be read again; nothing more was changed then.
    pub fn reconcile_from(
        &mut self,
        found: Actual,
        desired: &Desired,
        now: Instant,
    ) -> Result<Outcome, PlaneError> {
        let mut found = Some(found);
        let mut outcome = Outcome::default();
        let mut has_drifted = false;
        let rested = self.rotation.resting();
        for _ in 0..PASSES {
            let actual = match found.take() {
                Some(found) => found,
                None => self.read(&desired.further_settings)?,
            };
            self.rotation.advance(desired, &actual.local_addresses, now);
            let resting = self.rotation.resting();
            let plan = plan(desired, &actual, &self.owned, &resting);
            let extents = extents(desired, &actual);
            let fulfilled = self.fulfilled.take().filter(|wish| {
                wish.desired == *desired && wish.extents == extents && wish.resting == resting
            });
            let lacked = fulfilled.as_ref().map_or(&[][..], |wish| &wish.unmade);
            let lacked = Lacked::new(lacked, &plan);
            let is_new = |change: &Change| !lacked.contains(change);
            has_drifted |= fulfilled.is_some() && plan.changes.iter().any(is_new);
            outcome.complaints.clear();
            outcome.notes.clone_from(&plan.notes);
            // Recorded before it is made: a record too many is harmless, a service too many isn't.
            self.own_what_is_desired(desired, &actual);
            outcome.complain(self.record.keep(&self.owned));
            let complaints = plan.complaints.iter().cloned();
            outcome.complaints.extend(complaints.map(Complaint::Plan));
            let made = outcome.changes.len();
            let Applied { outdated, unmade } = self.apply(plan, &mut outcome);
            let made = &outcome.changes[made..];
            if has_drifted {
                let repairs = made.iter().filter(|change| is_new(change));
                outcome.repairs.extend(repairs.cloned());
            }
            let moves = made
                .iter()
                .filter(|change| moves_flows(change, &rested, &resting));
            outcome.moves.extend(moves.cloned());
            self.move_flows(made, &actual);
            outcome.counters = self.counters(actual);
            if !outdated {
                self.fulfilled = Some(match fulfilled {
                    Some(wish) => Fulfilled { unmade, ..wish },
                    None => Fulfilled {
                        desired: desired.clone(),
                        extents,
                        resting,
                        unmade,
                    },
                });
                break;
            }
        }
        self.disown_what_is_gone(desired, &mut outcome);
        outcome.complain(self.record.keep(&self.owned));
        Ok(outcome)
    }

    /// When [`Self::reconcile`] has to be called again though nothing new is desired.
    pub fn due(&self) -> Option<Instant> {
        self.rotation.due()
    }

    /// The services whose flows are being moved.
    pub fn moving(&self) -> BTreeSet<ServiceKey> {
        self.rotation.services()
    }

    /// Removes every service of ours and puts back the settings found.
    pub fn withdraw(&mut self, now: Instant) -> Result<Outcome, PlaneError> {
        self.reconcile(&Desired::default(), now)
    }

    /// Where one-packet scheduling was turned on, flows move away from the servers that they are
    /// pinned to.
    fn move_flows(&mut self, made: &[Change], before: &Actual) {
        for change in made {
            if let Change::Service {
                key,
                action: Action::SetService { from, to },
                ..
            } = change
                && flows_move(from, to)
                && let Some(found) = before.services.get(key)
            {
                let servers = found.destinations.keys();
                self.rotation.begin(*key, servers.copied());
            }
        }
    }

    fn own_what_is_desired(&mut self, desired: &Desired, actual: &Actual) {
        for (key, wanted) in &desired.services {
            if self.owned.services.get(key) != Some(&wanted.name) {
                self.owned.services.insert(*key, wanted.name.clone());
            }
        }
        let found = |wanted: u32, actually: u32, found: &mut u32| {
            if *found == 0 && wanted != 0 && wanted != actually {
                *found = actually;
            }
        };
        let (wanted, actually) = (&desired.timeouts, &actual.timeouts);
        let timeouts = &mut self.owned.timeouts;
        found(wanted.tcp, actually.tcp, &mut timeouts.tcp);
        found(wanted.tcp_fin, actually.tcp_fin, &mut timeouts.tcp_fin);
        found(wanted.udp, actually.udp, &mut timeouts.udp);
        if let Some(daemon) = &desired.synchronization {
            let mut of_role = actual.daemons.iter().filter(|one| one.role == daemon.role);
            let ours = |found: &Daemon| owns(&self.owned.daemons, found);
            // One that somebody else has started is not ours because it's in the way.
            let free = of_role.all(|found| daemon.is_satisfied_by(found) || ours(found));
            if free && !self.owned.daemons.contains(daemon) {
                self.owned.daemons.push(daemon.clone());
            }
        }
    }

    fn disown_what_is_gone(&mut self, desired: &Desired, outcome: &mut Outcome) {
        let failed: Vec<&Change> = outcome.failures.iter().map(|one| &one.change).collect();
        let failed_services: BTreeSet<ServiceKey> = failed
            .iter()
            .filter_map(|change| match change {
                Change::Service { key, .. } => Some(*key),
                _ => None,
            })
            .collect();
        self.owned
            .services
            .retain(|key, _| desired.services.contains_key(key) || failed_services.contains(key));
        let wanted = &desired.timeouts;
        if !failed
            .iter()
            .any(|change| matches!(change, Change::Timeouts { .. }))
        {
            let found = &mut self.owned.timeouts;
            for (wanted, found) in [
                (wanted.tcp, &mut found.tcp),
                (wanted.tcp_fin, &mut found.tcp_fin),
                (wanted.udp, &mut found.udp),
            ] {
                if wanted == 0 {
                    *found = 0;
                }
            }
        }
        self.owned.daemons.retain(|daemon| {
            let runs_still = |change: &&Change| matches!(change, Change::EndDaemon(found) if daemon.is_satisfied_by(found));
            desired.synchronization.as_ref() == Some(daemon) || failed.iter().any(runs_still)
        });
        let wanted: BTreeSet<&str> = settings::wanted(desired).collect();
        let is_failed = |name: &str| {
            failed.iter().any(
                |change| matches!(change, Change::Setting { name: failed, .. } if failed == name),
            )
        };
        let names = self.plane.found_settings().keys();
        let over: Vec<String> = names
            .filter(|name| !wanted.contains(name.as_str()) && !is_failed(name))
            .cloned()
            .collect();
        for name in over {
            let forgotten = self.plane.forget_setting(&name);
            outcome.complain(forgotten);
        }
        self.owned.settings.clone_from(self.plane.found_settings());
    }

    fn counters(&self, mut actual: Actual) -> Vec<ServiceCounters> {
        let counters = self.owned.services.iter().filter_map(|(key, name)| {
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

    fn apply(&mut self, plan: Plan, outcome: &mut Outcome) -> Applied {
        let results = self.plane.apply(&plan.changes);
        outcome.failures.clear();
        let mut refused_services = BTreeSet::new();
        let mut applied = Applied::default();
        for (change, result) in plan.changes.into_iter().zip(results) {
            let Err(error) = result else {
                outcome.changes.push(change);
                continue;
            };
            match verdict(&change, &error) {
                Verdict::Done => outcome.changes.push(change),
                // Follows from the service's own failure, which is reported.
                Verdict::Outdated if refused_services.contains(&service_key(&change)) => {
                    applied.unmade.push(change);
                }
                verdict => {
                    applied.unmade.push(change.clone());
                    if let Change::Service {
                        action: Action::AddService { .. },
                        ..
                    } = change
                    {
                        refused_services.insert(service_key(&change));
                    }
                    applied.outdated |= verdict == Verdict::Outdated;
                    outcome.failures.push(Failure { change, error });
                }
            }
        }
        applied
    }
}

/// What came of a plan.
#[derive(Default)]
struct Applied {
    /// Whether the table turned out to be another one than was planned for.
    outdated: bool,
    unmade: Vec<Change>,
}

/// What of a plan was refused before. Written out, since thousands may be.
enum Lacked {
    All,
    These(HashSet<String>),
}

impl Lacked {
    fn new(unmade: &[Change], plan: &Plan) -> Self {
        if plan.changes == unmade {
            return Self::All;
        }
        Self::These(unmade.iter().map(ToString::to_string).collect())
    }

    fn contains(&self, change: &Change) -> bool {
        match self {
            Self::All => true,
            Self::These(lines) => !lines.is_empty() && lines.contains(&change.to_string()),
        }
    }
}

/// Whether a change takes a resting server out, or one that rested in again.
fn moves_flows(change: &Change, rested: &Resting, resting: &Resting) -> bool {
    let Change::Service { key, action, .. } = change else {
        return false;
    };
    match action {
        Action::RemoveDestination { destination } => resting.contains(&(*key, *destination)),
        Action::AddDestination { to } => {
            let server = (*key, to.key);
            rested.contains(&server) && !resting.contains(&server)
        }
        _ => false,
    }
}

fn extents(desired: &Desired, actual: &Actual) -> Vec<Extent> {
    let extent = |(key, service)| {
        let found = actual.services.get(key).map(|found| &found.destinations);
        extent(service, desired.program, &actual.local_addresses, found)
    };
    desired.services.iter().map(extent).collect()
}

fn owns(ours: &[Daemon], found: &Daemon) -> bool {
    ours.iter().any(|one| one.is_satisfied_by(found))
}

fn service_key(change: &Change) -> Option<ServiceKey> {
    match change {
        Change::Service { key, .. } => Some(*key),
        _ => None,
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

fn verdict(change: &Change, error: &ApplyError) -> Verdict {
    let errno = match error {
        ApplyError::Kernel(error) => error.errno(),
        ApplyError::Setting(_) => None,
    };
    match (change, errno) {
        (Change::Service { action, .. }, Some(errno)) => verdict_on_service(*action, errno),
        (Change::EndDaemon(_), Some(Errno::ESRCH)) => Verdict::Done,
        (Change::StartDaemon(_), Some(Errno::EEXIST)) => Verdict::Outdated,
        _ => Verdict::Refused,
    }
}

fn verdict_on_service(action: Action, errno: Errno) -> Verdict {
    match (action, errno) {
        (
            Action::RemoveService | Action::RemoveDestination { .. },
            Errno::ESRCH | Errno::ENOENT,
        ) => Verdict::Done,
        (Action::AddService { .. } | Action::AddDestination { .. }, Errno::EEXIST)
        | (
            Action::SetService { .. }
            | Action::AddDestination { .. }
            | Action::SetDestination { .. },
            Errno::ESRCH,
        )
        | (Action::SetDestination { .. }, Errno::ENOENT) => Verdict::Outdated,
        _ => Verdict::Refused,
    }
}

impl Outcome {
    /// The services that are not as desired because a change of theirs was refused, by the operator's
    /// names.
    pub fn refused_services(&self) -> BTreeSet<String> {
        let services = self.failures.iter().filter_map(|one| match &one.change {
            Change::Service { service, .. } => service.clone(),
            _ => None,
        });
        services.collect()
    }

    /// Leaves out what was done for probes, which is of no interest to anybody, but for what failed.
    pub(super) fn forget_probes(&mut self) {
        for changes in [&mut self.changes, &mut self.moves, &mut self.repairs] {
            changes.retain(|change| !change.is_for_probes());
        }
        self.counters.retain(|one| !is_for_probes(&one.key));
    }

    fn complain(&mut self, result: Result<(), impl Into<Complaint>>) {
        if let Err(error) = result {
            self.complaints.push(error.into());
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.change, self.error)?;
        match self.remedy() {
            Some(remedy) => write!(formatter, "; {remedy}"),
            None => Ok(()),
        }
    }
}

impl Failure {
    /// What to do about it, where the kernel's words don't say.
    fn remedy(&self) -> Option<String> {
        let ApplyError::Kernel(error) = &self.error else {
            return None;
        };
        match (&self.change, error.errno()?) {
            (
                Change::Service {
                    action: Action::AddService { to } | Action::SetService { to, .. },
                    ..
                },
                Errno::ENOENT,
            ) => {
                let scheduler = to.scheduler?;
                Some(format!(
                    "the kernel has no scheduler {scheduler}: `modprobe ip_vs_{scheduler}`"
                ))
            }
            (Change::StartDaemon(daemon), Errno::ENODEV) => Some(format!(
                "this machine has no interface {}: see `ipvs.sync.interface`",
                daemon.interface
            )),
            _ => None,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::VecDeque;

    use lvs_proto::ipvs::{Command, DaemonRole, Forwarding, Scheduler, Service, ServiceFlags};

    use super::super::fake::{self, FakeKernel};
    use super::super::table::Presence;
    use super::*;

    /// A kernel, and what somebody else does to it just before changes arrive.
    #[derive(Default)]
    struct FakePlane {
        kernel: FakeKernel,
        strangers: VecDeque<Vec<Command>>,
    }

    impl Plane for FakePlane {
        fn read(&mut self, _: &BTreeSet<String>) -> Result<Actual, PlaneError> {
            Ok(self.kernel.actual())
        }

        fn apply(&mut self, changes: &[Change]) -> Vec<Result<(), ApplyError>> {
            for command in self.strangers.pop_front().unwrap_or_default() {
                self.kernel.execute(&command).unwrap();
            }
            let results = changes.iter().map(|change| self.kernel.make(change));
            results.map(|result| Ok(result?)).collect()
        }

        fn found_settings(&self) -> &Settings {
            &self.kernel.found_settings
        }

        fn forget_setting(&mut self, name: &str) -> Result<(), PlaneError> {
            self.kernel.found_settings.remove(name);
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
            ..Desired::default()
        }
    }

    fn written(lines: &[impl ToString]) -> Vec<String> {
        lines.iter().map(ToString::to_string).collect()
    }

    /// The changes without those of settings.
    fn of_services(outcome: &Outcome) -> Vec<String> {
        let changes = outcome.changes.iter();
        let services = changes.filter(|change| matches!(change, Change::Service { .. }));
        services.map(ToString::to_string).collect()
    }

    #[test]
    fn a_second_reconciliation_does_nothing_and_withdrawal_leaves_the_rest() {
        let directory = tempfile::tempdir().unwrap();
        let mut plane = FakePlane::default();
        let stranger = fake::service_key(3);
        plane.kernel.add_service(fake::service(stranger));
        let before = plane.kernel.clone();
        let mut reconciler = open(plane, directory.path());

        let first = reconciler.reconcile(&desired(0), Instant::now()).unwrap();
        assert_eq!(of_services(&first).len(), 3);
        assert!(first.failures.is_empty());
        assert!(first.complaints.is_empty());
        assert!(reconciler.plane.kernel.expires_entries());
        assert!(reconciler.plan(&desired(0)).unwrap().is_empty());
        let second = reconciler.reconcile(&desired(0), Instant::now()).unwrap();
        assert!(second.changes.is_empty());
        let counters = reconciler
            .reconcile(&desired(0), Instant::now())
            .unwrap()
            .counters;
        assert_eq!(counters.len(), 1);
        assert_eq!(counters[0].name, "resolver");
        assert_eq!(counters[0].destinations.len(), 2);

        let last = reconciler.withdraw(Instant::now()).unwrap();
        assert_eq!(
            written(&last.changes),
            [
                "service resolver 192.0.2.100:53/udp: remove",
                "setting net.ipv4.vs.expire_nodest_conn: 1 → 0"
            ]
        );
        assert_eq!(reconciler.plane.kernel, before);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_empty_table_needs_no_settings() {
        let directory = tempfile::tempdir().unwrap();
        let mut reconciler = open(FakePlane::default(), directory.path());
        reconciler
            .reconcile(&Desired::default(), Instant::now())
            .unwrap();
        assert!(!reconciler.plane.kernel.expires_entries());
    }

    #[test]
    fn a_service_dropped_while_the_director_was_away_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let mut reconciler = open(FakePlane::default(), directory.path());
        reconciler.reconcile(&desired(0), Instant::now()).unwrap();

        let mut restarted = open(reconciler.plane, directory.path());
        let outcome = restarted.reconcile(&desired(1), Instant::now()).unwrap();
        let written = of_services(&outcome);
        assert_eq!(written.len(), 4);
        assert_eq!(written[3], "service resolver 192.0.2.100:53/udp: remove");

        // Without the record the service is somebody else's.
        let elsewhere = tempfile::tempdir().unwrap();
        let mut forgetful = open(restarted.plane, elsewhere.path());
        let outcome = forgetful
            .reconcile(&Desired::default(), Instant::now())
            .unwrap();
        assert!(of_services(&outcome).is_empty());
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
        let outcome = reconciler.reconcile(&desired(0), Instant::now()).unwrap();
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
        reconciler.reconcile(&desired(0), Instant::now()).unwrap();
        reconciler.plane.strangers = [vec![Command::Flush]].into();
        let outcome = reconciler.withdraw(Instant::now()).unwrap();
        assert_eq!(of_services(&outcome).len(), 1);
        assert!(outcome.failures.is_empty());
        assert!(reconciler.owned.services.is_empty());
    }

    #[test]
    fn a_refusal_names_service_server_and_reason_and_stops_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let mut plane = FakePlane::default();
        let refused = fake::destination(0, 1).key;
        plane.kernel.refused.insert(refused);
        let mut reconciler = open(plane, directory.path());
        let outcome = reconciler.reconcile(&desired(0), Instant::now()).unwrap();
        assert_eq!(
            written(&outcome.failures),
            [
                "service resolver 192.0.2.100:53/udp: add server 192.0.2.10:53, \
                 forwarding direct-routing, weight 1: Invalid argument"
            ]
        );
        assert_eq!(of_services(&outcome).len(), 2);

        reconciler.plane.kernel.refused.clear();
        let outcome = reconciler.reconcile(&desired(0), Instant::now()).unwrap();
        assert_eq!(outcome.changes.len(), 1);
        assert!(outcome.failures.is_empty());
    }

    #[test]
    fn a_refused_service_is_reported_once_and_not_for_each_of_its_servers() {
        let directory = tempfile::tempdir().unwrap();
        let mut plane = FakePlane::default();
        plane.kernel.refused_schedulers = vec![Scheduler::WeightedRoundRobin];
        let mut reconciler = open(plane, directory.path());
        let outcome = reconciler.reconcile(&desired(0), Instant::now()).unwrap();
        assert_eq!(
            written(&outcome.failures),
            ["service resolver 192.0.2.100:53/udp: add, scheduler wrr: \
                 No such file or directory; the kernel has no scheduler wrr: \
                 `modprobe ip_vs_wrr`"]
        );
        assert!(of_services(&outcome).is_empty());
    }

    #[test]
    fn only_the_service_that_was_refused_is_not_as_desired() {
        let directory = tempfile::tempdir().unwrap();
        let mut plane = FakePlane::default();
        plane.kernel.refused_schedulers = vec![Scheduler::MaglevHashing];
        plane.kernel.missing_interfaces.insert("eth1".to_owned());
        let mut reconciler = open(plane, directory.path());
        let mut desired = surrounded(DaemonRole::Backup);
        let mut other = fake::desired_service(fake::service(fake::service_key(2)), []);
        other.name = "other".to_owned();
        other.service.scheduler = Some(Scheduler::MaglevHashing);
        desired.services.insert(other.service.key, other);
        let outcome = reconciler.reconcile(&desired, Instant::now()).unwrap();
        assert_eq!(outcome.refused_services(), ["other".to_owned()].into());
        assert_eq!(
            written(&outcome.failures)[1],
            "synchronization: start backup on eth1, id 51: No such device; this machine has no \
             interface eth1: see `ipvs.sync.interface`"
        );
        assert_eq!(of_services(&outcome).len(), 3);
    }

    /// With everything that surrounds a table.
    fn surrounded(role: DaemonRole) -> Desired {
        let mut desired = desired(0);
        for service in desired.services.values_mut() {
            for server in service.destinations.values_mut() {
                server.destination.forwarding = Forwarding::Masquerading;
            }
        }
        desired.timeouts.udp = 60;
        desired.synchronization = Some(Daemon {
            role,
            interface: "eth1".into(),
            identifier: 51,
            maximum_length: None,
            group: None,
            port: None,
            time_to_live: None,
        });
        desired
    }

    #[test]
    fn a_successor_puts_back_what_its_predecessor_found() {
        let directory = tempfile::tempdir().unwrap();
        let before = FakeKernel::default();
        let mut reconciler = open(FakePlane::default(), directory.path());
        let outcome = reconciler
            .reconcile(&surrounded(DaemonRole::Backup), Instant::now())
            .unwrap();
        assert_eq!(
            written(&outcome.changes)[..3],
            [
                "setting net.ipv4.ip_forward: 0 → 1",
                "setting net.ipv4.vs.expire_nodest_conn: 0 → 1",
                "timeouts: udp 300 s → 60 s",
            ]
        );
        assert_eq!(
            outcome.changes.last().map(ToString::to_string).as_deref(),
            Some("synchronization: start backup on eth1, id 51")
        );

        let mut successor = open(reconciler.plane, directory.path());
        let outcome = successor.withdraw(Instant::now()).unwrap();
        assert!(outcome.failures.is_empty());
        assert_eq!(successor.plane.kernel, before);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    /// The one that listens goes on until the one that tells is there.
    #[test]
    fn a_daemon_is_started_before_the_other_is_ended() {
        let directory = tempfile::tempdir().unwrap();
        let mut reconciler = open(FakePlane::default(), directory.path());
        let now = Instant::now();
        let backup = surrounded(DaemonRole::Backup);
        reconciler.reconcile(&backup, now).unwrap();
        let outcome = reconciler
            .reconcile(&surrounded(DaemonRole::Master), now)
            .unwrap();
        assert_eq!(
            written(&outcome.changes),
            [
                "synchronization: start master on eth1, id 51",
                "synchronization: end backup on eth1, id 51",
            ]
        );
        assert!(outcome.repairs.is_empty());
    }

    #[test]
    fn a_daemon_of_somebody_else_is_named_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let mut plane = FakePlane::default();
        let mut theirs = surrounded(DaemonRole::Backup).synchronization.unwrap();
        theirs.identifier = 7;
        plane.kernel.daemons.push(theirs.clone());
        let mut reconciler = open(plane, directory.path());
        let desired = surrounded(DaemonRole::Backup);
        let outcome = reconciler.reconcile(&desired, Instant::now()).unwrap();
        assert_eq!(
            written(&outcome.complaints),
            [
                "synchronization: somebody else runs a daemon as backup on eth1, id 7, not as backup \
                 on eth1, id 51; end it with `ipvsadm --stop-daemon backup`"
            ]
        );
        reconciler.withdraw(Instant::now()).unwrap();
        assert_eq!(reconciler.plane.kernel.daemons, [theirs]);
    }

    #[test]
    fn only_what_somebody_else_changed_counts_as_drift() {
        let directory = tempfile::tempdir().unwrap();
        let mut reconciler = open(FakePlane::default(), directory.path());
        let mut drifted = |desired: &Desired, strangers: &[Command], setting: Option<&str>| {
            for command in strangers {
                reconciler.plane.kernel.execute(command).unwrap();
            }
            if let Some(value) = setting {
                let settings = &mut reconciler.plane.kernel.settings;
                settings.insert("net.ipv4.vs.expire_nodest_conn".into(), value.into());
            }
            let outcome = reconciler.reconcile(desired, Instant::now()).unwrap();
            (!outcome.repairs.is_empty(), outcome.changes.len())
        };
        let (first, second) = (desired(0), desired(1));
        let key = fake::service_key(0);
        let heavier = Command::SetDestination(key, fake::destination(1, 9));
        assert_eq!(drifted(&first, &[], None), (false, 4));
        assert_eq!(drifted(&first, &[], None), (false, 0));
        assert_eq!(drifted(&first, &[heavier], None), (true, 1));
        assert_eq!(drifted(&first, &[], Some("0")), (true, 1));
        assert_eq!(drifted(&first, &[Command::Flush], None), (true, 3));
        // Another wish, and the same one after a moment of another.
        assert_eq!(drifted(&second, &[], None), (false, 4));
        assert_eq!(drifted(&first, &[], None), (false, 4));
        assert_eq!(drifted(&first, &[], None), (false, 0));
    }

    #[test]
    fn what_is_refused_hides_no_drift() {
        let directory = tempfile::tempdir().unwrap();
        let mut reconciler = open(FakePlane::default(), directory.path());
        let mut desired = desired(0);
        let mut other = fake::desired_service(
            fake::service(fake::service_key(2)),
            [(fake::destination(3, 1), Presence::Present)],
        );
        other.service.scheduler = Some(Scheduler::MaglevHashing);
        desired.services.insert(other.service.key, other);
        reconciler.plane.kernel.refused_schedulers = vec![Scheduler::MaglevHashing];
        let mut repaired = |strangers: &[Command], refused: &[Scheduler]| {
            reconciler.plane.kernel.refused_schedulers = refused.to_vec();
            for command in strangers {
                reconciler.plane.kernel.execute(command).unwrap();
            }
            let outcome = reconciler.reconcile(&desired, Instant::now()).unwrap();
            (outcome.repairs.len(), outcome.changes.len())
        };
        let refused = [Scheduler::MaglevHashing];
        let stranger =
            Command::DeleteDestination(fake::service_key(0), fake::destination(1, 1).key);
        let strangers = std::slice::from_ref(&stranger);
        assert_eq!(repaired(&[], &refused), (0, 4));
        assert_eq!(repaired(&[], &refused), (0, 0));
        assert_eq!(repaired(strangers, &refused), (1, 1));
        // What the kernel takes at last is nobody's doing.
        assert_eq!(repaired(strangers, &[]), (1, 3));
        assert_eq!(repaired(&[], &[]), (0, 0));
    }

    #[test]
    fn flows_are_moved_when_one_packet_scheduling_is_turned_on() {
        let directory = tempfile::tempdir().unwrap();
        let mut reconciler = open(FakePlane::default(), directory.path());
        let start = Instant::now();
        let key = fake::service_key(0);
        let mut desired = desired(0);
        reconciler.reconcile(&desired, start).unwrap();
        assert_eq!(reconciler.due(), None);
        let service = desired.services.get_mut(&key).unwrap();
        service.service.flags = ServiceFlags::ONE_PACKET;
        let mut told = Vec::new();
        let mut moves = Vec::new();
        for step in 0..5 {
            let now = start + step * std::time::Duration::from_millis(200);
            let outcome = reconciler.reconcile(&desired, now).unwrap();
            assert!(outcome.repairs.is_empty());
            told.extend(of_services(&outcome));
            moves.push(outcome.moves.len());
            assert_eq!(reconciler.moving().contains(&key), step < 3);
        }
        assert_eq!(moves, [0, 1, 2, 1, 0]);
        let told: Vec<&str> = told
            .iter()
            .filter_map(|line| line.strip_prefix("service resolver 192.0.2.100:53/udp: "))
            .collect();
        assert_eq!(
            told,
            [
                "flags off → ops",
                "remove server 192.0.2.10:53",
                "add server 192.0.2.10:53, forwarding direct-routing, weight 1",
                "remove server 192.0.2.11:53",
                "add server 192.0.2.11:53, forwarding direct-routing, weight 1",
            ]
        );
        assert_eq!(reconciler.due(), None);
    }

    #[test]
    fn forwarding_goes_on_without_a_record() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("runtime");
        let mut reconciler = open(FakePlane::default(), &place);
        std::fs::write(&place, "in the way of the directory").unwrap();
        let outcome = reconciler.reconcile(&desired(0), Instant::now()).unwrap();
        assert_eq!(of_services(&outcome).len(), 3);
        assert!(matches!(outcome.complaints[..], [Complaint::Record(_), ..]));
    }
}
