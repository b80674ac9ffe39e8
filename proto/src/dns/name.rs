//! The name that a probe asks for.

use std::fmt;
use std::str::FromStr;

/// A fully qualified domain name in ASCII (RFC 1035, section 3.1).
///
/// Written with or without the last dot; the root is `.`. Two names that differ in the case of
/// letters only are equal (RFC 4343). Escapes (`\.`, `\032`) are not accepted: no name that is
/// worth probing needs them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(hickory_proto::rr::Name);

/// Why a text is not a [`Name`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Nothing is written.
    #[error("a domain name can't be empty; the root is written \".\"")]
    Empty,
    /// Letters outside ASCII.
    #[error("`{0}` isn't ASCII; write international names in their xn-- form")]
    NotAscii(String),
    /// A label is empty or too long, the name is too long, or it contains an escape.
    #[error("`{name}` isn't a domain name: {reason}")]
    Malformed {
        /// The text.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Name {
    /// Whether there is anything in it whose case can change.
    pub fn has_letters(&self) -> bool {
        self.0.iter().flatten().any(u8::is_ascii_alphabetic)
    }

    pub(super) fn as_wire(&self) -> &hickory_proto::rr::Name {
        &self.0
    }
}

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(InvalidName::Empty);
        }
        if !text.is_ascii() {
            return Err(InvalidName::NotAscii(text.to_owned()));
        }
        let malformed = |reason: String| InvalidName::Malformed {
            name: text.to_owned(),
            reason,
        };
        if text != "." && text.starts_with('.') || text.contains("..") {
            return Err(malformed("an empty label".to_owned()));
        }
        if text.contains('\\') {
            return Err(malformed("escapes are not accepted".to_owned()));
        }
        let mut name = hickory_proto::rr::Name::from_ascii(text)
            .map_err(|error| malformed(error.to_string()))?;
        name.set_fqdn(true);
        Ok(Self(name))
    }
}

impl fmt::Display for Name {
    /// Without the last dot, except for the root.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_ascii();
        match text.strip_suffix('.') {
            Some("") | None => formatter.write_str(&text),
            Some(relative) => formatter.write_str(relative),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_names() {
        for (text, shown) in [
            ("www.abc.local", "www.abc.local"),
            ("www.abc.local.", "www.abc.local"),
            ("WWW.abc.local", "WWW.abc.local"),
            ("_dns._udp.example.org", "_dns._udp.example.org"),
            (".", "."),
            ("local", "local"),
        ] {
            assert_eq!(text.parse::<Name>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn compares_without_case_and_last_dot() {
        assert_eq!(
            "www.abc.local".parse::<Name>().unwrap(),
            "WWW.Abc.local.".parse().unwrap()
        );
        assert_ne!(
            "www.abc.local".parse::<Name>().unwrap(),
            "abc.local".parse().unwrap()
        );
    }

    #[test]
    fn some_have_letters() {
        for (text, has) in [("www.abc.local", true), (".", false), ("1.0-0.127", false)] {
            assert_eq!(text.parse::<Name>().unwrap().has_letters(), has);
        }
    }

    #[test]
    fn refuses_what_is_no_name() {
        assert_eq!("".parse::<Name>(), Err(InvalidName::Empty));
        assert_eq!(
            "bücher.example".parse::<Name>(),
            Err(InvalidName::NotAscii("bücher.example".to_owned()))
        );
        let long_label = format!("{}.example", "a".repeat(64));
        let long_name = ["abcdefghi"; 26].join(".");
        for text in [
            "a..b",
            ".a",
            "..",
            "a b.example",
            "a\\.b",
            "a\\",
            &long_label,
            &long_name,
        ] {
            let error = text.parse::<Name>().unwrap_err();
            assert!(
                matches!(error, InvalidName::Malformed { .. }),
                "{text}: {error}"
            );
        }
    }
}
