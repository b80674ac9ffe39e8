//! The end-to-end tests, a file a theme.
//!
//! To add one: write a function that takes `&mut Lab`, and a line in its file's table. To add a
//! theme: a file with a table, and a line in [`all`].

use crate::case::Case;

mod lab;

/// Every case of every theme.
pub fn all() -> impl Iterator<Item = &'static Case> {
    [lab::CASES].into_iter().flatten()
}
