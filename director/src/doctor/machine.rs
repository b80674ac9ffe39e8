//! What everybody here asks of the machine.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::IpAddr;

use lvs_proto::Family;
use lvs_proto::ipvs::{Forwarding, Protocol, ServiceKey};
use lvs_system::link::Link;
use lvs_system::netlink::{self, Connection};
use lvs_system::route::{self, Way};
use lvs_system::watch::{self, Picture};

use super::Patient;
use crate::config::{Configuration, Instance, RealServer, Service};
use crate::control::State;

/// The machine, its interfaces as they were at the start.
pub(super) struct Machine<'p> {
    pub(super) patient: Patient<'p>,
    pub(super) picture: Picture,
    route: RefCell<Connection>,
}

/// A VIP of a virtual router.
#[derive(Clone, Copy, Debug)]
pub(super) struct Vip<'p> {
    pub(super) instance: &'p Instance,
    pub(super) address: IpAddr,
    /// The interface to its LAN; not the macvlan, which a Backup doesn't have.
    pub(super) interface: &'p str,
}

impl<'p> Machine<'p> {
    pub(super) fn look(patient: Patient<'p>) -> anyhow::Result<Self> {
        let mut route = Connection::open(netlink::Protocol::Route)?;
        Ok(Self {
            patient,
            picture: watch::picture(&mut route)?,
            route: RefCell::new(route),
        })
    }

    pub(super) fn configuration(&self) -> &'p Configuration {
        self.patient.configuration
    }

    pub(super) fn link(&self, name: &str) -> Option<&Link> {
        self.picture.links.iter().find(|link| link.name == name)
    }

    /// The way that the kernel has to an address.
    pub(super) fn way_to(&self, address: IpAddr) -> Option<Way> {
        route::way_to(&mut self.route.borrow_mut(), address)
    }

    pub(super) fn link_of(&self, way: &Way) -> Option<&Link> {
        let mut links = self.picture.links.iter();
        links.find(|link| link.index == way.interface_index)
    }

    pub(super) fn vips(&self) -> impl Iterator<Item = Vip<'p>> {
        self.configuration().instances.iter().flat_map(|instance| {
            let all = instance.addresses.iter().chain(&instance.further_addresses);
            all.map(|vip| Vip {
                instance,
                address: vip.address,
                interface: vip.interface.as_deref().unwrap_or(&instance.interface),
            })
        })
    }

    /// Interfaces to the LANs of VIPs, each once, with whether a VIP of a family is there.
    pub(super) fn lans(&self, family: Family) -> BTreeSet<&'p str> {
        let vips = self.vips();
        vips.filter(|vip| Family::of(vip.address) == family)
            .map(|vip| vip.interface)
            .collect()
    }

    /// Ethernet addresses that are this machine's, or that it has as Active.
    pub(super) fn own_hardware(&self) -> BTreeSet<[u8; 6]> {
        let links = &self.picture.links;
        links.iter().map(|link| link.hardware_address).collect()
    }

    pub(super) fn is_own(&self, address: IpAddr) -> bool {
        let mut addresses = self.picture.addresses.iter();
        addresses.any(|own| own.address == address)
    }

    /// Its role, where a director runs that knows the instance.
    pub(super) fn state(&self, instance: &Instance) -> Option<State> {
        let mut instances = self.patient.running?.status.instances.iter();
        let here = instances.find(|one| one.name == instance.name)?;
        Some(here.state)
    }

    /// What a service is asked, each once: address, protocol and port.
    pub(super) fn questions(service: &Service) -> BTreeSet<(IpAddr, Protocol, u16)> {
        let keys = service.virtual_services.iter().map(|one| one.key);
        keys.filter_map(|key| match key {
            ServiceKey::Socket {
                address,
                port,
                protocol,
            } => Some((address, protocol, port)),
            ServiceKey::FirewallMark { .. } => None,
        })
        .collect()
    }

    /// Real servers, each address once, with how packets reach it.
    pub(super) fn servers(&self) -> Vec<(IpAddr, &'p RealServer, &'p Service)> {
        let mut seen = BTreeSet::new();
        let services = self.configuration().services.iter();
        services
            .flat_map(|service| {
                let servers = service.real_servers.iter();
                servers.map(move |server| (server.key.address, server, service))
            })
            .filter(|(address, server, _)| {
                let is_direct = server.forwarding == Forwarding::DirectRouting;
                seen.insert((*address, is_direct))
            })
            .collect()
    }
}
