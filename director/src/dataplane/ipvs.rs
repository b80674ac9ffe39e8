//! The kernel's IPVS as a [`Plane`].

use std::path::Path;

use lvs_proto::ipvs::Command;
use lvs_system::ipvs::{Entry, Ipvs, OpenError};
use lvs_system::netlink;
use lvs_system::sysctl::{self, Journal};
use tracing::warn;

use super::Change;
use super::reconcile::{Plane, PlaneError};
use super::table::{Actual, ActualService};

/// The IPVS table of the network namespace of the thread that opened it, and the settings that it
/// needs.
#[derive(Debug)]
pub struct IpvsPlane {
    ipvs: Ipvs,
    journal: Journal,
}

/// Why the plane can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenPlaneError {
    /// The kernel has no IPVS, or it is out of reach.
    #[error(transparent)]
    Ipvs(#[from] OpenError),
    /// The record of the settings found can't be read.
    #[error(transparent)]
    Journal(#[from] sysctl::Error),
}

/// Without it, packets of flows to a removed server vanish until the flow's entry times out.
const EXPIRE_NODEST_CONN: &str = "net.ipv4.vs.expire_nodest_conn";

impl IpvsPlane {
    /// Opens the table and changes nothing yet. The settings found are kept in `directory`, which
    /// no other journal may use.
    pub fn open(directory: &Path) -> Result<Self, OpenPlaneError> {
        let ipvs = Ipvs::open()?;
        let journal = Journal::open(directory)?;
        if let Some(damage) = journal.damage() {
            warn!(
                "{damage}; the value of {EXPIRE_NODEST_CONN} as it is now counts as the one found"
            );
        }
        Ok(Self { ipvs, journal })
    }
}

impl Plane for IpvsPlane {
    fn prepare(&mut self) -> Result<(), PlaneError> {
        self.journal.set(EXPIRE_NODEST_CONN, "1")?;
        Ok(())
    }

    fn read(&mut self) -> Result<Actual, PlaneError> {
        let services = self.ipvs.table()?.into_iter().map(|entry| {
            let Entry {
                service,
                statistics,
                destinations,
            } = entry;
            let destinations = destinations.into_iter();
            let found = ActualService {
                service,
                statistics,
                destinations: destinations.map(|one| (one.destination.key, one)).collect(),
            };
            (service.key, found)
        });
        Ok(Actual {
            services: services.collect(),
        })
    }

    fn apply(&mut self, changes: &[Change]) -> Vec<Result<(), netlink::Error>> {
        let commands: Vec<Command> = changes.iter().map(Change::command).collect();
        self.ipvs.apply(&commands)
    }

    fn release(&mut self) -> Result<(), PlaneError> {
        Ok(self.journal.restore()?)
    }
}
