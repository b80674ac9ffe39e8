//! Single changes, each with its way back.

use std::fmt;

use lvs_system::address::{AddOutcome, RemoveOutcome};
use lvs_system::link::DeleteOutcome;
use lvs_system::sysctl::Change;

use crate::machine::{Error, Item, Machine};
use crate::vip::{Place, Vip};

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
    /// Make a dummy interface.
    MakeInterface(String),
    /// Set up a dummy interface of the agent's.
    RaiseInterface(String),
    /// Put a VIP on its interface, with this label.
    AddAddress(Vip),
    /// Let a VIP that is there live on, for its lifetime or for ever.
    Renew(Vip),
    /// Add a VIP's host route.
    AddRoute(Place),
    /// Record a VIP that carries the agent's mark but is in no record.
    Adopt(Place),
    /// Remove a VIP's host route.
    RemoveRoute(Place),
    /// Take a VIP from its interface; its route must be gone before, or goes with it. Label and lifetime
    /// are what it would be put back with.
    RemoveAddress(Vip),
    /// Delete a dummy interface of the agent's.
    RemoveInterface(String),
    /// Forget what somebody else has replaced.
    Disown(Item),
}

/// Why a run of steps ended early.
#[derive(Debug)]
pub struct Failure {
    /// What could not be done.
    pub cause: Error,
    /// What could not be taken back.
    pub left_behind: Vec<Error>,
    /// Sysctls that were not put back, since the machine would answer ARP for a VIP that is on it.
    pub kept: Vec<String>,
}

/// Carries out `steps` in order. When one fails, those before it are taken back, last first, but no sysctl
/// while a VIP is held.
pub fn carry_out(machine: &mut dyn Machine, steps: &[Step]) -> Result<(), Box<Failure>> {
    let mut done = Vec::new();
    for step in steps {
        match step.apply(machine) {
            Ok(undo) => done.extend(undo),
            Err(cause) => return Err(Box::new(take_back(machine, &done, cause))),
        }
    }
    Ok(())
}

/// What is on record of the sysctls that stay is restored by the next stop.
fn take_back(machine: &mut dyn Machine, done: &[Undo], cause: Error) -> Failure {
    let mut failure = Failure {
        cause,
        left_behind: Vec::new(),
        kept: Vec::new(),
    };
    for undo in done.iter().rev() {
        // They were the first steps, so that what is held now is what stays.
        if let Undo::Sysctl(change) = undo
            && holds_ipv4(machine)
        {
            failure.kept.push(change.name.clone());
        } else {
            failure.left_behind.extend(undo.apply(machine).err());
        }
    }
    failure
}

fn holds_ipv4(machine: &dyn Machine) -> bool {
    let mut held = machine.owned().addresses.iter();
    held.any(|place| place.address.is_ipv4())
}

/// The way back from a step that changed something.
#[derive(Debug)]
pub(crate) enum Undo {
    Sysctl(Change),
    MadeInterface(String),
    AddedAddress(Place),
    AddedRoute(Place),
    RemovedRoute(Place),
    RemovedAddress(Vip),
    RemovedInterface(String),
}

impl Step {
    /// The interface that it makes, sets up or deletes.
    pub(crate) fn interface(&self) -> Option<&str> {
        match self {
            Self::MakeInterface(name)
            | Self::RaiseInterface(name)
            | Self::RemoveInterface(name) => Some(name),
            _ => None,
        }
    }

    /// Makes the change, and the record with it: what is added is recorded first and what is
    /// removed is forgotten last, so that a crash between the two leaves a record too many, which
    /// `stop` can bear, rather than one too few.
    ///
    /// A step that the kernel refuses leaves nothing behind. `None` when there was nothing to
    /// change, or nothing to change back.
    pub(crate) fn apply(&self, machine: &mut dyn Machine) -> Result<Option<Undo>, Error> {
        match self {
            Self::SetSysctl { name, value } => Ok(machine
                .set_sysctl(name, &value.to_string())?
                .map(Undo::Sysctl)),
            Self::MakeInterface(name) => make_interface(machine, name),
            Self::RaiseInterface(name) => machine.raise_interface(name).map(|()| None),
            Self::AddAddress(vip) => add_address(machine, vip),
            Self::Renew(vip) => machine.renew_address(vip).map(|()| None),
            Self::AddRoute(place) => add_route(machine, place),
            Self::Adopt(place) => {
                // Keeping the mark's owner on record is right however the run ends.
                record(machine, &Item::Address(place.clone()))?;
                Ok(None)
            }
            Self::RemoveRoute(place) => {
                let outcome = machine.remove_route(place)?;
                forget(machine, &Item::Route(place.clone()))?;
                Ok((outcome == RemoveOutcome::Removed).then(|| Undo::RemovedRoute(place.clone())))
            }
            Self::RemoveAddress(vip) => {
                let outcome = machine.remove_address(&vip.place())?;
                forget(machine, &Item::Address(vip.place()))?;
                Ok((outcome == RemoveOutcome::Removed).then(|| Undo::RemovedAddress(vip.clone())))
            }
            Self::RemoveInterface(name) => {
                let outcome = machine.delete_interface(name)?;
                forget(machine, &Item::Interface(name.clone()))?;
                Ok((outcome == DeleteOutcome::Deleted)
                    .then(|| Undo::RemovedInterface(name.clone())))
            }
            Self::Disown(item) => forget(machine, item).map(|()| None),
        }
    }
}

impl Undo {
    fn apply(&self, machine: &mut dyn Machine) -> Result<(), Error> {
        match self {
            Self::Sysctl(change) => machine.undo_sysctl(change),
            Self::MadeInterface(name) => {
                machine.delete_interface(name)?;
                forget(machine, &Item::Interface(name.clone()))
            }
            Self::AddedAddress(place) => {
                machine.remove_address(place)?;
                forget(machine, &Item::Address(place.clone()))
            }
            Self::AddedRoute(place) => {
                machine.remove_route(place)?;
                forget(machine, &Item::Route(place.clone()))
            }
            Self::RemovedRoute(place) => add_route(machine, place).map(|_| ()),
            Self::RemovedAddress(vip) => add_address(machine, vip).map(|_| ()),
            Self::RemovedInterface(name) => make_interface(machine, name).map(|_| ()),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}; ", self.cause)?;
        if !self.left_behind.is_empty() {
            let words: Vec<String> = self.left_behind.iter().map(Error::to_string).collect();
            let words = words.join("; ");
            return write!(formatter, "not everything could be taken back: {words}");
        }
        if self.kept.is_empty() {
            formatter.write_str("everything is as it was before")
        } else {
            let names = self.kept.join(", ");
            write!(
                formatter,
                "everything is as it was before, but {names}, which a VIP that is here needs"
            )
        }
    }
}

impl std::error::Error for Failure {}

fn make_interface(machine: &mut dyn Machine, name: &str) -> Result<Option<Undo>, Error> {
    let item = Item::Interface(name.into());
    add(machine, &item, |machine| {
        machine.make_interface(name).map(|()| AddOutcome::Added)
    })
    .map(|added| added.then(|| Undo::MadeInterface(name.into())))
}

fn add_address(machine: &mut dyn Machine, vip: &Vip) -> Result<Option<Undo>, Error> {
    let item = Item::Address(vip.place());
    let added = add(machine, &item, |machine| machine.add_address(vip))?;
    Ok(added.then(|| Undo::AddedAddress(vip.place())))
}

fn add_route(machine: &mut dyn Machine, place: &Place) -> Result<Option<Undo>, Error> {
    let item = Item::Route(place.clone());
    let added = add(machine, &item, |machine| machine.add_route(place))?;
    Ok(added.then(|| Undo::AddedRoute(place.clone())))
}

/// Returns whether `change` added something; what it didn't add is recorded as before.
fn add(
    machine: &mut dyn Machine,
    item: &Item,
    change: impl FnOnce(&mut dyn Machine) -> Result<AddOutcome, Error>,
) -> Result<bool, Error> {
    let newly_recorded = record(machine, item)?;
    let outcome = change(machine);
    if newly_recorded && !matches!(outcome, Ok(AddOutcome::Added)) {
        forget(machine, item)?;
    }
    Ok(outcome? == AddOutcome::Added)
}

/// Returns whether it wasn't recorded before.
fn record(machine: &mut dyn Machine, item: &Item) -> Result<bool, Error> {
    let mut owned = machine.owned().clone();
    let newly_recorded = owned.insert(item);
    machine.record(owned)?;
    Ok(newly_recorded)
}

fn forget(machine: &mut dyn Machine, item: &Item) -> Result<(), Error> {
    let mut owned = machine.owned().clone();
    owned.remove(item);
    machine.record(owned)
}
