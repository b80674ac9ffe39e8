//! What an answer says, beside whether it's good enough.

use std::collections::BTreeSet;

use hickory_proto::rr::{Name as WireName, RData, RecordType as WireRecordType};

use super::message::{Header, Record, Sections};
use super::records::RecordData;
use super::{Class, Name, RecordType, ResponseCode};
use crate::health::serial;

/// Facts of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// How the server fared.
    pub response_code: ResponseCode,
    /// AA: the server is an authority for the name.
    pub authoritative: bool,
    /// RA: the server resolves names for us.
    pub recursion_available: bool,
    /// AD: the server has found the signatures good (RFC 4035, section 3.2.3).
    pub authentic_data: bool,
    /// TC: there is more, to be had over TCP.
    pub truncated: bool,
    /// How many different records of the asked type there are, aliases followed.
    pub records: usize,
    /// Their shortest time to live, in seconds.
    pub time_to_live: Option<u32>,
    /// The zone's serial number, of an SOA record.
    pub serial: Option<u32>,
    /// When the first of their signatures ends: seconds since 1970 modulo 2^32 (RFC 4034, section
    /// 3.1.5).
    pub signature_expiry: Option<u32>,
    /// When the last of them does.
    pub(super) last_signature_expiry: Option<u32>,
    /// Who the server says that it is (RFC 5001), if it was asked and says so.
    pub name_server_identifier: Option<Vec<u8>>,
}

/// Aliases followed at most; resolvers give up earlier (BIND after 11). Bounds the work that a
/// hostile answer can cause, and ends loops.
const LONGEST_CHAIN: usize = 16;

/// The records that answer a question.
pub(super) struct Answering<'m> {
    message: &'m [u8],
    records: Vec<&'m Record>,
    signatures: Vec<&'m Record>,
}

impl<'m> Answering<'m> {
    /// Those of the asked type, of the asked name or of the end of its chain of CNAMEs (RFC 1034,
    /// section 3.6.2), with the signatures over them.
    pub(super) fn find(
        message: &'m [u8],
        records: &'m [Record],
        (name, record_type, class): (&Name, RecordType, Class),
    ) -> Self {
        let asked = record_type.as_wire();
        let of_owner = |owner: &WireName| -> Vec<&'m Record> {
            let same = |record: &&Record| record.class == class.as_wire() && record.owner == *owner;
            records.iter().filter(same).collect()
        };
        let mut of_name = of_owner(name.as_wire());
        for _ in 0..LONGEST_CHAIN {
            if of_name.iter().any(|record| record.record_type == asked) {
                break;
            }
            match of_name.iter().find_map(|record| record.alias.as_ref()) {
                Some(alias) => of_name = of_owner(alias),
                None => break,
            }
        }
        let covers = |record: &Record| {
            record.record_type == WireRecordType::RRSIG
                && record
                    .octets(message)
                    .starts_with(&u16::from(asked).to_be_bytes())
        };
        Self {
            message,
            signatures: of_name
                .iter()
                .copied()
                .filter(|record| covers(record))
                .collect(),
            records: of_name
                .into_iter()
                .filter(|record| record.record_type == asked)
                .collect(),
        }
    }

    pub(super) fn facts(&self, header: &Header, response_code: ResponseCode) -> Answer {
        let expiries = || {
            self.signatures
                .iter()
                .filter_map(|it| expiry(it.octets(self.message)))
        };
        let (earlier, later) = (
            |one, other| {
                if serial::is_behind(other, one) {
                    other
                } else {
                    one
                }
            },
            |one, other| {
                if serial::is_behind(one, other) {
                    other
                } else {
                    one
                }
            },
        );
        Answer {
            response_code,
            authoritative: header.authoritative,
            recursion_available: header.recursion_available,
            authentic_data: header.authentic_data,
            truncated: header.truncated,
            records: self.distinct(),
            time_to_live: self.records.iter().map(|record| record.time_to_live).min(),
            serial: self.records.iter().find_map(|record| self.serial(record)),
            signature_expiry: expiries().reduce(earlier),
            last_signature_expiry: expiries().reduce(later),
            name_server_identifier: None,
        }
    }

    /// What the records say; `None` when one of them doesn't say what its type does.
    pub(super) fn data(&self) -> Option<BTreeSet<RecordData>> {
        let data = |record: &&Record| RecordData::of(record, self.message);
        self.records.iter().map(data).collect()
    }

    fn distinct(&self) -> usize {
        let octets = |record: &&'m Record| record.octets(self.message);
        self.records
            .iter()
            .map(octets)
            .collect::<BTreeSet<_>>()
            .len()
    }

    fn serial(&self, record: &Record) -> Option<u32> {
        if record.record_type != WireRecordType::SOA {
            return None;
        }
        match record.data(self.message)? {
            RData::SOA(authority) => Some(authority.serial),
            _ => None,
        }
    }
}

impl Answer {
    /// When the first signature ended, if all have.
    pub(super) fn signatures_ended(&self, time: u32) -> Option<u32> {
        let last = self.last_signature_expiry?;
        self.signature_expiry
            .filter(|_| serial::is_behind(last, time))
    }
}

impl Sections {
    /// The four bits of the header, and those above them that EDNS has.
    pub(super) fn response_code(&self, header: &Header) -> ResponseCode {
        let extended = self
            .edns
            .as_ref()
            .map_or(0, |edns| edns.extended_response_code);
        ResponseCode::from_bits(header.low, extended)
    }
}

/// Signature Expiration behind type, algorithm, labels and original TTL (RFC 4034, section 3.1).
fn expiry(signature: &[u8]) -> Option<u32> {
    let octets = signature.get(8..12)?.first_chunk()?;
    Some(u32::from_be_bytes(*octets))
}
