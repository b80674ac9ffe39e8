//! The difference between the VIPs wanted and what is found, as steps in a safe order: the sysctls
//! first, then what is added, then what is removed.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use lvs_system::address::Address;
use lvs_system::arp::{ANNOUNCE, IGNORE, Setting};

use crate::machine::{self, INTERFACE, Machine};
use crate::step::Step;

/// What becomes of the agent's VIPs that are not among those wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// They stay.
    Keep,
    /// They are taken away.
    Remove,
}

/// What a run will do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In this order; empty when the machine is as wanted.
    pub steps: Vec<Step>,
    /// Wanted VIPs that somebody else put on the interface: used, never removed.
    pub foreign: Vec<Ipv4Addr>,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine could not be read.
    #[error(transparent)]
    Machine(#[from] machine::Error),
    /// A VIP is on the interface with a prefix other than `/32`.
    #[error(
        "{vip}/{prefix_length} is on {INTERFACE}: with that prefix the whole subnet counts as this machine's own, and a second address would not mend it; remove it with `ip address delete {vip}/{prefix_length} dev {INTERFACE}`"
    )]
    WrongPrefix {
        /// The VIP.
        vip: Ipv4Addr,
        /// The prefix length found.
        prefix_length: u8,
    },
}

/// Compares `wanted` with the machine, which is only read.
pub fn plan(machine: &mut dyn Machine, wanted: &[Ipv4Addr], others: Others) -> Result<Plan, Error> {
    let mut plan = Plan::default();
    for setting in [IGNORE, ANNOUNCE] {
        plan.steps.extend(silence(machine, &setting)?);
    }
    let found = machine.addresses()?;
    let routes = machine.routes()?;
    let ours = ours(machine, &found);
    let mut labels: BTreeSet<String> = found.iter().filter_map(|a| a.label.clone()).collect();
    let mut seen = BTreeSet::new();
    for &vip in wanted {
        if !seen.insert(vip) {
            continue;
        }
        if !is_present(&found, vip)? {
            let label = free_label(&labels);
            labels.insert(label.clone());
            plan.steps.push(Step::AddAddress { vip, label });
        } else if !ours.contains(&vip) {
            plan.foreign.push(vip);
        } else if !machine.owned().addresses.contains(&vip) {
            plan.steps.push(Step::Adopt(vip));
        }
        if !routes.contains(&vip) {
            plan.steps.push(Step::AddRoute(vip));
        }
    }
    if others == Others::Remove {
        for vip in everything(machine, &found) {
            if !seen.contains(&vip) {
                plan.steps.extend(removal(&found, &ours, vip));
            }
        }
    }
    Ok(plan)
}

/// The VIPs that the agent has something to do with: recorded, or marked on the interface.
pub(crate) fn everything(machine: &dyn Machine, found: &[Address]) -> BTreeSet<Ipv4Addr> {
    let mut vips = ours(machine, found);
    vips.extend(&machine.owned().routes);
    vips
}

/// The steps that take away what is the agent's of `vip`.
pub(crate) fn removal(found: &[Address], ours: &BTreeSet<Ipv4Addr>, vip: Ipv4Addr) -> Vec<Step> {
    let mut steps = vec![Step::RemoveRoute(vip)];
    if ours.contains(&vip) {
        let label = found
            .iter()
            .find(|address| is_host_address(address, vip))
            .and_then(|address| address.label.clone())
            .unwrap_or_else(|| INTERFACE.into());
        steps.push(Step::RemoveAddress { vip, label });
    }
    steps
}

/// The VIPs whose address is the agent's. The mark counts without a record, so that a lost record
/// leaves no VIP behind.
pub(crate) fn ours(machine: &dyn Machine, found: &[Address]) -> BTreeSet<Ipv4Addr> {
    let marked = found.iter().filter_map(|address| match address.address {
        IpAddr::V4(vip) if address.is_ours() => Some(vip),
        _ => None,
    });
    let recorded = machine.owned().addresses.iter().copied();
    recorded.chain(marked).collect()
}

/// The sysctls to write so that `setting` does its work on every interface.
fn silence(machine: &mut dyn Machine, setting: &Setting) -> Result<Vec<Step>, Error> {
    let values = machine.values(setting)?;
    let mut interfaces = setting.insufficient(&values);
    // `lo` is set for itself, as administrators and other tools expect to find it.
    if values
        .get(INTERFACE)
        .is_some_and(|value| !setting.suffices(*value))
    {
        interfaces.insert(INTERFACE);
    }
    let write = |interface| Step::SetSysctl {
        name: setting.of(interface),
        value: setting.wanted,
    };
    Ok(interfaces.into_iter().map(write).collect())
}

/// Whether `vip` is there as `/32`.
fn is_present(found: &[Address], vip: Ipv4Addr) -> Result<bool, Error> {
    let mut present = false;
    for address in found.iter().filter(|address| address.address == vip) {
        if !is_host_address(address, vip) {
            return Err(Error::WrongPrefix {
                vip,
                prefix_length: address.prefix_length,
            });
        }
        present = true;
    }
    Ok(present)
}

fn is_host_address(address: &Address, vip: Ipv4Addr) -> bool {
    address.address == vip && address.prefix_length == 32
}

/// `lo:0`, or the next number that no address has.
fn free_label(taken: &BTreeSet<String>) -> String {
    let mut number = 0;
    loop {
        let label = format!("{INTERFACE}:{number}");
        if !taken.contains(&label) {
            return label;
        }
        number += 1;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::fake::{Fake, VIP, VIP_2};

    fn written(machine: &mut Fake) -> Vec<(String, i32)> {
        plan(machine, &[VIP], Others::Keep)
            .unwrap()
            .steps
            .into_iter()
            .filter_map(|step| match step {
                Step::SetSysctl { name, value } => {
                    Some((name.replace("net.ipv4.conf.", ""), value))
                }
                _ => None,
            })
            .collect()
    }

    fn pairs(expected: &[(&str, i32)]) -> Vec<(String, i32)> {
        expected
            .iter()
            .map(|(name, value)| ((*name).into(), *value))
            .collect()
    }

    #[test]
    fn the_sysctls_come_before_the_vip_and_its_route() {
        let mut machine = Fake::default();
        let steps = plan(&mut machine, &[VIP, VIP_2, VIP], Others::Keep)
            .unwrap()
            .steps;
        let sysctl = |name: &str, value| Step::SetSysctl {
            name: format!("net.ipv4.conf.{name}"),
            value,
        };
        let add = |vip, label: &str| Step::AddAddress {
            vip,
            label: label.into(),
        };
        assert_eq!(
            steps,
            [
                sysctl("all.arp_ignore", 1),
                sysctl("lo.arp_ignore", 1),
                sysctl("all.arp_announce", 2),
                sysctl("lo.arp_announce", 2),
                add(VIP, "lo:0"),
                Step::AddRoute(VIP),
                add(VIP_2, "lo:1"),
                Step::AddRoute(VIP_2),
            ]
        );
    }

    #[test]
    fn values_that_do_are_left_and_others_are_mended() {
        let mut machine = Fake::default();
        machine.set("all.arp_ignore", 2);
        machine.set("lo.arp_ignore", 8);
        machine.set("all.arp_announce", 2);
        machine.set("lo.arp_announce", 3);
        assert_eq!(written(&mut machine), pairs(&[("lo.arp_announce", 2)]));
    }

    #[test]
    fn a_larger_value_on_an_interface_that_defeats_all_is_mended() {
        let mut machine = Fake::default();
        for (interface, ignore) in [("eth0", 3), ("eth1", 2), ("eth2", 8), ("eth3", 0)] {
            machine.set(&format!("{interface}.arp_ignore"), ignore);
            machine.set(&format!("{interface}.arp_announce"), 0);
        }
        machine.set("default.arp_ignore", 3);
        machine.set("eth3.arp_announce", 4);
        let expected = [
            ("all.arp_ignore", 1),
            ("eth0.arp_ignore", 1),
            ("lo.arp_ignore", 1),
            ("all.arp_announce", 2),
            ("eth3.arp_announce", 2),
            ("lo.arp_announce", 2),
        ];
        assert_eq!(written(&mut machine), pairs(&expected));
        // A value too large on `all` is lowered; what it hid on the interfaces is judged by that.
        machine.set("all.arp_ignore", 5);
        assert_eq!(written(&mut machine), pairs(&expected));
    }

    #[test]
    fn a_vip_with_a_shorter_prefix_is_refused() {
        let mut machine = Fake::default();
        machine.put(VIP, 24, "lo", 0);
        let error = plan(&mut machine, &[VIP], Others::Keep).unwrap_err();
        assert!(matches!(
            error,
            Error::WrongPrefix {
                prefix_length: 24,
                ..
            }
        ));
        assert!(error.to_string().contains("192.168.56.185/24 dev lo"));
    }

    #[test]
    fn labels_in_use_are_skipped() {
        let mut machine = Fake::default();
        machine.put(VIP_2, 32, "lo:0", 0);
        let plan = plan(&mut machine, &[VIP, VIP_2], Others::Keep).unwrap();
        let label = plan.steps.iter().find_map(|step| match step {
            Step::AddAddress { label, .. } => Some(label.as_str()),
            _ => None,
        });
        assert_eq!(label, Some("lo:1"));
        assert_eq!(plan.foreign, [VIP_2]);
    }
}
