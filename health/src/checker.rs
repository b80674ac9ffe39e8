//! One checker: probes one target at its interval, for ever.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lvs_proto::health::{FailureKind, Tally, Verdict};
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{error, warn};

use crate::failure::Failure;
use crate::probe::{Good, Prober};
use crate::{Change, Event, Gate, Reason, Target};

/// Between two words on how long answers took.
const LATENCY_PAUSE: Duration = Duration::from_secs(1);

/// Counts what becomes of probes.
pub trait Observer: Send + Sync + 'static {
    /// An answer came, and took that long.
    fn answered(&self, took: Duration);
    /// A probe failed.
    fn failed(&self, kind: FailureKind);
    /// A probe could not be made, for want of something on this machine.
    fn not_made(&self);
}

/// One checker, before it starts.
pub struct Checker<O> {
    /// What its events carry.
    pub number: u64,
    /// What it probes.
    pub target: Target,
    /// Who counts.
    pub observer: O,
    /// Who hears of it.
    pub events: UnboundedSender<Event>,
    /// Whether somebody wants to know how long answers take; may change at any time.
    pub tells_latency: Arc<AtomicBool>,
}

impl<O: Observer> Checker<O> {
    /// Starts it, with its first probe after `delay` and not before `gate` is open. It ends when its handle
    /// is told to.
    pub fn spawn(self, delay: Duration, gate: Option<Gate>) -> AbortHandle {
        tokio::spawn(self.run(delay, gate)).abort_handle()
    }

    async fn run(self, delay: Duration, gate: Option<Gate>) {
        sleep(delay).await;
        if let Some(gate) = gate {
            gate.opened().await;
        }
        let probing = &self.target.probing;
        let mut prober = Prober::new(&self.target);
        let mut tally = Tally::new(probing.rise, probing.fall);
        let mut reported = None;
        let mut identity = None;
        let mut last_failure = None;
        // The kind of failure that was told last.
        let mut told = None;
        let mut obstructed = false;
        // Checkers that start together are not to stay together.
        let mut spread = true;
        let mut latencies = Latencies::new();
        loop {
            let started = Instant::now();
            let result = prober.probe().await;
            match &result {
                Ok(good) if good.answered => {
                    let took = started.elapsed();
                    self.observer.answered(took);
                    if self.tells_latency.load(Ordering::Relaxed)
                        && let Some(average) = latencies.record(took)
                    {
                        self.tell(Change::Latency(average));
                    }
                }
                Ok(_) => {}
                Err(Failure::Local(error)) => {
                    self.observer.not_made();
                    self.tell_of_obstruction(error, obstructed);
                    if self.target.path.is_some() && !obstructed {
                        // A way that can't be tried from here speaks against nobody.
                        self.tell(Change::Verdict {
                            verdict: Verdict::Healthy,
                            reason: None,
                        });
                        tally = Tally::new(probing.rise, probing.fall);
                    }
                }
                Err(failure) => {
                    let reason = Reason {
                        kind: failure.kind(),
                        text: failure.to_string(),
                    };
                    self.observer.failed(reason.kind);
                    // What was wrong at first may be of a bad moment, or mended in part.
                    if tally.verdict() == Verdict::Unhealthy
                        && told != Some(reason.kind)
                        && !failure.is_no_news()
                    {
                        told = Some(reason.kind);
                        self.tell(Change::Verdict {
                            verdict: Verdict::Unhealthy,
                            reason: Some(reason.clone()),
                        });
                    }
                    last_failure = Some(reason);
                }
            }
            obstructed = matches!(result, Err(Failure::Local(_)));
            if let Ok(Good {
                identity: Some(said),
                ..
            }) = &result
                && identity.as_ref() != Some(said)
            {
                identity = Some(said.clone());
                self.tell(Change::Identity(said.clone()));
            }
            let report = prober.report();
            if report != reported {
                reported = report;
                self.tell(Change::Agent(report));
            }
            let is_news = !matches!(&result, Err(failure) if failure.is_no_news());
            if is_news && let Some(verdict) = tally.record(result.is_ok()) {
                let reason = last_failure
                    .take()
                    .filter(|_| verdict == Verdict::Unhealthy);
                told = reason.as_ref().map(|reason| reason.kind);
                self.tell(Change::Verdict { verdict, reason });
            }
            let mut pause = probing.pause(tally.in_doubt());
            if spread && !tally.in_doubt() {
                spread = false;
                pause = pause.mul_f64(rand::random());
            }
            sleep_until(started + pause).await;
        }
    }

    fn tell(&self, change: Change) {
        // The engine ends its checkers before it ends.
        let _ = self.events.send(Event {
            checker: self.number,
            change,
        });
    }

    /// Said once, until a probe can be made again.
    fn tell_of_obstruction(&self, error: &io::Error, said: bool) {
        if !said {
            let Target {
                server, probing, ..
            } = &self.target;
            let check = &probing.kind;
            match &self.target.path {
                None => {
                    error!(%server, %check, %error, "cannot probe: this machine lacks something; the last verdict stays");
                }
                Some(path) => {
                    let vip = path.vip;
                    warn!(%vip, %server, %error, "cannot probe the way to a VIP on a real server from here, so nobody is taken out for it; `path: false` in the check ends this");
                }
            }
        }
    }
}

/// How long answers took since that was told last.
struct Latencies {
    told: Instant,
    sum: Duration,
    number: u32,
}

impl Latencies {
    fn new() -> Self {
        Self {
            told: Instant::now(),
            sum: Duration::ZERO,
            number: 0,
        }
    }

    /// Counts one; their average when it's time to tell.
    fn record(&mut self, took: Duration) -> Option<Duration> {
        self.sum += took;
        self.number += 1;
        if self.told.elapsed() < LATENCY_PAUSE {
            return None;
        }
        let average = self.sum / self.number;
        *self = Self::new();
        Some(average)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::SocketAddr;

    use lvs_proto::ipvs::Protocol;
    use tokio::net::UdpSocket;
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
    use tokio::time::timeout;

    use super::*;
    use crate::check::{CheckKind, Probing, UdpCheck};

    struct Nobody;

    impl Observer for Nobody {
        fn answered(&self, _: Duration) {}
        fn failed(&self, _: FailureKind) {}
        fn not_made(&self) {}
    }

    fn started(server: SocketAddr) -> (AbortHandle, UnboundedReceiver<Event>) {
        let check = UdpCheck {
            payload: b"well?".to_vec(),
            require_reply: true,
        };
        let (events, told) = unbounded_channel();
        let checker = Checker {
            number: 1,
            target: Target {
                server,
                transport: Some(Protocol::Udp),
                probing: Arc::new(Probing {
                    interval: Duration::from_millis(20),
                    timeout: Duration::from_millis(20),
                    rise: 2.try_into().unwrap(),
                    fall: 2.try_into().unwrap(),
                    kind: CheckKind::Udp(check),
                }),
                path: None,
            },
            observer: Nobody,
            events,
            tells_latency: Arc::default(),
        };
        (checker.spawn(Duration::ZERO, None), told)
    }

    async fn next_kind(told: &mut UnboundedReceiver<Event>) -> Option<FailureKind> {
        let event = timeout(Duration::from_secs(20), told.recv()).await;
        match event.unwrap().unwrap().change {
            Change::Verdict { verdict, reason } => {
                assert_eq!(verdict == Verdict::Unhealthy, reason.is_some());
                reason.map(|reason| reason.kind)
            }
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn another_kind_of_failure_is_told_once() {
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let server = silent.local_addr().unwrap();
        let (checker, mut told) = started(server);
        assert_eq!(next_kind(&mut told).await, Some(FailureKind::Timeout));
        drop(silent);
        assert_eq!(next_kind(&mut told).await, Some(FailureKind::Refused));
        let more = timeout(Duration::from_millis(200), told.recv()).await;
        assert!(more.is_err(), "{more:?}");
        checker.abort();
    }
}
