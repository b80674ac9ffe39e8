//! What services were asked and how fast their servers answered in the last hour, for the page's plots.
//! Pure, and bounded: what isn't configured any more is forgotten, and so is what an hour ago was.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use serde::Serialize;

use crate::control::{Family, PoolStatus, ServerState, ServiceStatus};

/// From one point to the next.
pub const STEP: Duration = Duration::from_secs(10);

/// The points of an hour.
const POINTS: usize = 360;

/// So many pools at most, the first ones of the configuration: 2 MB.
const MOST_POOLS: usize = 256;

/// The last hour. As JSON: `step_seconds`, and `pools` with arrays that end at the newest point; what isn't
/// known is null.
#[derive(Clone, Debug, Serialize)]
pub struct History {
    step_seconds: u64,
    #[serde(skip)]
    next: u64,
    pools: Vec<Past>,
}

/// Of one pool.
#[derive(Clone, Debug, Serialize)]
struct Past {
    #[serde(flatten)]
    pool: Pool,
    queries_per_second: Points,
    latency_seconds: Points,
    highest_latency_seconds: Points,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
struct Pool {
    service: String,
    family: Family,
    protocol: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize)]
struct Points(VecDeque<Option<f32>>);

impl History {
    /// One of which nothing is known.
    pub fn new() -> Self {
        Self {
            step_seconds: STEP.as_secs(),
            next: 0,
            pools: Vec::new(),
        }
    }

    /// Takes how services are at a step, counted from the director's start; steps that were left out aren't
    /// known. Latencies are the median and the highest of the servers that take queries.
    pub fn record(&mut self, step: u64, services: &[ServiceStatus]) {
        let missed = step.saturating_sub(self.next);
        self.next = step.saturating_add(1);
        let before = std::mem::take(&mut self.pools).into_iter();
        let mut before: HashMap<Pool, Past> =
            before.map(|past| (past.pool.clone(), past)).collect();
        let present = services.iter().flat_map(|service| {
            let pools = service.pools.iter();
            pools.map(move |pool| (Pool::of(service, pool), pool))
        });
        for (name, pool) in present.take(MOST_POOLS) {
            let mut past = before.remove(&name).unwrap_or_else(|| Past::new(name));
            past.forget(missed);
            past.record(pool);
            self.pools.push(past);
        }
    }
}

impl Default for History {
    fn default() -> Self {
        Self::new()
    }
}

impl Pool {
    fn of(service: &ServiceStatus, pool: &PoolStatus) -> Self {
        Self {
            service: service.name.clone(),
            family: pool.family,
            protocol: pool.protocol.clone(),
        }
    }
}

impl Past {
    fn new(pool: Pool) -> Self {
        Self {
            pool,
            queries_per_second: Points::default(),
            latency_seconds: Points::default(),
            highest_latency_seconds: Points::default(),
        }
    }

    /// Steps have passed of which nothing is known.
    fn forget(&mut self, steps: u64) {
        for points in [
            &mut self.queries_per_second,
            &mut self.latency_seconds,
            &mut self.highest_latency_seconds,
        ] {
            // Before the first point there is nothing to leave out.
            let steps = if points.0.is_empty() { 0 } else { steps };
            for _ in 0..steps.min(POINTS as u64) {
                points.push(None);
            }
        }
    }

    fn record(&mut self, pool: &PoolStatus) {
        let mut latencies: Vec<Duration> = pool
            .servers
            .iter()
            .filter(|server| matches!(server.state, ServerState::In | ServerState::Kept))
            .filter_map(|server| server.latency)
            .collect();
        latencies.sort_unstable();
        let median = latencies.get(latencies.len().saturating_sub(1) / 2);
        // A tenth of a query and a microsecond are enough, and are few digits in JSON.
        let rounded = |value: f64, unit: f64| ((value / unit).round() * unit) as f32;
        let seconds = |latency: &Duration| rounded(latency.as_secs_f64(), 1e-6);
        let queries = pool.queries_per_second;
        self.queries_per_second
            .push(queries.map(|queries| rounded(queries, 0.1)));
        self.latency_seconds.push(median.map(seconds));
        self.highest_latency_seconds
            .push(latencies.last().map(seconds));
    }
}

impl Points {
    fn push(&mut self, point: Option<f32>) {
        if self.0.len() == POINTS {
            self.0.pop_front();
        }
        self.0.push_back(point);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::control::{FactorStatus, ServerStatus};

    fn server(state: ServerState, milliseconds: u64) -> ServerStatus {
        ServerStatus {
            server: "192.0.2.1".to_owned(),
            state,
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
            latency: (milliseconds > 0).then(|| Duration::from_millis(milliseconds)),
            queries_per_second: None,
            hand: None,
            identity: None,
        }
    }

    fn service(name: &str, queries: Option<f64>, servers: Vec<ServerStatus>) -> ServiceStatus {
        let pool = PoolStatus {
            family: Family::Ipv4,
            protocol: Some("udp".to_owned()),
            healthy: 1,
            needed: 1,
            quorum: Some(true),
            floor: None,
            sorry_server: None,
            queries_per_second: queries,
            servers,
        };
        ServiceStatus {
            name: name.to_owned(),
            pools: vec![pool],
        }
    }

    fn told(history: &History) -> Value {
        serde_json::to_value(history).unwrap()
    }

    #[test]
    fn a_point_is_what_serving_servers_did() {
        let servers = vec![
            server(ServerState::In, 1),
            server(ServerState::In, 3),
            server(ServerState::Kept, 8),
            server(ServerState::In, 0),
            server(ServerState::Out, 900),
        ];
        let mut history = History::new();
        history.record(0, &[service("resolver", Some(12.34), servers)]);
        history.record(1, &[service("resolver", None, Vec::new())]);
        let told = serde_json::to_string(&history).unwrap();
        assert_eq!(
            told,
            "{\"step_seconds\":10,\"pools\":[{\"service\":\"resolver\",\"family\":\"ipv4\",\
             \"protocol\":\"udp\",\"queries_per_second\":[12.3,null],\"latency_seconds\":[0.003,null],\
             \"highest_latency_seconds\":[0.008,null]}]}"
        );
    }

    #[test]
    fn what_was_left_out_is_not_known() {
        let asked = |queries| [service("resolver", Some(queries), Vec::new())];
        let mut history = History::new();
        // Nothing was left out before the first one.
        history.record(5, &asked(1.0));
        history.record(8, &asked(2.0));
        let points = &told(&history)["pools"][0]["queries_per_second"];
        assert_eq!(*points, json!([1.0, null, null, 2.0]));
        // However long the machine was asleep.
        history.record(u64::MAX, &asked(3.0));
        let told = told(&history);
        let points = told["pools"][0]["queries_per_second"].as_array().unwrap();
        assert_eq!(points.len(), POINTS);
        assert_eq!(points[POINTS - 2..], [Value::Null, json!(3.0)]);
    }

    #[test]
    fn an_hour_is_kept_and_no_more_pools_than_can_be() {
        let mut history = History::new();
        let names: Vec<String> = (0..MOST_POOLS + 9)
            .map(|number| number.to_string())
            .collect();
        for step in 0..POINTS as u64 + 7 {
            let services = names.iter();
            let services: Vec<_> = services
                .map(|name| service(name, Some(step as f64), Vec::new()))
                .collect();
            history.record(step, &services);
        }
        assert_eq!(history.pools.len(), MOST_POOLS);
        for past in &history.pools {
            let points = &past.queries_per_second.0;
            assert_eq!((points.len(), points[0]), (POINTS, Some(7.0)));
        }
    }

    #[test]
    fn what_is_removed_is_forgotten() {
        let both = ["a", "b"].map(|name| service(name, Some(1.0), Vec::new()));
        let mut history = History::new();
        history.record(0, &both);
        history.record(1, &both[1..]);
        history.record(2, &both);
        let told = told(&history);
        let points = |pool: usize| {
            told["pools"][pool]["queries_per_second"]
                .as_array()
                .unwrap()
        };
        assert_eq!(points(0).len(), 1);
        assert_eq!(points(1).len(), 3);
    }
}
