//! A server that returns gets its share by and by: a resolver's cache is cold, and a server that has
//! just started isn't asked at full rate at once.
//!
//! The ramp has ten steps. The first is 5 % rather than nothing, and every later one is what a straight
//! line from nothing to all has reached at its beginning.

use std::time::{Duration, Instant};

use super::Percent;

const STEPS: u32 = 10;

/// While the straight line has nothing yet.
const FIRST: Percent = Percent::new(5);

/// The share of a server that returned at `since`, with a ramp of `over`, and when it is the next one;
/// never again once it has all.
pub(super) fn share(over: Duration, since: Instant, now: Instant) -> (Percent, Option<Instant>) {
    let step = over / STEPS;
    let elapsed = now.saturating_duration_since(since);
    let begun = (1..=STEPS).take_while(|number| elapsed >= step * *number);
    match begun.last().unwrap_or(0) {
        STEPS => (Percent::ALL, None),
        0 => (FIRST, Some(since + step)),
        number => (
            Percent::new(u64::from(number * 100 / STEPS)),
            Some(since + step * (number + 1)),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_grows_in_steps_and_says_when_next() {
        let since = Instant::now();
        let over = Duration::from_secs(30);
        let mut now = since;
        let mut shares = Vec::new();
        loop {
            let (percent, next) = share(over, since, now);
            shares.push(percent.get());
            let Some(next) = next else { break };
            assert!(next > now);
            let (same, _) = share(over, since, next - Duration::from_nanos(1));
            assert_eq!(same, percent, "nothing changes before it says so");
            now = next;
        }
        assert_eq!(shares, [5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100]);
        assert_eq!(now, since + over);
    }

    #[test]
    fn it_never_falls_and_never_exceeds_the_straight_line_by_more_than_its_first_step() {
        let since = Instant::now();
        for over in [1_000_u64, 7_777, 3_600_000] {
            let mut last = Percent::NONE;
            for thousandth in 0..=1100 {
                let elapsed = Duration::from_millis(over * thousandth / 1000);
                let (percent, next) = share(Duration::from_millis(over), since, since + elapsed);
                assert!(percent >= last);
                let line = Percent::new(thousandth / 10);
                assert!(percent <= line.max(FIRST), "{percent} at {thousandth}");
                assert_eq!(percent == Percent::ALL, next.is_none());
                last = percent;
            }
        }
    }
}
