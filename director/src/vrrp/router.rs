//! One virtual router: the protocol's instance and what carries out its actions.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant, SystemTime};

use lvs_proto::arp;
use lvs_proto::vrrp::{
    self, Action, Advert, ChecksumForm, Instance, Rejection, Transition, VirtualRouterId,
};
use lvs_system::link::{self, Link};
use lvs_system::netlink::Connection;
use lvs_system::packet::{self, PacketSocket};
use lvs_system::vrrp_socket::{Mode, VrrpSocket};
use tracing::{error, info, warn};

use crate::address::{AddressKeeper, VirtualAddresses};
use crate::config::{Instance as Settings, VersionSettings};
use crate::metrics::{Metrics, VrrpMetrics};
use crate::supervisor::{Estate, Holding};

/// Larger than any VRRP packet: 255 addresses, password and IP options.
const PACKET_LENGTH: usize = 2048;
/// Between two log lines about the same fault in others' adverts.
const COMPLAINT_PAUSE: Duration = Duration::from_secs(60);
/// Complaints remembered at most, so that forged sources cost neither memory nor log.
const REMEMBERED_COMPLAINTS: usize = 64;
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
    keeper: AddressKeeper,
    metrics: VrrpMetrics,
    /// The virtual routers of this machine on the same interface, this one included: their adverts
    /// aren't strangers'.
    siblings: Vec<VirtualRouterId>,
    send_failing: bool,
    announce_failing: bool,
    address_failure: Option<String>,
    complained: BTreeMap<(IpAddr, Rejection), Instant>,
}

impl Router {
    /// Opens the sockets; nothing is sent and no address touched before [`Self::start`].
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
        let socket_error = |source| OpenError::Socket {
            instance: instance.clone(),
            interface,
            source,
        };
        let socket = VrrpSocket::open(vrrp::Family::Ipv4, &link.name, link.index, Mode::Multicast)
            .map_err(SocketError::Adverts);
        let packets = PacketSocket::open(link.index).map_err(SocketError::Announcements);
        let (socket, packets) = socket
            .and_then(|socket| Ok((socket, packets?)))
            .map_err(socket_error)?;
        Ok(Self {
            name: settings.name.clone(),
            link,
            checksum_form: checksum_form(settings),
            instance: Instance::new(protocol_configuration(settings, primary)),
            socket,
            packets,
            keeper: AddressKeeper::new(addresses),
            metrics: metrics.vrrp(&settings.name),
            siblings: Vec::new(),
            send_failing: false,
            announce_failing: false,
            address_failure: None,
            complained: BTreeMap::new(),
        })
    }

    /// Starts the protocol; adopts addresses that a predecessor left on the interface.
    pub(super) fn start(&mut self, route: &mut Connection, estate: &Estate, now: Instant) {
        let found = self.keeper.addresses().present(route).unwrap_or_else(|error| {
            // They will be added on promotion all the same.
            warn!(instance = %self.name, %error, "cannot see whether addresses were left behind");
            false
        });
        self.metrics.set_state(vrrp::State::Initialize);
        self.instance.handle_start(now, found);
        if found {
            info!(instance = %self.name, "addresses found on the interface: kept until another active router is heard");
            estate.record(&self.name, self.holding());
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn addresses(&self) -> &VirtualAddresses {
        self.keeper.addresses()
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

    /// Whether it has stopped, and holds nothing.
    pub(super) fn has_left(&mut self) -> bool {
        self.instance.state() == vrrp::State::Initialize
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        [self.instance.poll_timeout(), self.keeper.due()]
            .into_iter()
            .flatten()
            .min()
    }

    /// What the supervisor has to undo if this process dies now.
    pub(super) fn holding(&self) -> Option<Holding> {
        if self.instance.ownership() == vrrp::Ownership::Absent && !self.keeper.is_stuck() {
            return None;
        }
        Some(Holding {
            instance: self.name.clone(),
            interface: self.link.name.clone(),
            interface_index: self.link.index,
            addresses: self.keeper.addresses().configured().to_vec(),
            source: self.primary(),
            resignation: self.message(&self.instance.resignation()),
        })
    }

    /// Whether `settings` describe this router, with other values perhaps: the name is a label, and
    /// an interface made anew is another one.
    pub(super) fn continues(&self, settings: &Settings, route: &mut Connection) -> bool {
        self.link.name == settings.interface
            && self.virtual_router() == settings.virtual_router_id
            && link::find(route, &settings.interface)
                .is_ok_and(|link| link.index == self.link.index)
    }

    /// Changes what may change while the router keeps its state.
    pub(super) fn reconfigure(
        &mut self,
        settings: &Settings,
        metrics: &Metrics,
        route: &mut Connection,
        estate: &Estate,
        now: Instant,
    ) {
        self.checksum_form = checksum_form(settings);
        let previous_name = std::mem::replace(&mut self.name, settings.name.clone());
        self.metrics = metrics.vrrp(&self.name);
        self.metrics.set_state(self.instance.state());
        let abandoned = self.keeper.addresses_mut().replace(&settings.addresses);
        if self.instance.ownership() != vrrp::Ownership::Absent {
            self.report_failures(&abandoned.remove(route));
        }
        if let Ok(link) = link::find(route, &self.link.name) {
            self.link = link;
        }
        let primary = match self.keeper.addresses().primary_ipv4(route) {
            Ok(Some(primary)) => primary,
            Ok(None) | Err(_) => self.primary(),
        };
        self.instance
            .handle_configuration(now, protocol_configuration(settings, primary));
        if previous_name != self.name {
            estate.record(&self.name, self.holding());
            estate.record(&previous_name, None);
        }
    }

    /// Says which virtual routers of this machine are on the same interface.
    pub(super) fn set_siblings(&mut self, siblings: Vec<VirtualRouterId>) {
        self.siblings = siblings;
    }

    /// Gives the instance every advert that is queued.
    pub(super) fn receive(&mut self, now: Instant) {
        let mut buffer = [0; PACKET_LENGTH];
        for _ in 0..PACKETS_PER_ROUND {
            let datagram = match self.socket.receive(&mut buffer) {
                Ok(Some(datagram)) => datagram,
                Ok(None) => return,
                Err(error) => {
                    warn!(instance = %self.name, interface = %self.link.name, %error, "cannot receive adverts");
                    return;
                }
            };
            let aimed_at = datagram.virtual_router();
            if aimed_at != Some(self.virtual_router())
                && aimed_at.is_some_and(|other| self.siblings.contains(&other))
            {
                continue;
            }
            let heard = self
                .instance
                .handle_datagram(now, SystemTime::now(), &datagram);
            match heard {
                Ok(_) => self.metrics.received(),
                Err(rejection) => {
                    self.metrics.rejected(rejection);
                    self.complain(now, datagram.source, rejection);
                }
            }
        }
    }

    /// One line for each neighbour, kind of fault and while: the counters say how often. Another
    /// virtual router on the LAN is nobody's fault.
    fn complain(&mut self, now: Instant, source: IpAddr, rejection: Rejection) {
        if rejection == Rejection::VirtualRouter {
            return;
        }
        if self.complained.len() >= REMEMBERED_COMPLAINTS {
            self.complained
                .retain(|_, last| now - *last < COMPLAINT_PAUSE);
        }
        let last = self.complained.get(&(source, rejection));
        let due = last.is_none_or(|last| now - *last >= COMPLAINT_PAUSE);
        if due && self.complained.len() < REMEMBERED_COMPLAINTS {
            self.complained.insert((source, rejection), now);
            warn!(instance = %self.name, interface = %self.link.name, %source, reason = %rejection, "advert rejected");
        }
    }

    /// Carries out all actions of the instance, and keeps the addresses where they belong.
    pub(super) fn act(&mut self, route: &mut Connection, estate: &Estate, now: Instant) {
        while let Some(action) = self.instance.poll_action() {
            match action {
                Action::SendAdvert(advert) => self.send(&advert),
                Action::AddAddresses => {
                    // The supervisor must know before the kernel does, or a death in between
                    // would leave the address behind.
                    estate.record(&self.name, self.holding());
                    let upkeep = self.keeper.hold(route, now);
                    self.report_failures(&upkeep.failures);
                }
                Action::RemoveAddresses => {
                    let upkeep = self.keeper.release(route, now);
                    self.report_failures(&upkeep.failures);
                    estate.record(&self.name, self.holding());
                }
                Action::Announce => self.announce(1),
                Action::HandoverUnanswered => {}
                Action::Report(Transition { from, to, reason }) => {
                    info!(instance = %self.name, %from, %to, %reason, "vrrp state changed");
                    self.metrics.transition(to);
                }
            }
        }
        if self.keeper.due().is_some_and(|due| due <= now) {
            self.look_after_addresses(route, estate, now);
        }
    }

    fn look_after_addresses(&mut self, route: &mut Connection, estate: &Estate, now: Instant) {
        let was_stuck = self.keeper.is_stuck();
        let upkeep = self.keeper.look(route, now);
        self.report_failures(&upkeep.failures);
        for address in &upkeep.added {
            warn!(instance = %self.name, interface = %self.link.name, %address, "address was missing: put back");
            self.metrics.address_restored();
        }
        if !upkeep.added.is_empty() {
            self.announce(1);
        }
        if was_stuck && !self.keeper.is_stuck() {
            estate.record(&self.name, self.holding());
        }
    }

    /// Says each failure once, not at every attempt.
    fn report_failures(&mut self, failures: &[lvs_system::address::Error]) {
        let texts: Vec<String> = failures.iter().map(ToString::to_string).collect();
        let failure = (!texts.is_empty()).then(|| texts.join("; "));
        if failure == self.address_failure {
            return;
        }
        if let Some(error) = &failure {
            error!(instance = %self.name, %error, "addresses are not as they should be; trying again");
        } else {
            info!(instance = %self.name, "addresses are as they should be again");
        }
        self.address_failure = failure;
    }

    fn send(&mut self, advert: &Advert) {
        let source = self.primary();
        let destination = vrrp::Family::Ipv4.multicast_group();
        let message = self.message(advert);
        match self.socket.send(&message, source.into(), destination) {
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
        let destination = vrrp::Family::Ipv4.multicast_group();
        advert.to_bytes(source, destination, self.checksum_form)
    }

    fn primary(&self) -> Ipv4Addr {
        match self.instance.configuration().primary_address {
            IpAddr::V4(address) => address,
            IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
        }
    }

    /// Only what is there is announced, or traffic would come to nobody.
    fn announce(&mut self, repeat: u8) {
        let mut failure = None;
        for _ in 0..repeat {
            for address in self.keeper.present() {
                let IpAddr::V4(address) = address else {
                    continue;
                };
                let frame = arp::gratuitous(self.link.hardware_address, *address);
                failure = self.packets.send(&frame).err().or(failure);
            }
        }
        let failing = failure.is_some();
        if let Some(error) = failure
            && !self.announce_failing
        {
            warn!(instance = %self.name, %error, "cannot announce addresses");
        }
        self.announce_failing = failing;
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
        VersionSettings::V3 { checksum, .. } => checksum,
    }
}

fn protocol_configuration(settings: &Settings, primary_address: Ipv4Addr) -> vrrp::Configuration {
    vrrp::Configuration {
        version: settings.version.version(),
        virtual_router: settings.virtual_router_id,
        priority: settings.priority,
        interval: settings.advert_interval,
        accepted_intervals: vrrp::AcceptedIntervals::around(settings.advert_interval),
        addresses: settings.addresses.iter().map(|vip| vip.address).collect(),
        preempt: settings.preempt,
        preempt_delay: Duration::ZERO,
        authentication: match &settings.version {
            VersionSettings::V2 {
                password: Some(password),
            } => vrrp::Authentication::Password(password.clone()),
            _ => vrrp::Authentication::None,
        },
        also_accept: vrrp::AlsoAccept::default(),
        peers: vrrp::Peers::Multicast,
        checksum: checksum_form(settings),
        primary_address: primary_address.into(),
        announcements: vrrp::Announcements::default(),
    }
}
