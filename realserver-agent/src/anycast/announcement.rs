//! Whether one VIP is to be on the machine. Pure: no clock, no I/O.
//!
//! A VIP goes down at once, when `fall` rounds in a row were bad, and comes up when `rise` were good and
//! the *hold* is over: the time that a VIP stays down at least, so that the routers' paths don't flap with
//! a service that does. The hold begins with [`Rules::minimum_hold`], doubles with each time that the
//! VIP goes down, up to [`Rules::maximum_hold`], and begins anew when the VIP has been up for that long.

use std::fmt;
use std::num::NonZeroU8;
use std::time::{Duration, Instant};

use lvs_proto::health::{Tally, Verdict};

/// How long a DNS server may take to listen on a VIP that has come to its machine, as long as it
/// answers elsewhere: BIND opens a socket for each address when it hears of it.
pub const SETTLING: Duration = Duration::from_secs(2);

/// A hold of 0 has to grow, too.
const SHORTEST_DOUBLED: Duration = Duration::from_secs(1);

/// How a VIP comes and goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// For the check that says whether the VIP is announced.
    pub full: Counts,
    /// For the one that says whether it is announced at a worse metric when the other one fails.
    pub degraded: Option<Counts>,
    /// How long a VIP that went down stays down at least.
    pub minimum_hold: Duration,
    /// The same for one that flaps.
    pub maximum_hold: Duration,
    /// Whether the VIP stays until another site is known to answer.
    pub guarded: bool,
}

/// Rounds in a row that change a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Good ones, for the better.
    pub rise: NonZeroU8,
    /// Bad ones, for the worse.
    pub fall: NonZeroU8,
}

/// Where a VIP is, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// Not on the machine.
    Withdrawn,
    /// On the interface whose addresses get a worse metric.
    Degraded,
    /// On its own interface.
    Announced,
}

/// Where a round of probes asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Where the DNS is asked while the VIP isn't here.
    Elsewhere,
    /// At the VIP itself, as clients do.
    Vip,
}

/// What came of one check in a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is well.
    Good,
    /// It isn't; the failure, for people.
    Bad(String),
    /// That couldn't be found out, which counts for nothing.
    NoNews,
}

/// What came of a round of probes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    /// Where the checks were made.
    pub place: Place,
    /// What came of the check.
    pub full: Outcome,
    /// The same of the check of the degraded tier, where there is one.
    pub degraded: Option<Outcome>,
    /// When asked at the VIP: whether the check of the tier that the VIP is in is good elsewhere, if that
    /// was asked too.
    pub elsewhere: Option<bool>,
    /// Whether another site answers, if that was asked too.
    pub another_site: Option<bool>,
}

/// Why a VIP isn't announced as it could be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nobody has answered yet.
    Starting,
    /// The last failure.
    Failing(String),
    /// The DNS answers elsewhere, and not at the VIP; the failure there.
    NotOnVip(String),
}

/// The announcement of one VIP.
#[derive(Clone, Debug)]
pub struct Announcement {
    rules: Rules,
    full: Tally,
    degraded: Option<Tally>,
    tier: Tier,
    since: Instant,
    reason: Option<Reason>,
    /// Whether the VIP stays although its verdict is bad.
    last_site: bool,
    /// When it last came up.
    up_since: Instant,
    hold: Option<Hold>,
    /// When it was first asked at the VIP since it came up.
    first_asked: Option<Instant>,
    /// Whether an answer came from there.
    settled: bool,
    withdrawals: u64,
}

#[derive(Clone, Copy, Debug)]
struct Hold {
    length: Duration,
    until: Instant,
}

impl Announcement {
    /// Of a VIP that is where `tier` says, which stays so until there is a verdict.
    pub fn new(rules: Rules, tier: Tier, now: Instant) -> Self {
        let tally = |counts: Counts| Tally::new(counts.rise, counts.fall);
        Self {
            full: tally(rules.full),
            degraded: rules.degraded.map(tally),
            rules,
            tier,
            since: now,
            reason: Some(Reason::Starting),
            last_site: false,
            up_since: now,
            hold: None,
            first_asked: None,
            settled: false,
            withdrawals: 0,
        }
    }

    /// Counts a round.
    pub fn hear(&mut self, round: &Round, now: Instant) {
        if round.place == Place::Vip {
            self.first_asked.get_or_insert(now);
            self.settled |= *self.own_outcome(round) == Outcome::Good;
        }
        if !self.is_settling(round, now) {
            record(&mut self.full, &round.full);
            if let (Some(tally), Some(outcome)) = (&mut self.degraded, &round.degraded) {
                record(tally, outcome);
            }
        }
        if self.tier == Tier::Withdrawn || self.full.verdict() == Verdict::Unhealthy {
            self.find_reason(round);
        }
        self.judge(round.another_site, now);
    }

    fn find_reason(&mut self, round: &Round) {
        if let (Some(true), Outcome::Bad(failure)) = (round.elsewhere, self.own_outcome(round)) {
            self.reason = Some(Reason::NotOnVip(failure.clone()));
        } else if let Outcome::Bad(failure) = &round.full {
            self.reason = Some(Reason::Failing(failure.clone()));
        }
    }

    /// Of the check that keeps the VIP in its tier.
    fn own_outcome<'r>(&self, round: &'r Round) -> &'r Outcome {
        match (self.tier, &round.degraded) {
            (Tier::Degraded, Some(outcome)) => outcome,
            _ => &round.full,
        }
    }

    /// Looks at the time; to be called at [`Self::next`].
    pub fn wake(&mut self, now: Instant) {
        self.judge(None, now);
    }

    /// Where the VIP is to be.
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// Since when.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Why it isn't where it could be.
    pub fn reason(&self) -> Option<&Reason> {
        self.reason.as_ref()
    }

    /// Whether it stays only because no other site answers.
    pub fn is_last_site(&self) -> bool {
        self.last_site
    }

    /// When it may come up again, if that is yet to come.
    pub fn held_until(&self, now: Instant) -> Option<Instant> {
        let until = self.hold?.until;
        (self.tier < Tier::Announced && until > now).then_some(until)
    }

    /// When something changes without a round.
    pub fn next(&self) -> Option<Instant> {
        let until = self.hold?.until;
        self.deserves_better().then_some(until)
    }

    /// How often it went down.
    pub fn withdrawals(&self) -> u64 {
        self.withdrawals
    }

    /// Whether the next round should come soon.
    pub fn in_doubt(&self) -> bool {
        self.full.in_doubt()
            || self.degraded.as_ref().is_some_and(Tally::in_doubt)
            || (self.tier > Tier::Withdrawn && !self.settled)
    }

    /// Whether the next round at the VIP has to ask elsewhere, and at other sites, too: it may be the
    /// one that takes the VIP down.
    pub fn asks_around(&self) -> bool {
        let deciding = |tally: &Tally, counts: Option<Counts>| {
            tally.in_doubt() || counts.is_some_and(|counts| counts.fall == NonZeroU8::MIN)
        };
        self.last_site
            || !self.settled
            || deciding(&self.full, Some(self.rules.full))
            || self
                .degraded
                .as_ref()
                .is_some_and(|tally| deciding(tally, self.rules.degraded))
    }

    /// Whether the DNS may not have found the VIP yet.
    fn is_settling(&self, round: &Round, now: Instant) -> bool {
        let begun = self.first_asked.unwrap_or(now);
        round.place == Place::Vip
            && !self.settled
            && round.elsewhere == Some(true)
            && now < begun + SETTLING
    }

    fn deserved(&self) -> Tier {
        let is_healthy = |tally: &Tally| tally.verdict() == Verdict::Healthy;
        match self.full.verdict() {
            Verdict::Healthy => Tier::Announced,
            Verdict::Unhealthy if self.degraded.as_ref().is_some_and(is_healthy) => Tier::Degraded,
            Verdict::Unhealthy => Tier::Withdrawn,
            Verdict::Unknown => self.tier,
        }
    }

    /// Whether it may come up as far as its checks are concerned; not right after a bad round.
    fn deserves_better(&self) -> bool {
        let deserved = self.deserved();
        let doubted = match (deserved, &self.degraded) {
            (Tier::Degraded, Some(tally)) => tally.in_doubt(),
            _ => self.full.in_doubt(),
        };
        deserved > self.tier && !doubted
    }

    fn judge(&mut self, another_site: Option<bool>, now: Instant) {
        let deserved = self.deserved();
        if deserved == Tier::Withdrawn
            && self.tier > Tier::Withdrawn
            && self.rules.guarded
            && another_site != Some(true)
        {
            self.last_site = true;
            return;
        }
        self.last_site = false;
        if deserved < self.tier {
            self.go_down(deserved, now);
        } else if self.deserves_better() && self.hold.is_none_or(|hold| now >= hold.until) {
            self.go_up(deserved, now);
        } else if self.full.verdict() == Verdict::Healthy && self.tier == Tier::Announced {
            self.reason = None;
        }
    }

    fn go_down(&mut self, tier: Tier, now: Instant) {
        let calm = now.saturating_duration_since(self.up_since) >= self.rules.maximum_hold;
        let length = match self.hold {
            Some(hold) if !calm => {
                let doubled = (hold.length * 2).max(SHORTEST_DOUBLED);
                doubled.min(self.rules.maximum_hold)
            }
            _ => self.rules.minimum_hold,
        };
        self.hold = Some(Hold {
            length,
            until: now + length,
        });
        self.tier = tier;
        self.since = now;
        if tier == Tier::Withdrawn {
            self.withdrawals += 1;
            self.first_asked = None;
            self.settled = false;
        }
    }

    fn go_up(&mut self, tier: Tier, now: Instant) {
        self.tier = tier;
        self.since = now;
        self.up_since = now;
        if tier == Tier::Announced {
            self.reason = None;
        }
    }
}

fn record(tally: &mut Tally, outcome: &Outcome) {
    match outcome {
        Outcome::Good => drop(tally.record(true)),
        Outcome::Bad(_) => drop(tally.record(false)),
        Outcome::NoNews => {}
    }
}

impl Tier {
    /// As status and metrics show it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Withdrawn => "withdrawn",
            Self::Degraded => "degraded",
            Self::Announced => "announced",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.word())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const PACE: Duration = Duration::from_millis(100);

    fn counts(rise: u8, fall: u8) -> Counts {
        Counts {
            rise: NonZeroU8::new(rise).unwrap(),
            fall: NonZeroU8::new(fall).unwrap(),
        }
    }

    fn rules() -> Rules {
        Rules {
            full: counts(2, 2),
            degraded: None,
            minimum_hold: 10 * SECOND,
            maximum_hold: 60 * SECOND,
            guarded: false,
        }
    }

    fn bad() -> Outcome {
        Outcome::Bad("refused".into())
    }

    /// An announcement, and a clock.
    struct Play {
        announcement: Announcement,
        start: Instant,
        now: Instant,
    }

    impl Play {
        fn new(rules: Rules) -> Self {
            let now = Instant::now();
            Self {
                announcement: Announcement::new(rules, Tier::Withdrawn, now),
                start: now,
                now,
            }
        }

        fn place(&self) -> Place {
            match self.announcement.tier() {
                Tier::Withdrawn => Place::Elsewhere,
                _ => Place::Vip,
            }
        }

        /// A round where the announcement wants it, [`PACE`] after the last.
        fn hear(&mut self, full: Outcome) -> Tier {
            self.hear_round(Round {
                place: self.place(),
                full,
                degraded: None,
                elsewhere: None,
                another_site: None,
            })
        }

        fn hear_round(&mut self, round: Round) -> Tier {
            self.now += PACE;
            self.announcement.hear(&round, self.now);
            self.announcement.tier()
        }

        /// The DNS answers elsewhere and not at the VIP.
        fn hear_only_elsewhere(&mut self) -> Tier {
            let place = self.place();
            self.hear_round(Round {
                place,
                full: if place == Place::Vip {
                    bad()
                } else {
                    Outcome::Good
                },
                degraded: None,
                elsewhere: (place == Place::Vip).then_some(true),
                another_site: None,
            })
        }

        /// Good rounds until it is up; how long that took.
        fn until_up(&mut self) -> Duration {
            let start = self.now;
            while self.hear(Outcome::Good) != Tier::Announced {
                assert!(self.now < start + 1000 * SECOND);
            }
            self.now - start
        }

        fn down(&mut self) {
            self.hear(Outcome::Good);
            assert_eq!(self.hear(bad()), Tier::Announced);
            assert_eq!(self.hear(bad()), Tier::Withdrawn);
        }
    }

    #[test]
    fn the_first_good_round_announces_and_fall_bad_ones_withdraw() {
        let mut play = Play::new(rules());
        assert_eq!(play.announcement.tier(), Tier::Withdrawn);
        assert_eq!(play.announcement.reason(), Some(&Reason::Starting));
        assert_eq!(play.hear(Outcome::Good), Tier::Announced);
        assert_eq!(play.announcement.reason(), None);
        play.down();
        let reason = Reason::Failing("refused".into());
        assert_eq!(play.announcement.reason(), Some(&reason));
        assert_eq!(play.announcement.withdrawals(), 1);
    }

    #[test]
    fn one_that_goes_on_under_other_rules_stays_until_there_is_a_verdict() {
        for (outcome, last) in [(Outcome::Good, Tier::Announced), (bad(), Tier::Withdrawn)] {
            let mut play = Play::new(rules());
            play.announcement = Announcement::new(rules(), Tier::Announced, play.now);
            assert_eq!(play.hear(outcome.clone()), Tier::Announced);
            assert_eq!(play.hear(outcome), last);
        }
    }

    #[test]
    fn it_comes_back_after_rise_and_not_before_the_hold_is_over() {
        let mut play = Play::new(rules());
        play.hear(Outcome::Good);
        play.down();
        let went = play.now;
        assert_eq!(play.announcement.next(), None);
        play.hear(Outcome::Good);
        play.hear(Outcome::Good);
        assert_eq!(play.announcement.next(), Some(went + 10 * SECOND));
        assert_eq!(
            play.announcement.held_until(play.now),
            Some(went + 10 * SECOND)
        );
        play.announcement
            .wake(went + 10 * SECOND - Duration::from_millis(1));
        assert_eq!(play.announcement.tier(), Tier::Withdrawn);
        play.announcement.wake(went + 10 * SECOND);
        assert_eq!(play.announcement.tier(), Tier::Announced);
        // Long after the hold only `rise` counts.
        play.now = went + 10 * SECOND;
        play.down();
        play.now += 100 * SECOND;
        assert_eq!(play.hear(Outcome::Good), Tier::Withdrawn);
        assert_eq!(play.hear(bad()), Tier::Withdrawn);
        assert_eq!(play.hear(Outcome::Good), Tier::Withdrawn);
        assert_eq!(play.hear(Outcome::Good), Tier::Announced);
    }

    #[test]
    fn the_hold_doubles_up_to_its_maximum_and_a_calm_time_ends_that() {
        let mut play = Play::new(rules());
        play.hear(Outcome::Good);
        for held in [10, 20, 40, 60, 60] {
            play.down();
            assert_eq!(play.until_up(), held * SECOND);
        }
        play.now += 60 * SECOND;
        play.down();
        assert_eq!(play.until_up(), 10 * SECOND);
    }

    #[test]
    fn what_could_not_be_found_out_counts_for_nothing() {
        let mut play = Play::new(rules());
        play.hear(Outcome::Good);
        play.hear(Outcome::Good);
        play.hear(bad());
        for _ in 0..10 {
            assert_eq!(play.hear(Outcome::NoNews), Tier::Announced);
        }
        assert_eq!(play.hear(bad()), Tier::Withdrawn);
    }

    #[test]
    fn a_dns_that_is_not_on_the_vip_gets_time_to_settle_once_and_goes_with_that_reason() {
        let mut play = Play::new(rules());
        assert_eq!(play.hear_only_elsewhere(), Tier::Announced);
        let first_asked = play.now + PACE;
        while play.hear_only_elsewhere() == Tier::Announced {
            assert!(play.announcement.asks_around());
            assert!(play.announcement.in_doubt());
        }
        assert_eq!(play.now - first_asked, SETTLING + PACE);
        assert_eq!(
            play.announcement.reason(),
            Some(&Reason::NotOnVip("refused".into()))
        );
        // That it answers elsewhere doesn't take the reason away.
        let went = play.now;
        while play.hear_only_elsewhere() == Tier::Withdrawn {
            assert!(matches!(
                play.announcement.reason(),
                Some(Reason::NotOnVip(_))
            ));
        }
        assert_eq!(play.now - went, 10 * SECOND);
        while play.hear_only_elsewhere() == Tier::Announced {}
        let went = play.now;
        while play.hear_only_elsewhere() == Tier::Withdrawn {}
        assert_eq!(play.now - went, 20 * SECOND);
        // One that settles late stays.
        assert_eq!(play.hear(Outcome::Good), Tier::Announced);
        assert!(!play.announcement.asks_around());
        assert_eq!(play.hear_only_elsewhere(), Tier::Announced);
        assert_eq!(play.hear_only_elsewhere(), Tier::Withdrawn);
    }

    #[test]
    fn a_dns_that_dies_while_it_settles_goes_at_once() {
        let mut play = Play::new(rules());
        play.hear(Outcome::Good);
        let dead = || Round {
            place: Place::Vip,
            full: bad(),
            degraded: None,
            elsewhere: Some(false),
            another_site: None,
        };
        assert_eq!(play.hear_round(dead()), Tier::Announced);
        assert_eq!(play.hear_round(dead()), Tier::Withdrawn);
        let reason = Reason::Failing("refused".into());
        assert_eq!(play.announcement.reason(), Some(&reason));
    }

    #[test]
    fn a_degraded_server_goes_down_a_tier_at_once_and_up_after_the_hold() {
        let mut play = Play::new(Rules {
            degraded: Some(counts(2, 2)),
            ..rules()
        });
        let round = |place, full: bool, degraded: bool| {
            let outcome = |good| if good { Outcome::Good } else { bad() };
            Round {
                place,
                full: outcome(full),
                degraded: Some(outcome(degraded)),
                elsewhere: None,
                another_site: None,
            }
        };
        assert_eq!(
            play.hear_round(round(Place::Elsewhere, true, true)),
            Tier::Announced
        );
        play.hear_round(round(Place::Vip, true, true));
        play.hear_round(round(Place::Vip, false, true));
        assert_eq!(
            play.hear_round(round(Place::Vip, false, true)),
            Tier::Degraded
        );
        assert!(play.announcement.reason().is_some());
        let went = play.now;
        while play.hear_round(round(Place::Vip, true, true)) == Tier::Degraded {}
        assert_eq!(play.announcement.tier(), Tier::Announced);
        assert_eq!(play.now - went, 10 * SECOND);
        for expected in [Tier::Announced, Tier::Withdrawn] {
            let tier = play.hear_round(round(Place::Vip, false, false));
            assert_eq!(tier, expected);
        }
        // Only the degraded check recovers.
        let went = play.now;
        while play.hear_round(round(Place::Elsewhere, false, true)) == Tier::Withdrawn {}
        assert_eq!(play.announcement.tier(), Tier::Degraded);
        assert_eq!(play.now - went, 20 * SECOND);
    }

    #[test]
    fn the_last_site_stays_until_another_one_answers() {
        let mut play = Play::new(Rules {
            guarded: true,
            ..rules()
        });
        play.hear(Outcome::Good);
        play.hear(Outcome::Good);
        let round = |another_site| Round {
            place: Place::Vip,
            full: bad(),
            degraded: None,
            elsewhere: Some(false),
            another_site,
        };
        for answer in [None, Some(false), Some(false), None] {
            assert_eq!(play.hear_round(round(answer)), Tier::Announced);
        }
        assert!(play.announcement.is_last_site());
        assert!(play.announcement.asks_around());
        assert_eq!(play.hear(Outcome::Good), Tier::Announced);
        assert_eq!(play.hear(Outcome::Good), Tier::Announced);
        assert!(!play.announcement.is_last_site());
        assert_eq!(play.announcement.reason(), None);
        play.hear_round(round(None));
        assert_eq!(play.hear_round(round(Some(true))), Tier::Withdrawn);
    }

    proptest! {
        /// However the service behaves: never down with less than `fall` bad rounds in a row, never up
        /// again before the shortest hold is over, nor without `rise` good ones in a row meanwhile, nor
        /// by a bad one, and down for certain when it is dead.
        #[test]
        fn no_history_breaks_the_rules(
            history in prop::collection::vec((any::<bool>(), any::<bool>(), 1u64..2_000), 1..400),
            rise in 1u8..4,
            fall in 1u8..4,
        ) {
            let mut play = Play::new(Rules { full: counts(rise, fall), ..rules() });
            let mut in_a_row = (true, 0u8);
            let mut went: Option<Instant> = None;
            let mut best = 0;
            for (good, elsewhere, pause) in history {
                play.now += Duration::from_millis(pause);
                let before = play.announcement.tier();
                play.announcement.wake(play.now);
                let woken = play.announcement.tier();
                prop_assert!(woken >= before);
                in_a_row = if in_a_row.0 == good {
                    (good, in_a_row.1.saturating_add(1))
                } else {
                    (good, 1)
                };
                if good {
                    best = best.max(in_a_row.1);
                }
                let place = play.place();
                let tier = play.hear_round(Round {
                    place,
                    full: if good { Outcome::Good } else { bad() },
                    degraded: None,
                    elsewhere: (place == Place::Vip).then_some(elsewhere),
                    another_site: None,
                });
                if tier < woken {
                    prop_assert!(in_a_row.1 >= fall && !good);
                    went = Some(play.now);
                    best = 0;
                }
                if tier > before {
                    let waited = went.map(|went| play.now - went);
                    prop_assert!(waited.is_none_or(|waited| waited >= 10 * SECOND));
                    prop_assert!(went.is_none() || best >= rise);
                    prop_assert!(woken > before || good);
                }
            }
            for _ in 0..(SETTLING.as_millis() / PACE.as_millis()) as u8 + fall + 1 {
                let place = play.place();
                play.hear_round(Round {
                    place,
                    full: bad(),
                    degraded: None,
                    elsewhere: (place == Place::Vip).then_some(false),
                    another_site: None,
                });
            }
            prop_assert_eq!(play.announcement.tier(), Tier::Withdrawn);
            prop_assert!(play.now > play.start);
        }
    }
}
