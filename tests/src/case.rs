//! What a test is, and how one is run.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Mutex, MutexGuard, Once};
use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::lab::Lab;
use crate::lock::lock;

/// What a case asks of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Namespaces, veth and bridges: it runs on the host's kernel (program `host`).
    Namespaces,
    /// IPVS too: it runs in the guest, or on a host that has IPVS (program `guest`).
    Ipvs,
    /// Namespaces and time: it mostly waits for routing daemons, so it has a program of its own
    /// (`anycast`), which runs beside the guest.
    Routing,
    /// Namespaces and an operator's programs (a browser, a terminal, packages): a program of its own
    /// (`operator`) beside the guest, since these take long and compute little.
    Operator,
    /// Our packages and a clean Debian: a program of its own (`packages`), which `make lab-packages` runs.
    Packages,
}

/// How a case is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Once among all others, at bounds that a busy machine keeps.
    #[default]
    Once,
    /// Again and again, at the bounds that are promised, on a machine that does nothing else.
    Soak,
}

impl Mode {
    /// One of the two values.
    pub fn choose<T>(self, once: T, soak: T) -> T {
        match self {
            Self::Once => once,
            Self::Soak => soak,
        }
    }
}

/// A test. It fails when its function returns an error or panics.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// `theme::what_it_shows`.
    pub name: &'static str,
    /// Where it can run.
    pub needs: Needs,
    /// It is ended and has failed when it takes longer.
    pub limit: Duration,
    /// Whether a soak repeats it.
    pub soaked: bool,
    /// Whether it is run once among all others.
    pub tested: bool,
    run: fn(&mut Lab) -> Result<()>,
}

impl Case {
    /// A case that runs on the host's kernel and may take two minutes.
    pub const fn new(name: &'static str, run: fn(&mut Lab) -> Result<()>) -> Self {
        Self {
            name,
            needs: Needs::Namespaces,
            limit: Duration::from_secs(120),
            soaked: false,
            tested: true,
            run,
        }
    }

    /// The same case, in the guest.
    pub const fn needing_ipvs(mut self) -> Self {
        self.needs = Needs::Ipvs;
        self
    }

    /// The same case, among those that wait for routing daemons.
    pub const fn among_routers(mut self) -> Self {
        self.needs = Needs::Routing;
        self
    }

    /// The same case, among those of what an operator sees and does.
    pub const fn needing_operator(mut self) -> Self {
        self.needs = Needs::Operator;
        self
    }

    /// The same case, with our packages.
    pub const fn needing_packages(mut self) -> Self {
        self.needs = Needs::Packages;
        self
    }

    /// The same case with another limit.
    pub const fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The same case, which a soak repeats; [`Lab::mode`] tells it what is asked of it.
    pub const fn soaked(mut self) -> Self {
        self.soaked = true;
        self
    }

    /// The same case, for a soak only: what it shows is of other programs, or takes too long.
    pub const fn only_soaked(mut self) -> Self {
        self.soaked = true;
        self.tested = false;
        self
    }

    /// Runs the case in a fresh lab.
    ///
    /// # Errors
    /// What failed, followed by the ends of all logs in the lab.
    pub fn run(&self, mode: Mode) -> Result<(), String> {
        keep_panics();
        panics().clear();
        // Everything in here is dropped before the result is looked at, the lab included.
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let mut lab = Lab::new(self.name).map_err(|error| format!("{error:#}"))?;
            lab.set_mode(mode);
            let outcome = catch_unwind(AssertUnwindSafe(|| (self.run)(&mut lab)));
            let failure = match outcome {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => format!("{error:#}"),
                Err(_) => panics().join("\n"),
            };
            Err(format!("{failure}\n{}", lab.logs(LOG_LINES)))
        }));
        outcome.unwrap_or_else(|_| Err(panics().join("\n")))
    }

    /// As [`Case::run`], but ends the whole program when the case exceeds its limit.
    ///
    /// A thread can't be ended, so there is no other way; all processes of the lab end with it.
    pub(crate) fn run_guarded(&self, mode: Mode) -> Result<(), String> {
        let (finished, watched) = channel::<()>();
        let case = *self;
        let guard = std::thread::spawn(move || {
            if watched.recv_timeout(case.limit) == Err(RecvTimeoutError::Timeout) {
                eprintln!(
                    "\n{} FAILED: not done after {:?}, the run ends here",
                    case.name, case.limit
                );
                std::process::exit(101);
            }
        });
        let outcome = self.run(mode);
        drop(finished);
        // It ends as soon as the channel is closed.
        let _ = guard.join();
        outcome
    }
}

/// Lines of each log that a failure shows.
const LOG_LINES: usize = 40;

static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn panics() -> MutexGuard<'static, Vec<String>> {
    lock(&PANICS)
}

/// Collects the messages of panics, wherever they happen, instead of printing them.
fn keep_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|panic| panics().push(panic.to_string())));
    });
}
