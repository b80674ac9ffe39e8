//! RFC 9568 and RFC 3768, section by section: what `docs/rfc9568.md` points to.
//!
//! Each test speaks to an instance as a LAN would, with whole datagrams, over both families.

#![allow(clippy::unwrap_used)]

use core::net::IpAddr;
use core::time::Duration;
use std::time::{Instant, SystemTime};

use super::{
    AcceptedIntervals, Action, Advert, AdvertInterval, AlsoAccept, Announcements, Authentication,
    ChecksumForm, Configuration, Datagram, Family, Heard, Instance, Password, Peers, Priority,
    Reason, Rejection, State, Version, VirtualRouterId,
};

const FAMILIES: [Family; 2] = [Family::Ipv4, Family::Ipv6];
const CENTISECOND: Duration = Duration::from_millis(10);

/// The router under test.
struct Router {
    instance: Instance,
    now: Instant,
}

impl Router {
    fn new(configuration: Configuration) -> Self {
        let mut instance = Instance::new(configuration);
        instance.handle_ready(true);
        Self {
            instance,
            now: Instant::now(),
        }
    }

    /// A started router of priority 100.
    fn backup(family: Family) -> Self {
        Self::started(configuration(family, 100))
    }

    fn started(configuration: Configuration) -> Self {
        let mut router = Self::new(configuration);
        router.instance.handle_start(router.now, false);
        router.actions();
        router
    }

    /// A router that has just become Active and said so.
    fn active(configuration: Configuration) -> Self {
        let mut router = Self::started(configuration);
        while router.instance.state() != State::Active {
            router.expire();
        }
        router.actions();
        router
    }

    fn wait(&mut self, pause: Duration) {
        self.now += pause;
    }

    /// Goes on to the next deadline and lets it pass.
    fn expire(&mut self) {
        self.now = self.instance.poll_timeout().unwrap();
        self.instance.handle_timeout(self.now);
    }

    /// The time to the next deadline.
    fn due(&self) -> Option<Duration> {
        let deadline = self.instance.poll_timeout()?;
        Some(deadline.saturating_duration_since(self.now))
    }

    fn hear(&mut self, advert: &Advert, source: IpAddr) -> Result<Heard, Rejection> {
        let own = self.instance.configuration();
        let group = own.family().multicast_group();
        let message = advert.to_bytes(source, group, ChecksumForm::PseudoHeader);
        self.receive(&message, source, 255)
    }

    fn receive(
        &mut self,
        message: &[u8],
        source: IpAddr,
        hop_limit: u8,
    ) -> Result<Heard, Rejection> {
        let datagram = Datagram {
            source,
            destination: Family::of(source).multicast_group(),
            hop_limit,
            message,
        };
        self.instance
            .handle_datagram(self.now, SystemTime::UNIX_EPOCH, &datagram)
    }

    fn actions(&mut self) -> Vec<Action> {
        core::iter::from_fn(|| self.instance.poll_action()).collect()
    }

    /// The time to the next advert, if nothing is heard; announcements may be due before.
    fn next_advert(&self) -> Duration {
        let mut other = Self {
            instance: self.instance.clone(),
            now: self.now,
        };
        other.actions();
        while other.sent().is_empty() {
            other.expire();
        }
        other.now - self.now
    }

    /// Priorities of the adverts sent since this was asked last.
    fn sent(&mut self) -> Vec<u8> {
        let priority = |action| match action {
            Action::SendAdvert(advert) => Some(advert.priority),
            _ => None,
        };
        self.actions().into_iter().filter_map(priority).collect()
    }

    /// All that an event could have changed.
    fn everything(&mut self) -> (String, Vec<Action>) {
        let actions = self.actions();
        (format!("{:?}", self.instance), actions)
    }
}

fn address(family: Family, host: u8) -> IpAddr {
    match family {
        Family::Ipv4 => IpAddr::from([192, 0, 2, host]),
        Family::Ipv6 => IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, u16::from(host)]),
    }
}

fn interval(version: Version, duration: Duration) -> AdvertInterval {
    AdvertInterval::new(version, duration).unwrap()
}

/// Version 3 at one second, router 7, at `address(family, 10)`.
fn configuration(family: Family, priority: u8) -> Configuration {
    let second = interval(Version::V3, Duration::from_secs(1));
    Configuration {
        version: Version::V3,
        virtual_router: VirtualRouterId::new(7).unwrap(),
        priority: Priority::new(priority).unwrap(),
        interval: second,
        accepted_intervals: AcceptedIntervals {
            least: CENTISECOND,
            most: CENTISECOND * 4095,
        },
        addresses: vec![address(family, 100), address(family, 101)],
        preempt: true,
        preempt_delay: Duration::ZERO,
        authentication: Authentication::None,
        also_accept: AlsoAccept::default(),
        peers: Peers::Multicast,
        checksum: ChecksumForm::PseudoHeader,
        primary_address: address(family, 10),
        announcements: Announcements {
            burst: 1,
            second_after: None,
            refresh: None,
        },
    }
}

/// The same in version 2.
fn version_2(priority: u8) -> Configuration {
    Configuration {
        version: Version::V2,
        interval: interval(Version::V2, Duration::from_secs(1)),
        ..configuration(Family::Ipv4, priority)
    }
}

/// What another router of the same configuration says.
fn advert(configuration: &Configuration, priority: u8) -> Advert {
    Advert {
        version: configuration.version,
        virtual_router: configuration.virtual_router,
        priority,
        interval: configuration.interval,
        addresses: configuration.addresses.clone(),
        password: match &configuration.authentication {
            Authentication::Password(password) => Some(password.clone()),
            _ => None,
        },
    }
}

/// Another router, whose address is less than ours.
fn lesser(family: Family) -> IpAddr {
    address(family, 9)
}

/// Another router, whose address is more than ours.
fn greater(family: Family) -> IpAddr {
    address(family, 11)
}

/// `message` with some octets changed and its checksum made right again, over the pseudo-header.
fn forged(message: &[u8], source: IpAddr, changes: &[(usize, u8)]) -> Vec<u8> {
    changed(message, changes, &pseudo_header(source, message.len()))
}

/// The same with a checksum over the message alone.
fn forged_without_header(message: &[u8], changes: &[(usize, u8)]) -> Vec<u8> {
    changed(message, changes, &[])
}

fn changed(message: &[u8], changes: &[(usize, u8)], pseudo_header: &[u8]) -> Vec<u8> {
    let mut changed = message.to_vec();
    for (position, octet) in changes {
        changed[*position] = *octet;
    }
    changed[6..8].fill(0);
    let checksum = checksum(pseudo_header, &changed);
    changed[6..8].copy_from_slice(&checksum.to_be_bytes());
    changed
}

/// RFC 8200, section 8.1, written anew so as not to believe the code under test; for IPv4 its words
/// are those of RFC 793, section 3.1.
fn pseudo_header(source: IpAddr, length: usize) -> Vec<u8> {
    let mut header = Vec::new();
    for address in [source, Family::of(source).multicast_group()] {
        header.extend(octets(address));
    }
    header.extend((length as u32).to_be_bytes());
    header.extend([0, 0, 0, 112]);
    header
}

/// RFC 1071.
fn checksum(pseudo_header: &[u8], message: &[u8]) -> u16 {
    let words = pseudo_header.chunks(2).chain(message.chunks(2));
    let total: u32 = words
        .map(|word| u32::from(word[0]) << 8 | word.get(1).map_or(0, |low| u32::from(*low)))
        .sum();
    let folded = (total >> 16) + (total & 0xffff);
    !((folded >> 16) + (folded & 0xffff)) as u16
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().into(),
        IpAddr::V6(address) => address.octets().into(),
    }
}

/// The figure of RFC 9568, section 6.1, in nanoseconds.
fn skew_of_version_3(priority: u8, interval: Duration) -> Duration {
    let nanoseconds = (256 - u128::from(priority)) * interval.as_nanos() / 256;
    Duration::from_nanos(nanoseconds as u64)
}

/// That `message` is refused for `reason`, and that nothing changes by it, in any state.
fn assert_refused(family: Family, message: &[u8], hop_limit: u8, reason: Rejection) {
    for mut router in [
        Router::backup(family),
        Router::active(configuration(family, 100)),
    ] {
        let before = router.everything();
        let source = greater(family);
        assert_eq!(
            router.receive(message, source, hop_limit),
            Err(reason),
            "{family}"
        );
        assert_eq!(router.everything(), before, "{family}: {reason}");
    }
}

fn bytes(advert: &Advert, source: IpAddr) -> Vec<u8> {
    let group = Family::of(source).multicast_group();
    advert.to_bytes(source, group, ChecksumForm::PseudoHeader)
}

/// A good advert of a router that outranks ours.
fn good(family: Family) -> Vec<u8> {
    bytes(&advert(&configuration(family, 100), 200), greater(family))
}

mod section_5_1 {
    use super::*;

    #[test]
    fn a_hop_limit_other_than_255_is_discarded() {
        for family in FAMILIES {
            for hop_limit in 0..255 {
                assert_refused(family, &good(family), hop_limit, Rejection::TimeToLive);
            }
            let mut router = Router::backup(family);
            assert!(router.receive(&good(family), greater(family), 255).is_ok());
        }
    }
}

mod section_5_2 {
    use super::*;

    #[test]
    fn any_type_but_1_is_discarded() {
        for family in FAMILIES {
            for kind in (0..16).filter(|kind| *kind != 1) {
                let message = forged(&good(family), greater(family), &[(0, 0x30 | kind)]);
                assert_refused(family, &message, 255, Rejection::Type);
            }
        }
    }

    #[test]
    fn an_owner_says_255_whatever_is_tracked() {
        for family in FAMILIES {
            let mut router = Router::active(configuration(family, 255));
            router
                .instance
                .handle_priority(router.now, Priority::new(100).unwrap());
            router.wait(Duration::from_secs(1));
            router.instance.handle_timeout(router.now);
            assert_eq!(router.sent(), [255]);
        }
    }

    #[test]
    fn what_is_tracked_moves_a_priority_within_1_and_254() {
        for own in 1..=254 {
            let own = Priority::new(own).unwrap();
            for points in [-253, -100, 0, 100, 253, i32::MIN, i32::MAX] {
                assert!((1..=254).contains(&own.adjusted(points).get()));
            }
        }
        assert_eq!(Priority::OWNER.adjusted(-253), Priority::OWNER);
    }

    #[test]
    fn an_advert_without_addresses_is_ignored() {
        for family in FAMILIES {
            let message = forged(&good(family)[..8], greater(family), &[(3, 0)]);
            assert_refused(family, &message, 255, Rejection::AddressCount);
        }
    }

    #[test]
    fn the_reserved_bits_are_sent_as_zero() {
        for family in FAMILIES {
            let longest = interval(Version::V3, CENTISECOND * 4095);
            let advert = Advert {
                interval: longest,
                ..advert(&configuration(family, 100), 100)
            };
            assert_eq!(bytes(&advert, greater(family))[4..6], [0x0f, 0xff]);
        }
    }

    #[test]
    fn the_reserved_bits_are_not_looked_at() {
        for family in FAMILIES {
            let source = greater(family);
            for reserved in 0..16 {
                let mut router = Router::backup(family);
                let message = forged(&good(family), source, &[(4, reserved << 4)]);
                let heard = router.receive(&message, source, 255).unwrap();
                assert_eq!(heard.advert.interval.get(), Duration::from_secs(1));
            }
        }
    }

    #[test]
    fn over_ipv4_the_checksum_covers_the_message_alone_when_told_so() {
        let own = Configuration {
            checksum: ChecksumForm::MessageOnly,
            ..configuration(Family::Ipv4, 100)
        };
        let group = Family::Ipv4.multicast_group();
        let mut instance = Instance::new(own.clone());
        let message = instance.encode(&advert(&own, 100), group, SystemTime::UNIX_EPOCH);
        assert_eq!(message, forged_without_header(&message, &[]));
        let mut router = Router::backup(Family::Ipv4);
        let heard = router.receive(&message, greater(Family::Ipv4), 255);
        assert_eq!(heard.unwrap().form, ChecksumForm::MessageOnly);
    }

    #[test]
    fn over_ipv6_the_checksum_covers_the_pseudo_header() {
        let family = Family::Ipv6;
        let source = greater(family);
        let group = family.multicast_group();
        let advert = advert(&configuration(family, 100), 200);
        for form in [ChecksumForm::PseudoHeader, ChecksumForm::MessageOnly] {
            let message = advert.to_bytes(source, group, form);
            assert_eq!(message, forged(&message, source, &[]), "{form:?}");
        }
        let elsewhere = lesser(family);
        let message = advert.to_bytes(elsewhere, group, ChecksumForm::PseudoHeader);
        assert_refused(family, &message, 255, Rejection::Checksum);
        let message = advert.to_bytes(source, elsewhere, ChecksumForm::PseudoHeader);
        assert_refused(family, &message, 255, Rejection::Checksum);
    }

    #[test]
    fn over_ipv6_a_checksum_of_the_message_alone_is_wrong() {
        let message = forged_without_header(&good(Family::Ipv6), &[]);
        assert_refused(Family::Ipv6, &message, 255, Rejection::Checksum);
    }

    #[test]
    fn addresses_go_out_in_their_order_and_in_the_family_of_the_packet() {
        for family in FAMILIES {
            let mut router = Router::started(configuration(family, 255));
            router.wait(Duration::from_secs(1));
            router.instance.handle_timeout(router.now);
            let sent = router.actions();
            let Some(Action::SendAdvert(advert)) = sent.first() else {
                panic!("{sent:?}");
            };
            let message = bytes(advert, address(family, 10));
            let length = family.address_length();
            assert_eq!(message.len(), 8 + 2 * length);
            assert_eq!(message[8 + length - 1], 100);
            assert_eq!(message[8 + 2 * length - 1], 101);
        }
    }

    #[test]
    fn addresses_of_the_other_family_do_not_fit_the_packet() {
        let over_ipv6 = forged(&good(Family::Ipv4), greater(Family::Ipv6), &[]);
        assert_refused(Family::Ipv6, &over_ipv6, 255, Rejection::Length);
        let over_ipv4 = forged(&good(Family::Ipv6), greater(Family::Ipv4), &[]);
        assert_refused(Family::Ipv4, &over_ipv4, 255, Rejection::Length);
    }

    #[test]
    fn a_first_address_that_is_not_link_local_is_told() {
        let own = configuration(Family::Ipv6, 100);
        let global: IpAddr = "2001:db8::100".parse().unwrap();
        for (addresses, told) in [
            (vec![own.addresses[0], global], false),
            (vec![global, own.addresses[0]], true),
        ] {
            let mut router = Router::backup(Family::Ipv6);
            let advert = Advert {
                addresses,
                ..advert(&own, 200)
            };
            let heard = router.hear(&advert, greater(Family::Ipv6)).unwrap();
            assert_eq!(heard.first_address_not_link_local, told);
        }
    }
}

mod section_6_1 {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_interval_has_1_to_4095_centiseconds() {
        for centiseconds in 1..=4095 {
            assert!(AdvertInterval::new(Version::V3, CENTISECOND * centiseconds).is_some());
        }
        for wrong in [
            Duration::ZERO,
            CENTISECOND * 4096,
            Duration::from_millis(15),
            Duration::from_nanos(10_000_001),
        ] {
            assert_eq!(AdvertInterval::new(Version::V3, wrong), None, "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn skew_time_and_active_down_interval_are_exact(
            own in 1..=254_u8,
            own_centiseconds in 1..=4095_u32,
            theirs in 1..=4095_u32,
        ) {
            let configuration = Configuration {
                interval: interval(Version::V3, CENTISECOND * own_centiseconds),
                ..configuration(Family::Ipv4, own)
            };
            let mut router = Router::started(configuration.clone());
            let expected = |interval| interval * 3 + skew_of_version_3(own, interval);
            prop_assert_eq!(router.due(), Some(expected(CENTISECOND * own_centiseconds)));
            let advert = Advert {
                interval: interval(Version::V3, CENTISECOND * theirs),
                ..advert(&configuration, 254)
            };
            router.hear(&advert, lesser(Family::Ipv4)).unwrap();
            prop_assert_eq!(router.due(), Some(expected(CENTISECOND * theirs)));
        }
    }

    #[test]
    fn an_owner_is_active_though_it_may_not_preempt() {
        for family in FAMILIES {
            let own = Configuration {
                preempt: false,
                preempt_delay: Duration::from_secs(60),
                ..configuration(family, 255)
            };
            let mut router = Router::new(own);
            router.instance.handle_ready(false);
            router.instance.handle_start(router.now, false);
            assert_eq!(router.instance.state(), State::Active);
        }
    }

    /// As it may be where two claim to own the addresses.
    #[test]
    fn an_owner_that_had_to_yield_preempts_though_it_may_not() {
        for family in FAMILIES {
            let own = Configuration {
                preempt: false,
                ..configuration(family, 255)
            };
            let mut router = Router::active(own.clone());
            router.hear(&advert(&own, 255), greater(family)).unwrap();
            assert_eq!(router.instance.state(), State::Backup);
            router.sent();
            let deadline = router.instance.poll_timeout();
            router.wait(Duration::from_secs(1));
            router.hear(&advert(&own, 254), greater(family)).unwrap();
            assert_eq!(router.instance.poll_timeout(), deadline);
            router.expire();
            assert_eq!(router.sent(), [255]);
        }
    }

    #[test]
    fn whoever_may_not_preempt_follows_a_lower_active() {
        for family in FAMILIES {
            let own = Configuration {
                preempt: false,
                ..configuration(family, 100)
            };
            let mut router = Router::started(own.clone());
            for _ in 0..20 {
                router.wait(Duration::from_secs(1));
                router.instance.handle_timeout(router.now);
                router.hear(&advert(&own, 1), lesser(family)).unwrap();
            }
            assert_eq!(router.instance.state(), State::Backup);
            assert!(router.sent().is_empty());
        }
    }
}

mod section_6_4_1 {
    use super::*;

    #[test]
    fn an_owner_starts_as_active() {
        for family in FAMILIES {
            let mut router = Router::new(configuration(family, 255));
            router.instance.handle_start(router.now, false);
            assert_eq!(router.instance.state(), State::Active);
            let actions = router.actions();
            let [
                Action::AddAddresses,
                Action::SendAdvert(advert),
                Action::Announce,
                Action::Report(_),
            ] = &actions[..]
            else {
                panic!("{actions:?}");
            };
            assert_eq!(advert.priority, 255);
            assert_eq!(router.next_advert(), Duration::from_secs(1));
        }
    }

    #[test]
    fn any_other_starts_as_backup_and_waits_by_its_own_interval() {
        for family in FAMILIES {
            for priority in 1..=254 {
                let mut router = Router::new(configuration(family, priority));
                router.instance.handle_start(router.now, false);
                assert_eq!(router.instance.state(), State::Backup);
                let second = Duration::from_secs(1);
                let expected = second * 3 + skew_of_version_3(priority, second);
                assert_eq!(router.due(), Some(expected));
                assert!(matches!(router.actions()[..], [Action::Report(_)]));
            }
        }
    }
}

mod section_6_4_2 {
    use super::*;

    #[test]
    fn a_backup_takes_no_address_and_says_nothing() {
        for family in FAMILIES {
            let own = configuration(family, 100);
            let mut router = Router::started(own.clone());
            for priority in [200, 100, 99, 0, 255] {
                router.wait(CENTISECOND);
                router
                    .hear(&advert(&own, priority), greater(family))
                    .unwrap();
                assert_eq!(router.actions(), []);
            }
        }
    }

    #[test]
    fn a_backup_that_stops_is_silent() {
        for family in FAMILIES {
            let mut router = Router::backup(family);
            router.instance.handle_stop(router.now);
            assert_eq!(router.instance.state(), State::Initialize);
            assert!(router.sent().is_empty());
            assert_eq!(router.due(), None);
        }
    }

    #[test]
    fn after_the_active_down_interval_it_is_active() {
        for family in FAMILIES {
            let own = configuration(family, 100);
            let mut router = Router::started(own.clone());
            // The Active's interval decides how long to wait, the own one how often to send.
            let other = Advert {
                interval: interval(Version::V3, CENTISECOND * 20),
                ..advert(&own, 200)
            };
            router.hear(&other, greater(family)).unwrap();
            let wait = CENTISECOND * 60 + skew_of_version_3(100, CENTISECOND * 20);
            router.wait(wait - Duration::from_nanos(1));
            router.instance.handle_timeout(router.now);
            assert_eq!(router.instance.state(), State::Backup);
            assert_eq!(router.actions(), []);
            router.wait(Duration::from_nanos(1));
            router.instance.handle_timeout(router.now);
            assert_eq!(router.instance.state(), State::Active);
            let actions = router.actions();
            let [
                Action::AddAddresses,
                Action::SendAdvert(advert),
                Action::Announce,
                Action::Report(transition),
            ] = &actions[..]
            else {
                panic!("{actions:?}");
            };
            assert_eq!(advert.priority, 100);
            assert_eq!(advert.addresses, own.addresses);
            assert_eq!(transition.reason, Reason::NothingHeard);
            assert_eq!(router.next_advert(), Duration::from_secs(1));
        }
    }

    #[test]
    fn priority_0_leaves_it_the_skew_time() {
        for family in FAMILIES {
            let own = configuration(family, 100);
            let mut router = Router::started(own.clone());
            router.hear(&advert(&own, 200), greater(family)).unwrap();
            // Whatever interval the resignation names.
            let resignation = Advert {
                interval: interval(Version::V3, CENTISECOND),
                ..advert(&own, 0)
            };
            router.hear(&resignation, greater(family)).unwrap();
            let skew = skew_of_version_3(100, Duration::from_secs(1));
            assert_eq!(router.due(), Some(skew));
            router.expire();
            assert_eq!(router.instance.state(), State::Active);
        }
    }

    #[test]
    fn priority_0_is_no_reason_to_wait_longer_for_who_may_not_preempt() {
        for family in FAMILIES {
            let own = Configuration {
                preempt: false,
                ..configuration(family, 100)
            };
            let mut router = Router::started(own.clone());
            router.hear(&advert(&own, 0), greater(family)).unwrap();
            let skew = skew_of_version_3(100, Duration::from_secs(1));
            assert_eq!(router.due(), Some(skew));
        }
    }

    #[test]
    fn an_equal_or_higher_advert_is_followed_with_its_interval() {
        for family in FAMILIES {
            for (priority, source) in [
                (100, lesser(family)),
                (100, greater(family)),
                (101, lesser(family)),
                (255, greater(family)),
            ] {
                let own = configuration(family, 100);
                let mut router = Router::started(own.clone());
                router.wait(Duration::from_secs(3));
                let theirs = CENTISECOND * 250;
                let other = Advert {
                    interval: interval(Version::V3, theirs),
                    ..advert(&own, priority)
                };
                router.hear(&other, source).unwrap();
                let expected = theirs * 3 + skew_of_version_3(100, theirs);
                assert_eq!(router.due(), Some(expected));
            }
        }
    }

    /// Which the RFC doesn't know.
    #[test]
    fn an_interval_outside_the_bounds_is_taken_for_the_nearer_one() {
        for family in FAMILIES {
            let own = Configuration {
                accepted_intervals: AcceptedIntervals {
                    least: CENTISECOND * 10,
                    most: CENTISECOND * 1000,
                },
                ..configuration(family, 100)
            };
            for (theirs, taken) in [(1, 10), (10, 10), (1000, 1000), (4095, 1000)] {
                let mut router = Router::started(own.clone());
                let other = Advert {
                    interval: interval(Version::V3, CENTISECOND * theirs),
                    ..advert(&own, 200)
                };
                router.hear(&other, greater(family)).unwrap();
                let taken = CENTISECOND * taken;
                let expected = taken * 3 + skew_of_version_3(100, taken);
                assert_eq!(router.due(), Some(expected));
            }
        }
    }

    #[test]
    fn a_lower_advert_is_discarded_by_who_may_preempt() {
        for family in FAMILIES {
            let own = configuration(family, 100);
            let mut router = Router::started(own.clone());
            let deadline = router.instance.poll_timeout();
            for _ in 0..3 {
                router.wait(Duration::from_secs(1));
                let other = Advert {
                    interval: interval(Version::V3, CENTISECOND),
                    ..advert(&own, 99)
                };
                router.hear(&other, greater(family)).unwrap();
                assert_eq!(router.instance.poll_timeout(), deadline);
            }
            router.expire();
            assert_eq!(router.instance.state(), State::Active);
            assert_eq!(router.sent(), [100]);
        }
    }
}

mod section_6_4_3 {
    use super::*;

    #[test]
    fn an_active_that_stops_says_priority_0_and_then_nothing_else() {
        for family in FAMILIES {
            let own = configuration(family, 100);
            let mut router = Router::active(own.clone());
            router.instance.handle_stop(router.now);
            assert_eq!(router.sent(), [0]);
            while router.instance.state() != State::Initialize {
                router.expire();
            }
            let mut actions = router.actions();
            let sent: Vec<_> = actions
                .extract_if(.., |action| matches!(action, Action::SendAdvert(_)))
                .collect();
            let resigned =
                |action: &Action| matches!(action, Action::SendAdvert(Advert { priority: 0, .. }));
            assert!(sent.iter().all(resigned), "{sent:?}");
            assert!(
                matches!(actions[..], [Action::RemoveAddresses, Action::Report(_)]),
                "{actions:?}"
            );
            assert_eq!(router.due(), None);
        }
    }

    #[test]
    fn an_active_sends_an_advert_each_interval() {
        for family in FAMILIES {
            let mut router = Router::active(configuration(family, 100));
            for _ in 0..100 {
                assert_eq!(router.next_advert(), Duration::from_secs(1));
                router.wait(Duration::from_secs(1) - Duration::from_nanos(1));
                router.instance.handle_timeout(router.now);
                assert!(router.sent().is_empty());
                router.expire();
                assert_eq!(router.sent(), [100]);
            }
        }
    }

    #[test]
    fn priority_0_is_answered_and_the_timer_begins_anew() {
        for family in FAMILIES {
            let own = configuration(family, 100);
            for source in [lesser(family), greater(family)] {
                let mut router = Router::active(own.clone());
                router.wait(Duration::from_millis(700));
                router.hear(&advert(&own, 0), source).unwrap();
                assert_eq!(router.instance.state(), State::Active);
                assert_eq!(router.sent(), [100]);
                assert_eq!(router.next_advert(), Duration::from_secs(1));
            }
        }
    }

    #[test]
    fn a_higher_priority_or_a_larger_address_takes_over() {
        for family in FAMILIES {
            for (priority, source) in [
                (101, lesser(family)),
                (255, lesser(family)),
                (100, greater(family)),
            ] {
                let own = configuration(family, 100);
                let mut router = Router::active(own.clone());
                let theirs = CENTISECOND * 37;
                let other = Advert {
                    interval: interval(Version::V3, theirs),
                    ..advert(&own, priority)
                };
                router.hear(&other, source).unwrap();
                assert_eq!(router.instance.state(), State::Backup);
                let actions = router.actions();
                let [
                    Action::SendAdvert(last),
                    Action::RemoveAddresses,
                    Action::Report(_),
                ] = &actions[..]
                else {
                    panic!("{actions:?}");
                };
                // It may be all that the winner ever hears of it.
                assert_eq!(last.priority, 100);
                let expected = theirs * 3 + skew_of_version_3(100, theirs);
                assert_eq!(router.due(), Some(expected));
            }
        }
    }

    #[test]
    fn addresses_are_compared_as_unsigned_numbers() {
        let ipv4 = |first: u8| IpAddr::from([first, 0, 0, 1]);
        let ipv6 = |last: u16| IpAddr::from([0xfe80, 0, 0, 0, last, 0, 0, 1]);
        for (own, other) in [
            (ipv4(9), ipv4(10)),
            (ipv4(127), ipv4(128)),
            (ipv6(9), ipv6(10)),
            (ipv6(0x7fff), ipv6(0x8000)),
        ] {
            for (own, other, after) in [(own, other, State::Backup), (other, own, State::Active)] {
                let configuration = Configuration {
                    primary_address: own,
                    ..configuration(Family::of(own), 100)
                };
                let mut router = Router::active(configuration.clone());
                router.hear(&advert(&configuration, 100), other).unwrap();
                assert_eq!(router.instance.state(), after, "{own} hears {other}");
            }
        }
    }

    #[test]
    fn a_lower_priority_or_a_smaller_address_is_answered_at_once() {
        for family in FAMILIES {
            for (priority, source) in [
                (99, greater(family)),
                (1, greater(family)),
                (100, lesser(family)),
            ] {
                let own = configuration(family, 100);
                let mut router = Router::active(own.clone());
                router.wait(Duration::from_millis(700));
                let other = Advert {
                    interval: interval(Version::V3, CENTISECOND),
                    ..advert(&own, priority)
                };
                router.hear(&other, source).unwrap();
                assert_eq!(router.instance.state(), State::Active);
                assert_eq!(router.sent(), [100]);
                assert_eq!(router.next_advert(), Duration::from_secs(1));
            }
        }
    }

    #[test]
    fn an_active_yields_whether_or_not_it_may_preempt() {
        for family in FAMILIES {
            for preempt in [false, true] {
                let own = Configuration {
                    preempt,
                    ..configuration(family, 100)
                };
                for (priority, after) in [(101, State::Backup), (99, State::Active)] {
                    let mut router = Router::active(own.clone());
                    router
                        .hear(&advert(&own, priority), lesser(family))
                        .unwrap();
                    assert_eq!(router.instance.state(), after);
                }
            }
        }
    }
}

mod section_7_1 {
    use super::*;

    #[test]
    fn any_version_but_3_is_discarded() {
        for family in FAMILIES {
            for version in (0..16).filter(|version| ![2, 3].contains(version)) {
                let message = forged(&good(family), greater(family), &[(0, version << 4 | 1)]);
                assert_refused(family, &message, 255, Rejection::Version);
            }
        }
        let own = configuration(Family::Ipv4, 100);
        let message = bytes(&advert(&version_2(100), 200), greater(Family::Ipv4));
        assert_refused(own.family(), &message, 255, Rejection::Version);
    }

    #[test]
    fn an_incomplete_packet_is_discarded() {
        for family in FAMILIES {
            let whole = good(family);
            for length in 0..whole.len() {
                let mut message = whole[..length].to_vec();
                if length >= 8 {
                    message = forged(&message, greater(family), &[]);
                }
                assert_refused(family, &message, 255, Rejection::Length);
            }
        }
    }

    #[test]
    fn every_bit_counts_for_the_checksum() {
        for family in FAMILIES {
            let whole = good(family);
            // Version, type and count are looked at first, and refused for themselves.
            for bit in (8..whole.len() * 8).filter(|bit| bit / 8 != 3) {
                let mut message = whole.clone();
                message[bit / 8] ^= 1 << (bit % 8);
                assert_refused(family, &message, 255, Rejection::Checksum);
            }
        }
    }

    #[test]
    fn another_virtual_router_is_discarded() {
        for family in FAMILIES {
            for other in (0..=255).filter(|other| *other != 7) {
                let message = forged(&good(family), greater(family), &[(1, other)]);
                assert_refused(family, &message, 255, Rejection::VirtualRouter);
            }
        }
    }

    #[test]
    fn an_interval_of_0_is_discarded() {
        for family in FAMILIES {
            for reserved in [0, 0xf0] {
                let message = forged(&good(family), greater(family), &[(4, reserved), (5, 0)]);
                assert_refused(family, &message, 255, Rejection::Interval);
            }
        }
    }

    #[test]
    fn an_owner_hears_others_so_that_two_owners_settle() {
        for family in FAMILIES {
            let own = configuration(family, 255);
            let mut router = Router::active(own.clone());
            router.hear(&advert(&own, 255), lesser(family)).unwrap();
            assert_eq!(router.sent(), [255]);
            router.hear(&advert(&own, 255), greater(family)).unwrap();
            assert_eq!(router.instance.state(), State::Backup);
        }
    }

    #[test]
    fn another_interval_is_told_and_no_reason_to_discard() {
        for family in FAMILIES {
            let own = configuration(family, 100);
            let mut router = Router::started(own.clone());
            let other = Advert {
                interval: interval(Version::V3, CENTISECOND * 99),
                ..advert(&own, 200)
            };
            let heard = router.hear(&other, greater(family)).unwrap();
            assert!(heard.interval_differs);
            assert_eq!(
                router.due(),
                Some(CENTISECOND * 297 + skew_of_version_3(100, CENTISECOND * 99))
            );
            let heard = router.hear(&advert(&own, 200), greater(family)).unwrap();
            assert!(!heard.interval_differs);
        }
    }

    #[test]
    fn other_addresses_are_told_and_no_reason_to_discard() {
        for family in FAMILIES {
            let own = configuration(family, 100);
            let mut router = Router::started(own.clone());
            for (addresses, differ) in [
                (vec![own.addresses[0]], true),
                (vec![own.addresses[0], address(family, 102)], true),
                (own.addresses.clone(), false),
            ] {
                router.wait(Duration::from_secs(1));
                let other = Advert {
                    addresses,
                    ..advert(&own, 200)
                };
                let heard = router.hear(&other, greater(family)).unwrap();
                assert_eq!(heard.addresses_differ, differ);
                let expected = Duration::from_nanos(3_609_375_000);
                assert_eq!(router.due(), Some(expected));
            }
        }
    }

    #[test]
    fn own_adverts_that_come_back_are_discarded() {
        for family in FAMILIES {
            let own = configuration(family, 100);
            for mut router in [Router::backup(family), Router::active(own.clone())] {
                let before = router.everything();
                let heard = router.hear(&advert(&own, 100), own.primary_address);
                assert_eq!(heard, Err(Rejection::OwnAddress));
                assert_eq!(router.everything(), before);
            }
        }
    }
}

mod section_7_2 {
    use super::*;

    #[test]
    fn every_field_comes_from_the_configuration() {
        for family in FAMILIES {
            let own = Configuration {
                virtual_router: VirtualRouterId::new(201).unwrap(),
                interval: interval(Version::V3, CENTISECOND * 0x123),
                ..configuration(family, 37)
            };
            let mut instance = Instance::new(own.clone());
            instance.handle_start(Instant::now(), false);
            let deadline = instance.poll_timeout().unwrap();
            instance.handle_timeout(deadline);
            let sent =
                core::iter::from_fn(|| instance.poll_action()).find_map(|action| match action {
                    Action::SendAdvert(advert) => Some(advert),
                    _ => None,
                });
            let group = family.multicast_group();
            let message = instance.encode(&sent.unwrap(), group, SystemTime::UNIX_EPOCH);
            let mut expected = vec![0x31, 201, 37, 2, 0x01, 0x23, 0, 0];
            expected.extend(own.addresses.iter().copied().flat_map(octets));
            assert_eq!(message, forged(&expected, own.primary_address, &[]));
        }
    }

    #[test]
    fn adverts_go_to_the_group_of_their_family() {
        for (family, group) in [(Family::Ipv4, "224.0.0.18"), (Family::Ipv6, "ff02::12")] {
            let destinations = configuration(family, 100).destinations();
            assert_eq!(destinations, [group.parse::<IpAddr>().unwrap()]);
        }
        assert_eq!(super::super::IP_PROTOCOL, 112);
        assert_eq!(super::super::TIME_TO_LIVE, 255);
    }
}

mod section_7_3 {
    use super::*;

    #[test]
    fn a_virtual_mac_has_the_family_and_the_number() {
        let virtual_router = VirtualRouterId::new(0xc9).unwrap();
        let of = |family: Family| family.virtual_mac(virtual_router);
        assert_eq!(of(Family::Ipv4), [0, 0, 0x5e, 0, 1, 0xc9]);
        assert_eq!(of(Family::Ipv6), [0, 0, 0x5e, 0, 2, 0xc9]);
    }
}

mod section_8_3 {
    use super::*;

    #[test]
    fn a_second_owner_is_told() {
        for family in FAMILIES {
            for (own, theirs, told) in [
                (255, 255, true),
                (255, 254, false),
                (255, 0, false),
                (254, 255, false),
            ] {
                let own = configuration(family, own);
                let mut router = Router::started(own.clone());
                let heard = router.hear(&advert(&own, theirs), lesser(family)).unwrap();
                assert_eq!(heard.second_owner, told, "{theirs}");
            }
        }
    }
}

mod section_8_4 {
    use super::*;

    fn version_3_that_also_accepts_2() -> Configuration {
        Configuration {
            also_accept: AlsoAccept {
                version: Some(Version::V2),
                password: None,
            },
            ..configuration(Family::Ipv4, 100)
        }
    }

    #[test]
    fn the_seconds_of_a_version_2_active_are_followed() {
        for seconds in [1, 3, 20] {
            let mut router = Router::started(version_3_that_also_accepts_2());
            let theirs = Duration::from_secs(seconds);
            let other = Advert {
                interval: interval(Version::V2, theirs),
                ..advert(&version_2(200), 200)
            };
            router.hear(&other, lesser(Family::Ipv4)).unwrap();
            let expected = theirs * 3 + skew_of_version_3(100, theirs);
            assert_eq!(router.due(), Some(expected));
        }
    }

    #[test]
    fn version_2_is_heard_only_where_it_was_asked_for() {
        let other = advert(&version_2(200), 200);
        let mut router = Router::backup(Family::Ipv4);
        let heard = router.hear(&other, lesser(Family::Ipv4));
        assert_eq!(heard, Err(Rejection::Version));
        let mut router = Router::active(version_3_that_also_accepts_2());
        router.hear(&other, lesser(Family::Ipv4)).unwrap();
        assert_eq!(router.instance.state(), State::Backup);
    }

    #[test]
    fn it_is_never_sent_besides() {
        let mut router = Router::active(version_3_that_also_accepts_2());
        for _ in 0..10 {
            router.expire();
            for action in router.actions() {
                if let Action::SendAdvert(advert) = action {
                    assert_eq!(advert.version, Version::V3);
                }
            }
        }
    }
}

/// RFC 3768 where it differs from RFC 9568.
mod rfc_3768 {
    use super::*;

    const SOURCE: fn() -> IpAddr = || greater(Family::Ipv4);

    fn with_password(text: &str) -> Configuration {
        Configuration {
            authentication: Authentication::Password(Password::new(text).unwrap()),
            ..version_2(100)
        }
    }

    fn refused(own: &Configuration, message: &[u8], reason: Rejection) {
        for mut router in [Router::started(own.clone()), Router::active(own.clone())] {
            let before = router.everything();
            assert_eq!(router.receive(message, SOURCE(), 255), Err(reason));
            assert_eq!(router.everything(), before);
        }
    }

    fn message(own: &Configuration) -> Vec<u8> {
        bytes(&advert(own, 200), SOURCE())
    }

    #[test]
    fn a_good_advert_is_followed() {
        for own in [version_2(100), with_password("s3cr3t")] {
            let mut router = Router::started(own.clone());
            router.wait(Duration::from_secs(2));
            router.receive(&message(&own), SOURCE(), 255).unwrap();
            assert_eq!(router.due(), Some(Duration::from_nanos(3_609_375_000)));
        }
    }

    #[test]
    fn any_version_but_2_is_discarded() {
        let own = version_2(100);
        for version in (0..16).filter(|version| ![2, 3].contains(version)) {
            let message = forged_without_header(&message(&own), &[(0, version << 4 | 1)]);
            refused(&own, &message, Rejection::Version);
        }
        refused(&own, &good(Family::Ipv4), Rejection::Version);
    }

    #[test]
    fn there_is_none_over_ipv6() {
        let message = forged(&message(&version_2(100)), greater(Family::Ipv6), &[]);
        assert_refused(Family::Ipv6, &message, 255, Rejection::Version);
    }

    #[test]
    fn the_checksum_covers_the_message_with_its_authentication_data() {
        for own in [version_2(100), with_password("s3cr3t")] {
            let whole = message(&own);
            assert_eq!(whole, forged_without_header(&whole, &[]));
            for bit in (8..whole.len() * 8).filter(|bit| bit / 8 != 3) {
                let mut message = whole.clone();
                message[bit / 8] ^= 1 << (bit % 8);
                refused(&own, &message, Rejection::Checksum);
            }
            let over_pseudo_header = forged(&whole, SOURCE(), &[]);
            refused(&own, &over_pseudo_header, Rejection::Checksum);
        }
    }

    #[test]
    fn a_packet_without_all_its_authentication_data_is_discarded() {
        for own in [version_2(100), with_password("s3cr3t")] {
            let whole = message(&own);
            assert_eq!(whole.len(), 8 + 2 * 4 + 8);
            for length in 0..whole.len() {
                let mut message = whole[..length].to_vec();
                if length >= 8 {
                    message = forged_without_header(&message, &[]);
                }
                refused(&own, &message, Rejection::Length);
            }
        }
    }

    #[test]
    fn another_authentication_type_is_discarded() {
        let (plain, password) = (version_2(100), with_password("s3cr3t"));
        refused(&plain, &message(&password), Rejection::AuthenticationType);
        refused(&password, &message(&plain), Rejection::AuthenticationType);
        for own in [plain, password] {
            for kind in 2..=255 {
                let message = forged_without_header(&message(&own), &[(4, kind)]);
                refused(&own, &message, Rejection::AuthenticationType);
            }
        }
    }

    #[test]
    fn another_password_is_discarded() {
        let own = with_password("s3cr3t");
        for other in ["s3cr3", "s3cr3t7", "S3cr3t", ""] {
            refused(&own, &message(&with_password(other)), Rejection::Password);
        }
    }

    #[test]
    fn authentication_data_without_a_type_is_sent_as_zero_and_not_looked_at() {
        let own = version_2(100);
        let mut whole = vec![0xa5; 24];
        let group = Family::Ipv4.multicast_group();
        advert(&own, 200).emit(&mut whole, SOURCE(), group, ChecksumForm::MessageOnly);
        assert_eq!(whole[16..], [0; 8]);
        let changes: Vec<_> = (16..24).zip(b"anything".iter().copied()).collect();
        let mut router = Router::started(own);
        assert!(
            router
                .receive(&forged_without_header(&whole, &changes), SOURCE(), 255)
                .is_ok()
        );
    }

    #[test]
    fn another_interval_is_discarded() {
        let own = version_2(100);
        for seconds in (0..=255).filter(|seconds| *seconds != 1) {
            let message = forged_without_header(&message(&own), &[(5, seconds)]);
            refused(&own, &message, Rejection::Interval);
        }
    }

    #[test]
    fn an_owner_discards_others() {
        let own = version_2(255);
        let mut router = Router::active(own.clone());
        let before = router.everything();
        let heard = router.receive(&message(&own), SOURCE(), 255);
        assert_eq!(heard, Err(Rejection::Owner));
        assert_eq!(router.everything(), before);
    }

    #[test]
    fn skew_time_is_a_part_of_a_second_whatever_the_interval() {
        for priority in 1..=254_u8 {
            for seconds in [1, 3, 255] {
                let own = Configuration {
                    interval: interval(Version::V2, Duration::from_secs(seconds)),
                    ..version_2(priority)
                };
                let skew = (256 - u64::from(priority)) * 1_000_000_000 / 256;
                let mut router = Router::started(own.clone());
                let expected = Duration::from_nanos(seconds * 3_000_000_000 + skew);
                assert_eq!(router.due(), Some(expected));
                router.hear(&advert(&own, 0), SOURCE()).unwrap();
                assert_eq!(router.due(), Some(Duration::from_nanos(skew)));
            }
        }
    }

    #[test]
    fn an_interval_has_1_to_255_whole_seconds() {
        for seconds in 1..=255 {
            assert!(AdvertInterval::new(Version::V2, Duration::from_secs(seconds)).is_some());
        }
        for wrong in [0, 999, 1_500, 256_000] {
            let wrong = Duration::from_millis(wrong);
            assert_eq!(AdvertInterval::new(Version::V2, wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn other_addresses_are_told_and_no_reason_to_discard() {
        let own = version_2(100);
        let mut router = Router::started(own.clone());
        let other = Advert {
            addresses: vec![address(Family::Ipv4, 99)],
            ..advert(&own, 200)
        };
        assert!(router.hear(&other, SOURCE()).unwrap().addresses_differ);
    }

    #[test]
    fn a_lower_advert_is_answered_at_once_as_in_version_3() {
        let own = version_2(100);
        let mut router = Router::active(own.clone());
        router.hear(&advert(&own, 99), SOURCE()).unwrap();
        assert_eq!(router.sent(), [100]);
    }
}
