//! The DNS probe: a query to send, and a verdict on the bytes that come back.
//!
//! Called by the checkers (which own the sockets, the identifiers and the deadlines), by the
//! configuration (which parses [`Name`] and [`RecordType`]) and by the simulation.
//!
//! Left out: EDNS, class other than IN, record contents. A probe asks whether a server answers a
//! name with records of a type.

mod name;
mod probe;
mod record_type;
mod response_code;
mod tcp;

pub use name::{InvalidName, Name};
pub use probe::{Fault, Judgement, Mismatch, Probe};
pub use record_type::{RecordType, UnknownRecordType};
pub use response_code::ResponseCode;
pub use tcp::{Frame, frame};
