//! Two directors that share a VIP and forward nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::capture::{Advert, Capture};
use crate::cases::metrics::Scrape;
pub(super) use crate::figures::within;
use crate::lab::{Host, Lab, Process, wait_until};
use crate::peer::VirtualRouter;
use crate::scenario::PATIENCE;
use crate::topology::{DnsPair, VIP, start_director};

/// The directors' own addresses.
pub(super) const ADDRESSES: [Ipv4Addr; 2] = [
    Ipv4Addr::new(192, 168, 56, 181),
    Ipv4Addr::new(192, 168, 56, 182),
];

/// The VIP of the virtual router for IPv6.
pub(super) const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x56, 0, 0, 0, 0, 0x185);

/// What the configuration says of the virtual router.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) version: u8,
    pub(super) interval: Duration,
    pub(super) priorities: [u8; 2],
    pub(super) password: Option<&'static str>,
    pub(super) preempt: bool,
    /// Whether there is another virtual router for IPv6, `dns6`.
    pub(super) ipv6: bool,
}

impl Settings {
    /// Version 3 with an advert every 100 ms; ds1 is preferred.
    pub(super) const FAST: Self = Self {
        version: 3,
        interval: Duration::from_millis(100),
        priorities: [200, 150],
        password: None,
        preempt: true,
        ipv6: false,
    };

    /// Version 2 with a password and an advert a second.
    pub(super) const VERSION_2: Self = Self {
        version: 2,
        interval: Duration::from_secs(1),
        password: Some("s3cret"),
        ..Self::FAST
    };

    /// The file for both directors.
    pub(super) fn yaml(&self) -> String {
        let Self {
            version,
            interval,
            priorities: [first, second],
            password,
            preempt,
            ipv6,
        } = self;
        let authentication = password.map_or_else(String::new, |password| {
            format!("    authentication: {{ password: {password} }}\n")
        });
        let ipv6 = if *ipv6 {
            format!(
                "  - name: dns6\n    interface: eth2\n    virtual_router_id: 50\n    \
                 priority: {{ ds1: {first}, ds2: {second} }}\n    \
                 advert_interval: {}ms\n    addresses: [\"{}/64\", \"{VIP6}/64\"]\n",
                interval.as_millis(),
                Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x185),
            )
        } else {
            String::new()
        };
        format!(
            "vrrp:\n  - name: dns\n    interface: eth2\n    virtual_router_id: 50\n    \
             version: {version}\n    priority: {{ ds1: {first}, ds2: {second} }}\n    \
             advert_interval: {}ms\n    preempt: {preempt}\n    addresses: [{VIP}/24]\n\
             {authentication}{ipv6}\
             metrics: {{ listen: \"127.0.0.1:9712\" }}\n",
            interval.as_millis()
        )
    }

    /// How long a director waits after priority 0; see [`VirtualRouter::skew_time`].
    pub(super) fn skew_time(&self, director: usize) -> Duration {
        self.virtual_router().skew_time(self.priorities[director])
    }

    /// How long a director waits for an Active that has fallen silent.
    pub(super) fn active_down_interval(&self, director: usize) -> Duration {
        let priority = self.priorities[director];
        self.virtual_router().active_down_interval(priority)
    }

    fn virtual_router(&self) -> VirtualRouter {
        VirtualRouter {
            version: self.version,
            interval: self.interval,
            password: self.password,
            ..VirtualRouter::VERSION_3
        }
    }
}

/// The directors and a client, on one LAN.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) client: Host,
    pub(super) hosts: [Host; 2],
    pub(super) directors: [Process; 2],
    pub(super) settings: Settings,
}

impl Pair {
    /// Starts both and waits until ds1 is Active and ds2 is Backup.
    pub(super) fn start(lab: &mut Lab, settings: Settings) -> Result<Self> {
        Self::start_on(DnsPair::with_service_lan_only(lab)?, settings)
    }

    /// The same on hosts that are there already.
    pub(super) fn start_on(hosts: DnsPair, settings: Settings) -> Result<Self> {
        let yaml = settings.yaml();
        let first = start_director(&hosts.ds1, &yaml)?;
        wait_until("ds1 holds the VIP", PATIENCE, || hosts.ds1.holds(VIP))?;
        let second = start_director(&hosts.ds2, &yaml)?;
        let pair = Self {
            client: hosts.client,
            hosts: [hosts.ds1, hosts.ds2],
            directors: [first, second],
            settings,
        };
        pair.wait_for_backup(1)?;
        Ok(pair)
    }

    /// Starts a director that has ended.
    pub(super) fn restart(&mut self, director: usize) -> Result<()> {
        self.directors[director] = start_director(&self.hosts[director], &self.settings.yaml())?;
        Ok(())
    }

    /// Waits until this director holds the VIP and the other one doesn't.
    pub(super) fn wait_for_active(&self, director: usize) -> Result<Duration> {
        let [this, other] = [director, 1 - director].map(|index| &self.hosts[index]);
        let what = format!("{} alone holds the VIP", this.name());
        wait_until(&what, PATIENCE, || this.holds(VIP) && !other.holds(VIP))
    }

    /// Waits until a director says that it is a Backup.
    pub(super) fn wait_for_backup(&self, director: usize) -> Result<()> {
        let host = &self.hosts[director];
        wait_until(&format!("{} is a Backup", host.name()), PATIENCE, || {
            Scrape::of(host).is_ok_and(|scrape| {
                scrape.value("director_vrrp_state{state=\"backup\",virtual_router=\"dns\"}")
                    == Some(1)
            })
        })?;
        Ok(())
    }

    /// A machine loses its power: its link goes down with its programs. Returns when the link was down.
    ///
    /// The link is first. The other way round, whichever process dies last could say priority 0.
    pub(super) fn cut_off(&self, director: usize) -> Result<Instant> {
        self.hosts[director].link_down("eth2")?;
        let down = Instant::now();
        self.hosts[director].kill_processes();
        Ok(down)
    }

    /// Boots a machine that was cut off, without the VIP, and starts its director.
    pub(super) fn boot(&mut self, director: usize) -> Result<()> {
        let host = &self.hosts[director];
        host.run(&format!("ip address flush dev eth2 to {VIP}/32"))?;
        host.link_up("eth2")?;
        self.restart(director)
    }
}

/// The adverts of one sender in a capture.
pub(super) fn adverts_of(capture: &Capture, source: impl Into<IpAddr>) -> Vec<(Instant, Advert)> {
    let source = source.into();
    let adverts = capture.adverts().into_iter();
    let adverts = adverts.filter(|(frame, advert)| !frame.outgoing && advert.source == source);
    adverts.map(|(frame, advert)| (frame.at, advert)).collect()
}

/// The first advert of a sender at or after `since` with this priority. Captures are read a little later
/// than the kernel is changed, so that it's waited for.
pub(super) fn first_advert(
    capture: &Capture,
    source: impl Into<IpAddr>,
    priority: u8,
    since: Instant,
) -> Result<Instant> {
    let source = source.into();
    let what = format!("advert of {source} with priority {priority}");
    let frame = capture.wait_for(&what, PATIENCE, |frame| {
        let by_it = |advert: Advert| advert.source == source && advert.priority == priority;
        frame.at >= since && !frame.outgoing && frame.advert().is_some_and(by_it)
    })?;
    Ok(frame.at)
}
