//! Anycast: a VIP is on the machine only while the local DNS answers.
//!
//! A routing daemon announces the VIP exactly while the machine has it: BIRD's `direct` protocol, FRR's
//! `network` and `redistribute connected` see the address come and go. So nothing here knows of a routing
//! protocol, and nothing has to be undone in one. While a VIP is withdrawn neither its address nor a route
//! for it is on the machine, and what others send to it passes through.
//!
//! `announcement` decides, purely; `watcher` probes and asks it; [`Announcer`] tells the service's loop
//! which VIPs are wanted. That loop brings them about as it does all else, by
//! [`bring_about`](crate::agent::bring_about).

pub mod announcement;
mod settings;
mod status;
mod watcher;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

pub use announcement::Tier;
pub use settings::{AnycastVip, Degraded, Settings};
pub use status::Status;

use crate::vip::Vip;
use watcher::{Standing, Watcher};

/// Where DNS is asked unless the configuration says otherwise.
pub const DNS_PORT: u16 = 53;

/// A VIP's lifetime is renewed when so much of it has passed: a renewal may fail, or be late, and another
/// one still comes in time.
const RENEWALS: u32 = 3;

/// Watches the DNS for all VIPs, and says which are wanted.
///
/// Needs a tokio runtime with time and I/O. When it is dropped nothing is watched any more; the VIPs are
/// for its owner to take away, and go by themselves when their lifetime has passed.
#[derive(Debug)]
pub struct Announcer {
    watched: Vec<Watched>,
    moved: Arc<Notify>,
    lifetime: Duration,
    renewal: Instant,
}

#[derive(Debug)]
struct Watched {
    settings: AnycastVip,
    standing: watch::Receiver<Standing>,
    task: AbortHandle,
}

impl Announcer {
    /// Starts to probe. No VIP is wanted until its DNS has answered.
    pub fn start(settings: &Settings) -> Self {
        let mut announcer = Self {
            watched: Vec::new(),
            moved: Arc::default(),
            lifetime: settings.lifetime,
            renewal: Instant::now(),
        };
        announcer.reload(settings);
        announcer
    }

    /// Follows another configuration. A VIP that is in both stays where it is until its new check, if it
    /// has one, says otherwise.
    pub fn reload(&mut self, settings: &Settings) {
        let mut before = std::mem::take(&mut self.watched);
        for vip in &settings.vips {
            let address = vip.vip.address;
            let same = before
                .iter()
                .position(|watched| watched.settings.vip.address == address);
            let old = same.map(|index| before.swap_remove(index));
            self.watched.push(match old {
                Some(old) if old.settings == *vip => old,
                old => {
                    let tier = match old.map(|old| old.tier()) {
                        Some(Tier::Degraded) if vip.degraded.is_none() => Tier::Announced,
                        Some(tier) => tier,
                        None => Tier::Withdrawn,
                    };
                    Watched::start(vip.clone(), tier, self.moved.clone())
                }
            });
        }
        self.lifetime = settings.lifetime;
        self.renewal = Instant::now();
        self.moved.notify_one();
    }

    /// The VIPs that the machine is to have now, and no others; while it drains, at a worse metric where
    /// they have one.
    pub fn wanted(&self, drains: bool) -> Vec<Vip> {
        let watched = self.watched.iter();
        watched
            .filter_map(|watched| watched.wanted(drains))
            .collect()
    }

    /// Waits until the machine has to be brought to what is [wanted](Self::wanted): something else is,
    /// or lifetimes have to be renewed. May be cancelled and called again.
    pub async fn changed(&mut self) {
        tokio::select! {
            () = self.moved.notified() => {}
            () = sleep_until(self.renewal) => {}
        }
        self.renewal = Instant::now() + self.lifetime / RENEWALS;
    }

    /// How each VIP stands, in the configuration's order.
    pub fn status(&self, drains: bool) -> Vec<Status> {
        let watched = self.watched.iter();
        watched.map(|watched| watched.status(drains)).collect()
    }
}

impl Watched {
    fn start(settings: AnycastVip, tier: Tier, moved: Arc<Notify>) -> Self {
        let (watcher, standing) = Watcher::new(settings.clone(), tier, moved);
        Self {
            settings,
            standing,
            task: tokio::spawn(watcher.run()).abort_handle(),
        }
    }

    fn tier(&self) -> Tier {
        if self.task.is_finished() {
            // Without probes nobody knows.
            return Tier::Withdrawn;
        }
        self.standing.borrow().tier
    }

    /// Where the VIP is to be, which isn't only by its checks while the machine drains.
    fn tier_now(&self, drains: bool) -> Tier {
        match self.tier() {
            Tier::Announced if drains && self.settings.degraded.is_some() => Tier::Degraded,
            tier => tier,
        }
    }

    fn interface(&self, drains: bool) -> Option<&str> {
        match self.tier_now(drains) {
            Tier::Announced => Some(&self.settings.vip.interface),
            Tier::Degraded => Some(&self.settings.degraded.as_ref()?.interface),
            Tier::Withdrawn => None,
        }
    }

    fn wanted(&self, drains: bool) -> Option<Vip> {
        let interface = self.interface(drains)?.to_owned();
        let vip = self.settings.vip.clone();
        // A label belongs to its interface.
        let label = vip.label.clone().filter(|_| interface == vip.interface);
        Some(Vip {
            interface,
            label,
            ..vip
        })
    }

    fn status(&self, drains: bool) -> Status {
        let standing = self.standing.borrow().clone();
        let now = watcher::now();
        let reason = standing.reason.as_ref();
        let held_for = standing
            .held_until
            .map(|until| until.saturating_duration_since(now));
        Status {
            address: self.settings.vip.address,
            state: self.tier_now(drains).word().to_owned(),
            interface: self.interface(drains).map(str::to_owned),
            lasting: Some(now.saturating_duration_since(standing.since)),
            reason: reason.map(|reason| watcher::words(Some(reason), &self.settings)),
            held_for: held_for.filter(|held_for| !held_for.is_zero()),
            last_site: standing.is_last_site,
            withdrawals: standing.withdrawals,
            check: format!(
                "{} at {}",
                self.settings.check.probing.kind, self.settings.probe
            ),
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};
    use std::sync::atomic::{AtomicBool, Ordering};

    use lvs_configuration::document;
    use lvs_configuration::error::Findings;
    use lvs_configuration::reader::Place;
    use lvs_health::reading;
    use tokio::net::UdpSocket;
    use tokio::time::timeout;

    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    /// A DNS server on loopback that answers every question, or says SERVFAIL.
    struct Dns {
        at: SocketAddr,
        works: Arc<AtomicBool>,
    }

    impl Dns {
        /// On loopback, and on the VIP where that is asked for.
        async fn start(on_vip: bool) -> Self {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let at = socket.local_addr().unwrap();
            let works = Arc::new(AtomicBool::new(true));
            tokio::spawn(answer(socket, works.clone()));
            if on_vip {
                let socket = UdpSocket::bind((VIP, at.port())).await.unwrap();
                tokio::spawn(answer(socket, works.clone()));
            }
            Self { at, works }
        }
    }

    async fn answer(socket: UdpSocket, works: Arc<AtomicBool>) {
        let mut buffer = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
            buffer[2] |= 0x80;
            buffer[3] = if works.load(Ordering::Relaxed) { 5 } else { 2 };
            socket.send_to(&buffer[..length], client).await.unwrap();
        }
    }

    /// A VIP that is on every machine, so that it is asked itself when it is wanted.
    const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53));

    fn settings(probe: SocketAddr) -> Settings {
        let check = format!(
            "{{ dns: {{ name: a.example, response_codes: [REFUSED] }}, interval: 200ms, timeout: 200ms, port: {} }}",
            probe.port()
        );
        let Ok(root) = document::parse(&check) else {
            panic!("{check}")
        };
        let check = reading::alone(&Place::root(&root), &mut Findings::default()).unwrap();
        let vip = Vip {
            lifetime: Some(Duration::from_secs(3)),
            ..Vip::on_loopback(VIP)
        };
        Settings {
            lifetime: Duration::from_secs(3),
            vips: vec![AnycastVip {
                vip,
                check,
                probe,
                degraded: None,
                other_sites: Vec::new(),
                minimum_hold: 300 * MILLISECOND,
                maximum_hold: Duration::from_secs(2),
            }],
        }
    }

    async fn until(announcer: &mut Announcer, number: usize) {
        let wait = async {
            while announcer.wanted(false).len() != number {
                announcer.changed().await;
            }
        };
        timeout(Duration::from_secs(5), wait).await.unwrap();
    }

    #[tokio::test]
    async fn a_vip_is_wanted_while_the_dns_answers() {
        let dns = Dns::start(true).await;
        let mut settings = settings(dns.at);
        settings.vips[0].minimum_hold = Duration::from_secs(1);
        let mut announcer = Announcer::start(&settings);
        assert!(announcer.wanted(false).is_empty());
        assert_eq!(
            announcer.status(false)[0].reason.as_deref(),
            Some("nobody has answered yet")
        );
        until(&mut announcer, 1).await;
        assert_eq!(
            announcer.status(false)[0].to_string(),
            "127.0.0.53 announced on lo for 0 s"
        );
        dns.works.store(false, Ordering::Relaxed);
        until(&mut announcer, 0).await;
        let went = Instant::now();
        let status = announcer.status(false).remove(0);
        assert_eq!(
            status.to_string(),
            "127.0.0.53 withdrawn for 0 s: SERVFAIL; comes back in 1 s at the earliest"
        );
        assert_eq!(status.withdrawals, 1);
        dns.works.store(true, Ordering::Relaxed);
        until(&mut announcer, 1).await;
        assert!(went.elapsed() >= 990 * MILLISECOND, "{:?}", went.elapsed());
    }

    #[tokio::test]
    async fn a_dns_that_is_not_on_the_vip_is_withdrawn_with_that_reason() {
        let dns = Dns::start(false).await;
        let mut announcer = Announcer::start(&settings(dns.at));
        until(&mut announcer, 1).await;
        let start = Instant::now();
        until(&mut announcer, 0).await;
        assert!(start.elapsed() >= announcement::SETTLING);
        let reason = announcer.status(false).remove(0).reason.unwrap();
        assert!(
            reason.starts_with(
                "the DNS answers at 127.0.0.1 and not at 127.0.0.53 (Connection refused"
            ),
            "{reason}"
        );
        assert!(reason.ends_with("`listen-on { any; };` in BIND, `interface: 0.0.0.0` in unbound"));
    }

    #[tokio::test]
    async fn lifetimes_are_renewed_and_a_reload_disturbs_nothing_that_stays() {
        let dns = Dns::start(true).await;
        let mut settings = settings(dns.at);
        let mut announcer = Announcer::start(&settings);
        until(&mut announcer, 1).await;
        announcer.changed().await;
        let renewed = Instant::now();
        announcer.changed().await;
        let pause = renewed.elapsed();
        assert!(
            (900 * MILLISECOND..1500 * MILLISECOND).contains(&pause),
            "{pause:?}"
        );
        announcer.reload(&settings);
        assert_eq!(announcer.wanted(false).len(), 1);
        settings.vips[0].maximum_hold *= 2;
        settings.vips[0].vip.interface = "dns0".to_owned();
        announcer.reload(&settings);
        assert_eq!(announcer.wanted(false)[0].interface, "dns0");
        settings.vips[0].degraded = Some(Degraded {
            interface: "dns1".to_owned(),
            check: settings.vips[0].check.clone(),
        });
        announcer.reload(&settings);
        assert_eq!(announcer.wanted(false)[0].interface, "dns0");
        // A drain is no verdict: afterwards it is where it was.
        assert_eq!(announcer.wanted(true)[0].interface, "dns1");
        assert_eq!(announcer.status(true)[0].state, "degraded");
        assert_eq!(announcer.status(false)[0].state, "announced");
        tokio::time::sleep(200 * MILLISECOND).await;
        assert_eq!(announcer.status(false)[0].withdrawals, 0);
        assert_eq!(announcer.status(false)[0].reason, None);
        settings.vips.clear();
        announcer.reload(&settings);
        assert!(announcer.wanted(false).is_empty());
    }

    #[tokio::test]
    async fn a_watcher_that_has_died_wants_nothing() {
        let dns = Dns::start(true).await;
        let mut announcer = Announcer::start(&settings(dns.at));
        until(&mut announcer, 1).await;
        announcer.watched[0].task.abort();
        until(&mut announcer, 0).await;
    }
}
