//! A service and its real servers, complete and checked.

use std::fmt;
use std::net::{AddrParseError, IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::str::FromStr;
use std::time::Duration;

use lvs_proto::Family;
use lvs_proto::ipvs::{Forwarding, Persistence, Protocol, Scheduler, ServiceFlags, ServiceKey};

use super::{Check, PoolSettings, Watch};
use crate::config::defaults;

/// What clients ask under one name, spread over real servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name in logs, metrics and commands.
    pub name: String,
    /// What it is in the kernel: 1 to 4096, with different keys.
    pub virtual_services: Vec<VirtualService>,
    /// What its checks speak for, each once: at least one where there is a check. Without checks what
    /// the file lists.
    pub protocols: Vec<Protocol>,
    /// How a real server is picked.
    pub scheduler: Scheduler,
    /// The scheduler's switches; those of `sh` and `mh` only.
    pub scheduler_flags: ServiceFlags,
    /// Whether a client stays with its real server.
    pub persistence: Option<PersistenceSettings>,
    /// Whether every UDP packet is scheduled by itself.
    pub one_packet_scheduling: OnePacketScheduling,
    /// How real servers are probed: all checks that speak for a protocol must pass for it. Where none
    /// does, servers are always in.
    pub checks: Vec<Check>,
    /// At least one for every virtual service, with different keys.
    pub real_servers: Vec<RealServer>,
    /// How these stand for each other.
    pub pool: PoolSettings,
    /// What is watched of the DNS data that these have.
    pub watch: Option<Watch>,
}

/// A part of a service that the kernel has by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualService {
    /// What is scheduled.
    pub key: ServiceKey,
    /// Who brings the address to this node.
    pub holder: Holder,
}

/// Which UDP packets IPVS is to schedule by themselves rather than with their flow
/// (`IP_VS_SVC_F_ONEPACKET`, `include/uapi/linux/ip_vs.h`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnePacketScheduling {
    /// Those to port 53: what holds where the file says nothing.
    #[default]
    ByPort,
    /// All of them.
    On,
    /// None.
    Off,
}

/// A client, or a network of clients, stays with its real server beyond one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PersistenceSettings {
    /// How long after the last connection: whole seconds, at least one.
    pub timeout: Duration,
    /// How many bits of an IPv4 client's address count: 1 to 32.
    pub ipv4_prefix_length: u8,
    /// How many bits of an IPv6 client's address count: 1 to 128.
    pub ipv6_prefix_length: u8,
}

/// Who brings a service's address to this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The instance of this name, while it is Active.
    Instance(String),
    /// The operator, always.
    External,
}

/// A server behind a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RealServer {
    /// Which one it is.
    pub key: RealServerKey,
    /// Its share relative to the others'; 0 takes no new flows.
    pub weight: u16,
    /// How packets reach it.
    pub forwarding: Forwarding,
    /// Connections at which it gets no new ones; 0 for no limit.
    pub upper_threshold: u32,
    /// Connections below which it gets new ones again; not above the upper one.
    pub lower_threshold: u32,
}

/// What makes a real server the one it is, within its service.
///
/// Written `192.0.2.11`, and `192.0.2.11:5353` where it has a port of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RealServerKey {
    /// Its own address (RIP).
    pub address: IpAddr,
    /// The port that it has behind masquerading, where that isn't the service's.
    pub port: Option<NonZeroU16>,
}

impl OnePacketScheduling {
    /// Whether it is asked for; see [`Service::has_one_packet_scheduling`].
    pub(crate) fn asks_for(self, key: &ServiceKey) -> bool {
        let by_port = |port| port == defaults::DNS_PORT;
        match (self, key) {
            (Self::Off, _) => false,
            (Self::On, ServiceKey::FirewallMark { .. }) => true,
            (Self::ByPort, ServiceKey::FirewallMark { .. }) => false,
            (_, ServiceKey::Socket { port, protocol, .. }) => {
                *protocol == Protocol::Udp && (self == Self::On || by_port(*port))
            }
        }
    }
}

impl Service {
    /// The real servers of those of its virtual services that are of a family: the servers of that
    /// family, and those of the other one that a tunnel reaches, where nothing of the service is of
    /// the other one or nobody else would be left.
    pub fn real_servers_of(&self, family: Family) -> impl Iterator<Item = &RealServer> {
        self.among(&self.real_servers, family)
    }

    /// The families of its virtual services.
    pub fn families(&self) -> impl Iterator<Item = Family> {
        let of = |family| move |one: &VirtualService| one.key.family() == family;
        [Family::Ipv4, Family::Ipv6]
            .into_iter()
            .filter(move |family| self.virtual_services.iter().any(of(*family)))
    }

    /// The server that is there for those of its virtual services that are of a family while they have
    /// nobody else.
    pub fn sorry_server_of(&self, family: Family) -> Option<&RealServer> {
        self.among(&self.pool.sorry_servers, family).next()
    }

    fn among<'s>(
        &'s self,
        servers: &'s [RealServer],
        family: Family,
    ) -> impl Iterator<Item = &'s RealServer> {
        let of_family = move |server: &RealServer| Family::of(server.key.address) == family;
        let of_other = move |one: &VirtualService| one.key.family() != family;
        // Looked at for tunnels of the other family only: there may be many virtual services.
        let crossing =
            move || !self.virtual_services.iter().any(of_other) || !servers.iter().any(of_family);
        servers.iter().filter(move |server| {
            of_family(server) || matches!(server.forwarding, Forwarding::Tunnel(_)) && crossing()
        })
    }

    /// Whether every UDP packet of one of its virtual services is scheduled by itself. Never where a
    /// real server is masqueraded: its answers need the entry of their flow to get the service's
    /// address back (`handle_response`, `net/netfilter/ipvs/ip_vs_core.c`).
    pub fn has_one_packet_scheduling(&self, key: &ServiceKey) -> bool {
        let masqueraded = |server: &RealServer| server.forwarding == Forwarding::Masquerading;
        self.one_packet_scheduling.asks_for(key)
            && !self.real_servers_of(key.family()).any(masqueraded)
    }

    /// The port on which a check probes a real server: the check's, else the server's own, else the
    /// service's first.
    pub fn probed_port(&self, check: &Check, server: &RealServer) -> Option<NonZeroU16> {
        check.port.or(server.key.port).or_else(|| {
            self.virtual_services.iter().find_map(|one| match one.key {
                ServiceKey::Socket { port, .. } => NonZeroU16::new(port),
                ServiceKey::FirewallMark { .. } => None,
            })
        })
    }

    /// The port on which a real server is asked for what is watched: its own, else the service's first,
    /// else DNS's.
    pub fn watched_port(&self, server: &RealServer) -> NonZeroU16 {
        let first = self.virtual_services.iter().find_map(|one| match one.key {
            ServiceKey::Socket { port, .. } => NonZeroU16::new(port),
            ServiceKey::FirewallMark { .. } => None,
        });
        server.key.port.or(first).unwrap_or(defaults::WATCHED_PORT)
    }

    /// The names of the instances that hold its addresses.
    pub fn instances(&self) -> impl Iterator<Item = &str> {
        self.virtual_services
            .iter()
            .filter_map(|one| match &one.holder {
                Holder::Instance(name) => Some(name.as_str()),
                Holder::External => None,
            })
    }
}

impl PersistenceSettings {
    /// What it is for packets of a family.
    pub fn of(&self, family: Family) -> Persistence {
        Persistence {
            timeout: self.timeout,
            prefix_length: match family {
                Family::Ipv4 => self.ipv4_prefix_length,
                Family::Ipv6 => self.ipv6_prefix_length,
            },
        }
    }
}

impl FromStr for RealServerKey {
    type Err = AddrParseError;

    /// As it displays.
    fn from_str(text: &str) -> Result<Self, AddrParseError> {
        let with_port = text.parse::<SocketAddr>().ok();
        let with_port = with_port.and_then(|it| Some((it.ip(), NonZeroU16::new(it.port())?)));
        Ok(match with_port {
            Some((address, port)) => Self {
                address,
                port: Some(port),
            },
            None => Self {
                address: text.parse()?,
                port: None,
            },
        })
    }
}

impl fmt::Display for RealServerKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.address, port.get()).fmt(formatter),
            None => self.address.fmt(formatter),
        }
    }
}
