//! The thread on which adverts are heard and sent and timers run, and nothing else.
//!
//! It has its own `poll` loop and its own netlink connection: no probe, scrape or log reader can
//! delay an advert. What it has to say goes out through a channel that never blocks.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{self, TryRecvError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use lvs_proto::vrrp::{Transition, VirtualRouterId};
use lvs_system::netlink::{self, Connection, Protocol};
use lvs_system::syscalls;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;
use tokio::sync::mpsc::UnboundedSender;
use tracing::{error, info};

use super::OpenError;
use super::router::Router;
use crate::config::Instance as Settings;
use crate::metrics::Metrics;
use crate::supervisor::Estate;

/// Above every ordinary program, below the kernel's own threads.
const REAL_TIME_PRIORITY: u8 = 50;

/// What the thread tells the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A virtual router has changed its state.
    Transition {
        /// The instance's name.
        instance: String,
        /// From where to where, and why.
        transition: Transition,
    },
    /// The instance was removed from the configuration.
    Removed {
        /// The instance's name.
        instance: String,
    },
}

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
    Ready { instance: String, ready: bool },
    Configure(Vec<Settings>),
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
        self.send(Command::Ready {
            instance: instance.to_owned(),
            ready,
        });
    }

    /// Goes on with other instances: those that stay keep their state.
    pub fn configure(&self, instances: Vec<Settings>) {
        self.send(Command::Configure(instances));
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

/// Opens all sockets, so that what can't work is an error here, and starts the thread.
pub fn spawn(
    instances: &[Settings],
    metrics: Arc<Metrics>,
    estate: Estate,
    events: UnboundedSender<Event>,
) -> Result<VrrpThread, SpawnError> {
    let mut route = Connection::open(Protocol::Route)?;
    let open = |settings| Router::open(settings, &mut route, &metrics);
    let routers = instances.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let (commands, inbox) = mpsc::channel();
    let wake = Arc::new(
        EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)
            .map_err(std::io::Error::from)?,
    );
    let reactor = Reactor {
        routers,
        route,
        metrics,
        estate,
        events,
        inbox,
        wake: Arc::clone(&wake),
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

struct Reactor {
    routers: Vec<Router>,
    route: Connection,
    metrics: Arc<Metrics>,
    estate: Estate,
    events: UnboundedSender<Event>,
    inbox: mpsc::Receiver<Command>,
    wake: Arc<EventFd>,
}

impl Reactor {
    fn run(mut self) {
        if let Err(error) = syscalls::set_real_time_priority(REAL_TIME_PRIORITY) {
            info!(%error, "vrrp runs without real-time priority; grant CAP_SYS_NICE to keep its timing on a busy machine");
        }
        let now = Instant::now();
        for router in &mut self.routers {
            start(router, &self.estate, now);
        }
        loop {
            // What is queued is read before a timer is believed.
            let siblings: Vec<_> = self
                .routers
                .iter()
                .map(|r| (r.interface().to_owned(), r.virtual_router()))
                .collect();
            for router in &mut self.routers {
                let here: Vec<VirtualRouterId> = siblings
                    .iter()
                    .filter(|(interface, _)| interface == router.interface())
                    .map(|(_, id)| *id)
                    .collect();
                router.receive(Instant::now(), &here);
            }
            let stop = self.take_commands();
            let now = Instant::now();
            for router in &mut self.routers {
                router.instance().handle_timeout(now);
                act(router, &mut self.route, &self.estate, &self.events, now);
            }
            if stop {
                return;
            }
            self.wait();
        }
    }

    /// Whether to stop.
    fn take_commands(&mut self) -> bool {
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
                Ok(Command::Configure(instances)) => self.configure(&instances),
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => {
                    for router in &mut self.routers {
                        router.instance().handle_stop();
                    }
                    return true;
                }
                Err(TryRecvError::Empty) => return false,
            }
        }
    }

    fn configure(&mut self, instances: &[Settings]) {
        let now = Instant::now();
        let (mut kept, gone): (Vec<Router>, Vec<Router>) = std::mem::take(&mut self.routers)
            .into_iter()
            .partition(|router| instances.iter().any(|settings| router.continues(settings)));
        // Those that go let go of their addresses before others may want them.
        for mut router in gone {
            router.instance().handle_stop();
            act(
                &mut router,
                &mut self.route,
                &self.estate,
                &self.events,
                now,
            );
            let _ = self.events.send(Event::Removed {
                instance: router.name().to_owned(),
            });
        }
        for settings in instances {
            let same = kept.iter().position(|router| router.continues(settings));
            if let Some(mut router) = same.map(|position| kept.swap_remove(position)) {
                router.reconfigure(settings, &mut self.route, now);
                self.routers.push(router);
                continue;
            }
            match Router::open(settings, &mut self.route, &self.metrics) {
                Ok(mut router) => {
                    start(&mut router, &self.estate, now);
                    self.routers.push(router);
                }
                Err(error) => error!(%error, "virtual router not started"),
            }
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

fn start(router: &mut Router, estate: &Estate, now: Instant) {
    if let Some(found) = router.holding() {
        estate.record(router.name(), Some(found));
    }
    router.instance().handle_start(now);
}

fn act(
    router: &mut Router,
    route: &mut Connection,
    estate: &Estate,
    events: &UnboundedSender<Event>,
    now: Instant,
) {
    for transition in router.act(route, estate, now) {
        let instance = router.name().to_owned();
        // The engine ends before this thread only when the whole worker does.
        let _ = events.send(Event::Transition {
            instance,
            transition,
        });
    }
}
