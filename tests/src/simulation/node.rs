//! One router: the protocol's machine, and around it what the daemon's thread does.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lvs_proto::vrrp::{
    AcceptedIntervals, Action, Advert, AdvertInterval, AlsoAccept, Announcements, Aside,
    Authentication, ChecksumForm, Configuration, Datagram, Family, Fault, Instance, Ownership,
    Peers, Priority, State, TIME_TO_LIVE, Transition, Version, VirtualRouterId, hmac,
};

use super::scenario::{Number, Pause, RouterEvent, RouterPlan, Scenario, Trouble};

/// What the daemon reads before it looks at its timers again.
const PACKETS_PER_ROUND: usize = 64;

/// The time of day at the beginning.
const BEGINNING: Duration = Duration::from_secs(1_700_000_000);

/// An advert on its way.
#[derive(Debug)]
pub(super) struct Packet {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) message: Vec<u8>,
}

/// What a router did, as others can see it.
#[derive(Clone, Debug)]
pub(super) enum Deed {
    /// Sent one advert, as one packet for each destination.
    Sent(u8, Vec<Rc<Packet>>),
    /// Put the address on its interface.
    Took,
    /// Took it off.
    LetGo,
    /// Told the LAN where the address is.
    Announced,
    /// Changed its state.
    Changed(Transition),
    /// Said that nobody answered a handover.
    Unanswered,
}

/// One turn of the daemon's loop.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) before: State,
    pub(super) priority_before: Priority,
    pub(super) ownership_before: Ownership,
    /// The priorities and intervals of the adverts that it took.
    pub(super) heard: Vec<(u8, Duration)>,
    pub(super) commanded: bool,
    /// It was to leave a lower Active alone, and nobody released it.
    pub(super) stood_aside: bool,
    pub(super) deeds: Vec<Deed>,
}

/// A router, running or not.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) plan: RouterPlan,
    pub(super) address: IpAddr,
    configuration: Configuration,
    pub(super) instance: Option<Instance>,
    /// The virtual address is on its interface.
    pub(super) holds_address: bool,
    pub(super) is_ready: bool,
    pub(super) paused: Option<(Pause, Duration)>,
    pub(super) link_is_down: bool,
    /// How late it may be woken beyond what the scenario says.
    pub(super) latest: Duration,
    /// For how long its clock has stood still.
    behind: Duration,
    inbox: VecDeque<Rc<Packet>>,
    commands: VecDeque<RouterEvent>,
}

impl Node {
    pub(super) fn new(plan: &RouterPlan, scenario: &Scenario) -> Self {
        Self {
            plan: plan.clone(),
            address: address(scenario.family, plan.number),
            configuration: configuration(plan, scenario),
            instance: None,
            holds_address: false,
            is_ready: false,
            paused: None,
            link_is_down: false,
            latest: Duration::ZERO,
            behind: Duration::ZERO,
            inbox: VecDeque::new(),
            commands: VecDeque::new(),
        }
    }

    pub(super) fn number(&self) -> Number {
        self.plan.number
    }

    /// What its own clock says.
    pub(super) fn clock(&self, now: Duration) -> Duration {
        now.saturating_sub(self.behind)
    }

    /// The machine, unless it is paused or not running.
    pub(super) fn awake(&self) -> Option<&Instance> {
        self.instance.as_ref().filter(|_| self.paused.is_none())
    }

    /// Whether it takes part in the election, as far as it can know.
    pub(super) fn takes_part(&self) -> bool {
        let state = self.awake().map(Instance::state);
        !self.link_is_down && matches!(state, Some(State::Backup | State::Active))
    }

    pub(super) fn is_active(&self) -> bool {
        self.awake()
            .is_some_and(|instance| instance.state() == State::Active)
    }

    /// When it ceases to leave a lower Active alone because it was asked to, if that is known.
    pub(super) fn stands_aside_until(&self, epoch: Instant) -> Option<Duration> {
        match self.awake()?.aside()? {
            Aside::Until(until) => Some(until.saturating_duration_since(epoch) + self.behind),
            Aside::UntilReleased => None,
        }
    }

    /// Whether it leaves a lower Active alone because it was asked to.
    fn stands_aside(&self, epoch: Instant, now: Duration) -> bool {
        match self.awake().and_then(Instance::aside) {
            Some(Aside::Until(_)) => self.stands_aside_until(epoch) > Some(now),
            Some(Aside::UntilReleased) => true,
            None => false,
        }
    }

    /// Whether it takes over from a living Active of lower priority.
    pub(super) fn may_preempt(&self, epoch: Instant, now: Duration) -> bool {
        self.plan.priority == Priority::OWNER
            || (self.plan.preempt && self.is_ready && !self.stands_aside(epoch, now))
    }

    pub(super) fn start(&mut self, epoch: Instant, now: Duration) {
        self.stop_existing();
        self.plan.priority = self.configuration.priority;
        let mut instance = Instance::new(self.configuration.clone());
        if self.link_is_down {
            instance.handle_fault(epoch + self.clock(now), Fault::LinkDown, true);
        }
        instance.handle_start(epoch + self.clock(now), self.holds_address);
        self.instance = Some(instance);
    }

    /// The programs are gone, whatever they were doing.
    pub(super) fn stop_existing(&mut self) {
        self.instance = None;
        self.is_ready = false;
        self.paused = None;
        self.inbox.clear();
        self.commands.clear();
    }

    pub(super) fn pause(&mut self, pause: Pause, now: Duration) {
        if self.instance.is_some() && self.paused.is_none() {
            self.paused = Some((pause, now));
        }
    }

    pub(super) fn resume(&mut self, now: Duration) {
        if let Some((Pause::Unnoticed, since)) = self.paused.take() {
            self.behind += now - since;
        }
    }

    pub(super) fn command(&mut self, command: RouterEvent) {
        if self.instance.is_some() {
            self.commands.push_back(command);
        }
    }

    /// A packet reaches the machine. Returns whether somebody is there to be woken.
    pub(super) fn receive(&mut self, packet: Rc<Packet>) -> bool {
        let room = match self.paused {
            None => true,
            Some((Pause::Queueing(limit), _)) => self.inbox.len() < limit,
            Some((Pause::Losing | Pause::Unnoticed, _)) => false,
        };
        if self.instance.is_some() && room {
            self.inbox.push_back(packet);
        }
        self.awake().is_some()
    }

    /// When it wants to be woken.
    pub(super) fn next_timeout(&self, epoch: Instant, now: Duration) -> Option<Duration> {
        if !self.inbox.is_empty() || !self.commands.is_empty() {
            return Some(now);
        }
        let deadline = self.awake()?.poll_timeout()?;
        let due = deadline.saturating_duration_since(epoch) + self.behind;
        Some(due.max(now))
    }

    /// One turn of the daemon's loop: what is queued is read before a timer is believed.
    pub(super) fn round(&mut self, epoch: Instant, now: Duration) -> Option<Round> {
        let local = epoch + self.clock(now);
        let wall = UNIX_EPOCH + BEGINNING + now;
        let stood_aside = self.stands_aside(epoch, now);
        let instance = self.instance.as_mut().filter(|_| self.paused.is_none())?;
        let mut round = Round {
            before: instance.state(),
            priority_before: self.plan.priority,
            ownership_before: instance.ownership(),
            heard: Vec::new(),
            commanded: !self.commands.is_empty(),
            stood_aside: stood_aside && !self.commands.contains(&RouterEvent::Release),
            deeds: Vec::new(),
        };
        let queued = self.inbox.len().min(PACKETS_PER_ROUND);
        for packet in self.inbox.drain(..queued) {
            let datagram = Datagram {
                source: packet.source,
                destination: packet.destination,
                hop_limit: TIME_TO_LIVE,
                message: &packet.message,
            };
            if let Ok(heard) = instance.handle_datagram(local, wall, &datagram) {
                let advert = heard.advert;
                round.heard.push((advert.priority, advert.interval.get()));
            }
        }
        for command in self.commands.drain(..) {
            match command {
                RouterEvent::Ready(ready) => self.is_ready = ready,
                RouterEvent::Priority(priority) if self.plan.priority != Priority::OWNER => {
                    self.plan.priority = priority;
                }
                _ => {}
            }
            carry_out(instance, local, command);
        }
        instance.handle_timeout(local);
        while let Some(action) = instance.poll_action() {
            match action {
                Action::SendAdvert(advert) => {
                    let packets = packets(instance, &advert, wall);
                    round.deeds.push(Deed::Sent(advert.priority, packets));
                }
                Action::AddAddresses => {
                    self.holds_address = true;
                    round.deeds.push(Deed::Took);
                }
                Action::RemoveAddresses => {
                    self.holds_address = false;
                    round.deeds.push(Deed::LetGo);
                }
                Action::Announce if self.holds_address => round.deeds.push(Deed::Announced),
                Action::Announce => {}
                Action::Report(transition) => round.deeds.push(Deed::Changed(transition)),
                Action::HandoverUnanswered => round.deeds.push(Deed::Unanswered),
            }
        }
        Some(round)
    }

    /// What the supervisor sends when the worker has died.
    pub(super) fn last_words(&mut self, now: Duration) -> Vec<Rc<Packet>> {
        let wall = UNIX_EPOCH + BEGINNING + now;
        match &mut self.instance {
            Some(instance) if self.holds_address => {
                let advert = instance.resignation();
                packets(instance, &advert, wall)
            }
            _ => Vec::new(),
        }
    }
}

fn carry_out(instance: &mut Instance, local: Instant, command: RouterEvent) {
    let fault = |trouble| match trouble {
        Trouble::Tracking => Fault::Tracking,
        Trouble::Link => Fault::LinkDown,
    };
    match command {
        RouterEvent::Ready(ready) => instance.handle_ready(ready),
        RouterEvent::Priority(priority) => instance.handle_priority(local, priority),
        RouterEvent::Fault(trouble) => instance.handle_fault(local, fault(trouble), true),
        RouterEvent::Recover(trouble) => instance.handle_fault(local, fault(trouble), false),
        RouterEvent::Handover(time) => {
            let aside = time.map_or(Aside::UntilReleased, |time| Aside::Until(local + time));
            instance.handle_handover(local, aside);
        }
        RouterEvent::Release => instance.handle_release(),
        RouterEvent::Stop => instance.handle_stop(local),
        // The others befall the machine, which isn't asked.
        RouterEvent::Start
        | RouterEvent::Crash(_)
        | RouterEvent::Pause(_)
        | RouterEvent::Resume
        | RouterEvent::Late(_) => {}
    }
}

fn packets(instance: &mut Instance, advert: &Advert, wall: SystemTime) -> Vec<Rc<Packet>> {
    let source = instance.configuration().primary_address;
    let destinations = instance.configuration().destinations();
    let packet = |destination| {
        Rc::new(Packet {
            source,
            destination,
            message: instance.encode(advert, destination, wall),
        })
    };
    destinations.into_iter().map(packet).collect()
}

/// Far apart, so that addresses compared as signed numbers would be noticed.
pub(super) fn address(family: Family, number: Number) -> IpAddr {
    match family {
        Family::Ipv4 => Ipv4Addr::new(50 * number, 0, 0, number).into(),
        Family::Ipv6 => Ipv6Addr::new(0xfe80, 0, 0, 0, 0x3000 * u16::from(number), 0, 0, 1).into(),
    }
}

fn configuration(plan: &RouterPlan, scenario: &Scenario) -> Configuration {
    let interval = AdvertInterval::new(plan.version, plan.interval)
        .expect("a scenario has intervals that the version can say");
    let others = scenario.routers.iter().map(|router| router.number);
    let others = others.filter(|number| *number != plan.number);
    let has_both_versions = scenario
        .routers
        .iter()
        .any(|router| router.version != plan.version);
    let other_version = match plan.version {
        Version::V2 => Version::V3,
        Version::V3 => Version::V2,
    };
    Configuration {
        version: plan.version,
        virtual_router: VirtualRouterId::new(50).expect("50 is none but 0"),
        priority: plan.priority,
        interval,
        accepted_intervals: AcceptedIntervals::around(interval),
        addresses: vec![match scenario.family {
            Family::Ipv4 => Ipv4Addr::new(192, 0, 2, 1).into(),
            Family::Ipv6 => Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x100).into(),
        }],
        preempt: plan.preempt,
        preempt_delay: plan.preempt_delay,
        authentication: if scenario.signed {
            Authentication::Hmac(signing())
        } else {
            Authentication::None
        },
        also_accept: AlsoAccept {
            version: has_both_versions.then_some(other_version),
            password: None,
        },
        peers: if scenario.unicast {
            Peers::Unicast {
                addresses: others
                    .map(|number| address(scenario.family, number))
                    .collect(),
                minimum_hop_limit: TIME_TO_LIVE,
            }
        } else {
            Peers::Multicast
        },
        checksum: ChecksumForm::PseudoHeader,
        primary_address: address(scenario.family, plan.number),
        announcements: Announcements {
            burst: 2,
            second_after: Some(plan.interval * 5),
            refresh: Some(scenario.refresh),
        },
    }
}

fn signing() -> hmac::Configuration {
    let id = hmac::KeyId::new(1).expect("1 is none but 0");
    let key = hmac::Key::new([7; 32]).expect("32 bytes are enough");
    let window = Duration::from_secs(60);
    hmac::Configuration::new(hmac::Mode::Enforce, id, [(id, key)].into(), window)
        .expect("the key to send with is there")
}
