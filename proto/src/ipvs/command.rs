//! Requests.

use std::net::IpAddr;

use neli::genl::Nlattr;
use neli::types::Buffer;

use super::attribute::{
    CommandNumber, INET, INET6, OfDestination, OfService, PERSISTENT, Top, attribute, message, nest,
};
use super::family::VERSION;
use super::{Destination, DestinationKey, Service, ServiceKey};

/// A request that changes the table and is answered with an acknowledgement only.
///
/// `Set…` replaces all that it carries. What the kernel answers when there is nothing, or already
/// something, to act on: `New…` EEXIST, a missing service ESRCH, a missing destination ENOENT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
        let (number, attributes) = match *self {
            Self::NewService(service) => (Number::NewService, vec![whole_service(&service)]),
            Self::SetService(service) => (Number::SetService, vec![whole_service(&service)]),
            Self::DeleteService(key) => (Number::DeleteService, vec![service_key(key)]),
            Self::NewDestination(key, destination) => (
                Number::NewDestination,
                vec![service_key(key), whole_destination(key, &destination)],
            ),
            Self::SetDestination(key, destination) => (
                Number::SetDestination,
                vec![service_key(key), whole_destination(key, &destination)],
            ),
            Self::DeleteDestination(key, destination) => (
                Number::DeleteDestination,
                vec![
                    service_key(key),
                    nest(
                        Top::Destination,
                        destination_attributes(key, destination, Vec::new()),
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
        };
        message(number, VERSION, attributes)
    }
}

fn service_key(key: ServiceKey) -> Nlattr<Top, Buffer> {
    nest(Top::Service, service_attributes(key))
}

fn service_attributes(key: ServiceKey) -> Vec<Nlattr<OfService, Buffer>> {
    vec![
        attribute(OfService::AddressFamily, family(key.address)),
        attribute(OfService::Protocol, key.protocol.number()),
        attribute(OfService::Address, sixteen_octets(key.address)),
        attribute(OfService::Port, key.port.to_be()),
    ]
}

fn whole_service(service: &Service) -> Nlattr<Top, Buffer> {
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
        None => (0, full_prefix(service.key.address)),
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
            netmask(service.key.address, prefix_length),
        ),
    ]);
    nest(Top::Service, attributes)
}

fn whole_destination(service: ServiceKey, destination: &Destination) -> Nlattr<Top, Buffer> {
    nest(
        Top::Destination,
        destination_attributes(
            service,
            destination.key,
            vec![
                attribute(
                    OfDestination::ForwardingMethod,
                    destination.forwarding.number(),
                ),
                attribute(OfDestination::Weight, destination.weight),
                attribute(OfDestination::UpperThreshold, destination.upper_threshold),
                attribute(OfDestination::LowerThreshold, destination.lower_threshold),
            ],
        ),
    )
}

/// The key, `settings`, and the address family where it isn't that of the service.
fn destination_attributes(
    service: ServiceKey,
    key: DestinationKey,
    settings: Vec<Nlattr<OfDestination, Buffer>>,
) -> Vec<Nlattr<OfDestination, Buffer>> {
    let mut attributes = vec![
        attribute(OfDestination::Address, sixteen_octets(key.address)),
        attribute(OfDestination::Port, key.port.to_be()),
    ];
    attributes.extend(settings);
    if family(key.address) != family(service.address) {
        attributes.push(attribute(OfDestination::AddressFamily, family(key.address)));
    }
    attributes
}

/// The kernel's word for a service that schedules nothing.
const NO_SCHEDULER: &str = "none";

fn family(address: IpAddr) -> u16 {
    match address {
        IpAddr::V4(_) => INET,
        IpAddr::V6(_) => INET6,
    }
}

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

fn full_prefix(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// A mask in network order for IPv4, a number for IPv6.
fn netmask(address: IpAddr, prefix_length: u8) -> u32 {
    match address {
        IpAddr::V4(_) => {
            let host_bits = 32u32.saturating_sub(u32::from(prefix_length));
            u32::MAX.checked_shl(host_bits).unwrap_or(0).to_be()
        }
        IpAddr::V6(_) => u32::from(prefix_length),
    }
}
