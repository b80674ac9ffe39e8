//! Entrances for the fuzz targets, and for nobody else.

use crate::supervisor;

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
