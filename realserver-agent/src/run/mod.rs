//! `rs-agent run`: the VIPs as a service. It keeps the machine as wanted, tells directors what may be sent
//! here, counts queries on the wire, and leaves without loss.
//!
//! One thread, one loop. What is wanted is a value that [`Service::wanted`] makes of the configuration and
//! of what was stopped by hand; [`agent::bring_about`] compares it with the kernel and changes the difference,
//! at a start and a reload, and [`agent::repair`], VIP by VIP, at every change that the kernel tells of and four
//! times a second (nobody tells of sysctls). [`drain`] is pure.

mod alone;
mod control;
mod drain;
mod drift;
mod line;
mod metrics;
mod settings;
mod stopped;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lvs_configuration::Errors;
use lvs_metrics::Scrapes;
use lvs_proto::agent_check::Mode;
use lvs_system::control_socket;
use lvs_system::record::{self, Record};
use lvs_system::watch::Watch;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::sleep_until;
use tracing::{error, info, warn};

use crate::agent::{self, Foreign, Lifetimes, Outcome};
use crate::anycast::{Announcer, Status};
use crate::config::Configuration;
use crate::machine::{Linux, Machine};
use crate::plan::Others;
use crate::step::Step;
use crate::vip::Vip;

pub use alone::drain_alone;
pub use control::{Answer, AskError, Request, ask};
pub use drain::{Certificate, Drain, Patience, Progress, Senders, Told, Verdict};
pub use settings::Settings;
pub use stopped::Stopped;

use control::{Controls, Query};
use drift::Kind;
use line::{Board, LineServer, Reading};
use metrics::{Metrics, State};
use wire::Wire;

/// How often the machine is looked at when the kernel tells of no change.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// No oftener, however much changes.
const LOOK_PAUSE: Duration = Duration::from_millis(20);
/// How often queries are counted during a drain.
const COUNT_EVERY: Duration = Duration::from_millis(50);
/// Who has read the line within this time is a director that has to read the next one.
const READ_LATELY: Duration = Duration::from_secs(60);
/// How long it is counted what comes when the VIP is gone.
const AFTERMATH: Duration = Duration::from_millis(200);
/// The same repair is said again after this time.
const SAY_AGAIN: Duration = Duration::from_secs(10);
/// What service managers and terminals send twice at once is one demand.
const SAME_DEMAND: Duration = Duration::from_millis(500);
/// What a stop may take besides the drain.
const LEAVING: Duration = Duration::from_secs(10);
/// Requests and readings that may wait.
const WAITING: usize = 64;

/// Where the configuration comes from.
pub trait Source {
    /// Reads it.
    ///
    /// # Errors
    /// All mistakes.
    fn load(&self) -> Result<Configuration, Errors>;
    /// The file, where it is one.
    fn file(&self) -> Option<&Path>;
}

/// Why the service doesn't run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration has mistakes.
    #[error(transparent)]
    Configuration(#[from] Errors),
    /// The machine can't be brought to what is wanted.
    #[error(transparent)]
    Agent(#[from] agent::Error),
    /// What was stopped by hand isn't known.
    #[error(transparent)]
    Record(#[from] record::Error),
    /// No control socket.
    #[error(transparent)]
    Control(#[from] control_socket::BindError),
    /// The kernel refuses what every process may have.
    #[error("cannot watch the network or hear signals: {0}")]
    System(#[from] std::io::Error),
}

/// Runs until it is told to leave, by SIGTERM or SIGINT; `machine` is this process's alone. Returns the
/// certificate of the drain that it left with, if there was one.
///
/// # Errors
/// When the VIPs can't be brought up and none was; nothing was changed then.
pub fn run(
    source: impl Source,
    machine: Linux,
    state_directory: &Path,
) -> Result<Option<Certificate>, Error> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(serve(source, machine, state_directory))
}

async fn serve(
    source: impl Source,
    machine: Linux,
    state_directory: &Path,
) -> Result<Option<Certificate>, Error> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let changed = Arc::new(Notify::new());
    let watch = Watch::open()?;
    let (readings, mut read) = mpsc::channel(WAITING);
    let (queries, mut asked) = mpsc::channel(WAITING);
    let configuration = source.load()?;
    let group = configuration.run.group.as_deref();
    let controls = Controls::new(state_directory, group, queries)?;
    let record = Stopped::open(state_directory)?;
    let mut service = Service::start(source, configuration, machine, record, controls, readings)?;
    service.listen().await;
    let told = Arc::clone(&changed);
    // It ends with the process.
    std::thread::Builder::new()
        .name("watch".to_owned())
        .spawn(move || tell_of_changes(watch, &told))?;
    let watchdog = sd_notify::watchdog_enabled();
    // A failure means that nobody listens.
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    while !service.has_left {
        let wakeup = service.next_wakeup();
        tokio::select! {
            () = changed.notified() => service.look_soon(),
            Some(reading) = read.recv() => service.hear_reading(reading),
            Some(query) = asked.recv() => service.answer(query).await,
            _ = hang_up.recv() => {
                // The log has said what came of it.
                let _ = service.reload().await;
            }
            _ = terminate.recv() => service.leave().await,
            _ = interrupt.recv() => service.leave().await,
            () = announcements_change(&mut service.announcer) => service.follow_announcer(),
            () = sleep_until(wakeup.into()) => {}
        }
        service.hear_time().await;
        if watchdog.is_some() {
            let _ = sd_notify::notify(&[NotifyState::Watchdog]);
        }
    }
    // Queries that nobody took are answered by their end.
    drop(asked);
    service.controls.finish().await;
    Ok(service.certificate)
}

/// Waits for ever without anycast.
async fn announcements_change(announcer: &mut Option<Announcer>) {
    match announcer {
        Some(announcer) => announcer.changed().await,
        None => std::future::pending().await,
    }
}

/// Waits for changes of interfaces and addresses for ever. Without it they are seen a little later.
fn tell_of_changes(mut watch: Watch, changed: &Notify) {
    loop {
        let outcome = match poll(
            &mut [PollFd::new(watch.as_fd(), PollFlags::POLLIN)],
            PollTimeout::NONE,
        ) {
            Ok(_) => watch.take(),
            Err(Errno::EINTR) => continue,
            Err(errno) => Err(errno.into()),
        };
        match outcome {
            Ok(events) if events.is_empty() => {}
            Ok(_) => changed.notify_one(),
            Err(error) => {
                warn!("cannot watch the network any more, and look at it at intervals: {error}");
                return;
            }
        }
    }
}

/// A drain under way, and who waits for its end.
struct Draining {
    drain: Drain,
    answer: Option<oneshot::Sender<Answer>>,
}

struct Service<S> {
    source: S,
    configuration: Configuration,
    machine: Linux,
    /// With `mode: anycast`.
    announcer: Option<Announcer>,
    /// How often each VIP was withdrawn, as far as that is counted.
    withdrawals: BTreeMap<IpAddr, u64>,
    controls: Controls,
    line: LineServer,
    scrapes: Scrapes<Metrics>,
    metrics: Arc<Metrics>,
    wire: Wire,
    /// When each asker last read the line.
    readers: BTreeMap<IpAddr, Instant>,
    stopped: Stopped,
    /// Of that, for the next service.
    record: Record<Stopped>,
    /// All VIPs were taken away in order to leave.
    cleared: bool,
    draining: Option<Draining>,
    /// Since when the process is to end.
    leaving: Option<Instant>,
    has_left: bool,
    certificate: Option<Certificate>,
    looked: Instant,
    next_look: Instant,
    complaint: Option<String>,
    /// With anycast, what keeps VIPs from being withdrawn.
    foreign: BTreeSet<Foreign>,
    said: Option<(String, Instant)>,
}

impl<S: Source> Service<S> {
    /// Brings the VIPs up. Where some are up already, that one can't be keeps the others from nothing.
    fn start(
        source: S,
        configuration: Configuration,
        machine: Linux,
        record: Record<Stopped>,
        controls: Controls,
        readings: mpsc::Sender<Reading>,
    ) -> Result<Self, Error> {
        let metrics = Arc::new(Metrics::new());
        let board = Board {
            mode: Mode::Ready,
            weight: configuration.run.weight,
            directors: configuration.directors.iter().copied().collect(),
        };
        let now = Instant::now();
        let announcer = configuration.anycast.as_ref().map(Announcer::start);
        let mut service = Self {
            source,
            configuration,
            machine,
            announcer,
            withdrawals: BTreeMap::new(),
            controls,
            line: LineServer::new(board, readings),
            scrapes: Scrapes::new(Arc::clone(&metrics)),
            metrics,
            wire: Wire::default(),
            readers: BTreeMap::new(),
            stopped: record.contents().clone(),
            record,
            cleared: false,
            draining: None,
            leaving: None,
            has_left: false,
            certificate: None,
            looked: now,
            next_look: now,
            complaint: None,
            foreign: BTreeSet::new(),
            said: None,
        };
        service.warn_of_stopped();
        let mut notes = match service.bring_about() {
            Ok(notes) => notes,
            Err(error) if service.machine.owned().addresses.is_empty() => return Err(error.into()),
            // What an earlier service has left is put right by the first look, each VIP by itself.
            Err(_) => Vec::new(),
        };
        notes.extend(service.configuration.warnings());
        for note in notes {
            warn!("{note}");
        }
        service
            .metrics
            .show_vips(&BTreeSet::new(), &service.addresses());
        service.show_presence();
        service.say();
        service.count_whom();
        Ok(service)
    }

    /// What an earlier service was told still counts.
    fn warn_of_stopped(&self) {
        if let Some(damage) = self.record.damage() {
            warn!("{damage}; what was stopped by hand comes back");
        }
        let stopped = self.addresses().into_iter();
        let stopped: Vec<String> = stopped
            .filter(|vip| self.stopped.contains(*vip))
            .map(|vip| vip.to_string())
            .collect();
        if !stopped.is_empty() {
            warn!(
                "{} stopped by hand: `rs-agent start` brings back what was",
                stopped.join(", ")
            );
        }
    }

    /// What this machine shall hold now: all that the loop compares with the kernel.
    fn wanted(&self) -> Vec<Vip> {
        if self.cleared {
            return Vec::new();
        }
        let mut vips = match &self.announcer {
            Some(announcer) => announcer.wanted(self.draining.is_some()),
            None => self.configuration.vips.clone(),
        };
        vips.retain(|vip| !self.stopped.contains(vip.address));
        vips
    }

    /// Whether a stop has restored what was found, and nothing is to be done until a start.
    fn is_stopped(&self) -> bool {
        self.cleared || self.stopped.is_all()
    }

    /// Brings the machine to what is wanted. Returns what a person should know.
    fn bring_about(&mut self) -> Result<Vec<String>, agent::Error> {
        if self.announcer.is_some() {
            // What fails is tried again with the next look.
            self.follow_announcer();
            return Ok(Vec::new());
        }
        let wanted = self.wanted();
        if wanted.is_empty() {
            agent::stop(&mut self.machine, &[])?;
            return Ok(Vec::new());
        }
        let plan = agent::bring_about(&mut self.machine, &wanted, Others::Remove)?;
        Ok(agent::foreign_notes(&plan.foreign))
    }

    /// Takes over what the announcer wants, and renews lifetimes.
    fn follow_announcer(&mut self) {
        if self.announcer.is_none() {
            return;
        }
        if !self.is_stopped() {
            // The steps are nothing that somebody else made necessary.
            let outcome = self.announce(Lifetimes::Renew);
            self.hear_errors(&outcome.errors);
        }
        self.say();
    }

    /// Brings the machine to the announcements that are wanted, each by itself.
    fn announce(&mut self, lifetimes: Lifetimes) -> Outcome {
        let wanted = self.wanted();
        agent::bring_about_each(&mut self.machine, &wanted, lifetimes)
    }

    fn addresses(&self) -> BTreeSet<IpAddr> {
        let vips = self.configuration.vips.iter();
        vips.map(|vip| vip.address).collect()
    }

    /// Listens where the configuration says.
    async fn listen(&mut self) {
        let settings = &self.configuration.run;
        self.line.listen(settings.agent_check).await;
        self.scrapes.listen(settings.metrics).await;
        if let Err(error) = self.controls.set_group(settings.group.as_deref()) {
            error!("{error}");
        }
    }

    /// The kernel has told of a change.
    fn look_soon(&mut self) {
        self.next_look = self.next_look.min(self.looked + LOOK_PAUSE);
    }

    fn next_wakeup(&self) -> Instant {
        let now = Instant::now();
        match self.draining.as_ref().map(|it| it.drain.progress(now)) {
            None => self.next_look,
            Some(Progress::Over) => now,
            Some(Progress::Waiting(until)) => until.min(self.next_look).min(now + COUNT_EVERY),
        }
    }

    async fn hear_time(&mut self) {
        let now = Instant::now();
        if now >= self.next_look {
            self.count_whom();
            self.look(now);
        } else if self.draining.is_some() {
            self.count(now);
        }
        let Some(draining) = &self.draining else {
            return;
        };
        if draining
            .answer
            .as_ref()
            .is_some_and(oneshot::Sender::is_closed)
            && self.leaving.is_none()
        {
            info!("the drain was called off: this server takes queries as before");
            self.draining = None;
            self.follow_announcer();
            self.say();
        } else if draining.drain.progress(now) == Progress::Over {
            self.end_drain().await;
        }
    }

    /// Compares what is wanted with the machine, and puts right what differs.
    fn look(&mut self, now: Instant) {
        self.count(now);
        let wanted = self.wanted();
        let outcome = if self.announcer.is_some() && !self.is_stopped() {
            self.announce(Lifetimes::LeaveAlone)
        } else if wanted.is_empty() {
            // What a stop could not do is tried again; otherwise the machine is only read.
            let errors = agent::stop(&mut self.machine, &[]).err();
            Outcome {
                errors: errors.iter().map(ToString::to_string).collect(),
                ..Outcome::default()
            }
        } else {
            agent::repair(&mut self.machine, &wanted)
        };
        self.looked = now;
        self.next_look = now + LOOK_EVERY;
        self.hear_errors(&outcome.errors);
        self.repaired(now, &outcome.steps);
    }

    /// Says what could not be done, once.
    fn hear_errors(&mut self, errors: &[String]) {
        if errors.is_empty() {
            if self.complaint.take().is_some() {
                info!("the machine is as wanted again");
            }
        } else {
            self.metrics.failed();
            let words = errors.join("; ");
            if self.complaint.as_ref() != Some(&words) {
                error!(
                    "{words}; tried again {} times a second",
                    1000 / LOOK_EVERY.as_millis()
                );
                self.complaint = Some(words);
            }
        }
        self.show_presence();
    }

    fn repaired(&mut self, now: Instant, steps: &[Step]) {
        for kind in steps.iter().filter_map(Kind::of) {
            self.metrics.repaired(kind);
        }
        let Some(words) = drift::words(steps) else {
            return;
        };
        let lately = self
            .said
            .as_ref()
            .is_some_and(|(said, at)| *said == words && now < *at + SAY_AGAIN);
        if !lately {
            warn!("somebody changed what rs-agent keeps; put right: {words}");
            self.said = Some((words, now));
        }
    }

    /// Shows which VIPs the machine holds, and says which of them can't be withdrawn.
    fn show_presence(&mut self) {
        let vips = self.addresses();
        // A machine that can't be read is the next look's complaint.
        if let Ok(presence) = agent::presence(&mut self.machine, &vips) {
            for vip in vips {
                self.metrics.set_present(vip, presence.held.contains(&vip));
            }
            if self.announcer.is_some() {
                self.hear_foreign(presence.foreign);
            } else {
                self.foreign.clear();
            }
        }
        for status in self.announcements() {
            let vip = status.address;
            let counted = self
                .withdrawals
                .insert(vip, status.withdrawals)
                .unwrap_or(0);
            // The count begins anew when a VIP's configuration has changed.
            let new = status.withdrawals.checked_sub(counted);
            let new = new.unwrap_or(status.withdrawals);
            self.metrics.announced(vip, &status.state, new);
        }
    }

    /// Says what has come and gone of it, once.
    fn hear_foreign(&mut self, found: BTreeSet<Foreign>) {
        if !found.is_empty() {
            self.metrics.failed();
        }
        for foreign in found.difference(&self.foreign) {
            warn!(
                "{}; take it away with `{}`, also where the network is configured",
                foreign.problem(),
                foreign.mend()
            );
        }
        for foreign in self.foreign.difference(&found) {
            info!("{foreign} is gone: rs-agent alone has the VIP in hand again");
        }
        self.foreign = found;
    }

    /// How announcements stand; none without anycast.
    fn announcements(&self) -> Vec<Status> {
        let drains = self.draining.is_some();
        let announcer = self.announcer.iter();
        let statuses = announcer.flat_map(|announcer| announcer.status(drains));
        statuses
            .map(|status| {
                if self.is_stopped() || self.stopped.contains(status.address) {
                    status.stopped()
                } else {
                    status
                }
            })
            .collect()
    }

    fn count(&mut self, now: Instant) {
        let mut sum = 0;
        for (vip, transport, queries) in self.wire.take() {
            self.metrics.queries(vip, transport, queries);
            sum += queries;
        }
        if let Some(draining) = &mut self.draining {
            draining.drain.hear_queries(now, sum);
        }
    }

    /// Those that are configured, or else those that have read the line lately.
    fn directors(&self) -> Vec<IpAddr> {
        if self.configuration.directors.is_empty() {
            self.readers.keys().copied().collect()
        } else {
            self.configuration.directors.iter().copied().collect()
        }
    }

    /// Counts for the VIPs of the configuration, without the directors of now.
    fn count_whom(&mut self) {
        let now = Instant::now();
        self.readers.retain(|_, at| now < *at + READ_LATELY);
        self.metrics.set_directors(self.readers.len());
        self.wire.follow(&self.addresses(), &self.directors());
    }

    fn hear_reading(&mut self, reading: Reading) {
        // Somebody on this machine who wants to know.
        if reading.reader.is_loopback() {
            return;
        }
        let now = Instant::now();
        let is_new = self.readers.insert(reading.reader, now).is_none();
        if is_new {
            self.count_whom();
        }
        if let Some(draining) = &mut self.draining
            && reading.mode == Mode::Drain
        {
            draining.drain.hear_reader(now, reading.reader);
        }
    }

    fn state(&self) -> State {
        let mut vips = self.addresses().into_iter();
        if self.is_stopped() || vips.all(|vip| self.stopped.contains(vip)) {
            State::Stopped
        } else if self.wanted().is_empty() {
            State::Withdrawn
        } else if self.draining.is_some() {
            State::Draining
        } else {
            State::Serving
        }
    }

    /// Tells directors and monitoring how it is.
    fn say(&self) {
        let state = self.state();
        self.metrics.set_state(state);
        let mode = match state {
            State::Serving => Mode::Ready,
            State::Draining => Mode::Drain,
            State::Stopped | State::Withdrawn => Mode::Maintenance,
        };
        let weight = self.configuration.run.weight;
        let directors = self.configuration.directors.iter().copied().collect();
        self.line.say(|board| {
            *board = Board {
                mode,
                weight,
                directors,
            };
        });
    }

    async fn answer(&mut self, query: Query) {
        let answer = match query.request {
            Request::Start { vips, config } => self.start_again(&vips, config),
            Request::Reload { vips, config } => match self.other_file(config) {
                Some(error) => Answer::Error(error),
                None if !vips.is_empty() => Answer::Error(format!(
                    "the rs-agent that runs as process {} goes by {}; change that",
                    std::process::id(),
                    self.place()
                )),
                None => match self.reload().await {
                    Ok(notes) => Answer::Done(notes),
                    Err(error) => Answer::Error(error),
                },
            },
            Request::Stop { vips } => self.stop(&vips),
            Request::Announcements => Answer::Announcements(self.announcements()),
            Request::Drain { quiet, limit } => {
                if self.draining.is_some() {
                    Answer::Error("a drain is under way already".to_owned())
                } else if self.wanted().is_empty() {
                    // Nothing comes for a VIP that isn't here.
                    self.stop(&[])
                } else {
                    let patience = self.configuration.run.patience.with(quiet, limit);
                    self.begin_drain(patience, Some(query.answer));
                    return;
                }
            }
        };
        // Whoever asked may be gone.
        let _ = query.answer.send(answer);
    }

    fn start_again(&mut self, vips: &[IpAddr], config: Option<PathBuf>) -> Answer {
        if self.leaving.is_some() {
            return Answer::Error("the service is stopping".to_owned());
        }
        if let Some(error) = self.other_file(config) {
            return Answer::Error(error);
        }
        if let Some(error) = self.unknown(vips) {
            return Answer::Error(format!("{error}; add it there, and `rs-agent reload`"));
        }
        let before = self.stopped.clone();
        self.stopped.start(vips, &self.addresses());
        match self.bring_about() {
            Ok(notes) => {
                self.keep_stopped();
                if let Some(draining) = self.draining.take() {
                    info!("the drain was called off by a start");
                    refuse(draining, "it was called off by `rs-agent start`");
                    self.follow_announcer();
                }
                self.show_presence();
                self.say();
                Answer::Done(notes)
            }
            Err(error) => {
                self.stopped = before;
                Answer::Error(error.to_string())
            }
        }
    }

    fn stop(&mut self, vips: &[IpAddr]) -> Answer {
        if let Some(error) = self.unknown(vips) {
            return Answer::Error(error);
        }
        if let Some(draining) = self.draining.take() {
            refuse(draining, "it was cut short by `rs-agent stop`");
        }
        if vips.is_empty() {
            info!("stopped by hand: `rs-agent start` brings the VIPs back");
        }
        self.stopped.stop(vips);
        self.keep_stopped();
        let outcome = agent::stop(&mut self.machine, vips);
        self.show_presence();
        self.say();
        match outcome {
            Ok(left) => Answer::Done(left.notes()),
            Err(error) => Answer::Error(error.to_string()),
        }
    }

    /// Has the next service know what was stopped.
    fn keep_stopped(&mut self) {
        let stopped = self.stopped.clone();
        if let Err(error) = self.record.update(|record| *record = stopped) {
            error!("{error}; the next service won't know what was stopped by hand");
        }
    }

    /// Reads the configuration again and goes by it. Returns what a person should know.
    async fn reload(&mut self) -> Result<Vec<String>, String> {
        let mut states = vec![NotifyState::Reloading];
        states.extend(NotifyState::monotonic_usec_now());
        let _ = sd_notify::notify(&states);
        let outcome = self.exchange().await;
        match &outcome {
            Ok(notes) => {
                info!("configuration read again");
                for note in notes {
                    warn!("{note}");
                }
            }
            Err(error) => error!("configuration not changed: {error}"),
        }
        self.metrics.reloaded(outcome.is_ok());
        let _ = sd_notify::notify(&[NotifyState::Ready]);
        outcome
    }

    /// On an error everything is as before.
    async fn exchange(&mut self) -> Result<Vec<String>, String> {
        let new = self.source.load().map_err(|errors| errors.to_string())?;
        let before = self.addresses();
        let previous = std::mem::replace(&mut self.configuration, new);
        // One that isn't needed any more goes on until everything else is so.
        let retired = match &self.configuration.anycast {
            Some(settings) => {
                match &mut self.announcer {
                    Some(announcer) => announcer.reload(settings),
                    None => self.announcer = Some(Announcer::start(settings)),
                }
                None
            }
            None => self.announcer.take(),
        };
        let mut notes = match self.bring_about() {
            Ok(notes) => notes,
            Err(error) => {
                // With an announcer there is no error here, so it was not reloaded.
                self.announcer = retired;
                self.configuration = previous;
                return Err(error.to_string());
            }
        };
        drop(retired);
        notes.extend(self.configuration.warnings());
        self.metrics.show_vips(&before, &self.addresses());
        self.show_presence();
        self.count_whom();
        self.say();
        self.listen().await;
        Ok(notes)
    }

    fn begin_drain(&mut self, patience: Patience, answer: Option<oneshot::Sender<Answer>>) {
        self.count_whom();
        let now = Instant::now();
        // What has come so far isn't the drain's.
        self.count(now);
        let readers = self.readers.keys().copied();
        let counted = self.wire.counts(&self.addresses());
        let listens = self.configuration.run.agent_check;
        let configured = self.configuration.directors.iter().copied();
        // One that is named by addresses of both families reads it by one of them.
        let configured = configured.filter(|it| listens.is_some_and(|at| takes(at, *it)));
        let drain = Drain::announce(now, patience, readers, configured, counted);
        info!(
            "draining: the VIPs go once nothing has come for {:?}, after {:?} at the latest",
            patience.quiet, patience.limit
        );
        self.draining = Some(Draining { drain, answer });
        self.follow_announcer();
        self.say();
    }

    /// Whose queries a drain waits for.
    fn senders(&self) -> Senders {
        match &self.configuration.anycast {
            None => Senders::Directors,
            Some(anycast) if anycast.vips.iter().all(|vip| vip.degraded.is_some()) => {
                Senders::RoutersOfTiers
            }
            Some(_) => Senders::Routers,
        }
    }

    /// Takes the VIPs away, and says what can be said for it.
    async fn end_drain(&mut self) {
        let Some(Draining { drain, answer }) = self.draining.take() else {
            return;
        };
        let counted = self.wire.counts(&self.addresses());
        let gone = Instant::now();
        if answer.as_ref().is_some_and(|answer| !answer.is_closed()) {
            self.stopped.stop(&[]);
            self.keep_stopped();
        } else {
            self.cleared = true;
        }
        let outcome = agent::stop(&mut self.machine, &[]);
        self.show_presence();
        self.say();
        if let Err(error) = outcome {
            error!("{error}");
            if let Some(answer) = answer {
                let _ = answer.send(Answer::Error(error.to_string()));
            }
            self.has_left |= self.leaving.is_some();
            return;
        }
        tokio::time::sleep(AFTERMATH).await;
        let mut lost = 0;
        for (vip, transport, queries) in self.wire.take() {
            self.metrics.queries(vip, transport, queries);
            lost += queries;
        }
        let certificate = drain
            .certify(gone, counted.then_some(lost))
            .with_senders(self.senders());
        for line in certificate.to_string().lines() {
            info!("{line}");
        }
        if let Some(answer) = answer {
            let _ = answer.send(Answer::Left(Box::new(certificate.clone())));
        }
        if self.leaving.is_some() {
            self.certificate = Some(certificate);
            self.has_left = true;
        }
    }

    /// The process shall end: by a drain where a director listens, at once otherwise or when it is demanded
    /// again.
    async fn leave(&mut self) {
        let now = Instant::now();
        match self.leaving {
            Some(first) if now < first + SAME_DEMAND => return,
            Some(_) => {
                warn!("leaving at once, since it was demanded again");
                return self.leave_at_once();
            }
            None => self.leaving = Some(now),
        }
        let patience = self.configuration.run.patience;
        let extension = u32::try_from((patience.limit + LEAVING).as_micros()).unwrap_or(u32::MAX);
        let _ = sd_notify::notify(&[
            NotifyState::Stopping,
            NotifyState::ExtendTimeoutUsec(extension),
        ]);
        self.count_whom();
        if self.draining.is_some() {
            info!("leaving when the drain has ended");
        } else if self.wanted().is_empty() {
            self.leave_at_once();
        } else if self.readers.is_empty() {
            let why = if self.announcer.is_some() {
                "routers learn of it by the end of the VIPs"
            } else {
                "no director has read the agent-check line lately, so none could be told"
            };
            info!("leaving at once: {why}");
            self.leave_at_once();
        } else {
            self.begin_drain(patience, None);
        }
    }

    fn leave_at_once(&mut self) {
        self.has_left = true;
        if let Some(draining) = self.draining.take() {
            refuse(draining, "the service was told to leave at once");
        }
        self.cleared = true;
        if let Err(error) = agent::stop(&mut self.machine, &[]) {
            error!("{error}");
        }
    }

    /// What to say to somebody who means VIPs that aren't configured.
    fn unknown(&self, vips: &[IpAddr]) -> Option<String> {
        let configured = self.addresses();
        let unknown = vips.iter().find(|vip| !configured.contains(vip))?;
        let configured: Vec<String> = configured.iter().map(IpAddr::to_string).collect();
        Some(format!(
            "{unknown} is no VIP of the rs-agent that runs as process {}: it has {}, by {}",
            std::process::id(),
            configured.join(", "),
            self.place()
        ))
    }

    /// What to say to somebody who means another file than the one that this service goes by.
    fn other_file(&self, meant: Option<PathBuf>) -> Option<String> {
        let meant = meant?;
        (self.source.file() != Some(&meant)).then(|| {
            format!(
                "the rs-agent that runs as process {} goes by {}, not by {}",
                std::process::id(),
                self.place(),
                meant.display()
            )
        })
    }

    fn place(&self) -> String {
        match self.source.file() {
            Some(file) => file.display().to_string(),
            None => "its command line".to_owned(),
        }
    }
}

/// Whether somebody with this address can connect to a socket that listens there.
fn takes(listens: SocketAddr, peer: IpAddr) -> bool {
    listens.is_ipv4() == peer.is_ipv4() || listens.ip() == Ipv6Addr::UNSPECIFIED
}

fn refuse(draining: Draining, why: &str) {
    if let Some(answer) = draining.answer {
        let _ = answer.send(Answer::Error(format!("the drain came to no end: {why}")));
    }
}
