//! What the program decides about the kernel's table by itself, why, and what it costs.

use lvs_proto::Family;
use lvs_proto::ipvs::{Forwarding, Scheduler, ServiceFlags};

use crate::config::{
    Configuration, Dataplane, Holder, Ipvs, OnePacketScheduling, Program, Service,
};
use crate::dataplane::settings;

/// Of one-packet scheduling of a service.
pub(super) struct OnePacketPolicy {
    pub(super) enabled: bool,
    /// What it is in force for, and why.
    pub(super) reason: &'static str,
    /// What the operator has to do for it.
    pub(super) costs: Vec<&'static str>,
}

const FRAGMENTATION: &str = "ICMP \"fragmentation needed\" doesn't reach real servers: they should \
                            send UDP answers of at most 1232 bytes, or without DF";
const COOKIES: &str = "a client's queries reach different real servers: DNS cookies need one secret \
                      on all of them";
const ENTRIES: &str = "a resolver that asks from one port stays on one real server while it asks, and \
                      every port of a client is an entry for 300s (ipvs.timeouts.udp): raise \
                      conn_tab_bits of module ip_vs for many";

pub(super) fn one_packet_scheduling(service: &Service) -> OnePacketPolicy {
    let policy = service.one_packet_scheduling;
    let keys = || service.virtual_services.iter().map(|one| one.key);
    let enabled = keys().any(|key| service.has_one_packet_scheduling(&key));
    let masqueraded =
        keys().any(|key| policy.asks_for(&key) && !service.has_one_packet_scheduling(&key));
    let reason = match policy {
        OnePacketScheduling::On => "for UDP, as the file says",
        OnePacketScheduling::Off => "as the file says",
        OnePacketScheduling::ByPort if enabled && masqueraded => {
            "for UDP/53, the default, but where real servers are masqueraded"
        }
        OnePacketScheduling::ByPort if enabled => {
            "for UDP/53, the default: every query is scheduled by itself, whatever port it comes from"
        }
        OnePacketScheduling::ByPort if masqueraded => {
            "since answers of masqueraded real servers need the entry of their flow"
        }
        OnePacketScheduling::ByPort => "the default but for UDP/53",
    };
    let mut costs = Vec::new();
    if enabled {
        costs.push(FRAGMENTATION);
        if !keeps_clients(service) {
            costs.push(COOKIES);
        }
    }
    if masqueraded {
        costs.push(ENTRIES);
    }
    OnePacketPolicy {
        enabled,
        reason,
        costs,
    }
}

/// Whether all queries of a client go to one real server anyway.
fn keeps_clients(service: &Service) -> bool {
    let by_address = matches!(
        service.scheduler,
        Scheduler::SourceHashing | Scheduler::MaglevHashing
    ) && !service.scheduler_flags.contains(ServiceFlags::SCHEDULER_2);
    by_address || service.persistence.is_some() || service.real_servers.len() == 1
}

/// When a service's virtual services are in the kernel.
pub(super) fn programmed(service: &Service, program: Program) -> &'static str {
    let external = |holder: &Holder| *holder == Holder::External;
    if service
        .virtual_services
        .iter()
        .all(|one| external(&one.holder))
    {
        return "always";
    }
    match program {
        Program::Always => "on a Backup too, with itself alone if it is a real server",
        Program::WhenActive => "while held here",
    }
}

/// What [`Program`] means for all.
pub(super) fn program(ipvs: &Ipvs) -> &'static str {
    match ipvs.program {
        Program::Always => {
            "always; a service with this machine among its real servers only while held here"
        }
        Program::WhenActive => "when-active: a service is in the kernel only while held here",
    }
}

/// A setting of the kernel that is made while the director runs.
pub(super) struct Setting {
    pub(super) name: &'static str,
    pub(super) value: &'static str,
    pub(super) reason: &'static str,
}

/// The settings that services need.
pub(super) fn settings(configuration: &Configuration) -> Vec<Setting> {
    let services = &configuration.services;
    if configuration.dataplane == Dataplane::None || services.is_empty() {
        return Vec::new();
    }
    let masqueraded = |family| {
        let mut servers = services.iter().flat_map(|service| &service.real_servers);
        servers.any(|server| {
            server.forwarding == Forwarding::Masquerading
                && Family::of(server.key.address) == family
        })
    };
    let persistent = services.iter().any(|it| it.persistence.is_some());
    let all = [
        (
            settings::EXPIRE_NODEST_CONN,
            true,
            "flows of a removed real server go to another at once, not nowhere for minutes",
        ),
        (
            settings::EXPIRE_QUIESCENT_TEMPLATE,
            persistent,
            "persistent clients leave a real server of weight 0",
        ),
        (
            settings::RUN_ESTIMATION,
            true,
            "counters stand still without it",
        ),
        (
            settings::IPV4_FORWARDING,
            masqueraded(Family::Ipv4),
            "answers of masqueraded real servers pass through here",
        ),
        (
            settings::IPV6_FORWARDING,
            masqueraded(Family::Ipv6),
            "answers of masqueraded real servers pass through here; where it was 0, the kernel drops \
             default routes that routers advertise, unless accept_ra of the interface is 2",
        ),
    ];
    all.into_iter()
        .filter(|(_, wanted, _)| *wanted)
        .map(|(name, _, reason)| Setting {
            name,
            value: settings::ON,
            reason,
        })
        .collect()
}
