//! What of a list of ranges is taken already.

use std::collections::BTreeMap;

/// Ranges that don't overlap, each with the line of the file that it stands in.
pub(super) struct Intervals<T>(BTreeMap<T, (T, u64)>);

impl<T: Copy + Ord> Intervals<T> {
    pub(super) fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Takes `first` to `last`, both included.
    ///
    /// # Errors
    /// The first that is taken already, and the line in which it was.
    pub(super) fn take(&mut self, first: T, last: T, line: u64) -> Result<(), (T, u64)> {
        let mut below = self.0.range(..=last).rev();
        let mut taken = None;
        while let Some((start, (end, line))) = below.next()
            && *end >= first
        {
            taken = Some(((*start).max(first), *line));
        }
        if let Some(taken) = taken {
            return Err(taken);
        }
        self.0.insert(first, (last, line));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_is_taken_is_named() {
        let mut intervals = Intervals::new();
        assert_eq!(intervals.take(10, 19, 1), Ok(()));
        assert_eq!(intervals.take(30, 39, 2), Ok(()));
        assert_eq!(intervals.take(20, 29, 3), Ok(()));
        assert_eq!(intervals.take(5, 10, 4), Err((10, 1)));
        assert_eq!(intervals.take(0, 99, 4), Err((10, 1)));
        assert_eq!(intervals.take(25, 35, 4), Err((25, 3)));
        assert_eq!(intervals.take(39, 50, 4), Err((39, 2)));
        assert_eq!(intervals.take(40, 50, 4), Ok(()));
        assert_eq!(intervals.take(0, 9, 4), Ok(()));
    }
}
