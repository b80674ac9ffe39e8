//! One checker: probes one real server at its interval, for ever.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use lvs_proto::dns;
use lvs_proto::health::{Tally, Verdict};
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};
use tracing::{error, info, warn};

use super::transport::ask;
use super::{Event, Failure, Subject};
use crate::config::{Check, Probe};
use crate::metrics::ProbeMetrics;

/// While the results speak against the verdict, and before there is one, probes come this much
/// oftener: a doubt is settled before clients notice.
const DOUBT_SPEEDUP: u32 = 5;
/// Not even a doubt is worth more than 20 queries a second.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(50);
/// Checkers that started together drift apart by up to this part of an interval.
const JITTER: f64 = 0.1;

/// Starts a checker; its events carry `number`. It ends when its handle is told to.
pub fn spawn(
    number: u64,
    subject: Subject,
    port: u16,
    check: Check,
    metrics: ProbeMetrics,
    events: UnboundedSender<Event>,
) -> AbortHandle {
    let checker = Checker {
        number,
        subject,
        port,
        check,
        metrics,
        events,
    };
    tokio::spawn(checker.run()).abort_handle()
}

struct Checker {
    number: u64,
    subject: Subject,
    port: u16,
    check: Check,
    metrics: ProbeMetrics,
    events: UnboundedSender<Event>,
}

impl Checker {
    async fn run(self) {
        let Probe::Dns { name, record_type } = &self.check.probe;
        let probe = dns::Probe {
            name: name.clone(),
            record_type: *record_type,
            recursion_desired: true,
        };
        let mut tally = Tally::new(self.check.rise, self.check.fall);
        let mut last_failure = None;
        let mut obstructed = false;
        loop {
            let started = Instant::now();
            let server = SocketAddr::from((self.subject.real_server, self.port));
            let result = ask(&probe, self.subject.protocol, server, self.check.timeout).await;
            match &result {
                Ok(()) => self.metrics.answered(started.elapsed()),
                Err(Failure::Local(error)) => {
                    self.metrics.not_made();
                    self.tell_of_obstruction(error, obstructed);
                }
                Err(failure) => {
                    self.metrics.failed();
                    last_failure = Some(failure.to_string());
                }
            }
            obstructed = matches!(result, Err(Failure::Local(_)));
            // What this machine lacks says nothing about the server.
            if !obstructed && let Some(verdict) = tally.record(result.is_ok()) {
                self.tell(verdict, last_failure.as_deref());
            }
            sleep_until(started + self.pause(tally.in_doubt())).await;
        }
    }

    fn pause(&self, in_doubt: bool) -> Duration {
        let interval = if in_doubt {
            (self.check.interval / DOUBT_SPEEDUP).max(SHORTEST_INTERVAL.min(self.check.interval))
        } else {
            self.check.interval
        };
        // Only ever earlier, so that the configured interval is what it says at most.
        interval.mul_f64(1.0 - JITTER * rand::random::<f64>())
    }

    /// Said once, until a probe can be made again.
    fn tell_of_obstruction(&self, error: &io::Error, said: bool) {
        let Subject {
            service,
            protocol,
            real_server,
        } = &self.subject;
        if !said {
            error!(%service, %protocol, %real_server, %error, "cannot probe: this machine lacks something; the last verdict stays");
        }
    }

    fn tell(&self, verdict: Verdict, failure: Option<&str>) {
        let Subject {
            service,
            protocol,
            real_server,
        } = &self.subject;
        match verdict {
            Verdict::Unhealthy => {
                let reason = failure.unwrap_or_default();
                warn!(%service, %protocol, %real_server, reason, "real server is unhealthy");
            }
            Verdict::Healthy | Verdict::Unknown => {
                info!(%service, %protocol, %real_server, "real server is {verdict}");
            }
        }
        self.metrics.set_verdict(verdict);
        // The engine ends its checkers before it ends.
        let _ = self.events.send(Event {
            checker: self.number,
            subject: self.subject.clone(),
            verdict,
        });
    }
}
