//! The answer parser and answers that went wrong on their way: whatever the octets, there is a
//! judgement, and nothing passes that isn't an answer to the query.
//!
//! 20,000 of them, or as many as `LVS_MUTATIONS` says: a million in an optimized build (`make fuzz`).

use std::time::{Duration, Instant};

use hickory_proto::op::{Edns, Message, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::rdata::{A, CNAME, MX, NULL, SOA, TXT};
use hickory_proto::rr::{Name as WireName, RData, Record, RecordType as WireRecordType};
use lvs_proto::dns::{
    Arrival, Entropy, Expectation, Form, Judgement, Name, Probe, RecordData, RecordType, Records,
    Transport,
};

const SEED: u64 = 0x5eed_0fa1_1bad_da7a;
const ENTROPY: Entropy = Entropy {
    identifier: 0xbeef,
    cookie: *b"ourtaste",
    case: [0xa5; 32],
};
const ARRIVAL: Arrival = Arrival {
    transport: Transport::Udp,
    time: 2_000_000_000,
};

/// SplitMix64 (Steele, Lea, Flood 2014): the same answers in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

fn wire(name: &str) -> WireName {
    WireName::from_ascii(name).expect("a name")
}

fn record(owner: &str, data: RData) -> Record {
    Record::from_rdata(wire(owner), 60, data)
}

fn probe(name: &str, record_type: RecordType, records: Records) -> Probe {
    let name: Name = name.parse().expect("a name");
    Probe {
        dnssec_ok: true,
        edns: Some(1232),
        nsid: true,
        cookie: true,
        mixed_case: true,
        expected: Expectation {
            records: Some(records),
            time_to_live: Some(0..=3600),
            ..Expectation::default()
        },
        ..Probe::new(name, record_type)
    }
}

fn pattern(text: &str) -> Records {
    Records::Pattern(text.parse().expect("a regular expression"))
}

/// Probes, and what a healthy server answers: aliases, signatures, EDNS with options, long texts.
fn conversations() -> Vec<(Probe, Vec<u8>)> {
    let address = RecordData::parse(RecordType::A, "192.0.2.1").expect("an address");
    let mut signature = vec![0, 1, 13, 3, 0, 0, 0, 60, 0x77, 0x35, 0x94, 0x01];
    signature.extend(*b"\0\0\0\0\0\0\x07example\0signature");
    let signature = RData::Unknown {
        code: WireRecordType::RRSIG,
        rdata: NULL::with(signature),
    };
    let long = (0..6).map(|it| format!("v=spf1 {it:-<200}")).collect();
    let authority = SOA::new(wire("ns.example."), wire("root.example."), 7, 1, 2, 3, 4);
    let cases = [
        (
            probe(
                "www.abc.local",
                RecordType::A,
                Records::AnyOf([address].into()),
            ),
            vec![
                record("www.abc.local.", RData::CNAME(CNAME(wire("www.example.")))),
                record("www.example.", RData::A(A::new(192, 0, 2, 1))),
                record("www.example.", RData::A(A::new(192, 0, 2, 2))),
                record("www.example.", signature),
            ],
        ),
        (
            probe("example", RecordType::Soa, pattern("ns.example .*")),
            vec![record("example.", RData::SOA(authority))],
        ),
        (
            probe("example", RecordType::Txt, pattern("(v=spf1 .*)+")),
            vec![record("example.", RData::TXT(TXT::new(long)))],
        ),
        (
            probe("example", RecordType::Mx, pattern("10 .*")),
            vec![record(
                "example.",
                RData::MX(MX::new(10, wire("m.example."))),
            )],
        ),
    ];
    cases
        .into_iter()
        .map(|(probe, records)| {
            let query = probe.query(&ENTROPY, &Form::default());
            let mut message = Message::from_vec(&query).expect("a query").into_response();
            message.metadata.response_code = ResponseCode::NoError;
            message.add_answers(records);
            let mut edns = Edns::new();
            let options = edns.options_mut();
            options.insert(EdnsOption::Unknown(3, b"rs-1".to_vec()));
            options.insert(EdnsOption::Unknown(10, b"ourtastetheirown".to_vec()));
            message.set_edns(edns);
            let octets = message.to_vec().expect("an answer");
            let judgement = probe.judge(&ENTROPY, &Form::default(), ARRIVAL, &octets);
            assert!(matches!(judgement, Judgement::Pass(_)), "{judgement:?}");
            (probe, octets)
        })
        .collect()
}

/// Some octets differ, are missing, or come twice; lengths and pointers are hit oftener than chance
/// would.
fn mutate(octets: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(6) {
        let place = random.below(octets.len());
        match random.below(8) {
            0 => octets.truncate(place),
            1 => drop(octets.drain(place..(place + random.below(12)).min(octets.len()))),
            2 => {
                let again = octets[place..(place + random.below(40)).min(octets.len())].to_vec();
                octets.splice(place..place, again);
            }
            3 if place + 1 < octets.len() => {
                // A pointer to somewhere.
                octets[place] = 0xc0 | random.below(2) as u8;
                octets[place + 1] = random.next() as u8;
            }
            4 if octets.len() > 12 => octets[4 + random.below(8)] = random.next() as u8,
            5 => {
                if let Some(octet) = octets.get_mut(place) {
                    *octet ^= 1 << random.below(8);
                }
            }
            _ => {
                if let Some(octet) = octets.get_mut(place) {
                    *octet = [0, 1, 63, 64, 0x80, 0xc0, 0xff, random.next() as u8][random.below(8)];
                }
            }
        }
        if octets.is_empty() {
            return;
        }
    }
}

#[test]
fn mutated_answers_are_survived() {
    let count: u64 = match std::env::var("LVS_MUTATIONS") {
        Ok(text) => text.parse().expect("LVS_MUTATIONS is a number"),
        Err(_) => 20_000,
    };
    let conversations = conversations();
    let mut random = Random(SEED);
    let (mut passed, mut failed, mut ignored, mut others) = (0_u64, 0_u64, 0_u64, 0_u64);
    let mut longest = Duration::ZERO;
    for number in 0..count {
        let (probe, answer) = &conversations[number as usize % conversations.len()];
        let mut octets = answer.clone();
        mutate(&mut octets, &mut random);
        let start = Instant::now();
        let judgement = probe.judge(&ENTROPY, &Form::default(), ARRIVAL, &octets);
        longest = longest.max(start.elapsed());
        if matches!(judgement, Judgement::Ignore(_)) {
            ignored += 1;
            continue;
        }
        assert!(octets.starts_with(&[0xbe, 0xef]) && octets[2] & 0x80 != 0);
        match judgement {
            Judgement::Pass(answer) => {
                passed += 1;
                assert!(answer.records > 0, "{octets:02x?}");
            }
            Judgement::Fail(_) => failed += 1,
            Judgement::Ignore(_) | Judgement::Again(_) | Judgement::Truncated(_) => others += 1,
        }
    }
    println!(
        "{count} answers: {passed} passed, {failed} failed, {ignored} ignored, {others} others; \
         the longest took {longest:?}"
    );
    assert!(passed > 0 && failed > 0 && ignored > 0 && others > 0);
}
