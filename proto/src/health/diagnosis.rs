//! What is wrong with a real server, from two probes: one to its own address, and one to the VIP on it,
//! by the way that clients' queries take.

use core::fmt;

use super::FailureKind;

/// What came of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A good answer, from the address that was asked.
    Answered,
    /// Nothing in time.
    Silent,
    /// The word that nobody listens: ICMP port unreachable, or a TCP reset.
    Refused,
    /// An answer from the server's own address to what was asked of the VIP.
    FromOwnAddress,
    /// Anything else: a bad answer, another ICMP error, a connection that broke off.
    Other,
}

/// What is wrong.
///
/// Displays as its word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Diagnosis {
    /// It answers on neither address.
    ServerDown,
    /// It answers on its own address, and takes nothing that is sent to the VIP: `rs-agent start` was
    /// forgotten there.
    VipMissing,
    /// The machine has the VIP, and no program listens there.
    NotListeningOnVip,
    /// It takes what is sent to the VIP and answers from its own address, which clients discard.
    WrongSource,
    /// It answers on its own address well, and otherwise on the VIP.
    Path,
}

impl Diagnosis {
    /// What the outcomes of both probes mean; nothing is wrong where the VIP's is answered, for that is
    /// what clients see.
    pub fn of(own: Outcome, vip: Outcome) -> Option<Self> {
        match (own, vip) {
            (_, Outcome::Answered) => None,
            // Somebody answered, whatever the other probe says.
            (_, Outcome::FromOwnAddress) => Some(Self::WrongSource),
            (Outcome::Answered, Outcome::Silent) => Some(Self::VipMissing),
            (Outcome::Answered, Outcome::Refused) => Some(Self::NotListeningOnVip),
            (Outcome::Answered, Outcome::Other) => Some(Self::Path),
            (
                Outcome::Silent | Outcome::Refused | Outcome::FromOwnAddress | Outcome::Other,
                Outcome::Silent | Outcome::Refused | Outcome::Other,
            ) => Some(Self::ServerDown),
        }
    }

    /// The kind of failure that it is.
    pub fn kind(self) -> FailureKind {
        match self {
            Self::ServerDown => FailureKind::ServerDown,
            Self::VipMissing => FailureKind::VipMissing,
            Self::NotListeningOnVip => FailureKind::NotListeningOnVip,
            Self::WrongSource => FailureKind::WrongSource,
            Self::Path => FailureKind::Path,
        }
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind().fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_outcomes_make_a_diagnosis() {
        use Outcome::{Answered, FromOwnAddress, Other, Refused, Silent};
        let all = [Answered, Silent, Refused, FromOwnAddress, Other];
        let words = |own| {
            all.map(|vip| {
                Diagnosis::of(own, vip).map_or_else(|| "-".to_owned(), |what| what.to_string())
            })
        };
        let well = [
            "-",
            "vip-missing",
            "not-listening-on-vip",
            "wrong-source",
            "path",
        ];
        assert_eq!(words(Answered), well);
        for own in [Silent, Refused, FromOwnAddress, Other] {
            let down = "server-down";
            assert_eq!(words(own), ["-", down, down, "wrong-source", down]);
        }
    }
}
