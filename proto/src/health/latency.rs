//! Weights that follow how fast servers answer.
//!
//! A server gives away weight only for being slower than the pool's median by more than a dead band;
//! nobody gets more than its configured weight, which is what its operator takes it to bear. The
//! answers' times are smoothed, factors move by a limited step at a time, and tiny moves are left out,
//! so that the pool doesn't swing.

use std::time::{Duration, Instant};

use super::Percent;

/// Between two steps.
pub(super) const PAUSE: Duration = Duration::from_secs(1);

/// Below this, differences are the probe's and not the server's: on a LAN medians are a fraction of a
/// millisecond.
const NOISE: Duration = Duration::from_millis(1);

/// However slow, a server keeps this much: its latency must go on being seen under load.
const LEAST: Percent = Percent::new(10);

/// Moves of less are left out.
const SMALLEST_MOVE: u8 = 5;

/// How weights follow latency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LatencyRules {
    /// Older answers count less: after this time by about half.
    pub smoothing: Duration,
    /// How much slower than the median makes no difference.
    pub dead_band: Percent,
    /// How far a factor moves within a second, at most.
    pub largest_step: Percent,
}

/// An exponentially weighted moving average over answers that come at any pace.
#[derive(Clone, Debug)]
pub struct Smoothed {
    smoothing: Duration,
    last: Option<(Duration, Instant)>,
}

impl Smoothed {
    /// Nothing was seen yet.
    pub fn new(smoothing: Duration) -> Self {
        Self {
            smoothing,
            last: None,
        }
    }

    /// Counts an answer that took `latency`, and returns the average.
    pub fn record(&mut self, latency: Duration, now: Instant) -> Duration {
        let average = match self.last {
            None => latency,
            Some((average, at)) => {
                let passed = now.saturating_duration_since(at).as_secs_f64();
                let weight =
                    passed / (passed + self.smoothing.as_secs_f64()).max(f64::MIN_POSITIVE);
                average.mul_f64(1.0 - weight) + latency.mul_f64(weight)
            }
        };
        self.last = Some((average, now));
        average
    }
}

/// The middle of these; of an even number the smaller one, so that the slower of two servers is
/// compared with the faster. `None` of nothing.
pub(super) fn median(latencies: impl IntoIterator<Item = Duration>) -> Option<Duration> {
    let mut latencies: Vec<Duration> = latencies.into_iter().collect();
    latencies.sort_unstable();
    let middle = latencies.len().checked_sub(1)? / 2;
    latencies.get(middle).copied()
}

impl LatencyRules {
    /// What is right for a server beside others of this median.
    pub fn target(&self, latency: Duration, median: Duration) -> Percent {
        let band = median * u32::from(self.dead_band.get()) / 100;
        let allowed = median + band.max(NOISE);
        if latency <= allowed {
            return Percent::ALL;
        }
        let percent = 100 * allowed.as_nanos() / latency.as_nanos();
        Percent::new(u64::try_from(percent).unwrap_or(100)).max(LEAST)
    }

    /// The next factor on the way to `target`; the same once it's near enough.
    pub fn step(&self, from: Percent, target: Percent) -> Percent {
        let distance = from.get().abs_diff(target.get());
        if distance < SMALLEST_MOVE && target != Percent::ALL {
            return from;
        }
        let step = distance.min(self.largest_step.get());
        Percent::new(u64::from(if target > from {
            from.get() + step
        } else {
            from.get() - step
        }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const RULES: LatencyRules = LatencyRules {
        smoothing: Duration::from_secs(10),
        dead_band: Percent::new(20),
        largest_step: Percent::new(10),
    };

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn one_slow_answer_moves_little_and_many_move_all_the_way() {
        let mut smoothed = Smoothed::new(RULES.smoothing);
        let mut now = Instant::now();
        assert_eq!(smoothed.record(ms(10), now), ms(10));
        now += ms(500);
        let after_one = smoothed.record(ms(110), now);
        assert!(after_one > ms(14) && after_one < ms(16), "{after_one:?}");
        for _ in 0..200 {
            now += ms(500);
            smoothed.record(ms(110), now);
        }
        assert!(smoothed.record(ms(110), now) > ms(109));
        // At the same moment nothing weighs anything.
        assert!(smoothed.record(ms(10), now) > ms(109));
    }

    #[test]
    fn only_who_is_slower_than_the_band_gives_weight_away() {
        let of = |latency| RULES.target(ms(latency), ms(10)).get();
        assert_eq!(
            [1, 10, 12, 13, 24, 1000].map(of),
            [100, 100, 100, 92, 50, 10]
        );
        // Below a millisecond everything is noise.
        let fast = Duration::from_micros(200);
        assert_eq!(RULES.target(ms(1), fast), Percent::ALL);
        assert_eq!(median([ms(3), ms(1)]), Some(ms(1)));
        assert_eq!(median([ms(3), ms(1), ms(2)]), Some(ms(2)));
        assert_eq!(median([]), None);
    }

    #[test]
    fn steps_are_limited_and_end() {
        let mut factor = Percent::ALL;
        let mut seen = Vec::new();
        for target in [50, 50, 50, 50, 50, 50, 53, 97, 100, 100, 100, 100, 100] {
            factor = RULES.step(factor, Percent::new(target));
            seen.push(factor.get());
        }
        let expected = [90, 80, 70, 60, 50, 50, 50, 60, 70, 80, 90, 100, 100];
        assert_eq!(seen, expected);
    }

    proptest! {
        #[test]
        fn nobody_is_starved_and_no_step_is_too_large(
            latency in 0..10_000_000_u64, median in 0..10_000_000_u64, from in 10..=100_u64,
            dead_band in 0..=100_u64, largest_step in 1..=100_u64,
        ) {
            let rules = LatencyRules {
                dead_band: Percent::new(dead_band),
                largest_step: Percent::new(largest_step),
                ..RULES
            };
            let from = Percent::new(from);
            let target = rules.target(Duration::from_micros(latency), Duration::from_micros(median));
            prop_assert!(target >= LEAST);
            prop_assert!(latency > median || target == Percent::ALL);
            let next = rules.step(from, target);
            prop_assert!(u64::from(next.get().abs_diff(from.get())) <= largest_step);
            prop_assert!(next.get().abs_diff(target.get()) <= from.get().abs_diff(target.get()));
        }
    }
}
