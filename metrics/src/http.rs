//! The HTTP server: `/metrics` for Prometheus, `/healthz` for whoever asks if we live, and what a program
//! has beside them. Read-only.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;

/// What a program shows.
pub trait Render: Send + Sync + 'static {
    /// All figures as they are now, as text of a scrape (text format 0.0.4). May block.
    fn render(&self) -> Vec<u8>;

    /// What else there is, by its path without a query. May block.
    fn document(&self, path: &str) -> Option<Document> {
        let _ = path;
        None
    }
}

/// What is shown beside figures.
#[derive(Clone, Debug)]
pub struct Document {
    /// What it is.
    pub content_type: &'static str,
    /// The whole of it; nothing while it can't be had.
    pub body: Option<Bytes>,
}

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// A scraper needs one; more than this is a mistake or an attack.
const CONNECTIONS: usize = 32;
/// Of these, so many for one client, so that nobody keeps the others out.
const OF_ONE_CLIENT: usize = 8;
const HEADER_TIMEOUT: Duration = Duration::from_secs(1);
/// A connection that goes on for ever would hold its place for ever.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(120);
/// Who takes an answer more slowly doesn't want it.
const WRITING_TIMEOUT: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 10 });
/// For what is under way then.
const LAST_ANSWER: Duration = Duration::from_secs(10);

/// What a browser may do with any answer: show it as what it is, with nothing from elsewhere, to nobody
/// but who asked, and run no script that isn't a file of ours (Content Security Policy Level 3).
const HEADERS: [(HeaderName, &str); 8] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), geolocation=(), microphone=()",
    ),
    (header::X_DNS_PREFETCH_CONTROL, "off"),
];

/// Who is connected, and how often.
#[derive(Clone, Default)]
struct Clients(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// A connection's place among those of its client.
struct Place {
    clients: Clients,
    client: Option<IpAddr>,
}

impl Clients {
    /// `None` if the client has its share. This machine isn't counted: it may be a proxy for many.
    fn admit(&self, address: IpAddr) -> Option<Place> {
        let client = client(address);
        if let Some(client) = client {
            let mut numbers = self.numbers();
            let number = numbers.entry(client).or_default();
            if *number == OF_ONE_CLIENT {
                return None;
            }
            *number += 1;
        }
        Some(Place {
            clients: self.clone(),
            client,
        })
    }

    fn numbers(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(client) = self.client else {
            return;
        };
        let mut numbers = self.clients.numbers();
        if let Some(number) = numbers.get_mut(&client) {
            *number -= 1;
            if *number == 0 {
                numbers.remove(&client);
            }
        }
    }
}

/// Whom an address is of: with IPv6, a machine has as many as it likes below a prefix of 64 bits.
fn client(address: IpAddr) -> Option<IpAddr> {
    match address.to_canonical() {
        address if address.is_loopback() => None,
        IpAddr::V6(address) => {
            let prefix = address.to_bits() >> 64 << 64;
            Some(Ipv6Addr::from_bits(prefix).into())
        }
        address => Some(address),
    }
}

/// Serves for ever.
pub(crate) async fn serve(listener: TcpListener, shown: Arc<impl Render>) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    let clients = Clients::default();
    loop {
        let connection = Arc::clone(&connections).acquire_owned().await;
        let (stream, client) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, mostly: it passes, and spinning would not help.
                debug!(%error, "cannot accept a scrape");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some(place) = clients.admit(client.ip()) else {
            continue;
        };
        let shown = Arc::clone(&shown);
        tokio::spawn(async move {
            converse(stream, shown).await;
            drop((connection, place));
        });
    }
}

/// Whatever the client does wrong is its own matter.
async fn converse(stream: TcpStream, shown: Arc<impl Render>) {
    let (answered, writing) = watch::channel(None);
    let service = service_fn(|request: Request<Incoming>| {
        let (shown, answered) = (Arc::clone(&shown), answered.clone());
        answered.send_replace(None);
        async move {
            let response = respond(&request, shown).await;
            answered.send_replace(Some(Instant::now()));
            Ok::<_, Infallible>(response)
        }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service)
    );
    let exchange = async {
        let ended = timeout(CONNECTION_TIMEOUT, connection.as_mut()).await;
        if ended.is_err() {
            connection.as_mut().graceful_shutdown();
            let _ = timeout(LAST_ANSWER, connection).await;
        }
    };
    tokio::select! {
        () = exchange => {}
        () = overdue(writing) => {}
    }
}

/// Returns when an answer was given so long ago, and neither the connection's end nor another request came.
async fn overdue(mut writing: watch::Receiver<Option<Instant>>) {
    loop {
        let begun = *writing.borrow_and_update();
        let limit = async {
            match begun {
                Some(begun) => sleep_until(begun + WRITING_TIMEOUT).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = limit => return,
            // Its sender lives as long as the connection.
            _ = writing.changed() => {}
        }
    }
}

async fn respond(request: &Request<Incoming>, shown: Arc<impl Render>) -> Response<Full<Bytes>> {
    let mut response = if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        let allowed = HeaderValue::from_static("GET, HEAD");
        response.headers_mut().insert(header::ALLOW, allowed);
        response
    } else {
        match request.uri().path() {
            "/healthz" => plain(StatusCode::OK, "ok\n"),
            path => {
                let path = path.to_owned();
                // Beside the probes: of thousands of real servers it takes longer than their answers.
                let response = tokio::task::spawn_blocking(move || look_up(&path, &*shown)).await;
                response.unwrap_or_else(|_| stopping())
            }
        }
    };
    for (name, value) in HEADERS {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}

fn look_up(path: &str, shown: &impl Render) -> Response<Full<Bytes>> {
    if path == "/metrics" {
        return plain(StatusCode::OK, shown.render());
    }
    match shown.document(path) {
        None => plain(StatusCode::NOT_FOUND, "try /metrics or /healthz\n"),
        Some(Document { body: None, .. }) => stopping(),
        Some(Document {
            content_type,
            body: Some(body),
        }) => {
            let mut response = typed(StatusCode::OK, content_type, body);
            // People look for hours, and places are few: nobody keeps one between two looks.
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
            response
        }
    }
}

fn stopping() -> Response<Full<Bytes>> {
    plain(StatusCode::SERVICE_UNAVAILABLE, "stopping\n")
}

fn plain(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    typed(status, TEXT, body)
}

fn typed(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static(content_type);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    response
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[test]
    fn a_client_has_its_share_and_leaves_the_rest_to_others() {
        let clients = Clients::default();
        let admit = |address: &str| clients.admit(address.parse().unwrap());
        let mut places: Vec<Place> = Vec::new();
        for _ in 0..OF_ONE_CLIENT {
            places.push(admit("192.0.2.1").unwrap());
            places.push(admit("2001:db8::1").unwrap());
        }
        for same in ["192.0.2.1", "::ffff:192.0.2.1", "2001:db8::2"] {
            assert!(admit(same).is_none(), "{same}");
        }
        for other in ["192.0.2.2", "2001:db8:0:1::1"] {
            assert!(admit(other).is_some(), "{other}");
        }
        places.clear();
        assert!(clients.numbers().is_empty());
        for _ in 0..=OF_ONE_CLIENT {
            places.push(admit("127.0.0.1").unwrap());
            places.push(admit("::1").unwrap());
        }
    }

    struct Much;

    impl Render for Much {
        fn render(&self) -> Vec<u8> {
            vec![b'x'; 64 << 20]
        }
    }

    /// More than the kernel keeps for it is asked for, and not taken.
    #[tokio::test]
    async fn who_takes_no_answer_loses_its_place() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(address).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        client
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        let limit = WRITING_TIMEOUT * 20;
        assert!(
            timeout(limit, converse(stream, Arc::new(Much)))
                .await
                .is_ok()
        );
        let mut taken = Vec::new();
        let _ = timeout(limit, client.read_to_end(&mut taken))
            .await
            .unwrap();
        assert!(taken.len() < 64 << 20);
    }
}
