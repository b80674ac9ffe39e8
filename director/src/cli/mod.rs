//! The command line: one file a command.

mod check;
mod handover;
mod run;
mod status;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};

/// Where a director keeps its records and its control socket, unless it is told otherwise.
const RUNTIME_DIRECTORY: &str = "/run/lvs-director";

/// The command line was wrong (`sysexits.h`, `EX_USAGE`).
const EXIT_USAGE: u8 = 64;

/// Holds a virtual IP with VRRP and spreads DNS queries over real servers with IPVS.
#[derive(Debug, Parser)]
#[command(name = "director", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run in the foreground until SIGTERM; SIGHUP reads the configuration again
    Run(run::Arguments),
    /// Validate a configuration file for all nodes and show what follows from it
    Check(check::Arguments),
    /// Show how the running director is
    Status(status::Arguments),
    /// Have another router take over, and stand aside
    Handover(handover::Arguments),
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
        Command::Handover(arguments) => handover::run(&arguments),
        Command::Worker(arguments) => run::work(&arguments),
    }
}

/// Prints a command's result, and ends with `code` if it could be read.
fn finish(output: &str, code: u8) -> ExitCode {
    // Nobody is left to tell when the reader is gone.
    match std::io::stdout().write_all(output.as_bytes()) {
        Ok(()) => ExitCode::from(code),
        Err(_) => ExitCode::FAILURE,
    }
}
