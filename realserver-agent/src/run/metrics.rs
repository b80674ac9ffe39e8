//! Every metric of `rs-agent run`, with its help text.

use std::collections::BTreeSet;
use std::net::IpAddr;

use lvs_metrics::{Registered, Render, Timestamp};
use lvs_system::query_counter::Transport;
use prometheus::{
    Encoder, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry, TextEncoder,
};

use super::drift::Kind;
use crate::anycast::Status;

const RELOAD_RESULTS: [&str; 2] = ["success", "failure"];

/// What this server says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Queries are welcome.
    Serving,
    /// It is about to leave.
    Draining,
    /// All VIPs were stopped by hand, or in order to leave.
    Stopped,
    /// Their checks, and nobody's hand, keep all other VIPs away.
    Withdrawn,
}

const STATES: [(State, &str); 4] = [
    (State::Serving, "serving"),
    (State::Draining, "draining"),
    (State::Stopped, "stopped"),
    (State::Withdrawn, "withdrawn"),
];

/// All metrics of this process.
pub(super) struct Metrics {
    registry: Registry,
    queries: IntCounterVec,
    present: IntGaugeVec,
    announcements: IntGaugeVec,
    withdrawals: IntCounterVec,
    state: IntGaugeVec,
    directors: IntGauge,
    repairs: IntCounterVec,
    failures: IntCounter,
    reloads: IntCounterVec,
    configured: Timestamp,
}

impl Metrics {
    /// Registers all metrics.
    pub(super) fn new() -> Self {
        let registry = Registry::new();
        let register = Registered(&registry);
        let build = register.gauges(
            "rs_agent_build_info",
            "Version of the running rs-agent; always 1.",
            &["version"],
        );
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let started = register.timestamp(
            "rs_agent_start_timestamp_seconds",
            "When this process started.",
        );
        started.set_to_current_time();
        let metrics = Self {
            queries: register.counters(
                "rs_agent_queries_total",
                "Queries that came for a VIP, counted on the wire without those of directors: UDP datagrams and TCP connections.",
                &["vip", "protocol"],
            ),
            present: register.gauges(
                "rs_agent_vip_present",
                "1 while this machine holds the VIP.",
                &["vip"],
            ),
            announcements: register.gauges(
                "rs_agent_announcement",
                "With anycast, 1 for where a VIP is to be: announced, degraded, withdrawn by its check, or stopped by hand.",
                &["vip", "state"],
            ),
            withdrawals: register.counters(
                "rs_agent_withdrawals_total",
                "With anycast, times that a VIP was withdrawn because of its check.",
                &["vip"],
            ),
            state: register.gauges(
                "rs_agent_state",
                "1 for the state that this server says it is in: serving, draining, stopped by hand, or withdrawn by its checks.",
                &["state"],
            ),
            directors: register
                .gauges(
                    "rs_agent_directors",
                    "How many directors have read the agent-check line within the last minute.",
                    &[],
                )
                .with_label_values::<&str>(&[]),
            repairs: register.counters(
                "rs_agent_repairs_total",
                "Changes made because somebody else had changed the machine, by what was put right.",
                &["kind"],
            ),
            failures: register.counter(
                "rs_agent_failures_total",
                "Times that the machine could not be brought to what is wanted.",
            ),
            reloads: register.counters(
                "rs_agent_configuration_reloads_total",
                "Times that the configuration was read again, by result.",
                &["result"],
            ),
            configured: register.timestamp(
                "rs_agent_configuration_timestamp_seconds",
                "When the configuration in force was read.",
            ),
            registry,
        };
        metrics.configured.set_to_current_time();
        // From the start, so that the first one is seen as an increase.
        for result in RELOAD_RESULTS {
            metrics.reloads.with_label_values(&[result]);
        }
        for kind in Kind::ALL {
            metrics.repairs.with_label_values(&[kind.label()]);
        }
        metrics
    }

    /// Shows these VIPs and no others from now on.
    pub(super) fn show_vips(&self, before: &BTreeSet<IpAddr>, now: &BTreeSet<IpAddr>) {
        for vip in before.difference(now) {
            let vip = vip.to_string();
            // What was never shown needs no removing.
            let _ = self.present.remove_label_values(&[&vip]);
            let _ = self.withdrawals.remove_label_values(&[&vip]);
            for state in Status::STATES {
                let _ = self.announcements.remove_label_values(&[&*vip, state]);
            }
            for transport in Transport::ALL {
                let _ = self.queries.remove_label_values(&[&vip, transport.label()]);
            }
        }
        for vip in now.difference(before) {
            let vip = vip.to_string();
            self.present.with_label_values(&[&vip]);
            for transport in Transport::ALL {
                self.queries.with_label_values(&[&vip, transport.label()]);
            }
        }
    }

    /// Shows whether the machine holds a VIP.
    pub(super) fn set_present(&self, vip: IpAddr, is_present: bool) {
        self.present
            .with_label_values(&[&vip.to_string()])
            .set(i64::from(is_present));
    }

    /// Shows where a VIP is to be, and counts that it was withdrawn so often since the last time.
    pub(super) fn announced(&self, vip: IpAddr, state: &str, withdrawn: u64) {
        let vip = vip.to_string();
        for each in Status::STATES {
            self.announcements
                .with_label_values(&[&*vip, each])
                .set(i64::from(each == state));
        }
        self.withdrawals
            .with_label_values(&[&vip])
            .inc_by(withdrawn);
    }

    /// Shows what this server says of itself.
    pub(super) fn set_state(&self, now: State) {
        for (state, label) in STATES {
            self.state
                .with_label_values(&[label])
                .set(i64::from(state == now));
        }
    }

    /// Shows how many directors read the line.
    pub(super) fn set_directors(&self, directors: usize) {
        self.directors.set(directors as i64);
    }

    /// Counts queries.
    pub(super) fn queries(&self, vip: IpAddr, transport: Transport, queries: u64) {
        self.queries
            .with_label_values(&[&vip.to_string(), transport.label()])
            .inc_by(queries);
    }

    /// Counts what was put right.
    pub(super) fn repaired(&self, kind: Kind) {
        self.repairs.with_label_values(&[kind.label()]).inc();
    }

    /// Counts a failure.
    pub(super) fn failed(&self) {
        self.failures.inc();
    }

    /// Counts a reload.
    pub(super) fn reloaded(&self, succeeded: bool) {
        let result = RELOAD_RESULTS[usize::from(!succeeded)];
        self.reloads.with_label_values(&[result]).inc();
        if succeeded {
            self.configured.set_to_current_time();
        }
    }
}

impl Render for Metrics {
    fn render(&self) -> Vec<u8> {
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&self.registry.gather(), &mut text)
            .expect("every family has a name and at least one metric");
        text
    }
}
