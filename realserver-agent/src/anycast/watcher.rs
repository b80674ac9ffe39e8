//! Probes the DNS for one VIP, and tells where the VIP is to be.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lvs_health::Prober;
use lvs_health::check::Check;
use lvs_proto::ipvs::Protocol;
use lvs_system::address;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tracing::{info, warn};

use super::announcement::{Announcement, Outcome, Place, Reason, Round, Tier};
use super::settings::{AnycastVip, targets};

/// How a VIP stands.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub(super) tier: Tier,
    pub(super) since: Instant,
    pub(super) reason: Option<Reason>,
    pub(super) held_until: Option<Instant>,
    pub(super) is_last_site: bool,
    pub(super) withdrawals: u64,
}

/// One VIP's probes, for ever.
pub(super) struct Watcher {
    settings: AnycastVip,
    announcement: Announcement,
    at_vip: Askers,
    elsewhere: Askers,
    standing: watch::Sender<Standing>,
    moved: Arc<Notify>,
}

impl Watcher {
    /// Of a VIP that is where `tier` says. Tells through what is returned, and besides notifies `moved` when the VIP is to be elsewhere.
    pub(super) fn new(
        settings: AnycastVip,
        tier: Tier,
        moved: Arc<Notify>,
    ) -> (Self, watch::Receiver<Standing>) {
        let announcement = Announcement::new(settings.rules(), tier, now());
        let (standing, receiver) = watch::channel(standing(&announcement, now()));
        let watcher = Self {
            at_vip: Askers::new(&settings, settings.itself()),
            elsewhere: Askers::new(&settings, settings.probe),
            settings,
            announcement,
            standing,
            moved,
        };
        (watcher, receiver)
    }

    pub(super) async fn run(mut self) {
        loop {
            let started = now();
            let round = self.round().await;
            self.announcement.hear(&round, now());
            self.publish();
            let mut next = started + self.pause();
            while let Some(wake) = self.announcement.next().filter(|wake| *wake < next) {
                sleep_until(wake).await;
                self.announcement.wake(now());
                self.publish();
                next = next.min(now() + self.pause());
            }
            sleep_until(next).await;
        }
    }

    fn pause(&self) -> Duration {
        let in_doubt = self.announcement.in_doubt();
        self.settings.check.probing.pause(in_doubt)
    }

    async fn round(&mut self) -> Round {
        let here = self.announcement.tier() > Tier::Withdrawn
            && is_on_this_machine(self.settings.vip.address);
        if !here {
            let (full, degraded) = self.elsewhere.ask().await;
            return Round {
                place: Place::Elsewhere,
                full,
                degraded,
                elsewhere: None,
                another_site: None,
            };
        }
        let around = self.announcement.asks_around();
        let is_degraded = self.announcement.tier() == Tier::Degraded;
        let ((full, degraded), elsewhere, another_site) = tokio::join!(
            self.at_vip.ask(),
            async {
                if !around {
                    return None;
                }
                let asker = match &mut self.elsewhere.degraded {
                    Some(degraded) if is_degraded => degraded,
                    _ => &mut self.elsewhere.full,
                };
                match asker.ask().await {
                    Outcome::Good => Some(true),
                    Outcome::Bad(_) => Some(false),
                    Outcome::NoNews => None,
                }
            },
            async {
                let sites = &self.settings.other_sites;
                if !around || sites.is_empty() {
                    return None;
                }
                Some(any_answers(&self.settings.check, sites).await)
            },
        );
        Round {
            place: Place::Vip,
            full,
            degraded,
            elsewhere,
            another_site,
        }
    }

    fn publish(&self) {
        let old = self.standing.borrow().clone();
        let new = standing(&self.announcement, now());
        self.log(&old, &new);
        let moved = old.tier != new.tier;
        // Who has the other end ends this task.
        let _ = self.standing.send(new);
        if moved {
            self.moved.notify_one();
        }
    }

    fn log(&self, old: &Standing, new: &Standing) {
        let vip = self.settings.vip.address;
        let reason = || words(new.reason.as_ref(), &self.settings);
        if old.tier != new.tier {
            match new.tier {
                Tier::Announced => {
                    info!(%vip, interface = self.settings.vip.interface, "announced");
                }
                Tier::Degraded => warn!(%vip, reason = reason(), "announced as degraded"),
                Tier::Withdrawn => warn!(%vip, reason = reason(), "withdrawn"),
            }
        } else if new.is_last_site && !old.is_last_site {
            warn!(%vip, reason = reason(), "would be withdrawn, and stays announced because no other site answers");
        } else if !new.is_last_site && old.is_last_site {
            info!(%vip, "is well again");
        }
    }
}

/// What is asked at one place.
struct Askers {
    full: Asker,
    degraded: Option<Asker>,
}

impl Askers {
    fn new(settings: &AnycastVip, at: SocketAddr) -> Self {
        let degraded = settings.degraded.as_ref();
        Self {
            full: Asker::new(&settings.check, at),
            degraded: degraded.map(|tier| Asker::new(&tier.check, at)),
        }
    }

    async fn ask(&mut self) -> (Outcome, Option<Outcome>) {
        tokio::join!(self.full.ask(), async {
            match &mut self.degraded {
                Some(asker) => Some(asker.ask().await),
                None => None,
            }
        })
    }
}

/// One check at one place.
struct Asker(Vec<(Option<Protocol>, Prober)>);

impl Asker {
    fn new(check: &Check, at: SocketAddr) -> Self {
        let targets = targets(check, at).into_iter();
        Self(
            targets
                .map(|target| (target.transport, Prober::new(&target)))
                .collect(),
        )
    }

    /// Good when every transport is.
    async fn ask(&mut self) -> Outcome {
        let several = self.0.len() > 1;
        for (transport, prober) in &mut self.0 {
            match prober.probe().await {
                Ok(_) => {}
                Err(failure) if failure.is_no_news() => return Outcome::NoNews,
                Err(failure) => {
                    return Outcome::Bad(match transport {
                        Some(transport) if several => format!("over {transport}: {failure}"),
                        _ => failure.to_string(),
                    });
                }
            }
        }
        Outcome::Good
    }
}

async fn any_answers(check: &Check, sites: &[SocketAddr]) -> bool {
    let mut asked = JoinSet::new();
    for site in sites {
        let mut asker = Asker::new(check, *site);
        asked.spawn(async move { asker.ask().await });
    }
    while let Some(outcome) = asked.join_next().await {
        if matches!(outcome, Ok(Outcome::Good)) {
            return true;
        }
    }
    false
}

/// An address of this machine's is spoken to from itself, and all that is loopback is here. What isn't
/// would be asked of another site.
fn is_on_this_machine(address: IpAddr) -> bool {
    address.is_loopback() || address::source_towards(address).is_ok_and(|source| source == address)
}

fn standing(announcement: &Announcement, now: Instant) -> Standing {
    Standing {
        tier: announcement.tier(),
        since: announcement.since(),
        reason: announcement.reason().cloned(),
        held_until: announcement.held_until(now),
        is_last_site: announcement.is_last_site(),
        withdrawals: announcement.withdrawals(),
    }
}

/// A reason for people.
pub(super) fn words(reason: Option<&Reason>, settings: &AnycastVip) -> String {
    match reason {
        None => String::new(),
        Some(Reason::Starting) => "nobody has answered yet".to_owned(),
        Some(Reason::Failing(failure)) => failure.clone(),
        Some(Reason::NotOnVip(failure)) => {
            let AnycastVip { vip, probe, .. } = settings;
            let (address, probe) = (vip.address, probe.ip());
            let any = if address.is_ipv4() {
                "`listen-on { any; };` in BIND, `interface: 0.0.0.0` in unbound"
            } else {
                "`listen-on-v6 { any; };` in BIND, `interface: ::0` in unbound"
            };
            format!(
                "the DNS answers at {probe} and not at {address} ({failure}); make it listen on any \
                 address: {any}"
            )
        }
    }
}

pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

async fn sleep_until(time: Instant) {
    tokio::time::sleep_until(time.into()).await;
}
