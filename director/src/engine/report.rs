//! How services and their servers are, for status and metrics.

use std::time::{Duration, SystemTime};

use lvs_proto::agent_check::Mode;
use lvs_proto::health::{Decision, Hand, Outcome, Share};

use super::judged::Healths;
use super::pools::{Outcomes, PoolKey, floor_words, health_of, keys_of};
use crate::config::{Configuration, RealServer, RealServerKey, Service};
use crate::control::{
    FactorStatus, Failure, HandStatus, PoolStatus, ServerState, ServerStatus, ServiceStatus,
};
use crate::hand::{Entry, Hands};
use crate::health::Subject;
use crate::metrics::{self, Rates};

/// What is measured of real servers.
pub(super) struct Measured<'m> {
    /// How long the last probe took that one passed.
    pub(super) latency: &'m dyn Fn(&Subject) -> Option<Duration>,
    /// What clients ask of each.
    pub(super) rates: Rates,
}

/// All services, in the order of the configuration.
pub(super) fn services(
    configuration: &Configuration,
    outcomes: &Outcomes,
    healths: &Healths,
    hands: &Hands,
    measured: &Measured<'_>,
    now: SystemTime,
) -> Vec<ServiceStatus> {
    let services = configuration.services.iter();
    services
        .map(|service| ServiceStatus {
            name: service.name.clone(),
            pools: keys_of(service)
                .iter()
                .filter_map(|key| {
                    let outcome = outcomes.get(key)?;
                    Some(pool(service, key, outcome, (healths, hands, measured), now))
                })
                .collect(),
        })
        .collect()
}

fn pool(
    service: &Service,
    key: &PoolKey,
    outcome: &Outcome<RealServerKey>,
    (healths, hands, measured): (&Healths, &Hands, &Measured<'_>),
    now: SystemTime,
) -> PoolStatus {
    let mut servers: Vec<&RealServer> = service.real_servers_of(key.family).collect();
    servers.sort_by_key(|server| server.key);
    let sorry_server = service
        .sorry_server_of(key.family)
        .filter(|_| outcome.sorry == Share::Present);
    let servers: Vec<ServerStatus> = servers
        .into_iter()
        .filter_map(|server| {
            let decision = outcome.servers.get(&server.key)?;
            let health = health_of(service, key, server, healths);
            let failure = health.reason.map(|reason| Failure {
                kind: reason.kind.to_string(),
                text: reason.text,
            });
            let mode = health.report.map(|report| report.mode);
            let hand = hands.of(&service.name, server.key);
            Some(ServerStatus {
                server: server.key.to_string(),
                state: state(decision, hand),
                failure,
                weight: decision.weight,
                configured_weight: server.weight,
                factors: factors(decision),
                agent: mode
                    .filter(|mode| *mode != Mode::Ready)
                    .map(|mode| mode.to_string()),
                latency: measured.latency(service, key, server),
                queries_per_second: measured.queries_per_second(key, server),
                hand: hand.map(|entry| hand_status(entry, now)),
                identity: health.identity,
            })
        })
        .collect();
    let of_sorry_server = sorry_server.and_then(|server| measured.queries_per_second(key, server));
    let rates = servers.iter().map(|server| server.queries_per_second);
    let rates = rates.chain([of_sorry_server]).flatten();
    PoolStatus {
        family: match key.family {
            lvs_proto::Family::Ipv4 => crate::control::Family::Ipv4,
            lvs_proto::Family::Ipv6 => crate::control::Family::Ipv6,
        },
        protocol: key.protocol.map(|protocol| protocol.to_string()),
        healthy: outcome.healthy,
        needed: outcome.needed,
        quorum: outcome.quorum,
        floor: outcome.floor.then(|| floor_words(outcome).to_owned()),
        sorry_server: sorry_server.map(|server| server.key.to_string()),
        queries_per_second: rates.reduce(|some, more| some + more),
        servers,
    }
}

impl Measured<'_> {
    /// The slowest of all protocols where the packets' isn't known.
    fn latency(&self, service: &Service, key: &PoolKey, server: &RealServer) -> Option<Duration> {
        let protocols = service.protocols.iter();
        let protocols =
            protocols.filter(|protocol| key.protocol.is_none_or(|one| one == **protocol));
        let latencies = protocols.filter_map(|protocol| {
            (self.latency)(&Subject {
                service: key.service.clone(),
                protocol: *protocol,
                real_server: server.key,
            })
        });
        latencies.max()
    }

    fn queries_per_second(&self, key: &PoolKey, server: &RealServer) -> Option<f64> {
        let protocol = key.protocol;
        let subject = metrics::Subject {
            service: key.service.clone(),
            protocol: protocol.map_or_else(|| "any".to_owned(), |one| one.to_string()),
            real_server: server.key.to_string(),
        };
        self.rates.get(&subject).copied()
    }
}

pub(super) fn state(decision: &Decision, hand: Option<&Entry>) -> ServerState {
    let hand = hand.map_or(Hand::Enabled, |entry| entry.state.into());
    match decision.share {
        _ if hand == Hand::Disabled => ServerState::Disabled,
        Share::AsFound => ServerState::Unknown,
        Share::Absent => ServerState::Out,
        Share::Present if decision.kept => ServerState::Kept,
        Share::Present if decision.weight == 0 => ServerState::Drained,
        Share::Present => ServerState::In,
    }
}

fn factors(decision: &Decision) -> FactorStatus {
    let factors = decision.factors;
    FactorStatus {
        agent: factors.agent.get(),
        latency: factors.latency.get(),
        slow_start: factors.slow_start.get(),
        serial: factors.serial.get(),
    }
}

fn hand_status(entry: &Entry, now: SystemTime) -> HandStatus {
    let left = |until: SystemTime| until.duration_since(now).unwrap_or_default();
    HandStatus {
        state: entry.state,
        left: entry.until.map(left),
        reason: entry.reason.clone(),
    }
}

/// What operators said of servers that aren't configured, and what is wrong with the file.
pub(super) fn hand_problems(
    configuration: &Configuration,
    hands: &Hands,
    damage: Option<&str>,
) -> Vec<String> {
    let is_configured = |service: &str, key| {
        let mut services = configuration.services.iter();
        services.any(|one| {
            one.name == service && one.real_servers.iter().any(|server| server.key == key)
        })
    };
    let strangers = hands
        .iter()
        .filter(|(place, _)| !is_configured(&place.service, place.real_server));
    let strangers = strangers.map(|(place, entry)| {
        format!(
            "{place} is {} and not configured; kept for when it is again, or `director enable {place}`",
            entry.state.word()
        )
    });
    damage
        .map(str::to_owned)
        .into_iter()
        .chain(strangers)
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use lvs_proto::health::{FailureKind, Verdict};
    use lvs_proto::ipvs::Protocol;

    use super::*;
    use crate::engine::judged::tests::{FILE, subject};
    use crate::engine::pools::Pools;
    use crate::engine::tests::configuration;
    use crate::hand::{Order, State};
    use crate::health::{Health, Reason};

    #[test]
    fn each_server_is_told_with_what_becomes_of_it_and_why() {
        let configuration = configuration(FILE);
        let refused = Health {
            verdict: Verdict::Unhealthy,
            reason: Some(Reason {
                kind: FailureKind::ResponseCode,
                text: "REFUSED".to_owned(),
            }),
            ..Verdict::Unhealthy.into()
        };
        let healths = Healths::from([
            (subject(Protocol::Udp, 183), Verdict::Healthy.into()),
            (subject(Protocol::Udp, 184), refused),
            (subject(Protocol::Tcp, 183), Verdict::Healthy.into()),
        ]);
        let now = SystemTime::UNIX_EPOCH;
        let mut hands = Hands::default();
        let order = |servers: &str| Order {
            servers: servers.parse().unwrap(),
            state: State::Drained,
            time: Some(Duration::from_secs(60)),
            reason: Some("new disk".to_owned()),
        };
        let present = ["resolver/192.168.56.183", "old/192.0.2.1"];
        for server in present {
            hands.obey(&order(server), [server.parse().unwrap()], now);
        }
        let outcomes = Pools::default().preview(&configuration, &healths, &hands);
        let now = now + Duration::from_secs(20);
        let latency = |subject: &Subject| {
            (subject.protocol == Protocol::Udp).then_some(Duration::from_micros(250))
        };
        let rate = |last: u8, rate: f64| {
            let subject = metrics::Subject {
                service: "resolver".to_owned(),
                protocol: "udp".to_owned(),
                real_server: format!("192.168.56.{last}"),
            };
            (subject, rate)
        };
        let measured = Measured {
            latency: &latency,
            rates: [rate(183, 1.5), rate(184, 2.0)].into(),
        };
        let services = services(&configuration, &outcomes, &healths, &hands, &measured, now);
        let states = |pool: &PoolStatus| {
            let servers = pool.servers.iter();
            servers
                .map(|one| (one.state, one.weight))
                .collect::<Vec<_>>()
        };
        let [udp, tcp] = &services[0].pools[..] else {
            panic!("{services:?}")
        };
        assert_eq!(
            states(udp),
            [(ServerState::Drained, 0), (ServerState::Out, 1)]
        );
        assert_eq!(
            states(tcp),
            [(ServerState::Drained, 0), (ServerState::Unknown, 1)]
        );
        assert_eq!((udp.quorum, tcp.quorum), (Some(false), None));
        let hand = udp.servers[0].hand.clone().unwrap();
        assert_eq!(hand.left, Some(Duration::from_secs(40)));
        let failure = udp.servers[1].failure.clone().unwrap();
        assert_eq!(
            (failure.kind.as_str(), failure.text.as_str()),
            ("rcode", "REFUSED")
        );
        let figures = |pool: &PoolStatus| {
            let server = &pool.servers[0];
            (
                pool.queries_per_second,
                server.queries_per_second,
                server.latency,
            )
        };
        let quarter = Some(Duration::from_micros(250));
        assert_eq!(figures(udp), (Some(3.5), Some(1.5), quarter));
        assert_eq!(figures(tcp), (None, None, None));
        let problems = hand_problems(&configuration, &hands, Some("damaged"));
        assert_eq!(
            problems,
            [
                "damaged",
                "old/192.0.2.1 is drained and not configured; kept for when it is again, or \
                 `director enable old/192.0.2.1`"
            ]
        );
    }
}
