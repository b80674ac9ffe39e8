//! The difference between the VIPs wanted and what is found, as steps in a safe order: the sysctls
//! first, then what is added, then what is removed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use lvs_system::arp::{ANNOUNCE, IGNORE, Setting};
use lvs_system::sysctl;

use crate::machine::{self, Found, Interface, Item, Kind, Machine};
use crate::step::Step;
use crate::vip::{LOOPBACK, Place, Vip, host_prefix_length};

/// What becomes of the agent's VIPs that are not among those wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// They stay.
    Keep,
    /// They are taken away.
    Remove,
}

/// What a run will do, or has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In this order; empty when the machine is as wanted and no lifetime has to be renewed.
    pub steps: Vec<Step>,
    /// Wanted VIPs that somebody else put on the interface: used, never removed.
    pub foreign: Vec<Place>,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine could not be read.
    #[error(transparent)]
    Machine(#[from] machine::Error),
    /// A VIP is on its interface with a prefix of more than one address.
    #[error(
        "{}/{prefix_length} is on {}: with that prefix the whole subnet counts as this machine's own, and a second address would not mend it; remove it with `ip address delete {}/{prefix_length} dev {}`", .place.address, .place.interface, .place.address, .place.interface
    )]
    WrongPrefix {
        /// The VIP.
        place: Place,
        /// The prefix length found.
        prefix_length: u8,
    },
    /// The interface may lead to a LAN, which would hear of the VIP.
    #[error(
        "{interface} is neither {LOOPBACK} nor a dummy interface: with the VIP on it this machine would claim the VIP on its LAN; name {LOOPBACK}, a dummy interface, or one that rs-agent may make"
    )]
    WrongInterface {
        /// Its name.
        interface: String,
    },
    /// The interface is not set up, and isn't the agent's.
    #[error(
        "{interface} is down, and an address on it is not reached; set it up with `ip link set {interface} up`"
    )]
    Down {
        /// Its name.
        interface: String,
    },
}

/// What an address that was found with a lifetime gets when it has to be put back, until somebody
/// renews it.
const RETURNED_LIFETIME: Duration = Duration::from_secs(3);

/// Compares `wanted` with the machine, which is only read.
pub fn plan(machine: &mut dyn Machine, wanted: &[Vip], others: Others) -> Result<Plan, Error> {
    let wanted = once_each(wanted);
    compare(machine, &wanted, &wanted, others)
}

/// As [`plan`] for one of `all` that are wanted, whatever becomes of the others. What isn't wanted stays.
pub fn plan_one(machine: &mut dyn Machine, vip: &Vip, all: &[Vip]) -> Result<Plan, Error> {
    compare(machine, &[vip], &once_each(all), Others::Keep)
}

/// Compares `wanted`, which may be some of `all` that are, with the machine.
fn compare(
    machine: &mut dyn Machine,
    wanted: &[&Vip],
    all: &[&Vip],
    others: Others,
) -> Result<Plan, Error> {
    let picture = Picture::of(machine)?;
    let mut plan = Plan {
        steps: silence(machine, &picture, wanted, others)?,
        foreign: Vec::new(),
    };
    let interfaces: BTreeSet<&str> = wanted.iter().map(|vip| vip.interface.as_str()).collect();
    for interface in &interfaces {
        let mut vips = wanted.iter().filter(|vip| vip.interface == *interface);
        let announced = vips.all(|vip| vip.is_announced());
        plan.steps.extend(picture.carrier(interface, announced)?);
    }
    let places: BTreeSet<Place> = wanted.iter().map(|vip| vip.place()).collect();
    let mut going = BTreeSet::new();
    // FRR's zebra (8.4) mixes up two equal addresses, and forgets the one that stays.
    for vip in wanted.iter().filter(|vip| vip.is_announced()) {
        for place in picture.everything() {
            if place.address == vip.address && !places.contains(&place) {
                plan.steps.extend(picture.removal(&place));
                going.insert(place);
            }
        }
    }
    // Where routers send whole routing tables, reading them at each look would cost more than it tells.
    let routes = if wanted.iter().any(|vip| vip.has_host_route()) {
        machine.routes()?
    } else {
        BTreeSet::new()
    };
    let mut labels = picture.labels(all);
    for vip in wanted {
        add(&picture, &routes, &mut labels, vip, &mut plan)?;
    }
    for place in picture.everything() {
        let moved = wanted.iter().any(|vip| vip.address == place.address);
        if places.contains(&place) || going.contains(&place) || !(moved || others == Others::Remove)
        {
            continue;
        }
        // The route of one that has moved had to go before the new one came.
        let removal = picture.removal(&place).into_iter();
        plan.steps
            .extend(removal.filter(|step| !moved || !matches!(step, Step::RemoveRoute(_))));
        going.insert(place);
    }
    let idle = picture.idle_interfaces(&going).into_iter();
    plan.steps.extend(idle.filter(|step| {
        !step
            .interface()
            .is_some_and(|name| all.iter().any(|vip| vip.interface == name))
    }));
    Ok(plan)
}

/// What is on the machine, and what of it is the agent's.
pub(crate) struct Picture {
    interfaces: BTreeMap<String, Interface>,
    found: Vec<Found>,
    owned: machine::Owned,
}

impl Picture {
    /// Reads the machine.
    pub(crate) fn of(machine: &mut dyn Machine) -> Result<Self, machine::Error> {
        Ok(Self {
            interfaces: machine.interfaces()?,
            found: machine.addresses()?,
            owned: machine.owned().clone(),
        })
    }

    /// Whether the address is on this machine, on any interface.
    pub(crate) fn holds(&self, address: IpAddr) -> bool {
        self.found
            .iter()
            .any(|found| found.detail.address == address)
    }

    /// The addresses of `vips` on the machine, on any interface and with any prefix, and whether each is the
    /// agent's.
    pub(crate) fn addresses_of(
        &self,
        vips: &BTreeSet<IpAddr>,
    ) -> impl Iterator<Item = (&Found, bool)> {
        let ours = self.ours();
        let found = self.found.iter();
        found
            .filter(move |found| vips.contains(&found.detail.address))
            .map(move |found| {
                let is_ours = is_host_address(found) && ours.contains(&found.place());
                (found, is_ours)
            })
    }

    /// The VIPs that the agent has something to do with: recorded, or marked on the machine.
    pub(crate) fn everything(&self) -> BTreeSet<Place> {
        let mut places = self.ours();
        places.extend(self.owned.routes.iter().cloned());
        places
    }

    /// Those of them that are on the machine and don't go by themselves.
    pub(crate) fn lasting(&self) -> BTreeSet<IpAddr> {
        let lasts = |place: &Place| {
            let found = self.host_address(place);
            found.is_some_and(|found| !found.detail.expires)
        };
        let ours = self.ours().into_iter();
        ours.filter(lasts).map(|place| place.address).collect()
    }

    /// The steps that take away what is the agent's at `place`.
    pub(crate) fn removal(&self, place: &Place) -> Vec<Step> {
        let mut steps = Vec::new();
        if place.address.is_ipv4() {
            steps.push(Step::RemoveRoute(place.clone()));
        }
        if self.ours().contains(place) {
            let found = self.host_address(place);
            let expires = found.is_some_and(|found| found.detail.expires);
            steps.push(Step::RemoveAddress(Vip {
                address: place.address,
                interface: place.interface.clone(),
                label: found.and_then(|found| found.detail.label.clone()),
                lifetime: expires.then_some(RETURNED_LIFETIME),
            }));
        }
        steps
    }

    /// The steps that take away what is the agent's of other VIPs than those wanted.
    pub(crate) fn removal_of_others(&self, wanted: &[Vip]) -> Vec<Step> {
        let is_wanted = |place: &Place| wanted.iter().any(|vip| vip.address == place.address);
        let going: BTreeSet<Place> = self
            .everything()
            .into_iter()
            .filter(|place| !is_wanted(place))
            .collect();
        let removals = going.iter().flat_map(|place| self.removal(place));
        let is_used = |step: &Step| {
            wanted
                .iter()
                .any(|vip| step.interface() == Some(&*vip.interface))
        };
        let idle = self.idle_interfaces(&going).into_iter();
        removals.chain(idle.filter(|step| !is_used(step))).collect()
    }

    /// The steps that take away the interfaces that the agent made and that nothing is left on when
    /// those `going` have gone.
    pub(crate) fn idle_interfaces(&self, going: &BTreeSet<Place>) -> Vec<Step> {
        let staying: BTreeSet<String> = self
            .everything()
            .into_iter()
            .chain(
                self.found
                    .iter()
                    .filter(|found| !is_link_local(found))
                    .map(Found::place),
            )
            .filter(|place| !going.contains(place))
            .map(|place| place.interface)
            .collect();
        let names = self.owned.interfaces.iter().chain(self.interfaces.keys());
        let names: BTreeSet<&String> = names.filter(|name| !staying.contains(*name)).collect();
        names
            .into_iter()
            .filter_map(|name| match self.standing(name) {
                Standing::Absent | Standing::Ours { .. } | Standing::HalfMade => {
                    Some(Step::RemoveInterface(name.clone()))
                }
                Standing::Foreign => self
                    .owned
                    .interfaces
                    .contains(name)
                    .then(|| Step::Disown(Item::Interface(name.clone()))),
            })
            .collect()
    }

    /// The VIPs whose address is the agent's. The mark counts without a record, so that a lost record
    /// leaves no VIP behind; on other interfaces than those for VIPs it is a director's.
    fn ours(&self) -> BTreeSet<Place> {
        let marked = self.found.iter().filter(|found| {
            let kind = self
                .interfaces
                .get(&found.interface)
                .map(|interface| interface.kind);
            found.detail.is_ours() && matches!(kind, Some(Kind::Loopback | Kind::Dummy { .. }))
        });
        let recorded = self.owned.addresses.iter().cloned();
        recorded.chain(marked.map(Found::place)).collect()
    }

    /// The steps that make `interface` one that can carry a VIP.
    /// That it leads to a LAN is no harm where all VIPs on it are announced.
    fn carrier(&self, interface: &str, announced: bool) -> Result<Vec<Step>, Error> {
        let name = || interface.to_owned();
        match (self.standing(interface), self.interfaces.get(interface)) {
            (Standing::Absent, _) => Ok(vec![Step::MakeInterface(name())]),
            (Standing::HalfMade, _) => Ok(vec![
                Step::RemoveInterface(name()),
                Step::MakeInterface(name()),
            ]),
            (Standing::Ours { up: true }, _) => Ok(Vec::new()),
            (Standing::Ours { up: false }, _) => Ok(vec![Step::RaiseInterface(name())]),
            (Standing::Foreign, Some(found)) if announced || found.kind != Kind::Other => {
                if found.up {
                    Ok(Vec::new())
                } else {
                    Err(Error::Down { interface: name() })
                }
            }
            (Standing::Foreign, _) => Err(Error::WrongInterface { interface: name() }),
        }
    }

    fn standing(&self, interface: &str) -> Standing {
        let recorded = self.owned.interfaces.contains(interface);
        match self.interfaces.get(interface) {
            None => Standing::Absent,
            Some(&Interface {
                kind: Kind::Dummy { ours: true },
                up,
            }) => Standing::Ours { up },
            // What is marked first and set up afterwards is neither after a crash.
            Some(Interface {
                kind: Kind::Dummy { ours: false },
                up: false,
            }) if recorded => Standing::HalfMade,
            Some(_) => Standing::Foreign,
        }
    }

    /// The labels that are taken, by addresses found and by `wanted` ones that name theirs.
    fn labels(&self, wanted: &[&Vip]) -> BTreeSet<String> {
        let found = self
            .found
            .iter()
            .filter_map(|found| found.detail.label.clone());
        let named = wanted.iter().filter_map(|vip| vip.label.clone());
        found.chain(named).collect()
    }

    /// The VIP at `place`, as an address of its own.
    ///
    /// # Errors
    /// When it is there with a shorter prefix.
    fn present(&self, place: &Place) -> Result<Option<&Found>, Error> {
        let here = |found: &&Found| found.place() == *place;
        let wrong = self
            .found
            .iter()
            .filter(here)
            .find(|found| !is_host_address(found));
        if let Some(found) = wrong {
            return Err(Error::WrongPrefix {
                place: place.clone(),
                prefix_length: found.detail.prefix_length,
            });
        }
        Ok(self.host_address(place))
    }

    fn host_address(&self, place: &Place) -> Option<&Found> {
        self.found
            .iter()
            .find(|found| found.place() == *place && is_host_address(found))
    }
}

/// What the agent has to do with an interface.
enum Standing {
    Absent,
    /// It made it.
    Ours {
        up: bool,
    },
    /// It died before it had made it whole.
    HalfMade,
    Foreign,
}

/// The first of each address.
fn once_each(wanted: &[Vip]) -> Vec<&Vip> {
    let mut seen = BTreeSet::new();
    wanted
        .iter()
        .filter(|vip| seen.insert(vip.address))
        .collect()
}

/// Plans `vip` and its route, and takes its label.
fn add(
    picture: &Picture,
    routes: &BTreeSet<Place>,
    labels: &mut BTreeSet<String>,
    vip: &Vip,
    plan: &mut Plan,
) -> Result<(), Error> {
    let place = vip.place();
    match picture.present(&place)? {
        None => {
            let label = label(labels, vip);
            labels.extend(label.clone());
            plan.steps.push(Step::AddAddress(Vip {
                label,
                ..vip.clone()
            }));
        }
        Some(_) if !picture.ours().contains(&place) => plan.foreign.push(place.clone()),
        Some(found) => {
            if !picture.owned.addresses.contains(&place) {
                plan.steps.push(Step::Adopt(place.clone()));
            }
            if vip.lifetime.is_some() || found.detail.expires {
                plan.steps.push(Step::Renew(Vip {
                    label: found.detail.label.clone(),
                    ..vip.clone()
                }));
            }
        }
    }
    let elsewhere = picture
        .everything()
        .into_iter()
        .filter(|other| other.address == vip.address && *other != place);
    if vip.is_announced() {
        // A route of the kernel's would come before what routing daemons make of the address.
        let before = picture.owned.routes.iter().filter(|own| **own == place);
        plan.steps.extend(before.cloned().map(Step::RemoveRoute));
    } else if vip.has_host_route() {
        plan.steps.extend(elsewhere.map(Step::RemoveRoute));
        if !routes.contains(&place) {
            plan.steps.push(Step::AddRoute(place));
        }
    }
    Ok(())
}

/// The sysctls to write so that nobody hears of the IPv4 VIPs, those that stay among them: none where
/// there are none, or where a packet filter keeps them all quiet.
fn silence(
    machine: &mut dyn Machine,
    picture: &Picture,
    wanted: &[&Vip],
    others: Others,
) -> Result<Vec<Step>, Error> {
    let is_announced = |place: &Place| {
        let found = picture.host_address(place);
        found.is_some_and(|found| found.detail.expires)
    };
    let staying = picture.everything().into_iter();
    let staying = staying.filter(|place| !is_announced(place));
    let hidden = wanted.iter().filter(|vip| !vip.is_announced());
    let mut vips: BTreeSet<Ipv4Addr> = staying
        .filter(|_| others == Others::Keep)
        .map(|place| place.address)
        .chain(hidden.map(|vip| vip.address))
        .filter_map(ipv4)
        .collect();
    if vips.is_empty() {
        return Ok(Vec::new());
    }
    let mut steps = Vec::new();
    for setting in [IGNORE, ANNOUNCE] {
        let values = machine.values(&setting)?;
        steps.extend(insufficient(picture, &setting, values));
    }
    // Programs have to be asked for the filters: only where the settings don't do.
    if !steps.is_empty() {
        let filtered = machine.filtered();
        vips.retain(|vip| !filtered.contains(vip));
    }
    Ok(if vips.is_empty() { Vec::new() } else { steps })
}

fn ipv4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

/// The sysctls to write so that `setting` does its work on every interface. Dummy interfaces neither ask
/// nor are asked.
fn insufficient(
    picture: &Picture,
    setting: &Setting,
    mut values: BTreeMap<String, i32>,
) -> Vec<Step> {
    values.retain(|name, _| {
        let interface = picture.interfaces.get(&sysctl::part(name));
        !interface.is_some_and(|interface| matches!(interface.kind, Kind::Dummy { .. }))
    });
    let mut interfaces = setting.insufficient(&values);
    // `lo` is set for itself, as administrators and other tools expect to find it.
    if values
        .get(LOOPBACK)
        .is_some_and(|value| !setting.suffices(*value))
    {
        interfaces.insert(LOOPBACK);
    }
    let write = |interface| Step::SetSysctl {
        name: setting.of(interface),
        value: setting.wanted,
    };
    interfaces.into_iter().map(write).collect()
}

fn is_host_address(found: &Found) -> bool {
    found.detail.prefix_length == host_prefix_length(found.detail.address)
}

fn is_link_local(found: &Found) -> bool {
    matches!(found.detail.address, IpAddr::V6(address) if address.is_unicast_link_local())
}

/// What `vip` asks for; on `lo` otherwise `lo:0`, or the next number that no address has.
fn label(taken: &BTreeSet<String>, vip: &Vip) -> Option<String> {
    if vip.label.is_some() || vip.address.is_ipv6() || vip.interface != LOOPBACK {
        return vip.label.clone();
    }
    let numbered = (0_u64..).map(|number| format!("{LOOPBACK}:{number}"));
    numbered.into_iter().find(|label| !taken.contains(label))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::fake::{Fake, VIP, VIP_2, place, vip};

    fn written(machine: &mut Fake) -> Vec<(String, i32)> {
        plan(machine, &[vip(VIP)], Others::Keep)
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
        let steps = plan(
            &mut machine,
            &[vip(VIP), vip(VIP_2), vip(VIP)],
            Others::Keep,
        )
        .unwrap()
        .steps;
        let sysctl = |name: &str, value| Step::SetSysctl {
            name: format!("net.ipv4.conf.{name}"),
            value,
        };
        let add = |address, label: &str| {
            Step::AddAddress(Vip {
                label: Some(label.into()),
                ..vip(address)
            })
        };
        assert_eq!(
            steps,
            [
                sysctl("all.arp_ignore", 1),
                sysctl("lo.arp_ignore", 1),
                sysctl("all.arp_announce", 2),
                sysctl("lo.arp_announce", 2),
                add(VIP, "lo:0"),
                Step::AddRoute(place(VIP)),
                add(VIP_2, "lo:1"),
                Step::AddRoute(place(VIP_2)),
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
    fn a_machine_whose_filters_keep_the_vip_quiet_is_left_so() {
        let mut machine = Fake::default();
        machine.filtered = [Ipv4Addr::new(192, 168, 56, 185)].into();
        assert_eq!(written(&mut machine), []);
        // One VIP that no filter knows needs the settings.
        let both = [vip(VIP), vip(VIP_2)];
        let steps = plan(&mut machine, &both, Others::Keep).unwrap().steps;
        assert!(matches!(steps[0], Step::SetSysctl { .. }));
    }

    #[test]
    fn a_vip_with_a_shorter_prefix_is_refused() {
        let mut machine = Fake::default();
        machine.put(VIP, 24, "lo", 0);
        let error = plan(&mut machine, &[vip(VIP)], Others::Keep).unwrap_err();
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
        let plan = plan(&mut machine, &[vip(VIP), vip(VIP_2)], Others::Keep).unwrap();
        let label = plan.steps.iter().find_map(|step| match step {
            Step::AddAddress(vip) => vip.label.as_deref(),
            _ => None,
        });
        assert_eq!(label, Some("lo:1"));
        assert_eq!(plan.foreign, [place(VIP_2)]);
    }
}
