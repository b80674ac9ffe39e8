#![allow(clippy::unwrap_used)]
use super::*;
use core::net::Ipv4Addr;

use crate::vrrp::{
    AcceptedIntervals, AdvertInterval, AlsoAccept, Announcements, Password, VirtualRouterId,
};

const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 56, 181));
const LARGER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 56, 182));
const SMALLER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 56, 180));
const INTERVAL: Duration = Duration::from_millis(100);

fn configuration(priority: u8) -> Configuration {
    Configuration {
        version: Version::V3,
        virtual_router: VirtualRouterId::new(50).unwrap(),
        priority: Priority::new(priority).unwrap(),
        interval: AdvertInterval::new(Version::V3, INTERVAL).unwrap(),
        accepted_intervals: AcceptedIntervals {
            least: Duration::from_millis(10),
            most: Duration::from_secs(10),
        },
        addresses: vec![Ipv4Addr::new(192, 168, 56, 185).into()],
        preempt: true,
        preempt_delay: Duration::ZERO,
        authentication: Authentication::None,
        also_accept: AlsoAccept::default(),
        peers: Peers::Multicast,
        checksum: ChecksumForm::PseudoHeader,
        primary_address: OWN,
        announcements: Announcements {
            burst: 1,
            second_after: None,
            refresh: None,
        },
    }
}

fn version_2(priority: u8, password: Option<&str>) -> Configuration {
    Configuration {
        version: Version::V2,
        interval: AdvertInterval::new(Version::V2, Duration::from_secs(1)).unwrap(),
        authentication: password.map_or(Authentication::None, |text| {
            Authentication::Password(Password::new(text).unwrap())
        }),
        ..configuration(priority)
    }
}

fn advert(priority: u8) -> Advert {
    Advert {
        priority,
        ..Instance::new(configuration(1)).resignation()
    }
}

/// Over the wire, from another router.
fn hear(
    instance: &mut Instance,
    now: Instant,
    source: IpAddr,
    advert: &Advert,
) -> Result<Heard, Rejection> {
    let destination = Family::of(source).multicast_group();
    let message = advert.to_bytes(source, destination, ChecksumForm::PseudoHeader);
    let datagram = Datagram {
        source,
        destination,
        hop_limit: 255,
        message: &message,
    };
    instance.handle_datagram(now, SystemTime::UNIX_EPOCH, &datagram)
}

fn actions(instance: &mut Instance) -> Vec<Action> {
    std::iter::from_fn(|| instance.poll_action()).collect()
}

fn backup(priority: u8, now: Instant) -> Instance {
    let mut instance = Instance::new(configuration(priority));
    instance.handle_ready(true);
    instance.handle_start(now, false);
    actions(&mut instance);
    instance
}

fn active(priority: u8, now: Instant) -> Instance {
    let mut instance = backup(priority, now);
    instance.handle_timeout(instance.poll_timeout().unwrap());
    actions(&mut instance);
    assert_eq!(instance.state(), State::Active);
    instance
}

fn transition(from: State, to: State, reason: Reason) -> Action {
    Action::Report(Transition { from, to, reason })
}

#[test]
fn a_backup_becomes_active_exactly_at_active_down() {
    let start = Instant::now();
    let mut instance = backup(200, start);
    let down = INTERVAL * 3 + INTERVAL * 56 / 256;
    assert_eq!(instance.poll_timeout(), Some(start + down));
    instance.handle_timeout(start + down - Duration::from_nanos(1));
    assert_eq!(instance.state(), State::Backup);
    instance.handle_timeout(start + down);
    assert_eq!(
        actions(&mut instance),
        [
            Action::AddAddresses,
            Action::SendAdvert(advert(200)),
            Action::Announce,
            transition(State::Backup, State::Active, Reason::NothingHeard),
        ]
    );
    assert_eq!(instance.poll_timeout(), Some(start + down + INTERVAL));
}

#[test]
fn an_active_advertises_without_drift() {
    let start = Instant::now();
    let mut instance = active(200, start);
    let first = instance.poll_timeout().unwrap();
    let late = first + Duration::from_millis(7);
    instance.handle_timeout(late);
    assert_eq!(actions(&mut instance), [Action::SendAdvert(advert(200))]);
    assert_eq!(instance.poll_timeout(), Some(first + INTERVAL));
    let stalled = late + INTERVAL * 3;
    instance.handle_timeout(stalled);
    assert_eq!(actions(&mut instance), [Action::SendAdvert(advert(200))]);
    assert_eq!(instance.poll_timeout(), Some(stalled + INTERVAL));
}

#[test]
fn a_higher_or_equal_advert_restarts_active_down_with_the_peers_interval() {
    let start = Instant::now();
    let mut instance = backup(100, start);
    let second = Duration::from_secs(1);
    let slow = Advert {
        interval: AdvertInterval::new(Version::V3, second).unwrap(),
        ..advert(100)
    };
    hear(&mut instance, start, SMALLER, &slow).unwrap();
    let down = second * 3 + second * 156 / 256;
    assert_eq!(instance.poll_timeout(), Some(start + down));
    assert_eq!(actions(&mut instance), []);
}

#[test]
fn a_lower_advert_is_preempted_only_when_ready_and_willing() {
    let start = Instant::now();
    let later = start + Duration::from_millis(50);
    for (ready, preempt, restarted) in [
        (true, true, false),
        (false, true, true),
        (true, false, true),
    ] {
        let mut instance = Instance::new(Configuration {
            preempt,
            ..configuration(200)
        });
        instance.handle_ready(ready);
        instance.handle_start(start, false);
        let before = instance.poll_timeout();
        hear(&mut instance, later, LARGER, &advert(150)).unwrap();
        assert_eq!(
            instance.poll_timeout() != before,
            restarted,
            "{ready} {preempt}"
        );
    }
}

/// What would be preempted was heard a moment ago, and would have been followed as things are now.
#[test]
fn a_preemption_ends_with_what_allowed_it() {
    let start = Instant::now();
    let later = start + INTERVAL * 3;
    let changes: [fn(&mut Instance, Instant); 3] = [
        |instance, _| instance.handle_ready(false),
        |instance, now| instance.handle_priority(now, Priority::new(140).unwrap()),
        |instance, now| instance.handle_handover(now, Aside::UntilReleased),
    ];
    for change in changes {
        let mut instance = backup(200, start);
        hear(&mut instance, later, LARGER, &advert(150)).unwrap();
        change(&mut instance, later);
        let due = instance.poll_timeout().unwrap();
        instance.handle_timeout(due);
        assert_eq!(instance.state(), State::Backup);
        let down = instance.active_down_interval();
        assert_eq!(instance.poll_timeout(), Some(later + down));
        instance.handle_timeout(later + down);
        let (_, last) = instance.last_transition().unwrap();
        assert_eq!(last.reason, Reason::NothingHeard);
    }
}

#[test]
fn priority_0_shortens_the_wait_to_the_skew_time() {
    let start = Instant::now();
    let mut instance = backup(150, start);
    let heard = start + Duration::from_millis(20);
    hear(&mut instance, heard, LARGER, &advert(0)).unwrap();
    let skew = INTERVAL * 106 / 256;
    assert_eq!(instance.poll_timeout(), Some(heard + skew));
    instance.handle_timeout(heard + skew);
    let last = actions(&mut instance).pop().unwrap();
    assert_eq!(
        last,
        transition(State::Backup, State::Active, Reason::ActiveLeft)
    );
}

/// Whoever hands over lets go at the advert of the next Active.
#[test]
fn the_lan_is_told_before_the_one_that_leaves() {
    let start = Instant::now();
    let mut instance = backup(150, start);
    hear(&mut instance, start, LARGER, &advert(0)).unwrap();
    instance.handle_timeout(start + INTERVAL);
    let actions = actions(&mut instance);
    let in_order = matches!(
        actions[..],
        [
            Action::AddAddresses,
            Action::Announce,
            Action::SendAdvert(_),
            Action::Report(_)
        ]
    );
    assert!(in_order, "{actions:?}");
}

/// A router that hands over repeats itself with its own interval, which may be shorter than the skew
/// time here.
#[test]
fn priority_0_again_delays_nothing() {
    let start = Instant::now();
    let mut instance = backup(150, start);
    let heard = start + Duration::from_millis(20);
    for repeated in 0..4 {
        let now = heard + Duration::from_millis(10) * repeated;
        hear(&mut instance, now, LARGER, &advert(0)).unwrap();
    }
    assert_eq!(instance.poll_timeout(), Some(heard + INTERVAL * 106 / 256));
    let slept = heard + INTERVAL * 10;
    hear(&mut instance, slept, LARGER, &advert(0)).unwrap();
    assert_eq!(instance.poll_timeout(), Some(slept + INTERVAL * 106 / 256));
}

#[test]
fn an_active_yields_to_a_higher_priority_and_to_a_larger_address() {
    let start = Instant::now();
    for (priority, source, yields) in [
        (201, SMALLER, true),
        (200, LARGER, true),
        (200, SMALLER, false),
        (199, LARGER, false),
        (0, LARGER, false),
    ] {
        let mut instance = active(200, start);
        hear(&mut instance, start, source, &advert(priority)).unwrap();
        let expected = if yields {
            let reason = Reason::Outranked {
                by: source,
                priority,
            };
            vec![
                Action::SendAdvert(advert(200)),
                Action::RemoveAddresses,
                transition(State::Active, State::Backup, reason),
            ]
        } else {
            vec![Action::SendAdvert(advert(200)), Action::Announce]
        };
        assert_eq!(actions(&mut instance), expected, "{priority} from {source}");
    }
}

#[test]
fn equal_priorities_compare_addresses_as_unsigned_numbers() {
    let start = Instant::now();
    let mut instance = active(200, start);
    hear(
        &mut instance,
        start,
        Ipv4Addr::new(10, 255, 255, 255).into(),
        &advert(200),
    )
    .unwrap();
    assert_eq!(instance.state(), State::Active);
    hear(
        &mut instance,
        start,
        Ipv4Addr::new(223, 0, 0, 1).into(),
        &advert(200),
    )
    .unwrap();
    assert_eq!(instance.state(), State::Backup);
}

#[test]
fn stopping_says_so_only_as_active() {
    let start = Instant::now();
    let mut instance = active(200, start);
    instance.handle_stop(start);
    assert_eq!(actions(&mut instance), [Action::SendAdvert(advert(0))]);
    assert_eq!(instance.ownership(), Ownership::HandingOver);
    let heard = start + Duration::from_millis(42);
    hear(&mut instance, heard, SMALLER, &advert(150)).unwrap();
    assert_eq!(
        actions(&mut instance),
        [],
        "what is on its way is still answered"
    );
    let due = instance.poll_timeout().unwrap();
    assert_eq!(due, heard + LINGER);
    instance.handle_timeout(due);
    let stopped = transition(State::Active, State::Initialize, Reason::Stopped);
    assert_eq!(actions(&mut instance), [Action::RemoveAddresses, stopped]);
    assert_eq!(instance.poll_timeout(), None);

    let mut instance = backup(200, start);
    instance.handle_stop(start);
    let stopped = transition(State::Backup, State::Initialize, Reason::Stopped);
    assert_eq!(actions(&mut instance), [stopped]);
}

#[test]
fn a_stop_that_nobody_answers_ends_and_a_second_one_ends_it_at_once() {
    let start = Instant::now();
    let mut instance = active(200, start);
    let asked = instance.poll_timeout().unwrap();
    instance.handle_stop(asked);
    let mut resignations = 0;
    while let Some(due) = instance.poll_timeout() {
        assert!(due <= asked + Duration::from_secs(1));
        instance.handle_timeout(due);
        let said = actions(&mut instance);
        resignations += usize::from(said.contains(&Action::SendAdvert(advert(0))));
        assert!(!said.contains(&Action::SendAdvert(advert(200))));
    }
    assert_eq!(instance.state(), State::Initialize);
    // One at once and every 150 ms; the first two are taken together.
    assert_eq!(resignations, 6);

    let mut instance = active(200, start);
    instance.handle_stop(asked);
    instance.handle_stop(asked);
    assert_eq!(instance.state(), State::Initialize);
}

/// Others than ours start their skew time anew at each priority 0: the last one must still have time,
/// and a second chance if the first was lost.
#[test]
fn the_lowest_backup_of_any_make_takes_over_from_one_that_hands_over() {
    let start = Instant::now();
    let cases = [
        (Version::V3, 10, 10),
        (Version::V3, 100, 100),
        (Version::V3, 1_000, 1_000),
        (Version::V3, 40_950, 40_950),
        (Version::V2, 1_000, 1_000),
        (Version::V2, 255_000, 1_000),
    ];
    for (version, interval, unit) in cases {
        let interval = AdvertInterval::new(version, Duration::from_millis(interval)).unwrap();
        let skew = Duration::from_millis(unit) * 255 / 256;
        let late = skew / 4;
        for lost in 0..2 {
            let mut instance = Instance::new(Configuration {
                version,
                interval,
                ..configuration(200)
            });
            instance.handle_start(start, false);
            let asked = instance.poll_timeout().unwrap();
            instance.handle_timeout(asked);
            instance.handle_handover(asked, Aside::UntilReleased);
            let limit = asked + Duration::from_secs(1).max(Duration::from_millis(unit) * 3);
            let (mut now, mut due, mut heard) = (asked, None, 0);
            let took_over = loop {
                if actions(&mut instance).contains(&Action::SendAdvert(instance.resignation())) {
                    heard += 1;
                    due = (heard > lost).then_some(now + skew + late);
                }
                assert_eq!(instance.ownership(), Ownership::HandingOver);
                let next = instance.poll_timeout().unwrap();
                match due {
                    Some(due) if due <= next => break due,
                    _ => now = next,
                }
                instance.handle_timeout(now);
            };
            assert!(took_over < limit, "{version:?} {interval:?} {lost}");
        }
    }
}

#[test]
fn a_handover_stands_aside_until_released() {
    let start = Instant::now();
    let mut instance = active(200, start);
    let asked = instance.poll_timeout().unwrap();
    instance.handle_handover(asked, Aside::UntilReleased);
    hear(&mut instance, asked, SMALLER, &advert(150)).unwrap();
    instance.handle_timeout(instance.poll_timeout().unwrap());
    assert_eq!(instance.state(), State::Backup);
    let (_, last) = instance.last_transition().unwrap();
    assert_eq!(last.reason, Reason::HandedOver { to: SMALLER });
    let mut now = asked;
    for _ in 0..20 {
        now += INTERVAL;
        hear(&mut instance, now, SMALLER, &advert(150)).unwrap();
        instance.handle_timeout(now);
        assert_eq!(instance.state(), State::Backup);
    }
    instance.handle_release();
    for _ in 0..4 {
        now += INTERVAL;
        hear(&mut instance, now, SMALLER, &advert(150)).unwrap();
        instance.handle_timeout(now);
    }
    assert_eq!(instance.state(), State::Active);
}

/// Or a router with a short interval would take back from one with a long interval at once.
#[test]
fn a_handover_follows_the_interval_of_the_next_active() {
    let start = Instant::now();
    let mut instance = active(200, start);
    let asked = instance.poll_timeout().unwrap();
    instance.handle_handover(asked, Aside::UntilReleased);
    let second = Duration::from_secs(1);
    let slow = Advert {
        interval: AdvertInterval::new(Version::V3, second).unwrap(),
        ..advert(150)
    };
    hear(&mut instance, asked, LARGER, &slow).unwrap();
    let ends = instance.poll_timeout().unwrap();
    instance.handle_timeout(ends);
    assert_eq!(instance.state(), State::Backup);
    let down = second * 3 + second * 56 / 256;
    assert_eq!(instance.poll_timeout(), Some(ends + down));
}

#[test]
fn a_handover_that_nobody_answers_changes_nothing() {
    let start = Instant::now();
    let mut instance = active(200, start);
    let asked = instance.poll_timeout().unwrap();
    instance.handle_handover(asked, Aside::UntilReleased);
    let mut said = Vec::new();
    while instance.ownership() == Ownership::HandingOver {
        instance.handle_timeout(instance.poll_timeout().unwrap());
        said.extend(actions(&mut instance));
    }
    assert_eq!(instance.state(), State::Active);
    assert_eq!(said.pop(), Some(Action::HandoverUnanswered));
    assert!(!said.contains(&Action::RemoveAddresses));
}

#[test]
fn an_active_that_was_stopped_steps_down_before_it_sends() {
    let start = Instant::now();
    let limit = active(200, start).stall_limit();
    assert_eq!(limit, INTERVAL * 3 + INTERVAL * 2 / 256);
    type Event = fn(&mut Instance, Instant);
    let events: [Event; 5] = [
        |instance, now| instance.handle_timeout(now),
        |instance, now| {
            hear(instance, now, SMALLER, &advert(100)).unwrap();
        },
        |instance, now| instance.handle_stop(now),
        |instance, now| instance.handle_priority(now, Priority::new(190).unwrap()),
        |instance, now| instance.handle_handover(now, Aside::UntilReleased),
    ];
    for event in events {
        let mut instance = active(200, start);
        let sent = instance.poll_timeout().unwrap() - INTERVAL;
        assert!(!instance.has_stalled(sent + limit));
        let woken = sent + limit + Duration::from_nanos(1);
        assert!(instance.has_stalled(woken));
        event(&mut instance, woken);
        let said = actions(&mut instance);
        assert_eq!(said[0], Action::RemoveAddresses);
        assert!(
            !said
                .iter()
                .any(|action| matches!(action, Action::SendAdvert(_)))
        );
        assert_ne!(instance.state(), State::Active);
    }
}

#[test]
fn a_backup_that_was_stopped_listens_once_more() {
    let start = Instant::now();
    let mut instance = backup(200, start);
    let down = instance.active_down_interval();
    let woken = start + down * 2;
    instance.handle_timeout(woken);
    assert_eq!(instance.state(), State::Backup);
    assert_eq!(instance.poll_timeout(), Some(woken + down));
    instance.handle_timeout(woken + down);
    assert_eq!(instance.state(), State::Active);
}

#[test]
fn a_fault_gives_up_at_once_and_recovery_begins_anew() {
    let start = Instant::now();
    let mut instance = active(200, start);
    let later = instance.poll_timeout().unwrap();
    instance.handle_fault(later, Fault::LinkDown, true);
    let lost = Reason::Fault(Fault::LinkDown);
    assert_eq!(
        actions(&mut instance),
        [
            Action::SendAdvert(advert(0)),
            Action::RemoveAddresses,
            transition(State::Active, State::Fault, lost),
        ]
    );
    hear(&mut instance, later, SMALLER, &advert(0)).unwrap();
    assert_eq!(instance.poll_timeout(), None);
    instance.handle_fault(later, Fault::Tracking, true);
    instance.handle_fault(later, Fault::LinkDown, false);
    assert_eq!(instance.state(), State::Fault);
    instance.handle_fault(later, Fault::Tracking, false);
    assert_eq!(instance.state(), State::Backup);
    let down = instance.active_down_interval();
    assert_eq!(instance.poll_timeout(), Some(later + down));
}

#[test]
fn a_lower_active_is_left_alone_for_the_preemption_delay() {
    let start = Instant::now();
    let mut instance = Instance::new(Configuration {
        preempt_delay: Duration::from_secs(2),
        ..configuration(200)
    });
    instance.handle_ready(true);
    instance.handle_start(start, false);
    let mut now = start;
    while instance.state() == State::Backup {
        now += INTERVAL;
        hear(&mut instance, now, LARGER, &advert(150)).unwrap();
        instance.handle_timeout(now);
        assert!(now < start + Duration::from_secs(5));
    }
    let waited = now - start;
    assert!(waited >= Duration::from_millis(2_300) && waited < Duration::from_millis(2_600));
}

#[test]
fn the_priority_in_force_is_what_is_sent_and_compared() {
    let start = Instant::now();
    let mut instance = active(200, start);
    let later = instance.poll_timeout().unwrap();
    instance.handle_priority(later, Priority::new(120).unwrap());
    assert_eq!(actions(&mut instance), [Action::SendAdvert(advert(120))]);
    let mut raised = configuration(210);
    raised.announcements.burst = 2;
    instance.handle_configuration(later, raised);
    assert_eq!(instance.priority().get(), 130);
    hear(&mut instance, later, SMALLER, &advert(150)).unwrap();
    assert_eq!(instance.state(), State::Backup);
}

#[test]
fn a_foreign_interval_is_followed_within_bounds() {
    let start = Instant::now();
    let bounds = AcceptedIntervals {
        least: Duration::from_millis(50),
        most: Duration::from_millis(400),
    };
    for (said, followed) in [(10, 50), (50, 50), (200, 200), (40_950, 400)] {
        let mut instance = Instance::new(Configuration {
            accepted_intervals: bounds,
            ..configuration(100)
        });
        instance.handle_start(start, false);
        let interval = AdvertInterval::new(Version::V3, Duration::from_millis(said)).unwrap();
        let heard = Advert {
            interval,
            ..advert(200)
        };
        hear(&mut instance, start, LARGER, &heard).unwrap();
        let followed = Duration::from_millis(followed);
        let down = followed * 3 + followed * 156 / 256;
        assert_eq!(instance.poll_timeout(), Some(start + down));
    }
}

#[test]
fn unicast_listens_to_peers_near_enough_only() {
    let start = Instant::now();
    let mut instance = Instance::new(Configuration {
        peers: Peers::Unicast {
            addresses: vec![LARGER],
            minimum_hop_limit: 254,
        },
        ..configuration(100)
    });
    instance.handle_start(start, false);
    let mut deliver = |source, destination: IpAddr, hop_limit| {
        let message = advert(200).to_bytes(source, destination, ChecksumForm::PseudoHeader);
        let datagram = Datagram {
            source,
            destination,
            hop_limit,
            message: &message,
        };
        instance
            .handle_datagram(start, SystemTime::UNIX_EPOCH, &datagram)
            .map(|_| ())
    };
    let group = Family::Ipv4.multicast_group();
    assert_eq!(deliver(LARGER, group, 255), Err(Rejection::Destination));
    assert_eq!(deliver(LARGER, OWN, 253), Err(Rejection::TimeToLive));
    assert_eq!(deliver(SMALLER, OWN, 255), Err(Rejection::Peer));
    assert_eq!(deliver(LARGER, OWN, 254), Ok(()));
    let mut instance = backup(100, start);
    let message = advert(200).to_bytes(LARGER, OWN, ChecksumForm::PseudoHeader);
    let datagram = Datagram {
        source: LARGER,
        destination: OWN,
        hop_limit: 255,
        message: &message,
    };
    let heard = instance.handle_datagram(start, SystemTime::UNIX_EPOCH, &datagram);
    assert_eq!(heard, Err(Rejection::Destination));
}

#[test]
fn a_pair_is_changed_one_at_a_time() {
    let start = Instant::now();
    let second = AdvertInterval::new(Version::V2, Duration::from_secs(1)).unwrap();
    let old = |password: Option<&str>| Advert {
        version: Version::V2,
        interval: second,
        password: password.map(|text| Password::new(text).unwrap()),
        ..advert(200)
    };
    let outcome = |configuration: &Configuration, heard: &Advert| {
        let mut instance = Instance::new(configuration.clone());
        instance.handle_start(start, false);
        hear(&mut instance, start, LARGER, heard).map(|_| ())
    };
    let new_password = Configuration {
        also_accept: AlsoAccept {
            version: None,
            password: Some(Password::new("old").unwrap()),
        },
        ..version_2(100, Some("new"))
    };
    assert_eq!(outcome(&new_password, &old(Some("new"))), Ok(()));
    assert_eq!(outcome(&new_password, &old(Some("old"))), Ok(()));
    assert_eq!(
        outcome(&new_password, &old(Some("other"))),
        Err(Rejection::Password)
    );
    assert_eq!(
        outcome(&new_password, &old(None)),
        Err(Rejection::AuthenticationType)
    );
    let new_version = Configuration {
        also_accept: AlsoAccept {
            version: Some(Version::V2),
            password: Some(Password::new("old").unwrap()),
        },
        ..configuration(100)
    };
    assert_eq!(outcome(&new_version, &old(Some("old"))), Ok(()));
    assert_eq!(outcome(&new_version, &advert(200)), Ok(()));
    assert_eq!(
        outcome(&new_version, &old(None)),
        Err(Rejection::AuthenticationType)
    );
    let old_version = Configuration {
        also_accept: AlsoAccept {
            version: Some(Version::V3),
            password: None,
        },
        ..version_2(100, Some("old"))
    };
    assert_eq!(outcome(&old_version, &advert(200)), Ok(()));
    assert_eq!(
        outcome(&old_version, &old(None)),
        Err(Rejection::AuthenticationType)
    );
    let strict = version_2(100, Some("old"));
    assert_eq!(outcome(&strict, &advert(200)), Err(Rejection::Version));
}

#[test]
fn what_is_odd_about_an_advert_is_said() {
    let start = Instant::now();
    let mut instance = backup(100, start);
    let heard = hear(&mut instance, start, LARGER, &advert(200)).unwrap();
    assert!(!heard.addresses_differ && !heard.interval_differs);
    let mut other = advert(200);
    other
        .addresses
        .push(Ipv4Addr::new(192, 168, 56, 186).into());
    other.interval = AdvertInterval::new(Version::V3, INTERVAL * 2).unwrap();
    let heard = hear(&mut instance, start, LARGER, &other).unwrap();
    assert!(heard.addresses_differ && heard.interval_differs);
    assert_eq!(instance.active().unwrap().interval, INTERVAL * 2);
}

#[test]
fn found_addresses_are_kept_until_another_active_is_heard() {
    let start = Instant::now();
    let adopting = || {
        let mut instance = Instance::new(configuration(200));
        instance.handle_ready(true);
        instance.handle_start(start, true);
        actions(&mut instance);
        assert_eq!(instance.ownership(), Ownership::Adopting);
        instance
    };
    let mut instance = adopting();
    hear(&mut instance, start, LARGER, &advert(150)).unwrap();
    assert_eq!(actions(&mut instance), [Action::RemoveAddresses]);
    let mut instance = adopting();
    instance.handle_timeout(instance.poll_timeout().unwrap());
    assert_eq!(instance.ownership(), Ownership::Held);
    let mut instance = adopting();
    instance.handle_stop(start);
    assert_eq!(actions(&mut instance)[0], Action::RemoveAddresses);
}

#[test]
fn an_owner_is_active_at_once() {
    let mut instance = Instance::new(configuration(255));
    instance.handle_start(Instant::now(), false);
    assert_eq!(instance.state(), State::Active);
}

#[test]
fn what_the_configuration_forbids_changes_nothing() {
    let start = Instant::now();
    let second = AdvertInterval::new(Version::V2, Duration::from_secs(1)).unwrap();
    let peer = |password: Option<&str>| Advert {
        version: Version::V2,
        interval: second,
        password: password.map(|text| Password::new(text).unwrap()),
        ..advert(254)
    };
    let two_seconds = AdvertInterval::new(Version::V2, Duration::from_secs(2)).unwrap();
    let other = VirtualRouterId::new(51).unwrap();
    let cases = [
        (configuration(100), LARGER, peer(None), Rejection::Version),
        (
            configuration(100),
            LARGER,
            Advert {
                virtual_router: other,
                ..advert(254)
            },
            Rejection::VirtualRouter,
        ),
        (configuration(100), OWN, advert(254), Rejection::OwnAddress),
        (
            version_2(100, Some("a")),
            LARGER,
            peer(None),
            Rejection::AuthenticationType,
        ),
        (
            version_2(100, None),
            LARGER,
            peer(Some("a")),
            Rejection::AuthenticationType,
        ),
        (
            version_2(100, Some("a")),
            LARGER,
            peer(Some("b")),
            Rejection::Password,
        ),
        (
            version_2(100, None),
            LARGER,
            Advert {
                interval: two_seconds,
                ..peer(None)
            },
            Rejection::Interval,
        ),
        (version_2(255, None), LARGER, peer(None), Rejection::Owner),
    ];
    for (configuration, source, advert, rejection) in cases {
        let mut instance = Instance::new(configuration);
        instance.handle_start(start, true);
        if let Some(due) = instance.poll_timeout() {
            instance.handle_timeout(due);
        }
        actions(&mut instance);
        let deadline = instance.poll_timeout();
        let later = start + Duration::from_millis(500);
        assert_eq!(hear(&mut instance, later, source, &advert), Err(rejection));
        assert_eq!(actions(&mut instance), []);
        assert_eq!(
            (instance.state(), instance.poll_timeout()),
            (State::Active, deadline)
        );
    }
}

#[test]
fn announcements_are_repeated() {
    let start = Instant::now();
    let mut instance = Instance::new(Configuration {
        announcements: Announcements {
            burst: 2,
            ..Announcements::default()
        },
        ..configuration(200)
    });
    instance.handle_start(start, false);
    let promoted = instance.poll_timeout().unwrap();
    let mut announced = Vec::new();
    while announced.len() < 6 {
        let now = instance.poll_timeout().unwrap();
        instance.handle_timeout(now);
        if actions(&mut instance).contains(&Action::Announce) {
            announced.push((now - promoted).as_millis());
        }
    }
    assert_eq!(announced, [0, 20, 5_000, 5_020, 65_020, 125_020]);
}

/// The other one's announcements have moved the LAN; ours move it back.
#[test]
fn an_active_that_meets_another_announces_again_but_not_without_end() {
    let start = Instant::now();
    let mut instance = Instance::new(Configuration {
        announcements: Announcements {
            second_after: None,
            refresh: None,
            ..Announcements::default()
        },
        ..configuration(200)
    });
    instance.handle_start(start, false);
    instance.handle_timeout(instance.poll_timeout().unwrap());
    actions(&mut instance);
    let met = instance.poll_timeout().unwrap();
    let mut announced = Vec::new();
    for milliseconds in 0..2_500 {
        let now = met + Duration::from_millis(milliseconds);
        hear(&mut instance, now, LARGER, &advert(150)).unwrap();
        instance.handle_timeout(now);
        if actions(&mut instance).contains(&Action::Announce) {
            announced.push(milliseconds);
        }
    }
    let bursts = [0, 1_000, 2_000].map(|begun| [0, 20, 40, 60, 80].map(|round| begun + round));
    assert_eq!(announced, bursts.concat());
}

#[test]
fn a_backup_keeps_the_interval_it_heard_through_a_new_configuration() {
    let start = Instant::now();
    let mut instance = backup(100, start);
    let second = AdvertInterval::new(Version::V3, Duration::from_secs(1)).unwrap();
    let slow = Advert {
        interval: second,
        ..advert(200)
    };
    hear(&mut instance, start, LARGER, &slow).unwrap();
    let deadline = instance.poll_timeout();
    let reloaded = start + Duration::from_millis(200);
    instance.handle_configuration(reloaded, configuration(100));
    assert_eq!(instance.poll_timeout(), deadline);
}

#[test]
fn a_new_configuration_never_delays_a_takeover() {
    let start = Instant::now();
    let mut instance = backup(100, start);
    hear(&mut instance, start, LARGER, &advert(0)).unwrap();
    let deadline = instance.poll_timeout();
    instance.handle_configuration(start, configuration(100));
    assert_eq!(instance.poll_timeout(), deadline);
}

#[test]
fn a_new_configuration_keeps_the_state() {
    let start = Instant::now();
    let mut instance = active(200, start);
    let mut changed = configuration(180);
    changed
        .addresses
        .push(Ipv4Addr::new(192, 168, 56, 186).into());
    instance.handle_configuration(start, changed.clone());
    let advert = Advert {
        addresses: changed.addresses,
        ..advert(180)
    };
    assert_eq!(
        actions(&mut instance),
        [
            Action::AddAddresses,
            Action::SendAdvert(advert),
            Action::Announce,
        ]
    );
    assert_eq!(instance.state(), State::Active);
}

#[test]
fn only_signed_adverts_change_anything_where_they_are_demanded() {
    let start = Instant::now();
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let id = hmac::KeyId::new(1).unwrap();
    let signed = |secret: u8, source: IpAddr, family: Family| {
        let keys = [(id, hmac::Key::new([secret; 32]).unwrap())].into();
        let window = Duration::from_secs(5);
        let hmac = hmac::Configuration::new(hmac::Mode::Enforce, id, keys, window).unwrap();
        let addresses = match family {
            Family::Ipv4 => vec![IpAddr::from([192, 168, 56, 185])],
            Family::Ipv6 => vec!["fe80::185".parse().unwrap()],
        };
        Instance::new(Configuration {
            authentication: Authentication::Hmac(hmac),
            primary_address: source,
            addresses,
            ..configuration(100)
        })
    };
    for (ours, theirs) in [
        (OWN, LARGER),
        ("fe80::1".parse().unwrap(), "fe80::2".parse().unwrap()),
    ] {
        let family = Family::of(ours);
        let destination = family.multicast_group();
        let mut instance = signed(7, ours, family);
        instance.handle_start(start, false);
        let deadline = instance.poll_timeout();
        let mut receive = |message: &[u8]| {
            let datagram = Datagram {
                source: theirs,
                destination,
                hop_limit: 255,
                message,
            };
            let outcome = instance.handle_datagram(start + INTERVAL, wall, &datagram);
            (outcome.map(|_| ()), instance.poll_timeout())
        };
        let mut peer = signed(7, theirs, family);
        let advert = Advert {
            priority: 200,
            ..peer.resignation()
        };
        let plain = advert.to_bytes(theirs, destination, ChecksumForm::PseudoHeader);
        assert_eq!(receive(&plain), (Err(Rejection::TrailerMissing), deadline));
        let forged = signed(8, theirs, family).encode(&advert, destination, wall);
        assert_eq!(receive(&forged), (Err(Rejection::TrailerCode), deadline));
        let good = peer.encode(&advert, destination, wall);
        let (outcome, renewed) = receive(&good);
        assert_eq!(outcome, Ok(()));
        assert_ne!(renewed, deadline);
        assert_eq!(receive(&good).0, Err(Rejection::TrailerReplayed));
        assert!(instance.active().unwrap().authenticated);
    }
}

/// The skew time of priority 150 is 106/256 of an interval (RFC 9568, section 6.1).
#[test]
fn each_advert_says_how_near_it_came_to_being_too_late() {
    let start = Instant::now();
    let mut instance = backup(150, start);
    let mut silence = |after, source, priority| {
        let heard = hear(&mut instance, start + after, source, &advert(priority));
        heard.unwrap().silence
    };
    let limit = INTERVAL * 3 + INTERVAL * 106 / 256;
    let lasted = INTERVAL * 5 / 2;
    assert_eq!(silence(INTERVAL, LARGER, 200), None);
    let seen = silence(INTERVAL + lasted, LARGER, 200).unwrap();
    assert_eq!(seen, Silence { lasted, limit });
    assert!((seen.ratio() - 250.0 / 341.406_25).abs() < 1e-6, "{seen:?}");
    // Of another one, of one that leaves, and of one that is taken over from.
    assert_eq!(silence(INTERVAL * 4, SMALLER, 200), None);
    assert_eq!(silence(INTERVAL * 5, SMALLER, 0), None);
    assert_eq!(silence(INTERVAL * 5, SMALLER, 100), None);
}
