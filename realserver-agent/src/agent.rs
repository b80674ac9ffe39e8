//! What start, stop and reload mean.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use crate::machine::{self, Found, Machine};
use crate::plan::{self, Others, Picture, Plan, plan, plan_one};
use crate::step::{self, Step, carry_out};
use crate::vip::{Place, Vip};

/// Why the machine is not as wanted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine can't be brought there from what was found; nothing was changed.
    #[error("{0}; nothing was changed")]
    Plan(#[from] plan::Error),
    /// A step failed.
    #[error(transparent)]
    Step(#[from] Box<step::Failure>),
    /// [`stop`] could not take everything away.
    #[error("{0}")]
    Stop(Unfinished),
}

/// What [`stop`] could not do, at least one; it did everything else that was safe.
#[derive(Debug)]
pub struct Unfinished(pub Vec<machine::Error>);

/// Makes the machine a real server for `vips`. VIPs of an earlier start stay.
pub fn start(machine: &mut dyn Machine, vips: &[Vip]) -> Result<Plan, Error> {
    bring_about(machine, vips, Others::Keep)
}

/// Makes the machine a real server for `vips` and no others. What is right already, VIPs above
/// all, is not touched.
pub fn reload(machine: &mut dyn Machine, vips: &[Vip]) -> Result<Plan, Error> {
    bring_about(machine, vips, Others::Remove)
}

/// Makes the machine hold `wanted`, and returns what was done for it. The one way on which VIPs come
/// to the machine, are put right there, and live on.
///
/// A machine that is as wanted is only read, except that a VIP with a lifetime is renewed each time.
/// Each address is wanted at one place; one that is the agent's at another place moves. The sysctls stay
/// until [`stop`].
///
/// # Errors
/// When a step fails; those before it are taken back, see [`carry_out`].
pub fn bring_about(
    machine: &mut dyn Machine,
    wanted: &[Vip],
    others: Others,
) -> Result<Plan, Error> {
    let plan = plan(machine, wanted, others)?;
    carry_out(machine, &plan.steps)?;
    Ok(plan)
}

/// Whether VIPs that have a lifetime get a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetimes {
    /// They live on.
    Renew,
    /// What is left of it is left to them.
    LeaveAlone,
}

/// What [`bring_about_each`] did, and what it could not do.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The steps that were done.
    pub steps: Vec<Step>,
    /// What failed, for people.
    pub errors: Vec<String>,
}

/// As [`bring_about`] without others, but each VIP by itself: what fails for one keeps no other from going,
/// coming or living on. Those that aren't wanted go first.
pub fn bring_about_each(
    machine: &mut dyn Machine,
    wanted: &[Vip],
    lifetimes: Lifetimes,
) -> Outcome {
    let mut outcome = Outcome::default();
    let steps = match Picture::of(machine) {
        Ok(picture) => picture.removal_of_others(wanted),
        Err(error) => {
            outcome.errors.push(error.to_string());
            return outcome;
        }
    };
    for step in steps {
        match step.apply(machine) {
            Ok(undo) => outcome.steps.extend(undo.map(|_| step)),
            Err(error) => outcome.errors.push(error.to_string()),
        }
    }
    for vip in wanted {
        let done = plan_one(machine, vip, wanted)
            .map_err(Error::from)
            .and_then(|mut plan| {
                let renews =
                    |step: &Step| matches!(step, Step::Renew(vip) if vip.lifetime.is_some());
                if lifetimes == Lifetimes::LeaveAlone {
                    plan.steps.retain(|step| !renews(step));
                }
                carry_out(machine, &plan.steps)?;
                Ok(plan.steps)
            });
        match done {
            Ok(steps) => outcome.steps.extend(steps),
            Err(error) => outcome.errors.push(error.to_string()),
        }
    }
    outcome
}

/// Puts right what somebody has changed of `wanted`, and takes other VIPs of the agent's away, each by
/// itself. A machine that is as wanted is only read, once.
pub fn repair(machine: &mut dyn Machine, wanted: &[Vip]) -> Outcome {
    match plan(machine, wanted, Others::Remove) {
        Ok(plan) if plan.steps.is_empty() => Outcome::default(),
        _ => bring_about_each(machine, wanted, Lifetimes::LeaveAlone),
    }
}

/// What the machine has of some VIPs, whoever put them there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Presence {
    /// The VIPs that it holds, on any interface.
    pub held: BTreeSet<IpAddr>,
    /// Their addresses that aren't the agent's.
    pub foreign: BTreeSet<Foreign>,
}

/// An address that somebody else put on the machine, and that the agent therefore leaves there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Foreign {
    /// Where it is.
    pub place: Place,
    /// Its prefix.
    pub prefix_length: u8,
}

/// Looks which of `vips` are on the machine.
pub fn presence(
    machine: &mut dyn Machine,
    vips: &BTreeSet<IpAddr>,
) -> Result<Presence, machine::Error> {
    let picture = Picture::of(machine)?;
    let mut presence = Presence::default();
    for (found, is_ours) in picture.addresses_of(vips) {
        presence.held.insert(found.detail.address);
        if !is_ours {
            presence.foreign.insert(Foreign::from(found));
        }
    }
    Ok(presence)
}

/// What [`stop`] left as it was although it was told of it, and what else is still there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Those of `only` that are not the agent's: wrong ones, somebody else's, stopped before.
    pub unknown: Vec<IpAddr>,
    /// The agent's VIPs that were not asked for.
    pub remaining: Vec<IpAddr>,
}

/// Takes the agent's VIPs away, all or those of `only`, and with the last one on it an interface that the
/// agent made, and with the very last one the sysctls' values, which are restored.
///
/// A VIP of `only` that is neither on the machine nor the agent's is where it was wanted when the
/// agent has no VIP left at all, so that a stop can be repeated; otherwise it is
/// [unknown](Left::unknown).
///
/// The sysctls stay while a VIP of the agent's does, since the machine would answer ARP for it.
/// What fails stays on record for the next stop; nothing is put back, as a VIP fewer is nearer to
/// what was asked.
pub fn stop(machine: &mut dyn Machine, only: &[IpAddr]) -> Result<Left, Error> {
    let picture = Picture::of(machine).map_err(plan::Error::from)?;
    let everything = picture.everything();
    let (going, remaining): (BTreeSet<_>, BTreeSet<_>) = everything
        .iter()
        .cloned()
        .partition(|place| only.is_empty() || only.contains(&place.address));
    let mut steps: Vec<Step> = going
        .iter()
        .flat_map(|place| picture.removal(place))
        .collect();
    steps.extend(picture.idle_interfaces(&going));
    let mut errors: Vec<_> = steps
        .iter()
        .filter_map(|step| step.apply(machine).err())
        .collect();
    if errors.is_empty() && remaining.is_empty() {
        errors.extend(machine.restore_sysctls().err());
    }
    if !errors.is_empty() {
        return Err(Error::Stop(Unfinished(errors)));
    }
    let is_ours = |address| everything.iter().any(|place| place.address == address);
    let unknown = only
        .iter()
        .copied()
        .filter(|&address| !is_ours(address) && (!remaining.is_empty() || picture.holds(address)));
    Ok(Left {
        unknown: unknown.collect(),
        remaining: remaining.into_iter().map(|place| place.address).collect(),
    })
}

/// As [`stop`] of everything, when the service that kept the VIPs has died: those that are announced go, since
/// nobody watches the DNS any more, but others stay as they are, answered for and watched by the directors, until
/// its successor comes. Returns those.
pub fn stop_after_death(machine: &mut dyn Machine) -> Result<BTreeSet<IpAddr>, Error> {
    let picture = Picture::of(machine).map_err(plan::Error::from)?;
    let staying = picture.lasting();
    if staying.is_empty() {
        stop(machine, &[])?;
        return Ok(staying);
    }
    let everything = picture.everything().into_iter();
    let going: Vec<IpAddr> = everything
        .map(|place| place.address)
        .filter(|address| !staying.contains(address))
        .collect();
    if !going.is_empty() {
        stop(machine, &going)?;
    }
    Ok(staying)
}

/// What a person should know of VIPs that somebody else has put on this machine, a line each.
pub fn foreign_notes(places: &[Place]) -> Vec<String> {
    let note = |Place { address, interface }: &Place| {
        format!("{address} was on {interface} before rs-agent; it is used, and stop will leave it")
    };
    places.iter().map(note).collect()
}

impl From<&Found> for Foreign {
    fn from(found: &Found) -> Self {
        Self {
            place: found.place(),
            prefix_length: found.detail.prefix_length,
        }
    }
}

impl Foreign {
    /// What comes of it where the VIP is to come and go.
    pub fn problem(&self) -> String {
        let vip = self.place.address;
        format!(
            "{self} was not put there by rs-agent, which therefore leaves it: {vip} stays on this machine, and \
             announced, when its DNS dies"
        )
    }

    /// The command that mends it.
    pub fn mend(&self) -> String {
        let Place { address, interface } = &self.place;
        let length = self.prefix_length;
        format!("ip address delete {address}/{length} dev {interface}")
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { address, interface } = &self.place;
        write!(formatter, "{address}/{} on {interface}", self.prefix_length)
    }
}

impl Left {
    /// What a person should know of it, a line each.
    pub fn notes(&self) -> Vec<String> {
        let own = if self.remaining.is_empty() {
            "rs-agent has none".to_owned()
        } else {
            let vips: Vec<String> = self.remaining.iter().map(IpAddr::to_string).collect();
            format!("rs-agent still has {}", vips.join(", "))
        };
        let note = |vip| format!("{vip} is no VIP of rs-agent and was left alone; {own}");
        self.unknown.iter().map(note).collect()
    }
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
    use std::time::Duration;

    use lvs_system::address::{Address, OURS};

    use super::*;
    use crate::fake::{Fake, VIP, VIP_2, place, vip};
    use crate::machine::{Interface, Item, Kind, Owned};

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
        start(&mut machine, &[vip(VIP), vip(VIP_2)]).unwrap();
        let changes = machine.changes.len();
        start(&mut machine, &[vip(VIP), vip(VIP_2)]).unwrap();
        reload(&mut machine, &[vip(VIP), vip(VIP_2)]).unwrap();
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
        start(&mut machine, &[vip(VIP)]).unwrap();
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
        start(&mut sound, &[vip(VIP), vip(VIP_2)]).unwrap();
        for failing in 0..sound.changes.len() {
            let mut machine = prepared();
            let before = machine.state();
            machine.failing.insert(failing);
            let error = start(&mut machine, &[vip(VIP), vip(VIP_2)]).unwrap_err();
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
        start(&mut started, &[vip(VIP)]).unwrap();
        started.set("all.arp_ignore", 0);
        let first = started.changes.len();
        let mut sound = started.clone();
        reload(&mut sound, &[vip(VIP_2)]).unwrap();
        let before = started.state();
        for failing in first..sound.changes.len() {
            let mut machine = started.clone();
            machine.failing.insert(failing);
            let error = reload(&mut machine, &[vip(VIP_2)]).unwrap_err();
            // The old one is held meanwhile, and stays quiet.
            if failing > first {
                let kept = "but net.ipv4.conf.all.arp_ignore, which a VIP that is here needs";
                assert!(error.to_string().ends_with(kept), "{error}");
                machine.set("all.arp_ignore", 0);
            }
            assert_eq!(machine.state(), before, "change {failing}");
            assert_eq!(machine.owned, started.owned);
            assert_eq!(machine.originals, started.originals);
        }
    }

    #[test]
    fn changes_are_taken_back_last_first() {
        let mut machine = prepared();
        start(&mut machine, &[vip(VIP)]).unwrap();
        let last = machine.changes.len() - 1;
        let mut machine = prepared();
        machine.failing.insert(last);
        start(&mut machine, &[vip(VIP)]).unwrap_err();
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
        start(&mut machine, &[vip(VIP)]).unwrap();
        let last = machine.changes.len() - 1;
        let mut machine = prepared();
        machine.failing.extend([last, last + 1]);
        let error = start(&mut machine, &[vip(VIP)]).unwrap_err();
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
        let error = start(&mut machine, &[vip(VIP)]).unwrap_err();
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
        start(&mut machine, &[vip(VIP)]).unwrap();
        machine.changes.clear();
        reload(&mut machine, &[vip(VIP), vip(VIP_2)]).unwrap();
        assert_eq!(
            machine.changes,
            ["add 192.168.56.186 lo:1", "add route 192.168.56.186"]
        );
        machine.changes.clear();
        reload(&mut machine, &[vip(VIP_2)]).unwrap();
        assert_eq!(
            machine.changes,
            ["remove route 192.168.56.185", "remove 192.168.56.185"]
        );
        machine.flush();
        machine.set("all.arp_ignore", 0);
        machine.changes.clear();
        reload(&mut machine, &[vip(VIP_2)]).unwrap();
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
        start(&mut machine, &[vip(VIP)]).unwrap();
        start(&mut machine, &[vip(VIP_2)]).unwrap();
        stop(&mut machine, &[VIP]).unwrap();
        assert_eq!(machine.routes, [place(VIP_2)].into());
        assert!(!machine.originals.is_empty());
        stop(&mut machine, &[VIP_2]).unwrap();
        assert_eq!(machine.state(), before);
    }

    #[test]
    fn stop_says_which_vip_it_does_not_know() {
        let mut machine = prepared();
        machine.put(VIP_2, 32, "lo:dns", 0);
        let wrong: IpAddr = "192.168.56.158".parse().unwrap();
        start(&mut machine, &[vip(VIP)]).unwrap();
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
        assert_eq!(
            start(&mut machine, &[vip(VIP)]).unwrap().foreign,
            [place(VIP)]
        );
        assert_eq!(machine.routes, [place(VIP)].into());
        reload(&mut machine, &[vip(VIP_2)]).unwrap();
        assert_eq!(machine.addresses.len(), 2);
        stop(&mut machine, &[]).unwrap();
        assert_eq!(machine.state(), before);
    }

    #[test]
    fn a_marked_vip_without_a_record_is_ours() {
        let mut machine = prepared();
        machine.put(VIP, 32, "lo:0", OURS);
        let mut other = machine.clone();
        assert!(start(&mut machine, &[vip(VIP)]).unwrap().foreign.is_empty());
        assert_eq!(machine.owned.addresses, [place(VIP)].into());
        stop(&mut other, &[]).unwrap();
        assert!(other.addresses.is_empty());
    }

    #[test]
    fn a_vip_that_stays_keeps_its_sysctls() {
        let mut machine = prepared();
        start(&mut machine, &[vip(VIP)]).unwrap();
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

    #[test]
    fn a_death_takes_only_what_is_announced() {
        let bound = Vip {
            lifetime: Some(Duration::from_secs(3)),
            ..on("dns0", VIP_2)
        };
        let mut machine = prepared();
        start(&mut machine, &[vip(VIP)]).unwrap();
        let lasting = machine.clone();
        assert_eq!(stop_after_death(&mut machine).unwrap(), [VIP].into());
        assert_eq!(machine.changes, lasting.changes);
        start(&mut machine, std::slice::from_ref(&bound)).unwrap();
        assert_eq!(stop_after_death(&mut machine).unwrap(), [VIP].into());
        assert_eq!(machine.state(), lasting.state());
        assert_eq!(machine.owned, lasting.owned);
        stop(&mut machine, &[]).unwrap();
        start(&mut machine, &[bound]).unwrap();
        assert!(stop_after_death(&mut machine).unwrap().is_empty());
        assert_eq!(machine.state(), prepared().state());
    }

    #[test]
    fn ipv6_needs_its_address_and_nothing_else() {
        let mut machine = prepared();
        let before = machine.state();
        let vips = [vip("2001:db8::53".parse().unwrap())];
        start(&mut machine, &vips).unwrap();
        reload(&mut machine, &vips).unwrap();
        assert_eq!(machine.changes, ["add 2001:db8::53"]);
        stop(&mut machine, &[]).unwrap();
        assert_eq!(machine.state(), before);
    }

    fn on(interface: &str, address: IpAddr) -> Vip {
        Vip {
            interface: interface.into(),
            ..vip(address)
        }
    }

    #[test]
    fn a_dummy_interface_comes_with_the_first_vip_and_goes_with_the_last() {
        let mut machine = prepared();
        let before = machine.state();
        let both = [on("dns0", VIP), on("dns0", VIP_2)];
        start(&mut machine, &both).unwrap();
        let made: Vec<_> = machine
            .changes
            .iter()
            .filter(|change| !change.starts_with("set "))
            .collect();
        assert_eq!(
            made,
            [
                "make dns0",
                "add 192.168.56.185 on dns0",
                "add route 192.168.56.185 on dns0",
                "add 192.168.56.186 on dns0",
                "add route 192.168.56.186 on dns0",
            ]
        );
        assert!(reload(&mut machine, &both).unwrap().steps.is_empty());
        stop(&mut machine, &[VIP]).unwrap();
        assert!(machine.interfaces.contains_key("dns0"));
        stop(&mut machine, &[]).unwrap();
        assert_eq!(machine.state(), before);
        assert_eq!(machine.owned, Owned::default());
    }

    #[test]
    fn an_interface_of_somebody_else_stays() {
        let mut machine = prepared();
        let kind = Kind::Dummy { ours: false };
        let dummy = |up| Interface { kind, up };
        machine.interfaces.insert("dns0".into(), dummy(true));
        let before = machine.state();
        start(&mut machine, &[on("dns0", VIP)]).unwrap();
        stop(&mut machine, &[]).unwrap();
        assert_eq!(machine.state(), before);
        machine.interfaces.insert("dns0".into(), dummy(false));
        for (interface, words) in [("dns0", "ip link set dns0 up"), ("eth0", "claim the VIP")] {
            let error = start(&mut machine, &[on(interface, VIP)]).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
        // One that an agent had begun to make when it was killed is made anew.
        machine.owned.insert(&Item::Interface("dns0".into()));
        start(&mut machine, &[on("dns0", VIP)]).unwrap();
        assert!(machine.changes.contains(&"delete dns0".to_owned()));
        stop(&mut machine, &[]).unwrap();
        assert!(!machine.interfaces.contains_key("dns0"));
    }

    #[test]
    fn what_others_put_on_an_interface_of_the_agent_s_keeps_it() {
        let mut machine = prepared();
        start(&mut machine, &[on("dns0", VIP)]).unwrap();
        let detail = Address::new(1, VIP_2, 32);
        machine.put_on(
            "dns0",
            Address {
                protocol: 0,
                ..detail
            },
        );
        stop(&mut machine, &[]).unwrap();
        assert!(machine.interfaces.contains_key("dns0"));
        machine.flush();
        stop(&mut machine, &[]).unwrap();
        assert!(!machine.interfaces.contains_key("dns0"));
        // Deleted and made anew by somebody else, it is his.
        start(&mut machine, &[on("dns0", VIP)]).unwrap();
        machine.flush();
        let kind = Kind::Dummy { ours: false };
        machine
            .interfaces
            .insert("dns0".into(), Interface { kind, up: true });
        stop(&mut machine, &[]).unwrap();
        assert!(machine.interfaces.contains_key("dns0"));
        assert_eq!(machine.owned, Owned::default());
    }

    #[test]
    fn a_vip_moves_to_another_interface_without_a_gap() {
        let mut machine = prepared();
        let before = machine.state();
        start(&mut machine, &[vip(VIP)]).unwrap();
        for (first, failing) in [(true, true), (true, false), (false, false)] {
            let changes = machine.changes.len();
            let held = machine.state();
            machine.failing = failing.then_some(changes + 3).into_iter().collect();
            let (to, others) = if first {
                ("dns0", Others::Keep)
            } else {
                ("lo", Others::Remove)
            };
            let outcome = bring_about(&mut machine, &[on(to, VIP)], others);
            assert_eq!(outcome.is_err(), failing);
            if failing {
                assert_eq!(machine.state(), held);
                continue;
            }
            let position = |change: &str| {
                let made = machine.changes[changes..].iter();
                made.clone()
                    .position(|made| made.starts_with(change))
                    .unwrap()
            };
            assert!(
                position("add 192") < position("remove 192"),
                "{:?}",
                machine.changes
            );
            assert_eq!(machine.routes, [on(to, VIP).place()].into());
        }
        stop(&mut machine, &[]).unwrap();
        assert_eq!(machine.state(), before);
    }

    #[test]
    fn a_lifetime_is_renewed_each_time_and_may_end() {
        let mut machine = prepared();
        let lifetime = Some(Duration::from_secs(3));
        let bound = Vip {
            lifetime,
            ..vip(VIP)
        };
        start(&mut machine, std::slice::from_ref(&bound)).unwrap();
        // Neighbours may hear of it, and routing daemons take a route of the kernel's for another one.
        assert_eq!(machine.changes, ["add 192.168.56.185 lo:0"]);
        for _ in 0..2 {
            machine.changes.clear();
            reload(&mut machine, std::slice::from_ref(&bound)).unwrap();
            assert_eq!(machine.changes, ["renew 192.168.56.185"]);
            assert!(machine.addresses[0].detail.expires);
        }
        reload(&mut machine, &[vip(VIP)]).unwrap();
        assert!(!machine.addresses[0].detail.expires);
        assert!(reload(&mut machine, &[vip(VIP)]).unwrap().steps.is_empty());
    }

    #[test]
    fn what_fails_for_one_keeps_no_other_from_going_coming_or_living_on() {
        let mut machine = prepared();
        let bound = |interface: &str, address| Vip {
            lifetime: Some(Duration::from_secs(3)),
            ..on(interface, address)
        };
        let third = "192.168.56.187".parse().unwrap();
        let [stays, goes] = [bound("lo", VIP), bound("dns0", VIP_2)];
        let both = [stays.clone(), goes];
        let outcome = bring_about_each(&mut machine, &both, Lifetimes::Renew);
        assert!(outcome.errors.is_empty());
        machine.changes.clear();
        // Somebody else has put it there with a whole subnet.
        machine.put(third, 24, "lo:9", 0);
        let wanted = [bound("lo", third), stays];
        let outcome = bring_about_each(&mut machine, &wanted, Lifetimes::Renew);
        assert_eq!(outcome.errors.len(), 1, "{:?}", outcome.errors);
        assert_eq!(
            machine.changes,
            [
                "remove route 192.168.56.186 on dns0",
                "remove 192.168.56.186 on dns0",
                "delete dns0",
                "renew 192.168.56.185"
            ]
        );
        machine.changes.clear();
        let outcome = bring_about_each(&mut machine, &wanted[1..], Lifetimes::LeaveAlone);
        assert!(outcome.errors.is_empty() && outcome.steps.is_empty());
        assert!(machine.changes.is_empty());
        let outcome = bring_about_each(&mut machine, &[], Lifetimes::LeaveAlone);
        assert_eq!(outcome.steps.len(), 1, "{outcome:?}");
        assert_eq!(machine.addresses.len(), 1);
        assert!(machine.routes.is_empty());
    }

    #[test]
    fn one_that_can_not_be_put_right_holds_up_no_other_and_lets_nobody_hear_of_it() {
        let third = "192.168.56.187".parse().unwrap();
        let wanted = [
            Vip {
                label: Some("lo:0".into()),
                ..vip(third)
            },
            vip(VIP),
            on("dns0", VIP_2),
        ];
        let mut machine = prepared();
        start(&mut machine, &wanted).unwrap();
        assert!(repair(&mut machine, &wanted).steps.is_empty());
        for fail in ["make dns0", "add 192.168.56.186 on dns0"] {
            machine.flush();
            machine.interfaces.remove("dns0");
            machine.set("all.arp_ignore", 0);
            let mut sound = machine.clone();
            assert!(repair(&mut sound, &wanted).errors.is_empty());
            let mut made = sound.changes[machine.changes.len()..].iter();
            let failing = made.position(|made| made == fail).unwrap();
            machine.failing = [machine.attempts() + failing].into();
            let outcome = repair(&mut machine, &wanted);
            assert_eq!(outcome.errors.len(), 1, "{fail}: {:?}", outcome.errors);
            assert!(outcome.steps.contains(&Step::AddRoute(place(VIP))));
            let held = machine.addresses.iter();
            let held: Vec<_> = held.map(|found| found.detail.label.as_deref()).collect();
            assert_eq!(held, [Some("lo:0"), Some("lo:1")], "{fail}");
            // The first one to be tried silences the machine, and fails.
            machine.set("all.arp_ignore", 0);
            machine.failing = (machine.attempts() + 1..machine.attempts() + 9).collect();
            let mut turned = wanted.clone();
            turned.rotate_right(1);
            let outcome = repair(&mut machine, &turned);
            assert_eq!(outcome.errors.len(), 1, "{fail}: {:?}", outcome.errors);
            assert_eq!(machine.sysctls["net.ipv4.conf.all.arp_ignore"], "1");
            machine.failing.clear();
            assert!(repair(&mut machine, &wanted).errors.is_empty());
            assert_eq!(machine.addresses.len(), 3);
        }
        stop(&mut machine, &[]).unwrap();
        assert_eq!(machine.state(), prepared().state());
    }

    #[test]
    fn what_others_put_on_the_machine_is_found_wherever_it_is() {
        let mut machine = prepared();
        let vips: BTreeSet<IpAddr> = [VIP, VIP_2].into();
        assert_eq!(presence(&mut machine, &vips).unwrap(), Presence::default());
        start(&mut machine, &[vip(VIP)]).unwrap();
        let found = presence(&mut machine, &vips).unwrap();
        assert_eq!((found.held, found.foreign), ([VIP].into(), [].into()));
        // Beside the agent's own, with another prefix; and where the agent puts none.
        machine.put(VIP, 24, "lo:9", 0);
        let detail = Address::new(1, VIP_2, 32);
        machine.put_on(
            "eth0",
            Address {
                protocol: 0,
                ..detail
            },
        );
        let found = presence(&mut machine, &vips).unwrap();
        assert_eq!(found.held, vips);
        let foreign: Vec<String> = found.foreign.iter().map(Foreign::to_string).collect();
        assert_eq!(
            foreign,
            ["192.168.56.185/24 on lo", "192.168.56.186/32 on eth0"]
        );
    }

    #[test]
    fn what_is_announced_goes_before_it_comes_elsewhere() {
        let mut machine = prepared();
        let bound = |interface: &str| Vip {
            lifetime: Some(Duration::from_secs(3)),
            ..on(interface, VIP)
        };
        start(&mut machine, &[bound("lo")]).unwrap();
        machine.changes.clear();
        // eth0 leads to a LAN, which may hear of it.
        reload(&mut machine, &[bound("eth0")]).unwrap();
        let place = |found: &Found| found.interface.clone();
        assert_eq!(
            machine.addresses.iter().map(place).collect::<Vec<_>>(),
            ["eth0"]
        );
        let [.., going, coming] = machine.changes.as_slice() else {
            panic!("{:?}", machine.changes);
        };
        assert!(going.starts_with("remove 192.168.56.185"), "{going}");
        assert!(coming.starts_with("add 192.168.56.185"), "{coming}");
    }
}
