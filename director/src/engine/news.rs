//! What has become another one with services and their servers, as events.
//!
//! Pictures are compared: whoever decides needs to know nothing of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use lvs_proto::health::{Outcome, Share, Verdict};
use serde_json::Value;

use super::judged::Healths;
use super::pools::{Outcomes, PoolKey, floor_words, health_of, kept, keys_of};
use super::report::state;
use crate::config::{Configuration, RealServer, RealServerKey, Service};
use crate::control::ServerState;
use crate::events::{Kind, Occurrence, Severity};
use crate::hand::Hands;
use crate::wording::age;

/// More servers of a service that go the same way at once are one event.
const MANY: usize = 8;

/// How everything was when it was looked at last.
#[derive(Default)]
pub(super) struct News {
    standings: BTreeMap<PoolKey, BTreeMap<RealServerKey, Standing>>,
    data: BTreeMap<String, String>,
    silent: BTreeMap<String, String>,
}

#[derive(Clone, Copy)]
struct Standing {
    state: ServerState,
    since: Instant,
}

/// Servers that have gone the same way, in pools of a service.
struct Move {
    pools: Vec<String>,
    /// The state before and for how long, where that was one to speak of.
    before: Option<(ServerState, Duration)>,
}

impl News {
    /// What has become another one since the last time, in what was decided of servers.
    pub(super) fn of_servers(
        &mut self,
        configuration: &Configuration,
        outcomes: &Outcomes,
        (healths, hands): (&Healths, &Hands),
        now: Instant,
    ) -> Vec<Occurrence> {
        let mut previous = std::mem::take(&mut self.standings);
        let mut news = Vec::new();
        for service in &configuration.services {
            let mut moves: BTreeMap<(Word, String), BTreeMap<RealServerKey, Move>> =
                BTreeMap::new();
            for key in keys_of(service) {
                let Some(outcome) = outcomes.get(&key) else {
                    continue;
                };
                let before = previous.remove(&key).unwrap_or_default();
                let mut standings = BTreeMap::new();
                for server in service.real_servers_of(key.family) {
                    let Some(decision) = outcome.servers.get(&server.key) else {
                        continue;
                    };
                    let hand = hands.of(&service.name, server.key);
                    let state = state(decision, hand);
                    let before = before.get(&server.key).copied();
                    let same = before.filter(|before| before.state == state);
                    let standing = same.unwrap_or(Standing { state, since: now });
                    standings.insert(server.key, standing);
                    let by_hand = hand.is_some()
                        && matches!(state, ServerState::Drained | ServerState::Disabled);
                    let was = before.map_or(ServerState::Unknown, |before| before.state);
                    if same.is_some() || by_hand || !is_news(was, state, server) {
                        continue;
                    }
                    let reason = reason(service, &key, server, healths).unwrap_or_default();
                    let servers = moves.entry((Word(state), reason)).or_default();
                    let before = before.filter(|before| before.state != ServerState::Unknown);
                    let moved = servers.entry(server.key).or_insert_with(|| Move {
                        pools: Vec::new(),
                        before: before.map(|before| (before.state, now - before.since)),
                    });
                    moved.pools.push(key.words(service));
                }
                self.standings.insert(key, standings);
            }
            for ((Word(state), reason), servers) in moves {
                if servers.len() > MANY {
                    news.push(together(&service.name, state, &reason, &servers));
                } else {
                    let each = servers.iter();
                    news.extend(each.map(|(server, moved)| {
                        let subject = format!("{}/{server}", service.name);
                        alone(subject, state, &reason, moved)
                    }));
                }
            }
        }
        news
    }

    /// What has become another one in what speaks against the DNS data of servers, by `SERVICE/SERVER`.
    pub(super) fn of_data(&mut self, present: BTreeMap<String, String>) -> Vec<Occurrence> {
        let begun = appeared(&self.data, &present).map(|(subject, text)| {
            Occurrence::new(Kind::DataTrouble, Severity::Warning, text).of(subject)
        });
        let over = appeared(&present, &self.data).map(|(subject, text)| {
            let text = format!("no longer: {text}");
            Occurrence::new(Kind::DataWell, Severity::Info, text).of(subject)
        });
        let news = begun.chain(over).collect();
        self.data = present;
        news
    }

    /// The same of the VIPs for which nobody answers.
    pub(super) fn of_paths(&mut self, present: &BTreeMap<String, String>) -> Vec<Occurrence> {
        if *present == self.silent {
            return Vec::new();
        }
        let begun = appeared(&self.silent, present)
            .map(|(_, text)| Occurrence::new(Kind::PathSilent, Severity::Warning, text));
        let over = appeared(present, &self.silent).map(|(vip, _)| {
            let text = format!("{vip}: a real server answers by the way that clients' queries go");
            Occurrence::new(Kind::PathAnswers, Severity::Info, text)
        });
        let news = begun.chain(over).collect();
        self.silent.clone_from(present);
        news
    }
}

/// What has become another one in how pools stand.
pub(super) fn of_pools(
    configuration: &Configuration,
    before: &Outcomes,
    after: &Outcomes,
) -> Vec<Occurrence> {
    let mut news = Vec::new();
    for service in &configuration.services {
        for key in keys_of(service) {
            let Some(now) = after.get(&key) else { continue };
            let was = before.get(&key);
            let of = key.words(service);
            let new = |kind, severity, text: String| {
                Occurrence::new(kind, severity, format!("{of}: {text}"))
                    .of(&service.name)
                    .with("pool", of.as_str())
            };
            news.extend(of_floor(was, now, new));
            if let Some(server) = service.sorry_server_of(key.family) {
                let answers = |outcome: &Outcome<RealServerKey>| outcome.sorry == Share::Present;
                let server = server.key;
                match (was.is_some_and(answers), answers(now)) {
                    (false, true) => {
                        let text =
                            format!("nobody else is left: the sorry server {server} answers");
                        let event = new(Kind::SorryServerIn, Severity::Error, text);
                        news.push(event.with("server", server.to_string()));
                    }
                    (true, false) => {
                        let text = format!("the sorry server {server} is out again");
                        news.push(new(Kind::SorryServerOut, Severity::Info, text));
                    }
                    _ => {}
                }
            }
            match (was.and_then(|was| was.quorum), now.quorum) {
                (was, Some(false)) if was != Some(false) => {
                    let (healthy, needed) = (now.healthy, now.needed);
                    let text = format!("the quorum is lost: {healthy} healthy of {needed} needed");
                    let event = new(Kind::QuorumLost, Severity::Error, text);
                    news.push(event.with("healthy", healthy).with("needed", needed));
                }
                (Some(false), Some(true)) => {
                    let text = format!("the quorum is there again: {} healthy", now.healthy);
                    let event = new(Kind::QuorumRegained, Severity::Info, text);
                    news.push(event.with("healthy", now.healthy));
                }
                _ => {}
            }
        }
    }
    news
}

fn of_floor(
    was: Option<&Outcome<RealServerKey>>,
    now: &Outcome<RealServerKey>,
    new: impl Fn(Kind, Severity, String) -> Occurrence,
) -> Option<Occurrence> {
    match (was.is_some_and(|was| was.floor), now.floor) {
        (false, true) => {
            let kept: Vec<String> = kept(now).map(|server| server.to_string()).collect();
            let text = floor_words(now).to_owned();
            Some(new(Kind::FloorReached, Severity::Error, text).with("kept", kept))
        }
        (true, false) => {
            let text = "no server is kept against its checks any more".to_owned();
            Some(new(Kind::FloorLeft, Severity::Info, text))
        }
        _ => None,
    }
}

/// What is in `after` and wasn't in `before`.
fn appeared<'p>(
    before: &'p BTreeMap<String, String>,
    after: &'p BTreeMap<String, String>,
) -> impl Iterator<Item = (&'p String, &'p String)> {
    after.iter().filter(|(key, _)| !before.contains_key(*key))
}

/// That the first verdict is a good one is no news, nor that one is awaited, nor what the file says.
fn is_news(was: ServerState, state: ServerState, server: &RealServer) -> bool {
    match state {
        ServerState::Unknown => false,
        ServerState::In => was != ServerState::Unknown,
        ServerState::Drained => server.weight > 0,
        ServerState::Out | ServerState::Kept | ServerState::Disabled => true,
    }
}

/// Why it isn't in, as far as it's known.
fn reason(
    service: &Service,
    key: &PoolKey,
    server: &RealServer,
    healths: &Healths,
) -> Option<String> {
    let health = health_of(service, key, server, healths);
    if health.verdict == Verdict::Unhealthy {
        return health.reason.map(|reason| reason.text);
    }
    let mode = health.report?.mode;
    let is_less = mode != lvs_proto::agent_check::Mode::Ready;
    is_less.then(|| format!("it says `{mode}` of itself"))
}

fn alone(subject: String, state: ServerState, reason: &str, moved: &Move) -> Occurrence {
    let mut text = format!("{} for {}", state.word(), moved.pools.join(" and "));
    if let Some((before, time)) = moved.before {
        text += &format!(", after {} {}", age(time), before.word());
    }
    if !reason.is_empty() {
        text += &format!(": {reason}");
    }
    let event = occurrence(state, text, reason).of(subject);
    let event = event.with("pools", moved.pools.clone());
    match moved.before {
        Some((before, time)) => event
            .with("was", before.word())
            .with("after_seconds", time.as_secs_f64()),
        None => event,
    }
}

fn together(
    service: &str,
    state: ServerState,
    reason: &str,
    servers: &BTreeMap<RealServerKey, Move>,
) -> Occurrence {
    let names: Vec<String> = servers.keys().map(RealServerKey::to_string).collect();
    let pools: BTreeSet<&str> = servers
        .values()
        .flat_map(|moved| moved.pools.iter().map(String::as_str))
        .collect();
    let pools: Vec<&str> = pools.into_iter().collect();
    let mut text = format!(
        "{} servers are {} for {} ({}, …)",
        names.len(),
        state.word(),
        pools.join(" and "),
        names[..MANY.min(names.len())].join(", ")
    );
    if !reason.is_empty() {
        text += &format!(": {reason}");
    }
    occurrence(state, text, reason)
        .of(service)
        .with("pools", pools)
        .with("servers", names)
}

fn occurrence(state: ServerState, text: String, reason: &str) -> Occurrence {
    let (kind, severity) = match state {
        ServerState::In | ServerState::Unknown => (Kind::ServerIn, Severity::Info),
        ServerState::Kept => (Kind::ServerKept, Severity::Warning),
        ServerState::Drained => (Kind::ServerDrained, Severity::Info),
        ServerState::Out => (Kind::ServerOut, Severity::Warning),
        ServerState::Disabled => (Kind::ServerDisabled, Severity::Info),
    };
    let occurrence = Occurrence::new(kind, severity, text);
    if reason.is_empty() {
        occurrence
    } else {
        occurrence.with("reason", Value::from(reason))
    }
}

/// Ordered by its word.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Word(ServerState);

impl Ord for Word {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.word().cmp(other.0.word())
    }
}

impl PartialOrd for Word {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use lvs_proto::health::FailureKind;
    use lvs_proto::ipvs::Protocol;

    use super::*;
    use crate::engine::judged::tests::{FILE, subject};
    use crate::engine::pools::Pools;
    use crate::engine::tests::configuration;
    use crate::hand::{Order, State};
    use crate::health::{Health, Reason};

    struct Play {
        configuration: Configuration,
        healths: Healths,
        hands: Hands,
        pools: Pools,
        news: News,
        now: Instant,
    }

    impl Play {
        fn new(file: &str) -> Self {
            Self {
                configuration: configuration(file),
                healths: Healths::new(),
                hands: Hands::default(),
                pools: Pools::default(),
                news: News::default(),
                now: Instant::now(),
            }
        }

        fn say(&mut self, last_octet: u8, verdict: Verdict) -> &mut Self {
            let reason = (verdict == Verdict::Unhealthy).then(|| Reason {
                kind: FailureKind::Timeout,
                text: "no answer within 300 ms".to_owned(),
            });
            for protocol in [Protocol::Udp, Protocol::Tcp] {
                let health = Health {
                    reason: reason.clone(),
                    ..verdict.into()
                };
                self.healths.insert(subject(protocol, last_octet), health);
            }
            self
        }

        /// The kinds, subjects and texts of what is new after so many seconds.
        fn after(&mut self, seconds: u64) -> Vec<(Kind, String, String)> {
            self.now += Duration::from_secs(seconds);
            let Self {
                configuration,
                healths,
                hands,
                pools,
                news,
                now,
            } = self;
            let before = pools.decide(configuration, healths, hands, *now);
            let before = before.unwrap_or_else(|| pools.outcomes().clone());
            let outcomes = pools.outcomes();
            let mut told = of_pools(configuration, &before, outcomes);
            told.extend(news.of_servers(configuration, outcomes, (healths, hands), *now));
            let told = told.into_iter();
            told.map(|one| {
                let event = one.at(1, time::OffsetDateTime::UNIX_EPOCH);
                (event.kind, event.subject.unwrap(), event.text)
            })
            .collect()
        }
    }

    fn told(kind: Kind, subject: &str, text: &str) -> (Kind, String, String) {
        (kind, subject.to_owned(), text.to_owned())
    }

    #[test]
    fn who_goes_and_comes_is_told_once_with_reason_and_time() {
        use Verdict::{Healthy, Unhealthy};
        let mut play = Play::new(FILE);
        assert_eq!(play.after(0), []);
        play.say(183, Healthy).say(184, Healthy);
        assert_eq!(play.after(1), [], "first good verdicts are no news");
        play.say(184, Unhealthy);
        let server = "resolver/192.168.56.184";
        assert_eq!(
            play.after(3723),
            [told(
                Kind::ServerOut,
                server,
                "out for udp and tcp, after 1h 2m in: no answer within 300 ms"
            )]
        );
        assert_eq!(play.after(1), []);
        play.say(184, Healthy);
        let back = "in for udp and tcp, after 13s out";
        assert_eq!(play.after(12), [told(Kind::ServerIn, server, back)]);
    }

    #[test]
    fn what_an_operator_says_is_told_by_who_hears_it() {
        let mut play = Play::new(FILE);
        play.say(183, Verdict::Healthy).say(184, Verdict::Healthy);
        play.after(1);
        let order = |state| Order {
            servers: "resolver/192.168.56.183".parse().unwrap(),
            state,
            time: None,
            reason: None,
        };
        let present = ["resolver/192.168.56.183".parse().unwrap()];
        let now = std::time::SystemTime::now();
        play.hands
            .obey(&order(State::Drained), present.clone(), now);
        assert_eq!(play.after(1), []);
        play.hands
            .obey(&order(State::Disabled), present.clone(), now);
        assert_eq!(play.after(1), []);
        play.hands.obey(&order(State::Enabled), present, now);
        let server = "resolver/192.168.56.183";
        let back = "in for udp and tcp, after 1s disabled";
        assert_eq!(play.after(1), [told(Kind::ServerIn, server, back)]);
    }

    #[test]
    fn a_quorum_is_told_when_it_goes_and_comes() {
        let mut play = Play::new(FILE);
        play.say(183, Verdict::Healthy).say(184, Verdict::Unhealthy);
        let told = play.after(1);
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(
            told[0].2, "out for udp and tcp: no answer within 300 ms",
            "a first bad verdict is news"
        );
        play.say(183, Verdict::Unhealthy);
        let kinds = |told: Vec<(Kind, String, String)>| {
            told.into_iter().map(|(kind, ..)| kind).collect::<Vec<_>>()
        };
        let lost = kinds(play.after(100));
        assert!(lost.contains(&Kind::QuorumLost), "{lost:?}");
        play.say(183, Verdict::Healthy);
        let back = kinds(play.after(100));
        assert!(back.contains(&Kind::QuorumRegained), "{back:?}");
        assert!(back.contains(&Kind::ServerIn), "{back:?}");
    }

    #[test]
    fn many_that_go_the_same_way_are_one_event() {
        let servers: String = (1..=20)
            .map(|last| format!("{{ address: 10.0.0.{last} }}, "))
            .collect();
        let mut play = Play::new(&format!(
            "services:\n  - {{ name: resolver, external: true, address: 192.0.2.100, port: 53, \
             protocols: [udp], check: {{ dns: {{ name: a }}, path: false }}, real_servers: [{servers}] }}\n"
        ));
        let subjects: Vec<_> = crate::engine::judged::all_subjects(&play.configuration).collect();
        for subject in &subjects {
            play.healths
                .insert(subject.clone(), Verdict::Healthy.into());
        }
        assert_eq!(play.after(1), []);
        for subject in &subjects[..15] {
            play.healths
                .insert(subject.clone(), Verdict::Unhealthy.into());
        }
        let told = play.after(100);
        let many: Vec<_> = told.iter().filter(|one| one.0 == Kind::ServerOut).collect();
        assert_eq!(many.len(), 1, "{told:?}");
        assert!(
            many[0]
                .2
                .starts_with("15 servers are out for udp (10.0.0.1, "),
            "{}",
            many[0].2
        );
    }

    #[test]
    fn what_is_wrong_with_data_and_paths_is_told_when_it_begins_and_ends() {
        let mut news = News::default();
        let one = |text: &str| BTreeMap::from([("a/10.0.0.1".to_owned(), text.to_owned())]);
        let kinds = |told: Vec<Occurrence>| told.iter().map(|one| one.kind()).collect::<Vec<_>>();
        assert_eq!(kinds(news.of_data(one("1 behind"))), [Kind::DataTrouble]);
        assert_eq!(kinds(news.of_data(one("2 behind"))), []);
        assert_eq!(kinds(news.of_data(BTreeMap::new())), [Kind::DataWell]);
        assert_eq!(kinds(news.of_paths(&one("silent"))), [Kind::PathSilent]);
        assert_eq!(kinds(news.of_paths(&one("silent"))), []);
        assert_eq!(kinds(news.of_paths(&BTreeMap::new())), [Kind::PathAnswers]);
    }
}
