//! What is wrong with a file, and where.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::Hash;
use std::path::{Path, PathBuf};

use super::document::Position;

/// Something in a configuration file that is wrong, or that is hardly meant.
///
/// Prints as `FILE:LINE:COLUMN: KEY: MESSAGE`, without what is unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file as it was named.
    pub file: PathBuf,
    /// Where in the file; `None` when the file could not be read at all.
    pub position: Option<Position>,
    /// The keys that lead there, such as `services[0].real_servers[1].port`; empty for the whole.
    pub key: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.file.display())?;
        if let Some(Position { line, column }) = self.position {
            write!(formatter, ":{line}:{column}")?;
        }
        if !self.key.is_empty() {
            write!(formatter, ": {}", self.key)?;
        }
        write!(formatter, ": {}", self.message)
    }
}

/// All mistakes that were found in a file, by position; prints one a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors(pub Vec<Finding>);

impl Errors {
    /// One by one.
    pub fn iter(&self) -> std::slice::Iter<'_, Finding> {
        self.0.iter()
    }

    pub(super) fn of_file(file: &Path, message: String) -> Self {
        Self(vec![Finding {
            file: file.to_owned(),
            position: None,
            key: String::new(),
            message,
        }])
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                formatter.write_str("\n")?;
            }
            error.fmt(formatter)?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}

/// The place in the file that a value came from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Origin {
    pub(super) position: Position,
    pub(super) key: String,
}

impl Origin {
    pub(super) fn new(position: Position, key: String) -> Self {
        Self { position, key }
    }

    pub(super) fn line(&self) -> u64 {
        self.position.line
    }
}

/// A value with the place that it came from.
#[derive(Clone)]
pub(super) struct Located<T> {
    pub(super) value: T,
    pub(super) origin: Origin,
}

/// The line of the first that has this key; the first itself is remembered, and has none before it.
pub(super) fn already<K: Eq + Hash>(
    seen: &mut HashMap<K, Origin>,
    key: K,
    origin: &Origin,
) -> Option<u64> {
    match seen.entry(key) {
        Entry::Occupied(first) => Some(first.get().line()),
        Entry::Vacant(vacant) => {
            vacant.insert(origin.clone());
            None
        }
    }
}

/// The mistakes found so far, and what is hardly meant.
#[derive(Default)]
pub(super) struct Findings {
    errors: Vec<(Origin, String)>,
    warnings: Vec<(Origin, String)>,
}

impl Findings {
    pub(super) fn add(&mut self, origin: &Origin, message: impl Into<String>) {
        self.errors.push((origin.clone(), message.into()));
    }

    /// What is legal and still hardly meant.
    pub(super) fn warn(&mut self, origin: &Origin, message: impl Into<String>) {
        self.warnings.push((origin.clone(), message.into()));
    }

    /// Whether there are no mistakes.
    pub(super) fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    /// The warnings when there are no mistakes.
    pub(super) fn into_result(self, file: &Path) -> Result<Vec<Finding>, Errors> {
        if self.errors.is_empty() {
            Ok(in_order(self.warnings, file))
        } else {
            Err(self.into_errors(file))
        }
    }

    pub(super) fn into_errors(self, file: &Path) -> Errors {
        Errors(in_order(self.errors, file))
    }
}

/// By position, each once, though it was found for every node.
fn in_order(mut found: Vec<(Origin, String)>, file: &Path) -> Vec<Finding> {
    found.sort();
    found.dedup();
    let finding = |(origin, message): (Origin, String)| Finding {
        file: file.to_owned(),
        position: Some(origin.position),
        key: origin.key,
        message,
    };
    found.into_iter().map(finding).collect()
}
