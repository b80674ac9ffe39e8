//! The interfaces with virtual MACs and the kernel settings that they need, as far as they outlive a
//! virtual router or a director.

use std::path::PathBuf;

use lvs_system::netlink::Connection;
use lvs_system::sysctl::Journal;
use lvs_system::{link, macvlan, virtual_mac};
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

    /// Takes away what a director that died has left and nobody here wants: interfaces that are not
    /// among `wanted`, and the settings if that has none.
    pub(super) fn clear_up(&mut self, route: &mut Connection, wanted: &[&str]) {
        match macvlan::ours(route) {
            Ok(found) => {
                for orphan in found {
                    if wanted.contains(&orphan.name.as_str()) {
                        continue;
                    }
                    match link::delete(route, orphan.index) {
                        Ok(_) => {
                            warn!(interface = %orphan.name, "interface left behind by a director that died: removed");
                        }
                        Err(error) => {
                            warn!(%error, "an interface of a director that died is left behind");
                        }
                    }
                }
            }
            Err(error) => warn!(%error, "interfaces of a director that died may be left behind"),
        }
        if wanted.is_empty() && self.journal.is_none() && self.directory.exists() {
            match Journal::open(&self.directory) {
                Ok(journal) => self.journal = Some(journal),
                Err(error) => warn!(%error, "settings of a director that died may be left behind"),
            }
            self.restore();
        }
    }

    /// Writes the values found back, those of interfaces that are gone aside.
    pub(super) fn restore(&mut self) {
        if let Some(Err(error)) = self.journal.take().map(|mut journal| journal.restore()) {
            warn!(%error, "a setting is not as it was found");
        }
    }
}
