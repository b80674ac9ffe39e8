//! A probe to the VIP on a real server, by the way that clients' queries take.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use lvs_proto::dns::Answer;
use lvs_proto::health::{Diagnosis, ProbeOutcome};
use lvs_proto::ipvs::Protocol;
use tokio::sync::watch;

use crate::check::DnsCheck;
use crate::dns;
use crate::failure::Failure;
use crate::route::Route;
use crate::transport::Port;

/// A way to a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Path {
    /// The VIP, and the service's port.
    pub vip: SocketAddr,
    /// The mark for which IPVS has a service with that server alone.
    pub mark: NonZeroU32,
    /// Whether the server is on a LAN of this machine, as it is under direct routing.
    pub on_link: bool,
}

/// Opens when IPVS has the services for the marks: what is sent before would go to anybody.
#[derive(Clone, Debug)]
pub struct Gate {
    /// The table that the kernel has.
    pub applied: watch::Receiver<u64>,
    /// The first table that has the services.
    pub wanted: u64,
}

impl Gate {
    /// Waits until it is open.
    pub(crate) async fn opened(mut self) {
        // Whoever has the sender ends the checkers before it ends.
        let _ = self.applied.wait_for(|at| *at >= self.wanted).await;
    }
}

/// What is wrong with a real server that isn't reached by the VIP.
#[derive(Debug)]
pub struct Fault {
    pub(crate) diagnosis: Diagnosis,
    vip: IpAddr,
    server: IpAddr,
    failure: Box<Failure>,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            diagnosis,
            vip,
            server,
            failure,
        } = self;
        write!(formatter, "{diagnosis}: ")?;
        match diagnosis {
            Diagnosis::ServerDown => write!(formatter, "{failure}"),
            Diagnosis::VipMissing => write!(
                formatter,
                "it answers on {server}, not for {vip} ({failure}); run `rs-agent start --vip {vip}` \
                 there"
            ),
            Diagnosis::NotListeningOnVip => write!(
                formatter,
                "it answers on {server}, and nobody listens on {vip}; have the server listen there too"
            ),
            Diagnosis::WrongSource => write!(
                formatter,
                "it answers from {server} to what is sent to {vip}, which clients discard; have the \
                 server listen on {vip} itself"
            ),
            Diagnosis::Path => write!(
                formatter,
                "it answers well on {server}, but for {vip}: {failure}"
            ),
        }
    }
}

/// Asks the VIP on `server`, and where that fails the server's own address.
///
/// # Errors
/// [`Failure::Path`] with a diagnosis, or [`Failure::Local`] when this machine can't ask.
pub(crate) async fn ask(
    check: &DnsCheck,
    protocol: Protocol,
    path: &Path,
    server: SocketAddr,
    timeout: Duration,
    port: &mut Port,
) -> Result<Vec<Answer>, Failure> {
    let route = Route::through(path, server).map_err(Failure::Local)?;
    let failure = match dns::ask(check, protocol, route, timeout, port).await {
        Ok(answers) => return Ok(answers),
        Err(Failure::Local(error)) => return Err(Failure::Local(error)),
        Err(failure) => failure,
    };
    let own = match dns::ask(check, protocol, server, timeout, &mut Port::default()).await {
        Ok(_) => ProbeOutcome::Answered,
        Err(Failure::Local(error)) => return Err(Failure::Local(error)),
        Err(failure) => outcome(&failure),
    };
    let diagnosis = Diagnosis::of(own, outcome(&failure)).expect("the VIP wasn't answered for");
    Err(Failure::Path(Fault {
        diagnosis,
        vip: path.vip.ip(),
        server: server.ip(),
        failure: Box::new(failure),
    }))
}

fn outcome(failure: &Failure) -> ProbeOutcome {
    match failure {
        Failure::TimedOut(_) | Failure::Mismatched { .. } => ProbeOutcome::Silent,
        Failure::Socket(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused => ProbeOutcome::Refused,
            // Whoever took the packet would have passed it on.
            io::ErrorKind::HostUnreachable => ProbeOutcome::Silent,
            _ => ProbeOutcome::Other,
        },
        Failure::FromOwnAddress(_) => ProbeOutcome::FromOwnAddress,
        Failure::AfterTruncation(failure) | Failure::OfQuestion { failure, .. } => outcome(failure),
        _ => ProbeOutcome::Other,
    }
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::*;

    #[test]
    fn who_would_pass_a_probe_on_has_no_vip() {
        let failure = |errno: Errno| outcome(&Failure::Socket(errno.into()));
        assert_eq!(failure(Errno::EHOSTUNREACH), ProbeOutcome::Silent);
        assert_eq!(failure(Errno::ECONNREFUSED), ProbeOutcome::Refused);
        assert_eq!(failure(Errno::ECONNRESET), ProbeOutcome::Other);
    }

    #[test]
    fn the_reason_begins_with_the_diagnosis_and_says_what_to_do() {
        let fault = |diagnosis| {
            let fault = Fault {
                diagnosis,
                vip: [192, 0, 2, 100].into(),
                server: [192, 0, 2, 3].into(),
                failure: Box::new(Failure::TimedOut(Duration::from_millis(300))),
            };
            fault.to_string()
        };
        assert_eq!(
            fault(Diagnosis::VipMissing),
            "vip-missing: it answers on 192.0.2.3, not for 192.0.2.100 (no answer within 300 ms); run \
             `rs-agent start --vip 192.0.2.100` there"
        );
        assert_eq!(
            fault(Diagnosis::ServerDown),
            "server-down: no answer within 300 ms"
        );
    }
}
