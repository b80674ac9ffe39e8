//! FRR's configuration.

use super::{Prefix, STATIC, Statement};

/// What attracts or swallows a prefix whether a VIP in it is there or not: static routes, and `network`
/// statements of BGP that are announced without a look at the routes, or because of a static route of the
/// same prefix. `network` of OSPF names interfaces, and `aggregate-address` goes with its parts.
pub(super) fn statements(text: &str) -> Vec<Statement> {
    let mut found = Vec::new();
    let mut networks = Vec::new();
    let mut in_bgp = false;
    let mut unchecked = false;
    for (line, words) in (1..).zip(text.lines().map(words)) {
        match words.as_slice() {
            ["router", "bgp", ..] => {
                in_bgp = true;
                unchecked = false;
            }
            ["router", ..] => in_bgp = false,
            ["no", "bgp", "network", "import-check"] if in_bgp => unchecked = true,
            ["network", prefix, ..] if in_bgp => {
                networks.extend(Prefix::parse(prefix).map(|prefix| (line, prefix, unchecked)));
            }
            ["ip" | "ipv6", "route", prefix, rest @ ..] => {
                let Some(prefix) = Prefix::parse(prefix).filter(|prefix| !prefix.is_all()) else {
                    continue;
                };
                let swallows = rest.iter().any(|word| NOWHERE.contains(word));
                found.push(Statement {
                    line,
                    prefix,
                    problem: if swallows { SWALLOWED } else { STATIC },
                    mend: "remove this line; `aggregate-address` in BGP announces a covering prefix \
                           only while the VIP is there",
                });
            }
            _ => {}
        }
    }
    for (line, prefix, unchecked) in networks {
        let because_of_a_route = found.iter().any(|route| route.prefix == prefix);
        if unchecked || because_of_a_route {
            found.push(Statement {
                line,
                prefix,
                problem: ANNOUNCED,
                mend: "use `redistribute connected` with a route map for the VIP, and \
                       `aggregate-address` for a covering prefix, as deploy/anycast/frr-bgp.conf does",
            });
        }
    }
    found.sort_by_key(|statement| statement.line);
    found
}

/// Names of ways that lead nowhere.
const NOWHERE: [&str; 4] = ["Null0", "null0", "blackhole", "reject"];

const SWALLOWED: &str = "is a static route to nowhere: while the VIP is withdrawn, packets for it that pass \
                         through are swallowed here, and where it is announced it attracts them";
const ANNOUNCED: &str = "is announced by BGP whether the VIP is there or not";

fn words(line: &str) -> Vec<&str> {
    let line = line.trim_start();
    if line.starts_with(['!', '#']) {
        return Vec::new();
    }
    line.split_whitespace().collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<usize> {
        let found = statements(text).into_iter();
        found.map(|statement| statement.line).collect()
    }

    #[test]
    fn static_routes_stay() {
        assert_eq!(
            lines(
                "ip route 6.6.6.6/32 lo\nipv6 route 2001:db8:6::/48 blackhole\nip route 0.0.0.0/0 10.0.0.1\n! ip route 6.6.6.6/32 lo\nvrf x\n ip route 6.6.6.0/24 Null0\n"
            ),
            [1, 2, 6]
        );
    }

    #[test]
    fn networks_of_bgp_are_announced_always_without_a_check() {
        let bgp = |check: &str| {
            format!(
                "router bgp 65001\n {check}\n address-family ipv4 unicast\n  network 6.6.6.0/24\n exit-address-family\nrouter ospf\n network 6.6.6.6/32 area 0\n"
            )
        };
        assert_eq!(lines(&bgp("bgp network import-check")), [] as [usize; 0]);
        assert_eq!(lines(&bgp("no bgp network import-check")), [4]);
        // With the check, a static route of the same prefix is what it asks for.
        let text = bgp("bgp network import-check") + "ip route 6.6.6.0/24 Null0\n";
        assert_eq!(lines(&text), [4, 8]);
    }
}
