//! One virtual router: the protocol's instance and what carries out its actions.

use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use lvs_proto::vrrp::{
    self, Action, Advert, Aside, Authentication, ChecksumForm, Datagram, Family, Fault, Heard,
    Instance, Ownership, Priority, Reason, Rejection, State, Transition, VirtualRouterId,
};
use lvs_system::link::Link;
use lvs_system::netlink::Connection;
use lvs_system::vrrp_socket::VrrpSocket;
use lvs_system::watch::Picture;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use super::announcer::Announcer;
use super::closer::Closer;
use super::complaints::{Complaints, Oddity};
use super::port::{Port, PortError};
use super::surroundings::Surroundings;
use super::virtual_mac::VirtualMacs;
use crate::address::{AddressKeeper, VirtualAddresses};
use crate::config::{Instance as Settings, VersionSettings};
use crate::control::{self, Counters, HandoverOutcome, InstanceStatus, Margin, Priorities};
use crate::events::{Kind, Occurrence, Severity};
use crate::metrics::{Metrics, VrrpMetrics};
use crate::supervisor::{Estate, Holding, Resignation};

/// Larger than any VRRP packet: 255 IPv6 addresses, trailer and IP header.
const PACKET_LENGTH: usize = 8192;
/// Packets read in one round: more than a socket's buffer holds, so that a timer is believed only
/// after everything that was queued before it, and few enough that a flood can't keep it from running.
const PACKETS_PER_ROUND: usize = 512;
/// How soon sockets that couldn't be opened are tried again.
const PORT_RETRY: Duration = Duration::from_millis(500);

/// Why a virtual router can't start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The interface is missing.
    #[error("virtual router '{instance}': there is no interface named {interface}")]
    InterfaceMissing {
        /// The instance's name.
        instance: String,
        /// The interface's name.
        interface: String,
    },
    /// The interface has no address to send from.
    #[error(
        "virtual router '{instance}': interface {interface} has no IPv4 address of its own besides virtual ones; give it one"
    )]
    NoAddress {
        /// The instance's name.
        instance: String,
        /// The interface's name.
        interface: String,
    },
    /// The address to send from is not on this machine.
    #[error(
        "virtual router '{instance}': this machine has no address {source_address} to send from; give it that, or change `source`"
    )]
    NoSource {
        /// The instance's name.
        instance: String,
        /// The configured address.
        source_address: IpAddr,
    },
    /// The sockets were refused.
    #[error("virtual router '{instance}': {reason}")]
    Port {
        /// The instance's name.
        instance: String,
        /// What the kernel said.
        reason: PortError,
    },
}

/// A change of an instance's state.
#[derive(Clone, Debug)]
pub struct TransitionEvent {
    /// The instance's name.
    pub instance: String,
    /// What changed, and why.
    pub transition: Transition,
    /// The priority in force.
    pub priority: Priority,
}

/// What a router needs of the thread to act.
pub(super) struct Hands<'a> {
    pub(super) route: &'a mut Connection,
    pub(super) virtual_macs: &'a mut VirtualMacs,
    pub(super) closer: &'a Closer,
    pub(super) estate: &'a Estate,
    pub(super) transitions: &'a UnboundedSender<TransitionEvent>,
}

/// A virtual router with its sockets.
pub(super) struct Router {
    settings: Settings,
    surroundings: Surroundings,
    instance: Instance,
    port: Option<Port>,
    port_due: Option<Instant>,
    keeper: AddressKeeper,
    announcer: Announcer,
    metrics: VrrpMetrics,
    /// The virtual routers of this machine on the same interface, this one included: their adverts
    /// aren't strangers'.
    siblings: Vec<VirtualRouterId>,
    handover: Option<(Instant, oneshot::Sender<HandoverOutcome>)>,
    complaints: Complaints,
    port_failure: Option<String>,
    address_failure: Option<String>,
    /// What is worth telling of and wasn't told yet.
    incidents: Vec<Occurrence>,
    send_failing: bool,
    announce_failing: bool,
}

impl Router {
    /// Opens the sockets, and makes the interface with the virtual MAC, as [`Port::open`] does; nothing
    /// is sent and no address touched before [`Self::start`].
    pub(super) fn open(
        settings: &Settings,
        provisional: Option<&str>,
        picture: &Picture,
        route: &mut Connection,
        closer: &Closer,
        metrics: &Metrics,
    ) -> Result<Self, OpenError> {
        let instance = settings.name.clone();
        let surroundings = Surroundings::of(picture, settings);
        let Some(link) = &surroundings.link else {
            let interface = settings.interface.clone();
            return Err(OpenError::InterfaceMissing {
                instance,
                interface,
            });
        };
        // A link-local address comes a while after its link; others come by hand.
        let there = |source| {
            picture
                .addresses
                .iter()
                .any(|found| found.address == source)
        };
        match (surroundings.primary, settings.source, settings.family()) {
            // Not yet ready for use, perhaps.
            (None, Some(source_address), _) if !there(source_address) => {
                return Err(OpenError::NoSource {
                    instance,
                    source_address,
                });
            }
            (None, None, Family::Ipv4) => {
                let interface = settings.interface.clone();
                return Err(OpenError::NoAddress {
                    instance,
                    interface,
                });
            }
            _ => {}
        }
        let port = Port::open(settings, link, provisional, route, closer)
            .map_err(|reason| OpenError::Port { instance, reason })?;
        let addresses = VirtualAddresses::new(surroundings.place(settings));
        let configuration = protocol_configuration(settings, surroundings.primary);
        Ok(Self {
            instance: Instance::new(configuration),
            port: Some(port),
            port_due: None,
            keeper: AddressKeeper::new(addresses),
            announcer: Announcer::new(settings.announcement_pause),
            metrics: metrics.vrrp(&settings.name),
            siblings: Vec::new(),
            handover: None,
            complaints: Complaints::default(),
            port_failure: None,
            address_failure: None,
            incidents: Vec::new(),
            send_failing: false,
            announce_failing: false,
            settings: settings.clone(),
            surroundings,
        })
    }

    /// Starts the protocol; adopts addresses that a predecessor left on the interface.
    pub(super) fn start(&mut self, picture: &Picture, hands: &mut Hands<'_>, now: Instant) {
        self.surroundings = Surroundings::of(picture, &self.settings);
        let addresses = VirtualAddresses::new(self.surroundings.place(&self.settings));
        self.keeper = AddressKeeper::new(addresses);
        let found = self.keeper.addresses().any_present(&picture.addresses);
        if let Some(port) = self.port.take() {
            self.install(port, hands, now);
        }
        self.metrics.set_state(State::Initialize);
        self.metrics.set_priority(self.instance.priority().get());
        self.apply_faults(now);
        self.instance.handle_start(now, found);
        self.set_up(hands.route, self.instance.ownership() != Ownership::Absent);
        if self.instance.ownership() == Ownership::Adopting {
            info!(instance = %self.settings.name, "addresses found on the interface: kept until another active router is heard");
            hands.estate.record(&self.settings.name, self.holding());
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.settings.name
    }

    pub(super) fn group(&self) -> Option<&str> {
        self.settings.group.as_deref()
    }

    /// The interface with its virtual MAC.
    pub(super) fn macvlan(&self) -> Option<&str> {
        self.settings.virtual_mac.as_deref()
    }

    pub(super) fn addresses(&self) -> &VirtualAddresses {
        self.keeper.addresses()
    }

    /// What tells virtual routers of one LAN apart.
    pub(super) fn identity(&self) -> (&str, Family, VirtualRouterId) {
        self.settings.identity()
    }

    pub(super) fn instance(&mut self) -> &mut Instance {
        &mut self.instance
    }

    /// How it stands with its addresses, once its actions are carried out.
    pub(super) fn ownership(&self) -> Ownership {
        self.instance.ownership()
    }

    /// Whether it has left, and holds nothing that it could still let go of.
    pub(super) fn has_left(&self) -> bool {
        self.instance.state() == State::Initialize
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        [
            self.instance.poll_timeout(),
            self.keeper.due(),
            self.announcer.due(),
            self.port_due,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// How often adverts are sent.
    pub(super) fn interval(&self) -> Duration {
        self.instance.configuration().interval.get()
    }

    pub(super) fn port(&self) -> Option<&Port> {
        self.port.as_ref()
    }

    /// What the supervisor has to undo if this process dies now.
    fn holding(&self) -> Option<Holding> {
        let port = self.port.as_ref()?;
        if self.instance.ownership() == Ownership::Absent && !self.keeper.is_stuck() {
            return None;
        }
        let configuration = self.instance.configuration();
        let resignation = self.instance.resignation();
        let destinations = configuration.destinations().into_iter();
        Some(Holding {
            instance: self.settings.name.clone(),
            addresses: self.keeper.addresses().placed().to_vec(),
            outlet: port.outlet(&self.settings),
            source: configuration.primary_address,
            resignations: destinations
                .map(|destination| Resignation {
                    message: self.instance.encode_unsigned(&resignation, destination),
                    destination,
                })
                .collect(),
            key: configuration
                .hmac()
                .and_then(|hmac| hmac.signing_key())
                .map(Into::into),
            handover_limit: self.instance.handover_limit(),
        })
    }

    /// Whether `settings` describe this router, with other values perhaps: the name is a label.
    pub(super) fn continues(&self, settings: &Settings) -> bool {
        self.identity() == settings.identity()
    }

    /// Opens what it needs to go on with `settings`; nothing if it has that. What is a fault already may
    /// stay one.
    pub(super) fn prepare(
        &self,
        settings: &Settings,
        provisional: Option<&str>,
        picture: &Picture,
        route: &mut Connection,
        closer: &Closer,
    ) -> Result<Option<Port>, OpenError> {
        let surroundings = Surroundings::of(picture, settings);
        let (Some(port), Some(link)) = (&self.port, &surroundings.link) else {
            return Ok(None);
        };
        if port.suits(&self.settings, settings, link) {
            return Ok(None);
        }
        Port::open(settings, link, provisional, route, closer)
            .map(Some)
            .map_err(|reason| OpenError::Port {
                instance: settings.name.clone(),
                reason,
            })
    }

    /// Changes what may change while the router keeps its state. Another port was
    /// [prepared](Self::prepare) if that demands one.
    pub(super) fn reconfigure(
        &mut self,
        settings: &Settings,
        port: Option<Port>,
        picture: &Picture,
        metrics: &Metrics,
        hands: &mut Hands<'_>,
        now: Instant,
    ) {
        let previous = std::mem::replace(&mut self.settings, settings.clone());
        if previous.name != settings.name {
            self.metrics = metrics.vrrp(&settings.name);
            self.metrics.set_state(self.instance.state());
            self.metrics.set_priority(self.instance.priority().get());
        }
        self.announcer.set_pause(settings.announcement_pause);
        let surroundings = Surroundings::of(picture, settings);
        if let Some(port) = port {
            self.close_port(hands.route);
            self.install(port, hands, now);
        }
        let configuration = protocol_configuration(settings, surroundings.primary);
        self.instance.handle_configuration(now, configuration);
        self.surround(surroundings, hands, now);
        if self.instance.ownership() != Ownership::Absent {
            hands.estate.record(&self.settings.name, self.holding());
        }
    }

    /// The machine has changed around it.
    pub(super) fn surround(
        &mut self,
        surroundings: Surroundings,
        hands: &mut Hands<'_>,
        now: Instant,
    ) {
        let same_link = match (&self.surroundings.link, &surroundings.link) {
            (Some(old), Some(new)) => old.index == new.index,
            _ => false,
        };
        let previous = std::mem::replace(&mut self.surroundings, surroundings);
        let index = |link: &Option<Link>| link.as_ref().map(|link| link.index);
        let macvlan = index(&self.surroundings.macvlan);
        // One that isn't there yet was made a moment ago.
        let macvlan_lost = previous.macvlan.is_some() && macvlan != index(&previous.macvlan);
        if !same_link || macvlan_lost {
            self.close_port(hands.route);
        }
        self.open_port(hands, now);
        if self.keeper.is_holding()
            && self
                .surroundings
                .macvlan
                .as_ref()
                .is_some_and(|own| !own.up)
        {
            self.set_up(hands.route, true);
        }
        if previous.primary != self.surroundings.primary
            && let Some(primary) = self.surroundings.primary
        {
            if previous.primary.is_some() {
                info!(instance = %self.settings.name, %primary, "adverts are sent from another address now");
            }
            let configuration = protocol_configuration(&self.settings, Some(primary));
            self.instance.handle_configuration(now, configuration);
        }
        let addresses = VirtualAddresses::new(self.surroundings.place(&self.settings));
        let moved = *self.keeper.addresses() != addresses;
        let abandoned = self.keeper.replace(addresses);
        // What is about to be given up isn't put back first.
        self.apply_faults(now);
        let holding = self.keeper.is_holding() && self.instance.ownership() != Ownership::Absent;
        if holding && moved {
            // As ever, the supervisor knows first.
            hands.estate.record(&self.settings.name, self.holding());
            self.report_failures(&abandoned.remove(hands.route));
            let upkeep = self.keeper.look(hands.route, now);
            self.report_failures(&upkeep.failures);
            if self.instance.state() == State::Active {
                self.begin_announcement(now);
            }
        } else if holding {
            self.look_after_addresses(hands, now);
        }
    }

    /// Somebody may have taken addresses away.
    pub(super) fn addresses_gone(&mut self, hands: &mut Hands<'_>, now: Instant) {
        if self.keeper.is_holding() {
            self.look_after_addresses(hands, now);
        }
    }

    /// Says which virtual routers of this machine are on the same interface, in the same family.
    pub(super) fn set_siblings(&mut self, siblings: Vec<VirtualRouterId>) {
        self.siblings = siblings;
    }

    /// What it tracks gives it this priority, or keeps it from taking part.
    pub(super) fn track(&mut self, now: Instant, priority: Priority, fault: bool) {
        self.instance.handle_priority(now, priority);
        self.instance.handle_fault(now, Fault::Tracking, fault);
        self.metrics.set_priority(self.instance.priority().get());
    }

    /// Hands over, and tells `answer` what came of it.
    pub(super) fn hand_over(
        &mut self,
        now: Instant,
        aside: Aside,
        answer: oneshot::Sender<HandoverOutcome>,
    ) {
        if self.settings.priority == Priority::OWNER {
            let _ = answer.send(HandoverOutcome::Owner);
            return;
        }
        self.instance.handle_handover(now, aside);
        if self.instance.ownership() == Ownership::HandingOver {
            self.handover = Some((now, answer));
        } else {
            // Whoever asked may be gone.
            let _ = answer.send(HandoverOutcome::NotActive);
        }
    }

    /// Lets it take over again from a lower Active; whether it stood aside.
    pub(super) fn release(&mut self) -> bool {
        let stood_aside = self.instance.aside().is_some();
        self.instance.handle_release();
        stood_aside
    }

    /// How it is, for people. What it tracks is not known here.
    pub(super) fn status(&self, now: Instant) -> InstanceStatus {
        let instance = &self.instance;
        let since = |at| now.saturating_duration_since(at);
        let last_transition = instance.last_transition();
        let configuration = instance.configuration();
        let margins = instance.margins();
        InstanceStatus {
            name: self.settings.name.clone(),
            state: instance.state().into(),
            in_state: last_transition.map_or(Duration::ZERO, |(at, _)| since(at)),
            ownership: instance.ownership().into(),
            ready: instance.is_ready(),
            last_transition: last_transition.map(|(at, transition)| control::Transition {
                from: transition.from.into(),
                to: transition.to.into(),
                reason: transition.reason.to_string(),
                ago: since(at),
            }),
            priority: Priorities {
                base: self.settings.priority.get(),
                effective: instance.priority().get(),
            },
            vrrp_version: match configuration.version {
                vrrp::Version::V2 => 2,
                vrrp::Version::V3 => 3,
            },
            family: self.settings.family().into(),
            interface: self.settings.interface.clone(),
            virtual_router_id: self.settings.virtual_router_id.get(),
            group: self.settings.group.clone(),
            addresses: self
                .keeper
                .present()
                .iter()
                .map(|placed| placed.address.to_string())
                .collect(),
            active: instance
                .active()
                .filter(|active| {
                    instance.state() != State::Active
                        && since(active.heard_at) < instance.active_down_interval()
                })
                .map(|active| (*active).into()),
            stands_aside: instance.aside().map(|aside| match aside {
                Aside::Until(until) => control::Aside::Time {
                    left: until.saturating_duration_since(now),
                },
                Aside::UntilReleased => control::Aside::Release,
            }),
            silence: (instance.state() == State::Backup).then(|| Margin {
                longest: margins.longest_silence,
                limit: instance.active_down_interval(),
            }),
            lateness: (instance.state() == State::Active).then(|| Margin {
                longest: margins.longest_lateness,
                limit: self.lateness_limit(),
            }),
            tracked: Vec::new(),
            obstacle: None,
            faults: instance.faults().map(|fault| fault.to_string()).collect(),
            counters: self.counters(),
        }
    }

    /// How late an advert may be before this router steps down.
    fn lateness_limit(&self) -> Duration {
        self.instance.stall_limit() - self.instance.configuration().interval.get()
    }

    fn counters(&self) -> Counters {
        let (adverts_sent, adverts_received, rejected) = self.metrics.adverts();
        let rejected = rejected.into_iter();
        Counters {
            adverts_sent,
            adverts_received,
            adverts_rejected: rejected
                .map(|(reason, count)| (reason.label().to_owned(), count))
                .collect(),
        }
    }

    /// Gives the instance every advert that is queued.
    pub(super) fn receive(&mut self, now: Instant) {
        let mut buffer = [0; PACKET_LENGTH];
        let Some(port) = self.port.take() else {
            return;
        };
        for socket in port.sockets() {
            self.receive_from(socket, &mut buffer, now);
        }
        self.port = Some(port);
    }

    fn receive_from(&mut self, socket: &VrrpSocket, buffer: &mut [u8], now: Instant) {
        for _ in 0..PACKETS_PER_ROUND {
            match socket.receive(buffer) {
                Ok(Some(datagram)) => self.hear(now, &datagram),
                Ok(None) => return,
                Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                    self.metrics.rejected(Rejection::Length);
                }
                Err(error) => {
                    // A link that went away is noticed by the monitor.
                    warn!(instance = %self.settings.name, interface = %self.settings.interface, %error, "cannot receive adverts");
                    return;
                }
            }
        }
    }

    fn hear(&mut self, now: Instant, datagram: &Datagram<'_>) {
        let own = self.settings.virtual_router_id;
        let aimed_at = datagram.virtual_router();
        if aimed_at != Some(own) && aimed_at.is_some_and(|other| self.siblings.contains(&other)) {
            return;
        }
        match self
            .instance
            .handle_datagram(now, SystemTime::now(), datagram)
        {
            Ok(heard) => {
                self.metrics.received();
                if let Some(silence) = heard.silence {
                    self.metrics.silent(silence);
                }
                self.metrics.set_peer_checksum(heard.form);
                for oddity in oddities(&heard) {
                    self.metrics.odd(oddity);
                    self.complain(now, datagram.source, oddity);
                }
            }
            Err(rejection) => {
                self.metrics.rejected(rejection);
                self.complain(now, datagram.source, Oddity::Rejected(rejection));
            }
        }
    }

    /// One line for each neighbour, kind of fault and while: the counters say how often.
    fn complain(&mut self, now: Instant, source: IpAddr, oddity: Oddity) {
        if !self.complaints.is_due(now, source, oddity) {
            return;
        }
        let (instance, interface) = (&self.settings.name, &self.settings.interface);
        let text = match oddity {
            Oddity::Rejected(reason) => {
                warn!(%instance, %interface, %source, %reason, "advert rejected");
                format!("adverts of {source} are rejected: {reason}")
            }
            oddity => {
                warn!(%instance, %interface, %source, "odd advert: {oddity}");
                format!("adverts of {source} are odd: {oddity}")
            }
        };
        self.note(Kind::VrrpTrouble, Severity::Warning, text);
    }

    /// Carries out all actions of the instance, and keeps the addresses where they belong.
    pub(super) fn act(&mut self, hands: &mut Hands<'_>, now: Instant) {
        while let Some(action) = self.instance.poll_action() {
            match action {
                Action::SendAdvert(advert) => self.send(&advert),
                Action::AddAddresses => {
                    // The supervisor must know before the kernel does, or a death in between
                    // would leave the address behind.
                    hands.estate.record(&self.settings.name, self.holding());
                    self.set_up(hands.route, true);
                    let upkeep = self.keeper.hold(hands.route, now);
                    self.report_failures(&upkeep.failures);
                    // Many addresses may take longer than the others wait: who came in meanwhile?
                    self.instance.handle_delay(now, Instant::now());
                    self.receive(Instant::now());
                }
                Action::RemoveAddresses => {
                    self.announcer.cancel();
                    let upkeep = self.keeper.release(hands.route, now);
                    self.report_failures(&upkeep.failures);
                    self.set_up(hands.route, false);
                    hands.estate.record(&self.settings.name, self.holding());
                }
                Action::Announce => self.begin_announcement(now),
                Action::Report(transition) => self.report(transition, hands, now),
                Action::HandoverUnanswered => {
                    warn!(instance = %self.settings.name, "nobody took over: this director stays active");
                    let text = "nobody took over: this director stays active";
                    self.note(Kind::VrrpTrouble, Severity::Warning, text);
                    self.answer_handover(HandoverOutcome::NobodyAnswered);
                }
            }
            self.announce_due(now);
        }
        self.announce_due(now);
        self.metrics.set_margins(
            self.instance.margins(),
            self.instance.active_down_interval(),
            self.lateness_limit(),
        );
        if self.keeper.due().is_some_and(|due| due <= now) {
            self.look_after_addresses(hands, now);
        }
        if self.port_due.is_some_and(|due| due <= now) {
            self.open_port(hands, now);
            self.apply_faults(now);
        }
    }

    /// Only who holds the addresses may be found by the virtual MAC.
    fn set_up(&mut self, route: &mut Connection, up: bool) {
        let Some(port) = &mut self.port else {
            return;
        };
        if let Err(error) = port.set_up(route, up) {
            warn!(instance = %self.settings.name, %error, "the interface with the virtual MAC is not as it should be");
        }
    }

    fn report(&mut self, transition: Transition, hands: &Hands<'_>, now: Instant) {
        let Transition { from, to, reason } = transition;
        info!(instance = %self.settings.name, %from, %to, %reason, "vrrp state changed");
        self.metrics.transition(&transition);
        if reason == Reason::Stalled {
            self.metrics.stalled();
        }
        let event = TransitionEvent {
            instance: self.settings.name.clone(),
            transition,
            priority: self.instance.priority(),
        };
        // Nobody listens while the daemon ends.
        let _ = hands.transitions.send(event);
        if from == State::Active
            && let Some((asked, answer)) = self.handover.take()
        {
            let outcome = match reason {
                Reason::HandedOver { to } | Reason::Outranked { by: to, .. } => {
                    let after = now.saturating_duration_since(asked);
                    HandoverOutcome::TakenOver { by: to, after }
                }
                _ => HandoverOutcome::NotActive,
            };
            let _ = answer.send(outcome);
        }
    }

    fn answer_handover(&mut self, outcome: HandoverOutcome) {
        if let Some((_, answer)) = self.handover.take() {
            // Whoever asked may be gone.
            let _ = answer.send(outcome);
        }
    }

    fn open_port(&mut self, hands: &mut Hands<'_>, now: Instant) {
        self.port_due = None;
        let Some(link) = self
            .surroundings
            .link
            .as_ref()
            .filter(|_| self.port.is_none())
        else {
            return;
        };
        match Port::open(&self.settings, link, None, hands.route, hands.closer) {
            Ok(port) => self.install(port, hands, now),
            Err(error) => self.note_port(Some(error.to_string()), now),
        }
    }

    /// Goes on with this port, whose names are free.
    fn install(&mut self, mut port: Port, hands: &mut Hands<'_>, now: Instant) {
        match port.settle(hands.route, hands.virtual_macs) {
            Ok(()) => {
                self.port = Some(port);
                // Not lost, but another one.
                self.surroundings.macvlan = None;
                self.set_up(hands.route, self.instance.ownership() != Ownership::Absent);
                self.note_port(None, now);
            }
            Err(error) => {
                // Said at once, and what stays behind goes at the next start.
                let _ = port.close(hands.route);
                self.note_port(Some(error.to_string()), now);
            }
        }
    }

    fn note_port(&mut self, failure: Option<String>, now: Instant) {
        self.port_due = failure.is_some().then(|| now + PORT_RETRY);
        if let Some(error) = &failure
            && self.port_failure != failure
        {
            error!(instance = %self.settings.name, %error, "cannot take part; trying again");
            let text = format!("cannot take part: {error}");
            self.note(Kind::VrrpTrouble, Severity::Error, text);
        }
        self.port_failure = failure;
    }

    /// Closes the sockets, and removes the interface with the virtual MAC.
    pub(super) fn close_port(&mut self, route: &mut Connection) {
        if let Some(Err(error)) = self.port.take().map(|port| port.close(route)) {
            warn!(instance = %self.settings.name, %error, "the interface with the virtual MAC stays behind");
        }
    }

    fn note(&mut self, kind: Kind, severity: Severity, text: impl Into<String>) {
        let occurrence = Occurrence::new(kind, severity, text);
        self.incidents.push(occurrence.of(&self.settings.name));
    }

    /// What is worth telling of and wasn't told yet.
    pub(super) fn take_incidents(&mut self) -> Vec<Occurrence> {
        std::mem::take(&mut self.incidents)
    }

    fn apply_faults(&mut self, now: Instant) {
        let fault = match &self.port {
            Some(_) => self.surroundings.fault(),
            None => Some(Fault::InterfaceMissing),
        };
        for one in [Fault::InterfaceMissing, Fault::LinkDown, Fault::NoAddress] {
            self.instance.handle_fault(now, one, fault == Some(one));
        }
    }

    fn look_after_addresses(&mut self, hands: &mut Hands<'_>, now: Instant) {
        let was_stuck = self.keeper.is_stuck();
        let upkeep = self.keeper.look(hands.route, now);
        self.report_failures(&upkeep.failures);
        for address in &upkeep.added {
            warn!(instance = %self.settings.name, %address, "address was missing: put back");
            let text = format!("{address} was gone from its interface, and was put back");
            self.note(Kind::AddressRestored, Severity::Warning, text);
            self.metrics.address_restored();
        }
        if !upkeep.added.is_empty() {
            self.begin_announcement(now);
            self.announce_due(now);
        }
        if was_stuck && !self.keeper.is_stuck() {
            hands.estate.record(&self.settings.name, self.holding());
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
            error!(instance = %self.settings.name, %error, "addresses are not as they should be; trying again");
            let text = format!("addresses are not as they should be: {error}");
            self.note(Kind::VrrpTrouble, Severity::Error, text);
        } else {
            info!(instance = %self.settings.name, "addresses are as they should be again");
            let text = "addresses are as they should be again";
            self.note(Kind::VrrpWell, Severity::Info, text);
        }
        self.address_failure = failure;
    }

    /// The clock is looked at once more: this thread may have been stopped since the instance
    /// decided to send.
    fn send(&mut self, advert: &Advert) {
        let now = Instant::now();
        if self.instance.has_stalled(now) {
            self.instance.handle_timeout(now);
            return;
        }
        let Some(port) = &self.port else {
            return;
        };
        let source = self.instance.configuration().primary_address;
        let mut failure = None;
        for destination in self.instance.configuration().destinations() {
            let message = self.instance.encode(advert, destination, SystemTime::now());
            failure = port.send(&message, source, destination).err().or(failure);
        }
        match failure {
            None => {
                self.metrics.sent();
                self.send_failing = false;
            }
            Some(error) => {
                self.metrics.send_failed();
                if !core::mem::replace(&mut self.send_failing, true) {
                    error!(instance = %self.settings.name, interface = %self.settings.interface, %error, "cannot send adverts");
                }
            }
        }
    }

    fn begin_announcement(&mut self, now: Instant) {
        let most = self.settings.announcements.burst;
        self.announcer.begin(now, self.keeper.present(), most);
    }

    /// Only what is there is announced, or traffic would come to nobody.
    fn announce_due(&mut self, now: Instant) {
        let mut failure = None;
        let mut tried = false;
        while let Some(placed) = self.announcer.next(now) {
            let hardware_address = self.surroundings.hardware_address(placed.interface_index);
            if let (Some(port), Some(hardware_address)) = (&mut self.port, hardware_address) {
                tried = true;
                failure = port.announce(&placed, hardware_address).err().or(failure);
            }
        }
        if let Some(error) = &failure
            && !self.announce_failing
        {
            warn!(instance = %self.settings.name, %error, "cannot announce addresses");
        }
        if tried {
            self.announce_failing = failure.is_some();
        }
    }
}

fn oddities(heard: &Heard) -> impl Iterator<Item = Oddity> {
    [
        (heard.addresses_differ, Oddity::Addresses),
        (heard.interval_differs, Oddity::Interval),
        (heard.first_address_not_link_local, Oddity::FirstAddress),
        (heard.second_owner, Oddity::SecondOwner),
    ]
    .into_iter()
    .filter_map(|(is_odd, oddity)| is_odd.then_some(oddity))
}

/// Without an address to send from the router is in fault, and the unspecified one is never used.
fn protocol_configuration(settings: &Settings, primary: Option<IpAddr>) -> vrrp::Configuration {
    let unspecified = match settings.family() {
        Family::Ipv4 => IpAddr::from([0; 4]),
        Family::Ipv6 => IpAddr::from([0; 16]),
    };
    let (authentication, checksum) = match &settings.version {
        VersionSettings::V2 { password } => (
            password
                .clone()
                .map_or(Authentication::None, Authentication::Password),
            // Version 2 has one form only.
            ChecksumForm::MessageOnly,
        ),
        VersionSettings::V3 { checksum, hmac } => (
            hmac.clone()
                .map_or(Authentication::None, Authentication::Hmac),
            *checksum,
        ),
    };
    vrrp::Configuration {
        version: settings.version.version(),
        virtual_router: settings.virtual_router_id,
        priority: settings.priority,
        interval: settings.advert_interval,
        accepted_intervals: settings.accepted_intervals,
        addresses: settings.addresses.iter().map(|vip| vip.address).collect(),
        preempt: settings.preempt,
        preempt_delay: settings.preempt_delay,
        authentication,
        also_accept: settings.also_accept.clone(),
        peers: settings.peers.clone(),
        checksum,
        primary_address: primary.unwrap_or(unspecified),
        announcements: settings.announcements,
    }
}
