//! Reads nodes as the kinds of values that a configuration has; every reader reports what it
//! doesn't like and then gives `None`.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use super::document::{Node, Position, Value};
use super::error::{Findings, Located, Origin};
use super::nearest::nearest;

/// A node with the keys that lead to it.
#[derive(Clone)]
pub(super) struct Place<'n> {
    node: &'n Node,
    key: String,
    /// Nothing that stands here is quoted, neither values nor keys.
    secret: bool,
}

impl<'n> Place<'n> {
    pub(super) fn root(node: &'n Node) -> Self {
        Self {
            node,
            key: String::new(),
            secret: false,
        }
    }

    pub(super) fn value(&self) -> &'n Value {
        &self.node.value
    }

    pub(super) fn origin(&self) -> Origin {
        Origin::new(self.node.position, self.key.clone())
    }

    pub(super) fn located<T>(&self, value: T) -> Located<T> {
        Located {
            value,
            origin: self.origin(),
        }
    }

    /// The same place, of which no message quotes anything.
    pub(super) fn secret(self) -> Self {
        Self {
            secret: true,
            ..self
        }
    }

    pub(super) fn is_secret(&self) -> bool {
        self.secret
    }

    fn member(&self, key: &str, node: &'n Node) -> Self {
        Self {
            node,
            key: self.key_of(key),
            secret: self.secret,
        }
    }

    /// A key that isn't a word is left out too: `password:s3cr3t` is one to YAML.
    fn key_of(&self, key: &str) -> String {
        if self.secret || !is_word(key) {
            self.key.clone()
        } else if self.key.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.key)
        }
    }

    fn expected(&self, what: &str, findings: &mut Findings) {
        let kind = self.node.value.kind();
        findings.add(&self.origin(), format!("must be {what}, but is {kind}"));
    }
}

/// A mapping with known keys, or by node name.
pub(super) struct Mapping<'n> {
    origin: Origin,
    entries: BTreeMap<&'n str, Place<'n>>,
}

impl<'n> Mapping<'n> {
    /// A mapping whose keys are all among `known`. Unknown keys are reported and left out.
    pub(super) fn of_known_keys(
        place: &Place<'n>,
        known: &[&str],
        findings: &mut Findings,
    ) -> Option<Self> {
        let mut mapping = Self::of_any_keys(place, findings)?;
        mapping.entries.retain(|key, entry| {
            let is_known = known.contains(key);
            if !is_known {
                // The key's own place: it is the key that is wrong, not its value.
                let position = key_position(place.node, key).unwrap_or(entry.node.position);
                let origin = Origin::new(position, entry.key.clone());
                findings.add(&origin, unknown_key(key, known, place.secret));
            }
            is_known
        });
        Some(mapping)
    }

    /// A mapping whose keys are names of the user's choice.
    pub(super) fn of_any_keys(place: &Place<'n>, findings: &mut Findings) -> Option<Self> {
        let Value::Mapping(nodes) = &place.node.value else {
            place.expected("a mapping", findings);
            return None;
        };
        let mut entries = BTreeMap::<&str, Place<'n>>::new();
        for (key, value) in nodes {
            let Value::Text(text) = &key.value else {
                let kind = key.value.kind();
                let message = format!("a key must be a text, but is {kind}; write it in quotes");
                findings.add(&Origin::new(key.position, place.key.clone()), message);
                continue;
            };
            if entries.contains_key(text.as_str()) {
                let first = key_position(place.node, text).map_or(0, |position| position.line);
                let origin = Origin::new(key.position, place.key_of(text));
                findings.add(
                    &origin,
                    format!("is written twice, first in line {first}; keep one"),
                );
            } else {
                entries.insert(text, place.member(text, value));
            }
        }
        Some(Self {
            origin: place.origin(),
            entries,
        })
    }

    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (&'n str, &Place<'n>)> {
        self.entries.iter().map(|(key, place)| (*key, place))
    }

    pub(super) fn get(&self, key: &str) -> Option<&Place<'n>> {
        self.entries.get(key)
    }

    /// The value of a key that must be there, read by `read`. `right` says what to write.
    pub(super) fn required<T>(
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
    pub(super) fn optional<T>(
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

/// Where a key stands first.
fn key_position(node: &Node, key: &str) -> Option<Position> {
    let Value::Mapping(entries) = &node.value else {
        return None;
    };
    let (node, _) = entries
        .iter()
        .find(|(node, _)| matches!(&node.value, Value::Text(text) if text == key))?;
    Some(node.position)
}

fn unknown_key(key: &str, known: &[&str], secret: bool) -> String {
    let all = known.join(", ");
    match nearest(key, known) {
        Some(near) if !secret => format!("unknown key; did you mean `{near}`?"),
        _ => format!("unknown key; known here: {all}"),
    }
}

/// A list, item by item; items that `read` doesn't like are left out.
pub(super) fn list<'n, T>(
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
        let key = if place.secret {
            place.key.clone()
        } else {
            format!("{}[{index}]", place.key)
        };
        read(
            &Place {
                node,
                key,
                secret: place.secret,
            },
            findings,
        )
    };
    Some(nodes.iter().enumerate().filter_map(item).collect())
}

/// As [`list`], but one item that isn't liked spoils it, and an empty list isn't liked either.
pub(super) fn filled_list<'n, T>(
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

pub(super) fn boolean(place: &Place<'_>, findings: &mut Findings) -> Option<bool> {
    match place.value() {
        Value::Boolean(value) => Some(*value),
        _ => {
            place.expected("`true` or `false`", findings);
            None
        }
    }
}

/// A whole number in `range`.
pub(super) fn integer(
    place: &Place<'_>,
    range: RangeInclusive<u64>,
    findings: &mut Findings,
) -> Option<u64> {
    let what = format!("a whole number from {} to {}", range.start(), range.end());
    match place.value() {
        Value::Integer(value) => {
            let inside = u64::try_from(*value)
                .ok()
                .filter(|value| range.contains(value));
            if inside.is_none() {
                findings.add(
                    &place.origin(),
                    format!("{value} is out of range; must be {what}"),
                );
            }
            inside
        }
        Value::Text(text) if text.parse::<u64>().is_ok() => {
            let right = format!("must be {what}, but is a text; write it without quotes");
            findings.add(&place.origin(), right);
            None
        }
        _ => {
            place.expected(&what, findings);
            None
        }
    }
}

/// A text. `what` says which, with its article.
pub(super) fn text<'n>(place: &Place<'n>, what: &str, findings: &mut Findings) -> Option<&'n str> {
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
pub(super) fn word<T: Copy>(
    place: &Place<'_>,
    words: &[(&str, T)],
    findings: &mut Findings,
) -> Option<T> {
    let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    let what = match names.as_slice() {
        [one] => format!("`{one}`"),
        names => format!("one of {}", names.join(", ")),
    };
    let Value::Text(text) = place.value() else {
        place.expected(&what, findings);
        return None;
    };
    let found = words
        .iter()
        .find(|(word, _)| word == text)
        .map(|(_, value)| *value);
    if found.is_none() {
        findings.add(
            &place.origin(),
            format!("`{text}` is not known; must be {what}"),
        );
    }
    found
}

/// A text that its own type parses and whose error says what would be right.
pub(super) fn parsed<T>(place: &Place<'_>, what: &str, findings: &mut Findings) -> Option<T>
where
    T: FromStr,
    T::Err: std::fmt::Display,
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
pub(super) fn name(place: &Place<'_>, findings: &mut Findings) -> Option<String> {
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
pub(super) fn duration(place: &Place<'_>, findings: &mut Findings) -> Option<Duration> {
    const WHAT: &str = "a whole number with its unit, such as 500ms or 2s";
    let text = match place.value() {
        Value::Text(text) => text,
        Value::Integer(number) => {
            let message = format!("{number} has no unit; must be {WHAT}");
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
        findings.add(
            &place.origin(),
            format!("`{text}` is not a time; must be {WHAT}"),
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

/// An IPv4 address; `for_ipv6` is what is said of an IPv6 address.
pub(super) fn ipv4_address(
    place: &Place<'_>,
    for_ipv6: &str,
    findings: &mut Findings,
) -> Option<Ipv4Addr> {
    let text = text(place, "an IPv4 address", findings)?;
    let address = parse_ipv4(text, for_ipv6);
    address
        .map_err(|message| findings.add(&place.origin(), message))
        .ok()
}

/// As [`ipv4_address`], of a text.
pub(super) fn parse_ipv4(text: &str, for_ipv6: &str) -> Result<Ipv4Addr, String> {
    text.parse().map_err(|_| {
        if text.parse::<Ipv6Addr>().is_ok() {
            format!("`{text}` is an IPv6 address; {for_ipv6}")
        } else {
            format!("`{text}` is not an IPv4 address; write one such as 192.0.2.1")
        }
    })
}

/// Why no host can have the address, if so.
pub(super) fn why_not_a_host(address: Ipv4Addr) -> Option<&'static str> {
    if address.octets()[0] == 0 {
        Some("is unspecified")
    } else if address.is_multicast() {
        Some("is a multicast address")
    } else if address.is_broadcast() {
        Some("is the broadcast address")
    } else {
        None
    }
}

/// Why a service's address or a VIP can't be this one, if so.
pub(super) fn why_not_a_virtual_address(address: Ipv4Addr) -> Option<&'static str> {
    why_not_a_host(address).or_else(|| address.is_loopback().then_some("is a loopback address"))
}
