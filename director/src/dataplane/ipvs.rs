//! The kernel's IPVS as a [`Plane`].

use std::collections::BTreeSet;
use std::path::Path;

use lvs_proto::ipvs::Command;
use lvs_system::address;
use lvs_system::ipvs::{Entry, Ipvs, OpenError};
use lvs_system::netlink::{self, Connection, Protocol};
use lvs_system::sysctl::{self, Journal};
use tracing::warn;

use super::change::Change;
use super::reconcile::{ApplyError, Plane, PlaneError};
use super::table::{Actual, ActualService, Settings};

/// The IPVS table of the network namespace of the thread that opened it, and the settings that it
/// needs.
#[derive(Debug)]
pub struct IpvsPlane {
    kernel: Kernel,
    journal: Journal,
}

/// The kernel alone, without the memory of what it was like.
#[derive(Debug)]
pub(super) struct Kernel {
    ipvs: Ipvs,
    addresses: Connection,
    /// Fixed while the module is loaded.
    connection_table_rows: u32,
}

/// Why the plane can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenPlaneError {
    /// The kernel has no IPVS, or it is out of reach.
    #[error(transparent)]
    Ipvs(#[from] OpenError),
    /// The kernel doesn't say what it is.
    #[error("cannot read what IPVS says of itself: {0}")]
    Information(#[source] lvs_system::ipvs::Error),
    /// The addresses of this machine can't be read.
    #[error("cannot read the addresses of this machine: {0}")]
    Addresses(#[source] netlink::Error),
    /// The record of the settings found can't be read.
    #[error(transparent)]
    Journal(#[from] sysctl::Error),
}

impl IpvsPlane {
    /// Opens the table and changes nothing yet. The settings found are kept in `directory`, which
    /// no other journal may use.
    pub fn open(directory: &Path) -> Result<Self, OpenPlaneError> {
        let kernel = Kernel::open()?;
        let journal = Journal::open(directory)?;
        if let Some(damage) = journal.damage() {
            warn!("{damage}; the settings of IPVS as they are now count as those found");
        }
        Ok(Self { kernel, journal })
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), sysctl::Error> {
        if self.journal.originals().get(name).map(String::as_str) == Some(value) {
            return self.journal.put_back(name);
        }
        self.journal.set(name, value)?;
        Ok(())
    }
}

impl Kernel {
    pub(super) fn open() -> Result<Self, OpenPlaneError> {
        let mut ipvs = Ipvs::open()?;
        let information = ipvs.information().map_err(OpenPlaneError::Information)?;
        Ok(Self {
            ipvs,
            connection_table_rows: information.connection_table_size,
            addresses: Connection::open(Protocol::Route).map_err(OpenPlaneError::Addresses)?,
        })
    }

    /// Makes those of `changes` that are requests; one result for each of them.
    pub(super) fn apply(&mut self, changes: &[Change]) -> Vec<Result<(), netlink::Error>> {
        let commands: Vec<Command> = changes.iter().filter_map(Change::command).collect();
        self.ipvs.apply(&commands)
    }

    /// Reads the table, and those settings that there are.
    pub(super) fn read(&mut self, names: &BTreeSet<String>) -> Result<Actual, PlaneError> {
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
        let services = services.collect();
        let mut settings = Settings::new();
        for name in names {
            match sysctl::read(name) {
                Ok(value) => _ = settings.insert(name.clone(), value),
                Err(error) if error.is_absence() => {}
                Err(error) => return Err(error.into()),
            }
        }
        let addresses = address::list(&mut self.addresses, None)?;
        Ok(Actual {
            services,
            settings,
            timeouts: self.ipvs.timeouts()?,
            daemons: self.ipvs.daemons()?,
            connection_table_rows: self.connection_table_rows,
            local_addresses: addresses.into_iter().map(|one| one.address).collect(),
        })
    }
}

impl Plane for IpvsPlane {
    fn read(&mut self, settings: &BTreeSet<String>) -> Result<Actual, PlaneError> {
        self.kernel.read(settings)
    }

    fn apply(&mut self, changes: &[Change]) -> Vec<Result<(), ApplyError>> {
        let mut results = Vec::with_capacity(changes.len());
        let of_files = |change: &Change| matches!(change, Change::Setting { .. });
        for run in changes.chunk_by(|one, other| of_files(one) == of_files(other)) {
            let answers = self.kernel.apply(run).into_iter();
            results.extend(answers.map(|answer| Ok(answer?)));
            for change in run {
                if let Change::Setting { name, to, .. } = change {
                    results.push(self.set(name, to).map_err(ApplyError::from));
                }
            }
        }
        results
    }

    fn found_settings(&self) -> &Settings {
        self.journal.originals()
    }

    fn forget_setting(&mut self, name: &str) -> Result<(), PlaneError> {
        Ok(self.journal.forget(name)?)
    }
}
