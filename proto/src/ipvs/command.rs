//! Requests.

use std::net::IpAddr;
use std::num::NonZeroU32;

use super::attribute::{
    Attribute, CommandNumber, OfDestination, OfService, PERSISTENT, Top, attribute, family_number,
    message, nest,
};
use super::daemon::{self, Daemon, DaemonRole};
use super::family::VERSION;
use super::{Destination, DestinationKey, Forwarding, Service, ServiceKey, Tunnel, TunnelChecksum};
use crate::Family;

/// A request that changes the table and is answered with an acknowledgement only.
///
/// `Set…` replaces all that it carries. What the kernel answers when there is nothing, or already
/// something, to act on: `New…` EEXIST, a missing service ESRCH, a missing destination ENOENT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Adds a service without destinations.
    NewService(Service),
    /// Changes a service's scheduler, flags and persistence.
    SetService(Service),
    /// Removes a service with its destinations.
    DeleteService(ServiceKey),
    /// Adds a destination.
    NewDestination(ServiceKey, Destination),
    /// Changes a destination's forwarding, weight and thresholds.
    SetDestination(ServiceKey, Destination),
    /// Removes a destination.
    DeleteDestination(ServiceKey, DestinationKey),
    /// Removes all services.
    Flush,
    /// Sets how long idle connection entries stay.
    SetTimeouts(Timeouts),
    /// Starts a synchronization daemon; EEXIST when one of its role runs, ENODEV without the
    /// interface.
    NewDaemon(Daemon),
    /// Ends the synchronization daemon of that role; ESRCH when none runs.
    DeleteDaemon(DaemonRole),
}

/// A request that is answered with objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Query {
    /// All services; a dump.
    Services,
    /// One service; ESRCH when it is missing.
    Service(ServiceKey),
    /// All destinations of a service; a dump. That of a missing service is empty, and no error.
    Destinations(ServiceKey),
    /// Version and size of the connection table.
    Information,
    /// How long idle connection entries stay.
    Timeouts,
    /// The synchronization daemons that run; a dump.
    Daemons,
}

/// How long idle connection entries stay, in seconds. In a request, 0 leaves a value as it is;
/// values above 2147483647 are refused (EINVAL).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// Established TCP connections (the kernel's default is 900).
    pub tcp: u32,
    /// TCP connections after a FIN (120).
    pub tcp_fin: u32,
    /// UDP flows (300).
    pub udp: u32,
}

impl Command {
    /// The request behind its netlink header.
    pub fn encode(&self) -> Vec<u8> {
        use CommandNumber as Number;
        let (number, attributes) = match self {
            Self::NewService(service) => (Number::NewService, vec![whole_service(service)]),
            Self::SetService(service) => (Number::SetService, vec![whole_service(service)]),
            Self::DeleteService(key) => (Number::DeleteService, vec![service_key(*key)]),
            Self::NewDestination(key, destination) => (
                Number::NewDestination,
                vec![service_key(*key), whole_destination(*key, destination)],
            ),
            Self::SetDestination(key, destination) => (
                Number::SetDestination,
                vec![service_key(*key), whole_destination(*key, destination)],
            ),
            Self::DeleteDestination(key, destination) => (
                Number::DeleteDestination,
                vec![
                    service_key(*key),
                    nest(
                        Top::Destination,
                        destination_attributes(*key, *destination, Vec::new()),
                    ),
                ],
            ),
            Self::Flush => (Number::Flush, Vec::new()),
            Self::SetTimeouts(timeouts) => {
                let values = [
                    (Top::TimeoutTcp, timeouts.tcp),
                    (Top::TimeoutTcpFin, timeouts.tcp_fin),
                    (Top::TimeoutUdp, timeouts.udp),
                ];
                let attributes = values
                    .into_iter()
                    .filter(|(_, seconds)| *seconds != 0)
                    .map(|(kind, seconds)| attribute(kind, seconds))
                    .collect();
                (Number::SetConfiguration, attributes)
            }
            Self::NewDaemon(daemon) => (Number::NewDaemon, vec![daemon.encode()]),
            Self::DeleteDaemon(role) => (Number::DeleteDaemon, vec![daemon::role_only(*role)]),
        };
        message(number, VERSION, attributes)
    }
}

impl Query {
    /// The request behind its netlink header.
    pub fn encode(&self) -> Vec<u8> {
        use CommandNumber as Number;
        let (number, attributes) = match *self {
            Self::Services => (Number::GetService, Vec::new()),
            Self::Service(key) => (Number::GetService, vec![service_key(key)]),
            Self::Destinations(key) => (Number::GetDestination, vec![service_key(key)]),
            Self::Information => (Number::GetInformation, Vec::new()),
            Self::Timeouts => (Number::GetConfiguration, Vec::new()),
            Self::Daemons => (Number::GetDaemon, Vec::new()),
        };
        message(number, VERSION, attributes)
    }
}

fn service_key(key: ServiceKey) -> Attribute<Top> {
    nest(Top::Service, service_attributes(key))
}

fn service_attributes(key: ServiceKey) -> Vec<Attribute<OfService>> {
    let family = attribute(OfService::AddressFamily, family_number(key.family()));
    match key {
        ServiceKey::Socket {
            address,
            port,
            protocol,
        } => vec![
            family,
            attribute(OfService::Protocol, protocol.number()),
            attribute(OfService::Address, sixteen_octets(address)),
            attribute(OfService::Port, port.to_be()),
        ],
        ServiceKey::FirewallMark { mark, .. } => vec![
            family,
            attribute(OfService::FirewallMark, NonZeroU32::get(mark)),
        ],
    }
}

fn whole_service(service: &Service) -> Attribute<Top> {
    let mut attributes = service_attributes(service.key);
    let mut flags = service.flags.bits();
    let (timeout, prefix_length) = match service.persistence {
        Some(persistence) => {
            flags |= PERSISTENT;
            let seconds = persistence.timeout.as_secs();
            (
                u32::try_from(seconds).unwrap_or(u32::MAX),
                persistence.prefix_length,
            )
        }
        None => (0, service.key.family().address_bits()),
    };
    let scheduler = service.scheduler.map_or(NO_SCHEDULER, |known| known.name());
    let mut flags_and_mask = flags.to_ne_bytes().to_vec();
    flags_and_mask.extend_from_slice(&u32::MAX.to_ne_bytes());
    attributes.extend([
        attribute(OfService::SchedulerName, scheduler),
        attribute(OfService::Flags, flags_and_mask),
        attribute(OfService::Timeout, timeout),
        attribute(
            OfService::Netmask,
            netmask(service.key.family(), prefix_length),
        ),
    ]);
    nest(Top::Service, attributes)
}

fn whole_destination(service: ServiceKey, destination: &Destination) -> Attribute<Top> {
    let mut settings = vec![
        attribute(
            OfDestination::ForwardingMethod,
            destination.forwarding.number(),
        ),
        attribute(OfDestination::Weight, destination.weight),
        attribute(OfDestination::UpperThreshold, destination.upper_threshold),
        attribute(OfDestination::LowerThreshold, destination.lower_threshold),
    ];
    if let Forwarding::Tunnel(tunnel) = destination.forwarding {
        settings.extend(tunnel_attributes(tunnel));
    }
    nest(
        Top::Destination,
        destination_attributes(service, destination.key, settings),
    )
}

/// None for IP in IP, which kernels before 5.3 have alone.
fn tunnel_attributes(tunnel: Tunnel) -> Vec<Attribute<OfDestination>> {
    let (number, port, checksum) = match tunnel {
        Tunnel::IpIp => return Vec::new(),
        Tunnel::Gue { port, checksum } => (GUE, port.get(), checksum),
        Tunnel::Gre { checksum } => (GRE, 0, checksum),
    };
    let flags: u16 = match checksum {
        TunnelChecksum::None => 0,
        TunnelChecksum::Plain => CHECKSUM,
        TunnelChecksum::Remote => REMOTE_CHECKSUM,
    };
    vec![
        attribute(OfDestination::TunnelType, number),
        attribute(OfDestination::TunnelPort, port.to_be()),
        attribute(OfDestination::TunnelFlags, flags),
    ]
}

/// The key, `settings`, and the address family where it isn't that of the service.
fn destination_attributes(
    service: ServiceKey,
    key: DestinationKey,
    settings: Vec<Attribute<OfDestination>>,
) -> Vec<Attribute<OfDestination>> {
    let mut attributes = vec![
        attribute(OfDestination::Address, sixteen_octets(key.address)),
        attribute(OfDestination::Port, key.port.to_be()),
    ];
    attributes.extend(settings);
    let family = Family::of(key.address);
    if family != service.family() {
        attributes.push(attribute(
            OfDestination::AddressFamily,
            family_number(family),
        ));
    }
    attributes
}

/// `IP_VS_CONN_F_TUNNEL_TYPE_*`.
pub(super) const GUE: u8 = 1;
pub(super) const GRE: u8 = 2;

/// `IP_VS_TUNNEL_ENCAP_FLAG_*`.
pub(super) const CHECKSUM: u16 = 1;
pub(super) const REMOTE_CHECKSUM: u16 = 2;

/// The kernel's word for a service that schedules nothing.
const NO_SCHEDULER: &str = "none";

/// IPv4 in the first four (`union nf_inet_addr`).
fn sixteen_octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => {
            let mut octets = address.octets().to_vec();
            octets.resize(16, 0);
            octets
        }
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// A mask in network order for IPv4, a number for IPv6.
fn netmask(family: Family, prefix_length: u8) -> u32 {
    match family {
        Family::Ipv4 => {
            let host_bits = 32u32.saturating_sub(u32::from(prefix_length));
            u32::MAX.checked_shl(host_bits).unwrap_or(0).to_be()
        }
        Family::Ipv6 => u32::from(prefix_length),
    }
}
