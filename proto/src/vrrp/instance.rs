//! The state machine of one virtual router (RFC 9568, section 6; RFC 3768, section 6).
//!
//! Pure: datagrams, timeouts and commands go in together with the present time, [`Action`]s come out
//! of [`Instance::poll_action`], and [`Instance::poll_timeout`] says when to come back. The caller
//! reads all queued datagrams before it lets a timer expire.
//!
//! Beyond the RFC: a router that was stopped or starved for longer than the others would wait steps
//! down before it sends anything; a planned handover keeps the addresses until the next Active was
//! heard; something outside may keep a router in [`State::Fault`].

use core::net::IpAddr;
use core::time::Duration;
use std::collections::{BTreeSet, VecDeque};
use std::time::{Instant, SystemTime};

use super::announcing::Announcing;
use super::{
    Action, Active, Advert, Aside, Authentication, ChecksumForm, Configuration, Datagram, Family,
    Fault, Heard, Margins, Ownership, Peers, Priority, Reason, Received, Rejection, Silence, State,
    Timer, TimerTable, Transition, Version, hmac, packet,
};

/// The least time that a router which hands over waits for another to be heard.
const HANDOVER_LEAST: Duration = Duration::from_secs(1);
/// What is on its way to this machine when the next Active announces itself is still answered. Ends before
/// the last round of the other's announcements, which has the last word of who answers ARP.
const LINGER: Duration = Duration::from_millis(50);
/// What the kernel may take to add addresses.
const LONGEST_DELAY: Duration = Duration::from_secs(1);

/// What the other members of its group allow a Backup.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leash {
    /// To take over from a lower Active: all of them could.
    pub(super) may_preempt: bool,
    /// To take over from one that has fallen silent: only from this time on, when none of them follows a
    /// better one any more, if nothing more is heard.
    pub(super) held_until: Option<Instant>,
}

impl Leash {
    fn holds(&self, now: Instant) -> bool {
        self.held_until.is_some_and(|until| now < until)
    }
}

impl Default for Leash {
    fn default() -> Self {
        Self {
            may_preempt: true,
            held_until: None,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Handover {
    then: Afterwards,
    heard: Option<IpAddr>,
}

#[derive(Clone, Copy, Debug)]
enum Afterwards {
    StandAside(Aside),
    Stop,
}

/// One virtual router.
#[derive(Clone, Debug)]
pub struct Instance {
    configuration: Configuration,
    priority: Priority,
    state: State,
    last_transition: Option<(Instant, Transition)>,
    ownership: Ownership,
    ready: bool,
    /// What its group allows.
    leash: Leash,
    aside: Option<Aside>,
    handover: Option<Handover>,
    faults: BTreeSet<Fault>,
    active: Option<Active>,
    /// The interval of the Active that is followed (`Active_Adver_Interval`), and its version.
    followed: Option<(Version, Duration)>,
    /// When a lower Active was heard first, that may be preempted after the delay.
    lower_since: Option<Instant>,
    /// When the last advert was sent, as Active.
    sent_at: Option<Instant>,
    /// Why this Backup would become Active if nothing else is heard.
    promotion: Reason,
    /// When the Active said that it leaves, if that is why.
    left_at: Option<Instant>,
    margins: Margins,
    announcing: Announcing,
    seals: Option<(hmac::Sealer, hmac::Verifier)>,
    timers: TimerTable,
    actions: VecDeque<Action>,
}

impl Instance {
    /// A router that hasn't started, and isn't ready: it takes over from nobody until
    /// [`Self::handle_ready`].
    pub fn new(configuration: Configuration) -> Self {
        Self {
            seals: seals(&configuration),
            priority: configuration.priority,
            state: State::Initialize,
            last_transition: None,
            ownership: Ownership::Absent,
            ready: false,
            leash: Leash::default(),
            aside: None,
            handover: None,
            faults: BTreeSet::new(),
            active: None,
            followed: None,
            lower_since: None,
            sent_at: None,
            promotion: Reason::NothingHeard,
            left_at: None,
            margins: Margins::default(),
            announcing: Announcing::default(),
            timers: TimerTable::default(),
            actions: VecDeque::new(),
            configuration,
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

    /// The priority in force.
    pub fn priority(&self) -> Priority {
        self.priority
    }

    /// The last change of state, and when it was.
    pub fn last_transition(&self) -> Option<(Instant, Transition)> {
        self.last_transition
    }

    /// Another router that was heard as Active last, whether or not it still is.
    pub fn active(&self) -> Option<&Active> {
        self.active.as_ref()
    }

    /// What keeps it from taking part.
    pub fn faults(&self) -> impl Iterator<Item = Fault> + '_ {
        self.faults.iter().copied()
    }

    /// How long it leaves a lower Active alone because it was asked to.
    pub fn aside(&self) -> Option<Aside> {
        self.aside
    }

    /// How close to a needless failover it came in its present state.
    pub fn margins(&self) -> Margins {
        self.margins
    }

    /// Whether it could preempt but for what its group says.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// How long this router waits for an Active that has fallen silent (`Active_Down_Interval`).
    pub fn active_down_interval(&self) -> Duration {
        self.priority
            .active_down_interval(self.configuration.version, self.active_interval())
    }

    /// How long after its last advert an Active must expect that another has taken over: three
    /// intervals and the skew time of the best Backup that there may be.
    pub fn stall_limit(&self) -> Duration {
        const BEST_BACKUP: u8 = 254;
        let Configuration {
            version, interval, ..
        } = self.configuration;
        let best = Priority::new(BEST_BACKUP).unwrap_or(Priority::OWNER);
        best.active_down_interval(version, interval.get())
    }

    /// Whether this router is Active and was stopped or starved for so long that another has taken
    /// over. It must send nothing then; [`Self::handle_timeout`] makes it step down.
    pub fn has_stalled(&self, now: Instant) -> bool {
        let handed_over = self
            .handover
            .is_some_and(|handover| handover.heard.is_some());
        self.state == State::Active
            && !handed_over
            && self
                .sent_at
                .is_some_and(|sent_at| now.saturating_duration_since(sent_at) > self.stall_limit())
    }

    /// Carrying out what this router decided at `decided` took until `now`, as adding many addresses
    /// may, and what came in meanwhile was read: it hasn't stalled. Nothing takes longer than a second
    /// but a stop.
    pub fn handle_delay(&mut self, decided: Instant, now: Instant) {
        if self.sent_at == Some(decided) && now.saturating_duration_since(decided) < LONGEST_DELAY {
            self.sent_at = Some(now);
        }
    }

    /// How long this router waits for another Active when it hands over: every Backup gets its time
    /// twice, for a priority 0 may be lost. Three intervals, and at least 1 s; in version 2, 3 s.
    pub fn handover_limit(&self) -> Duration {
        HANDOVER_LEAST.max(self.resignation_pause() * 2)
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

    /// The bytes of an advert for one destination. `wall` is the time of day, which only a trailer
    /// carries.
    pub fn encode(&mut self, advert: &Advert, destination: IpAddr, wall: SystemTime) -> Vec<u8> {
        let source = self.configuration.primary_address;
        let mut message = self.encode_unsigned(advert, destination);
        if let Some((sealer, _)) = &mut self.seals {
            packet::seal(&mut message, sealer, source, destination, wall);
        }
        message
    }

    /// The bytes of an advert for one destination, without a trailer.
    pub fn encode_unsigned(&self, advert: &Advert, destination: IpAddr) -> Vec<u8> {
        let own = &self.configuration;
        advert.to_bytes(own.primary_address, destination, own.checksum)
    }

    /// Starts the protocol (RFC 9568, section 6.4.1). `found` says that the addresses are on the
    /// machine already, left by a predecessor.
    pub fn handle_start(&mut self, now: Instant, found: bool) {
        if found {
            self.ownership = Ownership::Adopting;
        }
        if let Some(fault) = self.faults.first().copied() {
            self.give_up_addresses();
            self.enter(now, State::Fault, Reason::Fault(fault));
        } else if self.priority == Priority::OWNER {
            self.become_active(now, Reason::Started);
        } else {
            self.enter(now, State::Backup, Reason::Started);
            self.restart_active_down(now);
        }
    }

    /// Whether this machine could serve if it had the addresses.
    ///
    /// A router that isn't ready leaves a lower Active alone, and still takes over from a dead one.
    pub fn handle_ready(&mut self, ready: bool) {
        self.ready = ready;
    }

    /// What its group allows from now on.
    pub(super) fn set_leash(&mut self, leash: Leash) {
        self.leash = leash;
    }

    /// Until when it is a Backup of a living Active that it neither preempts nor succeeds, if nothing
    /// more is heard. One that was heard last before `left_at`, when an Active of the same group left,
    /// has most likely left too: it is living for one and a half intervals then.
    pub(super) fn follows_a_better_until(&self, left_at: Option<Instant>) -> Option<Instant> {
        if self.state != State::Backup || self.promotion != Reason::NothingHeard {
            return None;
        }
        let better = |active: &Active| active.priority >= self.priority.get();
        let heard_at = self.active.filter(better)?.heard_at;
        let living = if left_at.is_some_and(|left_at| heard_at <= left_at) {
            self.active_interval() * 3 / 2
        } else {
            self.active_down_interval()
        };
        Some(heard_at + living)
    }

    /// When the Active said that it leaves, for a Backup that is about to succeed it.
    pub(super) fn left_at(&self) -> Option<Instant> {
        let succeeds = self.state == State::Backup && self.promotion == Reason::ActiveLeft;
        self.left_at.filter(|_| succeeds)
    }

    /// The priority in force changes, because something tracked did. An owner's never does.
    pub fn handle_priority(&mut self, now: Instant, priority: Priority) {
        self.step_down_if_stalled(now);
        if self.priority == priority || self.configuration.priority == Priority::OWNER {
            return;
        }
        self.priority = priority;
        match self.state {
            State::Backup => self.hasten_active_down(now),
            State::Active if self.handover.is_none() => self.send_advert(now),
            State::Active | State::Initialize | State::Fault => {}
        }
    }

    /// Something begins or ceases to keep this router from taking part. An Active leaves at once.
    pub fn handle_fault(&mut self, now: Instant, fault: Fault, present: bool) {
        self.step_down_if_stalled(now);
        if present {
            self.faults.insert(fault);
        } else {
            self.faults.remove(&fault);
        }
        match (self.faults.first().copied(), self.state) {
            (_, State::Initialize) => {}
            (Some(fault), State::Backup | State::Active) => {
                if self.state == State::Active && self.handover.is_none() {
                    self.actions
                        .push_back(Action::SendAdvert(self.resignation()));
                }
                let stopping = self.is_stopping();
                self.leave();
                if stopping {
                    self.enter(now, State::Initialize, Reason::Stopped);
                } else {
                    self.enter(now, State::Fault, Reason::Fault(fault));
                }
            }
            (None, State::Fault) if self.priority == Priority::OWNER => {
                self.become_active(now, Reason::Recovered);
            }
            (None, State::Fault) => {
                self.enter(now, State::Backup, Reason::Recovered);
                self.restart_active_down(now);
            }
            (Some(_), State::Fault) | (None, State::Backup | State::Active) => {}
        }
    }

    /// Hands over, and leaves a lower Active alone then.
    ///
    /// An Active says that it leaves and goes on holding the addresses until another was heard; if
    /// that doesn't happen it stays Active, and says [`Action::HandoverUnanswered`].
    pub fn handle_handover(&mut self, now: Instant, aside: Aside) {
        self.step_down_if_stalled(now);
        match (self.state, &mut self.handover) {
            (State::Active, Some(_)) => {}
            (State::Active, None) => self.hand_over(now, Afterwards::StandAside(aside)),
            _ => self.aside = Some(aside),
        }
    }

    /// Ends what [`Self::handle_handover`] asked for.
    pub fn handle_release(&mut self) {
        self.aside = None;
    }

    /// Leaves: an Active hands over first (RFC 9568, sections 6.4.2 and 6.4.3). The state is
    /// [`State::Initialize`] when it's done, after [`Self::handover_limit`] and 50 ms at most; a second
    /// call ends it at once.
    pub fn handle_stop(&mut self, now: Instant) {
        self.step_down_if_stalled(now);
        if self.state == State::Active && !self.is_stopping() {
            match &mut self.handover {
                Some(handover) => handover.then = Afterwards::Stop,
                None => self.hand_over(now, Afterwards::Stop),
            }
            return;
        }
        self.leave();
        if self.state != State::Initialize {
            self.enter(now, State::Initialize, Reason::Stopped);
        }
    }

    /// Leaves at once, without waiting for another Active.
    pub fn handle_abandon(&mut self, now: Instant) {
        if self.state == State::Active && self.handover.is_none() && !self.has_stalled(now) {
            self.actions
                .push_back(Action::SendAdvert(self.resignation()));
        }
        self.leave();
        if self.state != State::Initialize {
            self.enter(now, State::Initialize, Reason::Stopped);
        }
    }

    /// Becomes Active because its group does.
    pub(super) fn handle_promote(&mut self, now: Instant) {
        if self.state == State::Backup {
            self.become_active(now, Reason::Group);
        }
    }

    /// Becomes Backup because its group does, and says so on the LAN.
    pub(super) fn handle_yield(&mut self, now: Instant) {
        // One that hands over goes by itself, when its own successor was heard.
        if self.state != State::Active || self.handover.is_some() {
            return;
        }
        if !self.has_stalled(now) {
            self.actions
                .push_back(Action::SendAdvert(self.resignation()));
        }
        self.leave();
        self.enter(now, State::Backup, Reason::Group);
        self.restart_active_down(now);
    }

    /// Goes on with another configuration of the same virtual router, in the same state.
    pub fn handle_configuration(&mut self, now: Instant, configuration: Configuration) {
        self.step_down_if_stalled(now);
        let addresses_changed = configuration.addresses != self.configuration.addresses;
        self.configure_seals(&configuration);
        let tracked = i32::from(self.priority.get()) - i32::from(self.configuration.priority.get());
        self.priority = if self.configuration.priority == Priority::OWNER {
            configuration.priority
        } else {
            configuration.priority.adjusted(tracked)
        };
        self.configuration = configuration;
        match self.state {
            State::Initialize | State::Fault => {}
            State::Backup => self.hasten_active_down(now),
            State::Active => {
                self.actions.push_back(Action::AddAddresses);
                if self.handover.is_none() {
                    self.send_advert(now);
                    if addresses_changed {
                        let how = self.configuration.announcements;
                        self.announcing.promoted(now, &how);
                        self.announce_round(now);
                    }
                }
            }
        }
    }

    /// Takes a datagram that the interface received. `wall` is the time of day, which only a trailer
    /// is compared with.
    ///
    /// # Errors
    /// Why it was discarded (RFC 9568, section 7.1); then nothing has changed.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        wall: SystemTime,
        datagram: &Datagram<'_>,
    ) -> Result<Heard, Rejection> {
        self.check_delivery(datagram)?;
        let received = datagram.read()?;
        self.check_content(datagram.source, &received)?;
        let authenticated = self.check_seal(datagram, &received, wall)?;
        self.step_down_if_stalled(now);
        let Received { advert, form, .. } = received;
        let silence = self.hear(now, datagram.source, &advert, form, authenticated);
        let own = &self.configuration;
        let sorted = |addresses: &[IpAddr]| {
            let mut sorted = addresses.to_vec();
            sorted.sort_unstable();
            sorted
        };
        Ok(Heard {
            addresses_differ: advert.addresses != own.addresses
                && sorted(&advert.addresses) != sorted(&own.addresses),
            interval_differs: advert.interval != own.interval,
            first_address_not_link_local: matches!(
                advert.addresses.first(),
                Some(IpAddr::V6(first)) if !first.is_unicast_link_local()
            ),
            second_owner: own.priority == Priority::OWNER
                && advert.priority == Priority::OWNER.get(),
            form,
            advert,
            silence,
        })
    }

    /// Lets every timer expire that is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.step_down_if_stalled(now);
        while let Some((timer, deadline)) = self.timers.expire(now) {
            let late = now.saturating_duration_since(deadline);
            match timer {
                // Stopped or starved for a whole interval, it can't tell silence from deafness.
                Timer::ActiveDown if late >= self.active_down_interval() => {
                    self.restart_active_down(now);
                }
                // Where one member's LAN is split and another's isn't, its group stays with the other.
                Timer::ActiveDown if self.leash.holds(now) => match self.leash.held_until {
                    Some(until) if self.promotion == Reason::ActiveLeft => {
                        self.timers.set(Timer::ActiveDown, until);
                    }
                    _ => self.restart_active_down(now),
                },
                Timer::ActiveDown => match self.spared_active(now) {
                    Some(active) => {
                        self.followed = Some((active.version, active.interval));
                        self.restart_active_down(active.heard_at);
                    }
                    None => self.become_active(now, self.promotion),
                },
                Timer::Advert if self.handover.is_some() => self.resign(now),
                Timer::Advert => {
                    self.margins.longest_lateness = self.margins.longest_lateness.max(late);
                    self.send_advert(now);
                    // From the deadline, so that the rate doesn't drift; from now after a stall.
                    let next = deadline + self.configuration.interval.get();
                    if next > now {
                        self.timers.set(Timer::Advert, next);
                    }
                }
                Timer::Announce => self.announce_round(now),
                Timer::Handover => self.end_handover(now),
            }
        }
    }

    /// How the datagram came.
    fn check_delivery(&self, datagram: &Datagram<'_>) -> Result<(), Rejection> {
        let own = &self.configuration;
        let multicast = datagram.destination.is_multicast();
        if multicast != (own.peers == Peers::Multicast)
            || Family::of(datagram.source) != own.family()
        {
            return Err(Rejection::Destination);
        }
        if datagram.hop_limit < own.peers.minimum_hop_limit() {
            return Err(Rejection::TimeToLive);
        }
        Ok(())
    }

    /// RFC 9568, section 7.1, and RFC 3768, section 7.1, as far as they depend on the configuration.
    fn check_content(&self, source: IpAddr, received: &Received) -> Result<(), Rejection> {
        let own = &self.configuration;
        let advert = &received.advert;
        if advert.version != own.version && own.also_accept.version != Some(advert.version) {
            return Err(Rejection::Version);
        }
        if advert.virtual_router != own.virtual_router {
            return Err(Rejection::VirtualRouter);
        }
        if source == own.primary_address {
            return Err(Rejection::OwnAddress);
        }
        if let Peers::Unicast { addresses, .. } = &own.peers
            && !addresses.contains(&source)
        {
            return Err(Rejection::Peer);
        }
        if advert.version == Version::V2 {
            self.check_version_2(advert)?;
        }
        Ok(())
    }

    fn check_version_2(&self, advert: &Advert) -> Result<(), Rejection> {
        let own = &self.configuration;
        let password = match &own.authentication {
            Authentication::Password(password) => Some(password),
            Authentication::None | Authentication::Hmac(_) => None,
        };
        let theirs = advert.password.as_ref();
        let own_way = own.version == Version::V2 && theirs == password;
        let other_way = match &own.also_accept.password {
            Some(password) => theirs == Some(password),
            None => own.also_accept.version == Some(Version::V2) && theirs.is_none(),
        };
        if !own_way && !other_way {
            let expected = password.or(own.also_accept.password.as_ref());
            return Err(if theirs.is_some() == expected.is_some() {
                Rejection::Password
            } else {
                Rejection::AuthenticationType
            });
        }
        if own.version == Version::V2 && advert.interval != own.interval {
            return Err(Rejection::Interval);
        }
        if own.priority == Priority::OWNER {
            return Err(Rejection::Owner);
        }
        Ok(())
    }

    /// Whether the advert proves who sent it.
    fn check_seal(
        &mut self,
        datagram: &Datagram<'_>,
        received: &Received,
        wall: SystemTime,
    ) -> Result<bool, Rejection> {
        match &mut self.seals {
            Some((_, verifier)) if received.advert.version == Version::V3 => {
                let length = received.sealed_at.unwrap_or(datagram.message.len());
                let origin = verifier.verify(datagram.message, length, datagram.source, wall)?;
                Ok(origin == hmac::Origin::Proven)
            }
            _ => Ok(false),
        }
    }

    /// An advert of another router that was found good; how long its sender was silent, as
    /// [`Heard::silence`] has it.
    fn hear(
        &mut self,
        now: Instant,
        source: IpAddr,
        advert: &Advert,
        form: ChecksumForm,
        authenticated: bool,
    ) -> Option<Silence> {
        let previous = self.active;
        if advert.priority != 0 {
            self.active = Some(Active {
                address: source,
                priority: advert.priority,
                version: advert.version,
                interval: advert.interval.get(),
                form,
                authenticated,
                heard_at: now,
            });
            if self.ownership == Ownership::Adopting {
                self.give_up_addresses();
            }
        }
        match (self.state, &mut self.handover) {
            (State::Initialize | State::Fault, _) => {}
            (State::Backup, _) => return self.hear_as_backup(now, source, advert, previous),
            (State::Active, Some(handover)) => {
                if advert.priority != 0 && handover.heard.is_none() {
                    handover.heard = Some(source);
                    self.timers.stop(Timer::Advert);
                    self.timers.set(Timer::Handover, now + LINGER);
                }
            }
            (State::Active, None) => self.hear_as_active(now, source, advert),
        }
        None
    }

    fn hear_as_backup(
        &mut self,
        now: Instant,
        source: IpAddr,
        advert: &Advert,
        previous: Option<Active>,
    ) -> Option<Silence> {
        let mut heard_after = None;
        if advert.priority == 0 {
            let skew = self
                .priority
                .skew_time(self.configuration.version, self.active_interval());
            let due = now + skew;
            // Whoever leaves may say so more often than our skew time: the first time counts, unless
            // we have slept since.
            let deadline = match (self.promotion, self.timers.get(Timer::ActiveDown)) {
                (Reason::ActiveLeft, Some(deadline))
                    if now < deadline + self.active_down_interval() =>
                {
                    deadline.min(due)
                }
                _ => due,
            };
            self.promotion = Reason::ActiveLeft;
            self.left_at = Some(now);
            self.timers.set(Timer::ActiveDown, deadline);
        } else if advert.priority >= self.priority.get() || !self.preempts(now) {
            if let Some(previous) = previous.filter(|previous| previous.address == source) {
                let silence = now.saturating_duration_since(previous.heard_at);
                self.margins.longest_silence = self.margins.longest_silence.max(silence);
                heard_after = Some(Silence {
                    lasted: silence,
                    limit: self.active_down_interval(),
                });
            }
            if advert.priority >= self.priority.get() {
                self.lower_since = None;
            }
            self.followed = Some((advert.version, advert.interval.get()));
            self.restart_active_down(now);
        } else {
            self.promotion = Reason::Preempting {
                active: source,
                priority: advert.priority,
            };
        }
        heard_after
    }

    fn hear_as_active(&mut self, now: Instant, source: IpAddr, advert: &Advert) {
        let theirs = (advert.priority, source);
        let ours = (self.priority.get(), self.configuration.primary_address);
        if advert.priority == 0 || theirs <= ours {
            // Asserted at once, so that a lower router that thinks it is Active gives up; its
            // announcements may have moved the LAN.
            self.send_advert(now);
            let how = self.configuration.announcements;
            match self.announcing.again(now, &how) {
                Some(due) if due <= now => self.announce_round(now),
                Some(due) => self.timers.set(Timer::Announce, due),
                None => {}
            }
        } else {
            // The last word is ours: the winner may never have heard us, as when a split heals and
            // it is the first to speak. It must know that there were two, to announce again.
            let held = self.ownership == Ownership::Held;
            let last_word = held.then(|| self.advert(self.priority.get()));
            self.fall_silent();
            self.actions.extend(last_word.map(Action::SendAdvert));
            self.give_up_addresses();
            let reason = Reason::Outranked {
                by: source,
                priority: advert.priority,
            };
            self.followed = Some((advert.version, advert.interval.get()));
            self.enter(now, State::Backup, reason);
            self.restart_active_down(now);
        }
    }

    /// The addresses come before the advert, which nobody can see on the LAN, and the announcement
    /// right after it, or before it where another Active lets go at our advert.
    fn become_active(&mut self, now: Instant, reason: Reason) {
        self.timers.stop_all();
        self.ownership = Ownership::Held;
        self.aside = None;
        self.actions.push_back(Action::AddAddresses);
        let how = self.configuration.announcements;
        self.announcing.promoted(now, &how);
        if matches!(reason, Reason::Preempting { .. } | Reason::ActiveLeft) {
            // The other one answers until it hears us: the LAN comes here first, and nothing is lost.
            self.announce_round(now);
            self.send_advert(now);
        } else {
            self.send_advert(now);
            self.announce_round(now);
        }
        self.enter(now, State::Active, reason);
    }

    fn step_down_if_stalled(&mut self, now: Instant) {
        if !self.has_stalled(now) {
            return;
        }
        let stopping = self.is_stopping();
        self.leave();
        if stopping {
            self.enter(now, State::Initialize, Reason::Stopped);
        } else {
            self.enter(now, State::Backup, Reason::Stalled);
            self.restart_active_down(now);
        }
    }

    fn hand_over(&mut self, now: Instant, then: Afterwards) {
        self.ownership = Ownership::HandingOver;
        self.handover = Some(Handover { then, heard: None });
        self.timers.stop(Timer::Announce);
        self.timers
            .set(Timer::Handover, now + self.handover_limit());
        self.resign(now);
    }

    /// Priority 0, and again when whoever has heard it would have taken over.
    fn resign(&mut self, now: Instant) {
        self.actions
            .push_back(Action::SendAdvert(self.resignation()));
        self.sent_at = Some(now);
        self.timers
            .set(Timer::Advert, now + self.resignation_pause());
    }

    /// The longest skew time, which keepalived and FRR start anew at each priority 0, and half as much
    /// for being late.
    fn resignation_pause(&self) -> Duration {
        let own = &self.configuration;
        own.version.longest_skew_time(own.interval.get()) * 3 / 2
    }

    fn end_handover(&mut self, now: Instant) {
        let Some(Handover { then, heard }) = self.handover else {
            return;
        };
        match (then, heard) {
            (Afterwards::Stop, _) => {
                self.leave();
                self.enter(now, State::Initialize, Reason::Stopped);
            }
            (Afterwards::StandAside(aside), Some(to)) => {
                self.leave();
                self.followed = self.active.map(|active| (active.version, active.interval));
                self.aside = Some(aside);
                self.enter(now, State::Backup, Reason::HandedOver { to });
                self.restart_active_down(now);
            }
            (Afterwards::StandAside(_), None) => {
                self.handover = None;
                self.ownership = Ownership::Held;
                self.send_advert(now);
                let how = self.configuration.announcements;
                self.announcing.promoted(now, &how);
                self.announce_round(now);
                self.actions.push_back(Action::HandoverUnanswered);
            }
        }
    }

    fn is_stopping(&self) -> bool {
        matches!(
            self.handover,
            Some(Handover {
                then: Afterwards::Stop,
                ..
            })
        )
    }

    /// Stamps go on growing, and what was heard stays known, through a new configuration.
    fn configure_seals(&mut self, configuration: &Configuration) {
        match (&mut self.seals, configuration.hmac()) {
            (Some((sealer, verifier)), Some(hmac)) => {
                sealer.configure(hmac);
                verifier.configure(hmac.clone());
            }
            _ => self.seals = seals(configuration),
        }
    }

    /// Lets everything go that a state brings with it, and whatever was to be done for it.
    fn leave(&mut self) {
        self.fall_silent();
        self.give_up_addresses();
    }

    fn fall_silent(&mut self) {
        self.actions.retain(|action| match action {
            Action::SendAdvert(advert) => advert.priority == 0,
            Action::AddAddresses | Action::Announce => false,
            Action::RemoveAddresses | Action::Report(_) | Action::HandoverUnanswered => true,
        });
        self.timers.stop_all();
        self.handover = None;
        self.sent_at = None;
        self.followed = None;
        self.lower_since = None;
    }

    fn give_up_addresses(&mut self) {
        if self.ownership != Ownership::Absent {
            self.ownership = Ownership::Absent;
            self.actions.push_back(Action::RemoveAddresses);
        }
    }

    fn announce_round(&mut self, now: Instant) {
        self.actions.push_back(Action::Announce);
        match self
            .announcing
            .round(now, &self.configuration.announcements)
        {
            Some(due) => self.timers.set(Timer::Announce, due),
            None => self.timers.stop(Timer::Announce),
        }
    }

    fn send_advert(&mut self, now: Instant) {
        let advert = self.advert(self.priority.get());
        self.actions.push_back(Action::SendAdvert(advert));
        self.sent_at = Some(now);
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
            password: match &own.authentication {
                Authentication::Password(password) if own.version == Version::V2 => {
                    Some(password.clone())
                }
                _ => None,
            },
        }
    }

    /// Whether a lower Active is taken over from now. The delay counts from the first time that it
    /// could have been.
    fn preempts(&mut self, now: Instant) -> bool {
        if self.priority == Priority::OWNER {
            return true;
        }
        if let Some(Aside::Until(until)) = self.aside
            && until <= now
        {
            self.aside = None;
        }
        if !self.configuration.preempt
            || !self.ready
            || !self.leash.may_preempt
            || self.aside.is_some()
        {
            self.lower_since = None;
            return false;
        }
        let since = *self.lower_since.get_or_insert(now);
        now.saturating_duration_since(since) >= self.configuration.preempt_delay
    }

    /// The Active that was going to be preempted, and no longer is: meanwhile our priority fell, or
    /// we are no longer ready, or asked to stand aside.
    fn spared_active(&mut self, now: Instant) -> Option<Active> {
        let Reason::Preempting { priority, .. } = self.promotion else {
            return None;
        };
        let spared = priority >= self.priority.get() || !self.preempts(now);
        self.active.filter(|_| spared)
    }

    /// The interval of the Active that is followed, or our own where none is. Version 2 has none of
    /// its own: another interval than ours is refused there.
    fn active_interval(&self) -> Duration {
        let own = &self.configuration;
        match self.followed {
            Some((version, interval)) if (own.version, version) != (Version::V2, Version::V2) => {
                own.accepted_intervals.nearest(interval)
            }
            _ => own.interval.get(),
        }
    }

    fn restart_active_down(&mut self, now: Instant) {
        self.promotion = Reason::NothingHeard;
        let deadline = now + self.active_down_interval();
        self.timers.set(Timer::ActiveDown, deadline);
    }

    /// Sooner perhaps, never later: the Active may be dying at this moment.
    fn hasten_active_down(&mut self, now: Instant) {
        let renewed = now + self.active_down_interval();
        let deadline = self.timers.get(Timer::ActiveDown);
        self.timers.set(
            Timer::ActiveDown,
            deadline.map_or(renewed, |due| due.min(renewed)),
        );
    }

    fn enter(&mut self, now: Instant, state: State, reason: Reason) {
        let transition = Transition {
            from: self.state,
            to: state,
            reason,
        };
        debug_assert!(
            Transition::KINDS.contains(&transition.kind()),
            "{transition:?}"
        );
        self.state = state;
        self.margins = Margins::default();
        self.last_transition = Some((now, transition));
        self.actions.push_back(Action::Report(transition));
    }
}

fn seals(configuration: &Configuration) -> Option<(hmac::Sealer, hmac::Verifier)> {
    let hmac = configuration.hmac()?;
    Some((hmac::Sealer::new(hmac), hmac::Verifier::new(hmac.clone())))
}

#[cfg(test)]
mod tests;
