//! Which ways to real servers are probed: by every VIP of a service, as clients' queries go.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use lvs_proto::Family;
use lvs_proto::ipvs::{Forwarding, Protocol, ServiceKey};

use crate::config::{Check, Configuration, Dataplane, RealServer, Service};
use crate::dataplane::{Marks, Way};

/// A service may have thousands of VIPs, and a server that has these has the others.
const MOST_VIPS: usize = 16;

/// A VIP on a real server.
#[derive(Clone, Copy, Debug)]
pub(super) struct VipOnServer<'c> {
    /// The VIP, and the service's port.
    pub(super) vip: SocketAddr,
    /// Over what.
    pub(super) protocol: Protocol,
    /// On whom.
    pub(super) server: &'c RealServer,
    /// How packets get there.
    pub(super) way: Way,
}

/// What a check probes beside the servers' own addresses. Masquerading is left out: such a server has no
/// VIP.
pub(super) fn vips_on_servers<'c>(
    configuration: &Configuration,
    service: &'c Service,
    check: &Check,
) -> Vec<VipOnServer<'c>> {
    if !check.path || configuration.dataplane != Dataplane::Ipvs {
        return Vec::new();
    }
    let mut probed = Vec::new();
    for ((address, protocol), port) in vips(service, check) {
        let family = Family::of(address);
        for server in service.real_servers_of(family) {
            if matches!(
                server.forwarding,
                Forwarding::DirectRouting | Forwarding::Tunnel(_)
            ) {
                probed.push(VipOnServer {
                    vip: SocketAddr::new(address, port),
                    protocol,
                    server,
                    way: Way {
                        server: server.key.address,
                        forwarding: server.forwarding,
                        family,
                    },
                });
            }
        }
    }
    probed
}

/// The marks of all that is probed.
pub(super) fn marks(configuration: &Configuration) -> Marks {
    let services = configuration.services.iter();
    let probed = services.flat_map(|service| {
        let checks = service.checks.iter();
        checks.flat_map(|check| vips_on_servers(configuration, service, check))
    });
    let ways: BTreeSet<Way> = probed.map(|one| one.way).collect();
    Marks::of(&ways)
}

/// The first VIPs for which a check speaks, each with the port that is probed: the check's where the
/// service has that, or the VIP's first.
fn vips(service: &Service, check: &Check) -> BTreeMap<(IpAddr, Protocol), u16> {
    let wanted = check.port.map(|port| port.get());
    let mut vips = BTreeMap::new();
    let mut addresses = BTreeSet::new();
    for one in &service.virtual_services {
        let ServiceKey::Socket {
            address,
            port,
            protocol,
        } = one.key
        else {
            continue;
        };
        let is_new = !addresses.contains(&address);
        if !check.protocols.contains(&protocol) || (is_new && addresses.len() == MOST_VIPS) {
            continue;
        }
        // Every port there is.
        let port = if port == 0 { wanted } else { Some(port) };
        let Some(port) = port else { continue };
        addresses.insert(address);
        let probed = vips.entry((address, protocol)).or_insert(port);
        if wanted == Some(port) {
            *probed = port;
        }
    }
    vips
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tests::configuration;

    fn probed(service: &str) -> Vec<String> {
        let file = format!(
            "services: [{{ name: a, external: true, check: {{ dns: {{ name: example.org }} }}, {service} }}]"
        );
        let configuration = configuration(&file);
        let service = &configuration.services[0];
        let check = &service.checks[0];
        let probed = vips_on_servers(&configuration, service, check).into_iter();
        probed
            .map(|one| format!("{}/{} on {}", one.vip, one.protocol, one.server.key))
            .collect()
    }

    #[test]
    fn every_vip_is_probed_on_every_server_that_holds_it() {
        let servers = "real_servers: [{ address: 192.0.2.1 }, { address: '2001:db8::1' }, { address: 192.0.2.2, forwarding: masquerade }]";
        let service =
            format!("addresses: [192.0.2.9, '2001:db8::9'], port: 53, protocols: [udp], {servers}");
        assert_eq!(
            probed(&service),
            [
                "192.0.2.9:53/udp on 192.0.2.1",
                "[2001:db8::9]:53/udp on 2001:db8::1"
            ]
        );
    }

    #[test]
    fn one_port_of_a_vip_is_enough() {
        let servers = "real_servers: [{ address: 192.0.2.1 }]";
        let service = |check: &str| {
            format!("address: 192.0.2.9, ports: [53, 5353], protocols: [udp], {servers}{check}")
        };
        assert_eq!(probed(&service("")), ["192.0.2.9:53/udp on 192.0.2.1"]);
    }

    #[test]
    fn ways_of_several_services_share_a_mark() {
        let one = |name: &str, vip: u8| {
            format!(
                "{{ name: {name}, external: true, address: 192.0.2.{vip}, port: 53, protocols: [udp], check: {{ dns: {{ name: example.org }} }}, real_servers: [{{ address: 192.0.2.1 }}] }}"
            )
        };
        let both = format!("services: [{}, {}]", one("a", 8), one("b", 9));
        assert_eq!(marks(&configuration(&both)).services().count(), 1);
        let off = both.replace("example.org } }", "example.org }, path: false }");
        assert_eq!(marks(&configuration(&off)).services().count(), 0);
        let none = format!("dataplane: none\n{both}");
        assert_eq!(marks(&configuration(&none)).services().count(), 0);
    }
}
