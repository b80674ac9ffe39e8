//! One question over UDP or TCP, from the socket to the judgement.

use std::cell::RefCell;
use std::io;
use std::time::{Duration, SystemTime};

use lvs_proto::dns::{
    Answer, Arrival, Entropy, Form, Frame, Judgement, Mismatch, Probe, Transport, frame,
};
use lvs_proto::ipvs::Protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UdpSocket;

use crate::failure::Failure;
use crate::route::{Received, Route};

/// As long as EDNS may say that an answer can be ([`crate::reading`]'s `edns_size`); longer datagrams
/// are cut.
const DATAGRAM_LENGTH: usize = 4096;

/// Queries that leave from one port, at most: fewer sockets to open, and still a port that nobody
/// knows for long (RFC 5452, section 9.2).
const QUERIES_FROM_A_PORT: u8 = 16;

thread_local! {
    /// Where datagrams are judged, at once: thousands of checkers would each keep room for one.
    static DATAGRAM: RefCell<[u8; DATAGRAM_LENGTH]> = const { RefCell::new([0; DATAGRAM_LENGTH]) };
}

/// A socket that UDP queries leave from, kept from one good answer to the next query.
#[derive(Debug, Default)]
pub(crate) struct Port(Option<Open>);

#[derive(Debug)]
struct Open {
    socket: UdpSocket,
    queries: u8,
}

impl Port {
    /// The socket for one more query; connected, so that only the server's packets arrive and ICMP
    /// errors do too.
    async fn socket(&mut self, route: &Route) -> io::Result<&UdpSocket> {
        let mut open = match self.0.take() {
            Some(open) if open.queries < QUERIES_FROM_A_PORT => open,
            // The old one is closed only then, so that the new one can't have its port.
            _old => Open {
                socket: route.datagrams().await?,
                queries: 0,
            },
        };
        open.queries += 1;
        Ok(&self.0.insert(open).socket)
    }

    /// The next query leaves from another port.
    fn renew(&mut self) {
        self.0 = None;
    }
}

/// Asks once by a route, and again where the server wants the question otherwise. A truncated answer
/// over UDP is a good one, unless `follows_truncation` says that the whole one is to be had over TCP.
///
/// # Errors
/// When there is no good answer within `timeout`.
pub(crate) async fn ask(
    probe: &Probe,
    protocol: Protocol,
    follows_truncation: bool,
    route: impl Into<Route>,
    timeout: Duration,
    port: &mut Port,
) -> Result<Answer, Failure> {
    let mut asking = Asking {
        probe,
        route: route.into(),
        mismatch: None,
        truncated: false,
    };
    let asked = async {
        match protocol {
            Protocol::Udp => match asking.over_udp(port).await? {
                answer if answer.truncated && follows_truncation => {
                    asking.truncated = true;
                    asking.over_tcp().await
                }
                answer => Ok(answer),
            },
            Protocol::Tcp => asking.over_tcp().await,
            // The configuration has no DNS check for it.
            Protocol::Sctp => Err(io::Error::from(io::ErrorKind::Unsupported).into()),
        }
    };
    let result = tokio::time::timeout(timeout, asked).await;
    if !matches!(result, Ok(Ok(_))) {
        // What may still come is not for the next query.
        port.renew();
    }
    let failure = match result {
        Ok(Ok(answer)) => return Ok(answer),
        Ok(Err(Failure::Local(error))) => return Err(Failure::Local(error)),
        Ok(Err(failure)) => failure,
        Err(_) => match asking.mismatch {
            Some(mismatch) => Failure::Mismatched { timeout, mismatch },
            None => Failure::TimedOut(timeout),
        },
    };
    Err(if asking.truncated {
        Failure::AfterTruncation(Box::new(failure))
    } else {
        failure
    })
}

/// A question on its way, and what is known when its time is up.
struct Asking<'a> {
    probe: &'a Probe,
    route: Route,
    /// Why the last message that was ignored isn't the answer.
    mismatch: Option<Mismatch>,
    /// Whether the answer over UDP was.
    truncated: bool,
}

impl Asking<'_> {
    async fn over_udp(&mut self, port: &mut Port) -> Result<Answer, Failure> {
        let mut form = Form::default();
        loop {
            let route = self.route;
            let socket = port.socket(&route).await?;
            let entropy = fresh_entropy();
            route
                .send(socket, &self.probe.query(&entropy, &form))
                .await?;
            form = loop {
                // An ICMP error is no datagram.
                let arrived = Interest::READABLE | Interest::ERROR;
                let settled = socket.async_io(arrived, || {
                    DATAGRAM.with_borrow_mut(|datagram| {
                        Ok(match route.receive(socket, datagram)? {
                            Received::Datagram(length) => {
                                let datagram = &datagram[..length];
                                self.settled(&entropy, &form, Transport::Udp, datagram)
                            }
                            Received::FromOwnAddress(address) => {
                                let failure = Failure::FromOwnAddress(address);
                                Some(Settled::Done(Err(failure)))
                            }
                            Received::FromElsewhere => None,
                        })
                    })
                });
                match settled.await? {
                    Some(Settled::Done(result)) => return result,
                    Some(Settled::Again(form)) => break form,
                    None => {}
                }
            };
            port.renew();
        }
    }

    async fn over_tcp(&mut self) -> Result<Answer, Failure> {
        let mut stream = self.route.connect().await?;
        stream.set_nodelay(true)?;
        let mut received = Vec::new();
        let mut form = Form::default();
        loop {
            let entropy = fresh_entropy();
            let query = self.probe.query(&entropy, &form);
            let query = frame(&query).expect("a query of one question is short");
            stream.write_all(&query).await?;
            form = 'answers: loop {
                while let Frame::Whole { message, rest } = Frame::split(&received) {
                    let settled = self.settled(&entropy, &form, Transport::Tcp, message);
                    received = rest.to_vec();
                    match settled {
                        Some(Settled::Done(result)) => return result,
                        Some(Settled::Again(form)) => break 'answers form,
                        None => {}
                    }
                }
                if stream.read_buf(&mut received).await? == 0 {
                    let message = "the connection was closed without an answer";
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message).into());
                }
            };
        }
    }

    /// `None` for what isn't the answer: the next message may be.
    fn settled(
        &mut self,
        entropy: &Entropy,
        form: &Form,
        transport: Transport,
        message: &[u8],
    ) -> Option<Settled> {
        let arrival = Arrival {
            transport,
            time: unix_time(),
        };
        match self.probe.judge(entropy, form, arrival, message) {
            Judgement::Ignore(mismatch) => {
                self.mismatch = Some(mismatch);
                None
            }
            Judgement::Again(form) => Some(Settled::Again(form)),
            Judgement::Pass(answer) | Judgement::Truncated(answer) => {
                Some(Settled::Done(Ok(answer)))
            }
            Judgement::Fail(fault) => Some(Settled::Done(Err(Failure::Fault(fault)))),
        }
    }
}

enum Settled {
    Done(Result<Answer, Failure>),
    Again(Form),
}

fn fresh_entropy() -> Entropy {
    Entropy {
        identifier: rand::random(),
        cookie: rand::random(),
        case: rand::random(),
    }
}

/// Seconds since 1970 modulo 2^32.
fn unix_time() -> u32 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs() as u32
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::HashSet;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

    use lvs_proto::dns::RecordType;
    use lvs_proto::health::FailureKind;
    use nix::errno::Errno;
    use tokio::net::TcpListener;

    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(300);

    fn probe() -> Probe {
        Probe::new("www.abc.local".parse().unwrap(), RecordType::A)
    }

    /// A server's answer to `query`: the question again, with one A record or none.
    fn answer(query: &[u8], response_code: u8) -> Vec<u8> {
        let mut message = query.to_vec();
        message[2] |= 0x80;
        message[3] = response_code;
        if response_code == 0 {
            message[7] = 1;
            // The question's name, A, IN, 60 s, 4 octets.
            message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 1, 2, 3, 4]);
        }
        message
    }

    /// Answers one query with all that `reply` makes of it.
    async fn udp_server(reply: fn(&[u8]) -> Vec<Vec<u8>>) -> SocketAddr {
        udp_server_at(Ipv4Addr::LOCALHOST.into(), reply).await
    }

    async fn udp_server_at(address: IpAddr, reply: fn(&[u8]) -> Vec<Vec<u8>>) -> SocketAddr {
        let socket = UdpSocket::bind((address, 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            let (length, client) = socket.recv_from(&mut buffer).await.unwrap();
            for datagram in reply(&buffer[..length]) {
                socket.send_to(&datagram, client).await.unwrap();
            }
            // Kept open: a closed socket would answer for it.
            std::future::pending::<()>().await;
        });
        address
    }

    async fn ask_once(protocol: Protocol, server: SocketAddr) -> Result<Answer, Failure> {
        ask(
            &probe(),
            protocol,
            true,
            server,
            TIMEOUT,
            &mut Port::default(),
        )
        .await
    }

    #[tokio::test]
    async fn what_is_not_the_answer_is_waited_through() {
        let server = udp_server(|query| {
            let mut forged = answer(query, 2);
            forged[0] ^= 0xff;
            vec![forged, vec![1, 2, 3], answer(query, 0)]
        })
        .await;
        ask_once(Protocol::Udp, server).await.unwrap();
    }

    #[tokio::test]
    async fn servers_are_asked_over_their_own_family() {
        for address in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
            let server = udp_server_at(address, |query| vec![answer(query, 0)]).await;
            ask_once(Protocol::Udp, server).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_bad_answer_fails_at_once_and_silence_in_time() {
        let refuses = udp_server(|query| vec![answer(query, 5)]).await;
        let failure = ask_once(Protocol::Udp, refuses).await.unwrap_err();
        assert_eq!(failure.to_string(), "REFUSED");
        let silent = udp_server(|_| Vec::new()).await;
        let failure = ask_once(Protocol::Udp, silent).await.unwrap_err();
        assert_eq!(failure.to_string(), "no answer within 300 ms");
    }

    #[tokio::test]
    async fn a_closed_port_fails_without_waiting() {
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let address = free.local_addr().unwrap();
            drop(free);
            let failure = ask_once(protocol, address).await.unwrap_err();
            let Failure::Socket(error) = failure else {
                panic!("{failure}")
            };
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        }
    }

    #[tokio::test]
    async fn a_port_serves_16_queries_and_none_after_a_failure() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let server = socket.local_addr().unwrap();
        let served = tokio::spawn(async move {
            let mut seen = Vec::new();
            let mut buffer = [0; 512];
            for number in 0..40 {
                let (length, client) = socket.recv_from(&mut buffer).await.unwrap();
                let identifier = u16::from_be_bytes([buffer[0], buffer[1]]);
                let code = if number == 34 { 2 } else { 0 };
                let reply = answer(&buffer[..length], code);
                socket.send_to(&reply, client).await.unwrap();
                seen.push((client.port(), identifier));
            }
            seen
        });
        let port = &mut Port::default();
        for _ in 0..40 {
            let _ = ask(&probe(), Protocol::Udp, true, server, TIMEOUT, port).await;
        }
        let seen = served.await.unwrap();
        let runs = seen.chunk_by(|(one, _), (next, _)| one == next);
        let lengths: Vec<usize> = runs.map(<[_]>::len).collect();
        assert_eq!(lengths, [16, 16, 3, 5]);
        let identifiers: HashSet<u16> = seen.iter().map(|(_, identifier)| *identifier).collect();
        assert!(
            identifiers.len() >= 38,
            "{} of 40 differ",
            identifiers.len()
        );
    }

    #[test]
    fn what_this_machine_lacks_is_not_the_servers_fault() {
        let failure = |errno: Errno| Failure::from(io::Error::from(errno));
        assert!(matches!(failure(Errno::EMFILE), Failure::Local(_)));
        assert!(matches!(failure(Errno::ECONNREFUSED), Failure::Socket(_)));
        assert!(matches!(failure(Errno::EHOSTUNREACH), Failure::Socket(_)));
    }

    #[tokio::test]
    async fn an_answer_over_tcp_may_come_in_pieces() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let length = stream.read_u16().await.unwrap();
            let mut query = vec![0; usize::from(length)];
            stream.read_exact(&mut query).await.unwrap();
            for piece in frame(&answer(&query, 0)).unwrap().chunks(7) {
                stream.write_all(piece).await.unwrap();
                stream.flush().await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        ask_once(Protocol::Tcp, address).await.unwrap();
    }

    type Reply = fn(&[u8]) -> Vec<u8>;

    /// Two sockets on one port: a UDP server that truncates, and TCP that answers, if `whole` does.
    async fn truncating_server(whole: Option<Reply>) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let socket = UdpSocket::bind(address).await.unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            let (length, client) = socket.recv_from(&mut buffer).await.unwrap();
            let mut truncated = buffer[..length].to_vec();
            truncated[2] |= 0x82;
            socket.send_to(&truncated, client).await.unwrap();
            std::future::pending::<()>().await;
        });
        let Some(whole) = whole else {
            drop(listener);
            return address;
        };
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let length = stream.read_u16().await.unwrap();
            let mut query = vec![0; usize::from(length)];
            stream.read_exact(&mut query).await.unwrap();
            stream
                .write_all(&frame(&whole(&query)).unwrap())
                .await
                .unwrap();
            std::future::pending::<()>().await;
        });
        address
    }

    #[tokio::test]
    async fn a_truncated_answer_is_followed_where_tcp_is_served() {
        let ask = async |server, follows| {
            ask(
                &probe(),
                Protocol::Udp,
                follows,
                server,
                TIMEOUT,
                &mut Port::default(),
            )
            .await
        };
        let server = truncating_server(None).await;
        assert!(ask(server, false).await.unwrap().truncated);
        let failure = ask(truncating_server(None).await, true).await.unwrap_err();
        assert_eq!(failure.kind(), FailureKind::Refused);
        let text = failure.to_string();
        assert!(
            text.starts_with("truncated over UDP, and over TCP: "),
            "{text}"
        );
        let server = truncating_server(Some(|query| answer(query, 0))).await;
        assert_eq!(ask(server, true).await.unwrap().records, 1);
        let server = truncating_server(Some(|query| answer(query, 2))).await;
        let failure = ask(server, true).await.unwrap_err();
        assert_eq!(
            failure.to_string(),
            "truncated over UDP, and over TCP: SERVFAIL"
        );
    }

    #[tokio::test]
    async fn a_server_without_edns_is_asked_again_from_another_port() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let mut buffer = [0; 512];
            let mut clients = Vec::new();
            for _ in 0..2 {
                let (length, client) = socket.recv_from(&mut buffer).await.unwrap();
                let query = &buffer[..length];
                let code = if query[11] == 0 { 0 } else { 1 };
                socket.send_to(&answer(query, code), client).await.unwrap();
                clients.push(client);
            }
            clients
        });
        let probe = Probe {
            edns: Some(1232),
            ..probe()
        };
        ask(
            &probe,
            Protocol::Udp,
            true,
            address,
            TIMEOUT,
            &mut Port::default(),
        )
        .await
        .unwrap();
        let clients = server.await.unwrap();
        assert_ne!(clients[0], clients[1]);
    }

    #[tokio::test]
    async fn what_came_instead_of_an_answer_is_told() {
        let server = udp_server(|query| {
            let mut other = answer(query, 0);
            other[13] ^= 1;
            vec![other]
        })
        .await;
        let failure = ask_once(Protocol::Udp, server).await.unwrap_err();
        assert_eq!(failure.kind(), FailureKind::Mismatch);
        assert_eq!(
            failure.to_string(),
            "no answer within 300 ms, only what isn't one: another question"
        );
    }
}
