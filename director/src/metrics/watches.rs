//! The metrics of what is watched of DNS data.

use std::time::SystemTime;

use lvs_proto::health::serial::Standing;
use prometheus::{GaugeVec, IntGaugeVec};

use crate::config::RealServerKey;
use lvs_metrics::Registered;

/// Zones and validation.
pub struct WatchMetrics {
    serial: IntGaugeVec,
    lag: IntGaugeVec,
    lagging: IntGaugeVec,
    expiry: GaugeVec,
    validates: IntGaugeVec,
}

const OF_ZONE: &[&str] = &["service", "zone", "real_server"];

impl WatchMetrics {
    pub(super) fn register(register: &Registered<'_>) -> Self {
        Self {
            serial: register.gauges(
                "director_zone_serial",
                "Serial number that a real server has of a zone.",
                OF_ZONE,
            ),
            lag: register.gauges(
                "director_zone_lag",
                "How far the most advanced serial number of all real servers is ahead of this one's.",
                OF_ZONE,
            ),
            lagging: register.gauges(
                "director_zone_lagging",
                "1 when a real server is further or longer behind than it may.",
                OF_ZONE,
            ),
            expiry: register.seconds(
                "director_zone_signature_expiry_timestamp_seconds",
                "When the first of a zone's signatures ends that a real server sends along.",
                OF_ZONE,
            ),
            validates: register.gauges(
                "director_resolver_validates",
                "1 when the last look at the signed zone showed AD, at the bogus name SERVFAIL.",
                &["service", "name", "real_server"],
            ),
        }
    }

    /// Shows how a server stands with a zone.
    pub fn set_standing(
        &self,
        service: &str,
        zone: &str,
        real_server: RealServerKey,
        standing: &Standing,
    ) {
        let server = real_server.to_string();
        let labels = [service, zone, &server];
        self.serial
            .with_label_values(&labels)
            .set(standing.serial.into());
        self.lag.with_label_values(&labels).set(standing.lag.into());
        self.lagging
            .with_label_values(&labels)
            .set(standing.lags.into());
    }

    /// Shows when a server's signatures end.
    pub fn set_expiry(
        &self,
        service: &str,
        zone: &str,
        real_server: RealServerKey,
        expiry: SystemTime,
    ) {
        let since = expiry.duration_since(SystemTime::UNIX_EPOCH);
        let server = real_server.to_string();
        self.expiry
            .with_label_values(&[service, zone, &server])
            .set(since.unwrap_or_default().as_secs_f64());
    }

    /// Shows whether a resolver validates, by the `signed` or the `bogus` name.
    pub fn set_validates(
        &self,
        service: &str,
        name: &str,
        real_server: RealServerKey,
        validates: bool,
    ) {
        let server = real_server.to_string();
        self.validates
            .with_label_values(&[service, name, &server])
            .set(validates.into());
    }

    /// Forgets a server that isn't watched any more.
    pub fn forget(&self, service: &str, real_server: RealServerKey) {
        let server = real_server.to_string();
        for gauges in [&self.serial, &self.lag, &self.lagging, &self.validates] {
            for labels in all_labels(gauges, service, &server) {
                let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
                // It was shown a moment ago.
                let _ = gauges.remove_label_values(&labels);
            }
        }
        for labels in all_labels(&self.expiry, service, &server) {
            let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
            let _ = self.expiry.remove_label_values(&labels);
        }
    }
}

/// The labels of all that is shown of a server, in the order in which they were declared.
fn all_labels(
    gauges: &impl prometheus::core::Collector,
    service: &str,
    real_server: &str,
) -> Vec<[String; 3]> {
    let mut found = Vec::new();
    for family in gauges.collect() {
        for metric in family.get_metric() {
            let of = |name: &str| {
                let mut pairs = metric.get_label().iter();
                pairs
                    .find(|pair| pair.name() == name)
                    .map(|pair| pair.value().to_owned())
            };
            let middle = of("zone").or_else(|| of("name")).unwrap_or_default();
            if of("service").as_deref() == Some(service)
                && of("real_server").as_deref() == Some(real_server)
            {
                found.push([service.to_owned(), middle, real_server.to_owned()]);
            }
        }
    }
    found
}
