//! Numbers that look random and depend on a seed alone: the same on every machine, and with every
//! version of every library, so that a seed in an old report still tells its story.

use std::time::Duration;

/// SplitMix64 (Steele, Lea and Flood, 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The numbers of one seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Numbers that belong to something nameable, whatever else was drawn before: so that a story
    /// stays the same elsewhere when a part of it is taken away.
    pub fn of(parts: &[u64]) -> Self {
        let mut random = Self(0);
        for part in parts {
            random.0 = random.draw() ^ part;
        }
        random
    }

    /// All 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Less than `limit`, which isn't 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.draw() % limit
    }

    /// True so many times in a thousand.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    /// One of them, of which there is at least one.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// A time from `least` to `most`, in whole microseconds where both are.
    pub fn between(&mut self, least: Duration, most: Duration) -> Duration {
        let microseconds = most.saturating_sub(least).as_micros() as u64;
        least + Duration::from_micros(self.below(microseconds + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the algorithm's published reference code, seed 0.
    #[test]
    fn numbers_are_those_of_the_reference() {
        let mut random = Random::new(0);
        assert_eq!(random.draw(), 0xe220_a839_7b1d_cdaf);
        assert_eq!(random.draw(), 0x6e78_9e6a_a1b9_65f4);
    }
}
