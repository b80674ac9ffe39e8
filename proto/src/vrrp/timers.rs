//! The timers of one virtual router.

use std::time::Instant;

/// What may be due; of what is due at the same moment, the first comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// A handover ends: nobody was heard, or somebody was and has taken over. Nothing is sent when it's
    /// due.
    Handover,
    /// The next advert of an Active (`Adver_Timer`).
    Advert,
    /// The Active has been silent too long (`Active_Down_Timer`).
    ActiveDown,
    /// The addresses are announced again.
    Announce,
}

impl Timer {
    const ALL: [Self; 4] = [
        Self::Handover,
        Self::Advert,
        Self::ActiveDown,
        Self::Announce,
    ];
}

/// One deadline for each [`Timer`], or none.
#[derive(Clone, Debug, Default)]
pub struct TimerTable([Option<Instant>; Timer::ALL.len()]);

impl TimerTable {
    /// Starts a timer, or starts it anew.
    pub fn set(&mut self, timer: Timer, deadline: Instant) {
        self.0[timer as usize] = Some(deadline);
    }

    /// Stops a timer.
    pub fn stop(&mut self, timer: Timer) {
        self.0[timer as usize] = None;
    }

    /// Stops all timers.
    pub fn stop_all(&mut self) {
        *self = Self::default();
    }

    /// When a timer is due.
    pub fn get(&self, timer: Timer) -> Option<Instant> {
        self.0[timer as usize]
    }

    /// When the next timer is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.0.iter().flatten().min().copied()
    }

    /// Takes the earliest timer that is due at `now`, and stops it.
    pub fn expire(&mut self, now: Instant) -> Option<(Timer, Instant)> {
        let (timer, deadline) = Timer::ALL
            .into_iter()
            .filter_map(|timer| Some((timer, self.get(timer)?)))
            .filter(|(_, deadline)| *deadline <= now)
            .min_by_key(|(_, deadline)| *deadline)?;
        self.stop(timer);
        Some((timer, deadline))
    }
}
