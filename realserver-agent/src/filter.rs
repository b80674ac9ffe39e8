//! Packet filters that keep a VIP quiet: an administrator's own way, which is left as it is.
//!
//! Only what clearly does it counts: a rule of the kernel's ARP hooks that drops every request for the
//! VIP, and one that drops what is sent in the VIP's name or gives it another sender. A rule that asks
//! for anything else, an interface say, doesn't; nor does one that another rule before it may keep from
//! being asked.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;

use serde_json::Value;

/// The VIPs that filters keep quiet in this network namespace; none where there is no `nft` or
/// `arptables` to ask, or no right to.
pub fn quiet() -> BTreeSet<Ipv4Addr> {
    let rules = output("nft", &["-j", "list", "ruleset", "arp"]);
    let mut filters = nftables(&rules);
    // `arptables` on nftables: what it can't say in nft's language only it can tell.
    if rules.contains("\"xt\"") {
        filters.add(arptables(&output("arptables-nft", &["-S"])));
    }
    // Reading that file loads no module, as asking would.
    if fs::read_to_string("/proc/net/arp_tables_names").is_ok_and(|names| !names.is_empty()) {
        filters.add(arptables(&output("arptables-legacy", &["-n", "-L"])));
    }
    filters.asked.intersection(&filters.asks).copied().collect()
}

/// The addresses that filters act upon.
#[derive(Debug, Default, PartialEq, Eq)]
struct Filters {
    /// Requests for these are dropped.
    asked: BTreeSet<Ipv4Addr>,
    /// Nothing is sent in their name.
    asks: BTreeSet<Ipv4Addr>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Hook {
    Input,
    Output,
}

impl Filters {
    fn add(&mut self, other: Self) {
        self.asked.extend(other.asked);
        self.asks.extend(other.asks);
    }

    fn of(&mut self, hook: Hook) -> &mut BTreeSet<Ipv4Addr> {
        match hook {
            Hook::Input => &mut self.asked,
            Hook::Output => &mut self.asks,
        }
    }
}

/// What a program says, run without a shell; nothing where it isn't there or fails.
fn output(program: &str, arguments: &[&str]) -> String {
    let run = Command::new(program).args(arguments).output();
    let said = run.ok().filter(|output| output.status.success());
    said.map_or_else(String::new, |output| {
        String::from_utf8_lossy(&output.stdout).into_owned()
    })
}

/// Reads what `nft -j list ruleset arp` says (libnftables-json(5)).
fn nftables(json: &str) -> Filters {
    let root: Value = serde_json::from_str(json).unwrap_or_default();
    let objects = root["nftables"].as_array().cloned().unwrap_or_default();
    let of_kind = |kind| objects.iter().filter_map(move |object| object.get(kind));
    let is_dormant = |table: &&Value| table.get("flags").is_some();
    let dormant: Vec<&Value> = of_kind("table")
        .filter(is_dormant)
        .map(|table| &table["name"])
        .collect();
    let mut filters = Filters::default();
    for chain in of_kind("chain") {
        let hook = match (chain["type"].as_str(), chain["hook"].as_str()) {
            (Some("filter"), Some("input")) => Hook::Input,
            (Some("filter"), Some("output")) => Hook::Output,
            _ => continue,
        };
        if chain["family"] != "arp" || dormant.contains(&&chain["table"]) {
            continue;
        }
        let rules = of_kind("rule")
            .filter(|rule| rule["table"] == chain["table"] && rule["chain"] == chain["name"]);
        for rule in rules {
            match judge(rule, hook) {
                Some(addresses) => filters.of(hook).extend(addresses),
                None => break,
            }
        }
    }
    filters
}

/// The addresses that a rule silences, none if it does nothing of the kind; `None` when it may end the
/// chain for packets that rules behind it would drop.
fn judge(rule: &Value, hook: Hook) -> Option<Vec<Ipv4Addr>> {
    let mut addresses = Vec::new();
    let mut narrow = false;
    let mut silences = false;
    for statement in rule["expr"].as_array()? {
        let (kind, value) = statement.as_object()?.iter().next()?;
        match kind.as_str() {
            "match" => match matched(value, hook) {
                Match::Every => {}
                Match::Addresses(found) if addresses.is_empty() => addresses = found,
                Match::Addresses(_) | Match::Other => narrow = true,
            },
            "counter" | "log" | "comment" => {}
            "drop" => silences = true,
            "mangle" if hook == Hook::Output && is_sender(&value["key"]["payload"]) => {
                silences = true;
            }
            _ => return None,
        }
    }
    let counts = silences && !narrow;
    Some(if counts { addresses } else { Vec::new() })
}

enum Match {
    /// What all ARP over Ethernet is, or all requests.
    Every,
    /// The address that is asked for, or in whose name is asked.
    Addresses(Vec<Ipv4Addr>),
    Other,
}

fn matched(value: &Value, hook: Hook) -> Match {
    let payload = &value["left"]["payload"];
    let right = &value["right"];
    if value["op"] != "==" || payload["protocol"] != "arp" {
        return Match::Other;
    }
    match (payload["field"].as_str(), hook) {
        (Some("htype" | "ptype" | "hlen" | "plen"), _) => Match::Every,
        // A reply is no question; but what is sent must not have the VIP's name in either.
        (Some("operation"), Hook::Input) if *right == "request" || *right == 1 => Match::Every,
        (Some("daddr ip"), Hook::Input) | (Some("saddr ip"), Hook::Output) => {
            let listed = right["set"].as_array();
            let texts = listed.map_or_else(|| vec![right], |set| set.iter().collect());
            let address = |text: &Value| text.as_str()?.parse().ok();
            match texts.into_iter().map(address).collect() {
                Some(addresses) => Match::Addresses(addresses),
                None => Match::Other,
            }
        }
        _ => Match::Other,
    }
}

fn is_sender(payload: &Value) -> bool {
    payload["protocol"] == "arp" && payload["field"] == "saddr ip"
}

/// Reads what `arptables-nft -S` and `arptables-legacy -n -L` say: rules such as
/// `-A INPUT -j DROP -d 192.168.56.185`, or without `-A INPUT` below a line `Chain INPUT (policy ACCEPT)`.
fn arptables(text: &str) -> Filters {
    let mut filters = Filters::default();
    let mut chain = None;
    // A chain in which a rule may let packets pass before others are asked.
    let mut ended = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace().peekable();
        match words.peek() {
            Some(&"Chain") => {
                chain = words.nth(1).and_then(hook);
                continue;
            }
            Some(&"-A") => chain = words.nth(1).and_then(hook),
            Some(&"-j") => {}
            _ => continue,
        }
        let Some(hook) = chain.filter(|hook| !ended.contains(hook)) else {
            continue;
        };
        let words: Vec<&str> = words.collect();
        let (mut target, mut narrow, mut mangles) = (None, false, false);
        let mut address: Option<Ipv4Addr> = None;
        for option in words.chunks(2) {
            match (option, hook) {
                (["-j", name], _) => target = Some(*name),
                (["-d", text], Hook::Input) | (["-s", text], Hook::Output) => {
                    address = text.parse().ok();
                }
                (["--mangle-ip-s", _], Hook::Output) => mangles = true,
                (["--h-length" | "--h-type" | "--proto-type", _], _) => {}
                _ => narrow = true,
            }
        }
        match target {
            Some("DROP") | Some("mangle") => {
                let silences = target == Some("DROP") || mangles;
                let counts = silences && !narrow;
                filters.of(hook).extend(address.filter(|_| counts));
            }
            _ => ended.push(hook),
        }
    }
    filters
}

fn hook(chain: &str) -> Option<Hook> {
    match chain {
        "INPUT" => Some(Hook::Input),
        "OUTPUT" => Some(Hook::Output),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const VIP: Ipv4Addr = Ipv4Addr::new(192, 168, 56, 185);

    /// As nftables 1.0.6 prints a table `quiet` of family arp with these chains, rules by chain.
    fn ruleset(flags: &str, rules: &[(&str, &str)]) -> String {
        let rule = |(chain, statements): &(&str, &str)| {
            format!(
                r#"{{"rule": {{"family": "arp", "table": "quiet", "chain": "{chain}", "handle": 4, "expr": [{statements}]}}}}"#
            )
        };
        let rules: Vec<String> = rules.iter().map(rule).collect();
        format!(
            r#"{{"nftables": [{{"metainfo": {{"version": "1.0.6", "json_schema_version": 1}}}},
            {{"table": {{"family": "arp", "name": "quiet", "handle": 1{flags}}}}},
            {{"chain": {{"family": "arp", "table": "quiet", "name": "in", "handle": 1, "type": "filter", "hook": "input", "prio": 0, "policy": "accept"}}}},
            {{"chain": {{"family": "arp", "table": "quiet", "name": "out", "handle": 2, "type": "filter", "hook": "output", "prio": 0, "policy": "accept"}}}},
            {}]}}"#,
            rules.join(",")
        )
    }

    fn is(field: &str, right: &str) -> String {
        format!(
            r#"{{"match": {{"op": "==", "left": {{"payload": {{"protocol": "arp", "field": "{field}"}}}}, "right": {right}}}}}"#
        )
    }

    const DROP: &str = r#"{"drop": null}"#;
    const COUNT: &str = r#"{"counter": {"packets": 0, "bytes": 0}}"#;
    const MANGLE: &str = r#"{"mangle": {"key": {"payload": {"protocol": "arp", "field": "saddr ip"}}, "value": "192.168.56.2"}}"#;

    #[test]
    fn rules_that_drop_what_is_asked_and_what_asks() {
        let asked = is("daddr ip", r#""192.168.56.185""#);
        let asked_set = is("daddr ip", r#"{"set": ["10.0.0.1", "192.168.56.185"]}"#);
        let asks = is("saddr ip", r#""192.168.56.185""#);
        let request = is("operation", r#""request""#);
        let ethernet = is("htype", "1");
        for (input, output) in [
            (format!("{asked}, {DROP}"), format!("{asks}, {DROP}")),
            (
                format!("{ethernet}, {request}, {asked_set}, {COUNT}, {DROP}"),
                format!("{asks}, {COUNT}, {MANGLE}"),
            ),
        ] {
            let rules = [("in", input.as_str()), ("out", output.as_str())];
            let filters = nftables(&ruleset("", &rules));
            assert!(filters.asked.contains(&VIP) && filters.asks.contains(&VIP));
            let dormant = nftables(&ruleset(r#", "flags": "dormant""#, &rules));
            assert_eq!(dormant, Filters::default());
        }
    }

    #[test]
    fn rules_that_do_not_clearly_do_it_do_not_count() {
        let asked = is("daddr ip", r#""192.168.56.185""#);
        let interface =
            r#"{"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "eth0"}}"#;
        let unequal = asked.replace("==", "!=");
        let prefix = is(
            "daddr ip",
            r#"{"prefix": {"addr": "192.168.56.0", "len": 24}}"#,
        );
        let reply = is("operation", r#""reply""#);
        for statements in [
            format!("{interface}, {asked}, {DROP}"),
            format!("{unequal}, {DROP}"),
            format!("{prefix}, {DROP}"),
            format!("{reply}, {asked}, {DROP}"),
            format!("{asked}, {COUNT}"),
            format!(r#"{asked}, {{"jump": {{"target": "other"}}}}"#),
            format!(r#"{asked}, {{"limit": {{"rate": 5, "per": "second"}}}}, {DROP}"#),
            format!(r#"{}, {DROP}"#, is("saddr ip", r#""192.168.56.185""#)),
        ] {
            let filters = nftables(&ruleset("", &[("in", &statements)]));
            assert_eq!(filters, Filters::default(), "{statements}");
        }
        // One that may let packets pass before.
        let accept = format!(r#"{interface}, {{"accept": null}}"#);
        let drop = format!("{asked}, {DROP}");
        let filters = nftables(&ruleset("", &[("in", &accept), ("in", &drop)]));
        assert_eq!(filters, Filters::default());
        for text in ["", "{", "[]", "{\"nftables\": 5}"] {
            assert_eq!(nftables(text), Filters::default());
        }
    }

    #[test]
    fn arptables_of_both_kinds() {
        let vip = BTreeSet::from([VIP]);
        let both = Filters {
            asked: vip.clone(),
            asks: vip,
        };
        // As arptables-nft 1.8.9 and arptables-legacy 0.0.5 print the same rules.
        let nft = "-P INPUT ACCEPT\n-P OUTPUT ACCEPT\n-A INPUT -j DROP -d 192.168.56.185\n-A OUTPUT -j mangle -s 192.168.56.185 --mangle-ip-s 192.168.56.2\n";
        let legacy = "Chain INPUT (policy ACCEPT)\n-j DROP -d 192.168.56.185 \n-j DROP -i eth0 -d 1.2.3.4 --opcode 1 \n\nChain OUTPUT (policy ACCEPT)\n-j mangle -s 192.168.56.185 --mangle-ip-s 192.168.56.2 \n\nChain FORWARD (policy ACCEPT)\n";
        assert_eq!(arptables(nft), both);
        assert_eq!(arptables(legacy), both);
        for rule in [
            "-A INPUT -j DROP -i eth0 -d 192.168.56.185",
            "-A INPUT -j DROP -s 192.168.56.185",
            "-A INPUT -j DROP -d 192.168.56.0/24",
            "-A INPUT -j ACCEPT -i eth0\n-A INPUT -j DROP -d 192.168.56.185",
            "-A INPUT -j DROP ! -d 192.168.56.185",
            "-A OUTPUT -j mangle -s 192.168.56.185 --mangle-mac-s 02:00:00:00:00:01",
            "-A FORWARD -j DROP -d 192.168.56.185",
        ] {
            assert_eq!(arptables(rule), Filters::default(), "{rule}");
        }
    }
}
