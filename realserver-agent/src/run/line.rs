//! The agent-check line: what this server says of itself, to directors that ask.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lvs_proto::agent_check::{Health, Line, Mode};
use lvs_system::listening::Listening;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{Id, JoinSet};
use tokio::time::{sleep, timeout};
use tracing::debug;

/// More askers at once are a mistake or an attack.
const CONNECTIONS: usize = 64;
/// More connections of one asker too: a director has as many as services that check this server.
const CONNECTIONS_OF_ONE: usize = 16;
/// Who has connected reads the line and goes.
const READING: Duration = Duration::from_secs(1);

/// What is said, and to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Board {
    /// What may be sent to this server.
    pub(super) mode: Mode,
    /// Of its configured weight, in percent.
    pub(super) weight: u8,
    /// Who may ask; anybody if empty.
    pub(super) directors: Vec<IpAddr>,
}

/// Somebody has read the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    /// Who.
    pub(super) reader: IpAddr,
    /// What it said.
    pub(super) mode: Mode,
}

/// The server of the line, which can move while the process runs.
pub(super) struct LineServer {
    board: watch::Sender<Board>,
    readings: mpsc::Sender<Reading>,
    listening: Listening,
}

impl LineServer {
    /// Says `board` as soon as it listens somewhere, and tells `readings` who has read it.
    pub(super) fn new(board: Board, readings: mpsc::Sender<Reading>) -> Self {
        Self {
            board: watch::Sender::new(board),
            readings,
            listening: Listening::nowhere("say the agent-check line"),
        }
    }

    /// Says something else from now on.
    pub(super) fn say(&self, change: impl FnOnce(&mut Board)) {
        self.board.send_modify(change);
    }

    /// Listens here and nowhere else.
    pub(super) async fn listen(&mut self, wanted: Option<SocketAddr>) {
        let board = self.board.subscribe();
        let readings = self.readings.clone();
        let answer = |listener| answer(listener, board, readings);
        self.listening.listen(wanted, answer).await;
    }
}

async fn answer(
    listener: TcpListener,
    board: watch::Receiver<Board>,
    readings: mpsc::Sender<Reading>,
) {
    let mut connections = JoinSet::new();
    let mut readers: BTreeMap<Id, IpAddr> = BTreeMap::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, peer)) => {
                    let reader = peer.ip().to_canonical();
                    let others = readers.values().filter(|other| **other == reader);
                    if others.count() >= CONNECTIONS_OF_ONE {
                        debug!(%reader, "it has too many connections: the line isn't said again");
                        continue;
                    }
                    let (mode, line) = {
                        let board = board.borrow();
                        if !board.directors.is_empty() && !board.directors.contains(&reader) {
                            debug!(%reader, "not a director: the line isn't for it");
                            continue;
                        }
                        (board.mode, line(&board))
                    };
                    let readings = readings.clone();
                    let connection = connections.spawn(async move {
                        if matches!(timeout(READING, tell(stream, &line)).await, Ok(Ok(()))) {
                            // Whoever listens ends last.
                            let _ = readings.send(Reading { reader, mode }).await;
                        }
                    });
                    readers.insert(connection.id(), reader);
                }
                Err(error) => {
                    // Out of descriptors, mostly: it passes, and spinning would not help.
                    debug!(%error, "cannot accept a connection for the line");
                    sleep(Duration::from_millis(100)).await;
                }
            },
            Some(ended) = connections.join_next_with_id() => {
                readers.remove(&ended.map_or_else(|error| error.id(), |(id, ())| id));
            }
        }
    }
}

/// Says the line and waits until the other side has closed: it has read it then.
async fn tell(mut stream: TcpStream, line: &str) -> io::Result<()> {
    stream.write_all(line.as_bytes()).await?;
    stream.shutdown().await?;
    let mut unasked = [0; 64];
    while stream.read(&mut unasked).await? > 0 {}
    Ok(())
}

fn line(board: &Board) -> String {
    let line = Line {
        health: Some(Health::Up),
        mode: Some(board.mode),
        weight: Some(board.weight),
    };
    line.to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::Ipv4Addr;

    use super::*;

    const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    async fn server(directors: Vec<IpAddr>) -> (LineServer, mpsc::Receiver<Reading>, SocketAddr) {
        let free = TcpListener::bind((LOCAL, 0)).await.unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let board = Board {
            mode: Mode::Ready,
            weight: 50,
            directors,
        };
        let (readings, heard) = mpsc::channel(8);
        let mut server = LineServer::new(board, readings);
        server.listen(Some(address)).await;
        (server, heard, address)
    }

    async fn read(address: SocketAddr) -> String {
        let mut stream = loop {
            match TcpStream::connect(address).await {
                Ok(stream) => break stream,
                Err(_) => sleep(Duration::from_millis(5)).await,
            }
        };
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        said
    }

    #[tokio::test]
    async fn what_is_said_is_read_and_who_read_it_is_known() {
        let (mut server, mut heard, address) = server(Vec::new()).await;
        let reading = |mode| Reading {
            reader: LOCAL,
            mode,
        };
        assert_eq!(read(address).await, "50% ready up\n");
        assert_eq!(heard.recv().await, Some(reading(Mode::Ready)));
        server.say(|board| board.mode = Mode::Drain);
        assert_eq!(read(address).await, "50% drain up\n");
        assert_eq!(heard.recv().await, Some(reading(Mode::Drain)));
        server.listen(None).await;
        TcpStream::connect(address).await.unwrap_err();
    }

    #[tokio::test]
    async fn the_line_is_for_directors_where_they_are_named() {
        let director = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        let (server, mut heard, address) = server(vec![director]).await;
        assert_eq!(read(address).await, "");
        server.say(|board| board.directors.push(LOCAL));
        assert_eq!(read(address).await, "50% ready up\n");
        assert_eq!(heard.recv().await.unwrap().reader, LOCAL);
        assert!(heard.try_recv().is_err());
    }

    #[tokio::test]
    async fn one_asker_leaves_room_for_others() {
        let (_server, mut heard, address) = server(Vec::new()).await;
        tokio::spawn(async move { while heard.recv().await.is_some() {} });
        read(address).await;
        let mut staying = Vec::new();
        for _ in 0..CONNECTIONS {
            staying.push(TcpStream::connect(address).await.unwrap());
        }
        assert_eq!(read(address).await, "");
        // Any address of the loopback interface's network can ask.
        let other = tokio::net::TcpSocket::new_v4().unwrap();
        other.bind("127.0.0.9:0".parse().unwrap()).unwrap();
        let mut said = String::new();
        let mut stream = other.connect(address).await.unwrap();
        stream.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "50% ready up\n");
        drop((staying, stream));
        let again = async { while read(address).await.is_empty() {} };
        timeout(READING * 5, again).await.unwrap();
    }

    #[tokio::test]
    async fn who_does_not_go_has_not_read() {
        let (_server, mut heard, address) = server(Vec::new()).await;
        assert_eq!(read(address).await, "50% ready up\n");
        heard.recv().await.unwrap();
        let stays = TcpStream::connect(address).await.unwrap();
        sleep(READING + Duration::from_millis(200)).await;
        assert!(heard.try_recv().is_err());
        drop(stays);
    }
}
