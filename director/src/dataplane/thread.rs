//! The thread that keeps the forwarding table as the engine wants it.
//!
//! Netlink blocks, so it has a thread of its own. The newest wish wins; between wishes the table is
//! read again at a fixed pace, which repairs what a stranger changed, tries again what was refused,
//! and brings the counters.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use lvs_proto::ipvs::Statistics;
use lvs_system::record;
use tokio::sync::mpsc::UnboundedSender;
use tracing::{error, info, warn};

use super::ipvs::{IpvsPlane, OpenPlaneError};
use super::reconcile::{Outcome, Reconciler, ServiceCounters, left_behind};
use super::table::{Desired, DesiredService};
use crate::config::{Configuration, Dataplane};
use crate::metrics::{Figures, Metrics, Subject, Traffic};

/// How soon a stranger's change is repaired and a refused one is tried again.
const PACE: Duration = Duration::from_secs(1);
/// The kernel folds its counters every 2 s.
const COUNTERS_PACE: Duration = Duration::from_secs(2);

/// What the thread tells the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableEvent {
    /// The kernel's table is the one that was asked for with this number.
    Applied {
        /// The number given to [`TableThread::set`].
        generation: u64,
    },
}

/// Why the table can't be kept.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The kernel has no IPVS, or it is out of reach.
    #[error(transparent)]
    Plane(#[from] OpenPlaneError),
    /// The record of our services can't be read.
    #[error(transparent)]
    Record(#[from] record::Error),
    /// No thread.
    #[error("cannot start the table's thread: {0}")]
    Thread(#[from] io::Error),
}

enum Command {
    Set { generation: u64, desired: Desired },
    Stop,
}

/// The running thread, as its owner sees it.
pub struct TableThread {
    commands: Sender<Command>,
    thread: JoinHandle<()>,
}

impl TableThread {
    /// Asks for a table; an [`TableEvent::Applied`] with the same number follows when it is there,
    /// unless a newer one was asked for meanwhile.
    pub fn set(&self, generation: u64, desired: Desired) {
        // The thread ends only with the whole worker.
        let _ = self.commands.send(Command::Set {
            generation,
            desired,
        });
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
    let needed = configuration.dataplane == Dataplane::Ipvs && !configuration.services.is_empty();
    let reconciler = if needed {
        Some(open(directory)?)
    } else if left_behind(directory)? {
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
        last_complaint: None,
        counters_due: Instant::now(),
        metrics,
        events,
    };
    let thread = thread::Builder::new()
        .name("table".into())
        .spawn(move || keeper.run(&inbox))?;
    Ok(TableThread { commands, thread })
}

fn open(directory: &Path) -> Result<Reconciler<IpvsPlane>, SpawnError> {
    Ok(Reconciler::open(IpvsPlane::open(directory)?, directory)?)
}

struct Keeper {
    directory: PathBuf,
    /// Opened when first needed: a file without services needs no IPVS.
    reconciler: Option<Reconciler<IpvsPlane>>,
    wish: Option<Wish>,
    last_complaint: Option<String>,
    counters_due: Instant,
    metrics: Arc<Metrics>,
    events: UnboundedSender<TableEvent>,
}

struct Wish {
    generation: u64,
    desired: Desired,
    announced: bool,
}

impl Keeper {
    fn run(mut self, inbox: &Receiver<Command>) {
        loop {
            match inbox.recv_timeout(PACE) {
                Ok(command) => {
                    // Only the newest wish counts.
                    for command in std::iter::once(command).chain(inbox.try_iter()) {
                        match command {
                            Command::Set {
                                generation,
                                desired,
                            } => {
                                self.wish = Some(Wish {
                                    generation,
                                    desired,
                                    announced: false,
                                });
                            }
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

    fn follow_wish(&mut self) {
        let Some(mut wish) = self.wish.take() else {
            return;
        };
        let (fulfilled, complaint) = match self.reconcile(&wish.desired) {
            Ok((fulfilled, complaint)) => (fulfilled, complaint),
            Err(error) => (false, Some(error)),
        };
        self.complain(complaint);
        if fulfilled && !std::mem::replace(&mut wish.announced, true) {
            // The engine ends this thread before it ends.
            let _ = self.events.send(TableEvent::Applied {
                generation: wish.generation,
            });
        }
        self.wish = Some(wish);
    }

    /// Whether the table is as desired, and what went wrong, in one line.
    fn reconcile(&mut self, desired: &Desired) -> Result<(bool, Option<String>), String> {
        if self.reconciler.is_none() && !desired.services.is_empty() {
            self.reconciler = Some(open(&self.directory).map_err(|error| error.to_string())?);
        }
        let Some(reconciler) = &mut self.reconciler else {
            return Ok((true, None));
        };
        let outcome = reconciler
            .reconcile(desired)
            .map_err(|error| error.to_string())?;
        if Instant::now() >= self.counters_due {
            self.counters_due = Instant::now() + COUNTERS_PACE;
            let figures: Vec<Figures> = outcome.counters.iter().flat_map(figures).collect();
            let configured = desired.services.values().flat_map(subjects).collect();
            self.metrics.kernel().update(&figures, &configured);
        }
        Ok((outcome.failures.is_empty(), report(&outcome, &self.metrics)))
    }

    /// Says each complaint once, not at every pass, and says when all is well again.
    fn complain(&mut self, complaint: Option<String>) {
        if complaint == self.last_complaint {
            return;
        }
        match &complaint {
            Some(complaint) => error!(
                "forwarding: {complaint}; trying again every {} s",
                PACE.as_secs()
            ),
            None => info!("forwarding: all is well again"),
        }
        self.last_complaint = complaint;
    }

    fn withdraw(mut self) {
        let Some(reconciler) = &mut self.reconciler else {
            return;
        };
        match reconciler.withdraw() {
            Ok(outcome) => {
                if let Some(complaint) = report(&outcome, &self.metrics) {
                    error!("the forwarding table is not removed: {complaint}");
                }
            }
            Err(error) => error!(%error, "the forwarding table is not removed"),
        }
    }
}

/// What a desired service and its servers are in metrics.
fn subjects(service: &DesiredService) -> Vec<Subject> {
    let subject = |real_server| Subject {
        service: service.name.clone(),
        protocol: service.service.key.protocol.to_string(),
        real_server,
    };
    let servers = service
        .destinations
        .keys()
        .map(|key| key.address.to_string());
    std::iter::once(String::new())
        .chain(servers)
        .map(subject)
        .collect()
}

/// Logs and counts the changes made; returns what failed.
fn report(outcome: &Outcome, metrics: &Metrics) -> Option<String> {
    for change in &outcome.changes {
        info!("table: {change}");
    }
    metrics.table(outcome.changes.len(), outcome.failures.len());
    let failures = outcome.failures.iter().map(ToString::to_string);
    let complaints = outcome.complaints.iter().map(ToString::to_string);
    let all: Vec<String> = failures.chain(complaints).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

fn figures(counters: &ServiceCounters) -> impl Iterator<Item = Figures> + '_ {
    let subject = |real_server| Subject {
        service: counters.name.clone(),
        protocol: counters.key.protocol.to_string(),
        real_server,
    };
    let service = Figures {
        subject: subject(String::new()),
        traffic: traffic(&counters.statistics),
        weight: None,
    };
    let servers = counters.destinations.iter().map(move |found| Figures {
        subject: subject(found.destination.key.address.to_string()),
        traffic: traffic(&found.statistics),
        weight: Some(i64::from(found.destination.weight)),
    });
    std::iter::once(service).chain(servers)
}

fn traffic(statistics: &Statistics) -> Traffic {
    Traffic {
        connections: statistics.connections,
        packets: statistics.incoming_packets,
        bytes: statistics.incoming_bytes,
    }
}
