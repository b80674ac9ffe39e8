//! The LAN: routers, packets between them and a client, on a clock that jumps to the next event.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};

use lvs_proto::vrrp::Transition;

use super::invariants::{View, Violation, Watch};
use super::node::{Deed, Node, Packet, Round};
use super::random::Random;
use super::scenario::{
    CLIENT, Crash, Event, MOST_ROUTERS, Number, RouterEvent, Scenario, Step, Trouble, Weather,
};
use super::story::Story;

/// The routers and the client.
const PLACES: usize = MOST_ROUTERS as usize + 1;

/// What came of a scenario.
#[derive(Debug)]
pub struct Outcome {
    /// The first thing that must not be.
    pub violation: Option<Violation>,
    /// Every change of state, by whom and when.
    pub transitions: Vec<(Duration, Number, Transition)>,
    /// What happened, in lines, if that was asked for.
    pub story: Vec<String>,
    /// How many packets arrived and how often a router was woken.
    pub events: u64,
}

/// Plays a scenario to its end, or to the first violation.
pub fn run(scenario: &Scenario, story: Story) -> Outcome {
    let mut lan = Lan::new(scenario, story);
    let panicked = catch_unwind(AssertUnwindSafe(|| lan.play())).is_err();
    Outcome {
        violation: lan.watch.into_violation(lan.now, panicked),
        transitions: lan.transitions,
        story: lan.story.into_lines(),
        events: lan.events,
    }
}

/// Who reaches whom.
#[derive(Debug, Default)]
pub(super) struct Links {
    side: u8,
    cuts: Vec<(Number, Number)>,
    down: u8,
}

impl Links {
    pub(super) fn carries(&self, from: Number, to: Number) -> bool {
        let side = |place| self.side >> place & 1;
        let down = self.down >> from & 1 == 1 || self.down >> to & 1 == 1;
        side(from) == side(to) && !down && !self.cuts.contains(&(from, to))
    }

    /// Whether everybody hears all who hear them.
    pub(super) fn is_clear(&self) -> bool {
        self.cuts.is_empty()
    }

    fn set_down(&mut self, place: Number, down: bool) {
        self.down = self.down & !(1 << place) | u8::from(down) << place;
    }
}

enum Happening {
    Step(usize),
    Arrival(usize, Rc<Packet>),
    Announcement(Number),
    Wake { index: usize, turn: u64 },
}

struct Entry {
    at: Duration,
    order: u64,
    happening: Happening,
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

/// When a router is woken next, and how many numbers were drawn for it.
#[derive(Clone, Copy, Default)]
struct Turn {
    at: Option<Duration>,
    /// When it should be woken.
    due: Option<Duration>,
    number: u64,
    sent: u64,
}

struct Lan<'a> {
    scenario: &'a Scenario,
    epoch: Instant,
    now: Duration,
    queue: BinaryHeap<Reverse<Entry>>,
    order: u64,
    nodes: Vec<Node>,
    turns: Vec<Turn>,
    links: Links,
    weather: Weather,
    /// From whom, to whom: when the last packet arrives.
    arrivals: [[Duration; PLACES]; PLACES],
    /// Where the client sends what is for the virtual address.
    neighbour: Option<Number>,
    watch: Watch,
    transitions: Vec<(Duration, Number, Transition)>,
    story: Story,
    events: u64,
}

/// What the watch may see; a macro, so that the watch itself can be borrowed beside it.
macro_rules! view {
    ($lan:expr) => {
        View {
            epoch: $lan.epoch,
            nodes: &$lan.nodes,
            links: &$lan.links,
            neighbour: $lan.neighbour,
        }
    };
}

impl<'a> Lan<'a> {
    fn new(scenario: &'a Scenario, story: Story) -> Self {
        let nodes: Vec<Node> = scenario
            .routers
            .iter()
            .map(|plan| Node::new(plan, scenario))
            .collect();
        let mut lan = Self {
            scenario,
            epoch: Instant::now(),
            now: Duration::ZERO,
            queue: BinaryHeap::new(),
            order: 0,
            turns: vec![Turn::default(); nodes.len()],
            nodes,
            links: Links::default(),
            weather: scenario.weather,
            arrivals: Default::default(),
            neighbour: None,
            watch: Watch::new(scenario),
            transitions: Vec::new(),
            story,
            events: 0,
        };
        for (index, step) in scenario.steps.iter().enumerate() {
            lan.schedule(step.at, Happening::Step(index));
        }
        lan
    }

    fn play(&mut self) {
        while let Some(Reverse(entry)) = self.queue.pop() {
            if entry.at > self.scenario.length || self.watch.has_seen_enough() {
                return;
            }
            self.now = entry.at;
            self.happen(entry.happening);
            let view = view!(self);
            self.watch.look(self.now, &view);
        }
    }

    fn schedule(&mut self, at: Duration, happening: Happening) {
        self.order += 1;
        self.queue.push(Reverse(Entry {
            at,
            order: self.order,
            happening,
        }));
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Step(index) => {
                let scenario = self.scenario;
                if let Some(step) = scenario.steps.get(index) {
                    self.step(step);
                }
            }
            Happening::Arrival(index, packet) => {
                self.events += 1;
                if self.nodes[index].receive(packet) {
                    self.wake(index, self.now);
                }
            }
            Happening::Announcement(number) => self.neighbour = Some(number),
            Happening::Wake { index, turn } => {
                if self.turns[index].number == turn {
                    self.events += 1;
                    self.round(index);
                }
            }
        }
    }

    fn step(&mut self, step: &Step) {
        self.story.tell(self.now, || format!("-- {}", step.event));
        let view = view!(self);
        self.watch.step(self.now, step.event, &view);
        match step.event {
            Event::Router(number, event) => {
                let index = self.nodes.iter().position(|node| node.number() == number);
                if let Some(index) = index {
                    self.befall(index, event);
                }
            }
            Event::Weather(weather) => self.weather = weather,
            Event::Partition(side) => self.links.side = side,
            Event::Cut(from, to) => self.links.cuts.push((from, to)),
            Event::Heal => {
                self.links.side = 0;
                self.links.cuts.clear();
            }
        }
    }

    fn befall(&mut self, index: usize, event: RouterEvent) {
        let now = self.now;
        let node = &mut self.nodes[index];
        match event {
            RouterEvent::Start => {
                if node.instance.is_none() {
                    node.start(self.epoch, now);
                    self.watch.started(now, index);
                    self.round(index);
                }
            }
            RouterEvent::Crash(crash) => {
                let last_words = node.last_words(now);
                node.stop_existing();
                if crash != Crash::Programs {
                    node.holds_address = false;
                }
                if crash == Crash::Worker {
                    self.send(index, 0, &last_words);
                }
            }
            RouterEvent::Pause(pause) => node.pause(pause, now),
            RouterEvent::Resume => {
                if let Some(paused) = node.paused {
                    node.resume(now);
                    self.watch.resumed(now, index, paused);
                    self.round(index);
                }
            }
            RouterEvent::Late(most) => node.latest = most,
            RouterEvent::Fault(Trouble::Link) | RouterEvent::Recover(Trouble::Link) => {
                node.link_is_down = event == RouterEvent::Fault(Trouble::Link);
                self.links.set_down(node.number(), node.link_is_down);
                node.command(event);
                self.round(index);
            }
            command => {
                node.command(command);
                self.round(index);
            }
        }
    }

    /// Lets the router do what there is to do, and says when it is woken again.
    fn round(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let Some(round) = node.round(self.epoch, self.now) else {
            return;
        };
        let view = view!(self);
        self.watch.round(self.now, index, &view, &round);
        self.carry_out(index, &round);
        let next = self.nodes[index].next_timeout(self.epoch, self.now);
        let turn = &mut self.turns[index];
        (turn.at, turn.due) = (None, None);
        turn.number += 1;
        if let Some(next) = next {
            self.wake(index, next);
        }
    }

    fn carry_out(&mut self, index: usize, round: &Round) {
        let number = self.nodes[index].number();
        for deed in &round.deeds {
            match deed {
                Deed::Sent(priority, packets) => self.send(index, *priority, packets),
                Deed::Took => self.tell(number, || "takes the address".into()),
                Deed::LetGo => self.tell(number, || "lets go of the address".into()),
                Deed::Announced => self.announce(index),
                Deed::Changed(transition) => {
                    self.transitions.push((self.now, number, *transition));
                    let Transition { from, to, reason } = *transition;
                    self.tell(number, || format!("{from} -> {to}: {reason}"));
                }
                Deed::Unanswered => self.tell(number, || "hears nobody answer".into()),
            }
        }
    }

    fn tell(&mut self, number: Number, what: impl FnOnce() -> String) {
        self.story
            .tell(self.now, || format!("   router {number} {}", what()));
    }

    fn send(&mut self, index: usize, priority: u8, packets: &[Rc<Packet>]) {
        let from = self.nodes[index].number();
        let mut missed = Vec::new();
        for packet in packets {
            for to in 0..self.nodes.len() {
                let Node { address, plan, .. } = &self.nodes[to];
                let receiver = plan.number;
                let meant = packet.destination.is_multicast() || packet.destination == *address;
                if to == index || !meant {
                    continue;
                }
                let arrivals = self.fates(index, receiver);
                if arrivals.is_empty() {
                    missed.push(receiver);
                }
                for at in arrivals {
                    self.schedule(at, Happening::Arrival(to, Rc::clone(packet)));
                }
            }
        }
        self.turns[index].sent += 1;
        self.story.advert(self.now, from, priority, &missed);
    }

    fn announce(&mut self, index: usize) {
        let number = self.nodes[index].number();
        self.tell(number, || "announces the address".into());
        for at in self.fates(index, CLIENT) {
            self.schedule(at, Happening::Announcement(number));
        }
        self.turns[index].sent += 1;
    }

    /// When a packet arrives: never, once or twice.
    fn fates(&mut self, sender: usize, to: Number) -> Vec<Duration> {
        let from = self.nodes[sender].number();
        if !self.links.carries(from, to) {
            return Vec::new();
        }
        let sent = self.turns[sender].sent;
        let mut random = Random::of(&[self.scenario.seed, from.into(), to.into(), sent]);
        let Weather {
            loss,
            duplicates,
            least_delay,
            most_delay,
        } = self.weather;
        if random.chance(loss) {
            self.watch.disturb(self.now);
            return Vec::new();
        }
        let copies = if random.chance(duplicates) { 2 } else { 1 };
        let mut arrivals = Vec::with_capacity(copies);
        for _ in 0..copies {
            let mut at = self.now + random.between(least_delay, most_delay);
            if at > self.now + self.scenario.weather.most_delay {
                self.watch.disturb(at);
            }
            // A LAN at its best keeps the order.
            let last = &mut self.arrivals[usize::from(from)][usize::from(to)];
            if most_delay <= self.scenario.weather.most_delay {
                at = at.max(*last);
            }
            *last = at.max(*last);
            arrivals.push(at);
        }
        arrivals
    }

    /// A router is to be woken at `due`, and is a little later, or much.
    fn wake(&mut self, index: usize, due: Duration) {
        let number = u64::from(self.nodes[index].number());
        let turn = self.turns[index].number;
        let mut random = Random::of(&[self.scenario.seed, number, turn, due.as_nanos() as u64]);
        let usual = random.between(Duration::ZERO, self.scenario.lateness);
        let unusual = random.between(Duration::ZERO, self.nodes[index].latest);
        let at = due + usual.max(unusual);
        let turn = &mut self.turns[index];
        let due = turn.due.map_or(due, |earlier| earlier.min(due));
        turn.due = Some(due);
        let is_first = turn.at.is_none_or(|earlier| at < earlier);
        let at = turn.at.map_or(at, |earlier| earlier.min(at));
        if is_first {
            turn.at = Some(at);
            turn.number += 1;
            let turn = turn.number;
            self.schedule(at, Happening::Wake { index, turn });
        }
        if at > due + self.scenario.lateness {
            self.watch.disturb(at);
        }
    }
}
