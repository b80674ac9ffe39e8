//! Plays many scenarios of virtual routers on a bad LAN, and tells what it finds.

use std::fs;
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use lvs_tests::simulation::{self, Outcome, Scenario, Story, Table, Violation};

/// Plays scenarios of virtual routers on a LAN that loses, delays and parts.
///
/// Ends with 1 when something that must hold didn't, and prints the smallest scenario that shows it,
/// which `--replay` takes.
#[derive(Parser)]
struct Arguments {
    /// How many seeds to play.
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Play this seed only.
    #[arg(long)]
    seed: Option<u64>,
    /// Play the scenario in this file.
    #[arg(long, conflicts_with = "seed")]
    replay: Option<PathBuf>,
    /// Tell what happens, in one scenario.
    #[arg(long)]
    story: bool,
    /// Print the table of docs/simulation.md.
    #[arg(long)]
    table: bool,
    /// First see whether the table in this file is still what `--table` prints.
    #[arg(long, value_name = "FILE")]
    check_table: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    if arguments.table {
        print!("{}", Table::whole());
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(file) = &arguments.check_table
        && !has_the_table(file)?
    {
        return Ok(ExitCode::FAILURE);
    }
    if let Some(file) = &arguments.replay {
        return Ok(play_one(&read(file)?.parse()?, true));
    }
    if let Some(seed) = arguments.seed {
        return Ok(play_one(&Scenario::random(seed), arguments.story));
    }
    Ok(play_many(arguments.from, arguments.seeds))
}

fn has_the_table(file: &Path) -> Result<bool> {
    let table = Table::whole().to_string();
    if read(file)?.contains(&table) {
        return Ok(true);
    }
    let file = file.display();
    println!("{file} has another table. If the change is meant, put this one there:");
    print!("{table}");
    Ok(false)
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

fn play_many(from: u64, seeds: u64) -> ExitCode {
    let begun = Instant::now();
    let campaign = simulation::run_seeds(from..from + seeds);
    let took = begun.elapsed().as_secs_f64();
    match campaign.failure {
        None => {
            let rate = seeds as f64 / took;
            let events = campaign.events as f64 / 1e6;
            println!(
                "{seeds} seeds passed in {took:.1} s: {rate:.0} a second, {events:.0} million events"
            );
            ExitCode::SUCCESS
        }
        Some((seed, violation)) => {
            println!("seed {seed} failed after {took:.1} s: {violation}");
            play_one(&Scenario::random(seed), false)
        }
    }
}

/// Tells the whole story, or else, if it fails, that of the smallest scenario that fails alike.
fn play_one(scenario: &Scenario, whole: bool) -> ExitCode {
    if whole {
        let Outcome {
            violation, story, ..
        } = simulation::run(scenario, Story::told());
        tell(scenario, &story, violation.as_ref());
        return match violation {
            None => ExitCode::SUCCESS,
            Some(_) => ExitCode::FAILURE,
        };
    }
    match simulation::shrink(scenario) {
        None => {
            println!("seed {} passes", scenario.seed);
            ExitCode::SUCCESS
        }
        Some((small, violation)) => {
            let story = simulation::run(&small, Story::told()).story;
            println!("# The smallest scenario that fails alike:");
            tell(&small, &story, Some(&violation));
            ExitCode::FAILURE
        }
    }
}

/// What is no part of the scenario stands behind `#`, so that all of it can be replayed.
fn tell(scenario: &Scenario, story: &[String], violation: Option<&Violation>) {
    let mut text = format!("{scenario}#\n");
    for line in story {
        text += &format!("# {line}\n");
    }
    text += &match violation {
        Some(violation) => format!("# VIOLATED at {violation}\n"),
        None => "# All holds.\n".into(),
    };
    // Who stops reading has read enough.
    let _ = stdout().write_all(text.as_bytes());
}
