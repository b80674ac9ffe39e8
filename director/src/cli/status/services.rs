//! Services and their real servers: a line for a service of which all is well, and the servers of any
//! other.

use std::fmt::Write;

use super::table;
use crate::control::findings::{self, name};
use crate::control::{PoolStatus, ServerState, ServerStatus, ServiceStatus};
use crate::wording::age;

/// All services as a table, with what is wrong below.
pub(super) fn describe(services: &[ServiceStatus]) -> String {
    let mut rows = vec![["SERVICE", "HEALTHY", "QUORUM"].map(str::to_owned)];
    rows.extend(services.iter().map(summary));
    let mut text = String::new();
    // The servers of a service stand below its line.
    let summaries = table(&rows);
    let mut lines = summaries.lines();
    for line in lines.by_ref().take(1) {
        text += line;
        text.push('\n');
    }
    for (line, service) in lines.zip(services) {
        text += line;
        text.push('\n');
        if !service.pools.iter().all(is_well) {
            text += &servers(service);
            for problem in findings::of_service(service) {
                // Writing to a text doesn't fail.
                let _ = writeln!(text, "{problem}");
            }
        }
    }
    text
}

/// Whether there is nothing to say of it.
fn is_well(pool: &PoolStatus) -> bool {
    let is_plain = |server: &ServerStatus| {
        let is_in = match server.state {
            ServerState::In => true,
            ServerState::Drained => server.configured_weight == 0,
            _ => false,
        };
        is_in && server.hand.is_none() && factors(server).is_empty()
    };
    pool.quorum == Some(true)
        && pool.floor.is_none()
        && pool.sorry_server.is_none()
        && pool.servers.iter().all(is_plain)
}

fn summary(service: &ServiceStatus) -> [String; 3] {
    let healthy = |pool: &PoolStatus| format!("{} of {}", pool.healthy, pool.servers.len());
    let quorum = |pool: &PoolStatus| match pool.quorum {
        Some(true) => pool.needed.to_string(),
        Some(false) => format!("{}, lost", pool.needed),
        None => format!("{}, not known yet", pool.needed),
    };
    [
        service.name.clone(),
        by_pool(service, healthy),
        by_pool(service, quorum),
    ]
}

/// Once, if it's the same for all.
fn by_pool(service: &ServiceStatus, words: impl Fn(&PoolStatus) -> String) -> String {
    let each: Vec<String> = service.pools.iter().map(&words).collect();
    match each.split_first() {
        None => String::new(),
        Some((first, rest)) if rest.iter().all(|other| other == first) => first.clone(),
        Some(_) => {
            let pools = service.pools.iter().zip(each);
            let named = pools.map(|(pool, words)| format!("{} {words}", name(service, pool)));
            named.collect::<Vec<_>>().join(", ")
        }
    }
}

/// A line for each server, or one for each of its protocols where these differ.
fn servers(service: &ServiceStatus) -> String {
    let mut rows: Vec<(String, Vec<String>, [String; 3])> = Vec::new();
    for pool in &service.pools {
        for server in &pool.servers {
            let words = words(service, server);
            let same = |(name, _, other): &&mut (String, Vec<String>, [String; 3])| {
                *name == server.server && *other == words
            };
            let pool = name(service, pool);
            match rows.iter_mut().find(same) {
                Some((_, pools, _)) => pools.push(pool),
                None => rows.push((server.server.clone(), vec![pool], words)),
            }
        }
    }
    let first = |server: &str| service.pools.iter().find_map(|pool| place(pool, server));
    rows.sort_by_key(|(server, ..)| first(server));
    let rows: Vec<[String; 5]> = rows
        .into_iter()
        .map(|(server, pools, [state, weight, why])| {
            [format!("  {server}"), pools.join(" "), state, weight, why]
        })
        .collect();
    table(&rows)
}

fn place(pool: &PoolStatus, server: &str) -> Option<usize> {
    pool.servers.iter().position(|one| one.server == server)
}

/// What becomes of a server, its weight, and why.
pub(in crate::cli) fn words(service: &ServiceStatus, server: &ServerStatus) -> [String; 3] {
    let mut why = Vec::new();
    if let Some(failure) = &server.failure {
        why.push(failure.text.clone());
    }
    if let Some(word) = &server.agent {
        why.push(format!("it says `{word}` of itself"));
    }
    if let Some(hand) = &server.hand {
        let time = match hand.left {
            Some(left) => format!("by hand for {} more", age(left)),
            None => "by hand".to_owned(),
        };
        let reason = hand.reason.as_ref();
        let reason = reason.map_or_else(String::new, |reason| format!(" ({reason})"));
        why.push(format!(
            "{time}{reason}; `director enable {}/{}` ends it",
            service.name, server.server
        ));
    }
    let takes = matches!(server.state, ServerState::In | ServerState::Kept);
    if takes {
        why.extend(factors(server));
    }
    if let Some(identity) = &server.identity {
        why.push(format!("it is `{identity}`"));
    }
    let weight = if takes {
        format!("weight {}", server.weight)
    } else {
        String::new()
    };
    [server.state.word().to_owned(), weight, why.join("; ")]
}

/// What counts for less than the configured weight.
fn factors(server: &ServerStatus) -> Vec<String> {
    let less = server.factors.named();
    let less = less.into_iter().filter(|(_, percent)| *percent < 100);
    less.map(|(name, percent)| format!("{} {percent} %", name.replace('_', " ")))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::control::{FactorStatus, Failure, Family, HandStatus};
    use crate::hand::State;

    fn server(last: u8) -> ServerStatus {
        ServerStatus {
            server: format!("192.0.2.{last}"),
            state: ServerState::In,
            failure: None,
            weight: 1,
            configured_weight: 1,
            factors: FactorStatus {
                agent: 100,
                latency: 100,
                slow_start: 100,
                serial: 100,
            },
            agent: None,
            identity: None,
            latency: None,
            queries_per_second: None,
            hand: None,
        }
    }

    fn pool(protocol: &str) -> PoolStatus {
        PoolStatus {
            family: Family::Ipv4,
            protocol: Some(protocol.to_owned()),
            healthy: 3,
            needed: 1,
            quorum: Some(true),
            floor: None,
            sorry_server: None,
            queries_per_second: None,
            servers: [9, 10, 11].map(server).into(),
        }
    }

    fn service(name: &str) -> ServiceStatus {
        ServiceStatus {
            name: name.to_owned(),
            pools: vec![pool("udp"), pool("tcp")],
        }
    }

    #[test]
    fn a_service_of_which_all_is_well_has_one_line() {
        let mut other = service("authoritative");
        // That is what the file says.
        let server = &mut other.pools[0].servers[0];
        (server.state, server.weight, server.configured_weight) = (ServerState::Drained, 0, 0);
        other.pools[0].healthy = 2;
        assert_eq!(
            describe(&[service("resolver"), other]),
            "\
SERVICE        HEALTHY                 QUORUM
resolver       3 of 3                  1
authoritative  udp 2 of 3, tcp 3 of 3  1
"
        );
    }

    #[test]
    fn any_other_has_a_line_for_each_server_and_for_what_to_do() {
        let mut service = service("resolver");
        for pool in &mut service.pools {
            let drained = &mut pool.servers[0];
            (drained.state, drained.weight) = (ServerState::Drained, 0);
            drained.hand = Some(HandStatus {
                state: State::Drained,
                left: Some(Duration::from_secs(7140)),
                reason: Some("new disk".to_owned()),
            });
            pool.healthy = 2;
        }
        let udp = &mut service.pools[0];
        udp.healthy = 0;
        udp.quorum = Some(false);
        udp.floor = Some("no server passes its checks".to_owned());
        udp.servers[1].state = ServerState::Kept;
        udp.servers[1].failure = Some(Failure {
            kind: "timeout".to_owned(),
            text: "no answer within 300 ms".to_owned(),
        });
        udp.servers[2].state = ServerState::Out;
        udp.servers[2].failure = udp.servers[1].failure.clone();
        let tcp = &mut service.pools[1];
        tcp.servers[1].factors.slow_start = 20;
        tcp.servers[1].weight = 20;
        tcp.servers[2].weight = 100;
        assert_eq!(
            describe(&[service]),
            "\
SERVICE   HEALTHY                 QUORUM
resolver  udp 0 of 3, tcp 2 of 3  udp 1, lost, tcp 1
  192.0.2.9   udp tcp  drained              by hand for 1h 59m more (new disk); `director enable resolver/192.0.2.9` ends it
  192.0.2.10  udp      kept     weight 1    no answer within 300 ms
  192.0.2.10  tcp      in       weight 20   slow start 20 %
  192.0.2.11  udp      out                  no answer within 300 ms
  192.0.2.11  tcp      in       weight 100
resolver: udp: no server passes its checks
"
        );
    }

    #[test]
    fn an_empty_pool_and_a_lost_quorum_are_said_once() {
        let mut service = service("resolver");
        for pool in &mut service.pools {
            (pool.healthy, pool.quorum) = (0, Some(false));
        }
        let empty = "nobody takes queries: clients are told that nobody listens";
        assert_eq!(
            findings::of_service(&service),
            [format!("resolver: {empty}")]
        );
        service.pools[1].sorry_server = Some("192.0.2.99".to_owned());
        (service.pools[0].healthy, service.pools[0].needed) = (1, 2);
        assert_eq!(
            findings::of_service(&service),
            [
                "resolver: udp: the quorum takes 2 healthy servers: this router does not take over from a living one",
                "resolver: tcp: nobody else is left: the sorry server 192.0.2.99 answers",
            ]
        );
    }
}
