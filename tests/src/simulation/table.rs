//! How interval and loss decide how fast a failover is, and how often one happens for nothing.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use lvs_proto::vrrp::{Family, Priority, State, Version};

use super::lan::run;
use super::random::Random;
use super::scenario::{Crash, Event, Number, RouterEvent, RouterPlan, Scenario, Step, Weather};
use super::story::Story;

/// How often the Active dies, in each row.
const CRASHES: u64 = 1_000;
/// How many intervals the Active is alive and heard, in each row, in that many parts.
const INTERVALS: u32 = 50_000;
const PARTS: u32 = 10;

const INTERVALS_IN_MILLISECONDS: [u64; 3] = [10, 100, 1000];
const LOSSES_PER_MILLE: [u64; 5] = [0, 10, 50, 100, 200];

const ACTIVE: Number = 1;
const BACKUP: Number = 2;

/// All rows.
#[derive(Clone, Debug)]
pub struct Table(Vec<Row>);

#[derive(Clone, Debug)]
struct Row {
    interval: Duration,
    loss: u64,
    /// From the death of the Active to the promotion of the Backup, sorted.
    failovers: Vec<Duration>,
    needless: u32,
}

impl Table {
    /// Plays all that the table is made of: the same on every machine.
    pub fn whole() -> Self {
        let rows = INTERVALS_IN_MILLISECONDS
            .into_iter()
            .flat_map(|interval| LOSSES_PER_MILLE.map(|loss| (interval, loss)));
        Self::measure(rows.collect())
    }

    /// Three of its rows, for those who have little time.
    pub fn sample() -> Self {
        Self::measure(vec![(10, 200), (100, 50), (1000, 0)])
    }

    /// The rows as they are printed.
    pub fn rows(&self) -> impl Iterator<Item = String> + '_ {
        self.0.iter().map(Row::to_string)
    }

    fn measure(rows: Vec<(u64, u64)>) -> Self {
        let next = Mutex::new(rows.into_iter().enumerate());
        let measured = Mutex::new(Vec::new());
        let work = || {
            while let Some((position, (interval, loss))) =
                next.lock().ok().and_then(|mut rows| rows.next())
            {
                let row = Row::measure(Duration::from_millis(interval), loss);
                if let Ok(mut measured) = measured.lock() {
                    measured.push((position, row));
                }
            }
        };
        thread::scope(|scope| {
            let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
            for _ in 0..processors {
                scope.spawn(work);
            }
        });
        let mut measured = measured.into_inner().unwrap_or_default();
        measured.sort_by_key(|(position, _)| *position);
        Self(measured.into_iter().map(|(_, row)| row).collect())
    }
}

impl Row {
    fn measure(interval: Duration, loss: u64) -> Self {
        let mut failovers: Vec<Duration> = (0..CRASHES)
            .filter_map(|seed| failover(interval, loss, seed))
            .collect();
        failovers.sort_unstable();
        let needless = (0..PARTS.into())
            .map(|seed| needless_failovers(interval, loss, seed))
            .sum();
        Self {
            interval,
            loss,
            failovers,
            needless,
        }
    }

    fn quantile(&self, per_mille: usize) -> Duration {
        let last = self.failovers.len().saturating_sub(1);
        let index = last * per_mille / 1000;
        self.failovers.get(index).copied().unwrap_or_default()
    }

    /// Per hour.
    fn needless_rate(&self) -> f64 {
        let hours = (self.interval * INTERVALS).as_secs_f64() / 3600.0;
        f64::from(self.needless) / hours
    }
}

/// As Markdown.
impl fmt::Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "| interval | loss | median | p99 | worst | needless per hour |"
        )?;
        writeln!(out, "|---:|---:|---:|---:|---:|---:|")?;
        self.0.iter().try_for_each(|row| writeln!(out, "{row}"))
    }
}

impl fmt::Display for Row {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
        write!(
            out,
            "| {} ms | {} % | {:.1} ms | {:.1} ms | {:.1} ms | {:.1} |",
            self.interval.as_millis(),
            self.loss / 10,
            milliseconds(self.quantile(500)),
            milliseconds(self.quantile(990)),
            milliseconds(self.quantile(1000)),
            self.needless_rate(),
        )
    }
}

/// From the death of the Active to the promotion of the Backup; `None` if the Backup was Active
/// already, for nothing.
fn failover(interval: Duration, loss: u64, seed: u64) -> Option<Duration> {
    let mut scenario = pair(interval, loss, seed);
    let phase = Random::of(&[seed]).between(Duration::ZERO, interval);
    let dies_at = interval * 12 + phase;
    scenario.steps.push(Step {
        at: dies_at,
        event: Event::Router(ACTIVE, RouterEvent::Crash(Crash::Machine)),
    });
    scenario.length = dies_at + interval * 5;
    let transitions = run(&scenario, Story::default()).transitions;
    let promoted_at = transitions
        .iter()
        .filter(|(_, number, transition)| *number == BACKUP && transition.to == State::Active)
        .map(|(at, ..)| *at)
        .find(|at| *at >= dies_at)?;
    Some(promoted_at - dies_at)
}

fn needless_failovers(interval: Duration, loss: u64, seed: u64) -> u32 {
    let mut scenario = pair(interval, loss, seed);
    scenario.length = interval * (INTERVALS / PARTS + 12);
    let transitions = run(&scenario, Story::default()).transitions;
    let settled = interval * 12;
    transitions
        .iter()
        .filter(|(at, number, transition)| {
            *number == BACKUP && transition.to == State::Active && *at > settled
        })
        .count() as u32
}

/// An Active of priority 200 and a Backup of priority 100, on a LAN that loses so many in a thousand.
fn pair(interval: Duration, loss: u64, seed: u64) -> Scenario {
    let router = |number, priority| RouterPlan {
        number,
        priority: Priority::new(priority).unwrap_or(Priority::OWNER),
        interval,
        version: Version::V3,
        preempt: true,
        preempt_delay: Duration::ZERO,
    };
    let step = |number, event| Step {
        at: Duration::ZERO,
        event: Event::Router(number, event),
    };
    Scenario {
        seed,
        family: Family::Ipv4,
        unicast: false,
        signed: false,
        refresh: Duration::from_secs(60),
        weather: Weather {
            loss,
            duplicates: 0,
            least_delay: Duration::from_micros(50),
            most_delay: Duration::from_micros(200),
        },
        lateness: Duration::from_micros(100),
        routers: vec![router(ACTIVE, 200), router(BACKUP, 100)],
        steps: vec![
            step(ACTIVE, RouterEvent::Start),
            step(ACTIVE, RouterEvent::Ready(true)),
            step(BACKUP, RouterEvent::Start),
            step(BACKUP, RouterEvent::Ready(true)),
        ],
        length: Duration::ZERO,
    }
}
