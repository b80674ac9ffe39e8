//! The words of the state machine: states, why they change, what there is to do.

use core::fmt;
use core::net::IpAddr;
use core::time::Duration;
use std::time::Instant;

use super::{Advert, ChecksumForm, Version};

/// RFC 9568, section 6.4, and what keeps a router from taking part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Not running.
    Initialize,
    /// Watches the Active.
    Backup,
    /// Holds the addresses.
    Active,
    /// Can't take part: see [`super::Instance::faults`].
    Fault,
}

impl State {
    /// All states.
    pub const ALL: [Self; 4] = [Self::Initialize, Self::Backup, Self::Active, Self::Fault];
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Initialize => "initialize",
            Self::Backup => "backup",
            Self::Active => "active",
            Self::Fault => "fault",
        })
    }
}

/// Whether the addresses are on this machine, as far as the actions were carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// They are not.
    Absent,
    /// Found at start, left by a predecessor: kept until another Active is heard.
    Adopting,
    /// Held by an Active.
    Held,
    /// Held by an Active that has said that it leaves, until the next one was heard.
    HandingOver,
}

/// What keeps a router from taking part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// Its interface doesn't exist.
    InterfaceMissing,
    /// Its interface is down, or has no carrier.
    LinkDown,
    /// Its interface has no address to send from.
    NoAddress,
    /// Something that it tracks fails.
    Tracking,
    /// Another member of its group is in fault.
    Group,
}

impl Fault {
    /// One word.
    pub fn label(self) -> &'static str {
        match self {
            Self::InterfaceMissing => "interface_missing",
            Self::LinkDown => "link_down",
            Self::NoAddress => "no_address",
            Self::Tracking => "tracking",
            Self::Group => "group_fault",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::InterfaceMissing => "its interface does not exist",
            Self::LinkDown => "its interface has no link",
            Self::NoAddress => "its interface has no address to send from",
            Self::Tracking => "something it tracks fails",
            Self::Group => "another member of its group is in fault",
        })
    }
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
        active: IpAddr,
        /// Its priority.
        priority: u8,
    },
    /// Another router has a higher priority, or the same and a larger address.
    Outranked {
        /// Its address.
        by: IpAddr,
        /// Its priority.
        priority: u8,
    },
    /// This router was stopped or starved for longer than others wait for an advert.
    Stalled,
    /// It can't take part.
    Fault(Fault),
    /// It can take part again.
    Recovered,
    /// It was asked to hand over, and another has taken over.
    HandedOver {
        /// Who.
        to: IpAddr,
    },
    /// The other members of its group went this way.
    Group,
    /// The protocol stops.
    Stopped,
}

impl Reason {
    /// One word, without addresses and numbers.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::NothingHeard => "nothing_heard",
            Self::ActiveLeft => "active_left",
            Self::Preempting { .. } => "preempting",
            Self::Outranked { .. } => "outranked",
            Self::Stalled => "stalled",
            Self::Fault(fault) => fault.label(),
            Self::Recovered => "recovered",
            Self::HandedOver { .. } => "handed_over",
            Self::Group => "group",
            Self::Stopped => "stopped",
        }
    }
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
            Self::Stalled => formatter
                .write_str("this director was stopped for longer than the others would wait"),
            Self::Fault(fault) => fault.fmt(formatter),
            Self::Recovered => formatter.write_str("recovered"),
            Self::HandedOver { to } => write!(formatter, "handed over to {to}"),
            Self::Group => formatter.write_str("its group went this way"),
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

impl Transition {
    /// Every state that is entered with each reason that there is for it ([`Reason::label`]).
    pub const KINDS: [(State, &'static str); 18] = [
        (State::Initialize, "stopped"),
        (State::Backup, "started"),
        (State::Backup, "recovered"),
        (State::Backup, "outranked"),
        (State::Backup, "handed_over"),
        (State::Backup, "stalled"),
        (State::Backup, "group"),
        (State::Active, "started"),
        (State::Active, "recovered"),
        (State::Active, "nothing_heard"),
        (State::Active, "active_left"),
        (State::Active, "preempting"),
        (State::Active, "group"),
        (State::Fault, "interface_missing"),
        (State::Fault, "link_down"),
        (State::Fault, "no_address"),
        (State::Fault, "tracking"),
        (State::Fault, "group_fault"),
    ];

    /// Which of [`Self::KINDS`] it is.
    pub fn kind(&self) -> (State, &'static str) {
        (self.to, self.reason.label())
    }
}

/// What the caller has to do, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this advert to every destination. The caller looks at the clock once more before it
    /// does: [`super::Instance::has_stalled`].
    SendAdvert(Advert),
    /// Put the addresses on the interface; those that are there already stay.
    AddAddresses,
    /// Take the addresses off the interface.
    RemoveAddresses,
    /// Announce every address once.
    Announce,
    /// Tell whoever wants to know.
    Report(Transition),
    /// Nobody took over from a router that wanted to hand over: it goes on as before.
    HandoverUnanswered,
}

/// How long a router that was asked to hand over leaves others alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aside {
    /// Until this time.
    Until(Instant),
    /// Until [`super::Instance::handle_release`].
    UntilReleased,
}

impl Aside {
    /// For that long from `now`; until released if there is no time, or it is longer than a clock
    /// can count.
    pub fn lasting(now: Instant, time: Option<Duration>) -> Self {
        time.and_then(|time| now.checked_add(time))
            .map_or(Self::UntilReleased, Self::Until)
    }
}

/// The Active that a router hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Active {
    /// Its address.
    pub address: IpAddr,
    /// Its priority.
    pub priority: u8,
    /// Its version.
    pub version: Version,
    /// Its interval, as it says.
    pub interval: Duration,
    /// What its checksums cover.
    pub form: ChecksumForm,
    /// Whether its adverts prove who sent them.
    pub authenticated: bool,
    /// When it was heard last.
    pub heard_at: Instant,
}

/// An advert that was accepted, and what is odd about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The advert.
    pub advert: Advert,
    /// What its checksum covers.
    pub form: ChecksumForm,
    /// Its addresses are not ours: a reason to say so, never to drop it (RFC 9568, section 7.1).
    pub addresses_differ: bool,
    /// Its interval is not ours.
    pub interval_differs: bool,
    /// Its first address isn't link-local, which over IPv6 it should be (erratum 8300).
    pub first_address_not_link_local: bool,
    /// It comes from an owner of the addresses as we are one: one of the two isn't (erratum 8298).
    pub second_owner: bool,
    /// How near it came to being too late; `None` unless this router is Backup and follows its sender,
    /// and for the first of a sender.
    pub silence: Option<Silence>,
}

/// The time between two adverts of the Active, as a Backup saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Silence {
    /// How long it was.
    pub lasted: Duration,
    /// How long it might be: the active-down interval then.
    pub limit: Duration,
}

impl Silence {
    /// The share of the active-down interval: at 1 a Backup takes over.
    pub fn ratio(&self) -> f64 {
        self.lasted.as_secs_f64() / self.limit.as_secs_f64()
    }
}

/// How close to a needless failover this router came in its present state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Margins {
    /// As Backup: the longest time between two adverts of the Active.
    pub longest_silence: Duration,
    /// As Active: the most that an advert was late.
    pub longest_lateness: Duration,
}
