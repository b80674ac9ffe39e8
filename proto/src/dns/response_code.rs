//! Response codes by the names that operators know them by.

use std::fmt;
use std::str::FromStr;

/// How a server says that it fared: four bits of the header (RFC 1035, section 4.1.1), and eight
/// more above them with EDNS (RFC 6891, section 6.1.3).
///
/// Written by its mnemonic (IANA "DNS RCODEs"): `NOERROR`, `SERVFAIL`, `REFUSED`, or `RCODE11`
/// where none is assigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResponseCode(u16);

/// The text is not a response code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown response code `{0}`; known are {known}", known = mnemonics())]
pub struct UnknownResponseCode(pub String);

const MNEMONICS: [(u16, &str); 14] = [
    (0, "NOERROR"),
    (1, "FORMERR"),
    (2, "SERVFAIL"),
    (3, "NXDOMAIN"),
    (4, "NOTIMP"),
    (5, "REFUSED"),
    (6, "YXDOMAIN"),
    (7, "YXRRSET"),
    (8, "NXRRSET"),
    (9, "NOTAUTH"),
    (10, "NOTZONE"),
    (11, "DSOTYPENI"),
    (16, "BADVERS"),
    (23, "BADCOOKIE"),
];

impl ResponseCode {
    /// The server found nothing wrong.
    pub const NO_ERROR: Self = Self(0);
    /// The server could not interpret the query.
    pub const FORMAT_ERROR: Self = Self(1);
    /// The server failed: a zone that expired or wasn't loaded, an upstream that doesn't answer.
    pub const SERVER_FAILURE: Self = Self(2);
    /// The name doesn't exist.
    pub const NAME_ERROR: Self = Self(3);
    /// The server doesn't do this kind of query.
    pub const NOT_IMPLEMENTED: Self = Self(4);
    /// The server doesn't serve this client or this zone.
    pub const REFUSED: Self = Self(5);
    /// The server wants its own cookie to be sent along (RFC 7873, section 5.2.3).
    pub const BAD_COOKIE: Self = Self(23);

    /// From the lower four bits of the header's fourth octet (the others are ignored), and the
    /// eight above them that EDNS has.
    pub(super) fn from_bits(octet: u8, extended: u8) -> Self {
        Self(u16::from(extended) << 4 | u16::from(octet & 0x0f))
    }
}

impl FromStr for ResponseCode {
    type Err = UnknownResponseCode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        MNEMONICS
            .into_iter()
            .find(|(_, mnemonic)| mnemonic.eq_ignore_ascii_case(text))
            .map(|(code, _)| Self(code))
            .ok_or_else(|| UnknownResponseCode(text.to_owned()))
    }
}

impl fmt::Display for ResponseCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match MNEMONICS.into_iter().find(|(code, _)| *code == self.0) {
            Some((_, mnemonic)) => formatter.write_str(mnemonic),
            None => write!(formatter, "RCODE{}", self.0),
        }
    }
}

fn mnemonics() -> String {
    MNEMONICS.map(|(_, mnemonic)| mnemonic).join(", ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn says_what_dig_says() {
        assert_eq!(ResponseCode::SERVER_FAILURE.to_string(), "SERVFAIL");
        assert_eq!(ResponseCode::from_bits(0x85, 0), ResponseCode::REFUSED);
        assert_eq!(ResponseCode::from_bits(7, 1), ResponseCode::BAD_COOKIE);
        assert_eq!(ResponseCode::from_bits(12, 0).to_string(), "RCODE12");
    }

    #[test]
    fn is_read_by_its_mnemonic() {
        assert_eq!("servfail".parse(), Ok(ResponseCode::SERVER_FAILURE));
        let error = "OK".parse::<ResponseCode>().unwrap_err().to_string();
        assert!(
            error.contains("`OK`") && error.contains("NOERROR, FORMERR"),
            "{error}"
        );
    }
}
