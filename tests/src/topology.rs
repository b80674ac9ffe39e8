//! The networks that most tests run on.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::Result;

use crate::bind;
use crate::lab::{Host, Lab, Lan, Process};
use crate::peer::{INTERFACE, Seat};

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
///
/// On eth2 each also has the address of 2001:db8:56::/64 that ends in the same digits.
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
        let mut add = |name: &str, number: u8| {
            let host = lab.add_host(name)?;
            lab.attach(&host, "eth2", &service_lan, &service_addresses(number))?;
            anyhow::Ok(host)
        };
        Ok(Self {
            client: add("client", 10)?,
            ds1: add("ds1", 181)?,
            ds2: add("ds2", 182)?,
            rs1: add("rs1", 183)?,
            rs2: add("rs2", 184)?,
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

/// A client and two machines for routers on a LAN of their own, with the addresses that client, ds1
/// and ds2 have on eth2 of [`DnsPair`]. The names of the LAN and of all hosts begin with `prefix`;
/// several such LANs fit into one lab. The client hears
/// what the routers say to each other.
pub fn two_seats(lab: &mut Lab, prefix: &str) -> Result<(Host, [Seat; 2])> {
    let lan = lab.add_hub(&format!("{prefix}lan"))?;
    let mut add = |name: &str, number: u8| {
        let host = lab.add_host(&format!("{prefix}{name}"))?;
        lab.attach(&host, INTERFACE, &lan, &service_addresses(number))?;
        anyhow::Ok(host)
    };
    let client = add("client", 10)?;
    let seats = [
        Seat {
            host: add("ds1", 181)?,
            second: false,
        },
        Seat {
            host: add("ds2", 182)?,
            second: true,
        },
    ];
    Ok((client, seats))
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

/// Where directors keep their state: hosts share `/var`, and it is the machine's.
pub const STATE_DIRECTORY: &str = "/run/lvs-director-state";

/// Starts `director run` on `host` with this YAML file, written to `/run/lab/director.yaml`.
///
/// Writing that file again with [`Host::write_file`] and sending SIGHUP is a reload.
pub fn start_director(host: &Host, yaml: &str) -> Result<Process> {
    let file = director_file(host, yaml)?;
    host.spawn(
        "director",
        [
            "run".as_ref(),
            "--config".as_ref(),
            file.as_os_str(),
            "--state-directory".as_ref(),
            STATE_DIRECTORY.as_ref(),
        ],
    )
}

/// Writes the file that [`start_director`] uses.
pub fn director_file(host: &Host, yaml: &str) -> Result<PathBuf> {
    host.write_file("director.yaml", yaml)
}

/// The addresses of a machine on the LAN of the VIP.
fn service_addresses(number: u8) -> [String; 2] {
    [
        format!("192.168.56.{number}/24"),
        format!("2001:db8:56::{number}/64"),
    ]
}

/// Makes `host` a DR real server for `vip` by hand, without `rs-agent`.
pub fn hold_vip_silently(host: &Host, vip: Ipv4Addr) -> Result<()> {
    for interface in ["all", "lo"] {
        host.set_sysctl(&format!("net.ipv4.conf.{interface}.arp_ignore"), "1")?;
        host.set_sysctl(&format!("net.ipv4.conf.{interface}.arp_announce"), "2")?;
    }
    host.add_address("lo", &format!("{vip}/32"))
}
