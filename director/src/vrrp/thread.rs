//! The thread on which adverts are heard and sent and timers run, and nothing else.
//!
//! It has its own `poll` loop and its own netlink connection: no probe, scrape or log reader can
//! delay an advert. Its log lines go through a queue (`cli::run`).

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, TryRecvError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use lvs_proto::vrrp::{Aside, Instance, Ownership, Priority, group};
use lvs_system::address::may_change;
use lvs_system::link::Link;
use lvs_system::memory;
use lvs_system::netlink::{self, Connection, Protocol};
use lvs_system::syscalls;
use lvs_system::watch::{self, Event, Picture, PictureError, Watch};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;
use prometheus::Histogram;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use super::OpenError;
use super::closer::Closer;
use super::monitor::{InterfaceEvent, Monitor, Notice};
use super::port::Port;
use super::router::{Hands, Router, TransitionEvent};
use super::virtual_mac::VirtualMacs;
use super::watchdog::Watchdog;
use crate::address;
use crate::config::Instance as Settings;
use crate::control::{HandoverOutcome, InstanceStatus};
use crate::events::Occurrence;
use crate::metrics::Metrics;
use crate::supervisor::Estate;

/// Above every ordinary program, below the kernel's own threads.
const REAL_TIME_PRIORITY: u8 = 50;

/// Why the thread can't start, or go on with other instances.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// No netlink connection.
    #[error("cannot talk to the kernel about addresses: {0}")]
    Netlink(#[from] netlink::Error),
    /// Links and addresses can't be read.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// What the kernel said when it was asked for the right to change addresses.
    #[error(transparent)]
    Rights(#[from] lvs_system::address::Error),
    /// Addresses can't be changed.
    #[error(
        "not permitted to change addresses: the director needs CAP_NET_ADMIN; run it as root, or give it that capability"
    )]
    NotPermitted,
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
    Track {
        instance: String,
        priority: Priority,
        fault: bool,
    },
    Notice(Notice),
    Configure {
        instances: Vec<Settings>,
        picture: Picture,
        outcome: oneshot::Sender<Result<(), OpenError>>,
    },
    HandOver {
        instance: String,
        aside: Option<Duration>,
        outcome: oneshot::Sender<HandoverOutcome>,
    },
    Release {
        answer: oneshot::Sender<Vec<String>>,
    },
    Status {
        answer: oneshot::Sender<Vec<InstanceStatus>>,
    },
    Stop,
}

/// How the instances stand with their addresses, by name.
pub type Ownerships = BTreeMap<String, Ownership>;

/// What the thread tells of by itself.
pub struct Events {
    /// All instances whenever one changes, and at the start: before addresses are added, and after
    /// they were removed.
    pub ownerships: UnboundedReceiver<Ownerships>,
    /// Changes of state, in their order.
    pub transitions: UnboundedReceiver<TransitionEvent>,
    /// What else is worth telling of.
    pub incidents: UnboundedReceiver<Occurrence>,
    /// Interfaces of the machine that get or lose their carrier; all are told of at first.
    pub interfaces: UnboundedReceiver<InterfaceEvent>,
    /// Has an answer when the thread has left.
    pub left: oneshot::Receiver<()>,
}

/// The running thread, as its owner sees it.
pub struct VrrpThread {
    inbox: Inbox,
    thread: JoinHandle<()>,
}

#[derive(Clone)]
struct Inbox {
    commands: mpsc::Sender<Command>,
    wake: Arc<EventFd>,
}

impl Inbox {
    fn send(&self, command: Command) {
        // A thread that has ended was already reported, by its own panic.
        if self.commands.send(command).is_ok() {
            let _ = self.wake.write(1);
        }
    }
}

impl VrrpThread {
    /// Says whether the machine could serve the services of an instance.
    pub fn set_ready(&self, instance: &str, ready: bool) {
        let instance = instance.to_owned();
        self.inbox.send(Command::Ready { instance, ready });
    }

    /// Says what an instance is worth by all that it tracks, and whether that keeps it from taking
    /// part.
    pub fn track(&self, instance: &str, priority: Priority, fault: bool) {
        self.inbox.send(Command::Track {
            instance: instance.to_owned(),
            priority,
            fault,
        });
    }

    /// Goes on with other instances: those that stay keep their state. What changes with the addresses
    /// is told of ([`Events::ownerships`]) before this returns.
    ///
    /// # Errors
    /// When one of the new ones can't start; nothing has changed then.
    pub async fn configure(&self, instances: Vec<Settings>) -> Result<(), SpawnError> {
        let picture = watch::picture(&mut Connection::open(Protocol::Route)?)?;
        let (outcome, answer) = oneshot::channel();
        self.inbox.send(Command::Configure {
            instances,
            picture,
            outcome,
        });
        // The thread ends without an answer only by a panic, which ends the process.
        Ok(answer.await.unwrap_or(Ok(()))?)
    }

    /// Hands an instance and its group over, and leaves lower Actives alone for `aside`, or until
    /// [`Self::release`]. Nothing is received for an instance that isn't there.
    pub fn hand_over(
        &self,
        instance: &str,
        aside: Option<Duration>,
    ) -> oneshot::Receiver<HandoverOutcome> {
        let (outcome, answer) = oneshot::channel();
        self.inbox.send(Command::HandOver {
            instance: instance.to_owned(),
            aside,
            outcome,
        });
        answer
    }

    /// Lets all instances take over again from lower Actives, and names those that stood aside.
    pub fn release(&self) -> oneshot::Receiver<Vec<String>> {
        let (answer, released) = oneshot::channel();
        self.inbox.send(Command::Release { answer });
        released
    }

    /// How all instances are.
    pub fn status(&self) -> oneshot::Receiver<Vec<InstanceStatus>> {
        let (answer, status) = oneshot::channel();
        self.inbox.send(Command::Status { answer });
        status
    }

    /// Begins to leave: every Active hands over, then gives its addresses up. A second call ends it
    /// at once. [`Events::left`] tells when it's done.
    pub fn begin_stop(&self) {
        self.inbox.send(Command::Stop);
    }

    /// Waits for the thread's end, after it has left.
    pub fn join(self) {
        if self.thread.join().is_err() {
            error!("the VRRP thread has panicked");
        }
    }
}

/// Virtual routers with all their sockets, before anything is sent or changed.
pub struct Routers {
    instances: Vec<Settings>,
    routers: Vec<Router>,
    route: Connection,
    virtual_macs: VirtualMacs,
    closer: Closer,
    watch: Watch,
    picture: Picture,
    metrics: Arc<Metrics>,
}

impl Routers {
    /// Opens all sockets, so that what can't work is an error here. Records are kept in
    /// `runtime_directory`.
    pub fn open(
        instances: &[Settings],
        runtime_directory: &Path,
        metrics: Arc<Metrics>,
    ) -> Result<Self, SpawnError> {
        let mut route = Connection::open(Protocol::Route)?;
        // Otherwise it would come out when the first of them shall be held.
        if !instances.is_empty() && !may_change(&mut route)? {
            return Err(SpawnError::NotPermitted);
        }
        let virtual_macs = VirtualMacs::new(runtime_directory.join("virtual-mac"));
        let closer = Closer::spawn()?;
        let watch = Watch::open()?;
        let picture = watch::picture(&mut route)?;
        let mut routers: Vec<Router> = Vec::new();
        for settings in instances {
            match Router::open(settings, None, &picture, &mut route, &closer, &metrics) {
                Ok(router) => routers.push(router),
                Err(error) => {
                    for mut router in routers {
                        router.close_port(&mut route);
                    }
                    return Err(error.into());
                }
            }
        }
        Ok(Self {
            instances: instances.to_vec(),
            routers,
            route,
            virtual_macs,
            closer,
            watch,
            picture,
            metrics,
        })
    }

    /// The interfaces of this machine, and whether each carries packets.
    pub fn carriers(&self) -> impl Iterator<Item = (&str, bool)> {
        let links = self.picture.links.iter();
        links.map(|link| (link.name.as_str(), link.up))
    }

    /// Starts the thread.
    pub fn spawn(self, estate: Estate) -> Result<(VrrpThread, Events), SpawnError> {
        let (commands, inbox) = mpsc::channel();
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let wake = Arc::new(EventFd::from_flags(flags).map_err(std::io::Error::from)?);
        let sender = Inbox {
            commands,
            wake: Arc::clone(&wake),
        };
        let (ownerships, ownership_events) = unbounded_channel();
        let (transitions, transition_events) = unbounded_channel();
        let (incidents, incident_events) = unbounded_channel();
        let (interfaces, interface_events) = unbounded_channel();
        let (left, has_left) = oneshot::channel();
        let tell = {
            let sender = sender.clone();
            move |notice| sender.send(Command::Notice(notice))
        };
        let monitor = Monitor::spawn(
            self.watch,
            self.picture.clone(),
            self.instances,
            tell,
            interfaces,
        )?;
        let reactor = Reactor {
            routers: self.routers,
            route: self.route,
            virtual_macs: self.virtual_macs,
            closer: self.closer,
            lateness: self.metrics.vrrp_thread_lateness(),
            sampled_at: Instant::now(),
            metrics: self.metrics,
            monitor,
            edition: 0,
            estate,
            ownerships,
            told: None,
            transitions,
            incidents,
            inbox,
            wake,
            watchdog: Watchdog::from_environment(Instant::now()),
            stopping: false,
        };
        let thread = thread::Builder::new().name("vrrp".into()).spawn(move || {
            reactor.run(&self.picture);
            // Nobody waits any more, perhaps.
            let _ = left.send(());
        })?;
        let thread = VrrpThread {
            inbox: sender,
            thread,
        };
        let events = Events {
            ownerships: ownership_events,
            transitions: transition_events,
            incidents: incident_events,
            interfaces: interface_events,
            left: has_left,
        };
        Ok((thread, events))
    }
}

/// What was opened for an instance of another configuration.
enum Prepared {
    /// It goes on with what it has.
    Nothing,
    /// It goes on with another port.
    Port(Port),
    /// It is new.
    Router(Box<Router>),
}

impl Prepared {
    fn port(&self) -> Option<&Port> {
        match self {
            Self::Nothing => None,
            Self::Port(port) => Some(port),
            Self::Router(router) => router.port(),
        }
    }

    /// Closes it, and removes what was made for it.
    fn discard(self, route: &mut Connection) {
        match self {
            Self::Nothing => {}
            Self::Port(port) => {
                // The next start removes what stays behind.
                let _ = port.close(route);
            }
            Self::Router(mut router) => router.close_port(route),
        }
    }
}

struct Reactor {
    routers: Vec<Router>,
    route: Connection,
    virtual_macs: VirtualMacs,
    closer: Closer,
    metrics: Arc<Metrics>,
    monitor: Monitor,
    /// How many lists of instances there were before this one.
    edition: u64,
    estate: Estate,
    ownerships: UnboundedSender<Ownerships>,
    told: Option<Ownerships>,
    transitions: UnboundedSender<TransitionEvent>,
    incidents: UnboundedSender<Occurrence>,
    inbox: mpsc::Receiver<Command>,
    wake: Arc<EventFd>,
    watchdog: Option<Watchdog>,
    stopping: bool,
    /// How late it ran, in seconds.
    lateness: Histogram,
    sampled_at: Instant,
}

/// When it is told how instances stand with their addresses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    /// Of what the state machines have decided.
    BeforeActing,
    /// Of what is done.
    AfterActing,
}

/// Borrows what routers act with, beside the routers themselves.
macro_rules! hands {
    ($reactor:ident) => {
        Hands {
            route: &mut $reactor.route,
            virtual_macs: &mut $reactor.virtual_macs,
            closer: &$reactor.closer,
            estate: &$reactor.estate,
            transitions: &$reactor.transitions,
        }
    };
}

impl Reactor {
    fn run(mut self, picture: &Picture) {
        settle_in();
        self.remove_orphans();
        let now = Instant::now();
        for router in &mut self.routers {
            router.start(picture, &mut hands!(self), now);
        }
        self.introduce_siblings();
        self.sampled_at = Instant::now();
        loop {
            // Some commands take their time.
            self.take_commands();
            // What is queued is read before a timer is believed.
            for router in &mut self.routers {
                router.receive(Instant::now());
            }
            let now = Instant::now();
            self.with_groups(|members| group::leash(now, members));
            for router in &mut self.routers {
                router.instance().handle_timeout(now);
            }
            self.with_groups(|members| group::keep_together(now, members));
            self.tell_ownerships(When::BeforeActing);
            for router in &mut self.routers {
                router.act(&mut hands!(self), now);
            }
            self.tell_ownerships(When::AfterActing);
            for router in &mut self.routers {
                for incident in router.take_incidents() {
                    // Nobody listens while the daemon ends.
                    let _ = self.incidents.send(incident);
                }
            }
            if self.stopping && self.routers.iter().all(Router::has_left) {
                return self.leave();
            }
            if let Some(watchdog) = &mut self.watchdog {
                watchdog.feed(Instant::now());
            }
            self.wait();
        }
    }

    fn leave(mut self) {
        for router in &mut self.routers {
            router.close_port(&mut self.route);
        }
        self.virtual_macs.restore();
    }

    /// Addresses and interfaces of a configuration that a predecessor died with.
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
        let wanted: Vec<&str> = self.routers.iter().filter_map(Router::macvlan).collect();
        self.virtual_macs.clear_up(&mut self.route, &wanted);
    }

    fn take_commands(&mut self) {
        // Non-blocking: an error says that nobody has woken us.
        let _ = self.wake.read();
        loop {
            match self.inbox.try_recv() {
                Ok(command) => self.obey(command),
                Err(TryRecvError::Empty) => return,
                // Our owner is gone without a word.
                Err(TryRecvError::Disconnected) => {
                    if !self.stopping {
                        self.obey(Command::Stop);
                    }
                    return;
                }
            }
        }
    }

    fn obey(&mut self, command: Command) {
        let now = Instant::now();
        match command {
            Command::Ready { instance, ready } => {
                if let Some(router) = named(&mut self.routers, &instance) {
                    router.instance().handle_ready(ready);
                }
            }
            Command::Track {
                instance,
                priority,
                fault,
            } => {
                if let Some(router) = named(&mut self.routers, &instance) {
                    router.track(now, priority, fault);
                }
            }
            Command::Notice(Notice::Surroundings {
                instance,
                surroundings,
                edition,
            }) if edition == self.edition => {
                if let Some(router) = named(&mut self.routers, &instance) {
                    router.surround(surroundings, &mut hands!(self), now);
                }
            }
            // Seen with the eyes of other settings; what is true of these was told, or will be.
            Command::Notice(Notice::Surroundings { .. }) => {}
            Command::Notice(Notice::AddressesGone { instance }) => {
                if let Some(router) = named(&mut self.routers, &instance) {
                    router.addresses_gone(&mut hands!(self), now);
                }
            }
            Command::Configure {
                instances,
                picture,
                outcome,
            } => {
                // Whoever asked may be gone.
                let _ = outcome.send(self.configure(&instances, &picture));
            }
            Command::HandOver {
                instance,
                aside,
                outcome,
            } => self.hand_over(now, &instance, aside, outcome),
            Command::Release { answer } => {
                let mut released = Vec::new();
                for router in &mut self.routers {
                    if router.release() {
                        released.push(router.name().to_owned());
                    }
                }
                let _ = answer.send(released);
            }
            Command::Status { answer } => {
                let routers = self.routers.iter();
                let _ = answer.send(routers.map(|router| router.status(now)).collect());
            }
            Command::Stop => {
                self.stopping = true;
                for router in &mut self.routers {
                    router.instance().handle_stop(now);
                }
            }
        }
    }

    fn hand_over(
        &mut self,
        now: Instant,
        instance: &str,
        aside: Option<Duration>,
        outcome: oneshot::Sender<HandoverOutcome>,
    ) {
        let aside = Aside::lasting(now, aside);
        let Some(router) = named(&mut self.routers, instance) else {
            // Dropping the sender says so.
            return;
        };
        let group = router.group().map(str::to_owned);
        router.hand_over(now, aside, outcome);
        for member in &mut self.routers {
            if group.is_some() && member.group() == group.as_deref() && member.name() != instance {
                member.instance().handle_handover(now, aside);
            }
        }
    }

    fn configure(&mut self, instances: &[Settings], picture: &Picture) -> Result<(), OpenError> {
        let now = Instant::now();
        let prepared = self.prepare(instances, picture)?;
        // What is taken away and made here is not in it.
        let mut picture = picture.clone();
        let mut names = Vec::new();
        let mut staying = Vec::new();
        for mut router in std::mem::take(&mut self.routers) {
            names.push(router.name().to_owned());
            let mut pairs = instances.iter().zip(&prepared);
            let goes_on = pairs.find(|(settings, _)| router.continues(settings));
            let prepared = goes_on.map(|(_, prepared)| prepared);
            if prepared.is_none() {
                // It lets go of its addresses before others may want them.
                router.instance().handle_abandon(now);
                router.act(&mut hands!(self), now);
                let gone = router.addresses();
                picture.addresses.retain(|address| !gone.contains(address));
            }
            if !matches!(prepared, Some(Prepared::Nothing)) {
                // And of the name of its interface.
                if let Some(Link { index, name, .. }) = router.port().and_then(Port::macvlan) {
                    picture.apply(&Event::LinkRemoved { index, name });
                }
                router.close_port(&mut self.route);
            }
            if prepared.is_some() {
                staying.push(router);
            }
        }
        for (settings, prepared) in instances.iter().zip(prepared) {
            if let Some(link) = prepared.port().and_then(Port::macvlan) {
                picture.apply(&Event::LinkChanged(link));
            }
            let port = match prepared {
                Prepared::Router(mut router) => {
                    router.start(&picture, &mut hands!(self), now);
                    self.routers.push(*router);
                    continue;
                }
                Prepared::Port(port) => Some(port),
                Prepared::Nothing => None,
            };
            let mut places = staying.iter();
            let place = places.position(|router: &Router| router.continues(settings));
            let mut router =
                staying.swap_remove(place.expect("it was prepared because it's there"));
            let metrics = &self.metrics;
            router.reconfigure(settings, port, &picture, metrics, &mut hands!(self), now);
            router.act(&mut hands!(self), now);
            self.routers.push(router);
        }
        // Only now, for names may have been swapped.
        for name in names {
            if named(&mut self.routers, &name).is_none() {
                self.estate.record(&name, None);
            }
        }
        if self.routers.iter().all(|router| router.macvlan().is_none()) {
            self.virtual_macs.restore();
        }
        self.introduce_siblings();
        self.edition += 1;
        self.monitor.set_instances(instances.to_vec(), self.edition);
        self.tell_ownerships(When::AfterActing);
        Ok(())
    }

    /// Opens all that these instances need and that isn't there, beside what is: what can't be opened
    /// is known before anything changes.
    fn prepare(
        &mut self,
        instances: &[Settings],
        picture: &Picture,
    ) -> Result<Vec<Prepared>, OpenError> {
        let taken: Vec<&str> = self.routers.iter().filter_map(Router::macvlan).collect();
        let mut all: Vec<Prepared> = Vec::new();
        for (position, settings) in instances.iter().enumerate() {
            let name = settings.virtual_mac.as_deref();
            let provisional = name
                .filter(|name| taken.contains(name))
                .map(|_| format!("vrrp-new.{position}"));
            let provisional = provisional.as_deref();
            let (route, closer) = (&mut self.route, &self.closer);
            let mut routers = self.routers.iter();
            let opened = match routers.find(|router| router.continues(settings)) {
                Some(router) => router
                    .prepare(settings, provisional, picture, route, closer)
                    .map(|port| port.map_or(Prepared::Nothing, Prepared::Port)),
                None => Router::open(settings, provisional, picture, route, closer, &self.metrics)
                    .map(|router| Prepared::Router(Box::new(router))),
            };
            match opened {
                Ok(one) => all.push(one),
                Err(error) => {
                    for one in all {
                        one.discard(&mut self.route);
                    }
                    return Err(error);
                }
            }
        }
        Ok(all)
    }

    /// Tells of all instances, if any has changed. Before the actions are carried out, whoever loses
    /// its addresses has them still.
    fn tell_ownerships(&mut self, when: When) {
        let told = |name: &str| self.told.as_ref().and_then(|told| told.get(name)).copied();
        let current = |router: &Router| match (router.ownership(), when) {
            (Ownership::Absent, When::BeforeActing) => {
                told(router.name()).unwrap_or(Ownership::Absent)
            }
            (ownership, _) => ownership,
        };
        let known = self.told.as_ref().map_or(0, BTreeMap::len);
        let same = self.told.is_some() && self.routers.len() == known;
        if same
            && self
                .routers
                .iter()
                .all(|router| told(router.name()) == Some(current(router)))
        {
            return;
        }
        let routers = self.routers.iter();
        let ownerships: Ownerships = routers
            .map(|router| (router.name().to_owned(), current(router)))
            .collect();
        // Nobody listens while the daemon ends.
        let _ = self.ownerships.send(ownerships.clone());
        self.told = Some(ownerships);
    }

    fn introduce_siblings(&mut self) {
        let all: Vec<_> = self
            .routers
            .iter()
            .map(|router| {
                let (interface, family, virtual_router) = router.identity();
                (interface.to_owned(), family, virtual_router)
            })
            .collect();
        for router in &mut self.routers {
            let (interface, family, _) = router.identity();
            let here = all
                .iter()
                .filter(|(other, its_family, _)| other == interface && *its_family == family);
            let siblings = here.map(|(.., virtual_router)| *virtual_router).collect();
            router.set_siblings(siblings);
        }
    }

    /// Does something for every group. A router without one is alone in its own.
    fn with_groups(&mut self, mut with: impl FnMut(&mut [&mut Instance])) {
        let mut groups: BTreeMap<String, Vec<&mut Instance>> = BTreeMap::new();
        for router in &mut self.routers {
            match router.group().map(str::to_owned) {
                Some(group) => groups.entry(group).or_default().push(router.instance()),
                None => with(&mut [router.instance()]),
            }
        }
        for members in groups.values_mut() {
            with(members);
        }
    }

    fn wait(&mut self) {
        // A Backup has nothing to do between adverts, and would learn only from a failover that it is late.
        let intervals = self.routers.iter().map(Router::interval);
        let sample_due = intervals.min().map(|shortest| self.sampled_at + shortest);
        let deadlines = self.routers.iter().filter_map(Router::next_deadline);
        let deadline = deadlines
            .chain(sample_due)
            .chain(self.watchdog.as_ref().map(Watchdog::next))
            .min();
        let timeout = deadline
            .map(|deadline| TimeSpec::from(deadline.saturating_duration_since(Instant::now())));
        let mut descriptors: Vec<PollFd<'_>> = self
            .routers
            .iter()
            .filter_map(Router::port)
            .flat_map(Port::sockets)
            .map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN))
            .collect();
        descriptors.push(PollFd::new(self.wake.as_fd(), PollFlags::POLLIN));
        match ppoll(&mut descriptors, timeout, None) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => error!(error = %errno, "the VRRP thread cannot wait for adverts"),
        }
        let now = Instant::now();
        if let Some(late) = deadline.and_then(|deadline| now.checked_duration_since(deadline)) {
            self.lateness.observe(late.as_secs_f64());
            self.sampled_at = now;
        }
    }
}

fn named<'a>(routers: &'a mut [Router], instance: &str) -> Option<&'a mut Router> {
    routers.iter_mut().find(|router| router.name() == instance)
}

/// What keeps its timing on a busy machine, where it's allowed.
fn settle_in() {
    if let Err(error) = syscalls::set_real_time_priority(REAL_TIME_PRIORITY) {
        info!(%error, "vrrp runs without real-time priority; CAP_SYS_NICE, or LimitRTPRIO={REAL_TIME_PRIORITY} in the service's unit, keeps its timing on a busy machine");
    }
    if let Err(error) = memory::lock_on_fault() {
        info!(%error, "memory is not locked; adverts may be late when memory is short");
    }
}
