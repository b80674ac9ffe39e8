//! The cases that this machine's kernel can run, and tests of how a lab ends.

use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Failed, Trial};
use lvs_tests::case::{Case, Mode};
use lvs_tests::lab::{self, Lab, wait_until};
use lvs_tests::{binaries, runner};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Runs the program as one that holds a lab until it is killed.
const HOLD: &str = "--hold";
/// No other process sleeps this long.
const SLEEP: &str = "987654";

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == HOLD) {
        return match hold() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error:#}");
                ExitCode::FAILURE
            }
        };
    }
    runner::host(vec![
        trial(
            "ending::a_panicking_case_leaves_nothing",
            a_panicking_case_leaves_nothing,
        ),
        trial(
            "ending::a_killed_program_leaves_nothing",
            a_killed_program_leaves_nothing,
        ),
    ])
}

fn trial(name: &str, run: fn() -> Result<()>) -> Trial {
    Trial::test(name, move || {
        run().map_err(|error| Failed::from(format!("{error:#}")))
    })
}

fn a_panicking_case_leaves_nothing() -> Result<()> {
    fn panics(lab: &mut Lab) -> Result<()> {
        start_sleepers(lab)?;
        panic!("on purpose");
    }
    let failure = Case::new("ending::panics", panics).run(Mode::Once).err();
    let failure = failure.context("the case passed")?;
    ensure!(failure.contains("on purpose"), "{failure}");
    ensure!(
        lab::processes() == [1],
        "left behind: {:?}",
        lab::processes()
    );
    let names: Vec<_> = std::fs::read_dir("/run/netns")?.collect();
    ensure!(names.is_empty(), "namespaces left behind: {names:?}");
    Ok(())
}

fn a_killed_program_leaves_nothing() -> Result<()> {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGKILL] {
        if is_ignored(signal)? {
            // Shells start background jobs like this; then Ctrl-C is nothing to survive.
            println!("{signal} is ignored here: not tried");
            continue;
        }
        let mut program = Command::new(binaries::this_program()?)
            .arg(HOLD)
            .stdout(Stdio::piped())
            .spawn()?;
        let output = program.stdout.take().context("no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        ensure!(line == "holding\n", "the program said {line:?}");
        ensure!(!sleepers().is_empty(), "the lab's programs aren't seen");
        kill(Pid::from_raw(program.id().cast_signed()), signal)?;
        wait_until("the program's end", Duration::from_secs(5), || {
            !matches!(program.try_wait(), Ok(None))
        })
        .with_context(|| format!("after {signal}"))?;
        wait_until(
            "the end of the lab's programs",
            Duration::from_secs(2),
            || sleepers().is_empty(),
        )
        .with_context(|| format!("after {signal}"))?;
    }
    Ok(())
}

/// Whether this program, and so what it starts, was told to ignore a signal.
fn is_ignored(signal: Signal) -> Result<bool> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = u64::from_str_radix(mask.context("no SigIgn")?.trim(), 16)?;
    Ok(mask & 1 << (signal as i32 - 1) != 0)
}

fn hold() -> Result<()> {
    lab::enter()?;
    let mut lab = Lab::new("ending::hold")?;
    start_sleepers(&mut lab)?;
    println!("holding");
    loop {
        std::thread::park();
    }
}

/// A program, and a daemon that left its parent, its session and its process group.
fn start_sleepers(lab: &mut Lab) -> Result<()> {
    let host = lab.add_host("sleeper")?;
    // The lab has to end it, not its owner.
    std::mem::forget(host.spawn("sleep", [SLEEP])?);
    host.run("setsid --fork sleep 987654")?;
    wait_until("both sleepers", Duration::from_secs(5), || {
        sleepers().len() == 2
    })?;
    Ok(())
}

fn sleepers() -> Vec<i32> {
    let mut all = lab::processes();
    all.retain(|pid| {
        std::fs::read_to_string(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line == format!("sleep\0{SLEEP}\0"))
    });
    all
}
