//! What the agent reads and changes: addresses, dummy interfaces, the main routing table, sysctls, and
//! its own record.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::{Duration, Instant};

use lvs_system::address::{self, AddOutcome, Address, OURS, RemoveOutcome};
use lvs_system::arp::Setting;
use lvs_system::dummy;
use lvs_system::link::{self, DeleteOutcome};
use lvs_system::netlink::{self, Connection, Protocol};
use lvs_system::record::{self, Record};
use lvs_system::route::{self, HostRoute};
use lvs_system::sysctl::{self, Change, Journal};
use serde::{Deserialize, Serialize};

use crate::filter;
use crate::vip::{LOOPBACK, Place, Vip, host_prefix_length};

/// How long the kernel may take to accept packets to an IPv6 address that it has acknowledged.
const IPV6_ROUTE_LIMIT: Duration = Duration::from_secs(1);

/// How long an answer of the packet filters counts: a service looks several times a second, and a program
/// has to be started each time.
const FILTERS_REMEMBERED: Duration = Duration::from_secs(5);

/// What the agent has put on the machine, besides the sysctls of its journal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owned {
    /// VIPs and the interfaces that they are on.
    pub addresses: BTreeSet<Place>,
    /// VIPs with a host route.
    pub routes: BTreeSet<Place>,
    /// Dummy interfaces, by name.
    pub interfaces: BTreeSet<String>,
}

/// One thing of those in [`Owned`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// See [`Owned::addresses`].
    Address(Place),
    /// See [`Owned::routes`].
    Route(Place),
    /// See [`Owned::interfaces`].
    Interface(String),
}

/// An address that is on the machine, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The interface's name.
    pub interface: String,
    /// The address, with all that the kernel says of it.
    pub detail: Address,
}

/// An interface that is on the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    /// What it is to a VIP.
    pub kind: Kind,
    /// Whether it is set up.
    pub up: bool,
}

/// What an interface is to a VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// [`LOOPBACK`].
    Loopback,
    /// A dummy interface.
    Dummy {
        /// Whether it carries the mark of those that the agent makes.
        ours: bool,
    },
    /// Any other, which may lead to a LAN.
    Other,
}

/// Everything outside the agent; the tests have one that only pretends.
pub trait Machine {
    /// All interfaces, by name.
    fn interfaces(&mut self) -> Result<BTreeMap<String, Interface>, Error>;
    /// Makes a dummy interface of this name and sets it up.
    fn make_interface(&mut self, name: &str) -> Result<(), Error>;
    /// Sets an interface up.
    fn raise_interface(&mut self, name: &str) -> Result<(), Error>;
    /// Deletes an interface.
    fn delete_interface(&mut self, name: &str) -> Result<DeleteOutcome, Error>;

    /// The addresses on all interfaces.
    fn addresses(&mut self) -> Result<Vec<Found>, Error>;
    /// Puts a VIP on its interface: one address, its label or none, its own broadcast address.
    fn add_address(&mut self, vip: &Vip) -> Result<AddOutcome, Error>;
    /// Gives a VIP that is there another span of life, see [`Vip::lifetime`].
    fn renew_address(&mut self, vip: &Vip) -> Result<(), Error>;
    /// Takes a VIP from an interface.
    fn remove_address(&mut self, place: &Place) -> Result<RemoveOutcome, Error>;

    /// The places that have a route `ADDRESS dev INTERFACE src ADDRESS` in the main table.
    fn routes(&mut self) -> Result<BTreeSet<Place>, Error>;
    /// Adds that route for a VIP.
    fn add_route(&mut self, place: &Place) -> Result<AddOutcome, Error>;
    /// Removes that route of a VIP.
    fn remove_route(&mut self, place: &Place) -> Result<RemoveOutcome, Error>;

    /// The VIPs that packet filters keep quiet, see [`filter::quiet`].
    fn filtered(&mut self) -> BTreeSet<Ipv4Addr>;
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
    /// Interfaces could not be read or changed.
    #[error(transparent)]
    Link(#[from] link::Error),
    /// A dummy interface could not be made.
    #[error(transparent)]
    Dummy(#[from] dummy::Error),
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

impl Owned {
    /// Whether it wasn't there.
    pub fn insert(&mut self, item: &Item) -> bool {
        match item {
            Item::Address(place) => self.addresses.insert(place.clone()),
            Item::Route(place) => self.routes.insert(place.clone()),
            Item::Interface(name) => self.interfaces.insert(name.clone()),
        }
    }

    /// Whether it was there.
    pub fn remove(&mut self, item: &Item) -> bool {
        match item {
            Item::Address(place) => self.addresses.remove(place),
            Item::Route(place) => self.routes.remove(place),
            Item::Interface(name) => self.interfaces.remove(name),
        }
    }
}

impl Found {
    /// Where it is.
    pub fn place(&self) -> Place {
        Place {
            address: self.detail.address,
            interface: self.interface.clone(),
        }
    }
}

/// The machine that the process runs on, in its network namespace.
#[derive(Debug)]
pub struct Linux {
    connection: Connection,
    journal: Journal,
    owned: Record<Owned>,
    /// What packet filters keep quiet, and when that was asked.
    filtered: Option<(Instant, BTreeSet<Ipv4Addr>)>,
}

impl Linux {
    /// Reads the records in `state_directory`; changes nothing.
    pub fn open(state_directory: &Path) -> Result<Self, Error> {
        Ok(Self {
            connection: Connection::open(Protocol::Route).map_err(Error::Connect)?,
            journal: Journal::open(state_directory)?,
            owned: Record::open(state_directory, OWNED)?,
            filtered: None,
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
            format!("{damage}; VIPs that the kernel shows with the mark `proto {OURS}` are still known, but on kernels before 5.18 none is: look at `ip address show dev {LOOPBACK}`")
        });
        sysctls.into_iter().chain(owned).collect()
    }

    fn index(&mut self, interface: &str) -> Result<u32, Error> {
        Ok(link::find(&mut self.connection, interface)?.index)
    }

    fn address(&mut self, vip: &Vip) -> Result<Address, Error> {
        let broadcast = match vip.address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        };
        Ok(Address {
            label: vip.label.clone(),
            broadcast,
            // The kernel would keep that route of an IPv6 address whose lifetime has passed, and lead packets
            // to nowhere that have to pass through (seen on 6.18).
            no_prefix_route: vip.address.is_ipv6(),
            ..self.bare_address(&vip.place())?
        })
    }

    fn bare_address(&mut self, place: &Place) -> Result<Address, Error> {
        let interface_index = self.index(&place.interface)?;
        let length = host_prefix_length(place.address);
        Ok(Address::new(interface_index, place.address, length))
    }

    fn route(&mut self, place: &Place) -> Result<HostRoute, Error> {
        Ok(HostRoute {
            address: place.address,
            interface_index: self.index(&place.interface)?,
        })
    }

    fn await_route(&mut self, interface_index: u32, address: Ipv6Addr) {
        // The address is there in any case, and the kernel will make its route.
        let _ = address::await_routes(
            &mut self.connection,
            &[(interface_index, address)],
            IPV6_ROUTE_LIMIT,
        );
    }
}

impl Machine for Linux {
    fn interfaces(&mut self) -> Result<BTreeMap<String, Interface>, Error> {
        interfaces(&mut self.connection)
    }

    fn make_interface(&mut self, name: &str) -> Result<(), Error> {
        dummy::make(&mut self.connection, name)?;
        Ok(())
    }

    fn raise_interface(&mut self, name: &str) -> Result<(), Error> {
        let index = self.index(name)?;
        Ok(link::set_up(&mut self.connection, index)?)
    }

    fn delete_interface(&mut self, name: &str) -> Result<DeleteOutcome, Error> {
        match link::find(&mut self.connection, name) {
            Ok(link) => Ok(link::delete(&mut self.connection, link.index)?),
            Err(link::Error::NotFound { .. }) => Ok(DeleteOutcome::WasAbsent),
            Err(error) => Err(error.into()),
        }
    }

    fn addresses(&mut self) -> Result<Vec<Found>, Error> {
        addresses(&mut self.connection)
    }

    fn add_address(&mut self, vip: &Vip) -> Result<AddOutcome, Error> {
        let address = self.address(vip)?;
        let outcome = match vip.lifetime {
            Some(lifetime) => address::add_for(&mut self.connection, &address, lifetime)?,
            None => address::add(&mut self.connection, &address)?,
        };
        if let IpAddr::V6(ipv6) = vip.address {
            self.await_route(address.interface_index, ipv6);
        }
        Ok(outcome)
    }

    fn renew_address(&mut self, vip: &Vip) -> Result<(), Error> {
        let address = self.address(vip)?;
        Ok(address::renew(
            &mut self.connection,
            &address,
            vip.lifetime,
        )?)
    }

    fn remove_address(&mut self, place: &Place) -> Result<RemoveOutcome, Error> {
        match self.bare_address(place) {
            Ok(address) => Ok(address::remove(&mut self.connection, &address)?),
            // Its interface has gone, and the address with it.
            Err(Error::Link(link::Error::NotFound { .. })) => Ok(RemoveOutcome::WasAbsent),
            Err(error) => Err(error),
        }
    }

    fn routes(&mut self) -> Result<BTreeSet<Place>, Error> {
        host_routes(&mut self.connection)
    }

    fn add_route(&mut self, place: &Place) -> Result<AddOutcome, Error> {
        let route = self.route(place)?;
        Ok(route::add_host(&mut self.connection, &route)?)
    }

    fn remove_route(&mut self, place: &Place) -> Result<RemoveOutcome, Error> {
        match self.route(place) {
            Ok(route) => Ok(route::remove_host(&mut self.connection, &route)?),
            Err(Error::Link(link::Error::NotFound { .. })) => Ok(RemoveOutcome::WasAbsent),
            Err(error) => Err(error),
        }
    }

    fn filtered(&mut self) -> BTreeSet<Ipv4Addr> {
        let remembered = self.filtered.take();
        let (asked, quiet) = remembered
            .filter(|(asked, _)| asked.elapsed() < FILTERS_REMEMBERED)
            .unwrap_or_else(|| (Instant::now(), filter::quiet()));
        self.filtered = Some((asked, quiet.clone()));
        quiet
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

/// See [`Machine::interfaces`].
pub(crate) fn interfaces(
    connection: &mut Connection,
) -> Result<BTreeMap<String, Interface>, Error> {
    let dummies: BTreeMap<u32, bool> = dummy::list(connection)?
        .into_iter()
        .map(|dummy| (dummy.link.index, dummy.ours))
        .collect();
    let interface = |link: link::Link| {
        let kind = match dummies.get(&link.index) {
            Some(&ours) => Kind::Dummy { ours },
            None if link.name == LOOPBACK => Kind::Loopback,
            None => Kind::Other,
        };
        (link.name, Interface { kind, up: link.up })
    };
    Ok(link::list(connection)?.into_iter().map(interface).collect())
}

/// See [`Machine::addresses`].
pub(crate) fn addresses(connection: &mut Connection) -> Result<Vec<Found>, Error> {
    let names = names(connection)?;
    let found = |detail: Address| {
        let interface = names.get(&detail.interface_index)?.clone();
        Some(Found { interface, detail })
    };
    let addresses = address::list(connection, None)?;
    Ok(addresses.into_iter().filter_map(found).collect())
}

/// See [`Machine::routes`].
pub(crate) fn host_routes(connection: &mut Connection) -> Result<BTreeSet<Place>, Error> {
    let names = names(connection)?;
    let place = |route: HostRoute| {
        let interface = names.get(&route.interface_index)?.clone();
        Some(Place {
            address: route.address,
            interface,
        })
    };
    let routes = route::list_host(connection)?;
    Ok(routes.into_iter().filter_map(place).collect())
}

/// What the agent has on record in `state_directory`, for a look beside it.
pub(crate) fn recorded(state_directory: &Path) -> Result<Owned, Error> {
    Ok(Record::peek(state_directory, OWNED)?)
}

fn names(connection: &mut Connection) -> Result<BTreeMap<u32, String>, Error> {
    let links = link::list(connection)?;
    Ok(links
        .into_iter()
        .map(|link| (link.index, link.name))
        .collect())
}

/// The record's name.
const OWNED: &str = "owned";

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
        let mut owned = Owned::default();
        owned.insert(&Item::Interface("dns0".into()));
        machine.record(owned).unwrap();
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
