//! What a DNS server answers: one message in a datagram, or messages on a stream.

use lvs_proto::dns::{Frame, Judgement, Mismatch, Probe, RecordType, frame};

const IDENTIFIER: u16 = 0xbeef;

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

fn probe(choice: u8) -> Probe {
    let types = [
        RecordType::A,
        RecordType::Aaaa,
        RecordType::Ns,
        RecordType::Soa,
    ];
    Probe {
        name: "www.abc.local".parse().expect("a name"),
        record_type: types[usize::from(choice) % types.len()],
        recursion_desired: true,
    }
}

fn judge(probe: &Probe, message: &[u8]) {
    let judgement = probe.judge(IDENTIFIER, message);
    let to_another = probe.judge(!IDENTIFIER, message);
    if !matches!(judgement, Judgement::Ignore(_)) {
        assert!(message.starts_with(&IDENTIFIER.to_be_bytes()));
        assert_ne!(message[2] & 0x80, 0, "a query was taken for an answer");
        assert_eq!(to_another, Judgement::Ignore(Mismatch::Identifier));
    }
    // Whatever follows the message of a good answer, it stays one.
    if judgement == Judgement::Pass {
        let longer = [message, &[0xc0; 7]].concat();
        assert_eq!(probe.judge(IDENTIFIER, &longer), Judgement::Pass);
    }
}
