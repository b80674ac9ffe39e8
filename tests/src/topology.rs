//! The networks that most tests run on.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::Result;

use crate::bind;
use crate::lab::{Host, Lab, Lan, Process};

/// The VIP of [`DnsPair`].
pub const VIP: Ipv4Addr = Ipv4Addr::new(192, 168, 56, 185);

/// What `www.abc.local` is on the first and on the second real server.
pub const ANSWERS: [Ipv4Addr; 2] = [Ipv4Addr::new(1, 2, 3, 4), Ipv4Addr::new(1, 2, 3, 5)];

/// A pair of directors, two DNS servers and a client.
///
/// | host | eth0, each on a wire of its own | eth1 | eth2, the VIP's LAN |
/// |---|---|---|---|
/// | client | 10.0.2.15/24 | | 192.168.56.10/24 |
/// | ds1 | 10.0.2.15/24 | 192.168.1.181/24 | 192.168.56.181/24 |
/// | ds2 | 10.0.2.15/24 | 192.168.1.182/24 | 192.168.56.182/24 |
/// | rs1 | 10.0.2.15/24 | | 192.168.56.183/24 |
/// | rs2 | 10.0.2.15/24 | | 192.168.56.184/24 |
#[derive(Clone, Debug)]
pub struct DnsPair {
    /// Asks.
    pub client: Host,
    /// The first director.
    pub ds1: Host,
    /// The second director.
    pub ds2: Host,
    /// The real server that answers 1.2.3.4.
    pub rs1: Host,
    /// The real server that answers 1.2.3.5.
    pub rs2: Host,
    /// The LAN behind eth2, 192.168.56.0/24.
    pub service_lan: Lan,
}

impl DnsPair {
    /// Adds the hosts with all their interfaces to the lab; starts nothing.
    pub fn new(lab: &mut Lab) -> Result<Self> {
        let pair = Self::with_service_lan_only(lab)?;
        let office = lab.add_lan("office")?;
        for host in pair.hosts() {
            lab.attach_alone(host, "eth0", &["10.0.2.15/24"])?;
        }
        lab.attach(&pair.ds1, "eth1", &office, &["192.168.1.181/24"])?;
        lab.attach(&pair.ds2, "eth1", &office, &["192.168.1.182/24"])?;
        Ok(pair)
    }

    /// The same with eth2 only, for tests that look at nothing else.
    pub fn with_service_lan_only(lab: &mut Lab) -> Result<Self> {
        let service_lan = lab.add_lan("service")?;
        let mut add = |name: &str, address: &str| {
            let host = lab.add_host(name)?;
            lab.attach(&host, "eth2", &service_lan, &[address])?;
            anyhow::Ok(host)
        };
        Ok(Self {
            client: add("client", "192.168.56.10/24")?,
            ds1: add("ds1", "192.168.56.181/24")?,
            ds2: add("ds2", "192.168.56.182/24")?,
            rs1: add("rs1", "192.168.56.183/24")?,
            rs2: add("rs2", "192.168.56.184/24")?,
            service_lan,
        })
    }

    /// All five hosts.
    pub fn hosts(&self) -> [&Host; 5] {
        [&self.client, &self.ds1, &self.ds2, &self.rs1, &self.rs2]
    }

    /// Starts BIND on both real servers and waits until they answer; see [`ANSWERS`].
    pub fn start_named(&self) -> Result<[Process; 2]> {
        let mut first = bind::spawn(&self.rs1, ANSWERS[0])?;
        let mut second = bind::spawn(&self.rs2, ANSWERS[1])?;
        bind::wait_for(&self.rs1, &mut first, ANSWERS[0])?;
        bind::wait_for(&self.rs2, &mut second, ANSWERS[1])?;
        Ok([first, second])
    }
}

/// Two hosts on one LAN: `a` with 192.168.56.1/24 and `b` with 192.168.56.2/24, both on eth0.
pub fn two_hosts(lab: &mut Lab) -> Result<(Host, Host)> {
    let lan = lab.add_lan("lan")?;
    let a = lab.add_host("a")?;
    let b = lab.add_host("b")?;
    lab.attach(&a, "eth0", &lan, &["192.168.56.1/24"])?;
    lab.attach(&b, "eth0", &lan, &["192.168.56.2/24"])?;
    Ok((a, b))
}

/// Starts `director run` on `host` with this YAML file, written to `/run/lab/director.yaml`.
///
/// Writing that file again with [`Host::write_file`] and sending SIGHUP is a reload.
pub fn start_director(host: &Host, yaml: &str) -> Result<Process> {
    let file = director_file(host, yaml)?;
    host.spawn(
        "director",
        ["run".as_ref(), "--config".as_ref(), file.as_os_str()],
    )
}

/// Writes the file that [`start_director`] uses.
pub fn director_file(host: &Host, yaml: &str) -> Result<PathBuf> {
    host.write_file("director.yaml", yaml)
}

/// Makes `host` a DR real server for `vip` by hand, without `rs-agent`.
pub fn hold_vip_silently(host: &Host, vip: Ipv4Addr) -> Result<()> {
    for interface in ["all", "lo"] {
        host.set_sysctl(&format!("net.ipv4.conf.{interface}.arp_ignore"), "1")?;
        host.set_sysctl(&format!("net.ipv4.conf.{interface}.arp_announce"), "2")?;
    }
    host.add_address("lo", &format!("{vip}/32"))
}
