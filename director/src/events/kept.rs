//! Which events are kept.

use std::collections::{VecDeque, vec_deque};

use super::Event;

/// So many are kept.
pub const CAPACITY: usize = 1000;

/// Of these, so many of real servers when others want the place: one that flaps erases no history.
const OF_SERVERS: usize = CAPACITY / 2;

/// The last events, oldest first, with growing numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept {
    events: VecDeque<Event>,
    of_servers: usize,
}

impl Kept {
    /// Adds the newest; the oldest has to go for it where all places are taken.
    pub(super) fn push(&mut self, event: Event) {
        if self.events.len() == CAPACITY {
            let goes = |event: &Event| self.of_servers <= OF_SERVERS || event.kind.is_of_servers();
            let oldest = self.events.iter().position(goes);
            let gone = oldest.and_then(|oldest| self.events.remove(oldest));
            self.of_servers -= usize::from(gone.is_some_and(|gone| gone.kind.is_of_servers()));
        }
        self.of_servers += usize::from(event.kind.is_of_servers());
        self.events.push_back(event);
    }

    pub(super) fn newest(&self) -> Option<&Event> {
        self.events.back()
    }

    pub(super) fn iter(&self) -> vec_deque::Iter<'_, Event> {
        self.events.iter()
    }

    /// The last `last` of those with a number above `number`.
    pub(super) fn after(&self, number: u64, last: usize) -> Vec<Event> {
        let first = self.events.partition_point(|event| event.number <= number);
        let first = first.max(self.events.len().saturating_sub(last));
        self.events.range(first..).cloned().collect()
    }
}

impl Extend<Event> for Kept {
    fn extend<E: IntoIterator<Item = Event>>(&mut self, events: E) {
        for event in events {
            self.push(event);
        }
    }
}

impl From<Kept> for Vec<Event> {
    fn from(kept: Kept) -> Self {
        kept.events.into()
    }
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::super::{Kind, Occurrence, Severity};
    use super::*;

    fn kept(kinds: impl IntoIterator<Item = Kind>) -> Vec<Event> {
        let mut kept = Kept::default();
        kept.extend((1..).zip(kinds).map(|(number, kind)| {
            Occurrence::new(kind, Severity::Info, "").at(number, OffsetDateTime::UNIX_EPOCH)
        }));
        kept.into()
    }

    fn count(events: &[Event], kind: Kind) -> usize {
        events.iter().filter(|event| event.kind == kind).count()
    }

    #[test]
    fn a_server_that_flaps_erases_no_history() {
        let history = [Kind::RoleChanged; 400];
        let flapping = [Kind::ServerOut, Kind::ServerIn].repeat(CAPACITY);
        let events = kept(history.into_iter().chain(flapping));
        assert_eq!(events.len(), CAPACITY);
        assert_eq!(count(&events, Kind::RoleChanged), 400);
        let last = events.last().map(|event| event.number);
        assert_eq!(last, Some(400 + 2 * CAPACITY as u64));
        assert_eq!(events[400].number, 400 + 2 * CAPACITY as u64 - 599);
    }

    #[test]
    fn events_of_servers_keep_half_of_the_places() {
        let servers = [Kind::ServerOut; CAPACITY];
        let others = [Kind::RoleChanged; 2 * CAPACITY];
        let events = kept(servers.into_iter().chain(others));
        assert_eq!(count(&events, Kind::RoleChanged), CAPACITY);
        let servers = [Kind::ServerOut; CAPACITY];
        let others = [Kind::RoleChanged; OF_SERVERS];
        let events = kept(servers.into_iter().chain(others));
        assert_eq!(count(&events, Kind::ServerOut), OF_SERVERS);
        assert_eq!(events[0].number, 1 + (CAPACITY - OF_SERVERS) as u64);
    }
}
