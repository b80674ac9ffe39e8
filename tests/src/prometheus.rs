//! A real Prometheus in the lab, with the scrape jobs and alerts of `deploy/prometheus`.

use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::http;
use crate::lab::{Host, Process};
use crate::scenario::edited;

const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9090);
const CONFIGURATION: &str = include_str!("../../deploy/prometheus/prometheus.yaml");
/// The alerts of the director, and of rs-agent, by their files' names.
pub const RULES: [(&str, &str); 2] = [
    (
        "lvs-director.rules.yaml",
        include_str!("../../deploy/prometheus/lvs-director.rules.yaml"),
    ),
    (
        "lvs-rs-agent.rules.yaml",
        include_str!("../../deploy/prometheus/lvs-rs-agent.rules.yaml"),
    ),
];

/// A Prometheus at work.
#[derive(Debug)]
pub struct Prometheus {
    host: Host,
    interval: Duration,
    started: SystemTime,
    process: Process,
}

/// One series of an answer: its labels, and its finite values in their order.
#[derive(Clone, Debug)]
pub struct Series {
    /// Labels and their values.
    pub labels: Value,
    /// Values that are numbers.
    pub values: Vec<f64>,
}

impl Prometheus {
    /// Starts one on `host` that scrapes these directors and agents so often, and doesn't wait.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(
        host: &Host,
        directors: &[&str],
        agents: &[&str],
        interval: Duration,
    ) -> Result<Self> {
        let targets = |addresses: &[&str], port: u16| {
            let targets = addresses
                .iter()
                .map(|address| format!("\"{address}:{port}\""));
            targets.collect::<Vec<_>>().join(", ")
        };
        let mut yaml = CONFIGURATION.replace("15s", &format!("{}s", interval.as_secs()));
        for (port, addresses) in [(9712, directors), (9154, agents)] {
            let published = match port {
                9712 => ["192.168.56.181", "192.168.56.182"],
                _ => ["192.168.56.183", "192.168.56.184"],
            };
            yaml = edited(&yaml, &targets(&published, port), &targets(addresses, port));
        }
        for (name, rules) in RULES {
            host.write_file(name, rules)?;
        }
        let file = host.write_file("prometheus.yaml", &yaml)?;
        let process = host.spawn(
            "prometheus",
            [
                &format!("--config.file={}", file.display()),
                "--storage.tsdb.path=/run/lab/prometheus",
                &format!("--web.listen-address={LISTEN}"),
                "--log.level=warn",
            ],
        )?;
        Ok(Self {
            host: host.clone(),
            interval,
            started: SystemTime::now(),
            process,
        })
    }

    /// Whether it is there, and scrapes this many targets with success.
    pub fn scrapes(&self, targets: usize) -> bool {
        self.value("sum(up)") == Some(targets as f64)
    }

    /// The value of an expression that has one series now.
    pub fn value(&self, expression: &str) -> Option<f64> {
        let series = self.now(expression).ok()?;
        match series.as_slice() {
            [one] => one.values.first().copied(),
            _ => None,
        }
    }

    /// What an expression is now.
    ///
    /// # Errors
    /// When Prometheus doesn't answer, or refuses the expression.
    pub fn now(&self, expression: &str) -> Result<Vec<Series>> {
        let data = self.ask(&format!("query?query={}", encoded(expression)))?;
        series(&data)
    }

    /// What an expression was at every interval since Prometheus started.
    ///
    /// # Errors
    /// As [`Self::now`].
    pub fn since_start(&self, expression: &str) -> Result<Vec<Series>> {
        let seconds = |time: SystemTime| -> Result<u64> {
            Ok(time.duration_since(SystemTime::UNIX_EPOCH)?.as_secs())
        };
        let data = self.ask(&format!(
            "query_range?query={}&start={}&end={}&step={}",
            encoded(expression),
            seconds(self.started)?,
            seconds(SystemTime::now())?,
            self.interval.as_secs(),
        ))?;
        series(&data)
    }

    /// The rules that it couldn't evaluate, with its words, and how many it could.
    ///
    /// # Errors
    /// When Prometheus doesn't answer.
    pub fn rules(&self) -> Result<(Vec<Value>, usize)> {
        let data = self.ask("rules")?;
        let groups = data["groups"].as_array().context("no groups")?;
        let rules = groups.iter().filter_map(|group| group["rules"].as_array());
        let (good, bad): (Vec<&Value>, Vec<&Value>) =
            rules.flatten().partition(|rule| rule["health"] == "ok");
        Ok((bad.into_iter().cloned().collect(), good.len()))
    }

    /// What it says of itself.
    pub fn log(&self) -> String {
        self.process.log()
    }

    fn ask(&self, path: &str) -> Result<Value> {
        let text = http::get(&self.host, LISTEN, &format!("/api/v1/{path}"))?;
        let mut answer: Value = serde_json::from_str(&text)?;
        ensure!(answer["status"] == "success", "{path}: {answer}");
        Ok(answer["data"].take())
    }
}

fn series(data: &Value) -> Result<Vec<Series>> {
    let Some(result) = data["result"].as_array() else {
        bail!("no result in {data}");
    };
    let number = |pair: &Value| -> Option<f64> {
        let value: f64 = pair[1].as_str()?.parse().ok()?;
        value.is_finite().then_some(value)
    };
    let series = result.iter().map(|one| Series {
        labels: one["metric"].clone(),
        values: match (one["value"].as_array(), one["values"].as_array()) {
            (Some(_), _) => number(&one["value"]).into_iter().collect(),
            (None, Some(values)) => values.iter().filter_map(number).collect(),
            (None, None) => Vec::new(),
        },
    });
    Ok(series.collect())
}

/// As part of a URL (RFC 3986, section 2.1).
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else {
            // Writing to a text can't fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}
