//! `director run`: the supervisor, and the worker that it starts.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use lvs_system::lock::Lock;
use lvs_system::log::{self, Format};
use tracing::{error, warn};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};

use super::{CONFIGURATION_FILE, host_name, this_node};
use crate::config::{self, Configuration, Errors, Material};
use crate::control::ConfigurationText;
use crate::engine::Loaded;
use crate::supervisor;
use crate::worker::{self, Source};

/// The configuration is wrong (`sysexits.h`, `EX_CONFIG`): starting again doesn't help.
const EXIT_CONFIGURATION: u8 = 78;

/// The file that a running director holds, in its runtime directory.
pub(super) const LOCK: &str = "director.lock";

/// A predecessor that was ended has let go by then.
const LOCK_WAIT: Duration = Duration::from_secs(1);

/// Lines of the log that may wait for its reader; the queue's memory is taken at the start.
const QUEUED_LINES: usize = 4096;

/// Shown after the options.
pub(super) const HELP: &str = "\
Examples:
  director run --config /etc/lvs-director/director.yaml
  director run --node ds1
      Where the host name is not the node's name in the file.

Signals:
  SIGTERM  hands over to another router, then removes the VIPs and the table; a second one hurries
  SIGHUP   reads the configuration again, as `director reload` does

Exit status:
  0   it was told to stop, and has left nothing behind
  1   it can't go on, and the message says why; another director may be running
  64  wrong command line
  78  the configuration is wrong: starting again doesn't help";

#[derive(Args, Clone, Debug)]
pub(super) struct Arguments {
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = CONFIGURATION_FILE)]
    config: PathBuf,
    /// Which node of the configuration this machine is [default: the host name]
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Where records are kept that outlive the process
    #[arg(long, value_name = "DIRECTORY", default_value = super::RUNTIME_DIRECTORY)]
    runtime_directory: PathBuf,
    /// Where it is kept what operators have drained and disabled
    #[arg(long, value_name = "DIRECTORY", default_value = super::STATE_DIRECTORY)]
    state_directory: PathBuf,
    /// How lines of the log are written to standard error
    #[arg(long, value_name = "FORMAT", default_value_t,
          value_parser = PossibleValuesParser::new(Format::WORDS).try_map(|word| word.parse::<Format>()))]
    log_format: Format,
}

impl Source for Arguments {
    /// Warns of what is hardly meant, too.
    fn load(&self) -> Result<Loaded, Errors> {
        let material = Material::new(config::read(&self.config)?, host_name());
        let file = config::parse(&self.config, material.text())?;
        let node = self.this_node(&file);
        // Before they are read in earnest: one that changes in between is another the next time.
        let material = material.with_keys(file.key_files(&node));
        let loaded = Loaded {
            configuration: file.for_node(&node)?,
            outline: file.outline(&node)?,
            material: Arc::new(material),
        };
        for warning in file.warnings() {
            warn!("configuration: {warning}");
        }
        Ok(loaded)
    }

    fn is_still(&self, material: &Material) -> bool {
        let again = material.read_again(&self.config, host_name());
        again.is_ok_and(|again| again == *material)
    }

    fn outline(&self, given: Option<&ConfigurationText>) -> Result<Configuration, Errors> {
        let file = match given {
            Some(given) => config::parse(Path::new(&given.file), &given.text)?,
            None => config::load(&self.config)?,
        };
        file.outline(&self.this_node(&file))
    }
}

impl Arguments {
    fn this_node(&self, file: &config::File) -> String {
        this_node(file, self.node.as_deref())
    }

    fn for_worker(&self) -> Vec<OsString> {
        let mut options = vec![
            ("--config", self.config.clone().into_os_string()),
            (
                "--runtime-directory",
                self.runtime_directory.clone().into_os_string(),
            ),
            (
                "--state-directory",
                self.state_directory.clone().into_os_string(),
            ),
        ];
        options.push(("--log-format", self.log_format.to_string().into()));
        options.extend(self.node.clone().map(|node| ("--node", node.into())));
        let options = options
            .into_iter()
            .flat_map(|(name, value)| [name.into(), value]);
        std::iter::once("worker".into()).chain(options).collect()
    }
}

/// `director run`. The worker alone reads the configuration, and says what is wrong with it: its exit
/// code is this one's.
pub(super) fn supervise(arguments: &Arguments) -> ExitCode {
    log_directly(arguments.log_format);
    // Two would take each other's addresses and table away.
    let lock = arguments.runtime_directory.join(LOCK);
    match Lock::acquire(&lock, "director", LOCK_WAIT) {
        Ok(_lock) => supervisor::run(&arguments.for_worker(), &arguments.runtime_directory),
        Err(error) => {
            error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// `director worker`.
pub(super) fn work(arguments: &Arguments) -> ExitCode {
    let _log = log_through_a_queue(arguments.log_format);
    let node = arguments.node.clone().unwrap_or_else(host_name);
    let directories = worker::Directories {
        runtime: &arguments.runtime_directory,
        state: &arguments.state_directory,
    };
    match worker::run(arguments.clone(), node, directories) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match error.downcast_ref::<Errors>() {
            Some(errors) => {
                eprintln!("{errors}");
                ExitCode::from(EXIT_CONFIGURATION)
            }
            None => {
                error!("{error}");
                ExitCode::FAILURE
            }
        },
    }
}

/// The supervisor has one thread and few words, all of them after the deed.
fn log_directly(format: Format) {
    log::start(std::io::stderr, format);
}

/// Lines go through a queue to a thread of their own: a reader that is stuck costs lines, never an
/// advert. What is queued is written when the guard is dropped.
fn log_through_a_queue(format: Format) -> WorkerGuard {
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(QUEUED_LINES)
        .finish(std::io::stderr());
    log::start(writer, format);
    guard
}
