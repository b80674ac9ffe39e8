//! Fuzz targets: everything that reads bytes from a network or a file.
//!
//! A target is a function that takes any bytes and panics where something is wrong: the code under
//! it does, or one of the target's own assertions, such as "what was parsed is written as the same
//! bytes". `make fuzz` searches for such bytes with libFuzzer; a plain `cargo test` runs what is in
//! `corpus` once.

mod bytes;
mod targets;

/// One entrance for bytes from outside.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its folder in `corpus`.
    pub name: &'static str,
    /// Takes any bytes.
    ///
    /// # Panics
    /// When something is wrong.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: &[Target] = targets::ALL;

/// The target of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
