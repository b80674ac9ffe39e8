//! The kernel settings that interfaces with virtual MACs need, and their restoration.

use std::path::PathBuf;

use lvs_system::sysctl::Journal;
use lvs_system::virtual_mac;
use tracing::warn;

/// The settings made, with the values found; none before the first virtual MAC.
#[derive(Debug)]
pub(super) struct VirtualMacs {
    directory: PathBuf,
    journal: Option<Journal>,
}

impl VirtualMacs {
    /// Records what is found in `directory`, which no other journal may use.
    pub(super) fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            journal: None,
        }
    }

    /// Makes the settings. Without them a client may be answered from the wrong interface, which is
    /// worth a warning and no outage.
    pub(super) fn settle(&mut self, parent: &str, macvlan: &str) {
        let settled = match &mut self.journal {
            Some(journal) => virtual_mac::settle(journal, parent, macvlan),
            None => Journal::open(&self.directory).and_then(|mut journal| {
                let settled = virtual_mac::settle(&mut journal, parent, macvlan);
                self.journal = Some(journal);
                settled
            }),
        };
        if let Err(error) = settled {
            warn!(interface = macvlan, %error, "ARP for the VIPs may be answered from the wrong interface");
        }
    }

    /// Writes the values found back, those of interfaces that are gone aside.
    pub(super) fn restore(&mut self) {
        if let Some(Err(error)) = self.journal.take().map(|mut journal| journal.restore()) {
            warn!(%error, "a setting is not as it was found");
        }
    }
}
