//! Packet filters in the way of adverts and of queries.
//!
//! The rules are read with the filter's own program and followed for the packets that matter. A rule that
//! isn't understood here may apply or not: what depends on such a one is said to be unknown, never wrong.

mod iptables;
mod nft;
mod ruleset;

use std::fs;
use std::net::IpAddr;
use std::process::{Command, Stdio};

use lvs_proto::vrrp::{Family, IP_PROTOCOL, Peers};

use super::Report;
use super::machine::Machine;
use super::modules::Modules;
use crate::config::Dataplane;
use ruleset::{Fate, Hook, Packet, Ruleset};

pub(super) fn examine(machine: &Machine<'_>, report: &mut Report) {
    let Some(rulesets) = read(report) else {
        return;
    };
    for instance in &machine.configuration().instances {
        let Some(link) = machine.link(&instance.interface) else {
            continue;
        };
        let destinations = match &instance.peers {
            Peers::Multicast => vec![instance.family().multicast_group()],
            Peers::Unicast { addresses, .. } => addresses.clone(),
        };
        let own = machine.picture.addresses.iter();
        let own = own.filter(|own| own.interface_index == link.index && !own.is_ours());
        let own = own
            .map(|own| own.address)
            .find(|own| Family::of(*own) == instance.family());
        let subject = format!("{} adverts", instance.name);
        let ways = destinations.iter().flat_map(|destination| {
            let (to, from) = match &instance.peers {
                Peers::Multicast => (*destination, None),
                // The peer's address is where its adverts come from.
                Peers::Unicast { .. } => (own.unwrap_or(*destination), Some(*destination)),
            };
            let inwards = Packet {
                protocol: IP_PROTOCOL.into(),
                source: from,
                destination: to,
                port: None,
                incoming: Some(&instance.interface),
                outgoing: None,
            };
            let outwards = Packet {
                source: own,
                destination: *destination,
                incoming: None,
                outgoing: Some(&instance.interface),
                ..inwards
            };
            [
                (Hook::Prerouting, inwards),
                (Hook::Input, inwards),
                (Hook::Output, outwards),
                (Hook::Postrouting, outwards),
            ]
        });
        let what = format!(
            "adverts (IP protocol {IP_PROTOCOL}) on {}",
            instance.interface
        );
        let advice = "accept IP protocol 112 to and from the other director: in nftables `meta l4proto vrrp accept`, \
                      before that rule";
        tell(&rulesets, ways, &subject, &what, advice, report);
    }
    queries(machine, &rulesets, report);
}

/// A query passes the hooks of what is for this machine, and those of what it sends: IPVS takes it at the end
/// of the first and forwards it by the others (`ip_vs_send_or_cont()`, `net/netfilter/ipvs/ip_vs_xmit.c`).
fn queries(machine: &Machine<'_>, rulesets: &[Ruleset], report: &mut Report) {
    let configuration = machine.configuration();
    if configuration.dataplane != Dataplane::Ipvs {
        return;
    }
    for service in &configuration.services {
        let server = service
            .real_servers
            .first()
            .map(|server| server.key.address);
        let way = server.and_then(|server| machine.way_to(server));
        let outgoing = way
            .and_then(|way| machine.link_of(&way))
            .map(|link| link.name.as_str());
        for (vip, protocol, port) in Machine::questions(service) {
            let mut vips = machine.vips();
            let incoming = vips.find(|one| one.address == vip).map(|one| one.interface);
            let inwards = Packet {
                protocol: protocol.number(),
                source: None,
                destination: vip,
                port: Some(port),
                incoming,
                outgoing: None,
            };
            let outwards = Packet {
                incoming: None,
                outgoing,
                ..inwards
            };
            let ways = [
                (Hook::Prerouting, inwards),
                (Hook::Input, inwards),
                (Hook::Output, outwards),
                (Hook::Postrouting, outwards),
            ];
            let subject = format!("{} {vip} port {port} {protocol}", service.name);
            let what = format!("queries to {vip}, port {port} {protocol}");
            let advice = "accept what comes to the VIPs and their ports, in the hooks input and output, before that \
                          rule";
            tell(rulesets, ways, &subject, &what, advice, report);
        }
    }
}

fn tell<'p>(
    rulesets: &[Ruleset],
    ways: impl IntoIterator<Item = (Hook, Packet<'p>)>,
    subject: &str,
    what: &str,
    advice: &str,
    report: &mut Report,
) {
    let mut doubt = None;
    for (hook, packet) in ways {
        for ruleset in rulesets {
            match ruleset.fate(hook, &packet) {
                Fate::Accepted => {}
                Fate::Dropped(rule) => {
                    return report.error(
                        "firewall",
                        subject,
                        format!("{what} are dropped by {rule}"),
                        advice,
                    );
                }
                Fate::Unclear(rule) => doubt = doubt.or(Some(rule)),
            }
        }
    }
    match doubt {
        Some(rule) => report.unknown(
            "firewall",
            subject,
            format!("whether {what} pass depends on {rule}"),
            Some("follow it by hand, or count: `nft monitor trace`".to_owned()),
        ),
        None => report.ok("firewall", subject, "nothing is in the way"),
    }
}

/// The rules of both packet filters; nothing where they can't be read, which is said.
fn read(report: &mut Report) -> Option<Vec<Ruleset>> {
    let mut rulesets = Vec::new();
    // Without the module nobody has rules, and asking would load it.
    if Modules::look().may_be_at_work("nf_tables") {
        match output("nft", &["--json", "--stateless", "list", "ruleset"]) {
            Ok(text) => match nft::read(&text) {
                Ok(ruleset) if text.contains("\"xt\":") => rulesets.extend(translated(ruleset)),
                Ok(ruleset) => rulesets.push(ruleset),
                Err(error) => {
                    report.unknown(
                        "firewall",
                        "",
                        format!("what nft lists isn't understood: {error}"),
                        None,
                    );
                    return None;
                }
            },
            Err(error) => {
                report.unknown(
                    "firewall",
                    "",
                    error,
                    Some("install nftables' program `nft`, and run it as root".to_owned()),
                );
                return None;
            }
        }
    }
    for (names, program, is_ipv6) in [
        ("/proc/net/ip_tables_names", "iptables-legacy-save", false),
        ("/proc/net/ip6_tables_names", "ip6tables-legacy-save", true),
    ] {
        // Empty, or not there, where nobody uses it.
        if fs::read_to_string(names).is_ok_and(|names| !names.is_empty()) {
            match output(program, &[]) {
                Ok(text) => rulesets.push(iptables::read(&text, is_ipv6)),
                Err(error) => {
                    report.unknown("firewall", "", error, Some("run it as root".to_owned()));
                    return None;
                }
            }
        }
    }
    Some(rulesets)
}

/// nft doesn't tell what the modules of iptables do that it holds; iptables' own program does.
fn translated(mut ruleset: Ruleset) -> Vec<Ruleset> {
    let mut rulesets = Vec::new();
    for (family, program, is_ipv6) in [
        ("ip", "iptables-nft-save", false),
        ("ip6", "ip6tables-nft-save", true),
    ] {
        // Without it what these rules do is unknown.
        let Ok(text) = output(program, &[]) else {
            continue;
        };
        let told = iptables::read(&text, is_ipv6);
        ruleset.chains.retain(|name, _| {
            !name
                .strip_prefix(family)
                .is_some_and(|name| told.chains.contains_key(name.trim_start()))
        });
        rulesets.push(told);
    }
    rulesets.push(ruleset);
    rulesets
}

fn output(program: &str, arguments: &[&str]) -> Result<String, String> {
    // Root's PATH may lack the folders of administrators' programs.
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let output = Command::new(program)
        .args(arguments)
        .env("PATH", path)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("the packet filter can't be read: {program}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().next().unwrap_or("it says nothing");
    Err(format!(
        "the packet filter can't be read: {program}: {said}"
    ))
}

/// Whether an address lies in a network.
fn is_within(address: IpAddr, network: IpAddr, prefix_length: u8) -> bool {
    let (one, other, width) = match (address, network) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (one.to_bits().into(), other.to_bits().into(), 32),
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits(), other.to_bits(), 128),
        _ => return false,
    };
    let shift = width - u32::from(prefix_length).min(width);
    let cut = |bits: u128| bits.checked_shr(shift).unwrap_or_default();
    cut(one) == cut(other)
}
