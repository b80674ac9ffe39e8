//! Keeps VIPs to their own interface, and apart from the machine's own addresses.
//!
//! Otherwise a VIP on one LAN would be claimed on all others that the machine is on;
//! [`lvs_system::arp`] has what it takes. And an address that is removed would take all others of its
//! subnet along that came after it: a VIP that goes the machine's own, or the other way round.

use std::path::Path;

use lvs_system::arp::{ANNOUNCE, IGNORE};
use lvs_system::sysctl::{Error, Journal};
use tracing::warn;

/// The next address of a subnet takes the place of one that is removed; on `all` it holds for every
/// interface (`IN_DEV_PROMOTE_SECONDARIES`, `include/linux/inetdevice.h`).
const PROMOTE_SECONDARIES: &str = "net.ipv4.conf.all.promote_secondaries";

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
        journal.set(PROMOTE_SECONDARIES, "1")?;
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
