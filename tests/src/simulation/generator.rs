//! Scenarios that chance makes up: some sane, some not, all possible.

use std::time::Duration;

use lvs_proto::vrrp::{Family, Priority, Version};

use super::random::Random;
use super::scenario::{
    CLIENT, Crash, Event, MOST_ROUTERS, Number, Pause, RouterEvent, RouterPlan, Scenario, Step,
    Trouble, Weather,
};

/// More than the kernel's default receive buffer holds of such packets.
const SOCKET_QUEUE: usize = 277;

impl Scenario {
    /// The scenario of a seed.
    pub fn random(seed: u64) -> Self {
        let mut random = Random::of(&[seed]);
        let mut scenario = routers_on_a_lan(seed, &mut random);
        let mut fate = Fate::new(&scenario, random);
        fate.start();
        let disturbances = fate.random.below(9);
        for _ in 0..disturbances {
            fate.disturb();
        }
        fate.mend();
        let Fate {
            mut steps,
            now: mended,
            ..
        } = fate;
        steps.sort_by_key(|step| step.at);
        scenario.steps = steps;
        scenario.length = mended + scenario.quiet_time();
        scenario
    }

    /// Long enough to converge, and to see that it stays so.
    fn quiet_time(&self) -> Duration {
        let hands_over = self.steps.iter().any(|step| {
            matches!(
                step.event,
                Event::Router(_, RouterEvent::Handover(_) | RouterEvent::Stop)
            )
        });
        let patience = if hands_over {
            self.handover_patience()
        } else {
            Duration::ZERO
        };
        self.convergence_bound() + patience + self.refresh + self.longest_interval() * 6
    }
}

fn routers_on_a_lan(seed: u64, random: &mut Random) -> Scenario {
    let count = random.pick(&[2, 2, 2, 2, 3, 3, 3, 4, 4, MOST_ROUTERS]);
    let (versions, interval): (&[Version], u64) = match random.below(20) {
        0..=1 => (&[Version::V2], random.pick(&[1_000, 1_000, 2_000])),
        2 => (&[Version::V2, Version::V3], 1_000),
        _ => (
            &[Version::V3],
            random.pick(&[10, 10, 20, 50, 100, 100, 100, 1_000]),
        ),
    };
    let only_version_3 = versions == [Version::V3];
    let mixed_intervals = only_version_3 && random.chance(150);
    let narrow_priorities = random.chance(300);
    let interval = Duration::from_millis(interval);
    let routers: Vec<RouterPlan> = (1..=count)
        .map(|number| RouterPlan {
            number,
            priority: match random.below(20) {
                0 if number == 1 => Priority::OWNER,
                _ if narrow_priorities => priority(random.pick(&[100, 100, 101, 150, 254])),
                _ => priority(1 + random.below(254) as u8),
            },
            interval: if mixed_intervals {
                interval * random.pick(&[1, 2, 5, 10])
            } else {
                interval
            },
            version: random.pick(versions),
            preempt: random.chance(800),
            preempt_delay: if random.chance(80) {
                interval * random.below(12) as u32
            } else {
                Duration::ZERO
            },
        })
        .map(|plan| RouterPlan {
            preempt_delay: plan.preempt_delay * u32::from(plan.preempt),
            ..plan
        })
        .collect();
    let most_delay = (interval / 50).min(Duration::from_millis(1));
    Scenario {
        seed,
        family: if only_version_3 && random.chance(300) {
            Family::Ipv6
        } else {
            Family::Ipv4
        },
        unicast: random.chance(200),
        signed: only_version_3 && random.chance(100),
        refresh: interval * random.pick(&[6, 15, 40]),
        weather: Weather {
            loss: 0,
            duplicates: random.pick(&[0, 0, 20]),
            least_delay: most_delay / 4,
            most_delay,
        },
        lateness: (interval / 100).min(Duration::from_millis(1)),
        routers,
        steps: Vec::new(),
        length: Duration::ZERO,
    }
}

fn priority(value: u8) -> Priority {
    Priority::new(value).unwrap_or(Priority::OWNER)
}

/// Makes things happen, one after the other, and remembers what has to be mended.
struct Fate<'a> {
    scenario: &'a Scenario,
    random: Random,
    interval: Duration,
    now: Duration,
    /// When all that was begun is over.
    busy_until: Duration,
    steps: Vec<Step>,
}

impl<'a> Fate<'a> {
    fn new(scenario: &'a Scenario, random: Random) -> Self {
        Self {
            scenario,
            random,
            interval: scenario.longest_interval(),
            now: Duration::ZERO,
            busy_until: Duration::ZERO,
            steps: Vec::new(),
        }
    }

    fn start(&mut self) {
        for router in &self.scenario.routers {
            let at = self.random.between(Duration::ZERO, self.interval * 2);
            self.start_router(at, router.number);
        }
        self.pass();
    }

    /// Sometimes the LAN can settle in between, sometimes one thing follows close upon another.
    fn pass(&mut self) {
        let (least, most) = self.random.pick(&[(0, 2), (0, 2), (1, 6), (14, 22)]);
        self.now += self
            .random
            .between(self.interval * least, self.interval * most);
    }

    fn disturb(&mut self) {
        let number = self.router();
        match self.random.below(20) {
            0..=3 => self.crash(number),
            4..=6 => self.pause(number),
            7 => {
                let most = self.random.between(self.interval / 20, self.interval * 6);
                self.for_a_while(
                    Event::Router(number, RouterEvent::Late(most)),
                    Event::Router(number, RouterEvent::Late(Duration::ZERO)),
                );
            }
            8..=9 => {
                let value = 1 + self.random.below(254) as u8;
                self.happen(number, RouterEvent::Priority(priority(value)));
            }
            10..=11 => {
                let trouble = self.random.pick(&[Trouble::Tracking, Trouble::Link]);
                self.for_a_while(
                    Event::Router(number, RouterEvent::Fault(trouble)),
                    Event::Router(number, RouterEvent::Recover(trouble)),
                );
            }
            12..=13 => self.hand_over(number),
            14 => {
                let at = self.now;
                self.happen(number, RouterEvent::Stop);
                if self.random.chance(800) {
                    let patience = self.scenario.handover_patience() + self.interval * 4;
                    let later = at + self.random.between(Duration::ZERO, patience);
                    self.start_router(later, number);
                }
            }
            15 => {
                let ready = self.random.chance(500);
                self.happen(number, RouterEvent::Ready(ready));
            }
            16..=17 => {
                let weather = self.storm();
                self.for_a_while(
                    Event::Weather(weather),
                    Event::Weather(self.scenario.weather),
                );
            }
            18 => {
                let side = self.random.below(1 << (MOST_ROUTERS + 1)) as u8;
                self.for_a_while(Event::Partition(side), Event::Heal);
            }
            _ => {
                let other = self.router();
                if other != number {
                    self.for_a_while(Event::Cut(number, other), Event::Heal);
                }
            }
        }
        self.pass();
    }

    fn crash(&mut self, number: Number) {
        let crash = self
            .random
            .pick(&[Crash::Machine, Crash::Worker, Crash::Programs]);
        self.happen(number, RouterEvent::Crash(crash));
        if self.random.chance(800) {
            let later = self.now + self.random.between(Duration::ZERO, self.interval * 10);
            self.start_router(later, number);
        }
    }

    fn pause(&mut self, number: Number) {
        let pause = self.random.pick(&[
            Pause::Queueing(SOCKET_QUEUE),
            Pause::Queueing(4),
            Pause::Losing,
            Pause::Unnoticed,
        ]);
        self.for_a_while(
            Event::Router(number, RouterEvent::Pause(pause)),
            Event::Router(number, RouterEvent::Resume),
        );
    }

    fn hand_over(&mut self, number: Number) {
        if self.random.chance(500) {
            let aside = self.random.between(self.interval, self.interval * 20);
            self.happen(number, RouterEvent::Handover(Some(aside)));
            self.busy_until = self.busy_until.max(self.now + aside);
        } else {
            self.happen(number, RouterEvent::Handover(None));
            if self.random.chance(600) {
                let later = self.now + self.random.between(self.interval, self.interval * 20);
                self.step(later, Event::Router(number, RouterEvent::Release));
            }
        }
    }

    fn storm(&mut self) -> Weather {
        let most_delay = self.interval * self.random.pick(&[0, 1, 1, 3]);
        Weather {
            loss: self.random.pick(&[0, 20, 100, 300, 600]),
            duplicates: self.random.pick(&[0, 100]),
            least_delay: self.scenario.weather.least_delay,
            most_delay: most_delay.max(self.scenario.weather.most_delay),
        }
    }

    /// What fell apart comes together, and everybody goes on; the dead stay dead.
    fn mend(&mut self) {
        self.now = self.now.max(self.busy_until);
        if self.random.chance(500) {
            self.step(self.now, Event::Heal);
        }
    }

    fn router(&mut self) -> Number {
        let routers = &self.scenario.routers;
        let index = self.random.below(routers.len() as u64) as usize;
        routers.get(index).map_or(CLIENT, |router| router.number)
    }

    fn happen(&mut self, number: Number, event: RouterEvent) {
        self.step(self.now, Event::Router(number, event));
    }

    /// It has servers to offer a little later, or never.
    fn start_router(&mut self, at: Duration, number: Number) {
        self.step(at, Event::Router(number, RouterEvent::Start));
        if self.random.chance(900) {
            let later = at + self.random.between(Duration::ZERO, self.interval * 3);
            self.step(later, Event::Router(number, RouterEvent::Ready(true)));
        }
    }

    fn for_a_while(&mut self, begin: Event, end: Event) {
        let longest = self.random.pick(&[1, 3, 6, 20]);
        let lasts = self.random.between(Duration::ZERO, self.interval * longest);
        self.step(self.now, begin);
        self.step(self.now + lasts, end);
    }

    fn step(&mut self, at: Duration, event: Event) {
        self.busy_until = self.busy_until.max(at);
        self.steps.push(Step { at, event });
    }
}
