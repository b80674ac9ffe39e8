//! IP addresses on interfaces.
//!
//! Adding what is there and removing what is absent are results here, not errors, so that callers
//! can repeat themselves after a crash.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use netlink_packet_core::{
    NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NlasIterator, parse_string, parse_u32,
};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeader, AddressHeaderFlags, AddressMessage,
    AddressProtocol, AddressScope, CacheInfo,
};
use netlink_packet_route::route::{RouteAttribute, RouteHeader, RouteMessage, RouteType};
use nix::errno::Errno;

use crate::link::display_name;
use crate::netlink::{self, Connection, Request};

/// The `IFA_PROTO` value that marks an address as put there by this project.
///
/// The kernel takes 1 to 3 for itself (`linux/if_addr.h`) and leaves the rest to administrators;
/// `ip address show proto 153` lists ours. Kernels before 5.18 drop the mark silently.
pub const OURS: u8 = 153;

/// The port of a datagram that is never sent (RFC 863).
const DISCARD: u16 = 9;

/// Between two looks whether a route is there.
const ROUTE_PAUSE: Duration = Duration::from_micros(200);

/// An address on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The interface, as [`crate::link::Link::index`].
    pub interface_index: u32,
    /// The address itself.
    pub address: IpAddr,
    /// 0 to 32, or 0 to 128 for IPv6.
    pub prefix_length: u8,
    /// The other end of a point-to-point link, which the prefix length belongs to then.
    pub peer: Option<IpAddr>,
    /// IPv4 only: how `ifconfig` lists it; the interface's name, or that and `:` with a suffix.
    pub label: Option<String>,
    /// IPv4 only: the broadcast address of the subnet.
    pub broadcast: Option<Ipv4Addr>,
    /// How far the address is valid. Of an IPv6 address the kernel knows that without being told.
    pub scope: Scope,
    /// Without a route to the address's subnet (`IFA_F_NOPREFIXROUTE`).
    pub no_prefix_route: bool,
    /// Found only: another address of the same subnet was there first (`IFA_F_SECONDARY`), and the
    /// kernel may take this one away with it.
    pub secondary: bool,
    /// Found only: duplicate address detection isn't through (`IFA_F_TENTATIVE`), so nothing can
    /// be sent from the address.
    pub tentative: bool,
    /// Found only: another machine has the address (`IFA_F_DADFAILED`).
    pub duplicate: bool,
    /// Found only: the kernel takes it away when nobody renews it in time (`IFA_CACHEINFO`).
    pub expires: bool,
    /// `IFA_PROTO`: 0 where nobody marked it, [`OURS`] where we did.
    pub protocol: u8,
}

/// How far an address is valid (`linux/rtnetlink.h`, `RT_SCOPE_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everywhere.
    Global,
    /// On the link only.
    Link,
    /// Inside this host only; never chosen as the source of what leaves it.
    Host,
    /// Any other value.
    Other(u8),
}

/// What [`add`] met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddOutcome {
    /// The address was absent and is there now.
    Added,
    /// The same address with the same prefix length was on the interface; it was left as it is.
    AlreadyThere,
}

/// What [`remove`] met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoveOutcome {
    /// The address was there and is gone.
    Removed,
    /// The interface didn't have the address, or no longer exists.
    WasAbsent,
}

/// Why addresses could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// [`add`] was refused.
    #[error("cannot add {address} to {interface}: {reason}")]
    Add {
        /// Address and prefix length.
        address: String,
        /// The interface's name.
        interface: String,
        /// The kernel's answer.
        reason: netlink::Error,
    },
    /// [`remove`] was refused.
    #[error("cannot remove {address} from {interface}: {reason}")]
    Remove {
        /// Address and prefix length.
        address: String,
        /// The interface's name.
        interface: String,
        /// The kernel's answer.
        reason: netlink::Error,
    },
    /// [`list`] failed.
    #[error("cannot list addresses: {0}")]
    List(netlink::Error),
}

impl Address {
    /// An address of global scope, marked [`OURS`], with the kernel's defaults for all else.
    pub fn new(interface_index: u32, address: IpAddr, prefix_length: u8) -> Self {
        Self {
            interface_index,
            address,
            prefix_length,
            peer: None,
            label: None,
            broadcast: None,
            scope: Scope::Global,
            no_prefix_route: false,
            secondary: false,
            tentative: false,
            duplicate: false,
            expires: false,
            protocol: OURS,
        }
    }

    /// Whether the kernel takes both for the same address of the same interface, whatever else
    /// differs.
    pub fn is_same(&self, other: &Self) -> bool {
        let identity = |address: &Self| {
            let Self {
                interface_index,
                address,
                prefix_length,
                peer,
                ..
            } = *address;
            (interface_index, address, prefix_length, peer)
        };
        identity(self) == identity(other)
    }

    /// Whether it carries the mark [`OURS`].
    pub fn is_ours(&self) -> bool {
        self.protocol == OURS
    }
}

/// Puts `address` on its interface.
///
/// IPv6 addresses skip duplicate address detection: a VIP's uniqueness is VRRP's or the
/// operator's matter, and a tentative address answers nobody. And they are deprecated from the start
/// (RFC 4862, section 5.5.4): what this machine sends to real servers, probes and tunnels among it,
/// comes from an address of its own. Real servers hold the VIP themselves and would answer to it at
/// home. Of an IPv4 subnet the kernel takes the first address anyway.
pub fn add(connection: &mut Connection, address: &Address) -> Result<AddOutcome, Error> {
    add_message(connection, address, &message(address))
}

/// As [`add`], for `lifetime` only, in whole seconds (rounded up, at least 1): then the kernel takes
/// the address away by itself, whatever has become of this process, unless it is [renewed](renew).
pub fn add_for(
    connection: &mut Connection,
    address: &Address,
    lifetime: Duration,
) -> Result<AddOutcome, Error> {
    add_message(connection, address, &with_lifetime(address, Some(lifetime)))
}

/// Lets the kernel keep `address` for `lifetime` from now, as in [`add_for`], or for ever.
///
/// An address that is there is never taken away for that (`NLM_F_REPLACE`); one that is not is added.
pub fn renew(
    connection: &mut Connection,
    address: &Address,
    lifetime: Option<Duration>,
) -> Result<(), Error> {
    let message = with_lifetime(address, lifetime);
    let request = Request::of(libc::RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &message);
    match connection.request(&request) {
        Ok(_) => Ok(()),
        Err(reason) => Err(refused(address, reason)),
    }
}

fn add_message(
    connection: &mut Connection,
    address: &Address,
    message: &AddressMessage,
) -> Result<AddOutcome, Error> {
    let request = Request::of(libc::RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, message);
    match connection.request(&request) {
        Ok(_) => Ok(AddOutcome::Added),
        Err(error) if error.errno() == Some(Errno::EEXIST) => Ok(AddOutcome::AlreadyThere),
        Err(reason) => Err(refused(address, reason)),
    }
}

fn refused(address: &Address, reason: netlink::Error) -> Error {
    Error::Add {
        address: format!("{}/{}", address.address, address.prefix_length),
        interface: display_name(address.interface_index),
        reason,
    }
}

/// Waits until the kernel takes packets to IPv6 addresses, with their interfaces, that were added a moment
/// ago, but no longer than `limit`. Whether it does.
///
/// It acknowledges an address before a worker of its own makes the route that this takes
/// (`addrconf_dad_work()`, `net/ipv6/addrconf.c`).
pub fn await_routes(
    connection: &mut Connection,
    added: &[(u32, Ipv6Addr)],
    limit: Duration,
) -> bool {
    let deadline = Instant::now() + limit;
    added.iter().all(|(interface_index, address)| {
        loop {
            if is_taken(connection, *interface_index, *address) {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(ROUTE_PAUSE);
        }
    })
}

/// Whether the kernel takes packets to `address` as this machine's own, by its routes for packets that
/// come in or start here, whatever interface holds it.
pub fn is_local(connection: &mut Connection, address: IpAddr) -> bool {
    is_routed_here(connection, address, None)
}

fn is_taken(connection: &mut Connection, interface_index: u32, address: Ipv6Addr) -> bool {
    is_routed_here(connection, address.into(), Some(interface_index))
}

fn is_routed_here(
    connection: &mut Connection,
    address: IpAddr,
    interface_index: Option<u32>,
) -> bool {
    let mut message = RouteMessage::default();
    message.header.address_family = family(address);
    message.header.destination_prefix_length = if address.is_ipv6() { 128 } else { 32 };
    message.attributes = vec![RouteAttribute::Destination(address.into())];
    message
        .attributes
        .extend(interface_index.map(RouteAttribute::Oif));
    let replies = connection.request(&Request::of(libc::RTM_GETROUTE, 0, &message));
    replies.is_ok_and(|replies| {
        let headers = replies
            .iter()
            .map(|reply| RouteHeader::parse(&reply.payload));
        headers
            .flatten()
            .any(|header| header.kind == RouteType::Local)
    })
}

/// Takes `address` from its interface; only interface, address, prefix length and peer count, so
/// that what [`list`] found can be removed as it is.
///
/// When the first address of an IPv4 subnet goes, the kernel removes the secondary ones of that
/// subnet as well, unless `promote_secondaries` is set.
pub fn remove(connection: &mut Connection, address: &Address) -> Result<RemoveOutcome, Error> {
    let request = Request::of(libc::RTM_DELADDR, 0, &identity(address));
    match connection.request(&request) {
        Ok(_) => Ok(RemoveOutcome::Removed),
        Err(error) if matches!(error.errno(), Some(Errno::EADDRNOTAVAIL | Errno::ENODEV)) => {
            Ok(RemoveOutcome::WasAbsent)
        }
        Err(reason) => Err(Error::Remove {
            address: format!("{}/{}", address.address, address.prefix_length),
            interface: display_name(address.interface_index),
            reason,
        }),
    }
}

/// Lists the IPv4 and IPv6 addresses of one interface, or of all, in the kernel's order.
pub fn list(
    connection: &mut Connection,
    interface_index: Option<u32>,
) -> Result<Vec<Address>, Error> {
    let request = Request::of(libc::RTM_GETADDR, 0, &AddressMessage::default());
    let mut addresses = Vec::new();
    for reply in connection.dump(&request).map_err(Error::List)? {
        let malformed = Error::List(netlink::Error::Malformed("an address message"));
        let address = parse(&reply.payload).ok_or(malformed)?;
        addresses.extend(address.filter(|address| {
            interface_index.is_none_or(|index| index == address.interface_index)
        }));
    }
    Ok(addresses)
}

/// The IPv4 address that an interface would speak from: its first of global scope that is neither
/// secondary, nor [ours](Address::is_ours), nor among `excluded` (the VIPs), or the next best;
/// `None` without any.
pub fn primary_ipv4(
    addresses: &[Address],
    interface_index: u32,
    excluded: &[IpAddr],
) -> Option<Ipv4Addr> {
    own(addresses, interface_index, excluded)
        .filter_map(|candidate| match candidate.address {
            IpAddr::V4(address) => Some((candidate, address)),
            IpAddr::V6(_) => None,
        })
        .min_by_key(|(candidate, _)| (candidate.scope != Scope::Global, candidate.secondary))
        .map(|(_, address)| address)
}

/// The IPv6 address that an interface speaks VRRP from: its first link-local one (RFC 9568, section
/// 5.1.2.1) that is ready for use, not [ours](Address::is_ours), and not among `excluded`.
pub fn primary_ipv6(
    addresses: &[Address],
    interface_index: u32,
    excluded: &[IpAddr],
) -> Option<Ipv6Addr> {
    own(addresses, interface_index, excluded)
        .filter(|candidate| !candidate.tentative && !candidate.duplicate)
        .find_map(|candidate| match candidate.address {
            IpAddr::V6(address) if address.is_unicast_link_local() => Some(address),
            _ => None,
        })
}

fn own<'a>(
    addresses: &'a [Address],
    interface_index: u32,
    excluded: &[IpAddr],
) -> impl Iterator<Item = &'a Address> {
    addresses.iter().filter(move |candidate| {
        candidate.interface_index == interface_index
            && !candidate.is_ours()
            && !excluded.contains(&candidate.address)
    })
}

/// The address that this machine would speak to another one from. Nothing is sent.
///
/// # Errors
/// When it has no way there, or no more descriptors.
pub fn source_towards(address: IpAddr) -> io::Result<IpAddr> {
    let any: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(SocketAddr::new(address, DISCARD))?;
    Ok(socket.local_addr()?.ip())
}

/// Whether the kernel lets this process change addresses, routes and links (`CAP_NET_ADMIN` in
/// the user namespace that owns the network namespace).
///
/// Asks to remove an address from interface 0, which doesn't exist: the kernel checks rights
/// before it looks (`net/core/rtnetlink.c`, `rtnetlink_rcv_msg`), so nothing can change.
pub fn may_change(connection: &mut Connection) -> Result<bool, Error> {
    match remove(
        connection,
        &Address::new(0, Ipv4Addr::UNSPECIFIED.into(), 32),
    ) {
        Ok(_) => Ok(true),
        Err(Error::Remove { reason, .. }) if reason.errno() == Some(Errno::EPERM) => Ok(false),
        Err(error) => Err(error),
    }
}

/// What the kernel knows an address by (`inet_rtm_deladdr()` in `net/ipv4/devinet.c`).
fn identity(address: &Address) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(address.address);
    message.header.prefix_len = address.prefix_length;
    message.header.index = address.interface_index;
    message.attributes = vec![
        AddressAttribute::Local(address.address),
        AddressAttribute::Address(address.peer.unwrap_or(address.address)),
    ];
    message
}

fn message(address: &Address) -> AddressMessage {
    let mut flags = AddressFlags::empty();
    flags.set(AddressFlags::Noprefixroute, address.no_prefix_route);
    flags.set(AddressFlags::Nodad, address.address.is_ipv6());
    let mut message = identity(address);
    message.header.flags = AddressHeaderFlags::from_bits_retain(flags.bits() as u8);
    message.header.scope = address.scope.into();
    message.attributes.extend([
        AddressAttribute::Flags(flags),
        AddressAttribute::Protocol(AddressProtocol::from(address.protocol)),
    ]);
    message
        .attributes
        .extend(address.label.clone().map(AddressAttribute::Label));
    message
        .attributes
        .extend(address.broadcast.map(AddressAttribute::Broadcast));
    message
        .attributes
        .extend(address.address.is_ipv6().then(|| lifetimes(FOR_EVER, 0)));
    message
}

/// [`message`] with a lifetime for IPv4 too, where the kernel takes none for its former one.
fn with_lifetime(address: &Address, lifetime: Option<Duration>) -> AddressMessage {
    let valid = lifetime.map_or(FOR_EVER, whole_seconds);
    let preferred = if address.address.is_ipv6() { 0 } else { valid };
    let mut message = message(address);
    let is_other =
        |attribute: &AddressAttribute| !matches!(attribute, AddressAttribute::CacheInfo(_));
    message.attributes.retain(is_other);
    message.attributes.push(lifetimes(valid, preferred));
    message
}

fn whole_seconds(lifetime: Duration) -> u32 {
    let seconds = lifetime
        .as_nanos()
        .div_ceil(Duration::from_secs(1).as_nanos());
    u32::try_from(seconds).unwrap_or(FOR_EVER).max(1)
}

/// Seconds for which an address is valid, and for which it is preferred as a source.
fn lifetimes(valid: u32, preferred: u32) -> AddressAttribute {
    let mut lifetimes = CacheInfo::default();
    lifetimes.ifa_valid = valid;
    lifetimes.ifa_preferred = preferred;
    AddressAttribute::CacheInfo(lifetimes)
}

/// `INFINITY_LIFE_TIME`, `include/net/addrconf.h`.
const FOR_EVER: u32 = u32::MAX;

/// Reads what [`Address`] needs and nothing else, so that an attribute that the library doesn't
/// know hides no address. `None` for a malformed message, `Some(None)` for other families than IPv4
/// and IPv6.
pub(crate) fn parse(payload: &[u8]) -> Option<Option<Address>> {
    let header = AddressHeader::parse(payload).ok()?;
    let ip: fn(&[u8]) -> Option<IpAddr> = match header.family {
        AddressFamily::Inet => |value| Some(<[u8; 4]>::try_from(value).ok()?.into()),
        AddressFamily::Inet6 => |value| Some(<[u8; 16]>::try_from(value).ok()?.into()),
        _ => return Some(None),
    };
    let mut flags = AddressFlags::from_bits_retain(header.flags.bits().into());
    let (mut local, mut other) = (None, None);
    let (mut label, mut broadcast, mut protocol) = (None, None, 0);
    let mut expires = false;
    for attribute in NlasIterator::new(payload.get(ADDRESS_HEADER_LENGTH..)?) {
        let attribute = attribute.ok()?;
        let value = attribute.value();
        match attribute.kind() {
            libc::IFA_LOCAL => local = Some(ip(value)?),
            libc::IFA_ADDRESS => other = Some(ip(value)?),
            libc::IFA_LABEL => label = Some(parse_string(value).ok()?),
            libc::IFA_BROADCAST => {
                broadcast = Some(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?));
            }
            libc::IFA_FLAGS => flags = AddressFlags::from_bits_retain(parse_u32(value).ok()?),
            IFA_PROTO => protocol = *value.first()?,
            // struct ifa_cacheinfo: preferred, then valid.
            libc::IFA_CACHEINFO => expires = parse_u32(value.get(4..8)?).ok()? != FOR_EVER,
            _ => {}
        }
    }
    // IPv6 has IFA_LOCAL only where IFA_ADDRESS is a peer, IPv4 always has both.
    let address = local.or(other)?;
    Some(Some(Address {
        interface_index: header.index,
        address,
        prefix_length: header.prefix_len,
        peer: other.filter(|other| *other != address),
        label,
        broadcast,
        scope: header.scope.into(),
        no_prefix_route: flags.contains(AddressFlags::Noprefixroute),
        // For IPv6 this flag says that the address is a temporary one.
        secondary: flags.contains(AddressFlags::Secondary),
        tentative: flags.contains(AddressFlags::Tentative),
        duplicate: flags.contains(AddressFlags::Dadfailed),
        expires,
        protocol,
    }))
}

/// `sizeof(struct ifaddrmsg)`, `linux/if_addr.h`.
const ADDRESS_HEADER_LENGTH: usize = 8;
/// `linux/if_addr.h`.
const IFA_PROTO: u16 = 11;

pub(crate) fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

impl From<Scope> for AddressScope {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope::Global => Self::Universe,
            Scope::Link => Self::Link,
            Scope::Host => Self::Host,
            Scope::Other(value) => Self::from(value),
        }
    }
}

impl From<AddressScope> for Scope {
    fn from(scope: AddressScope) -> Self {
        match scope {
            AddressScope::Universe => Self::Global,
            AddressScope::Link => Self::Link,
            AddressScope::Host => Self::Host,
            other => Self::Other(other.into()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::netlink::Protocol;

    const VIP: Ipv4Addr = Ipv4Addr::new(192, 168, 56, 185);

    #[test]
    fn writes_what_ip_address_add_writes() {
        let mut address = Address::new(1, VIP.into(), 32);
        address.label = Some("lo:0".into());
        address.broadcast = Some(VIP);
        address.no_prefix_route = true;
        let payload = Request::of(0, 0, &message(&address)).payload;
        // Numbers in host order: golden bytes of a little-endian machine.
        #[cfg(target_endian = "little")]
        assert_eq!(
            payload,
            [
                2, 32, 0, 0, 1, 0, 0, 0, // ifaddrmsg: AF_INET, /32, flags, scope, index
                8, 0, 2, 0, 192, 168, 56, 185, // IFA_LOCAL
                8, 0, 1, 0, 192, 168, 56, 185, // IFA_ADDRESS
                8, 0, 8, 0, 0, 2, 0, 0, // IFA_FLAGS: IFA_F_NOPREFIXROUTE
                5, 0, 11, 0, 153, 0, 0, 0, // IFA_PROTO
                9, 0, 3, 0, b'l', b'o', b':', b'0', 0, 0, 0, 0, // IFA_LABEL
                8, 0, 4, 0, 192, 168, 56, 185, // IFA_BROADCAST
            ]
        );
        assert_eq!(parse(&payload), Some(Some(address)));
    }

    /// What Linux 6.18 answered to RTM_GETADDR for
    /// `ip address add 192.168.56.185/24 dev v0 proto 153` beside 192.168.56.181/24,
    /// `ip address add 10.0.0.1 peer 10.0.0.2/32 dev v0`, and
    /// `ip -6 address add 2001:db8::53/128 dev v0 nodad`.
    #[test]
    #[cfg(target_endian = "little")]
    fn what_was_found_can_be_removed_as_it_is() {
        let vip = [
            2, 24, 129, 0, 3, 0, 0, 0, // ifaddrmsg: AF_INET, /24, secondary, index 3
            8, 0, 1, 0, 192, 168, 56, 185, // IFA_ADDRESS
            8, 0, 2, 0, 192, 168, 56, 185, // IFA_LOCAL
            7, 0, 3, 0, b'v', b'0', 0, 0, // IFA_LABEL
            5, 0, 11, 0, 153, 0, 0, 0, // IFA_PROTO
            8, 0, 8, 0, 129, 0, 0, 0, // IFA_FLAGS
            20, 0, 6, 0, 255, 255, 255, 255, 255, 255, 255, 255, 115, 216, 7, 0, 115, 216, 7, 0,
        ];
        let point_to_point = [
            2, 32, 128, 0, 3, 0, 0, 0, // ifaddrmsg: AF_INET, /32, permanent, index 3
            8, 0, 1, 0, 10, 0, 0, 2, // IFA_ADDRESS
            8, 0, 2, 0, 10, 0, 0, 1, // IFA_LOCAL
            7, 0, 3, 0, b'v', b'0', 0, 0, // IFA_LABEL
            8, 0, 8, 0, 128, 0, 0, 0, // IFA_FLAGS
            20, 0, 6, 0, 255, 255, 255, 255, 255, 255, 255, 255, 118, 216, 7, 0, 118, 216, 7, 0,
        ];
        let ipv6 = [
            10, 128, 130, 0, 3, 0, 0, 0, // ifaddrmsg: AF_INET6, /128, no DAD, index 3
            20, 0, 1, 0, 32, 1, 13, 184, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 83, // IFA_ADDRESS
            20, 0, 6, 0, 255, 255, 255, 255, 255, 255, 255, 255, 118, 216, 7, 0, 118, 216, 7, 0, 8,
            0, 8, 0, 130, 0, 0, 0, // IFA_FLAGS
        ];
        let parse = |payload: &[u8]| parse(payload).unwrap().unwrap();
        let removal = |address: &Address| Request::of(0, 0, &identity(address)).payload;

        let expected = Address {
            label: Some("v0".into()),
            secondary: true,
            ..Address::new(3, VIP.into(), 24)
        };
        assert_eq!(parse(&vip), expected);
        assert!(parse(&vip).is_ours());
        assert_eq!(
            removal(&parse(&vip)),
            [
                2, 24, 0, 0, 3, 0, 0, 0, // ifaddrmsg: AF_INET, /24, index 3
                8, 0, 2, 0, 192, 168, 56, 185, // IFA_LOCAL
                8, 0, 1, 0, 192, 168, 56, 185, // IFA_ADDRESS
            ]
        );

        assert!(!parse(&point_to_point).is_ours());
        assert_eq!(
            removal(&parse(&point_to_point)),
            [
                2, 32, 0, 0, 3, 0, 0, 0, // ifaddrmsg: AF_INET, /32, index 3
                8, 0, 2, 0, 10, 0, 0, 1, // IFA_LOCAL
                8, 0, 1, 0, 10, 0, 0, 2, // IFA_ADDRESS
            ]
        );

        let expected = Address {
            protocol: 0,
            ..Address::new(3, "2001:db8::53".parse().unwrap(), 128)
        };
        assert_eq!(parse(&ipv6), expected);
    }

    #[test]
    fn ipv6_skips_duplicate_address_detection() {
        let address = Address::new(3, "2001:db8::53".parse().unwrap(), 128);
        let message = message(&address);
        assert_eq!(message.header.flags, AddressHeaderFlags::Nodad);
        assert!(
            message
                .attributes
                .contains(&AddressAttribute::Flags(AddressFlags::Nodad))
        );
    }

    fn foreign(address: impl Into<IpAddr>) -> Address {
        Address {
            protocol: 0,
            ..Address::new(2, address.into(), 24)
        }
    }

    #[test]
    fn primary_is_neither_vip_nor_secondary() {
        let address = |last: u8, secondary, scope| Address {
            secondary,
            scope,
            ..foreign(Ipv4Addr::new(192, 168, 56, last))
        };
        let addresses = [
            foreign("fe80::1".parse::<Ipv6Addr>().unwrap()),
            address(1, false, Scope::Link),
            address(2, true, Scope::Global),
            address(185, false, Scope::Global),
            Address::new(2, Ipv4Addr::new(192, 168, 56, 186).into(), 24),
            Address {
                interface_index: 3,
                ..address(183, false, Scope::Global)
            },
            address(181, false, Scope::Global),
            address(180, false, Scope::Global),
        ];
        let vips = [VIP.into()];
        let own = Ipv4Addr::new(192, 168, 56, 181);
        assert_eq!(primary_ipv4(&addresses, 2, &vips), Some(own));
        let only_secondary = Ipv4Addr::new(192, 168, 56, 2);
        assert_eq!(
            primary_ipv4(&addresses[..6], 2, &vips),
            Some(only_secondary)
        );
        assert_eq!(primary_ipv4(&addresses[..1], 2, &[]), None);
    }

    #[test]
    fn primary_ipv6_is_link_local_and_ready() {
        let ip = |text: &str| text.parse::<Ipv6Addr>().unwrap();
        let addresses = [
            foreign(VIP),
            foreign(ip("2001:db8::1")),
            Address {
                tentative: true,
                ..foreign(ip("fe80::2"))
            },
            Address {
                duplicate: true,
                ..foreign(ip("fe80::3"))
            },
            foreign(ip("fe80::53")),
            Address::new(2, ip("fe80::54").into(), 64),
            foreign(ip("fe80::1")),
        ];
        let vips = [ip("fe80::53").into()];
        assert_eq!(primary_ipv6(&addresses, 2, &vips), Some(ip("fe80::1")));
        assert_eq!(primary_ipv6(&addresses[..6], 2, &vips), None);
        assert_eq!(primary_ipv6(&addresses, 3, &vips), None);
    }

    #[test]
    fn unknown_attributes_hide_nothing_and_malformed_ones_are_seen() {
        let address = Address::new(3, "2001:db8::53".parse().unwrap(), 128);
        let whole = Request::of(0, 0, &message(&address)).payload;
        let mut stranger = whole.clone();
        stranger.extend_from_slice(&[6, 0, 0xff, 0x3f, 1, 2, 0, 0]);
        assert_eq!(parse(&stranger), Some(Some(address)));
        for length in 0..whole.len() {
            // Between two attributes nothing is amiss but what is no longer said.
            let cut = parse(&whole[..length]);
            assert!(matches!(cut, None | Some(Some(_))), "{length}: {cut:?}");
        }
        let mut wrong_length = whole;
        wrong_length[ADDRESS_HEADER_LENGTH] -= 4;
        assert_eq!(parse(&wrong_length), None);
        assert_eq!(parse(&[7; ADDRESS_HEADER_LENGTH]), Some(None));
    }

    #[test]
    fn lists_loopback_or_nothing() {
        let mut connection = Connection::open(Protocol::Route).unwrap();
        let all = list(&mut connection, None).unwrap();
        let loopback = list(&mut connection, Some(1)).unwrap();
        assert!(loopback.iter().all(|address| address.interface_index == 1));
        assert!(loopback.iter().all(|address| all.contains(address)));
        assert_eq!(list(&mut connection, Some(u32::MAX)).unwrap(), []);
    }
}
