//! Prometheus' text format (0.0.4), for figures that are kept elsewhere and become series when a scrape
//! asks. Of thousands of real servers the library's tree of series takes ten times its text.

use std::fmt::{Display, Write};

use prometheus::Histogram;
use prometheus::core::Metric;

/// A family. A program's families are its literals, so their texts have nothing to escape.
#[derive(Clone, Copy)]
pub struct Family {
    name: &'static str,
    help: &'static str,
    kind: Kind,
}

/// What a family's series are.
#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// A label's name and value.
pub type Label<'l> = (&'static str, &'l str);

/// What is written of families so far.
#[derive(Default)]
pub struct Text(String);

/// A family that is being written; without a series nothing is.
pub struct Series<'t> {
    text: &'t mut String,
    family: &'t Family,
    begun: bool,
}

impl Family {
    /// Numbers that only grow.
    pub const fn counter(name: &'static str, help: &'static str) -> Self {
        let kind = Kind::Counter;
        Self { name, help, kind }
    }

    /// Numbers that may be anything.
    pub const fn gauge(name: &'static str, help: &'static str) -> Self {
        let kind = Kind::Gauge;
        Self { name, help, kind }
    }

    /// How often something took how long.
    pub const fn histogram(name: &'static str, help: &'static str) -> Self {
        let kind = Kind::Histogram;
        Self { name, help, kind }
    }
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

impl Text {
    /// Goes on behind what the library has written.
    pub fn behind(text: String) -> Self {
        Self(text)
    }

    /// Begins a family.
    pub fn family<'t>(&'t mut self, family: &'t Family) -> Series<'t> {
        Series {
            text: &mut self.0,
            family,
            begun: false,
        }
    }

    /// All of it.
    pub fn into_string(self) -> String {
        self.0
    }
}

impl Series<'_> {
    /// Writes a series; labels come in the alphabet's order, as the library has them.
    pub fn add<const N: usize>(&mut self, labels: [Label<'_>; N], value: impl Display) {
        self.begin();
        self.line("", labels, None, value);
    }

    /// Writes the series of a histogram.
    pub fn add_histogram<const N: usize>(&mut self, labels: [Label<'_>; N], histogram: &Histogram) {
        self.begin();
        let metric = histogram.metric();
        let histogram = metric.get_histogram();
        for bucket in histogram.get_bucket() {
            let bound = bucket.upper_bound().to_string();
            let count = bucket.cumulative_count();
            self.line("_bucket", labels, Some(&bound), count);
        }
        let count = histogram.get_sample_count();
        self.line("_bucket", labels, Some("+Inf"), count);
        self.line("_sum", labels, None, histogram.get_sample_sum());
        self.line("_count", labels, None, count);
    }

    fn begin(&mut self) {
        if !std::mem::replace(&mut self.begun, true) {
            let Family { name, help, kind } = self.family;
            let kind = kind.word();
            // Writing to a text can't fail, here and below.
            let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        }
    }

    fn line<const N: usize>(
        &mut self,
        suffix: &str,
        mut labels: [Label<'_>; N],
        bound: Option<&str>,
        value: impl Display,
    ) {
        labels.sort_unstable();
        self.text.push_str(self.family.name);
        self.text.push_str(suffix);
        let mut separator = '{';
        for (name, value) in labels.into_iter().chain(bound.map(|bound| ("le", bound))) {
            self.text.push(separator);
            self.text.push_str(name);
            self.text.push_str("=\"");
            escape(value, self.text);
            self.text.push('"');
            separator = ',';
        }
        if separator == ',' {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }
}

fn escape(value: &str, text: &mut String) {
    for letter in value.chars() {
        match letter {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use prometheus::{Encoder, HistogramOpts, HistogramVec, Opts, Registry, TextEncoder};

    use super::*;

    const GAUGE: Family = Family::gauge("g", "A gauge.");
    const HISTOGRAM: Family = Family::histogram("h_seconds", "A histogram.");
    const EMPTY: Family = Family::counter("c_total", "Nothing.");

    #[test]
    fn the_library_writes_the_same() {
        const LABELS: [Label<'_>; 2] = [("zone", "a\"b\\c\nd"), ("check", "dns")];
        let names = LABELS.map(|(name, _)| name);
        let values = LABELS.map(|(_, value)| value);
        let registry = Registry::new();
        let gauges = prometheus::GaugeVec::new(Opts::new(GAUGE.name, GAUGE.help), &names).unwrap();
        let options =
            HistogramOpts::new(HISTOGRAM.name, HISTOGRAM.help).buckets(vec![0.000_25, 1.0]);
        let histograms = HistogramVec::new(options, &names).unwrap();
        registry.register(Box::new(gauges.clone())).unwrap();
        registry.register(Box::new(histograms.clone())).unwrap();
        gauges.with_label_values(&values).set(0.25);
        let histogram = histograms.with_label_values(&values);
        for value in [0.000_1, 0.5, 3.0] {
            histogram.observe(value);
        }
        let mut expected = Vec::new();
        TextEncoder::new()
            .encode(&registry.gather(), &mut expected)
            .unwrap();

        let mut text = Text::default();
        text.family(&GAUGE).add(LABELS, 0.25);
        text.family(&EMPTY);
        text.family(&HISTOGRAM).add_histogram(LABELS, &histogram);
        assert_eq!(text.into_string(), String::from_utf8(expected).unwrap());
    }

    #[test]
    fn a_family_is_described_once() {
        let mut text = Text::default();
        let mut series = text.family(&GAUGE);
        series.add([], 1);
        series.add([("a", "b")], 2_u64);
        assert_eq!(
            text.into_string(),
            "# HELP g A gauge.\n# TYPE g gauge\ng 1\ng{a=\"b\"} 2\n"
        );
    }
}
