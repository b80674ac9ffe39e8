//! What is said of a file in the state directory that can't be read or written.

use std::io;
use std::path::{Path, PathBuf};

use lvs_system::file;

/// Why what was kept is not known, or will not be.
#[derive(Debug, thiserror::Error)]
pub enum StateFileError {
    /// It isn't what this program writes.
    #[error(
        "{} is damaged ({reason}), and kept as {}: {consequence}",
        .path.display(), .kept_as.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where it is now.
        kept_as: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// What follows, and what to do.
        consequence: &'static str,
    },
    /// The system doesn't allow it.
    #[error("cannot {action} {}: {reason}", .path.display())]
    Refused {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's words.
        reason: io::Error,
    },
}

impl StateFileError {
    /// The system doesn't let `action` be done to a file.
    pub(crate) fn refused(action: &'static str, path: &Path, reason: io::Error) -> Self {
        Self::Refused {
            action,
            path: path.to_owned(),
            reason,
        }
    }
}

/// Moves a file aside that isn't understood, to the name with `.damaged` behind.
pub(crate) fn keep_aside(path: &Path, reason: String, consequence: &'static str) -> StateFileError {
    match file::set_aside(path) {
        Ok(kept_as) => StateFileError::Damaged {
            path: path.to_owned(),
            kept_as,
            reason,
            consequence,
        },
        Err(reason) => StateFileError::refused("move aside the damaged", path, reason),
    }
}
