//! The two tables that are compared.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lvs_proto::ipvs::{
    Daemon, Destination, DestinationKey, FoundDestination, Service, ServiceKey, Statistics,
    Timeouts,
};

use crate::config::Program;

/// What the table should be. The kernel's settings that forwarding needs follow from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// By key; a configured service has one entry for each of its virtual services.
    pub services: BTreeMap<ServiceKey, DesiredService>,
    /// When services are there whose address isn't held here.
    pub program: Program,
    /// Whether services that are not in `services` are removed, whoever made them.
    pub exclusive: bool,
    /// How long idle connection entries stay; 0 is left as it is.
    pub timeouts: Timeouts,
    /// Further settings of the kernel that have to be on, by name.
    pub further_settings: BTreeSet<String>,
    /// The synchronization daemon, in the role that is wanted now.
    pub synchronization: Option<Daemon>,
}

/// A service that should be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredService {
    /// The operator's name for it, the same for all of its virtual services.
    pub name: String,
    /// What it should be. Its key is the one it is listed under.
    pub service: Service,
    /// The real servers. Others that the table has are removed once there is a verdict on each of
    /// these.
    pub destinations: BTreeMap<DestinationKey, DesiredDestination>,
    /// Whether its packets come here.
    pub standing: Standing,
}

impl Desired {
    /// Whether nothing of the kernel's IPVS is of interest.
    pub fn is_empty(&self) -> bool {
        let nothing = Self {
            program: self.program,
            ..Self::default()
        };
        *self == nothing
    }
}

/// Whether a service's packets come to this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Its address is held here.
    Held,
    /// Its address is held here until its successor, which may be Active already, has it alone.
    HandingOver,
    /// Another director holds its address, or nobody does.
    NotHeld,
    /// Its address was found here, and it isn't known yet whether another director holds it too:
    /// what was found stays.
    Adopting,
    /// The operator brings the address.
    External,
}

/// A real server of a desired service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DesiredDestination {
    /// What it should be if it is there. Its key is the one it is listed under.
    pub destination: Destination,
    /// Whether it should be there.
    pub presence: Presence,
    /// One that is there keeps its weight: weights count beside each other only, and not all are known
    /// yet.
    pub weight_as_found: bool,
}

/// Whether a real server should be in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It takes traffic.
    Present,
    /// It takes none.
    Absent,
    /// There is no verdict yet: it stays if it is there, and isn't added if it isn't.
    AsFound,
}

/// What the table is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actual {
    /// All services that have a key, whoever made them.
    pub services: BTreeMap<ServiceKey, ActualService>,
    /// The values of those settings of the kernel that forwarding may need, by name; one that this
    /// kernel doesn't have is absent.
    pub settings: Settings,
    /// How long idle connection entries stay.
    pub timeouts: Timeouts,
    /// The synchronization daemons that run: one of each role at most.
    pub daemons: Vec<Daemon>,
    /// The rows of the kernel's hash table of connections.
    pub connection_table_rows: u32,
    /// The addresses of this machine.
    pub local_addresses: BTreeSet<IpAddr>,
}

/// A service that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActualService {
    /// What it is.
    pub service: Service,
    /// What it did.
    pub statistics: Statistics,
    /// Its destinations with their counters.
    pub destinations: BTreeMap<DestinationKey, FoundDestination>,
}

/// Settings of the kernel: a value for each name, as sysctl(8) writes them.
pub type Settings = BTreeMap<String, String>;

/// What this program has put there or adopted, and what was there before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owned {
    /// The services, with the operator's names for them.
    pub services: BTreeMap<ServiceKey, String>,
    /// The values found of those settings that were changed.
    pub settings: Settings,
    /// The time-outs found, where they were changed; 0 where not.
    pub timeouts: Timeouts,
    /// The synchronization daemons.
    pub daemons: Vec<Daemon>,
}
