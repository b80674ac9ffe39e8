//! The DNS probe: a query to send, and a verdict on the bytes that come back.
//!
//! Called by the checkers (which own the sockets, the randomness and the deadlines), by the
//! configuration (which reads what a [`Probe`] is made of) and by the simulation.
//!
//! [`Probe`] says what is asked and what is [`expect`](Expectation)ed of the answer;
//! [`Probe::query`] and [`Probe::judge`] are all that a socket needs. Left out: signatures are read,
//! not verified, and of SVCB, HTTPS, DNSKEY and other long records only octets are compared.

mod answer;
mod class;
mod expectation;
mod message;
mod name;
mod probe;
mod query;
mod record_type;
mod records;
mod requirement;
mod response_code;
mod tcp;

pub use answer::Answer;
pub use class::{Class, UnknownClass};
pub use expectation::{Expectation, Fault, Flag, UnknownFlag};
pub use name::{InvalidName, Name};
pub use probe::{Arrival, Judgement, Mismatch, Probe, Transport};
pub use query::{Entropy, Form};
pub use record_type::{RecordType, UnknownRecordType};
pub use records::{InvalidRecord, RecordData, Records};
pub use requirement::Requirement;
pub use response_code::{ResponseCode, UnknownResponseCode};
pub use tcp::{Frame, frame};
