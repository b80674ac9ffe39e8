//! What the things that an instance tracks do to it. Pure: no clock, no runner.

use std::fmt;
use std::num::NonZeroI16;

use lvs_proto::vrrp::Priority;
use serde::{Deserialize, Serialize};

use crate::config::Effect;

/// A file's number times its weight that says: give the VIPs up. One lower than any weight.
const FAULT_PRODUCT: i64 = -254;

/// What is tracked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An interface: well with a carrier.
    Interface,
    /// A program that is run again and again.
    Script,
    /// A file with a number in it.
    File,
    /// A service: well with its quorum.
    Service,
}

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// Not heard of yet.
    Unknown,
    /// Well.
    Well,
    /// Not well.
    Failing,
}

impl Condition {
    /// Of something that is either well or not.
    pub(super) fn of(well: bool) -> Self {
        if well { Self::Well } else { Self::Failing }
    }
}

/// One thing that an instance tracks, and what it does to the instance now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tracked {
    /// What it is.
    pub kind: Kind,
    /// Its name; a file's path.
    pub name: String,
    /// How it is.
    pub condition: Condition,
    /// It keeps the instance in fault.
    pub fault: bool,
    /// What it adds to the priority.
    pub adds: i16,
}

impl Tracked {
    /// Something that is well or fails.
    ///
    /// What isn't known yet counts as well, but for a script whose failing is a fault: that is a
    /// fault while `unknown_is_fault`.
    pub(super) fn by_effect(
        kind: Kind,
        name: &str,
        condition: Condition,
        effect: Effect,
        unknown_is_fault: bool,
    ) -> Self {
        let failing = condition == Condition::Failing;
        let unknown = condition == Condition::Unknown && kind == Kind::Script;
        let (fault, adds) = match effect {
            Effect::Fault => (failing || unknown && unknown_is_fault, 0),
            // A penalty while it fails, a reward while it does not.
            Effect::Weight(weight) => {
                let weight = weight.get();
                let counts = failing == (weight < 0);
                (false, if counts { weight } else { 0 })
            }
        };
        Self {
            kind,
            name: name.to_owned(),
            condition,
            fault,
            adds,
        }
    }

    /// A file that says `number`, which is 0 when there is none.
    pub(super) fn by_number(
        name: String,
        condition: Condition,
        weight: NonZeroI16,
        number: i64,
    ) -> Self {
        let product = number.saturating_mul(weight.get().into());
        let fault = product <= FAULT_PRODUCT;
        // More than that changes nothing: the priority ends at 254.
        let adds = if fault {
            0
        } else {
            product.min(-FAULT_PRODUCT)
        };
        Self {
            kind: Kind::File,
            name,
            condition: if fault { Condition::Failing } else { condition },
            fault,
            adds: i16::try_from(adds).unwrap_or_default(),
        }
    }
}

impl fmt::Display for Tracked {
    /// As it stands in a sentence: "script upstream fails".
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, bad) = match self.kind {
            Kind::Interface => ("interface", "is missing or has no carrier"),
            Kind::Script => ("script", "fails"),
            Kind::File if self.fault => ("file", "says so"),
            Kind::File => ("file", "has no whole number"),
            Kind::Service => ("service", "has lost its quorum"),
        };
        let condition = match self.condition {
            Condition::Unknown => "is not known yet",
            Condition::Well => "is well",
            Condition::Failing => bad,
        };
        write!(formatter, "{kind} {} {condition}", self.name)
    }
}

/// What all that an instance tracks does to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Score {
    /// The effective priority.
    pub(super) priority: Priority,
    /// What keeps the instance in fault.
    pub(super) fault: Option<String>,
}

impl Score {
    /// The sum of `base` and what is added to it, within 1 and 254; an owner keeps 255.
    pub(super) fn of(base: Priority, tracked: &[Tracked]) -> Self {
        let sum = tracked.iter().map(|one| i32::from(one.adds)).sum();
        let faults: Vec<String> = tracked
            .iter()
            .filter(|one| one.fault)
            .map(ToString::to_string)
            .collect();
        Self {
            priority: base.adjusted(sum),
            fault: (!faults.is_empty()).then(|| faults.join(", ")),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn weight(weight: i16) -> Effect {
        Effect::Weight(NonZeroI16::new(weight).unwrap())
    }

    fn thing(kind: Kind, condition: Condition, effect: Effect) -> Tracked {
        Tracked::by_effect(kind, "it", condition, effect, true)
    }

    fn file(number: i64, weight: i16) -> Tracked {
        let weight = NonZeroI16::new(weight).unwrap();
        Tracked::by_number("/bias".to_owned(), Condition::Well, weight, number)
    }

    fn priority(base: u8, tracked: &[Tracked]) -> u8 {
        Score::of(Priority::new(base).unwrap(), tracked)
            .priority
            .get()
    }

    fn fault(tracked: &[Tracked]) -> Option<String> {
        Score::of(Priority::new(100).unwrap(), tracked).fault
    }

    #[test]
    fn a_negative_weight_counts_while_it_fails_a_positive_one_while_it_does_not() {
        for (condition, with_penalty, with_reward) in [
            (Condition::Well, 100, 120),
            (Condition::Failing, 80, 100),
            (Condition::Unknown, 100, 120),
        ] {
            let penalty = thing(Kind::Script, condition, weight(-20));
            let reward = thing(Kind::Script, condition, weight(20));
            assert_eq!(priority(100, &[penalty]), with_penalty, "{condition:?}");
            assert_eq!(priority(100, &[reward]), with_reward, "{condition:?}");
        }
    }

    #[test]
    fn priorities_stay_within_1_and_254_and_an_owner_keeps_255() {
        let failing = thing(Kind::Script, Condition::Failing, weight(-253));
        let well = thing(Kind::Service, Condition::Well, weight(253));
        assert_eq!(priority(200, &[failing.clone(), failing.clone()]), 1);
        assert_eq!(priority(200, &[well.clone(), well.clone()]), 254);
        assert_eq!(priority(200, &[well, failing.clone()]), 200);
        assert_eq!(priority(255, &[failing]), 255);
    }

    #[test]
    fn without_a_weight_failing_is_a_fault_with_its_names() {
        let script = thing(Kind::Script, Condition::Failing, Effect::Fault);
        let service = thing(Kind::Service, Condition::Failing, Effect::Fault);
        let well = thing(Kind::Interface, Condition::Well, Effect::Fault);
        assert_eq!(fault(std::slice::from_ref(&well)), None);
        assert_eq!(
            fault(&[well, script, service]).unwrap(),
            "script it fails, service it has lost its quorum"
        );
    }

    #[test]
    fn only_a_script_can_be_a_fault_before_it_is_known() {
        let unknown = |kind, is_fault| {
            let effect = Effect::Fault;
            Tracked::by_effect(kind, "it", Condition::Unknown, effect, is_fault).fault
        };
        assert!(unknown(Kind::Script, true));
        assert!(!unknown(Kind::Script, false));
        assert!(!unknown(Kind::Service, true));
    }

    #[test]
    fn a_files_number_is_multiplied() {
        assert_eq!(priority(100, &[file(7, 2)]), 114);
        assert_eq!(priority(100, &[file(7, -2)]), 86);
        assert_eq!(priority(100, &[file(0, 2)]), 100);
        assert_eq!(priority(100, &[file(i64::MAX, 253)]), 254);
        assert_eq!(fault(&[file(-253, 1)]), None);
        assert_eq!(priority(254, &[file(-253, 1)]), 1);
        assert_eq!(fault(&[file(-254, 1)]).unwrap(), "file /bias says so");
        assert_eq!(fault(&[file(-127, 2)]).unwrap(), "file /bias says so");
        assert!(fault(&[file(i64::MIN, 253)]).is_some());
        assert!(fault(&[file(i64::MAX, -253)]).is_some());
    }
}
