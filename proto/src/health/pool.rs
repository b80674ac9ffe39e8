//! From what is known of the servers of one pool to who gets how much of its queries.
//!
//! A pool is the servers of one service for one family and protocol. Checks take servers out, but never
//! below the *floor*: when too few are left, those that were good last stay, and when everything failed
//! at once, all of the last good set. A server of which nothing is known yet is left as it is found. The
//! operator's *hand*, and what a server says of itself, are obeyed whatever the floor is. The *quorum*
//! counts healthy servers that take queries, never those that the floor keeps. The *sorry server* is for
//! a pool that has nobody else.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::latency::{self, LatencyRules, median};
use super::slow_start;
use super::weight::{Factors, whole_weights};
use super::{Percent, Verdict};

/// What a pool goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolRules {
    /// How many have to be healthy.
    pub quorum: Quorum,
    /// How many stay, whatever checks say.
    pub floor: Floor,
    /// What servers that fail within this time of each other have done at once.
    pub at_once: Duration,
    /// The largest weight that scaling may make.
    pub maximum_weight: u16,
    /// The time in which a server that returns gets its whole share; at once without.
    pub slow_start: Option<Duration>,
    /// How weights follow latency, if at all.
    pub latency: Option<LatencyRules>,
}

/// How many healthy servers make a pool that can be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quorum {
    /// With fewer it is lost.
    pub servers: usize,
    /// So many more are needed to regain it.
    pub hysteresis: usize,
}

/// How many of the servers that may take queries stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Floor {
    /// That many.
    Servers(usize),
    /// That part of them, rounded up.
    Part(Percent),
}

/// What an operator, or a server itself, wants of a server. The later one is stronger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hand {
    /// It takes part.
    Enabled,
    /// It takes nothing new, and keeps what it has: it is present with a weight of 0.
    Drained,
    /// It is out.
    Disabled,
}

/// What is known of a server now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// The configured weight.
    pub weight: u16,
    /// What its checks say.
    pub verdict: Verdict,
    /// The stronger of what the operator and the server itself want.
    pub hand: Hand,
    /// What the server says that it can bear; 0 is as drained.
    pub agent: Percent,
    /// What its zones leave of it; with 0 it is out as if a check had failed, where the floor allows.
    pub serial: Percent,
    /// How fast it answers: smoothed, and as far as that is known.
    pub latency: Option<Duration>,
}

/// Whether a server should be in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// With its weight.
    Present,
    /// Not at all.
    Absent,
    /// As it is found there: nothing is known of it yet.
    AsFound,
}

/// What becomes of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether it should be in the table.
    pub share: Share,
    /// Its weight if it is; 0 to 65535.
    pub weight: u16,
    /// What was counted.
    pub factors: Factors,
    /// It is there only because of the floor.
    pub kept: bool,
}

/// What becomes of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome<K> {
    /// What becomes of each server.
    pub servers: BTreeMap<K, Decision>,
    /// The healthy servers that take queries.
    pub healthy: usize,
    /// How many have to be, now.
    pub needed: usize,
    /// Whether that is enough; `None` while it isn't known.
    pub quorum: Option<bool>,
    /// Some are there only because of the floor.
    pub floor: bool,
    /// Whether the sorry server is to be there.
    pub sorry: Share,
    /// When to look again, even if nothing happens.
    pub next: Option<Instant>,
}

/// The servers of a pool, by what tells them apart, and what is remembered of them.
#[derive(Clone, Debug)]
pub struct Pool<K> {
    memories: BTreeMap<K, Memory>,
    /// There was a verdict on all at least once: who comes later is new to its clients.
    settled: bool,
    /// `None` before it is known.
    quorum: Option<bool>,
    /// When factors of latency moved last.
    moved: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Memory {
    /// It was good at least once.
    was_good: bool,
    /// It isn't good since then.
    failed: Option<Instant>,
    /// Whether it took queries last; `None` before it was judged.
    took: Option<bool>,
    /// Only the floor kept it, last and until then.
    kept: bool,
    released: Option<Instant>,
    /// When it returned, while that makes a difference.
    returned: Option<Instant>,
    latency: Percent,
}

impl<K: PartialEq> Outcome<K> {
    /// Whether another one is the same, but for when to look again.
    pub fn is_like(&self, other: &Self) -> bool {
        let Self {
            servers,
            healthy,
            needed,
            quorum,
            floor,
            sorry,
            next: _,
        } = self;
        *servers == other.servers
            && *healthy == other.healthy
            && *needed == other.needed
            && *quorum == other.quorum
            && *floor == other.floor
            && *sorry == other.sorry
    }
}

impl Floor {
    fn of(self, servers: usize) -> usize {
        match self {
            Self::Servers(number) => number.min(servers),
            Self::Part(percent) => percent.of(servers),
        }
    }
}

impl Member {
    /// It would take queries if it were healthy.
    fn is_willing(&self) -> bool {
        self.hand == Hand::Enabled && self.weight > 0 && self.agent > Percent::NONE
    }

    fn is_good(&self) -> bool {
        self.verdict == Verdict::Healthy && self.serial > Percent::NONE
    }
}

impl<K: Clone + Ord> Default for Pool<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Clone + Ord> Pool<K> {
    /// Nothing is known.
    pub fn new() -> Self {
        Self {
            memories: BTreeMap::new(),
            settled: false,
            quorum: None,
            moved: None,
        }
    }

    /// Decides with what is known now. Servers that aren't among `members` are forgotten.
    pub fn decide(
        &mut self,
        rules: &PoolRules,
        members: &BTreeMap<K, Member>,
        now: Instant,
    ) -> Outcome<K> {
        self.remember(members, now);
        let kept = self.kept(rules, members);
        let mut next = None;
        self.adjust_latency(rules, members, now, &mut next);
        let mut servers = BTreeMap::new();
        for (key, member) in members {
            let kept = kept.contains(&key);
            let share = match (member.hand, member.verdict) {
                (Hand::Disabled, _) => Share::Absent,
                (_, Verdict::Unknown) => Share::AsFound,
                _ if member.is_good() || kept => Share::Present,
                _ => Share::Absent,
            };
            let takes = share == Share::Present && member.is_willing();
            let factors = self.factors(rules, key, member, (takes, kept), now, &mut next);
            let decision = Decision {
                share,
                weight: 0,
                factors,
                kept,
            };
            servers.insert(key.clone(), decision);
        }
        let weight = |(decision, member): (&Decision, &Member)| match member.hand {
            Hand::Enabled => decision.factors.of(member.weight),
            Hand::Drained | Hand::Disabled => Factors::ALL.of(0),
        };
        let exact: Vec<_> = servers.values().zip(members.values()).map(weight).collect();
        let weights = whole_weights(&exact, rules.maximum_weight);
        for (decision, weight) in servers.values_mut().zip(weights) {
            decision.weight = weight;
        }
        let any = |test: &dyn Fn(&Decision) -> bool| servers.values().any(test);
        let sorry = if any(&|one| one.share == Share::Present && one.weight > 0) {
            Share::Absent
        } else if any(&|one| one.share == Share::AsFound) {
            Share::AsFound
        } else {
            Share::Present
        };
        let healthy = count(members, |one| one.is_willing() && one.is_good());
        let quorum = self.judge_quorum(rules.quorum, members, healthy);
        Outcome {
            healthy,
            needed: self.needed(rules.quorum),
            quorum,
            floor: !kept.is_empty(),
            servers,
            sorry,
            next,
        }
    }

    fn remember(&mut self, members: &BTreeMap<K, Member>, now: Instant) {
        self.memories.retain(|key, _| members.contains_key(key));
        for (key, member) in members {
            let took = self.settled.then_some(false);
            let memory = self.memories.entry(key.clone()).or_insert(Memory {
                was_good: false,
                failed: None,
                took,
                kept: false,
                released: None,
                returned: None,
                latency: Percent::ALL,
            });
            if member.is_good() {
                memory.was_good = true;
                memory.failed = None;
            } else if member.verdict != Verdict::Unknown && memory.was_good {
                memory.failed.get_or_insert(now);
            }
        }
        let is_judged = |member: &Member| member.verdict != Verdict::Unknown;
        self.settled |= !members.is_empty() && members.values().all(is_judged);
    }

    /// Who stays because of the floor.
    fn kept<'m>(&self, rules: &PoolRules, members: &'m BTreeMap<K, Member>) -> Vec<&'m K> {
        let willing = count(members, Member::is_willing);
        let remain = count(members, |one| {
            one.is_willing() && (one.is_good() || one.verdict == Verdict::Unknown)
        });
        let floor = rules.floor.of(willing);
        if remain >= floor {
            return Vec::new();
        }
        let mut candidates: Vec<(bool, Instant, &K)> = members
            .iter()
            .filter(|(_, member)| member.is_willing() && !member.is_good())
            .filter(|(_, member)| member.verdict != Verdict::Unknown)
            .filter_map(|(key, member)| {
                let failed = self.memories.get(key)?.failed?;
                Some((member.verdict == Verdict::Healthy, failed, key))
            })
            .collect();
        // Those that answer, though late with their zones, then those that were good last.
        candidates.sort_by_key(|candidate| std::cmp::Reverse((candidate.0, candidate.1)));
        let last = candidates.iter().map(|(_, failed, _)| *failed).max();
        let is_last_good_set = |failed: Instant| {
            remain == 0 && last.is_some_and(|last| last - failed <= rules.at_once)
        };
        candidates
            .into_iter()
            .enumerate()
            .filter(|(index, (_, failed, _))| *index < floor - remain || is_last_good_set(*failed))
            .map(|(_, (_, _, key))| key)
            .collect()
    }

    fn adjust_latency(
        &mut self,
        rules: &PoolRules,
        members: &BTreeMap<K, Member>,
        now: Instant,
        next: &mut Option<Instant>,
    ) {
        let Some(rules) = rules.latency else {
            for memory in self.memories.values_mut() {
                memory.latency = Percent::ALL;
            }
            return;
        };
        let counted = |member: &&Member| member.is_willing() && member.is_good();
        let known = members.values().filter(counted);
        let Some(median) = median(known.filter_map(|member| member.latency)) else {
            return;
        };
        let due = self.moved.map(|moved| moved + latency::PAUSE);
        let moves = due.is_none_or(|due| now >= due);
        let mut moving = false;
        for (key, member) in members {
            let (Some(memory), Some(latency)) = (self.memories.get_mut(key), member.latency) else {
                continue;
            };
            let target = rules.target(latency, median);
            let step = rules.step(memory.latency, target);
            if step != memory.latency && moves {
                memory.latency = step;
                self.moved = Some(now);
            }
            moving |= rules.step(memory.latency, target) != memory.latency;
        }
        if let (true, Some(moved)) = (moving, self.moved) {
            sooner(next, moved + latency::PAUSE);
        }
    }

    fn factors(
        &mut self,
        rules: &PoolRules,
        key: &K,
        member: &Member,
        (takes, kept): (bool, bool),
        now: Instant,
        next: &mut Option<Instant>,
    ) -> Factors {
        let mut factors = Factors {
            agent: member.agent,
            serial: if kept { Percent::ALL } else { member.serial },
            ..Factors::ALL
        };
        let Some(memory) = self.memories.get_mut(key) else {
            return factors;
        };
        factors.latency = memory.latency;
        if memory.kept && !kept {
            memory.released = Some(now);
        }
        memory.kept = kept;
        if member.verdict != Verdict::Unknown || member.hand == Hand::Disabled {
            // All of a last good set return, one after the other: they have been at work until now, and
            // the first one must not bear everything.
            let was_away = memory.released.is_none_or(|at| now - at > rules.at_once);
            if takes && memory.took == Some(false) && !kept && was_away {
                memory.returned = Some(now);
            } else if !takes {
                memory.returned = None;
            }
            memory.took = Some(takes);
        }
        if let (Some(over), Some(since)) = (rules.slow_start, memory.returned) {
            let (share, change) = slow_start::share(over, since, now);
            factors.slow_start = share;
            match change {
                Some(change) => sooner(next, change),
                None => memory.returned = None,
            }
        }
        factors
    }

    fn judge_quorum(
        &mut self,
        rules: Quorum,
        members: &BTreeMap<K, Member>,
        healthy: usize,
    ) -> Option<bool> {
        let needed = self.needed(rules);
        let unknown = count(members, |one| {
            one.is_willing() && one.verdict == Verdict::Unknown
        });
        let judged = if healthy >= needed {
            Some(true)
        } else if healthy + unknown < needed {
            Some(false)
        } else {
            None
        };
        self.quorum = judged.or(self.quorum);
        judged
    }

    fn needed(&self, rules: Quorum) -> usize {
        match self.quorum {
            Some(false) => rules.servers + rules.hysteresis,
            Some(true) | None => rules.servers,
        }
    }
}

fn count<K>(members: &BTreeMap<K, Member>, test: impl Fn(&Member) -> bool) -> usize {
    members.values().filter(|member| test(member)).count()
}

fn sooner(next: &mut Option<Instant>, other: Instant) {
    *next = Some(next.map_or(other, |next| next.min(other)));
}

#[cfg(test)]
mod tests;
