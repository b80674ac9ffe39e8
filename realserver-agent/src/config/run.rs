//! `run`: what the service does besides.

use std::ops::RangeInclusive;
use std::time::Duration;

use lvs_configuration::address;
use lvs_configuration::error::Findings;
use lvs_configuration::reader::{self, Mapping, Place};

use crate::run::{Patience, Settings};

const KEYS: &[&str] = &["agent_check", "weight", "metrics", "drain", "group"];
/// Queries that are on their way need a moment.
const QUIET: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(600);
const LIMIT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);

/// `None` when something is wrong.
pub(super) fn settings(place: &Place<'_>, findings: &mut Findings) -> Option<Settings> {
    let mapping = Mapping::of_known_keys(place, KEYS, findings)?;
    let default = Settings::default();
    let agent_check = mapping.optional("agent_check", findings, address::listen);
    let weight = mapping.optional("weight", findings, |place, findings| {
        reader::integer(place, 0..=100, findings)
    });
    let metrics = mapping.optional("metrics", findings, address::listen);
    let patience = mapping.optional("drain", findings, patience);
    let group = mapping.optional("group", findings, reader::name);
    Some(Settings {
        agent_check: agent_check?,
        weight: weight?.map_or(default.weight, |weight| weight as u8),
        metrics: metrics?,
        patience: patience?.unwrap_or(default.patience),
        group: group?,
    })
}

fn patience(place: &Place<'_>, findings: &mut Findings) -> Option<Patience> {
    let mapping = Mapping::of_known_keys(place, &["quiet", "limit"], findings)?;
    let default = Patience::default();
    let quiet = mapping.optional("quiet", findings, |place, findings| {
        reader::duration_in(place, QUIET, findings)
    });
    let limit = mapping.optional("limit", findings, |place, findings| {
        reader::duration_in(place, LIMIT, findings)
    });
    let patience = Patience {
        quiet: quiet?.unwrap_or(default.quiet),
        limit: limit?.unwrap_or(default.limit),
    };
    if patience.quiet > patience.limit {
        let message = format!(
            "`quiet` ({:?}) is longer than `limit` ({:?}), so that no drain could end well",
            patience.quiet, patience.limit
        );
        findings.add(&place.origin(), message);
        return None;
    }
    Some(patience)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::parse;

    fn read(run: &str) -> Result<Settings, String> {
        let text = format!("vips: [10.0.0.1]\nrun: {run}\n");
        parse(Path::new("rs-agent.yaml"), &text)
            .map(|configuration| configuration.run)
            .map_err(|errors| errors.to_string())
    }

    #[test]
    fn what_is_not_said_has_its_default() {
        let settings = read("{ metrics: \"127.0.0.1:9154\" }").unwrap();
        assert_eq!(
            settings,
            Settings {
                metrics: Some("127.0.0.1:9154".parse().unwrap()),
                ..Settings::default()
            }
        );
        let all = "{ agent_check: \"[::]:5301\", weight: 50, drain: { quiet: 500ms, limit: 5s }, group: dns }";
        assert_eq!(
            read(all).unwrap(),
            Settings {
                agent_check: Some("[::]:5301".parse().unwrap()),
                weight: 50,
                metrics: None,
                patience: Patience {
                    quiet: Duration::from_millis(500),
                    limit: Duration::from_secs(5),
                },
                group: Some("dns".to_owned()),
            }
        );
    }

    #[test]
    fn problems_say_what_would_be_right() {
        for (run, expected) in [
            (
                "{ agent_check: 5301 }",
                "run.agent_check: must be an address and a port",
            ),
            (
                "{ weight: 101 }",
                "run.weight: 101 is out of range; must be a whole number from 0 to 100",
            ),
            (
                "{ drain: { quiet: 0s } }",
                "run.drain.quiet: 0s is out of range",
            ),
            (
                "{ drain: { quiet: 40s } }",
                "run.drain: `quiet` (40s) is longer than `limit` (30s)",
            ),
            ("{ metric: \"127.0.0.1:9154\" }", "did you mean `metrics`?"),
        ] {
            let errors = read(run).unwrap_err();
            assert!(errors.contains(expected), "{errors}");
        }
    }
}
