//! The thread that keeps the forwarding table as the engine wants it.
//!
//! Netlink blocks, so it has a thread of its own. The newest wish wins; between wishes the table is
//! read again at a fixed pace, which repairs what a stranger changed, tries again what was refused,
//! and brings the counters.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use lvs_proto::ipvs::{ServiceKey, Timeouts};
use lvs_system::{syscalls, sysctl};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use super::change::Change;
use super::ipvs::{IpvsPlane, Kernel, OpenPlaneError};
use super::marked::{Hearing, hearing_settings, is_for_probes};
use super::plan::{Plan, PlanNote, Resting, plan};
use super::reconcile::{Outcome, PlaneError, Reconciler};
use super::record;
use super::repairs::{Repairs, listed};
use super::settings;
use super::statistics::{figures, subjects};
use super::table::{Actual, Desired, Owned};
use crate::config::{Configuration, Dataplane, Ipvs};
use crate::metrics::Metrics;

/// How soon a stranger's change is repaired and a refused one is tried again.
const PACE: Duration = Duration::from_millis(500);
/// Above so many virtual services the pace is at least so many times as long as a pass takes, so that
/// a large table costs 5 % of a processor at most.
const LARGE: usize = 100;
const READING_SHARE: u32 = 20;
/// However large the table is and however busy the machine: a stranger's change isn't left longer.
const SLOWEST_PACE: Duration = Duration::from_secs(2);
/// The kernel folds its counters every 2 s.
const COUNTERS_PACE: Duration = Duration::from_secs(2);

/// What the thread tells the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableEvent {
    /// The kernel has what was asked for with this number, as far as it takes it. Told again when
    /// `refused` is another.
    Applied {
        /// The number given to [`TableThread::set`].
        generation: u64,
        /// The services that are not as asked, by the operator's names.
        refused: BTreeSet<String>,
    },
    /// Something was changed, or could not be; comes before [`Self::Applied`].
    Changed {
        /// The number of the wish that it was done for.
        generation: u64,
        /// What was changed, in order; without what only moves flows, which was said before.
        changes: Vec<Change>,
        /// What was refused, with the kernel's words; it is tried again. Without any after some were
        /// told, all is made.
        failures: Vec<String>,
    },
    /// What is wrong with the table now, each on one line with what to do about it; told whenever it
    /// is something else, and without any when all is well again.
    Complaints(Vec<String>),
    /// Somebody else has changed the table, and it was put right; told once for a while of it, in words.
    Repaired(String),
    /// What is wrong with the table now but for what somebody else does; told whenever it is something
    /// else, and without any when all is well again.
    Trouble(Vec<String>),
}

/// Why the table can't be kept.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The kernel has no IPVS, or it is out of reach.
    #[error(transparent)]
    Plane(#[from] OpenPlaneError),
    /// The record of our services can't be read.
    #[error(transparent)]
    Record(#[from] lvs_system::record::Error),
    /// The records of what is ours can't be read.
    #[error(transparent)]
    Settings(#[from] sysctl::Error),
    /// No thread.
    #[error("cannot start the table's thread: {0}")]
    Thread(#[from] io::Error),
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The kernel has no IPVS, or it is out of reach.
    #[error(transparent)]
    Open(#[from] OpenPlaneError),
    /// The records of what is ours can't be read.
    #[error(transparent)]
    Record(#[from] sysctl::Error),
    /// The table can't be read.
    #[error(transparent)]
    Plane(#[from] PlaneError),
}

/// What would have to change for a table to be there.
#[derive(Debug)]
pub struct Question {
    /// The table.
    pub desired: Desired,
    /// Who asks.
    pub answer: oneshot::Sender<Result<Plan, String>>,
}

enum Command {
    Set {
        generation: u64,
        desired: Desired,
        question: Option<Question>,
    },
    Plan(Question),
    Look,
    Stop,
}

/// The running thread, as its owner sees it.
pub struct TableThread {
    commands: Sender<Command>,
    thread: JoinHandle<()>,
}

impl TableThread {
    /// Asks for a table; an [`TableEvent::Applied`] with the same number follows when it is there,
    /// unless a newer one was asked for meanwhile. A question that comes along is answered from the
    /// picture of the table that the changes are made by.
    pub fn set(&self, generation: u64, desired: Desired, question: Option<Question>) {
        // The thread ends only with the whole worker.
        let _ = self.commands.send(Command::Set {
            generation,
            desired,
            question,
        });
    }

    /// Asks what [`Self::set`] would change now; changes nothing.
    pub fn plan(&self, question: Question) {
        // The thread ends only with the whole worker.
        let _ = self.commands.send(Command::Plan(question));
    }

    /// Has the table looked at now rather than when it is due.
    pub fn look(&self) {
        // The thread ends only with the whole worker.
        let _ = self.commands.send(Command::Look);
    }

    /// Removes every service of ours and puts back the settings found.
    pub fn stop(self) {
        let _ = self.commands.send(Command::Stop);
        if self.thread.join().is_err() {
            error!("the table's thread has panicked");
        }
    }
}

/// Starts the thread. The kernel's IPVS is opened at once if the configuration needs it, so that
/// its absence is an error here; records are kept in `directory`.
pub fn spawn(
    configuration: &Configuration,
    directory: &Path,
    metrics: Arc<Metrics>,
    events: UnboundedSender<TableEvent>,
) -> Result<TableThread, SpawnError> {
    let Ipvs {
        exclusive,
        timeouts,
        synchronization,
        ..
    } = &configuration.ipvs;
    let something = !configuration.services.is_empty()
        || *exclusive
        || *timeouts != Timeouts::default()
        || synchronization.is_some();
    let needed = configuration.dataplane == Dataplane::Ipvs && something;
    let reconciler = if needed {
        Some(open(directory)?)
    } else if record::peek(directory)? != Owned::default() {
        // What a predecessor left must go though nothing is wanted now, but isn't worth failing.
        let opened = open(directory);
        opened
            .inspect_err(|error| warn!(%error, "services of an earlier run may be left behind"))
            .ok()
    } else {
        None
    };
    let (commands, inbox) = mpsc::channel();
    let keeper = Keeper {
        directory: directory.to_owned(),
        reconciler,
        wish: None,
        questions: Vec::new(),
        complaints: Vec::new(),
        told: Vec::new(),
        has_failed: false,
        repairs: Repairs::default(),
        hearing: Hearing::default(),
        moving: BTreeSet::new(),
        warnings: BTreeSet::new(),
        is_littered: false,
        pace: PACE,
        counters_due: Instant::now(),
        metrics,
        events,
    };
    let thread = thread::Builder::new()
        .name("table".into())
        .spawn(move || keeper.run(&inbox))?;
    Ok(TableThread { commands, thread })
}

/// What a director that starts now would change; reads the kernel and the records in `directory`,
/// and changes nothing. For when no director runs.
///
/// # Errors
/// When the kernel or the records can't be read.
pub fn plan_without_daemon(directory: &Path, desired: &Desired) -> Result<Plan, PlanError> {
    let owned = record::peek(directory)?;
    let desired = &completed(desired.clone());
    if desired.is_empty() && owned == Owned::default() {
        return Ok(Plan::default());
    }
    let actual = Kernel::open()?.read(&settings::of_interest(
        &desired.further_settings,
        &owned.settings,
    ))?;
    let plan = plan(desired, &actual, &owned, &Resting::new());
    Ok(plan.without_probes())
}

impl Question {
    fn completed(self) -> Self {
        Self {
            desired: completed(self.desired),
            ..self
        }
    }
}

/// What the wish and the questions need beside the settings that matter anyway.
fn further_settings(desired: &Desired, questions: &[Question]) -> BTreeSet<String> {
    let asked = questions.iter().map(|question| &question.desired);
    let all = asked.chain([desired]);
    all.flat_map(|desired| desired.further_settings.iter().cloned())
        .collect()
}

/// With what follows from the routes of this machine.
fn completed(desired: Desired) -> Desired {
    Desired {
        further_settings: hearing_settings(&desired),
        ..desired
    }
}

fn open(directory: &Path) -> Result<Reconciler<IpvsPlane>, SpawnError> {
    Ok(Reconciler::open(IpvsPlane::open(directory)?, directory)?)
}

struct Keeper {
    directory: PathBuf,
    /// Opened when first needed: a file without services needs no IPVS.
    reconciler: Option<Reconciler<IpvsPlane>>,
    wish: Option<Wish>,
    questions: Vec<Question>,
    /// Those logged last.
    complaints: Vec<String>,
    /// Those told last, with what somebody else does.
    told: Vec<String>,
    /// Whether something was refused in the last pass.
    has_failed: bool,
    repairs: Repairs,
    hearing: Hearing,
    /// The services whose flows are being moved.
    moving: BTreeSet<ServiceKey>,
    warnings: BTreeSet<PlanNote>,
    /// Whether there may be much memory to give back since the last wish.
    is_littered: bool,
    pace: Duration,
    counters_due: Instant,
    metrics: Arc<Metrics>,
    events: UnboundedSender<TableEvent>,
}

struct Wish {
    generation: u64,
    desired: Desired,
    /// The services that were refused, as told last; `None` before.
    refused: Option<BTreeSet<String>>,
}

/// What a pass over the table came to.
#[derive(Default)]
struct Pass {
    refused: BTreeSet<String>,
    complaints: Vec<String>,
}

impl Keeper {
    fn run(mut self, inbox: &Receiver<Command>) {
        loop {
            match inbox.recv_timeout(self.wait()) {
                Ok(command) => {
                    // Only the newest wish counts.
                    for command in std::iter::once(command).chain(inbox.try_iter()) {
                        match command {
                            Command::Set {
                                generation,
                                desired,
                                question,
                            } => {
                                self.is_littered = true;
                                self.questions.extend(question);
                                self.wish = Some(Wish {
                                    generation,
                                    desired,
                                    refused: None,
                                });
                            }
                            Command::Plan(question) => self.questions.push(question),
                            Command::Look => {}
                            Command::Stop => return self.withdraw(),
                        }
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                // The worker failed before it ran: the table stays for the next one.
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.follow_wish();
        }
    }

    /// How long nothing has to be done but what is asked.
    fn wait(&self) -> Duration {
        let due = self.reconciler.as_ref().and_then(Reconciler::due);
        let due = due.map(|due| due.saturating_duration_since(Instant::now()));
        due.map_or(self.pace, |due| due.min(self.pace))
    }

    fn follow_wish(&mut self) {
        let questions = std::mem::take(&mut self.questions);
        let Some(mut wish) = self.wish.take() else {
            return self.answer(questions);
        };
        match self.reconcile(&mut wish, questions) {
            Ok(Pass {
                refused,
                complaints,
            }) => {
                self.complain(complaints);
                if wish.refused.as_ref() != Some(&refused) {
                    self.tell_engine(TableEvent::Applied {
                        generation: wish.generation,
                        refused: refused.clone(),
                    });
                    wish.refused = Some(refused);
                }
            }
            Err(error) => {
                self.has_failed = true;
                self.complain(vec![error]);
            }
        }
        self.wish = Some(wish);
    }

    fn reconcile(&mut self, wish: &mut Wish, questions: Vec<Question>) -> Result<Pass, String> {
        let start = Instant::now();
        wish.desired.further_settings = self.hearing.settings(&wish.desired, start);
        let desired = &wish.desired;
        if self.reconciler.is_none() && !desired.is_empty() {
            match open(&self.directory) {
                Ok(reconciler) => self.reconciler = Some(reconciler),
                Err(error) => {
                    self.answer(questions);
                    return Err(error.to_string());
                }
            }
        }
        let Some(reconciler) = &mut self.reconciler else {
            self.answer(questions);
            return Ok(Pass::default());
        };
        let questions: Vec<Question> = questions.into_iter().map(Question::completed).collect();
        let further = further_settings(desired, &questions);
        let found = reconciler.read(&further).map_err(|error| error.to_string());
        answer_from(&found, reconciler, questions);
        let mut outcome = reconciler
            .reconcile_from(found?, desired, start)
            .map_err(|error| error.to_string())?;
        let end = Instant::now();
        if outcome.changes.is_empty() && outcome.failures.is_empty() {
            self.pace = pace_after(end - start, outcome.counters.len());
            // What it takes to read a long file and to make a large table is several times what it
            // takes to keep it.
            if std::mem::take(&mut self.is_littered) {
                syscalls::release_memory();
            }
        }
        outcome.forget_probes();
        let moving = reconciler.moving();
        let has_failed = !outcome.failures.is_empty();
        let had_failed = std::mem::replace(&mut self.has_failed, has_failed);
        let changes = without(&outcome.changes, &outcome.moves);
        if !changes.is_empty() || has_failed || had_failed {
            self.tell_engine(TableEvent::Changed {
                generation: wish.generation,
                changes: changes.into_iter().cloned().collect(),
                failures: outcome.failures.iter().map(ToString::to_string).collect(),
            });
        }
        self.tell(&outcome, end);
        self.tell_of_moves(moving, desired);
        self.tell_of_notes(&outcome.notes);
        if end >= self.counters_due {
            self.counters_due = end + COUNTERS_PACE;
            let figures = outcome.counters.iter().flat_map(figures);
            let configured = || {
                let services = desired.services.iter();
                let services = services.filter(|(key, _)| !is_for_probes(key));
                services
                    .flat_map(|(_, service)| subjects(service))
                    .collect()
            };
            self.metrics.kernel().update(figures, configured, end);
        }
        Ok(Pass {
            refused: outcome.refused_services(),
            complaints: complaints(&outcome),
        })
    }

    fn tell_engine(&self, event: TableEvent) {
        // The engine ends this thread before it ends.
        let _ = self.events.send(event);
    }

    /// Logs and counts the changes made.
    fn tell(&mut self, outcome: &Outcome, now: Instant) {
        let Outcome {
            changes,
            failures,
            repairs,
            moves,
            ..
        } = outcome;
        self.metrics.table(changes.len(), failures.len());
        if let Some(text) = self.repairs.quiet(now) {
            warn!("table: {text}");
        }
        let told = without(changes, moves);
        log(&without(told, repairs));
        for change in repairs {
            let (object, kind) = (change.object(), change.kind());
            self.metrics.repaired(object.name(), kind.name());
        }
        if !repairs.is_empty()
            && let Some(text) = self.repairs.repaired(repairs, now)
        {
            warn!("table: {text}");
            self.tell_engine(TableEvent::Repaired(text));
        }
    }

    fn tell_of_moves(&mut self, moving: BTreeSet<ServiceKey>, desired: &Desired) {
        let moved = std::mem::replace(&mut self.moving, moving);
        let name = |key: &ServiceKey| Some(&desired.services.get(key)?.name);
        for key in self.moving.difference(&moved) {
            if let Some(name) = name(key) {
                info!(
                    "table: service {name} {key}: one-packet scheduling is on; each server leaves for \
                     a moment, one at a time, so that the flows that are pinned to it move"
                );
            }
        }
        for key in moved.difference(&self.moving) {
            if let Some(name) = name(key) {
                info!("table: service {name} {key}: the flows have moved, every server is back");
            }
        }
    }

    fn tell_of_notes(&mut self, notes: &BTreeSet<PlanNote>) {
        let warnings = notes.iter().filter(|note| match note {
            PlanNote::SmallConnectionTable { .. } => true,
            PlanNote::FlowsMove { .. } => false,
        });
        let warnings: BTreeSet<PlanNote> = warnings.cloned().collect();
        for warning in warnings.difference(&self.warnings) {
            warn!("forwarding: {warning}");
        }
        self.warnings = warnings;
    }

    fn answer(&mut self, questions: Vec<Question>) {
        if questions.is_empty() {
            return;
        }
        if let Some(reconciler) = &mut self.reconciler {
            let questions: Vec<Question> = questions.into_iter().map(Question::completed).collect();
            let further = further_settings(&Desired::default(), &questions);
            let found = reconciler.read(&further).map_err(|error| error.to_string());
            return answer_from(&found, reconciler, questions);
        }
        for Question { desired, answer } in questions {
            let plan = plan_without_daemon(&self.directory, &desired);
            // Who asked may have gone.
            let _ = answer.send(plan.map_err(|error| error.to_string()));
        }
    }

    /// Says each complaint once, not at every pass, and says when all is well again.
    fn complain(&mut self, complaints: Vec<String>) {
        let mut told = complaints.clone();
        let repairs = self.repairs.present();
        told.extend(repairs.map(|text| format!("the forwarding table: {text}")));
        if told != self.told {
            self.tell_engine(TableEvent::Complaints(told.clone()));
            self.told = told;
        }
        if complaints == self.complaints {
            return;
        }
        let again = if self.has_failed {
            "; trying again"
        } else {
            ""
        };
        if complaints.is_empty() {
            info!("forwarding: all is well again");
        } else {
            error!("forwarding: {}{again}", in_one_line(&complaints));
        }
        self.tell_engine(TableEvent::Trouble(complaints.clone()));
        self.complaints = complaints;
    }

    fn withdraw(mut self) {
        let Some(reconciler) = &mut self.reconciler else {
            return;
        };
        match reconciler.withdraw(Instant::now()) {
            Ok(mut outcome) => {
                outcome.forget_probes();
                log(&outcome.changes.iter().collect::<Vec<_>>());
                self.metrics
                    .table(outcome.changes.len(), outcome.failures.len());
                let left = left_behind(&outcome);
                if !left.is_empty() {
                    error!(
                        "not all of the forwarding table is removed; the next start takes it over, \
                         or removes it: {}",
                        in_one_line(&left)
                    );
                }
            }
            Err(error) => error!(
                %error,
                "the forwarding table is not removed; the next start takes it over, or removes it; \
                 `ipvsadm -C` clears all of it"
            ),
        }
    }
}

fn answer_from(
    found: &Result<Actual, String>,
    reconciler: &Reconciler<IpvsPlane>,
    questions: Vec<Question>,
) {
    for Question { desired, answer } in questions {
        let plan = match found {
            Ok(found) => Ok(reconciler.plan_from(found, &desired).without_probes()),
            Err(error) => Err(error.clone()),
        };
        // Who asked may have gone.
        let _ = answer.send(plan);
    }
}

/// When a table of so many virtual services is read again, after a pass that took so long.
fn pace_after(pass: Duration, services: usize) -> Duration {
    if services <= LARGE {
        return PACE;
    }
    (pass * READING_SHARE).clamp(PACE, SLOWEST_PACE)
}

/// One line a change, unless there are so many that nobody would read them.
fn log(changes: &[&Change]) {
    const MANY: usize = 50;
    if changes.len() > MANY {
        return info!(
            "table: {} changes: {}",
            changes.len(),
            listed(changes.iter().copied())
        );
    }
    for change in changes {
        info!("table: {change}");
    }
}

/// What is wrong, each on one line.
fn complaints(outcome: &Outcome) -> Vec<String> {
    let complaints = outcome.complaints.iter().map(ToString::to_string);
    let failures = outcome.failures.iter().map(ToString::to_string);
    complaints.chain(failures).collect()
}

/// What stays when all should go, each on one line with the command that removes it.
fn left_behind(outcome: &Outcome) -> Vec<String> {
    let complaints = outcome.complaints.iter().map(ToString::to_string);
    let failures = outcome.failures.iter().map(|failure| {
        let command = failure.change.by_hand();
        let command = command.map(|command| format!("; `{command}`"));
        format!("{failure}{}", command.unwrap_or_default())
    });
    complaints.chain(failures).collect()
}

/// Those of all that are not among some, which are in the same order.
fn without<'a>(all: impl IntoIterator<Item = &'a Change>, some: &[Change]) -> Vec<&'a Change> {
    let mut some = some.iter().peekable();
    let all = all.into_iter();
    all.filter(|change| some.next_if(|one| one == change).is_none())
        .collect()
}

/// The first few, and how many more there are.
fn in_one_line(complaints: &[String]) -> String {
    const FEW: usize = 8;
    let few = complaints.len().min(FEW);
    let mut line = complaints[..few].join("; ");
    if complaints.len() > few {
        line += &format!("; and {} more", complaints.len() - few);
    }
    line
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use lvs_proto::Family;
    use nix::errno::Errno;
    use std::num::NonZeroU32;

    use super::super::change::Action;
    use super::super::fake;
    use super::super::reconcile::Failure;
    use super::*;

    #[test]
    fn what_stays_at_the_end_is_named_with_the_command_that_removes_it() {
        let left = |key| {
            let change = Change::Service {
                service: Some("resolver".to_owned()),
                key,
                action: Action::RemoveService,
            };
            let error = fake::kernel(Errno::EPERM).into();
            let outcome = Outcome {
                failures: vec![Failure { change, error }],
                ..Outcome::default()
            };
            left_behind(&outcome).join("\n")
        };
        let text = left(fake::service_key(0));
        assert_eq!(
            text,
            "service resolver 192.0.2.100:53/udp: remove: Operation not permitted; \
             `ipvsadm -D -u 192.0.2.100:53`"
        );
        let mark = ServiceKey::FirewallMark {
            mark: NonZeroU32::MIN,
            family: Family::Ipv6,
        };
        assert!(left(mark).ends_with("`ipvsadm -D -f 1 -6`"));
    }

    #[test]
    fn what_moves_flows_or_repairs_is_left_out_of_what_was_planned() {
        let changes: Vec<Change> = (0..4)
            .map(|number| Change::Service {
                service: None,
                key: fake::service_key(number),
                action: Action::RemoveService,
            })
            .collect();
        let some = [changes[1].clone(), changes[3].clone()];
        assert_eq!(without(&changes, &some), [&changes[0], &changes[2]]);
    }

    #[test]
    fn a_large_table_is_read_less_often_but_never_left_alone_for_long() {
        for (pass, pace) in [(1, 500), (25, 500), (50, 1000), (100, 2000), (3000, 2000)] {
            let pass = Duration::from_millis(pass);
            assert_eq!(pace_after(pass, 101), Duration::from_millis(pace));
            assert_eq!(pace_after(pass, 100), PACE);
        }
    }
}
