//! What is expected of an answer.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::answer::{Answer, Answering};
use super::{RecordType, Records, ResponseCode};
use crate::health::FailureKind;

/// What a healthy server's answer is like.
///
/// The rules for records are for answers with NOERROR: where another response code is allowed, an
/// answer with that one needs none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Expectation {
    /// One of these.
    pub response_codes: BTreeSet<ResponseCode>,
    /// All of these are set.
    pub flags: BTreeSet<Flag>,
    /// What the records of the asked type say.
    pub records: Option<Records>,
    /// How many different records of the asked type there are at least.
    pub minimum_records: u16,
    /// Where their times to live are, in seconds.
    pub time_to_live: Option<RangeInclusive<u32>>,
}

impl Default for Expectation {
    /// What a resolver and an authoritative server alike do in good health: NOERROR with a record
    /// of the asked type.
    fn default() -> Self {
        Self {
            response_codes: BTreeSet::from([ResponseCode::NO_ERROR]),
            flags: BTreeSet::new(),
            records: None,
            minimum_records: 1,
            time_to_live: None,
        }
    }
}

/// A flag of the header that an answer must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Flag {
    /// AA (RFC 1035, section 4.1.1).
    AuthoritativeAnswer,
    /// RA (RFC 1035, section 4.1.1).
    RecursionAvailable,
    /// AD (RFC 4035, section 3.2.3).
    AuthenticData,
}

/// The text is not a flag that an answer can be expected to have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown flag `{0}`; known are aa, ra and ad")]
pub struct UnknownFlag(pub String);

/// What is wrong with an answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The server says that it failed, or how else it fared.
    ResponseCode(ResponseCode),
    /// The answer section ends early or can't be read.
    Malformed,
    /// A flag isn't set.
    NoFlag(Flag),
    /// No record of the asked type for the asked name, aliases followed.
    NoRecord(RecordType),
    /// Fewer different records than there should be.
    FewRecords {
        /// How many there are.
        found: usize,
        /// How many there should be at least.
        minimum: u16,
    },
    /// The records don't say what they should; what they do say.
    Records(String),
    /// The shortest time to live, in seconds, is another one than it should be.
    TimeToLive(u32),
    /// All signatures of the records have ended; when the first of them did (RFC 4034, section 3.1.5).
    SignatureExpired(u32),
}

/// Of what servers send, this many letters at most go into a message to people.
const QUOTED: usize = 120;

impl Flag {
    /// The flag's two letters.
    pub fn mnemonic(self) -> &'static str {
        match self {
            Self::AuthoritativeAnswer => "AA",
            Self::RecursionAvailable => "RA",
            Self::AuthenticData => "AD",
        }
    }

    fn is_set_in(self, answer: &Answer) -> bool {
        match self {
            Self::AuthoritativeAnswer => answer.authoritative,
            Self::RecursionAvailable => answer.recursion_available,
            Self::AuthenticData => answer.authentic_data,
        }
    }
}

impl FromStr for Flag {
    type Err = UnknownFlag;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [
            Self::AuthoritativeAnswer,
            Self::RecursionAvailable,
            Self::AuthenticData,
        ]
        .into_iter()
        .find(|flag| flag.mnemonic().eq_ignore_ascii_case(text))
        .ok_or_else(|| UnknownFlag(text.to_owned()))
    }
}

impl fmt::Display for Flag {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.mnemonic())
    }
}

impl Fault {
    /// What kind of failure it is.
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::ResponseCode(_) => FailureKind::ResponseCode,
            Self::Malformed => FailureKind::Parse,
            Self::NoFlag(_)
            | Self::NoRecord(_)
            | Self::FewRecords { .. }
            | Self::Records(_)
            | Self::TimeToLive(_)
            | Self::SignatureExpired(_) => FailureKind::Content,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ResponseCode(code) => code.fmt(formatter),
            Self::Malformed => formatter.write_str("malformed answer"),
            Self::NoFlag(flag) => write!(formatter, "the answer has no {flag} flag"),
            Self::NoRecord(record_type) => {
                write!(formatter, "no {record_type} record in the answer")
            }
            Self::FewRecords { found, minimum } => {
                write!(
                    formatter,
                    "{found} records in the answer, {minimum} expected"
                )
            }
            Self::Records(found) => write!(formatter, "unexpected records: {found}"),
            Self::TimeToLive(seconds) => write!(formatter, "unexpected time to live: {seconds} s"),
            Self::SignatureExpired(_) => formatter.write_str("the signature has expired"),
        }
    }
}

impl Expectation {
    /// What the header alone must be like.
    pub(super) fn judge_header(&self, answer: &Answer) -> Result<(), Fault> {
        if !self.response_codes.contains(&answer.response_code) {
            return Err(Fault::ResponseCode(answer.response_code));
        }
        match self.flags.iter().find(|flag| !flag.is_set_in(answer)) {
            Some(flag) => Err(Fault::NoFlag(*flag)),
            None => Ok(()),
        }
    }

    /// What the records must be like, of an answer of which the `whole` section could be read or
    /// not. An answer cut short is as good as a whole one where what was read is enough.
    pub(super) fn judge_records(
        &self,
        answer: &Answer,
        answering: &Answering<'_>,
        record_type: RecordType,
        whole: bool,
    ) -> Result<(), Fault> {
        if answer.response_code != ResponseCode::NO_ERROR {
            return Ok(());
        }
        let enough = answer.records >= usize::from(self.minimum_records);
        let needs_all = self.records.is_some() || self.time_to_live.is_some();
        if !whole && (!enough || needs_all) {
            return Err(Fault::Malformed);
        }
        if !enough && answer.records == 0 {
            return Err(Fault::NoRecord(record_type));
        }
        if !enough {
            return Err(Fault::FewRecords {
                found: answer.records,
                minimum: self.minimum_records,
            });
        }
        if let Some(records) = &self.records {
            let found = answering.data().ok_or(Fault::Malformed)?;
            if !records.accept(&found) {
                let found: Vec<String> = found.iter().map(ToString::to_string).collect();
                let quoted = found.join(", ").chars().take(QUOTED).collect();
                return Err(if found.is_empty() {
                    Fault::NoRecord(record_type)
                } else {
                    Fault::Records(quoted)
                });
            }
        }
        match (&self.time_to_live, answer.time_to_live) {
            (Some(range), Some(seconds)) if !range.contains(&seconds) => {
                Err(Fault::TimeToLive(seconds))
            }
            _ => Ok(()),
        }
    }
}
