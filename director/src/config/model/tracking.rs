//! What else decides over an instance's priority, and what is told of its transitions.

use std::fmt;
use std::num::{NonZeroI16, NonZeroU8};
use std::path::PathBuf;
use std::time::Duration;

/// What failing does to an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The VIPs are given up: the instance is in fault until all is well again.
    Fault,
    /// -253 to 253: a negative weight is added to the priority while it fails, a positive one while
    /// it is well.
    Weight(NonZeroI16),
}

/// What an instance tracks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Track {
    /// Interfaces other than its own, by name: they fail without a carrier.
    pub interfaces: Vec<(String, Effect)>,
    /// Programs that are run again and again.
    pub scripts: Vec<TrackedScript>,
    /// Files with a number in them.
    pub files: Vec<TrackedFile>,
    /// Services by name: they fail when they have lost their quorum.
    pub services: Vec<(String, Effect)>,
}

/// A program whose exit status says whether all is well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackedScript {
    /// Its name in logs, metrics and commands.
    pub name: String,
    /// The program, by its absolute path, and its arguments; no shell reads them.
    pub command: Vec<String>,
    /// Between the starts of two runs: 100 ms to 1 h.
    pub interval: Duration,
    /// How long a run may take: at most the interval.
    pub timeout: Duration,
    /// Good runs in a row that make it well.
    pub rise: NonZeroU8,
    /// Bad runs in a row that make it fail.
    pub fall: NonZeroU8,
    /// What its failing does.
    pub effect: Effect,
}

/// A file with a whole number in it, which others may change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackedFile {
    /// Its absolute path.
    pub path: PathBuf,
    /// -253 to 253: times the number it is added to the priority; -254 or less is a fault.
    pub weight: NonZeroI16,
}

/// A program that is told of transitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// The states whose entering it is told of.
    pub on: Vec<HookState>,
    /// The program, by its absolute path, and its first arguments; no shell reads them.
    pub command: Vec<String>,
    /// How long a run may take before it is ended.
    pub timeout: Duration,
}

/// A state that hooks can be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HookState {
    /// The instance holds the VIPs.
    Active,
    /// It watches the Active.
    Backup,
    /// It can't take part.
    Fault,
    /// It has left.
    Stopped,
}

impl HookState {
    /// All of them: what a hook without `on` is told of.
    pub const ALL: [Self; 4] = [Self::Active, Self::Backup, Self::Fault, Self::Stopped];
}

impl fmt::Display for HookState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Active => "active",
            Self::Backup => "backup",
            Self::Fault => "fault",
            Self::Stopped => "stopped",
        })
    }
}
