//! The record types that a probe can ask for.

use std::fmt;
use std::str::FromStr;

/// A record type that a server answers a plain query with (IANA "DNS Resource Record Types").
///
/// Read and written by its mnemonic; small letters are accepted. Query-only types such as `ANY`
/// and `AXFR` have no place in a probe and are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordType {
    /// IPv4 address (RFC 1035).
    A,
    /// IPv6 address (RFC 3596).
    Aaaa,
    /// Certification authority authorization (RFC 8659).
    Caa,
    /// Canonical name (RFC 1035).
    Cname,
    /// DNSSEC key (RFC 4034).
    Dnskey,
    /// Delegation signer (RFC 4034).
    Ds,
    /// Service binding for HTTPS (RFC 9460).
    Https,
    /// Mail exchange (RFC 1035).
    Mx,
    /// Naming authority pointer (RFC 3403).
    Naptr,
    /// Name server (RFC 1035).
    Ns,
    /// Pointer (RFC 1035).
    Ptr,
    /// Start of authority (RFC 1035).
    Soa,
    /// Service location (RFC 2782).
    Srv,
    /// Service binding (RFC 9460).
    Svcb,
    /// TLS certificate association (RFC 6698).
    Tlsa,
    /// Text (RFC 1035).
    Txt,
}

/// The text is not a record type that a probe can ask for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown record type `{0}`; known are {known}", known = mnemonics())]
pub struct UnknownRecordType(pub String);

impl RecordType {
    /// All types, by mnemonic.
    pub const ALL: [Self; 16] = [
        Self::A,
        Self::Aaaa,
        Self::Caa,
        Self::Cname,
        Self::Dnskey,
        Self::Ds,
        Self::Https,
        Self::Mx,
        Self::Naptr,
        Self::Ns,
        Self::Ptr,
        Self::Soa,
        Self::Srv,
        Self::Svcb,
        Self::Tlsa,
        Self::Txt,
    ];

    /// The mnemonic as zone files write it.
    pub fn mnemonic(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Caa => "CAA",
            Self::Cname => "CNAME",
            Self::Dnskey => "DNSKEY",
            Self::Ds => "DS",
            Self::Https => "HTTPS",
            Self::Mx => "MX",
            Self::Naptr => "NAPTR",
            Self::Ns => "NS",
            Self::Ptr => "PTR",
            Self::Soa => "SOA",
            Self::Srv => "SRV",
            Self::Svcb => "SVCB",
            Self::Tlsa => "TLSA",
            Self::Txt => "TXT",
        }
    }

    pub(super) fn as_wire(self) -> hickory_proto::rr::RecordType {
        use hickory_proto::rr::RecordType as Wire;
        match self {
            Self::A => Wire::A,
            Self::Aaaa => Wire::AAAA,
            Self::Caa => Wire::CAA,
            Self::Cname => Wire::CNAME,
            Self::Dnskey => Wire::DNSKEY,
            Self::Ds => Wire::DS,
            Self::Https => Wire::HTTPS,
            Self::Mx => Wire::MX,
            Self::Naptr => Wire::NAPTR,
            Self::Ns => Wire::NS,
            Self::Ptr => Wire::PTR,
            Self::Soa => Wire::SOA,
            Self::Srv => Wire::SRV,
            Self::Svcb => Wire::SVCB,
            Self::Tlsa => Wire::TLSA,
            Self::Txt => Wire::TXT,
        }
    }
}

impl FromStr for RecordType {
    type Err = UnknownRecordType;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.mnemonic().eq_ignore_ascii_case(text))
            .ok_or_else(|| UnknownRecordType(text.to_owned()))
    }
}

impl fmt::Display for RecordType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.mnemonic())
    }
}

fn mnemonics() -> String {
    RecordType::ALL.map(RecordType::mnemonic).join(", ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_read_back_and_has_its_number() {
        for kind in RecordType::ALL {
            assert_eq!(kind.mnemonic().parse(), Ok(kind));
            assert_eq!(kind.mnemonic().to_lowercase().parse(), Ok(kind));
            assert_eq!(kind.as_wire().to_string(), kind.mnemonic());
        }
    }

    #[test]
    fn an_unknown_type_is_answered_with_the_known_ones() {
        let error = "ANY".parse::<RecordType>().unwrap_err().to_string();
        assert!(
            error.starts_with("unknown record type `ANY`; known are A, AAAA, "),
            "{error}"
        );
    }
}
