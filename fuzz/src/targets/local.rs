//! What a program of ours wrote for another one, or for its successor.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use director::control::{Finding, Request};
use director::hand::{Hands, Order};
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
    match request {
        Request::Handover { for_seconds, .. } => {
            let _ = Aside::lasting(Instant::now(), for_seconds.map(Duration::from_secs));
        }
        Request::Plan {
            configuration: Some(given),
        } => {
            if let Err(errors) = director::config::parse(Path::new(&given.file), &given.text) {
                for error in errors.iter() {
                    assert_eq!(Finding::from(error).to_string(), error.to_string());
                }
            }
        }
        Request::Hand {
            servers,
            state,
            for_seconds,
            reason,
        } => {
            let order = Order {
                servers,
                state,
                time: for_seconds.map(Duration::from_secs),
                reason,
            };
            let mut hands = Hands::default();
            let now = SystemTime::now();
            let present = ["a/192.0.2.1", "a/[2001:db8::1]:53"].map(|text| text.parse().ok());
            let touched = hands.obey(&order, present.into_iter().flatten(), now);
            assert!(hands.iter().count() <= touched.len());
            let _ = hands.next_expiry(now);
            let _ = hands.expire(now);
        }
        Request::Plan {
            configuration: None,
        }
        | Request::Status
        | Request::Release
        | Request::Events { .. }
        | Request::Trace { .. }
        | Request::Reload => {}
    }
}

/// The file with events in the state directory.
pub(super) fn events(file: &[u8]) {
    director::fuzzing::events(file);
}

/// A line of the kernel's connection entries.
pub(super) fn connection(line: &[u8]) {
    if let Ok(line) = str::from_utf8(line) {
        let _ = lvs_system::connections::parse(line);
    }
}

/// A record under `/run`: what the agent owns, and a journal of sysctls.
pub(super) fn record(file: &[u8]) {
    lvs_system::fuzzing::record::<Owned>(file);
    lvs_system::fuzzing::record::<BTreeMap<String, String>>(file);
}
