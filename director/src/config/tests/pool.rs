//! How the servers of a service stand for each other.

use std::time::Duration;

use lvs_proto::health::{Floor, LatencyRules, Percent, Quorum};

use super::*;

/// A service with two servers and this pool in line 7.
fn file(pool: &str) -> String {
    format!(
        "services:\n  - name: s\n    external: true\n    address: 192.0.2.1\n    port: 53\n    \
         protocols: [udp, tcp]\n    pool: {pool}\n    check: {{ dns: {{ name: a }} }}\n    real_servers: \
         [{{ address: 10.0.0.1, weight: 3 }}, {{ address: 10.0.0.2 }}, {{ address: 10.0.0.3, weight: 0 }}]\n"
    )
}

fn pool(text: &str) -> PoolSettings {
    configuration(&file(text), "ds1").services.remove(0).pool
}

#[test]
fn without_a_word_one_server_is_enough_and_the_last_one_stays() {
    let expected = PoolSettings {
        quorum: Quorum {
            servers: 1,
            hysteresis: 0,
        },
        floor: Floor::Servers(1),
        sorry_servers: Vec::new(),
        maximum_weight: 65535,
        slow_start: None,
        latency: None,
    };
    assert_eq!(pool("{}"), expected);
    let with_sorry_server = pool("{ sorry_server: { address: 10.0.0.9 } }");
    assert_eq!(with_sorry_server.floor, Floor::Servers(0));
    assert_eq!(with_sorry_server.sorry_servers[0].weight, 1);
    assert_eq!(pool("{ latency: {} }").latency.unwrap().dead_band.get(), 20);
    let hashed = file("{}").replace("    pool:", "    scheduler: sh\n    pool:");
    assert_eq!(
        configuration(&hashed, "ds1").services[0]
            .pool
            .maximum_weight,
        85
    );
}

#[test]
fn all_of_it_is_read() {
    let read = pool(
        "{ quorum: { servers: 1, hysteresis: 1 }, floor: \"50%\", sorry_server: [{ address: \
         10.0.0.9, forwarding: masquerade, port: 5353 }], maximum_weight: 3, slow_start: 30s, latency: { \
         smoothing: 1s, dead_band: \"0%\", largest_step: \"100%\" } }",
    );
    assert_eq!(read.quorum.hysteresis, 1);
    assert_eq!(read.floor, Floor::Part(Percent::new(50)));
    assert_eq!(read.sorry_servers[0].key.to_string(), "10.0.0.9:5353");
    assert_eq!(read.maximum_weight, 3);
    assert_eq!(read.slow_start, Some(Duration::from_secs(30)));
    let latency = LatencyRules {
        smoothing: Duration::from_secs(1),
        dead_band: Percent::NONE,
        largest_step: Percent::ALL,
    };
    assert_eq!(read.latency, Some(latency));
    assert_eq!(pool("{ quorum: 2, floor: 0 }").floor, Floor::Servers(0));
}

#[test]
fn what_makes_no_sense_is_refused_with_what_would() {
    for (pool, expected) in [
        (
            "{ quorum: 3 }",
            "pool.quorum: asks for 3 of 2 IPv4 servers that take queries; write less, or add servers",
        ),
        (
            "{ quorum: { servers: 2, hysteresis: 1 } }",
            "pool.quorum: asks for 3 of 2 IPv4 servers that take queries; write less, or add servers",
        ),
        (
            "{ quorum: 0 }",
            "pool.quorum: 0 is out of range; must be a whole number from 1 to 65535",
        ),
        (
            "{ quorum: { hysteresis: 1 } }",
            "pool.quorum: `servers` is missing; write how many healthy servers are needed",
        ),
        (
            "{ floor: 3 }",
            "pool.floor: asks for 3 of 2 IPv4 servers that take queries; write less, or a part of them",
        ),
        (
            "{ floor: \"101%\" }",
            "pool.floor: `101%` is not a part; must be from \"0%\" to \"100%\"",
        ),
        (
            "{ floor: half }",
            "pool.floor: must be a number of servers, or a part such as \"50%\", but is a text",
        ),
        (
            "{ maximum_weight: 2 }",
            "pool.maximum_weight: a real server has a weight of 3; must be at least that, or leave it out",
        ),
        (
            "{ slow_start: 10ms }",
            "pool.slow_start: 10ms is out of range; must be from 1s to 3600s",
        ),
        (
            "{ latency: { largest_step: \"0%\" } }",
            "pool.latency.largest_step: `0%` is not a part; must be from \"1%\" to \"100%\"",
        ),
        (
            "{ sorry_server: { address: 10.0.0.1 } }",
            "pool.sorry_server: 10.0.0.1 is a real server of the service; write another one",
        ),
        (
            "{ sorry_server: { address: 192.0.2.1 } }",
            "pool.sorry_server: 192.0.2.1 is a VIP; write the real server's own address",
        ),
        (
            "{ sorry_server: { address: \"fd00::9\" } }",
            "pool.sorry_server: fd00::9 has nothing to do: the service has no address of its family, or \
             another sorry server has it already",
        ),
        (
            "{ sorry_server: [{ address: 10.0.0.8 }, { address: 10.0.0.9 }] }",
            "pool.sorry_server[1]: 10.0.0.9 has nothing to do: the service has no address of its family, \
             or another sorry server has it already",
        ),
    ] {
        let found = errors(&file(pool));
        assert_eq!(found.len(), 1, "{pool}: {found:?}");
        let (_, said) = found[0].split_once(" services[0].").unwrap();
        // The place of a server is that of its address.
        let said = said.replace(".address: ", ": ");
        assert_eq!(said, expected, "{pool}");
    }
    let unchecked = file("{ latency: {} }").replace("{ dns: { name: a } }", "none");
    assert!(errors(&unchecked)[0].ends_with("write one, or leave this out"));
}

#[test]
fn what_has_no_effect_is_warned_of() {
    let round_robin = file("{ slow_start: 10s, latency: {} }")
        .replace("    pool:", "    scheduler: rr\n    pool:")
        .replace(", weight: 3", "");
    let found = warnings(&round_robin);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].ends_with("has no effect: `rr` knows no weights but 0; write wrr"));
}
