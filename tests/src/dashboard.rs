//! The dashboard of `deploy/grafana`, as far as it asks a Prometheus.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

const FILE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../deploy/grafana/lvs-director.json"
);

/// What a panel asks.
#[derive(Clone, Debug)]
pub struct Query {
    /// The panel's title, and which of its queries it is.
    pub name: String,
    /// The expression, with Grafana's variables filled in.
    pub expression: String,
}

/// What a variable offers: the values of a label.
#[derive(Clone, Debug)]
pub struct Choice {
    /// The metric.
    pub metric: String,
    /// Its label.
    pub label: String,
}

/// All queries of panels and annotations, for a Prometheus that scrapes so often.
///
/// # Errors
/// When the file isn't as Grafana has it.
pub fn queries(interval: Duration) -> Result<Vec<Query>> {
    let file = file()?;
    // What Grafana takes: four scrapes.
    let rate_interval = format!("{}s", 4 * interval.as_secs());
    let fill = |expression: &Value| -> Result<String> {
        let expression = expression.as_str().context("no expression")?;
        let filled = expression
            .replace("$__rate_interval", &rate_interval)
            .replace("$virtual_router", ".*")
            .replace("$service", ".*");
        Ok(filled)
    };
    let mut queries = Vec::new();
    for panel in file["panels"].as_array().context("no panels")? {
        let title = panel["title"].as_str().context("a panel without title")?;
        if panel["type"] == "row" {
            continue;
        }
        for target in panel["targets"].as_array().context("no targets")? {
            queries.push(Query {
                name: format!("{title} ({})", target["refId"]),
                expression: fill(&target["expr"])?,
            });
        }
    }
    for annotation in list(&file["annotations"])? {
        queries.push(Query {
            name: annotation["name"].to_string(),
            expression: fill(&annotation["expr"])?,
        });
    }
    Ok(queries)
}

/// What its variables offer.
///
/// # Errors
/// As [`queries`].
pub fn choices() -> Result<Vec<Choice>> {
    let file = file()?;
    let variables = list(&file["templating"])?.iter();
    let choices = variables.filter(|variable| variable["type"] == "query");
    choices
        .map(|variable| {
            let query = variable["query"]["query"].as_str().context("no query")?;
            let inner = query
                .strip_prefix("label_values(")
                .and_then(|rest| rest.strip_suffix(')'));
            let (metric, label) = inner
                .and_then(|inner| inner.split_once(", "))
                .with_context(|| format!("a variable that isn't of labels: {query}"))?;
            Ok(Choice {
                metric: metric.to_owned(),
                label: label.to_owned(),
            })
        })
        .collect()
}

fn file() -> Result<Value> {
    let text = fs::read_to_string(FILE).context(FILE)?;
    Ok(serde_json::from_str(&text)?)
}

fn list(part: &Value) -> Result<&Vec<Value>> {
    part["list"].as_array().context("no list")
}
