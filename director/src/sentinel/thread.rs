//! The sockets of the sentinel, and the thread that reads them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::sync::mpsc::{self, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use lvs_proto::sentinel::{Accusation, Form, HardwareAddress, Place, Question};
use lvs_proto::{arp, ndp, sentinel};
use lvs_system::address;
use lvs_system::neighbour_socket::NeighbourSockets;
use lvs_system::netlink::{self, Connection, Protocol};
use lvs_system::packet::PacketSocket;
use lvs_system::watch::{self, Picture};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use tracing::{error, info, warn};

use super::conflict::{Conflict, hardware_address_text};
use super::guard::{Guard, Vip};
use crate::events::{Events, Kind, Occurrence, Severity};
use crate::metrics::Metrics;

/// Messages that are read before anything else gets its turn.
const AT_ONCE: usize = 64;

/// A conflict that goes on is said again after so long.
const SAID_AGAIN: Duration = Duration::from_secs(600);

/// How often sockets that could not be opened are tried again.
const OPEN_AGAIN: Duration = Duration::from_secs(5);

/// Why the thread can't start.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// No netlink connection.
    #[error("the ARP sentinel cannot ask the kernel for interfaces: {0}")]
    Netlink(#[from] netlink::Error),
    /// No thread, or nothing to wake it by.
    #[error("cannot start the ARP sentinel: {0}")]
    Thread(#[from] std::io::Error),
}

/// The running thread. Dropping this ends it.
pub struct Sentinel {
    guards: Option<mpsc::Sender<Guard>>,
    wake: Arc<EventFd>,
    conflicts: Arc<Mutex<Vec<Conflict>>>,
    told: Guard,
}

impl Sentinel {
    /// Starts the thread, which guards nothing yet.
    ///
    /// # Errors
    /// When the machine has no means for it. Sockets are opened later, and their failure is logged.
    pub fn spawn(metrics: Arc<Metrics>, events: Events) -> Result<Self, SpawnError> {
        let (guards, inbox) = mpsc::channel();
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let wake = Arc::new(EventFd::from_flags(flags).map_err(std::io::Error::from)?);
        let conflicts = Arc::default();
        let watcher = Watcher {
            inbox,
            wake: Arc::clone(&wake),
            route: Connection::open(Protocol::Route)?,
            sockets: None,
            open_again: None,
            guard: Guard::default(),
            terms: BTreeMap::new(),
            picture: Picture::default(),
            judge: sentinel::Sentinel::new(),
            frames: HashMap::new(),
            conflicts: Arc::clone(&conflicts),
            said: BTreeMap::new(),
            metrics,
            events,
        };
        thread::Builder::new()
            .name("sentinel".into())
            .spawn(move || watcher.run())?;
        Ok(Self {
            guards: Some(guards),
            wake,
            conflicts,
            told: Guard::default(),
        })
    }

    /// Guards this from now on, and nothing else.
    pub fn set_guard(&mut self, guard: Guard) {
        if self.told == guard {
            return;
        }
        self.told = guard.clone();
        if let Some(guards) = &self.guards {
            // A thread that has ended was already reported, by its own panic.
            let _ = guards.send(guard);
            let _ = self.wake.write(1);
        }
    }

    /// Who else claims what is held here now.
    pub fn conflicts(&self) -> Vec<Conflict> {
        let conflicts = self.conflicts.lock();
        conflicts.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        self.guards = None;
        let _ = self.wake.write(1);
    }
}

struct Watcher {
    inbox: mpsc::Receiver<Guard>,
    wake: Arc<EventFd>,
    route: Connection,
    /// Open while there is something to guard.
    sockets: Option<NeighbourSockets>,
    /// When sockets that failed are tried again.
    open_again: Option<Instant>,
    guard: Guard,
    /// The terms of the VIPs that are held.
    terms: BTreeMap<IpAddr, u64>,
    picture: Picture,
    judge: sentinel::Sentinel,
    /// To ask with, by interface.
    frames: HashMap<u32, PacketSocket>,
    conflicts: Arc<Mutex<Vec<Conflict>>>,
    /// When each conflict was logged last.
    said: BTreeMap<(IpAddr, String), Instant>,
    metrics: Arc<Metrics>,
    events: Events,
}

impl Watcher {
    fn run(mut self) {
        loop {
            self.wait();
            let _ = self.wake.read();
            let mut is_new = false;
            loop {
                match self.inbox.try_recv() {
                    Ok(guard) => {
                        self.guard = guard;
                        self.release_renewed();
                        is_new = true;
                    }
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return,
                }
            }
            if is_new {
                self.arrange();
            }
            self.listen();
            self.hear();
            self.ask();
            self.tell();
        }
    }

    fn wait(&self) {
        let now = Instant::now();
        let due = if self.sockets.is_some() {
            self.judge.due(now)
        } else {
            self.open_again
        };
        let timeout = due.map_or(PollTimeout::NONE, |due| {
            // Rounded up: a timer that is due in less than a millisecond is not waited for in a loop.
            let left = due.saturating_duration_since(now) + Duration::from_millis(1);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        let sockets = self.sockets.iter().flat_map(NeighbourSockets::descriptors);
        let mut descriptors: Vec<PollFd<'_>> = sockets
            .chain([self.wake.as_fd()])
            .map(|descriptor| PollFd::new(descriptor, PollFlags::POLLIN))
            .collect();
        match poll(&mut descriptors, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => error!(error = %errno, "the ARP sentinel cannot wait"),
        }
    }

    /// Looks at the machine, and goes by the present guard.
    fn arrange(&mut self) {
        match watch::picture(&mut self.route) {
            Ok(picture) => self.picture = picture,
            // The last picture does until the next round.
            Err(error) => warn!(%error, "the ARP sentinel cannot read the interfaces"),
        }
        let links = &self.picture.links;
        let own = links.iter().map(|link| link.hardware_address);
        let mut own: BTreeSet<HardwareAddress> = own.collect();
        own.extend(&self.guard.virtual_macs);
        self.judge.own(own);
        let servers = self.guard.servers.keys();
        self.judge.know_servers(servers.copied().collect());
        let vips = self.guard.vips.iter();
        let places = vips.filter_map(|vip| Some((self.place(vip)?, vip.settling)));
        let places = places.collect();
        self.judge.hold(Instant::now(), &places);
    }

    /// What was given up and taken again meanwhile has to settle again.
    fn release_renewed(&mut self) {
        let terms: BTreeMap<IpAddr, u64> = self
            .guard
            .vips
            .iter()
            .map(|vip| (vip.address, vip.term))
            .collect();
        let before = std::mem::replace(&mut self.terms, terms);
        let held = self.guard.vips.iter();
        let held = held.filter(|vip| before.get(&vip.address) == Some(&vip.term));
        let places = held.filter_map(|vip| Some((self.place(vip)?, vip.settling)));
        let places = places.collect();
        self.judge.hold(Instant::now(), &places);
    }

    fn place(&self, vip: &Vip) -> Option<Place> {
        let mut links = self.picture.links.iter();
        let link = links.find(|link| link.name == vip.interface)?;
        Some(Place {
            interface_index: link.index,
            address: vip.address,
        })
    }

    fn listen(&mut self) {
        if self.guard.vips.is_empty() {
            self.sockets = None;
            self.open_again = None;
            self.frames.clear();
            return;
        }
        let now = Instant::now();
        if self.sockets.is_some() || self.open_again.is_some_and(|again| now < again) {
            return;
        }
        match NeighbourSockets::open() {
            Ok(sockets) => {
                self.sockets = Some(sockets);
                self.open_again = None;
            }
            Err(error) => {
                if self.open_again.is_none() {
                    warn!(%error, "nobody notices who else answers for the VIPs: the ARP sentinel has no socket (needs CAP_NET_RAW)");
                }
                self.open_again = Some(now + OPEN_AGAIN);
            }
        }
    }

    fn hear(&mut self) {
        let Some(sockets) = &mut self.sockets else {
            return;
        };
        let now = Instant::now();
        let (judge, guard, metrics) = (&mut self.judge, &self.guard, &self.metrics);
        let (mut is_news, known) = (false, judge.accusations(now + sentinel::GRACE).len());
        let taken = sockets.take(AT_ONCE, |interface, claim| {
            if judge.hear(now, interface, claim) {
                let mut vips = guard.vips.iter();
                let vip = vips.find(|vip| vip.address == claim.address);
                if let Some(vip) = vip {
                    metrics.sentinel().claimed(&vip.instance, claim.form);
                }
                is_news = true;
            }
        });
        if let Err(error) = taken
            && error.raw_os_error() != Some(Errno::ENETDOWN as i32)
        {
            warn!(%error, "the ARP sentinel opens its sockets anew");
            self.sockets = None;
            self.open_again = Some(now + OPEN_AGAIN);
        }
        if is_news && self.judge.accusations(now + sentinel::GRACE).len() > known {
            // Perhaps an interface of this machine has another address than when it was looked at.
            self.arrange();
            for question in self.judge.questions_for_names() {
                self.put(question);
            }
        }
    }

    fn ask(&mut self) {
        if self.sockets.is_none() {
            return;
        }
        let questions = self.judge.questions(Instant::now());
        if !questions.is_empty() {
            self.arrange();
        }
        for question in questions {
            self.put(question);
        }
    }

    /// Asks from this machine's own address, with its own Ethernet address: what neighbours learn of that
    /// is true.
    fn put(&mut self, question: Question) {
        let Question {
            interface_index,
            address,
        } = question;
        let mut links = self.picture.links.iter();
        let Some(link) = links.find(|link| link.index == interface_index && link.up) else {
            return;
        };
        let vips: Vec<IpAddr> = self.guard.vips.iter().map(|vip| vip.address).collect();
        let addresses = &self.picture.addresses;
        let own = link.hardware_address;
        let (four, six);
        let frame: &[u8] = match address {
            IpAddr::V4(address) => {
                let source = address::primary_ipv4(addresses, interface_index, &vips);
                four = arp::question(own, source.unwrap_or(Ipv4Addr::UNSPECIFIED), address);
                &four
            }
            IpAddr::V6(address) => {
                let Some(source) = address::primary_ipv6(addresses, interface_index, &vips) else {
                    return;
                };
                six = ndp::solicitation(own, source, address);
                &six
            }
        };
        let socket = match self.frames.entry(interface_index) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(place) => {
                match PacketSocket::open(interface_index) {
                    Ok(socket) => place.insert(socket),
                    Err(_) => return,
                }
            }
        };
        if socket.send(frame).is_err() {
            // It fails once after its interface was down, and is asked with again in a moment.
            self.frames.remove(&interface_index);
        }
    }

    /// Publishes and logs what is accused now.
    fn tell(&mut self) {
        let now = Instant::now();
        let accusations = self.judge.accusations(now);
        let mut present: Vec<Conflict> = accusations
            .iter()
            .filter_map(|accusation| self.conflict(accusation))
            .collect();
        present.sort();
        for conflict in &present {
            let key = (conflict.address, conflict.hardware_address.clone());
            let said = self.said.get(&key);
            if said.is_none_or(|said| now - *said >= SAID_AGAIN) {
                warn!(instance = %conflict.instance, "{conflict}");
                let event = about(conflict, Kind::AddressConflict, Severity::Error);
                self.events.record_unless_known(event(conflict.to_string()));
                self.said.insert(key, now);
            }
        }
        let mut conflicts = self
            .conflicts
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if *conflicts == present {
            return;
        }
        for over in conflicts.iter() {
            let is_same = |one: &&Conflict| {
                one.address == over.address && one.hardware_address == over.hardware_address
            };
            if present.iter().find(is_same).is_none() {
                let text = format!(
                    "{} claims {} no longer",
                    over.hardware_address, over.address
                );
                info!(instance = %over.instance, "{text}");
                let event = about(over, Kind::AddressConflictOver, Severity::Info);
                self.events.record(event(text));
                self.said
                    .remove(&(over.address, over.hardware_address.clone()));
            }
        }
        self.metrics.sentinel().set_conflicts(&conflicts, &present);
        *conflicts = present;
    }

    fn conflict(&self, accusation: &Accusation) -> Option<Conflict> {
        let Accusation {
            place,
            hardware_address,
            forms,
            names,
        } = accusation;
        let mut vips = self.guard.vips.iter();
        let vip = vips.find(|vip| vip.address == place.address)?;
        let services = names.iter().filter_map(|name| self.guard.servers.get(name));
        Some(Conflict {
            instance: vip.instance.clone(),
            address: place.address,
            interface: vip.interface.clone(),
            hardware_address: hardware_address_text(*hardware_address),
            claimants: names.clone(),
            services: services.flatten().cloned().collect(),
            answers: forms.contains(&Form::Answer),
            announces: forms.contains(&Form::Announcement),
            asks: forms.contains(&Form::Question),
        })
    }
}

fn about(conflict: &Conflict, kind: Kind, severity: Severity) -> impl Fn(String) -> Occurrence {
    move |text| {
        Occurrence::new(kind, severity, text)
            .of(&conflict.instance)
            .with("address", conflict.address.to_string())
            .with("interface", conflict.interface.as_str())
            .with("hardware_address", conflict.hardware_address.as_str())
    }
}
