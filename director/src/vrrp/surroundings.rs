//! What a virtual router has to know of its machine: a pure look at a [`Picture`] of it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use lvs_proto::vrrp::{Family, Fault, Priority};
use lvs_system::address;
use lvs_system::link::Link;
use lvs_system::watch::Picture;

use crate::address::Placed;
use crate::config::{Instance as Settings, VirtualAddress};

/// The interfaces and addresses that matter to one virtual router.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Surroundings {
    /// The interface that carries its adverts.
    pub(super) link: Option<Link>,
    /// The interface with its virtual MAC.
    pub(super) macvlan: Option<Link>,
    /// The address that they are sent from.
    pub(super) primary: Option<IpAddr>,
    /// The interfaces that its addresses stand on, by name.
    places: BTreeMap<String, Link>,
    /// Addresses among its VIPs that are not of our making.
    foreign: Vec<(u32, IpAddr)>,
}

impl Surroundings {
    /// Looks at `picture` with the eyes of `settings`.
    pub(super) fn of(picture: &Picture, settings: &Settings) -> Self {
        let named = |name: &str| picture.links.iter().find(|link| link.name == name);
        let link = named(&settings.interface);
        let vips: Vec<IpAddr> = all_addresses(settings).map(|vip| vip.address).collect();
        let primary = link.and_then(|link| match settings.source {
            Some(source) => picture
                .addresses
                .iter()
                .find(|found| found.address == source && !found.tentative && !found.duplicate)
                .map(|found| found.address),
            None => first_address(picture, link.index, settings.family(), &vips),
        });
        let places = all_addresses(settings)
            .map(|vip| settings.interface_of(vip))
            .filter_map(|name| Some((name.to_owned(), named(name)?.clone())))
            .collect();
        let foreign = picture
            .addresses
            .iter()
            .filter(|found| !found.is_ours() && vips.contains(&found.address))
            .map(|found| (found.interface_index, found.address))
            .collect();
        Self {
            link: link.cloned(),
            macvlan: settings.virtual_mac.as_deref().and_then(named).cloned(),
            primary,
            places,
            foreign,
        }
    }

    /// What keeps the router from taking part, most fundamental first.
    pub(super) fn fault(&self) -> Option<Fault> {
        match (&self.link, self.primary) {
            (None, _) => Some(Fault::InterfaceMissing),
            (Some(link), _) if !link.up => Some(Fault::LinkDown),
            (Some(_), None) => Some(Fault::NoAddress),
            (Some(_), Some(_)) => None,
        }
    }

    /// The Ethernet address of one of the interfaces that addresses stand on.
    pub(super) fn hardware_address(&self, interface_index: u32) -> Option<[u8; 6]> {
        self.places
            .values()
            .find(|link| link.index == interface_index)
            .map(|link| link.hardware_address)
    }

    /// Where each of the router's addresses belongs, those whose interface exists. Those that the
    /// machine of an owner has anyway stay its own.
    pub(super) fn place(&self, settings: &Settings) -> Vec<Placed> {
        all_addresses(settings)
            .filter_map(|vip| {
                let interface_index = self.places.get(settings.interface_of(vip))?.index;
                Some(Placed {
                    interface_index,
                    address: vip.clone(),
                    fixed: settings.priority == Priority::OWNER
                        && self.foreign.contains(&(interface_index, vip.address)),
                })
            })
            .collect()
    }
}

/// The addresses of a virtual router, those that aren't advertised included.
pub(super) fn all_addresses(settings: &Settings) -> impl Iterator<Item = &VirtualAddress> {
    settings.addresses.iter().chain(&settings.further_addresses)
}

fn first_address(picture: &Picture, index: u32, family: Family, vips: &[IpAddr]) -> Option<IpAddr> {
    match family {
        Family::Ipv4 => address::primary_ipv4(&picture.addresses, index, vips).map(IpAddr::from),
        Family::Ipv6 => address::primary_ipv6(&picture.addresses, index, vips).map(IpAddr::from),
    }
}
