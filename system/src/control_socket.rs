//! The socket that operators' commands talk to: its file, and whom it is for.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, lchown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat};
use nix::unistd::Group;
use serde::Serialize;

/// Who has the socket may use it: its owner and its group.
const MODE: Mode = Mode::from_bits_truncate(0o660);

/// In bytes; thousands of virtual routers fit.
const LONGEST_ANSWER: u64 = 64 * 1024 * 1024;

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Something else has the name.
    #[error("cannot make the control socket: {} is not a socket; remove it", .0.display())]
    Occupied(PathBuf),
    /// The system doesn't allow it.
    #[error("cannot make the control socket {}: {reason}", .path.display())]
    Refused {
        /// The socket.
        path: PathBuf,
        /// The system's answer.
        reason: io::Error,
    },
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens.
    #[error("nobody listens")]
    Nobody,
    /// The socket is for others.
    #[error("the socket is for others")]
    Forbidden,
    /// Somebody listens, and doesn't answer.
    #[error("no answer")]
    NoAnswer,
    /// Anything else.
    #[error("{0}")]
    Failed(io::Error),
}

/// A socket that listens.
#[derive(Debug)]
pub struct Made {
    /// It doesn't block.
    pub listener: UnixListener,
    /// Its file.
    pub file: SocketFile,
    /// Why the group that was asked for hasn't got it; its owner alone has it then.
    pub group_refused: Option<io::Error>,
}

/// A socket's file, which goes when this is dropped.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode, by which another's socket of the same name is told from it.
    identity: (u64, u64),
}

/// Makes the socket `path` for its owner and for `group`; one that a dead process left there is
/// replaced. Without `group` it has the process's own.
///
/// It is made under another name first, so that nobody meets it before it has its mode and group, and
/// nobody misses the old one. The caller makes sure that nobody else is at work there. Looking up a group
/// may take long.
///
/// # Errors
/// When there can be no socket.
pub fn listen(path: &Path, group: Option<&str>) -> Result<Made, BindError> {
    let refused = |reason| BindError::Refused {
        path: path.to_owned(),
        reason,
    };
    if fs::symlink_metadata(path).is_ok_and(|found| !found.file_type().is_socket()) {
        return Err(BindError::Occupied(path.to_owned()));
    }
    let new = path.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(refused(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&new).map_err(refused)?;
    let mut group_refused = None;
    let mut finish = || {
        listener.set_nonblocking(true)?;
        // Whose folder it is could have put a link there meanwhile.
        fchmodat(AT_FDCWD, &new, MODE, FchmodatFlags::NoFollowSymlink)?;
        if let Some(group) = group {
            group_refused = give(&new, group).err();
        }
        let identity = identity(&new)?;
        fs::rename(&new, path)?;
        Ok(identity)
    };
    let identity = finish().map_err(|error| {
        let _ = fs::remove_file(&new);
        refused(error)
    })?;
    Ok(Made {
        listener,
        file: SocketFile {
            path: path.to_owned(),
            identity,
        },
        group_refused,
    })
}

/// Sends one line of JSON, and returns what is answered until the other end closes; waits for `patience`
/// for each step.
///
/// # Errors
/// When there is no answer.
pub fn ask(path: &Path, request: &impl Serialize, patience: Duration) -> Result<Vec<u8>, AskError> {
    let mut stream = UnixStream::connect(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => AskError::Nobody,
        io::ErrorKind::PermissionDenied => AskError::Forbidden,
        _ => AskError::Failed(error),
    })?;
    let mut line = serde_json::to_vec(request).map_err(|error| AskError::Failed(error.into()))?;
    line.push(b'\n');
    let mut answer = Vec::new();
    let mut exchange = || {
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        stream.write_all(&line)?;
        Read::by_ref(&mut stream)
            .take(LONGEST_ANSWER)
            .read_to_end(&mut answer)
    };
    match exchange() {
        Ok(1..) => Ok(answer),
        Ok(0) => Err(AskError::NoAnswer),
        Err(error) => Err(match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => AskError::NoAnswer,
            _ => AskError::Failed(error),
        }),
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).ok() == Some(self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn give(path: &Path, group: &str) -> io::Result<()> {
    let group = Group::from_name(group)?.ok_or(Errno::ENOENT)?;
    lchown(path, None, Some(group.gid.as_raw()))
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}
