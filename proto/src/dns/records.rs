//! What records say, and what they should say.

use std::collections::BTreeSet;
use std::fmt::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::RData;

use super::message::Record;
use super::{Name, RecordType};
use crate::Pattern;

/// A record's data in presentation form (RFC 1035, section 5.1), written in one way.
///
/// Names have small letters and no last dot, addresses their shortest form, fields one space
/// between them. A TXT is its strings one after another, without quotes, as it was written, with
/// `\DDD` for octets that can't be printed. Types whose form isn't known here (DNSKEY) have that of
/// RFC 3597: `\# LENGTH HEXADECIMAL`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordData(String);

/// The text isn't the data of a record of the type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` isn't what {record_type} records say; write {right}")]
pub struct InvalidRecord {
    /// The text.
    pub text: String,
    /// Of which type it should be.
    pub record_type: RecordType,
    /// What would be right.
    pub right: &'static str,
}

/// What the records of the asked type must say.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Records {
    /// These, all of them, and no others.
    Exact(BTreeSet<RecordData>),
    /// At least one of these.
    AnyOf(BTreeSet<RecordData>),
    /// Every record is like this from its first letter to its last.
    Pattern(Pattern),
}

impl RecordData {
    /// From a text as a zone file or `dig +short` has it; a TXT may have quotes around it.
    ///
    /// # Errors
    /// When it can't be the data of a record of `record_type`.
    pub fn parse(record_type: RecordType, text: &str) -> Result<Self, InvalidRecord> {
        let canonical = match record_type {
            RecordType::Txt => text
                .strip_prefix('"')
                .and_then(|rest| rest.strip_suffix('"'))
                .unwrap_or(text)
                .to_owned(),
            _ => canonical(text),
        };
        let fields: Vec<&str> = canonical.split(' ').collect();
        let is_name = |text: &str| text.parse::<Name>().is_ok();
        let are_numbers = |texts: &[&str]| texts.iter().all(|text| text.parse::<u32>().is_ok());
        let (valid, right) = match record_type {
            RecordType::A => (
                canonical.parse::<Ipv4Addr>().is_ok(),
                "an IPv4 address, such as 192.0.2.1",
            ),
            RecordType::Aaaa => (
                canonical.parse::<Ipv6Addr>().is_ok(),
                "an IPv6 address, such as 2001:db8::1",
            ),
            RecordType::Cname | RecordType::Ns | RecordType::Ptr => (
                is_name(&canonical),
                "a domain name, such as ns1.example.org",
            ),
            RecordType::Mx => (
                matches!(fields[..], [preference, name] if are_numbers(&[preference]) && is_name(name)),
                "a preference and a name, such as 10 mail.example.org",
            ),
            RecordType::Srv => (
                matches!(fields[..], [a, b, c, name] if are_numbers(&[a, b, c]) && is_name(name)),
                "priority, weight, port and name, such as 0 5 443 www.example.org",
            ),
            RecordType::Soa => (
                matches!(fields[..], [a, b, ref numbers @ ..]
                    if is_name(a) && is_name(b) && numbers.len() == 5 && are_numbers(numbers)),
                "two names and five numbers, such as ns1.example.org hostmaster.example.org 1 \
                 3600 900 604800 300; a pattern can leave the serial open",
            ),
            _ => (!canonical.is_empty(), "what dig shows"),
        };
        if valid {
            Ok(Self(canonical))
        } else {
            Err(InvalidRecord {
                text: text.to_owned(),
                record_type,
                right,
            })
        }
    }

    /// `None` when the data aren't what the type has.
    pub(super) fn of(record: &Record, message: &[u8]) -> Option<Self> {
        let text = match record.data(message)? {
            RData::TXT(text) => printable(&text.txt_data.concat()),
            RData::Unknown { .. } if record.record_type == RecordType::Ds.as_wire() => {
                delegation_signer(record.octets(message))?
            }
            RData::Unknown { .. } => {
                let octets = record.octets(message);
                canonical(&format!("\\# {} {}", octets.len(), hexadecimal(octets)))
            }
            data => canonical(&data.to_string()),
        };
        Some(Self(text))
    }
}

impl fmt::Display for RecordData {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Records {
    /// Whether `found` is as expected.
    pub(super) fn accept(&self, found: &BTreeSet<RecordData>) -> bool {
        match self {
            Self::Exact(expected) => expected == found,
            Self::AnyOf(expected) => !expected.is_disjoint(found),
            Self::Pattern(pattern) => found.iter().all(|data| pattern.is_all_of(&data.0)),
        }
    }
}

fn canonical(text: &str) -> String {
    let fields: Vec<String> = text
        .split_whitespace()
        .map(|field| {
            if let Ok(address) = field.parse::<IpAddr>() {
                return address.to_string();
            }
            let name = field.strip_suffix('.').filter(|name| !name.is_empty());
            name.unwrap_or(field).to_ascii_lowercase()
        })
        .collect();
    fields.join(" ")
}

fn printable(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len());
    for octet in octets {
        match octet {
            b' '..=b'~' => text.push(char::from(*octet)),
            other => write!(text, "\\{other:03}").expect("a string takes all"),
        }
    }
    text
}

/// RFC 4034, section 5.3.
fn delegation_signer(octets: &[u8]) -> Option<String> {
    let ([tag0, tag1, algorithm, kind], digest) = octets.split_first_chunk()?;
    let tag = u16::from_be_bytes([*tag0, *tag1]);
    Some(format!("{tag} {algorithm} {kind} {}", hexadecimal(digest)))
}

fn hexadecimal(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |mut text, octet| {
        write!(text, "{octet:02x}").expect("a string takes all");
        text
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn data(record_type: RecordType, text: &str) -> RecordData {
        RecordData::parse(record_type, text).unwrap()
    }

    #[test]
    fn is_written_in_one_way() {
        for (record_type, one, other) in [
            (RecordType::Aaaa, "2001:DB8:0::1", "2001:db8::1"),
            (RecordType::Ns, "NS1.Example.org.", "ns1.example.org"),
            (
                RecordType::Mx,
                "10   mail.example.org.",
                "10 Mail.Example.org",
            ),
            (RecordType::Mx, "0 .", "0 ."),
            (RecordType::Txt, "\"v=spf1 -all\"", "v=spf1 -all"),
        ] {
            assert_eq!(data(record_type, one), data(record_type, other));
        }
        assert_ne!(data(RecordType::Txt, "a"), data(RecordType::Txt, "A"));
    }

    #[test]
    fn what_no_record_says_is_refused_with_an_example() {
        for (record_type, text, right) in [
            (RecordType::A, "2001:db8::1", "192.0.2.1"),
            (RecordType::A, "192.0.2.256", "192.0.2.1"),
            (RecordType::Aaaa, "192.0.2.1", "2001:db8::1"),
            (RecordType::Cname, "a..b", "ns1.example.org"),
            (RecordType::Mx, "mail.example.org", "10 mail.example.org"),
            (
                RecordType::Srv,
                "0 5 www.example.org",
                "0 5 443 www.example.org",
            ),
            (
                RecordType::Soa,
                "a b 1 2 3 4",
                "a pattern can leave the serial open",
            ),
            (RecordType::Caa, "", "what dig shows"),
        ] {
            let error = RecordData::parse(record_type, text)
                .unwrap_err()
                .to_string();
            assert!(
                error.contains(&format!("`{text}`")) && error.contains(right),
                "{error}"
            );
        }
    }

    #[test]
    fn all_of_them_one_of_them_or_each_like_a_pattern() {
        let set = |texts: &[&str]| -> BTreeSet<RecordData> {
            texts.iter().map(|text| data(RecordType::A, text)).collect()
        };
        let exact = Records::Exact(set(&["192.0.2.1", "192.0.2.2"]));
        let any_of = Records::AnyOf(set(&["192.0.2.1", "192.0.2.2"]));
        let pattern = Records::Pattern(r"192\.0\.2\.\d".parse().unwrap());
        for (found, by_exact, by_any_of, by_pattern) in [
            (&["192.0.2.2", "192.0.2.1"][..], true, true, true),
            (&["192.0.2.1"], false, true, true),
            (&["192.0.2.1", "192.0.2.2", "192.0.2.3"], false, true, true),
            (&["192.0.2.1", "198.51.100.1"], false, true, false),
            (&["192.0.2.3"], false, false, true),
            (&["192.0.2.30"], false, false, false),
        ] {
            let found = set(found);
            assert_eq!(exact.accept(&found), by_exact, "{found:?}");
            assert_eq!(any_of.accept(&found), by_any_of, "{found:?}");
            assert_eq!(pattern.accept(&found), by_pattern, "{found:?}");
        }
    }

    #[test]
    fn octets_that_can_not_be_printed_are_numbers() {
        assert_eq!(printable(b"a\x00\xff b"), "a\\000\\255 b");
        assert_eq!(
            delegation_signer(&[0xec, 0x45, 5, 1, 0x2b, 0xb1]).unwrap(),
            "60485 5 1 2bb1"
        );
        assert_eq!(delegation_signer(&[0xec, 0x45, 5]), None);
    }
}
