//! Every metric in one place, with its help text.
//!
//! Whoever counts something is given its counters once and then only adds to them, without a lock:
//! a scrape can't delay an advert. Counters that the kernel keeps are mirrored by difference, so
//! that a service that was created anew goes on counting.

mod exposition;
mod kernel;
mod probes;
mod sentinel;
mod services;
mod vrrp;
mod watches;

use std::collections::HashMap;

use lvs_metrics::text::Text;
use lvs_metrics::{Registered, Timestamp};
use lvs_proto::health::{FailureKind, Verdict};
use lvs_proto::ipvs::Protocol;
use prometheus::{Histogram, IntCounter, IntCounterVec, IntGaugeVec, Registry, TextEncoder};

use crate::control::ServiceStatus;
pub use exposition::{Census, Exposition};
pub use kernel::{Figures, KernelCounters, Part, Rates, Standing, Subject, Traffic};
use probes::Probes;
pub use probes::{ProbeLabels, ProbeMetrics};
pub use sentinel::SentinelMetrics;
use vrrp::VrrpFamilies;
pub use vrrp::VrrpMetrics;
pub use watches::WatchMetrics;

const RELOAD_RESULTS: [&str; 2] = ["success", "failure"];

/// What can be repaired in the forwarding table, and how.
const REPAIRS: [[&str; 2]; 10] = [
    ["service", "add"],
    ["service", "change"],
    ["service", "remove"],
    ["server", "add"],
    ["server", "change"],
    ["server", "remove"],
    ["setting", "change"],
    ["timeouts", "change"],
    ["synchronization", "add"],
    ["synchronization", "remove"],
];

/// All metrics of this process.
pub struct Metrics {
    registry: Registry,
    vrrp: VrrpFamilies,
    sentinel: SentinelMetrics,
    watches: WatchMetrics,
    server_healthy: IntGaugeVec,
    probes: Probes,
    probe_errors: IntCounter,
    table_failures: IntCounter,
    table_changes: IntCounter,
    table_repairs: IntCounterVec,
    reloads: IntCounterVec,
    configuration: IntGaugeVec,
    configured: Timestamp,
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
        let started = register.timestamp(
            "director_start_timestamp_seconds",
            "When this process started.",
        );
        started.set_to_current_time();
        let metrics = Self {
            vrrp: VrrpFamilies::register(&register),
            sentinel: SentinelMetrics::register(&register),
            watches: WatchMetrics::register(&register),
            server_healthy: register.gauges(
                "director_real_server_healthy",
                "1 when a real server answers its probes, 0 when it does not or is not known yet.",
                server,
            ),
            probes: Probes::default(),
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
            table_repairs: register.counters(
                "director_table_repairs_total",
                "Changes made to the forwarding table because somebody else had changed it, by what was changed and how it was put right.",
                &["object", "action"],
            ),
            reloads: register.counters(
                "director_configuration_reloads_total",
                "Times that the configuration was read again, by result.",
                &["result"],
            ),
            configuration: register.gauges(
                "director_configuration_info",
                "What has to be the same on both directors, as a hash; always 1.",
                &["hash"],
            ),
            configured: register.timestamp(
                "director_configuration_timestamp_seconds",
                "When the configuration in force was read.",
            ),
            kernel: KernelCounters::default(),
            registry,
        };
        metrics.configured.set_to_current_time();
        // From the start, so that the first one is seen as an increase.
        for result in RELOAD_RESULTS {
            metrics.reloads.with_label_values(&[result]);
        }
        for labels in REPAIRS {
            metrics.table_repairs.with_label_values(&labels);
        }
        metrics
    }

    /// The metrics as Prometheus reads them (text format 0.0.4), and how services are now.
    pub fn render(&self, services: &[ServiceStatus]) -> String {
        let few = TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .expect("every family has a name and at least one metric");
        let mut text = Text::behind(few);
        services::write(services, &mut text);
        self.probes.write(&mut text);
        self.kernel.write(&mut text);
        text.into_string()
    }

    /// The metrics of one virtual router, all there from the start.
    pub fn vrrp(&self, instance: &str) -> VrrpMetrics {
        self.sentinel.begin(instance);
        self.vrrp.of(instance)
    }

    /// How late the thread of all virtual routers ran, in seconds.
    pub fn vrrp_thread_lateness(&self) -> Histogram {
        self.vrrp.thread_lateness().clone()
    }

    /// Forgets a virtual router that was removed from the configuration.
    pub fn forget_vrrp(&self, instance: &str) {
        self.vrrp.forget(instance);
        self.sentinel.forget(instance);
    }

    /// Who else claims the VIPs.
    pub fn sentinel(&self) -> &SentinelMetrics {
        &self.sentinel
    }

    /// What is watched of real servers' DNS data.
    pub fn watches(&self) -> &WatchMetrics {
        &self.watches
    }

    /// What a checker counts whose probes may fail by `kinds`; see [`Self::show_probes`].
    pub fn probe(&self, kinds: &'static [FailureKind]) -> ProbeMetrics {
        ProbeMetrics::new(kinds, self.probe_errors.clone())
    }

    /// Shows these checkers' figures and no others from now on.
    pub fn show_probes(&self, shown: HashMap<ProbeLabels, ProbeMetrics>) {
        self.probes.show(shown);
    }

    /// Shows what is believed of a real server.
    pub fn set_verdict(
        &self,
        service: &str,
        protocol: Protocol,
        real_server: &str,
        verdict: Verdict,
    ) {
        let protocol = protocol.to_string();
        self.server_healthy
            .with_label_values(&[service, &protocol, real_server])
            .set(i64::from(verdict == Verdict::Healthy));
    }

    /// Forgets a real server that isn't probed any more.
    pub fn forget_verdict(&self, service: &str, protocol: Protocol, real_server: &str) {
        let protocol = protocol.to_string();
        // What was never shown needs no removing.
        let _ = self
            .server_healthy
            .remove_label_values(&[service, &protocol, real_server]);
    }

    /// Counts what one pass over the forwarding table has changed, and what was refused.
    pub fn table(&self, changes: usize, failures: usize) {
        self.table_changes.inc_by(changes as u64);
        self.table_failures.inc_by(failures as u64);
    }

    /// Counts a change that repaired what somebody else had changed.
    pub fn repaired(&self, object: &str, action: &str) {
        self.table_repairs
            .with_label_values(&[object, action])
            .inc();
    }

    /// Counts a reload.
    pub fn reloaded(&self, succeeded: bool) {
        let result = RELOAD_RESULTS[usize::from(!succeeded)];
        self.reloads.with_label_values(&[result]).inc();
        if succeeded {
            self.configured.set_to_current_time();
        }
    }

    /// Shows the hash of the configuration in force.
    pub fn show_configuration(&self, hash: &str) {
        self.configuration.reset();
        self.configuration.with_label_values(&[hash]).set(1);
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
