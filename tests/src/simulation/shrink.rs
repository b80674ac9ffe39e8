//! Makes a failing scenario small: what it still fails without is taken away.

use super::invariants::Violation;
use super::lan::run;
use super::scenario::{Event, Scenario};
use super::story::Story;

/// A scenario that violates the same invariant as `scenario` does, and from which nothing more can
/// be taken; with what it violates. `None` if `scenario` violates nothing.
pub fn shrink(scenario: &Scenario) -> Option<(Scenario, Violation)> {
    let mut best = Best {
        violation: run(scenario, Story::default()).violation?,
        scenario: scenario.clone(),
    };
    best.cut_end();
    loop {
        let size = best.size();
        best.drop_routers();
        best.drop_steps();
        best.calm();
        best.cut_end();
        if best.size() == size {
            return Some((best.scenario, best.violation));
        }
    }
}

struct Best {
    scenario: Scenario,
    violation: Violation,
}

impl Best {
    fn size(&self) -> (usize, usize) {
        (self.scenario.routers.len(), self.scenario.steps.len())
    }

    /// Takes `candidate` if it violates the same.
    fn try_one(&mut self, candidate: Scenario) -> bool {
        match run(&candidate, Story::default()).violation {
            Some(violation) if violation.invariant == self.violation.invariant => {
                self.scenario = candidate;
                self.violation = violation;
                true
            }
            _ => false,
        }
    }

    fn drop_routers(&mut self) {
        let numbers: Vec<_> = self
            .scenario
            .routers
            .iter()
            .map(|plan| plan.number)
            .collect();
        for number in numbers {
            let mut candidate = self.scenario.clone();
            candidate.routers.retain(|plan| plan.number != number);
            candidate
                .steps
                .retain(|step| !matches!(step.event, Event::Router(who, _) if who == number));
            if !candidate.routers.is_empty() {
                self.try_one(candidate);
            }
        }
    }

    /// Half of them, a quarter, and so on to each by itself, from the end.
    fn drop_steps(&mut self) {
        let mut length = self.scenario.steps.len().div_ceil(2);
        while length > 0 {
            let mut end = self.scenario.steps.len();
            while end > 0 {
                let start = end.saturating_sub(length);
                let mut candidate = self.scenario.clone();
                candidate.steps.drain(start..end);
                self.try_one(candidate);
                end = start.min(self.scenario.steps.len());
            }
            length = if length == 1 { 0 } else { length.div_ceil(2) };
        }
    }

    /// Duplicates and signatures are rarely what it was.
    fn calm(&mut self) {
        let mut candidate = self.scenario.clone();
        candidate.weather.duplicates = 0;
        self.try_one(candidate);
        let mut candidate = self.scenario.clone();
        candidate.signed = false;
        self.try_one(candidate);
        let mut candidate = self.scenario.clone();
        candidate.unicast = false;
        self.try_one(candidate);
    }

    fn cut_end(&mut self) {
        let mut candidate = self.scenario.clone();
        candidate.length = self.violation.at;
        candidate.steps.retain(|step| step.at <= self.violation.at);
        self.try_one(candidate);
    }
}
