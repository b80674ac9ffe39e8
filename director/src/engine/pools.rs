//! The pools of all services: what is known of servers goes in, what becomes of them comes out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use lvs_proto::Family;
use lvs_proto::agent_check::Mode;
use lvs_proto::health::{Hand, Member, Outcome, Percent, Pool, PoolRules, Share, Verdict};
use lvs_proto::ipvs::{Protocol, ServiceKey};
use tracing::{info, warn};

use super::judged::Healths;
use super::watches::Leftovers;
use crate::config::{Configuration, RealServer, RealServerKey, Service};
use crate::hand::Hands;
use crate::health::{Health, Subject};

/// Servers whose checks take longer to notice than this are still said to have failed at once.
const LEAST_AT_ONCE: Duration = Duration::from_secs(2);

/// The servers of a service for one family and one protocol; of all protocols for what is marked, of
/// which the protocol isn't known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PoolKey {
    /// The service's name.
    pub(super) service: String,
    /// Of the packets.
    pub(super) family: Family,
    /// Of the packets, where it's known.
    pub(super) protocol: Option<Protocol>,
}

/// What becomes of the servers of each pool.
pub(super) type Outcomes = BTreeMap<PoolKey, Outcome<RealServerKey>>;

/// All pools, and what they decided last.
#[derive(Clone, Default)]
pub(super) struct Pools {
    pools: BTreeMap<PoolKey, Pool<RealServerKey>>,
    outcomes: Outcomes,
    leftovers: Leftovers,
}

impl PoolKey {
    /// The pool of what `key` schedules.
    pub(super) fn of(service: &Service, key: ServiceKey) -> Self {
        Self {
            service: service.name.clone(),
            family: key.family(),
            protocol: key.protocol(),
        }
    }

    /// As people say it within the service: `udp`, or with the family where there are two.
    pub(super) fn words(&self, service: &Service) -> String {
        let protocol = match self.protocol {
            Some(protocol) => protocol.to_string(),
            None => "marked packets".to_owned(),
        };
        if service.families().count() > 1 {
            format!("{protocol} over {}", self.family)
        } else {
            protocol
        }
    }
}

/// The pools of a service.
pub(super) fn keys_of(service: &Service) -> BTreeSet<PoolKey> {
    let virtual_services = service.virtual_services.iter();
    virtual_services
        .map(|one| PoolKey::of(service, one.key))
        .collect()
}

impl Pools {
    /// What was decided last.
    pub(super) fn outcomes(&self) -> &Outcomes {
        &self.outcomes
    }

    /// What zones and validation leave of servers from now on.
    pub(super) fn set_leftovers(&mut self, leftovers: Leftovers) {
        self.leftovers = leftovers;
    }

    /// When to decide again, even if nothing is heard.
    pub(super) fn next(&self) -> Option<Instant> {
        let outcomes = self.outcomes.values();
        outcomes.filter_map(|outcome| outcome.next).min()
    }

    /// What would be decided under another configuration with these verdicts; nothing is remembered.
    pub(super) fn preview(
        &self,
        configuration: &Configuration,
        healths: &Healths,
        hands: &Hands,
    ) -> Outcomes {
        let mut pools = self.clone();
        pools.decide(configuration, healths, hands, Instant::now());
        pools.outcomes
    }

    /// Decides with what is known now, and returns what was decided before if that differs in anything but
    /// the time of the next decision.
    pub(super) fn decide(
        &mut self,
        configuration: &Configuration,
        healths: &Healths,
        hands: &Hands,
        now: Instant,
    ) -> Option<Outcomes> {
        let mut outcomes = Outcomes::new();
        for service in &configuration.services {
            let rules = rules(service);
            for key in keys_of(service) {
                let servers = service.real_servers_of(key.family);
                let members = servers
                    .map(|server| {
                        let left = self.leftovers.get(&(service.name.clone(), server.key));
                        let member = Member {
                            serial: left.copied().unwrap_or(Percent::ALL),
                            ..member(service, &key, server, healths, hands)
                        };
                        (server.key, member)
                    })
                    .collect();
                let pool = self.pools.entry(key.clone()).or_default();
                outcomes.insert(key, pool.decide(&rules, &members, now));
            }
        }
        self.pools.retain(|key, _| outcomes.contains_key(key));
        let before = std::mem::replace(&mut self.outcomes, outcomes);
        (!are_alike(&before, &self.outcomes)).then_some(before)
    }
}

/// But for the time of the next decision.
fn are_alike(some: &Outcomes, others: &Outcomes) -> bool {
    let mut pairs = some.iter().zip(others);
    some.len() == others.len()
        && pairs.all(|((key, one), (same, other))| key == same && one.is_like(other))
}

fn rules(service: &Service) -> PoolRules {
    let noticed = service.checks.iter().map(|check| {
        let probing = &check.probing;
        2 * (probing.interval * u32::from(probing.fall.get()) + probing.timeout)
    });
    let settings = &service.pool;
    PoolRules {
        quorum: settings.quorum,
        floor: settings.floor,
        at_once: noticed.max().unwrap_or(LEAST_AT_ONCE).max(LEAST_AT_ONCE),
        maximum_weight: settings.maximum_weight,
        slow_start: settings.slow_start,
        latency: settings.latency,
    }
}

/// What its checks say of a server in a pool: the worst of all protocols where the packets' isn't known.
pub(super) fn health_of(
    service: &Service,
    pool: &PoolKey,
    server: &RealServer,
    healths: &Healths,
) -> Health {
    let concerned = service
        .protocols
        .iter()
        .filter(|protocol| pool.protocol.is_none_or(|one| one == **protocol));
    let unknown = Health::from(Verdict::Unknown);
    let known: Vec<&Health> = concerned
        .map(|protocol| {
            let subject = Subject {
                service: service.name.clone(),
                protocol: *protocol,
                real_server: server.key,
            };
            healths.get(&subject).unwrap_or(&unknown)
        })
        .collect();
    Health::of_all(known)
}

/// What is known of a server in a pool.
fn member(
    service: &Service,
    pool: &PoolKey,
    server: &RealServer,
    healths: &Healths,
    hands: &Hands,
) -> Member {
    let health = health_of(service, pool, server, healths);
    let said = hands.of(&service.name, server.key);
    let said = said.map_or(Hand::Enabled, |entry| entry.state.into());
    let report = health.report.unwrap_or_default();
    let wished = match report.mode {
        Mode::Ready => Hand::Enabled,
        Mode::Drain => Hand::Drained,
        Mode::Maintenance => Hand::Disabled,
    };
    Member {
        weight: server.weight,
        verdict: health.verdict,
        hand: said.max(wished),
        agent: Percent::new(u64::from(report.weight)),
        serial: Percent::ALL,
        latency: health.latency,
    }
}

/// Says what has become another one in how pools stand, once.
pub(super) fn tell(configuration: &Configuration, before: &Outcomes, after: &Outcomes) {
    for service in &configuration.services {
        for key in keys_of(service) {
            let Some(now) = after.get(&key) else { continue };
            let was = before.get(&key);
            let name = &service.name;
            let of = key.words(service);
            if now.floor != was.is_some_and(|was| was.floor) {
                let kept: Vec<String> = kept(now).map(|server| server.to_string()).collect();
                if now.floor {
                    warn!(
                        service = %name, of, kept = kept.join(" "),
                        "{}", floor_words(now)
                    );
                } else {
                    info!(service = %name, of, "no server is kept against its checks any more");
                }
            }
            let sorry = |outcome: &Outcome<RealServerKey>| {
                outcome.sorry == Share::Present && service.sorry_server_of(key.family).is_some()
            };
            if sorry(now) != was.is_some_and(sorry) {
                if sorry(now) {
                    warn!(service = %name, of, "nobody else is left: the sorry server answers");
                } else {
                    info!(service = %name, of, "the sorry server is out again");
                }
            }
            match (was.and_then(|was| was.quorum), now.quorum) {
                (was, Some(false)) if was != Some(false) => warn!(
                    service = %name, of, healthy = now.healthy, needed = now.needed,
                    "the quorum is lost"
                ),
                (Some(false), Some(true)) => info!(
                    service = %name, of, healthy = now.healthy, "the quorum is there again"
                ),
                _ => {}
            }
        }
    }
}

/// The pools of these services in which nobody takes queries, in words with what follows.
pub(super) fn empty(
    configuration: &Configuration,
    services: &BTreeSet<&str>,
    outcomes: &Outcomes,
) -> Vec<String> {
    let services = configuration
        .services
        .iter()
        .filter(|service| services.contains(service.name.as_str()));
    services
        .flat_map(|service| keys_of(service).into_iter().map(move |key| (service, key)))
        .filter_map(|(service, key)| {
            let outcome = outcomes.get(&key)?;
            (outcome.sorry == Share::Present).then(|| {
                let (name, of) = (&service.name, key.words(service));
                let who = match service.sorry_server_of(key.family) {
                    Some(server) => format!("the sorry server {} answers", server.key),
                    None => "clients are told that nobody listens".to_owned(),
                };
                format!("service {name}: no real server takes queries for {of} now; {who}")
            })
        })
        .collect()
}

/// Who is there only because of the floor.
pub(super) fn kept(outcome: &Outcome<RealServerKey>) -> impl Iterator<Item = RealServerKey> + '_ {
    let servers = outcome.servers.iter();
    servers
        .filter(|(_, decision)| decision.kept)
        .map(|(server, _)| *server)
}

/// Why servers are kept that fail their checks.
pub(super) fn floor_words(outcome: &Outcome<RealServerKey>) -> &'static str {
    if outcome.healthy == 0 {
        "no server passes its checks: the last good ones are kept; see to what they have in common, such \
         as the network, or the name that is asked for"
    } else {
        "too few servers pass their checks: others are kept that don't; see to these, or lower `floor`"
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use lvs_proto::agent_check::Report;

    use super::*;
    use crate::engine::judged::tests::{FILE, subject};
    use crate::engine::tests::configuration;
    use crate::hand::{Order, State};

    /// What a director decides that starts now with these verdicts.
    pub(in crate::engine) fn outcomes(
        configuration: &Configuration,
        healths: &Healths,
    ) -> Outcomes {
        Pools::default().preview(configuration, healths, &Hands::default())
    }

    fn shares(outcomes: &Outcomes) -> Vec<(Share, u16)> {
        let servers = outcomes
            .values()
            .flat_map(|outcome| outcome.servers.values());
        servers.map(|one| (one.share, one.weight)).collect()
    }

    #[test]
    fn each_family_and_protocol_is_a_pool_of_its_own() {
        let file =
            FILE.replace(
                "address: 192.168.56.185",
                "addresses: [192.168.56.185, \"2001:db8::1\"]",
            )
            .replace("    port: 53", "    external: true\n    port: 53")
            .replace(
                "addresses: [192.168.56.185/24]",
                "addresses: [192.168.56.186/24]",
            ) + "      - { address: \"2001:db8::2\" }\n";
        let configuration = configuration(&file);
        let service = &configuration.services[0];
        let words: Vec<_> = keys_of(service)
            .iter()
            .map(|key| key.words(service))
            .collect();
        assert_eq!(
            words,
            [
                "udp over IPv4",
                "tcp over IPv4",
                "udp over IPv6",
                "tcp over IPv6"
            ]
        );
        let healths = Healths::from([
            (subject(Protocol::Udp, 183), Verdict::Healthy.into()),
            (subject(Protocol::Udp, 184), Verdict::Healthy.into()),
        ]);
        let outcomes = outcomes(&configuration, &healths);
        let quorums: Vec<_> = outcomes.values().map(|outcome| outcome.quorum).collect();
        assert_eq!(quorums, [Some(true), None, None, None]);
    }

    #[test]
    fn marked_packets_go_to_servers_that_are_well_in_every_protocol() {
        let file = FILE
            .replace(
                "    address: 192.168.56.185\n    port: 53",
                "    firewall_mark: 7\n    instance: dns",
            )
            .replace("name: www.abc.local }", "name: www.abc.local }, port: 53");
        let configuration = configuration(&file);
        let mut healths = Healths::new();
        for (protocol, server) in [
            (Protocol::Udp, 183),
            (Protocol::Tcp, 183),
            (Protocol::Udp, 184),
        ] {
            healths.insert(subject(protocol, server), Verdict::Healthy.into());
        }
        healths.insert(subject(Protocol::Tcp, 184), Verdict::Unhealthy.into());
        let outcomes = outcomes(&configuration, &healths);
        assert_eq!(shares(&outcomes), [(Share::Present, 3), (Share::Absent, 1)]);
    }

    #[test]
    fn the_hand_is_of_a_server_in_a_service_whatever_the_protocol() {
        let configuration = configuration(FILE);
        let healths = all_healthy();
        let mut hands = Hands::default();
        let order = Order {
            servers: "resolver/192.168.56.183".parse().unwrap(),
            state: State::Drained,
            time: None,
            reason: None,
        };
        let present = ["resolver/192.168.56.183".parse().unwrap()];
        hands.obey(&order, present, std::time::SystemTime::now());
        let outcomes = Pools::default().preview(&configuration, &healths, &hands);
        let expected = [(Share::Present, 0), (Share::Present, 1)];
        assert_eq!(shares(&outcomes), [expected, expected].concat());
    }

    #[test]
    fn what_a_server_says_of_itself_counts_beside_the_hand() {
        let configuration = configuration(FILE);
        let mut healths = all_healthy();
        let mut say = |protocol, mode, weight| {
            let health = healths.get_mut(&subject(protocol, 183)).unwrap();
            health.report = Some(Report { mode, weight });
        };
        say(Protocol::Udp, Mode::Ready, 50);
        say(Protocol::Tcp, Mode::Drain, 100);
        let before = outcomes(&configuration, &healths);
        let seen = shares(&before);
        let half = [(Share::Present, 100), (Share::Present, 67)];
        let drained = [(Share::Present, 0), (Share::Present, 1)];
        assert_eq!(seen, [half, drained].concat());
        let health = healths.get_mut(&subject(Protocol::Udp, 183)).unwrap();
        health.report = Some(Report {
            mode: Mode::Maintenance,
            weight: 100,
        });
        let (share, _) = shares(&outcomes(&configuration, &healths))[0];
        assert_eq!(share, Share::Absent);
    }

    #[test]
    fn what_follows_for_time_alone_is_no_change() {
        let mut configuration = configuration(FILE);
        configuration.services[0].pool.slow_start = Some(Duration::from_secs(10));
        let mut healths = all_healthy();
        let mut pools = Pools::default();
        let mut now = Instant::now();
        let hands = Hands::default();
        let changes = |pools: &mut Pools, healths: &Healths, now| {
            pools.decide(&configuration, healths, &hands, now).is_some()
        };
        assert!(changes(&mut pools, &healths, now));
        assert!(!changes(&mut pools, &healths, now));
        for verdict in [Verdict::Unhealthy, Verdict::Healthy] {
            healths.insert(subject(Protocol::Udp, 184), verdict.into());
            assert!(changes(&mut pools, &healths, now));
        }
        assert_eq!(pools.next(), Some(now + Duration::from_secs(1)));
        now += Duration::from_millis(500);
        assert!(!changes(&mut pools, &healths, now));
        now += Duration::from_millis(500);
        assert!(changes(&mut pools, &healths, now));
    }

    fn all_healthy() -> Healths {
        let each = |protocol| {
            [183, 184].map(|server| (subject(protocol, server), Verdict::Healthy.into()))
        };
        [Protocol::Udp, Protocol::Tcp]
            .into_iter()
            .flat_map(each)
            .collect()
    }
}
