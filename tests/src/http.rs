//! One HTTP request, as Prometheus sends it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::lab::Host;

const TIMEOUT: Duration = Duration::from_secs(5);

/// Asks a server for `path` from `host` and returns the body of its answer.
///
/// # Errors
/// When there is no answer within 5 s, or its status is another than 200.
pub fn get(host: &Host, server: SocketAddr, path: &str) -> Result<String> {
    let path = path.to_owned();
    let request = format!("GET {path} HTTP/1.0\r\nHost: {server}\r\n\r\n");
    let answer = host
        .thread(move || -> std::io::Result<Vec<u8>> {
            let mut stream = TcpStream::connect_timeout(&server, TIMEOUT)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            stream.write_all(request.as_bytes())?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            Ok(answer)
        })
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        .with_context(|| format!("http://{server}{path} on {}", host.name()))?;
    let answer = String::from_utf8(answer)?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("an answer without a head")?;
    let status = head.lines().next().unwrap_or_default();
    ensure!(status.contains(" 200 "), "http://{server}{path}: {status}");
    Ok(body.into())
}
