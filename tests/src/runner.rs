//! The `main` functions of the two test programs.
//!
//! Both run their cases one after the other: cases measure time, and two labs on two processors
//! would disturb each other's measurements.

use std::io::Write;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, bail};
use libtest_mimic::{Arguments, Failed, Trial};

use crate::case::{Case, Needs};
use crate::cases;
use crate::guest::{self, Guest, Request};
use crate::lab;

/// The program `host`: all cases that need nothing but namespaces, and trials of its own.
pub fn host(own: Vec<Trial>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    if !arguments.list
        && let Err(error) = lab::enter()
    {
        eprintln!("{error:#}");
        return ExitCode::FAILURE;
    }
    arguments.test_threads = Some(1);
    let trials = selection(Needs::Namespaces).map(here).chain(own).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The program `guest`: all cases that need IPVS.
pub fn guest() -> ExitCode {
    if guest::is_asked_inside() {
        return report(lab::enter().and_then(|()| guest::serve(run_inside)));
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let on_this_kernel = guest::ipvs_is_here();
    if on_this_kernel
        && !arguments.list
        && let Err(error) = lab::enter()
    {
        return report(Err(error));
    }
    let machine = Arc::new(Mutex::new(Machine::Off));
    let trials = selection(Needs::Ipvs)
        .map(|case| {
            if on_this_kernel {
                return here(case);
            }
            let machine = machine.clone();
            Trial::test(case.name, move || {
                let mut machine = machine.lock().unwrap_or_else(PoisonError::into_inner);
                machine
                    .run(case)
                    .map_err(|error| Failed::from(format!("{error:#}")))
            })
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The guest, booted when the first case needs it.
enum Machine {
    Off,
    Running(Guest),
    /// It doesn't boot, for this reason: no use to try again for each case.
    Broken(String),
}

impl Machine {
    fn run(&mut self, case: &Case) -> Result<()> {
        if let Self::Off = self {
            *self = match Guest::boot() {
                Ok(guest) => Self::Running(guest),
                Err(error) => Self::Broken(format!("{error:#}")),
            };
        }
        let guest = match self {
            Self::Running(guest) => guest,
            Self::Broken(reason) => bail!("the guest doesn't boot: {reason}"),
            Self::Off => bail!("the guest is off"),
        };
        let request = Request::Run {
            case: case.name.into(),
        };
        let outcome = guest.ask(&request, case.limit, |text| eprint!("{text}"));
        match outcome {
            Ok(None) => Ok(()),
            Ok(Some(failure)) => bail!("{failure}"),
            Err(error) => {
                // It hangs or is gone; the next case gets a fresh one.
                *self = Self::Off;
                Err(error)
            }
        }
    }
}

/// Inside the guest: runs a case and says what went wrong.
fn run_inside(request: Request) -> Option<String> {
    match request {
        Request::Run { case } => match cases::all().find(|known| known.name == case) {
            Some(case) => case.run().err(),
            None => Some(format!("no case {case}: is the test program stale?")),
        },
        Request::Demo { .. } => Some("this program has no demo".into()),
    }
}

fn selection(needs: Needs) -> impl Iterator<Item = &'static Case> {
    cases::all().filter(move |case| case.needs == needs)
}

fn here(case: &'static Case) -> Trial {
    Trial::test(case.name, || case.run_guarded().map_err(Failed::from))
}

fn report(outcome: Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error may be gone with the guest's console; nothing else is left to tell.
            let _ = writeln!(std::io::stderr(), "{error:#}");
            ExitCode::FAILURE
        }
    }
}
