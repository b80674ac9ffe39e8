//! BIRD 2.

use anyhow::Result;

use crate::lab::{Host, Process};

/// Starts BIRD in the foreground.
///
/// # Errors
/// When it refuses its configuration, with its words.
pub fn start(host: &Host, configuration: &str) -> Result<Process> {
    let file = host.write_file("bird.conf", configuration)?;
    let file = file.to_string_lossy();
    host.run(&format!("bird -p -c {file}"))?;
    host.spawn(
        "bird",
        [
            "-f",
            "-c",
            &file,
            "-s",
            "/run/bird.ctl",
            "-P",
            "/run/bird.pid",
        ],
    )
}
