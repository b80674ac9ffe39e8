//! Who else says to have our addresses: what is heard on the LAN, turned into accusations.
//!
//! A real server that answers for the VIP (ARP, RFC 826; neighbour discovery, RFC 4861) draws clients
//! past the director, and a neighbour that heard it sends there until somebody tells it otherwise. The
//! sentinel of who holds an address hears what is said of it, asks for it now and then, and accuses
//! everybody else that claims it.
//!
//! Only the holder accuses: while a router is Active nobody else may claim its addresses, and whoever
//! does is wrong, a real server, a director that has crashed and a second Active alike. Before it has
//! settled, its predecessor may still answer; and since a successor may announce itself a moment before
//! it is heard of otherwise, an accusation waits for a moment and is dropped with the address.

use core::fmt;
use core::net::IpAddr;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// An Ethernet address.
pub type HardwareAddress = [u8; 6];

/// How often an address is asked for.
pub const ASKING_PERIOD: Duration = Duration::from_secs(2);

/// How many addresses are asked for in a period; with more of them each is asked for less often.
pub const QUESTIONS_AT_ONCE: usize = 64;

/// How long a claim waits for its claimant to become the rightful holder, and for its name.
pub const GRACE: Duration = Duration::from_millis(500);

/// Who answers when it is asked and then doesn't any more has been put right.
const QUIET_AFTER_ANSWERS: Duration = Duration::from_secs(7);

/// What nobody can be asked for comes seldom: whenever a neighbour has forgotten somebody.
const QUIET_AFTER_OTHERS: Duration = Duration::from_secs(120);

/// Neither a flood of claims nor a network full of culprits fills the memory.
const MOST_SUSPECTS: usize = 64;

/// The addresses that are remembered of one culprit beside real servers'.
const MOST_NAMES: usize = 4;

/// A message that says who has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The address.
    pub address: IpAddr,
    /// Where it is said to be.
    pub hardware_address: HardwareAddress,
    /// How that was said.
    pub form: Form,
}

/// How an address is claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Form {
    /// In answer to who asked: an ARP reply, a solicited advertisement.
    Answer,
    /// Unasked: gratuitous ARP, an unsolicited advertisement.
    Announcement,
    /// By asking for another address from this one: an ARP request, a solicitation.
    Question,
}

impl Form {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Answer, Self::Announcement, Self::Question];

    /// As a metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Answer => "answer",
            Self::Announcement => "announcement",
            Self::Question => "question",
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.label())
    }
}

/// An address on a LAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The number of the interface to the LAN.
    pub interface_index: u32,
    /// The address.
    pub address: IpAddr,
}

/// Somebody else claims an address that is held here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accusation {
    /// Which, and where.
    pub place: Place,
    /// Who.
    pub hardware_address: HardwareAddress,
    /// How, so far.
    pub forms: BTreeSet<Form>,
    /// The addresses of the claimant: real servers' if it has any, else others that it was heard to use.
    pub names: BTreeSet<IpAddr>,
}

/// A question to put on a LAN: who has this?
pub type Question = Place;

/// Hears claims and accuses.
#[derive(Clone, Debug)]
pub struct Sentinel {
    own: BTreeSet<HardwareAddress>,
    /// From when on claims count.
    held: BTreeMap<Place, Instant>,
    servers: BTreeSet<IpAddr>,
    server_names: BTreeMap<HardwareAddress, BTreeSet<IpAddr>>,
    suspects: BTreeMap<(Place, HardwareAddress), Suspect>,
    asked: Option<(Instant, Place)>,
}

#[derive(Clone, Debug)]
struct Suspect {
    since: Instant,
    last: BTreeMap<Form, Instant>,
    names: BTreeSet<IpAddr>,
}

impl Suspect {
    fn is_over(&self, now: Instant) -> bool {
        self.last.iter().all(|(form, last)| {
            let quiet = match form {
                Form::Answer => QUIET_AFTER_ANSWERS,
                Form::Announcement | Form::Question => QUIET_AFTER_OTHERS,
            };
            now.saturating_duration_since(*last) >= quiet
        })
    }
}

impl Default for Sentinel {
    fn default() -> Self {
        Self::new()
    }
}

impl Sentinel {
    /// Holds nothing, and knows nobody.
    pub fn new() -> Self {
        Self {
            own: BTreeSet::new(),
            held: BTreeMap::new(),
            servers: BTreeSet::new(),
            server_names: BTreeMap::new(),
            suspects: BTreeMap::new(),
            asked: None,
        }
    }

    /// The addresses that are held here now, each with how long a predecessor may go on answering. Those
    /// that go take the accusations along; those that stay keep theirs.
    pub fn hold(&mut self, now: Instant, places: &BTreeMap<Place, Duration>) {
        self.held.retain(|place, _| places.contains_key(place));
        for (place, settling) in places {
            self.held.entry(*place).or_insert(now + *settling);
        }
        let held = &self.held;
        self.suspects
            .retain(|(place, _), _| held.contains_key(place));
    }

    /// Every Ethernet address that may claim what is held: this machine's, and virtual routers'.
    pub fn own(&mut self, own: BTreeSet<HardwareAddress>) {
        self.suspects.retain(|(_, who), _| !own.contains(who));
        self.own = own;
    }

    /// The real servers, whose addresses name a culprit.
    pub fn know_servers(&mut self, servers: BTreeSet<IpAddr>) {
        for names in self.server_names.values_mut() {
            names.retain(|name| servers.contains(name));
        }
        self.server_names.retain(|_, names| !names.is_empty());
        self.servers = servers;
    }

    /// Hears a claim on the LAN of an interface. Returns whether it is one that counts: of an address that
    /// is held here, by somebody else.
    pub fn hear(&mut self, now: Instant, interface_index: u32, claim: &Claim) -> bool {
        let Claim {
            address,
            hardware_address,
            form,
        } = *claim;
        let place = Place {
            interface_index,
            address,
        };
        if self.own.contains(&hardware_address) {
            return false;
        }
        let Some(counts_from) = self.held.get(&place) else {
            self.learn_name(address, hardware_address);
            return false;
        };
        if now < *counts_from {
            return false;
        }
        let key = (place, hardware_address);
        if self.suspects.len() >= MOST_SUSPECTS && !self.suspects.contains_key(&key) {
            return true;
        }
        let suspect = self.suspects.entry(key).or_insert_with(|| Suspect {
            since: now,
            last: BTreeMap::new(),
            names: BTreeSet::new(),
        });
        suspect.last.insert(form, now);
        true
    }

    /// What to ask now: for the addresses that are held, and for real servers while somebody is to be
    /// named. Forgets who has fallen silent.
    pub fn questions(&mut self, now: Instant) -> Vec<Question> {
        self.suspects.retain(|_, suspect| !suspect.is_over(now));
        let previous = match self.asked {
            Some((asked, _)) if now < asked + ASKING_PERIOD => return Vec::new(),
            Some((_, place)) => Some(place),
            None => None,
        };
        let after = self.held.keys().filter(|place| Some(**place) > previous);
        let before = self.held.keys().filter(|place| Some(**place) <= previous);
        let questions = after.chain(before).take(QUESTIONS_AT_ONCE);
        let mut questions: Vec<Question> = questions.copied().collect();
        self.asked = questions.last().map(|last| (now, *last));
        questions.extend(self.questions_for_names());
        questions
    }

    /// Asks for real servers on the LANs where a culprit has no name.
    pub fn questions_for_names(&self) -> Vec<Question> {
        let unnamed = self.suspects.keys().filter(|(_, hardware_address)| {
            let names = self.server_names.get(hardware_address);
            names.is_none_or(BTreeSet::is_empty)
        });
        let lans: BTreeSet<u32> = unnamed.map(|(place, _)| place.interface_index).collect();
        let named: BTreeSet<&IpAddr> = self.server_names.values().flatten().collect();
        let unknown = self.servers.iter().filter(|server| !named.contains(server));
        let unknown: Vec<&IpAddr> = unknown.take(QUESTIONS_AT_ONCE).collect();
        lans.into_iter()
            .flat_map(|interface_index| {
                unknown.iter().map(move |address| Place {
                    interface_index,
                    address: **address,
                })
            })
            .collect()
    }

    /// Those that are accused now.
    pub fn accusations(&self, now: Instant) -> Vec<Accusation> {
        let accused = self.suspects.iter();
        let accused = accused.filter(|(_, suspect)| now >= suspect.since + GRACE);
        let accusation = |(&(place, hardware_address), suspect): (_, &Suspect)| {
            let server_names = self.server_names.get(&hardware_address);
            Accusation {
                place,
                hardware_address,
                forms: suspect.last.keys().copied().collect(),
                names: server_names.unwrap_or(&suspect.names).clone(),
            }
        };
        accused.map(accusation).collect()
    }

    /// When [`Self::questions`] or [`Self::accusations`] have something new at the latest; never while
    /// nothing is held.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        if self.held.is_empty() {
            return None;
        }
        let asking = self.asked.map_or(now, |(asked, _)| asked + ASKING_PERIOD);
        let graces = self.suspects.values().map(|suspect| suspect.since + GRACE);
        let grace = graces.filter(|due| *due > now).min();
        Some(grace.map_or(asking, |grace| grace.min(asking)))
    }

    fn learn_name(&mut self, address: IpAddr, hardware_address: HardwareAddress) {
        if self.servers.contains(&address) {
            // It may have moved.
            for names in self.server_names.values_mut() {
                names.remove(&address);
            }
            self.server_names.retain(|_, names| !names.is_empty());
            let names = self.server_names.entry(hardware_address).or_default();
            names.insert(address);
            return;
        }
        let suspects = self.suspects.iter_mut();
        for (_, suspect) in suspects.filter(|((_, who), _)| *who == hardware_address) {
            if suspect.names.len() < MOST_NAMES {
                suspect.names.insert(address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use core::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    const OWN: HardwareAddress = [2, 0, 0, 0, 0, 1];
    const SERVER: HardwareAddress = [2, 0, 0, 0, 0, 3];
    const LAN: u32 = 7;
    const SETTLING: Duration = Duration::from_secs(1);
    const INSTANT: Duration = Duration::from_millis(1);

    fn address(last: u8) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, last).into()
    }

    fn place(last: u8) -> Place {
        Place {
            interface_index: LAN,
            address: address(last),
        }
    }

    fn claim(last: u8, hardware_address: HardwareAddress, form: Form) -> Claim {
        Claim {
            address: address(last),
            hardware_address,
            form,
        }
    }

    /// Holds one address for long enough, and knows the servers .3 and .4.
    fn settled(now: Instant) -> Sentinel {
        let mut sentinel = Sentinel::new();
        sentinel.own([OWN].into());
        sentinel.know_servers([address(3), address(4)].into());
        let before = now.checked_sub(SETTLING).unwrap();
        sentinel.hold(before, &[(place(100), SETTLING)].into());
        sentinel
    }

    #[test]
    fn a_real_server_that_answers_is_accused_by_its_address() {
        let now = Instant::now();
        let mut sentinel = settled(now);
        assert!(sentinel.questions(now).contains(&place(100)));
        assert!(sentinel.hear(now, LAN, &claim(100, SERVER, Form::Answer)));
        assert_eq!(sentinel.accusations(now + GRACE - INSTANT), []);
        let asked = sentinel.questions_for_names();
        assert_eq!(asked, [place(3), place(4)]);
        assert!(!sentinel.hear(now, LAN, &claim(3, SERVER, Form::Answer)));
        assert_eq!(sentinel.due(now), Some(now + GRACE));
        let accused = Accusation {
            place: place(100),
            hardware_address: SERVER,
            forms: [Form::Answer].into(),
            names: [address(3)].into(),
        };
        assert_eq!(sentinel.accusations(now + GRACE), [accused]);
        assert_eq!(sentinel.questions_for_names(), []);
        // It is put right: no answer to three questions.
        let later = now + QUIET_AFTER_ANSWERS;
        sentinel.questions(later);
        assert_eq!(sentinel.accusations(later), []);
    }

    #[test]
    fn every_form_of_a_claim_counts() {
        let now = Instant::now();
        for form in Form::ALL {
            let mut sentinel = settled(now);
            assert!(sentinel.hear(now, LAN, &claim(100, SERVER, form)));
            let accused = sentinel.accusations(now + GRACE);
            assert_eq!(accused[0].forms, [form].into());
        }
    }

    #[test]
    fn who_may_claim_and_what_is_none_of_ours_is_left_alone() {
        let now = Instant::now();
        let mut sentinel = settled(now);
        assert!(!sentinel.hear(now, LAN, &claim(100, OWN, Form::Answer)));
        assert!(!sentinel.hear(now, LAN, &claim(101, SERVER, Form::Answer)));
        assert!(!sentinel.hear(now, LAN + 1, &claim(100, SERVER, Form::Answer)));
        assert_eq!(sentinel.accusations(now + GRACE), []);
    }

    #[test]
    fn a_stranger_is_named_by_what_else_it_says() {
        let now = Instant::now();
        let mut sentinel = settled(now);
        sentinel.hear(now, LAN, &claim(100, SERVER, Form::Question));
        for last in 10..20 {
            sentinel.hear(now, LAN, &claim(last, SERVER, Form::Question));
        }
        let names = &sentinel.accusations(now + GRACE)[0].names;
        assert_eq!(names.len(), MOST_NAMES);
        assert!(names.contains(&address(10)));
    }

    #[test]
    fn a_flood_of_claimants_is_bounded() {
        let now = Instant::now();
        let mut sentinel = settled(now);
        for last in 0..=255 {
            let who = [2, 0, 0, 0, 1, last];
            assert!(sentinel.hear(now, LAN, &claim(100, who, Form::Answer)));
        }
        assert_eq!(sentinel.accusations(now + GRACE).len(), MOST_SUSPECTS);
    }

    #[test]
    fn many_addresses_are_asked_for_in_turn() {
        let mut now = Instant::now();
        let mut sentinel = Sentinel::new();
        let places = (0..=199).map(|last| (place(last), SETTLING));
        sentinel.hold(now, &places.collect());
        let mut asked = BTreeSet::new();
        for _ in 0..4 {
            let questions = sentinel.questions(now);
            assert!(questions.len() <= QUESTIONS_AT_ONCE);
            asked.extend(questions);
            assert_eq!(sentinel.questions(now + INSTANT), []);
            now += ASKING_PERIOD;
        }
        assert_eq!(asked.len(), 200);
    }

    /// What may happen to one router, with the pause before it.
    #[derive(Clone, Copy, Debug)]
    enum Event {
        TakeOver,
        GiveUp,
        /// Another director claims the address: before it is heard as Active, or while it still leaves.
        Successor,
        Predecessor,
    }

    proptest! {
        /// Roles change at any time; whoever leaves answers for less than the settling time, and who
        /// comes claims less than a grace before this router steps down.
        #[test]
        fn no_change_of_roles_raises_an_alarm(
            events in prop::collection::vec(
                (0u64..3000, prop::sample::select(vec![
                    Event::TakeOver, Event::GiveUp, Event::Successor, Event::Predecessor,
                ])),
                0..60,
            )
        ) {
            let peer = [2, 0, 0, 0, 0, 2];
            let all = BTreeMap::from([(place(100), SETTLING)]);
            let none = BTreeMap::new();
            let mut now = Instant::now();
            let mut sentinel = Sentinel::new();
            sentinel.own([OWN].into());
            let mut held_since = None;
            for (pause, event) in events {
                now += Duration::from_millis(pause);
                match event {
                    Event::TakeOver => {
                        held_since.get_or_insert(now);
                        sentinel.hold(now, &all);
                    }
                    Event::GiveUp => {
                        held_since = None;
                        sentinel.hold(now, &none);
                    }
                    Event::Successor => {
                        sentinel.hear(now, LAN, &claim(100, peer, Form::Announcement));
                        now += GRACE - INSTANT;
                        prop_assert_eq!(sentinel.accusations(now), []);
                        held_since = None;
                        sentinel.hold(now, &none);
                    }
                    Event::Predecessor => {
                        let leaves = held_since.is_none_or(|since| now < since + SETTLING);
                        if leaves {
                            sentinel.hear(now, LAN, &claim(100, peer, Form::Answer));
                        }
                    }
                }
                sentinel.questions(now);
                prop_assert_eq!(sentinel.accusations(now), []);
            }
        }
    }
}
