//! One process at a time: a lock file that names its holder.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// Held while it lives; the kernel lets go of it when its process ends, however it ends.
///
/// Programs that the process starts don't inherit it.
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
    #[error("another {program}{} is at work and holds {}", process(.holder), .path.display())]
    Held {
        /// The program that the lock is for.
        program: &'static str,
        /// The file.
        path: PathBuf,
        /// The other's process id; `None` in the moment before it has written it.
        holder: Option<u32>,
    },
}

impl Lock {
    /// Takes the lock of the file `path` for `program`; waits for `wait`, which may be zero.
    ///
    /// File and folder are made when needed. The file is for its owner only, since whoever can
    /// open it can hold the lock.
    pub fn acquire(path: &Path, program: &'static str, wait: Duration) -> Result<Self, Error> {
        let unavailable = |reason| Error::Unavailable {
            path: path.into(),
            reason,
        };
        let deadline = Instant::now() + wait;
        let mut file = open(path).map_err(unavailable)?;
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
                        let holder = fs::read_to_string(path).ok();
                        return Err(Error::Held {
                            program,
                            path: path.into(),
                            holder: holder.and_then(|text| text.trim().parse().ok()),
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

fn open(path: &Path) -> io::Result<File> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

fn process(holder: &Option<u32>) -> String {
    holder.map_or_else(String::new, |id| format!(" (process {id})"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_second_waits_and_then_names_the_first() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("made/lock");
        let first = Lock::acquire(&path, "director", Duration::ZERO).unwrap();
        let began = Instant::now();
        let wait = Duration::from_millis(30);
        let error = Lock::acquire(&path, "director", wait).unwrap_err();
        assert!(began.elapsed() >= wait);
        let expected = format!(
            "another director (process {}) is at work and holds {}",
            std::process::id(),
            path.display()
        );
        assert_eq!(error.to_string(), expected);
        drop(first);
        Lock::acquire(&path, "director", Duration::ZERO).unwrap();
    }

    #[test]
    fn a_holder_that_has_not_signed_yet_is_still_a_holder() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let _first = Lock::acquire(&path, "director", Duration::ZERO).unwrap();
        fs::write(&path, "").unwrap();
        let error = Lock::acquire(&path, "director", Duration::ZERO).unwrap_err();
        let expected = format!("another director is at work and holds {}", path.display());
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn a_program_that_the_holder_starts_does_not_inherit_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let first = Lock::acquire(&path, "director", Duration::ZERO).unwrap();
        let mut started = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        drop(first);
        let second = Lock::acquire(&path, "director", Duration::ZERO);
        started.kill().unwrap();
        started.wait().unwrap();
        second.unwrap();
    }
}
