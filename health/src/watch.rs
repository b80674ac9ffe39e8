//! Looks at the DNS data of one real server: zones' serial numbers, and whether it validates.
//!
//! That isn't a check: a server that doesn't answer tells nothing here, and what follows from what it
//! tells depends on what the others tell. The engine draws the conclusions.

use std::time::{Duration, SystemTime};

use lvs_proto::dns::{Answer, Expectation, Fault, Name, Probe, RecordType, ResponseCode};
use lvs_proto::ipvs::Protocol;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use crate::defaults;
use crate::failure::Failure;
use crate::transport::{Port, ask};
use crate::watched::{Look, Watched};
use crate::{Change, Event};

/// How long an answer may take: nobody waits for it.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Looks come up to this part of an interval early, so that servers aren't asked all at once.
const JITTER: f64 = 0.1;

/// What a server has told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// Of a zone.
    Zone {
        /// Which.
        name: Name,
        /// Its serial number, if it was told.
        serial: Option<u32>,
        /// When the first of its SOA record's signatures ends.
        signature_expiry: Option<SystemTime>,
    },
    /// Of a signed name: whether it has found the signatures good.
    Signed {
        /// AD is set.
        validated: bool,
        /// When the first signature ends.
        signature_expiry: Option<SystemTime>,
    },
    /// Of a name with bad signatures: whether it refuses to answer.
    Bogus {
        /// SERVFAIL.
        refused: bool,
    },
}

/// Starts to watch; events carry `number`. It ends when its handle is told to.
pub fn spawn(number: u64, watched: Watched, events: UnboundedSender<Event>) -> AbortHandle {
    let watcher = Watcher {
        number,
        watched,
        events,
    };
    tokio::spawn(watcher.run()).abort_handle()
}

struct Watcher {
    number: u64,
    watched: Watched,
    events: UnboundedSender<Event>,
}

impl Watcher {
    async fn run(self) {
        loop {
            let started = Instant::now();
            match &self.watched.look {
                Look::Zone(name) => self.look_at_zone(name).await,
                Look::Signed(name) => self.look_at_signed(name).await,
                Look::Bogus(name) => self.look_at_bogus(name).await,
            }
            let early = 1.0 - JITTER * rand::random::<f64>();
            sleep_until(started + self.watched.interval.mul_f64(early)).await;
        }
    }

    async fn look_at_zone(&self, name: &Name) {
        let probe = Probe {
            recursion_desired: false,
            ..probe(name, RecordType::Soa)
        };
        let (serial, expiry) = match self.ask(&probe).await {
            Ok(answer) => (answer.serial, answer.signature_expiry),
            Err(Failure::Fault(Fault::SignatureExpired(expiry))) => (None, Some(expiry)),
            Err(_) => return,
        };
        self.tell(Observation::Zone {
            name: name.clone(),
            serial,
            signature_expiry: expiry.map(nearest_time),
        });
    }

    async fn look_at_signed(&self, name: &Name) {
        let probe = Probe {
            expected: Expectation {
                minimum_records: 0,
                ..Expectation::default()
            },
            ..probe(name, RecordType::Soa)
        };
        let (validated, expiry) = match self.ask(&probe).await {
            Ok(answer) => (answer.authentic_data, answer.signature_expiry),
            // Passed on although it's over: nobody has looked at it.
            Err(Failure::Fault(Fault::SignatureExpired(expiry))) => (false, Some(expiry)),
            // An outage somewhere else says nothing about validation.
            Err(_) => return,
        };
        self.tell(Observation::Signed {
            validated,
            signature_expiry: expiry.map(nearest_time),
        });
    }

    async fn look_at_bogus(&self, name: &Name) {
        let probe = Probe {
            expected: Expectation {
                response_codes: [ResponseCode::NO_ERROR, ResponseCode::SERVER_FAILURE].into(),
                minimum_records: 0,
                ..Expectation::default()
            },
            ..probe(name, RecordType::A)
        };
        let refused = match self.ask(&probe).await {
            Ok(answer) => answer.response_code == ResponseCode::SERVER_FAILURE,
            Err(Failure::Fault(Fault::SignatureExpired(_))) => false,
            Err(_) => return,
        };
        self.tell(Observation::Bogus { refused });
    }

    async fn ask(&self, probe: &Probe) -> Result<Answer, Failure> {
        let Watched {
            server, interval, ..
        } = self.watched;
        let timeout = TIMEOUT.min(interval);
        let mut port = Port::default();
        ask(probe, Protocol::Udp, true, server, timeout, &mut port).await
    }

    fn tell(&self, observation: Observation) {
        // The engine ends its watchers before it ends.
        let _ = self.events.send(Event {
            checker: self.number,
            change: Change::Watched(observation),
        });
    }
}

/// With signatures.
fn probe(name: &Name, record_type: RecordType) -> Probe {
    Probe {
        dnssec_ok: true,
        edns: Some(defaults::EDNS_SIZE),
        ..Probe::new(name.clone(), record_type)
    }
}

/// Signatures have seconds modulo 2^32; that of the possible times is meant which is nearest to now
/// (RFC 4034, section 3.1.5).
fn nearest_time(seconds: u32) -> SystemTime {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let ahead = i64::from(seconds.wrapping_sub(now as u32).cast_signed());
    SystemTime::UNIX_EPOCH + Duration::from_secs(now.saturating_add_signed(ahead))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_end_near_now() {
        let seconds = |time: SystemTime| {
            let since = time.duration_since(SystemTime::UNIX_EPOCH);
            since.unwrap_or_default().as_secs()
        };
        let now = seconds(SystemTime::now());
        for other in [now, now - 1_000_000_000, now + 1_000_000_000] {
            assert_eq!(seconds(nearest_time(other as u32)), other);
        }
    }
}
