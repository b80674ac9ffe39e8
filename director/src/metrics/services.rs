//! How services and their servers are, as decided last: all of it changes together.

use lvs_metrics::text::{Family, Label, Text};

use crate::control::{self, PoolStatus, ServerState, ServerStatus, ServiceStatus};

const HEALTHY: Family = Family::gauge(
    "director_pool_healthy_servers",
    "Real servers that pass their checks and take queries.",
);
const NEEDED: Family = Family::gauge(
    "director_pool_quorum_servers",
    "Healthy real servers that the quorum takes now.",
);
const QUORUM: Family = Family::gauge(
    "director_pool_quorum",
    "1 when enough real servers are healthy, 0 when not; absent while it is not known.",
);
const FLOOR: Family = Family::gauge(
    "director_pool_floor_in_effect",
    "1 when real servers are kept that fail their checks, because too few pass.",
);
const SORRY: Family = Family::gauge(
    "director_pool_sorry_server_in_use",
    "1 when the sorry server answers, because nobody else is left.",
);
const STATE: Family = Family::gauge(
    "director_real_server_state",
    "What becomes of a real server; 1 for one of the states.",
);
const FAILING: Family = Family::gauge(
    "director_real_server_failing",
    "1 for a real server that fails its checks, with the kind of the last failure.",
);
const WEIGHT: Family = Family::gauge(
    "director_real_server_effective_weight",
    "The weight that a real server should have in the forwarding table; 0 when it is out.",
);
const FACTOR: Family = Family::gauge(
    "director_real_server_weight_factor_ratio",
    "What is left of a real server's configured weight, by what counts for less.",
);
const HAND: Family = Family::gauge(
    "director_real_server_hand",
    "1 for a real server that an operator has drained or disabled.",
);

/// Writes all families of services and their servers.
pub(super) fn write(services: &[ServiceStatus], text: &mut Text) {
    let pools = || services.iter().flat_map(pools_of);
    let mut of_pools = |family: &Family, value: fn(&PoolStatus) -> Option<usize>| {
        let mut series = text.family(family);
        for (labels, pool) in pools() {
            if let Some(value) = value(pool) {
                series.add(labels, value);
            }
        }
    };
    of_pools(&HEALTHY, |pool| Some(pool.healthy));
    of_pools(&NEEDED, |pool| Some(pool.needed));
    of_pools(&QUORUM, |pool| pool.quorum.map(usize::from));
    of_pools(&FLOOR, |pool| Some(pool.floor.is_some().into()));
    of_pools(&SORRY, |pool| Some(pool.sorry_server.is_some().into()));

    let servers = || {
        pools().flat_map(|([family, protocol, service], pool)| {
            let servers = pool.servers.iter();
            servers.map(move |server| {
                let name = ("real_server", server.server.as_str());
                ([family, protocol, name, service], server)
            })
        })
    };
    let mut series = text.family(&STATE);
    for ([a, b, c, d], server) in servers() {
        for state in ServerState::ALL {
            let value = u8::from(state == server.state);
            series.add([a, b, c, d, ("state", state.word())], value);
        }
    }
    let mut series = text.family(&FAILING);
    for ([a, b, c, d], server) in servers() {
        if let Some(failure) = &server.failure {
            series.add([a, b, c, d, ("kind", &failure.kind)], 1);
        }
    }
    let mut series = text.family(&WEIGHT);
    for (labels, server) in servers() {
        series.add(labels, effective_weight(server));
    }
    let mut series = text.family(&FACTOR);
    for ([a, b, c, d], server) in servers() {
        for (name, percent) in server.factors.named() {
            let ratio = f64::from(percent) / 100.0;
            series.add([a, b, c, d, ("factor", name)], ratio);
        }
    }
    let mut series = text.family(&HAND);
    for ([a, b, c, d], server) in servers() {
        if let Some(hand) = &server.hand {
            series.add([a, b, c, d, ("state", hand.state.word())], 1);
        }
    }
}

/// What is marked has a protocol that isn't known.
fn pools_of(service: &ServiceStatus) -> impl Iterator<Item = ([Label<'_>; 3], &PoolStatus)> {
    service.pools.iter().map(|pool| {
        let family = match pool.family {
            control::Family::Ipv4 => "ipv4",
            control::Family::Ipv6 => "ipv6",
        };
        let protocol = pool.protocol.as_deref().unwrap_or("any");
        let labels = [
            ("family", family),
            ("protocol", protocol),
            ("service", service.name.as_str()),
        ];
        (labels, pool)
    })
}

fn effective_weight(server: &ServerStatus) -> u16 {
    match server.state {
        ServerState::In | ServerState::Kept | ServerState::Drained | ServerState::Unknown => {
            server.weight
        }
        ServerState::Out | ServerState::Disabled => 0,
    }
}
