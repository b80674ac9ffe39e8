//! One event.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Counts up from 1, over restarts too.
    pub number: u64,
    /// When, to the millisecond, as RFC 3339 has it in UTC.
    #[serde(with = "time::serde::rfc3339")]
    pub time: OffsetDateTime,
    /// How much it matters.
    pub severity: Severity,
    /// What kind of thing.
    pub kind: Kind,
    /// Whom it concerns: an instance, a service, or `SERVICE/SERVER`; the whole director if null.
    pub subject: Option<String>,
    /// All of it on one line, for people.
    pub text: String,
    /// What the text says, for programs: keys depend on the kind.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, Value>,
}

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// As it should be.
    Info,
    /// Clients are served, and somebody should see to it.
    Warning,
    /// Clients may not be served.
    Error,
}

impl Severity {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// What kind of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A worker has started: `version`, `node`.
    Started,
    /// It was told to stop.
    Stopping,
    /// It has left in order.
    Stopped,
    /// A worker has died, or ended without a word.
    Crashed,
    /// The file with events was damaged.
    EventsDamaged,
    /// An instance has another state: `from`, `to`, `reason`, `priority`.
    RoleChanged,
    /// What an instance tracks gives it another priority: `priority`, `configured`, `causes`.
    PriorityChanged,
    /// What an instance tracks keeps it in fault: `reason`.
    FaultBegan,
    /// It doesn't any more.
    FaultEnded,
    /// An instance's services can be served from here.
    Ready,
    /// They can't: `reason`.
    NotReady,
    /// Another router was asked to take over: `outcome`.
    Handover,
    /// Standing aside was ended by hand.
    Released,
    /// Something is odd about what other routers say, or about the instance's own interface or addresses.
    VrrpTrouble,
    /// That is over.
    VrrpWell,
    /// A VIP was gone from its interface, and was put back: `address`.
    AddressRestored,
    /// Another machine claims a VIP: `address`, `interface`, `hardware_address`.
    AddressConflict,
    /// It does no longer.
    AddressConflictOver,
    /// Real servers take queries again: `pools`, `after_seconds`.
    ServerIn,
    /// They fail, and take queries for the floor's sake: `pools`, `after_seconds`, `reason`.
    ServerKept,
    /// They take nothing new, as they said themselves: `pools`, `after_seconds`, `reason`.
    ServerDrained,
    /// They are out: `pools`, `after_seconds`, `reason`.
    ServerOut,
    /// They were taken out, as they said themselves.
    ServerDisabled,
    /// An operator has drained, disabled or enabled a server: `state`, `was`, `for_seconds`, `reason`.
    Hand,
    /// The time of that is over: `was`.
    HandExpired,
    /// A service has too few healthy servers: `pool`, `healthy`, `needed`.
    QuorumLost,
    /// It has enough again: `pool`, `healthy`.
    QuorumRegained,
    /// Servers are kept against their checks: `pool`, `kept`.
    FloorReached,
    /// None is any more: `pool`.
    FloorLeft,
    /// Nobody else is left, and the sorry server answers: `pool`, `server`.
    SorryServerIn,
    /// It's out again: `pool`.
    SorryServerOut,
    /// No real server answers by the way that clients' queries go.
    PathSilent,
    /// One does again.
    PathAnswers,
    /// The DNS data of a real server are not as they should be.
    DataTrouble,
    /// They are again.
    DataWell,
    /// The file was read again: `changes`, `waiting`, `failures`.
    Reloaded,
    /// It has mistakes, or can't be: `errors`.
    ReloadRefused,
    /// Somebody else has changed the forwarding table, and it was put right.
    TableRepaired,
    /// Something is wrong with the forwarding table: `problems`.
    TableTrouble,
    /// Nothing is any more.
    TableWell,
    /// Of a kind that this version doesn't know.
    #[serde(other)]
    Other,
}

impl Kind {
    /// What says that it is over, where that is said.
    pub(super) fn end(self) -> Option<Self> {
        match self {
            Self::AddressConflict => Some(Self::AddressConflictOver),
            Self::VrrpTrouble => Some(Self::VrrpWell),
            _ => None,
        }
    }

    /// Whether it tells of real servers, which may flap by the hundred.
    pub(super) fn is_of_servers(self) -> bool {
        matches!(
            self,
            Self::ServerIn
                | Self::ServerKept
                | Self::ServerDrained
                | Self::ServerOut
                | Self::ServerDisabled
        )
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As JSON has it.
        self.serialize(formatter)
    }
}

/// What is to be recorded: an event without its number and its time.
#[derive(Clone, Debug, PartialEq)]
pub struct Occurrence {
    pub(super) severity: Severity,
    pub(super) kind: Kind,
    pub(super) subject: Option<String>,
    pub(super) text: String,
    pub(super) details: BTreeMap<String, Value>,
}

impl Occurrence {
    /// Something that concerns the whole director, in a line for people.
    pub fn new(kind: Kind, severity: Severity, text: impl Into<String>) -> Self {
        Self {
            severity,
            kind,
            subject: None,
            text: text.into(),
            details: BTreeMap::new(),
        }
    }

    /// The same of an instance, a service, or `SERVICE/SERVER`.
    pub fn of(self, subject: impl Into<String>) -> Self {
        Self {
            subject: Some(subject.into()),
            ..self
        }
    }

    /// The same with something for programs.
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.details.insert(key.to_owned(), value.into());
        self
    }

    /// What kind of thing it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The event that it becomes, to the millisecond.
    pub(crate) fn at(self, number: u64, time: OffsetDateTime) -> Event {
        let millisecond = time.millisecond();
        Event {
            number,
            time: time
                .replace_millisecond(millisecond)
                .expect("it's the one that it has"),
            severity: self.severity,
            kind: self.kind,
            subject: self.subject,
            text: self.text,
            details: self.details,
        }
    }
}
