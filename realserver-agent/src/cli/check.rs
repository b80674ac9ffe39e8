//! `rs-agent check`: what is wrong with this machine as a real server, and how to mend it.

use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;

use clap::Args;

use super::{Error, PATIENCE, Selection, failed, finish, json};
use crate::anycast::Status;
use crate::audit::{Files, Report, Severity, View, judge};
use crate::run::{self as service, Answer, Request};
use crate::vip::Vip;

/// A finding is an error.
const EXIT_ERROR: u8 = 2;
/// The worst finding is a warning.
const EXIT_WARNING: u8 = 3;

/// Shown after the options.
pub(super) const HELP: &str = "\
Examples:
  rs-agent check
  rs-agent check --vip 192.0.2.53 --director 192.0.2.2 --director 192.0.2.3

Exit status:
  0   nothing is wrong
  1   the file is invalid, or the machine can't be judged
  2   an error: queries are lost, or go past the directors
  3   warnings only
  64  wrong command line";

#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) selection: Selection,
    /// A director's own address, which must not be the next hop of answers; may be given several times
    #[arg(long = "director", value_name = "ADDRESS", requires = "vips")]
    directors: Vec<IpAddr>,
    #[command(flatten)]
    daemons: Files,
    /// Print everything that is known as JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Prints the findings. Ends with 0 when there are none, with 2 when one is an error, with 3 when all are
/// warnings, and with 1 when the machine can't be judged.
pub(super) fn run(arguments: &Arguments, state_directory: &Path) -> ExitCode {
    match audit(arguments, state_directory) {
        Ok(report) if arguments.json => finish(&json(&report), exit_code(&report)),
        Ok(report) => {
            let mut text = findings(&report);
            if text.is_empty() {
                text = "rs check ok\n".to_owned();
            }
            finish(&text, exit_code(&report))
        }
        Err(error) => failed("check", &error),
    }
}

pub(super) fn audit(arguments: &Arguments, state_directory: &Path) -> Result<Report, Error> {
    let mut wanted = arguments.selection.read()?;
    wanted.directors.extend(&arguments.directors);
    let told = match wanted.anycast {
        Some(_) => announcements(state_directory)?,
        None => None,
    };
    let held = |status: &Status| {
        let vip = wanted.vips.iter().find(|vip| vip.address == status.address);
        vip.cloned().zip(status.interface.clone())
    };
    if wanted.anycast.is_some() {
        // What is withdrawn isn't to be there.
        let held = told.iter().flatten().filter_map(held);
        wanted.vips = held
            .map(|(vip, interface)| Vip { interface, ..vip })
            .collect();
    }
    let view = View::read(state_directory, &wanted, &arguments.daemons).map_err(Error::Audit)?;
    let report = judge(&view, &wanted);
    Ok(match wanted.anycast {
        Some(_) => report.with_announcements(told),
        None => report,
    })
}

/// How announcements stand; `None` when no agent runs.
fn announcements(state_directory: &Path) -> Result<Option<Vec<Status>>, Error> {
    match service::ask(state_directory, &Request::Announcements, PATIENCE)? {
        None => Ok(None),
        Some(Answer::Announcements(told)) => Ok(Some(told)),
        Some(Answer::Error(error)) => Err(Error::Refused(error)),
        Some(_) => Ok(Some(Vec::new())),
    }
}

pub(super) fn findings(report: &Report) -> String {
    report
        .findings
        .iter()
        .map(|finding| format!("{finding}\n"))
        .collect()
}

pub(super) fn exit_code(report: &Report) -> u8 {
    match report.worst() {
        None => 0,
        Some(Severity::Warning) => EXIT_WARNING,
        Some(Severity::Error) => EXIT_ERROR,
    }
}
