//! What a client saw of a service: one entry for each question it asked.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::lab::Host;
use crate::lock::lock;

/// What became of one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It can still be answered in time.
    Waiting,
    /// It was answered.
    Answered {
        /// When the answer was read.
        at: Instant,
        /// What was answered: for DNS the address in the answer, for a ping the responder.
        by: String,
    },
    /// It failed at once, with this reason: an ICMP error or a DNS response code such as REFUSED.
    Refused(String),
    /// Nothing came within the time-out.
    Lost,
}

/// One question and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// When it was sent.
    pub sent: Instant,
    /// What became of it.
    pub outcome: Outcome,
}

/// The attempts of a client in the order they were sent, none of them waiting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Sorted by the time of sending.
    pub attempts: Vec<Attempt>,
}

impl Report {
    /// How many questions were asked.
    pub fn sent(&self) -> usize {
        self.attempts.len()
    }

    /// How many were answered.
    pub fn answered(&self) -> usize {
        self.answer_times().count()
    }

    /// How many were not answered, refused ones included.
    pub fn lost(&self) -> usize {
        self.sent() - self.answered()
    }

    /// The longest time without an answer, from the first question to the last.
    ///
    /// The time before the first answer and after the last one count: a service that never answers
    /// has a gap as long as the whole report.
    pub fn longest_gap(&self) -> Duration {
        let (Some(first), Some(last)) = (self.attempts.first(), self.attempts.last()) else {
            return Duration::ZERO;
        };
        let mut times: Vec<Instant> = self.answer_times().collect();
        times.push(first.sent);
        times.sort();
        if times.last().is_some_and(|answer| *answer < last.sent) {
            times.push(last.sent);
        }
        times
            .windows(2)
            .map(|pair| pair[1] - pair[0])
            .max()
            .unwrap_or_default()
    }

    /// How many answers each answerer gave.
    pub fn answers(&self) -> BTreeMap<String, usize> {
        let mut answers = BTreeMap::new();
        for attempt in &self.attempts {
            if let Outcome::Answered { by, .. } = &attempt.outcome {
                *answers.entry(by.clone()).or_insert(0) += 1;
            }
        }
        answers
    }

    /// How many answers `by` gave.
    pub fn answers_by(&self, by: &str) -> usize {
        self.answers().get(by).copied().unwrap_or(0)
    }

    /// The attempts sent at or after `from` and before `to`.
    pub fn between(&self, from: Instant, to: Instant) -> Self {
        Self {
            attempts: self
                .attempts
                .iter()
                .filter(|attempt| attempt.sent >= from && attempt.sent < to)
                .cloned()
                .collect(),
        }
    }

    /// The attempts sent at or after `from`.
    pub fn since(&self, from: Instant) -> Self {
        let mut report = self.clone();
        report.attempts.retain(|attempt| attempt.sent >= from);
        report
    }

    /// When the last attempt that got no answer was sent.
    pub fn last_loss(&self) -> Option<Instant> {
        self.attempts
            .iter()
            .rev()
            .find(|attempt| !matches!(attempt.outcome, Outcome::Answered { .. }))
            .map(|attempt| attempt.sent)
    }

    /// When `by` answered last.
    pub fn last_answer_by(&self, by: &str) -> Option<Instant> {
        self.attempts
            .iter()
            .filter_map(|attempt| match &attempt.outcome {
                Outcome::Answered { at, by: who } if who == by => Some(*at),
                _ => None,
            })
            .max()
    }

    fn answer_times(&self) -> impl Iterator<Item = Instant> {
        self.attempts
            .iter()
            .filter_map(|attempt| match attempt.outcome {
                Outcome::Answered { at, .. } => Some(at),
                _ => None,
            })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "sent {}, lost {}, longest gap {:.3} s, answered by {:?}",
            self.sent(),
            self.lost(),
            self.longest_gap().as_secs_f64(),
            self.answers()
        )
    }
}

/// Traffic that runs on a host until it is stopped or dropped.
#[derive(Debug)]
pub struct Load {
    log: Log,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    /// Starts `client` on a thread of `host`; it asks while its [`Log`] says so.
    pub(crate) fn start(host: &Host, client: impl FnOnce(&Log) + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let log = Log {
            attempts: Arc::default(),
            stop: stop.clone(),
        };
        let own = log.clone();
        Self {
            thread: Some(host.thread(move || client(&own))),
            log,
            stop,
        }
    }

    /// What happened until now, without the attempts that can still be answered.
    pub fn report(&self) -> Report {
        let mut attempts = self.log.lock().clone();
        attempts.retain(|attempt| attempt.outcome != Outcome::Waiting);
        Report { attempts }
    }

    /// Stops asking, waits for what can still be answered, and returns everything.
    ///
    /// # Panics
    /// When the client's thread panicked, for instance because it could not open its socket.
    pub fn stop(mut self) -> Report {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take()
            && let Err(panic) = thread.join()
        {
            std::panic::resume_unwind(panic);
        }
        self.report()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // Its panic is reported by `stop`; here the test has failed already.
            let _ = thread.join();
        }
    }
}

/// Where a client enters what it asks and what became of it.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    attempts: Arc<Mutex<Vec<Attempt>>>,
    stop: Arc<AtomicBool>,
}

impl Log {
    /// Whether the client shall ask on.
    pub(crate) fn wanted(&self) -> bool {
        !self.stop.load(Ordering::SeqCst)
    }

    /// Enters a question that is sent now and returns its number.
    pub(crate) fn sent(&self) -> usize {
        let mut attempts = self.lock();
        attempts.push(Attempt {
            sent: Instant::now(),
            outcome: Outcome::Waiting,
        });
        attempts.len() - 1
    }

    /// Enters what became of a question; only the first outcome counts.
    pub(crate) fn ended(&self, number: usize, outcome: Outcome) {
        if let Some(attempt) = self.lock().get_mut(number)
            && attempt.outcome == Outcome::Waiting
        {
            attempt.outcome = outcome;
        }
    }

    /// As [`Log::ended`], for the latest question whose number ends in these 16 bits.
    pub(crate) fn ended_by_low_bits(&self, low: u16, outcome: Outcome) {
        let count = self.lock().len();
        if let Some(number) = (0..count).rev().find(|number| *number as u16 == low) {
            self.ended(number, outcome);
        }
    }

    /// Whether the question has no outcome yet.
    pub(crate) fn is_waiting(&self, number: usize) -> bool {
        self.lock()
            .get(number)
            .is_some_and(|attempt| attempt.outcome == Outcome::Waiting)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Attempt>> {
        lock(&self.attempts)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn report(start: Instant, entries: &[(u64, Option<u64>)]) -> Report {
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        Report {
            attempts: entries
                .iter()
                .map(|(sent, answered)| Attempt {
                    sent: at(*sent),
                    outcome: match answered {
                        Some(answered) => Outcome::Answered {
                            at: at(*answered),
                            by: "1.2.3.4".into(),
                        },
                        None => Outcome::Lost,
                    },
                })
                .collect(),
        }
    }

    #[test]
    fn a_gap_reaches_from_answer_to_answer() {
        let report = report(
            Instant::now(),
            &[
                (0, Some(1)),
                (20, None),
                (40, None),
                (60, Some(65)),
                (80, Some(81)),
            ],
        );
        assert_eq!((report.sent(), report.lost(), report.answered()), (5, 2, 3));
        assert_eq!(report.longest_gap(), Duration::from_millis(64));
    }

    #[test]
    fn silence_at_either_end_is_a_gap() {
        let start = Instant::now();
        let late = report(start, &[(0, None), (50, None), (90, Some(91))]);
        assert_eq!(late.longest_gap(), Duration::from_millis(91));
        let never = report(start, &[(0, None), (70, None)]);
        assert_eq!(never.longest_gap(), Duration::from_millis(70));
        assert_eq!(Report::default().longest_gap(), Duration::ZERO);
    }

    #[test]
    fn a_part_of_a_report_counts_by_time_of_sending() {
        let start = Instant::now();
        let report = report(start, &[(0, Some(1)), (20, None), (40, Some(41))]);
        let part = report.between(
            start + Duration::from_millis(20),
            start + Duration::from_millis(40),
        );
        assert_eq!((part.sent(), part.lost()), (1, 1));
        assert_eq!(
            report.last_loss().unwrap(),
            start + Duration::from_millis(20)
        );
    }
}
