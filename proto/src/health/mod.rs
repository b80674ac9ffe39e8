//! From the results of single probes to whether a server is in, and with which weight.
//!
//! Everything here is pure: results and times go in, verdicts, weights and the time of the next change
//! come out. [`Tally`] makes a verdict of probes, [`Pool`] who is in and how much it gets of all
//! verdicts on a service's servers.

mod diagnosis;
mod failure;
mod latency;
mod percent;
mod pool;
pub mod serial;
mod slow_start;
mod tally;
mod weight;

pub use diagnosis::{Diagnosis, Outcome as ProbeOutcome};
pub use failure::FailureKind;
pub use latency::{LatencyRules, Smoothed};
pub use percent::Percent;
pub use pool::{Decision, Floor, Hand, Member, Outcome, Pool, PoolRules, Quorum, Share};
pub use tally::{Tally, Verdict};
pub use weight::Factors;
