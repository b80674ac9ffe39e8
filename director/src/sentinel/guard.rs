//! What the sentinel guards: a pure look at the configuration and at who holds what.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use lvs_proto::sentinel::HardwareAddress;
use lvs_proto::vrrp::{Family, Ownership};

use crate::config::{Configuration, Instance};
use crate::engine::Terms;
use crate::vrrp::Ownerships;

/// A predecessor that has heard us has left by then, however busy it is.
const SHORTEST_SETTLING: Duration = Duration::from_secs(1);

/// So many adverts may get lost before it has.
const SETTLING_INTERVALS: u32 = 3;

/// The VIPs that are held, and who is who on their LANs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    pub(super) vips: Vec<Vip>,
    /// Those that any director of the pair may use.
    pub(super) virtual_macs: BTreeSet<HardwareAddress>,
    /// The services that each real server is of.
    pub(super) servers: BTreeMap<IpAddr, BTreeSet<String>>,
}

/// A VIP that is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Vip {
    pub(super) address: IpAddr,
    /// The interface to its LAN; that of the adverts where it stands on the one with the virtual MAC.
    pub(super) interface: String,
    /// The virtual router that holds it.
    pub(super) instance: String,
    /// For how long a predecessor may go on answering.
    pub(super) settling: Duration,
    /// The how many-th time it is that it's held.
    pub(super) term: u64,
}

/// What has to be guarded while the instances stand like that with their addresses.
pub fn guard(configuration: &Configuration, ownerships: &Ownerships, terms: &Terms) -> Guard {
    let held = configuration
        .instances
        .iter()
        .filter(|instance| ownerships.get(&instance.name) == Some(&Ownership::Held));
    let servers = configuration.services.iter().flat_map(|service| {
        let servers = service.real_servers.iter();
        servers.map(move |server| (server.key.address, service.name.clone()))
    });
    let mut services_of: BTreeMap<IpAddr, BTreeSet<String>> = BTreeMap::new();
    for (address, service) in servers {
        services_of.entry(address).or_default().insert(service);
    }
    Guard {
        vips: held
            .flat_map(|instance| {
                let term = terms.get(&instance.name).copied().unwrap_or(0);
                vips(instance, term)
            })
            .collect(),
        virtual_macs: configuration
            .instances
            .iter()
            .flat_map(|instance| {
                let families = [Family::Ipv4, Family::Ipv6];
                families.map(|family| family.virtual_mac(instance.virtual_router_id))
            })
            .collect(),
        servers: services_of,
    }
}

fn vips(instance: &Instance, term: u64) -> impl Iterator<Item = Vip> + '_ {
    let interval = instance.advert_interval.get();
    let addresses = instance.addresses.iter().chain(&instance.further_addresses);
    addresses.map(move |vip| {
        let stands_on = instance.interface_of(vip);
        let on_macvlan = instance.virtual_mac.as_deref() == Some(stands_on);
        Vip {
            address: vip.address,
            interface: if on_macvlan {
                instance.interface.clone()
            } else {
                stands_on.to_owned()
            },
            instance: instance.name.clone(),
            settling: SHORTEST_SETTLING.max(interval * SETTLING_INTERVALS),
            term,
        }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::engine::tests::configuration;

    const FILE: &str = "
vrrp:
  - { name: plain, interface: eth2, virtual_router_id: 50, priority: 100, addresses: [192.0.2.1/24], further_addresses: [{ address: 198.51.100.1/24, interface: eth3 }] }
  - { name: own, interface: eth2, virtual_router_id: 51, priority: 100, version: 2, advert_interval: 5s, virtual_mac: true, addresses: [192.0.2.2/24] }
services: [{ name: a, address: 192.0.2.1, port: 53, protocols: [udp], check: none, real_servers: [{ address: 192.0.2.9 }] }]
";

    #[test]
    fn what_is_held_is_guarded_on_its_lan() {
        let configuration = configuration(FILE);
        let guarded = |plain, own| {
            let ownerships = [("plain".to_owned(), plain), ("own".to_owned(), own)];
            let guard = guard(&configuration, &ownerships.into(), &Terms::new());
            let words = guard.vips.into_iter().map(|vip| {
                let Vip {
                    address,
                    interface,
                    settling,
                    ..
                } = vip;
                format!("{address} {interface} {settling:?}")
            });
            words.collect::<Vec<_>>()
        };
        let (held, absent) = (Ownership::Held, Ownership::Absent);
        assert_eq!(
            guarded(held, absent),
            ["192.0.2.1 eth2 1s", "198.51.100.1 eth3 1s"]
        );
        assert_eq!(guarded(absent, held), ["192.0.2.2 eth2 15s"]);
        // Nobody is wrong while another director may have it too.
        for ownership in [absent, Ownership::Adopting, Ownership::HandingOver] {
            assert!(guarded(ownership, ownership).is_empty());
        }
    }

    #[test]
    fn every_directors_virtual_mac_is_rightful() {
        let guard = guard(&configuration(FILE), &Ownerships::new(), &Terms::new());
        assert!(guard.virtual_macs.contains(&[0, 0, 0x5e, 0, 1, 51]));
        assert_eq!(guard.servers.len(), 1);
    }
}
