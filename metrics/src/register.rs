//! Making families in a registry.

use std::time::SystemTime;

use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGaugeVec, Opts, Registry,
};

/// Makes metrics in a registry. Names and labels are literals of the caller, so that the only
/// errors there are would show at every start, as panics.
pub struct Registered<'a>(pub &'a Registry);

/// A moment that is shown.
#[derive(Clone)]
pub struct Timestamp(Gauge);

impl Timestamp {
    /// Shows the present time.
    pub fn set_to_current_time(&self) {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        self.0.set(since.unwrap_or_default().as_secs_f64());
    }
}

/// Why making a family can't fail.
pub const VALID: &str = "names and labels are valid and unique";

impl Registered<'_> {
    /// Whole numbers that may be anything.
    pub fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        let metric = IntGaugeVec::new(Opts::new(name, help), labels).expect(VALID);
        self.0.register(Box::new(metric.clone())).expect(VALID);
        metric
    }

    /// Numbers that may be anything.
    pub fn seconds(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        let metric = GaugeVec::new(Opts::new(name, help), labels).expect(VALID);
        self.0.register(Box::new(metric.clone())).expect(VALID);
        metric
    }

    /// A moment, in seconds since 1970.
    pub fn timestamp(&self, name: &str, help: &str) -> Timestamp {
        let metric = Gauge::new(name, help).expect(VALID);
        self.0.register(Box::new(metric.clone())).expect(VALID);
        Timestamp(metric)
    }

    /// How often something was how large.
    pub fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> HistogramVec {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        let metric = HistogramVec::new(options, labels).expect(VALID);
        self.0.register(Box::new(metric.clone())).expect(VALID);
        metric
    }

    /// The same, without labels.
    pub fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        let metric = Histogram::with_opts(options).expect(VALID);
        self.0.register(Box::new(metric.clone())).expect(VALID);
        metric
    }

    /// Numbers that only grow.
    pub fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        let metric = IntCounterVec::new(Opts::new(name, help), labels).expect(VALID);
        self.0.register(Box::new(metric.clone())).expect(VALID);
        metric
    }

    /// A number that only grows, without labels.
    pub fn counter(&self, name: &str, help: &str) -> IntCounter {
        let metric = IntCounter::new(name, help).expect(VALID);
        self.0.register(Box::new(metric.clone())).expect(VALID);
        metric
    }
}
