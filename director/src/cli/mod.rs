//! The command line: one file a command.

mod check;
mod doctor;
mod events;
mod hand;
mod handover;
mod plan;
mod reload;
mod run;
mod status;
mod top;
mod trace;

use std::ffi::OsString;
use std::fmt::Display;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};
use serde::Serialize;

use crate::config;
use crate::control::{Answer, AskError};
use crate::hand::State;

/// Where the configuration is, unless it is told otherwise.
const CONFIGURATION_FILE: &str = "/etc/lvs-director/director.yaml";

/// Where a director keeps its records and its control socket, unless it is told otherwise.
const RUNTIME_DIRECTORY: &str = "/run/lvs-director";

/// Where a director keeps what has to outlive the machine's restart, unless it is told otherwise.
const STATE_DIRECTORY: &str = "/var/lib/lvs-director";

/// The command line was wrong (`sysexits.h`, `EX_USAGE`).
const EXIT_USAGE: u8 = 64;

/// Shown after the options, as every command's `HELP`.
const HELP: &str = "\
Examples:
  director check /etc/lvs-director/director.yaml
      Says whether the file is valid, and what follows from it.
  director status
      Says how everything is, and what to do where it isn't well.

Exit status:
  0   all is well
  1   it failed, and the message says why
  2   done, and there is something to look at, as each command's own page says
  64  wrong command line
  78  wrong configuration (`run`)

Files:
  /etc/lvs-director/director.yaml  the configuration, unless --config names another
  /run/lvs-director                records and the control socket, unless --runtime-directory says otherwise
  /var/lib/lvs-director            what outlives the machine's restart, unless --state-directory says otherwise";

/// Holds a virtual IP with VRRP and spreads DNS queries over real servers with IPVS.
#[derive(Debug, Parser)]
#[command(name = "director", version, subcommand_required = true, after_help = HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run in the foreground until SIGTERM; SIGHUP reads the configuration again
    #[command(after_help = run::HELP)]
    Run(run::Arguments),
    /// Validate a configuration file for all nodes and show what follows from it
    #[command(after_help = check::HELP)]
    Check(check::Arguments),
    /// Show how the running director is
    #[command(after_help = status::HELP)]
    Status(status::Arguments),
    /// Show what happened, when, and why
    #[command(after_help = events::HELP)]
    Events(events::Arguments),
    /// Show which server a client's query would go to, and why
    #[command(after_help = trace::HELP)]
    Trace(trace::Arguments),
    /// Look whether this machine, its kernel, its LAN and the configuration are fit, and what to do
    #[command(after_help = doctor::HELP)]
    Doctor(doctor::Arguments),
    /// Follow how the running director is on a screen, and drain or enable real servers by keys
    #[command(after_help = top::HELP)]
    Top(top::Arguments),
    /// Show what the configuration file would change
    #[command(after_help = plan::HELP)]
    Plan(plan::Arguments),
    /// Have the running director read its configuration file again, and show what that changes
    #[command(after_help = reload::HELP)]
    Reload(reload::Arguments),
    /// Have another router take over, and stand aside
    #[command(after_help = handover::HELP)]
    Handover(handover::Arguments),
    /// Have real servers take nothing new, and keep what they have
    #[command(after_help = hand::DRAIN_HELP)]
    Drain(hand::Arguments),
    /// Take real servers out
    #[command(after_help = hand::DISABLE_HELP)]
    Disable(hand::Arguments),
    /// Have drained and disabled real servers take part again
    #[command(after_help = hand::ENABLE_HELP)]
    Enable(hand::Which),
    /// The process that does the work, started by `run`
    #[command(hide = true)]
    Worker(run::Arguments),
}

/// Which running director is meant.
#[derive(Args, Debug)]
struct Target {
    /// Where the director was told to keep its records
    #[arg(long, value_name = "DIRECTORY", default_value = RUNTIME_DIRECTORY)]
    runtime_directory: PathBuf,
}

/// All that can be said on the command line, for manuals and completions. What `--help` shows after the
/// options has sections: a heading with a colon, and below it lines with two spaces or more before them.
#[must_use]
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Runs the command that `arguments` name, the program's own name first.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nobody is left to tell when the terminal is gone.
            let _ = error.print();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
                _ => ExitCode::from(EXIT_USAGE),
            };
        }
    };
    match arguments.command {
        Command::Run(arguments) => run::supervise(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Status(arguments) => status::run(&arguments),
        Command::Events(arguments) => events::run(&arguments),
        Command::Trace(arguments) => trace::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Top(arguments) => top::run(&arguments),
        Command::Plan(arguments) => plan::run(&arguments),
        Command::Reload(arguments) => reload::run(&arguments),
        Command::Handover(arguments) => handover::run(&arguments),
        Command::Drain(arguments) => hand::run(&arguments, State::Drained),
        Command::Disable(arguments) => hand::run(&arguments, State::Disabled),
        Command::Enable(which) => hand::enable(&which),
        Command::Worker(arguments) => run::work(&arguments),
    }
}

/// Which node of a file this machine is: the one that it was told, or the one of its host name.
fn this_node(file: &config::File, told: Option<&str>) -> String {
    if let Some(node) = told {
        return node.to_owned();
    }
    let host = host_name();
    // Maps may be written with the first label of a fully qualified host name.
    let label = host.split('.').next().unwrap_or_default();
    let nodes = file.nodes();
    let short = !nodes.contains(host.as_str()) && nodes.contains(label);
    if short { label.to_owned() } else { host }
}

fn host_name() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// A time of at least a second, as in the configuration or in minutes or hours.
fn time(text: &str) -> Result<Duration, String> {
    let minutes =
        |number: &str, each: u64| number.trim().parse::<u64>().ok()?.checked_mul(each * 60);
    let time = config::parse_duration(text).or_else(|| {
        let seconds = match (text.strip_suffix('m'), text.strip_suffix('h')) {
            (Some(number), _) => minutes(number, 1),
            (_, Some(number)) => minutes(number, 60),
            (None, None) => None,
        };
        seconds.map(Duration::from_secs)
    });
    match time {
        Some(time) if time >= Duration::from_secs(1) => Ok(time),
        Some(_) => Err("is too short; must be at least 1s".to_owned()),
        None => Err("must be a whole number with its unit, such as 90s, 10m or 1h".to_owned()),
    }
}

/// For programs.
fn json(it: &impl Serialize) -> String {
    // Texts, finite numbers and booleans always have a JSON form.
    serde_json::to_string_pretty(it).map_or_else(|_| String::new(), |text| text + "\n")
}

/// Prints why the director gave no answer to the question.
fn unanswered(answer: Result<Answer, AskError>) -> ExitCode {
    match answer {
        Ok(Answer::Error(error)) => fail(error),
        Ok(_) => fail("the director answers another question"),
        Err(error) => fail(error),
    }
}

/// Prints why a command has no result.
fn fail(error: impl Display) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

/// Prints a command's result, and ends with `code` if it could be read.
fn finish(output: &str, code: u8) -> ExitCode {
    // Nobody is left to tell when the reader is gone.
    match std::io::stdout().write_all(output.as_bytes()) {
        Ok(()) => ExitCode::from(code),
        Err(_) => ExitCode::FAILURE,
    }
}
