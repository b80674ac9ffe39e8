//! One question, and what an answer to it says about the server.

use std::fmt;

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{DNSClass, Name as WireName, RecordType as WireRecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, DecodeError};

use super::{Name, RecordType, ResponseCode};

/// A question that a healthy server answers with at least one record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Probe {
    /// The name asked for.
    pub name: Name,
    /// The type asked for; the class is IN.
    pub record_type: RecordType,
    /// Whether the server is asked to resolve the name for us (RD): yes for a resolver, no for an
    /// authoritative server.
    pub recursion_desired: bool,
}

/// What a datagram, or a message on a stream, says about the server that was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Not the answer to this query: a late or forged one. Wait on until the deadline.
    Ignore(Mismatch),
    /// The server answers.
    Pass,
    /// The server answers, and not well.
    Fail(Fault),
}

/// Why a message is not the answer to the query (RFC 5452, section 9.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Mismatch {
    /// Shorter than a header.
    #[error("shorter than a DNS header")]
    TooShort,
    /// Another identifier.
    #[error("another identifier")]
    Identifier,
    /// A query, not a response.
    #[error("not a response")]
    NotAResponse,
    /// Another kind of query.
    #[error("another opcode")]
    Opcode,
    /// Not exactly one question (RFC 9619), an unreadable one, or another one.
    #[error("another question")]
    Question,
}

/// What is wrong with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The server says that it failed.
    ResponseCode(ResponseCode),
    /// No record of the asked type for the asked name, aliases followed.
    NoRecord(RecordType),
    /// The answer section ends early or its names can't be read.
    Malformed,
}

/// Aliases followed at most; resolvers give up earlier (BIND after 11). Bounds the work that a
/// hostile answer can cause, and ends loops.
const LONGEST_CHAIN: usize = 16;

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ResponseCode(code) => code.fmt(formatter),
            Self::NoRecord(record_type) => {
                write!(formatter, "no {record_type} record in the answer")
            }
            Self::Malformed => formatter.write_str("malformed answer"),
        }
    }
}

impl Probe {
    /// The query under an identifier, without the length that TCP wants ([`super::frame`]).
    ///
    /// The identifier should be fresh and unpredictable for each query (RFC 5452, section 9.2).
    pub fn query(&self, identifier: u16) -> Vec<u8> {
        let mut message = Message::new(identifier, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = self.recursion_desired;
        message.add_query(Query::query(
            self.name.as_wire().clone(),
            self.record_type.as_wire(),
        ));
        message
            .to_vec()
            .expect("a header and one question with a valid name can be encoded")
    }

    /// Judges what came back on the connected socket that the query was sent from.
    ///
    /// The header and the question decide whether it is the answer; an answer without its question
    /// is ignored, because only the identifier would tell it from a forged one. Then the response
    /// code decides, so that an error with an unreadable rest keeps its name. A truncated answer
    /// passes: a server that says so is alive, and its records are to be had over TCP. Otherwise
    /// the answer section must hold the asked record, for the asked name or for the end of its
    /// chain of CNAMEs (RFC 1034, section 3.6.2). Records behind the ones needed are not looked
    /// at, and neither are record contents: a server is not taken out for a record type that
    /// this program can't read.
    pub fn judge(&self, identifier: u16, response: &[u8]) -> Judgement {
        let Some(header) = Header::read(response) else {
            return Judgement::Ignore(Mismatch::TooShort);
        };
        if let Some(mismatch) = header.mismatch(identifier) {
            return Judgement::Ignore(mismatch);
        }
        let mut decoder = BinDecoder::new(response);
        if !self.is_asked_in(&mut decoder) {
            return Judgement::Ignore(Mismatch::Question);
        }
        if header.response_code != ResponseCode::NO_ERROR {
            return Judgement::Fail(Fault::ResponseCode(header.response_code));
        }
        if header.truncated {
            return Judgement::Pass;
        }
        let (records, whole) = Record::read_all(&mut decoder, header.answers);
        match (self.is_answered_by(&records), whole) {
            (true, _) => Judgement::Pass,
            (false, true) => Judgement::Fail(Fault::NoRecord(self.record_type)),
            (false, false) => Judgement::Fail(Fault::Malformed),
        }
    }

    /// Reads past the header and the question.
    fn is_asked_in(&self, decoder: &mut BinDecoder<'_>) -> bool {
        decoder.read_slice(Header::LENGTH).is_ok()
            && Query::read(decoder).is_ok_and(|question| {
                question.name() == self.name.as_wire()
                    && question.query_type() == self.record_type.as_wire()
                    && question.query_class() == DNSClass::IN
            })
    }

    fn is_answered_by(&self, records: &[Record]) -> bool {
        let asked = self.record_type.as_wire();
        let mut owner = self.name.as_wire();
        for _ in 0..=LONGEST_CHAIN {
            let mut of_owner = records.iter().filter(|record| record.owner == *owner);
            if of_owner.clone().any(|record| record.record_type == asked) {
                return true;
            }
            match of_owner.find_map(|record| record.alias.as_ref()) {
                Some(alias) => owner = alias,
                None => return false,
            }
        }
        false
    }
}

/// ```text
///   0  1  2  3  4  5  6  7  8  9 10 11 12 13 14 15
/// +--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+
/// |                      ID                       |
/// |QR|   Opcode  |AA|TC|RD|RA|   Z    |   RCODE   |
/// |                    QDCOUNT                    |
/// |                    ANCOUNT                    |
/// |                    NSCOUNT                    |
/// |                    ARCOUNT                    |
/// +--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+
/// ```
struct Header {
    identifier: u16,
    is_response: bool,
    opcode: u8,
    truncated: bool,
    response_code: ResponseCode,
    questions: u16,
    answers: u16,
}

impl Header {
    const LENGTH: usize = 12;

    fn read(message: &[u8]) -> Option<Self> {
        let [id0, id1, high, low, qd0, qd1, an0, an1, ..] =
            *message.first_chunk::<{ Self::LENGTH }>()?;
        Some(Self {
            identifier: u16::from_be_bytes([id0, id1]),
            is_response: high & 0x80 != 0,
            opcode: high >> 3 & 0x0f,
            truncated: high & 0x02 != 0,
            response_code: ResponseCode::from_bits(low),
            questions: u16::from_be_bytes([qd0, qd1]),
            answers: u16::from_be_bytes([an0, an1]),
        })
    }

    fn mismatch(&self, identifier: u16) -> Option<Mismatch> {
        if self.identifier != identifier {
            Some(Mismatch::Identifier)
        } else if !self.is_response {
            Some(Mismatch::NotAResponse)
        } else if self.opcode != u8::from(OpCode::Query) {
            Some(Mismatch::Opcode)
        } else if self.questions != 1 {
            Some(Mismatch::Question)
        } else {
            None
        }
    }
}

/// A record of class IN without its contents, except where those name another owner.
struct Record {
    owner: WireName,
    record_type: WireRecordType,
    alias: Option<WireName>,
}

impl Record {
    /// The readable records, and whether that is all of them.
    fn read_all(decoder: &mut BinDecoder<'_>, count: u16) -> (Vec<Self>, bool) {
        let mut records = Vec::new();
        for _ in 0..count {
            match Self::read(decoder) {
                Ok(Some(record)) => records.push(record),
                Ok(None) => {}
                Err(_) => return (records, false),
            }
        }
        (records, true)
    }

    /// `None` for a record of another class.
    fn read(decoder: &mut BinDecoder<'_>) -> Result<Option<Self>, DecodeError> {
        let owner = WireName::read(decoder)?;
        let record_type = WireRecordType::read(decoder)?;
        let class = DNSClass::read(decoder)?;
        let _time_to_live = decoder.read_u32()?;
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
        Ok((class == DNSClass::IN).then_some(Self {
            owner,
            record_type,
            alias,
        }))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::Ipv4Addr;

    use hickory_proto::op::ResponseCode as WireResponseCode;
    use hickory_proto::rr::rdata::{A, CNAME};
    use hickory_proto::rr::{RData, Record as WireRecord};
    use proptest::prelude::*;

    use super::*;

    const IDENTIFIER: u16 = 0xbeef;

    fn probe() -> Probe {
        Probe {
            name: "www.abc.local".parse().unwrap(),
            record_type: RecordType::A,
            recursion_desired: true,
        }
    }

    fn wire(name: &str) -> WireName {
        name.parse::<Name>().unwrap().as_wire().clone()
    }

    fn address(owner: &str) -> WireRecord {
        WireRecord::from_rdata(wire(owner), 60, RData::A(A(Ipv4Addr::new(1, 2, 3, 4))))
    }

    fn alias(owner: &str, target: &str) -> WireRecord {
        WireRecord::from_rdata(wire(owner), 60, RData::CNAME(CNAME(wire(target))))
    }

    fn response(records: impl IntoIterator<Item = WireRecord>) -> Message {
        let mut message = Message::from_vec(&probe().query(IDENTIFIER))
            .unwrap()
            .into_response();
        message.metadata.response_code = WireResponseCode::NoError;
        message.add_answers(records);
        message
    }

    fn judge(message: &Message) -> Judgement {
        probe().judge(IDENTIFIER, &message.to_vec().unwrap())
    }

    #[test]
    fn the_query_is_these_octets() {
        let query = probe().query(IDENTIFIER);
        assert_eq!(
            query,
            b"\xbe\xef\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x03abc\x05local\x00\x00\x01\x00\x01"
        );
        let authoritative = Probe {
            recursion_desired: false,
            ..probe()
        };
        assert_eq!(authoritative.query(IDENTIFIER)[2], 0);
    }

    #[test]
    fn the_longest_name_can_be_asked_for() {
        let label = "a".repeat(63);
        let name = format!("{label}.{label}.{label}.{}", "a".repeat(61));
        let probe = Probe {
            name: name.parse().unwrap(),
            ..probe()
        };
        assert_eq!(probe.query(1).len(), 12 + 255 + 4);
        assert!(format!("{name}a").parse::<Name>().is_err());
    }

    #[test]
    fn a_record_of_the_asked_type_passes() {
        assert_eq!(
            judge(&response([address("www.abc.local")])),
            Judgement::Pass
        );
        assert_eq!(
            judge(&response([address("WWW.abc.LOCAL")])),
            Judgement::Pass
        );
    }

    #[test]
    fn aliases_are_followed_in_any_order() {
        let chain = [
            address("host.example"),
            alias("www.example", "host.example"),
            alias("www.abc.local", "www.example"),
        ];
        assert_eq!(judge(&response(chain)), Judgement::Pass);
    }

    #[test]
    fn an_answer_without_the_asked_record_fails() {
        let none = Judgement::Fail(Fault::NoRecord(RecordType::A));
        for records in [
            vec![],
            vec![address("other.abc.local")],
            vec![alias("www.abc.local", "www.example")],
            vec![
                alias("www.abc.local", "www.example"),
                address("host.example"),
            ],
            vec![
                alias("www.abc.local", "b.example"),
                alias("b.example", "www.abc.local"),
            ],
        ] {
            assert_eq!(judge(&response(records)), none);
        }
        let mut chaos = address("www.abc.local");
        chaos.dns_class = DNSClass::CH;
        assert_eq!(judge(&response([chaos])), none);
    }

    #[test]
    fn an_error_fails_by_its_name_whatever_follows_the_question() {
        for (code, name) in [
            (WireResponseCode::ServFail, "SERVFAIL"),
            (WireResponseCode::Refused, "REFUSED"),
            (WireResponseCode::NXDomain, "NXDOMAIN"),
        ] {
            let mut message = response([address("www.abc.local")]);
            message.metadata.response_code = code;
            let mut octets = message.to_vec().unwrap();
            octets.truncate(octets.len() - 3);
            match probe().judge(IDENTIFIER, &octets) {
                Judgement::Fail(fault) => assert_eq!(fault.to_string(), name),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(
            Fault::NoRecord(RecordType::A).to_string(),
            "no A record in the answer"
        );
    }

    #[test]
    fn a_truncated_answer_is_a_sign_of_life() {
        let mut message = response([]);
        message.metadata.truncation = true;
        assert_eq!(judge(&message), Judgement::Pass);
        message.metadata.response_code = WireResponseCode::ServFail;
        assert_eq!(
            judge(&message),
            Judgement::Fail(Fault::ResponseCode(ResponseCode::SERVER_FAILURE))
        );
    }

    #[test]
    fn an_answer_cut_short_fails_unless_the_record_was_read() {
        let first = response([address("www.abc.local")]).to_vec().unwrap();
        let octets = response([address("www.abc.local"), address("www.abc.local")])
            .to_vec()
            .unwrap();
        assert_eq!(
            probe().judge(IDENTIFIER, &octets[..first.len() - 1]),
            Judgement::Fail(Fault::Malformed)
        );
        assert_eq!(
            probe().judge(IDENTIFIER, &octets[..octets.len() - 1]),
            Judgement::Pass
        );
    }

    #[test]
    fn what_is_not_the_answer_is_ignored() {
        let ignored = |change: &dyn Fn(&mut Message)| {
            let mut message = response([address("www.abc.local")]);
            change(&mut message);
            judge(&message)
        };
        let question = |name: &str, record_type, class| {
            let mut query = Query::query(wire(name), record_type);
            query.set_query_class(class);
            query
        };
        assert_eq!(
            ignored(&|message| message.metadata.id ^= 1),
            Judgement::Ignore(Mismatch::Identifier)
        );
        assert_eq!(
            ignored(&|message| message.metadata.message_type = MessageType::Query),
            Judgement::Ignore(Mismatch::NotAResponse)
        );
        assert_eq!(
            ignored(&|message| message.metadata.op_code = OpCode::Notify),
            Judgement::Ignore(Mismatch::Opcode)
        );
        let asked = question("www.abc.local", WireRecordType::A, DNSClass::IN);
        for questions in [
            vec![],
            vec![asked.clone(), asked],
            vec![question("abc.local", WireRecordType::A, DNSClass::IN)],
            vec![question(
                "www.abc.local",
                WireRecordType::AAAA,
                DNSClass::IN,
            )],
            vec![question("www.abc.local", WireRecordType::A, DNSClass::CH)],
        ] {
            assert_eq!(
                ignored(&|message| message.queries.clone_from(&questions)),
                Judgement::Ignore(Mismatch::Question)
            );
        }
        assert_eq!(
            probe().judge(IDENTIFIER, &probe().query(IDENTIFIER)[..11]),
            Judgement::Ignore(Mismatch::TooShort)
        );
        assert_eq!(
            ignored(&|message| {
                message.queries = vec![question("WWW.abc.LOCAL", WireRecordType::A, DNSClass::IN)];
            }),
            Judgement::Pass
        );
    }

    proptest! {
        #[test]
        fn octets_of_any_kind_never_panic(octets in prop::collection::vec(any::<u8>(), 0..600)) {
            let judgement = probe().judge(IDENTIFIER, &octets);
            if octets.get(..2) != Some(&IDENTIFIER.to_be_bytes()[..]) {
                prop_assert!(matches!(judgement, Judgement::Ignore(_)));
            }
        }

        #[test]
        fn mutated_answers_never_panic_nor_pass_under_another_identifier(
            other: u16,
            flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut octets = response([
                alias("www.abc.local", "www.example"),
                address("www.example"),
            ])
            .to_vec()
            .unwrap();
            for (place, octet) in flips {
                let place = place.index(octets.len());
                octets[place] = octet;
            }
            octets.truncate(cut.index(octets.len() + 1));
            for identifier in [IDENTIFIER, other] {
                let judgement = probe().judge(identifier, &octets);
                if octets.get(..2) != Some(&identifier.to_be_bytes()[..]) {
                    prop_assert!(matches!(judgement, Judgement::Ignore(_)));
                }
            }
        }
    }
}
