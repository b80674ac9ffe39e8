//! Rise and fall: from the results of single probes to whether a server is in.

mod tally;

pub use tally::{Tally, Verdict};
