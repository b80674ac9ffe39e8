//! `director run`: the supervisor, and the worker that it starts.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use lvs_system::lock::Lock;
use tracing::level_filters::LevelFilter;
use tracing::{error, warn};
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::{self, Configuration, Errors};
use crate::{supervisor, worker};

/// The configuration is wrong (`sysexits.h`, `EX_CONFIG`): starting again doesn't help.
const EXIT_CONFIGURATION: u8 = 78;

/// A predecessor that was ended has let go by then.
const LOCK_WAIT: Duration = Duration::from_secs(1);

#[derive(Args, Clone, Debug)]
pub(super) struct Arguments {
    /// Configuration file
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/etc/lvs-director/director.yaml"
    )]
    config: PathBuf,
    /// Which node of the configuration this machine is [default: the host name]
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Where records are kept that outlive the process
    #[arg(long, value_name = "DIRECTORY", default_value = super::RUNTIME_DIRECTORY)]
    runtime_directory: PathBuf,
}

impl Arguments {
    /// Reads the file, for this machine, and warns of what is hardly meant.
    fn load(&self) -> Result<Configuration, Errors> {
        let file = config::load(&self.config)?;
        let configuration = self.for_this_machine(&file)?;
        for warning in file.warnings() {
            warn!("configuration: {warning}");
        }
        Ok(configuration)
    }

    fn for_this_machine(&self, file: &config::File) -> Result<Configuration, Errors> {
        match &self.node {
            Some(node) => file.for_node(node),
            None => {
                let host = host_name();
                // Maps may be written with the first label of a fully qualified host name.
                let label = host.split('.').next().unwrap_or_default();
                let nodes = file.nodes();
                let short = !nodes.contains(host.as_str()) && nodes.contains(label);
                file.for_node(if short { label } else { &host })
            }
        }
    }

    fn for_worker(&self) -> Vec<OsString> {
        let mut options = vec![
            ("--config", self.config.clone().into_os_string()),
            (
                "--runtime-directory",
                self.runtime_directory.clone().into_os_string(),
            ),
        ];
        options.extend(self.node.clone().map(|node| ("--node", node.into())));
        let options = options
            .into_iter()
            .flat_map(|(name, value)| [name.into(), value]);
        std::iter::once("worker".into()).chain(options).collect()
    }
}

fn host_name() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// `director run`.
pub(super) fn supervise(arguments: &Arguments) -> ExitCode {
    log_directly();
    // The worker warns, now and when it reads the file again.
    let file = config::load(&arguments.config);
    if let Err(errors) = file.and_then(|file| arguments.for_this_machine(&file)) {
        eprintln!("{errors}");
        return ExitCode::from(EXIT_CONFIGURATION);
    }
    // Two would take each other's addresses and table away.
    let lock = arguments.runtime_directory.join("director.lock");
    match Lock::acquire(&lock, "director", LOCK_WAIT) {
        Ok(_lock) => supervisor::run(&arguments.for_worker()),
        Err(error) => {
            error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// `director worker`.
pub(super) fn work(arguments: &Arguments) -> ExitCode {
    let _log = log_through_a_queue();
    let load = {
        let arguments = arguments.clone();
        move || arguments.load()
    };
    let node = arguments.node.clone().unwrap_or_else(host_name);
    match worker::run(load, node, &arguments.runtime_directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// The supervisor has one thread and few words, all of them after the deed.
fn log_directly() {
    log_to(std::io::stderr);
}

/// Lines go through a queue to a thread of their own: a reader that is stuck costs lines, never an
/// advert. What is queued is written when the guard is dropped.
fn log_through_a_queue() -> WorkerGuard {
    let (writer, guard) = tracing_appender::non_blocking(std::io::stderr());
    log_to(writer);
    guard
}

fn log_to(writer: impl for<'writer> MakeWriter<'writer> + Send + Sync + 'static) {
    tracing_subscriber::fmt()
        .with_writer(writer)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .with_max_level(LevelFilter::INFO)
        .init();
}
