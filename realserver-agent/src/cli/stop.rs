//! `rs-agent stop`.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use lvs_configuration::reader::parse_duration;

use super::{Error, answer, ask, open};
use crate::agent;
use crate::config;
use crate::run::{self as service, Answer, Certificate, Request, Verdict};
use crate::vip;

/// Shown after the options.
pub(super) const HELP: &str = "\
Examples:
  rs-agent stop
  rs-agent stop --vip 192.0.2.53
  rs-agent stop --drain --limit 60s
      Leaves without loss: tells the directors, and waits until nothing comes any more.

Exit status:
  0   the VIPs are gone; with --drain, no query was lost
  1   the VIPs are still there
  2   with --drain: the VIPs are gone, and queries may have been lost
  3   with --drain: the VIPs are gone when nothing came any more, but not every director was told, as with anycast
  64  wrong command line";

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// A VIP to take away, instead of all; may be given several times
    #[arg(long = "vip", value_name = "ADDRESS", value_parser = vip::parse)]
    vips: Vec<IpAddr>,
    /// Announce `drain` first, and wait until the directors have stopped sending
    ///
    /// With `mode: anycast` no router is told, but VIPs that have a degraded tier are in that one meanwhile.
    /// Prints what can be said for it. Exit status 0: safe; 2: queries may have been lost; 3: nothing came
    /// any more, but not every director was told; 1: the VIPs are still there. Ctrl-C calls it off.
    #[arg(long, conflicts_with = "vips")]
    drain: bool,
    /// For so long no query may have come [default: of the configuration, or 2s]
    #[arg(long, value_name = "TIME", requires = "drain", value_parser = time)]
    quiet: Option<Duration>,
    /// After so long the VIPs go anyway [default: of the configuration, or 30s]
    #[arg(long, value_name = "TIME", requires = "drain", value_parser = time)]
    limit: Option<Duration>,
    /// For systemd's ExecStopPost=: what became of the service, ${SERVICE_RESULT}
    ///
    /// When it has died, VIPs stay where they are for its successor, since the DNS still answers; announced ones
    /// (`mode: anycast`) go. When it was stopped, whatever it has left goes.
    #[arg(long, value_name = "RESULT", conflicts_with_all = ["vips", "drain"])]
    service_result: Option<String>,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
    /// Where directors and times are read when no service runs
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_PATH, requires = "drain")]
    config: PathBuf,
}

/// Queries may have been lost.
const EXIT_UNSAFE: u8 = 2;
/// Not everybody was told.
const EXIT_QUIET_ONLY: u8 = 3;

/// Takes the VIPs away.
pub(super) fn run(arguments: &Arguments, state_directory: &Path) -> ExitCode {
    if !arguments.drain {
        return answer("stop", stop(arguments, state_directory), arguments.json);
    }
    match drain(arguments, state_directory) {
        Ok(Drained::Already(notes)) => answer("stop", Ok(notes), arguments.json),
        Ok(Drained::Now(certificate)) => {
            if arguments.json {
                let text = serde_json::to_string_pretty(&certificate);
                println!("{}", text.expect("a certificate has only string keys"));
            } else {
                print!("{certificate}");
            }
            exit_code(&certificate)
        }
        Err(error) => {
            eprintln!("rs-agent: stop failed: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What a certificate means for whoever goes on from there.
pub(super) fn exit_code(certificate: &Certificate) -> ExitCode {
    match certificate.verdict {
        Verdict::Safe => ExitCode::SUCCESS,
        Verdict::QuietOnly => ExitCode::from(EXIT_QUIET_ONLY),
        Verdict::Unsafe => ExitCode::from(EXIT_UNSAFE),
    }
}

/// Returns what a person should know.
fn stop(arguments: &Arguments, state_directory: &Path) -> Result<Vec<String>, Error> {
    if let Some(result) = &arguments.service_result {
        return stop_after_service(result, state_directory);
    }
    let request = Request::Stop {
        vips: arguments.vips.clone(),
    };
    if let Some(notes) = ask(state_directory, &request)? {
        return Ok(notes);
    }
    let (_lock, mut machine) = open(state_directory)?;
    Ok(agent::stop(&mut machine, &arguments.vips)?.notes())
}

/// What systemd calls the end of a service that was to end (systemd.exec(5), `$SERVICE_RESULT`). One that had
/// to be killed after a stop has timed out.
const STOPPED: [&str; 2] = ["success", "timeout"];

fn stop_after_service(result: &str, state_directory: &Path) -> Result<Vec<String>, Error> {
    let (_lock, mut machine) = open(state_directory)?;
    if STOPPED.contains(&result) {
        return Ok(agent::stop(&mut machine, &[])?.notes());
    }
    let staying = agent::stop_after_death(&mut machine)?;
    let note = |vip| {
        format!(
            "the service has died ({result}), and {vip} stays for the next one; `rs-agent stop` takes it away"
        )
    };
    Ok(staying.into_iter().map(note).collect())
}

enum Drained {
    Now(Box<Certificate>),
    /// What a person should know.
    Already(Vec<String>),
}

fn drain(arguments: &Arguments, state_directory: &Path) -> Result<Drained, Error> {
    let request = Request::Drain {
        quiet: arguments.quiet,
        limit: arguments.limit,
    };
    match service::ask(state_directory, &request, LONGEST_DRAIN)? {
        Some(Answer::Left(certificate)) => return Ok(Drained::Now(certificate)),
        Some(Answer::Done(notes)) => return Ok(Drained::Already(notes)),
        Some(Answer::Error(error)) => return Err(Error::Refused(error)),
        Some(Answer::Announcements(_)) | None => {}
    }
    let (_lock, mut machine) = open(state_directory)?;
    eprintln!(
        "rs-agent: no `rs-agent run` is at work, so no director can be told: waiting until nothing comes"
    );
    // The file need not be there for a stop.
    let configuration = config::load(&arguments.config).ok();
    let configured = configuration.as_ref().map(|it| it.run.patience);
    let patience = configured
        .unwrap_or_default()
        .with(arguments.quiet, arguments.limit);
    let directors = configuration.map(|it| it.directors).unwrap_or_default();
    let certificate = service::drain_alone(&mut machine, &directors, patience)?;
    Ok(Drained::Now(Box::new(certificate)))
}

/// No drain takes longer.
const LONGEST_DRAIN: Duration = Duration::from_secs(2 * 3600);

fn time(text: &str) -> Result<Duration, String> {
    parse_duration(text)
        .filter(|time| *time > Duration::ZERO && *time <= Duration::from_secs(3600))
        .ok_or_else(|| "must be a time such as 500ms or 2s, at most 3600s".to_owned())
}
