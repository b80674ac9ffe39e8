//! The thread that watches links and addresses, and tells what changes for virtual routers.
//!
//! The VRRP thread never reads a dump and never drains a flood: it hears conclusions only.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{self, TryRecvError};
use std::thread;
use std::time::Duration;

use lvs_system::netlink::Connection;
use lvs_system::watch::{self, Event, Picture, Watch};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::sync::mpsc::UnboundedSender;
use tracing::{error, info, warn};

use super::surroundings::Surroundings;
use crate::config::Instance as Settings;

/// How soon a picture that could not be taken is tried again.
const RETRY: Duration = Duration::from_millis(200);

/// What the VRRP thread is told.
#[derive(Debug)]
pub(super) enum Notice {
    /// The surroundings of an instance have changed.
    Surroundings {
        /// Its name.
        instance: String,
        /// As they are now.
        surroundings: Surroundings,
        /// For which instances: see [`Monitor::set_instances`].
        edition: u64,
    },
    /// Addresses of an instance may be missing.
    AddressesGone {
        /// Its name.
        instance: String,
    },
}

/// An interface has got or lost its carrier, come or gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceEvent {
    /// Its name.
    pub name: String,
    /// Whether it carries packets.
    pub up: bool,
}

/// The instances that are watched for, and how many lists there were before.
type Interests = (Vec<Settings>, u64);

/// The running thread. Dropping this ends it.
pub(super) struct Monitor {
    interests: Option<mpsc::Sender<Interests>>,
    wake: Arc<EventFd>,
}

impl Monitor {
    /// Watches for `instances`, starting from `picture`, which was taken after `watch` was opened.
    /// `tell` is called on the new thread.
    pub(super) fn spawn(
        watch: Watch,
        picture: Picture,
        instances: Vec<Settings>,
        tell: impl Fn(Notice) + Send + 'static,
        interfaces: UnboundedSender<InterfaceEvent>,
    ) -> io::Result<Self> {
        let (sender, inbox) = mpsc::channel();
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let wake = Arc::new(EventFd::from_flags(flags)?);
        let connection =
            Connection::open(lvs_system::netlink::Protocol::Route).map_err(io::Error::other)?;
        let mut watcher = Watcher {
            known: known(&picture, &instances),
            carriers: BTreeMap::new(),
            watch,
            connection,
            picture,
            instances,
            edition: 0,
            inbox,
            wake: Arc::clone(&wake),
            tell,
            interfaces,
            stale: false,
        };
        thread::Builder::new()
            .name("links".into())
            .spawn(move || watcher.run())?;
        Ok(Self {
            interests: Some(sender),
            wake,
        })
    }

    /// Watches for other instances from now on, and tells all about them. `edition` tells them from the
    /// first ones, which have 0, and from others.
    pub(super) fn set_instances(&self, instances: Vec<Settings>, edition: u64) {
        if let Some(interests) = &self.interests {
            // A thread that has ended was already reported, by its own panic.
            let _ = interests.send((instances, edition));
            let _ = self.wake.write(1);
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.interests = None;
        let _ = self.wake.write(1);
    }
}

fn known(picture: &Picture, instances: &[Settings]) -> BTreeMap<String, Surroundings> {
    instances
        .iter()
        .map(|settings| (settings.name.clone(), Surroundings::of(picture, settings)))
        .collect()
}

struct Watcher<Tell> {
    watch: Watch,
    connection: Connection,
    picture: Picture,
    instances: Vec<Settings>,
    edition: u64,
    known: BTreeMap<String, Surroundings>,
    carriers: BTreeMap<String, bool>,
    inbox: mpsc::Receiver<Interests>,
    wake: Arc<EventFd>,
    tell: Tell,
    interfaces: UnboundedSender<InterfaceEvent>,
    /// Events were lost and no picture could be taken since.
    stale: bool,
}

impl<Tell: Fn(Notice)> Watcher<Tell> {
    fn run(&mut self) {
        self.tell_carriers();
        loop {
            self.wait();
            let _ = self.wake.read();
            loop {
                match self.inbox.try_recv() {
                    Ok((instances, edition)) => {
                        self.instances = instances;
                        self.edition = edition;
                        self.known.clear();
                    }
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return,
                }
            }
            let events = match self.watch.take() {
                Ok(events) => events,
                Err(error) => {
                    error!(%error, "cannot hear of changes of links and addresses");
                    vec![Event::Overrun]
                }
            };
            self.follow(&events);
        }
    }

    fn wait(&self) {
        let timeout = if self.stale {
            PollTimeout::try_from(RETRY).unwrap_or(PollTimeout::MAX)
        } else {
            PollTimeout::NONE
        };
        let mut descriptors = [
            PollFd::new(self.watch.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.wake.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut descriptors, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => error!(error = %errno, "the thread for links and addresses cannot wait"),
        }
    }

    fn follow(&mut self, events: &[Event]) {
        let gone: BTreeSet<(u32, IpAddr)> = events
            .iter()
            .filter_map(|event| match event {
                Event::AddressRemoved(address) => Some((address.interface_index, address.address)),
                _ => None,
            })
            .collect();
        let overrun = self.stale || events.contains(&Event::Overrun);
        if overrun {
            self.take_picture();
        } else {
            events.iter().for_each(|event| self.picture.apply(event));
        }
        for settings in &self.instances {
            let surroundings = Surroundings::of(&self.picture, settings);
            let missing = overrun
                || surroundings
                    .place(settings)
                    .iter()
                    .any(|placed| gone.contains(&(placed.interface_index, placed.address.address)));
            let previous = self
                .known
                .insert(settings.name.clone(), surroundings.clone());
            let instance = settings.name.clone();
            if previous.as_ref() != Some(&surroundings) {
                (self.tell)(Notice::Surroundings {
                    instance,
                    surroundings,
                    edition: self.edition,
                });
            } else if missing {
                (self.tell)(Notice::AddressesGone { instance });
            }
        }
        let instances = &self.instances;
        self.known
            .retain(|name, _| instances.iter().any(|settings| settings.name == *name));
        self.tell_carriers();
    }

    fn take_picture(&mut self) {
        match watch::picture(&mut self.connection) {
            Ok(picture) => {
                self.picture = picture;
                if std::mem::take(&mut self.stale) {
                    info!("links and addresses are known again");
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut self.stale, true) {
                    warn!(%error, "changes of links and addresses were lost, and cannot be read; trying again");
                }
            }
        }
    }

    fn tell_carriers(&mut self) {
        let now: BTreeMap<String, bool> = self
            .picture
            .links
            .iter()
            .map(|link| (link.name.clone(), link.up))
            .collect();
        let gone = self.carriers.keys().filter(|name| !now.contains_key(*name));
        let gone = gone.map(|name| (name.clone(), false));
        let changed = now
            .iter()
            .filter(|(name, up)| self.carriers.get(*name) != Some(up))
            .map(|(name, up)| (name.clone(), *up));
        for (name, up) in gone.chain(changed) {
            // Nobody listens while the daemon ends.
            let _ = self.interfaces.send(InterfaceEvent { name, up });
        }
        self.carriers = now;
    }
}
