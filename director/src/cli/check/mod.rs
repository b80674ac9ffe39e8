//! `director check FILE`: is the file valid for all nodes, and what follows from it? Looks at the
//! file only, never at the machine.

mod json;
mod text;
mod virtual_router;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::{self, Configuration, Errors, File};

/// Arguments of `director check`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The configuration file
    pub(super) file: PathBuf,
    /// Print the verdict and what follows as JSON on standard output
    #[arg(long)]
    pub(super) json: bool,
}

/// Prints what follows from a valid file on standard output and what it warns of on standard error,
/// or the mistakes of an invalid one on standard error. Ends with 0 for a valid file and 1 for an
/// invalid one.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let verdict = config::load(&arguments.file).and_then(|file| {
        let nodes = Node::all_of(&file)?;
        Ok((file, nodes))
    });
    let (output, remarks) = match &verdict {
        _ if arguments.json => (json::verdict(verdict.as_ref()), String::new()),
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
  scheduler              wrr
  forwarding             direct-routing
  one-packet scheduling  on for UDP, the default on port 53
  check                  DNS www.abc.local A every 500ms, timeout 300ms
  taken out              after 2 failed in a row, within 1.3s
  brought in             after 2 passed in a row; at start after the first
  real servers           192.168.56.183 weight 1
                         192.168.56.184 weight 1

data plane     ipvs
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
  forwarding             direct-routing
  one-packet scheduling  off, as the file says
  check                  none: real servers are always in
  real servers           192.0.2.2 weight 1

data plane     none: nothing is forwarded
metrics        off
commands from  root
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
        });
        assert_eq!(found, expected);
        let errors = config::load(Path::new("/nonexistent/file")).err().unwrap();
        let found: serde_json::Value = serde_json::from_str(&json::verdict(Err(&errors))).unwrap();
        assert_eq!(found["errors"][0]["line"], serde_json::Value::Null);
    }

    #[test]
    fn the_exit_status_tells_the_verdict() {
        let status = |file: &Path| {
            format!(
                "{:?}",
                run(&Arguments {
                    file: file.into(),
                    json: true
                })
            )
        };
        assert_eq!(
            status(Path::new(EXAMPLE)),
            format!("{:?}", ExitCode::SUCCESS)
        );
        assert_eq!(
            status(Path::new("/nonexistent")),
            format!("{:?}", ExitCode::FAILURE)
        );
    }
}
