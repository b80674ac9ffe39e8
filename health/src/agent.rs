//! The line in which a server speaks for itself.

use std::net::SocketAddr;
use std::time::Duration;

use lvs_proto::agent_check::{Health, LONGEST_LINE, Line, Report};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::failure::Failure;
use crate::probe::Good;

/// A server's agent, and what it has said so far.
pub(crate) struct Agent {
    report: Report,
    /// Its last word on whether the server works; without one it does.
    down: Option<String>,
}

impl Agent {
    /// One that hasn't said anything.
    pub(crate) fn new() -> Self {
        Self {
            report: Report::default(),
            down: None,
        }
    }

    /// What it has said so far.
    pub(crate) fn report(&self) -> Report {
        self.report
    }

    /// Connects, and hears what it says now.
    ///
    /// # Errors
    /// When no line comes within `limit`, or one that isn't readable, or the server isn't well.
    pub(crate) async fn hear(
        &mut self,
        server: SocketAddr,
        limit: Duration,
    ) -> Result<Good, Failure> {
        let said = tokio::time::timeout(limit, said(server)).await;
        let said = said.map_err(|_| Failure::TimedOut(limit))??;
        let line = Line::parse(&said).map_err(Failure::Agent)?;
        self.report.hear(&line);
        match line.health {
            Some(Health::Up) => self.down = None,
            Some(Health::Down(why)) => self.down = Some(why),
            None => {}
        }
        match &self.down {
            Some(why) => Err(Failure::Down(why.clone())),
            None => Ok(Good::answer()),
        }
    }
}

/// What comes up to the end of a line, or of the connection.
async fn said(server: SocketAddr) -> Result<Vec<u8>, Failure> {
    let mut stream = TcpStream::connect(server).await?;
    let mut said = Vec::with_capacity(LONGEST_LINE);
    while said.len() < LONGEST_LINE && !said.contains(&b'\n') {
        if stream.read_buf(&mut said).await? == 0 {
            break;
        }
    }
    Ok(said)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::Ipv4Addr;

    use lvs_proto::agent_check::Mode;
    use lvs_proto::health::FailureKind;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    const LIMIT: Duration = Duration::from_millis(300);

    /// Says these, one to a connection; the last piece of each closes it if `closes`.
    async fn agent(lines: &'static [&'static [&'static str]], closes: bool) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let server = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let mut kept = Vec::new();
            for line in lines {
                let (mut stream, _) = listener.accept().await.unwrap();
                for piece in *line {
                    stream.write_all(piece.as_bytes()).await.unwrap();
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                if !closes {
                    kept.push(stream);
                }
            }
            std::future::pending::<()>().await;
        });
        server
    }

    #[tokio::test]
    async fn a_server_speaks_for_itself() {
        let lines: &[&[&str]] = &[
            &["up 5", "0%\n"],
            &["drain\n"],
            &["down # disk full\n"],
            &["75%\n"],
            &["nonsense\n"],
            &["up ready\n"],
        ];
        let server = agent(lines, false).await;
        let mut agent = Agent::new();
        let mut seen = Vec::new();
        for _ in lines {
            let heard = agent.hear(server, LIMIT).await;
            let words = heard.map_or_else(|failure| failure.to_string(), |_| "well".to_owned());
            let Report { mode, weight } = agent.report();
            seen.push((words, mode, weight));
        }
        let expected = [
            ("well", Mode::Ready, 50),
            ("well", Mode::Drain, 50),
            ("down: disk full", Mode::Drain, 50),
            ("down: disk full", Mode::Drain, 75),
            ("`nonsense` is not a word of an agent", Mode::Drain, 75),
            ("well", Mode::Ready, 75),
        ];
        assert_eq!(
            seen,
            expected.map(|(words, mode, weight)| (words.to_owned(), mode, weight))
        );
    }

    #[tokio::test]
    async fn a_line_may_end_with_the_connection_and_has_to_come_in_time() {
        let server = agent(&[&["up"]], true).await;
        assert!(Agent::new().hear(server, LIMIT).await.is_ok());
        let server = agent(&[&["up"]], false).await;
        let failure = Agent::new().hear(server, LIMIT).await.unwrap_err();
        assert_eq!(failure.kind(), FailureKind::Timeout);
        let server = agent(&[&[]], true).await;
        let failure = Agent::new().hear(server, LIMIT).await.unwrap_err();
        assert_eq!(failure.to_string(), "the agent says nothing");
    }
}
