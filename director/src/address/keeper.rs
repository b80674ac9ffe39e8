//! Keeps VIPs on their interfaces, or off them, against whoever changes that.
//!
//! Somebody else hears of changes ([`crate::vrrp`]'s monitor); the keeper asks again only for what the
//! kernel refused.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use lvs_system::address::Error;
use lvs_system::netlink::Connection;

use super::{Placed, VirtualAddresses};

/// How soon the kernel is asked again for what it refused.
const RETRY: Duration = Duration::from_millis(500);

/// The VIPs of one virtual router, and whether they should be there.
#[derive(Debug)]
pub struct AddressKeeper {
    addresses: VirtualAddresses,
    wish: Wish,
    present: Vec<Placed>,
    due: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    /// Nothing was asked for, or what was asked for is done for good.
    Nothing,
    Held,
    Gone,
}

/// What one look at the interface has led to.
#[derive(Debug, Default)]
pub struct Upkeep {
    /// Addresses that were put there now.
    pub added: Vec<IpAddr>,
    /// What the kernel refused; it is tried again.
    pub failures: Vec<Error>,
}

impl AddressKeeper {
    /// Changes nothing yet.
    pub fn new(addresses: VirtualAddresses) -> Self {
        Self {
            addresses,
            wish: Wish::Nothing,
            present: Vec::new(),
            due: None,
        }
    }

    /// What belongs on the interface.
    pub fn addresses(&self) -> &VirtualAddresses {
        &self.addresses
    }

    /// Keeps other addresses from now on, and returns those that no longer belong where they were.
    pub fn replace(&mut self, addresses: VirtualAddresses) -> VirtualAddresses {
        self.addresses.replace(addresses)
    }

    /// Whether the addresses should be there.
    pub fn is_holding(&self) -> bool {
        self.wish == Wish::Held
    }

    /// The addresses that are on their interfaces, as far as this keeper put them there.
    pub fn present(&self) -> &[Placed] {
        &self.present
    }

    /// Whether an address that should go is still there.
    pub fn is_stuck(&self) -> bool {
        self.wish == Wish::Gone
    }

    /// When to call [`Self::look`].
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Puts all addresses on the interface, and keeps them there.
    pub fn hold(&mut self, connection: &mut Connection, now: Instant) -> Upkeep {
        self.wish = Wish::Held;
        self.look(connection, now)
    }

    /// Takes all addresses off the interface.
    pub fn release(&mut self, connection: &mut Connection, now: Instant) -> Upkeep {
        self.wish = Wish::Gone;
        self.look(connection, now)
    }

    /// Makes it so again.
    pub fn look(&mut self, connection: &mut Connection, now: Instant) -> Upkeep {
        match self.wish {
            Wish::Nothing => {
                self.due = None;
                Upkeep::default()
            }
            Wish::Held => {
                let addition = self.addresses.add(connection);
                self.addresses.await_routes(connection, &addition.added);
                self.present = addition.present;
                self.due = (!addition.failures.is_empty()).then_some(now + RETRY);
                Upkeep {
                    added: addition.added,
                    failures: addition.failures,
                }
            }
            Wish::Gone => {
                let failures = self.addresses.remove(connection);
                self.present.clear();
                self.due = (!failures.is_empty()).then_some(now + RETRY);
                if failures.is_empty() {
                    self.wish = Wish::Nothing;
                }
                Upkeep {
                    added: Vec::new(),
                    failures,
                }
            }
        }
    }
}
