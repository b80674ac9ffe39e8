//! What the agent reads and changes: `lo`, the main routing table, sysctls, and its own record.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use lvs_system::address::{self, AddOutcome, Address, OURS, RemoveOutcome};
use lvs_system::arp::Setting;
use lvs_system::link;
use lvs_system::netlink::{self, Connection, Protocol};
use lvs_system::record::{self, Record};
use lvs_system::route::{self, HostRoute};
use lvs_system::sysctl::{self, Change, Journal};
use serde::{Deserialize, Serialize};

/// The interface that carries the VIPs.
pub const INTERFACE: &str = "lo";

/// What the agent has put on the machine, besides the sysctls of its journal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owned {
    /// VIPs on [`INTERFACE`].
    pub addresses: BTreeSet<Ipv4Addr>,
    /// VIPs with a host route.
    pub routes: BTreeSet<Ipv4Addr>,
}

/// Everything outside the agent; the tests have one that only pretends.
pub trait Machine {
    /// The addresses on [`INTERFACE`].
    fn addresses(&mut self) -> Result<Vec<Address>, Error>;
    /// Puts a VIP on [`INTERFACE`]: `/32`, labelled, its own broadcast address.
    fn add_address(&mut self, vip: Ipv4Addr, label: &str) -> Result<AddOutcome, Error>;
    /// Takes a VIP from [`INTERFACE`].
    fn remove_address(&mut self, vip: Ipv4Addr) -> Result<RemoveOutcome, Error>;

    /// The addresses that have a route `ADDRESS dev lo src ADDRESS` in the main table.
    fn routes(&mut self) -> Result<BTreeSet<Ipv4Addr>, Error>;
    /// Adds that route for a VIP.
    fn add_route(&mut self, vip: Ipv4Addr) -> Result<AddOutcome, Error>;
    /// Removes that route of a VIP.
    fn remove_route(&mut self, vip: Ipv4Addr) -> Result<RemoveOutcome, Error>;

    /// See [`Setting::values`].
    fn values(&mut self, setting: &Setting) -> Result<BTreeMap<String, i32>, Error>;
    /// See [`Journal::set`].
    fn set_sysctl(&mut self, name: &str, value: &str) -> Result<Option<Change>, Error>;
    /// See [`Journal::undo`].
    fn undo_sysctl(&mut self, change: &Change) -> Result<(), Error>;
    /// See [`Journal::restore`].
    fn restore_sysctls(&mut self) -> Result<(), Error>;

    /// The record of what is the agent's.
    fn owned(&self) -> &Owned;
    /// Replaces the record.
    fn record(&mut self, owned: Owned) -> Result<(), Error>;
}

/// Why the machine could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The process lacks the right to change the network.
    #[error(
        "rs-agent needs the capability CAP_NET_ADMIN to change addresses, routes and sysctls: run it as root, or give it that capability"
    )]
    NotPermitted,
    /// No netlink socket.
    #[error("cannot open a netlink socket: {0}")]
    Connect(netlink::Error),
    /// [`INTERFACE`] could not be read.
    #[error(transparent)]
    Link(#[from] link::Error),
    /// Addresses could not be read or changed.
    #[error(transparent)]
    Address(#[from] address::Error),
    /// Routes could not be read or changed.
    #[error(transparent)]
    Route(#[from] route::Error),
    /// Sysctls could not be read or changed.
    #[error(transparent)]
    Sysctl(#[from] sysctl::Error),
    /// The record could not be read or kept.
    #[error(transparent)]
    Record(#[from] record::Error),
}

/// Asks the kernel whether this process may change the network at all.
///
/// # Errors
/// [`Error::NotPermitted`] without `CAP_NET_ADMIN`.
pub fn check_rights() -> Result<(), Error> {
    let mut connection = Connection::open(Protocol::Route).map_err(Error::Connect)?;
    if address::may_change(&mut connection)? {
        Ok(())
    } else {
        Err(Error::NotPermitted)
    }
}

/// The machine that the process runs on, in its network namespace.
#[derive(Debug)]
pub struct Linux {
    connection: Connection,
    interface_index: u32,
    journal: Journal,
    owned: Record<Owned>,
}

impl Linux {
    /// Reads the records in `state_directory`; changes nothing.
    pub fn open(state_directory: &Path) -> Result<Self, Error> {
        let mut connection = Connection::open(Protocol::Route).map_err(Error::Connect)?;
        Ok(Self {
            interface_index: link::find(&mut connection, INTERFACE)?.index,
            connection,
            journal: Journal::open(state_directory)?,
            owned: Record::open(state_directory, "owned")?,
        })
    }

    /// What [`Self::open`] found damaged, and what is lost by it, for a person to read.
    ///
    /// The agent goes on without a damaged record: what it would do with one that is gone is the
    /// next best, and a `stop` that refuses would leave the VIP as well.
    pub fn warnings(&self) -> Vec<String> {
        let sysctls = self.journal.damage().map(|damage| {
            format!("{damage}; the sysctls recorded there will not be restored, see the file for the values found before the first start")
        });
        let owned = self.owned.damage().map(|damage| {
            format!("{damage}; VIPs that the kernel shows with the mark `proto {OURS}` are still known, but on kernels before 5.18 none is: look at `ip address show dev {INTERFACE}`")
        });
        sysctls.into_iter().chain(owned).collect()
    }

    fn address(&self, vip: Ipv4Addr) -> Address {
        Address::new(self.interface_index, vip.into(), 32)
    }

    fn route(&self, vip: Ipv4Addr) -> HostRoute {
        HostRoute {
            address: vip.into(),
            interface_index: self.interface_index,
        }
    }
}

impl Machine for Linux {
    fn addresses(&mut self) -> Result<Vec<Address>, Error> {
        Ok(address::list(
            &mut self.connection,
            Some(self.interface_index),
        )?)
    }

    fn add_address(&mut self, vip: Ipv4Addr, label: &str) -> Result<AddOutcome, Error> {
        let address = Address {
            label: Some(label.into()),
            broadcast: Some(vip),
            ..self.address(vip)
        };
        Ok(address::add(&mut self.connection, &address)?)
    }

    fn remove_address(&mut self, vip: Ipv4Addr) -> Result<RemoveOutcome, Error> {
        let address = self.address(vip);
        Ok(address::remove(&mut self.connection, &address)?)
    }

    fn routes(&mut self) -> Result<BTreeSet<Ipv4Addr>, Error> {
        let routes = route::list_host(&mut self.connection)?;
        Ok(routes
            .into_iter()
            .filter(|route| route.interface_index == self.interface_index)
            .filter_map(|route| match route.address {
                IpAddr::V4(address) => Some(address),
                IpAddr::V6(_) => None,
            })
            .collect())
    }

    fn add_route(&mut self, vip: Ipv4Addr) -> Result<AddOutcome, Error> {
        let route = self.route(vip);
        Ok(route::add_host(&mut self.connection, &route)?)
    }

    fn remove_route(&mut self, vip: Ipv4Addr) -> Result<RemoveOutcome, Error> {
        let route = self.route(vip);
        Ok(route::remove_host(&mut self.connection, &route)?)
    }

    fn values(&mut self, setting: &Setting) -> Result<BTreeMap<String, i32>, Error> {
        Ok(setting.values()?)
    }

    fn set_sysctl(&mut self, name: &str, value: &str) -> Result<Option<Change>, Error> {
        Ok(self.journal.set(name, value)?)
    }

    fn undo_sysctl(&mut self, change: &Change) -> Result<(), Error> {
        Ok(self.journal.undo(change)?)
    }

    fn restore_sysctls(&mut self) -> Result<(), Error> {
        Ok(self.journal.restore()?)
    }

    fn owned(&self) -> &Owned {
        self.owned.contents()
    }

    fn record(&mut self, owned: Owned) -> Result<(), Error> {
        Ok(self.owned.update(|contents| *contents = owned)?)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn damaged_records_are_warned_of_and_hinder_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let mut machine = Linux::open(directory.path()).unwrap();
        assert!(machine.warnings().is_empty());
        let routes = [Ipv4Addr::new(192, 168, 56, 185)].into();
        let addresses = BTreeSet::new();
        machine.record(Owned { addresses, routes }).unwrap();
        let entry = fs::read_dir(directory.path()).unwrap().next().unwrap();
        let owned = entry.unwrap().path();
        let sysctls = owned.display().to_string().replace("owned-", "sysctls-");
        for path in [owned.as_path(), Path::new(&sysctls)] {
            fs::write(path, "{").unwrap();
        }
        let machine = Linux::open(directory.path()).unwrap();
        assert_eq!(machine.owned(), &Owned::default());
        let warnings = machine.warnings();
        assert_eq!(warnings.len(), 2);
        assert!(warnings[0].starts_with(&sysctls), "{warnings:?}");
        assert!(warnings[0].contains("will not be restored"), "{warnings:?}");
        assert!(
            warnings[1].contains("ip address show dev lo"),
            "{warnings:?}"
        );
        let machine = Linux::open(directory.path()).unwrap();
        assert!(machine.warnings().is_empty());
    }
}
