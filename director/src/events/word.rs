//! What the supervisor leaves behind when its worker has died, for the next run.
//!
//! It goes into the runtime directory, which is memory: the supervisor's end waits for no disk.

use std::fs;
use std::io;
use std::path::Path;

use lvs_system::file;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{Kind, Occurrence, Severity};

const FILE: &str = "death.json";

/// In bytes: more than a few words.
const LARGEST: u64 = 64 * 1024;

#[derive(Serialize, Deserialize)]
struct Word {
    #[serde(with = "time::serde::rfc3339")]
    time: OffsetDateTime,
    text: String,
}

/// Says when and how a worker has died.
///
/// # Errors
/// When it can't be written.
pub(super) fn leave(directory: &Path, time: OffsetDateTime, text: &str) -> io::Result<()> {
    let text = text.to_owned();
    let word = serde_json::to_vec(&Word { time, text })?;
    file::replace(&directory.join(FILE), &word)
}

/// What was said, if anything.
pub(super) fn peek(directory: &Path) -> Option<(OffsetDateTime, Occurrence)> {
    let bytes = file::read(&directory.join(FILE), LARGEST).ok()??;
    let Word { time, text } = serde_json::from_slice(&bytes).ok()?;
    Some((time, Occurrence::new(Kind::Crashed, Severity::Error, text)))
}

/// The same, and forgets it.
pub(super) fn take(directory: &Path) -> Option<(OffsetDateTime, Occurrence)> {
    let found = peek(directory);
    // What isn't there needn't go.
    let _ = fs::remove_file(directory.join(FILE));
    found
}
