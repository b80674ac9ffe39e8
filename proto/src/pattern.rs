//! What a text has to look like.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use regex_lite::{Regex, RegexBuilder};

/// A regular expression in the syntax of the `regex` crate, without regard to case unless it says
/// `(?-i)`.
///
/// It is matched against what servers send, so no text may make it slow: `regex-lite` takes time in
/// proportion to the lengths of expression and text, whatever they are, and has no dependencies.
/// Two are equal that are written the same.
#[derive(Clone, Debug)]
pub struct Pattern {
    anywhere: Regex,
    whole: Regex,
}

/// The text isn't a regular expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` isn't a regular expression: {reason}")]
pub struct InvalidPattern {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Pattern {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        self.anywhere.as_str()
    }

    /// Whether some part of `text` is like it.
    pub fn is_in(&self, text: &str) -> bool {
        self.anywhere.is_match(text)
    }

    /// Whether `text` is like it from its first letter to its last.
    pub fn is_all_of(&self, text: &str) -> bool {
        self.whole.is_match(text)
    }
}

impl FromStr for Pattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let compile = |expression: &str| {
            RegexBuilder::new(expression)
                .case_insensitive(true)
                .build()
                .map_err(|error| InvalidPattern {
                    text: text.to_owned(),
                    reason: error.to_string(),
                })
        };
        // First as written, for `a)(b` becomes an expression between parentheses.
        let anywhere = compile(text)?;
        let whole = compile(&format!("\\A(?:{text})\\z"))?;
        Ok(Self { anywhere, whole })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Pattern {}

impl Hash for Pattern {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        text.parse().unwrap()
    }

    #[test]
    fn all_of_a_text_or_a_part() {
        let digits = pattern(r"192\.0\.2\.\d+|none");
        assert!(digits.is_all_of("192.0.2.17"));
        assert!(digits.is_all_of("NONE"));
        assert!(!digits.is_all_of("192.0.2.17 "));
        assert!(!digits.is_all_of("none of them"));
        assert!(digits.is_in("none of them"));
        assert!(!pattern("(?-i)none").is_in("NONE"));
    }

    #[test]
    fn what_is_no_expression_says_why() {
        for text in ["(", "a)(b", "[", "*"] {
            let error = text.parse::<Pattern>().unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("`{text}` isn't a regular expression: ")),
                "{error}"
            );
        }
    }

    #[test]
    fn is_itself_by_its_text() {
        assert_eq!(pattern("a+"), pattern("a+"));
        assert_ne!(pattern("a+"), pattern("aa*"));
    }
}
