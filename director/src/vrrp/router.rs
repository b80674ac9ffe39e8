//! One virtual router: the protocol's instance and what carries out its actions.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use lvs_proto::arp;
use lvs_proto::vrrp::{
    self, Action, Advert, ChecksumForm, Datagram, Instance, MULTICAST_GROUP, Rejection, Transition,
    VirtualRouterId,
};
use lvs_system::link::{self, Link};
use lvs_system::netlink::Connection;
use lvs_system::packet::{self, PacketSocket};
use lvs_system::vrrp_socket::VrrpSocket;
use tracing::{debug, error, info, warn};

use crate::address::VirtualAddresses;
use crate::config::{Instance as Settings, VersionSettings, VirtualAddress};
use crate::metrics::{Metrics, VrrpMetrics};
use crate::supervisor::{Estate, Holding};

/// How long after a refused address the kernel is asked again.
const RETRY: Duration = Duration::from_millis(500);
/// Larger than any VRRP packet: 255 addresses, password and IP options.
const PACKET_LENGTH: usize = 2048;
/// Between two log lines about the same fault in others' adverts.
const COMPLAINT_PAUSE: Duration = Duration::from_secs(60);
/// Packets read in one round, so that a flood can't keep timers from running.
const PACKETS_PER_ROUND: usize = 64;

/// Why a virtual router can't start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The interface is missing or can't be read.
    #[error("virtual router '{instance}': {source}")]
    Link {
        /// The instance's name.
        instance: String,
        /// What the kernel said.
        source: link::Error,
    },
    /// The interface has no address to send from.
    #[error(
        "virtual router '{instance}': interface {interface} has no IPv4 address of its own; give it one"
    )]
    NoAddress {
        /// The instance's name.
        instance: String,
        /// The interface's name.
        interface: String,
    },
    /// The interface's addresses can't be read.
    #[error("virtual router '{instance}': {source}")]
    Address {
        /// The instance's name.
        instance: String,
        /// What the kernel said.
        source: lvs_system::address::Error,
    },
    /// A raw socket was refused.
    #[error("virtual router '{instance}': socket on {interface}: {source} (needs CAP_NET_RAW)")]
    Socket {
        /// The instance's name.
        instance: String,
        /// The interface's name.
        interface: String,
        /// What the kernel said.
        source: SocketError,
    },
}

/// Which of the two raw sockets was refused.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The socket for adverts.
    #[error(transparent)]
    Adverts(std::io::Error),
    /// The socket for gratuitous ARP.
    #[error(transparent)]
    Announcements(packet::Error),
}

/// A virtual router with its sockets.
pub(super) struct Router {
    name: String,
    link: Link,
    checksum_form: ChecksumForm,
    instance: Instance,
    socket: VrrpSocket,
    packets: PacketSocket,
    addresses: VirtualAddresses,
    metrics: VrrpMetrics,
    retry_at: Option<Instant>,
    send_failing: bool,
    complained: BTreeMap<Rejection, Instant>,
}

impl Router {
    /// Opens the sockets and looks whether the addresses are on the interface already.
    pub(super) fn open(
        settings: &Settings,
        route: &mut Connection,
        metrics: &Metrics,
    ) -> Result<Self, OpenError> {
        let instance = settings.name.clone();
        let interface = settings.interface.clone();
        let link = link::find(route, &interface).map_err(|source| OpenError::Link {
            instance: instance.clone(),
            source,
        })?;
        let address_error = |source| OpenError::Address {
            instance: settings.name.clone(),
            source,
        };
        let addresses = VirtualAddresses::new(link.index, &settings.addresses);
        let primary = addresses
            .primary_ipv4(route)
            .map_err(address_error)?
            .ok_or_else(|| OpenError::NoAddress {
                instance: instance.clone(),
                interface: interface.clone(),
            })?;
        let found = addresses.present(route).map_err(address_error)?;
        let socket_error = |source| OpenError::Socket {
            instance: instance.clone(),
            interface,
            source,
        };
        let socket = VrrpSocket::open(&link.name, link.index).map_err(SocketError::Adverts);
        let packets = PacketSocket::open(link.index).map_err(SocketError::Announcements);
        let (socket, packets) = socket
            .and_then(|socket| Ok((socket, packets?)))
            .map_err(socket_error)?;
        if found {
            info!(instance = %settings.name, "addresses found on the interface: kept until another active router is heard");
        }
        let metrics = metrics.vrrp(&settings.name);
        metrics.set_state(vrrp::State::Initialize);
        Ok(Self {
            name: settings.name.clone(),
            link,
            checksum_form: checksum_form(settings),
            instance: Instance::new(protocol_configuration(settings, primary), found),
            socket,
            packets,
            addresses,
            metrics,
            retry_at: None,
            send_failing: false,
            complained: BTreeMap::new(),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn interface(&self) -> &str {
        &self.link.name
    }

    pub(super) fn virtual_router(&self) -> VirtualRouterId {
        self.instance.configuration().virtual_router
    }

    pub(super) fn instance(&mut self) -> &mut Instance {
        &mut self.instance
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        [self.instance.poll_timeout(), self.retry_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// What the supervisor has to undo if this process dies now.
    pub(super) fn holding(&self) -> Option<Holding> {
        if self.instance.ownership() == vrrp::Ownership::Absent {
            return None;
        }
        Some(Holding {
            instance: self.name.clone(),
            interface: self.link.name.clone(),
            interface_index: self.link.index,
            addresses: self
                .addresses
                .configured()
                .iter()
                .map(|vip| (vip.address, vip.prefix_length))
                .collect(),
            source: self.instance.configuration().primary_address,
            resignation: self.message(&self.instance.resignation()),
        })
    }

    /// Whether `settings` describe this router, with other values perhaps.
    pub(super) fn continues(&self, settings: &Settings) -> bool {
        self.name == settings.name
            && self.link.name == settings.interface
            && self.virtual_router() == settings.virtual_router_id
    }

    /// Changes what may change while the router keeps its state.
    pub(super) fn reconfigure(
        &mut self,
        settings: &Settings,
        route: &mut Connection,
        now: Instant,
    ) {
        self.checksum_form = checksum_form(settings);
        let abandoned = self.addresses.replace(&settings.addresses);
        if self.instance.ownership() != vrrp::Ownership::Absent {
            self.report_failures("remove", abandoned.remove(route));
        }
        let primary = self.instance.configuration().primary_address;
        self.instance
            .handle_configuration(now, protocol_configuration(settings, primary));
    }

    /// Gives the instance every advert that is queued.
    ///
    /// `siblings` are the virtual routers of this machine on the same interface: their adverts
    /// aren't strangers'.
    pub(super) fn receive(&mut self, now: Instant, siblings: &[VirtualRouterId]) {
        let mut buffer = [0; PACKET_LENGTH];
        for _ in 0..PACKETS_PER_ROUND {
            let packet = match self.socket.receive(&mut buffer) {
                Ok(Some(packet)) => packet,
                Ok(None) => return,
                Err(error) => {
                    warn!(instance = %self.name, interface = %self.link.name, %error, "cannot receive adverts");
                    return;
                }
            };
            let datagram = match Datagram::parse(packet) {
                Ok(datagram) => datagram,
                Err(rejection) => {
                    self.metrics.rejected(rejection);
                    continue;
                }
            };
            let aimed_at = datagram.virtual_router();
            if aimed_at != Some(self.virtual_router())
                && aimed_at.is_some_and(|other| siblings.contains(&other))
            {
                continue;
            }
            let heard = datagram
                .advert()
                .and_then(|(advert, _)| self.instance.handle_advert(now, datagram.source, &advert));
            match heard {
                Ok(()) => self.metrics.received(),
                Err(rejection) => {
                    self.metrics.rejected(rejection);
                    self.complain(now, datagram.source, rejection);
                }
            }
        }
    }

    /// One line for each kind of fault and a while: the counters say how often.
    fn complain(&mut self, now: Instant, source: Ipv4Addr, rejection: Rejection) {
        let due = self
            .complained
            .get(&rejection)
            .is_none_or(|last| now - *last >= COMPLAINT_PAUSE);
        if due {
            self.complained.insert(rejection, now);
            warn!(instance = %self.name, interface = %self.link.name, %source, reason = %rejection, "advert rejected");
        }
    }

    /// Carries out all actions of the instance, and returns the transitions among them.
    pub(super) fn act(
        &mut self,
        route: &mut Connection,
        estate: &Estate,
        now: Instant,
    ) -> Vec<Transition> {
        let mut transitions = Vec::new();
        while let Some(action) = self.instance.poll_action() {
            match action {
                Action::SendAdvert(advert) => self.send(&advert),
                Action::AddAddresses => {
                    // The supervisor must know before the kernel does, or a death in between
                    // would leave the address behind.
                    estate.record(&self.name, self.holding());
                    self.add_addresses(route, now);
                }
                Action::RemoveAddresses => {
                    self.retry_at = None;
                    let failures = self.addresses.remove(route);
                    self.report_failures("remove", failures);
                    estate.record(&self.name, None);
                }
                Action::Announce { repeat } => self.announce(repeat),
                Action::Report(transition) => {
                    let Transition { from, to, reason } = transition;
                    info!(instance = %self.name, %from, %to, %reason, "vrrp state changed");
                    self.metrics.transition(to);
                    transitions.push(transition);
                }
            }
        }
        if self.retry_at.is_some_and(|due| due <= now) {
            self.add_addresses(route, now);
            self.announce(1);
        }
        transitions
    }

    fn add_addresses(&mut self, route: &mut Connection, now: Instant) {
        let failures = self.addresses.add(route);
        self.retry_at = (!failures.is_empty()).then_some(now + RETRY);
        self.report_failures("add", failures);
    }

    fn report_failures(&self, attempt: &str, failures: Vec<lvs_system::address::Error>) {
        for failure in failures {
            error!(instance = %self.name, interface = %self.link.name, error = %failure, "cannot {attempt} address");
        }
    }

    fn send(&mut self, advert: &Advert) {
        let source = self.instance.configuration().primary_address;
        match self.socket.send(&self.message(advert), source) {
            Ok(()) => {
                self.metrics.sent();
                self.send_failing = false;
            }
            Err(error) => {
                self.metrics.send_failed();
                if !core::mem::replace(&mut self.send_failing, true) {
                    error!(instance = %self.name, interface = %self.link.name, %error, "cannot send adverts");
                }
            }
        }
    }

    fn message(&self, advert: &Advert) -> Vec<u8> {
        let source = self.instance.configuration().primary_address;
        advert.to_bytes(source, MULTICAST_GROUP, self.checksum_form)
    }

    fn announce(&self, repeat: u8) {
        for _ in 0..repeat {
            for VirtualAddress { address, .. } in self.addresses.configured() {
                let frame = arp::gratuitous(self.link.hardware_address, *address);
                if let Err(error) = self.packets.send(&frame) {
                    debug!(instance = %self.name, %address, %error, "cannot announce address");
                }
            }
        }
    }
}

impl AsFd for Router {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn checksum_form(settings: &Settings) -> ChecksumForm {
    match settings.version {
        // Version 2 has one form only, which `Advert::emit` knows.
        VersionSettings::V2 { .. } => ChecksumForm::MessageOnly,
        VersionSettings::V3 { checksum } => checksum,
    }
}

fn protocol_configuration(settings: &Settings, primary_address: Ipv4Addr) -> vrrp::Configuration {
    vrrp::Configuration {
        version: settings.version.version(),
        virtual_router: settings.virtual_router_id,
        priority: settings.priority,
        interval: settings.advert_interval,
        addresses: settings.addresses.iter().map(|vip| vip.address).collect(),
        preempt: settings.preempt,
        password: match &settings.version {
            VersionSettings::V2 { password } => password.clone(),
            VersionSettings::V3 { .. } => None,
        },
        primary_address,
    }
}
