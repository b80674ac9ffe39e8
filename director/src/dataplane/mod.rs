//! The forwarding table: what it should be, what it is, and the one place that makes it so.
//!
//! The engine hands a [`Desired`] table to the [`Reconciler`], which reads the [`Actual`] one from
//! its [`Plane`], computes the [`Plan`] and applies that alone. Start, reload, a failed server and
//! repair after a stranger's hand are all this one path.

#[cfg(test)]
mod fake;
mod ipvs;
mod plan;
mod reconcile;
mod table;
mod thread;

pub use ipvs::{IpvsPlane, OpenPlaneError};
pub use plan::{Action, Change, Plan, plan};
pub use reconcile::{Complaint, Failure, Outcome, Plane, PlaneError, Reconciler, ServiceCounters};
pub use table::{
    Actual, ActualService, Desired, DesiredDestination, DesiredService, Owned, Presence,
};
pub use thread::{SpawnError, TableEvent, TableThread, spawn};
