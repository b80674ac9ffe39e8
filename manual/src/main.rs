//! `manual DIRECTORY`: writes the man pages and completions of both programs.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;

/// Writes the man pages and completions of both programs.
#[derive(Parser)]
struct Arguments {
    /// Where they go; folders are made
    directory: PathBuf,
}

fn main() -> Result<()> {
    let directory = Arguments::parse().directory;
    lvs_manual::write(&directory).with_context(|| format!("cannot write {}", directory.display()))
}
