//! The worker: puts the parts together, and runs until it is told to stop.
//!
//! What can't work is found before anything is changed: the interfaces, the kernel's IPVS.

mod channel;
mod listeners;
mod queries;

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::SigSet;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use self::listeners::{Controls, Scrapes};
use self::queries::Respondent;
use crate::address::ArpSettings;
use crate::config::{Configuration, Errors};
use crate::dataplane;
use crate::engine::Engine;
use crate::hooks::{self, Hooks};
use crate::metrics::Metrics;
use crate::supervisor::Estate;
use crate::tracking::{self, Tracker};
use crate::vrrp;

/// Queries that wait for an answer.
const QUERIES: usize = 16;

/// Signals that come within this time are one.
const SAME_DEMAND: Duration = Duration::from_millis(500);

/// How long hooks may take that tell of the end.
const LAST_HOOKS: Duration = Duration::from_secs(3);

/// Runs the worker with the configuration that `load` reads, now and on every SIGHUP.
///
/// # Errors
/// When it can't start; it ends well when it's told to.
pub fn run(
    load: impl Fn() -> Result<Configuration, Errors>,
    node: String,
    runtime_directory: &Path,
) -> anyhow::Result<()> {
    die_of_any_panic();
    let channel = channel::take()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(load, node, runtime_directory, channel))
}

async fn serve(
    load: impl Fn() -> Result<Configuration, Errors>,
    node: String,
    runtime_directory: &Path,
    channel: UnixStream,
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    // The supervisor's mask is inherited: what came before the handlers were there comes now.
    SigSet::all().thread_unblock()?;

    let configuration = load()?;
    let metrics = Arc::new(Metrics::new());
    let (table_events, mut table_inbox) = mpsc::unbounded_channel();
    let (health_events, mut health_inbox) = mpsc::unbounded_channel();
    let routers = vrrp::Routers::open(
        &configuration.instances,
        runtime_directory,
        Arc::clone(&metrics),
    )?;
    let table = dataplane::spawn(
        &configuration,
        runtime_directory,
        Arc::clone(&metrics),
        table_events,
    )?;
    let mut tracker = Tracker::start(subjects(&configuration))?;
    for (interface, up) in routers.carriers() {
        tracker.interface_changed(interface, up);
    }
    // Nothing that others see was changed so far; from here on nothing fails.
    let mut scrapes = Scrapes::new(Arc::clone(&metrics));
    scrapes.listen(&configuration).await;
    let (queries, mut query_inbox) = mpsc::channel(QUERIES);
    let mut controls = Controls::new(runtime_directory, queries);
    controls.listen(&configuration).await;
    let respondent = Respondent::new(node);
    let mut hooks = Hooks::start(hooks::by_instance(&configuration.instances));
    let mut arp = None;
    keep_addresses_to_their_interface(&mut arp, &configuration, runtime_directory);
    let (vrrp, mut vrrp_events) = routers.spawn(Estate::new(channel))?;
    let mut engine = Engine::start(configuration, vrrp, table, metrics, health_events);
    // Says READY to systemd, where it listens; a failure means that it doesn't.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);

    let mut departure = Departure::default();
    loop {
        tokio::select! {
            Some(event) = health_inbox.recv() => {
                engine.hear_health(event);
                tell_quorums(&engine, &mut tracker);
            }
            Some(event) = table_inbox.recv() => engine.hear_table(event),
            Some(event) = vrrp_events.interfaces.recv() => {
                tracker.interface_changed(&event.name, event.up);
            }
            Some(event) = vrrp_events.transitions.recv() => hooks.tell(&notice(event)),
            Some(query) = query_inbox.recv() => respondent.answer(query, &engine, &tracker),
            event = tracker.changed() => engine.hear_tracking(&event),
            _ = hang_up.recv(), if !departure.is_under_way() => {
                match load() {
                    Ok(configuration) => {
                        let listen = configuration.clone();
                        match engine.configure(configuration).await {
                            Ok(()) => {
                                keep_addresses_to_their_interface(&mut arp, &listen, runtime_directory);
                                scrapes.listen(&listen).await;
                                controls.listen(&listen).await;
                                hooks.configure(hooks::by_instance(&listen.instances));
                                tracker.configure(subjects(&listen));
                                tell_quorums(&engine, &mut tracker);
                                info!("configuration read again");
                            }
                            Err(error) => {
                                engine.refuse();
                                error!("configuration not changed: {error}");
                            }
                        }
                    }
                    Err(errors) => {
                        engine.refuse();
                        for error in errors.iter() {
                            error!("configuration not changed: {error}");
                        }
                    }
                }
            },
            _ = terminate.recv() => departure.demand(&engine),
            _ = interrupt.recv() => departure.demand(&engine),
            _ = &mut vrrp_events.left => break,
        }
    }
    while let Ok(event) = vrrp_events.transitions.try_recv() {
        hooks.tell(&notice(event));
    }
    controls.close().await;
    engine.stop();
    hooks.drain(LAST_HOOKS).await;
    if let Some(Err(error)) = arp.map(ArpSettings::restore) {
        error!(%error, "a setting is not as it was found");
    }
    Ok(())
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
    fn demand(&mut self, engine: &Engine) {
        let now = Instant::now();
        match self.0 {
            None => {
                info!("leaving");
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

fn subjects(configuration: &Configuration) -> Vec<tracking::Subject> {
    configuration.instances.iter().map(Into::into).collect()
}

fn tell_quorums(engine: &Engine, tracker: &mut Tracker) {
    for (service, has_quorum) in engine.quorums() {
        tracker.service_changed(service, has_quorum);
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
