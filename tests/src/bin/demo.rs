//! `make demo`: tells [`lvs_tests::demo::story`] where there is IPVS.

use std::io::{IsTerminal, Write, stdout};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use lvs_tests::demo::{Screen, story};
use lvs_tests::guest::{self, Guest, Output, Request};
use lvs_tests::lab::{self, Lab};

/// The whole story, on a busy machine.
const LIMIT: Duration = Duration::from_secs(15 * 60);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    if guest::is_asked_inside() {
        lab::enter()?;
        return guest::serve(|request| match request {
            Request::Demo { terminal } => tell(&mut Output::default(), terminal)
                .err()
                .map(|error| format!("{error:#}")),
            Request::Run { .. } | Request::Bench { .. } => Some("the demo has no cases".into()),
        });
    }
    let terminal = stdout().is_terminal();
    if guest::ipvs_is_here() {
        lab::enter()?;
        return tell(&mut stdout(), terminal);
    }
    let mut guest = Guest::boot()?;
    let (failure, _) = guest.ask(&Request::Demo { terminal }, LIMIT, |text| {
        print!("{text}");
        // Without its terminal the demo has nobody to tell.
        let _ = stdout().flush();
    })?;
    match failure {
        Some(failure) => bail!("{failure}"),
        None => Ok(()),
    }
}

fn tell(out: &mut dyn Write, terminal: bool) -> Result<()> {
    let mut lab = Lab::new("demo")?;
    let outcome = story(&mut lab, &mut Screen { out, terminal });
    outcome.map_err(|error| anyhow!("{error:#}\n{}", lab.logs(20)))
}
