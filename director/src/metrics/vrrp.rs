//! The metrics of virtual routers.

use std::time::Duration;

use lvs_proto::vrrp::{ChecksumForm, Margins, Rejection, Silence, State, Transition};
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
};

use crate::vrrp::Oddity;
use lvs_metrics::Registered;

const CHECKSUM_FORMS: [(ChecksumForm, &str); 2] = [
    (ChecksumForm::PseudoHeader, "pseudo-header"),
    (ChecksumForm::MessageOnly, "message-only"),
];

/// In good order adverts come every 0.25 to 0.33 of the active-down interval, by the priority. One that
/// is lost makes it 0.5 to 0.67, two 0.75 to 1.
const SHARES: &[f64] = &[
    0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0,
];
/// From what a real-time thread needs to what another director would wait for.
const LATENESS: &[f64] = &[
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
];

/// The metrics of all virtual routers.
pub(super) struct VrrpFamilies {
    state: IntGaugeVec,
    transitions: IntCounterVec,
    priority: IntGaugeVec,
    stalls: IntCounterVec,
    sent: IntCounterVec,
    failed: IntCounterVec,
    received: IntCounterVec,
    rejected: IntCounterVec,
    odd: IntCounterVec,
    peer_checksum: IntGaugeVec,
    restored: IntCounterVec,
    share: HistogramVec,
    longest_silence: GaugeVec,
    active_down_interval: GaugeVec,
    longest_lateness: GaugeVec,
    lateness_limit: GaugeVec,
    thread_lateness: Histogram,
}

impl VrrpFamilies {
    pub(super) fn register(register: &Registered<'_>) -> Self {
        let virtual_router = &["virtual_router"];
        Self {
            state: register.gauges(
                "director_vrrp_state",
                "1 for the state in which a virtual router is, 0 for the others.",
                &["virtual_router", "state"],
            ),
            transitions: register.counters(
                "director_vrrp_transitions_total",
                "Times that a virtual router entered a state, by reason.",
                &["virtual_router", "state", "reason"],
            ),
            priority: register.gauges(
                "director_vrrp_priority",
                "The priority in force, with what everything tracked does to it.",
                virtual_router,
            ),
            stalls: register.counters(
                "director_vrrp_stalls_total",
                "Times that an active router stepped down because it was stopped or starved for longer than the others wait.",
                virtual_router,
            ),
            sent: register.counters(
                "director_vrrp_adverts_sent_total",
                "VRRP adverts sent.",
                virtual_router,
            ),
            failed: register.counters(
                "director_vrrp_adverts_send_failures_total",
                "VRRP adverts that the kernel did not take.",
                virtual_router,
            ),
            received: register.counters(
                "director_vrrp_adverts_received_total",
                "VRRP adverts of other routers that were accepted.",
                virtual_router,
            ),
            rejected: register.counters(
                "director_vrrp_adverts_rejected_total",
                "VRRP packets that were discarded, by reason.",
                &["virtual_router", "reason"],
            ),
            odd: register.counters(
                "director_vrrp_adverts_odd_total",
                "VRRP adverts that were accepted although something in them differs from the configuration here.",
                &["virtual_router", "what"],
            ),
            peer_checksum: register.gauges(
                "director_vrrp_peer_checksum",
                "1 for what the checksum of the last accepted advert covers.",
                &["virtual_router", "form"],
            ),
            restored: register.counters(
                "director_vrrp_addresses_restored_total",
                "Virtual addresses that somebody removed and that were put back.",
                virtual_router,
            ),
            share: register.histograms(
                "director_vrrp_advert_interval_ratio",
                "Time between two adverts of the active router, as a share of the active-down interval: at 1 this one takes over.",
                virtual_router,
                SHARES,
            ),
            longest_silence: register.seconds(
                "director_vrrp_longest_silence_seconds",
                "Longest time between two adverts of the active router, since this one is in its state.",
                virtual_router,
            ),
            active_down_interval: register.seconds(
                "director_vrrp_active_down_interval_seconds",
                "How long a silent active router is waited for.",
                virtual_router,
            ),
            longest_lateness: register.seconds(
                "director_vrrp_longest_lateness_seconds",
                "The most that an advert of this router was late, since it is in its state.",
                virtual_router,
            ),
            lateness_limit: register.seconds(
                "director_vrrp_lateness_limit_seconds",
                "How late an advert may be before an active router steps down by itself.",
                virtual_router,
            ),
            thread_lateness: register.histogram(
                "director_vrrp_thread_lateness_seconds",
                "How late the thread that sends and hears adverts ran, measured at least once in each advert interval.",
                LATENESS,
            ),
        }
    }

    /// How late the thread ran that all virtual routers share.
    pub(super) fn thread_lateness(&self) -> &Histogram {
        &self.thread_lateness
    }

    /// The metrics of one virtual router, all there from the start.
    pub(super) fn of(&self, instance: &str) -> VrrpMetrics {
        let labels = [instance];
        let state = |state: State| {
            let labels = [instance, &state.to_string()];
            (state, self.state.with_label_values(&labels))
        };
        let transition = |(state, reason): (State, &'static str)| {
            let labels = [instance, &state.to_string(), reason];
            let counter = self.transitions.with_label_values(&labels);
            ((state, reason), counter)
        };
        let rejected = |reason: Rejection| {
            let counter = self.rejected.with_label_values(&[instance, reason.label()]);
            (reason, counter)
        };
        let odd = |oddity: Oddity| {
            let counter = self.odd.with_label_values(&[instance, oddity.label()]);
            (oddity, counter)
        };
        let form = |(form, label)| {
            let gauge = self.peer_checksum.with_label_values(&[instance, label]);
            (form, gauge)
        };
        VrrpMetrics {
            states: State::ALL.map(state),
            transitions: Transition::KINDS.map(transition),
            priority: self.priority.with_label_values(&labels),
            stalls: self.stalls.with_label_values(&labels),
            sent: self.sent.with_label_values(&labels),
            failed: self.failed.with_label_values(&labels),
            received: self.received.with_label_values(&labels),
            restored: self.restored.with_label_values(&labels),
            rejected: Rejection::ALL.map(rejected),
            odd: Oddity::OF_ACCEPTED.map(odd),
            peer_checksum: CHECKSUM_FORMS.map(form),
            share: self.share.with_label_values(&labels),
            longest_silence: self.longest_silence.with_label_values(&labels),
            active_down_interval: self.active_down_interval.with_label_values(&labels),
            longest_lateness: self.longest_lateness.with_label_values(&labels),
            lateness_limit: self.lateness_limit.with_label_values(&labels),
        }
    }

    /// Forgets a virtual router that was removed from the configuration. What was never counted
    /// needs no forgetting.
    pub(super) fn forget(&self, instance: &str) {
        for state in State::ALL {
            let labels = [instance, &state.to_string()];
            let _ = self.state.remove_label_values(&labels);
        }
        for (state, reason) in Transition::KINDS {
            let labels = [instance, &state.to_string(), reason];
            let _ = self.transitions.remove_label_values(&labels);
        }
        for counter in [
            &self.stalls,
            &self.sent,
            &self.failed,
            &self.received,
            &self.restored,
        ] {
            let _ = counter.remove_label_values(&[instance]);
        }
        let _ = self.priority.remove_label_values(&[instance]);
        let _ = self.share.remove_label_values(&[instance]);
        for gauge in [
            &self.longest_silence,
            &self.active_down_interval,
            &self.longest_lateness,
            &self.lateness_limit,
        ] {
            let _ = gauge.remove_label_values(&[instance]);
        }
        for reason in Rejection::ALL {
            let labels = [instance, reason.label()];
            let _ = self.rejected.remove_label_values(&labels);
        }
        for oddity in Oddity::OF_ACCEPTED {
            let _ = self.odd.remove_label_values(&[instance, oddity.label()]);
        }
        for (_, form) in CHECKSUM_FORMS {
            let _ = self.peer_checksum.remove_label_values(&[instance, form]);
        }
    }
}

/// The metrics of one virtual router.
#[derive(Clone)]
pub struct VrrpMetrics {
    states: [(State, IntGauge); State::ALL.len()],
    transitions: [((State, &'static str), IntCounter); Transition::KINDS.len()],
    priority: IntGauge,
    stalls: IntCounter,
    sent: IntCounter,
    failed: IntCounter,
    received: IntCounter,
    restored: IntCounter,
    rejected: [(Rejection, IntCounter); Rejection::ALL.len()],
    odd: [(Oddity, IntCounter); Oddity::OF_ACCEPTED.len()],
    peer_checksum: [(ChecksumForm, IntGauge); CHECKSUM_FORMS.len()],
    share: Histogram,
    longest_silence: Gauge,
    active_down_interval: Gauge,
    longest_lateness: Gauge,
    lateness_limit: Gauge,
}

impl VrrpMetrics {
    /// Shows the present state.
    pub fn set_state(&self, present: State) {
        for (state, gauge) in &self.states {
            gauge.set(i64::from(*state == present));
        }
    }

    /// Counts a change of state, and shows the new one.
    pub fn transition(&self, transition: &Transition) {
        self.set_state(transition.to);
        for (kind, counter) in &self.transitions {
            if *kind == transition.kind() {
                counter.inc();
            }
        }
    }

    /// Shows the priority in force.
    pub fn set_priority(&self, priority: u8) {
        self.priority.set(priority.into());
    }

    /// Counts a step down after a stall.
    pub fn stalled(&self) {
        self.stalls.inc();
    }

    /// Counts an advert sent.
    pub fn sent(&self) {
        self.sent.inc();
    }

    /// Counts an advert that the kernel didn't take.
    pub fn send_failed(&self) {
        self.failed.inc();
    }

    /// Counts an advert accepted.
    pub fn received(&self) {
        self.received.inc();
    }

    /// Counts how near an advert came to being too late.
    pub fn silent(&self, silence: Silence) {
        self.share.observe(silence.ratio());
    }

    /// Counts an address put back.
    pub fn address_restored(&self) {
        self.restored.inc();
    }

    /// Counts a packet discarded.
    pub fn rejected(&self, reason: Rejection) {
        for (known, counter) in &self.rejected {
            if *known == reason {
                counter.inc();
            }
        }
    }

    /// Counts something odd about an advert that was accepted.
    pub fn odd(&self, oddity: Oddity) {
        for (known, counter) in &self.odd {
            if *known == oddity {
                counter.inc();
            }
        }
    }

    /// Shows what the peer's checksums cover.
    pub fn set_peer_checksum(&self, form: ChecksumForm) {
        for (known, gauge) in &self.peer_checksum {
            gauge.set(i64::from(*known == form));
        }
    }

    /// Shows how close to a needless failover it came, and what that is measured by.
    pub fn set_margins(&self, margins: Margins, active_down: Duration, lateness_limit: Duration) {
        self.longest_silence
            .set(margins.longest_silence.as_secs_f64());
        self.active_down_interval.set(active_down.as_secs_f64());
        self.longest_lateness
            .set(margins.longest_lateness.as_secs_f64());
        self.lateness_limit.set(lateness_limit.as_secs_f64());
    }

    /// What was counted: adverts sent, received, and rejected by reason.
    pub fn adverts(&self) -> (u64, u64, Vec<(Rejection, u64)>) {
        let rejected = self
            .rejected
            .iter()
            .map(|(reason, counter)| (*reason, counter.get()))
            .filter(|(_, count)| *count > 0);
        (self.sent.get(), self.received.get(), rejected.collect())
    }
}
