//! What the audit reads of the machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use lvs_system::address::Scope;
use lvs_system::arp::{ANNOUNCE, IGNORE};
use lvs_system::listeners::{self, Listener};
use lvs_system::netlink::{Connection, Protocol};
use lvs_system::{address, proxy, route, sysctl};

use super::listening::PORT;
use super::routing::{Files, Routing};
use crate::config::Configuration;
use crate::filter;
use crate::machine::{self, Error, Found, Interface, Kind, Owned};
use crate::run::Stopped;
use crate::vip::Place;

/// What the kernel has in force, and what the agent has on record.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// All interfaces, by name.
    pub interfaces: BTreeMap<String, Interface>,
    /// The indices of those that are for VIPs, `lo` and dummy interfaces.
    pub vip_interfaces: BTreeSet<u32>,
    /// All addresses.
    pub addresses: Vec<Found>,
    /// The host routes of the main table, see [`Machine::routes`](machine::Machine::routes).
    pub host_routes: BTreeSet<Place>,
    /// Those of the wanted VIPs whose packets the kernel takes as its own.
    pub taken: BTreeSet<IpAddr>,
    /// `arp_ignore` of `all`, `default` and every interface, see [`lvs_system::arp::Setting::values`].
    pub ignore: BTreeMap<String, i32>,
    /// `arp_announce`, likewise.
    pub announce: BTreeMap<String, i32>,
    /// The VIPs that packet filters keep quiet.
    pub filtered: BTreeSet<Ipv4Addr>,
    /// Who listens on the DNS' port; `None` where the kernel doesn't tell.
    pub listeners: Option<Vec<Listener>>,
    /// The routers of the default routes.
    pub gateways: Vec<IpAddr>,
    /// Addresses that are answered for in another's name, and the interfaces.
    pub proxied: Vec<(IpAddr, String)>,
    /// The interfaces on which that has an effect for IPv6.
    pub ndp_proxies: BTreeSet<String>,
    /// The agent's record.
    pub owned: Owned,
    /// What was stopped by hand.
    pub stopped: Stopped,
    /// The agents that run as a service in this network namespace.
    pub agents: Vec<Process>,
    /// What may announce a VIP that isn't there.
    pub routing: Routing,
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub id: u32,
    /// Its command line.
    pub command: String,
}

impl View {
    /// Reads the machine; changes nothing and sends nothing.
    ///
    /// # Errors
    /// When the kernel doesn't tell of addresses, routes or settings.
    pub fn read(
        state_directory: &Path,
        wanted: &Configuration,
        daemons: &Files,
    ) -> Result<Self, Error> {
        let mut route = Connection::open(Protocol::Route).map_err(Error::Connect)?;
        let interfaces = machine::interfaces(&mut route)?;
        let addresses = machine::addresses(&mut route)?;
        let for_vips = |name: &String| {
            let kind = interfaces.get(name).map(|interface| interface.kind);
            matches!(kind, Some(Kind::Loopback | Kind::Dummy { .. }))
        };
        let vip_interfaces = addresses
            .iter()
            .filter(|found| for_vips(&found.interface))
            .map(|found| found.detail.interface_index)
            .collect();
        let vips = wanted.vips.iter().map(|vip| vip.address);
        let taken = vips
            .filter(|vip| address::is_local(&mut route, *vip))
            .collect();
        let ndp_proxies = interfaces
            .keys()
            .filter(|name| proxies_ndp(name))
            .cloned()
            .collect();
        Ok(Self {
            vip_interfaces,
            addresses,
            host_routes: machine::host_routes(&mut route)?,
            taken,
            ignore: IGNORE.values()?,
            announce: ANNOUNCE.values()?,
            filtered: filter::quiet(),
            listeners: listeners(),
            gateways: route::default_gateways(&mut route)?,
            // A kernel without IPv6 has none.
            proxied: proxy::list(&mut route).unwrap_or_default(),
            ndp_proxies,
            owned: machine::recorded(state_directory)?,
            stopped: Stopped::recorded(state_directory)?,
            agents: agents(),
            routing: Routing::read(&mut route, daemons)?,
            interfaces,
        })
    }
}

impl View {
    /// The scopes of an address, on whatever interfaces it is.
    pub(super) fn scopes_of(&self, address: IpAddr) -> impl Iterator<Item = Scope> {
        let found = self.addresses.iter();
        found
            .filter(move |found| found.detail.address == address)
            .map(|found| found.detail.scope)
    }
}

fn listeners() -> Option<Vec<Listener>> {
    let mut connection = Connection::open(Protocol::Sockets).ok()?;
    listeners::list(&mut connection, PORT).ok()
}

/// Whether a proxy entry of an interface is asked (`ndisc_recv_ns()`, `net/ipv6/ndisc.c`).
fn proxies_ndp(interface: &str) -> bool {
    let is_on = |place: &str, name: &str| {
        let name = format!("net.ipv6.conf.{}.{name}", sysctl::part(place));
        sysctl::read(&name).is_ok_and(|value| value != "0")
    };
    is_on(interface, "forwarding") && (is_on("all", "proxy_ndp") || is_on(interface, "proxy_ndp"))
}

/// The processes `rs-agent run` of this network namespace.
fn agents() -> Vec<Process> {
    let Ok(here) = fs::read_link("/proc/self/ns/net") else {
        return Vec::new();
    };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let agent = |id: u32| {
        let command = fs::read_to_string(format!("/proc/{id}/cmdline")).ok()?;
        let words: Vec<&str> = command.split_terminator('\0').collect();
        let program = Path::new(words.first()?).file_name()?;
        let is_here =
            || fs::read_link(format!("/proc/{id}/ns/net")).is_ok_and(|there| there == here);
        (program == "rs-agent" && words.contains(&"run") && is_here()).then(|| Process {
            id,
            command: words.join(" "),
        })
    };
    ids.filter_map(agent).collect()
}

impl fmt::Display for Process {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "process {} (`{}`)", self.id, self.command)
    }
}
