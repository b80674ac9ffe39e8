//! What one key of a service means for another.

use lvs_configuration::error::Findings;
use lvs_health::reading::CheckDraft;
use lvs_proto::Family;
use lvs_proto::ipvs::{Forwarding, Protocol, Scheduler};

use super::port::Ports;
use super::{ServiceDraft, Subject};
use crate::config::defaults;
use crate::config::model::{Check, OnePacketScheduling};

/// `IP_VS_SH_TAB_SIZE` of `net/netfilter/ipvs/ip_vs_sh.c`, as kernels are built.
const SOURCE_HASHING_SLOTS: u32 = 256;

/// The draft with what follows from one key for another, if it makes sense.
pub(super) fn judge(
    draft: ServiceDraft,
    checks: &[CheckDraft],
    findings: &mut Findings,
) -> Option<ServiceDraft> {
    judge_number(&draft, findings)?;
    judge_every_port(&draft, findings);
    judge_one_packet_scheduling(&draft, findings);
    let resolved = resolved(&draft, checks, findings);
    let draft = ServiceDraft {
        protocols: protocols(&draft, &resolved),
        checks: resolved,
        ..draft
    };
    warn_of_what_defeats_balancing(&draft, findings);
    warn_of_what_has_no_effect(&draft, findings);
    Some(draft)
}

fn judge_number(draft: &ServiceDraft, findings: &mut Findings) -> Option<()> {
    let most = defaults::MAXIMUM_VIRTUAL_SERVICES;
    let number = draft.subject.number();
    if number <= most {
        return Some(());
    }
    let message = format!(
        "its addresses, ports and protocols make {number} virtual services, and a service has at \
         most {most}; give the packets a mark, and write `firewall_mark`"
    );
    findings.add(&draft.origin, message);
    None
}

/// The kernel takes it and schedules nothing (`ip_vs_schedule`, `net/netfilter/ipvs/ip_vs_core.c`).
fn judge_every_port(draft: &ServiceDraft, findings: &mut Findings) {
    if let Subject::Sockets { ports, .. } = &draft.subject
        && matches!(ports.value, Ports::Any)
        && draft.persistence.is_none()
    {
        let message = "the kernel schedules every port with persistence only; write `persistence` \
                       too, or the ports";
        findings.add(&ports.origin, message);
    }
}

fn judge_one_packet_scheduling(draft: &ServiceDraft, findings: &mut Findings) {
    let mut servers = draft.real_servers.iter();
    if draft.one_packet_scheduling.value == OnePacketScheduling::On
        && let Some(server) = servers.find(|it| it.value.forwarding == Forwarding::Masquerading)
    {
        let message = format!(
            "{} is masqueraded: its answers need the entry of their flow to find the way back, and \
             one-packet scheduling leaves none; leave this out, or forward otherwise",
            server.value.key
        );
        findings.add(&draft.one_packet_scheduling.origin, message);
    }
    if let Subject::Sockets { protocols, .. } = &draft.subject
        && draft.one_packet_scheduling.value == OnePacketScheduling::On
        && !protocols.contains(&Protocol::Udp)
    {
        let message =
            "is for UDP, which `protocols` doesn't list; add `udp` there, or leave this out";
        findings.add(&draft.one_packet_scheduling.origin, message);
    }
}

fn resolved(draft: &ServiceDraft, checks: &[CheckDraft], findings: &mut Findings) -> Vec<Check> {
    let (protocols, port) = (draft.subject.protocols(), draft.subject.first_port());
    let checks = checks.iter();
    checks
        .filter_map(|check| check.resolve(protocols, port, findings))
        .collect()
}

/// What the checks speak for, in the order of the file.
fn protocols(draft: &ServiceDraft, checks: &[Check]) -> Vec<Protocol> {
    let spoken = |protocol: &&Protocol| {
        checks
            .iter()
            .any(|check| check.protocols.contains(protocol))
    };
    let listed = draft.subject.protocols().iter();
    listed
        .filter(|protocol| checks.is_empty() || spoken(protocol))
        .copied()
        .collect()
}

fn covers_dns(draft: &ServiceDraft) -> bool {
    matches!(&draft.subject, Subject::Sockets { ports, protocols, .. }
        if protocols.contains(&Protocol::Udp)
            && ports.value.numbers().any(|port| port == defaults::DNS_PORT))
}

/// Whether one-packet scheduling is in force for some of it.
fn has_one_packet_scheduling(draft: &ServiceDraft) -> bool {
    let asked = match draft.one_packet_scheduling.value {
        OnePacketScheduling::On => true,
        OnePacketScheduling::Off => false,
        OnePacketScheduling::ByPort => covers_dns(draft),
    };
    let mut servers = draft.real_servers.iter();
    asked && servers.any(|it| it.value.forwarding != Forwarding::Masquerading)
}

fn warn_of_what_defeats_balancing(draft: &ServiceDraft, findings: &mut Findings) {
    if let Some(persistence) = &draft.persistence
        && covers_dns(draft)
    {
        let message = format!(
            "UDP/53 with persistence isn't balanced: all that a resolver asks goes to one real \
             server until it is silent for {:?}, and a few resolvers ask most; leave it out, or \
             write a service of its own for what needs it",
            persistence.value.timeout
        );
        findings.warn(&persistence.origin, message);
    }
    let one_packet = &draft.one_packet_scheduling;
    if one_packet.value == OnePacketScheduling::Off && covers_dns(draft) {
        let message = "without it a resolver that asks UDP/53 from one port stays on one real \
                       server for as long as it asks, and every port of a client costs an entry \
                       for 300s (`ipvs.timeouts.udp`), of which the kernel's table has buckets for \
                       4096 (`conn_tab_bits` of module ip_vs); leave it out";
        findings.warn(&one_packet.origin, message);
    }
    if let Subject::FirewallMark {
        mark, protocols, ..
    } = &draft.subject
        && one_packet.value == OnePacketScheduling::ByPort
        && !draft.checks.is_empty()
        && protocols.contains(&Protocol::Udp)
    {
        let message = "whether the mark is for UDP/53 can't be known here, so that one-packet \
                       scheduling is off; write `one_packet_scheduling: true` if it is, or `false`";
        findings.warn(&mark.origin, message);
    }
    use Scheduler::{
        DestinationHashing, LeastConnection, LocalityBasedLeastConnection,
        LocalityBasedLeastConnectionWithReplication, NeverQueue, ShortestExpectedDelay,
        WeightedLeastConnection, WeightedOverflow,
    };
    let scheduler = &draft.scheduler;
    let name = scheduler.value;
    match scheduler.value {
        LeastConnection
        | WeightedLeastConnection
        | LocalityBasedLeastConnection
        | LocalityBasedLeastConnectionWithReplication
        | ShortestExpectedDelay
        | NeverQueue
        | WeightedOverflow
            if has_one_packet_scheduling(draft) && draft.real_servers.len() > 1 =>
        {
            let message = format!(
                "`{name}` counts connections, and one-packet scheduling leaves none to count: one \
                 real server would get nearly all of UDP; write wrr or mh, or a service of its own \
                 for TCP"
            );
            findings.warn(&scheduler.origin, message);
        }
        DestinationHashing
            if matches!(draft.subject, Subject::Sockets { .. }) && draft.real_servers.len() > 1 =>
        {
            let message = "`dh` picks by the address that clients ask, so that all that goes to one \
                           VIP goes to one real server; it is for marks, in front of caches";
            findings.warn(&scheduler.origin, message);
        }
        _ => {}
    }
}

fn warn_of_what_has_no_effect(draft: &ServiceDraft, findings: &mut Findings) {
    let servers = &draft.real_servers;
    for family in [Family::Ipv4, Family::Ipv6] {
        let weights: Vec<u16> = servers
            .iter()
            .filter(|server| Family::of(server.value.key.address) == family)
            .map(|server| server.value.weight)
            .collect();
        if !weights.is_empty() && weights.iter().all(|weight| *weight == 0) {
            let message = format!(
                "all weights of its {family} servers are 0, so that nobody gets a new client: those \
                 who ask are told that the port is unreachable"
            );
            findings.warn(&servers[0].origin, message);
        }
        let sum: u32 = weights.iter().copied().map(u32::from).sum();
        if draft.scheduler.value == Scheduler::SourceHashing && sum > SOURCE_HASHING_SLOTS {
            let message = format!(
                "`sh` deals out {SOURCE_HASHING_SLOTS} slots, a weight's worth to each server in \
                 turn, and the weights of its {family} servers add up to {sum}: the last ones get \
                 less or nothing; write smaller weights, or mh"
            );
            findings.warn(&draft.scheduler.origin, message);
        }
        let mut shares = weights.iter().filter(|weight| **weight > 0);
        let first = shares.next();
        let scheduler = &draft.scheduler;
        if shares.any(|share| Some(share) != first)
            && matches!(
                scheduler.value,
                Scheduler::RoundRobin | Scheduler::LeastConnection | Scheduler::DestinationHashing
            )
        {
            let name = scheduler.value;
            let right = match name {
                Scheduler::LeastConnection => "wlc",
                Scheduler::DestinationHashing => "mh",
                _ => "wrr",
            };
            let message = format!("`{name}` knows no weights but 0; write {right}");
            findings.warn(&scheduler.origin, message);
        }
    }
    if has_one_packet_scheduling(draft)
        && let Some(server) = servers.iter().find(|it| it.value.upper_threshold > 0)
    {
        let message = "`stop_at` counts connections, and one-packet scheduling leaves none: it \
                       never stops UDP";
        findings.warn(&server.origin, message);
    }
}
