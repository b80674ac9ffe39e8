//! Routers that share a VIP, of three makes: our director, Debian's keepalived, and FRR's vrrpd.
//!
//! All are told the same [`VirtualRouter`], each in its own language, so that a test puts any two
//! of them on a LAN and treats them alike.

mod director;
mod frr;
mod keepalived;
pub mod virtual_server;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::Result;

use crate::lab::{Host, Mac, Process};

pub use self::director::Director;
pub use self::frr::Frr;
pub use self::keepalived::Keepalived;

/// The identifier of every [`VirtualRouter`].
pub const VIRTUAL_ROUTER_ID: u8 = 50;

/// The interface that routers and clients have on their LAN.
pub const INTERFACE: &str = "eth2";

/// How long a program may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// The family of a virtual router's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// VIP 192.168.56.185.
    Ipv4,
    /// VIP 2001:db8:56::185, and fe80::185, which RFC 9568 wants first.
    Ipv6,
}

/// How adverts are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cast {
    /// To the group of all VRRP routers.
    Multicast,
    /// To the other router.
    Unicast,
}

/// What both routers of a test are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VirtualRouter {
    /// 2 or 3.
    pub version: u8,
    /// The family of its addresses.
    pub family: Family,
    /// How adverts are sent.
    pub cast: Cast,
    /// From advert to advert; whole seconds in version 2.
    pub interval: Duration,
    /// Version 2 only.
    pub password: Option<&'static str>,
}

impl VirtualRouter {
    /// Version 3 over IPv4 with an advert to the group every 100 ms.
    pub const VERSION_3: Self = Self {
        version: 3,
        family: Family::Ipv4,
        cast: Cast::Multicast,
        interval: Duration::from_millis(100),
        password: None,
    };

    /// Version 2 with an advert to the group every second, without a password.
    pub const VERSION_2: Self = Self {
        version: 2,
        interval: Duration::from_secs(1),
        ..Self::VERSION_3
    };

    /// The VIP that clients use.
    pub fn vip(&self) -> IpAddr {
        match self.family {
            Family::Ipv4 => Ipv4Addr::new(192, 168, 56, 185).into(),
            Family::Ipv6 => Ipv6Addr::new(0x2001, 0xdb8, 0x56, 0, 0, 0, 0, 0x185).into(),
        }
    }

    /// All addresses in the order of the adverts, with their prefix lengths.
    pub fn addresses(&self) -> &'static [&'static str] {
        match self.family {
            Family::Ipv4 => &["192.168.56.185/24"],
            Family::Ipv6 => &["fe80::185/64", "2001:db8:56::185/64"],
        }
    }

    /// The same without the prefix lengths.
    fn bare_addresses(&self) -> impl Iterator<Item = &'static str> {
        let addresses = self.addresses().iter();
        addresses.filter_map(|address| address.split('/').next())
    }

    /// How long a Backup waits after priority 0 (RFC 9568, section 6.1):
    /// `(256 - priority) / 256` intervals, in version 2 seconds (RFC 3768, section 6.1).
    pub fn skew_time(&self, priority: u8) -> Duration {
        let unit = match self.version {
            2 => Duration::from_secs(1),
            _ => self.interval,
        };
        unit * (256 - u32::from(priority)) / 256
    }

    /// How long a Backup waits for an Active that has fallen silent: three intervals more.
    pub fn active_down_interval(&self, priority: u8) -> Duration {
        3 * self.interval + self.skew_time(priority)
    }
}

impl fmt::Display for VirtualRouter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            version,
            family,
            cast,
            ..
        } = self;
        write!(formatter, "version {version}, {family:?}, {cast:?}")
    }
}

/// A machine for a router: one of a pair on a LAN.
#[derive(Clone, Debug)]
pub struct Seat {
    /// The machine.
    pub host: Host,
    /// Whether it is the second of the pair, whose own addresses are the larger ones.
    pub second: bool,
}

impl Seat {
    /// The own address of the machine that adverts come from when it isn't told otherwise, or that
    /// unicast adverts come from.
    fn own_address(&self, router: &VirtualRouter) -> IpAddr {
        match (router.family, router.cast) {
            (Family::Ipv4, _) => Self::address(Family::Ipv4, self.second),
            (Family::Ipv6, Cast::Unicast) => Self::address(Family::Ipv6, self.second),
            (Family::Ipv6, Cast::Multicast) => link_local(self.host.mac(INTERFACE)).into(),
        }
    }

    /// Where unicast adverts go.
    fn other_address(&self, router: &VirtualRouter) -> IpAddr {
        Self::address(router.family, !self.second)
    }

    /// The own address of a seat, as [`crate::topology`] gives it.
    fn address(family: Family, second: bool) -> IpAddr {
        let number = if second { 2 } else { 1 };
        match family {
            Family::Ipv4 => Ipv4Addr::new(192, 168, 56, 180 + number).into(),
            Family::Ipv6 => {
                Ipv6Addr::new(0x2001, 0xdb8, 0x56, 0, 0, 0, 0, 0x180 + u16::from(number)).into()
            }
        }
    }

    /// Takes away what a killed router has left on the interface, as a reboot would.
    fn remove_addresses(&self, router: &VirtualRouter) -> Result<()> {
        for address in router.bare_addresses() {
            // Without a prefix length it means this one address.
            self.host
                .run(&format!("ip address flush dev {INTERFACE} to {address}"))?;
        }
        Ok(())
    }
}

/// A router of some make on its machine.
pub trait Router: fmt::Debug + Send {
    /// What people call it.
    fn make(&self) -> &'static str;

    /// Where it sits.
    fn seat(&self) -> &Seat;

    /// What it is told.
    fn router(&self) -> &VirtualRouter;

    /// Its machine.
    fn host(&self) -> &Host {
        &self.seat().host
    }

    /// Where its adverts come from.
    fn source(&self) -> IpAddr {
        self.seat().own_address(self.router())
    }

    /// The Ethernet address under which neighbours find the VIP while this router holds it.
    fn mac(&self) -> Mac {
        self.host().mac(INTERFACE)
    }

    /// Starts it with this priority; it doesn't run yet, or has ended.
    fn start(&mut self, priority: u8) -> Result<()>;

    /// Whether it listens as a Backup, or has become Active since it was started.
    fn is_listening(&self) -> bool;

    /// Whether its machine has the VIP.
    fn holds_vip(&self) -> bool;

    /// Changes the priority of the running router.
    fn set_priority(&mut self, priority: u8) -> Result<()>;

    /// Asks it to end, as a service manager does, and waits for that.
    fn leave(&mut self) -> Result<()>;

    /// `kill -9` for all its processes at once, and takes away what they leave behind.
    fn crash(&mut self) -> Result<()>;
}

/// The address that an interface gives itself (RFC 4291, appendix A).
fn link_local(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac;
    let group = u16::from_be_bytes;
    Ipv6Addr::new(
        0xfe80,
        0,
        0,
        0,
        group([a ^ 2, b]),
        group([c, 0xff]),
        group([0xfe, d]),
        group([e, f]),
    )
}

/// Starts a daemon whose timers a test measures: in front of all that keeps the machine busy, as our
/// director starts itself, where that is allowed.
fn spawn_promptly(
    host: &Host,
    program: &str,
    arguments: impl IntoIterator<Item = String>,
) -> Result<Process> {
    const PRIORITY: [&str; 2] = ["--fifo", "20"];
    let probe = PRIORITY.into_iter().chain(["true"]);
    let allowed = host.output("chrt", probe, PATIENCE)?.success();
    if !allowed {
        return host.spawn(program, arguments);
    }
    let words = PRIORITY.into_iter().chain([program]).map(str::to_owned);
    host.spawn("chrt", words.chain(arguments))
}

/// What has been started and not been ended.
fn running(process: &mut Option<Process>) -> Result<&mut Process> {
    process
        .as_mut()
        .ok_or_else(|| anyhow::anyhow!("the router was not started"))
}
