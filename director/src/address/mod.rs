//! The VIPs of one virtual router on their interfaces: the only room that adds or removes them.
//!
//! Called by [`crate::vrrp`] as the protocol says, and by [`crate::supervisor`] when the worker has
//! died. Everything here blocks for one netlink request an address, which takes well under a
//! millisecond.

mod arp;
mod keeper;

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use lvs_system::address::{self, AddOutcome, Address, Error, RemoveOutcome, Scope};
use lvs_system::netlink::Connection;
use serde::{Deserialize, Serialize};

pub use arp::ArpSettings;
pub use keeper::{AddressKeeper, Upkeep};

use crate::config::{AddressScope, VirtualAddress};

/// The loopback interface has this number in every network namespace (`include/net/net_namespace.h`).
const LOOPBACK: u32 = 1;

/// Who advertises every 10 ms may be late by so much without others taking over.
const ROUTE_LIMIT: Duration = Duration::from_millis(20);

/// What came of putting addresses on their interfaces.
#[derive(Debug, Default)]
pub struct Addition {
    /// Those that were not there before.
    pub added: Vec<IpAddr>,
    /// Those that are there now.
    pub present: Vec<Placed>,
    /// What the kernel refused.
    pub failures: Vec<Error>,
}

/// A VIP and the interface that it belongs on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// The interface's number.
    pub interface_index: u32,
    /// The VIP.
    pub address: VirtualAddress,
    /// The machine has it anyway, as the owner of an address does: it is announced, and neither
    /// added nor removed.
    pub fixed: bool,
}

/// The VIPs that belong on interfaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VirtualAddresses(Vec<Placed>);

impl VirtualAddresses {
    /// Remembers what belongs where; changes nothing.
    pub fn new(placed: Vec<Placed>) -> Self {
        Self(placed)
    }

    /// What belongs where.
    pub fn placed(&self) -> &[Placed] {
        &self.0
    }

    /// Takes another list, and returns those that no longer belong where they were.
    pub fn replace(&mut self, other: Self) -> Self {
        let previous = std::mem::replace(self, other);
        let abandoned = previous.0.into_iter().filter(|old| !self.0.contains(old));
        Self(abandoned.collect())
    }

    /// Puts all on their interfaces; those that are there already stay.
    pub fn add(&self, connection: &mut Connection) -> Addition {
        let mut addition = Addition::default();
        for placed in &self.0 {
            if placed.fixed {
                addition.present.push(placed.clone());
                continue;
            }
            match address::add(connection, &placed.in_kernel()) {
                Ok(outcome) => {
                    if outcome == AddOutcome::Added {
                        addition.added.push(placed.address.address);
                    }
                    addition.present.push(placed.clone());
                }
                Err(error) => addition.failures.push(error),
            }
        }
        addition
    }

    /// Waits for a moment until packets to the IPv6 addresses among `added` are taken: whoever is told of
    /// an address at once sends to it at once.
    pub fn await_routes(&self, connection: &mut Connection, added: &[IpAddr]) {
        let added: Vec<(u32, Ipv6Addr)> = self
            .0
            .iter()
            .filter_map(|placed| match placed.address.address {
                IpAddr::V6(address) if added.contains(&address.into()) => {
                    Some((placed.interface_index, address))
                }
                _ => None,
            })
            .collect();
        // Without its route an address is none of our making.
        let _ = address::await_routes(connection, &added, ROUTE_LIMIT);
    }

    /// Takes all off their interfaces; those that are gone already are fine. Returns what the
    /// kernel refused.
    pub fn remove(&self, connection: &mut Connection) -> Vec<Error> {
        self.0
            .iter()
            .filter(|placed| !placed.fixed)
            .filter_map(|placed| address::remove(connection, &placed.in_kernel()).err())
            .collect()
    }

    /// Whether any of them is among `there`, and not because the machine has it anyway.
    pub fn any_present(&self, there: &[Address]) -> bool {
        there
            .iter()
            .any(|found| self.find(found).is_some_and(|placed| !placed.fixed))
    }

    /// Whether `address` is one of them: interface, address and prefix length.
    pub fn contains(&self, address: &Address) -> bool {
        self.find(address).is_some()
    }

    fn find(&self, found: &Address) -> Option<&Placed> {
        self.0.iter().find(|placed| {
            (
                placed.interface_index,
                placed.address.address,
                placed.address.prefix_length,
            ) == (found.interface_index, found.address, found.prefix_length)
        })
    }
}

impl Placed {
    fn in_kernel(&self) -> Address {
        let VirtualAddress {
            address,
            prefix_length,
            scope,
            label,
            interface: _,
        } = &self.address;
        Address {
            label: label.clone(),
            scope: match scope {
                AddressScope::Global => Scope::Global,
                AddressScope::Link => Scope::Link,
                AddressScope::Host => Scope::Host,
            },
            ..Address::new(self.interface_index, *address, *prefix_length)
        }
    }
}

/// Those of these addresses that a director put there: they have our mark.
///
/// The loopback interface is rs-agent's, which leaves the same mark.
pub fn ours(there: &[Address]) -> impl Iterator<Item = &Address> {
    let is_ours = |address: &&Address| address.is_ours() && address.interface_index != LOOPBACK;
    there.iter().filter(is_ours)
}

/// Removes the VIPs that a predecessor left on interfaces of this machine and that nobody here
/// wants: those that a director put there and none of `wanted` contains. Returns what was removed.
///
/// # Errors
/// When the kernel's addresses can't be read or one can't be removed.
pub fn remove_orphans<'a>(
    connection: &mut Connection,
    wanted: impl Iterator<Item = &'a VirtualAddresses> + Clone,
) -> Result<Vec<Address>, Error> {
    let mut removed = Vec::new();
    for address in ours(&address::list(connection, None)?) {
        let is_wanted = wanted
            .clone()
            .any(|virtual_addresses| virtual_addresses.contains(address));
        if !is_wanted && address::remove(connection, address)? == RemoveOutcome::Removed {
            removed.push(address.clone());
        }
    }
    Ok(removed)
}
