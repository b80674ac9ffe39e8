//! What a simulation is told: routers, the LAN between them, and what befalls them when.

use std::time::Duration;

use lvs_proto::vrrp::{Family, Priority, Version};

/// The number of a router, from 1; [`CLIENT`] is whoever uses the virtual address.
pub type Number = u8;

/// The client's place on the LAN.
pub const CLIENT: Number = 0;

/// The most routers that a scenario has.
pub const MOST_ROUTERS: Number = 5;

/// Everything that a run depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// The fate of each packet follows from it.
    pub seed: u64,
    /// The family of all addresses.
    pub family: Family,
    /// Whether adverts go to each peer by itself.
    pub unicast: bool,
    /// Whether adverts are signed and the signature is asked for.
    pub signed: bool,
    /// How an Active goes on announcing the address.
    pub refresh: Duration,
    /// The LAN at its best; more delay than this disturbs.
    pub weather: Weather,
    /// How late a router is woken at its best; more than this disturbs.
    pub lateness: Duration,
    /// The routers.
    pub routers: Vec<RouterPlan>,
    /// What happens, in order of time.
    pub steps: Vec<Step>,
    /// When it ends.
    pub length: Duration,
}

/// The configuration of one router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterPlan {
    /// Its address follows from it, too.
    pub number: Number,
    /// Its configured priority.
    pub priority: Priority,
    /// Its advert interval.
    pub interval: Duration,
    /// The version that it speaks; both are accepted in a scenario that has both.
    pub version: Version,
    /// Whether it takes over from a living Active of lower priority.
    pub preempt: bool,
    /// And how long it waits before.
    pub preempt_delay: Duration,
}

/// What the LAN does to packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weather {
    /// So many in a thousand are lost.
    pub loss: u64,
    /// So many in a thousand come twice.
    pub duplicates: u64,
    /// The shortest way.
    pub least_delay: Duration,
    /// The longest way; packets overtake each other where it is much longer.
    pub most_delay: Duration,
}

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Since the beginning.
    pub at: Duration,
    /// What it is.
    pub event: Event,
}

/// What may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// To one router.
    Router(Number, RouterEvent),
    /// The LAN changes its ways.
    Weather(Weather),
    /// The LAN falls apart: one bit for each place that is on the other side.
    Partition(u8),
    /// What the first sends doesn't reach the second any more.
    Cut(Number, Number),
    /// The LAN is whole again.
    Heal,
}

/// What may happen to a router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouterEvent {
    /// The program starts; it is not ready.
    Start,
    /// Whether its services could be served.
    Ready(bool),
    /// The program, or all of the machine, dies.
    Crash(Crash),
    /// It processes nothing from now on.
    Pause(Pause),
    /// It goes on.
    Resume,
    /// It is woken late, by up to that much.
    Late(Duration),
    /// Something tracked changed its priority.
    Priority(Priority),
    /// It can't take part.
    Fault(Trouble),
    /// It can again.
    Recover(Trouble),
    /// A planned handover, standing aside for that long, or until released.
    Handover(Option<Duration>),
    /// The end of standing aside.
    Release,
    /// The program ends in order.
    Stop,
}

/// How a router dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// With all that it had.
    Machine,
    /// The worker only: the supervisor says priority 0 and takes the addresses away.
    Worker,
    /// Worker and supervisor: the addresses stay behind.
    Programs,
}

/// How a router is stopped for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// As by SIGSTOP: the socket keeps that many packets.
    Queueing(usize),
    /// As a virtual machine whose clock goes on: packets are lost.
    Losing,
    /// As a virtual machine whose clock stands still: it can't know.
    Unnoticed,
}

/// Why a router can't take part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Something tracked fails; the network works.
    Tracking,
    /// The link is down.
    Link,
}

impl RouterPlan {
    /// The skew time after an Active with this interval. Written out here, so that the machine isn't
    /// measured by itself (RFC 9568, section 6.1; RFC 3768, section 6.1).
    pub fn skew_time(&self, interval: Duration) -> Duration {
        self.skew_unit(interval) * (256 - u32::from(self.priority.get())) / 256
    }

    fn skew_unit(&self, interval: Duration) -> Duration {
        match self.version {
            Version::V2 => Duration::from_secs(1),
            Version::V3 => interval,
        }
    }
}

impl Scenario {
    /// The longest interval of any router.
    pub fn longest_interval(&self) -> Duration {
        let intervals = self.routers.iter().map(|router| router.interval);
        intervals.max().unwrap_or_default()
    }

    /// The shortest interval of any router.
    pub fn shortest_interval(&self) -> Duration {
        let intervals = self.routers.iter().map(|router| router.interval);
        intervals.min().unwrap_or_default()
    }

    /// How far apart two routers can be that nothing disturbs: the way of a packet and two wake-ups.
    pub fn jitter(&self) -> Duration {
        self.weather.most_delay + self.lateness * 2
    }

    /// How long after the last disturbance there is one Active, and the right one.
    ///
    /// Whoever is to become Active does so within the longest active-down interval (RFC 9568,
    /// section 6.1: three intervals and less than one of skew). A preemption that is delayed begins
    /// only then: with the first advert of a lower Active; it acts on the first one after the delay,
    /// and waits for another active-down interval.
    pub fn convergence_bound(&self) -> Duration {
        let interval = self.longest_interval();
        let delays = self.routers.iter().map(|router| router.preempt_delay);
        let delay = match delays.max().unwrap_or_default() {
            Duration::ZERO => Duration::ZERO,
            delay => delay + interval * 6,
        };
        interval * 4 + delay + self.jitter() * 2
    }

    /// How long any router that hands over waits to hear another one: three times the longest skew time,
    /// at least 1 s.
    pub fn handover_patience(&self) -> Duration {
        let routers = self.routers.iter();
        let patience = routers.map(|router| router.skew_unit(router.interval) * 3);
        patience.fold(Duration::from_secs(1), Duration::max)
    }
}
