//! Arguments in, one line and an exit code out.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use lvs_system::lock::{self, Lock};

use crate::agent::{self, reload, start, stop};
use crate::config;
use crate::machine::{self, Linux};
use crate::vip;

/// The exit code of a wrong command line (`EX_USAGE`, sysexits.h).
pub const USAGE: u8 = 64;

/// How long another run may take to finish.
const PATIENCE: Duration = Duration::from_secs(5);

/// Makes this machine a direct-routing (LVS-DR) real server: the VIP on lo, and no answer to ARP
/// requests for it.
#[derive(Debug, Parser)]
#[command(name = "rs-agent", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    /// Where the record of what was found and changed is kept
    #[arg(long, global = true, hide = true, default_value = "/run/rs-agent")]
    state_directory: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Set arp_ignore and arp_announce, then put the VIPs on lo
    Start(Selection),
    /// Take the VIPs away, then restore the sysctls as they were found
    ///
    /// Goes by the record of what was set: the configuration file is not read, and need not be
    /// there. With --vip, only those VIPs are taken away, and the sysctls are restored with the
    /// last one.
    Stop(Selection),
    /// Bring the machine to what the configuration says, without touching what is right already
    Reload(Selection),
}

#[derive(Debug, Args)]
struct Selection {
    /// A VIP, instead of those of the configuration file; may be given several times
    #[arg(long = "vip", value_name = "ADDRESS", value_parser = vip::parse, conflicts_with = "config")]
    vips: Vec<Ipv4Addr>,
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_PATH)]
    config: PathBuf,
}

/// Why a verb was not carried out.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{0}")]
    Configuration(#[from] config::Error),
    #[error("{0}; nothing was changed")]
    Lock(#[from] lock::Error),
    #[error("{0}; nothing was changed")]
    Machine(#[from] machine::Error),
    #[error("{0}")]
    Agent(#[from] agent::Error),
}

/// Runs `rs-agent` with the process's arguments.
pub fn main() -> ExitCode {
    run(std::env::args_os())
}

fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nothing is left to be told when the terminal itself fails.
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let name = arguments.verb.name();
    match arguments.verb.carry_out(&arguments.state_directory) {
        Ok(foreign) => {
            for vip in foreign {
                eprintln!(
                    "rs-agent: {vip} was on lo before rs-agent; it is used, and stop will leave it"
                );
            }
            println!("rs {name} ok");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("rs-agent: {name} failed: {error}");
            ExitCode::FAILURE
        }
    }
}

impl Verb {
    fn name(&self) -> &'static str {
        match self {
            Self::Start(_) => "start",
            Self::Stop(_) => "stop",
            Self::Reload(_) => "reload",
        }
    }

    /// Returns the VIPs that belong to somebody else.
    fn carry_out(&self, state_directory: &Path) -> Result<Vec<Ipv4Addr>, Error> {
        match self {
            Self::Start(selection) => {
                let vips = selection.read()?;
                let (_lock, mut machine) = open(state_directory)?;
                Ok(start(&mut machine, &vips)?)
            }
            Self::Reload(selection) => {
                let vips = selection.read()?;
                let (_lock, mut machine) = open(state_directory)?;
                Ok(reload(&mut machine, &vips)?)
            }
            Self::Stop(selection) => {
                let (_lock, mut machine) = open(state_directory)?;
                stop(&mut machine, &selection.vips)?;
                Ok(Vec::new())
            }
        }
    }
}

impl Selection {
    fn read(&self) -> Result<Vec<Ipv4Addr>, Error> {
        if self.vips.is_empty() {
            Ok(config::load(&self.config)?.vips)
        } else {
            Ok(self.vips.clone())
        }
    }
}

/// Asks for the rights before anything is written, even the lock; reads the records under it.
fn open(state_directory: &Path) -> Result<(Lock, Linux), Error> {
    machine::check_rights()?;
    let lock = Lock::acquire(&state_directory.join("lock"), "rs-agent", PATIENCE)?;
    Ok((lock, Linux::open(state_directory)?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_three_verbs_take_vips_or_a_file() {
        for verb in ["start", "stop", "reload"] {
            for rest in [
                "",
                "--vip 10.0.0.1 --vip 10.0.0.2",
                "--config /etc/other.yaml",
            ] {
                let arguments = parse(&format!("rs-agent {verb} {rest}")).unwrap();
                assert_eq!(arguments.verb.name(), verb);
            }
        }
    }

    #[test]
    fn other_command_lines_are_usage_errors() {
        for line in [
            "rs-agent",
            "rs-agent restart",
            "rs-agent start 10.0.0.1",
            "rs-agent start --vip 127.0.0.1",
            "rs-agent start --vip 10.0.0.1/32",
            "rs-agent start --vip 10.0.0.1 --config /etc/rs-agent.yaml",
        ] {
            assert!(parse(line).unwrap_err().use_stderr(), "{line}");
        }
        assert!(!parse("rs-agent --help").unwrap_err().use_stderr());
    }
}
