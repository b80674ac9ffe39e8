//! The channel to the supervisor.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use anyhow::bail;
use lvs_system::syscalls;
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::socket::{MsgFlags, recv};

/// The channel to the supervisor is our standard input; what we start later must not inherit it.
///
/// A worker leaves in order when its supervisor dies, now or later.
pub(super) fn take() -> anyhow::Result<UnixStream> {
    let channel = released_first(io::stdin().as_fd())?;
    nix::unistd::dup2_stdin(File::open("/dev/null")?)?;
    nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)?;
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    match recv(channel.as_raw_fd(), &mut [0], flags) {
        Err(Errno::EAGAIN) => Ok(UnixStream::from(channel)),
        Ok(_) => bail!("the supervisor is gone"),
        Err(_) => bail!("the worker is started by `director run`, not by hand"),
    }
}

/// Another descriptor of the channel, numbered above the sockets.
///
/// The kernel releases the files of a dying process from the highest number down (`do_exit()` and
/// `task_work_run()`), and every packet socket among them costs an RCU grace period
/// (`packet_release()`): up to tens of milliseconds in which the supervisor would not know yet.
fn released_first(channel: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    /// Most systems allow 1024.
    const ABOVE_SOCKETS: RawFd = 1000;
    syscalls::duplicate_from(channel, ABOVE_SOCKETS).or_else(|_| channel.try_clone_to_owned())
}
