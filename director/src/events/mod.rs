//! What happened to this director, when, and why: the last thousand events, for `director events`.
//!
//! Whoever does or notices something worth telling has a handle, [`Events`], and records an
//! [`Occurrence`] with it. That takes a lock for an instant and never waits for a disk: a thread of its own
//! writes to the state directory. The VRRP thread doesn't even take the lock: what it does comes through
//! its channel.

mod event;
mod kept;
mod log;
mod store;
mod word;

use std::path::Path;

use time::OffsetDateTime;

use crate::state_file::StateFileError;

pub use event::{Event, Kind, Occurrence, Severity};
pub use kept::CAPACITY;
pub use log::Events;

/// What was recorded in these directories, for when no director runs; changes nothing.
///
/// # Errors
/// When the file can't be read.
pub fn peek(
    state_directory: &Path,
    runtime_directory: &Path,
) -> Result<Vec<Event>, StateFileError> {
    let mut events = store::peek(state_directory)?;
    if let Some((time, occurrence)) = word::peek(runtime_directory) {
        let number = events.last().map_or(1, |event| event.number + 1);
        events.push(occurrence.at(number, time));
    }
    Ok(events)
}

/// The events in a file with these contents.
pub(crate) fn read_file(contents: &[u8]) -> Vec<Event> {
    store::parse(contents).events
}

/// An event as a line of the file.
pub(crate) fn line(event: &Event) -> Vec<u8> {
    // It has only string keys.
    store::lines(std::slice::from_ref(event)).unwrap_or_default()
}

/// Leaves word for the next run that the worker has died just now, and how.
pub fn leave_word_of_death(runtime_directory: &Path, how: &str) {
    if let Err(error) = word::leave(runtime_directory, OffsetDateTime::now_utc(), how) {
        tracing::warn!(%error, "the next run will not know how this one ended");
    }
}
