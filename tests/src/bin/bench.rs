//! `make bench`: runs [`lvs_tests::bench`], the tables and the deaths where there is IPVS, and writes
//! `docs/benchmarks.md`. `bench FILE PART` renews one part: `tables`, `deaths`, or `probes`, which takes
//! other numbers of servers too.

use std::fs;
use std::io::{Write, stdout};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use lvs_tests::bench::{self, Part, deaths, probes};
use lvs_tests::guest::{self, Guest, Output, Request};
use lvs_tests::lab::{self, Lab};

/// All rounds of all programs, on a busy machine.
const LIMIT: Duration = Duration::from_secs(40 * 60);
/// The document begins with this, and the tables.
const DOCUMENT: &str = "# Benchmarks";
/// What people write of the figures follows this in the file, and stays there.
const READING: &str = "## What the figures say";

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
            Request::Bench { part, date } => {
                let measured = measure(part, &mut Output::default(), GUEST, &date);
                measured.err().map(|error| format!("{error:#}"))
            }
            other => Some(format!("the benchmark knows no {other:?}")),
        });
    }
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().context("which file to write?")?;
    let date = Command::new("date").arg("+%F").output()?.stdout;
    let date = String::from_utf8(date)?.trim().to_owned();
    match arguments.next().as_deref() {
        None => {
            // A lab is entered before there are threads, so each part has a process of its own.
            for part in ["tables", "deaths", "probes"] {
                let program = std::env::current_exe()?;
                let measured = Command::new(program).args([&path, part]).status()?;
                ensure!(measured.success(), "{part}: not measured");
            }
            Ok(())
        }
        Some("tables") => {
            let tables = with_ipvs(Part::Tables, date)?;
            let previous = fs::read_to_string(&path).unwrap_or_default();
            let others = [deaths::HEADING, READING].map(|heading| previous.find(heading));
            let others = others.into_iter().flatten().min();
            let others = others.map_or("", |start| &previous[start..]);
            let whole = format!("{}\n\n{others}", tables.trim_end());
            fs::write(&path, whole.trim_end().to_owned() + "\n").context(path)
        }
        Some("deaths") => replace(&path, deaths::HEADING, &with_ipvs(Part::Deaths, date)?),
        Some("probes") => {
            let crowds: Vec<u16> = arguments
                .map(|servers| servers.parse().context(servers))
                .collect::<Result<_>>()?;
            let all = crowds.is_empty();
            // On the host's kernel: the guest's processor is emulated.
            lab::enter()?;
            let crowds = if all { probes::CROWDS } else { &crowds };
            let rows = probes::run(crowds, &mut stdout())?;
            replace(&path, probes::HEADING, &probes::section(&rows, &date))
        }
        Some(other) => bail!("no part is called {other}: there are tables, deaths and probes"),
    }
}

/// Measures here or in a guest, wherever there is IPVS; the part of the document that comes of it.
fn with_ipvs(part: Part, date: String) -> Result<String> {
    let mut text = String::new();
    if guest::ipvs_is_here() {
        lab::enter()?;
        let mut written = Vec::new();
        measure(part, &mut written, HOST, &date)?;
        text = String::from_utf8(written)?;
        print!("{text}");
    } else {
        let mut guest = Guest::boot()?;
        let (failure, _) = guest.ask(&Request::Bench { part, date }, LIMIT, |output| {
            print!("{output}");
            // Without its terminal the benchmark has nobody to tell.
            let _ = stdout().flush();
            text += output;
        })?;
        if let Some(failure) = failure {
            bail!("{failure}");
        }
    }
    let heading = match part {
        Part::Tables => DOCUMENT,
        Part::Deaths => deaths::HEADING,
    };
    let start = text.find(heading).context("no document came")?;
    Ok(text.split_off(start))
}

/// Puts a section in the place of the one that is there.
fn replace(path: &str, heading: &str, section: &str) -> Result<()> {
    let document = fs::read_to_string(path).context(path.to_owned())?;
    let (before, after) = match document.split_once(&format!("\n{heading}\n")) {
        Some((before, section)) => {
            let next = section.find("\n## ");
            (before, next.map_or("", |next| &section[next..]))
        }
        None => (document.as_str(), ""),
    };
    let before = before.trim_end();
    fs::write(path, format!("{before}\n\n{section}{after}")).context(path.to_owned())
}

const GUEST: &str = "on an emulated machine";
const HOST: &str = "on this machine";

fn measure(part: Part, out: &mut dyn Write, machine: &str, date: &str) -> Result<()> {
    let mut lab = Lab::new("bench")?;
    let document = match part {
        Part::Tables => bench::run(&mut lab, out).and_then(|figures| {
            let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
            let kernel = format!("{machine} with Linux {}", release.trim());
            Ok(bench::document(&figures, &kernel, date))
        }),
        Part::Deaths => deaths::run(&mut lab, out).map(|rows| deaths::section(&rows, date)),
    };
    let document = document.map_err(|error| anyhow!("{error:#}\n{}", lab.logs(20)))?;
    out.write_all(document.as_bytes())?;
    Ok(())
}
