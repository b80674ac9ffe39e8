//! How the kernel's IPVS is used, beside the services.

use lvs_proto::ipvs::{Daemon, DaemonRole, Timeouts};

/// Settings of the whole table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ipvs {
    /// When virtual services are in the kernel.
    pub program: Program,
    /// Whether services that aren't configured are removed, whoever made them.
    pub exclusive: bool,
    /// How long idle connection entries stay; 0 is left as it is.
    pub timeouts: Timeouts,
    /// What tells the peer of connections, if anything does.
    pub synchronization: Option<Synchronization>,
}

/// When virtual services are in the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Program {
    /// Always: a Backup is warm.
    #[default]
    Always,
    /// While their address is held here.
    WhenActive,
}

/// The synchronization daemon that follows a virtual router: it tells while the router is Active
/// and listens otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synchronization {
    /// The virtual router's name.
    pub instance: String,
    /// The daemon; its role is the virtual router's.
    pub daemon: Daemon,
}

impl Synchronization {
    /// The daemon in that role.
    pub fn daemon_in(&self, role: DaemonRole) -> Daemon {
        Daemon {
            role,
            ..self.daemon.clone()
        }
    }
}
