//! The command line: one file a command.

mod check;
mod run;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

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
    /// The process that does the work, started by `run`
    #[command(hide = true)]
    Worker(run::Arguments),
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
        Command::Worker(arguments) => run::work(&arguments),
    }
}
