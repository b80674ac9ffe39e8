//! YAML text to a tree of nodes that know where they stand.
//!
//! Reading into a tree first, rather than into structs, is what allows all mistakes to be reported
//! at once, with their keys and positions, in words of our own.

mod plain;

use std::borrow::Cow;
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

/// A value and where it stands in the text. Not `Debug`: it may hold a secret.
pub struct Node<'t> {
    /// Where it begins.
    pub position: Position,
    /// What it is.
    pub value: Value<'t>,
}

/// What YAML's core schema makes of a node.
pub enum Value<'t> {
    /// Nothing, `~` or `null`.
    Empty,
    /// `true` or `false`.
    Boolean(bool),
    /// A whole number.
    Integer(i128),
    /// A number that isn't whole.
    Fraction,
    /// All else that stands by itself.
    Text(Cow<'t, str>),
    /// In the file's order.
    List(Vec<Node<'t>>),
    /// In the file's order, with keys that may be anything and may come twice.
    Mapping(Vec<(Node<'t>, Node<'t>)>),
}

impl Node<'_> {
    fn has_a_number_for_a_key(&self) -> bool {
        match &self.value {
            Value::List(items) => items.iter().any(Self::has_a_number_for_a_key),
            Value::Mapping(entries) => entries.iter().any(|(key, value)| {
                matches!(key.value, Value::Integer(_) | Value::Fraction)
                    || value.has_a_number_for_a_key()
            }),
            Value::Empty
            | Value::Boolean(_)
            | Value::Integer(_)
            | Value::Fraction
            | Value::Text(_) => false,
        }
    }
}

impl Value<'_> {
    /// What kind of value it is, to be read after "but is".
    pub fn kind(&self) -> &'static str {
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
pub struct SyntaxError {
    /// Where that shows.
    pub position: Position,
    /// What the parser says, without anything that is quoted from the text.
    pub message: String,
}

/// Lists and mappings within each other, at most: a tree is walked by recursion, and a
/// configuration needs less than ten.
const MAXIMUM_DEPTH: usize = 32;

/// Parses one document. Of keys that come twice both are there, but for numbers: of these the last.
pub fn parse(text: &str) -> Result<Node<'_>, SyntaxError> {
    if let Some(root) = plain::read(text) {
        return Ok(root);
    }
    parse_with(text, DuplicateKeyPolicy::LastWins).map_err(|error| SyntaxError {
        position: place(&error),
        message: message(&error),
    })
}

/// Where a key that is a number comes a second time, in a text of which `root` was made: `root` has
/// the last of them only.
pub fn repeated_number(root: &Node<'_>, text: &str) -> Option<Position> {
    // Hardly any file has such keys, and parsing is most of what reading a long one takes.
    if !root.has_a_number_for_a_key() {
        return None;
    }
    match parse_with(text, DuplicateKeyPolicy::Error)
        .err()?
        .without_snippet()
    {
        error @ Error::DuplicateMappingKey { .. } => Some(place(error)),
        _ => None,
    }
}

fn parse_with(text: &str, duplicate_keys: DuplicateKeyPolicy) -> Result<Node<'_>, Error> {
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

impl<'de> Deserialize<'de> for Node<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value<'de>>::deserialize(deserializer)?;
        let place = spanned.referenced;
        Ok(Self {
            position: position(place.line(), place.column()),
            value: spanned.value,
        })
    }
}

impl<'de> Deserialize<'de> for Value<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value<'de>, E> {
        Ok(Value::Empty)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value<'de>, E> {
        Ok(Value::Boolean(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value<'de>, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value<'de>, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value<'de>, E> {
        Ok(Value::Fraction)
    }

    fn visit_str<E>(self, value: &str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Borrowed(value)))
    }

    fn visit_string<E>(self, value: String) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Owned(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value<'de>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value<'de>, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Value::Mapping(entries))
    }
}
