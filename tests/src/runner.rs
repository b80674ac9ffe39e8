//! The `main` functions of the four test programs.
//!
//! Each runs its cases one after the other: cases measure time, and two labs on two processors would
//! disturb each other's measurements.
//!
//! With [`RUNS`] in the environment they soak instead: the cases that are meant for it run so often,
//! at their tight bounds, and a summary of all figures comes last. Otherwise the cases that took longest do.

use std::io::Write;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use libtest_mimic::{Arguments, Failed, Trial};

use crate::case::{Case, Mode, Needs};
use crate::cases;
use crate::figures::{self, Figure, Summary};
use crate::guest::{self, Guest, Request};
use crate::lab;
use crate::lock::lock;

/// How often a soak repeats each case.
pub const RUNS: &str = "LVS_SOAK_RUNS";

/// The program `host`: all cases that need nothing but namespaces, and trials of its own.
pub fn host(own: Vec<Trial>) -> ExitCode {
    on_this_kernel(Needs::Namespaces, own)
}

/// The program `anycast`: all cases with routing daemons.
pub fn anycast() -> ExitCode {
    on_this_kernel(Needs::Routing, Vec::new())
}

/// The program `operator`: all cases of what an operator sees and does.
pub fn operator() -> ExitCode {
    on_this_kernel(Needs::Operator, Vec::new())
}

/// The program `packages`: all cases with our packages.
pub fn packages() -> ExitCode {
    on_this_kernel(Needs::Packages, Vec::new())
}

fn on_this_kernel(needs: Needs, own: Vec<Trial>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    if !arguments.list
        && let Err(error) = lab::enter()
    {
        eprintln!("{error:#}");
        return ExitCode::FAILURE;
    }
    arguments.test_threads = Some(1);
    let plan = match Plan::from_environment() {
        Ok(plan) => plan,
        Err(error) => return report(Err(error)),
    };
    let mut trials = plan.trials(needs, run_here);
    if plan.mode == Mode::Once {
        trials.extend(own);
    }
    plan.conclude(&arguments, trials)
}

/// The program `guest`: all cases that need IPVS.
pub fn guest() -> ExitCode {
    if guest::is_asked_inside() {
        return report(lab::enter().and_then(|()| guest::serve(run_inside)));
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let plan = match Plan::from_environment() {
        Ok(plan) => plan,
        Err(error) => return report(Err(error)),
    };
    let on_this_kernel = guest::ipvs_is_here();
    if on_this_kernel
        && !arguments.list
        && let Err(error) = lab::enter()
    {
        return report(Err(error));
    }
    let machine = Mutex::new(Machine::Off);
    let trials = plan.trials(Needs::Ipvs, move |case, mode| {
        if on_this_kernel {
            return run_here(case, mode);
        }
        let (failure, figures) = lock(&machine)
            .run(case, mode)
            .unwrap_or_else(|error| (Some(format!("{error:#}")), Vec::new()));
        (failure.map_or(Ok(()), Err), figures)
    });
    plan.conclude(&arguments, trials)
}

/// Which cases run, and how often.
struct Plan {
    mode: Mode,
    runs: usize,
    summary: Arc<Mutex<Summary>>,
    took: Arc<Mutex<Vec<(Duration, &'static str)>>>,
}

impl Plan {
    fn from_environment() -> Result<Self> {
        let (mode, runs) = match std::env::var(RUNS) {
            Err(_) => (Mode::Once, 1),
            Ok(runs) => {
                let runs = runs.parse().with_context(|| format!("{RUNS}={runs}"))?;
                (Mode::Soak, runs)
            }
        };
        Ok(Self {
            mode,
            runs,
            summary: Arc::default(),
            took: Arc::default(),
        })
    }

    /// A trial for each run of each case.
    fn trials(
        &self,
        needs: Needs,
        run: impl Fn(&Case, Mode) -> (Result<(), String>, Vec<Figure>) + Send + Sync + 'static,
    ) -> Vec<Trial> {
        let run = Arc::new(run);
        let mut trials = Vec::new();
        for case in cases::all() {
            if case.needs != needs || !self.mode.choose(case.tested, case.soaked) {
                continue;
            }
            for _ in 0..self.runs {
                let (mode, run) = (self.mode, Arc::clone(&run));
                let (summary, took) = (Arc::clone(&self.summary), Arc::clone(&self.took));
                trials.push(Trial::test(case.name, move || {
                    let begun = Instant::now();
                    let (outcome, figures) = run(case, mode);
                    lock(&took).push((begun.elapsed(), case.name));
                    lock(&summary).add(case.name, figures);
                    outcome.map_err(Failed::from)
                }));
            }
        }
        trials
    }

    /// Runs them; a soak ends with its summary.
    fn conclude(&self, arguments: &Arguments, trials: Vec<Trial>) -> ExitCode {
        let conclusion = libtest_mimic::run(arguments, trials);
        if !arguments.list {
            match self.mode {
                Mode::Once => self.print_longest(),
                Mode::Soak => print!("{}", lock(&self.summary)),
            }
        }
        conclusion.exit_code()
    }

    /// Prints the cases that took longest: the whole of `make test` has to stay bearable.
    fn print_longest(&self) {
        const SHOWN: usize = 10;
        let mut took = lock(&self.took);
        took.sort_by(|one, other| other.cmp(one));
        for (duration, name) in took.iter().take(SHOWN) {
            println!("{:6.1} s  {name}", duration.as_secs_f64());
        }
    }
}

/// The guest, booted when the first case needs it.
enum Machine {
    Off,
    Running(Guest),
    /// It doesn't boot, for this reason: no use to try again for each case.
    Broken(String),
}

impl Machine {
    fn run(&mut self, case: &Case, mode: Mode) -> Result<(Option<String>, Vec<Figure>)> {
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
            mode,
        };
        let outcome = guest.ask(&request, case.limit, |text| eprint!("{text}"));
        if outcome.is_err() {
            // It hangs or is gone; the next case gets a fresh one.
            *self = Self::Off;
        }
        outcome
    }
}

/// Inside the guest: runs a case and says what went wrong.
fn run_inside(request: Request) -> Option<String> {
    match request {
        Request::Run { case, mode } => match cases::all().find(|known| known.name == case) {
            Some(case) => case.run(mode).err(),
            None => Some(format!("no case {case}: is the test program stale?")),
        },
        Request::Demo { .. } | Request::Bench { .. } => Some("this program only has cases".into()),
    }
}

fn run_here(case: &Case, mode: Mode) -> (Result<(), String>, Vec<Figure>) {
    let outcome = case.run_guarded(mode);
    (outcome, figures::take())
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::path::Path;

    /// `make test` names the test programs, so a new one must be named there too.
    #[test]
    fn the_makefile_runs_every_test_program() {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let makefile = fs::read_to_string(workspace.join("Makefile")).unwrap();
        let mut programs = 0;
        for package in fs::read_dir(workspace).unwrap() {
            let Ok(entries) = fs::read_dir(package.unwrap().path().join("tests")) else {
                continue;
            };
            for entry in entries {
                let path = entry.unwrap().path();
                let is_program = path.extension().is_some_and(|ending| ending == "rs")
                    || path.join("main.rs").exists();
                if is_program {
                    let name = path.file_stem().unwrap().to_str().unwrap();
                    let ways = [format!("--test {name} "), format!("tests/run {name} ")];
                    let is_run = makefile.lines().any(|line| {
                        let line = format!("{line} ");
                        ways.iter().any(|way| line.contains(way))
                    });
                    assert!(is_run, "nobody runs {}", path.display());
                    programs += 1;
                }
            }
        }
        assert!(programs >= 8, "{programs}");
    }
}
