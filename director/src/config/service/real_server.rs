//! Reads the servers behind a service.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU16;

use lvs_configuration::address;
use lvs_configuration::error::{Findings, Located, already};
use lvs_configuration::reader::{self, Mapping, Place};
use lvs_proto::ipvs::Forwarding;

use super::forwarding;
use crate::config::defaults;
use crate::config::model::{RealServer, RealServerKey};

/// What a service says for all its servers.
pub(super) struct Context {
    /// The port of its virtual services, where there is only one.
    pub(super) port: Option<NonZeroU16>,
    /// Where a server says nothing else.
    pub(super) forwarding: Forwarding,
}

/// The servers of a service; without `context`, where something was wrong, only what a server says
/// by itself is judged.
pub(super) fn list(
    place: &Place<'_>,
    context: Option<&Context>,
    findings: &mut Findings,
) -> Option<Vec<Located<RealServer>>> {
    let what = "a list such as [{ address: 192.0.2.2 }]";
    let mut seen = BTreeMap::new();
    reader::filled_list(place, what, findings, |place, findings| {
        let server = read(place, &KEYS, context, findings)?;
        if let Some(line) = already(&mut seen, server.value.key, &server.origin) {
            let key = server.value.key;
            let message = format!("{key} is already a real server in line {line}; list it once");
            findings.add(&server.origin, message);
            return None;
        }
        Some(server)
    })
}

/// A server that takes the place of all others.
pub(super) fn sorry(
    place: &Place<'_>,
    context: Option<&Context>,
    findings: &mut Findings,
) -> Option<Located<RealServer>> {
    read(place, &["address", "port", "forwarding"], context, findings)
}

const KEYS: [&str; 6] = [
    "address",
    "port",
    "weight",
    "forwarding",
    "stop_at",
    "resume_below",
];

fn read(
    place: &Place<'_>,
    known: &[&'static str],
    context: Option<&Context>,
    findings: &mut Findings,
) -> Option<Located<RealServer>> {
    let keys = Mapping::of_known_keys(place, known, findings)?;
    let right = "write the real server's own address";
    let address = keys.required("address", right, findings, own_address);
    let own_forwarding = keys.optional("forwarding", findings, forwarding::read);
    let forwarding =
        own_forwarding.and_then(|own| own.or_else(|| context.map(|all| all.forwarding)));
    let port = keys.optional("port", findings, |place, findings| {
        let port = reader::port(place, findings)?;
        own_port(place, port, context?, forwarding?, findings)
    });
    let weight = keys.optional("weight", findings, |place, findings| {
        u16::try_from(reader::integer(place, 0..=65535, findings)?).ok()
    });
    let threshold = |place: &Place<'_>, findings: &mut Findings| {
        let number = reader::integer(place, 1..=i64::from(i32::MAX), findings)?;
        u32::try_from(number).ok()
    };
    let upper = keys.optional("stop_at", findings, threshold);
    let lower = keys.optional("resume_below", findings, |place, findings| {
        let lower = threshold(place, findings)?;
        let right = match upper? {
            Some(upper) if lower <= upper => return Some(lower),
            Some(upper) => format!("is more than `stop_at`; must be at most {upper}"),
            None => "is of use with `stop_at` only; write that too, or leave this out".to_owned(),
        };
        findings.add(&place.origin(), right);
        None
    });
    let address = address?;
    Some(Located {
        value: RealServer {
            key: RealServerKey {
                address: address.value,
                port: port?.flatten(),
            },
            weight: weight?.unwrap_or(defaults::WEIGHT),
            forwarding: forwarding?,
            upper_threshold: upper?.unwrap_or(0),
            lower_threshold: lower?.unwrap_or(0),
        },
        origin: address.origin,
    })
}

fn own_address(place: &Place<'_>, findings: &mut Findings) -> Option<Located<IpAddr>> {
    let text = reader::text(place, "the real server's own address", findings)?;
    let judged = address::parse(text).and_then(|address| {
        let mapped = matches!(address, IpAddr::V6(it) if it.to_ipv4_mapped().is_some());
        let reason = if address::is_link_local(address) {
            Some("is link-local, which the kernel refuses")
        } else if mapped {
            Some("is an IPv4 address written as IPv6")
        } else {
            address::why_not_a_host(address)
        };
        match reason {
            Some(reason) => Err(format!(
                "{address} {reason}; write the real server's own address"
            )),
            None => Ok(address),
        }
    });
    let address = judged.map_err(|message| findings.add(&place.origin(), message));
    Some(place.located(address.ok()?))
}

/// Its own port, unless that is the service's anyway. The kernel takes any and forgets it, but where
/// it masquerades.
fn own_port(
    place: &Place<'_>,
    port: NonZeroU16,
    context: &Context,
    forwarding: Forwarding,
    findings: &mut Findings,
) -> Option<Option<NonZeroU16>> {
    let Some(services) = context.port else {
        let message = "the service hasn't one port that could become this one, so that packets keep \
                       theirs; leave it out";
        findings.add(&place.origin(), message);
        return None;
    };
    if port == services {
        return Some(None);
    }
    let obstacle = match forwarding {
        Forwarding::Masquerading => return Some(Some(port)),
        Forwarding::Tunnel(_) => "a tunnel",
        _ => "direct routing",
    };
    let message = format!(
        "{port} differs from the service's port, and {obstacle} cannot change a packet's port; must \
         be {services}, or leave it out"
    );
    findings.add(&place.origin(), message);
    None
}
