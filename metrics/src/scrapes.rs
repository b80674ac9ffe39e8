//! The server of metrics for a program whose configuration changes.

use std::net::SocketAddr;
use std::sync::Arc;

use lvs_system::listening::Listening;

use crate::http::{Render, serve};

/// The server of metrics, which can move while the process runs.
pub struct Scrapes<M> {
    metrics: Arc<M>,
    listening: Listening,
}

impl<M: Render> Scrapes<M> {
    /// One that listens nowhere yet.
    pub fn new(metrics: Arc<M>) -> Self {
        Self {
            metrics,
            listening: Listening::nowhere("serve metrics"),
        }
    }

    /// Listens here and nowhere else.
    pub async fn listen(&mut self, wanted: Option<SocketAddr>) {
        let metrics = Arc::clone(&self.metrics);
        let serve = |listener| serve(listener, metrics);
        self.listening.listen(wanted, serve).await;
    }
}
