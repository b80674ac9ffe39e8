//! What several questions together say.

use std::fmt;

/// How many of several questions must be answered well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Requirement {
    /// All of them.
    #[default]
    All,
    /// One of them.
    Any,
    /// More than half of them.
    Majority,
}

impl Requirement {
    /// Whether it's met, once `passed` and `failed` of `total` questions settle that.
    pub fn settled(self, passed: usize, failed: usize, total: usize) -> Option<bool> {
        let needed = match self {
            Self::All => total,
            Self::Any => 1.min(total),
            Self::Majority => total / 2 + 1,
        };
        if passed >= needed {
            Some(true)
        } else if failed > total.saturating_sub(needed) {
            Some(false)
        } else {
            None
        }
    }

    /// The word that it has in a configuration.
    pub fn word(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Any => "any",
            Self::Majority => "majority",
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_settled_as_soon_as_it_can_be() {
        use Requirement::{All, Any, Majority};
        for (requirement, passed, failed, total, settled) in [
            (All, 2, 0, 3, None),
            (All, 3, 0, 3, Some(true)),
            (All, 0, 1, 3, Some(false)),
            (Any, 0, 2, 3, None),
            (Any, 1, 2, 3, Some(true)),
            (Any, 0, 3, 3, Some(false)),
            (Majority, 1, 1, 3, None),
            (Majority, 2, 0, 3, Some(true)),
            (Majority, 1, 2, 3, Some(false)),
            (Majority, 2, 1, 4, None),
            (Majority, 2, 2, 4, Some(false)),
            (Majority, 3, 0, 4, Some(true)),
            (All, 0, 1, 1, Some(false)),
        ] {
            assert_eq!(
                requirement.settled(passed, failed, total),
                settled,
                "{requirement:?} {passed} {failed} {total}"
            );
        }
    }

    #[test]
    fn is_always_settled_in_the_end() {
        for requirement in [Requirement::All, Requirement::Any, Requirement::Majority] {
            for total in 1..9 {
                for passed in 0..=total {
                    let settled = requirement.settled(passed, total - passed, total);
                    assert!(settled.is_some(), "{requirement:?} {passed} of {total}");
                }
            }
        }
    }
}
