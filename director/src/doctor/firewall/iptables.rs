//! What `iptables-legacy-save` prints (iptables-save(8)), of the tables that drop.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

use super::is_within;
use super::ruleset::{
    Action, Base, Chain, Condition, Doubt, Holds, Hook, Packet, Rule, Ruleset, protocol_number,
};

/// Reads chains and rules; lines that aren't understood are rules that may do anything.
pub(super) fn read(text: &str, is_ipv6: bool) -> Ruleset {
    let mut chains: BTreeMap<String, Chain> = BTreeMap::new();
    let mut table = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            name.clone_into(&mut table);
        } else if let Some(chain) = line.strip_prefix(':') {
            let mut words = chain.split_whitespace();
            let name = words.next().unwrap_or_default();
            let base = hook(name).map(|hook| Base {
                hook,
                priority: priority(&table),
                drops: words.next() == Some("DROP"),
            });
            let chain = Chain {
                base,
                is_ipv6: Some(is_ipv6),
                rules: Vec::new(),
            };
            chains.insert(format!("{table} {name}"), chain);
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let (name, rest) = rule.split_once(' ').unwrap_or((rule, ""));
            if let Some(chain) = chains.get_mut(&format!("{table} {name}")) {
                chain.rules.push(read_rule(rest, &table, line));
            }
        }
    }
    Ruleset { chains }
}

fn hook(chain: &str) -> Option<Hook> {
    match chain {
        "PREROUTING" => Some(Hook::Prerouting),
        "INPUT" => Some(Hook::Input),
        "OUTPUT" => Some(Hook::Output),
        "POSTROUTING" => Some(Hook::Postrouting),
        _ => None,
    }
}

/// `NF_IP_PRI_*` (`linux/netfilter_ipv4.h`).
fn priority(table: &str) -> i64 {
    match table {
        "raw" => -300,
        "mangle" => -150,
        "security" => 50,
        _ => 0,
    }
}

fn read_rule(rule: &str, table: &str, line: &str) -> Rule {
    let mut conditions: Vec<Condition> = Vec::new();
    let mut action = Action::Continue;
    let mut words = rule.split_whitespace();
    let mut negated = false;
    while let Some(word) = words.next() {
        if word == "!" {
            negated = true;
            continue;
        }
        let is_negated = std::mem::take(&mut negated);
        let mut value = || words.next().unwrap_or_default();
        let condition: Box<dyn Fn(&Packet<'_>) -> Holds> = match word {
            "-p" => {
                let number = protocol_number(value());
                Box::new(move |packet| Ok(packet.protocol == number.ok_or(Doubt::Condition)?))
            }
            "-i" | "-o" => {
                let name = value().to_owned();
                let is_incoming = word == "-i";
                Box::new(move |packet| Ok(is_by(packet, is_incoming, &name)))
            }
            "-s" | "-d" => {
                let network = network(value());
                let is_source = word == "-s";
                Box::new(move |packet| {
                    let (network, length) = network.ok_or(Doubt::Condition)?;
                    let address = if is_source {
                        packet.source.ok_or(Doubt::Sender)?
                    } else {
                        packet.destination
                    };
                    Ok(is_within(address, network, length))
                })
            }
            // Modules say what the options behind them say anyway, but for this one.
            "-m" => match value() {
                "rpfilter" => Box::new(|_| Err(Doubt::Sender)),
                "udp" | "tcp" | "conntrack" | "state" | "comment" | "multiport" | "addrtype"
                | "iprange" | "set" | "mac" => continue,
                _ => Box::new(|_| Err(Doubt::Condition)),
            },
            "--dport" | "--dports" => {
                let ranges: Option<Vec<_>> = value().split(',').map(ports).collect();
                Box::new(move |packet| {
                    let ranges = ranges.as_ref().ok_or(Doubt::Condition)?;
                    let is_in = |port: u16| {
                        ranges
                            .iter()
                            .any(|(least, most)| (*least..=*most).contains(&port))
                    };
                    Ok(packet.port.is_some_and(is_in))
                })
            }
            "--ctstate" | "--state" => {
                let is_new = value().split(',').any(|state| state == "NEW");
                Box::new(move |_| Ok(is_new))
            }
            "--tcp-flags" => {
                // The first packet of a connection has SYN alone.
                let has_syn = |flags: &str| flags.split(',').any(|flag| flag == "SYN");
                let is_asked = has_syn(value());
                let expected = value();
                let is_first = expected == if is_asked { "SYN" } else { "NONE" };
                Box::new(move |packet| Ok(packet.protocol == 6 && is_first))
            }
            "--dst-type" => {
                let kind = value().to_owned();
                Box::new(move |packet| is_of_type(packet, &kind))
            }
            "--match-set" => {
                let _name = value();
                let is_sender = value().split(',').all(|part| part == "src");
                let doubt = if is_sender {
                    Doubt::Sender
                } else {
                    Doubt::Condition
                };
                Box::new(move |_| Err(doubt))
            }
            "--sport" | "--sports" | "--src-range" | "--src-type" | "--mac-source" => {
                let _who = value();
                Box::new(|_| Err(Doubt::Sender))
            }
            // How the reverse path is filtered.
            "--invert" | "--loose" | "--validmark" | "--accept-local" => continue,
            "--comment" => {
                skip_comment(&mut words);
                continue;
            }
            "-j" | "-g" => {
                let target = value();
                action = match Action::of_target(target) {
                    Some(action) => action,
                    None if word == "-g" => Action::Goto(format!("{table} {target}")),
                    None => Action::Jump(format!("{table} {target}")),
                };
                // Options of the target.
                break;
            }
            _ => Box::new(|_| Err(Doubt::Condition)),
        };
        conditions.push(Rc::new(move |packet| Ok(condition(packet)? != is_negated)));
    }
    Rule {
        conditions,
        action,
        text: format!("the rule `{line}` of table {table} in iptables"),
    }
}

fn is_by(packet: &Packet<'_>, is_incoming: bool, name: &str) -> bool {
    let found = if is_incoming {
        packet.incoming
    } else {
        packet.outgoing
    };
    let found = found.unwrap_or_default();
    match name.strip_suffix('+') {
        Some(start) => found.starts_with(start),
        None => found == name,
    }
}

/// What kind of address it goes to (iptables-extensions(8), addrtype).
fn is_of_type(packet: &Packet<'_>, kind: &str) -> Holds {
    let is_multicast = packet.destination.is_multicast();
    match kind {
        "MULTICAST" => Ok(is_multicast),
        "BROADCAST" => Ok(false),
        "LOCAL" | "UNICAST" if is_multicast => Ok(false),
        // What comes in and is followed here is for this machine.
        "LOCAL" if packet.incoming.is_some() => Ok(true),
        "UNICAST" if packet.incoming.is_some() => Ok(false),
        _ => Err(Doubt::Condition),
    }
}

fn skip_comment<'w>(words: &mut impl Iterator<Item = &'w str>) {
    let first = words.next().unwrap_or_default();
    let is_whole = !first.starts_with('"') || (first.len() > 1 && first.ends_with('"'));
    if !is_whole {
        let _ = words.find(|word| word.ends_with('"'));
    }
}

fn network(text: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = text.split_once('/').unwrap_or((text, ""));
    let address: IpAddr = address.parse().ok()?;
    let whole = if address.is_ipv4() { 32 } else { 128 };
    let length = if length.is_empty() {
        whole
    } else {
        length.parse().ok()?
    };
    Some((address, length))
}

fn ports(text: &str) -> Option<(u16, u16)> {
    let (least, most) = text.split_once(':').unwrap_or((text, text));
    Some((least.parse().ok()?, most.parse().ok()?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::ruleset::Fate;
    use super::*;

    fn is_dropped(rules: &str, packet: &Packet<'_>) -> Option<bool> {
        let text = format!(
            "# Generated\n*filter\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:extra - [0:0]\n{rules}\nCOMMIT\n"
        );
        match read(&text, false).fate(Hook::Input, packet) {
            Fate::Accepted => Some(false),
            Fate::Dropped(_) => Some(true),
            Fate::Unclear(_) => None,
        }
    }

    fn query() -> Packet<'static> {
        Packet {
            protocol: 17,
            source: None,
            destination: "192.0.2.1".parse().unwrap(),
            port: Some(53),
            incoming: Some("eth2"),
            outgoing: None,
        }
    }

    #[test]
    fn rules_are_followed_as_the_kernel_does() {
        let cases = [
            ("", Some(false)),
            ("-A INPUT -p vrrp -j DROP", Some(false)),
            (
                "-A INPUT -p udp -m udp --dport 53 -j REJECT --reject-with icmp-port-unreachable",
                Some(true),
            ),
            ("-A INPUT -d 192.0.2.0/24 -i eth2 -j DROP", Some(true)),
            ("-A INPUT ! -d 192.0.2.0/24 -j DROP", Some(false)),
            ("-A INPUT -i eth0 -j DROP", Some(false)),
            (
                "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j DROP",
                Some(false),
            ),
            (
                "-A INPUT -m comment --comment \"of the office\" -j DROP",
                Some(true),
            ),
            ("-A INPUT -m limit --limit 5/sec -j DROP", None),
            (
                "-A INPUT -p vrrp -m limit --limit 5/sec -j DROP",
                Some(false),
            ),
            (
                "-A INPUT -p udp -m multiport --dports 53,853 -j DROP",
                Some(true),
            ),
            (
                "-A INPUT -p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -j DROP",
                Some(false),
            ),
            (
                "-A INPUT -m set --match-set blocked src -j DROP\n-A INPUT -m rpfilter --invert -j DROP",
                Some(false),
            ),
            ("-A INPUT -m set --match-set blocked dst -j DROP", None),
            (
                "-A INPUT -m addrtype --dst-type LOCAL -j RETURN\n-A INPUT -j DROP",
                Some(false),
            ),
            ("-A INPUT -p udp -j NFQUEUE --queue-num 0", None),
            ("-A INPUT -p udp -j elsewhere", None),
            ("-A INPUT -s 192.0.2.7/32 -j ACCEPT\n-A INPUT -j DROP", None),
            (
                "-A INPUT -p udp -j extra\n-A extra -m udp --dport 50:60 -j DROP",
                Some(true),
            ),
            (
                "-A INPUT -p udp -j extra\n-A extra -j RETURN\n-A INPUT -j DROP",
                Some(true),
            ),
        ];
        for (rules, expected) in cases {
            assert_eq!(is_dropped(rules, &query()), expected, "{rules}");
        }
    }
}
