//! Routing daemons on hosts of the lab, FRR and BIRD, and what became of their routes in the kernel.

pub mod bird;
pub mod frr;

use std::collections::BTreeSet;

use anyhow::{Context, Result};

use crate::lab::Host;

/// How long daemons may take until they know each other: OSPF waits for a designated router as long as
/// its dead interval, 4 s in all of the lab, then tells what it knows.
pub const CONVERGENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// A file of `deploy/anycast`, with addresses and names of another network in it.
///
/// # Panics
/// When the file doesn't have what is to be replaced.
pub fn adapted(snippet: &str, replacements: &[(&str, &str)]) -> String {
    let mut text = snippet.to_owned();
    for (old, new) in replacements {
        assert!(text.contains(old), "the file doesn't have {old}:\n{text}");
        text = text.replace(old, new);
    }
    text
}

/// Makes a host pass packets on, and spread flows over equal ways by their ports too.
pub fn forward(host: &Host) -> Result<()> {
    for (name, value) in [
        ("net.ipv4.ip_forward", "1"),
        ("net.ipv6.conf.all.forwarding", "1"),
        ("net.ipv4.fib_multipath_hash_policy", "1"),
        ("net.ipv6.fib_multipath_hash_policy", "1"),
    ] {
        host.set_sysctl(name, value)?;
    }
    Ok(())
}

/// Where the kernel of a host sends packets for a prefix that it has a route for: a gateway for each
/// way, or the interface where there is none; nothing without a route.
pub fn ways(host: &Host, prefix: &str) -> Result<BTreeSet<String>> {
    let family = if prefix.contains(':') { "-6" } else { "-4" };
    let text = host.run(&format!("ip {family} -json route show {prefix}"))?;
    let routes: serde_json::Value =
        serde_json::from_str(&text).with_context(|| format!("ip said {text}"))?;
    let way = |hop: &serde_json::Value| {
        let name = hop.get("gateway").or_else(|| hop.get("dev"));
        name.and_then(|name| name.as_str()).map(str::to_owned)
    };
    let mut ways = BTreeSet::new();
    for route in routes.as_array().into_iter().flatten() {
        match route.get("nexthops").and_then(|hops| hops.as_array()) {
            Some(hops) => ways.extend(hops.iter().filter_map(way)),
            None => ways.extend(way(route)),
        }
    }
    Ok(ways)
}
