//! `director events`: what happened, when, and why.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Target, fail, finish, json, unanswered};
use crate::control::{Answer, AskError, Request, ask};
use crate::events::{self, Event};

/// The daemon answers from memory.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often it is looked for new ones.
const PACE: Duration = Duration::from_millis(500);

/// So many fit on a screen, more or less.
const FEW: usize = 50;

/// Shown after the options.
pub(super) const HELP: &str = "\
Examples:
  director events
      The last 50: who took over and why, which servers went out and came back, what was done by hand.
  director events --since 2h
  director events --since 2026-11-22T03:00:00Z --json
  director events --follow

Exit status:
  0   they are printed
  1   neither a director nor its file can be read; the message says why
  64  wrong command line";

#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// At most so many, the newest [default: 50, or all of those since a time]
    #[arg(long, value_name = "NUMBER")]
    last: Option<usize>,
    /// Only those since a time, as RFC 3339 has it, or of so long: 90s, 10m, 2h, 3d
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<OffsetDateTime>,
    /// Go on with each new one until interrupted; with --json, one object a line
    #[arg(long)]
    follow: bool,
    /// Print them as JSON
    #[arg(long)]
    json: bool,
    /// Where no director answers: where it has kept them
    #[arg(long, value_name = "DIRECTORY", default_value = super::STATE_DIRECTORY)]
    state_directory: PathBuf,
}

/// Prints them oldest first.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let directory = &arguments.target.runtime_directory;
    let request = Request::Events {
        last: None,
        after: None,
    };
    let events = match arguments.events(ask(directory, &request, PATIENCE)) {
        Ok(events) => events,
        Err(status) => return status,
    };
    let newest = events.last().map_or(0, |event| event.number);
    let chosen = arguments.chosen(events);
    let output = match (arguments.json, arguments.follow) {
        (false, _) => chosen.iter().map(line).collect(),
        (true, false) => json(&chosen),
        (true, true) => chosen.iter().map(object).collect(),
    };
    if arguments.follow {
        follow(arguments, &output, newest)
    } else {
        finish(&output, 0)
    }
}

impl Arguments {
    /// All that the director tells, or that it has written where it can't.
    fn events(&self, answer: Result<Answer, AskError>) -> Result<Vec<Event>, ExitCode> {
        let why = match answer {
            Ok(Answer::Events(events)) => return Ok(events),
            Err(AskError::NotRunning(_)) => "no director runs",
            Err(AskError::NoAnswer(_)) => "the director doesn't answer",
            other => return Err(unanswered(other)),
        };
        eprintln!("note: {why}; these are from its file");
        events::peek(&self.state_directory, &self.target.runtime_directory).map_err(fail)
    }

    fn chosen(&self, mut events: Vec<Event>) -> Vec<Event> {
        if let Some(since) = self.since {
            events.retain(|event| event.time >= since);
        }
        let all = if self.since.is_some() {
            events.len()
        } else {
            FEW
        };
        let last = self.last.unwrap_or(all);
        events.split_off(events.len().saturating_sub(last))
    }
}

/// Prints what is new until nobody reads it any more. A director that is gone may come back.
fn follow(arguments: &Arguments, first: &str, mut newest: u64) -> ExitCode {
    let mut output = first.to_owned();
    let mut is_gone = false;
    loop {
        let mut standard_output = std::io::stdout();
        let printed = standard_output.write_all(output.as_bytes());
        if printed.and_then(|()| standard_output.flush()).is_err() {
            return ExitCode::SUCCESS;
        }
        std::thread::sleep(PACE);
        let request = Request::Events {
            last: None,
            after: Some(newest),
        };
        let events = match ask(&arguments.target.runtime_directory, &request, PATIENCE) {
            Ok(Answer::Events(events)) => events,
            Err(AskError::NotRunning(_) | AskError::NoAnswer(_)) => {
                if !std::mem::replace(&mut is_gone, true) {
                    eprintln!("note: the director is gone; waiting for it to come back");
                }
                output.clear();
                continue;
            }
            other => return unanswered(other),
        };
        is_gone = false;
        newest = events.last().map_or(newest, |event| event.number);
        let words = if arguments.json { object } else { line };
        output = events.iter().map(words).collect();
    }
}

fn line(event: &Event) -> String {
    let time = event.time.format(&Rfc3339).unwrap_or_default();
    let severity = event.severity.word();
    let subject = event.subject.as_deref().unwrap_or("director");
    let text = event.text.replace(char::is_control, " ");
    format!("{time:24}  {severity:7}  {subject}: {text}\n")
}

fn object(event: &Event) -> String {
    serde_json::to_string(event).unwrap_or_default() + "\n"
}

/// A point in time, or how long ago it was.
fn since(text: &str) -> Result<OffsetDateTime, String> {
    if let Ok(time) = OffsetDateTime::parse(text, &Rfc3339) {
        return Ok(time);
    }
    let days = text
        .strip_suffix('d')
        .and_then(|days| days.trim().parse::<u64>().ok()?.checked_mul(86_400));
    let ago = match days {
        Some(seconds) => Some(Duration::from_secs(seconds)),
        None => super::time(text).ok(),
    };
    ago.and_then(|ago| time::Duration::try_from(ago).ok())
        .and_then(|ago| OffsetDateTime::now_utc().checked_sub(ago))
        .ok_or_else(|| {
            "must be a time such as 2026-11-22T03:00:00Z, or how long ago: 10m, 2h or 3d".to_owned()
        })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;
    use crate::events::{Kind, Occurrence, Severity};

    fn event(number: u64) -> Event {
        let occurrence = Occurrence::new(Kind::ServerOut, Severity::Warning, "out for udp");
        let time = OffsetDateTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_120 + number);
        occurrence.of("resolver/192.0.2.1").at(number, time)
    }

    fn numbers(last: Option<usize>, since: Option<OffsetDateTime>) -> Vec<u64> {
        let chosen = arguments(last, since).chosen((1..=100).map(event).collect());
        chosen.iter().map(|event| event.number).collect()
    }

    fn arguments(last: Option<usize>, since: Option<OffsetDateTime>) -> Arguments {
        Arguments {
            target: Target {
                runtime_directory: PathBuf::new(),
            },
            last,
            since,
            follow: false,
            json: false,
            state_directory: PathBuf::new(),
        }
    }

    #[test]
    fn the_last_ones_or_those_since_a_time_are_chosen() {
        let all = |first: u64| (first..=100).collect::<Vec<u64>>();
        assert_eq!(numbers(None, None), all(51));
        assert_eq!(numbers(Some(2), None), all(99));
        assert_eq!(numbers(Some(1000), None), all(1));
        let since = Some(event(20).time);
        assert_eq!(numbers(None, since), all(20));
        assert_eq!(numbers(Some(3), since), all(98));
    }

    #[test]
    fn where_no_director_answers_they_are_from_its_file() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("events.jsonl"), events::line(&event(7))).unwrap();
        let arguments = Arguments {
            state_directory: folder.path().to_owned(),
            ..arguments(None, None)
        };
        let socket = PathBuf::new;
        for error in [AskError::NotRunning(socket()), AskError::NoAnswer(socket())] {
            assert_eq!(arguments.events(Err(error)), Ok(vec![event(7)]));
        }
        assert!(
            arguments
                .events(Err(AskError::Forbidden(socket())))
                .is_err()
        );
    }

    #[test]
    fn a_line_has_time_severity_subject_and_text() {
        assert_eq!(
            line(&event(3)),
            "2023-11-14T22:13:20.123Z  warning  resolver/192.0.2.1: out for udp\n"
        );
    }

    #[test]
    fn a_time_is_said_in_either_way() {
        let now = OffsetDateTime::now_utc();
        assert_eq!(
            since("2023-11-14T22:13:20Z").unwrap().unix_timestamp(),
            1_700_000_000
        );
        for (text, seconds) in [("90s", 90), ("10m", 600), ("2h", 7200), ("3d", 259_200)] {
            let ago = (now - since(text).unwrap()).whole_seconds();
            assert!((seconds - 1..=seconds).contains(&ago), "{text} {ago}");
        }
        for wrong in ["", "d", "yesterday", "99999999999999999999d", "2023-11-14"] {
            assert!(since(wrong).is_err(), "{wrong}");
        }
    }
}
