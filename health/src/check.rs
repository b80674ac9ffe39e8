//! How real servers are probed, complete and checked.

use std::fmt;
use std::num::{NonZeroU8, NonZeroU16};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use lvs_proto::Pattern;
use lvs_proto::dns::{Class, Probe, Requirement};
use lvs_proto::ipvs::Protocol;

/// While the results speak against the verdict, and before there is one, probes come this much
/// oftener: a doubt is settled before clients notice.
const DOUBT_SPEEDUP: u32 = 5;
/// Not even a doubt is worth more than 20 queries a second.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(50);
/// Checkers that started together drift apart by up to this part of an interval.
const JITTER: f64 = 0.1;

/// One way to find out whether a service's real servers work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What is done, and how often. Equal ones of one server are run once, whatever the services.
    pub probing: Arc<Probing>,
    /// The port that is probed; the server's own when absent.
    pub port: Option<NonZeroU16>,
    /// Whom it speaks for: at least one of the service's protocols, each once.
    pub protocols: Vec<Protocol>,
    /// Whether the VIPs on the real servers are probed beside their own addresses; of DNS only.
    pub path: bool,
}

/// What is done to a real server, and how its results are counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Probing {
    /// What is done.
    pub kind: CheckKind,
    /// Between the starts of two probes of one server: 10 ms to 1 h.
    pub interval: Duration,
    /// How long an answer may take: 1 ms to the interval.
    pub timeout: Duration,
    /// Good probes in a row that bring a server in.
    pub rise: NonZeroU8,
    /// Bad probes in a row that take a server out.
    pub fall: NonZeroU8,
}

impl Probing {
    /// From the start of a probe to the start of the next: a little less than the interval, so that
    /// probers that started together drift apart, and much less in doubt.
    pub fn pause(&self, in_doubt: bool) -> Duration {
        let interval = if in_doubt {
            (self.interval / DOUBT_SPEEDUP).max(SHORTEST_INTERVAL.min(self.interval))
        } else {
            self.interval
        };
        // Only ever earlier, so that the configured interval is what it says at most.
        interval.mul_f64(1.0 - JITTER * rand::random::<f64>())
    }
}

/// What a probe does.
///
/// Displays in a few words, such as `DNS www.example.org A`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CheckKind {
    /// Asks a DNS query, over each protocol that it speaks for.
    Dns(DnsCheck),
    /// Opens a connection.
    Tcp,
    /// Sends a datagram.
    Udp(UdpCheck),
    /// Asks for a page over HTTP or HTTPS.
    Http(HttpCheck),
    /// Runs a program.
    Exec(ExecCheck),
    /// Lets the server's agent speak for it.
    Agent,
}

/// One DNS question or several.
///
/// Displays in a few words, such as `www.example.org A`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DnsCheck {
    /// What is asked and expected: at least one, for different names.
    pub probes: Vec<Probe>,
    /// How many of them a healthy server answers well.
    pub require: Requirement,
    /// Whether the service has TCP, so that a truncated answer over UDP is followed there.
    pub follows_truncation: bool,
}

impl fmt::Display for DnsCheck {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [_, _, ..] = self.probes[..] {
            write!(formatter, "{} of ", self.require)?;
        }
        for (index, probe) in self.probes.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(formatter, "{separator}{}", probe.name)?;
        }
        if let Some(Probe {
            class, record_type, ..
        }) = self.probes.first()
        {
            if *class != Class::Internet {
                write!(formatter, " {class}")?;
            }
            write!(formatter, " {record_type}")?;
        }
        Ok(())
    }
}

/// A datagram, for what isn't DNS.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UdpCheck {
    /// What is sent.
    pub payload: Vec<u8>,
    /// Whether silence is a failure.
    pub require_reply: bool,
}

/// A page.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HttpCheck {
    /// HTTPS where there is something: whether the certificate has to be right.
    pub verify: Option<bool>,
    /// The name that is asked for, and that the certificate is for; the server's address if absent.
    pub host: Option<String>,
    /// What is asked for, from its `/` on.
    pub path: String,
    /// The statuses that are good: at least one range of 100 to 599.
    pub status: Vec<RangeInclusive<u16>>,
    /// What the body has to have somewhere in its first 64 KiB.
    pub body: Option<Pattern>,
}

/// A program.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ExecCheck {
    /// Its absolute path and its arguments, in which `{address}` and `{port}` stand for the server's.
    pub command: Vec<String>,
    /// Whether exit statuses from 2 on are weights: 2 for 0 %, 102 for all of the configured one.
    pub weight_by_exit: bool,
}

impl CheckKind {
    /// The key that it has in the file.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Dns(_) => "dns",
            Self::Tcp => "tcp",
            Self::Udp(_) => "udp",
            Self::Http(HttpCheck { verify: None, .. }) => "http",
            Self::Http(_) => "https",
            Self::Exec(_) => "exec",
            Self::Agent => "agent",
        }
    }

    /// The protocols whose servers it can judge.
    pub fn speaks_for(&self) -> &'static [Protocol] {
        match self {
            Self::Dns(_) => &[Protocol::Udp, Protocol::Tcp],
            Self::Tcp => &[Protocol::Tcp],
            Self::Udp(_) => &[Protocol::Udp],
            Self::Http(_) | Self::Exec(_) | Self::Agent => {
                &[Protocol::Udp, Protocol::Tcp, Protocol::Sctp]
            }
        }
    }

    /// Whether it is done over each protocol by itself, with a verdict for that one only.
    pub fn has_transports(&self) -> bool {
        matches!(self, Self::Dns(_))
    }
}

impl fmt::Display for CheckKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(dns) => write!(formatter, "DNS {dns}"),
            Self::Tcp => formatter.write_str("TCP connection"),
            Self::Udp(check) => write!(formatter, "UDP {check}"),
            Self::Http(check) => check.fmt(formatter),
            Self::Exec(check) => write!(formatter, "program {check}"),
            Self::Agent => formatter.write_str("agent"),
        }
    }
}

impl fmt::Display for UdpCheck {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.payload.len() {
            0 => formatter.write_str("empty datagram")?,
            _ => write!(formatter, "`{}`", self.payload.escape_ascii())?,
        }
        if self.require_reply {
            formatter.write_str(", with a reply")?;
        }
        Ok(())
    }
}

impl fmt::Display for HttpCheck {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.verify {
            None => "HTTP",
            Some(true) => "HTTPS",
            Some(false) => "HTTPS, unverified,",
        };
        let host = self.host.as_deref().unwrap_or_default();
        write!(formatter, "{scheme} {host}{} is", self.path)?;
        for (index, status) in self.status.iter().enumerate() {
            let separator = if index == 0 { ' ' } else { ',' };
            write!(formatter, "{separator}{}", status.start())?;
            if status.start() != status.end() {
                write!(formatter, "-{}", status.end())?;
            }
        }
        if let Some(body) = &self.body {
            write!(formatter, ", body has `{body}`")?;
        }
        Ok(())
    }
}

impl fmt::Display for ExecCheck {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.command.join(" "))?;
        if self.weight_by_exit {
            formatter.write_str(", with weights")?;
        }
        Ok(())
    }
}
