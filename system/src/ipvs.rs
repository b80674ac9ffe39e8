//! The kernel's IPVS table: reading it, changing it.
//!
//! The table belongs to the network namespace of the thread that calls [`Ipvs::open`]. Called by
//! the director's data plane, which alone writes to it.

use lvs_proto::ipvs::{
    CONTROLLER, Command, Daemon, DecodeError, FoundDestination, FoundService, Information, Query,
    Service, ServiceKey, Statistics, Timeouts, family_identifier, family_request,
};
use nix::errno::Errno;

use crate::netlink::{self, Connection, Protocol, Reply, Request};

/// A conversation with the kernel's IPVS.
#[derive(Debug)]
pub struct Ipvs {
    connection: Connection,
    family: u16,
}

/// A service with its destinations, as the kernel has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The service.
    pub service: Service,
    /// What it did.
    pub statistics: Statistics,
    /// Its destinations, in the kernel's order.
    pub destinations: Vec<FoundDestination>,
}

/// Why there is no conversation.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The kernel doesn't know the family, and found no module that does.
    #[error(
        "this kernel has no IPVS: load it with `modprobe ip_vs`, or set `dataplane: none` in the \
         configuration to forward nothing"
    )]
    NotInKernel,
    /// The kernel has IPVS and doesn't let this process use it.
    #[error(
        "not permitted to use IPVS: the process needs CAP_NET_ADMIN in the initial user namespace"
    )]
    NotPermitted,
    /// Anything else.
    #[error("cannot open IPVS: {0}")]
    Other(#[source] Error),
}

/// Why nothing could be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused, or the socket failed.
    #[error(transparent)]
    Netlink(#[from] netlink::Error),
    /// The kernel's reply is not what `linux/ip_vs.h` says.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

impl Ipvs {
    /// Finds the kernel's IPVS, which makes the kernel load its module where it has one.
    pub fn open() -> Result<Self, OpenError> {
        let mut connection = Connection::open(Protocol::Generic).map_err(refusal)?;
        let family = find_family(&mut connection).map_err(refusal)?;
        let mut ipvs = Self { connection, family };
        // Anybody may look up the family; only a command shows whether this process may use it.
        ipvs.information().map_err(refusal)?;
        Ok(ipvs)
    }

    /// All services that have a [`ServiceKey`], with their destinations and counters.
    ///
    /// A service that vanishes while the table is read is left out.
    pub fn table(&mut self) -> Result<Vec<Entry>, Error> {
        read_table(&mut self.connection, self.family)
    }

    /// Carries out all commands, in order, and returns one result for each. A refused command
    /// doesn't keep the later ones from being carried out.
    pub fn apply(&mut self, commands: &[Command]) -> Vec<Result<(), netlink::Error>> {
        let requests: Vec<Request> = commands
            .iter()
            .map(|command| request(self.family, command.encode()))
            .collect();
        self.connection.batch(&requests)
    }

    /// Version and size of the connection table.
    pub fn information(&mut self) -> Result<Information, Error> {
        let reply = self.ask(Query::Information)?;
        Ok(Information::decode(&reply.payload)?)
    }

    /// How long idle connection entries stay.
    pub fn timeouts(&mut self) -> Result<Timeouts, Error> {
        let reply = self.ask(Query::Timeouts)?;
        Ok(Timeouts::decode(&reply.payload)?)
    }

    /// The synchronization daemons that run: one of each role at most.
    pub fn daemons(&mut self) -> Result<Vec<Daemon>, Error> {
        let query = request(self.family, Query::Daemons.encode());
        let replies = self.connection.dump(&query)?;
        let daemons = replies.iter().map(|reply| Daemon::decode(&reply.payload));
        Ok(daemons.collect::<Result<_, _>>()?)
    }

    fn ask(&mut self, query: Query) -> Result<Reply, Error> {
        let replies = self
            .connection
            .request(&request(self.family, query.encode()))?;
        replies
            .into_iter()
            .next()
            .ok_or(Error::Decode(DecodeError::Truncated))
    }
}

/// What reading needs of a connection; the tests stand in for the kernel here.
trait Conversation {
    fn request(&mut self, request: &Request) -> Result<Vec<Reply>, netlink::Error>;
    fn dump(&mut self, request: &Request) -> Result<Vec<Reply>, netlink::Error>;
}

impl Conversation for Connection {
    fn request(&mut self, request: &Request) -> Result<Vec<Reply>, netlink::Error> {
        self.request(request)
    }

    fn dump(&mut self, request: &Request) -> Result<Vec<Reply>, netlink::Error> {
        self.dump(request)
    }
}

fn request(message_type: u16, payload: Vec<u8>) -> Request {
    Request {
        message_type,
        flags: 0,
        payload,
    }
}

fn find_family(connection: &mut Connection) -> Result<u16, Error> {
    let replies = connection.request(&request(CONTROLLER, family_request()))?;
    let reply = replies.first().ok_or(DecodeError::Truncated)?;
    Ok(family_identifier(&reply.payload)?)
}

fn refusal(error: impl Into<Error>) -> OpenError {
    let error = error.into();
    let errno = match &error {
        Error::Netlink(error) => error.errno(),
        Error::Decode(_) => None,
    };
    match errno {
        Some(Errno::ENOENT) => OpenError::NotInKernel,
        Some(Errno::EPERM) => OpenError::NotPermitted,
        _ => OpenError::Other(error),
    }
}

fn read_table(kernel: &mut dyn Conversation, family: u16) -> Result<Vec<Entry>, Error> {
    let mut table = Vec::new();
    for reply in kernel.dump(&request(family, Query::Services.encode()))? {
        let Some(FoundService {
            service,
            statistics,
        }) = FoundService::decode(&reply.payload)?
        else {
            continue;
        };
        let destinations = read_destinations(kernel, family, service.key)?;
        // The kernel answers a missing service with no destinations and no error.
        if destinations.is_empty() && !exists(kernel, family, service.key)? {
            continue;
        }
        table.push(Entry {
            service,
            statistics,
            destinations,
        });
    }
    Ok(table)
}

fn read_destinations(
    kernel: &mut dyn Conversation,
    family: u16,
    key: ServiceKey,
) -> Result<Vec<FoundDestination>, Error> {
    kernel
        .dump(&request(family, Query::Destinations(key).encode()))?
        .iter()
        .map(|reply| Ok(FoundDestination::decode(&key, &reply.payload)?))
        .collect()
}

fn exists(kernel: &mut dyn Conversation, family: u16, key: ServiceKey) -> Result<bool, Error> {
    match kernel.request(&request(family, Query::Service(key).encode())) {
        Ok(_) => Ok(true),
        Err(error) if error.errno() == Some(Errno::ESRCH) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// Answers with replies that a kernel was recorded to give.
    struct Recording {
        answers: HashMap<Vec<u8>, Vec<Reply>>,
    }

    impl Recording {
        fn answer(&self, request: &Request) -> Vec<Reply> {
            let answer = self.answers.get(&request.payload);
            answer.cloned().unwrap_or_default()
        }
    }

    impl Conversation for Recording {
        fn request(&mut self, request: &Request) -> Result<Vec<Reply>, netlink::Error> {
            let replies = self.answer(request);
            if replies.is_empty() {
                return Err(kernel(Errno::ESRCH));
            }
            Ok(replies)
        }

        fn dump(&mut self, request: &Request) -> Result<Vec<Reply>, netlink::Error> {
            Ok(self.answer(request))
        }
    }

    fn kernel(errno: Errno) -> netlink::Error {
        netlink::Error::Kernel { errno, text: None }
    }

    fn reply(hexadecimal: &str) -> Reply {
        let payload = (0..hexadecimal.len())
            .step_by(2)
            .map(|place| u8::from_str_radix(&hexadecimal[place..place + 2], 16).unwrap())
            .collect();
        Reply {
            message_type: FAMILY,
            payload,
        }
    }

    const FAMILY: u16 = 0x22;

    /// 192.0.2.100:53/udp, wrr, no counters.
    fn recorded_service() -> Reply {
        reply(concat!(
            "010100002c0101000600010002000000060002001100000014000300c0000264000000000000000000000000",
            "060004000035000008000600777272000c00070002000000ffffffff080008000000000008000900ffffffff",
            "5c000a000800010000000000080002000000000008000300000000000c00040000000000000000000c000500",
            "0000000000000000080006000000000008000700000000000800080000000000080009000000000008000a00",
            "000000007c000c000c00010000000000000000000c00020000000000000000000c0003000000000000000000",
            "0c00040000000000000000000c00050000000000000000000c00060000000000000000000c00070000000000",
            "000000000c00080000000000000000000c00090000000000000000000c000a000000000000000000",
        ))
    }

    #[test]
    fn refusals_say_what_to_do() {
        let missing = refusal(kernel(Errno::ENOENT)).to_string();
        assert!(missing.contains("modprobe ip_vs"), "{missing}");
        assert!(missing.contains("dataplane: none"), "{missing}");
        let forbidden = refusal(kernel(Errno::EPERM)).to_string();
        assert!(forbidden.contains("CAP_NET_ADMIN"), "{forbidden}");
        assert!(matches!(
            refusal(kernel(Errno::EBUSY)),
            OpenError::Other(Error::Netlink(_))
        ));
    }

    #[test]
    fn the_host_has_ipvs_or_says_why_not() {
        match Ipvs::open() {
            Ok(mut ipvs) => assert!(ipvs.information().unwrap().connection_table_size > 0),
            Err(OpenError::NotInKernel | OpenError::NotPermitted) => {}
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn an_empty_service_is_told_from_one_that_vanished() {
        let service = FoundService::decode(&recorded_service().payload)
            .unwrap()
            .unwrap()
            .service;
        let mut vanished = Recording {
            answers: HashMap::from([(Query::Services.encode(), vec![recorded_service()])]),
        };
        assert_eq!(read_table(&mut vanished, FAMILY).unwrap(), []);
        let mut empty = Recording {
            answers: HashMap::from([
                (Query::Services.encode(), vec![recorded_service()]),
                (
                    Query::Service(service.key).encode(),
                    vec![recorded_service()],
                ),
            ]),
        };
        let table = read_table(&mut empty, FAMILY).unwrap();
        assert_eq!(table.len(), 1);
        assert_eq!(table[0].service, service);
        assert!(table[0].destinations.is_empty());
    }
}
