//! What a program of ours wrote for another one, or for its successor.

use std::collections::BTreeMap;

use realserver_agent::machine::Owned;

/// A line from the worker to the supervisor.
pub(super) fn report(line: &[u8]) {
    director::fuzzing::report(line);
}

/// A record under `/run`: what the agent owns, and a journal of sysctls.
pub(super) fn record(file: &[u8]) {
    lvs_system::fuzzing::record::<Owned>(file);
    lvs_system::fuzzing::record::<BTreeMap<String, String>>(file);
}
