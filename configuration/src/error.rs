//! What is wrong with a file, and where.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::document::Position;

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

    pub(crate) fn of_file(file: &Path, message: String) -> Self {
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
#[derive(Clone)]
pub struct Origin {
    /// Line and column.
    pub position: Position,
    keys: KeyPath,
}

impl Origin {
    /// A place, and the keys that lead to it.
    pub fn new(position: Position, keys: KeyPath) -> Self {
        Self { position, keys }
    }

    /// Counts from 1.
    pub fn line(&self) -> u64 {
        self.position.line
    }
}

impl PartialEq for Origin {
    fn eq(&self, other: &Self) -> bool {
        self.position == other.position && self.keys.to_string() == other.keys.to_string()
    }
}

/// The keys that lead to a place. Every value has some and hardly any is written, so that places share
/// those that they have in common.
#[derive(Clone, Default)]
pub struct KeyPath(Option<Rc<Step>>);

struct Step {
    before: KeyPath,
    last: Key,
}

enum Key {
    Known(&'static str),
    Named(Box<str>),
    Item(usize),
}

impl KeyPath {
    /// Those to the value of a key that the language has.
    pub fn known(&self, key: &'static str) -> Self {
        self.and(Key::Known(key))
    }

    /// Those to the value of a key of the user's choice.
    pub fn named(&self, key: &str) -> Self {
        self.and(Key::Named(key.into()))
    }

    /// Those to an item of a list, which is counted from 0.
    pub fn item(&self, index: usize) -> Self {
        self.and(Key::Item(index))
    }

    fn and(&self, last: Key) -> Self {
        let before = self.clone();
        Self(Some(Rc::new(Step { before, last })))
    }
}

/// Such as `services[0].real_servers[1].port`; empty for the whole file.
impl fmt::Display for KeyPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(step) = &self.0 else {
            return Ok(());
        };
        step.before.fmt(formatter)?;
        let key = match &step.last {
            Key::Item(index) => return write!(formatter, "[{index}]"),
            Key::Known(key) => key,
            Key::Named(key) => &**key,
        };
        let dot = if step.before.0.is_some() { "." } else { "" };
        write!(formatter, "{dot}{key}")
    }
}

/// A value with the place that it came from.
#[derive(Clone)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub origin: Origin,
}

/// The line of the first that has this key; the first itself is remembered, and has none before it.
pub fn already<K: Ord>(seen: &mut BTreeMap<K, Origin>, key: K, origin: &Origin) -> Option<u64> {
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
pub struct Findings {
    errors: Vec<Found>,
    warnings: Vec<Found>,
}

/// Where, the keys that lead there, and what is to be said of it.
type Found = (Position, String, String);

impl Findings {
    /// A mistake.
    pub fn add(&mut self, origin: &Origin, message: impl Into<String>) {
        self.errors.push(found(origin, message));
    }

    /// What is legal and still hardly meant.
    pub fn warn(&mut self, origin: &Origin, message: impl Into<String>) {
        self.warnings.push(found(origin, message));
    }

    /// Whether there are no mistakes.
    pub fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    /// The warnings when there are no mistakes.
    ///
    /// # Errors
    /// The mistakes, by position.
    pub fn into_result(self, file: &Path) -> Result<Vec<Finding>, Errors> {
        if self.errors.is_empty() {
            Ok(in_order(self.warnings, file))
        } else {
            Err(self.into_errors(file))
        }
    }

    /// All mistakes, by position.
    pub fn into_errors(self, file: &Path) -> Errors {
        Errors(in_order(self.errors, file))
    }
}

fn found(origin: &Origin, message: impl Into<String>) -> Found {
    (origin.position, origin.keys.to_string(), message.into())
}

/// By position, each once, though it was found for every node.
fn in_order(mut found: Vec<Found>, file: &Path) -> Vec<Finding> {
    found.sort();
    found.dedup();
    let finding = |(position, key, message): Found| Finding {
        file: file.to_owned(),
        position: Some(position),
        key,
        message,
    };
    found.into_iter().map(finding).collect()
}
