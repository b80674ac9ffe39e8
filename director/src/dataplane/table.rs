//! The two tables that are compared.

use std::collections::BTreeMap;

use lvs_proto::ipvs::{
    Destination, DestinationKey, FoundDestination, Service, ServiceKey, Statistics,
};

/// What the table should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// By key; a configured service has one entry for each of its protocols.
    pub services: BTreeMap<ServiceKey, DesiredService>,
}

/// A service that should be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredService {
    /// The operator's name for it, the same for all of its protocols.
    pub name: String,
    /// What it should be. Its key is the one it is listed under.
    pub service: Service,
    /// The real servers. Others that the table has are removed once there is a verdict on each of
    /// these.
    pub destinations: BTreeMap<DestinationKey, DesiredDestination>,
}

/// A real server of a desired service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DesiredDestination {
    /// What it should be if it is there. Its key is the one it is listed under.
    pub destination: Destination,
    /// Whether it should be there.
    pub presence: Presence,
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

/// The services that this program made or adopted, with the operator's names for them.
pub type Owned = BTreeMap<ServiceKey, String>;
