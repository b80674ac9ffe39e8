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

impl<P: Plane> Reconciler<P> {
    /// Takes over what the record in `directory` says is ours; changes nothing yet.
    pub fn open(plane: P, directory: &Path) -> Result<Self, record::Error> {
        let record = Record::<Vec<RecordedService>>::open(directory, "services")?;
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
            let plan = plan(desired, &self.plane.read()?, &self.owned);
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
        Ok(outcome)
    }

    /// Removes every service of ours and puts back the settings found.
    pub fn withdraw(&mut self) -> Result<Outcome, PlaneError> {
        let outcome = self.reconcile(&Desired::default());
        let released = self.plane.release();
        let mut outcome = outcome?;
        outcome.complain(released);
        Ok(outcome)
    }

    /// Counters of the services of ours. The kernel renews them every 2 s: asking more often says
    /// nothing new.
    pub fn statistics(&mut self) -> Result<Vec<ServiceCounters>, PlaneError> {
        let mut actual = self.plane.read()?;
        let counters = self.owned.iter().filter_map(|(key, name)| {
            let found = actual.services.remove(key)?;
            Some(ServiceCounters {
                name: name.clone(),
                key: *key,
                statistics: found.statistics,
                destinations: found.destinations.into_values().collect(),
            })
        });
        Ok(counters.collect())
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
