//! Runs one script again and again.

use std::num::NonZeroU8;
use std::pin::pin;
use std::time::Duration;

use lvs_health::program::{Failure, GRACE, Program, Run};
use lvs_proto::health::{Tally, Verdict};
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinHandle;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};
use tracing::{info, warn};

use super::{Condition, News};
use crate::config::TrackedScript;

/// A script without what its failing does: instances that agree on it share its runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Script {
    pub(super) name: String,
    command: Vec<String>,
    interval: Duration,
    timeout: Duration,
    rise: NonZeroU8,
    fall: NonZeroU8,
}

impl From<&TrackedScript> for Script {
    fn from(script: &TrackedScript) -> Self {
        Self {
            name: script.name.clone(),
            command: script.command.clone(),
            interval: script.interval,
            timeout: script.timeout,
            rise: script.rise,
            fall: script.fall,
        }
    }
}

/// Runs a script while it lives. A run that goes on when it is dropped is killed.
#[derive(Debug)]
pub(super) struct Runner {
    task: JoinHandle<()>,
}

impl Runner {
    /// The first run starts at once. Verdicts go to `news` when they change, the first one too.
    pub(super) fn start(script: Script, news: UnboundedSender<News>) -> Self {
        let reporter = Reporter {
            tally: Tally::new(script.rise, script.fall),
            script,
            news,
        };
        let task = tokio::spawn(reporter.run());
        Self { task }
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Reporter {
    script: Script,
    tally: Tally,
    news: UnboundedSender<News>,
}

impl Reporter {
    async fn run(mut self) {
        let mut starts = interval(self.script.interval);
        starts.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            starts.tick().await;
            let program = Program {
                command: self.script.command.clone(),
                environment: Vec::new(),
            };
            match Run::start(program).await {
                Ok(run) => self.watch(run, &mut starts).await,
                Err(failure) => self.record(Err(failure)),
            }
        }
    }

    /// Returns when the run has ended: there are never two at once.
    async fn watch(&mut self, mut run: Run, starts: &mut Interval) {
        let limit = self.script.timeout;
        let Ok(result) = timeout(limit, run.finished()).await else {
            let output = run.last_line();
            self.record(Err(Failure::TooSlow { limit, output }));
            let mut end = pin!(run.end(GRACE));
            loop {
                tokio::select! {
                    () = &mut end => return,
                    // A run that can't be had is a bad one: `fall` must not wait for it.
                    _ = starts.tick() => self.record(Err(Failure::StillRunning)),
                }
            }
        };
        self.record(result);
    }

    fn record(&mut self, result: Result<(), Failure>) {
        let known = self.tally.verdict() != Verdict::Unknown;
        let Some(verdict) = self.tally.record(result.is_ok()) else {
            return;
        };
        let script = &self.script.name;
        match result {
            Ok(()) if known => info!(script, "is well again"),
            Ok(()) => {}
            Err(failure) => warn!(script, "fails: {failure}"),
        }
        // Nobody listens any more when the tracker is gone.
        let _ = self.news.send(News::Script {
            script: self.script.clone(),
            condition: Condition::of(verdict == Verdict::Healthy),
        });
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::time::Instant;

    use tokio::sync::mpsc::{self, UnboundedReceiver};

    use super::*;
    use lvs_health::testing::{gone, line_of, script};

    fn asked(command: &[&str], interval: u64, timeout: u64, rise: u8, fall: u8) -> Script {
        Script {
            name: "upstream".to_owned(),
            command: command.iter().map(|&word| word.to_owned()).collect(),
            interval: Duration::from_millis(interval),
            timeout: Duration::from_millis(timeout),
            rise: NonZeroU8::new(rise).unwrap(),
            fall: NonZeroU8::new(fall).unwrap(),
        }
    }

    async fn next(news: &mut UnboundedReceiver<News>) -> Condition {
        let news = timeout(Duration::from_secs(20), news.recv());
        match news.await.expect("news in time").unwrap() {
            News::Script { condition, .. } => condition,
            News::File { .. } => unreachable!(),
        }
    }

    fn runs(path: &Path) -> usize {
        fs::read_to_string(path).map_or(0, |text| text.lines().count())
    }

    #[tokio::test]
    async fn rise_and_fall_are_counted_in_runs() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let good = folder.path().join("good");
        let body = format!("echo run >> {}; test -e {}", log.display(), good.display());
        let path = script(folder.path(), "check", &body);
        let (sender, mut news) = mpsc::unbounded_channel();
        let runner = Runner::start(asked(&[&path], 50, 10_000, 2, 3), sender);
        assert_eq!(next(&mut news).await, Condition::Failing);
        assert!((3..=4).contains(&runs(&log)), "{}", runs(&log));
        let before = runs(&log);
        fs::write(&good, "").unwrap();
        assert_eq!(next(&mut news).await, Condition::Well);
        assert!(runs(&log) - before >= 2);
        drop(runner);
        tokio::time::sleep(Duration::from_millis(100)).await;
        let after = runs(&log);
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(runs(&log), after);
    }

    #[tokio::test]
    async fn a_program_that_is_missing_fails() {
        let (sender, mut news) = mpsc::unbounded_channel();
        let _runner = Runner::start(asked(&["/nonexistent"], 20, 20, 1, 3), sender);
        assert_eq!(next(&mut news).await, Condition::Failing);
    }

    #[tokio::test]
    async fn a_run_that_hangs_is_bad_at_its_time_out_and_never_joined_by_another() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        // Ignores SIGTERM, so that it ends 2 s after its time-out.
        let body = format!(
            "trap '' TERM; echo $$ >> {}; while :; do sleep 1; done",
            log.display()
        );
        let path = script(folder.path(), "hang", &body);
        let (sender, mut news) = mpsc::unbounded_channel();
        let start = Instant::now();
        let runner = Runner::start(asked(&[&path], 200, 100, 1, 3), sender);
        // At 100 ms, and for the runs that should have started at 200 and 400 ms.
        assert_eq!(next(&mut news).await, Condition::Failing);
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(390), "{took:?}");
        assert!(took < Duration::from_millis(1900), "{took:?}");
        let process = line_of(&log).await;
        assert_eq!(runs(&log), 1);
        assert!(gone(&process).await, "ended 2 s after its time-out");
        drop(runner);
    }

    #[tokio::test]
    async fn a_runner_that_is_dropped_kills_its_run() {
        let folder = tempfile::tempdir().unwrap();
        let pid = folder.path().join("pid");
        let body = format!("echo $$ > {}; sleep 60", pid.display());
        let path = script(folder.path(), "long", &body);
        let (sender, _news) = mpsc::unbounded_channel();
        let runner = Runner::start(asked(&[&path], 60_000, 60_000, 1, 1), sender);
        let process = line_of(&pid).await;
        drop(runner);
        assert!(gone(&process).await);
    }
}
