//! The metrics of the sentinel.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use lvs_proto::sentinel::Form;
use prometheus::{IntCounterVec, IntGaugeVec};

use crate::sentinel::Conflict;
use lvs_metrics::Registered;

/// Who else claims the VIPs.
pub struct SentinelMetrics {
    claims: IntCounterVec,
    claimants: IntGaugeVec,
    claimant: IntGaugeVec,
    /// The virtual routers that there are: a claim may be heard of one that has gone meanwhile.
    instances: Mutex<BTreeSet<String>>,
}

impl SentinelMetrics {
    pub(super) fn register(register: &Registered<'_>) -> Self {
        Self {
            claims: register.counters(
                "director_vip_claims_total",
                "ARP and neighbour discovery messages in which another machine claimed a VIP that is held here, by how it did.",
                &["virtual_router", "form"],
            ),
            claimants: register.gauges(
                "director_vip_claimants",
                "How many other machines claim VIPs that are held here.",
                &["virtual_router"],
            ),
            claimant: register.gauges(
                "director_vip_claimant",
                "1 for each machine that claims a VIP that is held here.",
                &["virtual_router", "address", "hardware_address", "claimant"],
            ),
            instances: Mutex::default(),
        }
    }

    /// Shows zeros for a virtual router of which nothing is known yet.
    pub(super) fn begin(&self, instance: &str) {
        self.instances().insert(instance.to_owned());
        for form in Form::ALL {
            self.claims.with_label_values(&[instance, form.label()]);
        }
        self.claimants.with_label_values(&[instance]);
    }

    pub(super) fn forget(&self, instance: &str) {
        self.instances().remove(instance);
        for form in Form::ALL {
            let _ = self.claims.remove_label_values(&[instance, form.label()]);
        }
        let _ = self.claimants.remove_label_values(&[instance]);
    }

    /// Counts one message.
    pub fn claimed(&self, instance: &str, form: Form) {
        if self.instances().contains(instance) {
            let labels = [instance, form.label()];
            self.claims.with_label_values(&labels).inc();
        }
    }

    /// Shows other conflicts than before.
    pub fn set_conflicts(&self, before: &[Conflict], now: &[Conflict]) {
        for gone in before.iter().filter(|one| !now.contains(one)) {
            let labels = labels(gone);
            let _ = self
                .claimant
                .remove_label_values(&labels.each_ref().map(String::as_str));
        }
        let instances = self.instances();
        let mut counts: BTreeMap<&str, i64> =
            instances.iter().map(|name| (name.as_str(), 0)).collect();
        for conflict in now.iter().filter(|one| instances.contains(&one.instance)) {
            let labels = labels(conflict);
            self.claimant
                .with_label_values(&labels.each_ref().map(String::as_str))
                .set(1);
            *counts.entry(&conflict.instance).or_default() += 1;
        }
        for (instance, count) in counts {
            self.claimants.with_label_values(&[instance]).set(count);
        }
    }

    fn instances(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.instances
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn labels(conflict: &Conflict) -> [String; 4] {
    let claimant = conflict.claimants.first();
    [
        conflict.instance.clone(),
        conflict.address.to_string(),
        conflict.hardware_address.clone(),
        claimant.map(ToString::to_string).unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use crate::metrics::Metrics;

    use super::*;

    #[test]
    fn nothing_is_shown_of_a_virtual_router_that_has_gone() {
        let metrics = Metrics::new();
        let conflict = Conflict {
            instance: "dns".to_owned(),
            address: [192, 0, 2, 1].into(),
            interface: "eth0".to_owned(),
            hardware_address: "02:00:00:00:00:0b".to_owned(),
            claimants: BTreeSet::new(),
            services: BTreeSet::new(),
            answers: true,
            announces: false,
            asks: false,
        };
        let conflicts = std::slice::from_ref(&conflict);
        let _ = metrics.vrrp("dns");
        metrics.sentinel().claimed("dns", Form::Answer);
        metrics.sentinel().set_conflicts(&[], conflicts);
        let text = metrics.render(&[]);
        for line in [
            "director_vip_claims_total{form=\"answer\",virtual_router=\"dns\"} 1",
            "director_vip_claimants{virtual_router=\"dns\"} 1",
        ] {
            assert!(text.contains(line), "{line} isn't in\n{text}");
        }
        metrics.forget_vrrp("dns");
        metrics.sentinel().claimed("dns", Form::Answer);
        metrics.sentinel().set_conflicts(conflicts, conflicts);
        metrics.sentinel().set_conflicts(conflicts, &[]);
        let text = metrics.render(&[]);
        assert!(!text.contains("\"dns\""), "{text}");
    }
}
