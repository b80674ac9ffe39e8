//! The query on the wire.

use super::{Class, Name, RecordType};

/// What makes a query hard to forge an answer for, drawn anew by the caller for each query, from a
/// generator that nobody can predict (RFC 5452, section 9.2; RFC 7873, section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entropy {
    /// The message's identifier.
    pub identifier: u16,
    /// The client's cookie, where one is asked for.
    pub cookie: [u8; 8],
    /// A bit for each letter of the name, lowest first: whether it changes its case, where mixed
    /// case is asked for.
    pub case: [u8; 32],
}

/// How a question is put: the first time, or again because the server wanted it otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Form {
    /// For a server that doesn't understand EDNS.
    pub(super) without_edns: bool,
    /// Our cookie, and what the server gave for it.
    pub(super) cookies: Option<Vec<u8>>,
}

/// What is asked, in terms of the wire.
pub(super) struct Question<'a> {
    pub(super) name: &'a Name,
    pub(super) record_type: RecordType,
    pub(super) class: Class,
    /// The letters whose case changes.
    pub(super) mixed_case: Option<&'a [u8; 32]>,
}

/// Bits of the header's third and fourth octets.
#[derive(Clone, Copy)]
pub(super) struct Flags {
    pub(super) recursion_desired: bool,
    pub(super) authentic_data: bool,
    pub(super) checking_disabled: bool,
}

/// The pseudo-record that carries EDNS (RFC 6891, section 6.1.2).
pub(super) struct Edns<'a> {
    pub(super) payload_size: u16,
    pub(super) dnssec_ok: bool,
    pub(super) nsid: bool,
    pub(super) cookie: Option<&'a [u8]>,
}

pub(super) const OPT: u16 = 41;
/// RFC 5001, section 2.3.
pub(super) const NSID: u16 = 3;
/// RFC 7873, section 4.
pub(super) const COOKIE: u16 = 10;

impl Question<'_> {
    /// As it stands behind the header of query and answer.
    pub(super) fn to_octets(&self) -> Vec<u8> {
        let mut octets = Vec::with_capacity(64);
        for label in self.name.as_wire().iter() {
            octets.push(u8::try_from(label.len()).expect("a label has at most 63 octets"));
            octets.extend_from_slice(label);
        }
        octets.push(0);
        if let Some(bits) = self.mixed_case {
            // Lengths are below the letters, so they can be passed by with all that is no letter.
            let letters = octets
                .iter_mut()
                .filter(|octet| octet.is_ascii_alphabetic());
            let bits = bits
                .iter()
                .flat_map(|octet| (0..8).map(move |bit| octet >> bit & 1));
            for (letter, bit) in letters.zip(bits) {
                *letter ^= bit << 5;
            }
        }
        let record_type = u16::from(self.record_type.as_wire());
        octets.extend(record_type.to_be_bytes());
        octets.extend(u16::from(self.class.as_wire()).to_be_bytes());
        octets
    }
}

impl Edns<'_> {
    fn to_octets(&self) -> Vec<u8> {
        let mut options = Vec::new();
        let mut option = |code: u16, value: &[u8]| {
            options.extend(code.to_be_bytes());
            options.extend(length_of(value));
            options.extend_from_slice(value);
        };
        if self.nsid {
            option(NSID, &[]);
        }
        if let Some(cookie) = self.cookie {
            option(COOKIE, cookie);
        }
        let mut octets = vec![0];
        octets.extend(OPT.to_be_bytes());
        octets.extend(self.payload_size.to_be_bytes());
        octets.extend([0, 0, u8::from(self.dnssec_ok) << 7, 0]);
        octets.extend(length_of(&options));
        octets.extend(options);
        octets
    }
}

/// Header (RFC 1035, section 4.1.1), one question, EDNS where it's used.
pub(super) fn to_octets(
    identifier: u16,
    flags: Flags,
    question: &Question<'_>,
    edns: Option<&Edns<'_>>,
) -> Vec<u8> {
    let mut octets = Vec::with_capacity(128);
    octets.extend(identifier.to_be_bytes());
    octets.push(u8::from(flags.recursion_desired));
    octets.push(u8::from(flags.authentic_data) << 5 | u8::from(flags.checking_disabled) << 4);
    octets.extend([0, 1, 0, 0, 0, 0, 0, u8::from(edns.is_some())]);
    octets.extend(question.to_octets());
    if let Some(edns) = edns {
        octets.extend(edns.to_octets());
    }
    octets
}

fn length_of(value: &[u8]) -> [u8; 2] {
    u16::try_from(value.len())
        .expect("options are an empty one and a cookie of at most 40 octets")
        .to_be_bytes()
}
