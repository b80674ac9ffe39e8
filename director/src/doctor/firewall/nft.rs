//! What `nft --json list ruleset` prints (libnftables-json(5)).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

use serde_json::{Value, json};

use super::is_within;
use super::ruleset::{
    Action, Base, Chain, Condition, Doubt, Hook, Packet, Rule, Ruleset, protocol_number,
};

/// Reads chains and rules of the families that packets of IP pass.
pub(super) fn read(text: &str) -> Result<Ruleset, serde_json::Error> {
    let document: Value = serde_json::from_str(text)?;
    let objects = document["nftables"].as_array().cloned().unwrap_or_default();
    let sets: BTreeMap<String, Value> = objects
        .iter()
        .filter_map(|object| {
            let set = object.get("set").or_else(|| object.get("map"))?;
            Some((
                format!("{} @{}", table(set), word(set, "name")),
                set["elem"].clone(),
            ))
        })
        .collect();
    let mut ruleset = Ruleset::default();
    for object in &objects {
        if let Some(chain) = object.get("chain").filter(|chain| is_ip(chain)) {
            let name = format!("{} {}", table(chain), word(chain, "name"));
            ruleset.chains.entry(name).or_insert_with(|| Chain {
                base: base(chain),
                is_ipv6: match word(chain, "family") {
                    "ip" => Some(false),
                    "ip6" => Some(true),
                    _ => None,
                },
                rules: Vec::new(),
            });
        }
        if let Some(rule) = object.get("rule").filter(|rule| is_ip(rule)) {
            let name = format!("{} {}", table(rule), word(rule, "chain"));
            ruleset
                .chains
                .entry(name)
                .or_default()
                .rules
                .extend(read_rule(rule, &sets));
        }
    }
    Ok(ruleset)
}

fn is_ip(object: &Value) -> bool {
    matches!(word(object, "family"), "ip" | "ip6" | "inet")
}

fn word<'v>(object: &'v Value, key: &str) -> &'v str {
    object[key].as_str().unwrap_or_default()
}

fn table(object: &Value) -> String {
    format!("{} {}", word(object, "family"), word(object, "table"))
}

fn base(chain: &Value) -> Option<Base> {
    let hook = match word(chain, "hook") {
        "prerouting" => Hook::Prerouting,
        "input" => Hook::Input,
        "output" => Hook::Output,
        "postrouting" => Hook::Postrouting,
        _ => return None,
    };
    Some(Base {
        hook,
        priority: chain["prio"].as_i64().unwrap_or_default(),
        drops: word(chain, "policy") == "drop",
    })
}

/// A verdict map is a rule for each of its elements.
fn read_rule(rule: &Value, sets: &BTreeMap<String, Value>) -> Vec<Rule> {
    let mut conditions: Vec<Condition> = Vec::new();
    let mut ways = vec![(None, Action::Continue)];
    let table = table(rule);
    for expression in rule["expr"].as_array().into_iter().flatten() {
        let Some((kind, value)) = expression.as_object().and_then(|one| one.iter().next()) else {
            continue;
        };
        match kind.as_str() {
            "match" => conditions.push(condition(value, &table, sets)),
            "vmap" => ways = verdict_map(value, &table, sets),
            "xt" if word(value, "type") == "target" => {
                let action = Action::of_target(word(value, "name")).unwrap_or(Action::Unclear);
                ways = vec![(None, action)];
            }
            "xt" | "limit" | "quota" | "ct count" | "dynset" => {
                conditions.push(Rc::new(|_| Err(Doubt::Condition)));
            }
            _ => {
                if let Some(action) = verdict(kind, value, &table) {
                    ways = vec![(None, action)];
                }
            }
        }
    }
    let comment = rule["comment"].as_str();
    let comment = comment.map_or_else(String::new, |comment| format!(" (\"{comment}\")"));
    let text = format!(
        "rule {} of chain {table} {} in nftables{comment}; `nft --handle list chain {table} {}` shows it",
        rule["handle"],
        word(rule, "chain"),
        word(rule, "chain"),
    );
    ways.into_iter()
        .map(|(condition, action)| Rule {
            conditions: conditions.iter().cloned().chain(condition).collect(),
            action,
            text: text.clone(),
        })
        .collect()
}

/// Nothing of what lets the packet go on: counters, logs, marks, notrack.
fn verdict(kind: &str, value: &Value, table: &str) -> Option<Action> {
    let target = || format!("{table} {}", word(value, "target"));
    Some(match kind {
        "accept" => Action::Accept,
        "drop" | "reject" => Action::Drop,
        "return" => Action::Return,
        "jump" => Action::Jump(target()),
        "goto" => Action::Goto(target()),
        // Of a new flow the rest of the chain isn't asked.
        "masquerade" | "snat" => Action::Accept,
        "dnat" | "fwd" | "queue" | "redirect" | "synproxy" | "tproxy" => Action::Unclear,
        _ => return None,
    })
}

fn verdict_map(
    map: &Value,
    table: &str,
    sets: &BTreeMap<String, Value>,
) -> Vec<(Option<Condition>, Action)> {
    let data = &map["data"];
    let elements = match data.as_str().and_then(|name| name.strip_prefix('@')) {
        Some(name) => sets.get(&format!("{table} @{name}")),
        None => Some(&data["set"]),
    };
    let Some(elements) = elements.filter(|elements| elements.is_array() || elements.is_null())
    else {
        return vec![(None, Action::Unclear)];
    };
    let elements = elements.as_array().into_iter().flatten();
    elements
        .map(|element| {
            let found = element[1].as_object().and_then(|one| one.iter().next());
            let action = found.map_or(Action::Unclear, |(kind, value)| {
                verdict(kind, value, table).unwrap_or(Action::Continue)
            });
            let key = json!({ "op": "==", "left": map["key"], "right": element[0] });
            (Some(condition(&key, table, sets)), action)
        })
        .collect()
}

/// What a rule looks at.
#[derive(Clone, Copy)]
enum Field {
    Protocol,
    /// Of IPv6 or of IPv4, which is a condition too.
    ProtocolOf {
        is_ipv6: bool,
    },
    Incoming,
    Outgoing,
    Source {
        is_ipv6: bool,
    },
    Destination {
        is_ipv6: bool,
    },
    /// Of a transport, which is a condition too.
    Port {
        protocol: Option<u16>,
    },
    /// Those of this mask: the first packet of a connection has SYN alone.
    TcpFlags {
        mask: u16,
    },
    Connection,
    IpVersion,
    Cast,
}

/// What the packet has there.
enum Found {
    Number(u16),
    Text(String),
    Address(IpAddr),
}

fn field(left: &Value) -> Option<Field> {
    if let Some(meta) = left.get("meta") {
        return Some(match word(meta, "key") {
            "l4proto" => Field::Protocol,
            "iifname" | "iif" => Field::Incoming,
            "oifname" | "oif" => Field::Outgoing,
            "nfproto" | "protocol" => Field::IpVersion,
            "pkttype" => Field::Cast,
            _ => return None,
        });
    }
    if let Some(ct) = left.get("ct") {
        return (word(ct, "key") == "state").then_some(Field::Connection);
    }
    let masked = left["&"].as_array().map(Vec::as_slice);
    let (left, mask) = match masked {
        Some([left, mask]) => (left, Some(mask)),
        _ => (left, None),
    };
    let payload = left.get("payload")?;
    if let ("tcp", "flags") = (word(payload, "protocol"), word(payload, "field")) {
        let mask = mask.map_or(Some(u16::MAX), tcp_flags)?;
        return Some(Field::TcpFlags { mask });
    }
    if mask.is_some() {
        return None;
    }
    Some(match (word(payload, "protocol"), word(payload, "field")) {
        ("ip", "protocol") => Field::ProtocolOf { is_ipv6: false },
        ("ip6", "nexthdr") => Field::ProtocolOf { is_ipv6: true },
        ("ip", "saddr") => Field::Source { is_ipv6: false },
        ("ip6", "saddr") => Field::Source { is_ipv6: true },
        ("ip", "daddr") => Field::Destination { is_ipv6: false },
        ("ip6", "daddr") => Field::Destination { is_ipv6: true },
        ("udp", "dport") => Field::Port { protocol: Some(17) },
        ("tcp", "dport") => Field::Port { protocol: Some(6) },
        ("th", "dport") => Field::Port { protocol: None },
        _ => return None,
    })
}

/// `SYN` (`linux/tcp.h`).
const SYN: u16 = 2;

fn tcp_flags(value: &Value) -> Option<u16> {
    if let Some(several) = value.as_array().or_else(|| value["|"].as_array()) {
        let mut flags = several.iter().map(tcp_flags);
        return flags.try_fold(0, |all, one| Some(all | one?));
    }
    Some(match value.as_str() {
        Some("fin") => 1,
        Some("syn") => SYN,
        Some("rst") => 4,
        Some("psh") => 8,
        Some("ack") => 16,
        Some("urg") => 32,
        Some("ecn") => 64,
        Some("cwr") => 128,
        Some(_) => return None,
        None => u16::try_from(value.as_u64()?).ok()?,
    })
}

fn condition(value: &Value, table: &str, sets: &BTreeMap<String, Value>) -> Condition {
    let operator = word(value, "op").to_owned();
    if !matches!(operator.as_str(), "==" | "in" | "!=") {
        return Rc::new(|_| Err(Doubt::Condition));
    }
    let is_negated = operator == "!=";
    let left = &value["left"];
    let Some(field) = field(left) else {
        let doubt = if looks_at_sender(left) {
            Doubt::Sender
        } else {
            Doubt::Condition
        };
        let left = left.clone();
        return Rc::new(move |packet| match has(packet, &left) {
            false => Ok(false),
            true => Err(doubt),
        });
    };
    let right = match value["right"]
        .as_str()
        .and_then(|name| name.strip_prefix('@'))
    {
        Some(name) => sets
            .get(&format!("{table} @{name}"))
            .cloned()
            .unwrap_or_default(),
        None => value["right"].clone(),
    };
    Rc::new(move |packet| {
        let Some(found) = look(field, packet)? else {
            // A packet that has no such field matches neither way.
            return Ok(false);
        };
        let holds = match (&found, field) {
            // Names stand for one number together, or after `in` for any of their bits.
            (Found::Number(found), Field::TcpFlags { .. }) if right.get("set").is_none() => {
                tcp_flags(&right).map(|right| match operator.as_str() {
                    "in" => found & right != 0,
                    _ => *found == right,
                })
            }
            _ => is_among(&found, &right),
        };
        Ok(holds.ok_or(Doubt::Condition)? != is_negated)
    })
}

/// Whether the packet has at all what isn't understood further: headers of other protocols it has not.
fn has(packet: &Packet<'_>, left: &Value) -> bool {
    if left.get("exthdr").is_some() {
        return false;
    }
    let parts = ["&", "concat"].map(|key| left[key].as_array());
    let mut parts = parts.into_iter().flatten().flatten();
    let has_parts = parts.all(|part| has(packet, part));
    let has_payload = match word(&left["payload"], "protocol") {
        "ip" => packet.destination.is_ipv4(),
        "ip6" => packet.destination.is_ipv6(),
        name => protocol_number(name).is_none_or(|number| number == packet.protocol),
    };
    has_parts && has_payload
}

/// At its addresses or its port; the way back to it is the reverse path filter.
fn looks_at_sender(left: &Value) -> bool {
    let mut parts = left["concat"].as_array().into_iter().flatten();
    let mut flags = left["fib"]["flags"].as_array().into_iter().flatten();
    matches!(word(&left["payload"], "field"), "saddr" | "sport")
        || flags.any(|flag| flag == "saddr")
        || parts.any(looks_at_sender)
}

/// Nothing when the packet has no such field.
fn look(field: Field, packet: &Packet<'_>) -> Result<Option<Found>, Doubt> {
    let is_ipv6_packet = packet.destination.is_ipv6();
    let of_version = |is_ipv6: bool, found: Found| (is_ipv6 == is_ipv6_packet).then_some(found);
    let interface = |name: Option<&str>| Some(Found::Text(name.unwrap_or_default().to_owned()));
    Ok(match field {
        Field::Protocol => Some(Found::Number(packet.protocol)),
        Field::ProtocolOf { is_ipv6 } => of_version(is_ipv6, Found::Number(packet.protocol)),
        Field::Incoming => interface(packet.incoming),
        Field::Outgoing => interface(packet.outgoing),
        Field::Source { is_ipv6 } => match packet.source {
            Some(source) => of_version(is_ipv6, Found::Address(source)),
            None if is_ipv6 == is_ipv6_packet => return Err(Doubt::Sender),
            None => None,
        },
        Field::Destination { is_ipv6 } => of_version(is_ipv6, Found::Address(packet.destination)),
        Field::Port { protocol } => match packet.port {
            Some(port) if protocol.is_none_or(|one| one == packet.protocol) => {
                Some(Found::Number(port))
            }
            _ => None,
        },
        Field::TcpFlags { mask } => (packet.protocol == 6).then_some(Found::Number(SYN & mask)),
        Field::Connection => Some(Found::Text("new".to_owned())),
        Field::IpVersion => Some(Found::Text(
            if is_ipv6_packet { "ipv6" } else { "ipv4" }.to_owned(),
        )),
        Field::Cast => {
            let cast = if packet.destination.is_multicast() {
                "multicast"
            } else {
                "host"
            };
            Some(Found::Text(cast.to_owned()))
        }
    })
}

/// Nothing when that isn't understood.
fn is_among(found: &Found, right: &Value) -> Option<bool> {
    if let Some(items) = right.as_array().or_else(|| right["set"].as_array()) {
        let mut unclear = false;
        for item in items {
            match is_among(found, item) {
                Some(true) => return Some(true),
                Some(false) => {}
                None => unclear = true,
            }
        }
        return if unclear { None } else { Some(false) };
    }
    if let Some(element) = right.get("elem") {
        return is_among(found, &element["val"]);
    }
    match found {
        Found::Text(text) => {
            let pattern = right.as_str()?;
            Some(match pattern.strip_suffix('*') {
                Some(start) => text.starts_with(start),
                None => {
                    text == pattern
                        || (text == "ipv4" && pattern == "ip")
                        || (text == "ipv6" && pattern == "ip6")
                }
            })
        }
        Found::Number(number) => match right["range"].as_array().map(Vec::as_slice) {
            Some([least, most]) => Some((number_of(least)?..=number_of(most)?).contains(number)),
            _ => Some(number_of(right)? == *number),
        },
        Found::Address(address) => {
            if let Some([least, most]) = right["range"].as_array().map(Vec::as_slice) {
                let bounds = address_of(least)?..=address_of(most)?;
                return Some(bounds.contains(address));
            }
            let prefix = &right["prefix"];
            match prefix["len"].as_u64() {
                Some(length) => Some(is_within(
                    *address,
                    address_of(&prefix["addr"])?,
                    u8::try_from(length).ok()?,
                )),
                None => Some(address_of(right)? == *address),
            }
        }
    }
}

fn address_of(value: &Value) -> Option<IpAddr> {
    value.as_str()?.parse().ok()
}

fn number_of(value: &Value) -> Option<u16> {
    match value {
        Value::Number(number) => u16::try_from(number.as_u64()?).ok(),
        Value::String(name) => protocol_number(name).or_else(|| tcp_flags(value)),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::ruleset::Fate;
    use super::*;

    fn fate(rules: &[&str], policy: &str, packet: &Packet<'_>) -> Fate {
        let rules: Vec<String> = rules
            .iter()
            .enumerate()
            .map(|(handle, expressions)| {
                let chain = if expressions.contains("\"x\"") { "extra" } else { "input" };
                format!(
                    "{{\"rule\": {{\"family\": \"inet\", \"table\": \"filter\", \"chain\": \"{chain}\", \
                     \"handle\": {handle}, \"expr\": [{expressions}]}}}}"
                )
            })
            .collect();
        let text = format!(
            "{{\"nftables\": [{{\"metainfo\": {{}}}}, \
             {{\"set\": {{\"family\": \"inet\", \"table\": \"filter\", \"name\": \"vips\", \"elem\": [\"192.0.2.1\"]}}}}, \
             {{\"chain\": {{\"family\": \"inet\", \"table\": \"filter\", \"name\": \"extra\"}}}}, \
             {{\"chain\": {{\"family\": \"inet\", \"table\": \"filter\", \"name\": \"input\", \"type\": \"filter\", \
             \"hook\": \"input\", \"prio\": 0, \"policy\": \"{policy}\"}}}}, {}]}}",
            rules.join(", ")
        );
        read(&text).unwrap().fate(Hook::Input, packet)
    }

    fn matching(left: &str, right: &str) -> String {
        format!("{{\"match\": {{\"op\": \"==\", \"left\": {left}, \"right\": {right}}}}}")
    }

    const ACCEPT: &str = "{\"accept\": null}";
    const DROP: &str = "{\"counter\": {\"packets\": 0}}, {\"drop\": null}";
    const L4PROTO: &str = "{\"meta\": {\"key\": \"l4proto\"}}";
    const SADDR: &str = "{\"payload\": {\"protocol\": \"ip\", \"field\": \"saddr\"}}";
    const DADDR: &str = "{\"payload\": {\"protocol\": \"ip\", \"field\": \"daddr\"}}";
    const IIFNAME: &str = "{\"meta\": {\"key\": \"iifname\"}}";
    const UDP_PORT: &str = "{\"payload\": {\"protocol\": \"udp\", \"field\": \"dport\"}}";
    const STATE: &str = "{\"ct\": {\"key\": \"state\"}}";

    fn advert() -> Packet<'static> {
        Packet {
            protocol: 112,
            source: None,
            destination: "224.0.0.18".parse().unwrap(),
            port: None,
            incoming: Some("eth2"),
            outgoing: None,
        }
    }

    fn query() -> Packet<'static> {
        Packet {
            protocol: 17,
            destination: "192.0.2.1".parse().unwrap(),
            port: Some(53),
            ..advert()
        }
    }

    fn is_dropped(rules: &[String], policy: &str, packet: &Packet<'_>) -> Option<bool> {
        let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
        match fate(&rules, policy, packet) {
            Fate::Accepted => Some(false),
            Fate::Dropped(_) => Some(true),
            Fate::Unclear(_) => None,
        }
    }

    #[test]
    fn without_rules_the_policy_decides() {
        assert_eq!(
            is_dropped(&["{}".to_owned()], "accept", &advert()),
            Some(false)
        );
        assert_eq!(
            is_dropped(&["{}".to_owned()], "drop", &advert()),
            Some(true)
        );
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let accepts = |right: &str| format!("{}, {ACCEPT}", matching(L4PROTO, right));
        for right in ["\"vrrp\"", "112", "{\"set\": [\"icmp\", \"vrrp\"]}"] {
            assert_eq!(
                is_dropped(&[accepts(right), DROP.to_owned()], "drop", &advert()),
                Some(false),
                "{right}"
            );
            assert_eq!(
                is_dropped(&[accepts(right)], "drop", &query()),
                Some(true),
                "{right}"
            );
            assert_eq!(
                is_dropped(&[DROP.to_owned(), accepts(right)], "accept", &advert()),
                Some(true)
            );
        }
    }

    #[test]
    fn interfaces_addresses_sets_and_ports_are_understood() {
        let is_query = |left: &str, right: &str| {
            let rule = format!(
                "{}, {}, {ACCEPT}",
                matching(UDP_PORT, "53"),
                matching(left, right)
            );
            is_dropped(&[rule], "drop", &query()) == Some(false)
        };
        assert!(is_query(IIFNAME, "{\"set\": [\"eth0\", \"eth2\"]}"));
        assert!(is_query(IIFNAME, "\"eth*\""));
        assert!(!is_query(IIFNAME, "\"eth1\""));
        assert!(is_query(DADDR, "\"@vips\""));
        assert!(is_query(
            DADDR,
            "{\"prefix\": {\"addr\": \"192.0.2.0\", \"len\": 24}}"
        ));
        assert!(is_query(
            DADDR,
            "{\"range\": [\"192.0.2.0\", \"192.0.2.9\"]}"
        ));
        assert!(!is_query(
            DADDR,
            "{\"prefix\": {\"addr\": \"192.0.2.128\", \"len\": 25}}"
        ));
        assert!(!is_query(UDP_PORT, "{\"range\": [54, 60]}"));
        assert!(is_query(STATE, "[\"new\", \"established\"]"));
        assert!(!is_query(STATE, "\"established\""));
    }

    #[test]
    fn a_port_rule_is_none_of_adverts() {
        let rule = format!("{}, {DROP}", matching(UDP_PORT, "53"));
        assert_eq!(
            is_dropped(std::slice::from_ref(&rule), "accept", &advert()),
            Some(false)
        );
        assert_eq!(is_dropped(&[rule], "accept", &query()), Some(true));
    }

    #[test]
    fn what_a_jump_leads_to_decides_and_a_return_goes_back() {
        let inside = |action: &str| {
            format!("{{\"log\": {{\"prefix\": \"x\"}}}}, {{\"counter\": \"x\"}}, {action}")
        };
        let jump = "{\"jump\": {\"target\": \"extra\"}}".to_owned();
        assert_eq!(
            is_dropped(&[inside(DROP), jump.clone()], "accept", &query()),
            Some(true)
        );
        let back = inside("{\"return\": null}");
        assert_eq!(
            is_dropped(&[back.clone(), jump, DROP.to_owned()], "accept", &query()),
            Some(true)
        );
        // The policy, not what follows.
        let goto = "{\"goto\": {\"target\": \"extra\"}}".to_owned();
        assert_eq!(
            is_dropped(&[back, goto, DROP.to_owned()], "accept", &query()),
            Some(false)
        );
    }

    #[test]
    fn what_is_not_understood_may_be_in_the_way() {
        let limit = "{\"limit\": {\"rate\": 5, \"per\": \"second\", \"inv\": true}}";
        let maybe = |action: &str| format!("{limit}, {action}");
        for (policy, action, expected) in [
            ("accept", DROP, None),
            ("accept", ACCEPT, Some(false)),
            ("drop", ACCEPT, None),
            ("drop", DROP, Some(true)),
        ] {
            let found = is_dropped(&[maybe(action)], policy, &advert());
            assert_eq!(found, expected, "{policy} {action}");
        }
        // But what is certain beside it decides, or after it.
        let other = format!("{limit}, {}, {DROP}", matching(UDP_PORT, "54"));
        assert_eq!(is_dropped(&[other], "accept", &query()), Some(false));
        let after = [maybe(DROP), DROP.to_owned()];
        assert_eq!(is_dropped(&after, "accept", &query()), Some(true));
        let vmap = "{\"vmap\": {\"key\": {}, \"data\": \"@unknown\"}}".to_owned();
        for policy in ["accept", "drop"] {
            let found = is_dropped(std::slice::from_ref(&vmap), policy, &query());
            assert_eq!(found, None, "{policy}");
        }
    }

    #[test]
    fn what_may_lead_to_a_chain_does_what_that_does() {
        let limit = "{\"limit\": {\"rate\": 5, \"per\": \"second\"}}";
        let inside = |action: &str| {
            format!("{{\"log\": {{\"prefix\": \"x\"}}}}, {{\"counter\": \"x\"}}, {action}")
        };
        let maybe = |how: &str| format!("{limit}, {{\"{how}\": {{\"target\": \"extra\"}}}}");
        for how in ["jump", "goto"] {
            for (action, policy, expected) in [
                (DROP, "accept", None),
                (ACCEPT, "drop", None),
                (ACCEPT, "accept", Some(false)),
                ("{\"return\": null}", "accept", Some(false)),
            ] {
                let rules = [inside(action), maybe(how)];
                assert_eq!(
                    is_dropped(&rules, policy, &query()),
                    expected,
                    "{how} {action}"
                );
            }
        }
        // Within the limit it comes back, beyond it not.
        let rules = [
            inside(&format!("{limit}, {{\"return\": null}}")),
            inside(DROP),
            "{\"jump\": {\"target\": \"extra\"}}".to_owned(),
            ACCEPT.to_owned(),
        ];
        let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
        let Fate::Unclear(rule) = fate(&rules, "accept", &query()) else {
            panic!("it hangs on the limit");
        };
        assert!(rule.starts_with("rule 0 "), "{rule}");
    }

    #[test]
    fn that_a_sender_is_kept_out_is_none_of_the_others() {
        let set = "{\"set\": [\"192.0.2.7\"]}";
        let concatenated = format!("{{\"concat\": [{SADDR}, {UDP_PORT}]}}");
        let reverse_path = "{\"fib\": {\"result\": \"oif\", \"flags\": [\"saddr\", \"iif\"]}}";
        for condition in [
            matching(SADDR, set),
            matching(&concatenated, "\"@pairs\""),
            matching(reverse_path, "false"),
        ] {
            let rule = format!("{condition}, {DROP}");
            assert_eq!(
                is_dropped(&[rule], "accept", &query()),
                Some(false),
                "{condition}"
            );
            // Who asks isn't known.
            let rule = format!("{condition}, {ACCEPT}");
            assert_eq!(is_dropped(&[rule], "drop", &query()), None, "{condition}");
        }
    }

    #[test]
    fn a_verdict_map_is_as_many_rules() {
        let vmap = |data: &str| format!("{{\"vmap\": {{\"key\": {STATE}, \"data\": {data}}}}}");
        let set = |new: &str| {
            vmap(&format!(
                "{{\"set\": [[\"invalid\", {{\"drop\": null}}], [\"new\", {new}], [\"established\", {ACCEPT}]]}}"
            ))
        };
        let is_dropped = |new: &str, policy| is_dropped(&[set(new)], policy, &query());
        assert_eq!(is_dropped(ACCEPT, "drop"), Some(false));
        assert_eq!(is_dropped("{\"drop\": null}", "accept"), Some(true));
        assert_eq!(is_dropped("{\"continue\": null}", "accept"), Some(false));
        assert_eq!(
            is_dropped("{\"jump\": {\"target\": \"extra\"}}", "drop"),
            Some(true)
        );
    }

    #[test]
    fn the_first_packet_of_a_connection_has_syn_alone() {
        let flags = "{\"payload\": {\"protocol\": \"tcp\", \"field\": \"flags\"}}";
        let masked = |mask: &str| format!("{{\"&\": [{flags}, {mask}]}}");
        let tcp = Packet {
            protocol: 6,
            ..query()
        };
        let cases = [
            (
                "==",
                masked("[\"fin\", \"syn\", \"rst\", \"ack\"]"),
                "\"syn\"",
                true,
            ),
            (
                "!=",
                masked("[\"fin\", \"syn\", \"rst\", \"ack\"]"),
                "\"syn\"",
                false,
            ),
            (
                "==",
                masked("[\"fin\", \"syn\"]"),
                "[\"fin\", \"syn\"]",
                false,
            ),
            ("==", masked("{\"|\": [\"fin\", \"syn\"]}"), "0", false),
            ("in", flags.to_owned(), "\"syn\"", true),
            ("in", flags.to_owned(), "[\"syn\", \"ack\"]", true),
            (
                "==",
                flags.to_owned(),
                "{\"set\": [\"fin\", \"psh\"]}",
                false,
            ),
        ];
        for (operator, left, right, expected) in cases {
            let rule = format!(
                "{{\"match\": {{\"op\": \"{operator}\", \"left\": {left}, \"right\": {right}}}}}, {DROP}"
            );
            let rules = [rule];
            assert_eq!(
                is_dropped(&rules, "accept", &tcp),
                Some(expected),
                "{rules:?}"
            );
            assert_eq!(
                is_dropped(&rules, "accept", &query()),
                Some(false),
                "{rules:?}"
            );
        }
    }

    #[test]
    fn a_header_that_the_packet_has_not_decides() {
        for left in [
            "{\"&\": [{\"payload\": {\"protocol\": \"ip6\", \"field\": \"flowlabel\"}}, 7]}",
            "{\"exthdr\": {\"name\": \"rt\", \"field\": \"type\"}}",
            "{\"payload\": {\"protocol\": \"icmp\", \"field\": \"type\"}}",
        ] {
            let rule = format!("{}, {DROP}", matching(left, "0"));
            assert_eq!(
                is_dropped(&[rule], "accept", &query()),
                Some(false),
                "{left}"
            );
        }
        let lifetime = "{\"payload\": {\"protocol\": \"ip\", \"field\": \"ttl\"}}";
        let rule = format!("{}, {DROP}", matching(lifetime, "1"));
        assert_eq!(is_dropped(&[rule], "accept", &query()), None);
    }
}
