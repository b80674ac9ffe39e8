//! Keeps VIPs to their own interface.
//!
//! Otherwise a VIP on one LAN would be claimed on all others that the machine is on;
//! [`lvs_system::arp`] has what it takes.

use std::path::Path;

use lvs_system::arp::{ANNOUNCE, IGNORE};
use lvs_system::sysctl::{Error, Journal};
use tracing::warn;

/// The settings made, with the values found.
#[derive(Debug)]
pub struct ArpSettings(Journal);

impl ArpSettings {
    /// Makes the settings. The values found are kept in `directory`, which no other journal may
    /// use, so that they are restored even by a successor of this process. A damaged file there
    /// is warned of, and hinders nothing.
    ///
    /// # Errors
    /// When a setting can't be read or written; what was written before stays.
    pub fn make(directory: &Path) -> Result<Self, Error> {
        let mut journal = Journal::open(directory)?;
        if let Some(damage) = journal.damage() {
            warn!(
                "{damage}; what it recorded is not restored: the values of arp_ignore and arp_announce as they are now count as those found"
            );
        }
        for setting in [IGNORE, ANNOUNCE] {
            setting.make(&mut journal)?;
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
