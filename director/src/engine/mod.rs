//! Where role, verdicts and configuration meet and become desired state.
//!
//! The engine holds no sockets and decides nothing about packets: it hears of verdicts, says what
//! the forwarding table should be, and tells the VRRP thread when this machine is ready to serve.
//! Called by [`crate::worker`] only.

mod checkers;
mod desired;
mod difference;
mod judged;
mod news;
mod paths;
mod plan;
mod pools;
mod report;
mod roles;
mod watches;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use lvs_proto::health::Verdict;
use lvs_proto::vrrp::Ownership;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::{oneshot, watch};
use tracing::{info, warn};

pub use self::desired::Unjudged;
pub use self::plan::{PendingPlan, Plan, in_words};
pub use self::roles::Terms;

use self::checkers::Checkers;
use self::desired::{desired, unjudged};
use self::difference::{differences, other_keys};
use self::judged::{Healths, Obstacle, obstacle, quorum};
use self::news::News;
use self::pools::Pools;
use self::report::Measured;
use self::roles::Roles;
use self::watches::Watches;
use crate::config::{self, Configuration, Hashes, Material};
use crate::control::{Change, ServiceStatus};
use crate::dataplane::{Desired, Question, TableEvent, TableThread};
use crate::events::{Events, Kind, Occurrence, Severity};
use crate::hand::{self, Hands, Keeper, Order, Place};
use crate::health::{self, Health, Subject};
use crate::metrics::Metrics;
use crate::tracking;
use crate::vrrp::{self, Ownerships, VrrpThread};
use crate::wording::age;

/// An operator's hand ends by the clock on the wall, which may be set: it's looked at this often.
const CLOCK_CHECK: Duration = Duration::from_secs(30);

/// A configuration file, read for this machine.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What the daemon goes by.
    pub configuration: Configuration,
    /// The same without what key files hold, to be compared with others.
    pub outline: Configuration,
    /// What both follow from.
    pub material: Arc<Material>,
}

/// An order that is in force, and may still have to reach kernel and disk.
#[derive(Debug)]
pub struct Obeyed {
    /// Whom it concerns, and how they were.
    pub touched: Vec<(Place, hand::State)>,
    /// What else there is to know.
    pub notes: Vec<String>,
    written: oneshot::Receiver<Result<(), String>>,
    asked: u64,
    applied: watch::Receiver<u64>,
}

impl Obeyed {
    /// Waits until the order is written down, or can't be, for the reason that comes back.
    pub async fn written(&mut self) -> Option<String> {
        match (&mut self.written).await {
            Ok(written) => written.err(),
            Err(_) => Some("the director is stopping".to_owned()),
        }
    }

    /// Waits until the kernel has the table that follows.
    pub async fn applied(&mut self) {
        let asked = self.asked;
        // It ends with the engine.
        let _ = self.applied.wait_for(|applied| *applied >= asked).await;
    }
}

/// The state of the worker.
pub struct Engine {
    configuration: Configuration,
    outline: Configuration,
    hashes: Hashes,
    material: Arc<Material>,
    roles: Roles,
    checkers: Checkers,
    watches: Watches,
    hands: Keeper,
    pools: Pools,
    /// Instances whose services can be served.
    ready: HashSet<String>,
    /// The table that was asked for last, and the last one that the kernel has.
    asked: u64,
    applied: watch::Sender<u64>,
    /// The services that the kernel didn't take as asked.
    refused: BTreeSet<String>,
    table_complaints: Vec<String>,
    vrrp: VrrpThread,
    table: TableThread,
    metrics: Arc<Metrics>,
    news: News,
    events: Events,
}

impl Engine {
    /// Starts the checkers. The first table is asked for once the VRRP thread has told how the
    /// instances stand with their addresses.
    pub fn start(
        loaded: Loaded,
        (vrrp, ownerships): (VrrpThread, UnboundedReceiver<Ownerships>),
        table: TableThread,
        metrics: Arc<Metrics>,
        health_events: UnboundedSender<health::Event>,
        hands: Keeper,
        events: Events,
    ) -> Self {
        let mut engine = Self {
            configuration: loaded.configuration,
            hashes: Hashes::of(&loaded.outline),
            outline: loaded.outline,
            material: loaded.material,
            roles: Roles::new(ownerships),
            checkers: Checkers::new(Arc::clone(&metrics), health_events.clone()),
            watches: Watches::new(Arc::clone(&metrics), health_events),
            hands,
            pools: Pools::default(),
            ready: HashSet::new(),
            asked: 0,
            applied: watch::Sender::new(0),
            refused: BTreeSet::new(),
            table_complaints: Vec::new(),
            vrrp,
            table,
            metrics,
            news: News::default(),
            events,
        };
        engine.metrics.show_configuration(&engine.hashes.all);
        let hands = engine.hands.hands();
        engine.checkers.arrange(&engine.configuration, hands, 1);
        engine.watches.arrange(&engine.configuration);
        engine.settle();
        engine
    }

    /// What another configuration would change. Servers without a verdict count as healthy.
    pub fn plan(&self, outline: &Configuration) -> PendingPlan {
        let (plan, question) = self.question(outline);
        self.table.plan(question);
        plan
    }

    /// A plan for another configuration, and what has to be asked for it.
    fn question(&self, outline: &Configuration) -> (PendingPlan, Question) {
        let none = Ownerships::new();
        let now = self.roles.known().unwrap_or(&none);
        let after = self.roles.after(&self.outline, outline);
        let healths = self.checkers.known_under(outline);
        let outcomes = |healths| self.pools.preview(outline, healths, self.hands.hands());
        let unjudged = unjudged(&desired(outline, &outcomes(&healths), &after));
        let wanted = desired(outline, &outcomes(&optimistic(&healths)), &after);
        let (answer, table) = oneshot::channel();
        let plan = PendingPlan {
            beside: differences(&self.outline, outline, now),
            unjudged,
            table,
        };
        let question = Question {
            desired: wanted,
            answer,
        };
        (plan, question)
    }

    /// Whether this machine goes by what follows from `material`, and has nothing left to do or to
    /// wait for: going by it once more would change nothing.
    pub fn is_settled_with(&self, material: &Arc<Material>) -> bool {
        Arc::ptr_eq(&self.material, material)
            && self.table_follows()
            && self.refused.is_empty()
            && self.table_complaints.is_empty()
            && self.unjudged().next().is_none()
    }

    /// What the configuration was made of.
    pub fn material(&self) -> &Arc<Material> {
        &self.material
    }

    /// Of the configuration in force.
    pub fn hashes(&self) -> &Hashes {
        &self.hashes
    }

    /// Goes on with the configuration that it has, and looks at the table.
    pub fn confirm(&self) -> PendingPlan {
        self.table.look();
        self.metrics.reloaded(true);
        PendingPlan::nothing()
    }

    /// Goes on with another configuration, and returns what that changes. Servers that stay keep their
    /// verdicts, instances that stay their state.
    ///
    /// # Errors
    /// When an instance can't start; nothing has changed then.
    pub async fn configure(&mut self, loaded: Loaded) -> Result<PendingPlan, vrrp::SpawnError> {
        let Loaded {
            configuration,
            outline,
            material,
        } = loaded;
        let (mut plan, question) = self.question(&outline);
        plan.beside
            .extend(self.other_keys(&configuration, &outline));
        self.vrrp.configure(configuration.instances.clone()).await?;
        self.roles.catch_up();
        let previous = std::mem::replace(&mut self.configuration, configuration);
        self.hashes = Hashes::of(&outline);
        self.metrics.show_configuration(&self.hashes.all);
        self.outline = outline;
        self.material = material;
        for instance in &previous.instances {
            if !self
                .configuration
                .instances
                .iter()
                .any(|one| one.name == instance.name)
            {
                self.metrics.forget_vrrp(&instance.name);
            }
        }
        // A virtual router that was opened anew has to hear it again.
        let instances = &self.configuration.instances;
        self.ready
            .retain(|name| instances.iter().any(|instance| instance.name == *name));
        for name in &self.ready {
            self.vrrp.set_ready(name, true);
        }
        let (hands, next) = (self.hands.hands(), self.asked + 1);
        self.checkers.arrange(&self.configuration, hands, next);
        self.watches.arrange(&self.configuration);
        self.decide();
        self.ask_for_table_and(Some(question));
        self.update_readiness();
        self.metrics.reloaded(true);
        Ok(plan)
    }

    /// Counts a configuration that was refused; nothing else changes.
    pub fn refuse(&mut self) {
        self.metrics.reloaded(false);
    }

    /// Checkers have something to say: one table follows from all of it.
    pub fn hear_health(&mut self, events: impl IntoIterator<Item = health::Event>) {
        let mut changed = false;
        for event in events {
            if let health::Change::Watched(observation) = event.change {
                self.watches.hear(event.checker, &observation);
                changed = true;
            } else {
                changed |= self.checkers.hear(event);
            }
        }
        if changed {
            self.settle();
        }
    }

    /// How long until something changes for time alone: a step of a slow start, or the end of an
    /// operator's hand. [`Self::hear_time`] is to be called then.
    pub fn next_change(&self) -> Option<Duration> {
        let hand = self.hands.hands().next_expiry(SystemTime::now());
        let hand = hand.map(|left| left.min(CLOCK_CHECK));
        let pools = self.pools.next();
        let pools = pools.map(|next| next.saturating_duration_since(Instant::now()));
        let watches = self.watches.next(Instant::now());
        let watches = watches.map(|next| next.saturating_duration_since(Instant::now()));
        hand.into_iter().chain(pools).chain(watches).min()
    }

    /// The time of [`Self::next_change`] has come.
    pub fn hear_time(&mut self) {
        let now = SystemTime::now();
        if self.hands.hands().next_expiry(now) == Some(Duration::ZERO) {
            // What isn't written down ends by itself at the next start.
            let (expired, _written) = self.hands.change(|hands| hands.expire(now));
            for (place, entry) in expired {
                let state = entry.state.word();
                info!(server = %place, "is no longer {state}: its time is over");
                let text = format!("no longer {state} by hand: its time is over");
                let event = Occurrence::new(Kind::HandExpired, Severity::Info, text);
                self.events
                    .record(event.of(place.to_string()).with("was", state));
            }
        }
        self.watches.hear_time(Instant::now());
        self.settle();
    }

    /// The table's thread has done something.
    pub fn hear_table(&mut self, event: &TableEvent) {
        match event {
            TableEvent::Applied {
                generation,
                refused,
            } => {
                self.applied.send_replace(*generation);
                self.checkers.table_applied(*generation);
                self.refused.clone_from(refused);
                self.update_readiness();
            }
            TableEvent::Complaints(complaints) => self.table_complaints.clone_from(complaints),
            TableEvent::Changed { .. } => {}
            TableEvent::Repaired(text) => {
                let event = Occurrence::new(Kind::TableRepaired, Severity::Warning, text);
                self.events.record(event);
            }
            TableEvent::Trouble(problems) => self.events.record(match problems.as_slice() {
                [] => Occurrence::new(
                    Kind::TableWell,
                    Severity::Info,
                    "the forwarding table is as it should be again",
                ),
                [first, others @ ..] => {
                    let more = match others.len() {
                        0 => String::new(),
                        more => format!("; and {more} more"),
                    };
                    let text = format!("the forwarding table: {first}{more}");
                    Occurrence::new(Kind::TableTrouble, Severity::Error, text)
                        .with("problems", problems.clone())
                }
            }),
        }
    }

    /// Waits for news of who holds the addresses, and asks for the table that follows. May be dropped
    /// at any time.
    pub async fn follow_roles(&mut self) {
        self.roles.changed().await;
        self.ask_for_table();
        self.update_readiness();
    }

    /// The number of the table that was asked for last, as in [`TableEvent`].
    pub fn asked(&self) -> u64 {
        self.asked
    }

    /// The VIPs for which no real server answers, each on one line with what that may mean.
    pub fn silent_vips(&self) -> Vec<String> {
        self.checkers.silent_vips().cloned().collect()
    }

    /// What is wrong with the table now, each on one line with what to do about it.
    pub fn table_complaints(&self) -> &[String] {
        &self.table_complaints
    }

    /// What keeps an instance from being ready; nothing if it is.
    pub fn obstacle(&self, instance: &str) -> Option<String> {
        if self.ready.contains(instance) {
            return None;
        }
        let outcomes = self.pools.outcomes();
        let found = obstacle(&self.configuration, instance, outcomes, &self.refused);
        Some(found.map_or_else(
            || "the forwarding table is not as asked for yet".to_owned(),
            |found| found.to_string(),
        ))
    }

    /// Whether the kernel has the table that was asked for last, but for what it refused.
    pub fn table_follows(&self) -> bool {
        self.asked > 0 && *self.applied.borrow() == self.asked
    }

    /// What is known of a real server; `None` if it isn't configured.
    pub fn health(&self, subject: &Subject) -> Option<&Health> {
        self.healths().get(subject)
    }

    /// How many checkers run.
    pub fn checkers(&self) -> usize {
        self.checkers.number()
    }

    /// The real servers without a verdict.
    pub fn unjudged(&self) -> impl Iterator<Item = &Subject> {
        let healths = self.healths().iter();
        healths
            .filter(|(_, health)| health.verdict == Verdict::Unknown)
            .map(|(subject, _)| subject)
    }

    /// How the instances stand with their addresses, and how often each has taken them; `None` before the
    /// VRRP thread's first word.
    pub fn ownerships(&self) -> Option<(&Ownerships, &Terms)> {
        Some((self.roles.known()?, self.roles.terms()))
    }

    /// Obeys an operator's order, and says whom it concerns. What comes back besides ends when the
    /// kernel has the table that follows, and when the order is written down.
    ///
    /// # Errors
    /// In words for people, when it is about nobody.
    pub fn obey(&mut self, order: &Order) -> Result<Obeyed, String> {
        let services = self.configuration.services.iter();
        let present: Vec<Place> = services
            .flat_map(|service| {
                service.real_servers.iter().map(|server| Place {
                    service: service.name.clone(),
                    real_server: server.key,
                })
            })
            .collect();
        let now = SystemTime::now();
        let (touched, written) = self.hands.change(|hands| hands.obey(order, present, now));
        if touched.is_empty() {
            return Err(format!(
                "no server is {}; `director status --json` has their names",
                order.servers
            ));
        }
        for (place, was) in &touched {
            let (state, was) = (order.state.word(), was.word());
            let reason = order.reason.as_deref().unwrap_or_default();
            info!(server = %place, was, reason, "{state} by hand");
            self.events
                .record(by_hand(order, was).of(place.to_string()));
        }
        self.settle();
        let services: BTreeSet<&str> = touched
            .iter()
            .map(|(place, _)| place.service.as_str())
            .collect();
        let notes = pools::empty(&self.configuration, &services, self.pools.outcomes());
        Ok(Obeyed {
            touched,
            notes,
            written,
            asked: self.asked,
            applied: self.applied.subscribe(),
        })
    }

    /// How all services are.
    pub fn services(&self) -> Vec<ServiceStatus> {
        let mut services = report::services(
            &self.configuration,
            self.pools.outcomes(),
            self.checkers.healths(),
            self.hands.hands(),
            &Measured {
                latency: &|subject| self.checkers.latency(subject),
                rates: self.metrics.kernel().queries_per_second(),
            },
            SystemTime::now(),
        );
        for complaint in self.watches.complaints() {
            let mut services = services.iter_mut();
            let service = services.find(|service| service.name == complaint.service);
            let pools = service.into_iter().flat_map(|service| &mut service.pools);
            let servers = pools.flat_map(|pool| &mut pool.servers);
            let concerned = servers.filter(|server| server.server == complaint.real_server);
            for server in concerned.filter(|server| server.failure.is_none()) {
                server.failure = Some(complaint.failure.clone());
            }
        }
        services
    }

    /// What is wrong with what operators have said, each on one line with what to do about it.
    pub fn hand_problems(&self) -> Vec<String> {
        report::hand_problems(&self.configuration, self.hands.hands(), self.hands.damage())
    }

    /// What this machine goes by.
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// Something that an instance tracks has changed what it's worth.
    pub fn hear_tracking(&mut self, event: &tracking::Event) {
        let fault = event.fault.is_some();
        self.vrrp.track(&event.instance, event.priority, fault);
    }

    /// The VRRP thread, for status and handover.
    pub fn vrrp(&self) -> &VrrpThread {
        &self.vrrp
    }

    /// The names of the instances.
    pub fn instances(&self) -> impl Iterator<Item = &str> {
        let instances = self.configuration.instances.iter();
        instances.map(|instance| instance.name.as_str())
    }

    /// Whether each service can be served, as far as that is known.
    pub fn quorums(&self) -> Vec<(&str, bool)> {
        let services = self.configuration.services.iter();
        services
            .filter_map(|service| {
                let quorum = quorum(service, self.pools.outcomes())?;
                Some((service.name.as_str(), quorum))
            })
            .collect()
    }

    /// Begins to leave the LAN, so that the peer takes over while everything goes on here; a second
    /// call ends that at once.
    pub fn begin_stop(&self) {
        self.vrrp.begin_stop();
    }

    /// Takes the table away, after the LAN was left.
    pub fn stop(self) {
        self.vrrp.join();
        self.checkers.stop();
        self.watches.stop();
        self.table.stop();
    }

    fn healths(&self) -> &Healths {
        self.checkers.healths()
    }

    /// The instances whose keys are others, though the file says the same of them.
    fn other_keys(&self, configuration: &Configuration, outline: &Configuration) -> Vec<Change> {
        let find = |all: &Configuration, like: &config::Instance| {
            let mut instances = all.instances.iter();
            let found = instances.find(|one| one.identity() == like.identity());
            found.map(|one| one.version.clone())
        };
        let has_others = |next: &&config::Instance| {
            find(&self.outline, next) == find(outline, next)
                && find(&self.configuration, next) != Some(next.version.clone())
        };
        let instances = configuration.instances.iter();
        instances.filter(has_others).map(other_keys).collect()
    }

    /// Decides what becomes of all servers, and has it done.
    fn settle(&mut self) {
        let hands = self.hands.hands();
        self.checkers.follow_hands(&self.configuration, hands);
        if self.decide() {
            self.ask_for_table();
        }
        self.update_readiness();
        let complaints = self.watches.complaints().map(|complaint| {
            let subject = format!("{}/{}", complaint.service, complaint.real_server);
            (subject, complaint.failure.text)
        });
        let mut news = self.news.of_data(complaints.collect());
        news.extend(self.news.of_paths(self.checkers.silence()));
        self.record(news);
    }

    /// Decides what becomes of all servers, and says whether that is another decision.
    fn decide(&mut self) -> bool {
        self.pools.set_leftovers(self.watches.leftovers());
        let before = self.pools.decide(
            &self.configuration,
            self.checkers.healths(),
            self.hands.hands(),
            Instant::now(),
        );
        if let Some(before) = &before {
            let outcomes = self.pools.outcomes();
            pools::tell(&self.configuration, before, outcomes);
            let known = (self.checkers.healths(), self.hands.hands());
            let (configuration, now) = (&self.configuration, Instant::now());
            let mut news = self.news.of_servers(configuration, outcomes, known, now);
            news.extend(news::of_pools(configuration, before, outcomes));
            self.record(news);
        }
        before.is_some()
    }

    fn record(&self, news: Vec<Occurrence>) {
        for occurrence in news {
            self.events.record(occurrence);
        }
    }

    fn ask_for_table(&mut self) {
        self.ask_for_table_and(None);
    }

    /// The plan that is asked for, if any, is made of the same picture as the table.
    fn ask_for_table_and(&mut self, question: Option<Question>) {
        // Before the first word, services that are found must stay as they are.
        if let Some(ownerships) = self.roles.known() {
            self.asked += 1;
            let desired = desired(&self.configuration, self.pools.outcomes(), ownerships);
            self.table.set(self.asked, desired, question);
        } else if let Some(question) = question {
            self.table.plan(question);
        }
    }

    /// Tells the VRRP thread which instances could serve, where that has changed.
    fn update_readiness(&mut self) {
        let table_follows = self.table_follows();
        for instance in &self.configuration.instances {
            let name = &instance.name;
            let was_ready = self.ready.contains(name);
            let outcomes = self.pools.outcomes();
            let obstacle = obstacle(&self.configuration, name, outcomes, &self.refused);
            match obstacle {
                None if !was_ready && table_follows => {
                    info!(instance = %name, "ready to serve");
                    let event = Occurrence::new(Kind::Ready, Severity::Info, "ready to serve");
                    self.events.record(event.of(name));
                    self.ready.insert(name.clone());
                    self.vrrp.set_ready(name, true);
                }
                // A server that was added a moment ago takes nothing away from the others.
                Some(obstacle @ Obstacle::NoQuorum { .. }) if was_ready => {
                    warn!(instance = %name, "not ready to serve: {obstacle}");
                    let text = format!("not ready to serve: {obstacle}");
                    let event = Occurrence::new(Kind::NotReady, Severity::Error, text).of(name);
                    self.events
                        .record(event.with("reason", obstacle.to_string()));
                    self.ready.remove(name);
                    self.vrrp.set_ready(name, false);
                }
                _ => {}
            }
        }
    }
}

/// An operator's order to one server that was in the state `was`.
fn by_hand(order: &Order, was: &str) -> Occurrence {
    let state = order.state.word();
    let mut text = format!("{state} by hand");
    if let Some(time) = order.time {
        text += &format!(" for {}", age(time));
    }
    if let Some(reason) = &order.reason {
        text += &format!(" ({reason})");
    }
    text += &format!("; was {was}");
    let event = Occurrence::new(Kind::Hand, Severity::Info, text);
    let event = event.with("state", state).with("was", was);
    let event = match order.time {
        Some(time) => event.with("for_seconds", time.as_secs()),
        None => event,
    };
    match &order.reason {
        Some(reason) => event.with("reason", reason.as_str()),
        None => event,
    }
}

/// What the table of a director that starts now should be, with every server counted as healthy. The
/// instances in `found` have a VIP on this machine already, and keep it for now.
pub fn desired_at_start(
    configuration: &Configuration,
    found: &BTreeSet<&str>,
    hands: &Hands,
) -> Desired {
    let instances = configuration.instances.iter();
    let ownerships = instances.map(|instance| {
        let ownership = if found.contains(instance.name.as_str()) {
            Ownership::Adopting
        } else {
            Ownership::Absent
        };
        (instance.name.clone(), ownership)
    });
    let healths = judged::all_subjects(configuration);
    let healths = healths.map(|subject| (subject, Verdict::Healthy.into()));
    let outcomes = Pools::default().preview(configuration, &healths.collect(), hands);
    desired(configuration, &outcomes, &ownerships.collect())
}

/// The same with every server without a verdict counted as healthy.
fn optimistic(healths: &Healths) -> Healths {
    let known = healths.iter().map(|(subject, health)| {
        let health = match health.verdict {
            Verdict::Unknown => Verdict::Healthy.into(),
            Verdict::Healthy | Verdict::Unhealthy => health.clone(),
        };
        (subject.clone(), health)
    });
    known.collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use super::*;
    use std::path::Path;

    /// What this file is for ds1.
    pub(crate) fn configuration(text: &str) -> Configuration {
        let file = config::parse(Path::new("director.yaml"), text);
        let file = file.unwrap_or_else(|errors| panic!("{errors}"));
        file.outline("ds1").unwrap()
    }
}
