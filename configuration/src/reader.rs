//! Reads nodes as the kinds of values that a configuration has; every reader reports what it
//! doesn't like and then gives `None`.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::num::{NonZeroU8, NonZeroU16};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use crate::document::{Node, Position, Value};
use crate::error::{Findings, KeyPath, Located, Origin};
use crate::nearest::nearest;

/// A node with the keys that lead to it.
#[derive(Clone)]
pub struct Place<'n> {
    node: &'n Node<'n>,
    keys: KeyPath,
    /// Nothing that stands here is quoted, neither values nor keys.
    secret: bool,
}

impl<'n> Place<'n> {
    /// The whole file.
    pub fn root(node: &'n Node<'n>) -> Self {
        Self {
            node,
            keys: KeyPath::default(),
            secret: false,
        }
    }

    /// What stands there.
    pub fn value(&self) -> &'n Value<'n> {
        &self.node.value
    }

    /// Line, column and keys.
    pub fn origin(&self) -> Origin {
        Origin::new(self.node.position, self.keys.clone())
    }

    /// `value`, which was read here.
    pub fn located<T>(&self, value: T) -> Located<T> {
        Located {
            value,
            origin: self.origin(),
        }
    }

    /// The same place, of which no message quotes anything.
    pub fn secret(self) -> Self {
        Self {
            secret: true,
            ..self
        }
    }

    /// Whether no message quotes anything of it.
    pub fn is_secret(&self) -> bool {
        self.secret
    }

    /// The keys to the value of `key`, which may be one of `known`. One that isn't a word is left out
    /// too: `password:s3cr3t` is one to YAML.
    fn keys_to(&self, key: &str, known: &[&'static str]) -> KeyPath {
        if self.secret {
            return self.keys.clone();
        }
        match known.iter().find(|known| **known == key) {
            Some(known) => self.keys.known(known),
            None if is_word(key) => self.keys.named(key),
            None => self.keys.clone(),
        }
    }

    /// A part of the value, to stand before what is said of it; nothing where nothing is quoted.
    pub fn quote(&self, part: impl Display) -> String {
        if self.secret {
            String::new()
        } else {
            format!("{part} ")
        }
    }

    /// Reports that something else stands here than `what`, to be read after "must be".
    pub fn expected(&self, what: &str, findings: &mut Findings) {
        let kind = self.node.value.kind();
        findings.add(&self.origin(), format!("must be {what}, but is {kind}"));
    }
}

/// A mapping with known keys, or by node name.
pub struct Mapping<'n> {
    origin: Origin,
    entries: BTreeMap<&'n str, Place<'n>>,
}

impl<'n> Mapping<'n> {
    /// A mapping whose keys are all among `known`. Unknown keys are reported and left out.
    pub fn of_known_keys(
        place: &Place<'n>,
        known: &[&'static str],
        findings: &mut Findings,
    ) -> Option<Self> {
        let mut mapping = Self::read(place, known, findings)?;
        mapping.entries.retain(|key, entry| {
            let is_known = known.contains(key);
            if !is_known {
                // The key's own place: it is the key that is wrong, not its value.
                let position = key_position(place.node, key).unwrap_or(entry.node.position);
                let origin = Origin::new(position, entry.keys.clone());
                findings.add(&origin, unknown_key(key, known, place.secret));
            }
            is_known
        });
        Some(mapping)
    }

    /// As [`Self::of_known_keys`], where no value is a mapping without keys.
    pub fn of_known_keys_if_any(
        place: &Place<'n>,
        known: &[&'static str],
        findings: &mut Findings,
    ) -> Option<Self> {
        if matches!(place.node.value, Value::Empty) {
            return Some(Self {
                origin: place.origin(),
                entries: BTreeMap::new(),
            });
        }
        Self::of_known_keys(place, known, findings)
    }

    /// A mapping whose keys are names of the user's choice.
    pub fn of_any_keys(place: &Place<'n>, findings: &mut Findings) -> Option<Self> {
        Self::read(place, &[], findings)
    }

    fn read(place: &Place<'n>, known: &[&'static str], findings: &mut Findings) -> Option<Self> {
        let Value::Mapping(nodes) = &place.node.value else {
            place.expected("a mapping", findings);
            return None;
        };
        let mut entries = BTreeMap::<&str, Place<'n>>::new();
        for (key, value) in nodes {
            let Value::Text(text) = &key.value else {
                let kind = key.value.kind();
                let message = format!("a key must be a text, but is {kind}; write it in quotes");
                findings.add(&Origin::new(key.position, place.keys.clone()), message);
                continue;
            };
            if entries.contains_key(&**text) {
                let first = key_position(place.node, text).map_or(0, |position| position.line);
                let origin = Origin::new(key.position, place.keys_to(text, known));
                findings.add(
                    &origin,
                    format!("is written twice, first in line {first}; keep one"),
                );
            } else {
                let member = Place {
                    node: value,
                    keys: place.keys_to(text, known),
                    secret: place.secret,
                };
                entries.insert(text, member);
            }
        }
        Some(Self {
            origin: place.origin(),
            entries,
        })
    }

    /// Where the mapping stands.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// All values with their keys.
    pub fn entries(&self) -> impl Iterator<Item = (&'n str, &Place<'n>)> {
        self.entries.iter().map(|(key, place)| (*key, place))
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Place<'n>> {
        self.entries.get(key)
    }

    /// The value of a key that must be there, read by `read`. `right` says what to write.
    pub fn required<T>(
        &self,
        key: &str,
        right: &str,
        findings: &mut Findings,
        read: impl FnOnce(&Place<'n>, &mut Findings) -> Option<T>,
    ) -> Option<T> {
        match self.get(key) {
            Some(place) => read(place, findings),
            None => {
                findings.add(&self.origin, format!("`{key}` is missing; {right}"));
                None
            }
        }
    }

    /// The value of a key that may be missing: `Some(None)` when it is, `None` when it is wrong.
    pub fn optional<T>(
        &self,
        key: &str,
        findings: &mut Findings,
        read: impl FnOnce(&Place<'n>, &mut Findings) -> Option<T>,
    ) -> Option<Option<T>> {
        match self.get(key) {
            Some(place) => read(place, findings).map(Some),
            None => Some(None),
        }
    }
}

/// A mapping whose keys are whole numbers in `range`; `what` it is of is said of another key.
pub fn numbered<'n, T>(
    place: &Place<'n>,
    range: RangeInclusive<u8>,
    what: &str,
    findings: &mut Findings,
    mut read: impl FnMut(&Place<'n>, &mut Findings) -> Option<T>,
) -> Option<BTreeMap<u8, T>> {
    let Value::Mapping(nodes) = &place.node.value else {
        place.expected(what, findings);
        return None;
    };
    if nodes.is_empty() {
        findings.add(&place.origin(), format!("is empty; must be {what}"));
        return None;
    }
    let mut values = BTreeMap::new();
    let mut complete = true;
    for (key, node) in nodes {
        let member = |node| Place {
            node,
            keys: place.keys.clone(),
            secret: place.secret,
        };
        let least_and_most = i64::from(*range.start())..=i64::from(*range.end());
        let number = integer(&member(key), least_and_most, findings);
        let number = number.and_then(|number| u8::try_from(number).ok());
        let value = read(&member(node), findings);
        match (number, value) {
            (Some(number), Some(value)) => drop(values.insert(number, value)),
            _ => complete = false,
        }
    }
    complete.then_some(values)
}

/// Where a key stands first.
fn key_position(node: &Node<'_>, key: &str) -> Option<Position> {
    let Value::Mapping(entries) = &node.value else {
        return None;
    };
    let (node, _) = entries
        .iter()
        .find(|(node, _)| matches!(&node.value, Value::Text(text) if text == key))?;
    Some(node.position)
}

fn unknown_key(key: &str, known: &[&str], secret: bool) -> String {
    if known.is_empty() {
        return "unknown key; there is nothing to be set".to_owned();
    }
    let all = known.join(", ");
    match nearest(key, known) {
        Some(near) if !secret => format!("unknown key; did you mean `{near}`?"),
        _ => format!("unknown key; known here: {all}"),
    }
}

/// A list, item by item; items that `read` doesn't like are left out.
pub fn list<'n, T>(
    place: &Place<'n>,
    what: &str,
    findings: &mut Findings,
    mut read: impl FnMut(&Place<'n>, &mut Findings) -> Option<T>,
) -> Option<Vec<T>> {
    let Value::List(nodes) = &place.node.value else {
        place.expected(what, findings);
        return None;
    };
    let item = |(index, node)| {
        let keys = if place.secret {
            place.keys.clone()
        } else {
            place.keys.item(index)
        };
        read(
            &Place {
                node,
                keys,
                secret: place.secret,
            },
            findings,
        )
    };
    Some(nodes.iter().enumerate().filter_map(item).collect())
}

/// As [`list`], but one item that isn't liked spoils it, and an empty list isn't liked either.
pub fn filled_list<'n, T>(
    place: &Place<'n>,
    what: &str,
    findings: &mut Findings,
    read: impl FnMut(&Place<'n>, &mut Findings) -> Option<T>,
) -> Option<Vec<T>> {
    let items = list(place, what, findings, read)?;
    let Value::List(nodes) = place.value() else {
        return None;
    };
    if nodes.is_empty() {
        findings.add(&place.origin(), format!("is empty; must be {what}"));
    }
    (!nodes.is_empty() && items.len() == nodes.len()).then_some(items)
}

/// `true` or `false`.
pub fn boolean(place: &Place<'_>, findings: &mut Findings) -> Option<bool> {
    match place.value() {
        Value::Boolean(value) => Some(*value),
        _ => {
            place.expected("`true` or `false`", findings);
            None
        }
    }
}

/// A whole number in `range`.
pub fn integer(
    place: &Place<'_>,
    range: RangeInclusive<i64>,
    findings: &mut Findings,
) -> Option<i64> {
    let what = || format!("a whole number from {} to {}", range.start(), range.end());
    match place.value() {
        Value::Integer(value) => {
            let inside = i64::try_from(*value)
                .ok()
                .filter(|value| range.contains(value));
            if inside.is_none() {
                let message = format!("{}is out of range; must be {}", place.quote(value), what());
                findings.add(&place.origin(), message);
            }
            inside
        }
        Value::Text(text) if text.parse::<i64>().is_ok() => {
            let right = format!("must be {}, but is a text; write it without quotes", what());
            findings.add(&place.origin(), right);
            None
        }
        _ => {
            place.expected(&what(), findings);
            None
        }
    }
}

/// A text. `what` says which, with its article.
pub fn text<'n>(place: &Place<'n>, what: &str, findings: &mut Findings) -> Option<&'n str> {
    match place.value() {
        Value::Text(text) => Some(text),
        Value::Integer(_) | Value::Fraction | Value::Boolean(_) => {
            let kind = place.value().kind();
            let message = format!("must be {what}, but is {kind}; write it in quotes");
            findings.add(&place.origin(), message);
            None
        }
        _ => {
            place.expected(what, findings);
            None
        }
    }
}

/// A text that is one of a few words.
pub fn word<T: Copy>(place: &Place<'_>, words: &[(&str, T)], findings: &mut Findings) -> Option<T> {
    let what = || {
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        match names.as_slice() {
            [one] => format!("`{one}`"),
            names => format!("one of {}", names.join(", ")),
        }
    };
    let Value::Text(text) = place.value() else {
        place.expected(&what(), findings);
        return None;
    };
    let found = words
        .iter()
        .find(|(word, _)| word == text)
        .map(|(_, value)| *value);
    if found.is_none() {
        let quoted = place.quote(format_args!("`{text}`"));
        findings.add(
            &place.origin(),
            format!("{quoted}is not known; must be {}", what()),
        );
    }
    found
}

/// A list of different words of a few.
pub fn distinct_words<T: Copy + PartialEq>(
    place: &Place<'_>,
    what: &str,
    words: &[(&str, T)],
    findings: &mut Findings,
) -> Option<Vec<T>> {
    let mut seen = Vec::new();
    filled_list(place, what, findings, |place, findings| {
        let value = word(place, words, findings)?;
        if seen.contains(&value) {
            let quoted = match place.value() {
                Value::Text(text) => place.quote(format_args!("`{text}`")),
                _ => String::new(),
            };
            findings.add(
                &place.origin(),
                format!("{quoted}is already listed; list it once"),
            );
            return None;
        }
        seen.push(value);
        Some(value)
    })
}

/// A text that its own type parses and whose error says what would be right.
pub fn parsed<T>(place: &Place<'_>, what: &str, findings: &mut Findings) -> Option<T>
where
    T: FromStr,
    T::Err: Display,
{
    match text(place, what, findings)?.parse() {
        Ok(value) => Some(value),
        Err(error) => {
            findings.add(&place.origin(), error.to_string());
            None
        }
    }
}

/// A name for logs, metrics and commands.
pub fn name(place: &Place<'_>, findings: &mut Findings) -> Option<String> {
    let text = text(place, "a name", findings)?;
    if is_word(text) {
        return Some(text.to_owned());
    }
    let message = "is not a name; must be 1 to 64 letters, digits, dots, hyphens and underscores";
    findings.add(&place.origin(), message);
    None
}

fn is_word(text: &str) -> bool {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    (1..=64).contains(&text.len()) && text.chars().all(allowed)
}

/// A time written as a whole number of `ms` or `s`.
pub fn duration(place: &Place<'_>, findings: &mut Findings) -> Option<Duration> {
    const WHAT: &str = "a whole number with its unit, such as 500ms or 2s";
    let text = match place.value() {
        Value::Text(text) => text,
        Value::Integer(number) => {
            let message = format!("{}has no unit; must be {WHAT}", place.quote(number));
            findings.add(&place.origin(), message);
            return None;
        }
        _ => {
            place.expected(WHAT, findings);
            return None;
        }
    };
    let duration = parse_duration(text);
    if duration.is_none() {
        let quoted = place.quote(format_args!("`{text}`"));
        findings.add(
            &place.origin(),
            format!("{quoted}is not a time; must be {WHAT}"),
        );
    }
    duration
}

/// A time written as a whole number of `ms` or `s`, if it is one.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|letter: char| !letter.is_ascii_digit());
    let number = digits.parse().ok()?;
    match text[digits.len()..].trim() {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        _ => None,
    }
}

/// A time in `range`.
pub fn duration_in(
    place: &Place<'_>,
    range: RangeInclusive<Duration>,
    findings: &mut Findings,
) -> Option<Duration> {
    let time = duration(place, findings)?;
    if range.contains(&time) {
        return Some(time);
    }
    let written = |time: &Duration| match time {
        &Duration::ZERO => "0s".to_owned(),
        time => format!("{time:?}"),
    };
    let quoted = place.quote(written(&time));
    let (least, most) = (written(range.start()), written(range.end()));
    let message = format!("{quoted}is out of range; must be from {least} to {most}");
    findings.add(&place.origin(), message);
    None
}

/// A time in `range` in whole seconds.
pub fn seconds_in(
    place: &Place<'_>,
    range: RangeInclusive<Duration>,
    findings: &mut Findings,
) -> Option<Duration> {
    let time = duration_in(place, range, findings)?;
    if time.subsec_nanos() == 0 {
        return Some(time);
    }
    let quoted = place.quote(format_args!("{time:?}"));
    let message =
        format!("{quoted}is not whole seconds, which the kernel counts; write 1s or more");
    findings.add(&place.origin(), message);
    None
}

/// How long one of the things may take that start every `interval`: no longer.
pub fn timeout(
    place: &Place<'_>,
    interval: Option<Duration>,
    findings: &mut Findings,
) -> Option<Duration> {
    let timeout = duration(place, findings)?;
    let interval = interval?;
    if timeout.is_zero() {
        findings.add(
            &place.origin(),
            format!("must be from 1ms to the interval, {interval:?}"),
        );
        return None;
    }
    if timeout > interval {
        let message = format!(
            "{timeout:?} is longer than the interval, so that the next would start while one still \
             waits; must be at most {interval:?}"
        );
        findings.add(&place.origin(), message);
        return None;
    }
    Some(timeout)
}

/// How often in a row: 1 to 255.
pub fn count(place: &Place<'_>, findings: &mut Findings) -> Option<NonZeroU8> {
    NonZeroU8::new(u8::try_from(integer(place, 1..=255, findings)?).ok()?)
}

/// A port.
pub fn port(place: &Place<'_>, findings: &mut Findings) -> Option<NonZeroU16> {
    let number = integer(place, 1..=65535, findings)?;
    NonZeroU16::new(u16::try_from(number).ok()?)
}

/// The name of an interface, as the kernel allows it (`dev_valid_name`, `net/core/dev.c`).
pub fn interface(place: &Place<'_>, findings: &mut Findings) -> Option<String> {
    let text = text(place, "the name of an interface", findings)?;
    let allowed = |letter: char| letter.is_ascii_graphic() && !"/:".contains(letter);
    if (1..=15).contains(&text.len()) && text.chars().all(allowed) && !matches!(text, "." | "..") {
        return Some(text.to_owned());
    }
    let message = format!(
        "`{text}` is not the name of an interface; \
         must be 1 to 15 printable characters other than `/` and `:`"
    );
    findings.add(&place.origin(), message);
    None
}

/// A program by its absolute path, and its arguments.
pub fn command(place: &Place<'_>, findings: &mut Findings) -> Option<Vec<String>> {
    let what = "a list of a program and its arguments, such as [/usr/local/bin/check, eth0]";
    let words = filled_list(place, what, findings, |place, findings| {
        let word = text(place, "a text", findings)?;
        if word.contains('\0') {
            findings.add(&place.origin(), "has a zero byte, which no argument can");
            return None;
        }
        Some(place.located(word.to_owned()))
    })?;
    let program = words.first()?;
    if !program.value.starts_with('/') {
        let message = format!(
            "`{}` is not an absolute path; write the program with its whole path, since neither a \
             shell nor PATH is asked",
            program.value
        );
        findings.add(&program.origin, message);
        return None;
    }
    Some(words.into_iter().map(|word| word.value).collect())
}
