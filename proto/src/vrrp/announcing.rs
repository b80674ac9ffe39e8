//! When an Active announces its addresses.

use core::time::Duration;
use std::time::Instant;

use super::Announcements;

/// Between the rounds of a burst: long enough for a neighbour that was busy, or answered by somebody
/// else meanwhile, to be told again.
const ROUND_PAUSE: Duration = Duration::from_millis(20);
/// Whatever others do, they cause no more than a burst in this time.
const BURST_PAUSE: Duration = Duration::from_secs(1);

/// The rounds to come.
#[derive(Clone, Debug, Default)]
pub(super) struct Announcing {
    rounds_left: u8,
    second: Option<Instant>,
    /// The last burst that others caused.
    caused_at: Option<Instant>,
    /// And the next one, while it has to wait.
    caused_due: Option<Instant>,
}

impl Announcing {
    /// A promotion: a burst now, and another one later.
    pub(super) fn promoted(&mut self, now: Instant, how: &Announcements) {
        self.second = how.second_after.map(|pause| now + pause);
        self.caused_due = None;
        self.rounds_left = how.burst;
    }

    /// The LAN may have learned something else: a burst now, or as soon as others may cause one again.
    /// Returns when the next [`Self::round`] is due, unless one of a burst is already.
    pub(super) fn again(&mut self, now: Instant, how: &Announcements) -> Option<Instant> {
        match self.caused_at.map(|last| last + BURST_PAUSE) {
            Some(allowed) if now < allowed => {
                self.caused_due = Some(allowed);
                let next = self.second.map_or(allowed, |second| second.min(allowed));
                (self.rounds_left == 0).then_some(next)
            }
            _ => {
                self.burst_for_others(now, how);
                Some(now)
            }
        }
    }

    /// A round is announced now. Returns when the next one is due.
    pub(super) fn round(&mut self, now: Instant, how: &Announcements) -> Option<Instant> {
        let is_due = |due: Option<Instant>| due.is_some_and(|due| due <= now);
        if self.rounds_left == 0 && is_due(self.second) {
            self.second = None;
            self.rounds_left = how.burst;
        }
        if self.rounds_left == 0 && is_due(self.caused_due) {
            self.burst_for_others(now, how);
        }
        self.rounds_left = self.rounds_left.saturating_sub(1);
        if self.rounds_left > 0 {
            return Some(now + ROUND_PAUSE);
        }
        let refresh = how.refresh.map(|pause| now + pause);
        [self.second, self.caused_due, refresh]
            .into_iter()
            .flatten()
            .min()
    }

    fn burst_for_others(&mut self, now: Instant, how: &Announcements) {
        self.caused_at = Some(now);
        self.caused_due = None;
        self.rounds_left = how.burst;
    }
}
