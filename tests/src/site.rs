//! A network with a real server for each way in which a director can reach one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Result;

use crate::lab::{Host, Lab, wait_until};
use crate::scenario::PATIENCE;
use crate::topology::hold_vip_silently;
use crate::whoami::{Transport, Whoami};

/// VIPs in the subnet of the near servers.
pub const INSIDE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 168, 56, 185)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x56, 0, 0, 0, 0, 0x185)),
];

/// VIPs in nobody's subnet: the router sends them to the director.
pub const OUTSIDE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 53)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x203, 0, 0, 0, 0, 0x53)),
];

/// The port of the remote server that takes what is wrapped in UDP.
pub const GUE_PORT: u16 = 6080;

/// The port of the inner server that isn't the service's.
pub const INNER_PORT: u16 = 7001;

/// A client behind a router, a director, and real servers near, behind it and far away.
///
/// | host | on | addresses | default route |
/// |---|---|---|---|
/// | client | eth0, access | 198.51.100.10/24, 2001:db8:100::10/64 | the router |
/// | router | eth0, eth1, eth2 | 198.51.100.1, 192.168.56.1, 192.0.2.1; `::1` of each /64 | |
/// | director | eth2, service | 192.168.56.181/24, 2001:db8:56::181/64 | the router |
/// | | eth3, inner | 10.1.0.1/24, 2001:db8:10::1/64 | |
/// | near1, near2 | eth2, service | 192.168.56.183 and .184, 2001:db8:56::183 and ::184 | the router |
/// | inner | eth0, inner | 10.1.0.186/24, 2001:db8:10::186/64 | the director |
/// | remote | eth0, remote | 192.0.2.11/24 to .16, 2001:db8:2::11/64 to ::16 | the router |
///
/// Near and remote servers hold all VIPs on lo. The remote one unwraps what is sent to .11 as IP in
/// IP, to .12 to .14 as GUE at [`GUE_PORT`], and as GRE to .15 without and to .16 with a checksum; the
/// same by IPv6.
#[derive(Clone, Debug)]
pub struct Site {
    /// Asks.
    pub client: Host,
    /// Between all.
    pub router: Host,
    /// Has no VIP until it is given one.
    pub director: Host,
    /// Real servers for direct routing.
    pub near: [Host; 2],
    /// A real server for masquerading.
    pub inner: Host,
    /// A real server for tunnels.
    pub remote: Host,
}

impl Site {
    /// Adds the hosts to the lab; starts nothing.
    pub fn new(lab: &mut Lab) -> Result<Self> {
        let [access, service, inner, remote] = [
            lab.add_lan("access")?,
            lab.add_lan("service")?,
            lab.add_lan("inner")?,
            lab.add_lan("remote")?,
        ];
        let site = Self {
            client: lab.add_host("client")?,
            router: lab.add_host("router")?,
            director: lab.add_host("director")?,
            near: [lab.add_host("near1")?, lab.add_host("near2")?],
            inner: lab.add_host("inner")?,
            remote: lab.add_host("remote")?,
        };
        for (host, interface, lan, subnet, numbers) in [
            (&site.client, "eth0", &access, ACCESS, 10..=10),
            (&site.router, "eth0", &access, ACCESS, 1..=1),
            (&site.router, "eth1", &service, SERVICE, 1..=1),
            (&site.router, "eth2", &remote, REMOTE, 1..=1),
            (&site.director, "eth2", &service, SERVICE, 181..=181),
            (&site.director, "eth3", &inner, INNER, 1..=1),
            (&site.near[0], "eth2", &service, SERVICE, 183..=183),
            (&site.near[1], "eth2", &service, SERVICE, 184..=184),
            (&site.inner, "eth0", &inner, INNER, 186..=186),
            (&site.remote, "eth0", &remote, REMOTE, 11..=16),
        ] {
            let addresses = numbers.flat_map(|number| {
                let [four, six] = subnet;
                [format!("{four}.{number}/24"), format!("{six}::{number}/64")]
            });
            lab.attach(host, interface, lan, &addresses.collect::<Vec<_>>())?;
        }
        site.furnish()?;
        Ok(site)
    }

    /// Starts servers that answer with their hosts' names: at these ports of all VIPs, and inside at
    /// [`INNER_PORT`].
    ///
    /// # Errors
    /// When a host refuses a socket.
    pub fn serve(&self, ports: &[u16]) -> Result<[Whoami; 4]> {
        const ALL: [Transport; 3] = [Transport::Udp, Transport::Tcp, Transport::Sctp];
        let places = |addresses: &[IpAddr], ports: &[u16]| {
            let mut places = Vec::new();
            for (transport, address) in ALL
                .into_iter()
                .flat_map(|transport| addresses.iter().map(move |address| (transport, *address)))
            {
                let sockets = ports.iter().map(|port| SocketAddr::new(address, *port));
                places.extend(sockets.map(|socket| (transport, socket)));
            }
            places
        };
        let vips = places(&[INSIDE, OUTSIDE].concat(), ports);
        let own = [
            IpAddr::from(Ipv4Addr::new(10, 1, 0, 186)),
            Ipv6Addr::new(0x2001, 0xdb8, 0x10, 0, 0, 0, 0, 0x186).into(),
        ];
        Ok([
            Whoami::start(&self.near[0], vips.clone())?,
            Whoami::start(&self.near[1], vips.clone())?,
            Whoami::start(&self.inner, places(&own, &[INNER_PORT]))?,
            Whoami::start(&self.remote, vips)?,
        ])
    }

    /// Gives the director [`OUTSIDE`], as an operator does who has no use for VRRP.
    ///
    /// # Errors
    /// When the kernel refuses an address.
    pub fn own_outside(&self) -> Result<()> {
        let [four, six] = OUTSIDE;
        let add = |address: IpAddr, length| {
            let address = format!("{address}/{length}");
            self.director.add_address("eth2", &address)
        };
        add(four, 32)?;
        add(six, 128)
    }

    /// Waits until the director has [`INSIDE`].
    ///
    /// # Errors
    /// When that takes longer than [`PATIENCE`].
    pub fn wait_for_vips(&self) -> Result<()> {
        wait_until("the director has its VIPs", PATIENCE, || {
            INSIDE.into_iter().all(|vip| self.director.holds(vip))
        })?;
        Ok(())
    }

    fn furnish(&self) -> Result<()> {
        self.router.set_sysctl("net.ipv4.ip_forward", "1")?;
        self.router
            .set_sysctl("net.ipv6.conf.all.forwarding", "1")?;
        let [four, six] = OUTSIDE;
        let to_director = format!(
            "route add {four}/32 via 192.168.56.181\nroute add {six}/128 via 2001:db8:56::181\n"
        );
        ip(&self.router, &to_director)?;
        let by = |[four, six]: [&str; 2]| {
            format!("route add default via {four}.1\nroute add ::/0 via {six}::1\n")
        };
        ip(&self.client, &by(ACCESS))?;
        ip(&self.director, &by(SERVICE))?;
        ip(&self.inner, &by(INNER))?;
        for near in &self.near {
            ip(near, &by(SERVICE))?;
        }
        // All other modules are loaded by whoever asks for them.
        self.remote.run("modprobe -a fou fou6")?;
        ip(&self.remote, &(by(REMOTE) + &unwrapping()))?;
        for server in self.near.iter().chain([&self.remote]) {
            for vip in [INSIDE, OUTSIDE].concat() {
                match vip {
                    IpAddr::V4(vip) => hold_vip_silently(server, vip)?,
                    IpAddr::V6(vip) => server.add_address("lo", &format!("{vip}/128"))?,
                }
            }
        }
        Ok(())
    }
}

const ACCESS: [&str; 2] = ["198.51.100", "2001:db8:100"];
const SERVICE: [&str; 2] = ["192.168.56", "2001:db8:56"];
const INNER: [&str; 2] = ["10.1.0", "2001:db8:10"];
const REMOTE: [&str; 2] = ["192.0.2", "2001:db8:2"];

/// What makes a machine a real server behind tunnels.
fn unwrapping() -> String {
    let [four, six] = REMOTE;
    // An IP in IP device takes what comes out of GUE too, since its outer header stays.
    let mut devices: Vec<String> = Vec::new();
    for number in 11..=14 {
        devices.extend([
            format!("ipip{number} type ipip local {four}.{number}"),
            format!("sit{number} type sit local {four}.{number}"),
            format!("six{number} type ip6tnl mode any local {six}::{number}"),
        ]);
    }
    for (number, checksum) in [(15, ""), (16, " icsum")] {
        devices.extend([
            format!("gre{number} type gre local {four}.{number}{checksum}"),
            format!("sixgre{number} type ip6gre local {six}::{number}{checksum}"),
        ]);
    }
    let mut lines = format!("fou add port {GUE_PORT} gue\nfou add port {GUE_PORT} gue -6\n");
    for device in devices {
        let name = device.split_whitespace().next().unwrap_or_default();
        lines += &format!("link add {device}\nlink set {name} up\n");
    }
    lines
}

/// Runs `ip` for all these lines at once, since each start of a program takes its time.
fn ip(host: &Host, lines: &str) -> Result<()> {
    let file = host.write_file("ip.batch", lines)?;
    host.run(&format!("ip -batch {}", file.display()))?;
    Ok(())
}
