//! Why a probe fails, whatever the check.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use hyper::StatusCode;
use lvs_proto::agent_check::Unreadable;
use lvs_proto::dns::{Fault, Mismatch, Name, Probe};
use lvs_proto::health::FailureKind;
use nix::errno::Errno;

use crate::path;
use crate::program;

/// Why a probe failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Nothing that answers the question came in time.
    #[error("no answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// What came until the deadline was something else.
    #[error("no answer within {} ms, only what isn't one: {mismatch}", .timeout.as_millis())]
    Mismatched {
        /// How long was waited.
        timeout: Duration,
        /// Why the last that came isn't the answer.
        mismatch: Mismatch,
    },
    /// The server's host said that nobody listens, or the server closed the connection.
    #[error("{0}")]
    Socket(io::Error),
    /// This machine couldn't ask: it says nothing about the server.
    #[error("{0}")]
    Local(io::Error),
    /// The answer isn't good enough.
    #[error("{0}")]
    Fault(Fault),
    /// The answer over UDP is truncated, and the whole one isn't to be had over TCP.
    #[error("truncated over UDP, and over TCP: {0}")]
    AfterTruncation(Box<Self>),
    /// What was sent to a VIP on a real server was answered from the server's own address.
    #[error("an answer from {0}")]
    FromOwnAddress(IpAddr),
    /// The way of clients' queries to a real server doesn't work.
    #[error("{0}")]
    Path(path::Fault),
    /// One of several questions.
    #[error("{name}: {failure}")]
    OfQuestion {
        /// The name asked for.
        name: Name,
        /// What happened.
        failure: Box<Self>,
    },
    /// HTTP that isn't.
    #[error("{0}")]
    Http(#[from] hyper::Error),
    /// Another status than those that are good.
    #[error("status {0}")]
    Status(StatusCode),
    /// A page without what it should say.
    #[error("no `{0}` in the body")]
    Body(String),
    /// The server's agent says that it isn't well.
    #[error("{0}")]
    Down(String),
    /// The server's agent says something that can't be read: that changes nothing.
    #[error("{0}")]
    Agent(Unreadable),
    /// A program that looked at the server.
    #[error("{0}")]
    Program(program::Failure),
}

impl Failure {
    /// What kind of failure of the server's it is.
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::TimedOut(_) => FailureKind::Timeout,
            Self::Mismatched { .. } => FailureKind::Mismatch,
            Self::Socket(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                FailureKind::Refused
            }
            // A certificate that isn't the server's.
            Self::Socket(error) if error.kind() == io::ErrorKind::InvalidData => {
                FailureKind::Mismatch
            }
            Self::Socket(_) | Self::Local(_) => FailureKind::Network,
            Self::Fault(fault) => fault.kind(),
            Self::Http(error) if error.is_parse() => FailureKind::Parse,
            Self::Http(_) => FailureKind::Network,
            Self::Status(_) => FailureKind::ResponseCode,
            Self::Body(_) | Self::Down(_) => FailureKind::Content,
            Self::Agent(_) => FailureKind::Parse,
            Self::Program(program::Failure::TooSlow { .. }) => FailureKind::Timeout,
            Self::Program(_) => FailureKind::Exit,
            Self::FromOwnAddress(_) => FailureKind::WrongSource,
            Self::Path(fault) => fault.diagnosis.kind(),
            Self::AfterTruncation(failure) | Self::OfQuestion { failure, .. } => failure.kind(),
        }
    }

    /// Says which of several questions failed; what this machine lacks concerns them all.
    pub(crate) fn of(self, probe: &Probe) -> Self {
        match self {
            Self::Local(_) => self,
            failure => Self::OfQuestion {
                name: probe.name.clone(),
                failure: Box::new(failure),
            },
        }
    }

    /// Whether it says nothing about the server.
    pub fn is_no_news(&self) -> bool {
        matches!(self, Self::Local(_) | Self::Agent(_))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let local = [
            Errno::EMFILE,
            Errno::ENFILE,
            Errno::ENOBUFS,
            Errno::ENOMEM,
            Errno::EADDRNOTAVAIL,
            Errno::ENETUNREACH,
            Errno::ENETDOWN,
            Errno::EPERM,
        ];
        let errno = error.raw_os_error().map(Errno::from_raw);
        if errno.is_some_and(|errno| local.contains(&errno)) {
            Self::Local(error)
        } else {
            Self::Socket(error)
        }
    }
}
