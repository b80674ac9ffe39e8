//! The forwarding table: what it should be, what it is, and the one place that makes it so.
//!
//! The engine hands a [`Desired`] table to the [`Reconciler`], which reads the [`Actual`] one from
//! its [`Plane`], computes the [`Plan`] and applies that alone. Start, reload, a failed server and
//! repair after a stranger's hand are all this one path.

mod change;
#[cfg(test)]
mod fake;
mod ipvs;
mod marked;
mod mutual;
mod plan;
mod reconcile;
mod record;
mod repairs;
mod rotation;
pub(crate) mod settings;
mod statistics;
mod table;
mod thread;

pub use change::{Action, Change};
pub use ipvs::{IpvsPlane, OpenPlaneError};
pub use marked::{Marks, PROBE_MARKS, Way, is_for_probes};
pub use mutual::{Removal, remove_mutual_services};
pub(crate) use plan::{FEW_ROWS, MODULE_OPTIONS};
pub use plan::{Plan, PlanComplaint, PlanNote};
pub use reconcile::{
    ApplyError, Complaint, Failure, Outcome, Plane, PlaneError, Reconciler, ServiceCounters,
};
pub(crate) use statistics::label;
pub use table::{
    Actual, ActualService, Desired, DesiredDestination, DesiredService, Owned, Presence, Settings,
    Standing,
};
pub use thread::{
    PlanError, Question, SpawnError, TableEvent, TableThread, plan_without_daemon, spawn,
};
