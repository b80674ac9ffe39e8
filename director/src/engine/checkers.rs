//! Which checkers run, for whom, and what they have said.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lvs_proto::health::{FailureKind, Smoothed, Verdict};
use lvs_proto::ipvs::{Forwarding, Protocol};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tracing::{info, warn};

use super::judged::{Healths, all_subjects, subjects};
use super::paths::{marks, vips_on_servers};
use crate::config::{Check, Configuration, Service};
use crate::dataplane::Marks;
use crate::hand::{Hands, Place};
use crate::health::{self, Change, Checker, Gate, Health, Path, Reason, Subject, Target};
use crate::metrics::{Metrics, ProbeLabels, ProbeMetrics};

/// Between the starts of two checkers, so that they don't all send at once.
const STEP: Duration = Duration::from_micros(250);
/// The last one starts by then, however many there are: it has to have its answer within a second.
const LATEST_START: Duration = Duration::from_millis(500);

/// A smoothed latency is said anew when it has moved by more than this part, and by more than this.
const LATENCY_BAND: u32 = 10;
const LATENCY_NOISE: Duration = Duration::from_micros(200);

/// All checkers.
pub(super) struct Checkers {
    running: HashMap<Target, Running>,
    /// The targets of those that run, by their numbers.
    numbers: HashMap<u64, Target>,
    speakers: Speakers,
    /// The table that the kernel has, which probes to VIPs wait for.
    applied: watch::Sender<u64>,
    /// The first table with the services for those.
    probed_since: u64,
    /// Whom nobody asks by a VIP.
    drained: BTreeSet<Place>,
    /// The VIPs for which nobody answers, as said last.
    silent: BTreeMap<String, String>,
    healths: Healths,
    /// Those whose services want to know how fast they answer.
    latencies: HashMap<Subject, (Duration, Smoothed)>,
    started: u64,
    metrics: Arc<Metrics>,
    events: UnboundedSender<health::Event>,
}

struct Running {
    number: u64,
    tells_latency: Arc<AtomicBool>,
    handle: AbortHandle,
    metrics: ProbeMetrics,
    said: Health,
    subjects: Vec<Subject>,
}

impl Checkers {
    /// None yet. Checkers will tell `events`.
    pub(super) fn new(metrics: Arc<Metrics>, events: UnboundedSender<health::Event>) -> Self {
        Self {
            running: HashMap::new(),
            numbers: HashMap::new(),
            speakers: Speakers::default(),
            applied: watch::channel(0).0,
            probed_since: 0,
            drained: BTreeSet::new(),
            silent: BTreeMap::new(),
            healths: Healths::new(),
            latencies: HashMap::new(),
            started: 0,
            metrics,
            events,
        }
    }

    /// Starts and ends checkers, so that these run which a configuration asks for. Those that it
    /// asks for as well go on. `table` is the first that has what probes to VIPs need.
    pub(super) fn arrange(&mut self, configuration: &Configuration, hands: &Hands, table: u64) {
        self.probed_since = table;
        self.drained = drained(hands);
        self.arrange_now(configuration);
    }

    /// Ends the probes to VIPs on servers that take nothing new, and begins those on others.
    pub(super) fn follow_hands(&mut self, configuration: &Configuration, hands: &Hands) {
        let drained = drained(hands);
        if self.drained != drained {
            self.drained = drained;
            self.arrange_now(configuration);
        }
    }

    fn arrange_now(&mut self, configuration: &Configuration) {
        let forgotten: HashSet<Subject> = self.healths.keys().cloned().collect();
        let kept: HashSet<Subject> = all_subjects(configuration).collect();
        for subject in forgotten.difference(&kept) {
            self.healths.remove(subject);
            let real_server = subject.real_server.to_string();
            self.metrics
                .forget_verdict(&subject.service, subject.protocol, &real_server);
        }
        let mut speakers = Speakers::default();
        let mut subjects = HashMap::<Target, Vec<Subject>>::new();
        let mut labels = Vec::new();
        for (target, subject, check) in assignments(configuration, &self.drained) {
            labels.push((labels_of(&subject, &target, check), target.clone()));
            speakers.add(&subject, &target);
            subjects.entry(target).or_default().push(subject);
        }
        self.running.retain(|target, running| {
            let goes_on = subjects.contains_key(target);
            if !goes_on {
                running.handle.abort();
                self.numbers.remove(&running.number);
            }
            goes_on
        });
        let mut new: Vec<Target> = Vec::new();
        for (target, subjects) in &mut subjects {
            match self.running.get_mut(target) {
                Some(running) => running.subjects = std::mem::take(subjects),
                None => new.push(target.clone()),
            }
        }
        let step = STEP.min(LATEST_START / u32::try_from(new.len().max(1)).unwrap_or(u32::MAX));
        for (place, target) in (0..).zip(new) {
            let subjects = subjects.remove(&target).unwrap_or_default();
            self.start(target, step * place, subjects);
        }
        self.speakers = speakers;
        self.listen_to_latencies(configuration);
        for subject in kept {
            self.judge(subject);
        }
        let shown = labels.into_iter().filter_map(|(labels, target)| {
            let running = self.running.get(&target)?;
            Some((labels, running.metrics.clone()))
        });
        self.metrics.show_probes(shown.collect());
    }

    /// Takes a checker's word, and says whether that changed anybody's health.
    pub(super) fn hear(&mut self, event: health::Event) -> bool {
        // A checker that was ended may have had a last word.
        let target = self.numbers.get(&event.checker);
        let Some(running) = target.and_then(|target| self.running.get_mut(target)) else {
            return false;
        };
        match event.change {
            Change::Verdict { verdict, reason } => {
                running.said.verdict = verdict;
                running.said.reason = reason;
            }
            Change::Agent(report) => running.said.report = report,
            Change::Latency(latency) => running.said.latency = Some(latency),
            Change::Identity(identity) => running.said.identity = Some(identity),
            // Of a watcher, which has numbers of its own.
            Change::Watched(_) => return false,
        }
        let mut concerned: BTreeSet<Subject> = running.subjects.iter().cloned().collect();
        if let Some(path) = target.and_then(|target| target.path) {
            let words_of = |subject: &Subject| VipOf::new(subject, path.vip.ip());
            let groups: Vec<VipOf> = concerned.iter().map(words_of).collect();
            for group in groups {
                let others = self.speakers.vips.get(&group).into_iter().flatten();
                let others = others.filter_map(|target| self.running.get(target));
                let others = others.flat_map(|running| &running.subjects);
                concerned.extend(others.filter(|one| group.is_of(one)).cloned());
            }
            self.tell_of_silent_vips();
        }
        let mut changed = false;
        for subject in concerned {
            changed |= self.judge(subject);
        }
        changed
    }

    /// How many run.
    pub(super) fn number(&self) -> usize {
        self.running.len()
    }

    /// The kernel has this table.
    pub(super) fn table_applied(&self, table: u64) {
        self.applied.send_replace(table);
    }

    /// The VIPs for which no real server answers, each on one line with what that may mean.
    pub(super) fn silent_vips(&self) -> impl Iterator<Item = &String> {
        self.silent.values()
    }

    /// The same by their names.
    pub(super) fn silence(&self) -> &BTreeMap<String, String> {
        &self.silent
    }

    fn tell_of_silent_vips(&mut self) {
        let mut silent = BTreeMap::new();
        for (group, targets) in &self.speakers.vips {
            let said = targets.iter().filter_map(|target| self.running.get(target));
            let reasons: Option<Vec<&Reason>> =
                said.map(|running| running.said.reason.as_ref()).collect();
            let is_way = |reason: &&&Reason| reason.kind != FailureKind::ServerDown;
            if let Some(reasons) = reasons
                && let Some(reason) = reasons.iter().find(is_way)
            {
                silent.insert(group.to_string(), format!("{group}: no real server answers by the way \
                    that clients' queries go, so nobody is taken out for that: {reason}; or, if clients \
                    are served, something on this machine keeps the answers away, and `path: false` in the \
                    check ends these probes"));
            }
        }
        for (group, line) in &silent {
            if !self.silent.contains_key(group) {
                warn!("{line}");
            }
        }
        for group in self
            .silent
            .keys()
            .filter(|group| !silent.contains_key(*group))
        {
            info!("{group}: a real server answers by the way that clients' queries go");
        }
        self.silent = silent;
    }

    /// How long the last probe took that a server passed, the slowest of all checks of its own address.
    pub(super) fn latency(&self, subject: &Subject) -> Option<Duration> {
        let targets = self.speakers.of.get(subject).into_iter().flatten();
        let own = targets.filter(|target| target.path.is_none());
        own.filter_map(|target| self.running.get(target)?.metrics.latest())
            .max()
    }

    /// What is known of everyone.
    pub(super) fn healths(&self) -> &Healths {
        &self.healths
    }

    /// What would still be known under another configuration.
    pub(super) fn known_under(&self, configuration: &Configuration) -> Healths {
        let mut speakers = Speakers::default();
        for (target, subject, _) in assignments(configuration, &self.drained) {
            speakers.add(&subject, &target);
        }
        all_subjects(configuration)
            .map(|subject| {
                let health = speakers.health(&subject, |target| self.said(target));
                (subject, health)
            })
            .collect()
    }

    /// Ends them all.
    pub(super) fn stop(self) {
        for running in self.running.into_values() {
            running.handle.abort();
        }
    }

    fn start(&mut self, target: Target, delay: Duration, subjects: Vec<Subject>) {
        self.started += 1;
        let metrics = self.metrics.probe(target.failure_kinds());
        let gate = target.path.map(|_| Gate {
            applied: self.applied.subscribe(),
            wanted: self.probed_since,
        });
        let tells_latency = Arc::new(AtomicBool::new(false));
        let checker = Checker {
            number: self.started,
            target: target.clone(),
            observer: metrics.clone(),
            events: self.events.clone(),
            tells_latency: Arc::clone(&tells_latency),
        };
        let handle = checker.spawn(delay, gate);
        self.numbers.insert(self.started, target.clone());
        let running = Running {
            number: self.started,
            tells_latency,
            handle,
            metrics,
            // Another check knows nothing of the server; until it does, the table stays as it is.
            said: Verdict::Unknown.into(),
            subjects,
        };
        self.running.insert(target, running);
    }

    /// Has those checkers tell how long answers take whose services want to know.
    fn listen_to_latencies(&mut self, configuration: &Configuration) {
        let mut before = std::mem::take(&mut self.latencies);
        for service in &configuration.services {
            let Some(rules) = service.pool.latency else {
                continue;
            };
            for subject in subjects(service) {
                let kept = before.remove(&subject);
                let kept = kept.filter(|(smoothing, _)| *smoothing == rules.smoothing);
                let new = || (rules.smoothing, Smoothed::new(rules.smoothing));
                self.latencies.insert(subject, kept.unwrap_or_else(new));
            }
        }
        for (target, running) in &self.running {
            let mut subjects = running.subjects.iter();
            let wanted = target.path.is_none()
                && subjects.any(|subject| self.latencies.contains_key(subject));
            running.tells_latency.store(wanted, Ordering::Relaxed);
        }
    }

    fn said(&self, target: &Target) -> Health {
        let running = self.running.get(target);
        running.map_or_else(|| Verdict::Unknown.into(), |running| running.said.clone())
    }

    /// Draws the conclusion from all that is said of a subject, and says whether it's another one.
    fn judge(&mut self, subject: Subject) -> bool {
        let mut health = self.speakers.health(&subject, |target| self.said(target));
        let before = self.healths.get(&subject);
        health.latency = self.latencies.get_mut(&subject).and_then(|(_, smoothed)| {
            let known = before.and_then(|before| before.latency);
            match (health.latency, known) {
                (None, known) => known,
                (Some(latency), known) => {
                    let now = smoothed.record(latency, Instant::now());
                    known.filter(|known| is_near(*known, now)).or(Some(now))
                }
            }
        });
        if before == Some(&health) {
            return false;
        }
        if before.map(|before| before.verdict) != Some(health.verdict) {
            self.metrics.set_verdict(
                &subject.service,
                subject.protocol,
                &subject.real_server.to_string(),
                health.verdict,
            );
            if self.speakers.of.contains_key(&subject) {
                tell(&subject, &health);
            }
        }
        self.healths.insert(subject, health);
        true
    }
}

/// Whether a smoothed latency is still what was said of it: a table follows from each that isn't.
fn is_near(said: Duration, now: Duration) -> bool {
    said.abs_diff(now) <= (said / LATENCY_BAND).max(LATENCY_NOISE)
}

/// Who speaks for whom.
#[derive(Default)]
struct Speakers {
    of: HashMap<Subject, Vec<Target>>,
    /// The probes to each VIP, one for each of its real servers.
    vips: HashMap<VipOf, Vec<Target>>,
}

/// A VIP of a service, over a protocol.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct VipOf {
    service: String,
    protocol: Protocol,
    vip: IpAddr,
}

impl VipOf {
    fn new(subject: &Subject, vip: IpAddr) -> Self {
        Self {
            service: subject.service.clone(),
            protocol: subject.protocol,
            vip,
        }
    }

    fn is_of(&self, subject: &Subject) -> bool {
        self.service == subject.service && self.protocol == subject.protocol
    }
}

impl fmt::Display for VipOf {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            service,
            protocol,
            vip,
        } = self;
        write!(formatter, "service {service}: {vip} over {protocol}")
    }
}

impl Speakers {
    fn add(&mut self, subject: &Subject, target: &Target) {
        let targets = self.of.entry(subject.clone()).or_default();
        targets.push(target.clone());
        if let Some(path) = target.path {
            let vip = VipOf::new(subject, path.vip.ip());
            let targets = self.vips.entry(vip).or_default();
            if !targets.contains(target) {
                targets.push(target.clone());
            }
        }
    }

    /// What follows for a subject from what everybody says.
    fn health(&self, subject: &Subject, said: impl Fn(&Target) -> Health) -> Health {
        let speakers = self.of.get(subject).into_iter().flatten();
        let words: Vec<Health> = speakers
            .map(|target| match target.path {
                None => said(target),
                Some(path) => self.believed(&VipOf::new(subject, path.vip.ip()), target, &said),
            })
            .collect();
        Health::of_all(&words)
    }

    /// That a VIP isn't answered for counts only where it is on another server: what fails by every way is
    /// likelier to be this machine's fault, and taking everybody out would help nobody. Who doesn't answer at
    /// its own address either is down, whatever becomes of the others.
    fn believed(&self, vip: &VipOf, target: &Target, said: &impl Fn(&Target) -> Health) -> Health {
        let own = said(target);
        let is_down = |reason: &Reason| reason.kind == FailureKind::ServerDown;
        if own.verdict != Verdict::Unhealthy || own.reason.as_ref().is_some_and(is_down) {
            return own;
        }
        let all = self.vips.get(vip).into_iter().flatten();
        let verdicts: Vec<Verdict> = all.map(|one| said(one).verdict).collect();
        if verdicts.contains(&Verdict::Healthy) {
            own
        } else if verdicts.contains(&Verdict::Unknown) {
            Verdict::Unknown.into()
        } else {
            Verdict::Healthy.into()
        }
    }
}

fn drained(hands: &Hands) -> BTreeSet<Place> {
    hands.iter().map(|(place, _)| place.clone()).collect()
}

fn tell(subject: &Subject, health: &Health) {
    let Subject {
        service,
        protocol,
        real_server,
    } = subject;
    match (health.verdict, &health.reason) {
        (Verdict::Unhealthy, Some(reason)) => {
            warn!(%service, %protocol, %real_server, %reason, "real server is unhealthy");
        }
        (Verdict::Unhealthy, None) => {
            warn!(%service, %protocol, %real_server, "real server is unhealthy");
        }
        (Verdict::Healthy, _) => {
            info!(%service, %protocol, %real_server, "real server is healthy");
        }
        (Verdict::Unknown, _) => {}
    }
}

/// What is probed for whom, by which check: the servers' own addresses, then the VIPs on them.
fn assignments<'c>(
    configuration: &'c Configuration,
    drained: &'c BTreeSet<Place>,
) -> impl Iterator<Item = (Target, Subject, CheckOf<'c>)> {
    let marks = marks(configuration);
    own_addresses(configuration)
        .chain(checks(configuration).flat_map(move |of| vips(configuration, of, &marks, drained)))
}

fn checks(configuration: &Configuration) -> impl Iterator<Item = CheckOf<'_>> {
    configuration.services.iter().flat_map(|service| {
        let checks = (0..).zip(&service.checks);
        checks.map(move |(place, check)| CheckOf {
            service,
            check,
            place,
        })
    })
}

fn vips<'c>(
    configuration: &Configuration,
    of: CheckOf<'c>,
    marks: &Marks,
    drained: &BTreeSet<Place>,
) -> Vec<(Target, Subject, CheckOf<'c>)> {
    let CheckOf { service, check, .. } = of;
    let probed = vips_on_servers(configuration, service, check).into_iter();
    let probed = probed.filter_map(|one| {
        let place = Place {
            service: service.name.clone(),
            real_server: one.server.key,
        };
        if one.server.weight == 0 || drained.contains(&place) {
            return None;
        }
        let port = service.probed_port(check, one.server);
        let target = Target {
            server: SocketAddr::new(one.server.key.address, port.map_or(0, NonZeroU16::get)),
            transport: Some(one.protocol),
            probing: Arc::clone(&check.probing),
            path: Some(Path {
                vip: one.vip,
                mark: marks.get(&one.way)?,
                on_link: one.way.forwarding == Forwarding::DirectRouting,
            }),
        };
        let subject = Subject {
            service: service.name.clone(),
            protocol: one.protocol,
            real_server: one.server.key,
        };
        Some((target, subject, of))
    });
    probed.collect()
}

fn own_addresses(
    configuration: &Configuration,
) -> impl Iterator<Item = (Target, Subject, CheckOf<'_>)> {
    configuration.services.iter().flat_map(|service| {
        (0..).zip(&service.checks).flat_map(move |(place, check)| {
            let of = CheckOf {
                service,
                check,
                place,
            };
            let servers = service.real_servers.iter();
            servers.flat_map(move |server| {
                let port = service.probed_port(check, server);
                check.protocols.iter().map(move |protocol| {
                    let by_transport = check.probing.kind.has_transports();
                    let target = Target {
                        server: SocketAddr::new(
                            server.key.address,
                            port.map_or(0, NonZeroU16::get),
                        ),
                        transport: by_transport.then_some(*protocol),
                        probing: Arc::clone(&check.probing),
                        path: None,
                    };
                    let subject = Subject {
                        service: service.name.clone(),
                        protocol: *protocol,
                        real_server: server.key,
                    };
                    (target, subject, of)
                })
            })
        })
    })
}

/// A check and its place among those of its service.
#[derive(Clone, Copy)]
struct CheckOf<'c> {
    service: &'c Service,
    check: &'c Check,
    place: usize,
}

fn labels_of(
    subject: &Subject,
    target: &Target,
    CheckOf {
        service,
        check,
        place,
    }: CheckOf<'_>,
) -> ProbeLabels {
    let word = check.probing.kind.word();
    let before = service.checks[..place].iter();
    let like_it = before.filter(|other| other.probing.kind.word() == word);
    let mut check = match like_it.count() {
        0 => word.to_owned(),
        others => format!("{word}#{}", others + 1),
    };
    if let Some(path) = target.path {
        check = format!("{check} {}", path.vip.ip());
    }
    ProbeLabels {
        check,
        protocol: subject.protocol.to_string(),
        real_server: subject.real_server.to_string(),
        service: subject.service.clone(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::engine::judged;
    use crate::engine::tests::configuration;
    use crate::health::Event;

    fn checkers() -> Checkers {
        Checkers::new(Arc::new(Metrics::new()), mpsc::unbounded_channel().0)
    }

    fn services(services: &[(&str, &str)]) -> Configuration {
        let service = |(name, check): &(&str, &str)| {
            format!(
                "  - {{ name: {name}, firewall_mark: {}, external: true, protocols: [udp, tcp], \
                 one_packet_scheduling: false, check: {check}, real_servers: [{{ address: 10.0.0.1 \
                 }}, {{ address: 10.0.0.2 }}] }}\n",
                name.len()
            )
        };
        let services: String = services.iter().map(service).collect();
        configuration(&format!("services:\n{services}"))
    }

    fn subject(service: &str, protocol: Protocol) -> Subject {
        Subject {
            service: service.to_owned(),
            protocol,
            real_server: crate::config::RealServerKey {
                address: [10, 0, 0, 1].into(),
                port: None,
            },
        }
    }

    /// The checkers that speak for a subject say this.
    fn say(checkers: &mut Checkers, subject: &Subject, place: usize, verdict: Verdict) -> bool {
        let reason = (verdict == Verdict::Unhealthy).then(|| Reason {
            kind: FailureKind::Timeout,
            text: format!("reason {place}"),
        });
        tell_of(checkers, subject, place, verdict, reason)
    }

    fn tell_of(
        checkers: &mut Checkers,
        subject: &Subject,
        place: usize,
        verdict: Verdict,
        reason: Option<Reason>,
    ) -> bool {
        let target = &checkers.speakers.of[subject][place];
        let change = Change::Verdict { verdict, reason };
        let checker = checkers.running[target].number;
        checkers.hear(Event { checker, change })
    }

    const DNS: &str = "{ dns: { name: a }, port: 53 }";

    #[tokio::test]
    async fn equal_checks_of_a_server_are_one_whatever_the_services() {
        let mut checkers = checkers();
        let other = "{ dns: { name: b }, port: 53 }";
        checkers.arrange(
            &services(&[("a", DNS), ("bb", DNS), ("ccc", other)]),
            &Hands::default(),
            0,
        );
        assert_eq!(checkers.running.len(), 2 * 2 * 2);
        let udp = subject("a", Protocol::Udp);
        assert!(say(&mut checkers, &udp, 0, Verdict::Healthy));
        assert!(!say(&mut checkers, &udp, 0, Verdict::Healthy), "no news");
        let verdict = |checkers: &Checkers, service, protocol| {
            judged::verdict(checkers.healths(), &subject(service, protocol))
        };
        assert_eq!(verdict(&checkers, "bb", Protocol::Udp), Verdict::Healthy);
        for (service, protocol) in [("bb", Protocol::Tcp), ("ccc", Protocol::Udp)] {
            assert_eq!(verdict(&checkers, service, protocol), Verdict::Unknown);
        }
        // One that comes later knows it at once; when one goes, the other's checker goes on.
        checkers.arrange(
            &services(&[("bb", DNS), ("dddd", DNS)]),
            &Hands::default(),
            0,
        );
        assert_eq!(checkers.running.len(), 2 * 2);
        for service in ["bb", "dddd"] {
            assert_eq!(verdict(&checkers, service, Protocol::Udp), Verdict::Healthy);
        }
        assert_eq!(checkers.healths().len(), 2 * 4);
        let known = checkers.known_under(&services(&[("e", DNS), ("ff", other), ("ggg", "none")]));
        let known = |service| judged::verdict(&known, &subject(service, Protocol::Udp));
        assert_eq!(
            ["e", "ff", "ggg"].map(known),
            [Verdict::Healthy, Verdict::Unknown, Verdict::Healthy]
        );
    }

    #[tokio::test]
    async fn all_checks_that_speak_for_a_protocol_must_pass() {
        let mut checkers = checkers();
        let both = format!("[{DNS}, {{ dns: {{ name: b }}, port: 53, protocols: [udp] }}]");
        checkers.arrange(&services(&[("a", &both)]), &Hands::default(), 0);
        let [udp, tcp] = [Protocol::Udp, Protocol::Tcp].map(|protocol| subject("a", protocol));
        assert!(say(&mut checkers, &tcp, 0, Verdict::Healthy), "it has one");
        assert!(!say(&mut checkers, &udp, 0, Verdict::Healthy), "one of two");
        let mut conclusion = |place, verdict| {
            say(&mut checkers, &udp, place, verdict);
            let health = checkers.healths()[&udp].clone();
            (health.verdict, health.reason.map(|reason| reason.text))
        };
        let because = |text: &str| (Verdict::Unhealthy, Some(text.to_owned()));
        assert_eq!(conclusion(1, Verdict::Unhealthy), because("reason 1"));
        assert_eq!(conclusion(0, Verdict::Unhealthy), because("reason 0"));
        assert_eq!(conclusion(0, Verdict::Healthy), because("reason 1"));
        assert_eq!(conclusion(1, Verdict::Healthy), (Verdict::Healthy, None));
    }

    #[tokio::test]
    async fn latencies_are_told_where_somebody_wants_to_know() {
        let mut checkers = checkers();
        let with = |latency: &str| {
            let pool = format!("{DNS}, pool: {{ {latency} }}");
            services(&[("a", DNS), ("bb", &pool)])
        };
        checkers.arrange(&with("latency: { smoothing: 1s }"), &Hands::default(), 0);
        let [silent, wanting] = ["a", "bb"].map(|service| subject(service, Protocol::Udp));
        let target = checkers.speakers.of[&wanting][0].clone();
        let (checker, tells) = {
            let running = &checkers.running[&target];
            (running.number, Arc::clone(&running.tells_latency))
        };
        assert!(tells.load(Ordering::Relaxed));
        let mut hear = |milliseconds| {
            let change = Change::Latency(Duration::from_millis(milliseconds));
            let changed = checkers.hear(Event { checker, change });
            let latency = |subject| checkers.healths()[subject].latency;
            (changed, latency(&wanting), latency(&silent))
        };
        let ten = Some(Duration::from_millis(10));
        assert_eq!(hear(10), (true, ten, None));
        // It came at once, and weighs next to nothing.
        assert_eq!(hear(11), (false, ten, None));
        checkers.arrange(&with(""), &Hands::default(), 0);
        assert!(!tells.load(Ordering::Relaxed));
        assert_eq!(checkers.healths()[&wanting].latency, None);
    }

    #[tokio::test]
    async fn a_checker_that_was_ended_has_no_last_word() {
        let mut checkers = checkers();
        checkers.arrange(&services(&[("a", DNS)]), &Hands::default(), 0);
        let number = *checkers.numbers.keys().next().unwrap();
        checkers.arrange(&services(&[("a", "none")]), &Hands::default(), 0);
        assert!(checkers.running.is_empty());
        let change = Change::Verdict {
            verdict: Verdict::Unhealthy,
            reason: None,
        };
        assert!(!checkers.hear(Event {
            checker: number,
            change
        }));
        let healths = checkers.healths().values();
        assert!(
            healths
                .into_iter()
                .all(|health| health.verdict == Verdict::Healthy)
        );
    }

    const TWO_SERVERS: &str = "
services:
  - { name: a, external: true, address: 192.0.2.100, port: 53, protocols: [udp], check: { dns: { name: a } }, real_servers: [{ address: 10.0.0.1 }, { address: 10.0.0.2 }] }
";

    #[tokio::test]
    async fn a_vip_that_nobody_answers_for_takes_nobody_out() {
        let mut checkers = checkers();
        checkers.arrange(&configuration(TWO_SERVERS), &Hands::default(), 1);
        assert_eq!(checkers.running.len(), 4);
        let [first, second] = [1, 2].map(|last| {
            let mut subject = subject("a", Protocol::Udp);
            subject.real_server.address = [10, 0, 0, last].into();
            subject
        });
        let (own, vip) = (0, 1);
        let verdicts = |checkers: &Checkers| {
            [&first, &second].map(|subject| judged::verdict(checkers.healths(), subject))
        };
        use Verdict::{Healthy, Unhealthy, Unknown};
        for subject in [&first, &second] {
            say(&mut checkers, subject, own, Healthy);
        }
        assert_eq!(verdicts(&checkers), [Unknown; 2]);
        // Nothing is known of the way before one is found that works.
        say(&mut checkers, &first, vip, Unhealthy);
        assert_eq!(verdicts(&checkers), [Unknown; 2]);
        say(&mut checkers, &second, vip, Healthy);
        assert_eq!(verdicts(&checkers), [Unhealthy, Healthy]);
        assert_eq!(checkers.silent_vips().count(), 0);
        say(&mut checkers, &second, vip, Unhealthy);
        assert_eq!(verdicts(&checkers), [Healthy; 2]);
        let said: Vec<&String> = checkers.silent_vips().collect();
        assert!(
            said[0].contains("service a: 192.0.2.100 over udp"),
            "{said:?}"
        );
        // Of the server's own address everything is believed.
        say(&mut checkers, &second, own, Unhealthy);
        assert_eq!(verdicts(&checkers), [Healthy, Unhealthy]);
        // And of one that answers nowhere, before the probe of its own address has failed often enough.
        let reason = Reason {
            kind: FailureKind::ServerDown,
            text: "server-down".to_owned(),
        };
        tell_of(&mut checkers, &first, vip, Unhealthy, Some(reason));
        assert_eq!(verdicts(&checkers), [Unhealthy; 2]);
    }

    #[tokio::test]
    async fn who_takes_nothing_new_is_not_asked_by_the_vip() {
        let mut checkers = checkers();
        let configuration = configuration(TWO_SERVERS);
        checkers.arrange(&configuration, &Hands::default(), 1);
        checkers.drained = [Place {
            service: "a".to_owned(),
            real_server: subject("a", Protocol::Udp).real_server,
        }]
        .into();
        checkers.arrange_now(&configuration);
        assert_eq!(checkers.running.len(), 3);
        checkers.follow_hands(&configuration, &Hands::default());
        assert_eq!(checkers.running.len(), 4);
    }
}
