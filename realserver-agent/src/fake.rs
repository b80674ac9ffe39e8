//! A machine for tests: it pretends, counts its changes, and fails when it is told to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use lvs_system::address::{AddOutcome, Address, OURS, RemoveOutcome};
use lvs_system::arp::Setting;
use lvs_system::link::DeleteOutcome;
use lvs_system::sysctl::{self, Change};

use crate::machine::{Error, Found, Interface, Kind, Machine, Owned};
use crate::vip::{LOOPBACK, Place, Vip, host_prefix_length};

pub(crate) const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 56, 185));
pub(crate) const VIP_2: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 56, 186));

pub(crate) fn vip(address: IpAddr) -> Vip {
    Vip::on_loopback(address)
}

pub(crate) fn place(address: IpAddr) -> Place {
    vip(address).place()
}

#[derive(Clone, Debug)]
pub(crate) struct Fake {
    pub(crate) sysctls: BTreeMap<String, String>,
    pub(crate) interfaces: BTreeMap<String, Interface>,
    pub(crate) addresses: Vec<Found>,
    pub(crate) routes: BTreeSet<Place>,
    pub(crate) filtered: BTreeSet<Ipv4Addr>,
    pub(crate) originals: BTreeMap<String, String>,
    pub(crate) owned: Owned,
    /// What was changed, in order.
    pub(crate) changes: Vec<String>,
    /// The changes that fail, counted from 0 over the machine's life.
    pub(crate) failing: BTreeSet<usize>,
    attempts: usize,
}

/// All that a user could see, without the agent's own records.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct State {
    sysctls: BTreeMap<String, String>,
    interfaces: BTreeMap<String, Interface>,
    addresses: Vec<Found>,
    routes: BTreeSet<Place>,
}

impl Default for Fake {
    fn default() -> Self {
        let kinds = [(LOOPBACK, Kind::Loopback), ("eth0", Kind::Other)];
        let interface = |(name, kind): (&str, _)| (name.into(), Interface { kind, up: true });
        Self {
            sysctls: BTreeMap::new(),
            interfaces: kinds.into_iter().map(interface).collect(),
            addresses: Vec::new(),
            routes: BTreeSet::new(),
            filtered: BTreeSet::new(),
            originals: BTreeMap::new(),
            owned: Owned::default(),
            changes: Vec::new(),
            failing: BTreeSet::new(),
            attempts: 0,
        }
    }
}

impl Fake {
    pub(crate) fn set(&mut self, name: &str, value: i32) {
        self.sysctls
            .insert(format!("net.ipv4.conf.{name}"), value.to_string());
    }

    /// An address on `lo`.
    pub(crate) fn put(&mut self, vip: IpAddr, prefix_length: u8, label: &str, protocol: u8) {
        self.put_on(
            LOOPBACK,
            Address {
                label: Some(label.into()),
                protocol,
                ..Address::new(1, vip, prefix_length)
            },
        );
    }

    pub(crate) fn put_on(&mut self, interface: &str, detail: Address) {
        let interface = interface.into();
        self.addresses.push(Found { interface, detail });
    }

    /// As `ip address flush` does: the routes go with their source.
    pub(crate) fn flush(&mut self) {
        self.addresses.clear();
        self.routes.clear();
    }

    pub(crate) fn state(&self) -> State {
        State {
            sysctls: self.sysctls.clone(),
            interfaces: self.interfaces.clone(),
            addresses: self.addresses.clone(),
            routes: self.routes.clone(),
        }
    }

    /// How many changes were tried.
    pub(crate) fn attempts(&self) -> usize {
        self.attempts
    }

    fn change(&mut self, what: String) -> Result<(), Error> {
        let attempt = self.attempts;
        self.attempts += 1;
        if self.failing.contains(&attempt) {
            return Err(sysctl::Error::Name { name: what }.into());
        }
        self.changes.push(what);
        Ok(())
    }

    fn value(&self, name: &str) -> String {
        self.sysctls
            .get(name)
            .cloned()
            .unwrap_or_else(|| "0".into())
    }
}

impl Machine for Fake {
    fn interfaces(&mut self) -> Result<BTreeMap<String, Interface>, Error> {
        Ok(self.interfaces.clone())
    }

    fn make_interface(&mut self, name: &str) -> Result<(), Error> {
        self.change(format!("make {name}"))?;
        let kind = Kind::Dummy { ours: true };
        let interface = Interface { kind, up: true };
        self.interfaces.insert(name.into(), interface);
        Ok(())
    }

    fn raise_interface(&mut self, name: &str) -> Result<(), Error> {
        self.change(format!("raise {name}"))?;
        let interface = self.interfaces.get_mut(name);
        interface.expect("it is there").up = true;
        Ok(())
    }

    fn delete_interface(&mut self, name: &str) -> Result<DeleteOutcome, Error> {
        self.change(format!("delete {name}"))?;
        self.addresses.retain(|found| found.interface != name);
        self.routes.retain(|place| place.interface != name);
        Ok(match self.interfaces.remove(name) {
            Some(_) => DeleteOutcome::Deleted,
            None => DeleteOutcome::WasAbsent,
        })
    }

    fn addresses(&mut self) -> Result<Vec<Found>, Error> {
        Ok(self.addresses.clone())
    }

    fn add_address(&mut self, vip: &Vip) -> Result<AddOutcome, Error> {
        let label = vip.label.as_deref().map(|label| format!(" {label}"));
        let label = label.unwrap_or_default();
        self.change(format!("add {}{label}", shown(&vip.place())))?;
        if self
            .addresses
            .iter()
            .any(|found| found.place() == vip.place())
        {
            return Ok(AddOutcome::AlreadyThere);
        }
        let detail = Address {
            label: vip.label.clone(),
            expires: vip.lifetime.is_some(),
            protocol: OURS,
            ..Address::new(1, vip.address, host_prefix_length(vip.address))
        };
        self.put_on(&vip.interface, detail);
        Ok(AddOutcome::Added)
    }

    fn renew_address(&mut self, vip: &Vip) -> Result<(), Error> {
        self.change(format!("renew {}", shown(&vip.place())))?;
        for found in &mut self.addresses {
            if found.place() == vip.place() {
                found.detail.expires = vip.lifetime.is_some();
            }
        }
        Ok(())
    }

    fn remove_address(&mut self, place: &Place) -> Result<RemoveOutcome, Error> {
        self.change(format!("remove {}", shown(place)))?;
        let before = self.addresses.len();
        self.addresses.retain(|found| found.place() != *place);
        // The routes go when no interface has their source any more.
        let held = |address| {
            self.addresses
                .iter()
                .any(|found| found.detail.address == address)
        };
        self.routes.retain(|route| held(route.address));
        Ok(if self.addresses.len() < before {
            RemoveOutcome::Removed
        } else {
            RemoveOutcome::WasAbsent
        })
    }

    fn routes(&mut self) -> Result<BTreeSet<Place>, Error> {
        Ok(self.routes.clone())
    }

    fn add_route(&mut self, place: &Place) -> Result<AddOutcome, Error> {
        self.change(format!("add route {}", shown(place)))?;
        let occupied = |route: &Place| route.address == place.address && route != place;
        if self.routes.iter().any(occupied) {
            let name = format!("another route to {}", place.address);
            return Err(sysctl::Error::Name { name }.into());
        }
        Ok(if self.routes.insert(place.clone()) {
            AddOutcome::Added
        } else {
            AddOutcome::AlreadyThere
        })
    }

    fn remove_route(&mut self, place: &Place) -> Result<RemoveOutcome, Error> {
        self.change(format!("remove route {}", shown(place)))?;
        Ok(if self.routes.remove(place) {
            RemoveOutcome::Removed
        } else {
            RemoveOutcome::WasAbsent
        })
    }

    fn filtered(&mut self) -> BTreeSet<Ipv4Addr> {
        self.filtered.clone()
    }

    fn values(&mut self, setting: &Setting) -> Result<BTreeMap<String, i32>, Error> {
        let recorded = self
            .sysctls
            .keys()
            .filter_map(|name| name.split('.').nth(3));
        let interfaces: BTreeSet<&str> = recorded.chain(["all", "default", "lo"]).collect();
        Ok(interfaces
            .into_iter()
            .map(|name| {
                (
                    name.into(),
                    self.value(&setting.of(name))
                        .parse()
                        .expect("tests plant numbers"),
                )
            })
            .collect())
    }

    fn set_sysctl(&mut self, name: &str, value: &str) -> Result<Option<Change>, Error> {
        let found = self.value(name);
        if found == value {
            return Ok(None);
        }
        self.change(format!("set {name}={value}"))?;
        let newly_recorded = !self.originals.contains_key(name);
        self.originals
            .entry(name.into())
            .or_insert_with(|| found.clone());
        self.sysctls.insert(name.into(), value.into());
        Ok(Some(Change {
            name: name.into(),
            found,
            newly_recorded,
        }))
    }

    fn undo_sysctl(&mut self, change: &Change) -> Result<(), Error> {
        self.change(format!("undo {}={}", change.name, change.found))?;
        self.sysctls
            .insert(change.name.clone(), change.found.clone());
        if change.newly_recorded {
            self.originals.remove(&change.name);
        }
        Ok(())
    }

    fn restore_sysctls(&mut self) -> Result<(), Error> {
        for (name, value) in self.originals.clone() {
            self.change(format!("restore {name}={value}"))?;
            self.originals.remove(&name);
            self.sysctls.insert(name, value);
        }
        Ok(())
    }

    fn owned(&self) -> &Owned {
        &self.owned
    }

    fn record(&mut self, owned: Owned) -> Result<(), Error> {
        self.owned = owned;
        Ok(())
    }
}

/// The address, and the interface if it isn't `lo`.
fn shown(place: &Place) -> String {
    if place.interface == LOOPBACK {
        place.address.to_string()
    } else {
        place.to_string()
    }
}
