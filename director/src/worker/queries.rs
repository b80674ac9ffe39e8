//! Answers to what is asked on the control socket.

use std::time::{Duration, Instant};

use crate::control::{Answer, Handover, HandoverOutcome, Query, Request, Status};
use crate::engine::Engine;
use crate::tracking::Tracker;

/// Who answers.
pub(super) struct Respondent {
    node: String,
    started: Instant,
}

impl Respondent {
    pub(super) fn new(node: String) -> Self {
        Self {
            node,
            started: Instant::now(),
        }
    }

    /// Answers a query, now or as soon as the VRRP thread has.
    pub(super) fn answer(&self, query: Query, engine: &Engine, tracker: &Tracker) {
        let Query { request, answer } = query;
        match request {
            Request::Status => {
                let status = engine.vrrp().status();
                let tracked = engine
                    .instances()
                    .map(|name| (name.to_owned(), tracker.tracked(name)))
                    .collect::<Vec<_>>();
                let mut whole = Status {
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                    node: self.node.clone(),
                    uptime: self.started.elapsed(),
                    instances: Vec::new(),
                };
                tokio::spawn(async move {
                    whole.instances = status.await.unwrap_or_default();
                    for (name, tracked) in tracked {
                        let mut instances = whole.instances.iter_mut();
                        if let Some(instance) = instances.find(|one| one.name == name) {
                            instance.tracked = tracked;
                        }
                    }
                    // Whoever asked may be gone.
                    let _ = answer.send(Answer::Status(whole));
                });
            }
            Request::Handover {
                instances,
                for_seconds,
            } => {
                let names = if instances.is_empty() {
                    engine.instances().map(str::to_owned).collect()
                } else {
                    instances
                };
                let aside = for_seconds.map(Duration::from_secs);
                let asked: Vec<_> = names
                    .into_iter()
                    .map(|name| {
                        let outcome = engine.vrrp().hand_over(&name, aside);
                        (name, outcome)
                    })
                    .collect();
                tokio::spawn(async move {
                    let mut outcomes = Vec::new();
                    for (instance, outcome) in asked {
                        let outcome = outcome.await.unwrap_or(HandoverOutcome::Unknown);
                        outcomes.push(Handover { instance, outcome });
                    }
                    let _ = answer.send(Answer::Handover(outcomes));
                });
            }
            Request::Release => {
                let released = engine.vrrp().release();
                tokio::spawn(async move {
                    let _ = answer.send(Answer::Released(released.await.unwrap_or_default()));
                });
            }
        }
    }
}
