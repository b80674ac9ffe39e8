//! `director reload`: the running director reads its file again, and this prints what that changes.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::plan::{lines, refuse};
use super::{Target, finish, json, unanswered};
use crate::control::{Answer, Reload, Request, ask};

/// The daemon waits for real servers and the kernel, 5 s at most, and reads a file before.
const PATIENCE: Duration = Duration::from_secs(20);

/// The kernel refused a part of it.
const EXIT_REFUSED: u8 = 1;

/// Shown after the options.
pub(super) const HELP: &str = "\
Examples:
  director plan
      What a reload would change.
  director reload

Exit status:
  0   the director goes by the file, whether or not something is still waited for
  1   the file is invalid and nothing was changed, the kernel refuses a part of it, or the director
      doesn't answer
  64  wrong command line";

#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

/// Prints a line for each change that was made. Ends with 0 when the director goes by the file, and
/// with 1 when the file is invalid, the kernel refuses a part of it, or nobody answers.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let directory = &arguments.target.runtime_directory;
    match ask(directory, &Request::Reload, PATIENCE) {
        Ok(Answer::Reloaded(reload)) => tell(&reload, arguments.json),
        Ok(Answer::Invalid(findings)) => refuse(&findings, arguments.json),
        other => unanswered(other),
    }
}

fn tell(reload: &Reload, as_json: bool) -> ExitCode {
    let code = if reload.failures.is_empty() {
        0
    } else {
        EXIT_REFUSED
    };
    if as_json {
        return finish(&json(reload), code);
    }
    for (kind, texts) in [
        ("note", &reload.notes),
        ("waiting", &reload.waiting),
        ("error", &reload.failures),
    ] {
        for text in texts {
            eprintln!("{kind}: {text}");
        }
    }
    let unfinished = !reload.waiting.is_empty() || !reload.failures.is_empty();
    if reload.changes.is_empty() && unfinished {
        return ExitCode::from(code);
    }
    finish(&lines(&reload.changes), code)
}
