//! `director run`: the supervisor, and the worker that it starts.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use tracing::error;
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::{self, Configuration, Errors};
use crate::{supervisor, worker};

/// The configuration is wrong (`sysexits.h`, `EX_CONFIG`): starting again doesn't help.
const EXIT_CONFIGURATION: u8 = 78;

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
    #[arg(long, value_name = "DIRECTORY", default_value = "/run/lvs-director")]
    runtime_directory: PathBuf,
}

impl Arguments {
    /// Reads the file, for this machine.
    fn load(&self) -> Result<Configuration, Errors> {
        config::load(&self.config)?.for_node(&self.node())
    }

    fn node(&self) -> String {
        self.node.clone().unwrap_or_else(|| {
            nix::unistd::gethostname()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default()
        })
    }

    fn for_worker(&self) -> Vec<OsString> {
        let options = [
            ("--config", self.config.clone().into_os_string()),
            ("--node", self.node().into()),
            (
                "--runtime-directory",
                self.runtime_directory.clone().into_os_string(),
            ),
        ];
        let options = options
            .into_iter()
            .flat_map(|(name, value)| [name.into(), value]);
        std::iter::once("worker".into()).chain(options).collect()
    }
}

/// `director run`.
pub(super) fn supervise(arguments: &Arguments) -> ExitCode {
    log_directly();
    match arguments.load() {
        Ok(_) => supervisor::run(&arguments.for_worker()),
        Err(errors) => {
            eprintln!("{errors}");
            ExitCode::from(EXIT_CONFIGURATION)
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
    match worker::run(load, &arguments.runtime_directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error:#}");
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
