//! One process at a time: a lock file that names its holder.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::file;

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
    #[error("another {program}{} is at work and holds {}", .holder.as_ref().map(Holder::to_string).unwrap_or_default(), .path.display())]
    Held {
        /// The program that the lock is for.
        program: &'static str,
        /// The file.
        path: PathBuf,
        /// The other; `None` in the moment before it has signed.
        holder: Option<Holder>,
    },
}

/// Who holds a lock, as it signed itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its process id, in its own namespace.
    pub process: u32,
    /// Its command line.
    pub command: String,
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
        let mut file = file::open_or_make(path).map_err(unavailable)?;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(mut locked) => {
                    locked
                        .set_len(0)
                        .and_then(|()| locked.write_all(signature().as_bytes()))
                        .map_err(unavailable)?;
                    return Ok(Self { _file: locked });
                }
                Err((unlocked, Errno::EWOULDBLOCK | Errno::EINTR)) => {
                    if Instant::now() >= deadline {
                        let signature = file::read(path, LONGEST_SIGNATURE).ok().flatten();
                        return Err(Error::Held {
                            program,
                            path: path.into(),
                            holder: signature.and_then(|bytes| Holder::parse(&bytes)),
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

/// In bytes: more than a command line has.
const LONGEST_SIGNATURE: u64 = 4 * 1024 * 1024;

/// Process id and command line, a line each.
fn signature() -> String {
    let words: Vec<String> = std::env::args_os()
        .map(|word| word.to_string_lossy().replace(char::is_control, " "))
        .collect();
    format!("{}\n{}\n", std::process::id(), words.join(" "))
}

impl Holder {
    fn parse(signature: &[u8]) -> Option<Self> {
        let signature = std::str::from_utf8(signature).ok()?;
        let (process, command) = signature.split_once('\n')?;
        Some(Self {
            process: process.parse().ok()?,
            command: command.trim_end().to_owned(),
        })
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, " (process {}", self.process)?;
        if !self.command.is_empty() {
            write!(formatter, ", `{}`", self.command)?;
        }
        formatter.write_str(")")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

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
        let program = std::env::args().next().unwrap();
        let start = format!(
            "another director (process {}, `{program}",
            std::process::id()
        );
        assert!(error.to_string().starts_with(&start), "{error}");
        let end = format!("`) is at work and holds {}", path.display());
        assert!(error.to_string().ends_with(&end), "{error}");
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
