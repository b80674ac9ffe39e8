//! What is known of the health of real servers.
//!
//! `lvs_health` probes and watches them. Services that ask the same of the same server share a checker; the
//! [`crate::engine`] starts and ends checkers, and knows whom each speaks for.

use std::time::Duration;

pub use lvs_health::{Change, Checker, Event, Gate, Observation, Path, Reason, Target, watch};
use lvs_proto::agent_check::Report;
use lvs_proto::health::Verdict;
use lvs_proto::ipvs::Protocol;

use crate::config::RealServerKey;

/// Whose health it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subject {
    /// The service's name.
    pub service: String,
    /// How the service reaches the server.
    pub protocol: Protocol,
    /// Which of the service's servers.
    pub real_server: RealServerKey,
}

/// What is known of a subject, from all checkers that speak for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Unhealthy where a checker says so, else unknown where one hasn't said anything yet.
    pub verdict: Verdict,
    /// Why it is unhealthy.
    pub reason: Option<Reason>,
    /// How much it takes, where it says so: the least of all that is said.
    pub report: Option<Report>,
    /// How fast it answers, smoothed, where its service wants to know: the slowest of all checks.
    pub latency: Option<Duration>,
    /// Who it says that it is, where it is asked: printable characters.
    pub identity: Option<String>,
}

impl From<Verdict> for Health {
    fn from(verdict: Verdict) -> Self {
        Self {
            verdict,
            reason: None,
            report: None,
            latency: None,
            identity: None,
        }
    }
}

impl Health {
    /// What follows from what several checkers say; healthy where there is none, for nobody doubts.
    pub fn of_all<'h>(words: impl IntoIterator<Item = &'h Self>) -> Self {
        let mut all = Self::from(Verdict::Healthy);
        for word in words {
            match (word.verdict, all.verdict) {
                (Verdict::Healthy, _) | (_, Verdict::Unhealthy) => {}
                (verdict, _) => {
                    all.verdict = verdict;
                    all.reason.clone_from(&word.reason);
                }
            }
            all.report = match (all.report, word.report) {
                (Some(one), Some(other)) => Some(one.least(other)),
                (one, other) => one.or(other),
            };
            all.latency = all.latency.max(word.latency);
            if all.identity.is_none() {
                all.identity.clone_from(&word.identity);
            }
        }
        all
    }
}
