//! HTTP requests, as Prometheus, browsers and others send them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::lab::Host;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// Asks a server for `path` from `host` and returns the body of its answer.
///
/// # Errors
/// When there is no answer within 15 s, or its status is another than 200.
pub fn get(host: &Host, server: SocketAddr, path: &str) -> Result<String> {
    let request = format!("GET {path} HTTP/1.0\r\nHost: {server}\r\n\r\n");
    let answer = exchange(host, server, request)
        .with_context(|| format!("http://{server}{path} on {}", host.name()))?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("an answer without a head")?;
    let status = head.lines().next().unwrap_or_default();
    ensure!(status.contains(" 200 "), "http://{server}{path}: {status}");
    Ok(body.into())
}

/// A request like `GET /metrics`, the only one of its connection.
pub fn request(line: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: ds1\r\nConnection: close\r\n\r\n")
}

/// Sends these bytes from `host` and reads until the server closes.
///
/// # Errors
/// When it doesn't within 15 s.
pub fn exchange(host: &Host, server: SocketAddr, request: String) -> Result<String> {
    let exchanged = host.thread(move || exchange_here(server, &request, PATIENCE));
    exchanged
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The same from where this thread is.
///
/// # Errors
/// When nothing comes for so long.
pub fn exchange_here(server: SocketAddr, request: &str, patience: Duration) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&server, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
