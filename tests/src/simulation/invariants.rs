//! What must hold, whatever happens. Each has a name, which a violation carries.

use std::fmt;
use std::time::{Duration, Instant};

use lvs_proto::vrrp::{Instance, Ownership, Priority, Reason, State, Transition, Version};

use super::lan::Links;
use super::node::{Deed, Node, Round};
use super::scenario::{CLIENT, Event, Number, Pause, RouterEvent, Scenario};

/// What is on its way when the next Active announces itself is answered that long (the machine's
/// own figure).
const LINGER: Duration = Duration::from_millis(50);

/// An Active that meets others announces again, but no more than once in this time (the machine's own
/// figure).
const BURST_PAUSE: Duration = Duration::from_secs(1);

/// What must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// Convergence bound after the last disturbance there is exactly one Active among those that
    /// reach each other.
    OneActive,
    /// It is the right one: nobody of higher priority is there who preempts.
    RightActive,
    /// Nothing changes any more.
    Settled,
    /// Only an Active advertises a priority other than 0, and none that hands over does.
    OnlyTheActiveAdvertises,
    /// A router that was silent for longer than the others wait yields before it advertises again.
    SilentTooLong,
    /// A router that has slept looks what the others did meanwhile before it becomes Active.
    LooksFirst,
    /// The address is held by an Active, an Adopting or a HandingOver router only.
    HeldByRight,
    /// Adopting ends within the active-down interval.
    AdoptingEnds,
    /// Handing over ends: within three times the longest skew time that there may be, at least 1 s, and
    /// what is on its way.
    HandingOverEnds,
    /// Priority 0 is answered within the skew time.
    LeavingIsAnswered,
    /// Nobody takes over who has heard a better router within three of its intervals (or of those of
    /// another that it heard since: a router follows whom it heard last).
    NotTooEarly,
    /// A living Active is preempted only from a higher priority, by a router that is ready, preempts
    /// and doesn't stand aside.
    PreemptsByRight,
    /// The best Backup is the first to take over.
    BestFirst,
    /// An Active yields to a higher priority, or the same and a larger address, only.
    YieldsToBetter,
    /// An Active that meets another, lower one announces that the address is here: at once, or within a
    /// second if it did so less than a second ago.
    AnnouncesAgain,
    /// The LAN sends to the Active.
    LanFollows,
    /// What is planned interrupts nothing: the LAN sends to a router that holds the address.
    PlannedIsSeamless,
    /// Nothing makes the machine panic.
    NeverPanics,
}

impl Invariant {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::OneActive,
        Self::RightActive,
        Self::Settled,
        Self::OnlyTheActiveAdvertises,
        Self::SilentTooLong,
        Self::LooksFirst,
        Self::HeldByRight,
        Self::AdoptingEnds,
        Self::HandingOverEnds,
        Self::LeavingIsAnswered,
        Self::NotTooEarly,
        Self::PreemptsByRight,
        Self::BestFirst,
        Self::YieldsToBetter,
        Self::AnnouncesAgain,
        Self::LanFollows,
        Self::PlannedIsSeamless,
        Self::NeverPanics,
    ];
}

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What should have held.
    pub invariant: Invariant,
    /// When it didn't.
    pub at: Duration,
    /// What was seen.
    pub seen: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            invariant,
            at,
            seen,
        } = self;
        write!(out, "{:.6}s {invariant:?}: {seen}", at.as_secs_f64())
    }
}

/// The LAN as it is.
pub(super) struct View<'a> {
    pub(super) epoch: Instant,
    pub(super) nodes: &'a [Node],
    pub(super) links: &'a Links,
    pub(super) neighbour: Option<Number>,
}

impl View<'_> {
    /// Those that take part and reach this place.
    fn around(&self, place: Number) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(move |node| {
            node.takes_part()
                && (node.number() == place || self.links.carries(node.number(), place))
        })
    }

    /// Whether it takes over from a living Active of lower priority.
    fn may_preempt(&self, node: &Node, now: Duration) -> bool {
        node.may_preempt(self.epoch, now)
    }

    /// Whether the client's packets come to a router that holds the address.
    fn is_served(&self) -> bool {
        self.nodes.iter().any(|node| {
            Some(node.number()) == self.neighbour
                && self.links.carries(node.number(), CLIENT)
                && node.holds_address
                && node.awake().is_some()
        })
    }
}

/// What is remembered of one router.
#[derive(Clone, Debug, Default)]
struct Record {
    started_at: Duration,
    handing_over_since: Option<Duration>,
    /// When it was last paused or woken late, so that its own bounds don't count.
    impaired_at: Option<Duration>,
    /// By its own clock: when it last advertised as Active.
    advertised_at: Option<Duration>,
    /// By its own clock: when it last heard a router that it must respect, and the shortest interval that
    /// it may wait by.
    respected: Option<(Duration, Duration)>,
    /// By its own clock: when it must have taken over from a router that left.
    owes_takeover_at: Option<Duration>,
    /// By its own clock: when it must have announced again.
    owes_announcement_at: Option<Duration>,
    /// By its own clock: when it last announced.
    announced_at: Option<Duration>,
    /// How long it has just slept, knowing it.
    slept: Option<Duration>,
}

/// Sees everything and judges it.
#[derive(Debug)]
pub(super) struct Watch {
    bound: Duration,
    jitter: Duration,
    refresh: Duration,
    patience: Duration,
    same_intervals: bool,
    longest_interval: Duration,
    shortest_interval: Duration,
    disturbed_at: Duration,
    /// Nothing but the last step has disturbed, and before it all was settled.
    only_last_step: bool,
    /// The last step was planned, and there is somebody to take over.
    planned: bool,
    unserved_since: Option<Duration>,
    records: Vec<Record>,
    violation: Option<Violation>,
}

impl Watch {
    pub(super) fn new(scenario: &Scenario) -> Self {
        Self {
            bound: scenario.convergence_bound(),
            jitter: scenario.jitter(),
            refresh: scenario.refresh,
            patience: scenario.handover_patience(),
            same_intervals: scenario.longest_interval() == scenario.shortest_interval(),
            longest_interval: scenario.longest_interval(),
            shortest_interval: scenario.shortest_interval(),
            disturbed_at: Duration::ZERO,
            only_last_step: false,
            planned: false,
            unserved_since: None,
            records: vec![Record::default(); scenario.routers.len()],
            violation: None,
        }
    }

    pub(super) fn has_seen_enough(&self) -> bool {
        self.violation.is_some()
    }

    pub(super) fn into_violation(mut self, now: Duration, panicked: bool) -> Option<Violation> {
        if panicked {
            let seen = "the machine or the simulation panicked".into();
            self.report(now, Invariant::NeverPanics, seen);
        }
        self.violation
    }

    /// The LAN or a router does, or will do at `at`, what it doesn't at its best.
    pub(super) fn disturb(&mut self, at: Duration) {
        self.disturbed_at = self.disturbed_at.max(at);
        self.only_last_step = false;
        self.planned = false;
    }

    /// Something happens from outside.
    pub(super) fn step(&mut self, now: Duration, event: Event, view: &View<'_>) {
        let was_settled = self.is_settled(now, view.links);
        self.disturb(now);
        self.only_last_step = was_settled;
        self.unserved_since = None;
        let Event::Router(number, event) = event else {
            return;
        };
        let others = view.around(CLIENT).filter(|node| node.number() != number);
        let leaves = matches!(event, RouterEvent::Handover(_) | RouterEvent::Stop);
        let comes = matches!(
            event,
            RouterEvent::Start
                | RouterEvent::Ready(_)
                | RouterEvent::Priority(_)
                | RouterEvent::Release
        );
        let others: Vec<&Node> = others.collect();
        self.planned = was_settled
            && view.is_served()
            && (comes && self.same_intervals || leaves && self.somebody_comes_in_time(&others))
            && !self.may_collide(&others);
        let knows = !matches!(
            event,
            RouterEvent::Start | RouterEvent::Recover(_) | RouterEvent::Resume
        );
        // Who has heard nothing yet, or long ago, goes by its own interval.
        self.only_last_step &= knows;
        if let Some(index) = view.nodes.iter().position(|node| node.number() == number) {
            self.records[index].owes_takeover_at = None;
            self.records[index].owes_announcement_at = None;
            if matches!(event, RouterEvent::Pause(_) | RouterEvent::Late(_)) {
                self.records[index].impaired_at = Some(now);
            }
        }
    }

    /// A Backup that goes by a much longer interval may take longer than a router that leaves waits.
    fn somebody_comes_in_time(&self, nodes: &[&Node]) -> bool {
        nodes
            .iter()
            .any(|node| node.plan.skew_time(self.longest_interval) + self.jitter < self.patience)
    }

    /// Whether two of them have skew times so close that both may become Active: then the LAN may
    /// follow the lower one until the next announcement.
    fn may_collide(&self, nodes: &[&Node]) -> bool {
        let mut skews: Vec<Duration> = nodes.iter().map(|node| self.skew(node)).collect();
        skews.sort_unstable();
        let mut pairs = skews.windows(2);
        pairs.any(|pair| pair[1] - pair[0] <= self.jitter * 2)
    }

    /// The skew time at the shortest interval that an Active may have.
    fn skew(&self, node: &Node) -> Duration {
        node.plan.skew_time(self.shortest_interval)
    }

    /// A router has started, and knows nothing.
    pub(super) fn started(&mut self, now: Duration, index: usize) {
        self.records[index] = Record {
            started_at: now,
            ..Record::default()
        };
    }

    /// A router goes on after a pause.
    pub(super) fn resumed(
        &mut self,
        now: Duration,
        index: usize,
        (pause, since): (Pause, Duration),
    ) {
        let record = &mut self.records[index];
        record.impaired_at = Some(now);
        record.slept = (pause != Pause::Unnoticed).then(|| now - since);
    }

    /// A router has had its turn.
    pub(super) fn round(&mut self, now: Duration, index: usize, view: &View<'_>, round: &Round) {
        let node = &view.nodes[index];
        let Some(instance) = node.awake() else {
            return;
        };
        if [round.ownership_before, instance.ownership()].contains(&Ownership::HandingOver) {
            // Both routers are still at it.
            self.disturbed_at = self.disturbed_at.max(now);
        }
        if let Some(until) = node.stands_aside_until(view.epoch) {
            // It may preempt when that time is over.
            self.disturbed_at = self.disturbed_at.max(until);
        }
        self.hear(now, index, node, instance, round);
        let mut state = round.before;
        for (position, deed) in round.deeds.iter().enumerate() {
            match deed {
                Deed::Sent(0, _) => {
                    self.records[index].advertised_at = Some(node.clock(now));
                }
                Deed::Sent(priority, _) => {
                    // The advert of a promotion comes before its report.
                    let promoted = round.deeds[position..].iter().any(is_promotion);
                    self.advert(now, index, node, round, state, promoted, *priority);
                }
                Deed::Changed(transition) => {
                    state = transition.to;
                    self.change(now, index, view, round, *transition);
                }
                Deed::Announced => {
                    let record = &mut self.records[index];
                    record.owes_announcement_at = None;
                    record.announced_at = Some(node.clock(now));
                }
                Deed::Took | Deed::LetGo | Deed::Unanswered => {}
            }
        }
        let record = &mut self.records[index];
        record.slept = None;
        record.handing_over_since = match instance.ownership() {
            Ownership::HandingOver => record.handing_over_since.or(Some(now)),
            _ => None,
        };
        if instance.state() != State::Backup {
            record.owes_takeover_at = None;
        }
        if instance.state() != State::Active {
            record.advertised_at = None;
        }
        if instance.ownership() != Ownership::Held {
            record.owes_announcement_at = None;
        }
    }

    fn hear(
        &mut self,
        now: Duration,
        index: usize,
        node: &Node,
        instance: &Instance,
        round: &Round,
    ) {
        let clock = node.clock(now);
        let longest_interval = self.longest_interval;
        let record = &mut self.records[index];
        for (priority, interval) in &round.heard {
            if *priority == 0 {
                record.respected = None;
                let skew = node.plan.skew_time(longest_interval);
                if round.before == State::Backup && instance.state() == State::Backup {
                    let at = clock + skew;
                    let owed = record.owes_takeover_at.map_or(at, |owed| owed.min(at));
                    record.owes_takeover_at = Some(owed);
                }
            } else {
                record.owes_takeover_at = None;
                if round.ownership_before == Ownership::Held {
                    let lately = record
                        .announced_at
                        .is_some_and(|last| clock < last + BURST_PAUSE);
                    let pause = if lately { BURST_PAUSE } else { Duration::ZERO };
                    record.owes_announcement_at.get_or_insert(clock + pause);
                }
                if *priority >= node.plan.priority.get() {
                    record.respected = Some((clock, *interval));
                } else if let Some((_, shortest)) = &mut record.respected {
                    *shortest = (*interval).min(*shortest);
                }
            }
        }
        if round.commanded {
            record.owes_takeover_at = None;
        }
    }

    #[expect(clippy::too_many_arguments, reason = "all that is known of one advert")]
    fn advert(
        &mut self,
        now: Duration,
        index: usize,
        node: &Node,
        round: &Round,
        state: State,
        promoted: bool,
        priority: u8,
    ) {
        let number = node.number();
        if state != State::Active && !promoted {
            let seen = format!("router {number} advertises {priority} as {state}");
            self.report(now, Invariant::OnlyTheActiveAdvertises, seen);
        }
        let ownership = node.awake().map(Instance::ownership);
        if round.ownership_before == Ownership::HandingOver
            && ownership == Some(Ownership::HandingOver)
        {
            let seen = format!("router {number} hands over and advertises {priority}");
            self.report(now, Invariant::OnlyTheActiveAdvertises, seen);
        }
        let clock = node.clock(now);
        let last = self.records[index].advertised_at.replace(clock);
        if let Some(last) = last.filter(|_| state == State::Active)
            && clock - last > silence_limit(node)
        {
            let seen = format!("router {number} was silent for {:?}", clock - last);
            self.report(now, Invariant::SilentTooLong, seen);
        }
        // An owner needn't look: it is Active as soon as it can take part.
        let slept = self.records[index].slept;
        if let Some(slept) = slept.filter(|slept| *slept > self.longest_interval * 8)
            && node.plan.priority != Priority::OWNER
        {
            let seen = format!("router {number} slept for {slept:?} and advertises at once");
            self.report(now, Invariant::LooksFirst, seen);
        }
    }

    fn change(
        &mut self,
        now: Duration,
        index: usize,
        view: &View<'_>,
        round: &Round,
        transition: Transition,
    ) {
        let node = &view.nodes[index];
        let number = node.number();
        let Transition { from, to, reason } = transition;
        if self.is_settled(now, view.links) {
            let seen = format!("router {number} changes from {from} to {to}: {reason}");
            self.report(now, Invariant::Settled, seen);
        }
        match reason {
            Reason::Outranked { by, priority } => {
                // What was queued is read before a change of priority is heard of.
                let own = node.plan.priority.min(round.priority_before).get();
                if (priority, by) <= (own, node.address) {
                    let seen = format!(
                        "router {number} with priority {own} yields to {by} with priority {priority}"
                    );
                    self.report(now, Invariant::YieldsToBetter, seen);
                }
            }
            Reason::NothingHeard | Reason::Preempting { .. } if to == State::Active => {
                if let Some((at, interval)) = self.records[index].respected
                    && node.clock(now) < at + interval * 3
                {
                    let seen = format!(
                        "router {number} takes over {:?} after it heard a better one",
                        node.clock(now) - at
                    );
                    self.report(now, Invariant::NotTooEarly, seen);
                }
            }
            _ => {}
        }
        // Whoever begins anew doesn't know whom it heard.
        if !matches!(reason, Reason::Outranked { .. } | Reason::HandedOver { .. })
            && let Some((_, shortest)) = &mut self.records[index].respected
        {
            *shortest = self.shortest_interval;
        }
        if let Reason::Preempting { priority, .. } = reason
            && to == State::Active
            && (priority >= node.plan.priority.get()
                || !view.may_preempt(node, now)
                || round.stood_aside && node.plan.priority != Priority::OWNER)
        {
            let own = node.plan.priority;
            let seen = format!("router {number} with priority {own} preempts {priority}");
            self.report(now, Invariant::PreemptsByRight, seen);
        }
        if matches!(reason, Reason::NothingHeard | Reason::ActiveLeft) && to == State::Active {
            self.best_first(now, node, view);
        }
    }

    /// Where all have heard the same, the skew times settle who is first.
    fn best_first(&mut self, now: Duration, node: &Node, view: &View<'_>) {
        let links = view.links;
        if !self.only_last_step || !links.is_clear() {
            return;
        }
        let better = view.nodes.iter().find(|other| {
            other.takes_part()
                && !other.is_active()
                && links.carries(node.number(), other.number())
                && links.carries(other.number(), node.number())
                && other.latest.is_zero()
                && self.skew(other) + self.jitter * 2 < self.skew(node)
        });
        if let Some(better) = better {
            let seen = format!(
                "router {} with priority {} takes over before router {} with priority {}",
                node.number(),
                node.plan.priority,
                better.number(),
                better.plan.priority
            );
            self.report(now, Invariant::BestFirst, seen);
        }
    }

    /// Looks at everything after everything that happens.
    pub(super) fn look(&mut self, now: Duration, view: &View<'_>) {
        for (index, node) in view.nodes.iter().enumerate() {
            if let Some(instance) = node.awake() {
                self.holds_by_right(now, index, node, instance);
                self.keeps_promises(now, index, node);
            }
        }
        self.serves(now, view);
        if !self.is_settled(now, view.links) {
            return;
        }
        for node in view.nodes {
            self.one_right_active(now, node.number(), view);
        }
        let announced_by = self.disturbed_at + self.bound + self.refresh.max(BURST_PAUSE);
        if now > announced_by + self.longest_interval {
            let active = view.around(CLIENT).find(|node| node.is_active());
            if let Some(active) = active
                && view.neighbour != Some(active.number())
            {
                let seen = format!(
                    "router {} is Active and the LAN sends to {:?}",
                    active.number(),
                    view.neighbour
                );
                self.report(now, Invariant::LanFollows, seen);
            }
        }
    }

    fn is_settled(&self, now: Duration, links: &Links) -> bool {
        now > self.disturbed_at + self.bound && links.is_clear()
    }

    fn one_right_active(&mut self, now: Duration, place: Number, view: &View<'_>) {
        let mut around = view.around(place).peekable();
        if around.peek().is_none() {
            return;
        }
        let around: Vec<&Node> = around.collect();
        let mut actives = around.iter().filter(|node| node.is_active());
        let (Some(active), None) = (actives.next(), actives.next()) else {
            let actives = around.iter().filter(|node| node.is_active());
            let numbers: Vec<Number> = actives.map(|node| node.number()).collect();
            let seen = format!("the Active routers are {numbers:?}");
            self.report(now, Invariant::OneActive, seen);
            return;
        };
        let better = around
            .iter()
            .find(|node| node.plan.priority > active.plan.priority && view.may_preempt(node, now));
        if let Some(better) = better {
            let seen = format!(
                "router {} with priority {} is Active, router {} with {} would preempt",
                active.number(),
                active.plan.priority,
                better.number(),
                better.plan.priority
            );
            self.report(now, Invariant::RightActive, seen);
        }
    }

    fn holds_by_right(&mut self, now: Duration, index: usize, node: &Node, instance: &Instance) {
        let (state, ownership) = (instance.state(), instance.ownership());
        let number = node.number();
        let right = match ownership {
            Ownership::Absent => !node.holds_address && state != State::Active,
            Ownership::Held | Ownership::HandingOver => {
                node.holds_address && state == State::Active
            }
            Ownership::Adopting => node.holds_address && state == State::Backup,
        };
        if !right {
            let holds = node.holds_address;
            let seen = format!(
                "router {number} is {state}, {ownership:?}, has the address on its interface: {holds}"
            );
            self.report(now, Invariant::HeldByRight, seen);
        }
        let record = &self.records[index];
        let unimpaired_since = |begun: Duration| {
            node.latest.is_zero() && record.impaired_at.is_none_or(|at| at < begun)
        };
        // Woken late by chance, and once more for what came in between.
        let margin = self.jitter * 2;
        let started_at = record.started_at;
        // Three intervals and the skew time, which is less than one.
        let down = node.plan.interval * 4;
        if ownership == Ownership::Adopting
            && unimpaired_since(started_at)
            && now > started_at + down + margin
        {
            let seen = format!("router {number} adopts for {:?}", now - started_at);
            self.report(now, Invariant::AdoptingEnds, seen);
            return;
        }
        if let Some(since) = record.handing_over_since
            && unimpaired_since(since)
            && now > since + self.patience + LINGER + margin
        {
            let seen = format!("router {number} hands over for {:?}", now - since);
            self.report(now, Invariant::HandingOverEnds, seen);
        }
    }

    fn keeps_promises(&mut self, now: Duration, index: usize, node: &Node) {
        let owed = self.records[index].owes_takeover_at;
        if let Some(owed) = owed
            && node.latest.is_zero()
            && node.clock(now) > owed + self.jitter * 2
        {
            let number = node.number();
            let seen = format!("router {number} has heard priority 0 and doesn't take over");
            self.report(now, Invariant::LeavingIsAnswered, seen);
        }
        let owed = self.records[index].owes_announcement_at;
        if let Some(owed) = owed
            && node.latest.is_zero()
            && node.clock(now) > owed + self.jitter * 2
        {
            let number = node.number();
            let seen = format!("router {number} has met another Active and doesn't announce");
            self.report(now, Invariant::AnnouncesAgain, seen);
        }
    }

    fn serves(&mut self, now: Duration, view: &View<'_>) {
        if !self.planned || view.is_served() {
            self.unserved_since = None;
            return;
        }
        let since = *self.unserved_since.get_or_insert(now);
        // The advert that moves the router and the announcement that moves the LAN don't arrive
        // at the same moment.
        if now > since + self.jitter * 2 {
            let seen = format!(
                "the LAN sends to {:?}, which hasn't held the address for {:?}",
                view.neighbour,
                now - since
            );
            self.report(now, Invariant::PlannedIsSeamless, seen);
        }
    }

    fn report(&mut self, at: Duration, invariant: Invariant, seen: String) {
        self.violation.get_or_insert(Violation {
            invariant,
            at,
            seen,
        });
    }
}

fn is_promotion(deed: &Deed) -> bool {
    matches!(deed, Deed::Changed(transition) if transition.to == State::Active)
}

/// How long the best Backup that there may be waits: three intervals and the skew time of 254.
fn silence_limit(node: &Node) -> Duration {
    let unit = match node.plan.version {
        Version::V2 => Duration::from_secs(1),
        Version::V3 => node.plan.interval,
    };
    node.plan.interval * 3 + unit * 2 / 256
}
