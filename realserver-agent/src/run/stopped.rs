//! What was stopped by hand while a service runs. It stays so until somebody starts it again, also when the
//! service does, but not when the machine does.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use lvs_system::record::{self, Record};
use serde::{Deserialize, Serialize};

/// The VIPs that a person doesn't want here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    /// All, whatever is configured.
    all: bool,
    /// These.
    vips: BTreeSet<IpAddr>,
}

impl Stopped {
    /// Opens what is on record in `state_directory`, which nobody else may have open.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn open(state_directory: &Path) -> Result<Record<Self>, record::Error> {
        Record::open(state_directory, RECORD)
    }

    /// What is on record there, for a look beside the service.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn recorded(state_directory: &Path) -> Result<Self, record::Error> {
        Record::peek(state_directory, RECORD)
    }

    /// Whether it was all of them at once.
    pub fn is_all(&self) -> bool {
        self.all
    }

    /// Whether this one was stopped.
    pub fn contains(&self, vip: IpAddr) -> bool {
        self.all || self.vips.contains(&vip)
    }

    /// Stops these, all if there are none.
    pub fn stop(&mut self, vips: &[IpAddr]) {
        self.all |= vips.is_empty();
        self.vips.extend(vips);
    }

    /// Starts these of those that are `configured` again, all if there are none.
    pub fn start(&mut self, vips: &[IpAddr], configured: &BTreeSet<IpAddr>) {
        if vips.is_empty() {
            *self = Self::default();
        } else if std::mem::take(&mut self.all) {
            self.vips = configured.clone();
        }
        self.vips.retain(|vip| !vips.contains(vip));
    }
}

/// The record's name.
const RECORD: &str = "stopped";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::fake::{VIP, VIP_2};

    #[test]
    fn what_is_stopped_stays_so_until_it_is_started() {
        let folder = tempfile::tempdir().unwrap();
        let configured = BTreeSet::from([VIP, VIP_2]);
        let after = |change: &dyn Fn(&mut Stopped)| {
            let mut record = Stopped::open(folder.path()).unwrap();
            record.update(|stopped| change(stopped)).unwrap();
            let stopped = Stopped::recorded(folder.path()).unwrap();
            [stopped.contains(VIP), stopped.contains(VIP_2)]
        };
        assert_eq!(after(&|stopped| stopped.stop(&[VIP])), [true, false]);
        assert_eq!(after(&|stopped| stopped.stop(&[])), [true, true]);
        let start = |vips: &[IpAddr]| after(&|stopped| stopped.start(vips, &configured));
        assert_eq!(start(&[VIP]), [false, true]);
        assert_eq!(start(&[VIP_2]), [false, false]);
        assert_eq!(after(&|stopped| stopped.stop(&[])), [true, true]);
        assert_eq!(start(&[]), [false, false]);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
