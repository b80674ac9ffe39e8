//! The command line's end of the control socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lvs_system::control_socket;

use super::{Answer, Request, SOCKET};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens.
    #[error(
        "no director answers at {}; `systemctl status director` says whether it runs, and \
         `--runtime-directory` must be the one that it was started with",
        .0.display()
    )]
    NotRunning(PathBuf),
    /// The socket is for others.
    #[error(
        "may not use {}; be root, or a member of the group that `control` names in the \
         configuration",
        .0.display()
    )]
    Forbidden(PathBuf),
    /// It listens, but doesn't answer.
    #[error(
        "the director at {} does not answer; `journalctl -u director` may say why",
        .0.display()
    )]
    NoAnswer(PathBuf),
    /// It answers in words that we don't know.
    #[error("the answer is not understood, from a director of another version perhaps: {0}")]
    Unintelligible(#[from] serde_json::Error),
    /// Anything else.
    #[error("cannot ask the director at {}: {reason}", .path.display())]
    Failed {
        /// The socket.
        path: PathBuf,
        /// The system's answer.
        reason: io::Error,
    },
}

/// Asks the director of this runtime directory, and waits for `patience` for each step.
///
/// # Errors
/// When there is no answer; an answer may say [`Answer::Error`].
pub fn ask(
    runtime_directory: &Path,
    request: &Request,
    patience: Duration,
) -> Result<Answer, AskError> {
    let path = runtime_directory.join(SOCKET);
    let line = control_socket::ask(&path, request, patience).map_err(|error| match error {
        control_socket::AskError::Nobody => AskError::NotRunning(path),
        control_socket::AskError::Forbidden => AskError::Forbidden(path),
        control_socket::AskError::NoAnswer => AskError::NoAnswer(path),
        control_socket::AskError::Failed(reason) => AskError::Failed { path, reason },
    })?;
    Ok(serde_json::from_slice(&line)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;

    use super::*;

    fn error(folder: &Path) -> AskError {
        ask(folder, &Request::Status, Duration::from_millis(100)).unwrap_err()
    }

    #[test]
    fn a_director_that_is_not_there_is_told_from_one_that_is_silent() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(error(folder.path()), AskError::NotRunning(_)));
        let listener = UnixListener::bind(folder.path().join(SOCKET)).unwrap();
        assert!(matches!(error(folder.path()), AskError::NoAnswer(_)));
        drop(listener);
        assert!(matches!(error(folder.path()), AskError::NotRunning(_)));
    }

    #[test]
    fn an_answer_of_another_version_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join(SOCKET)).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 64];
            assert_ne!(stream.read(&mut request).unwrap(), 0);
            stream.write_all(b"{\"weather\":\"fine\"}\n").unwrap();
        });
        assert!(matches!(error(folder.path()), AskError::Unintelligible(_)));
        server.join().unwrap();
    }
}
