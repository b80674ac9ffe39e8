//! The HTTP server: `/metrics` for Prometheus and `/healthz` for whoever asks if we live. Read-only.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tracing::debug;

use super::Metrics;

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// A scraper needs one; more than this is a mistake or an attack.
const CONNECTIONS: usize = 32;
const HEADER_TIMEOUT: Duration = Duration::from_secs(1);
/// A connection that says nothing is closed, so that it can't hold its place for ever.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(120);

/// The address can't be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve metrics on {listen}: {source}")]
pub struct BindError {
    listen: SocketAddr,
    source: std::io::Error,
}

/// A listening server.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
}

impl Server {
    /// Listens.
    ///
    /// # Errors
    /// When the address is in use or isn't ours.
    pub async fn bind(listen: SocketAddr) -> Result<Self, BindError> {
        let listener = TcpListener::bind(listen)
            .await
            .map_err(|source| BindError { listen, source })?;
        Ok(Self { listener })
    }

    /// Serves until it is dropped.
    pub async fn serve(self, metrics: Arc<Metrics>) -> Infallible {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let place = Arc::clone(&places).acquire_owned().await;
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors, mostly: it passes, and spinning would not help.
                    debug!(%error, "cannot accept a scrape");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let metrics = Arc::clone(&metrics);
            tokio::spawn(async move {
                let service = service_fn(|request: Request<Incoming>| {
                    let response = respond(&request, &metrics);
                    async move { Ok::<_, Infallible>(response) }
                });
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEADER_TIMEOUT)
                    .serve_connection(TokioIo::new(stream), service);
                // Whatever the scraper did wrong is its own matter.
                let _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await;
                drop(place);
            });
        }
    }
}

fn respond(request: &Request<Incoming>, metrics: &Metrics) -> Response<Full<Bytes>> {
    let mut response = if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        response
            .headers_mut()
            .insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
        response
    } else {
        match request.uri().path() {
            "/metrics" => plain(StatusCode::OK, metrics.render()),
            "/healthz" => plain(StatusCode::OK, "ok\n"),
            _ => plain(StatusCode::NOT_FOUND, "try /metrics or /healthz\n"),
        }
    };
    response
        .headers_mut()
        .insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(TEXT));
    response
}

fn plain(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
}
