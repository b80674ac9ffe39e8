//! YAML text to a tree of nodes that know where they stand.
//!
//! Reading into a tree first, rather than into structs, is what allows all mistakes to be reported
//! at once, with their keys and positions, in words of our own.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_yaml::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};
use serde_yaml::{Error, Spanned};

/// A place in a file; both count from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: u64,
    /// The column.
    pub column: u64,
}

/// A value and where it stands. Not `Debug`: it may hold a secret.
pub(super) struct Node {
    pub(super) position: Position,
    pub(super) value: Value,
}

/// What YAML's core schema makes of a node.
pub(super) enum Value {
    Empty,
    Boolean(bool),
    Integer(i128),
    Fraction,
    Text(String),
    List(Vec<Node>),
    /// In the file's order, with keys that may be anything and may come twice.
    Mapping(Vec<(Node, Node)>),
}

impl Value {
    /// What kind of value it is, to be read after "but is".
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Boolean(_) => "true or false",
            Self::Integer(_) => "a number",
            Self::Fraction => "a number that is not whole",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Mapping(_) => "a mapping",
        }
    }
}

/// The text is not one YAML document.
pub(super) struct SyntaxError {
    pub(super) position: Position,
    pub(super) message: String,
}

/// Lists and mappings within each other, at most: a tree is walked by recursion, and a
/// configuration needs less than ten.
const MAXIMUM_DEPTH: usize = 32;

/// Parses one document. Of keys that come twice both are there, but for numbers: of these the last.
pub(super) fn parse(text: &str) -> Result<Node, SyntaxError> {
    parse_with(text, DuplicateKeyPolicy::LastWins).map_err(|error| SyntaxError {
        position: place(&error),
        message: message(&error),
    })
}

/// Where a key comes a second time, numbers included.
pub(super) fn repeated_key(text: &str) -> Option<Position> {
    match parse_with(text, DuplicateKeyPolicy::Error)
        .err()?
        .without_snippet()
    {
        error @ Error::DuplicateMappingKey { .. } => Some(place(error)),
        _ => None,
    }
}

fn parse_with(text: &str, duplicate_keys: DuplicateKeyPolicy) -> Result<Node, Error> {
    let options = serde_yaml::options! {
        strict_booleans: true,
        // A snippet would print neighbouring lines, and one of them may hold a password.
        with_snippet: false,
        duplicate_keys: duplicate_keys,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        budget: serde_yaml::budget! { max_depth: MAXIMUM_DEPTH },
    };
    serde_yaml::from_str_with_options(text, options)
}

fn place(error: &Error) -> Position {
    let start = Position { line: 1, column: 1 };
    error
        .location()
        .map_or(start, |place| position(place.line(), place.column()))
}

/// The parser's own words, without what it quotes of the file, which it does behind a backquote:
/// that could be the start of a password.
fn message(error: &Error) -> String {
    if let Error::MultipleDocuments { .. } = error {
        return "a second YAML document starts here; a configuration is one".to_owned();
    }
    let text = error.to_string();
    let text = text
        .rsplit_once(" at line ")
        .map_or(text.as_str(), |(words, _)| words);
    let words = text.split('`').next().unwrap_or_default();
    format!("not valid YAML: {}", words.trim_end_matches([':', ' ']))
}

/// Columns and lines of 0 mean unknown; nothing here is before 1.
fn position(line: u64, column: u64) -> Position {
    Position {
        line: line.max(1),
        column: column.max(1),
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        let place = spanned.referenced;
        Ok(Self {
            position: position(place.line(), place.column()),
            value: spanned.value,
        })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Empty)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Boolean(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Fraction)
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Value::Mapping(entries))
    }
}
