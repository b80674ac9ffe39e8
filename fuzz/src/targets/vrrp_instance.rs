//! The state machine of a virtual router under anything: datagrams, good and bad, timeouts, commands
//! and configurations in any order, late or in time.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime};

use lvs_proto::vrrp::hmac::{self, Key, KeyId, Mode, Sealer};
use lvs_proto::vrrp::{
    AcceptedIntervals, Action, Advert, AdvertInterval, AlsoAccept, Announcements, Aside,
    Authentication, ChecksumForm, Configuration, Datagram, Family, Fault, Instance, Ownership,
    Password, Peers, Priority, State, Version, VirtualRouterId,
};

use super::vrrp_datagram::repair_checksum;
use crate::bytes::{Bytes, bit};

/// Events of one run; more show nothing new.
const MOST_EVENTS: usize = 200;
/// The event that time passes and nobody looks at the timers.
const STOPPED: u8 = 1;

/// Seven bytes that make a configuration, then events until the bytes end.
pub(super) fn run(data: &[u8]) {
    let mut bytes = Bytes(data);
    let mut world = World::new(&mut bytes);
    for _ in 0..MOST_EVENTS {
        if bytes.is_empty() {
            break;
        }
        world.event(&mut bytes);
        world.check();
    }
    world.stop();
}

struct World {
    instance: Instance,
    /// Signs as a peer that has the key.
    peer: Sealer,
    now: Instant,
    wall: SystemTime,
    /// What the actions put on the machine.
    addresses: bool,
    last_message: Vec<u8>,
    /// Whether this event met an Active that was stopped for too long.
    stalled: bool,
}

impl World {
    fn new(bytes: &mut Bytes<'_>) -> Self {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        Self {
            instance: Instance::new(configuration(bytes)),
            peer: Sealer::new(&keys(Mode::Enforce)),
            now: *START + Duration::from_secs(100),
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
            addresses: false,
            last_message: Vec::new(),
            stalled: false,
        }
    }

    /// What was queued while this router was stopped comes before any timer.
    fn event(&mut self, bytes: &mut Bytes<'_>) {
        let mut event = bytes.byte() % 16;
        while event == STOPPED && !bytes.is_empty() {
            self.pass(Duration::from_millis(bytes.word().into()));
            event = bytes.byte() % 16;
        }
        self.stalled = self.instance.has_stalled(self.now);
        let now = self.now;
        match event {
            0 => {
                let found = bit(bytes.byte(), 0) && self.instance.state() == State::Initialize;
                if self.instance.state() == State::Initialize {
                    self.addresses |= found;
                    self.instance.handle_start(now, found);
                }
            }
            STOPPED => {}
            2 => self.pass_to_deadline(Duration::ZERO),
            3 => self.pass_to_deadline(Duration::from_millis(bytes.byte().into())),
            4..=6 => self.hear_advert(bytes),
            7 => self.hear_bytes(bytes),
            8 => {
                let message = self.last_message.clone();
                self.hear(&message, bytes);
            }
            9 => self.instance.handle_ready(bit(bytes.byte(), 0)),
            10 => self.instance.handle_priority(now, priority(bytes)),
            11 => {
                let fault =
                    bytes.pick(&[Fault::InterfaceMissing, Fault::LinkDown, Fault::Tracking]);
                self.instance.handle_fault(now, fault, bit(bytes.byte(), 0));
            }
            12 => {
                let until = Aside::Until(now + Duration::from_millis(bytes.word().into()));
                let aside = bytes.pick(&[Aside::UntilReleased, until]);
                self.instance.handle_handover(now, aside);
            }
            13 => self.instance.handle_release(),
            14 => match bytes.byte() % 4 {
                0 => self.instance.handle_abandon(now),
                _ => self.instance.handle_stop(now),
            },
            _ => {
                // The same virtual router: its number and family stay.
                let next = configuration(bytes);
                let old = self.instance.configuration();
                if next.family() == old.family() {
                    self.instance.handle_configuration(now, next);
                }
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.wall += time;
    }

    fn pass_to_deadline(&mut self, late: Duration) {
        if let Some(deadline) = self.instance.poll_timeout() {
            self.pass(deadline.saturating_duration_since(self.now) + late);
            self.stalled |= self.instance.has_stalled(self.now);
            self.instance.handle_timeout(self.now);
        }
    }

    /// A well-formed advert, of which any part may differ from what is expected.
    fn hear_advert(&mut self, bytes: &mut Bytes<'_>) {
        let own = self.instance.configuration();
        let switches = bytes.byte();
        let version = if bit(switches, 0) {
            Version::V2
        } else {
            own.version
        };
        let milliseconds = bytes.pick(&[1_000, 10, 100, 40_950]);
        let interval = AdvertInterval::new(version, Duration::from_millis(milliseconds));
        let advert = Advert {
            version,
            virtual_router: own.virtual_router,
            priority: bytes.byte(),
            interval: interval.unwrap_or(own.interval),
            addresses: own.addresses.clone(),
            password: bit(switches, 1).then(|| password(bytes)),
        };
        let [source, destination] = self.way(bytes);
        if Family::of(source) == Family::Ipv6 && version == Version::V2 {
            return;
        }
        let form = checksum(bit(switches, 2));
        let mut message = advert.to_bytes(source, destination, form);
        if bit(switches, 3) {
            self.peer.seal(&mut message, source, self.wall);
            repair_checksum(&mut message, source, destination, form);
        }
        self.deliver(source, destination, 255, &message);
        self.last_message = message;
    }

    /// Any bytes, with a checksum that may be right.
    fn hear_bytes(&mut self, bytes: &mut Bytes<'_>) {
        let length = usize::from(bytes.byte());
        let message = bytes.slice(length).to_vec();
        self.hear(&message, bytes);
    }

    fn hear(&mut self, message: &[u8], bytes: &mut Bytes<'_>) {
        let switches = bytes.byte();
        let [source, destination] = self.way(bytes);
        let mut message = message.to_vec();
        if bit(switches, 0) {
            repair_checksum(
                &mut message,
                source,
                destination,
                checksum(bit(switches, 1)),
            );
        }
        let hop_limit = if bit(switches, 2) { 254 } else { 255 };
        self.deliver(source, destination, hop_limit, &message);
        self.last_message = message;
    }

    /// Source and destination.
    fn way(&self, bytes: &mut Bytes<'_>) -> [IpAddr; 2] {
        let own = self.instance.configuration();
        let host = bytes.pick(&[2, 1, 3, 250]);
        let source = address(own.family(), host);
        let group = own.family().multicast_group();
        let expected = match own.peers {
            Peers::Multicast => group,
            Peers::Unicast { .. } => own.primary_address,
        };
        [source, bytes.pick(&[expected, expected, expected, group])]
    }

    /// A datagram that is refused changes nothing; one that was accepted with a proof is refused
    /// when it comes again.
    fn deliver(&mut self, source: IpAddr, destination: IpAddr, hop_limit: u8, message: &[u8]) {
        let datagram = Datagram {
            source,
            destination,
            hop_limit,
            message,
        };
        let before = format!("{:?}", self.instance);
        let result = self
            .instance
            .handle_datagram(self.now, self.wall, &datagram);
        if let Err(rejection) = result {
            assert_eq!(format!("{:?}", self.instance), before, "{rejection}");
            return;
        }
        assert_eq!(datagram.virtual_router(), Some(virtual_router()));
        assert_ne!(source, self.instance.configuration().primary_address);
        let authenticated = self.instance.configuration().hmac().is_some()
            && datagram
                .read()
                .is_ok_and(|received| received.sealed_at.is_some());
        if authenticated {
            let again = self
                .instance
                .handle_datagram(self.now, self.wall, &datagram);
            assert!(again.is_err(), "a copy was accepted");
        }
    }

    /// Compares what the instance says of itself, after every event and after the timers.
    fn check(&mut self) {
        self.carry_out();
        self.instance.handle_timeout(self.now);
        self.carry_out();
        self.stalled = false;
        let (state, ownership) = (self.instance.state(), self.instance.ownership());
        assert_eq!(
            self.addresses,
            ownership != Ownership::Absent,
            "{ownership:?}"
        );
        assert_eq!(
            state == State::Active,
            matches!(ownership, Ownership::Held | Ownership::HandingOver),
            "{state:?}, {ownership:?}"
        );
        let deadline = self.instance.poll_timeout();
        match state {
            State::Backup | State::Active => assert!(deadline.is_some(), "{state:?} for ever"),
            State::Initialize | State::Fault => assert_eq!(deadline, None, "{state:?}"),
        }
        assert_eq!(
            state == State::Fault,
            self.instance.faults().next().is_some() && state != State::Initialize
        );
        assert!(deadline.is_none_or(|next| next > self.now), "overdue");
        assert!(!self.instance.has_stalled(self.now));
    }

    fn carry_out(&mut self) {
        while let Some(action) = self.instance.poll_action() {
            match action {
                Action::SendAdvert(advert) => self.check_advert(&advert),
                Action::AddAddresses => self.addresses = true,
                Action::RemoveAddresses => self.addresses = false,
                Action::Announce => assert!(self.addresses, "announced what it doesn't have"),
                Action::Report(_) | Action::HandoverUnanswered => {}
            }
        }
    }

    /// What is sent, a peer can read, and it says what was meant.
    fn check_advert(&mut self, advert: &Advert) {
        assert!(!self.stalled, "another router has taken over meanwhile");
        let own = self.instance.configuration().clone();
        for destination in own.destinations() {
            let message = self.instance.encode(advert, destination, self.wall);
            let datagram = Datagram {
                source: own.primary_address,
                destination,
                hop_limit: 255,
                message: &message,
            };
            let received = datagram.read().expect("an advert of our own");
            assert_eq!(received.advert.priority, advert.priority);
            assert_eq!(received.advert.interval, advert.interval);
            assert_eq!(received.advert.addresses, advert.addresses);
            let signs = own.hmac().is_some_and(|hmac| hmac.signing_key().is_some());
            assert_eq!(received.sealed_at.is_some(), signs);
        }
    }

    /// Stopping ends, and leaves nothing behind.
    fn stop(&mut self) {
        self.instance.handle_stop(self.now);
        self.check();
        for _ in 0..3_000 {
            if self.instance.state() == State::Initialize {
                assert!(!self.addresses);
                return;
            }
            self.pass_to_deadline(Duration::ZERO);
            self.check();
        }
        panic!("it doesn't stop");
    }
}

fn configuration(bytes: &mut Bytes<'_>) -> Configuration {
    let [switches, more, authentication] = bytes.array();
    let family = if bit(switches, 0) {
        Family::Ipv6
    } else {
        Family::Ipv4
    };
    let version = if bit(switches, 1) && family == Family::Ipv4 {
        Version::V2
    } else {
        Version::V3
    };
    let milliseconds = match version {
        Version::V2 => 1_000,
        Version::V3 => bytes.pick(&[100, 10, 1_000, 40_950]),
    };
    let interval = AdvertInterval::new(version, Duration::from_millis(milliseconds))
        .expect("whole seconds or centiseconds");
    let primary_address = address(family, 1);
    Configuration {
        version,
        virtual_router: virtual_router(),
        priority: priority(bytes),
        interval,
        accepted_intervals: AcceptedIntervals::around(interval),
        addresses: (100..=100 + more % 4)
            .map(|host| address(family, host))
            .collect(),
        preempt: !bit(switches, 2),
        preempt_delay: Duration::from_millis(if bit(switches, 3) { 500 } else { 0 }),
        authentication: match authentication % 5 {
            0 => Authentication::None,
            1 => Authentication::Password(password(bytes)),
            2 => Authentication::Hmac(keys(Mode::Permissive)),
            3 => Authentication::Hmac(keys(Mode::ReceiveOnly)),
            _ => Authentication::Hmac(keys(Mode::Enforce)),
        },
        also_accept: AlsoAccept {
            version: bit(switches, 4).then_some(Version::V2),
            password: bit(switches, 5).then(|| password(bytes)),
        },
        peers: if bit(switches, 6) {
            Peers::Unicast {
                addresses: vec![address(family, 2), address(family, 3)],
                minimum_hop_limit: 255 - more / 64,
            }
        } else {
            Peers::Multicast
        },
        checksum: checksum(bit(switches, 7)),
        primary_address,
        announcements: Announcements {
            burst: 1 + (more >> 2) % 4,
            ..Announcements::default()
        },
    }
}

fn virtual_router() -> VirtualRouterId {
    VirtualRouterId::new(50).expect("not 0")
}

fn priority(bytes: &mut Bytes<'_>) -> Priority {
    Priority::new(bytes.byte()).unwrap_or(Priority::OWNER)
}

fn password(bytes: &mut Bytes<'_>) -> Password {
    Password::new(bytes.pick(&["s3cr3t", "old"])).expect("at most eight bytes")
}

fn checksum(message_only: bool) -> ChecksumForm {
    if message_only {
        ChecksumForm::MessageOnly
    } else {
        ChecksumForm::PseudoHeader
    }
}

fn keys(mode: Mode) -> hmac::Configuration {
    let id = KeyId::new(1).expect("not 0");
    let key = Key::new([7; 32]).expect("32 bytes");
    let window = Duration::from_secs(5);
    hmac::Configuration::new(mode, id, BTreeMap::from([(id, key)]), window)
        .expect("the key is there")
}

fn address(family: Family, host: u8) -> IpAddr {
    match family {
        Family::Ipv4 => Ipv4Addr::new(192, 168, 56, host).into(),
        Family::Ipv6 => Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, host.into()).into(),
    }
}
