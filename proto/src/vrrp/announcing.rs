//! When an Active announces its addresses.

use core::time::Duration;
use std::time::Instant;

use super::Announcements;

/// Between the rounds of a burst: long enough for a neighbour that was busy, or answered by somebody
/// else meanwhile, to be told again.
const ROUND_PAUSE: Duration = Duration::from_millis(20);
/// A burst follows another no sooner, whatever others do.
const BURST_PAUSE: Duration = Duration::from_secs(1);

/// The rounds to come.
#[derive(Clone, Debug, Default)]
pub(super) struct Announcing {
    rounds_left: u8,
    second: Option<Instant>,
    burst_at: Option<Instant>,
}

impl Announcing {
    /// A promotion: a burst now, and another one later.
    pub(super) fn promoted(&mut self, now: Instant, how: &Announcements) {
        self.second = how.second_after.map(|pause| now + pause);
        self.burst(now, how);
    }

    /// The LAN may have learned something else: a burst now, or as soon as one is allowed again.
    /// Returns when the next [`Self::round`] is due.
    pub(super) fn again(&mut self, now: Instant, how: &Announcements) -> Instant {
        let allowed = self.burst_at.map_or(now, |last| last + BURST_PAUSE);
        if allowed <= now {
            self.burst(now, how);
            return now;
        }
        let second = self.second.map_or(allowed, |second| second.min(allowed));
        self.second = Some(second);
        if self.rounds_left > 0 {
            now + ROUND_PAUSE
        } else {
            second
        }
    }

    /// A round is announced now. Returns when the next one is due.
    pub(super) fn round(&mut self, now: Instant, how: &Announcements) -> Option<Instant> {
        if self.rounds_left == 0 && self.second.is_some_and(|due| due <= now) {
            self.second = None;
            self.burst(now, how);
        }
        self.rounds_left = self.rounds_left.saturating_sub(1);
        if self.rounds_left > 0 {
            return Some(now + ROUND_PAUSE);
        }
        let refresh = how.refresh.map(|pause| now + pause);
        [self.second, refresh].into_iter().flatten().min()
    }

    fn burst(&mut self, now: Instant, how: &Announcements) {
        self.burst_at = Some(now);
        self.rounds_left = how.burst;
    }
}
