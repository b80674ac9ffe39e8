//! What happened, told for people: adverts that merely repeat themselves are counted.

use std::time::Duration;

use super::scenario::Number;

/// Lines, or nothing where nobody listens.
#[derive(Debug, Default)]
pub struct Story {
    lines: Option<Vec<String>>,
    /// Adverts since the last other line: of each router, as long as they stay the same.
    adverts: Vec<Adverts>,
}

#[derive(Debug)]
struct Adverts {
    from: Number,
    priority: u8,
    missed: Vec<Number>,
    first: Duration,
    last: Duration,
    times: u32,
}

impl Story {
    /// One that is told.
    pub fn told() -> Self {
        Self {
            lines: Some(Vec::new()),
            adverts: Vec::new(),
        }
    }

    pub(super) fn tell(&mut self, now: Duration, what: impl FnOnce() -> String) {
        if self.lines.is_some() {
            self.tell_adverts();
            self.push(now, &what());
        }
    }

    pub(super) fn advert(&mut self, now: Duration, from: Number, priority: u8, missed: &[Number]) {
        if self.lines.is_none() {
            return;
        }
        let same = |adverts: &&mut Adverts| {
            (adverts.from, adverts.priority) == (from, priority) && adverts.missed == missed
        };
        if let Some(adverts) = self.adverts.iter_mut().find(same) {
            adverts.last = now;
            adverts.times += 1;
            return;
        }
        if self.adverts.iter().any(|adverts| adverts.from == from) {
            self.tell_adverts();
        }
        self.adverts.push(Adverts {
            from,
            priority,
            missed: missed.to_vec(),
            first: now,
            last: now,
            times: 1,
        });
    }

    pub(super) fn into_lines(mut self) -> Vec<String> {
        self.tell_adverts();
        self.lines.unwrap_or_default()
    }

    fn tell_adverts(&mut self) {
        for adverts in std::mem::take(&mut self.adverts) {
            let Adverts {
                from,
                priority,
                missed,
                first,
                last,
                times,
            } = adverts;
            let mut line = format!("   router {from} advertises {priority}");
            if times > 1 {
                line += &format!(", {times} times until {:.6}s", last.as_secs_f64());
            }
            if !missed.is_empty() {
                line += &format!("; not heard by {missed:?}");
            }
            self.push(first, &line);
        }
    }

    fn push(&mut self, at: Duration, what: &str) {
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:12.6}s {what}", at.as_secs_f64()));
        }
    }
}
