//! A machine for tests: it pretends, counts its changes, and fails when it is told to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use lvs_system::address::{AddOutcome, Address, OURS, RemoveOutcome};
use lvs_system::arp::Setting;
use lvs_system::sysctl::{self, Change};

use crate::machine::{Error, Machine, Owned};

pub(crate) const VIP: Ipv4Addr = Ipv4Addr::new(192, 168, 56, 185);
pub(crate) const VIP_2: Ipv4Addr = Ipv4Addr::new(192, 168, 56, 186);

#[derive(Clone, Debug, Default)]
pub(crate) struct Fake {
    pub(crate) sysctls: BTreeMap<String, String>,
    pub(crate) addresses: Vec<Address>,
    pub(crate) routes: BTreeSet<Ipv4Addr>,
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
    addresses: Vec<Address>,
    routes: BTreeSet<Ipv4Addr>,
}

impl Fake {
    pub(crate) fn set(&mut self, name: &str, value: i32) {
        self.sysctls
            .insert(format!("net.ipv4.conf.{name}"), value.to_string());
    }

    pub(crate) fn put(&mut self, vip: Ipv4Addr, prefix_length: u8, label: &str, protocol: u8) {
        self.addresses.push(Address {
            label: Some(label.into()),
            protocol,
            ..Address::new(1, vip.into(), prefix_length)
        });
    }

    /// As `ip address flush` does: the routes go with their source.
    pub(crate) fn flush(&mut self) {
        self.addresses.clear();
        self.routes.clear();
    }

    pub(crate) fn state(&self) -> State {
        State {
            sysctls: self.sysctls.clone(),
            addresses: self.addresses.clone(),
            routes: self.routes.clone(),
        }
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
    fn addresses(&mut self) -> Result<Vec<Address>, Error> {
        Ok(self.addresses.clone())
    }

    fn add_address(&mut self, vip: Ipv4Addr, label: &str) -> Result<AddOutcome, Error> {
        self.change(format!("add {vip} {label}"))?;
        if self.addresses.iter().any(|address| address.address == vip) {
            return Ok(AddOutcome::AlreadyThere);
        }
        self.put(vip, 32, label, OURS);
        Ok(AddOutcome::Added)
    }

    fn remove_address(&mut self, vip: Ipv4Addr) -> Result<RemoveOutcome, Error> {
        self.change(format!("remove {vip}"))?;
        let before = self.addresses.len();
        self.addresses.retain(|address| address.address != vip);
        self.routes.remove(&vip);
        Ok(if self.addresses.len() < before {
            RemoveOutcome::Removed
        } else {
            RemoveOutcome::WasAbsent
        })
    }

    fn routes(&mut self) -> Result<BTreeSet<Ipv4Addr>, Error> {
        Ok(self.routes.clone())
    }

    fn add_route(&mut self, vip: Ipv4Addr) -> Result<AddOutcome, Error> {
        self.change(format!("add route {vip}"))?;
        Ok(if self.routes.insert(vip) {
            AddOutcome::Added
        } else {
            AddOutcome::AlreadyThere
        })
    }

    fn remove_route(&mut self, vip: Ipv4Addr) -> Result<RemoveOutcome, Error> {
        self.change(format!("remove route {vip}"))?;
        Ok(if self.routes.remove(&vip) {
            RemoveOutcome::Removed
        } else {
            RemoveOutcome::WasAbsent
        })
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
