//! Arguments in, one line and an exit code out.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use lvs_system::lock::{self, Lock};

use crate::agent::{self, Left, reload, start, stop};
use crate::config;
use crate::machine::{self, INTERFACE, Linux};
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
    Stop {
        /// A VIP to take away, instead of all; may be given several times
        #[arg(long = "vip", value_name = "ADDRESS", value_parser = vip::parse)]
        vips: Vec<Ipv4Addr>,
    },
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
        Ok(notes) => {
            for note in notes {
                eprintln!("rs-agent: {note}");
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
            Self::Stop { .. } => "stop",
            Self::Reload(_) => "reload",
        }
    }

    /// Returns what a person should know, though it was carried out.
    fn carry_out(&self, state_directory: &Path) -> Result<Vec<String>, Error> {
        match self {
            Self::Start(selection) => {
                let vips = selection.read()?;
                let (_lock, mut machine) = open(state_directory)?;
                Ok(foreign(start(&mut machine, &vips)?))
            }
            Self::Reload(selection) => {
                let vips = selection.read()?;
                let (_lock, mut machine) = open(state_directory)?;
                Ok(foreign(reload(&mut machine, &vips)?))
            }
            Self::Stop { vips } => {
                let (_lock, mut machine) = open(state_directory)?;
                Ok(unknown(&stop(&mut machine, vips)?))
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

fn foreign(vips: Vec<Ipv4Addr>) -> Vec<String> {
    let note = |vip| {
        format!("{vip} was on {INTERFACE} before rs-agent; it is used, and stop will leave it")
    };
    vips.into_iter().map(note).collect()
}

fn unknown(left: &Left) -> Vec<String> {
    let own = if left.remaining.is_empty() {
        "rs-agent has none".to_owned()
    } else {
        let vips: Vec<String> = left.remaining.iter().map(Ipv4Addr::to_string).collect();
        format!("rs-agent still has {}", vips.join(", "))
    };
    let note = |vip| format!("{vip} is no VIP of rs-agent and was left alone; {own}");
    left.unknown.iter().map(note).collect()
}

/// Asks for the rights before anything is written, even the lock; reads the records under it.
/// Damage is said at once: whatever comes of the verb, the next run won't find it.
fn open(state_directory: &Path) -> Result<(Lock, Linux), Error> {
    machine::check_rights()?;
    let lock = Lock::acquire(&state_directory.join("lock"), "rs-agent", PATIENCE)?;
    let machine = Linux::open(state_directory)?;
    for warning in machine.warnings() {
        eprintln!("rs-agent: {warning}");
    }
    Ok((lock, machine))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_three_verbs_take_vips_and_two_a_file() {
        for (verb, rest) in [
            ("start", "--config /etc/other.yaml"),
            ("reload", "--config /etc/other.yaml"),
            ("stop", ""),
        ] {
            for rest in ["", "--vip 10.0.0.1 --vip 10.0.0.2", rest] {
                let arguments = parse(&format!("rs-agent {verb} {rest}")).unwrap();
                assert_eq!(arguments.verb.name(), verb);
            }
        }
    }

    #[test]
    fn a_stop_that_knows_nothing_of_a_vip_names_those_it_has() {
        let vips = |last: &[u8]| -> Vec<Ipv4Addr> {
            let address = |last: &u8| Ipv4Addr::new(10, 0, 0, *last);
            last.iter().map(address).collect()
        };
        let notes = |unknown_ones: &[u8], remaining: &[u8]| {
            unknown(&Left {
                unknown: vips(unknown_ones),
                remaining: vips(remaining),
            })
        };
        assert!(notes(&[], &[1]).is_empty());
        assert_eq!(
            notes(&[7], &[1, 2]),
            [
                "10.0.0.7 is no VIP of rs-agent and was left alone; rs-agent still has 10.0.0.1, 10.0.0.2"
            ]
        );
        assert_eq!(
            notes(&[7], &[]),
            ["10.0.0.7 is no VIP of rs-agent and was left alone; rs-agent has none"]
        );
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
            "rs-agent stop --config /etc/rs-agent.yaml",
        ] {
            assert!(parse(line).unwrap_err().use_stderr(), "{line}");
        }
        assert!(!parse("rs-agent --help").unwrap_err().use_stderr());
    }
}
