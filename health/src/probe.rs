//! One probe of a target, whatever the check.

use std::net::SocketAddr;
use std::time::Duration;

use lvs_proto::agent_check::Report;
use lvs_proto::ipvs::Protocol;

use crate::agent::Agent;
use crate::check::{CheckKind, DnsCheck, ExecCheck, HttpCheck, UdpCheck};
use crate::failure::Failure;
use crate::transport::Port;
use crate::{Path, Target, dns, exec, http, path, plain};

/// What a good probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Good {
    /// Whether an answer came, whose time tells how fast the server is.
    pub answered: bool,
    /// How much the server takes, where the check finds that out.
    pub report: Option<Report>,
    /// Who the server says that it is, where it was asked (RFC 5001).
    pub identity: Option<String>,
}

impl Good {
    pub(crate) fn answer() -> Self {
        Self {
            answered: true,
            report: None,
            identity: None,
        }
    }

    pub(crate) fn silence() -> Self {
        Self {
            answered: false,
            report: None,
            identity: None,
        }
    }
}

/// Probes a target again and again.
pub struct Prober {
    server: SocketAddr,
    limit: Duration,
    method: Method,
}

/// What is done, with what one probe leaves for the next.
enum Method {
    Dns {
        check: DnsCheck,
        transport: Protocol,
        port: Port,
        path: Option<Path>,
    },
    Tcp,
    Udp(UdpCheck),
    Http(HttpCheck),
    Exec {
        check: ExecCheck,
        report: Option<Report>,
    },
    Agent(Agent),
}

impl Prober {
    /// One that hasn't probed yet.
    ///
    /// # Panics
    /// When the target of a DNS check has no transport.
    pub fn new(target: &Target) -> Self {
        let method = match &target.probing.kind {
            CheckKind::Dns(check) => Method::Dns {
                check: check.clone(),
                port: Port::default(),
                transport: target.transport.expect("DNS is asked over a transport"),
                path: target.path,
            },
            CheckKind::Tcp => Method::Tcp,
            CheckKind::Udp(check) => Method::Udp(check.clone()),
            CheckKind::Http(check) => Method::Http(check.clone()),
            CheckKind::Exec(check) => Method::Exec {
                check: check.clone(),
                report: None,
            },
            CheckKind::Agent => Method::Agent(Agent::new()),
        };
        Self {
            server: target.server,
            limit: target.probing.timeout,
            method,
        }
    }

    /// Probes once.
    ///
    /// # Errors
    /// When the server isn't well, or that couldn't be found out: [`Failure::is_no_news`].
    pub async fn probe(&mut self) -> Result<Good, Failure> {
        let Self {
            server,
            limit,
            method,
        } = self;
        let (server, limit) = (*server, *limit);
        match method {
            Method::Dns {
                check,
                transport,
                port,
                path,
            } => {
                let answers = match path {
                    None => dns::ask(check, *transport, server, limit, port).await?,
                    Some(path) => path::ask(check, *transport, path, server, limit, port).await?,
                };
                let mut identities = answers
                    .iter()
                    .filter_map(|answer| answer.name_server_identifier.as_ref());
                Ok(Good {
                    // Octets that may be anything: most servers send their host name.
                    identity: identities
                        .next()
                        .map(|octets| octets.escape_ascii().to_string()),
                    ..Good::answer()
                })
            }
            Method::Tcp => plain::connect(server, limit).await,
            Method::Udp(check) => plain::send(check, server, limit).await,
            Method::Http(check) => http::get(check, server, limit).await,
            Method::Exec { check, report } => {
                let good = exec::run(check, server, limit).await?;
                *report = good.report;
                Ok(good)
            }
            Method::Agent(agent) => agent.hear(server, limit).await,
        }
    }

    /// How much the server takes, as far as the check finds that out.
    pub fn report(&self) -> Option<Report> {
        match &self.method {
            Method::Exec { report, .. } => *report,
            Method::Agent(agent) => Some(agent.report()),
            _ => None,
        }
    }
}
