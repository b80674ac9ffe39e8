//! Parts of a hundred.

use core::fmt;

/// 0 to 100 %.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percent(u8);

impl Percent {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// All of it.
    pub const ALL: Self = Self(100);

    /// That many; 100 where it's more.
    pub const fn new(percent: u64) -> Self {
        // Below 100 it fits.
        #[allow(clippy::cast_possible_truncation)]
        Self(if percent > 100 { 100 } else { percent as u8 })
    }

    /// 0 to 100.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// That part of a number, rounded up.
    pub(super) const fn of(self, whole: usize) -> usize {
        (whole * self.0 as usize).div_ceil(100)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} %", self.0)
    }
}
