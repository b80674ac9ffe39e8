//! The command line, a file a command: arguments in, an answer and an exit code out.

mod bring;
mod check;
mod run;
mod status;
mod stop;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};
use lvs_configuration::Errors;
use lvs_system::lock::{self, Lock};
use lvs_system::record;
use serde::Serialize;

use crate::agent;
use crate::config::{self, Configuration};
use crate::machine::{self, Linux};
use crate::plan::Others;
use crate::run::{self as service, Answer, AskError, Request, Settings, Source};
use crate::vip::{self, LOOPBACK, Vip};

/// The exit code of a wrong command line (`EX_USAGE`, sysexits.h).
pub const USAGE: u8 = 64;

/// How long another run may take to finish.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a service that runs may take for what it does at once, on a busy machine.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// Shown after the options, as every command's `HELP`.
const HELP: &str = "\
Examples:
  rs-agent check
      Says what is wrong with this machine as a real server, and the command that mends it.
  rs-agent start --vip 192.0.2.53
  rs-agent stop --drain

Exit status:
  0   all is well
  1   it failed, and the message says why
  2   done, and queries are lost or may have been, as each command's own page says
  3   done, with warnings, as each command's own page says
  64  wrong command line
  78  wrong configuration (`run`)

Files:
  /etc/rs-agent.yaml  the configuration, unless --config names another
  /run/rs-agent       records of what was found and changed";

/// Makes this machine a direct-routing (LVS-DR) real server: the VIP on lo, and no answer to ARP
/// requests for it.
#[derive(Debug, Parser)]
#[command(name = "rs-agent", version, arg_required_else_help = true, after_help = HELP)]
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
    #[command(after_help = bring::START_HELP)]
    Start(bring::Arguments),
    /// Take the VIPs away, then restore the sysctls as they were found
    ///
    /// Goes by the record of what was set: the configuration file is not read, and need not be
    /// there. With --vip, only those VIPs are taken away, and the sysctls are restored with the
    /// last one. With --drain, only when the directors have stopped sending.
    #[command(after_help = stop::HELP)]
    Stop(stop::Arguments),
    /// Bring the machine to what the configuration says, without touching what is right already
    #[command(after_help = bring::RELOAD_HELP)]
    Reload(bring::Arguments),
    /// The same as a service: keep the VIPs, tell directors, count queries, leave without loss
    ///
    /// Ends by SIGTERM or Ctrl-C, after a drain where a director reads the agent-check line; when that is
    /// said twice, at once. SIGHUP is a reload. While it runs, `start`, `stop` and `reload` talk to it.
    #[command(after_help = run::HELP)]
    Run(run::Arguments),
    /// Say what is wrong with this machine as a real server, and how to mend it; nothing is sent
    ///
    /// Ends with 0 when all is well, with 3 when there are warnings only, with 2 when clients' queries
    /// are lost or go past the directors, and with 1 when the machine can't be judged.
    #[command(after_help = check::HELP)]
    Check(check::Arguments),
    /// Show how each VIP stands, and what is wrong; ends as `check` does
    #[command(after_help = status::HELP)]
    Status(check::Arguments),
}

/// Which VIPs are meant: by flags, or by a configuration file.
#[derive(Args, Debug)]
struct Selection {
    /// A VIP, instead of those of the configuration file; may be given several times
    #[arg(long = "vip", value_name = "ADDRESS", value_parser = vip::parse, conflicts_with = "config")]
    vips: Vec<IpAddr>,
    /// The interface that --vip is put on: lo, or a dummy interface, which is made where it is missing
    #[arg(long, value_name = "NAME", default_value = LOOPBACK, requires = "vips")]
    interface: String,
    /// The label of the one --vip, such as lo:1
    #[arg(long, value_name = "LABEL", requires = "vips")]
    label: Option<String>,
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_PATH)]
    config: PathBuf,
}

/// Why a verb was not carried out.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{0}")]
    Configuration(#[from] Errors),
    #[error("{0}; nothing was changed")]
    Lock(#[from] lock::Error),
    #[error("{0}; nothing was changed")]
    Machine(#[from] machine::Error),
    #[error(
        "with `mode: anycast` a VIP is on the machine only while the DNS answers, which somebody has to watch; use `rs-agent run`, or start its service"
    )]
    Anycast,
    #[error("the machine can't be judged: {0}")]
    Audit(machine::Error),
    #[error("{0}")]
    Agent(#[from] agent::Error),
    #[error("cannot tell which network namespace this is: {0}; nothing was changed")]
    Namespace(std::io::Error),
    #[error("{0}")]
    Ask(#[from] AskError),
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Service(#[from] service::Error),
}

/// All that can be said on the command line, for manuals and completions. What `--help` shows after the
/// options has sections: a heading with a colon, and below it lines with two spaces or more before them.
#[must_use]
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Runs `rs-agent` with the process's arguments.
pub fn main() -> ExitCode {
    run(std::env::args_os())
}

fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments).and_then(Arguments::checked) {
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
    let directory = &arguments.state_directory;
    match &arguments.verb {
        Verb::Start(start) => {
            let outcome = bring::run(start, Others::Keep, directory);
            answer("start", outcome, start.json)
        }
        Verb::Stop(stop) => stop::run(stop, directory),
        Verb::Reload(reload) => {
            let outcome = bring::run(reload, Others::Remove, directory);
            answer("reload", outcome, reload.json)
        }
        Verb::Run(run) => run::run(run, directory),
        Verb::Check(check) => check::run(check, directory),
        Verb::Status(status) => status::run(status, directory),
    }
}

/// Says how a verb that changes the machine went; the notes are what a person should know though it was
/// carried out.
fn answer(verb: &str, outcome: Result<Vec<String>, Error>, as_json: bool) -> ExitCode {
    #[derive(Serialize)]
    struct Done {
        notes: Vec<String>,
    }
    match outcome {
        Ok(notes) if as_json => finish(&json(&Done { notes }), 0),
        Ok(notes) => {
            for note in notes {
                eprintln!("rs-agent: {note}");
            }
            println!("rs {verb} ok");
            ExitCode::SUCCESS
        }
        Err(error) => failed(verb, &error),
    }
}

fn failed(verb: &str, error: &Error) -> ExitCode {
    eprintln!("rs-agent: {verb} failed: {error}");
    ExitCode::FAILURE
}

/// Prints what a verb found, and ends with `code` if it could be read.
fn finish(output: &str, code: u8) -> ExitCode {
    // Nobody is left to tell when the reader is gone.
    match std::io::stdout().write_all(output.as_bytes()) {
        Ok(()) => ExitCode::from(code),
        Err(_) => ExitCode::FAILURE,
    }
}

/// For programs.
fn json(it: &impl Serialize) -> String {
    // Texts, addresses and booleans always have a JSON form.
    serde_json::to_string_pretty(it).map_or_else(|_| String::new(), |text| text + "\n")
}

impl Arguments {
    /// What clap can't judge by itself.
    fn checked(self) -> Result<Self, clap::Error> {
        let selection = match &self.verb {
            Verb::Start(bring) | Verb::Reload(bring) => &bring.selection,
            Verb::Run(run) => &run.selection,
            Verb::Check(check) => &check.selection,
            Verb::Status(status) => &status.selection,
            Verb::Stop(_) => return Ok(self),
        };
        match selection.wrong_label() {
            None => Ok(self),
            Some(message) => Err(Self::command().error(ErrorKind::ValueValidation, message)),
        }
    }
}

impl Source for &Selection {
    fn load(&self) -> Result<Configuration, Errors> {
        if self.vips.is_empty() {
            return config::load(&self.config);
        }
        let vip = |&address: &IpAddr| Vip {
            interface: self.interface.clone(),
            label: self.label.clone(),
            ..Vip::on_loopback(address)
        };
        Ok(Configuration {
            vips: self.vips.iter().map(vip).collect(),
            directors: BTreeSet::new(),
            run: Settings::default(),
            anycast: None,
        })
    }

    fn file(&self) -> Option<&Path> {
        self.vips.is_empty().then_some(&self.config)
    }
}

impl Selection {
    fn read(&self) -> Result<Configuration, Error> {
        Ok(self.load()?)
    }

    /// As [`Self::read`], for VIPs that are on the machine whatever the DNS does.
    fn read_lasting(&self) -> Result<Configuration, Error> {
        let configuration = self.read()?;
        if configuration.anycast.is_some() {
            return Err(Error::Anycast);
        }
        Ok(configuration)
    }

    /// The file that is meant in particular.
    fn other_file(&self) -> Option<PathBuf> {
        let file = Some(self.config.clone());
        file.filter(|file| file.as_path() != Path::new(config::DEFAULT_PATH))
    }

    fn wrong_label(&self) -> Option<String> {
        let label = self.label.as_ref()?;
        match self.vips.as_slice() {
            [vip] => config::parse_label(label, *vip, &self.interface).err(),
            _ => Some("--label is for one --vip".to_owned()),
        }
    }
}

/// Asks the service that runs for something that it does at once; `None` when none runs.
fn ask(state_directory: &Path, request: &Request) -> Result<Option<Vec<String>>, Error> {
    match service::ask(state_directory, request, ANSWER_LIMIT)? {
        None => Ok(None),
        Some(Answer::Done(notes)) => Ok(Some(notes)),
        Some(Answer::Error(error)) => Err(Error::Refused(error)),
        Some(Answer::Left(_) | Answer::Announcements(_)) => {
            Err(Error::Refused("an answer to another question".to_owned()))
        }
    }
}

/// Asks for the rights before anything is written, even the lock; reads the records under it.
/// Damage is said at once: whatever comes of the verb, the next run won't find it.
fn open(state_directory: &Path) -> Result<(Lock, Linux), Error> {
    machine::check_rights()?;
    // Hosts that are only network namespaces may share the directory, as with the records.
    let namespace = record::namespace().map_err(Error::Namespace)?;
    let lock = state_directory.join(format!("lock-{namespace}"));
    let lock = Lock::acquire(&lock, "rs-agent", PATIENCE)?;
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
        Arguments::try_parse_from(line.split_whitespace()).and_then(Arguments::checked)
    }

    #[test]
    fn the_verbs_take_vips_or_a_file() {
        let file = [
            "--config /etc/other.yaml",
            "--vip 10.0.0.1 --interface dns0",
            "--vip 10.0.0.1 --label lo:dns",
            "--vip 10.0.0.1 --interface dns0 --label dns0",
        ];
        let drain = [
            "--drain",
            "--drain --quiet 500ms --limit 10s --json --config /etc/other.yaml",
            "--json",
            "--service-result core-dump",
        ];
        for (verb, others) in [
            ("start", &file[..]),
            ("reload", &file),
            ("run", &file),
            ("stop", &drain),
        ] {
            for rest in ["", "--vip 10.0.0.1 --vip 2001:db8::53"]
                .iter()
                .chain(others)
            {
                parse(&format!("rs-agent {verb} {rest}")).unwrap();
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
            "rs-agent stop --config /etc/rs-agent.yaml",
            "rs-agent stop --quiet 2s",
            "rs-agent stop --drain --vip 10.0.0.1",
            "rs-agent stop --drain --limit soon",
            "rs-agent stop --drain --service-result success",
            "rs-agent stop --vip 10.0.0.1 --service-result success",
            "rs-agent run 10.0.0.1",
            "rs-agent start --interface dns0",
            "rs-agent start --label lo:1",
            "rs-agent start --vip 10.0.0.1 --vip 10.0.0.2 --label lo:1",
            "rs-agent start --vip 2001:db8::53 --label lo:1",
            "rs-agent start --vip 10.0.0.1 --label dns0:1",
        ] {
            assert!(parse(line).unwrap_err().use_stderr(), "{line}");
        }
        assert!(!parse("rs-agent --help").unwrap_err().use_stderr());
    }
}
