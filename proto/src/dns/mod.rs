//! The DNS probe: a query to send, and a verdict on the bytes that come back.
//!
//! Called by the checkers (which own the sockets, the identifiers and the deadlines), by the
//! configuration (which parses [`Name`] and [`RecordType`]) and by the simulation.

mod name;
mod record_type;

pub use name::{InvalidName, Name};
pub use record_type::{RecordType, UnknownRecordType};
