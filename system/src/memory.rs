//! Memory that is never swapped out, so that a timer isn't late because a page had to be read.

use nix::errno::Errno;
use nix::libc;
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

/// Why memory was not locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Neither `CAP_IPC_LOCK` nor an unlimited `RLIMIT_MEMLOCK`.
    #[error(
        "locking memory is not allowed: it needs CAP_IPC_LOCK, or LimitMEMLOCK=infinity in the service's unit"
    )]
    NotAllowed,
    /// The kernel refused for another reason.
    #[error("cannot lock memory: {}", .0.desc())]
    Refused(Errno),
}

/// Locks every page of this process, now and in future, as soon as it is first used
/// (`MCL_ONFAULT`, mlockall(2)).
///
/// Under a finite limit nothing is locked: all memory asked for later would count against the
/// limit, and a process that reaches it dies.
pub fn lock_on_fault() -> Result<(), Error> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_MEMLOCK).map_err(Error::Refused)?;
    if hard == RLIM_INFINITY {
        set_limit(RLIM_INFINITY, hard)?;
        return lock();
    }
    // With a limit of 0 only the capability helps, which makes the kernel tell whether it is there.
    set_limit(0, hard)?;
    let result = lock();
    set_limit(soft, hard)?;
    result
}

fn set_limit(soft: libc::rlim_t, hard: libc::rlim_t) -> Result<(), Error> {
    setrlimit(Resource::RLIMIT_MEMLOCK, soft, hard).map_err(Error::Refused)
}

fn lock() -> Result<(), Error> {
    let on_fault = MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT);
    let all = MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | on_fault;
    match mlockall(all) {
        Err(Errno::EPERM) => Err(Error::NotAllowed),
        other => other.map_err(Error::Refused),
    }
}
