//! Announcements in their order and at their pace.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::address::Placed;

/// What is still to be announced, one packet after the other.
#[derive(Debug)]
pub(super) struct Announcer {
    pause: Duration,
    queue: VecDeque<Placed>,
    due: Option<Instant>,
}

impl Announcer {
    /// Lets `pause` pass between two packets; none if it is zero.
    pub(super) fn new(pause: Duration) -> Self {
        Self {
            pause,
            queue: VecDeque::new(),
            due: None,
        }
    }

    /// Another pace from the next packet on.
    pub(super) fn set_pause(&mut self, pause: Duration) {
        self.pause = pause;
    }

    /// Adds a round of these behind those under way, of which there are `most` at a time: at a slow
    /// pace refreshes must not pile up.
    pub(super) fn begin(&mut self, now: Instant, addresses: &[Placed], most: u8) {
        if self.queue.len() < addresses.len() * usize::from(most) {
            self.queue.extend(addresses.iter().cloned());
            self.due.get_or_insert(now);
        }
    }

    /// Forgets what is left: the addresses are somebody else's now.
    pub(super) fn cancel(&mut self) {
        self.queue.clear();
        self.due = None;
    }

    /// When the next packet may go, if there is one.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due.filter(|_| !self.queue.is_empty())
    }

    /// The next address to announce now.
    pub(super) fn next(&mut self, now: Instant) -> Option<Placed> {
        if self.due()? > now {
            return None;
        }
        let placed = self.queue.pop_front()?;
        // The pause holds between rounds too.
        self.due = (!self.pause.is_zero() || !self.queue.is_empty()).then_some(now + self.pause);
        Some(placed)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::VirtualAddress;

    fn addresses(count: u8) -> Vec<Placed> {
        (1..=count)
            .map(|last| Placed {
                interface_index: 2,
                address: VirtualAddress {
                    address: [192, 168, 56, last].into(),
                    prefix_length: 24,
                    interface: None,
                    scope: crate::config::AddressScope::Global,
                    label: None,
                },
                fixed: false,
            })
            .collect()
    }

    #[test]
    fn without_a_pause_a_round_goes_at_once() {
        let now = Instant::now();
        let mut announcer = Announcer::new(Duration::ZERO);
        for _ in 0..2 {
            announcer.begin(now, &addresses(3), 5);
            assert_eq!(announcer.due(), Some(now));
            assert_eq!(std::iter::from_fn(|| announcer.next(now)).count(), 3);
            assert_eq!(announcer.due(), None);
        }
    }

    #[test]
    fn a_pause_lies_between_two_packets_and_between_rounds() {
        let start = Instant::now();
        let pause = Duration::from_millis(10);
        let mut announcer = Announcer::new(pause);
        announcer.begin(start, &addresses(2), 1);
        assert!(announcer.next(start).is_some());
        assert!(announcer.next(start).is_none());
        assert_eq!(announcer.due(), Some(start + pause));
        assert!(announcer.next(start + pause).is_some());
        assert_eq!(announcer.due(), None);
        announcer.begin(start + pause, &addresses(2), 1);
        assert_eq!(announcer.due(), Some(start + pause * 2));
        announcer.cancel();
        assert_eq!(announcer.due(), None);
    }

    #[test]
    fn rounds_that_take_long_follow_each_other_and_do_not_pile_up() {
        let start = Instant::now();
        let pause = Duration::from_millis(10);
        let mut announcer = Announcer::new(pause);
        for _ in 0..100 {
            announcer.begin(start, &addresses(2), 3);
        }
        let packets = (0..100).filter_map(|step| announcer.next(start + pause * step));
        let told: Vec<_> = packets.map(|placed| placed.address.address).collect();
        let round = addresses(2)
            .into_iter()
            .map(|placed| placed.address.address);
        let rounds = std::iter::repeat_n(round, 3).flatten();
        assert_eq!(told, rounds.collect::<Vec<_>>());
    }
}
