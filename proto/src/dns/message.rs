//! A response, read as far as it can be.

use hickory_proto::rr::{DNSClass, Name as WireName, RData, RecordType as WireRecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, DecodeError, Restrict};

use super::query::{COOKIE, NSID, OPT};

/// ```text
///   0  1  2  3  4  5  6  7  8  9 10 11 12 13 14 15
/// +--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+
/// |                      ID                       |
/// |QR|   Opcode  |AA|TC|RD|RA| Z|AD|CD|   RCODE   |
/// |                    QDCOUNT                    |
/// |                    ANCOUNT                    |
/// |                    NSCOUNT                    |
/// |                    ARCOUNT                    |
/// +--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+
/// ```
/// RFC 1035, section 4.1.1; AD and CD: RFC 4035, section 3.
pub(super) struct Header {
    pub(super) identifier: u16,
    pub(super) is_response: bool,
    pub(super) opcode: u8,
    pub(super) authoritative: bool,
    pub(super) truncated: bool,
    pub(super) recursion_available: bool,
    pub(super) authentic_data: bool,
    /// The fourth octet, which has the lower bits of the response code.
    pub(super) low: u8,
    pub(super) questions: u16,
    pub(super) answers: u16,
    authorities: u16,
    additionals: u16,
}

impl Header {
    pub(super) const LENGTH: usize = 12;

    pub(super) fn read(message: &[u8]) -> Option<Self> {
        let [id0, id1, high, low, qd0, qd1, an0, an1, ns0, ns1, ar0, ar1] =
            *message.first_chunk::<{ Self::LENGTH }>()?;
        Some(Self {
            identifier: u16::from_be_bytes([id0, id1]),
            is_response: high & 0x80 != 0,
            opcode: high >> 3 & 0x0f,
            authoritative: high & 0x04 != 0,
            truncated: high & 0x02 != 0,
            recursion_available: low & 0x80 != 0,
            authentic_data: low & 0x20 != 0,
            low,
            questions: u16::from_be_bytes([qd0, qd1]),
            answers: u16::from_be_bytes([an0, an1]),
            authorities: u16::from_be_bytes([ns0, ns1]),
            additionals: u16::from_be_bytes([ar0, ar1]),
        })
    }
}

/// The sections behind the question.
pub(super) struct Sections {
    /// Of the answer section, those that could be read.
    pub(super) answers: Vec<Record>,
    /// Whether those are all.
    pub(super) whole: bool,
    /// EDNS, if the server uses it and all up to it could be read.
    pub(super) edns: Option<Edns>,
}

impl Sections {
    /// From `message`, whose question ends at `start`.
    pub(super) fn read(message: &[u8], header: &Header, start: usize) -> Self {
        let mut decoder = BinDecoder::new(message);
        if decoder.read_slice(start).is_err() {
            return Self {
                answers: Vec::new(),
                whole: false,
                edns: None,
            };
        }
        let mut answers = Vec::new();
        let mut whole = true;
        for _ in 0..header.answers {
            match Record::read(&mut decoder) {
                Ok(record) => answers.push(record),
                Err(_) => {
                    whole = false;
                    break;
                }
            }
        }
        let edns = if whole {
            Edns::find(&mut decoder, header)
        } else {
            None
        };
        Self {
            answers,
            whole,
            edns,
        }
    }
}

/// A record of the answer section; what it says is read when it's asked for.
pub(super) struct Record {
    pub(super) owner: WireName,
    pub(super) record_type: WireRecordType,
    pub(super) class: DNSClass,
    /// Seconds.
    pub(super) time_to_live: u32,
    /// Where its data are in the message.
    start: usize,
    length: usize,
    /// Whom a CNAME is an alias of.
    pub(super) alias: Option<WireName>,
}

impl Record {
    fn read(decoder: &mut BinDecoder<'_>) -> Result<Self, DecodeError> {
        let owner = WireName::read(decoder)?;
        let record_type = WireRecordType::read(decoder)?;
        let class = DNSClass::read(decoder)?;
        let time_to_live = decoder.read_u32()?.unverified(/* any number is one */);
        // One with the highest bit is none (RFC 2181, section 8).
        let time_to_live = if time_to_live >> 31 == 1 {
            0
        } else {
            time_to_live
        };
        let length = usize::from(decoder.read_u16()?.unverified(/* the slice below checks it */));
        let start = decoder.index();
        let alias = match record_type {
            WireRecordType::CNAME => Some(WireName::read(decoder)?),
            _ => None,
        };
        let unread = (start + length)
            .checked_sub(decoder.index())
            .ok_or(DecodeError::InsufficientBytes)?;
        decoder.read_slice(unread)?;
        Ok(Self {
            owner,
            record_type,
            class,
            time_to_live,
            start,
            length,
            alias,
        })
    }

    /// The octets of its data, in which names may point elsewhere in `message`.
    pub(super) fn octets<'m>(&self, message: &'m [u8]) -> &'m [u8] {
        message
            .get(self.start..self.start + self.length)
            .unwrap_or_default()
    }

    /// Its data, if they are what its type has.
    pub(super) fn data(&self, message: &[u8]) -> Option<RData> {
        let mut decoder = BinDecoder::new(message);
        decoder.read_slice(self.start).ok()?;
        let length = Restrict::new(u16::try_from(self.length).ok()?);
        let data = RData::read(&mut decoder, self.record_type, length).ok()?;
        (decoder.index() == self.start + self.length).then_some(data)
    }
}

/// What of EDNS a server answered (RFC 6891, section 6.1.2).
#[derive(Default)]
pub(super) struct Edns {
    /// Above the four bits of the header.
    pub(super) extended_response_code: u8,
    /// Who the server says that it is (RFC 5001).
    pub(super) name_server_identifier: Option<Vec<u8>>,
    /// Our cookie and the server's (RFC 7873, section 4.2).
    pub(super) cookies: Option<Vec<u8>>,
}

impl Edns {
    /// Behind the answer section, at which `decoder` stands.
    fn find(decoder: &mut BinDecoder<'_>, header: &Header) -> Option<Self> {
        for _ in 0..u32::from(header.authorities) + u32::from(header.additionals) {
            WireName::read(decoder).ok()?;
            let record_type = decoder.read_u16().ok()?.unverified(/* compared only */);
            let _payload_size = decoder.read_u16().ok()?;
            let time_to_live = decoder.read_u32().ok()?.unverified(/* any number is one */);
            let length =
                usize::from(decoder.read_u16().ok()?.unverified(/* the slice checks it */));
            let data = decoder.read_slice(length).ok()?.unverified(/* read with checks */);
            if record_type == OPT {
                let [extended_response_code, ..] = time_to_live.to_be_bytes();
                return Some(Self::with_options(extended_response_code, data));
            }
        }
        None
    }

    /// Options as far as they can be read, of each kind the first.
    fn with_options(extended_response_code: u8, mut options: &[u8]) -> Self {
        let mut edns = Self {
            extended_response_code,
            ..Self::default()
        };
        while let Some(([code0, code1, length0, length1], rest)) = options.split_first_chunk() {
            let length = usize::from(u16::from_be_bytes([*length0, *length1]));
            let Some((value, rest)) = rest.split_at_checked(length) else {
                break;
            };
            let kept = match u16::from_be_bytes([*code0, *code1]) {
                NSID => Some(&mut edns.name_server_identifier),
                COOKIE => Some(&mut edns.cookies),
                _ => None,
            };
            if let Some(kept) = kept {
                kept.get_or_insert_with(|| value.to_vec());
            }
            options = rest;
        }
        edns
    }
}
