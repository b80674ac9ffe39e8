//! A TCP server that can move while the process runs.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tracing::error;

/// How soon what can't be listened on is tried again.
const LISTEN_AGAIN: Duration = Duration::from_secs(2);

/// A server, and where it listens. It never keeps anything else from running: an address that can't be
/// listened on is tried again and again.
#[derive(Debug)]
pub struct Listening {
    purpose: &'static str,
    serving: Option<(SocketAddr, JoinHandle<()>)>,
}

impl Listening {
    /// One that listens nowhere yet. The purpose is what it can't do without an address: "serve metrics".
    pub const fn nowhere(purpose: &'static str) -> Self {
        Self {
            purpose,
            serving: None,
        }
    }

    /// Listens at `wanted` and nowhere else, and hands the socket to `serve`, which is kept if it serves
    /// there already. Needs a tokio runtime with time and I/O.
    pub async fn listen<F, S>(&mut self, wanted: Option<SocketAddr>, serve: F)
    where
        F: FnOnce(TcpListener) -> S + Send + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        if wanted == self.serving.as_ref().map(|(address, _)| *address) {
            return;
        }
        if let Some((_, previous)) = self.serving.take() {
            previous.abort();
            // Its socket is closed once it has ended, which an abort reports as an error.
            let _ = previous.await;
        }
        let purpose = self.purpose;
        self.serving = wanted.map(|address| {
            let task = async move { serve(bind(address, purpose).await).await };
            (address, tokio::spawn(task))
        });
    }
}

async fn bind(address: SocketAddr, purpose: &str) -> TcpListener {
    let mut said = false;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) => {
                if !std::mem::replace(&mut said, true) {
                    error!(
                        "cannot {purpose} on {address}: {error}; trying again every {} s",
                        LISTEN_AGAIN.as_secs()
                    );
                }
                sleep(LISTEN_AGAIN).await;
            }
        }
    }
}
