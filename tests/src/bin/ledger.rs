//! `make ledger`: what the requirement ledger says, if it holds.

use std::process::ExitCode;

use anyhow::{Context, Result};
use lvs_tests::ledger::{Ledger, document, tests_that_exist, workspace};

fn main() -> Result<ExitCode> {
    let path = document();
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let tests = tests_that_exist()?;
    let (ledger, mistakes) = match Ledger::parse(&text) {
        Ok(ledger) => {
            let mistakes = ledger.mistakes(&tests, workspace());
            (ledger, mistakes)
        }
        Err(mistakes) => (Ledger::default(), mistakes),
    };
    for mistake in &mistakes {
        eprintln!("{}, {mistake}", path.display());
    }
    if !mistakes.is_empty() {
        return Ok(ExitCode::FAILURE);
    }
    println!("{ledger}");
    Ok(ExitCode::SUCCESS)
}
