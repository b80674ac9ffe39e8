//! What start, stop and reload mean.

use std::fmt;
use std::net::Ipv4Addr;

use crate::machine::{self, Machine};
use crate::plan::{self, Others, everything, ours, plan, removal};
use crate::step::{self, carry_out};

/// Why the machine is not as wanted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine can't be brought there from what was found; nothing was changed.
    #[error("{0}; nothing was changed")]
    Plan(#[from] plan::Error),
    /// A step failed.
    #[error(transparent)]
    Step(#[from] step::Failure),
    /// [`stop`] could not take everything away.
    #[error("{0}")]
    Stop(Unfinished),
}

/// What [`stop`] could not do, at least one; it did everything else that was safe.
#[derive(Debug)]
pub struct Unfinished(pub Vec<machine::Error>);

/// Makes the machine a real server for `vips`. VIPs of an earlier start stay.
///
/// Returns those VIPs that somebody else had put on the interface: they are used, and stay when
/// the agent stops.
pub fn start(machine: &mut dyn Machine, vips: &[Ipv4Addr]) -> Result<Vec<Ipv4Addr>, Error> {
    bring_about(machine, vips, Others::Keep)
}

/// Makes the machine a real server for `vips` and no others. What is right already, VIPs above
/// all, is not touched.
pub fn reload(machine: &mut dyn Machine, vips: &[Ipv4Addr]) -> Result<Vec<Ipv4Addr>, Error> {
    bring_about(machine, vips, Others::Remove)
}

/// What [`stop`] left as it was although it was told of it, and what else is still there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Those of `only` that are not the agent's: wrong ones, somebody else's, stopped before.
    pub unknown: Vec<Ipv4Addr>,
    /// The agent's VIPs that were not asked for.
    pub remaining: Vec<Ipv4Addr>,
}

/// Takes the agent's VIPs away, all or those of `only`, and restores the sysctls with the last.
///
/// A VIP of `only` that is neither on the machine nor the agent's is where it was wanted when the
/// agent has no VIP left at all, so that a stop can be repeated; otherwise it is
/// [unknown](Left::unknown).
///
/// The sysctls stay while a VIP of the agent's does, since the machine would answer ARP for it.
/// What fails stays on record for the next stop; nothing is put back, as a VIP fewer is nearer to
/// what was asked.
pub fn stop(machine: &mut dyn Machine, only: &[Ipv4Addr]) -> Result<Left, Error> {
    let found = machine.addresses().map_err(plan::Error::from)?;
    let ours = ours(machine, &found);
    let everything = everything(machine, &found);
    let mut errors = Vec::new();
    let mut remaining = Vec::new();
    for &vip in &everything {
        if !only.is_empty() && !only.contains(&vip) {
            remaining.push(vip);
            continue;
        }
        for step in removal(&found, &ours, vip) {
            errors.extend(step.apply(machine).err());
        }
    }
    if errors.is_empty() && remaining.is_empty() {
        errors.extend(machine.restore_sysctls().err());
    }
    if !errors.is_empty() {
        return Err(Error::Stop(Unfinished(errors)));
    }
    let is_there = |vip| found.iter().any(|address| address.address == vip);
    let unknown = only
        .iter()
        .filter(|&vip| !everything.contains(vip) && (!remaining.is_empty() || is_there(*vip)));
    Ok(Left {
        unknown: unknown.copied().collect(),
        remaining,
    })
}

fn bring_about(
    machine: &mut dyn Machine,
    vips: &[Ipv4Addr],
    others: Others,
) -> Result<Vec<Ipv4Addr>, Error> {
    let plan = plan(machine, vips, others)?;
    carry_out(machine, &plan.steps)?;
    Ok(plan.foreign)
}

impl fmt::Display for Unfinished {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for error in &self.0 {
            write!(formatter, "{error}; ")?;
        }
        formatter.write_str("what is left is on record, and another stop takes it up")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use lvs_system::address::OURS;

    use super::*;
    use crate::fake::{Fake, VIP, VIP_2};
    use crate::machine::Owned;

    /// A machine whose administrator has chosen values of his own.
    fn prepared() -> Fake {
        let mut machine = Fake::default();
        for (name, value) in [
            ("all.arp_ignore", 0),
            ("all.arp_announce", 1),
            ("lo.arp_ignore", 3),
            ("lo.arp_announce", 0),
            ("eth0.arp_ignore", 3),
            ("eth0.arp_announce", 1),
        ] {
            machine.set(name, value);
        }
        machine
    }

    #[test]
    fn start_start_reload_stop_stop_leaves_what_was_found() {
        let mut machine = prepared();
        let before = machine.state();
        start(&mut machine, &[VIP, VIP_2]).unwrap();
        let changes = machine.changes.len();
        start(&mut machine, &[VIP, VIP_2]).unwrap();
        reload(&mut machine, &[VIP, VIP_2]).unwrap();
        assert_eq!(machine.changes.len(), changes);
        stop(&mut machine, &[]).unwrap();
        assert_eq!(machine.state(), before);
        assert_eq!(machine.owned, Owned::default());
        assert!(machine.originals.is_empty());
        let changes = machine.changes.len();
        stop(&mut machine, &[]).unwrap();
        assert_eq!(machine.changes.len(), changes);
    }

    #[test]
    fn stop_removes_the_vip_before_it_restores() {
        let mut machine = prepared();
        start(&mut machine, &[VIP]).unwrap();
        machine.changes.clear();
        stop(&mut machine, &[]).unwrap();
        assert_eq!(
            machine.changes[..2],
            ["remove route 192.168.56.185", "remove 192.168.56.185"]
        );
        assert!(
            machine.changes[2..]
                .iter()
                .all(|change| change.starts_with("restore"))
        );
        assert!(machine.changes.len() > 2);
    }

    #[test]
    fn whichever_change_of_start_fails_everything_is_taken_back() {
        let mut sound = prepared();
        start(&mut sound, &[VIP, VIP_2]).unwrap();
        for failing in 0..sound.changes.len() {
            let mut machine = prepared();
            let before = machine.state();
            machine.failing.insert(failing);
            let error = start(&mut machine, &[VIP, VIP_2]).unwrap_err();
            assert!(
                error
                    .to_string()
                    .ends_with("everything is as it was before"),
                "{error}"
            );
            assert!(
                error.to_string().contains(&sound.changes[failing]),
                "{error}"
            );
            assert_eq!(machine.state(), before, "change {failing}");
            assert_eq!(machine.owned, Owned::default());
            assert!(machine.originals.is_empty());
        }
    }

    #[test]
    fn whichever_change_of_reload_fails_the_old_vip_is_back() {
        let mut started = prepared();
        start(&mut started, &[VIP]).unwrap();
        started.set("all.arp_ignore", 0);
        let first = started.changes.len();
        let mut sound = started.clone();
        reload(&mut sound, &[VIP_2]).unwrap();
        let before = started.state();
        for failing in first..sound.changes.len() {
            let mut machine = started.clone();
            machine.failing.insert(failing);
            reload(&mut machine, &[VIP_2]).unwrap_err();
            assert_eq!(machine.state(), before, "change {failing}");
            assert_eq!(machine.owned, started.owned);
            assert_eq!(machine.originals, started.originals);
        }
    }

    #[test]
    fn changes_are_taken_back_last_first() {
        let mut machine = prepared();
        start(&mut machine, &[VIP]).unwrap();
        let last = machine.changes.len() - 1;
        let mut machine = prepared();
        machine.failing.insert(last);
        start(&mut machine, &[VIP]).unwrap_err();
        let name = |change: &String| {
            let text = change.split_once(' ').unwrap().1;
            let end = text.find([' ', '=']).unwrap_or(text.len());
            text[..end].to_owned()
        };
        let (done, undone) = machine.changes.split_at(last);
        let done: Vec<String> = done.iter().map(name).collect();
        let undone: Vec<String> = undone.iter().rev().map(name).collect();
        assert_eq!(done, undone);
    }

    #[test]
    fn a_vip_that_can_not_be_taken_back_keeps_its_sysctls() {
        let mut machine = prepared();
        start(&mut machine, &[VIP]).unwrap();
        let last = machine.changes.len() - 1;
        let mut machine = prepared();
        machine.failing.extend([last, last + 1]);
        let error = start(&mut machine, &[VIP]).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("not everything could be taken back: ")
        );
        assert!(
            !machine
                .changes
                .iter()
                .any(|change| change.starts_with("undo"))
        );
        stop(&mut machine, &[]).unwrap();
        assert_eq!(machine.state(), prepared().state());
    }

    #[test]
    fn what_can_not_be_taken_back_is_said() {
        let mut machine = prepared();
        machine.failing.extend([3, 4]);
        let error = start(&mut machine, &[VIP]).unwrap_err();
        let Error::Step(failure) = &error else {
            panic!("{error}");
        };
        assert_eq!(failure.left_behind.len(), 1);
        assert!(
            error
                .to_string()
                .contains("not everything could be taken back: ")
        );
    }

    #[test]
    fn reload_exchanges_vips_and_heals() {
        let mut machine = prepared();
        let before = machine.state();
        start(&mut machine, &[VIP]).unwrap();
        machine.changes.clear();
        reload(&mut machine, &[VIP, VIP_2]).unwrap();
        assert_eq!(
            machine.changes,
            ["add 192.168.56.186 lo:1", "add route 192.168.56.186"]
        );
        machine.changes.clear();
        reload(&mut machine, &[VIP_2]).unwrap();
        assert_eq!(
            machine.changes,
            ["remove route 192.168.56.185", "remove 192.168.56.185"]
        );
        machine.flush();
        machine.set("all.arp_ignore", 0);
        machine.changes.clear();
        reload(&mut machine, &[VIP_2]).unwrap();
        assert_eq!(
            machine.changes,
            [
                "set net.ipv4.conf.all.arp_ignore=1",
                "add 192.168.56.186 lo:0",
                "add route 192.168.56.186"
            ]
        );
        stop(&mut machine, &[]).unwrap();
        assert_eq!(machine.state(), before);
    }

    #[test]
    fn a_second_start_keeps_the_first_s_vip_and_stop_may_take_one() {
        let mut machine = prepared();
        let before = machine.state();
        start(&mut machine, &[VIP]).unwrap();
        start(&mut machine, &[VIP_2]).unwrap();
        stop(&mut machine, &[VIP]).unwrap();
        assert_eq!(machine.routes, [VIP_2].into());
        assert!(!machine.originals.is_empty());
        stop(&mut machine, &[VIP_2]).unwrap();
        assert_eq!(machine.state(), before);
    }

    #[test]
    fn stop_says_which_vip_it_does_not_know() {
        let mut machine = prepared();
        machine.put(VIP_2, 32, "lo:dns", 0);
        let wrong = Ipv4Addr::new(192, 168, 56, 158);
        start(&mut machine, &[VIP]).unwrap();
        let left = stop(&mut machine, &[wrong, VIP_2]).unwrap();
        assert_eq!(left.unknown, [wrong, VIP_2]);
        assert_eq!(left.remaining, [VIP]);
        assert_eq!(stop(&mut machine, &[VIP]).unwrap(), Left::default());
        // Nothing of the agent's is left: a repeated stop has nothing to say, but what is there
        // is not gone.
        assert_eq!(stop(&mut machine, &[VIP]).unwrap(), Left::default());
        assert_eq!(stop(&mut machine, &[VIP_2]).unwrap().unknown, [VIP_2]);
    }

    #[test]
    fn somebody_else_s_vip_is_used_and_left() {
        let mut machine = prepared();
        machine.put(VIP, 32, "lo:dns", 0);
        let before = machine.state();
        assert_eq!(start(&mut machine, &[VIP]).unwrap(), [VIP]);
        assert_eq!(machine.routes, [VIP].into());
        reload(&mut machine, &[VIP_2]).unwrap();
        assert_eq!(machine.addresses.len(), 2);
        stop(&mut machine, &[]).unwrap();
        assert_eq!(machine.state(), before);
    }

    #[test]
    fn a_marked_vip_without_a_record_is_ours() {
        let mut machine = prepared();
        machine.put(VIP, 32, "lo:0", OURS);
        let mut other = machine.clone();
        assert!(start(&mut machine, &[VIP]).unwrap().is_empty());
        assert_eq!(machine.owned.addresses, [VIP].into());
        stop(&mut other, &[]).unwrap();
        assert!(other.addresses.is_empty());
    }

    #[test]
    fn a_vip_that_stays_keeps_its_sysctls() {
        let mut machine = prepared();
        start(&mut machine, &[VIP]).unwrap();
        machine.failing.insert(machine.changes.len() + 1);
        let error = stop(&mut machine, &[]).unwrap_err();
        assert!(error.to_string().contains("remove 192.168.56.185"));
        assert!(
            !machine
                .changes
                .iter()
                .any(|change| change.starts_with("restore"))
        );
        stop(&mut machine, &[]).unwrap();
        assert_eq!(machine.state(), prepared().state());
    }
}
