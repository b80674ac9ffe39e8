//! Plain documents, read straight from the parser's events.
//!
//! Nearly every file is plain: words for keys, no anchors, tags or merge keys, and numbers as people
//! write them. Such a tree takes a third of what the deserializer takes, which is ready for all the rest
//! of YAML at every node. What isn't plain is left to it, and so is what is wrong, for it has the words.

use std::borrow::Cow;

use serde_yaml::Budget;
use serde_yaml::granit_parser::{Event, Parser, ScalarStyle, Span};

use super::{MAXIMUM_DEPTH, Node, Position, Value, position};

/// The tree of a plain document; nothing of any other.
pub(super) fn read(text: &str) -> Option<Node<'_>> {
    let most = Budget::default().max_nodes;
    let mut documents = 0;
    let mut nodes = 0;
    let mut open: Vec<Collection<'_>> = Vec::new();
    let mut root = None;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.ok()?;
        let node = match event {
            Event::StreamStart | Event::DocumentEnd | Event::StreamEnd => continue,
            Event::DocumentStart(_, None) if documents == 0 => {
                documents += 1;
                continue;
            }
            Event::SequenceStart(_, 0, None) => {
                open.push(Collection::new(&span, Contents::List(Vec::new())));
                nodes += 1;
                if open.len() >= MAXIMUM_DEPTH {
                    return None;
                }
                continue;
            }
            Event::MappingStart(_, 0, None) => {
                let contents = Contents::Mapping {
                    entries: Vec::new(),
                    key: None,
                };
                open.push(Collection::new(&span, contents));
                nodes += 1;
                if open.len() >= MAXIMUM_DEPTH {
                    return None;
                }
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => open.pop()?.close()?,
            Event::Scalar(text, style, 0, None) => {
                nodes += 1;
                Node {
                    position: place(&span),
                    value: scalar(text, style)?,
                }
            }
            _ => return None,
        };
        if nodes >= most {
            return None;
        }
        match open.last_mut() {
            Some(collection) => collection.add(node)?,
            None => root = Some(node),
        }
    }
    root
}

/// A list or a mapping whose end has yet to come.
struct Collection<'t> {
    position: Position,
    contents: Contents<'t>,
}

enum Contents<'t> {
    List(Vec<Node<'t>>),
    Mapping {
        entries: Vec<(Node<'t>, Node<'t>)>,
        /// What the next value is of.
        key: Option<Node<'t>>,
    },
}

impl<'t> Collection<'t> {
    fn new(span: &Span, contents: Contents<'t>) -> Self {
        Self {
            position: place(span),
            contents,
        }
    }

    fn add(&mut self, node: Node<'t>) -> Option<()> {
        match &mut self.contents {
            Contents::List(items) => items.push(node),
            Contents::Mapping { entries, key } => match key.take() {
                Some(key) => entries.push((key, node)),
                None if matches!(&node.value, Value::Text(text) if text != "<<") => {
                    *key = Some(node);
                }
                None => return None,
            },
        }
        Some(())
    }

    fn close(self) -> Option<Node<'t>> {
        let value = match self.contents {
            Contents::List(items) => Value::List(items),
            Contents::Mapping { entries, key: None } => Value::Mapping(entries),
            Contents::Mapping { key: Some(_), .. } => return None,
        };
        Some(Node {
            position: self.position,
            value,
        })
    }
}

fn place(span: &Span) -> Position {
    position(span.start.line() as u64, span.start.col() as u64 + 1)
}

fn scalar(text: Cow<'_, str>, style: ScalarStyle) -> Option<Value<'_>> {
    if style != ScalarStyle::Plain {
        return Some(Value::Text(text));
    }
    let is = |word: &str| text.eq_ignore_ascii_case(word);
    match text.as_bytes() {
        [] | [b'~'] => Some(Value::Empty),
        [b'n' | b'N', _, _, _] if is("null") => Some(Value::Empty),
        [b't' | b'T', _, _, _] if is("true") => Some(Value::Boolean(true)),
        [b'f' | b'F', _, _, _, _] if is("false") => Some(Value::Boolean(false)),
        [b'.', ..] | [b'+' | b'-', b'.', ..] | [b'+', b'0'..=b'9', ..] => None,
        [b'0'..=b'9', ..] => number_or_text(0, text),
        [b'-', b'0'..=b'9', ..] => number_or_text(1, text),
        _ => Some(Value::Text(text)),
    }
}

/// Of a text whose first digit is at `start`.
fn number_or_text(start: usize, text: Cow<'_, str>) -> Option<Value<'_>> {
    let digits = &text.as_bytes()[start..];
    if digits.iter().all(u8::is_ascii_digit) {
        let plain = digits[0] != b'0' || digits.len() == 1;
        let number = if start == 0 {
            text.parse::<u64>().map(i128::from)
        } else {
            text.parse::<i64>().map(i128::from)
        };
        return number.ok().filter(|_| plain).map(Value::Integer);
    }
    // Octal, hexadecimal, in groups, not whole.
    let odd = matches!(digits, [b'0', b'x' | b'X' | b'o' | b'O' | b'b' | b'B', ..])
        || digits.contains(&b'_')
        || text.parse::<f64>().is_ok();
    (!odd).then_some(Value::Text(text))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::parse_with;
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;
    use serde_yaml::options::DuplicateKeyPolicy;

    /// What the deserializer makes of it, if it takes it.
    fn deserialized(text: &str) -> Option<String> {
        let root = parse_with(text, DuplicateKeyPolicy::LastWins).ok()?;
        Some(written(&root))
    }

    fn written(node: &Node<'_>) -> String {
        let Position { line, column } = node.position;
        let value = match &node.value {
            Value::Empty => "empty".to_owned(),
            Value::Boolean(value) => value.to_string(),
            Value::Integer(value) => value.to_string(),
            Value::Fraction => "a fraction".to_owned(),
            Value::Text(text) => format!("{text:?}"),
            Value::List(items) => {
                let items: Vec<String> = items.iter().map(written).collect();
                format!("[{}]", items.join(", "))
            }
            Value::Mapping(entries) => {
                let entries = entries.iter();
                let entries: Vec<String> = entries
                    .map(|(key, value)| format!("{}: {}", written(key), written(value)))
                    .collect();
                format!("{{{}}}", entries.join(", "))
            }
        };
        format!("{value}@{line}:{column}")
    }

    const SCALARS: [&str; 62] = [
        "",
        "~",
        "null",
        "Null",
        "nul",
        "true",
        "TRUE",
        "True",
        "yes",
        "on",
        "false",
        "fALSE",
        "0",
        "1",
        "-1",
        "-0",
        "+1",
        "007",
        "-07",
        "00",
        "18446744073709551615",
        "18446744073709551616",
        "-9223372036854775808",
        "-9223372036854775809",
        "1_000",
        "0x1f",
        "0o17",
        "0b11",
        "-0x1f",
        "1.5",
        "-1.5",
        ".5",
        "-.5",
        "+.5",
        "1e3",
        "1e999",
        ".inf",
        "-.inf",
        ".nan",
        "inf",
        "-inf",
        "nan",
        "1.",
        "1e",
        "192.0.2.1",
        "192.0.2.8-192.0.2.11",
        "192.0.2.20-29",
        "2001:db8::1",
        "8000-8009",
        "500ms",
        "2s",
        "02:00:5e:00:01:32",
        "00-1",
        "- 1",
        "-x",
        "+x",
        "--1",
        "'1'",
        "\"null\"",
        "'<<'",
        "a b",
        "1 2",
    ];

    /// What documents are made of.
    const PARTS: [&str; 34] = [
        "a", "b", "c: ", "d:", "1", "-2", "0", ".", "~", "true", ": ", "- ", "-", "[", "]", "{",
        "}", ", ", "\n", "\n  ", "\n    ", "\n- ", "\r\n", "\t", " ", "# e", "'f g'", "\"h\"",
        "|\n  i\n", ">\n", "? ", "---\n", "...\n", "é",
    ];

    #[test]
    fn a_scalar_is_to_both_ways_of_reading_the_same() {
        let mut plain = 0;
        for scalar in SCALARS {
            for text in [
                format!("a: {scalar}\n"),
                format!("[{scalar}]"),
                format!("{scalar}: a\n"),
                format!("a: {scalar}\nb:\n  - {scalar}\n  - {{ c: {scalar} }}\n"),
            ] {
                let Some(root) = read(&text) else { continue };
                plain += 1;
                assert_eq!(Some(written(&root)), deserialized(&text), "{text}");
            }
        }
        assert!(plain > 100, "{plain}");
    }

    #[test]
    fn a_document_is_to_both_ways_of_reading_the_same() {
        for text in [
            "a: 1\na: 2\nb: [x, y]\n",
            "- a\n- - b\n  - c\n-\n- {}\n- []\n",
            "# words\n---\na:\n  b: 'c\n    d'\n  e: |\n    f\n     g\n  h: >-\n    i\n    j\n...\n",
            "{a: {b: {c: [d, {e: f}]}}, \"g h\": 'i'}\n",
            "a: b\r\nc:\r\n  - d\r\n",
            "\u{feff}a: é\nñ: [ö, ü]\n",
            "a word",
        ] {
            let root = read(text).unwrap_or_else(|| panic!("{text:?} isn't plain"));
            assert_eq!(Some(written(&root)), deserialized(text), "{text:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn whatever_is_read_as_plain_is_what_the_deserializer_reads(
            parts in vec(select(&PARTS[..]), 0..24),
        ) {
            let text = parts.concat();
            if let Some(root) = read(&text) {
                prop_assert_eq!(Some(written(&root)), deserialized(&text), "{:?}", text);
            }
        }
    }

    #[test]
    fn what_is_not_plain_or_wrong_is_left_to_the_deserializer() {
        let deep = "[".repeat(MAXIMUM_DEPTH) + &"]".repeat(MAXIMUM_DEPTH);
        for text in [
            "a: &x 1\nb: 2\n",
            "a: &x 1\nb: *x\n",
            "a: !!str 1\n",
            "a: !own b\n",
            "a: { <<: { b: 1 } }\n",
            "1: a\n",
            "? [a]\n: b\n",
            "a: 1\n---\nb: 2\n",
            "%YAML 1.2\n---\na: 1\n",
            "a: [1\n",
            "a: b: c\n",
            "",
            "# words\n",
            &deep,
        ] {
            assert!(read(text).is_none(), "{text:?}");
        }
    }
}
