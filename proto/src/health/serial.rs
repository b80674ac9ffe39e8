//! Zones' serial numbers: which servers of a zone are behind, and for how long.
//!
//! Numbers are compared as RFC 1982 says. The *head* is the most advanced serial that any server has
//! told of lately; whoever has it is ahead, and never lags. How far a server is behind is the difference
//! to the head, and since when is the time at which the head first went past it: a secondary that follows
//! a busy primary at a distance isn't behind for ever.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// Whether `one` comes before `other`. Of two that are 2^31 apart neither does (RFC 1982, section 3.2).
pub fn is_behind(one: u32, other: u32) -> bool {
    (1..1 << 31).contains(&other.wrapping_sub(one))
}

/// How far behind a server may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LagRules {
    /// By so much.
    pub maximum_lag: Option<u32>,
    /// For so long.
    pub maximum_time: Option<Duration>,
    /// What a server told counts for so long.
    pub memory: Duration,
}

/// How a server stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What it told last.
    pub serial: u32,
    /// How far the head is ahead of it.
    pub lag: u32,
    /// Since when.
    pub since: Option<Instant>,
    /// Whether that is more than it may.
    pub lags: bool,
}

/// The servers of one zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneSerials<K> {
    servers: BTreeMap<K, Told>,
    /// Serials that were the head, and since when, each behind the next.
    heads: VecDeque<(u32, Instant)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    serial: u32,
    at: Instant,
    since: Option<Instant>,
    lags: bool,
}

/// So many changes of the head are remembered: who is behind all of them is so since the first.
const HEADS: usize = 64;

impl<K> Default for ZoneSerials<K> {
    fn default() -> Self {
        Self {
            servers: BTreeMap::new(),
            heads: VecDeque::new(),
        }
    }
}

impl<K: Ord + Copy> ZoneSerials<K> {
    /// A server tells its serial.
    pub fn hear(&mut self, server: K, serial: u32, rules: &LagRules, now: Instant) {
        let moved = self.servers.get(&server).map(|told| told.serial) != Some(serial);
        let told = self.servers.entry(server).or_insert(Told {
            serial,
            at: now,
            since: None,
            lags: false,
        });
        told.serial = serial;
        told.at = now;
        self.follow(rules, now);
        if moved {
            let since = self.passed(serial);
            if let Some(told) = self.servers.get_mut(&server) {
                told.since = since;
            }
        }
        self.judge(rules, now);
    }

    /// Time has passed.
    pub fn hear_time(&mut self, rules: &LagRules, now: Instant) {
        self.follow(rules, now);
        self.judge(rules, now);
    }

    /// These servers only are left.
    pub fn retain(&mut self, mut kept: impl FnMut(&K) -> bool) {
        self.servers.retain(|server, _| kept(server));
    }

    /// The most advanced serial.
    pub fn head(&self) -> Option<u32> {
        self.heads.back().map(|(serial, _)| *serial)
    }

    /// How a server stands, once it has told its serial.
    pub fn standing(&self, server: &K) -> Option<Standing> {
        let told = self.servers.get(server)?;
        let head = self.head().filter(|head| is_behind(told.serial, *head));
        Some(Standing {
            serial: told.serial,
            lag: head.map_or(0, |head| head.wrapping_sub(told.serial)),
            since: told.since,
            lags: told.lags,
        })
    }

    /// When somebody begins to lag if nothing more is heard.
    pub fn next(&self, rules: &LagRules, now: Instant) -> Option<Instant> {
        let maximum = rules.maximum_time?;
        let behind = self.servers.values().filter(|told| !told.lags);
        behind
            .filter_map(|told| told.since?.checked_add(maximum))
            .filter(|time| *time > now)
            .min()
    }

    /// Finds the head among what was told lately.
    fn follow(&mut self, rules: &LagRules, now: Instant) {
        let lately = self
            .servers
            .values()
            .filter(|told| now.saturating_duration_since(told.at) <= rules.memory);
        let serials = lately.map(|told| told.serial);
        let later = |one, other| if is_behind(one, other) { other } else { one };
        let Some(head) = serials.reduce(later) else {
            return;
        };
        // Who was ahead is silent, or was set back.
        self.heads.retain(|(serial, _)| !is_behind(head, *serial));
        if self.head().is_none_or(|last| is_behind(last, head)) {
            self.heads.push_back((head, now));
        } else if self.head() != Some(head) {
            self.heads = VecDeque::from([(head, now)]);
        }
        if self.heads.len() > HEADS {
            self.heads.pop_front();
        }
    }

    /// When the head went past a serial.
    fn passed(&self, serial: u32) -> Option<Instant> {
        let mut heads = self.heads.iter();
        let (_, since) = heads.find(|(head, _)| is_behind(serial, *head))?;
        Some(*since)
    }

    fn judge(&mut self, rules: &LagRules, now: Instant) {
        let head = self.head();
        let passed: Vec<Option<Instant>> = self
            .servers
            .values()
            .map(|told| self.passed(told.serial))
            .collect();
        for (told, passed) in self.servers.values_mut().zip(passed) {
            let behind = head.filter(|head| is_behind(told.serial, *head));
            told.since = behind.and_then(|_| told.since.or(passed));
            let by_number = behind
                .zip(rules.maximum_lag)
                .is_some_and(|(head, most)| head.wrapping_sub(told.serial) > most);
            let by_time = told
                .since
                .zip(rules.maximum_time)
                .is_some_and(|(since, most)| now.saturating_duration_since(since) >= most);
            told.lags = by_number || by_time;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOBODY: [u8; 0] = [];
    const RULES: LagRules = LagRules {
        maximum_lag: Some(5),
        maximum_time: Some(Duration::from_secs(60)),
        memory: Duration::from_secs(30),
    };

    /// A zone with servers 1, 2, … that tell these serials after so many seconds.
    struct Zone {
        start: Instant,
        serials: ZoneSerials<u8>,
    }

    impl Zone {
        fn new() -> Self {
            Self {
                start: Instant::now(),
                serials: ZoneSerials::default(),
            }
        }

        fn tell(&mut self, seconds: u64, serials: &[u32]) {
            for (server, serial) in (1..).zip(serials) {
                self.serials.hear(server, *serial, &RULES, self.at(seconds));
            }
        }

        fn at(&self, seconds: u64) -> Instant {
            self.start + Duration::from_secs(seconds)
        }

        fn lagging(&self) -> Vec<u8> {
            let lags = |server: &u8| self.serials.standing(server).is_some_and(|it| it.lags);
            (1..10).filter(lags).collect()
        }
    }

    #[test]
    fn compares_as_the_rfc_does() {
        for (one, other, behind) in [
            (0, 1, true),
            (1, 0, false),
            (5, 5, false),
            (u32::MAX, 0, true),
            (0, u32::MAX, false),
            (0, (1 << 31) - 1, true),
            (0, 1 << 31, false),
            (1 << 31, 0, false),
        ] {
            assert_eq!(is_behind(one, other), behind, "{one} {other}");
        }
    }

    #[test]
    fn who_is_too_far_behind_lags_at_once() {
        let mut zone = Zone::new();
        zone.tell(0, &[u32::MAX, u32::MAX - 5, u32::MAX]);
        assert_eq!(zone.lagging(), NOBODY);
        zone.tell(1, &[0, u32::MAX - 5, u32::MAX]);
        assert_eq!(zone.lagging(), [2]);
        assert_eq!(zone.serials.standing(&2).unwrap().lag, 6);
        assert_eq!(zone.serials.standing(&1).unwrap().lag, 0);
        zone.tell(2, &[0, 0, 0]);
        assert_eq!(zone.lagging(), NOBODY);
    }

    #[test]
    fn who_is_behind_too_long_lags() {
        let mut zone = Zone::new();
        zone.tell(0, &[7, 7]);
        for seconds in (10..70).step_by(10) {
            zone.tell(seconds, &[8, 7]);
            assert_eq!(zone.lagging(), NOBODY, "{seconds}");
            assert_eq!(
                zone.serials.next(&RULES, zone.at(seconds)),
                Some(zone.at(70))
            );
        }
        zone.serials.hear_time(&RULES, zone.at(69));
        assert_eq!(zone.lagging(), NOBODY);
        zone.serials.hear_time(&RULES, zone.at(70));
        assert_eq!(zone.lagging(), [2]);
        assert_eq!(zone.serials.standing(&2).unwrap().since, Some(zone.at(10)));
    }

    #[test]
    fn who_follows_at_a_distance_does_not_lag() {
        let mut zone = Zone::new();
        for step in 0..100 {
            zone.tell(20 * u64::from(step), &[step + 1, step]);
            assert_eq!(zone.lagging(), NOBODY, "{step}");
        }
    }

    #[test]
    fn who_died_ahead_is_forgotten() {
        let mut zone = Zone::new();
        zone.tell(0, &[1, 1, 100]);
        assert_eq!(zone.lagging(), [1, 2]);
        zone.tell(29, &[1, 1]);
        assert_eq!(zone.lagging(), [1, 2]);
        zone.tell(31, &[1, 1]);
        assert_eq!(zone.lagging(), NOBODY);
        assert_eq!(zone.serials.head(), Some(1));
    }

    #[test]
    fn servers_that_go_are_forgotten() {
        let mut zone = Zone::new();
        zone.tell(0, &[1, 9]);
        zone.serials.retain(|server| *server == 1);
        zone.serials.hear_time(&RULES, zone.at(1));
        assert_eq!(zone.lagging(), NOBODY);
        assert_eq!(zone.serials.standing(&2), None);
    }

    proptest! {
        /// Whatever is told, somebody who was heard lately is ahead, and whoever has the head is.
        #[test]
        fn whoever_is_ahead_never_lags(
            told in prop::collection::vec((1_u8..5, any::<u32>(), 0_u64..20), 1..60),
        ) {
            let mut zone = Zone::new();
            let mut now = 0;
            for (server, serial, later) in told {
                now += later;
                zone.serials.hear(server, serial, &RULES, zone.at(now));
                let head = zone.serials.head().unwrap();
                let ahead: Vec<_> = (1..5)
                    .filter_map(|server| zone.serials.standing(&server))
                    .filter(|standing| standing.serial == head)
                    .collect();
                prop_assert!(!ahead.is_empty());
                for standing in ahead {
                    prop_assert!(!standing.lags && standing.lag == 0);
                }
                prop_assert!(zone.serials.heads.len() <= HEADS);
            }
        }
    }
}
