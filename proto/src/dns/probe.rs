//! One question, and what an answer to it says about the server.

use hickory_proto::op::OpCode;

use super::answer::{Answer, Answering};
use super::message::{Edns, Header, Sections};
use super::query::{self, Entropy, Flags, Form, Question};
use super::{Class, Expectation, Fault, Flag, Name, RecordType, ResponseCode};

/// A question, and what a healthy server answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Probe {
    /// The name asked for.
    pub name: Name,
    /// The type asked for.
    pub record_type: RecordType,
    /// The class asked for.
    pub class: Class,
    /// RD: whether the server is asked to resolve the name for us. Yes for a resolver; an
    /// authoritative server doesn't mind.
    pub recursion_desired: bool,
    /// CD: whether a resolver is to answer without a look at signatures (RFC 4035, section 3.2.2).
    pub checking_disabled: bool,
    /// DO: whether the server is to send signatures along (RFC 3225); with EDNS only.
    pub dnssec_ok: bool,
    /// The longest UDP answer in octets that the server is told we take; without EDNS if `None`.
    pub edns: Option<u16>,
    /// Whether the server is asked who it is (RFC 5001); with EDNS only.
    pub nsid: bool,
    /// Whether a cookie goes along (RFC 7873); with EDNS only.
    pub cookie: bool,
    /// Whether the name's letters are in random case, which the answer has to keep (0x20).
    pub mixed_case: bool,
    /// What is expected of the answer.
    pub expected: Expectation,
}

/// How and when an answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Over which transport.
    pub transport: Transport,
    /// Seconds since 1970 modulo 2^32, as signatures have it.
    pub time: u32,
}

/// Which transport carries a query and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// One message in a datagram.
    Udp,
    /// Messages on a stream.
    Tcp,
}

/// What a datagram, or a message on a stream, says about the server that was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Not the answer to this query: a late or forged one. Wait on until the deadline.
    Ignore(Mismatch),
    /// The server wants the question otherwise: ask again like this, with fresh entropy. It is
    /// never said twice for the same reason.
    Again(Form),
    /// As much of the answer as came over UDP is good; its records are to be had over TCP.
    Truncated(Answer),
    /// The server answers.
    Pass(Answer),
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
    /// Not exactly one question (RFC 9619), an unreadable one, or another one; with mixed case also
    /// one in another case.
    #[error("another question")]
    Question,
    /// Another client's cookie, or one of no length that cookies have (RFC 7873, section 5.3).
    #[error("another cookie")]
    Cookie,
}

/// Octets of a client's cookie (RFC 7873, section 4).
const CLIENT_COOKIE: usize = 8;

impl Probe {
    /// A plain question over the Internet's class with recursion desired, and the plain expectation:
    /// the ordinary case of a resolver and of an authoritative server alike.
    pub fn new(name: Name, record_type: RecordType) -> Self {
        Self {
            name,
            record_type,
            class: Class::Internet,
            recursion_desired: true,
            checking_disabled: false,
            dnssec_ok: false,
            edns: None,
            nsid: false,
            cookie: false,
            mixed_case: false,
            expected: Expectation::default(),
        }
    }

    /// The query, without the length that TCP wants ([`super::frame`]).
    pub fn query(&self, entropy: &Entropy, form: &Form) -> Vec<u8> {
        let flags = Flags {
            recursion_desired: self.recursion_desired,
            // Says that we understand AD in an answer (RFC 6840, section 5.7).
            authentic_data: self.expected.flags.contains(&Flag::AuthenticData),
            checking_disabled: self.checking_disabled,
        };
        let edns = self.edns_size(form).map(|payload_size| query::Edns {
            payload_size,
            dnssec_ok: self.dnssec_ok,
            nsid: self.nsid,
            cookie: self.cookies_sent(entropy, form),
        });
        query::to_octets(
            entropy.identifier,
            flags,
            &self.question(entropy),
            edns.as_ref(),
        )
    }

    /// Judges what came back on the connected socket that the query was sent from.
    ///
    /// Identifier, question and cookie decide whether it is the answer; an answer without its
    /// question is ignored, because only the identifier would tell it from a forged one. Then the
    /// response code decides, so that an error with an unreadable rest keeps its name, then flags,
    /// then records. Record contents are read only where something is expected of them: a server
    /// isn't taken out for a type that this program can't read.
    pub fn judge(
        &self,
        entropy: &Entropy,
        form: &Form,
        arrival: Arrival,
        response: &[u8],
    ) -> Judgement {
        let Some(header) = Header::read(response) else {
            return Judgement::Ignore(Mismatch::TooShort);
        };
        if let Some(mismatch) = mismatch(&header, entropy) {
            return Judgement::Ignore(mismatch);
        }
        if self.is_ignorant_of_edns(&header, form) {
            return Judgement::Again(Form {
                without_edns: true,
                ..form.clone()
            });
        }
        let Some(question) = self.question_in(response, &header, entropy) else {
            return Judgement::Ignore(Mismatch::Question);
        };
        let sections = Sections::read(response, &header, Header::LENGTH + question);
        let cookies = sections
            .edns
            .as_ref()
            .and_then(|edns| edns.cookies.as_ref());
        if let (Some(sent), Some(received)) = (self.cookies_sent(entropy, form), cookies)
            && !answers_cookie(sent, received)
        {
            return Judgement::Ignore(Mismatch::Cookie);
        }
        let response_code = sections.response_code(&header);
        if let Some(again) = self.form_with_cookies(form, response_code, arrival.transport, cookies)
        {
            return Judgement::Again(again);
        }
        self.judge_sections(&header, sections, arrival, response)
    }

    fn judge_sections(
        &self,
        header: &Header,
        sections: Sections,
        arrival: Arrival,
        response: &[u8],
    ) -> Judgement {
        let asked = (&self.name, self.record_type, self.class);
        let answering = Answering::find(response, &sections.answers, asked);
        let mut answer = answering.facts(header, sections.response_code(header));
        let judged = self.expected.judge_header(&answer).and_then(|()| {
            if header.truncated && arrival.transport == Transport::Udp {
                return Ok(true);
            }
            let whole = sections.whole;
            self.expected
                .judge_records(&answer, &answering, self.record_type, whole)?;
            match answer.signatures_ended(arrival.time) {
                Some(first) => Err(Fault::SignatureExpired(first)),
                None => Ok(false),
            }
        });
        let edns: Option<Edns> = sections.edns;
        answer.name_server_identifier = edns.and_then(|edns| edns.name_server_identifier);
        match judged {
            Ok(true) => Judgement::Truncated(answer),
            Ok(false) => Judgement::Pass(answer),
            Err(fault) => Judgement::Fail(fault),
        }
    }

    fn edns_size(&self, form: &Form) -> Option<u16> {
        self.edns.filter(|_| !form.without_edns)
    }

    fn cookies_sent<'a>(&self, entropy: &'a Entropy, form: &'a Form) -> Option<&'a [u8]> {
        let sent = self.cookie && self.edns_size(form).is_some();
        sent.then(|| form.cookies.as_deref().unwrap_or(&entropy.cookie))
    }

    fn question<'a>(&'a self, entropy: &'a Entropy) -> Question<'a> {
        Question {
            name: &self.name,
            record_type: self.record_type,
            class: self.class,
            mixed_case: self.mixed_case.then_some(&entropy.case),
        }
    }

    /// The length of our question, if `response` repeats it (RFC 5452, section 9.1).
    fn question_in(&self, response: &[u8], header: &Header, entropy: &Entropy) -> Option<usize> {
        let asked = self.question(entropy).to_octets();
        let echoed = response.get(Header::LENGTH..)?.get(..asked.len())?;
        let (asked_name, asked_kind) = asked.split_last_chunk::<4>()?;
        let (echoed_name, echoed_kind) = echoed.split_last_chunk::<4>()?;
        // Lengths of labels are below the letters, so that case can't confuse them.
        let same_name = if self.mixed_case {
            asked_name == echoed_name
        } else {
            asked_name.eq_ignore_ascii_case(echoed_name)
        };
        (header.questions == 1 && same_name && asked_kind == echoed_kind).then_some(asked.len())
    }

    /// Whether that is what servers say that don't know EDNS (RFC 6891, section 7). Some of them
    /// send the header alone, which would prove little, but costs no more than one more query.
    fn is_ignorant_of_edns(&self, header: &Header, form: &Form) -> bool {
        let code = ResponseCode::from_bits(header.low, 0);
        self.edns_size(form).is_some()
            && matches!(
                code,
                ResponseCode::FORMAT_ERROR | ResponseCode::NOT_IMPLEMENTED
            )
            && !self.expected.response_codes.contains(&code)
    }

    /// With the server's cookie, if it wants that over UDP and we have sent none yet (RFC 7873,
    /// section 5.3).
    fn form_with_cookies(
        &self,
        form: &Form,
        response_code: ResponseCode,
        transport: Transport,
        received: Option<&Vec<u8>>,
    ) -> Option<Form> {
        let wanted = response_code == ResponseCode::BAD_COOKIE
            && transport == Transport::Udp
            && self.cookie
            && self.edns_size(form).is_some()
            && form.cookies.is_none()
            && !self.expected.response_codes.contains(&response_code);
        let cookies = received.filter(|cookies| wanted && cookies.len() > CLIENT_COOKIE)?;
        Some(Form {
            cookies: Some(cookies.clone()),
            ..form.clone()
        })
    }
}

fn mismatch(header: &Header, entropy: &Entropy) -> Option<Mismatch> {
    if header.identifier != entropy.identifier {
        Some(Mismatch::Identifier)
    } else if !header.is_response {
        Some(Mismatch::NotAResponse)
    } else if header.opcode != u8::from(OpCode::Query) {
        Some(Mismatch::Opcode)
    } else {
        None
    }
}

/// The client's part is ours, and the server's has 8 to 32 octets or is missing.
fn answers_cookie(sent: &[u8], received: &[u8]) -> bool {
    matches!(received.len(), CLIENT_COOKIE | 16..=40)
        && sent.get(..CLIENT_COOKIE) == received.get(..CLIENT_COOKIE)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::Ipv4Addr;

    use hickory_proto::op::{Edns, Message, MessageType, Query, ResponseCode as WireResponseCode};
    use hickory_proto::rr::rdata::opt::EdnsOption;
    use hickory_proto::rr::rdata::{A, CNAME, NULL, SOA, TXT};
    use hickory_proto::rr::{
        DNSClass, Name as WireName, RData, Record as WireRecord, RecordType as WireRecordType,
    };
    use proptest::prelude::*;

    use super::*;
    use crate::dns::{RecordData, Records};
    use crate::health::FailureKind;

    const IDENTIFIER: u16 = 0xbeef;
    const COOKIE: [u8; 8] = *b"ourtaste";
    const ENTROPY: Entropy = Entropy {
        identifier: IDENTIFIER,
        cookie: COOKIE,
        case: [0b0101_0101; 32],
    };
    const NOW: u32 = 2_000_000_000;
    const OVER_UDP: Arrival = Arrival {
        transport: Transport::Udp,
        time: NOW,
    };
    const OVER_TCP: Arrival = Arrival {
        transport: Transport::Tcp,
        time: NOW,
    };

    fn probe() -> Probe {
        Probe::new("www.abc.local".parse().unwrap(), RecordType::A)
    }

    fn expecting(change: impl FnOnce(&mut Expectation)) -> Probe {
        let mut probe = probe();
        change(&mut probe.expected);
        probe
    }

    fn wire(name: &str) -> WireName {
        name.parse::<Name>().unwrap().as_wire().clone()
    }

    fn address(owner: &str) -> WireRecord {
        address_of(owner, [1, 2, 3, 4])
    }

    fn address_of(owner: &str, octets: [u8; 4]) -> WireRecord {
        WireRecord::from_rdata(wire(owner), 60, RData::A(A(Ipv4Addr::from(octets))))
    }

    fn alias(owner: &str, target: &str) -> WireRecord {
        WireRecord::from_rdata(wire(owner), 60, RData::CNAME(CNAME(wire(target))))
    }

    /// Over the A records of `owner`, until `expiry`.
    fn signature(owner: &str, expiry: u32) -> WireRecord {
        let mut data = vec![0, 1, 13, 3, 0, 0, 0, 60];
        data.extend(expiry.to_be_bytes());
        data.extend([0; 6]);
        data.extend(b"\x03abc\x05local\x00signature");
        let data = RData::Unknown {
            code: WireRecordType::RRSIG,
            rdata: NULL::with(data),
        };
        WireRecord::from_rdata(wire(owner), 60, data)
    }

    fn response(records: impl IntoIterator<Item = WireRecord>) -> Message {
        response_to(&probe(), records)
    }

    fn response_to(probe: &Probe, records: impl IntoIterator<Item = WireRecord>) -> Message {
        let mut message = Message::from_vec(&probe.query(&ENTROPY, &Form::default()))
            .unwrap()
            .into_response();
        message.metadata.response_code = WireResponseCode::NoError;
        message.edns = None;
        message.add_answers(records);
        message
    }

    fn judge(message: &Message) -> Judgement {
        judge_octets(&probe(), &message.to_vec().unwrap())
    }

    fn judge_by(probe: &Probe, message: &Message) -> Judgement {
        judge_octets(probe, &message.to_vec().unwrap())
    }

    fn judge_octets(probe: &Probe, octets: &[u8]) -> Judgement {
        probe.judge(&ENTROPY, &Form::default(), OVER_UDP, octets)
    }

    fn passed(judgement: Judgement) -> Answer {
        match judgement {
            Judgement::Pass(answer) => answer,
            other => panic!("{other:?}"),
        }
    }

    fn fault(judgement: Judgement) -> Fault {
        match judgement {
            Judgement::Fail(fault) => fault,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_query_is_these_octets() {
        let query = probe().query(&ENTROPY, &Form::default());
        assert_eq!(
            query,
            b"\xbe\xef\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x03abc\x05local\x00\x00\x01\x00\x01"
        );
        let authoritative = Probe {
            recursion_desired: false,
            ..probe()
        };
        assert_eq!(authoritative.query(&ENTROPY, &Form::default())[2], 0);
    }

    #[test]
    fn the_longest_name_can_be_asked_for() {
        let label = "a".repeat(63);
        let name = format!("{label}.{label}.{label}.{}", "a".repeat(61));
        let probe = Probe {
            name: name.parse().unwrap(),
            ..probe()
        };
        assert_eq!(probe.query(&ENTROPY, &Form::default()).len(), 12 + 255 + 4);
        assert!(format!("{name}a").parse::<Name>().is_err());
    }

    #[test]
    fn what_is_asked_for_stands_in_the_query() {
        let probe = Probe {
            checking_disabled: true,
            dnssec_ok: true,
            edns: Some(1232),
            nsid: true,
            cookie: true,
            class: Class::Chaos,
            expected: Expectation {
                flags: BTreeSet::from([Flag::AuthenticData]),
                ..Expectation::default()
            },
            ..probe()
        };
        assert_eq!(
            probe.query(&ENTROPY, &Form::default()),
            b"\xbe\xef\x01\x30\x00\x01\x00\x00\x00\x00\x00\x01\
              \x03www\x03abc\x05local\x00\x00\x01\x00\x03\
              \x00\x00\x29\x04\xd0\x00\x00\x80\x00\x00\x10\x00\x03\x00\x00\x00\x0a\x00\x08ourtaste"
        );
        let message = Message::from_vec(&probe.query(&ENTROPY, &Form::default())).unwrap();
        let edns = message.edns.unwrap();
        assert!(edns.flags().dnssec_ok && edns.max_payload() == 1232);
        let plain = probe.query(
            &ENTROPY,
            &Form {
                without_edns: true,
                cookies: None,
            },
        );
        assert_eq!(plain[11], 0);
    }

    #[test]
    fn mixed_case_must_come_back_as_it_went() {
        let probe = Probe {
            mixed_case: true,
            ..probe()
        };
        let query = probe.query(&ENTROPY, &Form::default());
        assert_eq!(&query[12..27], b"\x03WwW\x03aBc\x05LoCaL\0");
        let kept = response_to(&probe, [address("www.abc.local")]);
        assert_eq!(passed(judge_by(&probe, &kept)).records, 1);
        assert_eq!(
            judge_by(&probe, &response([address("www.abc.local")])),
            Judgement::Ignore(Mismatch::Question)
        );
    }

    #[test]
    fn a_record_of_the_asked_type_passes() {
        for owner in ["www.abc.local", "WWW.abc.LOCAL"] {
            let answer = passed(judge(&response([address(owner)])));
            assert_eq!((answer.records, answer.time_to_live), (1, Some(60)));
            assert_eq!(answer.response_code, ResponseCode::NO_ERROR);
        }
    }

    #[test]
    fn aliases_are_followed_in_any_order() {
        let chain = [
            address("host.example"),
            alias("www.example", "host.example"),
            alias("www.abc.local", "www.example"),
        ];
        assert_eq!(passed(judge(&response(chain))).records, 1);
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
    fn a_server_is_asked_in_chaos_who_it_is() {
        let probe = Probe {
            class: Class::Chaos,
            record_type: RecordType::Txt,
            expected: Expectation {
                records: Some(Records::Pattern("rs-[0-9]".parse().unwrap())),
                ..Expectation::default()
            },
            ..Probe::new("id.server".parse().unwrap(), RecordType::Txt)
        };
        let text = RData::TXT(TXT::new(vec!["rs-1".to_owned()]));
        let mut record = WireRecord::from_rdata(wire("id.server"), 0, text);
        record.dns_class = DNSClass::CH;
        assert_eq!(
            passed(judge_by(&probe, &response_to(&probe, [record]))).records,
            1
        );
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
            let fault = fault(judge_octets(&probe(), &octets));
            assert_eq!(fault.to_string(), name);
            assert_eq!(fault.kind(), FailureKind::ResponseCode);
        }
        assert_eq!(
            Fault::NoRecord(RecordType::A).to_string(),
            "no A record in the answer"
        );
    }

    #[test]
    fn allowed_response_codes_need_no_records() {
        let either = expecting(|it| it.response_codes.extend([ResponseCode::NAME_ERROR]));
        let mut message = response([]);
        assert_eq!(
            fault(judge_by(&either, &message)),
            Fault::NoRecord(RecordType::A)
        );
        message.metadata.response_code = WireResponseCode::NXDomain;
        assert_eq!(passed(judge_by(&either, &message)).records, 0);
        let only = expecting(|it| it.response_codes = BTreeSet::from([ResponseCode::NAME_ERROR]));
        passed(judge_by(&only, &message));
        assert_eq!(
            fault(judge_by(&only, &response([address("www.abc.local")]))),
            Fault::ResponseCode(ResponseCode::NO_ERROR)
        );
    }

    #[test]
    fn flags_that_are_required_must_be_set() {
        let flags = [
            Flag::AuthoritativeAnswer,
            Flag::RecursionAvailable,
            Flag::AuthenticData,
        ];
        for flag in flags {
            let probe = expecting(|it| it.flags = BTreeSet::from([flag]));
            let mut message = response_to(&probe, [address("www.abc.local")]);
            message.metadata.authoritative = flag != Flag::AuthoritativeAnswer;
            message.metadata.recursion_available = flag != Flag::RecursionAvailable;
            message.metadata.authentic_data = flag != Flag::AuthenticData;
            assert_eq!(fault(judge_by(&probe, &message)), Fault::NoFlag(flag));
            message.metadata.authoritative = true;
            message.metadata.recursion_available = true;
            message.metadata.authentic_data = true;
            passed(judge_by(&probe, &message));
        }
    }

    #[test]
    fn records_are_counted_and_compared() {
        let two = response([
            address_of("www.abc.local", [192, 0, 2, 1]),
            address_of("www.abc.local", [192, 0, 2, 2]),
            address_of("www.abc.local", [192, 0, 2, 2]),
        ]);
        passed(judge_by(&expecting(|it| it.minimum_records = 2), &two));
        assert_eq!(
            fault(judge_by(&expecting(|it| it.minimum_records = 3), &two)),
            Fault::FewRecords {
                found: 2,
                minimum: 3
            }
        );
        let exact = |texts: &[&str]| {
            let data = texts
                .iter()
                .map(|text| RecordData::parse(RecordType::A, text).unwrap());
            expecting(|it| it.records = Some(Records::Exact(data.collect())))
        };
        passed(judge_by(&exact(&["192.0.2.2", "192.0.2.1"]), &two));
        let fault = fault(judge_by(&exact(&["192.0.2.1"]), &two));
        assert_eq!(
            fault.to_string(),
            "unexpected records: 192.0.2.1, 192.0.2.2"
        );
        assert_eq!(fault.kind(), FailureKind::Content);
    }

    #[test]
    fn times_to_live_have_bounds() {
        let message = response([address("www.abc.local")]);
        passed(judge_by(
            &expecting(|it| it.time_to_live = Some(60..=60)),
            &message,
        ));
        assert_eq!(
            fault(judge_by(
                &expecting(|it| it.time_to_live = Some(61..=300)),
                &message
            )),
            Fault::TimeToLive(60)
        );
    }

    #[test]
    fn an_authoritys_serial_is_read() {
        let probe = Probe::new("abc.local".parse().unwrap(), RecordType::Soa);
        let authority = SOA::new(
            wire("ns.abc.local"),
            wire("root.abc.local"),
            4_000_000_001,
            1,
            2,
            3,
            4,
        );
        let record = WireRecord::from_rdata(wire("abc.local"), 300, RData::SOA(authority));
        let answer = passed(judge_by(&probe, &response_to(&probe, [record])));
        assert_eq!(answer.serial, Some(4_000_000_001));
    }

    #[test]
    fn signatures_are_looked_at_until_all_have_ended() {
        let signed = |expiries: &[u32]| {
            let mut records = vec![address("www.abc.local")];
            records.extend(
                expiries
                    .iter()
                    .map(|expiry| signature("www.abc.local", *expiry)),
            );
            judge(&response(records))
        };
        let answer = passed(signed(&[NOW + 50, NOW - 1]));
        assert_eq!(answer.signature_expiry, Some(NOW - 1));
        assert_eq!(passed(signed(&[NOW])).signature_expiry, Some(NOW));
        assert_eq!(fault(signed(&[NOW - 1])), Fault::SignatureExpired(NOW - 1));
        assert_eq!(
            fault(signed(&[NOW - 1, NOW - 90])),
            Fault::SignatureExpired(NOW - 90)
        );
        let elsewhere = [address("www.abc.local"), signature("abc.local", NOW - 1)];
        assert_eq!(passed(judge(&response(elsewhere))).signature_expiry, None);
    }

    #[test]
    fn a_truncated_answer_has_more_over_tcp() {
        let mut message = response([]);
        message.metadata.truncation = true;
        let octets = message.to_vec().unwrap();
        assert!(matches!(
            judge_octets(&probe(), &octets),
            Judgement::Truncated(Answer {
                truncated: true,
                ..
            })
        ));
        let over_tcp = probe().judge(&ENTROPY, &Form::default(), OVER_TCP, &octets);
        assert_eq!(fault(over_tcp), Fault::NoRecord(RecordType::A));
        let authoritative = expecting(|it| it.flags.extend([Flag::AuthoritativeAnswer]));
        assert_eq!(
            fault(judge_octets(&authoritative, &octets)),
            Fault::NoFlag(Flag::AuthoritativeAnswer)
        );
        message.metadata.response_code = WireResponseCode::ServFail;
        assert_eq!(
            fault(judge(&message)),
            Fault::ResponseCode(ResponseCode::SERVER_FAILURE)
        );
    }

    #[test]
    fn an_answer_cut_short_fails_unless_what_was_read_is_enough() {
        let first = response([address("www.abc.local")]).to_vec().unwrap();
        let octets = response([address("www.abc.local"), address("www.abc.local")])
            .to_vec()
            .unwrap();
        let cut = &octets[..octets.len() - 1];
        assert_eq!(
            judge_octets(&probe(), &first[..first.len() - 1]),
            Judgement::Fail(Fault::Malformed)
        );
        passed(judge_octets(&probe(), cut));
        let bounded = expecting(|it| it.time_to_live = Some(0..=300));
        assert_eq!(fault(judge_octets(&bounded, cut)), Fault::Malformed);
        assert_eq!(Fault::Malformed.kind(), FailureKind::Parse);
    }

    #[test]
    fn a_server_without_edns_is_asked_again_without() {
        let probe = Probe {
            edns: Some(1232),
            ..probe()
        };
        let mut message = response_to(&probe, []);
        message.metadata.response_code = WireResponseCode::FormErr;
        let header_only = b"\xbe\xef\x80\x04\x00\x00\x00\x00\x00\x00\x00\x00";
        for octets in [&message.to_vec().unwrap()[..], header_only] {
            let Judgement::Again(form) = judge_octets(&probe, octets) else {
                panic!("not asked again")
            };
            assert_eq!(probe.query(&ENTROPY, &form).len(), 12 + 15 + 4);
            assert!(!matches!(
                probe.judge(&ENTROPY, &form, OVER_UDP, octets),
                Judgement::Again(_) | Judgement::Pass(_)
            ));
        }
        assert_eq!(
            fault(judge(&message)),
            Fault::ResponseCode(ResponseCode::FORMAT_ERROR)
        );
    }

    #[test]
    fn a_server_that_wants_its_cookie_gets_it_once() {
        let probe = Probe {
            edns: Some(1232),
            cookie: true,
            ..probe()
        };
        let with_cookie = |cookie: &[u8]| {
            let mut message = response_to(&probe, [address("www.abc.local")]);
            let mut edns = Edns::new();
            edns.options_mut()
                .insert(EdnsOption::Unknown(10, cookie.to_vec()));
            message.set_edns(edns);
            message
        };
        let mut message = with_cookie(b"ourtastetheirown");
        passed(judge_by(&probe, &message));
        for other in [&b"another.theirown"[..], b"ourtaste.", b"our"] {
            assert_eq!(
                judge_by(&probe, &with_cookie(other)),
                Judgement::Ignore(Mismatch::Cookie)
            );
        }
        message.metadata.response_code = WireResponseCode::BADCOOKIE;
        let octets = message.to_vec().unwrap();
        let Judgement::Again(form) = judge_octets(&probe, &octets) else {
            panic!("not asked again")
        };
        let query = probe.query(&ENTROPY, &form);
        assert!(query.ends_with(b"\x00\x0a\x00\x10ourtastetheirown"));
        let bad_cookie = Judgement::Fail(Fault::ResponseCode(ResponseCode::BAD_COOKIE));
        assert_eq!(probe.judge(&ENTROPY, &form, OVER_UDP, &octets), bad_cookie);
        assert_eq!(
            probe.judge(&ENTROPY, &Form::default(), OVER_TCP, &octets),
            bad_cookie
        );
    }

    #[test]
    fn a_server_says_who_it_is() {
        let probe = Probe {
            edns: Some(1232),
            nsid: true,
            ..probe()
        };
        let mut message = response_to(&probe, [address("www.abc.local")]);
        let mut edns = Edns::new();
        edns.options_mut()
            .insert(EdnsOption::Unknown(3, b"rs-1".to_vec()));
        message.set_edns(edns);
        let answer = passed(judge_by(&probe, &message));
        assert_eq!(answer.name_server_identifier.as_deref(), Some(&b"rs-1"[..]));
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
        let query = probe().query(&ENTROPY, &Form::default());
        assert_eq!(
            judge_octets(&probe(), &query[..11]),
            Judgement::Ignore(Mismatch::TooShort)
        );
        passed(ignored(&|message| {
            message.queries = vec![question("WWW.abc.LOCAL", WireRecordType::A, DNSClass::IN)];
        }));
    }

    proptest! {
        #[test]
        fn octets_of_any_kind_never_panic(octets in prop::collection::vec(any::<u8>(), 0..600)) {
            let judgement = judge_octets(&probe(), &octets);
            if octets.get(..2) != Some(&IDENTIFIER.to_be_bytes()[..]) {
                prop_assert!(matches!(judgement, Judgement::Ignore(_)));
            }
        }

        #[test]
        fn what_is_asked_can_be_read_back(
            cookie: [u8; 8],
            case: [u8; 32],
            identifier: u16,
            bits in prop::array::uniform6(any::<bool>()),
        ) {
            let [recursion_desired, checking_disabled, dnssec_ok, nsid, with_cookie, mixed_case] = bits;
            let probe = Probe {
                recursion_desired,
                checking_disabled,
                dnssec_ok,
                edns: Some(4096),
                nsid,
                cookie: with_cookie,
                mixed_case,
                ..probe()
            };
            let entropy = Entropy { identifier, cookie, case };
            let message = Message::from_vec(&probe.query(&entropy, &Form::default())).unwrap();
            prop_assert_eq!(message.metadata.id, identifier);
            prop_assert_eq!(message.metadata.recursion_desired, recursion_desired);
            prop_assert_eq!(message.metadata.checking_disabled, checking_disabled);
            prop_assert_eq!(message.queries[0].name(), &wire("www.abc.local"));
            let edns = message.edns.unwrap();
            prop_assert_eq!(edns.flags().dnssec_ok, dnssec_ok);
            let options = usize::from(nsid) + usize::from(with_cookie);
            prop_assert_eq!(edns.options().as_ref().len(), options);
        }
    }
}
