//! `director handover`: another router takes over while this one goes on forwarding, and this one
//! stands aside.

use std::fmt::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::{Target, finish, json, time, unanswered};
use crate::control::{Answer, Handover, HandoverOutcome, Request, ask};

/// Longer than the daemon itself waits.
const PATIENCE: Duration = Duration::from_secs(140);

/// Not every instance was handed over.
const EXIT_NOT_TAKEN_OVER: u8 = 1;

/// Shown after the options.
pub(super) const HELP: &str = "\
Examples:
  director handover --for 10m
      All instances; for ten minutes, or until it is restarted, this router takes nothing back from a
      living one.
  director handover dns dns6
      Two instances, until they are released.
  director handover --release

Exit status:
  0   everything that was asked for came about
  1   nobody took over from an instance, which stays Active; a name isn't known; or the director can't
      be reached
  64  wrong command line";

#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// How long to stand aside, such as 90s, 10m or 1h [default: until --release]; a restart ends it
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    aside: Option<Duration>,
    /// Stand aside no longer
    #[arg(long, conflicts_with_all = ["aside", "instances"])]
    release: bool,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
    /// The instances to hand over [default: all]
    #[arg(value_name = "INSTANCE")]
    instances: Vec<String>,
}

impl Arguments {
    fn request(&self) -> Request {
        if self.release {
            return Request::Release;
        }
        Request::Handover {
            instances: self.instances.clone(),
            for_seconds: self.aside.map(|aside| aside.as_secs()),
        }
    }
}

/// For programs: an object with one key.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Told<'a> {
    Handovers(&'a [Handover]),
    Released(&'a [String]),
}

/// Prints what became of each instance. Ends with 0 when all that were Active were taken over,
/// and with 1 when one was not or the director can't be reached.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let answer = ask(
        &arguments.target.runtime_directory,
        &arguments.request(),
        PATIENCE,
    );
    match answer {
        Ok(Answer::Handover(handovers)) => {
            let code = if handovers.iter().all(stands_aside) {
                0
            } else {
                EXIT_NOT_TAKEN_OVER
            };
            let output = if arguments.json {
                json(&Told::Handovers(&handovers))
            } else {
                describe(&handovers, arguments.aside)
            };
            finish(&output, code)
        }
        Ok(Answer::Released(instances)) if arguments.json => {
            finish(&json(&Told::Released(&instances)), 0)
        }
        Ok(Answer::Released(instances)) => finish(&describe_release(&instances), 0),
        other => unanswered(other),
    }
}

fn stands_aside(handover: &Handover) -> bool {
    match handover.outcome {
        HandoverOutcome::TakenOver { .. } | HandoverOutcome::NotActive => true,
        HandoverOutcome::NobodyAnswered | HandoverOutcome::Owner | HandoverOutcome::Unknown => {
            false
        }
    }
}

fn describe(handovers: &[Handover], aside: Option<Duration>) -> String {
    let mut text = String::new();
    for Handover { instance, outcome } in handovers {
        // Writing to a text doesn't fail.
        let _ = match outcome {
            HandoverOutcome::TakenOver { by, after } => {
                writeln!(
                    text,
                    "{instance}: {by} took over after {} ms",
                    after.as_millis()
                )
            }
            HandoverOutcome::NobodyAnswered => writeln!(
                text,
                "{instance}: nobody took over, so this router stays Active; see whether another \
                 director runs and hears it"
            ),
            HandoverOutcome::NotActive => {
                writeln!(text, "{instance}: is not Active here; stands aside")
            }
            HandoverOutcome::Owner => writeln!(
                text,
                "{instance}: owns its addresses (priority 255) and would take them back at once; stop \
                 this director to hand them over"
            ),
            HandoverOutcome::Unknown => writeln!(
                text,
                "{instance}: is not an instance; `director status` shows them"
            ),
        };
    }
    if handovers.is_empty() {
        text += "there is no instance to hand over\n";
    }
    if handovers.iter().any(stands_aside) {
        let _ = match aside {
            Some(time) => writeln!(
                text,
                "stands aside for {} s; `director handover --release` ends it sooner",
                time.as_secs()
            ),
            None => writeln!(text, "stands aside until `director handover --release`"),
        };
    }
    text
}

fn describe_release(instances: &[String]) -> String {
    if instances.is_empty() {
        return "nothing stood aside\n".to_owned();
    }
    let mut text = String::new();
    for instance in instances {
        let _ = writeln!(text, "{instance}: stands aside no longer");
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn request(words: &[&str]) -> Result<Request, String> {
        let line = Line::try_parse_from([&["handover"], words].concat());
        line.map(|line| line.arguments.request())
            .map_err(|error| error.to_string())
    }

    fn handover(instance: &str, outcome: HandoverOutcome) -> Handover {
        Handover {
            instance: instance.to_owned(),
            outcome,
        }
    }

    #[test]
    fn words_become_requests() {
        let all = |for_seconds| Request::Handover {
            instances: Vec::new(),
            for_seconds,
        };
        assert_eq!(request(&[]).unwrap(), all(None));
        assert_eq!(request(&["--for", "90s"]).unwrap(), all(Some(90)));
        assert_eq!(request(&["--for", "10m"]).unwrap(), all(Some(600)));
        assert_eq!(request(&["--for", "2h"]).unwrap(), all(Some(7200)));
        assert_eq!(request(&["--for", "2000ms"]).unwrap(), all(Some(2)));
        assert_eq!(request(&["--release"]).unwrap(), Request::Release);
        let two = Request::Handover {
            instances: vec!["dns".to_owned(), "lan".to_owned()],
            for_seconds: Some(1),
        };
        assert_eq!(request(&["--for", "1s", "dns", "lan"]).unwrap(), two);
        for (words, said) in [
            (&["--for", "10"][..], "such as 90s"),
            (&["--for", "m"], "such as 90s"),
            (&["--for", "1.5h"], "such as 90s"),
            (&["--for", "18446744073709551615h"], "such as 90s"),
            (&["--for", "500ms"], "at least 1s"),
            (&["--release", "dns"], "cannot be used with"),
            (&["--release", "--for", "1s"], "cannot be used with"),
        ] {
            let error = request(words).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn programs_read_an_object_with_one_key() {
        let taken = HandoverOutcome::TakenOver {
            by: "192.0.2.2".parse().unwrap(),
            after: Duration::from_millis(113),
        };
        let told = json(&Told::Handovers(&[handover("dns", taken)]));
        let read: serde_json::Value = serde_json::from_str(&told).unwrap();
        let expected = serde_json::json!({ "handovers": [
            { "instance": "dns", "outcome": "taken_over", "by": "192.0.2.2", "after_seconds": 0.113 }
        ] });
        assert_eq!(read, expected);
        let told = json(&Told::Released(&["dns".to_owned()]));
        let read: serde_json::Value = serde_json::from_str(&told).unwrap();
        assert_eq!(read, serde_json::json!({ "released": ["dns"] }));
    }

    #[test]
    fn every_outcome_is_said() {
        let taken = HandoverOutcome::TakenOver {
            by: "192.0.2.2".parse().unwrap(),
            after: Duration::from_micros(113_400),
        };
        let all = [
            handover("dns", taken),
            handover("lan", HandoverOutcome::NobodyAnswered),
            handover("six", HandoverOutcome::NotActive),
            handover("sicks", HandoverOutcome::Unknown),
        ];
        assert_eq!(
            describe(&all, Some(Duration::from_secs(600))),
            "dns: 192.0.2.2 took over after 113 ms\n\
             lan: nobody took over, so this router stays Active; see whether another director \
             runs and hears it\n\
             six: is not Active here; stands aside\n\
             sicks: is not an instance; `director status` shows them\n\
             stands aside for 600 s; `director handover --release` ends it sooner\n"
        );
        let well: Vec<bool> = all.iter().map(stands_aside).collect();
        assert_eq!(well, [true, false, true, false]);
        assert!(!describe(&all[1..2], None).contains("stands aside"));
        assert!(describe(&all[..1], None).ends_with("until `director handover --release`\n"));
        assert_eq!(
            describe_release(&["dns".to_owned()]),
            "dns: stands aside no longer\n"
        );
        assert_eq!(describe_release(&[]), "nothing stood aside\n");
    }
}
