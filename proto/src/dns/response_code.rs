//! Response codes by the names that operators know them by.

use std::fmt;

/// The four bits in which a server says how it fared (RFC 1035, section 4.1.1).
///
/// Written by its mnemonic (IANA "DNS RCODEs"): `NOERROR`, `SERVFAIL`, `REFUSED`, or `RCODE11`
/// where none is assigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ResponseCode(u8);

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

    /// From the lower four bits of the header's fourth octet; the others are ignored.
    pub(super) fn from_bits(octet: u8) -> Self {
        Self(octet & 0x0f)
    }
}

impl fmt::Display for ResponseCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mnemonic = match self.0 {
            0 => "NOERROR",
            1 => "FORMERR",
            2 => "SERVFAIL",
            3 => "NXDOMAIN",
            4 => "NOTIMP",
            5 => "REFUSED",
            6 => "YXDOMAIN",
            7 => "YXRRSET",
            8 => "NXRRSET",
            9 => "NOTAUTH",
            10 => "NOTZONE",
            other => return write!(formatter, "RCODE{other}"),
        };
        formatter.write_str(mnemonic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_dig_says() {
        assert_eq!(ResponseCode::SERVER_FAILURE.to_string(), "SERVFAIL");
        assert_eq!(ResponseCode::from_bits(0x85), ResponseCode::REFUSED);
        assert_eq!(ResponseCode::from_bits(11).to_string(), "RCODE11");
    }
}
