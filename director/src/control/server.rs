//! The daemon's end of the control socket.

use std::io;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

pub use lvs_system::control_socket::BindError;
use lvs_system::control_socket::{self, SocketFile};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::{Answer, Query, Request, SOCKET};
use lvs_configuration::MAXIMUM_FILE_SIZE;

/// An operator needs one, a monitoring system another.
const CONNECTIONS: usize = 8;

/// In bytes; the names of all instances fit, and a whole configuration file, of whose characters
/// JSON makes two at most in all that YAML allows.
const LONGEST_REQUEST: u64 = 2 * MAXIMUM_FILE_SIZE + 64 * 1024;

/// A client that connects has something to say.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// The daemon answers from memory, and a reload takes little more than 5 s.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// Handing over takes three intervals at most, of which the longest has 40.95 s.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(130);

/// A client that asks reads the answer.
const SEND_TIMEOUT: Duration = Duration::from_secs(2);

/// A socket that listens. Its file goes when it is dropped.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    _file: SocketFile,
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
        let made = {
            let path = path.clone();
            let group = group.map(str::to_owned);
            spawn_blocking(move || control_socket::listen(&path, group.as_deref()))
                .await
                .map_err(|error| refused(io::Error::other(error)))??
        };
        if let (Some(group), Some(error)) = (group, made.group_refused) {
            warn!(
                group,
                "the control socket is for its owner only: {error}; its group must exist, and the \
                 director be a member of it (SupplementaryGroups= in systemd)"
            );
        }
        Ok(Self {
            listener: UnixListener::from_std(made.listener).map_err(refused)?,
            _file: made.file,
        })
    }

    /// Serves until it is dropped, connections and all: every request goes to `queries`. Once
    /// `retired` has ended it takes no more requests, and ends when all are answered.
    pub async fn serve(self, queries: mpsc::Sender<Query>, retired: impl Future) {
        let mut connections = JoinSet::new();
        let mut retired = pin!(retired);
        loop {
            tokio::select! {
                _ = &mut retired => break,
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
        while connections.join_next().await.is_some() {}
    }
}

async fn converse(mut stream: UnixStream, queries: mpsc::Sender<Query>) {
    let answer = match timeout(REQUEST_TIMEOUT, read(&mut stream)).await {
        Ok(Ok(Some(line))) => answer(&line, &queries).await,
        Ok(Ok(None)) => Answer::Error(format!("a request has at most {LONGEST_REQUEST} bytes")),
        // Whatever the client did wrong is its own matter.
        Ok(Err(_)) | Err(_) => return,
    };
    // Beside the probes: of thousands of real servers it takes longer than their answers.
    let line = spawn_blocking(move || {
        let mut line = serde_json::to_vec(&answer).expect("an answer has only string keys");
        line.push(b'\n');
        line
    });
    if let Ok(line) = line.await {
        let _ = timeout(SEND_TIMEOUT, stream.write_all(&line)).await;
    }
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
    let limit = match &request {
        Request::Handover { .. } => HANDOVER_TIMEOUT,
        _ => ANSWER_TIMEOUT,
    };
    let (answer, answered) = oneshot::channel();
    let stopping = || Answer::Error("the director is stopping".to_owned());
    if queries.send(Query { request, answer }).await.is_err() {
        return stopping();
    }
    match timeout(limit, answered).await {
        Ok(answer) => answer.unwrap_or_else(|_| stopping()),
        Err(_) => Answer::Error("the director is too busy to answer".to_owned()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::io::{Read, Write};
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::UnixStream as StdStream;
    use std::thread;
    use std::time::Instant;

    use nix::unistd::Group;

    use super::*;
    use crate::control::{
        AskError, ConfigurationText, HandReport, Handover, HandoverOutcome, Plan, Reload, Status,
        Tracing, ask,
    };

    /// How long the server takes for a reload.
    const SLOW: Duration = Duration::from_millis(400);

    fn status() -> Answer {
        Answer::Status(Status {
            version: "1.2.3".to_owned(),
            node: "ds1".to_owned(),
            configuration_hash: "0123456789abcdef".to_owned(),
            configuration_parts: Default::default(),
            uptime: Duration::from_millis(1500),
            instances: Vec::new(),
            services: Vec::new(),
            hand_problems: Vec::new(),
            address_conflicts: Vec::new(),
            path_problems: Vec::new(),
            table_problems: Vec::new(),
            findings: Vec::new(),
        })
    }

    /// A server with a thread of its own, as the daemon has it; gone when dropped.
    struct Running {
        folder: tempfile::TempDir,
        retire: Option<oneshot::Sender<()>>,
        stop: Option<oneshot::Sender<()>>,
        thread: Option<thread::JoinHandle<()>>,
    }

    impl Running {
        fn start() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().to_owned();
            let (retire, retired) = oneshot::channel();
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
                        () = server.serve(sender, retired) => {}
                        () = Self::answer(queries) => {}
                        _ = stopped => {}
                    }
                });
            });
            is_ready.recv().unwrap();
            Self {
                folder,
                retire: Some(retire),
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
                    Request::Events { .. } => {
                        query.answer.send(Answer::Events(Vec::new())).unwrap();
                    }
                    Request::Trace { .. } => {
                        query
                            .answer
                            .send(Answer::Trace(Tracing::default()))
                            .unwrap();
                    }
                    // Dropped: the director is stopping.
                    Request::Release => {}
                    Request::Plan { configuration } => {
                        let length = configuration.map_or(0, |given| given.text.len());
                        let plan = Plan {
                            changes: Vec::new(),
                            notes: vec![length.to_string()],
                        };
                        query.answer.send(Answer::Plan(plan)).unwrap();
                    }
                    Request::Hand { servers, .. } => {
                        let notes = vec![servers.to_string()];
                        let report = HandReport {
                            servers: Vec::new(),
                            notes,
                            not_kept: None,
                        };
                        query.answer.send(Answer::Hand(report)).unwrap();
                    }
                    Request::Reload => {
                        sleep(SLOW).await;
                        let reload = Reload::default();
                        query.answer.send(Answer::Reloaded(reload)).unwrap();
                    }
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
            "{\"status\":{\"version\":\"1.2.3\",\"node\":\"ds1\",\
             \"configuration_hash\":\"0123456789abcdef\",\"configuration_parts\":{},\"uptime_seconds\":1.5,\
             \"instances\":[],\"services\":[],\"hand_problems\":[],\"address_conflicts\":[],\"path_problems\":[],\"table_problems\":[],\"findings\":[]}}\n"
        );
        assert_eq!(
            running
                .say(b"{\"command\":\"handover\",\"instances\":[\"dns\"],\"for_seconds\":600}\n"),
            "{\"handover\":[{\"instance\":\"dns\",\"outcome\":\"taken_over\",\
             \"by\":\"192.0.2.2\",\"after_seconds\":0.113}]}\n"
        );
        assert_eq!(
            running.say(
                b"{\"command\":\"hand\",\"servers\":\"*/192.0.2.1\",\"state\":\"disabled\"}\n"
            ),
            "{\"hand\":{\"servers\":[],\"notes\":[\"*/192.0.2.1\"],\"not_kept\":null}}\n"
        );
        assert_eq!(running.ask(&Request::Status).unwrap(), status());
    }

    #[test]
    fn what_is_not_understood_is_said() {
        let running = Running::start();
        let too_long = vec![b'a'; usize::try_from(LONGEST_REQUEST).unwrap() + 1];
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
            (&too_long, "at most 2162688 bytes"),
            (b"{\"command\":\"release\"}\n", "the director is stopping"),
            (
                b"{\"command\":\"hand\",\"servers\":\"resolver\",\"state\":\"drained\"}\n",
                "`resolver` is not a server of a service; write it as resolver/192.0.2.11",
            ),
            (
                b"{\"command\":\"plan\",\"configuration\":\"/etc/passwd\"}\n",
                "invalid type",
            ),
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
    fn the_largest_file_fits_into_a_request() {
        let running = Running::start();
        // JSON has two characters for a line end.
        let text = "\n".repeat(usize::try_from(MAXIMUM_FILE_SIZE).unwrap());
        let length = text.len();
        let file = "director.yaml".to_owned();
        let request = Request::Plan {
            configuration: Some(ConfigurationText { file, text }),
        };
        let expected = Plan {
            changes: Vec::new(),
            notes: vec![length.to_string()],
        };
        assert_eq!(running.ask(&request).unwrap(), Answer::Plan(expected));
        let own = running.say(b"{\"command\":\"plan\"}\n");
        assert_eq!(own, "{\"plan\":{\"changes\":[],\"notes\":[\"0\"]}}\n");
    }

    #[test]
    fn a_socket_that_retires_answers_what_it_was_asked() {
        let mut running = Running::start();
        let mut stream = running.connect();
        stream.write_all(b"{\"command\":\"reload\"}\n").unwrap();
        // It has been taken up by then.
        thread::sleep(SLOW / 4);
        drop(running.retire.take());
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("{\"reloaded\":"), "{answer}");
        assert!(running.ask(&Request::Status).is_err());
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
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let first = Server::bind(folder.path(), Some(&own)).await.unwrap();
        let found = fs::metadata(&path).unwrap();
        assert_eq!(found.mode() & 0o7777, 0o660);
        assert_eq!(found.gid(), nix::unistd::getgid().as_raw());
        let unknown = Server::bind(folder.path(), Some("no-such-group"))
            .await
            .unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o660);
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
