//! keepalived as a balancer: what its file says of services, and the program that goes by it.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::Result;

use crate::lab::{Host, Process};

/// DNS over UDP, forwarded by direct routing in turns (`virtual_server`).
#[derive(Clone, Debug)]
pub struct VirtualServer {
    vip: Ipv4Addr,
    servers: Vec<(String, u32)>,
    recipe: Option<Recipe>,
    one_packet: bool,
    eager: bool,
}

/// How real servers are checked, as people who run DNS do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Recipe {
    /// A datagram; an ICMP error speaks against the server.
    UdpCheck,
    /// `dig`, whose exit code counts.
    Dig,
    /// A query of keepalived's own.
    DnsCheck,
}

impl fmt::Display for Recipe {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::UdpCheck => "UDP_CHECK",
            Self::Dig => "MISC_CHECK with dig",
            Self::DnsCheck => "DNS_CHECK",
        })
    }
}

impl VirtualServer {
    /// A service with these servers and their weights, without checks.
    pub fn new<S: fmt::Display>(
        vip: Ipv4Addr,
        servers: impl IntoIterator<Item = (S, u32)>,
    ) -> Self {
        let servers = servers.into_iter();
        Self {
            vip,
            servers: servers
                .map(|(server, weight)| (server.to_string(), weight))
                .collect(),
            recipe: None,
            one_packet: false,
            eager: false,
        }
    }

    /// Its servers are checked like this, every 6 s.
    pub fn checked(mut self, recipe: Recipe) -> Self {
        self.recipe = Some(recipe);
        self
    }

    /// Looks every second, and asks twice at most.
    pub fn eager(mut self) -> Self {
        self.eager = true;
        self
    }

    /// Each query is scheduled by itself.
    pub fn one_packet(mut self) -> Self {
        self.one_packet = true;
        self
    }

    fn check(&self, recipe: Recipe, server: &str) -> String {
        let limits = if self.eager {
            "connect_timeout 1\nretry 1\n"
        } else {
            ""
        };
        match recipe {
            Recipe::UdpCheck => "UDP_CHECK {\nconnect_timeout 3\n}\n".to_owned(),
            Recipe::Dig => format!(
                "MISC_CHECK {{\nmisc_path \"/usr/bin/dig @{server} www.abc.local A +time=3 +tries=1\"\n\
                 misc_timeout 10\n}}\n"
            ),
            Recipe::DnsCheck => {
                format!("DNS_CHECK {{\ntype A\nname www.abc.local\n{limits}}}\n")
            }
        }
    }
}

impl fmt::Display for VirtualServer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (delay, ops) = (if self.eager { 1 } else { 6 }, self.one_packet);
        let ops = if ops { "ops\n" } else { "" };
        write!(
            formatter,
            "virtual_server {} 53 {{\ndelay_loop {delay}\nlb_algo wrr\nlb_kind DR\nprotocol UDP\n{ops}",
            self.vip
        )?;
        for (server, weight) in &self.servers {
            let check = self.recipe.map(|recipe| self.check(recipe, server));
            let check = check.unwrap_or_default();
            write!(
                formatter,
                "real_server {server} 53 {{\nweight {weight}\n{check}}}\n"
            )?;
        }
        formatter.write_str("}\n")
    }
}

/// Writes the file that [`balance`] uses; SIGHUP has it read again.
pub fn write(host: &Host, services: &[VirtualServer]) -> Result<PathBuf> {
    let services = services.iter().map(ToString::to_string);
    let text = "global_defs {\nscript_user root\n}\n".to_owned() + &services.collect::<String>();
    host.write_file("keepalived.conf", &text)
}

/// Starts a keepalived on `host` that forwards and checks, and does nothing else.
///
/// # Errors
/// When it can't be started.
pub fn balance(host: &Host, services: &[VirtualServer]) -> Result<Process> {
    let file = write(host, services)?;
    let file = file.to_string_lossy();
    let arguments = ["--dont-fork", "--log-console", "--check", "-f", &file];
    host.spawn("keepalived", arguments)
}
