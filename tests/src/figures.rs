//! What cases measure: printed as it comes, and summed up at the end of a soak.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use crate::lock::lock;

/// One value that a case has measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The same in each run of the case.
    pub what: String,
    /// Whole, unless the unit is one of time.
    pub value: f64,
    /// Short, such as `ms`; empty for a plain count.
    pub unit: String,
    /// What it may be at most, in the same unit.
    pub most: Option<f64>,
}

impl fmt::Display for Figure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, unit, .. } = self;
        write!(formatter, "{what}: {}", Amount(self.value, unit))?;
        match self.most {
            Some(most) => write!(formatter, " (at most {})", Amount(most, unit)),
            None => Ok(()),
        }
    }
}

static NOTED: Mutex<Vec<Figure>> = Mutex::new(Vec::new());

/// Notes a time.
pub fn time(what: &str, value: Duration) {
    note(what, milliseconds(value), "ms", None);
}

/// Notes a time.
///
/// # Errors
/// When it is longer than `limit`.
pub fn within(what: &str, value: Duration, limit: Duration) -> Result<()> {
    note(what, milliseconds(value), "ms", Some(milliseconds(limit)));
    ensure!(value <= limit, "{what}: {value:?}, at most {limit:?}");
    Ok(())
}

/// Notes a number of things, such as lost questions.
///
/// # Errors
/// When there are more than `most`.
pub fn at_most(what: &str, value: usize, most: usize) -> Result<()> {
    note(what, value as f64, "", Some(most as f64));
    ensure!(value <= most, "{what}: {value}, at most {most}");
    Ok(())
}

/// Notes a value in some unit, and what it may be at most.
pub fn note(what: &str, value: f64, unit: &str, most: Option<f64>) {
    let figure = Figure {
        what: what.into(),
        value,
        unit: unit.into(),
        most,
    };
    println!("measured: {figure}");
    noted().push(figure);
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// What was noted since the last call.
pub(crate) fn take() -> Vec<Figure> {
    std::mem::take(&mut *noted())
}

fn noted() -> MutexGuard<'static, Vec<Figure>> {
    lock(&NOTED)
}

/// All figures of several runs.
#[derive(Debug, Default)]
pub(crate) struct Summary(BTreeMap<(String, String, String), Vec<f64>>);

impl Summary {
    /// Adds what a run of `case` has measured.
    pub(crate) fn add(&mut self, case: &str, figures: Vec<Figure>) {
        for figure in figures {
            let key = (case.to_owned(), figure.what, figure.unit);
            self.0.entry(key).or_default().push(figure.value);
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((case, what, unit), values) in &self.0 {
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            let at = |place: usize| Amount(sorted.get(place).copied().unwrap_or_default(), unit);
            writeln!(
                formatter,
                "{case}: {what}: least {}, median {}, most {} of {}",
                at(0),
                at(sorted.len() / 2),
                at(sorted.len() - 1),
                sorted.len()
            )?;
        }
        Ok(())
    }
}

struct Amount<'a>(f64, &'a str);

impl fmt::Display for Amount<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self(value, "") => write!(formatter, "{value:.0}"),
            Self(value, unit) => write!(formatter, "{value:.1} {unit}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_has_a_line_for_each_figure() {
        let mut summary = Summary::default();
        for value in [3.0, 1.0, 2.04] {
            let figure = |what: &str, unit: &str| Figure {
                what: what.into(),
                value,
                unit: unit.into(),
                most: None,
            };
            let figures = vec![figure("takeover", "ms"), figure("lost", "")];
            summary.add("theme::case", figures);
        }
        assert_eq!(
            summary.to_string(),
            "theme::case: lost: least 1, median 2, most 3 of 3\n\
             theme::case: takeover: least 1.0 ms, median 2.0 ms, most 3.0 ms of 3\n"
        );
    }
}
