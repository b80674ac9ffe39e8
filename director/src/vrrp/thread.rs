//! The thread on which adverts are heard and sent and timers run, and nothing else.
//!
//! It has its own `poll` loop and its own netlink connection: no probe, scrape or log reader can
//! delay an advert. Its log lines go through a queue (`cli::run`).

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{self, TryRecvError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use lvs_proto::vrrp::VirtualRouterId;
use lvs_system::netlink::{self, Connection, Protocol};
use lvs_system::syscalls;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use super::OpenError;
use super::router::Router;
use crate::address;
use crate::config::Instance as Settings;
use crate::metrics::Metrics;
use crate::supervisor::Estate;

/// Above every ordinary program, below the kernel's own threads.
const REAL_TIME_PRIORITY: u8 = 50;

/// Why the thread can't start.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// No netlink connection.
    #[error("cannot talk to the kernel about addresses: {0}")]
    Netlink(#[from] netlink::Error),
    /// A virtual router can't start.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// No thread, or nothing to wake it by.
    #[error("cannot start the VRRP thread: {0}")]
    Thread(#[from] std::io::Error),
}

enum Command {
    Ready {
        instance: String,
        ready: bool,
    },
    Configure {
        instances: Vec<Settings>,
        outcome: oneshot::Sender<Result<(), OpenError>>,
    },
    Stop,
}

/// The running thread, as its owner sees it.
pub struct VrrpThread {
    commands: mpsc::Sender<Command>,
    wake: Arc<EventFd>,
    thread: JoinHandle<()>,
}

impl VrrpThread {
    /// Says whether the machine could serve the services of an instance.
    pub fn set_ready(&self, instance: &str, ready: bool) {
        let instance = instance.to_owned();
        self.send(Command::Ready { instance, ready });
    }

    /// Goes on with other instances: those that stay keep their state.
    ///
    /// # Errors
    /// When one of the new ones can't start; nothing has changed then.
    pub async fn configure(&self, instances: Vec<Settings>) -> Result<(), OpenError> {
        let (outcome, answer) = oneshot::channel();
        self.send(Command::Configure { instances, outcome });
        // The thread ends without an answer only by a panic, which ends the process.
        answer.await.unwrap_or(Ok(()))
    }

    /// Leaves: every Active says so with priority 0, then gives its addresses up.
    pub fn stop(self) {
        self.send(Command::Stop);
        if self.thread.join().is_err() {
            error!("the VRRP thread has panicked");
        }
    }

    fn send(&self, command: Command) {
        // A thread that has ended was already reported, by its own panic.
        if self.commands.send(command).is_ok() {
            let _ = self.wake.write(1);
        }
    }
}

/// Virtual routers with all their sockets, before anything is sent or changed.
pub struct Routers {
    routers: Vec<Router>,
    route: Connection,
    metrics: Arc<Metrics>,
}

impl Routers {
    /// Opens all sockets, so that what can't work is an error here.
    pub fn open(instances: &[Settings], metrics: Arc<Metrics>) -> Result<Self, SpawnError> {
        let mut route = Connection::open(Protocol::Route)?;
        let open = |settings| Router::open(settings, &mut route, &metrics);
        let routers = instances.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            routers,
            route,
            metrics,
        })
    }

    /// Starts the thread.
    pub fn spawn(self, estate: Estate) -> Result<VrrpThread, SpawnError> {
        let (commands, inbox) = mpsc::channel();
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let wake = Arc::new(EventFd::from_flags(flags).map_err(std::io::Error::from)?);
        let Self {
            routers,
            route,
            metrics,
        } = self;
        let reactor = Reactor {
            routers,
            route,
            metrics,
            estate,
            inbox,
            wake: Arc::clone(&wake),
            stopping: false,
        };
        let thread = thread::Builder::new()
            .name("vrrp".into())
            .spawn(move || reactor.run())?;
        Ok(VrrpThread {
            commands,
            wake,
            thread,
        })
    }
}

struct Reactor {
    routers: Vec<Router>,
    route: Connection,
    metrics: Arc<Metrics>,
    estate: Estate,
    inbox: mpsc::Receiver<Command>,
    wake: Arc<EventFd>,
    stopping: bool,
}

impl Reactor {
    fn run(mut self) {
        if let Err(error) = syscalls::set_real_time_priority(REAL_TIME_PRIORITY) {
            info!(%error, "vrrp runs without real-time priority; grant CAP_SYS_NICE to keep its timing on a busy machine");
        }
        self.remove_orphans();
        let now = Instant::now();
        for router in &mut self.routers {
            router.start(&mut self.route, &self.estate, now);
        }
        self.introduce_siblings();
        loop {
            // What is queued is read before a timer is believed.
            for router in &mut self.routers {
                router.receive(Instant::now());
            }
            if !self.stopping {
                self.take_commands();
            }
            let now = Instant::now();
            for router in &mut self.routers {
                router.instance().handle_timeout(now);
                router.act(&mut self.route, &self.estate, now);
            }
            if self.stopping && self.routers.iter_mut().all(Router::has_left) {
                return;
            }
            self.wait();
        }
    }

    /// Addresses of a configuration that a predecessor died with.
    fn remove_orphans(&mut self) {
        let wanted = self.routers.iter().map(Router::addresses);
        match address::remove_orphans(&mut self.route, wanted) {
            Ok(removed) => {
                for orphan in removed {
                    warn!(address = %orphan.address, "address left behind by a director that died: removed");
                }
            }
            Err(error) => warn!(%error, "addresses of a director that died may be left behind"),
        }
    }

    fn take_commands(&mut self) {
        // Non-blocking: an error says that nobody has woken us.
        let _ = self.wake.read();
        loop {
            match self.inbox.try_recv() {
                Ok(Command::Ready { instance, ready }) => {
                    let mut routers = self.routers.iter_mut();
                    if let Some(router) = routers.find(|router| router.name() == instance) {
                        router.instance().handle_ready(ready);
                    }
                }
                Ok(Command::Configure { instances, outcome }) => {
                    // Whoever asked may be gone.
                    let _ = outcome.send(self.configure(&instances));
                }
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => {
                    for router in &mut self.routers {
                        router.instance().handle_stop(Instant::now());
                    }
                    self.stopping = true;
                    return;
                }
                Err(TryRecvError::Empty) => return,
            }
        }
    }

    fn configure(&mut self, instances: &[Settings]) -> Result<(), OpenError> {
        let now = Instant::now();
        let Self {
            routers,
            route,
            metrics,
            estate,
            ..
        } = self;
        // What can't be opened must be known before anything changes.
        let mut opened = Vec::new();
        for settings in instances {
            if !routers
                .iter()
                .any(|router| router.continues(settings, route))
            {
                opened.push(Router::open(settings, route, metrics)?);
            }
        }
        let mut kept = Vec::new();
        for mut router in std::mem::take(routers) {
            match instances
                .iter()
                .find(|settings| router.continues(settings, route))
            {
                Some(settings) => {
                    router.reconfigure(settings, metrics, route, estate, now);
                    kept.push(router);
                }
                None => {
                    // It lets go of its addresses before others may want them.
                    router.instance().handle_abandon(now);
                    router.act(route, estate, now);
                }
            }
        }
        for mut router in opened {
            router.start(route, estate, now);
            kept.push(router);
        }
        *routers = kept;
        self.introduce_siblings();
        Ok(())
    }

    fn introduce_siblings(&mut self) {
        let all: Vec<(String, VirtualRouterId)> = self
            .routers
            .iter()
            .map(|router| (router.interface().to_owned(), router.virtual_router()))
            .collect();
        for router in &mut self.routers {
            let here = all
                .iter()
                .filter(|(interface, _)| interface == router.interface());
            let siblings = here.map(|(_, virtual_router)| *virtual_router).collect();
            router.set_siblings(siblings);
        }
    }

    fn wait(&self) {
        let deadline = self.routers.iter().filter_map(Router::next_deadline).min();
        let timeout = deadline
            .map(|deadline| TimeSpec::from(deadline.saturating_duration_since(Instant::now())));
        let mut descriptors: Vec<PollFd<'_>> = self
            .routers
            .iter()
            .map(|router| PollFd::new(router.as_fd(), PollFlags::POLLIN))
            .collect();
        descriptors.push(PollFd::new(self.wake.as_fd(), PollFlags::POLLIN));
        match ppoll(&mut descriptors, timeout, None) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => error!(error = %errno, "the VRRP thread cannot wait for adverts"),
        }
    }
}
