//! `director check FILE`: is the file valid for all nodes, and what follows from it? Of the machine it
//! looks at nothing but whether the programs of its checks are there, and with `--elsewhere` not at
//! these.

mod compact;
mod json;
mod lines;
mod policy;
mod service;
mod text;
mod virtual_router;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::{self, Configuration, Errors, File, Hashes};

/// Shown after the options.
pub(super) const HELP: &str = "\
Examples:
  director check /etc/lvs-director/director.yaml
  director check --elsewhere --json director.yaml
      The file of another machine, for a program.
  director check --hash director.yaml
      What has to be the same on both directors, as hashes to compare.

Exit status:
  0   the file is valid; it may have warnings
  1   it is invalid: file, line, column and key of each mistake
  64  wrong command line";

/// Arguments of `director check`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The configuration file
    pub(super) file: PathBuf,
    /// Print the verdict and what follows as JSON on standard output
    #[arg(long)]
    pub(super) json: bool,
    /// The file is for another machine: don't look whether the programs of its checks are here
    #[arg(long)]
    pub(super) elsewhere: bool,
    /// Print hashes of what has to be the same on both directors instead, to compare two files by
    #[arg(long, conflicts_with = "json")]
    pub(super) hash: bool,
}

/// Prints what follows from a valid file on standard output and what it warns of on standard error,
/// or the mistakes of an invalid one on standard error. Ends with 0 for a valid file and 1 for an
/// invalid one.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let verdict = config::load(&arguments.file).and_then(|file| {
        if !arguments.elsewhere {
            file.find_programs()?;
        }
        let nodes = Node::all_of(&file)?;
        Ok((file, nodes))
    });
    let (output, remarks) = match &verdict {
        _ if arguments.json => (json::verdict(verdict.as_ref()), String::new()),
        Ok((_, nodes)) if arguments.hash => (hashes(nodes), String::new()),
        Ok((file, nodes)) => (text::summary(file, nodes), text::warnings(file)),
        Err(errors) => (String::new(), format!("{errors}\n")),
    };
    let written = io::stdout()
        .write_all(output.as_bytes())
        .and_then(|()| io::stderr().write_all(remarks.as_bytes()));
    if verdict.is_ok() && written.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Once where all nodes have the same.
fn hashes(nodes: &[Node]) -> String {
    let of = |node: &Node| (node.name.clone(), Hashes::of(&node.configuration));
    let all: Vec<_> = nodes.iter().map(of).collect();
    match all.as_slice() {
        [(_, first), rest @ ..] if rest.iter().all(|(_, one)| one == first) => first.to_string(),
        all => all
            .iter()
            .map(|(name, hashes)| format!("{}:\n{hashes}", name.as_deref().unwrap_or_default()))
            .collect(),
    }
}

/// What the file means for one node.
struct Node {
    /// None when the file is the same for every node.
    name: Option<String>,
    configuration: Configuration,
}

impl Node {
    fn all_of(file: &File) -> Result<Vec<Self>, Errors> {
        let mut names: Vec<Option<&str>> = file.nodes().into_iter().map(Some).collect();
        if names.is_empty() {
            names.push(None);
        }
        let node = |name: Option<&str>| {
            Ok(Self {
                name: name.map(str::to_owned),
                configuration: file.outline(name.unwrap_or_default())?,
            })
        };
        names.into_iter().map(node).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use super::*;

    const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/director.yaml");

    fn loaded(path: &Path) -> (File, Vec<Node>) {
        let file = config::load(path).unwrap_or_else(|errors| panic!("{errors}"));
        let nodes = Node::all_of(&file).unwrap();
        (file, nodes)
    }

    /// The summary, and behind it the warnings.
    fn summary_of(path: &Path) -> String {
        let (file, nodes) = loaded(path);
        let words = text::summary(&file, &nodes) + &text::warnings(&file);
        words.replace(&path.display().to_string(), "FILE")
    }

    fn written(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn the_example_in_brief() {
        let expected = "\
FILE: valid for ds1, ds2

virtual router  node  interface  id  version  priority  interval  skew    active-down  preempt  addresses
dns             ds1   eth2       50  3        200       100ms     21.9ms  321.9ms      yes      192.168.56.185/24
dns             ds2   eth2       50  3        150       100ms     41.4ms  341.4ms      yes      192.168.56.185/24

virtual router dns
  adverts    multicast, from the interface's first address
  accepts    intervals of 10ms to 1s
  announces  5 times on promotion, 5 more after 5s, once every 60s

service resolver: 192.168.56.185 port 53 udp tcp
  held by                virtual router dns
  in the kernel          2 virtual services, on a Backup too, with itself alone if it is a real server
  scheduler              wrr
  one-packet scheduling  on for UDP/53, the default: every query is scheduled by itself, whatever port \
it comes from
    which costs          ICMP \"fragmentation needed\" doesn't reach real servers: they should send UDP \
answers of at most 1232 bytes, or without DF
                         a client's queries reach different real servers: DNS cookies need one secret \
on all of them
  check                  DNS www.abc.local A every 500ms, timeout 300ms
  asked with             recursion desired
  expected               code NOERROR, records at least 1
  asked by the VIP too   on real servers that hold it
  taken out              after 2 failed in a row, within 1.3s
  brought in             after 2 passed in a row; at start after the first
  pool                   quorum 1, floor 1
  real servers           192.168.56.183 weight 1, direct-routing
                         192.168.56.184 weight 1, direct-routing

data plane     ipvs
program        always; a service with this machine among its real servers only while held here
settings       net.ipv4.vs.expire_nodest_conn 1: flows of a removed real server go to another at once, \
not nowhere for minutes
               net.ipv4.vs.run_estimation     1: counters stand still without it
metrics        127.0.0.1:9712
commands from  root
";
        assert_eq!(summary_of(Path::new(EXAMPLE)), expected);
    }

    #[test]
    fn a_file_for_every_node_in_brief() {
        let file = written(
            "services: [{ name: a, address: 192.0.2.1, port: 53, protocols: [udp], external: true, \
             one_packet_scheduling: false, check: none, real_servers: [{ address: 192.0.2.2 }] }]\n\
             vrrp: [{ name: b, interface: e0, virtual_router_id: 1, priority: 100, version: 2, \
             authentication: { password: s3cr3t }, preempt: false, addresses: [192.0.2.3/32] }]\n\
             dataplane: none",
        );
        let expected = "\
FILE: valid for every node

virtual router  node   interface  id  version  priority  interval  skew     active-down  preempt  addresses
b               (any)  e0         1   2        100       1s        609.4ms  3.6s         no       192.0.2.3/32

virtual router b
  adverts         multicast, from the interface's first address
  accepts         its own interval
  authentication  password, in clear
  announces       5 times on promotion, 5 more after 5s, once every 60s

service a: 192.0.2.1 port 53 udp
  held by                the operator (external)
  scheduler              wrr
  one-packet scheduling  off, as the file says
  check                  none: real servers are always in
  pool                   quorum 1, floor 1
  real servers           192.0.2.2 weight 1, direct-routing

data plane     none: nothing is forwarded
metrics        off
commands from  root
warning: FILE:1:110: services[0].one_packet_scheduling: without it a resolver that asks UDP/53 from \
one port stays on one real server for as long as it asks, and every port of a client costs an entry \
for 300s (`ipvs.timeouts.udp`), of which the kernel's table has buckets for 4096 (`conn_tab_bits` of \
module ip_vs); leave it out
";
        assert_eq!(summary_of(file.path()), expected);
    }

    const FULL: &str = "\
vrrp:
  - name: dns
    interface: eth2
    virtual_router_id: 50
    priority: { ds1: 200, ds2: 150 }
    authentication: { hmac: { send: 2, keys: { 2: 'file:/nonexistent/key' } } }
    also_accept: { version: 2 }
    preempt_delay: 30s
    source: { ds1: 192.0.2.2, ds2: 192.0.2.3 }
    peers: { ds1: [192.0.2.3], ds2: [192.0.2.2] }
    minimum_ttl: 254
    virtual_mac: true
    addresses: [192.0.2.1/24, { address: 192.0.2.9/24, interface: eth3, scope: host, label: 'eth3:v' }]
    further_addresses: ['2001:db8::1/64']
    announce: { burst: 3, pause: 1ms, again_after: 0s, refresh: 30s }
    group: lan
    track:
      interfaces: [eth1, { name: eth4, weight: -60 }]
      scripts: [{ name: up, command: [/bin/up, now], timeout: 500ms, weight: 10 }]
      files: [{ path: /run/bias, weight: 2 }]
      services: [resolver]
    hooks: [{ on: [active, fault], command: [/bin/tell], timeout: 5s }]
  - { name: dns6, interface: eth2, virtual_router_id: 50, priority: 100, group: lan, addresses: ['2001:db8::2/64'] }
services:
  - { name: resolver, address: 192.0.2.1, port: 53, protocols: [udp], check: { dns: { name: . } }, real_servers: [{ address: 192.0.2.4 }] }
control: { group: lvs }
";

    #[test]
    fn all_that_follows_for_a_virtual_router() {
        let file = written(FULL);
        let summary = summary_of(file.path());
        let expected = "
virtual router dns on ds2
  adverts            to 192.0.2.2, from 192.0.2.3; theirs with a TTL of 254 or more
  accepts            intervals of 10ms to 1s, version 2 too
  authentication     HMAC, enforced, signed with key 2, clocks within 5s
  virtual MAC        00:00:5e:00:01:32 on vrrp.50
  preempts           a lower Active after 30s
  addresses          192.0.2.9/24 on eth3, scope host, label eth3:v
  further addresses  2001:db8::1/64 on vrrp.50
  announces          3 times on promotion, once every 30s; 1ms between packets
  tracks             interface eth1: fault while it fails
                     interface eth4: -60 while it fails
                     script up every 1s, timeout 500ms, rise 1, fall 1: +10 while it is well
                     file /run/bias: +2 times its number
                     service resolver: fault while it fails
  priority           90 to 160 by weights, active-down 364.8ms to 337.5ms, and what files add
  group              lan, with dns6
  hooks              active fault: /bin/tell (timeout 5s)

virtual router dns6
  adverts    multicast, from the interface's first address
";
        assert!(summary.contains(expected), "{summary}");
        let expected = "commands from  root and the group lvs
warning: FILE:23:98: vrrp[1].addresses[0]: 2001:db8::2 isn't link-local; RFC 9568, section \
5.2.9, wants the first address to be one, and some routers insist
";
        assert!(summary.ends_with(expected), "{summary}");
    }

    #[test]
    fn json_has_all_that_follows() {
        let file = written(FULL);
        let verdict = loaded(file.path());
        let found: serde_json::Value = serde_json::from_str(&json::verdict(Ok(&verdict))).unwrap();
        assert_eq!(found["valid"], true);
        assert_eq!(found["errors"], serde_json::json!([]));
        assert_eq!(found["warnings"][0]["key"], "vrrp[1].addresses[0]");
        assert_eq!(found["warnings"][0]["line"], 23);
        let routers = found["virtual_routers"].as_array().unwrap();
        let places: Vec<_> = routers
            .iter()
            .map(|it| (&it["name"], &it["node"]))
            .collect();
        let (ds1, ds2) = (&serde_json::json!("ds1"), &serde_json::json!("ds2"));
        let (dns, dns6) = (&serde_json::json!("dns"), &serde_json::json!("dns6"));
        assert_eq!(places, [(dns, ds1), (dns6, ds1), (dns, ds2), (dns6, ds2)]);
        let address = |address, interface, scope, label: Option<&str>| serde_json::json!({ "address": address, "interface": interface, "scope": scope, "label": label });
        let expected = serde_json::json!({
            "name": "dns", "node": "ds2", "interface": "eth2", "virtual_router_id": 50,
            "family": "ipv4", "version": 3, "priority": 150,
            "priorities": { "from": 90, "to": 160 },
            "advert_interval": 0.1, "accepted_intervals": { "from": 0.01, "to": 1.0 },
            "skew_time": 0.041_406_25, "active_down_interval": 0.341_406_25,
            "preempt": true, "preempt_delay": 30.0, "authentication": "hmac",
            "source": "192.0.2.3", "peers": ["192.0.2.2"], "minimum_ttl": 254,
            "virtual_mac": "vrrp.50",
            "addresses": [
                address("192.0.2.1/24", "vrrp.50", "global", None),
                address("192.0.2.9/24", "eth3", "host", Some("eth3:v")),
            ],
            "further_addresses": [address("2001:db8::1/64", "vrrp.50", "global", None)],
            "announcements": { "burst": 3, "pause": 0.001, "again_after": null, "refresh": 30.0 },
            "group": "lan",
            "track": {
                "interfaces": [{ "name": "eth1", "weight": null }, { "name": "eth4", "weight": -60 }],
                "scripts": [{ "name": "up", "command": ["/bin/up", "now"], "interval": 1.0,
                              "timeout": 0.5, "rise": 1, "fall": 1, "weight": 10 }],
                "files": [{ "name": "/run/bias", "weight": 2 }],
                "services": [{ "name": "resolver", "weight": null }],
            },
            "hooks": [{ "on": ["active", "fault"], "command": ["/bin/tell"], "timeout": 5.0 }],
        });
        assert_eq!(routers[2], expected);
    }

    #[test]
    fn json_has_every_mistake() {
        let file = written("vrrp: []\nservices: {}\n");
        let errors = config::load(file.path()).err().unwrap();
        let found: serde_json::Value = serde_json::from_str(&json::verdict(Err(&errors))).unwrap();
        let name = file.path().display().to_string();
        let expected = serde_json::json!({
            "valid": false,
            "errors": [
                { "file": name, "line": 1, "column": 7, "key": "vrrp",
                  "message": "is empty; must be a list of virtual routers" },
                { "file": name, "line": 2, "column": 11, "key": "services",
                  "message": "must be a list of services, but is a mapping" },
            ],
            "warnings": [],
            "virtual_routers": [],
            "services": [],
            "ipvs": null,
        });
        assert_eq!(found, expected);
        let errors = config::load(Path::new("/nonexistent/file")).err().unwrap();
        let found: serde_json::Value = serde_json::from_str(&json::verdict(Err(&errors))).unwrap();
        assert_eq!(found["errors"][0]["line"], serde_json::Value::Null);
    }

    const TABLE: &str = "\
vrrp:
  - { name: dns, interface: e0, virtual_router_id: 9, priority: { a: 2, b: 1 }, addresses: [192.0.2.1/24] }
  - { name: dns6, interface: e0, virtual_router_id: 9, priority: { a: 2, b: 1 }, addresses: ['fe80::1/64', '2001:db8::1/64'] }
ipvs:
  program: when-active
  exclusive: true
  timeouts: { tcp: 900s, udp: 30s }
  sync: { instance: dns, interface: { a: e1, b: e2 } }
services:
  - { name: both, addresses: [192.0.2.1, '2001:db8::1'], ports: [53, 1000-1009], protocols: [udp, tcp], scheduler: mh,
      scheduler_flags: [fallback], check: { dns: { name: . }, port: 5300 },
      real_servers: [{ address: 10.0.0.1, forwarding: masquerade, stop_at: 9, resume_below: 8 }, { address: 'fd00::1' }] }
  - { name: many, addresses: [198.51.100.0-198.51.100.255], ports: [1-8], protocols: [tcp], external: true,
      persistence: { timeout: 60s, ipv4_mask: 24 }, check: none, real_servers: [{ address: 10.0.0.1 }] }
  - { name: marked, firewall_mark: 7, instance: dns, check: none,
      real_servers: [{ address: 'fd00::2', weight: 0, forwarding: tunnel }] }
";

    #[test]
    fn what_follows_for_the_table_in_brief() {
        let file = written(&TABLE.replace("sync:", "# sync:"));
        let summary = summary_of(file.path());
        let expected = "
service both: 192.0.2.1 2001:db8::1 ports 53 1000-1009 udp tcp
  held by                virtual router dns (192.0.2.1)
                         virtual router dns6 (2001:db8::1)
  in the kernel          44 virtual services, while held here
  scheduler              mh, fallback
  one-packet scheduling  on for UDP/53, the default, but where real servers are masqueraded
    which costs          ICMP \"fragmentation needed\" doesn't reach real servers: they should send UDP \
answers of at most 1232 bytes, or without DF
                         a resolver that asks from one port stays on one real server while it asks, and \
every port of a client is an entry for 300s (ipvs.timeouts.udp): raise conn_tab_bits of module ip_vs for many
  check                  DNS . A to port 5300 every 500ms, timeout 300ms
  asked with             recursion desired
  expected               code NOERROR, records at least 1
  asked by the VIP too   on real servers that hold it
  taken out              after 2 failed in a row, within 1.3s
  brought in             after 2 passed in a row; at start after the first
  pool                   quorum 1, floor 1
  real servers           10.0.0.1 weight 1, masquerade, stops at 9 connections, resumes below 8
                         fd00::1 weight 1, direct-routing

service many: 198.51.100.0-198.51.100.255 ports 1-8 tcp
  held by                the operator (external)
  in the kernel          2048 virtual services, always
  scheduler              wrr
  persistence            until a client was silent for 60s, an IPv4 /24 being one
  one-packet scheduling  off, the default but for UDP/53
  check                  none: real servers are always in
  pool                   quorum 1, floor 1
  real servers           10.0.0.1 weight 1, direct-routing

service marked: mark 7/ipv4
  held by                virtual router dns
  in the kernel          1 virtual service, while held here
  scheduler              wrr
  one-packet scheduling  off, the default but for UDP/53
  check                  none: real servers are always in
  pool                   quorum 1, floor 1
  real servers           fd00::2 weight 0, tunnel ipip, for IPv4

data plane     ipvs
program        when-active: a service is in the kernel only while held here
exclusive      services that aren't configured are removed
timeouts       tcp 900s udp 30s
settings       net.ipv4.vs.expire_nodest_conn        1: flows of a removed real server go to another at \
once, not nowhere for minutes
               net.ipv4.vs.expire_quiescent_template 1: persistent clients leave a real server of weight 0
               net.ipv4.vs.run_estimation            1: counters stand still without it
               net.ipv4.ip_forward                   1: answers of masqueraded real servers pass through here
metrics        off
commands from  root
";
        assert!(summary.contains(expected), "{summary}");
    }

    #[test]
    fn json_has_all_that_follows_for_the_table() {
        let text = TABLE
            .replace("'fd00::2', weight: 0, forwarding: tunnel", "10.0.0.2")
            .replace(
                "forwarding: masquerade, stop_at: 9",
                "forwarding: masquerade, port: 9, stop_at: 9",
            )
            .replace("ports: [53, 1000-1009]", "port: 53");
        let file = written(&text);
        let verdict = loaded(file.path());
        let found: serde_json::Value = serde_json::from_str(&json::verdict(Ok(&verdict))).unwrap();
        let places: Vec<_> = found["services"].as_array().unwrap().iter().collect();
        assert_eq!(places.len(), 6, "three services on two nodes");
        let server = |address,
                      port: Option<u16>,
                      forwarding,
                      serves,
                      stop: Option<u32>,
                      resume: Option<u32>| {
            serde_json::json!({
                "address": address, "port": port, "weight": 1, "forwarding": forwarding,
                "serves": [serves], "stop_at": stop, "resume_below": resume,
            })
        };
        let both = places[3];
        let expected = serde_json::json!({
            "name": "both", "node": "b",
            "addresses": ["192.0.2.1", "2001:db8::1"], "ports": ["53"], "protocols": ["udp", "tcp"],
            "firewall_mark": null, "virtual_services": 4, "programmed": "while held here",
            "held_by": [
                { "instance": "dns", "addresses": ["192.0.2.1"] },
                { "instance": "dns6", "addresses": ["2001:db8::1"] },
            ],
            "scheduler": "mh", "scheduler_flags": ["fallback"], "persistence": null,
            "one_packet_scheduling": {
                "enabled": true,
                "reason": "for UDP/53, the default, but where real servers are masqueraded",
                "costs": both["one_packet_scheduling"]["costs"],
            },
            "checks": [{
                "dns": {
                    "names": ["."], "require": "all", "type": "A", "class": "IN",
                    "recursion_desired": true, "checking_disabled": false, "dnssec_ok": false,
                    "edns_size": null, "nsid": false, "cookie": false, "mixed_case": false,
                    "response_codes": ["NOERROR"], "flags": [], "records": null,
                    "minimum_records": 1, "ttl": null,
                }, "protocols": ["udp", "tcp"], "port": 5300, "path": true,
                "interval": 0.5, "timeout": 0.3, "rise": 2, "fall": 2,
            }],
            "watch": null,
            "pool": {
                "quorum": { "servers": 1, "hysteresis": 0 }, "floor": { "servers": 1 },
                "sorry_servers": [], "maximum_weight": 65535, "slow_start": null, "latency": null,
            },
            "real_servers": [
                server("10.0.0.1", Some(9), "masquerade", "ipv4", Some(9), Some(8)),
                server("fd00::1", None, "direct-routing", "ipv6", None, None),
            ],
        });
        assert_eq!(*both, expected);
        assert_eq!(
            both["one_packet_scheduling"]["costs"]
                .as_array()
                .unwrap()
                .len(),
            2
        );
        let many = places[4];
        assert_eq!(
            many["addresses"],
            serde_json::json!(["198.51.100.0-198.51.100.255"])
        );
        assert_eq!(many["ports"], serde_json::json!(["1-8"]));
        let persistence = serde_json::json!({ "timeout": 60.0, "ipv4_mask": 24, "ipv6_mask": 128 });
        assert_eq!(many["persistence"], persistence);
        assert_eq!(many["held_by"][0]["instance"], serde_json::Value::Null);
        let mark = serde_json::json!({ "mark": 7, "family": "ipv4" });
        assert_eq!(places[5]["firewall_mark"], mark);
        let sync = |node, interface| {
            serde_json::json!({
                "node": node, "instance": "dns", "interface": interface, "id": 9, "group": null,
                "port": null, "ttl": null, "maximum_length": null,
            })
        };
        let table = &found["ipvs"];
        assert_eq!(table["program"], "when-active");
        assert_eq!(table["exclusive"], true);
        let timeouts = serde_json::json!({ "tcp": 900, "tcp_fin": null, "udp": 30 });
        assert_eq!(table["timeouts"], timeouts);
        assert_eq!(
            table["sync"],
            serde_json::json!([sync("a", "e1"), sync("b", "e2")])
        );
        let names: Vec<_> = table["settings"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| &it["name"])
            .collect();
        assert_eq!(
            names,
            [
                "net.ipv4.vs.expire_nodest_conn",
                "net.ipv4.vs.expire_quiescent_template",
                "net.ipv4.vs.run_estimation",
                "net.ipv4.ip_forward",
            ]
        );
    }

    #[test]
    fn the_exit_status_tells_the_verdict() {
        let exit = |file: &Path, elsewhere| {
            let arguments = Arguments {
                file: file.into(),
                json: true,
                elsewhere,
                hash: false,
            };
            format!("{:?}", run(&arguments))
        };
        let status = |file: &Path| exit(file, false);
        assert_eq!(
            status(Path::new(EXAMPLE)),
            format!("{:?}", ExitCode::SUCCESS)
        );
        assert_eq!(
            status(Path::new("/nonexistent")),
            format!("{:?}", ExitCode::FAILURE)
        );
        let file = written(
            "services: [{ name: a, address: 192.0.2.1, port: 53, protocols: [udp], external: true, \
             check: { exec: { command: [/nonexistent/check] } }, real_servers: [{ address: 10.0.0.1 }] }]",
        );
        let exits = [false, true].map(|elsewhere| exit(file.path(), elsewhere));
        let expected = [ExitCode::FAILURE, ExitCode::SUCCESS].map(|code| format!("{code:?}"));
        assert_eq!(exits, expected, "the program is missing here");
    }
}
