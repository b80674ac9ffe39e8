//! What the director that runs says of itself.

use std::time::Duration;

use lvs_proto::vrrp::Rejection;

use super::Report;
use super::machine::Machine;
use crate::config::Hashes;
use crate::control::{Answer, InstanceStatus, Request, ServerState, State, ask};

/// The daemon answers from memory.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) fn examine(machine: &Machine<'_>, report: &mut Report) {
    let Some(running) = machine.patient.running else {
        return;
    };
    let status = running.status;
    let own = Hashes::of(machine.configuration());
    if status.configuration_hash != own.all {
        report.note(
            "director",
            "",
            "the director that runs goes by another configuration than the file",
            Some("`director plan` says what `director reload` would change".to_owned()),
        );
    }
    for instance in &status.instances {
        of_instance(instance, report);
    }
    for service in &status.services {
        for pool in &service.pools {
            if pool.quorum == Some(false) {
                let protocol = pool.protocol.as_deref().unwrap_or("marked packets");
                report.error(
                    "service",
                    &service.name,
                    format!(
                        "has lost its quorum over {protocol}: {} healthy of {} needed",
                        pool.healthy, pool.needed
                    ),
                    "`director status` says what is wrong with each server",
                );
            }
            for server in &pool.servers {
                let (ServerState::Out | ServerState::Kept, Some(failure)) =
                    (server.state, &server.failure)
                else {
                    continue;
                };
                report.warning(
                    "service",
                    format!("{}/{}", service.name, server.server),
                    format!("fails its check: {}", failure.text),
                    "docs/health.md tells what each kind of failure means",
                );
            }
        }
    }
    for problem in status.path_problems.iter().chain(&status.table_problems) {
        report.warning("director", "", problem, "`director status` follows it");
    }
}

fn of_instance(instance: &InstanceStatus, report: &mut Report) {
    if instance.state == State::Fault {
        report.error(
            "director",
            &instance.name,
            format!("is in fault: {}", instance.faults.join(", ")),
            "it takes part again when this is over",
        );
    } else {
        report.ok("director", &instance.name, format!("is {}", instance.state));
    }
}

/// What it has discarded since it was asked first: what was long ago is in `director status`.
pub(super) fn discarded_meanwhile(machine: &Machine<'_>, report: &mut Report) {
    let Some(running) = machine.patient.running else {
        return;
    };
    let Ok(Answer::Status(now)) = ask(running.runtime_directory, &Request::Status, PATIENCE) else {
        return report.unknown("director", "", "has stopped answering meanwhile", None);
    };
    for instance in &now.instances {
        let mut before = running.status.instances.iter();
        let before = before.find(|one| one.name == instance.name);
        for (reason, count) in &instance.counters.adverts_rejected {
            let known = before.and_then(|one| one.counters.adverts_rejected.get(reason));
            let new = count.saturating_sub(known.copied().unwrap_or_default());
            // Another virtual router on the LAN is nobody's fault.
            if new == 0 || *reason == Rejection::VirtualRouter.label() {
                continue;
            }
            report.warning(
                "director",
                &instance.name,
                format!("discards packets, {new} while this command looked, by reason {reason}"),
                advice_for(reason),
            );
        }
    }
}

fn advice_for(reason: &str) -> &'static str {
    let is = |rejection: Rejection| rejection.label() == reason;
    if is(Rejection::TrailerTime) {
        "the clocks of the two directors differ: run chrony or systemd-timesyncd on both"
    } else if is(Rejection::OwnAddress) {
        "somebody has this machine's own address, or the LAN has a loop"
    } else if is(Rejection::TimeToLive) {
        "the packets came through a router, or somebody forges them; with `peers`, see `minimum_ttl`"
    } else if is(Rejection::Peer) {
        "add that director to `peers`, or see who it is: the log names its address"
    } else {
        "compare `vrrp` in the files of both directors; the log names the sender"
    }
}
