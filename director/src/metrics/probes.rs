//! What checkers count, shown for everyone they speak for.
//!
//! A checker that several services share counts once; a scrape shows its figures under the name of
//! each. Nothing is looked up while a probe is counted.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use lvs_health::Observer;
use lvs_metrics::VALID;
use lvs_metrics::text::{Family, Label, Text};
use lvs_proto::health::FailureKind;
use prometheus::{Histogram, HistogramOpts, IntCounter};

/// Answers on a LAN take well under a millisecond, a busy resolver up to the probe's time-out.
const BUCKETS: &[f64] = &[
    0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
];

const DURATIONS: Family = Family::histogram(
    "director_probe_duration_seconds",
    "Time that real servers took to answer probes.",
);
const FAILURES: Family = Family::counter(
    "director_probe_failures_total",
    "Probes that failed, by kind of failure.",
);

/// For whom a checker's figures are shown.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProbeLabels {
    /// The check's word; with a number where a service has several of a kind.
    pub check: String,
    /// `udp`, `tcp` or `sctp`.
    pub protocol: String,
    /// The real server, as its service has it.
    pub real_server: String,
    /// The service's name.
    pub service: String,
}

/// What one checker counts.
#[derive(Clone)]
pub struct ProbeMetrics(Arc<Counted>);

struct Counted {
    duration: Histogram,
    /// In nanoseconds; 0 before the first answer.
    latest: AtomicU64,
    /// What it may fail by; shown from the start, so that the first one is seen as an increase.
    kinds: &'static [FailureKind],
    failures: [AtomicU64; FailureKind::ALL.len()],
    errors: IntCounter,
}

impl ProbeMetrics {
    pub(super) fn new(kinds: &'static [FailureKind], errors: IntCounter) -> Self {
        let options = HistogramOpts::new("probe", "probe").buckets(BUCKETS.to_vec());
        Self(Arc::new(Counted {
            duration: Histogram::with_opts(options).expect(VALID),
            latest: AtomicU64::new(0),
            kinds,
            failures: Default::default(),
            errors,
        }))
    }
}

impl ProbeMetrics {
    /// How long the last answer took, if there was any.
    pub fn latest(&self) -> Option<Duration> {
        let nanoseconds = self.0.latest.load(Ordering::Relaxed);
        (nanoseconds > 0).then(|| Duration::from_nanos(nanoseconds))
    }
}

impl Observer for ProbeMetrics {
    fn answered(&self, took: Duration) {
        self.0.duration.observe(took.as_secs_f64());
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.0.latest.store(nanoseconds.max(1), Ordering::Relaxed);
    }

    fn failed(&self, kind: FailureKind) {
        self.0.failures[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn not_made(&self) {
        self.0.errors.inc();
    }
}

/// All checkers' figures.
#[derive(Default)]
pub(super) struct Probes(RwLock<HashMap<ProbeLabels, ProbeMetrics>>);

impl Probes {
    /// Shows these figures and no others from now on.
    pub(super) fn show(&self, shown: HashMap<ProbeLabels, ProbeMetrics>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = shown;
    }

    /// Writes all families.
    pub(super) fn write(&self, text: &mut Text) {
        let shown = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut series = text.family(&DURATIONS);
        for (labels, metrics) in &*shown {
            series.add_histogram(labels.named(), &metrics.0.duration);
        }
        let mut series = text.family(&FAILURES);
        for (labels, metrics) in &*shown {
            let [check, protocol, real_server, service] = labels.named();
            for (kind, count) in FailureKind::ALL.iter().zip(&metrics.0.failures) {
                let count = count.load(Ordering::Relaxed);
                if count > 0 || metrics.0.kinds.contains(kind) {
                    let kind = ("kind", kind.word());
                    series.add([check, kind, protocol, real_server, service], count);
                }
            }
        }
    }
}

impl ProbeLabels {
    fn named(&self) -> [Label<'_>; 4] {
        [
            ("check", &self.check),
            ("protocol", &self.protocol),
            ("real_server", &self.real_server),
            ("service", &self.service),
        ]
    }
}

#[cfg(test)]
mod tests {
    use crate::metrics::Metrics;

    use super::*;

    #[test]
    fn a_shared_checker_is_shown_for_everyone() {
        let labels = |service: &str| ProbeLabels {
            check: "dns".to_owned(),
            protocol: "udp".to_owned(),
            real_server: "192.0.2.1".to_owned(),
            service: service.to_owned(),
        };
        let metrics = Metrics::new();
        let probe = metrics.probe(&[FailureKind::ResponseCode, FailureKind::Content]);
        let both = ["a", "b"].map(|service| (labels(service), probe.clone()));
        metrics.show_probes(both.into());
        probe.answered(Duration::from_millis(2));
        probe.failed(FailureKind::ResponseCode);
        let text = metrics.render(&[]);
        for service in ["a", "b"] {
            let whose = format!("protocol=\"udp\",real_server=\"192.0.2.1\",service=\"{service}\"");
            for line in [
                format!("director_probe_failures_total{{check=\"dns\",kind=\"rcode\",{whose}}} 1"),
                format!(
                    "director_probe_failures_total{{check=\"dns\",kind=\"content\",{whose}}} 0"
                ),
                format!("director_probe_duration_seconds_count{{check=\"dns\",{whose}}} 1"),
                format!(
                    "director_probe_duration_seconds_bucket{{check=\"dns\",{whose},le=\"0.001\"}} 0"
                ),
            ] {
                assert!(text.contains(&line), "{line} isn't in\n{text}");
            }
            assert!(!text.contains("kind=\"exit\""), "{text}");
        }
        metrics.show_probes(HashMap::new());
        let text = metrics.render(&[]);
        assert!(!text.contains("director_probe_failures_total{"), "{text}");
    }
}
