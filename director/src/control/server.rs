//! The daemon's end of the control socket.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::Group;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::{Answer, Query, Request, SOCKET};

/// Who has the socket may use it: its owner and its group.
const MODE: u32 = 0o660;

/// An operator needs one, a monitoring system another.
const CONNECTIONS: usize = 8;

/// In bytes; the names of all instances fit.
const LONGEST_REQUEST: u64 = 64 * 1024;

/// A client that connects has something to say.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// Handing over takes 8 s at most.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// A client that asks reads the answer.
const SEND_TIMEOUT: Duration = Duration::from_secs(2);

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

/// A socket that listens. Its file goes when it is dropped.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode, by which another's socket of the same name is told from it.
    identity: (u64, u64),
}

impl Server {
    /// Makes the socket in `runtime_directory`, for its owner and for `group`; one that a dead
    /// director left there is replaced. Without `group` it has the process's own.
    ///
    /// A group that can't have it is warned of: then it's for the owner only. The caller makes sure
    /// that no other director is at work. Looking up a group may take long, so another thread does.
    ///
    /// # Errors
    /// When there can be no socket.
    pub async fn bind(runtime_directory: &Path, group: Option<&str>) -> Result<Self, BindError> {
        let path = runtime_directory.join(SOCKET);
        let refused = |reason| BindError::Refused {
            path: path.clone(),
            reason,
        };
        let (listener, identity) = {
            let path = path.clone();
            let group = group.map(str::to_owned);
            tokio::task::spawn_blocking(move || listen(&path, group.as_deref()))
                .await
                .map_err(|error| refused(io::Error::other(error)))??
        };
        let listener = UnixListener::from_std(listener).map_err(refused)?;
        Ok(Self {
            listener,
            path,
            identity,
        })
    }

    /// Serves until it is dropped, connections and all: every request goes to `queries`.
    pub async fn serve(self, queries: mpsc::Sender<Query>) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept(), if connections.len() < CONNECTIONS => {
                    match accepted {
                        Ok((stream, _)) => {
                            connections.spawn(converse(stream, queries.clone()));
                        }
                        Err(error) => {
                            // Out of descriptors, mostly: it passes, and spinning would not help.
                            debug!(%error, "cannot accept a connection to the control socket");
                            sleep(Duration::from_millis(100)).await;
                        }
                    }
                }
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if identity(&self.path).ok() == Some(self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Makes the socket under another name first, so that nobody meets it before it has its mode and
/// group, and nobody misses the old one.
fn listen(path: &Path, group: Option<&str>) -> Result<(StdListener, (u64, u64)), BindError> {
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
    let listener = StdListener::bind(&new).map_err(refused)?;
    let finish = || {
        listener.set_nonblocking(true)?;
        fs::set_permissions(&new, fs::Permissions::from_mode(MODE))?;
        if let Some(group) = group
            && let Err(error) = give(&new, group)
        {
            warn!(
                group,
                "the control socket is for its owner only: {error}; its group must exist, and the \
                 director be a member of it (SupplementaryGroups= in systemd)"
            );
        }
        let identity = identity(&new)?;
        fs::rename(&new, path)?;
        Ok(identity)
    };
    let identity = finish().map_err(|error| {
        let _ = fs::remove_file(&new);
        refused(error)
    })?;
    Ok((listener, identity))
}

fn give(path: &Path, group: &str) -> io::Result<()> {
    let group = Group::from_name(group)?.ok_or(Errno::ENOENT)?;
    chown(path, None, Some(group.gid.as_raw()))
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

async fn converse(mut stream: UnixStream, queries: mpsc::Sender<Query>) {
    let answer = match timeout(REQUEST_TIMEOUT, read(&mut stream)).await {
        Ok(Ok(Some(line))) => answer(&line, &queries).await,
        Ok(Ok(None)) => Answer::Error(format!("a request has at most {LONGEST_REQUEST} bytes")),
        // Whatever the client did wrong is its own matter.
        Ok(Err(_)) | Err(_) => return,
    };
    let mut line = serde_json::to_vec(&answer).expect("an answer has only string keys");
    line.push(b'\n');
    let _ = timeout(SEND_TIMEOUT, stream.write_all(&line)).await;
}

/// One line, or `None` if it is too long.
async fn read(stream: &mut UnixStream) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    BufReader::new(stream.take(LONGEST_REQUEST + 1))
        .read_until(b'\n', &mut line)
        .await?;
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((line.len() as u64 <= LONGEST_REQUEST).then_some(line))
}

async fn answer(line: &[u8], queries: &mpsc::Sender<Query>) -> Answer {
    let request: Request = match serde_json::from_slice(line) {
        Ok(request) => request,
        Err(error) => return Answer::Error(format!("the request is not understood: {error}")),
    };
    let (answer, answered) = oneshot::channel();
    let stopping = || Answer::Error("the director is stopping".to_owned());
    if queries.send(Query { request, answer }).await.is_err() {
        return stopping();
    }
    match timeout(ANSWER_TIMEOUT, answered).await {
        Ok(answer) => answer.unwrap_or_else(|_| stopping()),
        Err(_) => Answer::Error("the director is too busy to answer".to_owned()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream as StdStream;
    use std::thread;
    use std::time::Instant;

    use super::*;
    use crate::control::{AskError, Handover, HandoverOutcome, Status, ask};

    fn status() -> Answer {
        Answer::Status(Status {
            version: "1.2.3".to_owned(),
            node: "ds1".to_owned(),
            uptime: Duration::from_millis(1500),
            instances: Vec::new(),
        })
    }

    /// A server with a thread of its own, as the daemon has it; gone when dropped.
    struct Running {
        folder: tempfile::TempDir,
        stop: Option<oneshot::Sender<()>>,
        thread: Option<thread::JoinHandle<()>>,
    }

    impl Running {
        fn start() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().to_owned();
            let (stop, stopped) = oneshot::channel();
            let (ready, is_ready) = std::sync::mpsc::channel();
            let thread = thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(async {
                    let (sender, queries) = mpsc::channel(1);
                    let server = Server::bind(&path, None).await.unwrap();
                    ready.send(()).unwrap();
                    tokio::select! {
                        () = server.serve(sender) => {}
                        () = Self::answer(queries) => {}
                        _ = stopped => {}
                    }
                });
            });
            is_ready.recv().unwrap();
            Self {
                folder,
                stop: Some(stop),
                thread: Some(thread),
            }
        }

        async fn answer(mut queries: mpsc::Receiver<Query>) {
            while let Some(query) = queries.recv().await {
                match query.request {
                    Request::Status => query.answer.send(status()).unwrap(),
                    Request::Handover { instances, .. } => {
                        let each = instances.into_iter().map(|instance| Handover {
                            instance,
                            outcome: HandoverOutcome::TakenOver {
                                by: "192.0.2.2".parse().unwrap(),
                                after: Duration::from_millis(113),
                            },
                        });
                        query.answer.send(Answer::Handover(each.collect())).unwrap();
                    }
                    // Dropped: the director is stopping.
                    Request::Release => {}
                }
            }
        }

        fn connect(&self) -> StdStream {
            let stream = StdStream::connect(self.folder.path().join(SOCKET)).unwrap();
            stream
                .set_read_timeout(Some(Duration::from_secs(20)))
                .unwrap();
            stream
        }

        fn say(&self, request: &[u8]) -> String {
            let mut stream = self.connect();
            stream.write_all(request).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        }

        fn ask(&self, request: &Request) -> Result<Answer, AskError> {
            ask(self.folder.path(), request, Duration::from_secs(20))
        }
    }

    impl Drop for Running {
        fn drop(&mut self) {
            drop(self.stop.take());
            self.thread.take().unwrap().join().unwrap();
        }
    }

    #[test]
    fn one_line_is_answered_by_one_line() {
        let running = Running::start();
        assert_eq!(
            running.say(b"{\"command\":\"status\"}\n"),
            "{\"status\":{\"version\":\"1.2.3\",\"node\":\"ds1\",\"uptime_seconds\":1.5,\
             \"instances\":[]}}\n"
        );
        assert_eq!(
            running
                .say(b"{\"command\":\"handover\",\"instances\":[\"dns\"],\"for_seconds\":600}\n"),
            "{\"handover\":[{\"instance\":\"dns\",\"outcome\":\"taken_over\",\
             \"by\":\"192.0.2.2\",\"after_seconds\":0.113}]}\n"
        );
        assert_eq!(running.ask(&Request::Status).unwrap(), status());
    }

    #[test]
    fn what_is_not_understood_is_said() {
        let running = Running::start();
        for (request, said) in [
            (
                &b"{\"command\":\"reboot\"}\n"[..],
                "unknown variant `reboot`",
            ),
            (b"hello\n", "not understood"),
            (b"\xff\xfe\n", "not understood"),
            (
                b"{\"command\":\"handover\",\"for\":1}\n",
                "unknown field `for`",
            ),
            (
                b"{\"command\":\"handover\",\"for_seconds\":-1}\n",
                "invalid value",
            ),
            (&[b'['; 60_000], "not understood"),
            (&[b'a'; 65_537], "at most 65536 bytes"),
            (b"{\"command\":\"release\"}\n", "the director is stopping"),
        ] {
            let mut stream = running.connect();
            stream.write_all(request).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.contains(said), "{answer}");
            assert!(answer.starts_with("{\"error\":\""), "{answer}");
        }
    }

    #[test]
    fn clients_that_misbehave_harm_nobody() {
        let running = Running::start();
        // All places are taken by clients that never ask, for as long as they may.
        let silent: Vec<StdStream> = (0..2 * CONNECTIONS).map(|_| running.connect()).collect();
        drop(running.connect());
        let start = Instant::now();
        assert_eq!(running.ask(&Request::Status).unwrap(), status());
        assert!(
            start.elapsed() < 4 * REQUEST_TIMEOUT,
            "{:?}",
            start.elapsed()
        );
        for mut stream in silent {
            assert_eq!(stream.read(&mut [0; 16]).unwrap(), 0, "it was closed");
        }
    }

    #[test]
    fn many_may_ask_at_once() {
        let running = Running::start();
        thread::scope(|scope| {
            for _ in 0..4 * CONNECTIONS {
                scope.spawn(|| assert_eq!(running.ask(&Request::Status).unwrap(), status()));
            }
        });
    }

    #[tokio::test]
    async fn the_socket_is_for_owner_and_group_and_goes_with_its_server() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(SOCKET);
        let own = Group::from_gid(nix::unistd::getgid())
            .unwrap()
            .unwrap()
            .name;
        // What a dead director left behind.
        drop(StdListener::bind(&path).unwrap());
        assert!(path.exists());
        let first = Server::bind(folder.path(), Some(&own)).await.unwrap();
        let found = fs::metadata(&path).unwrap();
        assert_eq!(found.mode() & 0o7777, MODE);
        assert_eq!(found.gid(), nix::unistd::getgid().as_raw());
        let unknown = Server::bind(folder.path(), Some("no-such-group"))
            .await
            .unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, MODE);
        drop(first);
        assert!(path.exists(), "that of the second one stays");
        drop(unknown);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn nothing_but_a_socket_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(SOCKET);
        fs::write(&path, "precious").unwrap();
        let error = Server::bind(folder.path(), None).await.unwrap_err();
        assert!(error.to_string().ends_with("is not a socket; remove it"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        let missing = folder.path().join("missing");
        let error = Server::bind(&missing, None).await.unwrap_err();
        assert!(error.to_string().contains("No such file"), "{error}");
    }
}
