//! Scenarios as text: what a failing seed is printed as, and read from again.
//!
//! One line for each fact, all times in seconds since the beginning. Empty lines and what follows
//! `#` are for people.

use std::fmt::{self, Display};
use std::str::{FromStr, SplitWhitespace};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use lvs_proto::vrrp::{Family, Priority, Version};

use super::scenario::{
    Crash, Event, MOST_ROUTERS, Number, Pause, RouterEvent, RouterPlan, Scenario, Step, Trouble,
    Weather,
};

impl Display for Scenario {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = match self.family {
            Family::Ipv4 => "ipv4",
            Family::Ipv6 => "ipv6",
        };
        let delivery = if self.unicast { "unicast" } else { "multicast" };
        let signed = if self.signed { "signed" } else { "plain" };
        writeln!(out, "seed {}", self.seed)?;
        writeln!(out, "lan {family} {delivery} {signed}")?;
        writeln!(out, "refresh {}", seconds(self.refresh))?;
        writeln!(out, "{}", self.weather)?;
        writeln!(out, "lateness {}", seconds(self.lateness))?;
        for router in &self.routers {
            writeln!(out, "{router}")?;
        }
        for step in &self.steps {
            writeln!(out, "{step}")?;
        }
        writeln!(out, "until {}", seconds(self.length))
    }
}

impl Display for Weather {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            loss,
            duplicates,
            least_delay,
            most_delay,
        } = *self;
        let (least, most) = (seconds(least_delay), seconds(most_delay));
        write!(
            out,
            "weather loss {loss} duplicates {duplicates} delay {least} {most}"
        )
    }
}

impl Display for RouterPlan {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = match self.version {
            Version::V2 => 2,
            Version::V3 => 3,
        };
        let interval = seconds(self.interval);
        write!(
            out,
            "router {} priority {} interval {interval} version {version} ",
            self.number, self.priority
        )?;
        if self.preempt {
            write!(out, "preempts after {}", seconds(self.preempt_delay))
        } else {
            write!(out, "leaves alone")
        }
    }
}

impl Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "at {} {}", seconds(self.at), self.event)
    }
}

impl Display for Event {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Router(number, event) => write!(out, "router {number} {event}"),
            Self::Weather(weather) => weather.fmt(out),
            Self::Partition(side) => {
                write!(out, "partition")?;
                (0..=MOST_ROUTERS)
                    .filter(|place| side >> place & 1 == 1)
                    .try_for_each(|place| write!(out, " {place}"))
            }
            Self::Cut(from, to) => write!(out, "cut {from} {to}"),
            Self::Heal => write!(out, "heal"),
        }
    }
}

impl Display for RouterEvent {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => write!(out, "start"),
            Self::Ready(true) => write!(out, "ready"),
            Self::Ready(false) => write!(out, "unready"),
            Self::Crash(Crash::Machine) => write!(out, "crash machine"),
            Self::Crash(Crash::Worker) => write!(out, "crash worker"),
            Self::Crash(Crash::Programs) => write!(out, "crash programs"),
            Self::Pause(Pause::Queueing(packets)) => write!(out, "pause queueing {packets}"),
            Self::Pause(Pause::Losing) => write!(out, "pause losing"),
            Self::Pause(Pause::Unnoticed) => write!(out, "pause unnoticed"),
            Self::Resume => write!(out, "resume"),
            Self::Late(most) => write!(out, "late {}", seconds(*most)),
            Self::Priority(priority) => write!(out, "priority {priority}"),
            Self::Fault(trouble) => write!(out, "fault {trouble}"),
            Self::Recover(trouble) => write!(out, "recover {trouble}"),
            Self::Handover(Some(time)) => write!(out, "handover {}", seconds(*time)),
            Self::Handover(None) => write!(out, "handover until-released"),
            Self::Release => write!(out, "release"),
            Self::Stop => write!(out, "stop"),
        }
    }
}

impl Display for Trouble {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Tracking => "tracking",
            Self::Link => "link",
        })
    }
}

impl FromStr for Scenario {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut scenario = Self {
            seed: 0,
            family: Family::Ipv4,
            unicast: false,
            signed: false,
            refresh: Duration::from_secs(60),
            weather: Weather {
                loss: 0,
                duplicates: 0,
                least_delay: Duration::ZERO,
                most_delay: Duration::ZERO,
            },
            lateness: Duration::ZERO,
            routers: Vec::new(),
            steps: Vec::new(),
            length: Duration::ZERO,
        };
        for (line, number) in text.lines().zip(1..) {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = Words(line.split_whitespace());
            scenario
                .read_line(&mut words)
                .with_context(|| format!("line {number}: {line}"))?;
        }
        ensure!(!scenario.routers.is_empty(), "there is no router");
        scenario.steps.sort_by_key(|step| step.at);
        Ok(scenario)
    }
}

impl Scenario {
    fn read_line(&mut self, words: &mut Words<'_>) -> Result<()> {
        let Some(first) = words.0.next() else {
            return Ok(());
        };
        match first {
            "seed" => self.seed = words.number()?,
            "lan" => {
                self.family = match words.next()? {
                    "ipv4" => Family::Ipv4,
                    "ipv6" => Family::Ipv6,
                    other => bail!("neither ipv4 nor ipv6: {other}"),
                };
                self.unicast = words.next()? == "unicast";
                self.signed = words.next()? == "signed";
            }
            "refresh" => self.refresh = words.time()?,
            "weather" => self.weather = words.weather()?,
            "lateness" => self.lateness = words.time()?,
            "router" => {
                let router = words.router_plan()?;
                self.routers.push(router);
            }
            "at" => {
                let at = words.time()?;
                let event = words.event()?;
                self.steps.push(Step { at, event });
            }
            "until" => self.length = words.time()?,
            other => bail!("a line can't begin with {other:?}"),
        }
        match words.0.next() {
            Some(extra) => bail!("{extra:?} is too much"),
            None => Ok(()),
        }
    }
}

struct Words<'a>(SplitWhitespace<'a>);

impl<'a> Words<'a> {
    fn next(&mut self) -> Result<&'a str> {
        self.0.next().context("something is missing at its end")
    }

    fn number<T: FromStr>(&mut self) -> Result<T> {
        let word = self.next()?;
        word.parse().map_err(|_| anyhow!("no number: {word}"))
    }

    fn named<T: FromStr>(&mut self, name: &str) -> Result<T> {
        self.expect(name)?;
        self.number()
    }

    fn expect(&mut self, name: &str) -> Result<()> {
        let word = self.next()?;
        ensure!(word == name, "{word} instead of {name}");
        Ok(())
    }

    fn time(&mut self) -> Result<Duration> {
        let word = self.next()?;
        let (whole, fraction) = word
            .strip_suffix('s')
            .map(|word| word.split_once('.').unwrap_or((word, "0")))
            .with_context(|| format!("no time in seconds: {word}"))?;
        ensure!(fraction.len() <= 9, "finer than a nanosecond: {word}");
        let nanoseconds = format!("{fraction:0<9}");
        Ok(Duration::new(whole.parse()?, nanoseconds.parse()?))
    }

    fn place(&mut self) -> Result<Number> {
        let place = self.number()?;
        ensure!(place <= MOST_ROUTERS, "there is no place {place}");
        Ok(place)
    }

    fn priority(&mut self) -> Result<Priority> {
        Priority::new(self.number()?).context("a router's priority isn't 0")
    }

    fn weather(&mut self) -> Result<Weather> {
        let (loss, duplicates) = (self.named("loss")?, self.named("duplicates")?);
        self.expect("delay")?;
        Ok(Weather {
            loss,
            duplicates,
            least_delay: self.time()?,
            most_delay: self.time()?,
        })
    }

    fn router_plan(&mut self) -> Result<RouterPlan> {
        let number = self.place()?;
        self.expect("priority")?;
        let priority = self.priority()?;
        self.expect("interval")?;
        let interval = self.time()?;
        let version = match self.named("version")? {
            2 => Version::V2,
            3 => Version::V3,
            other => bail!("no version {other}"),
        };
        let preempt = self.next()? == "preempts";
        self.next()?;
        let preempt_delay = if preempt {
            self.time()?
        } else {
            Duration::ZERO
        };
        Ok(RouterPlan {
            number,
            priority,
            interval,
            version,
            preempt,
            preempt_delay,
        })
    }

    fn event(&mut self) -> Result<Event> {
        Ok(match self.next()? {
            "router" => Event::Router(self.place()?, self.router_event()?),
            "weather" => Event::Weather(self.weather()?),
            "partition" => {
                let mut side = 0;
                for place in self.0.by_ref() {
                    side |= 1 << place.parse::<Number>()?.min(MOST_ROUTERS);
                }
                Event::Partition(side)
            }
            "cut" => Event::Cut(self.place()?, self.place()?),
            "heal" => Event::Heal,
            other => bail!("no event: {other}"),
        })
    }

    fn router_event(&mut self) -> Result<RouterEvent> {
        Ok(match self.next()? {
            "start" => RouterEvent::Start,
            "ready" => RouterEvent::Ready(true),
            "unready" => RouterEvent::Ready(false),
            "crash" => RouterEvent::Crash(match self.next()? {
                "machine" => Crash::Machine,
                "worker" => Crash::Worker,
                "programs" => Crash::Programs,
                other => bail!("no way to die: {other}"),
            }),
            "pause" => RouterEvent::Pause(match self.next()? {
                "queueing" => Pause::Queueing(self.number()?),
                "losing" => Pause::Losing,
                "unnoticed" => Pause::Unnoticed,
                other => bail!("no way to pause: {other}"),
            }),
            "resume" => RouterEvent::Resume,
            "late" => RouterEvent::Late(self.time()?),
            "priority" => RouterEvent::Priority(self.priority()?),
            "fault" => RouterEvent::Fault(self.trouble()?),
            "recover" => RouterEvent::Recover(self.trouble()?),
            "handover" => match self.0.clone().next() {
                Some("until-released") => {
                    self.next()?;
                    RouterEvent::Handover(None)
                }
                _ => RouterEvent::Handover(Some(self.time()?)),
            },
            "release" => RouterEvent::Release,
            "stop" => RouterEvent::Stop,
            other => bail!("nothing that happens to a router: {other}"),
        })
    }

    fn trouble(&mut self) -> Result<Trouble> {
        match self.next()? {
            "tracking" => Ok(Trouble::Tracking),
            "link" => Ok(Trouble::Link),
            other => bail!("no trouble: {other}"),
        }
    }
}

/// Exact, with no more digits than it needs.
pub(super) fn seconds(time: Duration) -> String {
    let fraction = format!("{:09}", time.subsec_nanos());
    match fraction.trim_end_matches('0') {
        "" => format!("{}s", time.as_secs()),
        fraction => format!("{}.{fraction}s", time.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_scenario_reads_back() {
        for seed in 0..500 {
            let scenario = Scenario::random(seed);
            let text = scenario.to_string();
            assert_eq!(text.parse::<Scenario>().unwrap(), scenario, "{text}");
        }
    }

    #[test]
    fn a_wrong_line_is_named() {
        let error = "seed 1\nat 1s router 2 explode".parse::<Scenario>();
        assert_eq!(
            format!("{:#}", error.unwrap_err()),
            "line 2: at 1s router 2 explode: nothing that happens to a router: explode"
        );
    }
}
