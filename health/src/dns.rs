//! A DNS check: one question, or several at once.

use std::time::Duration;

use lvs_proto::dns::Answer;
use lvs_proto::ipvs::Protocol;
use tokio::task::JoinSet;

use crate::check::DnsCheck;
use crate::failure::Failure;
use crate::route::Route;
use crate::transport::{self, Port};

/// Asks all questions of `check` once by a route, until enough of them are answered well or badly,
/// and gives the good answers that came until then. A single question over UDP leaves from `port`.
///
/// # Errors
/// When too many are not answered well within `timeout`: the last of those failures. At once when
/// this machine can't ask.
pub(crate) async fn ask(
    check: &DnsCheck,
    protocol: Protocol,
    route: impl Into<Route>,
    timeout: Duration,
    port: &mut Port,
) -> Result<Vec<Answer>, Failure> {
    let route = route.into();
    let follows = check.follows_truncation;
    if let [probe] = &check.probes[..] {
        let answer = transport::ask(probe, protocol, follows, route, timeout, port).await?;
        return Ok(vec![answer]);
    }
    let total = check.probes.len();
    let mut questions = JoinSet::new();
    for probe in &check.probes {
        let probe = probe.clone();
        questions.spawn(async move {
            let port = &mut Port::default();
            transport::ask(&probe, protocol, follows, route, timeout, port)
                .await
                .map_err(|failure| failure.of(&probe))
        });
    }
    let (mut answers, mut failed) = (Vec::new(), 0);
    while let Some(joined) = questions.join_next().await {
        let mut last_failure = None;
        match joined.expect("a question doesn't panic, and nobody else ends it") {
            Ok(answer) => answers.push(answer),
            Err(Failure::Local(error)) => return Err(Failure::Local(error)),
            Err(failure) => {
                failed += 1;
                last_failure = Some(failure);
            }
        }
        match (
            check.require.settled(answers.len(), failed, total),
            last_failure,
        ) {
            (Some(false), Some(failure)) => return Err(failure),
            (Some(true), _) => break,
            _ => {}
        }
    }
    Ok(answers)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::{Ipv4Addr, SocketAddr};

    use lvs_proto::dns::{Probe, RecordType, Requirement};
    use lvs_proto::health::FailureKind;
    use tokio::net::UdpSocket;
    use tokio::time::Instant;

    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(300);

    /// Says NOERROR with a record to `good.example`, SERVFAIL to others, nothing to `lost.example`.
    async fn server() -> SocketAddr {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            loop {
                let (length, client) = socket.recv_from(&mut buffer).await.unwrap();
                let mut message = buffer[..length].to_vec();
                message[2] |= 0x80;
                match &message[13..17] {
                    b"good" => {
                        message[7] = 1;
                        message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 1, 2, 3, 4]);
                    }
                    b"lost" => continue,
                    _ => message[3] |= 2,
                }
                socket.send_to(&message, client).await.unwrap();
            }
        });
        address
    }

    async fn ask_for(names: &[&str], require: Requirement) -> Result<usize, Failure> {
        let probe =
            |name: &&str| Probe::new(format!("{name}.example").parse().unwrap(), RecordType::A);
        let check = DnsCheck {
            probes: names.iter().map(probe).collect(),
            require,
            follows_truncation: true,
        };
        let answers = ask(
            &check,
            Protocol::Udp,
            server().await,
            TIMEOUT,
            &mut Port::default(),
        )
        .await?;
        Ok(answers.len())
    }

    #[tokio::test]
    async fn as_many_names_as_required_must_be_answered() {
        use Requirement::{All, Any, Majority};
        ask_for(&["good"], All).await.unwrap();
        assert_eq!(ask_for(&["good", "good"], All).await.unwrap(), 2);
        let failure = ask_for(&["good", "bad1"], All).await.unwrap_err();
        assert_eq!(failure.to_string(), "bad1.example: SERVFAIL");
        assert_eq!(failure.kind(), FailureKind::ResponseCode);
        assert_eq!(ask_for(&["good", "bad1", "bad2"], Any).await.unwrap(), 1);
        ask_for(&["bad1", "bad2"], Any).await.unwrap_err();
        ask_for(&["good", "bad1", "bad2"], Majority)
            .await
            .unwrap_err();
        ask_for(&["good", "good", "bad1"], Majority).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_settled_is_not_waited_for() {
        let started = Instant::now();
        ask_for(&["good", "lost"], Requirement::Any).await.unwrap();
        ask_for(&["bad1", "lost"], Requirement::All)
            .await
            .unwrap_err();
        assert!(started.elapsed() < TIMEOUT);
        let failure = ask_for(&["good", "lost"], Requirement::All)
            .await
            .unwrap_err();
        assert_eq!(failure.to_string(), "lost.example: no answer within 300 ms");
    }
}
