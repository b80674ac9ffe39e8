//! What must not stay in the kernel once nobody here knows who holds the addresses.
//!
//! A service with this machine among its real servers is whole only while its address is held here.
//! Once another director is Active it sends packets here, and a table that was left behind would
//! send them back, to and fro until their TTL ends.

use std::collections::BTreeSet;
use std::path::Path;

use lvs_proto::ipvs::{DestinationKey, ServiceKey};

use super::change::{Action, Change};
use super::ipvs::Kernel;
use super::plan::is_own;
use super::record;
use super::table::{Actual, Owned};
use super::thread::PlanError;

/// What came of [`remove_mutual_services`].
#[derive(Debug, Default)]
pub struct Removal {
    /// What was removed.
    pub removed: Vec<Change>,
    /// What the kernel refused, in words.
    pub failures: Vec<String>,
}

/// Removes those services of ours, by the records in `directory`, that send packets to this machine
/// and to others. For when the worker has died and its VIPs are gone.
///
/// # Errors
/// When the kernel or the records can't be read.
pub fn remove_mutual_services(directory: &Path) -> Result<Removal, PlanError> {
    let owned = record::peek(directory)?;
    if owned.services.is_empty() {
        return Ok(Removal::default());
    }
    let mut kernel = Kernel::open()?;
    let changes = mutual_services(&kernel.read(&BTreeSet::new())?, &owned);
    let mut removal = Removal::default();
    for (change, result) in changes.iter().zip(kernel.apply(&changes)) {
        match result {
            Ok(()) => removal.removed.push(change.clone()),
            Err(error) => removal.failures.push(format!("{change}: {error}")),
        }
    }
    Ok(removal)
}

fn mutual_services(actual: &Actual, owned: &Owned) -> Vec<Change> {
    let is_here = |key: &DestinationKey| is_own(key.address, &actual.local_addresses);
    let is_mutual = |key: &ServiceKey| {
        actual.services.get(key).is_some_and(|found| {
            let mut destinations = found.destinations.keys();
            destinations.clone().any(is_here) && !destinations.all(is_here)
        })
    };
    let ours = owned.services.iter().filter(|(key, _)| is_mutual(key));
    ours.map(|(key, name)| Change::Service {
        service: Some(name.clone()),
        key: *key,
        action: Action::RemoveService,
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::super::fake::{self, FakeKernel};
    use super::*;

    #[test]
    fn only_our_services_that_could_come_back_here_go() {
        let mut kernel = FakeKernel::default();
        let this_machine = fake::destination(0, 1);
        let others = [fake::destination(1, 1), fake::destination(2, 0)];
        kernel.local_addresses.insert(this_machine.key.address);
        let mutual = [&[this_machine], &others[..]].concat();
        for (number, destinations) in [
            (0, mutual.clone()),
            (1, others.to_vec()),
            (2, vec![this_machine]),
            (3, mutual),
            (4, Vec::new()),
        ] {
            let key = fake::service_key(number);
            kernel.add_service(fake::service(key));
            for destination in destinations {
                kernel.add_destination(key, destination);
            }
        }
        // The fourth is somebody else's.
        let ours = [0, 1, 2, 4, 5].map(|number| (fake::service_key(number), "dns".to_owned()));
        let owned = Owned {
            services: ours.into(),
            ..Owned::default()
        };
        let changes = mutual_services(&kernel.actual(), &owned);
        let lines: Vec<String> = changes.iter().map(ToString::to_string).collect();
        assert_eq!(lines, ["service dns 192.0.2.100:53/udp: remove"]);
    }
}
