//! What the daemon works with: one node's configuration, complete and checked.

mod tracking;
mod vrrp;

use std::net::{Ipv4Addr, SocketAddr};
use std::num::{NonZeroU8, NonZeroU16};
use std::time::Duration;

use lvs_proto::dns::{Name, RecordType};
use lvs_proto::ipvs::{Forwarding, Protocol, Scheduler};

pub use tracking::{Effect, Hook, HookState, Track, TrackedFile, TrackedScript};
pub use vrrp::{AddressScope, Instance, VersionSettings, VirtualAddress};

/// The configuration of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// Virtual routers, with different names and no VIP in common.
    pub instances: Vec<Instance>,
    /// Virtual services, with different names and no address, port and protocol in common.
    pub services: Vec<Service>,
    /// Where metrics are served, if at all.
    pub metrics: Option<Metrics>,
    /// What forwards packets.
    pub dataplane: Dataplane,
    /// Who may ask and command the daemon.
    pub control: Control,
}

/// The socket that answers questions and takes commands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// The group whose members may use it beside root; root's own when absent.
    pub group: Option<String>,
}

/// What forwards packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dataplane {
    /// The kernel's IPVS.
    Ipvs,
    /// Nothing: VRRP, VIPs, probes and metrics only.
    None,
}

/// Where Prometheus finds the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// The address and TCP port to listen on.
    pub listen: SocketAddr,
}

/// A virtual service: an address, a port and protocols, spread over real servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name in logs, metrics and commands.
    pub name: String,
    /// A VIP of the holder.
    pub address: Ipv4Addr,
    /// The port, of the real servers too.
    pub port: NonZeroU16,
    /// At least one, each once.
    pub protocols: Vec<Protocol>,
    /// How a real server is picked.
    pub scheduler: Scheduler,
    /// How packets reach the real servers: by direct routing in this version.
    pub forwarding: Forwarding,
    /// Whether every UDP packet is scheduled by itself.
    pub one_packet_scheduling: OnePacketScheduling,
    /// How real servers are probed; without a check they are always in.
    pub check: Option<Check>,
    /// At least one, with different addresses.
    pub real_servers: Vec<RealServer>,
    /// Who brings the address to this node.
    pub holder: Holder,
}

/// Whether IPVS schedules every UDP packet by itself rather than every flow
/// (`IP_VS_SVC_F_ONEPACKET`, `include/uapi/linux/ip_vs.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnePacketScheduling {
    /// In force for the service's UDP half.
    pub enabled: bool,
    /// The file says so, rather than the default.
    pub configured: bool,
}

/// Who brings a service's address to this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The instance of this name, while it is Active.
    Instance(String),
    /// The operator, always.
    External,
}

/// How the real servers of a service are probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What is asked.
    pub probe: Probe,
    /// Between the starts of two probes of one server: 10 ms to 1 h.
    pub interval: Duration,
    /// How long an answer may take: 1 ms to the interval.
    pub timeout: Duration,
    /// Good probes in a row that bring a server in.
    pub rise: NonZeroU8,
    /// Bad probes in a row that take a server out.
    pub fall: NonZeroU8,
}

/// What a probe asks a real server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A DNS query.
    Dns {
        /// The name to ask for.
        name: Name,
        /// The type to ask for.
        record_type: RecordType,
    },
}

/// A server behind a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RealServer {
    /// Its own address (RIP).
    pub address: Ipv4Addr,
    /// Its share relative to the others'; 0 takes no new flows.
    pub weight: u16,
}
