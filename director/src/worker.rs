//! The worker: puts the parts together, and runs until it is told to stop.
//!
//! What can't work is found before anything is changed: the kernel's IPVS, the metrics' address,
//! the interfaces.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use lvs_system::syscalls;
use nix::sys::signal::SigSet;
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use crate::address::ArpSettings;
use crate::config::{Configuration, Errors};
use crate::dataplane;
use crate::engine::Engine;
use crate::metrics::{Metrics, Server};
use crate::supervisor::Estate;
use crate::vrrp;

/// Runs the worker with the configuration that `load` reads, now and on every SIGHUP.
///
/// # Errors
/// When it can't start; it ends well when it's told to.
pub fn run(
    load: impl Fn() -> Result<Configuration, Errors>,
    runtime_directory: &Path,
) -> anyhow::Result<()> {
    die_of_any_panic();
    let channel = take_channel()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(load, runtime_directory, channel))
}

async fn serve(
    load: impl Fn() -> Result<Configuration, Errors>,
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
    let (events, mut inbox) = mpsc::unbounded_channel();
    let (table_events, mut table_inbox) = mpsc::unbounded_channel();
    let (health_events, mut health_inbox) = mpsc::unbounded_channel();
    let table = dataplane::spawn(
        &configuration,
        runtime_directory,
        Arc::clone(&metrics),
        table_events,
    )?;
    let mut scrapes = Scrapes::new(Arc::clone(&metrics));
    scrapes.listen(&configuration).await?;
    let mut arp = None;
    keep_addresses_to_their_interface(&mut arp, &configuration, runtime_directory);
    let estate = Estate::new(released_first(channel.as_fd())?.into());
    let vrrp = vrrp::spawn(
        &configuration.instances,
        Arc::clone(&metrics),
        estate,
        events,
    )?;
    let mut engine = Engine::start(configuration, vrrp, table, metrics, health_events);
    // Says READY to systemd, where it listens; a failure means that it doesn't.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);

    channel.set_nonblocking(true)?;
    let mut supervisor = tokio::net::UnixStream::from_std(channel)?;
    loop {
        tokio::select! {
            Some(event) = inbox.recv() => engine.hear_vrrp(event),
            Some(event) = health_inbox.recv() => engine.hear_health(event),
            Some(event) = table_inbox.recv() => engine.hear_table(event),
            _ = hang_up.recv() => match load() {
                Ok(configuration) => {
                    if let Err(error) = scrapes.listen(&configuration).await {
                        error!("{error}; metrics stay where they are");
                    }
                    keep_addresses_to_their_interface(&mut arp, &configuration, runtime_directory);
                    engine.configure(configuration);
                    info!("configuration read again");
                }
                Err(errors) => {
                    engine.refuse();
                    for error in errors.iter() {
                        error!("configuration not changed: {error}");
                    }
                }
            },
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = supervisor.read_u8() => {
                warn!("the supervisor is gone: stopping");
                break;
            }
        }
    }
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    engine.stop();
    if let Some(Err(error)) = arp.map(ArpSettings::restore) {
        error!(%error, "a setting is not as it was found");
    }
    Ok(())
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

/// The server of metrics, which can move while the process runs.
struct Scrapes {
    metrics: Arc<Metrics>,
    listening: Option<(
        std::net::SocketAddr,
        tokio::task::JoinHandle<std::convert::Infallible>,
    )>,
}

impl Scrapes {
    fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            listening: None,
        }
    }

    /// Listens where the configuration says; the previous place stays when that is impossible.
    async fn listen(
        &mut self,
        configuration: &Configuration,
    ) -> Result<(), crate::metrics::BindError> {
        let wanted = configuration.metrics.map(|metrics| metrics.listen);
        if wanted == self.listening.as_ref().map(|(address, _)| *address) {
            return Ok(());
        }
        let next = match wanted {
            Some(address) => {
                let server = Server::bind(address).await?;
                let metrics = Arc::clone(&self.metrics);
                Some((
                    address,
                    tokio::spawn(async move { server.serve(metrics).await }),
                ))
            }
            None => None,
        };
        if let Some((_, previous)) = std::mem::replace(&mut self.listening, next) {
            previous.abort();
        }
        Ok(())
    }
}

/// The channel to the supervisor is our standard input; what we start later must not inherit it.
fn take_channel() -> anyhow::Result<UnixStream> {
    let channel = released_first(io::stdin().as_fd())?;
    nix::unistd::dup2_stdin(File::open("/dev/null")?)?;
    let channel = UnixStream::from(channel);
    channel
        .peer_addr()
        .context("the worker is started by `director run`, not by hand")?;
    Ok(channel)
}

/// Another descriptor of the channel, numbered above the sockets.
///
/// The kernel releases the files of a dying process from the highest number down (`do_exit()` and
/// `task_work_run()`), and every packet socket among them costs an RCU grace period
/// (`packet_release()`): up to tens of milliseconds in which the supervisor would not know yet.
fn released_first(channel: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    /// Most systems allow 1024.
    const ABOVE_SOCKETS: RawFd = 1000;
    syscalls::duplicate_from(channel, ABOVE_SOCKETS).or_else(|_| channel.try_clone_to_owned())
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
