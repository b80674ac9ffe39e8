//! Keeps VIPs to their own interface.
//!
//! Linux answers ARP for every local address on every interface, so a VIP on one LAN would be
//! claimed on all others that the machine is on, and packets that leave with the VIP as source
//! would make it the sender of ARP requests there (`arp_ignore()` and `arp_solicit()` in
//! `net/ipv4/arp.c`). The kernel uses the larger of `all` and of the interface, so `all` is enough.

use std::path::Path;

use lvs_system::sysctl::{self, Error, Journal};

/// What is needed on `all`: only ever raised, never lowered.
const NEEDED: [(&str, u8); 2] = [
    ("net.ipv4.conf.all.arp_ignore", 1),
    ("net.ipv4.conf.all.arp_announce", 2),
];

/// The settings made, with the values found.
#[derive(Debug)]
pub struct ArpSettings(Journal);

impl ArpSettings {
    /// Makes the settings. The values found are kept in `directory`, which no other journal may
    /// use, so that they are restored even by a successor of this process.
    ///
    /// # Errors
    /// When a setting can't be read or written; what was written before stays.
    pub fn make(directory: &Path) -> Result<Self, Error> {
        let mut journal = Journal::open(directory)?;
        for (name, needed) in NEEDED {
            if sysctl::read(name)?
                .parse()
                .is_ok_and(|found: i64| found < i64::from(needed))
            {
                journal.set(name, &needed.to_string())?;
            }
        }
        Ok(Self(journal))
    }

    /// Writes the values found back.
    ///
    /// # Errors
    /// When one can't be written; it stays recorded.
    pub fn restore(mut self) -> Result<(), Error> {
        self.0.restore()
    }
}
