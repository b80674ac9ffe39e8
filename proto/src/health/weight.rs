//! What a server's weight in the kernel becomes of its configured weight and what speaks for less.
//!
//! The kernel takes whole numbers from 0 to 65535, and only the ratios between a service's servers
//! count. As long as the products are whole numbers they are used as they are, so that a service of
//! which all is well has the weights that its operator wrote. Otherwise all weights of the service are
//! scaled by a common number, so that the largest becomes 100, or more where 100 is too coarse: what
//! rounding sends to another server than the exact weights would is [`TOLERANCE`] of the queries at
//! most, where the limit allows. Weights are not larger than that needs: `wrr` gives a server of weight
//! 1000 beside one of weight 1 its queries in one go.

use super::Percent;

/// What speaks for less than a server's configured weight. They are multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Factors {
    /// What the server says of itself.
    pub agent: Percent,
    /// How its latency compares with the others'.
    pub latency: Percent,
    /// How far it has come since it returned.
    pub slow_start: Percent,
    /// How far its zones are behind.
    pub serial: Percent,
}

/// A part of the queries: 1 %.
const TOLERANCE: f64 = 0.01;

/// What the largest weight becomes when weights are scaled: the first that is fine enough.
const SCALES: [u16; 4] = [100, 1_000, 10_000, u16::MAX];

/// So many parts make a weight of one.
const ONE: u64 = 100 * 100 * 100 * 100;

/// A weight before it is rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ExactWeight(u64);

impl Factors {
    /// Nothing speaks for less.
    pub const ALL: Self = Self {
        agent: Percent::ALL,
        latency: Percent::ALL,
        slow_start: Percent::ALL,
        serial: Percent::ALL,
    };

    /// By their names, as metrics and `director status` have them.
    pub fn named(&self) -> [(&'static str, Percent); 4] {
        [
            ("agent", self.agent),
            ("latency", self.latency),
            ("slow_start", self.slow_start),
            ("serial", self.serial),
        ]
    }

    /// What is left of a configured weight.
    pub(super) fn of(&self, weight: u16) -> ExactWeight {
        let product: u64 = self
            .named()
            .iter()
            .map(|(_, percent)| u64::from(percent.get()))
            .product();
        ExactWeight(product * u64::from(weight))
    }
}

/// The weights of a service's servers as whole numbers, in the same order: at least 1 where there is
/// anything, 0 otherwise, and at most `limit`, which no configured weight exceeds.
pub(super) fn whole_weights(exact: &[ExactWeight], limit: u16) -> Vec<u16> {
    let exact: Vec<u64> = exact.iter().map(|weight| weight.0).collect();
    let as_they_are = exact.iter().map(|weight| match weight % ONE {
        0 => u16::try_from(weight / ONE).ok(),
        _ => None,
    });
    if let Some(weights) = as_they_are.collect() {
        return weights;
    }
    let largest = exact.iter().copied().max().unwrap_or(0);
    let mut weights = Vec::new();
    for scale in SCALES {
        let scale = scale.min(limit);
        weights = exact
            .iter()
            .map(|weight| scaled(*weight, scale, largest))
            .collect();
        if scale == limit || misdirected(&exact, &weights) <= TOLERANCE {
            break;
        }
    }
    weights
}

fn scaled(weight: u64, scale: u16, largest: u64) -> u16 {
    if weight == 0 {
        return 0;
    }
    // At most 65,535 * 65,535 * ONE, which is below 2^64.
    let rounded = (weight * u64::from(scale) + largest / 2) / largest;
    u16::try_from(rounded).unwrap_or(scale).max(1)
}

/// The part of the queries that reaches another server than the exact weights would choose.
fn misdirected(exact: &[u64], weights: &[u16]) -> f64 {
    // 53 bits are more than enough to compare shares by.
    #[allow(clippy::cast_precision_loss)]
    let exact: Vec<f64> = exact.iter().map(|weight| *weight as f64).collect();
    let weights: Vec<f64> = weights.iter().copied().map(f64::from).collect();
    let sums: [f64; 2] = [exact.iter().sum(), weights.iter().sum()];
    let differences = exact
        .iter()
        .zip(&weights)
        .map(|(exact, weight)| (exact / sums[0] - weight / sums[1]).abs());
    differences.sum::<f64>() / 2.0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn slow(percent: u64) -> Factors {
        Factors {
            slow_start: Percent::new(percent),
            ..Factors::ALL
        }
    }

    fn weights(servers: &[(u16, Factors)]) -> Vec<u16> {
        let exact: Vec<_> = servers
            .iter()
            .map(|(weight, all)| all.of(*weight))
            .collect();
        whole_weights(&exact, u16::MAX)
    }

    #[test]
    fn what_is_whole_stays_as_it_was_written() {
        let all = Factors::ALL;
        assert_eq!(weights(&[(3, all), (1, all), (0, all)]), [3, 1, 0]);
        assert_eq!(weights(&[(65_535, all), (1, all)]), [65_535, 1]);
        assert_eq!(weights(&[(10, slow(30)), (10, all)]), [3, 10]);
        assert_eq!(weights(&[(7, slow(0)), (7, all)]), [0, 7]);
        assert_eq!(weights(&[]), [0; 0]);
    }

    #[test]
    fn all_weights_are_scaled_where_one_would_be_lost() {
        let all = Factors::ALL;
        assert_eq!(weights(&[(1, slow(5)), (1, all), (1, all)]), [5, 100, 100]);
        assert_eq!(weights(&[(3, all), (1, slow(50)), (0, all)]), [100, 17, 0]);
        // All in the same state share as they always do.
        assert_eq!(weights(&[(1, slow(5)), (2, slow(5))]), [50, 100]);
    }

    #[test]
    fn many_small_ones_beside_a_large_one_keep_their_share() {
        let mut servers = vec![(1000, Factors::ALL)];
        servers.extend([(1, slow(50)); 200]);
        let weights = weights(&servers);
        // With 100 for the largest they would have two thirds, and it is a tenth.
        let small = f64::from(weights[1]) * 200.0;
        let share = small / (small + f64::from(weights[0]));
        assert!((share - 100.0 / 1100.0).abs() < TOLERANCE, "{weights:?}");
    }

    #[test]
    fn nothing_exceeds_the_limit_and_nobody_is_starved_for_it() {
        let exact: Vec<_> = [(1, slow(1)), (40, slow(99))]
            .iter()
            .map(|(weight, all)| all.of(*weight))
            .collect();
        assert_eq!(whole_weights(&exact, 50), [1, 50]);
    }

    fn percent() -> impl Strategy<Value = Percent> {
        prop_oneof![4 => Just(Percent::ALL), 3 => (1..=100_u64).prop_map(Percent::new), 1 => Just(Percent::NONE)]
    }

    fn server() -> impl Strategy<Value = (u16, Factors)> {
        let weight = prop_oneof![4 => 0..10_u16, 2 => 0..1000_u16, 1 => any::<u16>()];
        (weight, percent(), percent(), percent(), percent()).prop_map(
            |(weight, agent, latency, slow_start, serial)| {
                let factors = Factors {
                    agent,
                    latency,
                    slow_start,
                    serial,
                };
                (weight, factors)
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn nobody_is_starved_and_shares_are_kept(servers in prop::collection::vec(server(), 1..40)) {
            let exact: Vec<_> = servers.iter().map(|(weight, all)| all.of(*weight)).collect();
            let whole = whole_weights(&exact, u16::MAX);
            prop_assert_eq!(whole.len(), exact.len());
            for (exact, whole) in exact.iter().zip(&whole) {
                prop_assert_eq!(exact.0 == 0, *whole == 0);
            }
            // Those that round to nothing at the finest scale are raised to 1, which is all that can
            // exceed the tolerance: 39 of 65,535.
            let parts: Vec<u64> = exact.iter().map(|weight| weight.0).collect();
            if parts.iter().any(|weight| *weight > 0) {
                prop_assert!(misdirected(&parts, &whole) <= TOLERANCE, "{whole:?}");
            }
            // A larger exact weight never gets a smaller whole one.
            for (one, other) in exact.iter().zip(&whole) {
                for (another, its) in exact.iter().zip(&whole) {
                    prop_assert!(one > another || other <= its);
                }
            }
        }
    }
}
