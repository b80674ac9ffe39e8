//! Entrances for the fuzz targets, and for nobody else.

use crate::{events, supervisor};

/// Reads a line that a worker writes to its supervisor.
///
/// # Panics
/// When what was read isn't what is read again after it was written.
pub fn report(line: &[u8]) {
    let Ok(report) = supervisor::Report::read(line) else {
        return;
    };
    let written = report.line();
    let again = supervisor::Report::read(&written).map(|report| report.line());
    assert_eq!(again.ok(), Some(written));
}

/// Reads a file with events.
///
/// # Panics
/// When what was read isn't what is read again after it was written.
pub fn events(file: &[u8]) {
    let mut read = events::read_file(file);
    for event in &mut read {
        // Numbers with a fraction may lose the last bit.
        event.details.clear();
    }
    let written: Vec<u8> = read.iter().flat_map(events::line).collect();
    assert_eq!(events::read_file(&written), read);
}
