//! `director drain`, `disable` and `enable`: the operator's hand on real servers.

use std::fmt::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::{Target, finish, json, time, unanswered};
use crate::control::{Answer, HandReport, Request, ask};
use crate::hand::{Pattern, State};

/// The daemon waits for the kernel and the disk.
const PATIENCE: Duration = Duration::from_secs(20);

/// It is in force, and a restart forgets it.
const EXIT_NOT_KEPT: u8 = 1;

/// Shown after the options of `drain`.
pub(super) const DRAIN_HELP: &str = "\
Examples:
  director drain resolver/192.0.2.11 --for 2h --reason 'new disk'
  director drain '*/192.0.2.11'
      The server in all services that have it, until `director enable`.

Exit status:
  0   it is so
  1   it is so, but can't be written down; or no server is meant; or the director can't be reached
  64  wrong command line";

/// Shown after the options of `disable`.
pub(super) const DISABLE_HELP: &str = "\
Examples:
  director disable resolver/192.0.2.11 --reason 'answers nonsense'
  director disable '*/192.0.2.11' --for 10m

Exit status:
  0   it is so
  1   it is so, but can't be written down; or no server is meant; or the director can't be reached
  64  wrong command line";

/// Shown after the options of `enable`.
pub(super) const ENABLE_HELP: &str = "\
Examples:
  director enable resolver/192.0.2.11
  director enable 'resolver/*'
      All servers of a service.

Exit status:
  0   it is so
  1   it is so, but can't be written down; or no server is meant; or the director can't be reached
  64  wrong command line";

#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    which: Which,
    /// For how long, such as 90s, 10m or 2h [default: until `director enable`]
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    time: Option<Duration>,
    /// Why, for those who read the status
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(Args, Debug)]
pub(super) struct Which {
    #[command(flatten)]
    target: Target,
    /// The server as SERVICE/ADDRESS; '*/ADDRESS' is the server in all services, 'SERVICE/*' all
    /// servers of a service
    #[arg(value_name = "SERVICE/SERVER")]
    servers: Pattern,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

/// Prints what became of each server. Ends with 0 when the servers are as they were asked to be, and
/// with 1 when that isn't written down, no server is meant, or nobody answers.
pub(super) fn run(arguments: &Arguments, state: State) -> ExitCode {
    order(
        &arguments.which,
        state,
        arguments.time,
        arguments.reason.clone(),
    )
}

/// The same for `director enable`.
pub(super) fn enable(which: &Which) -> ExitCode {
    order(which, State::Enabled, None, None)
}

fn order(which: &Which, state: State, time: Option<Duration>, reason: Option<String>) -> ExitCode {
    let request = Request::Hand {
        servers: which.servers.clone(),
        state,
        for_seconds: time.map(|time| time.as_secs()),
        reason,
    };
    match ask(&which.target.runtime_directory, &request, PATIENCE) {
        Ok(Answer::Hand(report)) => tell(&report, time, which.json),
        other => unanswered(other),
    }
}

fn tell(report: &HandReport, time: Option<Duration>, as_json: bool) -> ExitCode {
    let code = report.not_kept.as_ref().map_or(0, |_| EXIT_NOT_KEPT);
    if as_json {
        return finish(&json(report), code);
    }
    for note in &report.notes {
        eprintln!("note: {note}");
    }
    if let Some(error) = &report.not_kept {
        eprintln!("error: in force, but a restart forgets it: {error}");
    }
    finish(&describe(report, time), code)
}

fn describe(report: &HandReport, time: Option<Duration>) -> String {
    let mut text = String::new();
    for outcome in &report.servers {
        let (state, was) = (outcome.state.word(), outcome.was.word());
        let time = match (outcome.state, time) {
            (State::Enabled, _) => String::new(),
            (_, Some(time)) => format!(" for {} s", time.as_secs()),
            (_, None) => " until `director enable`".to_owned(),
        };
        // Writing to a text doesn't fail.
        let _ = match (outcome.state, outcome.was) {
            (State::Enabled, State::Enabled) => {
                writeln!(text, "{}: {state}, as it was", outcome.server)
            }
            _ => writeln!(text, "{}: {state}{time}; was {was}", outcome.server),
        };
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::control::HandOutcome;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    #[test]
    fn words_become_orders() {
        let words = [
            "drain",
            "*/192.0.2.11",
            "--for",
            "2h",
            "--reason",
            "new disk",
        ];
        let arguments = Line::try_parse_from(words).unwrap().arguments;
        assert_eq!(arguments.which.servers.to_string(), "*/192.0.2.11");
        assert_eq!(arguments.time, Some(Duration::from_secs(7200)));
        assert_eq!(arguments.reason.as_deref(), Some("new disk"));
        let error = Line::try_parse_from(["drain", "192.0.2.11"]).err().unwrap();
        assert!(
            error
                .to_string()
                .contains("write it as resolver/192.0.2.11")
        );
    }

    #[test]
    fn every_server_has_its_line() {
        let outcome = |server: &str, state, was| HandOutcome {
            server: server.parse().unwrap(),
            state,
            was,
        };
        let mut report = HandReport {
            servers: vec![outcome("a/192.0.2.1", State::Drained, State::Enabled)],
            notes: Vec::new(),
            not_kept: None,
        };
        assert_eq!(
            describe(&report, Some(Duration::from_secs(90))),
            "a/192.0.2.1: drained for 90 s; was enabled\n"
        );
        report.servers = vec![
            outcome("a/192.0.2.1", State::Disabled, State::Drained),
            outcome("b/192.0.2.1", State::Enabled, State::Disabled),
            outcome("c/192.0.2.1", State::Enabled, State::Enabled),
        ];
        assert_eq!(
            describe(&report, None),
            "a/192.0.2.1: disabled until `director enable`; was drained\n\
             b/192.0.2.1: enabled; was disabled\n\
             c/192.0.2.1: enabled, as it was\n"
        );
    }
}
