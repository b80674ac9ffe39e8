//! Somebody waits for what a reload changes.
//!
//! Everything else goes on meanwhile. Another reload takes the place of one that is waited for, whose
//! answer comes at once then.

use std::time::Duration;

use lvs_proto::health::Verdict;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use crate::config::{Configuration, VirtualAddress};
use crate::control::{self, Action, Answer, InstanceStatus, Object, Ownership, Reload};
use crate::dataplane::{Change, TableEvent};
use crate::engine::{Engine, PendingPlan, Plan};
use crate::events::{Events, Kind, Occurrence, Severity};
use crate::health::Subject;

/// How long an answer waits for servers to be judged, and for the kernel to follow.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often it is looked whether all is there, when nothing says that it may be.
const PACE: Duration = Duration::from_millis(20);

/// A reload whose outcome somebody waits for.
#[derive(Debug)]
pub(super) struct Reloading {
    /// Who asked, if it wasn't a signal.
    answer: Option<oneshot::Sender<Answer>>,
    plan: Planning,
    /// The first table that was asked for with the new configuration.
    since: u64,
    made: Vec<Change>,
    failures: Vec<String>,
    /// Real servers that weren't judged when it began.
    unjudged: Vec<Subject>,
    status: Option<oneshot::Receiver<Vec<InstanceStatus>>>,
    /// What came of that.
    instances: Option<Vec<InstanceStatus>>,
    /// VIPs that aren't where they belong; `None` until that is known.
    missing: Option<Vec<Missing>>,
    until: Instant,
    look_at: Instant,
}

/// A VIP and its interface.
type Missing = (VirtualAddress, String);

#[derive(Debug)]
enum Planning {
    Pending(PendingPlan),
    Done(Plan),
    Failed(String),
}

impl From<Result<Plan, String>> for Planning {
    fn from(plan: Result<Plan, String>) -> Self {
        match plan {
            Ok(plan) => Self::Done(plan),
            Err(error) => Self::Failed(error),
        }
    }
}

impl Reloading {
    /// Tells `answer` what comes of the configuration that `engine` goes by since a moment ago, and
    /// that changes what `plan` says.
    pub(super) fn begin(
        answer: Option<oneshot::Sender<Answer>>,
        plan: PendingPlan,
        engine: &Engine,
    ) -> Self {
        let now = Instant::now();
        Self {
            answer,
            plan: Planning::Pending(plan),
            since: engine.asked(),
            made: Vec::new(),
            failures: Vec::new(),
            unjudged: engine.unjudged().cloned().collect(),
            status: Some(engine.vrrp().status()),
            instances: None,
            missing: None,
            until: now + PATIENCE,
            look_at: now,
        }
    }

    /// The table's thread has done something.
    pub(super) fn hear_table(&mut self, event: &TableEvent) {
        match event {
            TableEvent::Changed {
                generation,
                changes,
                failures,
            } if *generation >= self.since => {
                self.made.extend(changes.iter().cloned());
                self.failures.clone_from(failures);
            }
            TableEvent::Applied { .. } => self.look_at = Instant::now(),
            TableEvent::Changed { .. }
            | TableEvent::Complaints(_)
            | TableEvent::Repaired(_)
            | TableEvent::Trouble(_) => {}
        }
    }

    /// Whether all is there, or this was waited for long enough.
    pub(super) fn is_over(&mut self, engine: &Engine) -> bool {
        let now = Instant::now();
        let is_due = now >= self.look_at;
        if is_due {
            self.look_at = now + PACE;
        }
        self.look_for_addresses(engine, is_due);
        let is_there = !matches!(self.plan, Planning::Pending(_))
            && self.missing.as_ref().is_some_and(Vec::is_empty)
            && engine.table_follows()
            && self.failures.is_empty()
            && engine.unjudged().next().is_none();
        is_there || now >= self.until
    }

    /// Answers with what has come about, and records it.
    pub(super) fn end(self, engine: &Engine, events: &Events) {
        self.end_with(engine, events, Vec::new());
    }

    /// The same when another reload takes its place.
    pub(super) fn end_early(self, engine: &Engine, events: &Events) {
        let why = "another reload came before all of this was there; its answer has the rest";
        self.end_with(engine, events, vec![why.to_owned()]);
    }

    /// Waits until there may be something to see. May be dropped at any time.
    async fn wait(&mut self) {
        let plan = async {
            match &mut self.plan {
                Planning::Pending(plan) => plan.completed().await,
                Planning::Done(_) | Planning::Failed(_) => std::future::pending().await,
            }
        };
        let instances = async {
            match &mut self.status {
                Some(status) => status.await.ok(),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            plan = plan => self.plan = plan.into(),
            instances = instances => {
                self.status = None;
                self.instances = instances;
            }
            () = sleep_until(self.look_at) => {}
        }
    }

    fn look_for_addresses(&mut self, engine: &Engine, is_due: bool) {
        if let Some(instances) = self.instances.take() {
            self.missing = Some(missing(engine.configuration(), &instances));
        }
        let is_known = self.missing.as_ref().is_some_and(Vec::is_empty);
        if !is_known && is_due && self.status.is_none() {
            self.status = Some(engine.vrrp().status());
        }
    }

    fn end_with(self, engine: &Engine, events: &Events, mut notes: Vec<String>) {
        let missing = self.missing.unwrap_or_default();
        let (beside, planned) = match self.plan {
            Planning::Done(plan) => {
                notes.extend(plan.notes);
                (plan.beside, plan.table)
            }
            Planning::Failed(error) => {
                notes.push(error);
                (Vec::new(), Vec::new())
            }
            Planning::Pending(plan) => (plan.into_beside(), Vec::new()),
        };
        let Done { changes, meanwhile } = done(beside, &planned, &self.made, &missing);
        notes.extend(meanwhile);
        let failing = self.unjudged.iter().filter_map(|subject| {
            let unhealthy = engine.health(subject)?.verdict == Verdict::Unhealthy;
            unhealthy.then(|| format!("{}: fails its check, and stays out", words(subject)))
        });
        notes.extend(failing);
        let mut waiting: Vec<String> = missing
            .iter()
            .map(|(vip, interface)| format!("address {vip} is not on {interface} yet"))
            .collect();
        let mut unjudged: Vec<String> = engine
            .unjudged()
            .map(|subject| format!("{}: no verdict yet", words(subject)))
            .collect();
        unjudged.sort();
        waiting.extend(unjudged);
        if !engine.table_follows() && self.failures.is_empty() {
            waiting.push("the forwarding table is not as asked for yet".to_owned());
        }
        let reload = Reload {
            changes,
            notes,
            waiting,
            failures: self.failures,
        };
        events.record(reloaded(&reload));
        if let Some(answer) = self.answer {
            // Whoever asked may be gone.
            let _ = answer.send(Answer::Reloaded(reload));
        }
    }
}

fn reloaded(reload: &Reload) -> Occurrence {
    /// So many are named in the line for people.
    const FEW: usize = 3;
    let words = |change: &control::Change| change.text.clone();
    let changes: Vec<String> = reload.changes.iter().map(words).collect();
    let what = match changes.len() {
        0 => "nothing to change".to_owned(),
        number => {
            let more = if number > FEW { "; …" } else { "" };
            let plural = if number == 1 { "" } else { "s" };
            let few = changes[..number.min(FEW)].join("; ");
            format!("{number} change{plural}: {few}{more}")
        }
    };
    let (severity, refused) = match reload.failures.as_slice() {
        [] => (Severity::Info, String::new()),
        [first, ..] => (Severity::Error, format!("; the kernel refuses: {first}")),
    };
    let text = format!("the configuration was read again: {what}{refused}");
    let event = Occurrence::new(Kind::Reloaded, severity, text);
    let lists = [
        ("changes", changes),
        ("waiting", reload.waiting.clone()),
        ("failures", reload.failures.clone()),
    ];
    let lists = lists.into_iter().filter(|(_, list)| !list.is_empty());
    lists.fold(event, |event, (name, list)| event.with(name, list))
}

/// Waits until it should be looked at, if there is one. May be dropped at any time.
pub(super) async fn pause(reloading: Option<&mut Reloading>) {
    match reloading {
        Some(reloading) => reloading.wait().await,
        None => std::future::pending().await,
    }
}

/// What has come about.
struct Done {
    /// Of the plan.
    changes: Vec<control::Change>,
    /// What has changed beside it, in words.
    meanwhile: Vec<String>,
}

/// What of a plan has come about, by the changes that were made of the table and the VIPs that aren't
/// there.
fn done(
    beside: Vec<control::Change>,
    planned: &[(Change, control::Change)],
    made: &[Change],
    missing: &[Missing],
) -> Done {
    let is_there = |change: &control::Change| {
        let comes = change.object == Object::Address && change.action != Action::Remove;
        let lacks =
            |(vip, _): &Missing| change.address.as_deref() == Some(&vip.address.to_string());
        !(comes && missing.iter().any(lacks))
    };
    let beside = beside.into_iter().filter(is_there);
    let as_planned = planned.iter().filter(|(change, _)| made.contains(change));
    let as_planned = as_planned.map(|(_, words)| words.clone());
    let is_planned = |change: &Change| planned.iter().any(|(other, _)| other == change);
    let meanwhile = made.iter().filter(|change| !is_planned(change));
    Done {
        changes: beside.chain(as_planned).collect(),
        meanwhile: meanwhile
            .map(|change| format!("meanwhile, {change}"))
            .collect(),
    }
}

fn words(subject: &Subject) -> String {
    let Subject {
        service,
        protocol,
        real_server,
    } = subject;
    format!("service {service}: server {real_server} over {protocol}")
}

/// The VIPs that instances should have here and don't.
fn missing(configuration: &Configuration, instances: &[InstanceStatus]) -> Vec<Missing> {
    let holds =
        |one: &&InstanceStatus| matches!(one.ownership, Ownership::Held | Ownership::HandingOver);
    let mut missing = Vec::new();
    for status in instances.iter().filter(holds) {
        let mut configured = configuration.instances.iter();
        let Some(instance) = configured.find(|instance| instance.name == status.name) else {
            continue;
        };
        let wanted = instance.addresses.iter().chain(&instance.further_addresses);
        for vip in wanted.filter(|vip| !status.addresses.contains(&vip.to_string())) {
            missing.push((vip.clone(), instance.interface_of(vip).to_owned()));
        }
    }
    missing
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::engine::tests::configuration;

    const FILE: &str = "
vrrp:
  - { name: dns, interface: eth2, virtual_router_id: 50, priority: 100, addresses: [192.0.2.1/24], further_addresses: ['2001:db8::1/64'] }
services: [{ name: a, address: 192.0.2.9, port: 53, protocols: [udp], external: true, check: none, real_servers: [{ address: 192.0.2.2 }] }]
";

    fn status(ownership: &str, addresses: &[&str]) -> InstanceStatus {
        serde_json::from_value(serde_json::json!({
            "name": "dns", "state": "active", "in_state_seconds": 1.0, "ownership": ownership,
            "ready": true, "last_transition": null, "priority": { "base": 100, "effective": 100 },
            "vrrp_version": 3, "family": "ipv4", "interface": "eth2", "virtual_router_id": 50,
            "group": null, "addresses": addresses, "active": null, "stands_aside": null,
            "silence": null, "lateness": null, "tracked": [], "faults": [],
            "counters": { "adverts_sent": 0, "adverts_received": 0, "adverts_rejected": {} },
        }))
        .unwrap()
    }

    #[test]
    fn only_who_holds_its_addresses_can_miss_one() {
        let configuration = configuration(FILE);
        let missing = |ownership, addresses: &[&str]| {
            let missing = missing(&configuration, &[status(ownership, addresses)]);
            let words = missing.iter().map(|(vip, place)| format!("{vip} {place}"));
            words.collect::<Vec<String>>()
        };
        let all = ["192.0.2.1/24", "2001:db8::1/64"];
        assert!(missing("held", &all).is_empty());
        assert_eq!(missing("held", &all[..1]), ["2001:db8::1/64 eth2"]);
        assert_eq!(missing("handing_over", &[]).len(), 2);
        assert!(missing("adopting", &[]).is_empty());
        assert!(missing("absent", &[]).is_empty());
    }

    #[test]
    fn what_has_come_about_is_said_in_the_words_of_the_plan() {
        let setting = |name: &str| Change::Setting {
            name: name.to_owned(),
            from: "0".to_owned(),
            to: "1".to_owned(),
        };
        let planned = ["a", "b"].map(|name| {
            let words = format!("{name} as planned");
            let words = control::Change::new(Object::Setting, Action::Change, words);
            (setting(name), words)
        });
        let address = |address: &str, action| control::Change {
            address: Some(address.to_owned()),
            ..control::Change::new(Object::Address, action, address)
        };
        let beside = vec![
            address("192.0.2.1", Action::Add),
            address("2001:db8::1", Action::Change),
            address("192.0.2.7", Action::Remove),
        ];
        let missing = missing(&configuration(FILE), &[status("held", &["192.0.2.1/24"])]);
        let made = [setting("c"), setting("b")];
        let Done { changes, meanwhile } = done(beside, &planned, &made, &missing);
        let lines: Vec<String> = changes.iter().map(ToString::to_string).collect();
        assert_eq!(lines, ["192.0.2.1", "192.0.2.7", "b as planned"]);
        assert_eq!(meanwhile, ["meanwhile, setting c: 0 → 1"]);
    }
}
