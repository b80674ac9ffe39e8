//! Two routers of different makes play through all ways in which a VIP changes hands.

use std::ops::RangeInclusive;
use std::sync::Mutex;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use super::PAUSE;
use super::pair::{adverts_of, first_advert};
use crate::capture::Capture;
use crate::cases::neighbour::neighbour;
use crate::lab::{Host, Lab, wait_until};
use crate::lock::lock;
use crate::peer::{INTERFACE, Router, Seat, VirtualRouter};
use crate::ping;
use crate::scenario::PATIENCE;
use crate::stall::{self, Stall, Watchers};
use crate::topology::two_seats;

/// Makes a router.
pub(super) type Make = fn(Seat, VirtualRouter) -> Box<dyn Router>;

/// How far a takeover may be from the formula, and how long a router may stay after it was told.
pub(super) const TOLERANCE: Duration = Duration::from_millis(50);

/// The priority of the first Active.
const FIRST_PRIORITY: u8 = 200;

/// How an Active comes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Its processes are killed.
    Killed,
    /// It is told to end, and says priority 0.
    Asked,
    /// Its priority falls below that of the Backup, which preempts.
    Preempted,
}

/// With which priority the Backup waits, always a lower one than the Active's, and how the Active
/// ends then. The two change places each time, so that each make plays each part.
///
/// A director says priority 0 once an interval until another one speaks, and each restarts a peer's
/// timer. So a peer that is asked to follow needs a skew time well below the interval.
const ROUNDS: [(u8, Ending); 6] = [
    (150, Ending::Killed),
    (120, Ending::Killed),
    (100, Ending::Asked),
    (80, Ending::Asked),
    (10, Ending::Preempted),
    (5, Ending::Preempted),
];

/// The priority of two equals.
const EQUAL: u8 = 120;

/// Plays all pairs at the same time, each on a LAN of its own: nearly all of the time is spent
/// waiting.
pub(super) fn play(lab: &mut Lab, pairs: &[([Make; 2], VirtualRouter)]) -> Result<()> {
    let watchers = Watchers::start()?;
    let mut bouts = Vec::new();
    for (number, (makes, router)) in pairs.iter().enumerate() {
        let (client, seats) = two_seats(lab, &format!("{number}-"))?;
        let capture = Capture::start(&client)?;
        bouts.push(Bout {
            client,
            seats,
            capture,
            makes: *makes,
            router: *router,
            timings: Mutex::default(),
        });
    }
    let outcomes: Vec<Result<()>> = std::thread::scope(|scope| {
        let threads: Vec<_> = bouts
            .iter()
            .map(|bout| scope.spawn(|| bout.play().with_context(|| bout.router.to_string())))
            .collect();
        let outcomes = threads.into_iter().map(|thread| {
            let outcome = thread.join();
            outcome.unwrap_or_else(|_| Err(anyhow!("a panic")))
        });
        outcomes.collect()
    });
    let stalls = watchers.stop()?;
    outcomes.into_iter().collect::<Result<()>>()?;
    let mut timings = bouts
        .iter()
        .flat_map(|bout| std::mem::take(&mut *lock(&bout.timings)));
    timings.try_for_each(|timing| timing.judge(&stalls))
}

/// A time that was measured. It is judged at the end, when it is known how long the machine stood still.
struct Timing {
    what: String,
    since: Instant,
    until: Instant,
    limits: RangeInclusive<Duration>,
}

impl Timing {
    /// That it was within its limits, or beyond them by no more than the machine stood still: who is held up
    /// while it hears an advert begins to wait that much later.
    fn judge(self, stalls: &[Stall]) -> Result<()> {
        let Self { what, limits, .. } = &self;
        let took = self.until.saturating_duration_since(self.since);
        let stalled = stall::longest(stalls, self.since, self.until);
        ensure!(
            took >= *limits.start() && took <= *limits.end() + stalled,
            "{what}: {took:?} and not {limits:?}; the machine stood still for {stalled:?}"
        );
        Ok(())
    }
}

/// One virtual router and the two makes that share it.
struct Bout {
    client: Host,
    seats: [Seat; 2],
    capture: Capture,
    makes: [Make; 2],
    router: VirtualRouter,
    timings: Mutex<Vec<Timing>>,
}

impl Bout {
    fn play(&self) -> Result<()> {
        self.change_hands()?;
        // Once our address is the larger one, once it is the smaller one.
        self.settle_a_tie(0)?;
        self.settle_a_tie(1)
    }

    fn change_hands(&self) -> Result<()> {
        let [first, second] = self.seats.clone();
        let mut routers: [Box<dyn Router>; 2] = [
            self.makes[0](first, self.router),
            self.makes[1](second, self.router),
        ];
        routers[0].start(FIRST_PRIORITY)?;
        wait_until("the first holds the VIP", PATIENCE, || {
            routers[0].holds_vip()
        })?;
        for (round, (priority, ending)) in ROUNDS.into_iter().enumerate() {
            let [active, backup] = match &mut routers {
                [even, odd] if round % 2 == 0 => [even, odd],
                [even, odd] => [odd, even],
            };
            if ending != Ending::Preempted || round == 4 {
                backup.start(priority)?;
            }
            self.wait_for_backup(active.as_ref(), backup.as_ref())?;
            self.take_over(active.as_mut(), backup.as_mut(), priority, ending)
                .with_context(|| {
                    format!("{} after {}: {ending:?}", backup.make(), active.make())
                })?;
        }
        end(routers)
    }

    /// Waits until the Backup listens and has heard the Active.
    fn wait_for_backup(&self, active: &dyn Router, backup: &dyn Router) -> Result<()> {
        let what = format!("{} is up", backup.make());
        wait_until(&what, PATIENCE, || backup.is_listening())?;
        // One that heard nothing would take over too, but that much too early.
        let since = Instant::now() + 2 * TOLERANCE;
        self.capture
            .wait_for("advert of the Active", PATIENCE, |frame| {
                let source = frame.advert().map(|advert| advert.source);
                frame.at >= since && source == Some(active.source())
            })?;
        // Somewhere between two adverts.
        sleep(self.router.interval / 3);
        ensure!(!backup.holds_vip(), "{} doesn't listen", backup.make());
        Ok(())
    }

    fn take_over(
        &self,
        active: &mut dyn Router,
        backup: &mut dyn Router,
        priority: u8,
        ending: Ending,
    ) -> Result<()> {
        let begin = Instant::now();
        match ending {
            Ending::Killed => active.crash()?,
            Ending::Asked => active.leave()?,
            Ending::Preempted => active.set_priority(priority / 2)?,
        }
        wait_until("the Backup holds the VIP", PATIENCE, || backup.holds_vip())?;
        sleep(PAUSE);

        let said = adverts_of(&self.capture, active.source());
        let resignation = said
            .iter()
            .find(|(at, advert)| *at >= begin && advert.priority == 0);
        ensure!(
            resignation.is_some() == (ending == Ending::Asked),
            "priority 0 of {}: {resignation:?}",
            active.make()
        );
        let (since, expected) = match resignation {
            Some((at, _)) => (*at, self.router.skew_time(priority)),
            None => {
                // Those below the Backup's priority it doesn't listen to.
                let heard = said.iter().rev();
                let mut heard = heard.filter(|(_, advert)| advert.priority >= priority);
                let (at, _) = heard.next().context("no advert of the Active")?;
                (*at, self.router.active_down_interval(priority))
            }
        };
        let spoke = first_advert(&self.capture, backup.source(), priority, since)?;
        let announced = self.first_announcement(backup, since)?;
        // The advert comes first, but over IPv6 FRR 8.4 sends its first one by an interface that is
        // still down.
        let taken = spoke.min(announced);
        let what = format!("{ending:?}: from {} to {}", active.make(), backup.make());
        self.measured(&what, since, taken, expected);
        ensure!(
            announced <= spoke + TOLERANCE,
            "{} announces the VIP late",
            backup.make()
        );
        let went_on = adverts_of(&self.capture, active.source()).into_iter();
        let went_on = went_on.filter(|(at, _)| *at > spoke + TOLERANCE).count();
        ensure!(went_on == 0, "{} says {went_on} more", active.make());
        ensure!(!active.holds_vip(), "{} still has the VIP", active.make());
        self.reaches(backup)
    }

    /// When a router told the neighbours that the VIP is at its Ethernet address.
    fn first_announcement(&self, router: &dyn Router, since: Instant) -> Result<Instant> {
        let wanted = Some((self.router.vip(), router.mac()));
        let frames = self
            .capture
            .frames(|frame| frame.at >= since && frame.announcement() == wanted);
        let frame = frames.first();
        let frame = frame.with_context(|| format!("{} announces nothing", router.make()))?;
        Ok(frame.at)
    }

    /// The client's packets for the VIP go to this router, and it answers.
    fn reaches(&self, holder: &dyn Router) -> Result<()> {
        let vip = self.router.vip();
        ensure!(
            ping::answers(&self.client, vip, PATIENCE),
            "{} doesn't answer for the VIP",
            holder.make()
        );
        let found = neighbour(&self.client, vip);
        let expected = Some(holder.mac());
        ensure!(
            found == expected,
            "the client's entry is {found:02x?}, and not {expected:02x?}"
        );
        Ok(())
    }

    /// A LAN falls apart, each half gets an Active of the same priority, and it heals.
    fn settle_a_tie(&self, seat: usize) -> Result<()> {
        let mut routers: [Box<dyn Router>; 2] = [
            self.makes[0](self.seats[seat].clone(), self.router),
            self.makes[1](self.seats[1 - seat].clone(), self.router),
        ];
        routers.sort_by_key(|router| router.source());
        let [loser, winner] = &mut routers;
        // The one with the client stays: it never hears that there were two, if it speaks first
        // and the other one is silent then.
        loser.host().split_off(INTERFACE)?;
        loser.start(EQUAL)?;
        winner.start(EQUAL)?;
        wait_until("there are two Actives", PATIENCE, || {
            loser.holds_vip() && winner.holds_vip()
        })?;
        sleep(self.router.interval);
        loser.host().rejoin(INTERFACE)?;
        // An advert that came a moment before reached the capture and not the loser.
        let healed = Instant::now();
        let what = format!("{} gives the VIP up", loser.make());
        wait_until(&what, PATIENCE, || !loser.holds_vip())?;
        sleep(PAUSE);

        let met = first_advert(&self.capture, winner.source(), EQUAL, healed)?;
        self.at_most(
            &format!("a tie of {} and {}", winner.make(), loser.make()),
            healed,
            met,
            self.router.interval + TOLERANCE,
        );
        let after = adverts_of(&self.capture, loser.source());
        let after = after.iter().filter(|(at, _)| *at > met + TOLERANCE);
        ensure!(after.count() == 0, "{} went on", loser.make());
        ensure!(winner.holds_vip(), "{} gave up as well", winner.make());
        self.reaches(winner.as_ref())?;
        end(routers)
    }

    fn measured(&self, what: &str, since: Instant, until: Instant, expected: Duration) {
        let limits = expected.saturating_sub(TOLERANCE)..=expected + TOLERANCE;
        let formula = format!("by the formula {:.1} ms", milliseconds(expected));
        self.note(what, since, until, &formula, limits);
    }

    fn at_most(&self, what: &str, since: Instant, until: Instant, limit: Duration) {
        let most = format!("at most {:.1} ms", milliseconds(limit));
        self.note(
            what,
            since,
            until,
            &most,
            Duration::ZERO..=limit + TOLERANCE,
        );
    }

    fn note(
        &self,
        what: &str,
        since: Instant,
        until: Instant,
        expected: &str,
        limits: RangeInclusive<Duration>,
    ) {
        let what = format!("{}: {what}", self.router);
        let took = until.saturating_duration_since(since);
        println!("measured: {what}: {:.1} ms, {expected}", milliseconds(took));
        lock(&self.timings).push(Timing {
            what,
            since,
            until,
            limits,
        });
    }
}

/// Nobody looks any more, so it may be the fast way.
fn end(routers: [Box<dyn Router>; 2]) -> Result<()> {
    for mut router in routers {
        router.crash()?;
    }
    Ok(())
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
