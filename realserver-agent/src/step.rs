//! Single changes, each with its way back.

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;

use lvs_system::address::{AddOutcome, RemoveOutcome};
use lvs_system::sysctl::Change;

use crate::machine::{Error, Machine, Owned};

/// One change to the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write a sysctl; the journal keeps the value found.
    SetSysctl {
        /// Its full name.
        name: String,
        /// The value.
        value: i32,
    },
    /// Put a VIP on `lo`.
    AddAddress {
        /// The VIP.
        vip: Ipv4Addr,
        /// Its label, such as `lo:0`.
        label: String,
    },
    /// Add a VIP's host route.
    AddRoute(Ipv4Addr),
    /// Record a VIP on `lo` that carries the agent's mark but is in no record.
    Adopt(Ipv4Addr),
    /// Remove a VIP's host route.
    RemoveRoute(Ipv4Addr),
    /// Take a VIP from `lo`; its route must be gone before, or goes with it.
    RemoveAddress {
        /// The VIP.
        vip: Ipv4Addr,
        /// Its label, to put it back with.
        label: String,
    },
}

/// Why a run of steps ended early.
#[derive(Debug)]
pub struct Failure {
    /// What could not be done.
    pub cause: Error,
    /// What could not be taken back; empty when the machine is as it was.
    pub left_behind: Vec<Error>,
}

/// Carries out `steps` in order. When one fails, those before it are taken back, last first.
pub fn carry_out(machine: &mut dyn Machine, steps: &[Step]) -> Result<(), Failure> {
    let mut done = Vec::new();
    for step in steps {
        match step.apply(machine) {
            Ok(undo) => done.extend(undo),
            Err(cause) => {
                let left_behind = take_back(machine, &done);
                return Err(Failure { cause, left_behind });
            }
        }
    }
    Ok(())
}

/// Returns what could not be done. When a VIP stays, so do the sysctls that keep it silent; they
/// are on record for the next stop.
fn take_back(machine: &mut dyn Machine, done: &[Undo]) -> Vec<Error> {
    let mut errors = Vec::new();
    let mut vip_stays = false;
    for undo in done.iter().rev() {
        if vip_stays && matches!(undo, Undo::Sysctl(_)) {
            continue;
        }
        if let Err(error) = undo.apply(machine) {
            vip_stays |= matches!(undo, Undo::AddedAddress(_));
            errors.push(error);
        }
    }
    errors
}

/// The way back from a step that changed something.
#[derive(Debug)]
pub(crate) enum Undo {
    Sysctl(Change),
    AddedAddress(Ipv4Addr),
    AddedRoute(Ipv4Addr),
    RemovedRoute(Ipv4Addr),
    RemovedAddress { vip: Ipv4Addr, label: String },
}

impl Step {
    /// Makes the change, and the record with it: what is added is recorded first and what is
    /// removed is forgotten last, so that a crash between the two leaves a record too many, which
    /// `stop` can bear, rather than one too few.
    ///
    /// A step that the kernel refuses leaves nothing behind. `None` when there was nothing to
    /// change.
    pub(crate) fn apply(&self, machine: &mut dyn Machine) -> Result<Option<Undo>, Error> {
        match self {
            Self::SetSysctl { name, value } => Ok(machine
                .set_sysctl(name, &value.to_string())?
                .map(Undo::Sysctl)),
            Self::AddAddress { vip, label } => add_address(machine, *vip, label),
            Self::AddRoute(vip) => add_route(machine, *vip),
            Self::Adopt(vip) => {
                // Keeping the mark's owner on record is right however the run ends.
                record(machine, ADDRESSES, *vip)?;
                Ok(None)
            }
            Self::RemoveRoute(vip) => {
                let outcome = machine.remove_route(*vip)?;
                forget(machine, ROUTES, *vip)?;
                Ok((outcome == RemoveOutcome::Removed).then_some(Undo::RemovedRoute(*vip)))
            }
            Self::RemoveAddress { vip, label } => {
                let outcome = machine.remove_address(*vip)?;
                forget(machine, ADDRESSES, *vip)?;
                Ok(
                    (outcome == RemoveOutcome::Removed).then(|| Undo::RemovedAddress {
                        vip: *vip,
                        label: label.clone(),
                    }),
                )
            }
        }
    }
}

impl Undo {
    fn apply(&self, machine: &mut dyn Machine) -> Result<(), Error> {
        match self {
            Self::Sysctl(change) => machine.undo_sysctl(change),
            Self::AddedAddress(vip) => {
                machine.remove_address(*vip)?;
                forget(machine, ADDRESSES, *vip)
            }
            Self::AddedRoute(vip) => {
                machine.remove_route(*vip)?;
                forget(machine, ROUTES, *vip)
            }
            Self::RemovedRoute(vip) => add_route(machine, *vip).map(|_| ()),
            Self::RemovedAddress { vip, label } => add_address(machine, *vip, label).map(|_| ()),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}; ", self.cause)?;
        if self.left_behind.is_empty() {
            return formatter.write_str("everything is as it was before");
        }
        formatter.write_str("not everything could be taken back:")?;
        for (position, error) in self.left_behind.iter().enumerate() {
            let separator = if position == 0 { " " } else { "; " };
            write!(formatter, "{separator}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

fn add_address(
    machine: &mut dyn Machine,
    vip: Ipv4Addr,
    label: &str,
) -> Result<Option<Undo>, Error> {
    let added = add(machine, ADDRESSES, vip, |machine| {
        machine.add_address(vip, label)
    })?;
    Ok(added.then_some(Undo::AddedAddress(vip)))
}

fn add_route(machine: &mut dyn Machine, vip: Ipv4Addr) -> Result<Option<Undo>, Error> {
    let added = add(machine, ROUTES, vip, |machine| machine.add_route(vip))?;
    Ok(added.then_some(Undo::AddedRoute(vip)))
}

/// One of the two sets of the record.
type Part = fn(&mut Owned) -> &mut BTreeSet<Ipv4Addr>;
const ADDRESSES: Part = |owned| &mut owned.addresses;
const ROUTES: Part = |owned| &mut owned.routes;

/// Returns whether `change` added something; what it didn't add is recorded as before.
fn add(
    machine: &mut dyn Machine,
    part: Part,
    vip: Ipv4Addr,
    change: impl FnOnce(&mut dyn Machine) -> Result<AddOutcome, Error>,
) -> Result<bool, Error> {
    let newly_recorded = record(machine, part, vip)?;
    let outcome = change(machine);
    if newly_recorded && !matches!(outcome, Ok(AddOutcome::Added)) {
        forget(machine, part, vip)?;
    }
    Ok(outcome? == AddOutcome::Added)
}

/// Returns whether it wasn't recorded before.
fn record(machine: &mut dyn Machine, part: Part, vip: Ipv4Addr) -> Result<bool, Error> {
    let mut owned = machine.owned().clone();
    let newly_recorded = part(&mut owned).insert(vip);
    machine.record(owned)?;
    Ok(newly_recorded)
}

fn forget(machine: &mut dyn Machine, part: Part, vip: Ipv4Addr) -> Result<(), Error> {
    let mut owned = machine.owned().clone();
    part(&mut owned).remove(&vip);
    machine.record(owned)
}
