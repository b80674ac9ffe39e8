//! The director's file of most cases: one virtual router, and one service at its VIP.

use std::fmt;

use crate::scenario::SERVERS;
use crate::topology::VIP;

/// A virtual router on eth2 and a DNS service.
#[derive(Clone, Debug)]
pub struct ServiceFile {
    /// Lines before all others.
    head: &'static str,
    advert_interval: &'static str,
    priority: &'static str,
    protocols: &'static str,
    check: &'static str,
    /// More of the service, a key a line.
    keys: Vec<&'static str>,
    servers: Vec<String>,
}

impl ServiceFile {
    /// With priority 200 everywhere, UDP and TCP, no checks and no servers. Adverts are rare, every 500 ms:
    /// an emulated machine has other work.
    pub fn new() -> Self {
        Self {
            head: "",
            advert_interval: "500ms",
            priority: "200",
            protocols: "[udp, tcp]",
            check: "none",
            keys: Vec::new(),
            servers: Vec::new(),
        }
    }

    /// Without IPVS: forwards nothing, and probes its servers five times a second. An advert each 100 ms, of
    /// priority 200 on ds1 and 150 on ds2.
    pub fn probing() -> Self {
        Self {
            head: "dataplane: none\n",
            advert_interval: "100ms",
            priority: "{ ds1: 200, ds2: 150 }",
            check: "{ dns: { name: www.abc.local, type: A }, interval: 200ms, timeout: 200ms }",
            ..Self::new()
        }
    }

    /// An advert each so often.
    pub fn advert_interval(mut self, interval: &'static str) -> Self {
        self.advert_interval = interval;
        self
    }

    /// The priority, as YAML.
    pub fn priority(mut self, priority: &'static str) -> Self {
        self.priority = priority;
        self
    }

    /// UDP only.
    pub fn over_udp(mut self) -> Self {
        self.protocols = "[udp]";
        self
    }

    /// How servers are checked, as YAML.
    pub fn check(mut self, check: &'static str) -> Self {
        self.check = check;
        self
    }

    /// One more key of the service.
    pub fn with(mut self, key: &'static str) -> Self {
        self.keys.push(key);
        self
    }

    /// One more real server with this weight.
    pub fn server(mut self, address: &str, weight: u32) -> Self {
        let server = format!("{{ address: {address}, weight: {weight} }}");
        self.servers.push(server);
        self
    }

    /// Both of [`SERVERS`] with weight 1.
    pub fn both_servers(self) -> Self {
        SERVERS
            .iter()
            .fold(self, |file, server| file.server(server, 1))
    }
}

impl Default for ServiceFile {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for ServiceFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            head,
            advert_interval,
            priority,
            protocols,
            check,
            keys,
            servers,
        } = self;
        write!(
            formatter,
            "{head}vrrp:
  - name: dns
    interface: eth2
    virtual_router_id: 50
    priority: {priority}
    advert_interval: {advert_interval}
    addresses: [{VIP}/24]
services:
  - name: resolver
    address: {VIP}
    port: 53
    protocols: {protocols}
    check: {check}
"
        )?;
        for key in keys {
            writeln!(formatter, "    {key}")?;
        }
        formatter.write_str("    real_servers:\n")?;
        for server in servers {
            writeln!(formatter, "      - {server}")?;
        }
        formatter.write_str("metrics: { listen: \"127.0.0.1:9712\" }\n")
    }
}
