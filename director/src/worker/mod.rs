//! The worker: puts the parts together, and runs until it is told to stop.
//!
//! What can't work is found before anything is changed: the interfaces, the kernel's IPVS.

mod channel;
mod files;
mod listeners;
mod open_files;
mod queries;
mod reload;

use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lvs_metrics::Scrapes;
use nix::sys::signal::SigSet;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing::{error, info, warn};

pub use self::files::Source;

use self::files::{Errand, Files, Reading};
use self::listeners::Controls;
use self::queries::{Respondent, in_force};
use self::reload::Reloading;
use crate::address::ArpSettings;
use crate::config::{Configuration, Errors};
use crate::control::{Answer, Finding, State};
use crate::dataplane;
use crate::engine::Engine;
use crate::events::{Events, Kind, Occurrence, Severity};
use crate::hand::Keeper;
use crate::hooks::{self, Hooks};
use crate::metrics::{Exposition, Metrics};
use crate::page::{Page, Recorder};
use crate::sentinel::{self, Sentinel};
use crate::supervisor::Estate;
use crate::tracking::{self, Tracker};
use crate::vrrp;

/// Queries that wait for an answer.
const QUERIES: usize = 16;

/// Words of checkers from which one table follows.
const HEARD_AT_ONCE: usize = 1024;

/// Signals that come within this time are one.
const SAME_DEMAND: Duration = Duration::from_millis(500);

/// How long hooks may take that tell of the end.
const LAST_HOOKS: Duration = Duration::from_secs(3);

/// How long the disk may take for what was recorded last.
const LAST_EVENTS: Duration = Duration::from_secs(1);

/// How long the rest may take: the control socket, the table's services, settings.
const LAST_UNDOING: Duration = Duration::from_secs(3);

/// How long a worker takes at most to end once it has given up its VIPs.
pub(crate) const LONGEST_END: Duration = LAST_HOOKS
    .saturating_add(LAST_EVENTS)
    .saturating_add(LAST_UNDOING);

/// Where a worker keeps what outlives it.
#[derive(Clone, Copy, Debug)]
pub struct Directories<'d> {
    /// What a successor has to know, until the machine's restart.
    pub runtime: &'d Path,
    /// What operators have said.
    pub state: &'d Path,
}

/// Runs the worker with the configuration from `source`, which is read now, on every SIGHUP and
/// whenever `director reload` says so.
///
/// # Errors
/// When it can't start; it ends well when it's told to.
pub fn run(source: impl Source, node: String, directories: Directories<'_>) -> anyhow::Result<()> {
    die_of_any_panic();
    open_files::allow_all();
    let channel = channel::take()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(Arc::new(source), node, directories, channel))
}

async fn serve(
    source: Arc<impl Source>,
    node: String,
    directories: Directories<'_>,
    channel: UnixStream,
) -> anyhow::Result<()> {
    let runtime_directory = directories.runtime;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    // The supervisor's mask is inherited: what came before the handlers were there comes now.
    SigSet::all().thread_unblock()?;

    let loaded = source.load()?;
    let configuration = &loaded.configuration;
    let metrics = Arc::new(Metrics::new());
    let (table_events, mut table_inbox) = mpsc::unbounded_channel();
    let (health_events, mut health_inbox) = mpsc::unbounded_channel();
    let routers = vrrp::Routers::open(
        &configuration.instances,
        runtime_directory,
        Arc::clone(&metrics),
    )?;
    let events = Events::open(directories.state, runtime_directory)?;
    let table = dataplane::spawn(
        configuration,
        runtime_directory,
        Arc::clone(&metrics),
        table_events,
    )?;
    let mut tracker = Tracker::start(subjects(configuration), events.clone())?;
    let mut sentinel = Sentinel::spawn(Arc::clone(&metrics), events.clone())?;
    for (interface, up) in routers.carriers() {
        tracker.interface_changed(interface, up);
    }
    events.record(started(&node));
    // Nothing that others see was changed so far; from here on nothing fails.
    let (census, mut census_inbox) = mpsc::channel(QUERIES);
    let (queries, mut query_inbox) = mpsc::channel(QUERIES);
    let mut recorder = Recorder::new(census.clone());
    let page = Page::new(queries.clone(), events.clone(), &recorder);
    let exposition = Exposition::new(Arc::clone(&metrics), census, page);
    let mut scrapes = Scrapes::new(Arc::new(exposition));
    scrapes.listen(scraped_at(configuration)).await;
    recorder.write(scraped_at(configuration).is_some());
    let mut controls = Controls::new(runtime_directory, queries);
    controls.listen(configuration).await;
    let respondent = Respondent::new(node.clone(), events.clone());
    let mut hooks = Hooks::start(hooks::by_instance(&configuration.instances));
    let mut arp = None;
    keep_addresses_to_their_interface(&mut arp, configuration, runtime_directory);
    let (vrrp, mut vrrp_events) = routers.spawn(Estate::new(channel))?;
    let mut engine = Engine::start(
        loaded,
        (vrrp, vrrp_events.ownerships),
        table,
        metrics,
        health_events,
        Keeper::open(directories.state),
        events.clone(),
    );
    open_files::warn_if_short(engine.checkers());
    let mut files = Files::new(source);
    let mut reloading: Option<Reloading> = None;
    // Says READY to systemd, where it listens; a failure means that it doesn't.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);

    let mut departure = Departure::default();
    let mut heard = Vec::new();
    loop {
        let next_change = engine.next_change();
        tokio::select! {
            1.. = health_inbox.recv_many(&mut heard, HEARD_AT_ONCE) => {
                engine.hear_health(heard.drain(..));
                tell_quorums(&engine, &mut tracker);
            }
            Some(event) = table_inbox.recv() => {
                engine.hear_table(&event);
                if let Some(reloading) = &mut reloading {
                    reloading.hear_table(&event);
                }
            }
            () = engine.follow_roles() => set_guard(&mut sentinel, &engine),
            () = wait(next_change) => {
                engine.hear_time();
                tell_quorums(&engine, &mut tracker);
            }
            Some(event) = vrrp_events.interfaces.recv() => {
                tracker.interface_changed(&event.name, event.up);
            }
            Some(occurrence) = vrrp_events.incidents.recv() => events.record_unless_known(occurrence),
            Some(event) = vrrp_events.transitions.recv() => {
                events.record(role_changed(&event));
                hooks.tell(&notice(event));
            }
            Some(query) = query_inbox.recv() => {
                let errand = respondent.answer(query, &mut engine, &tracker, &sentinel);
                if let Some(errand) = errand {
                    files.read(errand);
                }
                tell_quorums(&engine, &mut tracker);
            }
            Some(answer) = census_inbox.recv() => {
                // Whoever asked may be gone.
                let _ = answer.send(engine.services());
            }
            event = tracker.changed() => engine.hear_tracking(&event),
            _ = hang_up.recv() => files.read(Errand::Reload(in_force(&engine), None)),
            reading = files.next() => match reading {
                // Whoever asked hears that this director is stopping.
                _ if departure.is_under_way() => {}
                Reading::Plan(Ok(outline), answer) => queries::tell_plan(engine.plan(&outline), answer),
                Reading::Plan(Err(errors), answer) => {
                    // Whoever asked may be gone.
                    let _ = answer.send(invalid(&errors));
                }
                // Something may have come in between.
                Reading::Unchanged(material, answer) if !engine.is_settled_with(&material) => {
                    files.read(Errand::Reload(None, answer));
                }
                Reading::Unchanged(_, answer) => {
                    let plan = engine.confirm();
                    let listen = engine.configuration();
                    keep_addresses_to_their_interface(&mut arp, listen, runtime_directory);
                    scrapes.listen(scraped_at(listen)).await;
                    recorder.write(scraped_at(listen).is_some());
                    controls.listen(listen).await;
                    info!("configuration read again: nothing has changed");
                    let next = Reloading::begin(answer, plan, &engine);
                    if let Some(previous) = reloading.replace(next) {
                        previous.end_early(&engine, &events);
                    }
                }
                Reading::Reload(Err(errors), answer) => {
                    engine.refuse();
                    events.record(refused(errors.iter()));
                    for error in errors.iter() {
                        error!("configuration not changed: {error}");
                    }
                    if let Some(answer) = answer {
                        let _ = answer.send(invalid(&errors));
                    }
                }
                Reading::Reload(Ok(loaded), answer) => {
                    let listen = loaded.configuration.clone();
                    match engine.configure(*loaded).await {
                        Ok(plan) => {
                            keep_addresses_to_their_interface(&mut arp, &listen, runtime_directory);
                            scrapes.listen(scraped_at(&listen)).await;
                            recorder.write(scraped_at(&listen).is_some());
                            controls.listen(&listen).await;
                            hooks.configure(hooks::by_instance(&listen.instances));
                            tracker.configure(subjects(&listen));
                            tell_quorums(&engine, &mut tracker);
                            set_guard(&mut sentinel, &engine);
                            info!("configuration read again");
                            open_files::warn_if_short(engine.checkers());
                            let next = Reloading::begin(answer, plan, &engine);
                            if let Some(previous) = reloading.replace(next) {
                                previous.end_early(&engine, &events);
                            }
                        }
                        Err(error) => {
                            engine.refuse();
                            events.record(refused([&error]));
                            error!("configuration not changed: {error}");
                            if let Some(answer) = answer {
                                let error = format!("configuration not changed: {error}");
                                let _ = answer.send(Answer::Error(error));
                            }
                        }
                    }
                }
            },
            () = reload::pause(reloading.as_mut()) => {
                if let Some(over) = reloading.take_if(|reloading| reloading.is_over(&engine)) {
                    over.end(&engine, &events);
                }
            }
            _ = terminate.recv() => departure.demand(&engine, &events),
            _ = interrupt.recv() => departure.demand(&engine, &events),
            _ = &mut vrrp_events.left => break,
        }
    }
    // A scrape or a page that waits for an answer would be waited for.
    drop(census_inbox);
    drop(query_inbox);
    while let Ok(event) = vrrp_events.transitions.try_recv() {
        events.record(role_changed(&event));
        hooks.tell(&notice(event));
    }
    controls.close().await;
    engine.stop();
    hooks.drain(LAST_HOOKS).await;
    if let Some(Err(error)) = arp.map(ArpSettings::restore) {
        error!(%error, "a setting is not as it was found");
    }
    let text = "left in order";
    events.record(Occurrence::new(Kind::Stopped, Severity::Info, text));
    events.close(LAST_EVENTS);
    Ok(())
}

fn scraped_at(configuration: &Configuration) -> Option<SocketAddr> {
    configuration.metrics.map(|metrics| metrics.listen)
}

/// For ever without a time.
async fn wait(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

fn invalid(errors: &Errors) -> Answer {
    Answer::Invalid(errors.iter().map(Finding::from).collect())
}

/// Whether and since when this director is leaving.
#[derive(Default)]
struct Departure(Option<Instant>);

impl Departure {
    fn is_under_way(&self) -> bool {
        self.0.is_some()
    }

    /// The peer takes over while everything goes on here; being told again ends that at once.
    ///
    /// A terminal and some service managers signal the supervisor and the worker, and the supervisor
    /// passes its own on: what comes close together is one demand.
    fn demand(&mut self, engine: &Engine, events: &Events) {
        let now = Instant::now();
        match self.0 {
            None => {
                info!("leaving");
                let text = "told to stop: another router takes over, if there is one";
                events.record(Occurrence::new(Kind::Stopping, Severity::Info, text));
                let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
                self.0 = Some(now);
                engine.begin_stop();
            }
            Some(first) if now - first >= SAME_DEMAND => engine.begin_stop(),
            Some(_) => {}
        }
    }
}

fn notice(event: vrrp::TransitionEvent) -> hooks::Notice {
    hooks::Notice {
        instance: event.instance,
        state: event.transition.to.into(),
        previous: event.transition.from.into(),
        reason: event.transition.reason.to_string(),
        priority: event.priority,
    }
}

fn started(node: &str) -> Occurrence {
    let version = env!("CARGO_PKG_VERSION");
    let text = format!("director {version} has started as {node}");
    Occurrence::new(Kind::Started, Severity::Info, text)
        .with("version", version)
        .with("node", node)
}

fn refused(errors: impl IntoIterator<Item = impl ToString>) -> Occurrence {
    let errors: Vec<String> = errors.into_iter().map(|error| error.to_string()).collect();
    let first = errors.first().map_or("", String::as_str);
    let more = match errors.len() {
        0 | 1 => String::new(),
        number => format!("; and {} more", number - 1),
    };
    let text = format!("the configuration is not changed: {first}{more}");
    Occurrence::new(Kind::ReloadRefused, Severity::Warning, text).with("errors", errors)
}

fn role_changed(event: &vrrp::TransitionEvent) -> Occurrence {
    let [from, to] = [event.transition.from, event.transition.to].map(State::from);
    let (reason, priority) = (event.transition.reason.to_string(), event.priority.get());
    let severity = match to {
        State::Fault => Severity::Error,
        _ => Severity::Info,
    };
    let text = format!("{from} → {to} with priority {priority}: {reason}");
    Occurrence::new(Kind::RoleChanged, severity, text)
        .of(&event.instance)
        .with("from", from.to_string())
        .with("to", to.to_string())
        .with("reason", reason)
        .with("priority", priority)
}

fn subjects(configuration: &Configuration) -> Vec<tracking::Subject> {
    configuration.instances.iter().map(Into::into).collect()
}

fn tell_quorums(engine: &Engine, tracker: &mut Tracker) {
    for (service, has_quorum) in engine.quorums() {
        tracker.service_changed(service, has_quorum);
    }
}

fn set_guard(sentinel: &mut Sentinel, engine: &Engine) {
    if let Some((ownerships, terms)) = engine.ownerships() {
        let guard = sentinel::guard(engine.configuration(), ownerships, terms);
        sentinel.set_guard(guard);
    }
}

/// A machine that doesn't allow it (a container, mostly) can do without, on one interface.
fn keep_addresses_to_their_interface(
    made: &mut Option<ArpSettings>,
    configuration: &Configuration,
    runtime_directory: &Path,
) {
    if made.is_some() || configuration.instances.is_empty() {
        return;
    }
    match ArpSettings::make(&runtime_directory.join("arp")) {
        Ok(settings) => *made = Some(settings),
        Err(error) => {
            warn!(%error, "ARP for the VIPs is answered on every interface of this machine");
        }
    }
}

/// A thread that panics takes the process with it: half a worker must not hold an address. The
/// supervisor cleans up.
fn die_of_any_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}
