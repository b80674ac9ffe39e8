//! What a program of ours wrote for another one, or for its successor.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use director::control::Request;
use lvs_proto::vrrp::Aside;
use realserver_agent::machine::Owned;

/// A line from the worker to the supervisor.
pub(super) fn report(line: &[u8]) {
    director::fuzzing::report(line);
}

/// A line that somebody who may writes to the control socket.
pub(super) fn control_request(line: &[u8]) {
    let Ok(request) = serde_json::from_slice::<Request>(line) else {
        return;
    };
    let written = serde_json::to_vec(&request).expect("a request has only string keys");
    assert_eq!(
        serde_json::from_slice(&written).ok().as_ref(),
        Some(&request)
    );
    if let Request::Handover { for_seconds, .. } = request {
        let _ = Aside::lasting(Instant::now(), for_seconds.map(Duration::from_secs));
    }
}

/// A record under `/run`: what the agent owns, and a journal of sysctls.
pub(super) fn record(file: &[u8]) {
    lvs_system::fuzzing::record::<Owned>(file);
    lvs_system::fuzzing::record::<BTreeMap<String, String>>(file);
}
