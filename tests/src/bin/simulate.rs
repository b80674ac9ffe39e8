//! Plays many scenarios of virtual routers on a bad LAN, and tells what it finds.

use std::fs;
use std::path::PathBuf;
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
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    if arguments.table {
        print!("{}", Table::measure());
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(file) = &arguments.replay {
        let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
        return Ok(play_one(&text.parse()?, true));
    }
    if let Some(seed) = arguments.seed {
        return Ok(play_one(&Scenario::random(seed), arguments.story));
    }
    Ok(play_many(arguments.from, arguments.seeds))
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
    print!("{scenario}");
    println!("#");
    for line in story {
        println!("# {line}");
    }
    match violation {
        Some(violation) => println!("# VIOLATED at {violation}"),
        None => println!("# All holds."),
    }
}
