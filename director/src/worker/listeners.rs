//! The control socket, which can move while the process runs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::error;

use crate::config::Configuration;
use crate::control::{self, Query};

/// How soon what can't be listened on is tried again.
const LISTEN_AGAIN: Duration = Duration::from_secs(2);

/// The control socket. It never keeps anything else from running.
pub(super) struct Controls {
    runtime_directory: PathBuf,
    queries: mpsc::Sender<Query>,
    listening: Option<Listening>,
}

struct Listening {
    group: Option<String>,
    task: JoinHandle<()>,
    /// Dropping this lets it answer what it was asked, and nothing more.
    retire: oneshot::Sender<()>,
}

impl Controls {
    /// Sends what is asked to `queries`.
    pub(super) fn new(runtime_directory: &Path, queries: mpsc::Sender<Query>) -> Self {
        Self {
            runtime_directory: runtime_directory.to_owned(),
            queries,
            listening: None,
        }
    }

    /// Listens for the group that the configuration says.
    pub(super) async fn listen(&mut self, configuration: &Configuration) {
        let group = configuration.control.group.clone();
        if let Some(listening) = &self.listening
            && listening.group == group
            && !listening.task.is_finished()
        {
            return;
        }
        // The socket of the next one takes the place of this one's. Who changed the group by a reload
        // has still to hear what came of it.
        if let Some(Listening { retire, .. }) = self.listening.take() {
            drop(retire);
        }
        let (retire, retired) = oneshot::channel();
        let task = tokio::spawn(serve_controls(
            self.runtime_directory.clone(),
            group.clone(),
            self.queries.clone(),
            retired,
        ));
        self.listening = Some(Listening {
            group,
            task,
            retire,
        });
    }

    /// Takes the socket away.
    pub(super) async fn close(self) {
        if let Some(Listening { task, .. }) = self.listening {
            task.abort();
            // Its socket is gone once it has ended, which an abort reports as an error.
            let _ = task.await;
        }
    }
}

async fn serve_controls(
    runtime_directory: PathBuf,
    group: Option<String>,
    queries: mpsc::Sender<Query>,
    mut retired: oneshot::Receiver<()>,
) {
    let mut said = false;
    loop {
        let bound = tokio::select! {
            bound = control::Server::bind(&runtime_directory, group.as_deref()) => bound,
            _ = &mut retired => return,
        };
        match bound {
            Ok(server) => return server.serve(queries, retired).await,
            Err(error) => {
                if !std::mem::replace(&mut said, true) {
                    error!("{error}; trying again every {} s", LISTEN_AGAIN.as_secs());
                }
                tokio::select! {
                    () = tokio::time::sleep(LISTEN_AGAIN) => {}
                    _ = &mut retired => return,
                }
            }
        }
    }
}
