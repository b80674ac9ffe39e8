//! Saying that somebody else changes the table, but not at every repair.

use std::time::{Duration, Instant};

use super::change::Change;

/// Repairs that are closer together than this are one burst.
const QUIET: Duration = Duration::from_secs(10);

/// How often something is said of a burst that goes on.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// What ends a fight over the table.
const ADVICE: &str = "to change it, change the file and run `director reload`; if nobody did, look for \
                      a keepalived or a script that runs ipvsadm";

/// The repairs of the present burst.
#[derive(Debug, Default)]
pub(super) struct Repairs {
    last: Option<Instant>,
    said: Option<Instant>,
    unsaid: usize,
    /// What was said of the burst at first.
    first: String,
}

impl Repairs {
    /// Takes what was repaired; what to say about it, which is nothing within a burst but once a
    /// minute.
    pub(super) fn repaired(&mut self, changes: &[Change], now: Instant) -> Option<String> {
        let what = || listed(changes.iter());
        if self.last.replace(now).is_none() {
            self.said = Some(now);
            self.first = format!(
                "somebody else has changed it; put right: {}; {ADVICE}",
                what()
            );
            return Some(self.first.clone());
        }
        self.unsaid += changes.len();
        let said = self.said?;
        if now.saturating_duration_since(said) < SAID_EVERY {
            return None;
        }
        self.said = Some(now);
        let count = std::mem::take(&mut self.unsaid);
        Some(format!(
            "somebody else goes on changing it; {count} more changes put right, the last: {}; {ADVICE}",
            what()
        ))
    }

    /// What is wrong while a burst lasts.
    pub(super) fn present(&self) -> Option<&str> {
        self.last.map(|_| self.first.as_str())
    }

    /// What to say when a burst is over of which not all was said.
    pub(super) fn quiet(&mut self, now: Instant) -> Option<String> {
        let last = self.last?;
        if now.saturating_duration_since(last) < QUIET {
            return None;
        }
        self.last = None;
        let unsaid = std::mem::take(&mut self.unsaid);
        (unsaid > 0).then(|| format!("{unsaid} more changes by somebody else were put right"))
    }
}

/// The first few changes, and how many more there are.
pub(super) fn listed<'a>(changes: impl ExactSizeIterator<Item = &'a Change>) -> String {
    const FEW: usize = 8;
    let more = changes.len().saturating_sub(FEW);
    let mut lines: Vec<String> = changes.take(FEW).map(ToString::to_string).collect();
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    lines.join("; ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn changes(count: usize) -> Vec<Change> {
        let change = Change::Setting {
            name: "net.ipv4.vs.expire_nodest_conn".into(),
            from: "0".into(),
            to: "1".into(),
        };
        vec![change; count]
    }

    #[test]
    fn a_burst_is_told_once_and_counted_at_its_end() {
        let mut repairs = Repairs::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let first = repairs.repaired(&changes(1), at(0)).unwrap();
        assert!(
            first.contains("expire_nodest_conn: 0 → 1; to change it"),
            "{first}"
        );
        assert_eq!(repairs.present(), Some(&*first));
        assert_eq!(repairs.repaired(&changes(2), at(1)), None);
        assert_eq!(repairs.repaired(&changes(2), at(9)), None);
        assert_eq!(repairs.quiet(at(18)), None);
        let last = repairs.quiet(at(19)).unwrap();
        assert!(last.starts_with("4 more changes"), "{last}");
        assert_eq!(repairs.quiet(at(40)), None);
        assert_eq!(repairs.present(), None);
        // A burst of one repair has been told whole.
        assert!(repairs.repaired(&changes(1), at(50)).is_some());
        assert_eq!(repairs.quiet(at(70)), None);
        assert!(repairs.repaired(&changes(1), at(71)).is_some());
    }

    #[test]
    fn a_fight_is_told_once_a_minute_with_what_to_do() {
        let mut repairs = Repairs::default();
        let start = Instant::now();
        let said: Vec<(u64, String)> = (0..600)
            .filter_map(|half_seconds| {
                let now = start + Duration::from_millis(500 * half_seconds);
                assert_eq!(repairs.quiet(now), None);
                Some((half_seconds / 2, repairs.repaired(&changes(1), now)?))
            })
            .collect();
        let times: Vec<u64> = said.iter().map(|(second, _)| *second).collect();
        assert_eq!(times, [0, 60, 120, 180, 240]);
        let later = &said[1].1;
        assert!(later.contains("120 more changes put right"), "{later}");
        assert!(later.contains("`director reload`"), "{later}");
    }

    #[test]
    fn a_long_list_is_cut() {
        let text = listed(changes(2500).iter());
        assert_eq!(text.split("; ").count(), 9);
        assert!(text.ends_with("and 2492 more"), "{text}");
    }
}
