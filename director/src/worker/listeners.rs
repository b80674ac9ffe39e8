//! What others connect to: the metrics, and the control socket. Both can move while the process runs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::error;

use crate::config::Configuration;
use crate::control::{self, Query};
use crate::metrics::{Metrics, Server};

/// How soon what can't be listened on is tried again.
const LISTEN_AGAIN: Duration = Duration::from_secs(2);

/// The control socket. It never keeps anything else from running.
pub(super) struct Controls {
    runtime_directory: PathBuf,
    queries: mpsc::Sender<Query>,
    listening: Option<(Option<String>, JoinHandle<()>)>,
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
        if let Some((previous, task)) = self.listening.take() {
            if previous == group && !task.is_finished() {
                self.listening = Some((previous, task));
                return;
            }
            task.abort();
            // Its socket is gone once it has ended, which an abort reports as an error.
            let _ = task.await;
        }
        let task = serve_controls(
            self.runtime_directory.clone(),
            group.clone(),
            self.queries.clone(),
        );
        self.listening = Some((group, tokio::spawn(task)));
    }

    /// Takes the socket away.
    pub(super) async fn close(self) {
        if let Some((_, task)) = self.listening {
            task.abort();
            let _ = task.await;
        }
    }
}

async fn serve_controls(
    runtime_directory: PathBuf,
    group: Option<String>,
    queries: mpsc::Sender<Query>,
) {
    let mut said = false;
    loop {
        match control::Server::bind(&runtime_directory, group.as_deref()).await {
            Ok(server) => return server.serve(queries).await,
            Err(error) => {
                if !std::mem::replace(&mut said, true) {
                    error!("{error}; trying again every {} s", LISTEN_AGAIN.as_secs());
                }
                tokio::time::sleep(LISTEN_AGAIN).await;
            }
        }
    }
}

/// The server of metrics, which can move while the process runs. It never keeps anything else from
/// running: an address that can't be listened on is tried again and again.
pub(super) struct Scrapes {
    metrics: Arc<Metrics>,
    listening: Option<(SocketAddr, JoinHandle<()>)>,
}

impl Scrapes {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            listening: None,
        }
    }

    /// Listens where the configuration says, and nowhere else.
    pub(super) async fn listen(&mut self, configuration: &Configuration) {
        let wanted = configuration.metrics.map(|metrics| metrics.listen);
        if wanted == self.listening.as_ref().map(|(address, _)| *address) {
            return;
        }
        if let Some((_, previous)) = self.listening.take() {
            previous.abort();
            // Its socket is closed once it has ended, which an abort reports as an error.
            let _ = previous.await;
        }
        self.listening = wanted.map(|address| {
            let metrics = Arc::clone(&self.metrics);
            (address, tokio::spawn(serve_metrics(address, metrics)))
        });
    }
}

async fn serve_metrics(listen: SocketAddr, metrics: Arc<Metrics>) {
    let mut said = false;
    loop {
        match Server::bind(listen).await {
            Ok(server) => match server.serve(metrics).await {},
            Err(error) => {
                if !std::mem::replace(&mut said, true) {
                    error!("{error}; trying again every {} s", LISTEN_AGAIN.as_secs());
                }
                tokio::time::sleep(LISTEN_AGAIN).await;
            }
        }
    }
}
