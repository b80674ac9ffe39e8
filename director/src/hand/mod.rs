//! The operator's hand: servers that are drained or disabled, whatever their checks say.
//!
//! `director drain` and its siblings come here through the control socket; the [`crate::engine`] obeys.
//! What was said is kept in the state directory, so that it outlives the process, and its end by the
//! clock on the wall, so that it comes whether or not a director runs.

mod keeper;
mod place;
mod store;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use lvs_proto::health;
use serde::{Deserialize, Serialize};

use crate::config::RealServerKey;

pub use keeper::Keeper;
pub use place::{Pattern, PatternError, Place};
pub use store::peek;

/// How an operator wants a server to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It takes part.
    Enabled,
    /// It takes nothing new and keeps what it has: its weight is 0.
    Drained,
    /// It is out.
    Disabled,
}

impl State {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Drained => "drained",
            Self::Disabled => "disabled",
        }
    }
}

impl From<State> for health::Hand {
    fn from(state: State) -> Self {
        match state {
            State::Enabled => Self::Enabled,
            State::Drained => Self::Drained,
            State::Disabled => Self::Disabled,
        }
    }
}

/// What was said of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Never [`State::Enabled`].
    pub state: State,
    /// When it ends by itself.
    pub until: Option<SystemTime>,
    /// Why, in the operator's words.
    pub reason: Option<String>,
}

/// What was said of all servers; who isn't listed is enabled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hands(BTreeMap<Place, Entry>);

/// What an operator says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Of whom.
    pub servers: Pattern,
    /// How they are to be.
    pub state: State,
    /// For how long; until told otherwise without.
    pub time: Option<Duration>,
    /// Why.
    pub reason: Option<String>,
}

impl Hands {
    /// What was said of a server, if anything.
    pub fn of(&self, service: &str, real_server: RealServerKey) -> Option<&Entry> {
        self.0.get(&Place {
            service: service.to_owned(),
            real_server,
        })
    }

    /// All that were said something of.
    pub fn iter(&self) -> impl Iterator<Item = (&Place, &Entry)> {
        self.0.iter()
    }

    /// Obeys an order, with what servers there are, and says which it concerns and how they were. Of one
    /// that isn't there any more the hand can still be taken off.
    pub fn obey(
        &mut self,
        order: &Order,
        present: impl IntoIterator<Item = Place>,
        now: SystemTime,
    ) -> Vec<(Place, State)> {
        let mut places: Vec<Place> = present
            .into_iter()
            .filter(|place| order.servers.matches(place))
            .collect();
        if order.state == State::Enabled {
            let listed = self.0.keys().filter(|place| order.servers.matches(place));
            places.extend(listed.cloned());
        }
        places.sort();
        places.dedup();
        places
            .into_iter()
            .map(|place| {
                let before = if order.state == State::Enabled {
                    self.0.remove(&place)
                } else {
                    let entry = Entry {
                        state: order.state,
                        until: order.time.and_then(|time| now.checked_add(time)),
                        reason: order.reason.clone(),
                    };
                    self.0.insert(place.clone(), entry)
                };
                (place, before.map_or(State::Enabled, |before| before.state))
            })
            .collect()
    }

    /// Takes the hand off those whose time is over, and says which.
    pub fn expire(&mut self, now: SystemTime) -> Vec<(Place, Entry)> {
        let over = |entry: &Entry| entry.until.is_some_and(|until| until <= now);
        let expired: Vec<_> = self.0.iter().filter(|(_, entry)| over(entry)).collect();
        let expired: Vec<(Place, Entry)> = expired
            .into_iter()
            .map(|(place, entry)| (place.clone(), entry.clone()))
            .collect();
        self.0.retain(|_, entry| !over(entry));
        expired
    }

    /// How long until the next one's time is over; nothing if none has one.
    pub fn next_expiry(&self, now: SystemTime) -> Option<Duration> {
        let ends = self.0.values().filter_map(|entry| entry.until);
        let next = ends.min()?;
        Some(next.duration_since(now).unwrap_or_default())
    }
}

impl FromIterator<(Place, Entry)> for Hands {
    fn from_iter<I: IntoIterator<Item = (Place, Entry)>>(entries: I) -> Self {
        Self(entries.into_iter().collect())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn places(texts: &[&str]) -> Vec<Place> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn order(servers: &str, state: State, seconds: Option<u64>) -> Order {
        Order {
            servers: servers.parse().unwrap(),
            state,
            time: seconds.map(Duration::from_secs),
            reason: Some("upgrade".to_owned()),
        }
    }

    fn words(touched: &[(Place, State)]) -> Vec<String> {
        let words = |(place, was): &(Place, State)| format!("{place} {}", was.word());
        touched.iter().map(words).collect()
    }

    const PRESENT: [&str; 4] = [
        "a/192.0.2.1",
        "a/192.0.2.2",
        "b/192.0.2.1",
        "b/192.0.2.1:5353",
    ];

    #[test]
    fn one_server_or_all_of_a_service_or_one_in_all_services_is_meant() {
        let now = SystemTime::UNIX_EPOCH;
        for (pattern, expected) in [
            ("a/192.0.2.1", &PRESENT[..1]),
            ("a/*", &PRESENT[..2]),
            // A server is all of its ports, unless one is named.
            (
                "*/192.0.2.1",
                &["a/192.0.2.1", "b/192.0.2.1", "b/192.0.2.1:5353"],
            ),
            ("*/192.0.2.1:5353", &PRESENT[3..]),
            ("*/*", &PRESENT),
            ("c/*", &[]),
        ] {
            let mut hands = Hands::default();
            let touched = hands.obey(&order(pattern, State::Drained, None), places(&PRESENT), now);
            let touched: Vec<_> = touched.iter().map(|(place, _)| place.to_string()).collect();
            assert_eq!(touched, expected, "{pattern}");
            assert_eq!(hands.iter().count(), expected.len());
        }
    }

    #[test]
    fn a_hand_ends_by_the_clock_or_by_the_next_order() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let mut hands = Hands::default();
        hands.obey(
            &order("a/*", State::Drained, Some(60)),
            places(&PRESENT),
            now,
        );
        let again = order("a/192.0.2.2", State::Disabled, Some(10));
        let touched = hands.obey(&again, places(&PRESENT), now);
        assert_eq!(words(&touched), ["a/192.0.2.2 drained"]);
        assert_eq!(hands.next_expiry(now), Some(Duration::from_secs(10)));
        assert!(hands.expire(now + Duration::from_secs(9)).is_empty());
        let expired = hands.expire(now + Duration::from_secs(10));
        assert_eq!(expired[0].0.to_string(), "a/192.0.2.2");
        assert_eq!(expired[0].1.reason.as_deref(), Some("upgrade"));
        let key = "192.0.2.1".parse().unwrap();
        assert_eq!(hands.of("a", key).unwrap().state, State::Drained);
        // What isn't configured any more can be taken off, and nothing else.
        let enable = order("*/*", State::Enabled, None);
        assert_eq!(
            words(&hands.clone().obey(&enable, [], now)),
            ["a/192.0.2.1 drained"]
        );
        let touched = hands.obey(&enable, places(&PRESENT[1..2]), now);
        assert_eq!(
            words(&touched),
            ["a/192.0.2.1 drained", "a/192.0.2.2 enabled"]
        );
        assert_eq!(hands, Hands::default());
        assert_eq!(hands.next_expiry(now), None);
    }
}
