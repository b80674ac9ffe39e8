//! Announcements that aren't what they could be.

use super::Finding;
use crate::anycast::{Status, Tier};

/// Judges what a running agent tells; `None` where none runs.
pub(super) fn judge(told: Option<&[Status]>) -> Vec<Finding> {
    match told {
        None => vec![Finding::error(
            None,
            "no rs-agent runs here, so that no VIP is announced".to_owned(),
            "systemctl start rs-agent".to_owned(),
        )],
        Some(told) => told.iter().filter_map(one).collect(),
    }
}

fn one(status: &Status) -> Option<Finding> {
    if status.last_site {
        return Some(Finding::error(
            Some(status.address),
            status.to_string(),
            format!("mend the DNS: clients get bad answers; {}", asked(status)),
        ));
    }
    // What was stopped by hand is found in the record.
    (status.state != Tier::Announced.word() && !status.is_stopped()).then(|| {
        Finding::warning(
            Some(status.address),
            status.to_string(),
            format!("mend the DNS; {}", asked(status)),
        )
    })
}

fn asked(status: &Status) -> String {
    format!("asked for {}", status.check)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Severity;
    use super::*;

    #[test]
    fn what_is_not_announced_is_found_and_by_whom_it_is_not() {
        let status = |state: &str, last_site| Status {
            address: [192, 0, 2, 53].into(),
            state: state.to_owned(),
            interface: None,
            lasting: Some(Duration::from_secs(4)),
            reason: Some("SERVFAIL".to_owned()),
            held_for: None,
            last_site,
            withdrawals: 1,
            check: "DNS . NS at 127.0.0.1:53".to_owned(),
        };
        let severities = |told: Option<&[Status]>| -> Vec<Severity> {
            judge(told).iter().map(|found| found.severity).collect()
        };
        assert_eq!(severities(None), [Severity::Error]);
        assert_eq!(severities(Some(&[status("announced", false)])), []);
        assert_eq!(
            severities(Some(&[status("announced", true)])),
            [Severity::Error]
        );
        let found = judge(Some(&[
            status("degraded", false),
            status("withdrawn", false),
            status("announced", true).stopped(),
        ]));
        assert_eq!(found.len(), 2);
        assert_eq!(found[1].problem, "192.0.2.53 withdrawn for 4 s: SERVFAIL");
        assert_eq!(
            found[1].mend,
            "mend the DNS; asked for DNS . NS at 127.0.0.1:53"
        );
    }
}
