//! Every metric in one place, with its help text, and the HTTP server that shows them.
//!
//! Whoever counts something is given its counters once and then only adds to them, without a lock:
//! a scrape can't delay an advert. Counters that the kernel keeps are mirrored by difference, so
//! that a service that was created anew goes on counting.

mod http;
mod kernel;
mod vrrp;

use lvs_proto::health::Verdict;
use lvs_proto::ipvs::Protocol;
use prometheus::{
    Encoder, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

pub use http::{BindError, Server};
pub use kernel::{Figures, KernelCounters, Subject, Traffic};
use vrrp::VrrpFamilies;
pub use vrrp::VrrpMetrics;

/// Answers on a LAN take well under a millisecond, a busy resolver up to the probe's time-out.
const PROBE_BUCKETS: &[f64] = &[
    0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
];

const RELOAD_RESULTS: [&str; 2] = ["success", "failure"];

/// All metrics of this process.
pub struct Metrics {
    registry: Registry,
    vrrp: VrrpFamilies,
    server_healthy: IntGaugeVec,
    probe_duration: HistogramVec,
    probe_failures: IntCounterVec,
    probe_errors: IntCounter,
    table_failures: IntCounter,
    table_changes: IntCounter,
    reloads: IntCounterVec,
    kernel: KernelCounters,
}

impl Metrics {
    /// Registers all metrics.
    pub fn new() -> Self {
        let registry = Registry::new();
        let register = Registered(&registry);
        let server = &["service", "protocol", "real_server"];
        let build = register.gauges(
            "director_build_info",
            "Version of the running director; always 1.",
            &["version"],
        );
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let metrics = Self {
            vrrp: VrrpFamilies::register(&register),
            server_healthy: register.gauges(
                "director_real_server_healthy",
                "1 when a real server answers its probes, 0 when it does not or is not known yet.",
                server,
            ),
            probe_duration: register.histograms(
                "director_probe_duration_seconds",
                "Time that real servers took to answer probes.",
                server,
            ),
            probe_failures: register.counters(
                "director_probe_failures_total",
                "Probes that failed.",
                server,
            ),
            probe_errors: register.counter(
                "director_probe_errors_total",
                "Probes that could not be made for want of something on this machine.",
            ),
            table_failures: register.counter(
                "director_table_failures_total",
                "Changes to the forwarding table that the kernel refused.",
            ),
            table_changes: register.counter(
                "director_table_changes_total",
                "Changes made to the forwarding table.",
            ),
            reloads: register.counters(
                "director_configuration_reloads_total",
                "Times that the configuration was read again, by result.",
                &["result"],
            ),
            kernel: KernelCounters::register(&registry),
            registry,
        };
        // From the start, so that the first one is seen as an increase.
        for result in RELOAD_RESULTS {
            metrics.reloads.with_label_values(&[result]);
        }
        metrics
    }

    /// The metrics as Prometheus reads them (text format 0.0.4).
    pub fn render(&self) -> Vec<u8> {
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&self.registry.gather(), &mut text)
            .expect("every family has a name and at least one metric");
        text
    }

    /// The metrics of one virtual router, all there from the start.
    pub fn vrrp(&self, instance: &str) -> VrrpMetrics {
        self.vrrp.of(instance)
    }

    /// Forgets a virtual router that was removed from the configuration.
    pub fn forget_vrrp(&self, instance: &str) {
        self.vrrp.forget(instance);
    }

    /// The metrics of the probes of one real server.
    pub fn probe(&self, service: &str, protocol: Protocol, real_server: &str) -> ProbeMetrics {
        let protocol = protocol.to_string();
        let labels = [service, protocol.as_str(), real_server];
        ProbeMetrics {
            healthy: self.server_healthy.with_label_values(&labels),
            duration: self.probe_duration.with_label_values(&labels),
            failures: self.probe_failures.with_label_values(&labels),
            errors: self.probe_errors.clone(),
        }
    }

    /// Forgets the probes of a real server that was removed from the configuration.
    pub fn forget_probe(&self, service: &str, protocol: Protocol, real_server: &str) {
        let protocol = protocol.to_string();
        let labels = [service, protocol.as_str(), real_server];
        let _ = self.server_healthy.remove_label_values(&labels);
        let _ = self.probe_duration.remove_label_values(&labels);
        let _ = self.probe_failures.remove_label_values(&labels);
    }

    /// Counts what one pass over the forwarding table has changed, and what was refused.
    pub fn table(&self, changes: usize, failures: usize) {
        self.table_changes.inc_by(changes as u64);
        self.table_failures.inc_by(failures as u64);
    }

    /// Counts a reload.
    pub fn reloaded(&self, succeeded: bool) {
        let result = RELOAD_RESULTS[usize::from(!succeeded)];
        self.reloads.with_label_values(&[result]).inc();
    }

    /// What the kernel counts, by service and real server.
    pub fn kernel(&self) -> &KernelCounters {
        &self.kernel
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// The metrics of the probes of one real server.
#[derive(Clone)]
pub struct ProbeMetrics {
    healthy: IntGauge,
    duration: Histogram,
    failures: IntCounter,
    errors: IntCounter,
}

impl ProbeMetrics {
    /// Shows what is believed of the server.
    pub fn set_verdict(&self, verdict: Verdict) {
        self.healthy.set(i64::from(verdict == Verdict::Healthy));
    }

    /// Counts an answer and the time it took.
    pub fn answered(&self, duration: core::time::Duration) {
        self.duration.observe(duration.as_secs_f64());
    }

    /// Counts a probe that failed.
    pub fn failed(&self) {
        self.failures.inc();
    }

    /// Counts a probe that could not be made.
    pub fn not_made(&self) {
        self.errors.inc();
    }
}

/// Makes metrics in a registry. Names and labels are literals of this module, so that the only
/// errors there are would show at every start.
struct Registered<'a>(&'a Registry);

const VALID: &str = "names and labels are valid and unique";

impl Registered<'_> {
    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        let metric = IntGaugeVec::new(Opts::new(name, help), labels).expect(VALID);
        self.0.register(Box::new(metric.clone())).expect(VALID);
        metric
    }

    fn seconds(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        let metric = GaugeVec::new(Opts::new(name, help), labels).expect(VALID);
        self.0.register(Box::new(metric.clone())).expect(VALID);
        metric
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        let metric = IntCounterVec::new(Opts::new(name, help), labels).expect(VALID);
        self.0.register(Box::new(metric.clone())).expect(VALID);
        metric
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        let metric = IntCounter::new(name, help).expect(VALID);
        self.0.register(Box::new(metric.clone())).expect(VALID);
        metric
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
        let options = HistogramOpts::new(name, help).buckets(PROBE_BUCKETS.to_vec());
        let metric = HistogramVec::new(options, labels).expect(VALID);
        self.0.register(Box::new(metric.clone())).expect(VALID);
        metric
    }
}
