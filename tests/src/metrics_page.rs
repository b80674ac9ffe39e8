//! `docs/metrics.md` beside what programs show: both say the same, or a test fails.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result, bail, ensure};

use crate::dashboard::Query;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
/// The section of what only IPVS knows.
const OF_THE_KERNEL: &str = "What the kernel counts";

/// A family of metrics, as the page or a scrape has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Family {
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
    /// What it is, in words.
    pub help: String,
    /// Its labels, without a histogram's `le`, and the values that they have.
    pub labels: BTreeMap<String, BTreeSet<String>>,
}

/// Families by name.
pub type Families = BTreeMap<String, Family>;

/// What the page says.
#[derive(Clone, Debug)]
pub struct Page {
    /// What needs no IPVS.
    pub of_programs: Families,
    /// What only IPVS knows.
    pub of_the_kernel: Families,
    /// Which values a label of a metric may have, where that is fixed.
    values: BTreeMap<(String, String), BTreeSet<String>>,
}

impl Page {
    /// Whether a query of the dashboard asks for what only IPVS knows.
    pub fn asks_the_kernel(&self, query: &Query) -> bool {
        let mut metrics = self.of_the_kernel.keys();
        metrics.any(|metric| query.expression.contains(metric))
    }

    /// Reads it.
    ///
    /// # Errors
    /// When it isn't there, or a row isn't as the others.
    pub fn read() -> Result<Self> {
        let text = fs::read_to_string(PAGE).context(PAGE)?;
        let mut page = Self {
            of_programs: Families::new(),
            of_the_kernel: Families::new(),
            values: BTreeMap::new(),
        };
        let mut section = "";
        for line in text.lines() {
            if let Some(title) = line.strip_prefix("## ") {
                section = title;
            }
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            match cells.as_slice() {
                [name, kind, labels, help] if line.starts_with("| `") => {
                    let labels = quoted(labels).into_iter();
                    let family = Family {
                        kind: (*kind).to_owned(),
                        help: (*help).to_owned(),
                        labels: labels.map(|label| (label, BTreeSet::new())).collect(),
                    };
                    let families = match section {
                        OF_THE_KERNEL => &mut page.of_the_kernel,
                        _ => &mut page.of_programs,
                    };
                    let name = quoted(name).into_iter().next().context("no name")?;
                    ensure!(
                        families.insert(name, family).is_none(),
                        "there twice: {line}"
                    );
                }
                [label, metrics, values] if line.starts_with("| `") => {
                    let label = quoted(label).into_iter().next().context("no label")?;
                    let values: BTreeSet<String> = quoted(values).into_iter().collect();
                    for metric in quoted(metrics) {
                        page.values.insert((metric, label.clone()), values.clone());
                    }
                }
                _ if line.starts_with("| `director_") || line.starts_with("| `rs_agent_") => {
                    bail!("a row that isn't one of a metric: {line}")
                }
                _ => {}
            }
        }
        Ok(page)
    }

    /// Whether it has a metric, as rules name it.
    pub fn has(&self, name: &str) -> bool {
        let families = [&self.of_programs, &self.of_the_kernel];
        let known = |name: &str| families.iter().any(|families| families.contains_key(name));
        known(name)
            || ["_bucket", "_count"]
                .iter()
                .any(|suffix| name.strip_suffix(suffix).is_some_and(known))
    }

    /// Whatever the page and these families of scrapes don't agree on; all of `expected` should be there.
    pub fn disagreements(&self, expected: &Families, scraped: &Families) -> Vec<String> {
        let mut wrong = Vec::new();
        for name in expected.keys().filter(|name| !scraped.contains_key(*name)) {
            wrong.push(format!("{name} is documented, and nobody shows it"));
        }
        for (name, shown) in scraped {
            let documented = self
                .of_programs
                .get(name)
                .or_else(|| self.of_the_kernel.get(name));
            let Some(documented) = documented else {
                wrong.push(format!("{name} is shown, and isn't documented"));
                continue;
            };
            let labels = |family: &Family| family.labels.keys().cloned().collect::<Vec<_>>();
            for (what, page, program) in [
                ("a type", &documented.kind, &shown.kind),
                ("words", &documented.help, &shown.help),
                (
                    "labels",
                    &labels(documented).join(", "),
                    &labels(shown).join(", "),
                ),
            ] {
                if page != program {
                    wrong.push(format!(
                        "{name} has {what} `{program}`, documented are `{page}`"
                    ));
                }
            }
            for (label, values) in &shown.labels {
                let fixed = self.values.get(&(name.clone(), label.clone()));
                let others = fixed.map(|fixed| values.difference(fixed).collect::<Vec<_>>());
                if let Some(others) = others.filter(|others| !others.is_empty()) {
                    wrong.push(format!(
                        "{name} has {label} {others:?}, which isn't documented"
                    ));
                }
            }
        }
        wrong
    }
}

/// Adds what a scrape (text format 0.0.4) shows.
///
/// # Errors
/// When a line isn't of that format.
pub fn add_scrape(text: &str, families: &mut Families) -> Result<()> {
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').context("no help")?;
            families.entry(name.to_owned()).or_default().help = help.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').context("no type")?;
            families.entry(name.to_owned()).or_default().kind = kind.to_owned();
        } else {
            let (series, _) = line.rsplit_once(' ').context("no value")?;
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let histogram = ["_bucket", "_sum", "_count"]
                .iter()
                .filter_map(|suffix| name.strip_suffix(suffix))
                .find(|name| {
                    families
                        .get(*name)
                        .is_some_and(|one| one.kind == "histogram")
                });
            let family = families
                .get_mut(histogram.unwrap_or(name))
                .with_context(|| format!("a series without a family: {line}"))?;
            for (label, value) in pairs(labels.trim_end_matches('}')) {
                if label != "le" {
                    family.labels.entry(label).or_default().insert(value);
                }
            }
        }
    }
    Ok(())
}

/// What is in backquotes.
fn quoted(cell: &str) -> Vec<String> {
    let parts = cell.split('`').skip(1).step_by(2);
    parts.map(str::to_owned).collect()
}

/// Labels and values; none of the lab's values has a quote or a comma.
fn pairs(labels: &str) -> impl Iterator<Item = (String, String)> + '_ {
    labels.split("\",").filter_map(|pair| {
        let (label, value) = pair.split_once("=\"")?;
        Some((label.to_owned(), value.trim_end_matches('"').to_owned()))
    })
}
