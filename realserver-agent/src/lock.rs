//! One rs-agent at a time in a state directory.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// How long another run may take to finish.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Held while it lives; the kernel lets go of it when its process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The lock's file could not be opened or locked.
    #[error("cannot lock {}: {reason}", .path.display())]
    Unavailable {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        reason: io::Error,
    },
    /// Another process kept the lock for the whole time allowed.
    #[error("another rs-agent (process {holder}) is at work and holds {}", .path.display())]
    Held {
        /// The file.
        path: PathBuf,
        /// The other's process id.
        holder: String,
    },
}

impl Lock {
    /// Takes the lock of `directory`, which is made when needed; waits for `patience`.
    pub fn take(directory: &Path, patience: Duration) -> Result<Self, Error> {
        let path = directory.join("lock");
        let unavailable = |reason| Error::Unavailable {
            path: path.clone(),
            reason,
        };
        let deadline = Instant::now() + patience;
        let mut file = fs::create_dir_all(directory)
            .and_then(|()| {
                OpenOptions::new()
                    .write(true)
                    .create(true)
                    .truncate(false)
                    .open(&path)
            })
            .map_err(unavailable)?;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(mut locked) => {
                    locked
                        .set_len(0)
                        .and_then(|()| writeln!(locked, "{}", std::process::id()))
                        .map_err(unavailable)?;
                    return Ok(Self { _file: locked });
                }
                Err((unlocked, Errno::EWOULDBLOCK | Errno::EINTR)) => {
                    if Instant::now() >= deadline {
                        let holder = fs::read_to_string(&path).unwrap_or_default();
                        return Err(Error::Held {
                            holder: holder.trim().into(),
                            path,
                        });
                    }
                    file = unlocked;
                    sleep(RETRY);
                }
                Err((_, errno)) => return Err(unavailable(errno.into())),
            }
        }
    }
}

const RETRY: Duration = Duration::from_millis(10);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_second_waits_and_then_names_the_first() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().join("made");
        let first = Lock::take(&directory, Duration::ZERO).unwrap();
        let began = Instant::now();
        let patience = Duration::from_millis(30);
        let error = Lock::take(&directory, patience).unwrap_err();
        assert!(began.elapsed() >= patience);
        let own = std::process::id().to_string();
        assert!(matches!(error, Error::Held { holder, .. } if holder == own));
        drop(first);
        Lock::take(&directory, Duration::ZERO).unwrap();
    }
}
