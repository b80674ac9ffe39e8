//! `rs-agent run`.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use lvs_system::log::{self, Format};

use super::{Error, Selection, open, stop};
use crate::run::{self as service, Certificate};

/// The configuration is wrong (`sysexits.h`, `EX_CONFIG`): starting again doesn't help.
const EXIT_CONFIGURATION: u8 = 78;

/// Shown after the options.
pub(super) const HELP: &str = "\
Examples:
  rs-agent run
  rs-agent run --vip 192.0.2.53
      Without a file.

Signals:
  SIGTERM  leaves, after a drain where a director reads the agent-check line; a second one hurries
  SIGHUP   is a reload

Exit status:
  0   it has left, and no query was lost where it drained
  1   it can't go on, and the message says why
  2   it has left after a drain, and queries may have been lost
  3   it has left when nothing came any more, but not every director was told
  64  wrong command line
  78  the configuration is wrong: starting again doesn't help";

#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) selection: Selection,
    /// How lines of the log are written to standard error
    #[arg(long, value_name = "FORMAT", default_value_t,
          value_parser = PossibleValuesParser::new(Format::WORDS).try_map(|word| word.parse::<Format>()))]
    log_format: Format,
}

/// Runs until it is told to leave; says how it left.
pub(super) fn run(arguments: &Arguments, state_directory: &Path) -> ExitCode {
    log::start(std::io::stderr, arguments.log_format);
    match serve(arguments, state_directory) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(certificate)) => {
            print!("{certificate}");
            stop::exit_code(&certificate)
        }
        Err(Error::Service(service::Error::Configuration(errors))) => {
            eprintln!("{errors}");
            ExitCode::from(EXIT_CONFIGURATION)
        }
        Err(error) => {
            eprintln!("rs-agent: run failed: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The lock is held as long as it runs.
fn serve(arguments: &Arguments, state_directory: &Path) -> Result<Option<Certificate>, Error> {
    let (_lock, machine) = open(state_directory)?;
    Ok(service::run(
        &arguments.selection,
        machine,
        state_directory,
    )?)
}
