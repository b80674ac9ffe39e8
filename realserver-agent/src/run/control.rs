//! The control socket: how `rs-agent start`, `stop` and `reload` reach a service that runs.
//!
//! A request is one line of JSON, its answer another; then the connection ends. A client that closes
//! before it has its answer has given up: a drain that it asked for is called off.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lvs_system::control_socket::{self, BindError, SocketFile};
use lvs_system::record;
use lvs_system::seconds;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::drain::Certificate;
use crate::anycast::Status;

/// What is asked of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// The VIPs that were stopped by hand come back.
    Start {
        /// Which; all if empty.
        vips: Vec<IpAddr>,
        /// The file that they should be in; any if `None`.
        config: Option<PathBuf>,
    },
    /// The file is read again.
    Reload {
        /// The VIPs that are meant instead of a file's; none are.
        vips: Vec<IpAddr>,
        /// The file that is meant; any if `None`.
        config: Option<PathBuf>,
    },
    /// The VIPs go at once, until [`Request::Start`] or a reboot.
    Stop {
        /// Which; all if empty.
        vips: Vec<IpAddr>,
    },
    /// How announcements stand, with anycast.
    Announcements,
    /// All VIPs go when the directors have stopped sending, until [`Request::Start`] or a reboot.
    Drain {
        /// See [`Patience::quiet`](super::Patience::quiet); as configured if `None`.
        #[serde(rename = "quiet_seconds", with = "seconds::optional")]
        quiet: Option<Duration>,
        /// See [`Patience::limit`](super::Patience::limit); as configured if `None`.
        #[serde(rename = "limit_seconds", with = "seconds::optional")]
        limit: Option<Duration>,
    },
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is so; what else a person should know, a line each.
    Done(Vec<String>),
    /// To [`Request::Announcements`]; none without anycast.
    Announcements(Vec<Status>),
    /// To [`Request::Drain`].
    Left(Box<Certificate>),
    /// It can't be done, and why.
    Error(String),
}

/// A request that waits for its answer. Its client has given up once the answer's receiver is closed.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) request: Request,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The socket is for others.
    #[error(
        "may not use {}, by which the running rs-agent is reached; be root, or a member of the group that \
         `run` names in its configuration",
        .0.display()
    )]
    Forbidden(PathBuf),
    /// It listens, but doesn't answer.
    #[error(
        "the running rs-agent does not answer at {}; `journalctl -u rs-agent` may say why",
        .0.display()
    )]
    NoAnswer(PathBuf),
    /// It answers in words that we don't know.
    #[error("the answer is not understood, from an rs-agent of another version perhaps: {0}")]
    Unintelligible(#[from] serde_json::Error),
    /// Anything else.
    #[error("cannot ask the running rs-agent at {}: {reason}", .path.display())]
    Failed {
        /// The socket.
        path: PathBuf,
        /// The system's answer.
        reason: io::Error,
    },
}

/// The socket of the service for the calling thread's network namespace.
///
/// # Errors
/// When that can't be found out.
pub(super) fn path(state_directory: &Path) -> io::Result<PathBuf> {
    Ok(state_directory.join(format!("control-{}.sock", record::namespace()?)))
}

/// Asks the service that has its records in this directory, and waits for `patience` at most; `None` when
/// none runs.
///
/// # Errors
/// When one runs and there is no answer; an answer may say [`Answer::Error`].
pub fn ask(
    state_directory: &Path,
    request: &Request,
    patience: Duration,
) -> Result<Option<Answer>, AskError> {
    let failed = |reason| AskError::Failed {
        path: state_directory.to_owned(),
        reason,
    };
    let path = path(state_directory).map_err(failed)?;
    let line = match control_socket::ask(&path, request, patience) {
        Ok(line) => line,
        Err(control_socket::AskError::Nobody) => return Ok(None),
        Err(control_socket::AskError::Forbidden) => return Err(AskError::Forbidden(path)),
        Err(control_socket::AskError::NoAnswer) => return Err(AskError::NoAnswer(path)),
        Err(control_socket::AskError::Failed(reason)) => {
            return Err(AskError::Failed { path, reason });
        }
    };
    Ok(Some(serde_json::from_slice(&line)?))
}

/// The socket as long as the service runs. Its group can change.
pub(super) struct Controls {
    state_directory: PathBuf,
    queries: mpsc::Sender<Query>,
    group: Option<String>,
    serving: Serving,
    places: Arc<Semaphore>,
}

struct Serving {
    task: JoinHandle<()>,
    _file: SocketFile,
}

impl Controls {
    /// Makes the socket, and sends what is asked to `queries`.
    pub(super) fn new(
        state_directory: &Path,
        group: Option<&str>,
        queries: mpsc::Sender<Query>,
    ) -> Result<Self, BindError> {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        Ok(Self {
            serving: begin(state_directory, group, queries.clone(), &places)?,
            places,
            state_directory: state_directory.to_owned(),
            group: group.map(str::to_owned),
            queries,
        })
    }

    /// Is for another group from now on. Who is connected still gets its answer.
    pub(super) fn set_group(&mut self, group: Option<&str>) -> Result<(), BindError> {
        if self.group.as_deref() != group {
            let queries = self.queries.clone();
            self.serving = begin(&self.state_directory, group, queries, &self.places)?;
            self.group = group.map(str::to_owned);
        }
        Ok(())
    }
}

impl Controls {
    /// Listens no more, and waits a moment until everybody has read the answer that there is.
    pub(super) async fn finish(self) {
        drop(self.serving);
        let all = u32::try_from(CONNECTIONS).unwrap_or(u32::MAX);
        // Whoever doesn't read is left behind.
        let _ = timeout(TALK, self.places.acquire_many(all)).await;
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// More operators at once are a mistake.
const CONNECTIONS: usize = 8;
/// In bytes; more VIPs than a machine has fit.
const LONGEST_REQUEST: u64 = 64 * 1024;
/// A client that connects has something to say, and one that asks reads the answer.
const TALK: Duration = Duration::from_secs(2);

fn begin(
    state_directory: &Path,
    group: Option<&str>,
    queries: mpsc::Sender<Query>,
    places: &Arc<Semaphore>,
) -> Result<Serving, BindError> {
    let refused = |path: PathBuf| move |reason| BindError::Refused { path, reason };
    let path = path(state_directory).map_err(refused(state_directory.to_owned()))?;
    let made = control_socket::listen(&path, group)?;
    if let (Some(group), Some(error)) = (group, made.group_refused) {
        warn!(
            "the control socket is for its owner only: {error}; the group {group} must exist, and rs-agent \
             be a member of it (SupplementaryGroups= in systemd)"
        );
    }
    let listener = UnixListener::from_std(made.listener).map_err(refused(path))?;
    Ok(Serving {
        task: tokio::spawn(serve(listener, queries, Arc::clone(places))),
        _file: made.file,
    })
}

async fn serve(listener: UnixListener, queries: mpsc::Sender<Query>, places: Arc<Semaphore>) {
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                // Connections outlive the listener: who changed the group by a reload has still to hear of it.
                let conversation = converse(stream, queries.clone());
                tokio::spawn(async move {
                    conversation.await;
                    drop(place);
                });
            }
            Err(error) => {
                debug!(%error, "cannot accept a connection to the control socket");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(mut stream: UnixStream, queries: mpsc::Sender<Query>) {
    let (reader, mut writer) = stream.split();
    let mut reader = tokio::io::BufReader::new(reader.take(LONGEST_REQUEST));
    let mut line = Vec::new();
    // Whatever the client did wrong is its own matter.
    let Ok(Ok(1..)) = timeout(TALK, reader.read_until(b'\n', &mut line)).await else {
        return;
    };
    let answer = match serde_json::from_slice(&line) {
        Err(error) => Answer::Error(format!("the request is not understood: {error}")),
        Ok(request) => {
            let (answer, answered) = oneshot::channel();
            let stopping = || Answer::Error("the service is stopping".to_owned());
            if queries.send(Query { request, answer }).await.is_err() {
                stopping()
            } else {
                tokio::select! {
                    answer = answered => answer.unwrap_or_else(|_| stopping()),
                    _ = reader.read_u8() => return,
                }
            }
        }
    };
    let mut line = serde_json::to_vec(&answer).expect("an answer has only string keys");
    line.push(b'\n');
    let _ = timeout(TALK, writer.write_all(&line)).await;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn request() -> Request {
        Request::Drain {
            quiet: None,
            limit: Some(Duration::from_millis(1500)),
        }
    }

    #[tokio::test]
    async fn a_request_is_answered_and_one_that_is_given_up_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().to_owned();
        let nobody = ask(&directory, &request(), TALK).unwrap();
        assert_eq!(nobody, None);
        let (queries, mut asked) = mpsc::channel(1);
        let controls = Controls::new(&directory, None, queries).unwrap();

        let there = directory.clone();
        let client = tokio::task::spawn_blocking(move || ask(&there, &request(), TALK));
        let query = asked.recv().await.unwrap();
        assert_eq!(query.request, request());
        query.answer.send(Answer::Done(Vec::new())).unwrap();
        let answer = client.await.unwrap().unwrap();
        assert_eq!(answer, Some(Answer::Done(Vec::new())));

        let there = directory.clone();
        let impatient = Duration::from_millis(50);
        let client = tokio::task::spawn_blocking(move || ask(&there, &request(), impatient));
        let mut query = asked.recv().await.unwrap();
        let error = client.await.unwrap().unwrap_err();
        assert!(matches!(error, AskError::NoAnswer(_)), "{error}");
        query.answer.closed().await;

        drop(controls);
        assert_eq!(ask(&directory, &request(), TALK).unwrap(), None);
    }

    #[tokio::test]
    async fn what_is_not_understood_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let (queries, _asked) = mpsc::channel(1);
        let _controls = Controls::new(folder.path(), None, queries).unwrap();
        let mut stream = UnixStream::connect(path(folder.path()).unwrap())
            .await
            .unwrap();
        stream
            .write_all(b"{\"command\":\"dance\"}\n")
            .await
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains("not understood"), "{answer}");
    }
}
