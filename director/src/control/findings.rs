//! What is not well, a line each with what to do next: the one judgement that `director status`,
//! `director top` and the page show.

use std::time::Duration;

use lvs_proto::vrrp::Rejection;

use super::{Aside, Family, InstanceStatus, Margin, PoolStatus, ServiceStatus, State, Status};
use crate::tracking::{Condition, Kind, Tracked};
use crate::wording::age;

/// Beyond this part of its limit, a time is worth a word.
const NEAR: f64 = 0.8;

/// All of it.
pub fn findings(status: &Status) -> Vec<String> {
    let instances = status.instances.iter().flat_map(of_instance);
    let services = status.services.iter().flat_map(of_service);
    let mut lines: Vec<String> = instances.chain(services).collect();
    lines.extend(of_the_rest(status));
    lines
}

/// What is not well with an instance.
pub fn of_instance(instance: &InstanceStatus) -> Vec<String> {
    let mut problems = Vec::new();
    match instance.state {
        State::Fault => {
            let faults = if instance.faults.is_empty() {
                "the log says why".to_owned()
            } else {
                instance.faults.join(", ")
            };
            problems.push(format!(
                "in fault, takes part again when this is over: {faults}"
            ));
        }
        State::Initialize => problems.push("has not started yet".to_owned()),
        State::Backup | State::Active => {}
    }
    let troubled = |one: &&Tracked| one.fault || one.condition == Condition::Failing;
    problems.extend(instance.tracked.iter().filter(troubled).map(trouble));
    if !instance.ready {
        let obstacle = instance.obstacle.as_deref();
        problems.push(format!(
            "{}; this router does not take over from a living one",
            obstacle.unwrap_or("not ready to serve")
        ));
    }
    match instance.stands_aside {
        Some(Aside::Time { left }) => problems.push(format!(
            "stands aside for {} more; `director handover --release` ends it",
            age(left)
        )),
        Some(Aside::Release) => {
            problems.push("stands aside until `director handover --release`".to_owned());
        }
        None => {}
    }
    if let Some(margin) = instance.silence.filter(is_near) {
        problems.push(format!(
            "heard nothing for {}, and takes over at {}; packets get lost, or advert_interval is too short",
            milliseconds(margin.longest),
            milliseconds(margin.limit),
        ));
    }
    if let Some(margin) = instance.lateness.filter(is_near) {
        problems.push(format!(
            "an advert was {} late, and {} is when it steps down; the machine is too busy, or advert_interval too short",
            milliseconds(margin.longest),
            milliseconds(margin.limit),
        ));
    }
    let rejected = &instance.counters.adverts_rejected;
    let rejected: Vec<String> = rejected
        .iter()
        // Another virtual router on the LAN is nobody's fault.
        .filter(|(reason, count)| **count > 0 && *reason != Rejection::VirtualRouter.label())
        .map(|(reason, count)| format!("{reason} {count}"))
        .collect();
    if !rejected.is_empty() {
        problems.push(format!(
            "discarded packets since its start: {}; the log says whose",
            rejected.join(", ")
        ));
    }
    of(&instance.name, problems)
}

/// What is not well with a service's pools, each once.
pub fn of_service(service: &ServiceStatus) -> Vec<String> {
    let mut problems: Vec<(String, Vec<String>)> = Vec::new();
    for pool in &service.pools {
        let sorry = pool.sorry_server.as_ref();
        let sorry =
            sorry.map(|server| format!("nobody else is left: the sorry server {server} answers"));
        let empty = (pool.quorum == Some(false)
            && pool.floor.is_none()
            && pool.sorry_server.is_none()
            && pool.healthy == 0)
            .then(|| "nobody takes queries: clients are told that nobody listens".to_owned());
        let few = (pool.quorum == Some(false) && pool.healthy > 0).then(|| {
            format!(
                "the quorum takes {} healthy servers: this router does not take over from a living one",
                pool.needed
            )
        });
        for problem in [pool.floor.clone(), sorry, empty, few]
            .into_iter()
            .flatten()
        {
            let pool = name(service, pool);
            match problems.iter_mut().find(|(other, _)| *other == problem) {
                Some((_, pools)) => pools.push(pool),
                None => problems.push((problem, vec![pool])),
            }
        }
    }
    let in_words = |(problem, pools): (String, Vec<String>)| {
        if pools.len() == service.pools.len() {
            problem
        } else {
            format!("{}: {problem}", pools.join(", "))
        }
    };
    of(&service.name, problems.into_iter().map(in_words).collect())
}

/// What concerns neither an instance nor a service alone.
pub fn of_the_rest(status: &Status) -> Vec<String> {
    let hands = status.hand_problems.iter().map(|it| format!("hand: {it}"));
    let conflicts = status.address_conflicts.iter();
    let conflicts = conflicts.map(|conflict| format!("{}: {conflict}", conflict.instance));
    let paths = status.path_problems.iter().cloned();
    let table = status.table_problems.iter();
    let table = table.map(|it| format!("table: {it}"));
    hands.chain(conflicts).chain(paths).chain(table).collect()
}

/// The protocol, with the family where there are two.
pub fn name(service: &ServiceStatus, pool: &PoolStatus) -> String {
    let protocol = pool.protocol.as_deref().unwrap_or("marked");
    let mixed = service.pools.iter().any(|one| one.family != pool.family);
    match pool.family {
        Family::Ipv4 if mixed => format!("{protocol}/IPv4"),
        Family::Ipv6 if mixed => format!("{protocol}/IPv6"),
        _ => protocol.to_owned(),
    }
}

fn trouble(tracked: &Tracked) -> String {
    let next = match tracked.kind {
        Kind::Interface => format!("see `ip link show {}`", tracked.name),
        Kind::Script => "`journalctl -u director` has what it said".to_owned(),
        Kind::File => format!("see `cat {}`", tracked.name),
        Kind::Service => "`journalctl -u director` has its servers".to_owned(),
    };
    let effect = match (tracked.fault, tracked.adds) {
        (true, _) => " (fault)".to_owned(),
        (false, 0) => String::new(),
        (false, adds) => format!(" ({adds:+})"),
    };
    format!("{tracked}{effect}; {next}")
}

/// Whether a time came near its limit.
pub fn is_near(margin: &Margin) -> bool {
    margin.longest.as_secs_f64() > NEAR * margin.limit.as_secs_f64()
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

fn of(name: &str, problems: Vec<String>) -> Vec<String> {
    let problems = problems.into_iter();
    problems
        .map(|problem| format!("{name}: {problem}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Counters, Ownership, Priorities};

    #[test]
    fn what_is_wrong_is_said_with_what_to_do_next() {
        let mut instance = InstanceStatus {
            name: "dns".to_owned(),
            state: State::Fault,
            in_state: Duration::ZERO,
            ownership: Ownership::Held,
            ready: false,
            obstacle: None,
            last_transition: None,
            priority: Priorities {
                base: 200,
                effective: 185,
            },
            vrrp_version: 3,
            family: Family::Ipv4,
            interface: "eth2".to_owned(),
            virtual_router_id: 50,
            group: None,
            addresses: Vec::new(),
            active: None,
            stands_aside: None,
            silence: None,
            lateness: None,
            tracked: Vec::new(),
            faults: Vec::new(),
            counters: Counters::default(),
        };
        instance.obstacle = Some("service resolver has no healthy server for tcp".to_owned());
        instance.faults = vec!["interface eth2 has no carrier".to_owned()];
        instance.stands_aside = Some(Aside::Time {
            left: Duration::from_secs(599),
        });
        let tracked = |kind, name: &str, condition, fault, adds| Tracked {
            kind,
            name: name.to_owned(),
            condition,
            fault,
            adds,
        };
        instance.tracked = vec![
            tracked(Kind::Script, "upstream", Condition::Failing, false, -20),
            tracked(Kind::Interface, "eth3", Condition::Failing, true, 0),
            tracked(Kind::Script, "new", Condition::Unknown, true, 0),
            tracked(Kind::File, "/run/bias", Condition::Failing, false, 0),
            tracked(Kind::Service, "resolver", Condition::Well, false, 5),
        ];
        let margin = Margin {
            longest: Duration::from_micros(30_000),
            limit: Duration::from_micros(34_141),
        };
        instance.silence = Some(margin);
        instance.lateness = Some(margin);
        let rejected = [("checksum".to_owned(), 3), ("ttl".to_owned(), 0)];
        instance.counters.adverts_rejected = rejected.into();
        let said = of_instance(&instance);
        let expected = [
            "in fault, takes part again when this is over: interface eth2 has no carrier",
            "script upstream fails (-20); `journalctl -u director` has what it said",
            "interface eth3 is missing or has no carrier (fault); see `ip link show eth3`",
            "script new is not known yet (fault); `journalctl -u director` has what it said",
            "file /run/bias has no whole number; see `cat /run/bias`",
            "service resolver has no healthy server for tcp; this router does not take over from a \
             living one",
            "stands aside for 9m 59s more; `director handover --release` ends it",
            "heard nothing for 30.0 ms, and takes over at 34.1 ms; packets get lost, or \
             advert_interval is too short",
            "an advert was 30.0 ms late, and 34.1 ms is when it steps down; the machine is too \
             busy, or advert_interval too short",
            "discarded packets since its start: checksum 3; the log says whose",
        ];
        assert_eq!(said, expected.map(|line| format!("dns: {line}")));
    }
}
