//! The state machine of one virtual router (RFC 9568, section 6; RFC 3768, section 6).
//!
//! Pure: adverts, timeouts and commands go in together with the present time, [`Action`]s come out
//! of [`Instance::poll_action`], and [`Instance::poll_timeout`] says when to come back. The caller
//! reads all queued adverts before it lets a timer expire.

use core::fmt;
use core::net::Ipv4Addr;
use core::time::Duration;
use std::collections::VecDeque;
use std::time::Instant;

use super::{
    Advert, AdvertInterval, Password, Priority, Rejection, Timer, TimerTable, Version,
    VirtualRouterId,
};

/// Adds to a promotion's announcement for switches and hosts that missed it.
const SECOND_ANNOUNCEMENT: Duration = Duration::from_secs(5);
/// An Active goes on announcing, for neighbours that learned something else meanwhile.
const ANNOUNCEMENT_REFRESH: Duration = Duration::from_secs(60);
/// A burst follows another no sooner, whatever others do.
const BURST_PAUSE: Duration = Duration::from_secs(1);
const BURST: u8 = 5;

/// What one router knows of a virtual router before the protocol starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// Which version to speak and to accept.
    pub version: Version,
    /// The number on the wire.
    pub virtual_router: VirtualRouterId,
    /// Own priority.
    pub priority: Priority,
    /// Own interval.
    pub interval: AdvertInterval,
    /// The virtual addresses, in the order in which they are sent.
    pub addresses: Vec<Ipv4Addr>,
    /// Whether a Backup takes over from an Active of lower priority.
    pub preempt: bool,
    /// Version 2 only.
    pub password: Option<Password>,
    /// Source address of own adverts; the larger one wins between equal priorities.
    pub primary_address: Ipv4Addr,
}

/// RFC 9568, section 6.4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Not running.
    Initialize,
    /// Watches the Active.
    Backup,
    /// Holds the addresses.
    Active,
}

impl State {
    /// All states.
    pub const ALL: [Self; 3] = [Self::Initialize, Self::Backup, Self::Active];
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Initialize => "initialize",
            Self::Backup => "backup",
            Self::Active => "active",
        })
    }
}

/// Whether the addresses are on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// They are not.
    Absent,
    /// Found at start, left by a predecessor: kept until another Active is heard.
    Adopting,
    /// Held by an Active.
    Held,
}

/// Why a state was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The protocol started.
    Started,
    /// No Active was heard for the active-down interval.
    NothingHeard,
    /// The Active said that it leaves, and nobody better answered.
    ActiveLeft,
    /// The Active has a lower priority.
    Preempting {
        /// Its address.
        active: Ipv4Addr,
        /// Its priority.
        priority: u8,
    },
    /// Another router has a higher priority, or the same and a larger address.
    Outranked {
        /// Its address.
        by: Ipv4Addr,
        /// Its priority.
        priority: u8,
    },
    /// The protocol stops.
    Stopped,
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started => formatter.write_str("started"),
            Self::NothingHeard => formatter.write_str("no active router heard"),
            Self::ActiveLeft => formatter.write_str("the active router left"),
            Self::Preempting { active, priority } => {
                write!(formatter, "preempting {active} with priority {priority}")
            }
            Self::Outranked { by, priority } => {
                write!(formatter, "outranked by {by} with priority {priority}")
            }
            Self::Stopped => formatter.write_str("stopped"),
        }
    }
}

/// A change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The state left.
    pub from: State,
    /// The state entered.
    pub to: State,
    /// Why.
    pub reason: Reason,
}

/// What the caller has to do, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this advert.
    SendAdvert(Advert),
    /// Put the addresses on the interface; those that are there already stay.
    AddAddresses,
    /// Take the addresses off the interface.
    RemoveAddresses,
    /// Send a gratuitous ARP for each address, that many times.
    Announce {
        /// How many packets for each address.
        repeat: u8,
    },
    /// Tell whoever wants to know.
    Report(Transition),
}

/// One virtual router.
#[derive(Clone, Debug)]
pub struct Instance {
    configuration: Configuration,
    state: State,
    ownership: Ownership,
    ready: bool,
    /// The Active's interval as its last accepted advert said it (`Active_Adver_Interval`).
    heard_interval: Option<Duration>,
    announced_at: Option<Instant>,
    /// Why this Backup would become Active if nothing else is heard.
    promotion: Reason,
    timers: TimerTable,
    actions: VecDeque<Action>,
}

impl Instance {
    /// A router that hasn't started, and isn't ready: it takes over from nobody until
    /// [`Self::handle_ready`].
    pub fn new(configuration: Configuration) -> Self {
        Self {
            heard_interval: None,
            announced_at: None,
            configuration,
            state: State::Initialize,
            ownership: Ownership::Absent,
            ready: false,
            promotion: Reason::NothingHeard,
            timers: TimerTable::default(),
            actions: VecDeque::new(),
        }
    }

    /// The present state.
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether the addresses are on this machine, as far as the actions were carried out.
    pub fn ownership(&self) -> Ownership {
        self.ownership
    }

    /// The configuration in force.
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// The next thing to do, or `None` until the next event.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to call [`Self::handle_timeout`], if nothing happens before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next_deadline()
    }

    /// The advert with which this router leaves (priority 0).
    pub fn resignation(&self) -> Advert {
        self.advert(0)
    }

    /// Starts the protocol (RFC 9568, section 6.4.1). `found` says that the addresses are on the
    /// machine already, left by a predecessor.
    pub fn handle_start(&mut self, now: Instant, found: bool) {
        if found {
            self.ownership = Ownership::Adopting;
        }
        if self.configuration.priority == Priority::OWNER {
            self.become_active(now, Reason::Started);
        } else {
            self.enter(State::Backup, Reason::Started);
            self.restart_active_down(now);
        }
    }

    /// Whether this machine could serve if it had the addresses.
    ///
    /// A router that isn't ready leaves a lower Active alone, and still takes over from a dead one.
    pub fn handle_ready(&mut self, ready: bool) {
        self.ready = ready;
    }

    /// Leaves: an Active says so to the others first (RFC 9568, sections 6.4.2 and 6.4.3).
    pub fn handle_stop(&mut self) {
        if self.state == State::Active {
            self.actions
                .push_back(Action::SendAdvert(self.resignation()));
        }
        self.give_up_addresses();
        self.timers.stop_all();
        if self.state != State::Initialize {
            self.enter(State::Initialize, Reason::Stopped);
        }
    }

    /// Goes on with another configuration of the same virtual router, in the same state.
    pub fn handle_configuration(&mut self, now: Instant, configuration: Configuration) {
        let addresses_changed = configuration.addresses != self.configuration.addresses;
        self.configuration = configuration;
        match self.state {
            State::Initialize => {}
            State::Backup => {
                // Sooner perhaps, never later: the Active may be dying at this moment.
                let deadline = self.timers.get(Timer::ActiveDown);
                let renewed = now + self.active_down_interval();
                self.timers.set(
                    Timer::ActiveDown,
                    deadline.map_or(renewed, |due| due.min(renewed)),
                );
            }
            State::Active => {
                self.actions.push_back(Action::AddAddresses);
                self.send_advert(now);
                if addresses_changed {
                    self.announce(now);
                }
            }
        }
    }

    /// Takes an advert that another router sent from `source`.
    ///
    /// The reason is returned if our configuration doesn't allow it; then nothing has changed.
    pub fn handle_advert(
        &mut self,
        now: Instant,
        source: Ipv4Addr,
        advert: &Advert,
    ) -> Result<(), Rejection> {
        self.check(source, advert)?;
        if self.ownership == Ownership::Adopting && advert.priority != 0 {
            self.give_up_addresses();
        }
        match self.state {
            State::Initialize => {}
            State::Backup => self.hear_as_backup(now, source, advert),
            State::Active => self.hear_as_active(now, source, advert),
        }
        Ok(())
    }

    /// Lets every timer expire that is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((timer, deadline)) = self.timers.expire(now) {
            match timer {
                Timer::ActiveDown => {
                    self.become_active(now, self.promotion);
                }
                Timer::Advert => {
                    // From the deadline, so that the rate doesn't drift; from now after a stall.
                    self.send_advert(now);
                    let next = deadline + self.configuration.interval.get();
                    if next > now {
                        self.timers.set(Timer::Advert, next);
                    }
                }
                Timer::Announce => {
                    self.announced_at = Some(now);
                    self.actions.push_back(Action::Announce { repeat: 1 });
                    self.timers.set(Timer::Announce, now + ANNOUNCEMENT_REFRESH);
                }
            }
        }
    }

    /// RFC 9568, section 7.1, as far as it depends on the configuration.
    fn check(&self, source: Ipv4Addr, advert: &Advert) -> Result<(), Rejection> {
        let own = &self.configuration;
        if advert.version != own.version {
            return Err(Rejection::Version);
        }
        if advert.virtual_router != own.virtual_router {
            return Err(Rejection::VirtualRouter);
        }
        if source == own.primary_address {
            return Err(Rejection::OwnAddress);
        }
        if advert.version == Version::V2 {
            if advert.password.is_some() != own.password.is_some() {
                return Err(Rejection::AuthenticationType);
            }
            if advert.password != own.password {
                return Err(Rejection::Password);
            }
            if advert.interval != own.interval {
                return Err(Rejection::Interval);
            }
            if own.priority == Priority::OWNER {
                return Err(Rejection::Owner);
            }
        }
        Ok(())
    }

    fn hear_as_backup(&mut self, now: Instant, source: Ipv4Addr, advert: &Advert) {
        if advert.priority == 0 {
            let Configuration {
                version, priority, ..
            } = self.configuration;
            self.promotion = Reason::ActiveLeft;
            let skew = priority.skew_time(version, self.active_interval());
            self.timers.set(Timer::ActiveDown, now + skew);
        } else if advert.priority >= self.configuration.priority.get() || !self.preempts() {
            self.heard_interval = Some(advert.interval.get());
            self.restart_active_down(now);
        } else {
            self.promotion = Reason::Preempting {
                active: source,
                priority: advert.priority,
            };
        }
    }

    fn hear_as_active(&mut self, now: Instant, source: Ipv4Addr, advert: &Advert) {
        let Configuration {
            priority,
            primary_address,
            ..
        } = self.configuration;
        let theirs = (advert.priority, source);
        if advert.priority == 0 || theirs <= (priority.get(), primary_address) {
            // Asserted at once, so that a lower router that thinks it is Active gives up; its
            // announcements may have moved the LAN.
            self.send_advert(now);
            self.announce_again(now);
        } else {
            self.heard_interval = Some(advert.interval.get());
            self.timers.stop_all();
            self.give_up_addresses();
            self.restart_active_down(now);
            let reason = Reason::Outranked {
                by: source,
                priority: advert.priority,
            };
            self.enter(State::Backup, reason);
        }
    }

    /// The addresses come before the advert, which nobody can see on the LAN, and the announcement
    /// right after it: so the LAN is moved before a preempted Active has let go.
    fn become_active(&mut self, now: Instant, reason: Reason) {
        self.timers.stop_all();
        self.ownership = Ownership::Held;
        self.actions.push_back(Action::AddAddresses);
        self.send_advert(now);
        self.announce(now);
        self.enter(State::Active, reason);
    }

    fn give_up_addresses(&mut self) {
        if self.ownership != Ownership::Absent {
            self.ownership = Ownership::Absent;
            self.actions.push_back(Action::RemoveAddresses);
        }
    }

    fn announce_again(&mut self, now: Instant) {
        match self.announced_at.map(|last| last + BURST_PAUSE) {
            Some(allowed) if now < allowed => self.timers.set(Timer::Announce, allowed),
            _ => self.announce(now),
        }
    }

    fn announce(&mut self, now: Instant) {
        self.announced_at = Some(now);
        self.actions.push_back(Action::Announce { repeat: BURST });
        self.timers.set(Timer::Announce, now + SECOND_ANNOUNCEMENT);
    }

    fn send_advert(&mut self, now: Instant) {
        let advert = self.advert(self.configuration.priority.get());
        self.actions.push_back(Action::SendAdvert(advert));
        self.timers
            .set(Timer::Advert, now + self.configuration.interval.get());
    }

    fn advert(&self, priority: u8) -> Advert {
        let own = &self.configuration;
        Advert {
            version: own.version,
            virtual_router: own.virtual_router,
            priority,
            interval: own.interval,
            addresses: own.addresses.clone(),
            password: own.password.clone(),
        }
    }

    fn preempts(&self) -> bool {
        self.configuration.priority == Priority::OWNER || (self.configuration.preempt && self.ready)
    }

    /// Version 2 has none of its own: another interval than ours is refused there.
    fn active_interval(&self) -> Duration {
        let own = self.configuration.interval.get();
        match self.configuration.version {
            Version::V2 => own,
            Version::V3 => self.heard_interval.unwrap_or(own),
        }
    }

    fn active_down_interval(&self) -> Duration {
        let Configuration {
            version, priority, ..
        } = self.configuration;
        priority.active_down_interval(version, self.active_interval())
    }

    fn restart_active_down(&mut self, now: Instant) {
        self.promotion = Reason::NothingHeard;
        let deadline = now + self.active_down_interval();
        self.timers.set(Timer::ActiveDown, deadline);
    }

    fn enter(&mut self, to: State, reason: Reason) {
        let from = core::mem::replace(&mut self.state, to);
        self.actions
            .push_back(Action::Report(Transition { from, to, reason }));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const OWN: Ipv4Addr = Ipv4Addr::new(192, 168, 56, 181);
    const LARGER: Ipv4Addr = Ipv4Addr::new(192, 168, 56, 182);
    const SMALLER: Ipv4Addr = Ipv4Addr::new(192, 168, 56, 180);
    const INTERVAL: Duration = Duration::from_millis(100);

    fn configuration(priority: u8) -> Configuration {
        Configuration {
            version: Version::V3,
            virtual_router: VirtualRouterId::new(50).unwrap(),
            priority: Priority::new(priority).unwrap(),
            interval: AdvertInterval::new(Version::V3, INTERVAL).unwrap(),
            addresses: vec![Ipv4Addr::new(192, 168, 56, 185)],
            preempt: true,
            password: None,
            primary_address: OWN,
        }
    }

    fn version_2(priority: u8, password: Option<&str>) -> Configuration {
        Configuration {
            version: Version::V2,
            interval: AdvertInterval::new(Version::V2, Duration::from_secs(1)).unwrap(),
            password: password.map(|text| Password::new(text).unwrap()),
            ..configuration(priority)
        }
    }

    fn advert(priority: u8) -> Advert {
        Advert {
            priority,
            ..Instance::new(configuration(1)).resignation()
        }
    }

    fn actions(instance: &mut Instance) -> Vec<Action> {
        std::iter::from_fn(|| instance.poll_action()).collect()
    }

    fn backup(priority: u8, now: Instant) -> Instance {
        let mut instance = Instance::new(configuration(priority));
        instance.handle_ready(true);
        instance.handle_start(now, false);
        actions(&mut instance);
        instance
    }

    fn active(priority: u8, now: Instant) -> Instance {
        let mut instance = backup(priority, now);
        instance.handle_timeout(instance.poll_timeout().unwrap());
        actions(&mut instance);
        assert_eq!(instance.state(), State::Active);
        instance
    }

    fn transition(from: State, to: State, reason: Reason) -> Action {
        Action::Report(Transition { from, to, reason })
    }

    #[test]
    fn a_backup_becomes_active_exactly_at_active_down() {
        let start = Instant::now();
        let mut instance = backup(200, start);
        let down = INTERVAL * 3 + INTERVAL * 56 / 256;
        assert_eq!(instance.poll_timeout(), Some(start + down));
        instance.handle_timeout(start + down - Duration::from_nanos(1));
        assert_eq!(instance.state(), State::Backup);
        instance.handle_timeout(start + down);
        assert_eq!(
            actions(&mut instance),
            [
                Action::AddAddresses,
                Action::SendAdvert(advert(200)),
                Action::Announce { repeat: BURST },
                transition(State::Backup, State::Active, Reason::NothingHeard),
            ]
        );
        assert_eq!(instance.poll_timeout(), Some(start + down + INTERVAL));
    }

    #[test]
    fn an_active_advertises_without_drift() {
        let start = Instant::now();
        let mut instance = active(200, start);
        let first = instance.poll_timeout().unwrap();
        let late = first + Duration::from_millis(7);
        instance.handle_timeout(late);
        assert_eq!(actions(&mut instance), [Action::SendAdvert(advert(200))]);
        assert_eq!(instance.poll_timeout(), Some(first + INTERVAL));
        let stalled = first + INTERVAL * 10;
        instance.handle_timeout(stalled);
        assert_eq!(actions(&mut instance), [Action::SendAdvert(advert(200))]);
        assert_eq!(instance.poll_timeout(), Some(stalled + INTERVAL));
    }

    #[test]
    fn a_higher_or_equal_advert_restarts_active_down_with_the_peers_interval() {
        let start = Instant::now();
        let mut instance = backup(100, start);
        let second = Duration::from_secs(1);
        let slow = Advert {
            interval: AdvertInterval::new(Version::V3, second).unwrap(),
            ..advert(100)
        };
        instance.handle_advert(start, SMALLER, &slow).unwrap();
        let down = second * 3 + second * 156 / 256;
        assert_eq!(instance.poll_timeout(), Some(start + down));
        assert_eq!(actions(&mut instance), []);
    }

    #[test]
    fn a_lower_advert_is_preempted_only_when_ready_and_willing() {
        let start = Instant::now();
        let later = start + Duration::from_millis(50);
        for (ready, preempt, restarted) in [
            (true, true, false),
            (false, true, true),
            (true, false, true),
        ] {
            let mut instance = Instance::new(Configuration {
                preempt,
                ..configuration(200)
            });
            instance.handle_ready(ready);
            instance.handle_start(start, false);
            let before = instance.poll_timeout();
            instance.handle_advert(later, LARGER, &advert(150)).unwrap();
            assert_eq!(
                instance.poll_timeout() != before,
                restarted,
                "{ready} {preempt}"
            );
        }
    }

    #[test]
    fn priority_0_shortens_the_wait_to_the_skew_time() {
        let start = Instant::now();
        let mut instance = backup(150, start);
        let heard = start + Duration::from_millis(20);
        instance.handle_advert(heard, LARGER, &advert(0)).unwrap();
        let skew = INTERVAL * 106 / 256;
        assert_eq!(instance.poll_timeout(), Some(heard + skew));
        instance.handle_timeout(heard + skew);
        let last = actions(&mut instance).pop().unwrap();
        assert_eq!(
            last,
            transition(State::Backup, State::Active, Reason::ActiveLeft)
        );
    }

    #[test]
    fn an_active_yields_to_a_higher_priority_and_to_a_larger_address() {
        let start = Instant::now();
        for (priority, source, yields) in [
            (201, SMALLER, true),
            (200, LARGER, true),
            (200, SMALLER, false),
            (199, LARGER, false),
            (0, LARGER, false),
        ] {
            let mut instance = active(200, start);
            instance
                .handle_advert(start, source, &advert(priority))
                .unwrap();
            let expected = if yields {
                let reason = Reason::Outranked {
                    by: source,
                    priority,
                };
                vec![
                    Action::RemoveAddresses,
                    transition(State::Active, State::Backup, reason),
                ]
            } else {
                // Promoted a moment ago: the announcement follows a second after the first.
                vec![Action::SendAdvert(advert(200))]
            };
            assert_eq!(actions(&mut instance), expected, "{priority} from {source}");
        }
    }

    #[test]
    fn equal_priorities_compare_addresses_as_unsigned_numbers() {
        let start = Instant::now();
        let mut instance = active(200, start);
        instance
            .handle_advert(start, Ipv4Addr::new(10, 255, 255, 255), &advert(200))
            .unwrap();
        assert_eq!(instance.state(), State::Active);
        instance
            .handle_advert(start, Ipv4Addr::new(224, 0, 0, 1), &advert(200))
            .unwrap();
        assert_eq!(instance.state(), State::Backup);
    }

    #[test]
    fn stopping_says_so_only_as_active() {
        let start = Instant::now();
        let mut instance = active(200, start);
        instance.handle_stop();
        assert_eq!(
            actions(&mut instance),
            [
                Action::SendAdvert(advert(0)),
                Action::RemoveAddresses,
                transition(State::Active, State::Initialize, Reason::Stopped),
            ]
        );
        assert_eq!(instance.poll_timeout(), None);
        let mut instance = backup(200, start);
        instance.handle_stop();
        assert_eq!(
            actions(&mut instance),
            [transition(
                State::Backup,
                State::Initialize,
                Reason::Stopped
            )]
        );
    }

    #[test]
    fn found_addresses_are_kept_until_another_active_is_heard() {
        let start = Instant::now();
        let adopting = || {
            let mut instance = Instance::new(configuration(200));
            instance.handle_ready(true);
            instance.handle_start(start, true);
            actions(&mut instance);
            assert_eq!(instance.ownership(), Ownership::Adopting);
            instance
        };
        let mut instance = adopting();
        instance.handle_advert(start, LARGER, &advert(150)).unwrap();
        assert_eq!(actions(&mut instance), [Action::RemoveAddresses]);
        let mut instance = adopting();
        instance.handle_timeout(instance.poll_timeout().unwrap());
        assert_eq!(instance.ownership(), Ownership::Held);
        let mut instance = adopting();
        instance.handle_stop();
        assert_eq!(actions(&mut instance)[0], Action::RemoveAddresses);
    }

    #[test]
    fn an_owner_is_active_at_once() {
        let mut instance = Instance::new(configuration(255));
        instance.handle_start(Instant::now(), false);
        assert_eq!(instance.state(), State::Active);
    }

    #[test]
    fn what_the_configuration_forbids_changes_nothing() {
        let start = Instant::now();
        let second = AdvertInterval::new(Version::V2, Duration::from_secs(1)).unwrap();
        let peer = |password: Option<&str>| Advert {
            version: Version::V2,
            interval: second,
            password: password.map(|text| Password::new(text).unwrap()),
            ..advert(254)
        };
        let two_seconds = AdvertInterval::new(Version::V2, Duration::from_secs(2)).unwrap();
        let other = VirtualRouterId::new(51).unwrap();
        let cases = [
            (configuration(100), LARGER, peer(None), Rejection::Version),
            (
                configuration(100),
                LARGER,
                Advert {
                    virtual_router: other,
                    ..advert(254)
                },
                Rejection::VirtualRouter,
            ),
            (configuration(100), OWN, advert(254), Rejection::OwnAddress),
            (
                version_2(100, Some("a")),
                LARGER,
                peer(None),
                Rejection::AuthenticationType,
            ),
            (
                version_2(100, None),
                LARGER,
                peer(Some("a")),
                Rejection::AuthenticationType,
            ),
            (
                version_2(100, Some("a")),
                LARGER,
                peer(Some("b")),
                Rejection::Password,
            ),
            (
                version_2(100, None),
                LARGER,
                Advert {
                    interval: two_seconds,
                    ..peer(None)
                },
                Rejection::Interval,
            ),
            (version_2(255, None), LARGER, peer(None), Rejection::Owner),
        ];
        for (configuration, source, advert, rejection) in cases {
            let mut instance = Instance::new(configuration);
            instance.handle_start(start, true);
            instance.handle_timeout(start + Duration::from_secs(10));
            actions(&mut instance);
            let deadline = instance.poll_timeout();
            let later = start + Duration::from_secs(10);
            assert_eq!(
                instance.handle_advert(later, source, &advert),
                Err(rejection)
            );
            assert_eq!(actions(&mut instance), []);
            assert_eq!(
                (instance.state(), instance.poll_timeout()),
                (State::Active, deadline)
            );
        }
    }

    #[test]
    fn announcements_are_repeated() {
        let start = Instant::now();
        let mut instance = active(200, start);
        let promoted = instance.poll_timeout().unwrap() - INTERVAL;
        let mut announced = Vec::new();
        while announced.len() < 3 {
            let now = instance.poll_timeout().unwrap();
            instance.handle_timeout(now);
            if actions(&mut instance).contains(&Action::Announce { repeat: 1 }) {
                announced.push((now - promoted).as_secs());
            }
        }
        assert_eq!(announced, [5, 65, 125]);
    }

    /// The other one's announcements have moved the LAN; ours move it back.
    #[test]
    fn an_active_that_meets_another_announces_again_but_not_without_end() {
        let start = Instant::now();
        let mut instance = active(200, start);
        let later = start + Duration::from_secs(30);
        instance.handle_timeout(later);
        actions(&mut instance);
        let mut bursts = 0;
        for milliseconds in 0..1000 {
            let now = later + Duration::from_secs(2) + Duration::from_millis(milliseconds);
            instance.handle_advert(now, LARGER, &advert(150)).unwrap();
            let burst = Action::Announce { repeat: BURST };
            bursts += actions(&mut instance)
                .iter()
                .filter(|action| **action == burst)
                .count();
        }
        assert_eq!(bursts, 1);
    }

    #[test]
    fn a_backup_keeps_the_interval_it_heard_through_a_new_configuration() {
        let start = Instant::now();
        let mut instance = backup(100, start);
        let second = AdvertInterval::new(Version::V3, Duration::from_secs(1)).unwrap();
        let slow = Advert {
            interval: second,
            ..advert(200)
        };
        instance.handle_advert(start, LARGER, &slow).unwrap();
        let deadline = instance.poll_timeout();
        let reloaded = start + Duration::from_millis(200);
        instance.handle_configuration(reloaded, configuration(100));
        assert_eq!(instance.poll_timeout(), deadline);
    }

    #[test]
    fn a_new_configuration_never_delays_a_takeover() {
        let start = Instant::now();
        let mut instance = backup(100, start);
        instance.handle_advert(start, LARGER, &advert(0)).unwrap();
        let deadline = instance.poll_timeout();
        instance.handle_configuration(start, configuration(100));
        assert_eq!(instance.poll_timeout(), deadline);
    }

    #[test]
    fn a_new_configuration_keeps_the_state() {
        let start = Instant::now();
        let mut instance = active(200, start);
        let mut changed = configuration(180);
        changed.addresses.push(Ipv4Addr::new(192, 168, 56, 186));
        instance.handle_configuration(start, changed.clone());
        let advert = Advert {
            addresses: changed.addresses,
            ..advert(180)
        };
        assert_eq!(
            actions(&mut instance),
            [
                Action::AddAddresses,
                Action::SendAdvert(advert),
                Action::Announce { repeat: BURST },
            ]
        );
        assert_eq!(instance.state(), State::Active);
    }
}
