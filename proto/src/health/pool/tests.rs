#![allow(clippy::unwrap_used)]
use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

const RULES: PoolRules = PoolRules {
    quorum: Quorum {
        servers: 1,
        hysteresis: 0,
    },
    floor: Floor::Servers(1),
    at_once: Duration::from_secs(2),
    maximum_weight: u16::MAX,
    slow_start: None,
    latency: None,
};

const MEMBER: Member = Member {
    weight: 1,
    verdict: Verdict::Healthy,
    hand: Hand::Enabled,
    agent: Percent::ALL,
    serial: Percent::ALL,
    latency: None,
};

/// A pool at work, with a clock of its own.
struct Play {
    pool: Pool<char>,
    rules: PoolRules,
    members: BTreeMap<char, Member>,
    now: Instant,
}

impl Play {
    fn of(names: &str, rules: PoolRules) -> Self {
        Self {
            pool: Pool::new(),
            rules,
            members: names.chars().map(|name| (name, MEMBER)).collect(),
            now: Instant::now(),
        }
    }

    fn set(&mut self, name: char, change: impl FnOnce(&mut Member)) -> Outcome<char> {
        change(self.members.get_mut(&name).unwrap());
        self.decide()
    }

    fn judge(&mut self, name: char, verdict: Verdict) -> Outcome<char> {
        self.set(name, |member| member.verdict = verdict)
    }

    fn fail(&mut self, names: &str) -> Outcome<char> {
        for name in names.chars() {
            self.judge(name, Verdict::Unhealthy);
        }
        self.decide()
    }

    fn pass(&mut self, names: &str) -> Outcome<char> {
        for name in names.chars() {
            self.judge(name, Verdict::Healthy);
        }
        self.decide()
    }

    fn wait(&mut self, time: Duration) -> Outcome<char> {
        self.now += time;
        self.decide()
    }

    fn decide(&mut self) -> Outcome<char> {
        self.pool.decide(&self.rules, &self.members, self.now)
    }
}

/// Who takes queries.
fn taking(outcome: &Outcome<char>) -> String {
    let present = |one: &&(&char, &Decision)| one.1.share == Share::Present && one.1.weight > 0;
    let servers: Vec<_> = outcome.servers.iter().collect();
    servers
        .iter()
        .filter(present)
        .map(|(name, _)| **name)
        .collect()
}

fn weights(outcome: &Outcome<char>) -> Vec<u16> {
    outcome.servers.values().map(|one| one.weight).collect()
}

#[test]
fn everything_failing_at_once_keeps_the_last_good_set() {
    let mut play = Play::of("abcd", RULES);
    play.decide();
    // One that died long before isn't of the last good set.
    assert_eq!(taking(&play.fail("d")), "abc");
    play.wait(SECOND * 60);
    assert_eq!(taking(&play.fail("a")), "bc");
    play.wait(SECOND / 2);
    assert_eq!(taking(&play.fail("b")), "c");
    play.wait(SECOND / 2);
    let outcome = play.fail("c");
    assert_eq!(taking(&outcome), "abc");
    assert!(outcome.floor);
    assert_eq!((outcome.healthy, outcome.quorum), (0, Some(false)));
    // For as long as it takes.
    assert_eq!(taking(&play.wait(SECOND * 3600)), "abc");
    // When one returns it is used alone.
    let outcome = play.pass("b");
    assert_eq!(taking(&outcome), "b");
    assert!(!outcome.floor);
    assert_eq!((outcome.healthy, outcome.quorum), (1, Some(true)));
    // When that one fails again, the others were long gone.
    play.wait(SECOND * 60);
    assert_eq!(taking(&play.fail("b")), "b");
}

#[test]
fn a_pool_that_was_never_good_is_empty() {
    let mut play = Play::of("ab", RULES);
    for member in play.members.values_mut() {
        member.verdict = Verdict::Unknown;
    }
    let outcome = play.decide();
    assert!(
        outcome
            .servers
            .values()
            .all(|one| one.share == Share::AsFound)
    );
    assert_eq!((outcome.quorum, outcome.sorry), (None, Share::AsFound));
    let outcome = play.fail("ab");
    assert_eq!(taking(&outcome), "");
    assert_eq!(
        (outcome.quorum, outcome.sorry),
        (Some(false), Share::Present)
    );
    assert!(!outcome.floor);
    // Only who was good is kept.
    play.pass("a");
    assert_eq!(taking(&play.fail("a")), "a");
}

#[test]
fn checks_leave_the_floor_and_the_latest_to_fail_fills_it() {
    let mut play = Play::of(
        "abcd",
        PoolRules {
            floor: Floor::Part(Percent::new(50)),
            ..RULES
        },
    );
    play.decide();
    for (failing, left) in [("a", "bcd"), ("b", "cd"), ("c", "cd")] {
        assert_eq!(taking(&play.fail(failing)), left);
        play.wait(SECOND * 60);
    }
    let outcome = play.decide();
    assert!(outcome.floor && outcome.servers[&'c'].kept && !outcome.servers[&'d'].kept);
    assert_eq!(outcome.healthy, 1, "the quorum counts nobody who is kept");
    assert_eq!(taking(&play.pass("a")), "ad");
    play.rules.floor = Floor::Servers(0);
    let outcome = play.fail("ad");
    assert_eq!(taking(&outcome), "");
    assert_eq!(outcome.sorry, Share::Present);
}

#[test]
fn the_hand_is_obeyed_whatever_the_floor_is() {
    let mut play = Play::of("ab", RULES);
    play.decide();
    let outcome = play.set('a', |one| one.hand = Hand::Drained);
    assert_eq!(outcome.servers[&'a'].share, Share::Present);
    assert_eq!((taking(&outcome).as_str(), outcome.healthy), ("b", 1));
    let outcome = play.set('b', |one| one.hand = Hand::Disabled);
    assert_eq!(outcome.servers[&'b'].share, Share::Absent);
    assert_eq!(
        (taking(&outcome).as_str(), outcome.quorum),
        ("", Some(false))
    );
    assert_eq!(outcome.sorry, Share::Present);
    // A drained server that dies goes.
    let outcome = play.fail("a");
    assert_eq!(outcome.servers[&'a'].share, Share::Absent);
    let outcome = play.set('a', |one| one.hand = Hand::Enabled);
    assert_eq!(taking(&outcome), "a", "the floor keeps it now");
    let outcome = play.set('a', |one| one.agent = Percent::NONE);
    assert_eq!(taking(&outcome), "", "what a server says of itself");
    // What is known of a disabled server makes no difference.
    let outcome = play.judge('b', Verdict::Unknown);
    assert_eq!(outcome.servers[&'b'].share, Share::Absent);
}

#[test]
fn a_server_behind_with_its_zones_leaves_down_to_the_floor() {
    let mut play = Play::of(
        "abc",
        PoolRules {
            floor: Floor::Servers(2),
            ..RULES
        },
    );
    play.decide();
    let behind = |play: &mut Play, name| play.set(name, |one| one.serial = Percent::NONE);
    assert_eq!(taking(&behind(&mut play, 'a')), "bc");
    play.wait(SECOND * 60);
    // It answers at least, which the one that failed later doesn't.
    let outcome = play.fail("b");
    assert_eq!(taking(&outcome), "ac");
    assert!(outcome.servers[&'a'].kept);
    assert_eq!(outcome.servers[&'a'].weight, 1);
    let half = play.set('c', |one| one.serial = Percent::new(50));
    assert_eq!(weights(&half)[0] / weights(&half)[2], 2);
}

#[test]
fn quorum_is_lost_below_and_regained_above() {
    let mut play = Play::of(
        "abcd",
        PoolRules {
            quorum: Quorum {
                servers: 2,
                hysteresis: 1,
            },
            ..RULES
        },
    );
    for member in play.members.values_mut() {
        member.verdict = Verdict::Unknown;
    }
    let mut seen = vec![play.decide().quorum];
    for (name, verdict) in [
        ('a', Verdict::Healthy),
        ('b', Verdict::Healthy),
        ('c', Verdict::Healthy),
        ('d', Verdict::Unhealthy),
        ('a', Verdict::Unhealthy),
        ('b', Verdict::Unhealthy),
        ('b', Verdict::Healthy),
        ('a', Verdict::Healthy),
    ] {
        seen.push(play.judge(name, verdict).quorum);
    }
    let (yes, no) = (Some(true), Some(false));
    assert_eq!(seen, [None, None, yes, yes, yes, yes, no, no, yes]);
}

#[test]
fn a_server_that_returns_climbs_its_ramp_and_nobody_else_does() {
    let mut play = Play::of(
        "abc",
        PoolRules {
            slow_start: Some(SECOND * 10),
            ..RULES
        },
    );
    for member in play.members.values_mut() {
        member.verdict = Verdict::Unknown;
    }
    play.decide();
    let outcome = play.pass("abc");
    assert_eq!(
        weights(&outcome),
        [1, 1, 1],
        "who was found working goes on"
    );
    assert_eq!(outcome.next, None);
    play.fail("a");
    play.wait(SECOND);
    let mut outcome = play.pass("a");
    let began = play.now;
    let mut seen = Vec::new();
    while let Some(next) = outcome.next {
        let [a, b, c] = weights(&outcome)[..] else {
            panic!()
        };
        assert_eq!(b, c);
        seen.push(u32::from(a) * 100 / u32::from(b));
        play.now = next;
        outcome = play.decide();
    }
    assert_eq!(seen, [5, 10, 20, 30, 40, 50, 60, 70, 80, 90]);
    assert_eq!(weights(&outcome), [1, 1, 1]);
    assert_eq!(play.now - began, SECOND * 10);

    // By hand and as a new server it is the same, and one that was kept never was away.
    play.set('b', |one| one.hand = Hand::Drained);
    let outcome = play.set('b', |one| one.hand = Hand::Enabled);
    assert_eq!(weights(&outcome), [100, 5, 100]);
    play.wait(SECOND * 10);
    play.members.insert(
        'd',
        Member {
            verdict: Verdict::Unknown,
            ..MEMBER
        },
    );
    play.decide();
    assert_eq!(weights(&play.pass("d")), [100, 100, 100, 5]);
    play.wait(SECOND * 10);
    play.fail("abcd");
    play.wait(SECOND * 60);
    assert_eq!(weights(&play.pass("a")), [1, 1, 1, 1]);
    play.wait(SECOND);
    assert_eq!(weights(&play.pass("bcd")), [1, 1, 1, 1]);
    play.fail("abcd");
    play.wait(SECOND * 60);
    play.pass("a");
    play.wait(SECOND * 60);
    assert_eq!(
        weights(&play.pass("b"))[..2],
        [100, 5],
        "it was away in between"
    );
}

#[test]
fn a_slow_server_gives_weight_away_step_by_step_and_gets_it_back() {
    let latency = LatencyRules {
        smoothing: SECOND * 10,
        dead_band: Percent::new(20),
        largest_step: Percent::new(20),
    };
    let mut play = Play::of(
        "abc",
        PoolRules {
            latency: Some(latency),
            ..RULES
        },
    );
    for name in "abc".chars() {
        play.set(name, |one| one.latency = Some(Duration::from_millis(10)));
    }
    assert_eq!(weights(&play.decide()), [1, 1, 1]);
    assert_eq!(play.decide().next, None);
    let follow = |play: &mut Play, mut outcome: Outcome<char>| {
        let began = play.now;
        let mut seen = vec![outcome.servers[&'a'].factors.latency.get()];
        while let Some(next) = outcome.next {
            play.now = next;
            outcome = play.decide();
            seen.push(outcome.servers[&'a'].factors.latency.get());
        }
        (seen, play.now - began)
    };
    let outcome = play.set('a', |one| one.latency = Some(Duration::from_millis(48)));
    let (seen, took) = follow(&mut play, outcome);
    assert_eq!(seen, [80, 60, 40, 25]);
    assert_eq!(took, SECOND * 3);
    assert_eq!(weights(&play.decide()), [25, 100, 100]);
    play.wait(SECOND * 5);
    let outcome = play.set('a', |one| one.latency = Some(Duration::from_millis(9)));
    let (seen, _) = follow(&mut play, outcome);
    assert_eq!(seen, [45, 65, 85, 100]);
    assert_eq!(weights(&play.decide()), [1, 1, 1]);
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        1 => Just(Verdict::Unknown),
        3 => Just(Verdict::Healthy),
        3 => Just(Verdict::Unhealthy)
    ]
}

fn hand() -> impl Strategy<Value = Hand> {
    prop_oneof![
        6 => Just(Hand::Enabled),
        1 => Just(Hand::Drained),
        1 => Just(Hand::Disabled)
    ]
}

fn member() -> impl Strategy<Value = Member> {
    let percent = || prop_oneof![3 => Just(Percent::ALL), 1 => (0..100_u64).prop_map(Percent::new)];
    let latency = prop::option::of((1..100_u64).prop_map(Duration::from_millis));
    (0..4_u16, verdict(), hand(), percent(), percent(), latency).prop_map(
        |(weight, verdict, hand, agent, serial, latency)| Member {
            weight,
            verdict,
            hand,
            agent,
            serial,
            latency,
        },
    )
}

fn rules() -> impl Strategy<Value = PoolRules> {
    let floor = prop_oneof![
        (1..4_usize).prop_map(Floor::Servers),
        (1..=100_u64).prop_map(|percent| Floor::Part(Percent::new(percent)))
    ];
    (floor, any::<bool>(), any::<bool>(), 0..3_usize).prop_map(
        |(floor, ramp, latency, hysteresis)| PoolRules {
            floor,
            quorum: Quorum {
                servers: 2,
                hysteresis,
            },
            slow_start: ramp.then_some(SECOND * 10),
            latency: latency.then_some(LatencyRules {
                smoothing: SECOND,
                dead_band: Percent::new(20),
                largest_step: Percent::new(10),
            }),
            ..RULES
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn whatever_happens_the_promises_are_kept(
        rules in rules(),
        events in prop::collection::vec((0..6_usize, member(), 0..5_000_u64), 1..60),
    ) {
        let mut play = Play::of("abcdef", rules);
        for member in play.members.values_mut() {
            member.verdict = Verdict::Unknown;
        }
        let mut was_good = [false; 6];
        for (index, member, pause) in events {
            let name = char::from(b'a' + u8::try_from(index).unwrap());
            was_good[index] |= member.is_good();
            play.members.insert(name, member);
            let outcome = play.wait(Duration::from_millis(pause));
            let each = || play.members.values().zip(outcome.servers.values());

            // Never empty once good: as many as the floor says of those that ever were.
            let willing = each().filter(|(member, _)| member.is_willing()).count();
            let floor = rules.floor.of(willing);
            let once_good = each().zip(was_good).filter(|((member, _), was_good)| {
                member.is_willing() && (*was_good || member.verdict == Verdict::Unknown)
            });
            let remaining = each().filter(|(member, decision)| {
                member.is_willing() && decision.share != Share::Absent
            });
            prop_assert!(remaining.count() >= floor.min(once_good.count()));
            for (member, decision) in each() {
                // Nobody who should take queries is starved, and nobody who shouldn't gets any.
                if decision.share == Share::Present {
                    prop_assert_eq!(decision.weight > 0, member.is_willing());
                    prop_assert!(member.is_good() || decision.kept);
                }
                prop_assert!(!decision.kept || member.is_willing() && !member.is_good());
                prop_assert!(member.hand != Hand::Disabled || decision.share == Share::Absent);
            }
            let healthy = each().filter(|(member, _)| member.is_willing() && member.is_good());
            prop_assert_eq!(outcome.healthy, healthy.count());
            prop_assert!(outcome.next.is_none_or(|next| next > play.now));
            let same = play.decide();
            prop_assert_eq!(&outcome, &same, "deciding changes nothing by itself");
        }
    }
}
