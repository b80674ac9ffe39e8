//! Answers to what is asked on the control socket.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::files::Errand;
use crate::config::Material;
use crate::control::{
    Answer, HandOutcome, HandReport, Handover, HandoverOutcome, Query, Request, Status, findings,
};
use crate::engine::{Engine, PendingPlan};
use crate::events::{Events, Kind, Occurrence, Severity};
use crate::hand::Order;
use crate::sentinel::Sentinel;
use crate::trace::{self, Client};
use crate::tracking::Tracker;
use crate::wording::age;

/// How long an answer waits for the kernel.
const TABLE_PATIENCE: Duration = Duration::from_secs(3);

/// In letters.
const LONGEST_REASON: usize = 200;

/// Who answers.
pub(super) struct Respondent {
    node: String,
    started: Instant,
    events: Events,
}

impl Respondent {
    pub(super) fn new(node: String, events: Events) -> Self {
        Self {
            node,
            started: Instant::now(),
            events,
        }
    }

    /// Answers a query, now or as soon as the VRRP thread has, or returns what has to be read first.
    pub(super) fn answer(
        &self,
        query: Query,
        engine: &mut Engine,
        tracker: &Tracker,
        sentinel: &Sentinel,
    ) -> Option<Errand> {
        let Query { request, answer } = query;
        match request {
            Request::Status => {
                let status = engine.vrrp().status();
                let known = engine
                    .instances()
                    .map(|name| {
                        (
                            name.to_owned(),
                            tracker.tracked(name),
                            engine.obstacle(name),
                        )
                    })
                    .collect::<Vec<_>>();
                let mut whole = Status {
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                    node: self.node.clone(),
                    configuration_hash: engine.hashes().all.clone(),
                    configuration_parts: engine.hashes().parts.clone(),
                    uptime: self.started.elapsed(),
                    instances: Vec::new(),
                    services: engine.services(),
                    hand_problems: engine.hand_problems(),
                    address_conflicts: sentinel.conflicts(),
                    path_problems: engine.silent_vips(),
                    table_problems: engine.table_complaints().to_vec(),
                    findings: Vec::new(),
                };
                tokio::spawn(async move {
                    whole.instances = status.await.unwrap_or_default();
                    for (name, tracked, obstacle) in known {
                        let mut instances = whole.instances.iter_mut();
                        if let Some(instance) = instances.find(|one| one.name == name) {
                            instance.tracked = tracked;
                            instance.obstacle = obstacle;
                        }
                    }
                    whole.findings = findings::findings(&whole);
                    // Whoever asked may be gone.
                    let _ = answer.send(Answer::Status(whole));
                });
            }
            Request::Events { last, after } => {
                // Whoever asked may be gone.
                let _ = answer.send(Answer::Events(self.events.read(last, after)));
            }
            Request::Trace {
                client,
                port,
                service,
                protocol,
            } => {
                let client = Client {
                    address: client,
                    port,
                };
                let ownerships = engine.ownerships().map(|(ownerships, _)| ownerships);
                let question = trace::Question::new(
                    engine.configuration(),
                    ownerships,
                    client,
                    service.as_deref(),
                    protocol.as_deref(),
                );
                tell_trace(question, answer);
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
                let events = self.events.clone();
                tokio::spawn(async move {
                    let mut outcomes = Vec::new();
                    for (instance, outcome) in asked {
                        let outcome = outcome.await.unwrap_or(HandoverOutcome::Unknown);
                        if let Some(event) = handed_over(&instance, &outcome, aside) {
                            events.record(event);
                        }
                        outcomes.push(Handover { instance, outcome });
                    }
                    let _ = answer.send(Answer::Handover(outcomes));
                });
            }
            Request::Release => {
                let released = engine.vrrp().release();
                let events = self.events.clone();
                tokio::spawn(async move {
                    let released = released.await.unwrap_or_default();
                    for instance in &released {
                        let text = "stands aside no longer, by hand";
                        let event = Occurrence::new(Kind::Released, Severity::Info, text);
                        events.record(event.of(instance));
                    }
                    let _ = answer.send(Answer::Released(released));
                });
            }
            Request::Plan { configuration } => return Some(Errand::Plan(configuration, answer)),
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
                take_in_hand(order, engine, answer);
            }
            Request::Reload => return Some(Errand::Reload(in_force(engine), Some(answer))),
        }
        None
    }
}

/// Reading the kernel may take a while, so another thread does.
fn tell_trace(
    question: Result<trace::Question, trace::TraceError>,
    answer: oneshot::Sender<Answer>,
) {
    tokio::task::spawn_blocking(move || {
        let tracing = question.and_then(trace::Question::answer);
        // Whoever asked may be gone.
        let _ = answer.send(match tracing {
            Ok(tracing) => Answer::Trace(tracing),
            Err(error) => Answer::Error(error.to_string()),
        });
    });
}

/// What came of asking another router to take over.
fn handed_over(
    instance: &str,
    outcome: &HandoverOutcome,
    aside: Option<Duration>,
) -> Option<Occurrence> {
    let aside = aside.map_or_else(
        || "until `director handover --release`".to_owned(),
        |time| format!("for {}", age(time)),
    );
    let (severity, word, what) = match outcome {
        HandoverOutcome::TakenOver { by, after } => (
            Severity::Info,
            "taken_over",
            format!("{by} took over after {}; stands aside {aside}", age(*after)),
        ),
        HandoverOutcome::NobodyAnswered => (
            Severity::Warning,
            "nobody_answered",
            "no other router took over".to_owned(),
        ),
        HandoverOutcome::NotActive => (
            Severity::Info,
            "not_active",
            format!("stands aside {aside}"),
        ),
        HandoverOutcome::Owner | HandoverOutcome::Unknown => return None,
    };
    let event = Occurrence::new(
        Kind::Handover,
        severity,
        format!("handover by hand: {what}"),
    );
    Some(event.of(instance).with("outcome", word))
}

/// Obeys now, and answers when the kernel and the disk have it.
fn take_in_hand(order: Order, engine: &mut Engine, answer: oneshot::Sender<Answer>) {
    let is_line =
        |text: &String| text.chars().count() <= LONGEST_REASON && !text.contains(char::is_control);
    let obeyed = if order.reason.as_ref().is_none_or(is_line) {
        engine.obey(&order)
    } else {
        Err(format!(
            "a reason is one line of {LONGEST_REASON} letters at most"
        ))
    };
    let mut obeyed = match obeyed {
        Ok(obeyed) => obeyed,
        Err(error) => {
            // Whoever asked may be gone.
            let _ = answer.send(Answer::Error(error));
            return;
        }
    };
    tokio::spawn(async move {
        let mut notes = std::mem::take(&mut obeyed.notes);
        if timeout(TABLE_PATIENCE, obeyed.applied()).await.is_err() {
            notes.push(
                "the kernel's table does not follow yet; `director status` says why".to_owned(),
            );
        }
        let not_kept = obeyed.written().await;
        let touched = std::mem::take(&mut obeyed.touched);
        let servers = touched.into_iter().map(|(server, was)| HandOutcome {
            server,
            state: order.state,
            was,
        });
        let _ = answer.send(Answer::Hand(HandReport {
            servers: servers.collect(),
            notes,
            not_kept,
        }));
    });
}

/// What need not be read again, if it is what a reload finds: nothing would change.
pub(super) fn in_force(engine: &Engine) -> Option<Arc<Material>> {
    let material = engine.material();
    engine
        .is_settled_with(material)
        .then(|| Arc::clone(material))
}

/// Answers with a plan as soon as the table's thread has done its part.
pub(super) fn tell_plan(plan: PendingPlan, answer: oneshot::Sender<Answer>) {
    tokio::spawn(async move {
        let told = match plan.complete().await {
            Ok(plan) => Answer::Plan(plan.into()),
            Err(error) => Answer::Error(error),
        };
        // Whoever asked may be gone.
        let _ = answer.send(told);
    });
}
