//! The VIPs of one virtual router on its interface: the only room that adds or removes them.
//!
//! Called by [`crate::vrrp`] as the protocol says, and by [`crate::supervisor`] when the worker has
//! died. Everything here blocks for one netlink request an address, which takes well under a
//! millisecond.

mod arp;
mod keeper;

use std::net::{IpAddr, Ipv4Addr};

use lvs_system::address::{self, AddOutcome, Address, Error, RemoveOutcome};
use lvs_system::netlink::Connection;

pub use arp::ArpSettings;
pub use keeper::{AddressKeeper, Upkeep};

use crate::config::VirtualAddress;

/// The loopback interface has this number in every network namespace (`include/net/net_namespace.h`).
const LOOPBACK: u32 = 1;

/// What came of putting addresses on an interface.
#[derive(Debug, Default)]
pub struct Addition {
    /// Those that were not there before.
    pub added: Vec<IpAddr>,
    /// Those that are there now.
    pub present: Vec<IpAddr>,
    /// What the kernel refused.
    pub failures: Vec<Error>,
}

/// The VIPs that belong on an interface.
#[derive(Debug)]
pub struct VirtualAddresses {
    interface_index: u32,
    configured: Vec<VirtualAddress>,
}

impl VirtualAddresses {
    /// Remembers what belongs there; changes nothing.
    pub fn new(interface_index: u32, configured: &[VirtualAddress]) -> Self {
        Self {
            interface_index,
            configured: configured.to_vec(),
        }
    }

    /// What belongs there.
    pub fn configured(&self) -> &[VirtualAddress] {
        &self.configured
    }

    /// Takes another list, and returns those that no longer belong there.
    pub fn replace(&mut self, configured: &[VirtualAddress]) -> Self {
        let previous = std::mem::replace(&mut self.configured, configured.to_vec());
        let abandoned = previous.into_iter().filter(|old| !configured.contains(old));
        Self {
            interface_index: self.interface_index,
            configured: abandoned.collect(),
        }
    }

    /// Puts all on the interface; those that are there already stay.
    pub fn add(&self, connection: &mut Connection) -> Addition {
        let mut addition = Addition::default();
        for address in self.kernel_addresses() {
            match address::add(connection, &address) {
                Ok(outcome) => {
                    if outcome == AddOutcome::Added {
                        addition.added.push(address.address);
                    }
                    addition.present.push(address.address);
                }
                Err(error) => addition.failures.push(error),
            }
        }
        addition
    }

    /// Takes all off the interface; those that are gone already are fine. Returns what the kernel
    /// refused.
    pub fn remove(&self, connection: &mut Connection) -> Vec<Error> {
        self.kernel_addresses()
            .filter_map(|address| address::remove(connection, &address).err())
            .collect()
    }

    /// Whether any of them is on the interface, with its prefix length.
    ///
    /// # Errors
    /// When the kernel's addresses can't be read.
    pub fn present(&self, connection: &mut Connection) -> Result<bool, Error> {
        let there = address::list(connection, Some(self.interface_index))?;
        Ok(there.iter().any(|found| self.contains(found)))
    }

    /// Whether `address` is one of them: interface, address and prefix length.
    pub fn contains(&self, address: &Address) -> bool {
        self.kernel_addresses().any(|own| {
            (own.interface_index, own.address, own.prefix_length)
                == (
                    address.interface_index,
                    address.address,
                    address.prefix_length,
                )
        })
    }

    /// The interface's own first IPv4 address, if it has one beside the VIPs.
    ///
    /// # Errors
    /// When the kernel's addresses can't be read.
    pub fn primary_ipv4(&self, connection: &mut Connection) -> Result<Option<Ipv4Addr>, Error> {
        let there = address::list(connection, Some(self.interface_index))?;
        let virtual_addresses: Vec<IpAddr> =
            self.configured.iter().map(|vip| vip.address).collect();
        Ok(address::primary_ipv4(
            &there,
            self.interface_index,
            &virtual_addresses,
        ))
    }

    fn kernel_addresses(&self) -> impl Iterator<Item = Address> + '_ {
        self.configured.iter().map(|virtual_address| {
            let VirtualAddress {
                address,
                prefix_length,
                ..
            } = *virtual_address;
            Address::new(self.interface_index, address, prefix_length)
        })
    }
}

/// Removes the VIPs that a predecessor left on interfaces of this machine and that nobody here
/// wants: those with our mark that none of `wanted` contains. Returns what was removed.
///
/// The loopback interface is rs-agent's, which leaves the same mark.
///
/// # Errors
/// When the kernel's addresses can't be read or one can't be removed.
pub fn remove_orphans<'a>(
    connection: &mut Connection,
    wanted: impl Iterator<Item = &'a VirtualAddresses> + Clone,
) -> Result<Vec<Address>, Error> {
    let mut removed = Vec::new();
    for address in address::list(connection, None)? {
        let orphan = address.is_ours()
            && address.interface_index != LOOPBACK
            && !wanted
                .clone()
                .any(|virtual_addresses| virtual_addresses.contains(&address));
        if orphan && address::remove(connection, &address)? == RemoveOutcome::Removed {
            removed.push(address);
        }
    }
    Ok(removed)
}
