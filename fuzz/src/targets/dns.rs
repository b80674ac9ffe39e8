//! What a DNS server answers: one message in a datagram, or messages on a stream.

use lvs_proto::dns::{
    Arrival, Entropy, Flag, Form, Frame, Judgement, Mismatch, Probe, RecordType, Records,
    Transport, frame,
};

const ENTROPY: Entropy = Entropy {
    identifier: 0xbeef,
    cookie: *b"ourtaste",
    case: [0; 32],
};
const ARRIVAL: Arrival = Arrival {
    transport: Transport::Udp,
    time: 2_000_000_000,
};

/// A byte that picks the question, then the datagram.
pub(super) fn datagram(data: &[u8]) {
    let Some((choice, message)) = data.split_first() else {
        return;
    };
    judge(&probe(*choice), message);
}

/// A byte that picks the question, then the stream.
pub(super) fn stream(data: &[u8]) {
    let Some((choice, stream)) = data.split_first() else {
        return;
    };
    let probe = probe(*choice);
    let mut again = Vec::new();
    let mut unread = stream;
    while let Frame::Whole { message, rest } = Frame::split(unread) {
        judge(&probe, message);
        again.extend(frame(message).expect("its length came in two octets"));
        assert!(rest.len() < unread.len(), "a frame of no octets");
        unread = rest;
    }
    if let Frame::Partial(missing) = Frame::split(unread) {
        assert_ne!(missing, 0);
    }
    again.extend_from_slice(unread);
    assert_eq!(again, stream);
}

/// Two bits for the type, the others for what else is asked and expected.
fn probe(choice: u8) -> Probe {
    let types = [
        RecordType::A,
        RecordType::Aaaa,
        RecordType::Ns,
        RecordType::Soa,
    ];
    let name = "www.abc.local".parse().expect("a name");
    let mut probe = Probe::new(name, types[usize::from(choice & 3)]);
    if choice & 4 != 0 {
        probe.edns = Some(1232);
        probe.dnssec_ok = true;
        probe.nsid = true;
        probe.cookie = true;
    }
    probe.mixed_case = choice & 8 != 0;
    if choice & 16 != 0 {
        probe.expected.flags = [Flag::AuthoritativeAnswer].into();
        probe.expected.time_to_live = Some(0..=86_400);
    }
    if choice & 32 != 0 {
        let anything = ".*".parse().expect("a regular expression");
        probe.expected.records = Some(Records::Pattern(anything));
        probe.expected.minimum_records = 2;
    }
    probe
}

fn judge(probe: &Probe, message: &[u8]) {
    let judge = |entropy: &Entropy, form: &Form, message: &[u8]| {
        probe.judge(entropy, form, ARRIVAL, message)
    };
    let first = Form::default();
    let judgement = judge(&ENTROPY, &first, message);
    let another = Entropy {
        identifier: !ENTROPY.identifier,
        ..ENTROPY
    };
    match &judgement {
        Judgement::Ignore(_) => return,
        // Every reason to ask again holds once, and there are two.
        Judgement::Again(form) => {
            if let Judgement::Again(form) = judge(&ENTROPY, form, message) {
                let third = judge(&ENTROPY, &form, message);
                assert!(!matches!(third, Judgement::Again(_)), "asked a fourth time");
            }
        }
        Judgement::Pass(answer) => {
            assert!(answer.records >= usize::from(probe.expected.minimum_records));
        }
        Judgement::Truncated(_) | Judgement::Fail(_) => {}
    }
    assert!(message.starts_with(&ENTROPY.identifier.to_be_bytes()));
    assert_ne!(message[2] & 0x80, 0, "a query was taken for an answer");
    let to_another = judge(&another, &first, message);
    assert_eq!(to_another, Judgement::Ignore(Mismatch::Identifier));
}
