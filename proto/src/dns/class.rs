//! The classes that a probe can ask for.

use std::fmt;
use std::str::FromStr;

use hickory_proto::rr::DNSClass;

/// A class of records (RFC 1035, section 3.2.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// The Internet.
    #[default]
    Internet,
    /// Chaos, in which servers say who they are: `id.server`, `version.bind` (RFC 4892).
    Chaos,
}

/// The text is not a class that a probe can ask for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown class `{0}`; known are IN and CH")]
pub struct UnknownClass(pub String);

impl Class {
    /// The mnemonic as zone files write it.
    pub fn mnemonic(self) -> &'static str {
        match self {
            Self::Internet => "IN",
            Self::Chaos => "CH",
        }
    }

    pub(super) fn as_wire(self) -> DNSClass {
        match self {
            Self::Internet => DNSClass::IN,
            Self::Chaos => DNSClass::CH,
        }
    }
}

impl FromStr for Class {
    type Err = UnknownClass;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Internet, Self::Chaos]
            .into_iter()
            .find(|class| class.mnemonic().eq_ignore_ascii_case(text))
            .ok_or_else(|| UnknownClass(text.to_owned()))
    }
}

impl fmt::Display for Class {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.mnemonic())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_read_as_it_is_written() {
        for class in [Class::Internet, Class::Chaos] {
            assert_eq!(class.to_string().to_lowercase().parse(), Ok(class));
        }
        assert_eq!("HS".parse::<Class>(), Err(UnknownClass("HS".to_owned())));
    }
}
