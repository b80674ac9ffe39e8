//! Counts the results of one server's probes.

use core::fmt;
use core::num::NonZeroU8;

/// What is believed of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Not enough was seen yet.
    Unknown,
    /// It answers.
    Healthy,
    /// It doesn't.
    Unhealthy,
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        })
    }
}

/// Turns single results into a [`Verdict`]: `fall` failures in a row take a server out, `rise`
/// successes in a row take it in again.
///
/// A server of which nothing is known is taken in by its first success, so that a start is quick,
/// and needs `fall` failures to be taken out.
#[derive(Clone, Debug)]
pub struct Tally {
    rise: NonZeroU8,
    fall: NonZeroU8,
    verdict: Verdict,
    /// Results in a row that speak against the verdict.
    contrary: u8,
}

impl Tally {
    /// Nothing is known.
    pub fn new(rise: NonZeroU8, fall: NonZeroU8) -> Self {
        Self {
            rise,
            fall,
            verdict: Verdict::Unknown,
            contrary: 0,
        }
    }

    /// The present verdict.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Whether the last results speak against the verdict, without being enough to change it.
    pub fn in_doubt(&self) -> bool {
        self.contrary > 0 || self.verdict == Verdict::Unknown
    }

    /// Counts one result and returns the new verdict if it has changed.
    pub fn record(&mut self, passed: bool) -> Option<Verdict> {
        let (agrees, needed) = match self.verdict {
            Verdict::Healthy => (passed, self.fall),
            Verdict::Unhealthy => (!passed, self.rise),
            Verdict::Unknown => (false, if passed { NonZeroU8::MIN } else { self.fall }),
        };
        if agrees {
            self.contrary = 0;
            return None;
        }
        self.contrary += 1;
        if self.contrary < needed.get() {
            return None;
        }
        self.contrary = 0;
        self.verdict = if passed {
            Verdict::Healthy
        } else {
            Verdict::Unhealthy
        };
        Some(self.verdict)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn tally() -> Tally {
        Tally::new(NonZeroU8::new(2).unwrap(), NonZeroU8::new(3).unwrap())
    }

    fn changes(tally: &mut Tally, results: &str) -> Vec<Option<Verdict>> {
        results
            .chars()
            .map(|result| tally.record(result == '+'))
            .collect()
    }

    #[test]
    fn the_first_success_is_enough_at_start() {
        assert_eq!(changes(&mut tally(), "+"), [Some(Verdict::Healthy)]);
        assert_eq!(changes(&mut tally(), "-+"), [None, Some(Verdict::Healthy)]);
        assert_eq!(
            changes(&mut tally(), "---"),
            [None, None, Some(Verdict::Unhealthy)]
        );
    }

    #[test]
    fn only_failures_in_a_row_take_a_server_out() {
        let mut tally = tally();
        assert!(
            changes(&mut tally, "+--+--+")
                .iter()
                .skip(1)
                .all(Option::is_none)
        );
        assert!(!tally.in_doubt());
        assert_eq!(
            changes(&mut tally, "---"),
            [None, None, Some(Verdict::Unhealthy)]
        );
    }

    #[test]
    fn only_successes_in_a_row_take_it_in_again() {
        let mut tally = tally();
        changes(&mut tally, "---");
        assert_eq!(changes(&mut tally, "+-+"), [None, None, None]);
        assert!(tally.in_doubt());
        assert_eq!(changes(&mut tally, "+"), [Some(Verdict::Healthy)]);
    }
}
