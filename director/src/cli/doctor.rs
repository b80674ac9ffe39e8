//! `director doctor`: is this machine, this kernel, this LAN, this configuration fit?

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::{CONFIGURATION_FILE, Target, fail, finish, json, plan, this_node};
use crate::config;
use crate::control::{Answer, AskError, Finding as Mistake, Request, Status, ask};
use crate::doctor::{Finding, Patient, Running, Verdict, examine};

/// The daemon answers from memory.
const PATIENCE: Duration = Duration::from_secs(5);

/// There is at least one error.
const EXIT_ERRORS: u8 = 2;
/// There is no error, but a warning or something unknown.
const EXIT_WARNINGS: u8 = 3;

pub(super) const HELP: &str = "\
Examples:
  director doctor
      What isn't well, with what to do about it; one line when all is. Takes a second or more, in
      which it listens to the LAN.
  director doctor --config new.yaml --all
      A file that isn't in force yet, and everything that was looked at.
  director doctor --peer 192.0.2.2:9712
      Compare configurations with the director whose metrics are there.

Exit status:
  0   fit: there is nothing worse than notes
  1   the file is invalid, or the machine can't be looked at
  2   there are errors
  3   there are warnings, or things that can't be seen
  64  wrong command line";

#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = CONFIGURATION_FILE)]
    config: PathBuf,
    /// Which node of the file this machine is [default: that of the director that runs, or the host name]
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Where the other director's metrics are, to compare configurations [default: its address as
    /// heard or configured, where `metrics` listens on all addresses]
    #[arg(long, value_name = "ADDRESS:PORT")]
    peer: Option<SocketAddr>,
    /// Show what is well, too
    #[arg(long)]
    all: bool,
    /// Print everything that was looked at as JSON
    #[arg(long)]
    json: bool,
}

/// Prints what isn't well and what to do about it. Ends with 0 when there is nothing worse than notes, with
/// 2 when there are errors, with 3 when there are warnings or things that can't be seen, and with 1 when the
/// file is invalid or the machine can't be looked at.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let directory = &arguments.target.runtime_directory;
    let status = match ask(directory, &Request::Status, PATIENCE) {
        Ok(Answer::Status(status)) => Ok(status),
        Ok(_) => return fail("the director answers another question"),
        Err(AskError::NotRunning(_)) => Err(None),
        // It may be what is to be found out.
        Err(error) => Err(Some(error.to_string())),
    };
    let told = arguments.node.as_deref();
    let told = told.or_else(|| Some(status.as_ref().ok()?.node.as_str()));
    let file = config::load(&arguments.config);
    let read = file.and_then(|file| {
        let node = this_node(&file, told);
        let configuration = file.outline(&node)?;
        Ok((file, node, configuration))
    });
    let (file, node, configuration) = match read {
        Ok(read) => read,
        Err(errors) => {
            let mistakes: Vec<Mistake> = errors.iter().map(Mistake::from).collect();
            return plan::refuse(&mistakes, arguments.json);
        }
    };
    let patient = Patient {
        configuration: &configuration,
        peer: arguments.peer,
        running: status.as_ref().ok().map(|status| Running {
            status,
            runtime_directory: directory,
        }),
    };
    let mut findings = match examine(&file, patient) {
        Ok(findings) => findings,
        Err(error) => return fail(format!("cannot look at this machine: {error}")),
    };
    if let Err(Some(error)) = &status {
        findings.insert(
            0,
            Finding {
                check: "director",
                subject: String::new(),
                verdict: Verdict::Unknown,
                text: error.clone(),
                advice: None,
            },
        );
    }
    let worst = findings.iter().map(|one| one.verdict).max();
    let output = if arguments.json {
        #[derive(Serialize)]
        struct Everything<'f> {
            file: String,
            node: &'f str,
            running: bool,
            verdict: Verdict,
            findings: &'f [Finding],
        }
        json(&Everything {
            file: arguments.config.display().to_string(),
            node: &node,
            running: status.is_ok(),
            verdict: worst.unwrap_or(Verdict::Ok),
            findings: &findings,
        })
    } else {
        describe(&node, status.ok().as_ref(), &findings, arguments.all)
    };
    finish(&output, exit_code(worst))
}

fn exit_code(worst: Option<Verdict>) -> u8 {
    match worst {
        Some(Verdict::Error) => EXIT_ERRORS,
        Some(Verdict::Warning | Verdict::Unknown) => EXIT_WARNINGS,
        Some(Verdict::Note | Verdict::Ok) | None => 0,
    }
}

/// The worst first; what is well only if that is asked for.
fn describe(node: &str, status: Option<&Status>, findings: &[Finding], all: bool) -> String {
    let mut shown: Vec<&Finding> = findings
        .iter()
        .filter(|one| all || one.verdict != Verdict::Ok)
        .collect();
    shown.sort_by_key(|one| std::cmp::Reverse(one.verdict));
    let width =
        |of: fn(&Finding) -> usize| shown.iter().map(|one| of(one)).max().unwrap_or_default();
    let checks = width(|one| one.check.chars().count());
    let subjects = width(|one| one.subject.chars().count());
    let mut text = String::new();
    for Finding {
        check,
        subject,
        verdict,
        text: what,
        advice,
    } in &shown
    {
        // Writing to a text doesn't fail.
        let _ = writeln!(
            text,
            "{verdict:<7}  {check:<checks$}  {subject:<subjects$}  {what}"
        );
        if let Some(advice) = advice {
            let _ = writeln!(
                text,
                "{:<7}  {:<checks$}  {:<subjects$}  → {advice}",
                "", "", ""
            );
        }
    }
    let worst = findings.iter().map(|one| one.verdict).max();
    let verdict = if exit_code(worst) == 0 {
        "fit"
    } else {
        "not fit"
    };
    let count = |verdict| findings.iter().filter(|one| one.verdict == verdict).count();
    let counts = [
        (count(Verdict::Error), "error"),
        (count(Verdict::Warning), "warning"),
        (count(Verdict::Unknown), "unknown"),
        (count(Verdict::Note), "note"),
    ];
    let counts: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}{}", plural(*count, word)))
        .chain([format!("{} well", count(Verdict::Ok))])
        .collect();
    let director = match status {
        Some(status) => format!("director {} runs", status.version),
        None => "no director runs".to_owned(),
    };
    let _ = writeln!(
        text,
        "{node}: {verdict} ({}); {director}",
        counts.join(", ")
    );
    text
}

fn plural(count: usize, word: &str) -> &'static str {
    if count == 1 || word == "unknown" {
        ""
    } else {
        "s"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(check: &'static str, subject: &str, verdict: Verdict) -> Finding {
        Finding {
            check,
            subject: subject.to_owned(),
            verdict,
            text: "is so".to_owned(),
            advice: (verdict > Verdict::Note).then(|| "do that".to_owned()),
        }
    }

    #[test]
    fn the_worst_comes_first_and_what_is_well_when_it_is_asked_for() {
        let findings = [
            finding("mtu", "192.0.2.1", Verdict::Ok),
            finding("reverse path", "eth2", Verdict::Warning),
            finding("clock", "", Verdict::Error),
        ];
        let expected = "\
error    clock               is so
                             → do that
warning  reverse path  eth2  is so
                             → do that
ds1: not fit (1 error, 1 warning, 1 well); no director runs
";
        assert_eq!(describe("ds1", None, &findings, false), expected);
        assert!(describe("ds1", None, &findings, true).contains("ok       mtu"));
    }

    #[test]
    fn when_all_is_well_one_line_says_so() {
        let findings = [finding("mtu", "192.0.2.1", Verdict::Ok)];
        assert_eq!(
            describe("ds1", None, &findings, false),
            "ds1: fit (1 well); no director runs\n"
        );
    }

    #[test]
    fn the_exit_status_is_the_worst_verdict() {
        let codes = [
            Verdict::Ok,
            Verdict::Note,
            Verdict::Unknown,
            Verdict::Warning,
            Verdict::Error,
        ];
        assert_eq!(
            codes.map(|verdict| exit_code(Some(verdict))),
            [0, 0, 3, 3, 2]
        );
    }
}
