//! Vrrp.

use crate::case::Case;

/// The cases of this theme.
pub(super) const CASES: &[Case] = &[];
