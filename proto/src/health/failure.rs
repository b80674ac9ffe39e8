//! Why a probe fails.

use core::fmt;

/// What kind of failure it is.
///
/// Displays as the word that metrics have for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// Nothing came in time.
    Timeout,
    /// The server's host says that nobody listens.
    Refused,
    /// The network, or a connection that broke off.
    Network,
    /// What came can't be read.
    Parse,
    /// What came isn't the answer to what was asked.
    Mismatch,
    /// An answer with a code that isn't good enough: of DNS, or HTTP's status.
    ResponseCode,
    /// An answer that doesn't say what it should.
    Content,
    /// A program that ended badly, or couldn't be run.
    Exit,
    /// [`Diagnosis::ServerDown`](super::Diagnosis::ServerDown).
    ServerDown,
    /// [`Diagnosis::VipMissing`](super::Diagnosis::VipMissing).
    VipMissing,
    /// [`Diagnosis::NotListeningOnVip`](super::Diagnosis::NotListeningOnVip).
    NotListeningOnVip,
    /// [`Diagnosis::WrongSource`](super::Diagnosis::WrongSource).
    WrongSource,
    /// [`Diagnosis::Path`](super::Diagnosis::Path).
    Path,
}

impl FailureKind {
    /// All there are, in the order of their declaration.
    pub const ALL: [Self; 13] = [
        Self::Timeout,
        Self::Refused,
        Self::Network,
        Self::Parse,
        Self::Mismatch,
        Self::ResponseCode,
        Self::Content,
        Self::Exit,
        Self::ServerDown,
        Self::VipMissing,
        Self::NotListeningOnVip,
        Self::WrongSource,
        Self::Path,
    ];

    /// Its word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Refused => "refused",
            Self::Network => "network",
            Self::Parse => "parse",
            Self::Mismatch => "mismatch",
            Self::ResponseCode => "rcode",
            Self::Content => "content",
            Self::Exit => "exit",
            Self::ServerDown => "server-down",
            Self::VipMissing => "vip-missing",
            Self::NotListeningOnVip => "not-listening-on-vip",
            Self::WrongSource => "wrong-source",
            Self::Path => "path",
        }
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.word())
    }
}
