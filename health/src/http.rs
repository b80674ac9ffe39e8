//! HTTP and HTTPS: a page is asked for, and its status and body are looked at.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::check::HttpCheck;
use crate::failure::Failure;
use crate::probe::Good;

/// As much of a body is looked at, in bytes.
const LONGEST_BODY: usize = 64 * 1024;

/// Asks once.
///
/// # Errors
/// When the page isn't as it should be within `limit`.
pub(crate) async fn get(
    check: &HttpCheck,
    server: SocketAddr,
    limit: Duration,
) -> Result<Good, Failure> {
    let got = async {
        let stream = TcpStream::connect(server).await?;
        match check.verify {
            None => exchange(check, server, stream).await,
            Some(verify) => {
                let connector = TlsConnector::from(settings(verify).await?);
                let stream = connector.connect(name(check, server)?, stream).await?;
                exchange(check, server, stream).await
            }
        }
    };
    let got = tokio::time::timeout(limit, got).await;
    got.unwrap_or(Err(Failure::TimedOut(limit)))
}

async fn exchange(
    check: &HttpCheck,
    server: SocketAddr,
    stream: impl AsyncRead + AsyncWrite + Unpin,
) -> Result<Good, Failure> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(&check.path)
        .header(HOST, host(check, server))
        .header(USER_AGENT, concat!("director/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(io::Error::other)?;
    let mut connection = pin!(connection);
    let mut judged = pin!(async {
        let response = sender.send_request(request).await?;
        judge(check, response).await
    });
    tokio::select! {
        biased;
        judged = &mut judged => judged,
        // What came before its end is still to be read.
        _ = &mut connection => judged.await,
    }
}

async fn judge(check: &HttpCheck, response: Response<Incoming>) -> Result<Good, Failure> {
    let status = response.status();
    let mut allowed = check.status.iter();
    if !allowed.any(|allowed| allowed.contains(&status.as_u16())) {
        return Err(Failure::Status(status));
    }
    if let Some(pattern) = &check.body {
        let body = start_of(response.into_body()).await?;
        if !pattern.is_in(&String::from_utf8_lossy(&body)) {
            return Err(Failure::Body(pattern.as_str().to_owned()));
        }
    }
    Ok(Good::answer())
}

async fn start_of(mut body: Incoming) -> Result<Vec<u8>, Failure> {
    let mut start = Vec::new();
    while start.len() < LONGEST_BODY
        && let Some(frame) = body.frame().await
    {
        if let Some(data) = frame?.data_ref() {
            start.extend_from_slice(data);
        }
    }
    start.truncate(LONGEST_BODY);
    Ok(start)
}

/// What the request says that it wants.
fn host(check: &HttpCheck, server: SocketAddr) -> String {
    let usual = if check.verify.is_some() { 443 } else { 80 };
    let name = match (&check.host, server) {
        (Some(name), _) => name.clone(),
        (None, SocketAddr::V4(server)) => server.ip().to_string(),
        (None, SocketAddr::V6(server)) => format!("[{}]", server.ip()),
    };
    if server.port() == usual {
        name
    } else {
        format!("{name}:{}", server.port())
    }
}

/// What the certificate has to be for.
fn name(check: &HttpCheck, server: SocketAddr) -> io::Result<ServerName<'static>> {
    match &check.host {
        Some(name) => ServerName::try_from(name.clone()).map_err(io::Error::other),
        None => Ok(ServerName::IpAddress(server.ip().into())),
    }
}

/// What TLS goes by; made once, since reading the machine's authorities takes a while.
async fn settings(verify: bool) -> io::Result<Arc<ClientConfig>> {
    static VERIFYING: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    static TRUSTING: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    let (place, make): (_, fn() -> ClientConfig) = if verify {
        (&VERIFYING, verifying)
    } else {
        (&TRUSTING, trusting)
    };
    if let Some(made) = place.get() {
        return Ok(Arc::clone(made));
    }
    let made = tokio::task::spawn_blocking(make).await;
    let made = Arc::new(made.map_err(io::Error::other)?);
    Ok(Arc::clone(place.get_or_init(|| made)))
}

fn verifying() -> ClientConfig {
    let mut authorities = RootCertStore::empty();
    // A machine without any verifies nothing, and each probe says so.
    let found = rustls_native_certs::load_native_certs();
    authorities.add_parsable_certificates(found.certs);
    builder()
        .with_root_certificates(authorities)
        .with_no_client_auth()
}

fn trusting() -> ClientConfig {
    builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trust(ring::default_provider())))
        .with_no_client_auth()
}

fn builder() -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has ciphers for TLS 1.2 and 1.3")
}

/// Takes any certificate: for servers that made their own, where the file says `verify: false`.
#[derive(Debug)]
struct Trust(CryptoProvider);

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::Ipv4Addr;

    use lvs_proto::health::FailureKind;
    use rustls::ServerConfig;
    use rustls::pki_types::PrivateKeyDer;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(2);

    fn check() -> HttpCheck {
        HttpCheck {
            verify: None,
            host: None,
            path: "/health?a=b".to_owned(),
            status: vec![200..=299],
            body: None,
        }
    }

    /// Answers one request with these bytes, and gives the request.
    async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: String) -> String {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        let _ = stream.shutdown().await;
        String::from_utf8(request).unwrap()
    }

    /// What `check` finds of a server that answers so, and what it asked.
    async fn found(check: &HttpCheck, answered: &str) -> (Result<Good, Failure>, String) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let server = listener.local_addr().unwrap();
        let answered = answered.to_owned();
        let asked = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            answer(stream, answered).await
        });
        let found = get(check, server, LIMIT).await;
        (found, asked.await.unwrap())
    }

    #[tokio::test]
    async fn the_page_is_asked_for_by_its_name() {
        let named = HttpCheck {
            host: Some("www.example.org".to_owned()),
            ..check()
        };
        for (check, host) in [(check(), "127.0.0.1:"), (named, "www.example.org:")] {
            let (found, asked) = found(&check, "HTTP/1.1 204 No Content\r\n\r\n").await;
            assert!(found.unwrap().answered);
            assert!(asked.starts_with("GET /health?a=b HTTP/1.1\r\n"), "{asked}");
            assert!(asked.contains(&format!("\r\nhost: {host}")), "{asked}");
        }
    }

    #[tokio::test]
    async fn status_and_body_decide() {
        let with_body = HttpCheck {
            status: vec![200..=200, 404..=404],
            body: Some("^fine$|all +well".parse().unwrap()),
            ..check()
        };
        let far = "x".repeat(LONGEST_BODY);
        let page = |status: &str, body: &str| {
            format!(
                "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
        };
        for (check, answered, expected) in [
            (check(), page("200 OK", "x"), None),
            (
                check(),
                page("503 Service Unavailable", ""),
                Some(("status 503 Service Unavailable", FailureKind::ResponseCode)),
            ),
            (
                with_body.clone(),
                page("404 Not Found", "All   well."),
                None,
            ),
            (
                with_body.clone(),
                page("200 OK", "not well"),
                Some(("no `^fine$|all +well` in the body", FailureKind::Content)),
            ),
            (
                with_body.clone(),
                page("200 OK", &(far + "all well")),
                Some(("no `^fine$|all +well` in the body", FailureKind::Content)),
            ),
            // In pieces.
            (
                with_body.clone(),
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nfine\r\n0\r\n\r\n"
                    .to_owned(),
                None,
            ),
            (
                check(),
                "220 mail.example.org ESMTP\r\n".to_owned(),
                Some(("invalid HTTP version parsed", FailureKind::Parse)),
            ),
            (
                check(),
                String::new(),
                Some((
                    "connection closed before message completed",
                    FailureKind::Network,
                )),
            ),
        ] {
            let (found, _) = found(&check, &answered).await;
            let failure = found.err();
            let failure = failure.map(|failure| (failure.to_string(), failure.kind()));
            let expected = expected.map(|(text, kind)| (text.to_owned(), kind));
            assert_eq!(failure, expected, "{}", &answered[..answered.len().min(99)]);
        }
    }

    #[tokio::test]
    async fn a_certificate_has_to_be_right_unless_told_otherwise() {
        let own = rcgen::generate_simple_self_signed(["www.example.org".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
        let settings = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(settings));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let server = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                if let Ok(stream) = acceptor.accept(stream).await {
                    answer(stream, "HTTP/1.1 200 OK\r\n\r\n".to_owned()).await;
                }
            }
        });
        for host in [Some("www.example.org".to_owned()), None] {
            let secure = |verify| HttpCheck {
                verify: Some(verify),
                host: host.clone(),
                ..check()
            };
            assert!(get(&secure(false), server, LIMIT).await.is_ok());
            let failure = get(&secure(true), server, LIMIT).await.unwrap_err();
            let text = failure.to_string();
            assert_eq!(failure.kind(), FailureKind::Mismatch, "{text}");
            assert!(text.starts_with("invalid peer certificate"), "{text}");
        }
    }
}
