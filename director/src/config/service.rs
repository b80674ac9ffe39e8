//! Reads `services`. Nothing here differs from node to node, so what one field of a service means
//! for another is judged here too.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::num::NonZeroU16;

use lvs_proto::dns::{Name, RecordType};
use lvs_proto::ipvs::{Forwarding, Protocol, Scheduler};

use super::document::Value;
use super::error::{Findings, Located, already};
use super::model::{Check, OnePacketScheduling, Probe, RealServer};
use super::reader::{self, Mapping, Place};
use super::{address, defaults};

/// A service whose holder has yet to be found.
pub(super) struct ServiceDraft {
    pub(super) name: Located<String>,
    pub(super) address: Located<Ipv4Addr>,
    pub(super) port: NonZeroU16,
    pub(super) protocols: Vec<Protocol>,
    pub(super) scheduler: Scheduler,
    pub(super) forwarding: Forwarding,
    pub(super) one_packet_scheduling: OnePacketScheduling,
    pub(super) check: Option<Check>,
    pub(super) real_servers: Vec<Located<RealServer>>,
    pub(super) external: Option<Located<bool>>,
}

const KEYS: [&str; 10] = [
    "name",
    "address",
    "port",
    "protocols",
    "scheduler",
    "forwarding",
    "one_packet_scheduling",
    "check",
    "real_servers",
    "external",
];

impl ServiceDraft {
    pub(super) fn read(place: &Place<'_>, findings: &mut Findings) -> Option<Self> {
        let keys = Mapping::of_known_keys(place, &KEYS, findings)?;
        let name = keys.required(
            "name",
            "write a name for logs, metrics and commands",
            findings,
            |place, findings| Some(place.located(reader::name(place, findings)?)),
        );
        let address = keys.required(
            "address",
            "write the VIP that clients ask",
            findings,
            service_address,
        );
        let port = keys.required("port", "write 53 for DNS", findings, port);
        let protocols = keys.required(
            "protocols",
            "write [udp, tcp] for DNS, which needs both",
            findings,
            protocols,
        );
        let scheduler = keys.optional("scheduler", findings, |place, findings| {
            reader::parsed(place, "the name of a scheduler, such as wrr", findings)
        });
        let forwarding = keys.optional("forwarding", findings, forwarding);
        let one_packet_scheduling =
            one_packet_scheduling(&keys, port, protocols.as_deref(), findings);
        let check = keys.required(
            "check",
            "without one a dead real server keeps its share of the clients; \
             write a `dns` check, or `check: none` to have it so",
            findings,
            check,
        );
        let real_servers = keys.required(
            "real_servers",
            "write a list such as [{ address: 192.0.2.2 }]",
            findings,
            |place, findings| real_servers(place, port, findings),
        );
        let external = keys.optional("external", findings, |place, findings| {
            Some(place.located(reader::boolean(place, findings)?))
        });
        Some(Self {
            name: name?,
            address: address?,
            port: port?,
            protocols: protocols?,
            scheduler: scheduler?.unwrap_or(defaults::SCHEDULER),
            forwarding: forwarding?.unwrap_or(defaults::FORWARDING),
            one_packet_scheduling: one_packet_scheduling?,
            check: check?,
            real_servers: real_servers?,
            external: external?,
        })
    }
}

fn service_address(place: &Place<'_>, findings: &mut Findings) -> Option<Located<Ipv4Addr>> {
    let for_ipv6 = "services are IPv4 only for now";
    let address = address::ipv4(place, for_ipv6, findings)?;
    if let Some(reason) = address::why_not_a_virtual_address(address.into()) {
        let message = format!("{address} {reason}; a service's address is one of the LAN");
        findings.add(&place.origin(), message);
        return None;
    }
    Some(place.located(address))
}

fn port(place: &Place<'_>, findings: &mut Findings) -> Option<NonZeroU16> {
    let number = reader::integer(place, 1..=65535, findings)?;
    NonZeroU16::new(u16::try_from(number).ok()?)
}

fn protocols(place: &Place<'_>, findings: &mut Findings) -> Option<Vec<Protocol>> {
    let words = [("udp", Protocol::Udp), ("tcp", Protocol::Tcp)];
    let mut seen = Vec::new();
    reader::filled_list(
        place,
        "a list such as [udp, tcp]",
        findings,
        |place, findings| {
            let protocol = reader::word(place, &words, findings)?;
            if seen.contains(&protocol) {
                findings.add(
                    &place.origin(),
                    format!("`{protocol}` is already listed; list it once"),
                );
                return None;
            }
            seen.push(protocol);
            Some(protocol)
        },
    )
}

fn forwarding(place: &Place<'_>, findings: &mut Findings) -> Option<Forwarding> {
    let text = reader::text(place, "`direct-routing`", findings)?;
    let message = match text {
        "direct-routing" => return Some(Forwarding::DirectRouting),
        "masquerading" | "nat" | "NAT" | "tunnel" | "tunneling" | "tun" | "TUN" | "local" => {
            format!("`{text}` is not supported in this version; must be `direct-routing`")
        }
        _ => format!("`{text}` is not known; must be `direct-routing`"),
    };
    findings.add(&place.origin(), message);
    None
}

fn one_packet_scheduling(
    keys: &Mapping<'_>,
    port: Option<NonZeroU16>,
    protocols: Option<&[Protocol]>,
    findings: &mut Findings,
) -> Option<OnePacketScheduling> {
    let asked = keys.optional("one_packet_scheduling", findings, |place, findings| {
        Some(place.located(reader::boolean(place, findings)?))
    })?;
    let udp = protocols?.contains(&Protocol::Udp);
    let Some(asked) = asked else {
        let enabled = udp && port?.get() == defaults::ONE_PACKET_SCHEDULING_PORT;
        return Some(OnePacketScheduling {
            enabled,
            configured: false,
        });
    };
    if asked.value && !udp {
        let message =
            "is for UDP, which `protocols` doesn't list; add `udp` there, or leave this out";
        findings.add(&asked.origin, message);
        return None;
    }
    Some(OnePacketScheduling {
        enabled: asked.value,
        configured: true,
    })
}

fn check(place: &Place<'_>, findings: &mut Findings) -> Option<Option<Check>> {
    if matches!(place.value(), Value::Text(text) if text == "none") {
        return Some(None);
    }
    if !matches!(place.value(), Value::Mapping(_)) {
        let kind = place.value().kind();
        let message = format!("must be `none` or a mapping with `dns`, but is {kind}");
        findings.add(&place.origin(), message);
        return None;
    }
    let known = ["dns", "interval", "timeout", "rise", "fall"];
    let keys = Mapping::of_known_keys(place, &known, findings)?;
    let probe = keys.required(
        "dns",
        "write the query, such as { name: example.org }",
        findings,
        dns,
    );
    let interval = keys.optional("interval", findings, |place, findings| {
        reader::duration_in(place, defaults::CHECK_INTERVALS, findings)
    });
    let known_interval = interval.map(|interval| interval.unwrap_or(defaults::CHECK_INTERVAL));
    let timeout = keys.optional("timeout", findings, |place, findings| {
        reader::timeout(place, known_interval, findings)
    });
    let rise = keys.optional("rise", findings, reader::count);
    let fall = keys.optional("fall", findings, reader::count);
    let interval = known_interval?;
    Some(Some(Check {
        probe: probe?,
        interval,
        timeout: timeout?.unwrap_or_else(|| defaults::CHECK_TIMEOUT.min(interval)),
        rise: rise?.unwrap_or(defaults::RISE),
        fall: fall?.unwrap_or(defaults::FALL),
    }))
}

fn dns(place: &Place<'_>, findings: &mut Findings) -> Option<Probe> {
    let keys = Mapping::of_known_keys(place, &["name", "type"], findings)?;
    let right = "write a name that every real server answers, such as example.org";
    let name = keys.required("name", right, findings, |place, findings| {
        reader::parsed::<Name>(place, "a domain name", findings)
    });
    let record_type = keys.optional("type", findings, |place, findings| {
        reader::parsed::<RecordType>(place, "a record type, such as A", findings)
    });
    Some(Probe::Dns {
        name: name?,
        record_type: record_type?.unwrap_or(defaults::RECORD_TYPE),
    })
}

fn real_servers(
    place: &Place<'_>,
    service_port: Option<NonZeroU16>,
    findings: &mut Findings,
) -> Option<Vec<Located<RealServer>>> {
    let what = "a list such as [{ address: 192.0.2.2 }]";
    let mut seen = HashMap::new();
    reader::filled_list(place, what, findings, |place, findings| {
        let keys = Mapping::of_known_keys(place, &["address", "port", "weight"], findings)?;
        let right = "write the real server's own address";
        let address = keys.required("address", right, findings, real_server_address);
        let port = keys.optional("port", findings, |place, findings| {
            real_server_port(place, service_port, findings)
        });
        let weight = keys.optional("weight", findings, |place, findings| {
            u16::try_from(reader::integer(place, 0..=65535, findings)?).ok()
        });
        let address = address?;
        if let Some(line) = already(&mut seen, address.value, &address.origin) {
            let value = address.value;
            let message = format!("{value} is already a real server in line {line}; list it once");
            findings.add(&address.origin, message);
            return None;
        }
        port?;
        let weight = weight?.unwrap_or(defaults::WEIGHT);
        let value = RealServer {
            address: address.value,
            weight,
        };
        Some(Located {
            value,
            origin: address.origin,
        })
    })
}

fn real_server_address(place: &Place<'_>, findings: &mut Findings) -> Option<Located<Ipv4Addr>> {
    let for_ipv6 = "direct routing hands packets on unchanged, so that a real server is of its \
                    service's family; write its IPv4 address";
    let address = address::ipv4(place, for_ipv6, findings)?;
    if let Some(reason) = address::why_not_a_host(address.into()) {
        let message = format!("{address} {reason}; write the real server's own address");
        findings.add(&place.origin(), message);
        return None;
    }
    Some(place.located(address))
}

/// Nothing to keep: under direct routing there is only one right answer.
fn real_server_port(
    place: &Place<'_>,
    service_port: Option<NonZeroU16>,
    findings: &mut Findings,
) -> Option<()> {
    let port = port(place, findings)?;
    let service_port = service_port?;
    if port == service_port {
        return Some(());
    }
    let message = format!(
        "{port} differs from the service's port, and direct routing cannot change a packet's \
         port; must be {service_port}, or leave it out"
    );
    findings.add(&place.origin(), message);
    None
}
