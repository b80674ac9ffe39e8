//! The worker: puts the parts together, and runs until it is told to stop.
//!
//! What can't work is found before anything is changed: the interfaces, the kernel's IPVS.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use lvs_system::syscalls;
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::socket::{MsgFlags, recv};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use crate::address::ArpSettings;
use crate::config::{Configuration, Errors};
use crate::dataplane;
use crate::engine::Engine;
use crate::metrics::{Metrics, Server};
use crate::supervisor::Estate;
use crate::vrrp;

/// How soon an address that metrics can't be served on is tried again.
const LISTEN_AGAIN: Duration = Duration::from_secs(2);

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
    let (table_events, mut table_inbox) = mpsc::unbounded_channel();
    let (health_events, mut health_inbox) = mpsc::unbounded_channel();
    let routers = vrrp::Routers::open(&configuration.instances, Arc::clone(&metrics))?;
    let table = dataplane::spawn(
        &configuration,
        runtime_directory,
        Arc::clone(&metrics),
        table_events,
    )?;
    // Nothing was changed so far; from here on nothing fails.
    let mut scrapes = Scrapes::new(Arc::clone(&metrics));
    scrapes.listen(&configuration).await;
    let mut arp = None;
    keep_addresses_to_their_interface(&mut arp, &configuration, runtime_directory);
    let vrrp = routers.spawn(Estate::new(channel))?;
    let mut engine = Engine::start(configuration, vrrp, table, metrics, health_events);
    // Says READY to systemd, where it listens; a failure means that it doesn't.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);

    loop {
        tokio::select! {
            Some(event) = health_inbox.recv() => engine.hear_health(event),
            Some(event) = table_inbox.recv() => engine.hear_table(event),
            _ = hang_up.recv() => {
                match load() {
                    Ok(configuration) => {
                        let listen = configuration.clone();
                        match engine.configure(configuration).await {
                            Ok(()) => {
                                keep_addresses_to_their_interface(&mut arp, &listen, runtime_directory);
                                scrapes.listen(&listen).await;
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
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
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

/// The server of metrics, which can move while the process runs. It never keeps anything else from
/// running: an address that can't be listened on is tried again and again.
struct Scrapes {
    metrics: Arc<Metrics>,
    listening: Option<(SocketAddr, JoinHandle<()>)>,
}

impl Scrapes {
    fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            listening: None,
        }
    }

    /// Listens where the configuration says, and nowhere else.
    async fn listen(&mut self, configuration: &Configuration) {
        let wanted = configuration.metrics.map(|metrics| metrics.listen);
        if wanted == self.listening.as_ref().map(|(address, _)| *address) {
            return;
        }
        if let Some((_, previous)) = self.listening.take() {
            previous.abort();
            // Its socket is closed once it has ended, which an abort reports as an error.
            let _ = previous.await;
        }
        self.listening = wanted.map(|address| {
            let metrics = Arc::clone(&self.metrics);
            (address, tokio::spawn(serve_metrics(address, metrics)))
        });
    }
}

async fn serve_metrics(listen: SocketAddr, metrics: Arc<Metrics>) {
    let mut said = false;
    loop {
        match Server::bind(listen).await {
            Ok(server) => match server.serve(metrics).await {},
            Err(error) => {
                if !std::mem::replace(&mut said, true) {
                    error!("{error}; trying again every {} s", LISTEN_AGAIN.as_secs());
                }
                tokio::time::sleep(LISTEN_AGAIN).await;
            }
        }
    }
}

/// The channel to the supervisor is our standard input; what we start later must not inherit it.
///
/// A worker leaves in order when its supervisor dies, now or later.
fn take_channel() -> anyhow::Result<UnixStream> {
    let channel = released_first(io::stdin().as_fd())?;
    nix::unistd::dup2_stdin(File::open("/dev/null")?)?;
    nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)?;
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    match recv(channel.as_raw_fd(), &mut [0], flags) {
        Err(Errno::EAGAIN) => Ok(UnixStream::from(channel)),
        Ok(_) => bail!("the supervisor is gone"),
        Err(_) => bail!("the worker is started by `director run`, not by hand"),
    }
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
