//! Who on the LANs has which address: VIPs, and this machine's own.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::Report;
use super::lan::Heard;
use super::machine::{Machine, Vip};
use crate::control::State;
use crate::sentinel::{Conflict, hardware_address_text};

pub(super) fn examine(machine: &Machine<'_>, heard: &Heard, report: &mut Report) {
    let vips: BTreeSet<IpAddr> = machine.vips().map(|vip| vip.address).collect();
    for vip in machine.vips() {
        of_vip(machine, heard, vip, report);
    }
    let asked = heard.asked.iter();
    let own = asked.filter(|(_, address)| machine.is_own(*address) && !vips.contains(address));
    for (interface_index, address) in own {
        let others = heard.owners_of(*interface_index, *address);
        if others.is_empty() {
            report.ok("duplicate address", address, "nobody else has it");
        } else {
            duplicate(*address, &words(&others), report);
        }
    }
    let found = machine.picture.addresses.iter();
    for own in found.filter(|own| own.duplicate) {
        duplicate(own.address, "another machine", report);
    }
}

fn duplicate(address: IpAddr, who: &str, report: &mut Report) {
    report.error(
        "duplicate address",
        address,
        format!("is this machine's own, and {who} has it as well: adverts, probes and answers go astray"),
        "find the other one by its Ethernet address in the switch, and give one of the two another address",
    );
}

fn words(addresses: &BTreeSet<[u8; 6]>) -> String {
    let words: Vec<String> = addresses
        .iter()
        .copied()
        .map(hardware_address_text)
        .collect();
    words.join(" and ")
}

fn of_vip(machine: &Machine<'_>, heard: &Heard, vip: Vip<'_>, report: &mut Report) {
    let Some(link) = machine.link(vip.interface) else {
        return;
    };
    if !heard.asked.contains(&(link.index, vip.address)) {
        return;
    }
    let claimants = heard.owners_of(link.index, vip.address);
    let is_active_here = machine.state(vip.instance) == Some(State::Active);
    let speakers: Vec<IpAddr> = heard
        .of(&vip.instance.name)
        .map(|(source, _)| source)
        .collect();
    let mut others = claimants;
    if !is_active_here && !speakers.is_empty() {
        let is_lan_of_adverts = vip.interface == vip.instance.interface;
        let owners = speakers
            .iter()
            .flat_map(|speaker| heard.owners_of(link.index, *speaker));
        let virtual_mac = vip
            .instance
            .family()
            .virtual_mac(vip.instance.virtual_router_id);
        let known = owners.chain([virtual_mac]).collect();
        match beside_active(others, &known, is_lan_of_adverts) {
            Ok(beside) => others = beside,
            Err(presumed) => {
                let text = format!(
                    "{} alone answers for it: the Active, if that is its Ethernet address on {}",
                    hardware_address_text(presumed),
                    vip.interface
                );
                return report.note("neighbour", vip.address, text, None);
            }
        }
    }
    if others.is_empty() {
        let who = match (is_active_here, speakers.is_empty()) {
            (true, _) => "nobody but this machine answers for it",
            (false, false) => "nobody but the Active answers for it",
            (false, true) => "nobody answers for it",
        };
        return report.ok("neighbour", vip.address, who);
    }
    for hardware_address in others {
        let names: BTreeSet<IpAddr> = heard
            .owners
            .iter()
            .filter(|((_, address), owners)| {
                *address != vip.address && owners.contains(&hardware_address)
            })
            .map(|((_, address), _)| *address)
            .collect();
        let services = machine.servers().into_iter();
        let services = services
            .filter(|(address, ..)| names.contains(address))
            .map(|(.., service)| service.name.clone())
            .collect();
        let conflict = Conflict {
            instance: vip.instance.name.clone(),
            address: vip.address,
            interface: vip.interface.to_owned(),
            hardware_address: hardware_address_text(hardware_address),
            claimants: names,
            services,
            answers: true,
            announces: false,
            asks: false,
        };
        report.error(
            "neighbour",
            vip.address,
            conflict.claim(),
            conflict.remedy(),
        );
    }
}

/// Who claims a VIP besides the Active, which has it under its own Ethernet address or the virtual one. On
/// another LAN than that of the adverts its own isn't known: there a single one is presumed to be the Active.
fn beside_active(
    mut claimants: BTreeSet<[u8; 6]>,
    active: &BTreeSet<[u8; 6]>,
    is_lan_of_adverts: bool,
) -> Result<BTreeSet<[u8; 6]>, [u8; 6]> {
    let all = claimants.len();
    claimants.retain(|claimant| !active.contains(claimant));
    match claimants.first() {
        Some(presumed) if !is_lan_of_adverts && all == 1 => Err(*presumed),
        _ => Ok(claimants),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_a_second_lan_a_single_one_may_be_the_active() {
        let [active, virtual_mac, other] = [1, 2, 3].map(|last| [2, 0, 0, 0, 0, last]);
        let known = BTreeSet::from([active, virtual_mac]);
        let beside = |claimants: &[[u8; 6]], is_lan_of_adverts| {
            beside_active(
                claimants.iter().copied().collect(),
                &known,
                is_lan_of_adverts,
            )
        };
        for is_lan_of_adverts in [true, false] {
            assert_eq!(beside(&[], is_lan_of_adverts), Ok(BTreeSet::new()));
            assert_eq!(
                beside(&[virtual_mac], is_lan_of_adverts),
                Ok(BTreeSet::new())
            );
            let both = beside(&[virtual_mac, other], is_lan_of_adverts);
            assert_eq!(both, Ok(BTreeSet::from([other])));
        }
        assert_eq!(beside(&[other], true), Ok(BTreeSet::from([other])));
        assert_eq!(beside(&[other], false), Err(other));
    }
}
