//! What the daemon works with: one node's configuration, complete and checked.

mod ipvs;
mod pool;
mod service;
mod tracking;
mod vrrp;

use std::net::SocketAddr;

pub use ipvs::{Ipvs, Program, Synchronization};
pub use lvs_health::check::{Check, CheckKind, DnsCheck, ExecCheck, HttpCheck, Probing, UdpCheck};
pub use lvs_health::watched::{DnssecWatch, Watch, ZoneWatch};
pub use pool::PoolSettings;
pub use service::{
    Holder, OnePacketScheduling, PersistenceSettings, RealServer, RealServerKey, Service,
    VirtualService,
};
pub use tracking::{Effect, Hook, HookState, Track, TrackedFile, TrackedScript};
pub use vrrp::{AddressScope, Instance, VersionSettings, VirtualAddress};

/// The configuration of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// Virtual routers, with different names and no VIP in common.
    pub instances: Vec<Instance>,
    /// Services, with different names and no virtual service in common.
    pub services: Vec<Service>,
    /// Where metrics are served, if at all.
    pub metrics: Option<Metrics>,
    /// What forwards packets.
    pub dataplane: Dataplane,
    /// How the kernel's IPVS is used.
    pub ipvs: Ipvs,
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
