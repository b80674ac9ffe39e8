//! The VIPs of one virtual router on its interface: the only room that adds or removes them.
//!
//! Called by [`crate::vrrp`] as the protocol says, and by [`crate::supervisor`] when the worker has
//! died. Everything here blocks for one netlink request an address, which takes well under a
//! millisecond.

mod arp;

use std::net::{IpAddr, Ipv4Addr};

use lvs_system::address::{self, Address, Error};
use lvs_system::netlink::Connection;

pub use arp::ArpSettings;

use crate::config::VirtualAddress;

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

    /// Puts all on the interface; those that are there already stay. Returns what the kernel
    /// refused.
    pub fn add(&self, connection: &mut Connection) -> Vec<Error> {
        self.each(|address| address::add(connection, address).map(drop))
    }

    /// Takes all off the interface; those that are gone already are fine. Returns what the kernel
    /// refused.
    pub fn remove(&self, connection: &mut Connection) -> Vec<Error> {
        self.each(|address| address::remove(connection, address).map(drop))
    }

    /// Whether any of them is on the interface.
    ///
    /// # Errors
    /// When the kernel's addresses can't be read.
    pub fn present(&self, connection: &mut Connection) -> Result<bool, Error> {
        let there = address::list(connection, Some(self.interface_index))?;
        let mut configured = self.configured.iter();
        Ok(configured.any(|virtual_address| {
            let address = IpAddr::from(virtual_address.address);
            there.iter().any(|found| found.address == address)
        }))
    }

    /// The interface's own first IPv4 address, if it has one beside the VIPs.
    ///
    /// # Errors
    /// When the kernel's addresses can't be read.
    pub fn primary_ipv4(&self, connection: &mut Connection) -> Result<Option<Ipv4Addr>, Error> {
        let virtual_addresses: Vec<Ipv4Addr> =
            self.configured.iter().map(|vip| vip.address).collect();
        address::primary_ipv4(connection, self.interface_index, &virtual_addresses)
    }

    fn each(&self, mut change: impl FnMut(&Address) -> Result<(), Error>) -> Vec<Error> {
        let addresses = self.configured.iter().map(|virtual_address| {
            let VirtualAddress {
                address,
                prefix_length,
            } = *virtual_address;
            Address::new(self.interface_index, address.into(), prefix_length)
        });
        addresses
            .filter_map(|address| change(&address).err())
            .collect()
    }
}
