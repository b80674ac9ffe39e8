//! VRRP adverts on the wire.
//!
//! Version 3 (RFC 9568, section 5.2):
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |Version| Type  | Virtual Rtr ID|    Priority   |IPvX Addr Count|
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |Reserve| Max Advertise Interval|           Checksum            |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                    IPvX Address(es) ...                       |
//! ```
//! Version 2 (RFC 3768, section 5.1) has an authentication type and whole seconds in octets 4 and 5,
//! and eight octets of authentication data at the end, always. Over IPv6 there is version 3 only.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;
use std::time::SystemTime;

use super::{AdvertInterval, Family, IP_PROTOCOL, Password, Version, VirtualRouterId, hmac};

const TYPE_ADVERTISEMENT: u8 = 1;
const HEADER_LENGTH: usize = 8;
const AUTHENTICATION_LENGTH: usize = 8;
const AUTHENTICATION_NONE: u8 = 0;
const AUTHENTICATION_SIMPLE: u8 = 1;
const CHECKSUM: core::ops::Range<usize> = 6..8;

/// What the checksum of a version 3 advert over IPv4 covers. RFC 5798 left it open, so both are met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChecksumForm {
    /// The IPv4 pseudo-header and the message: keepalived's and FRR's default.
    PseudoHeader,
    /// The message only (RFC 9568, section 5.2.8): Cisco, Juniper, Arista.
    MessageOnly,
}

/// Why a packet was discarded. Each reason is a counter of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rejection {
    /// The IP header is not one, or the packet is shorter or longer than its fields say.
    Length,
    /// Sent to a group where single peers are configured, or the other way round.
    Destination,
    /// Time to live (hop limit) isn't 255, or for unicast is less than the configured minimum: the
    /// packet came through a router.
    TimeToLive,
    /// Neither version 2 nor 3, or not the version that is configured.
    Version,
    /// Not an advertisement.
    Type,
    /// The checksum is wrong in both forms.
    Checksum,
    /// No virtual router of this number is configured on the interface.
    VirtualRouter,
    /// No addresses (RFC 9568, erratum 8299).
    AddressCount,
    /// An interval of 0 (erratum 8301), or for version 2 another one than ours (RFC 3768, section 7.1).
    Interval,
    /// Another authentication type than ours.
    AuthenticationType,
    /// A wrong password.
    Password,
    /// No authentication trailer where one is demanded.
    TrailerMissing,
    /// A trailer that is none, or of a type that isn't known here.
    TrailerMalformed,
    /// Signed with a key that isn't configured.
    TrailerKey,
    /// Signed with another key of the same number, or changed on its way.
    TrailerCode,
    /// Its time stamp is too far from our clock.
    TrailerTime,
    /// A copy of an earlier advert.
    TrailerReplayed,
    /// Not one of the configured unicast peers.
    Peer,
    /// Our own address as source: a loop in the LAN, or a machine with the same address.
    OwnAddress,
    /// We own the addresses, nobody else may advertise them (RFC 3768, section 7.1).
    Owner,
}

impl Rejection {
    /// All reasons, for counters that exist from the start.
    pub const ALL: [Self; 20] = [
        Self::Length,
        Self::Destination,
        Self::TimeToLive,
        Self::Version,
        Self::Type,
        Self::Checksum,
        Self::VirtualRouter,
        Self::AddressCount,
        Self::Interval,
        Self::AuthenticationType,
        Self::Password,
        Self::TrailerMissing,
        Self::TrailerMalformed,
        Self::TrailerKey,
        Self::TrailerCode,
        Self::TrailerTime,
        Self::TrailerReplayed,
        Self::Peer,
        Self::OwnAddress,
        Self::Owner,
    ];

    /// The reason as a metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Length => "length",
            Self::Destination => "destination",
            Self::TimeToLive => "time_to_live",
            Self::Version => "version",
            Self::Type => "type",
            Self::Checksum => "checksum",
            Self::VirtualRouter => "virtual_router",
            Self::AddressCount => "address_count",
            Self::Interval => "interval",
            Self::AuthenticationType => "authentication_type",
            Self::Password => "password",
            Self::TrailerMissing => "trailer_missing",
            Self::TrailerMalformed => "trailer_malformed",
            Self::TrailerKey => "trailer_key",
            Self::TrailerCode => "trailer_code",
            Self::TrailerTime => "trailer_time",
            Self::TrailerReplayed => "trailer_replayed",
            Self::Peer => "peer",
            Self::OwnAddress => "own_address",
            Self::Owner => "owner",
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Length => "the packet is shorter or longer than its fields say",
            Self::Destination => {
                "sent to a multicast group where peers are configured, or to this machine where none are"
            }
            Self::TimeToLive => {
                "its time to live is less than it must be: it came through a router"
            }
            Self::Version => "another VRRP version than configured here",
            Self::Type => "not an advertisement",
            Self::Checksum => "wrong checksum",
            Self::VirtualRouter => "a virtual router that is not configured here",
            Self::AddressCount => "it carries no addresses",
            Self::Interval => {
                "its advert interval is 0, or for version 2 not the one configured here"
            }
            Self::AuthenticationType => "another authentication type than configured here",
            Self::Password => "another password than configured here",
            Self::TrailerMissing => "it has no authentication trailer, which is demanded here",
            Self::TrailerMalformed => "its authentication trailer is of a kind not known here",
            Self::TrailerKey => "it is signed with a key that is not configured here",
            Self::TrailerCode => {
                "its signature is wrong: another key of the same number, or somebody forged it"
            }
            Self::TrailerTime => {
                "its time stamp is too far from our clock: keep both clocks right (NTP)"
            }
            Self::TrailerReplayed => "it is a copy of an earlier advert",
            Self::Peer => "its sender is not one of the configured peers",
            Self::OwnAddress => {
                "it came from our own address: a loop, or a machine with the same address"
            }
            Self::Owner => "this router owns the addresses (priority 255)",
        })
    }
}

impl From<hmac::Failure> for Rejection {
    fn from(failure: hmac::Failure) -> Self {
        use hmac::Failure;
        match failure {
            Failure::MissingTrailer => Self::TrailerMissing,
            Failure::Malformed | Failure::UnknownType(_) => Self::TrailerMalformed,
            Failure::UnknownKey(_) => Self::TrailerKey,
            Failure::WrongCode => Self::TrailerCode,
            Failure::OutsideWindow(_) => Self::TrailerTime,
            Failure::Replayed => Self::TrailerReplayed,
        }
    }
}

/// A VRRP message and how it was delivered.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Who sent it.
    pub source: IpAddr,
    /// The multicast group, or our own address.
    pub destination: IpAddr,
    /// Time to live, or hop limit.
    pub hop_limit: u8,
    /// Everything after the IP header.
    pub message: &'a [u8],
}

/// What a datagram says, as far as that needs no configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// The advert.
    pub advert: Advert,
    /// What its checksum covers.
    pub form: ChecksumForm,
    /// Length of the advert in bytes, when an authentication trailer follows it.
    pub sealed_at: Option<usize>,
}

impl<'a> Datagram<'a> {
    /// Reads an IPv4 packet as a raw socket delivers it: header, options (RFC 791), message.
    pub fn from_ipv4_packet(packet: &'a [u8]) -> Result<Self, Rejection> {
        let header = pnet::packet::ipv4::Ipv4Packet::new(packet).ok_or(Rejection::Length)?;
        let start = usize::from(header.get_header_length()) * 4;
        let end = usize::from(header.get_total_length());
        if start < pnet::packet::ipv4::Ipv4Packet::minimum_packet_size() {
            return Err(Rejection::Length);
        }
        Ok(Self {
            source: header.get_source().into(),
            destination: header.get_destination().into(),
            hop_limit: header.get_ttl(),
            message: packet.get(start..end).ok_or(Rejection::Length)?,
        })
    }

    /// The virtual router that the message names, whether or not the rest of it is valid: so that a
    /// bad packet is counted where it was aimed.
    pub fn virtual_router(&self) -> Option<VirtualRouterId> {
        self.message.get(1).copied().and_then(VirtualRouterId::new)
    }

    /// Reads the advert.
    ///
    /// Checked here is what needs no configuration (RFC 9568, section 7.1); [`super::Instance`]
    /// checks the rest. The length must be exact, as keepalived and FRR have it, but for an
    /// authentication trailer.
    pub fn read(&self) -> Result<Received, Rejection> {
        let family = Family::of(self.source);
        let message = self.message;
        let header = message
            .first_chunk::<HEADER_LENGTH>()
            .ok_or(Rejection::Length)?;
        let [
            version_and_type,
            virtual_router,
            priority,
            count,
            fourth,
            fifth,
            ..,
        ] = *header;
        let version = match (version_and_type >> 4, family) {
            (2, Family::Ipv4) => Version::V2,
            (3, _) => Version::V3,
            _ => return Err(Rejection::Version),
        };
        if version_and_type & 0xf != TYPE_ADVERTISEMENT {
            return Err(Rejection::Type);
        }
        let length = length(version, family, usize::from(count));
        let sealed_at = match message.len().checked_sub(length) {
            Some(0) => None,
            Some(hmac::TRAILER_LENGTH) if version == Version::V3 => Some(length),
            _ => return Err(Rejection::Length),
        };
        let (body, _) = message.split_at_checked(length).ok_or(Rejection::Length)?;
        let form = self.checksum_form(version, body)?;
        let virtual_router =
            VirtualRouterId::new(virtual_router).ok_or(Rejection::VirtualRouter)?;
        if count == 0 {
            return Err(Rejection::AddressCount);
        }
        let interval = match version {
            Version::V2 => Duration::from_secs(u64::from(fifth)),
            Version::V3 => {
                Duration::from_millis(10 * u64::from(u16::from_be_bytes([fourth & 0xf, fifth])))
            }
        };
        let (addresses, data) = body[HEADER_LENGTH..]
            .split_at_checked(usize::from(count) * family.address_length())
            .ok_or(Rejection::Length)?;
        let password = match (version, fourth) {
            (Version::V3, _) | (Version::V2, AUTHENTICATION_NONE) => None,
            (Version::V2, AUTHENTICATION_SIMPLE) => Some(Password::from_wire(
                *data.first_chunk().ok_or(Rejection::Length)?,
            )),
            (Version::V2, _) => return Err(Rejection::AuthenticationType),
        };
        let advert = Advert {
            version,
            virtual_router,
            priority,
            interval: AdvertInterval::new(version, interval).ok_or(Rejection::Interval)?,
            addresses: read_addresses(family, addresses),
            password,
        };
        Ok(Received {
            advert,
            form,
            sealed_at,
        })
    }

    fn checksum_form(&self, version: Version, body: &[u8]) -> Result<ChecksumForm, Rejection> {
        let pseudo_header = |length| pseudo_header(self.source, self.destination, length);
        // The sum over a message that contains its right checksum is all ones.
        let right = |start, bytes| fold(sum(start, bytes)) == 0xffff;
        let with_header = match Family::of(self.source) {
            // The kernel's own checksum offset (RFC 3542, section 3.1) covers the whole payload.
            Family::Ipv6 => right(pseudo_header(self.message.len()), self.message),
            Family::Ipv4 => version == Version::V3 && right(pseudo_header(body.len()), body),
        };
        if with_header {
            Ok(ChecksumForm::PseudoHeader)
        } else if Family::of(self.source) == Family::Ipv4 && right(0, body) {
            Ok(ChecksumForm::MessageOnly)
        } else {
            Err(Rejection::Checksum)
        }
    }
}

fn read_addresses(family: Family, octets: &[u8]) -> Vec<IpAddr> {
    match family {
        Family::Ipv4 => {
            let (addresses, _) = octets.as_chunks::<4>();
            addresses
                .iter()
                .map(|octets| Ipv4Addr::from(*octets).into())
                .collect()
        }
        Family::Ipv6 => {
            let (addresses, _) = octets.as_chunks::<16>();
            addresses
                .iter()
                .map(|octets| Ipv6Addr::from(*octets).into())
                .collect()
        }
    }
}

/// The content of one advert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advert {
    /// Protocol version.
    pub version: Version,
    /// Whose advert it is.
    pub virtual_router: VirtualRouterId,
    /// 0 says that the Active is leaving; else the sender's [`super::Priority`].
    pub priority: u8,
    /// Time to the next one.
    pub interval: AdvertInterval,
    /// The virtual addresses: 1 to 255, all of the family of the packet's source.
    pub addresses: Vec<IpAddr>,
    /// Version 2 only.
    pub password: Option<Password>,
}

impl Advert {
    /// Length of the message in bytes, in packets of `family`.
    pub fn buffer_length(&self, family: Family) -> usize {
        length(self.version, family, self.addresses.len())
    }

    /// Writes the message into `buffer`, of exactly [`Self::buffer_length`] bytes.
    ///
    /// `source` and `destination` must be the addresses that the packet is really sent with; their
    /// family is that of the virtual addresses. The checksum of version 2 never covers a
    /// pseudo-header and that over IPv6 always does, whatever `form` says.
    ///
    /// # Panics
    /// If the buffer has another length.
    pub fn emit(&self, buffer: &mut [u8], source: IpAddr, destination: IpAddr, form: ChecksumForm) {
        let family = Family::of(source);
        assert_eq!(
            buffer.len(),
            self.buffer_length(family),
            "the caller allocates buffer_length bytes"
        );
        let centiseconds = (self.interval.get().as_millis() / 10) as u16;
        let (version, [fourth, fifth]) = match (self.version, &self.password) {
            (Version::V3, _) => (3, centiseconds.to_be_bytes()),
            (Version::V2, None) => (
                2,
                [AUTHENTICATION_NONE, self.interval.get().as_secs() as u8],
            ),
            (Version::V2, Some(_)) => (
                2,
                [AUTHENTICATION_SIMPLE, self.interval.get().as_secs() as u8],
            ),
        };
        let (header, rest) = buffer.split_at_mut(HEADER_LENGTH);
        header.copy_from_slice(&[
            version << 4 | TYPE_ADVERTISEMENT,
            self.virtual_router.get(),
            self.priority,
            self.addresses.len() as u8,
            fourth,
            fifth,
            0,
            0,
        ]);
        let length = family.address_length();
        let (addresses, data) = rest.split_at_mut(self.addresses.len() * length);
        for (octets, address) in addresses.chunks_exact_mut(length).zip(&self.addresses) {
            write_address(octets, *address);
        }
        match &self.password {
            Some(password) if self.version == Version::V2 => {
                data.copy_from_slice(password.octets());
            }
            _ => data.fill(0),
        }
        let start = match (family, self.version, form) {
            (Family::Ipv6, ..) | (_, Version::V3, ChecksumForm::PseudoHeader) => {
                pseudo_header(source, destination, buffer.len())
            }
            _ => 0,
        };
        let checksum = !fold(sum(start, buffer));
        buffer[CHECKSUM].copy_from_slice(&checksum.to_be_bytes());
    }

    /// The message as bytes; see [`Self::emit`].
    pub fn to_bytes(&self, source: IpAddr, destination: IpAddr, form: ChecksumForm) -> Vec<u8> {
        let mut buffer = vec![0; self.buffer_length(Family::of(source))];
        self.emit(&mut buffer, source, destination, form);
        buffer
    }
}

/// Signs an encoded version 3 advert. Over IPv6 its checksum covers the trailer too, and is written
/// again; over IPv4 it covers the advert only.
pub fn seal(
    message: &mut Vec<u8>,
    sealer: &mut hmac::Sealer,
    source: IpAddr,
    destination: IpAddr,
    wall: SystemTime,
) {
    sealer.seal(message, source, wall);
    if Family::of(source) == Family::Ipv6 {
        message[CHECKSUM].fill(0);
        let checksum = !fold(sum(
            pseudo_header(source, destination, message.len()),
            message,
        ));
        message[CHECKSUM].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// An address of another family than the packet's has no place in it; the configuration allows none.
fn write_address(octets: &mut [u8], address: IpAddr) {
    octets.fill(0);
    match address {
        IpAddr::V4(address) if octets.len() == 4 => octets.copy_from_slice(&address.octets()),
        IpAddr::V6(address) if octets.len() == 16 => octets.copy_from_slice(&address.octets()),
        _ => {}
    }
}

fn length(version: Version, family: Family, addresses: usize) -> usize {
    let data = match version {
        Version::V2 => AUTHENTICATION_LENGTH,
        Version::V3 => 0,
    };
    HEADER_LENGTH + addresses * family.address_length() + data
}

/// The start value for [`sum`] that stands for the pseudo-header (RFC 793, section 3.1; RFC 8200,
/// section 8.1): both add the same words, zeros aside.
fn pseudo_header(source: IpAddr, destination: IpAddr, length: usize) -> u32 {
    let add = |total, address| match address {
        IpAddr::V4(address) => sum(total, &address.octets()),
        IpAddr::V6(address) => sum(total, &address.octets()),
    };
    add(
        add(u32::from(IP_PROTOCOL) + length as u32, source),
        destination,
    )
}

/// Adds the 16-bit words of `bytes` (RFC 1071); a message of at most 4,116 bytes can't overflow.
fn sum(start: u32, bytes: &[u8]) -> u32 {
    bytes.chunks(2).fold(start, |total, word| {
        total
            + u32::from(u16::from_be_bytes([
                word[0],
                word.get(1).copied().unwrap_or(0),
            ]))
    })
}

fn fold(mut total: u32) -> u16 {
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const SOURCE: Ipv4Addr = Ipv4Addr::new(192, 168, 56, 181);
    const GROUP: Ipv4Addr = super::super::MULTICAST_GROUP_IPV4;

    fn datagram(message: &[u8], time_to_live: u8) -> Vec<u8> {
        let total = (20 + message.len()) as u16;
        let mut packet = vec![0x45, 0xc0];
        packet.extend(total.to_be_bytes());
        packet.extend([0, 0, 0, 0, time_to_live, IP_PROTOCOL, 0, 0]);
        packet.extend(SOURCE.octets());
        packet.extend(GROUP.octets());
        packet.extend(message);
        packet
    }

    fn parse(message: &[u8]) -> Result<(Advert, ChecksumForm), Rejection> {
        parse_packet(&datagram(message, 255))
    }

    fn parse_packet(packet: &[u8]) -> Result<(Advert, ChecksumForm), Rejection> {
        let received = Datagram::from_ipv4_packet(packet)?.read()?;
        Ok((received.advert, received.form))
    }

    fn version_3() -> Advert {
        Advert {
            version: Version::V3,
            virtual_router: VirtualRouterId::new(50).unwrap(),
            priority: 200,
            interval: AdvertInterval::new(Version::V3, Duration::from_millis(100)).unwrap(),
            addresses: vec![Ipv4Addr::new(192, 168, 56, 185).into()],
            password: None,
        }
    }

    fn version_2() -> Advert {
        Advert {
            version: Version::V2,
            interval: AdvertInterval::new(Version::V2, Duration::from_secs(1)).unwrap(),
            password: Some(Password::new("s3cr3t").unwrap()),
            ..version_3()
        }
    }

    fn emit(advert: &Advert, form: ChecksumForm) -> Vec<u8> {
        let mut buffer = vec![0xa5; advert.buffer_length(Family::Ipv4)];
        advert.emit(&mut buffer, SOURCE.into(), GROUP.into(), form);
        buffer
    }

    // Checksums below were worked out by hand from RFC 1071.
    #[test]
    fn version_3_golden_bytes() {
        // 0x31_32 + 0xc8_01 + 0x00_0a + 0xc0_a8 + 0x38_b9 = 0x1_f2_9e; folded 0xf29f; its complement:
        let mut expected = [0x31, 50, 200, 1, 0, 10, 0x0d, 0x60, 192, 168, 56, 185];
        assert_eq!(emit(&version_3(), ChecksumForm::MessageOnly), expected);
        // The pseudo-header adds 0xc0_a8 + 0x38_b5 + 0xe0_00 + 0x00_12 + 112 + 12: 0x3_cc_89.
        expected[CHECKSUM].copy_from_slice(&[0x33, 0x73]);
        assert_eq!(emit(&version_3(), ChecksumForm::PseudoHeader), expected);
    }

    #[test]
    fn version_2_golden_bytes() {
        let bytes = emit(&version_2(), ChecksumForm::PseudoHeader);
        let total: u32 = 0x2132 + 0xc801 + 0x0101 + 0xc0a8 + 0x38b9 + 0x7333 + 0x6372 + 0x3374;
        let checksum = !(((total & 0xffff) + (total >> 16)) as u16);
        let mut expected = vec![0x21, 50, 200, 1, 1, 1];
        expected.extend(checksum.to_be_bytes());
        expected.extend([192, 168, 56, 185]);
        expected.extend(b"s3cr3t\0\0");
        assert_eq!(bytes, expected);
    }

    const SOURCE_IPV6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x181);
    const GROUP_IPV6: Ipv6Addr = super::super::MULTICAST_GROUP_IPV6;

    fn over_ipv6(message: &[u8]) -> Result<Received, Rejection> {
        let datagram = Datagram {
            source: SOURCE_IPV6.into(),
            destination: GROUP_IPV6.into(),
            hop_limit: 255,
            message,
        };
        datagram.read()
    }

    fn version_3_over_ipv6() -> Advert {
        Advert {
            addresses: vec![Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x185).into()],
            ..version_3()
        }
    }

    #[test]
    fn version_3_over_ipv6_golden_bytes() {
        let mut bytes = vec![0xa5; 24];
        version_3_over_ipv6().emit(
            &mut bytes,
            SOURCE_IPV6.into(),
            GROUP_IPV6.into(),
            ChecksumForm::MessageOnly,
        );
        // Pseudo-header 0xfe80 + 0x0181 + 0xff02 + 0x0012 + 24 + 112; message 0x3132 + 0xc801 +
        // 0x000a + 0xfe80 + 0x0185: 0x3_f8_df in all; folded 0xf8e2; its complement:
        let mut expected = vec![0x31, 50, 200, 1, 0, 10, 0x07, 0x1d, 0xfe, 0x80];
        expected.extend([0; 12]);
        expected.extend([0x01, 0x85]);
        assert_eq!(bytes, expected);
        let received = over_ipv6(&bytes).unwrap();
        assert_eq!(received.advert, version_3_over_ipv6());
        assert_eq!(received.form, ChecksumForm::PseudoHeader);
        let wrong: Vec<u8> = bytes
            .iter()
            .map(|byte| byte ^ u8::from(*byte == 0x07))
            .collect();
        assert_eq!(over_ipv6(&wrong), Err(Rejection::Checksum));
    }

    #[test]
    fn there_is_no_version_2_over_ipv6() {
        let bytes = emit(&version_2(), ChecksumForm::MessageOnly);
        assert_eq!(over_ipv6(&bytes), Err(Rejection::Version));
    }

    #[test]
    fn a_trailer_is_told_from_the_advert() {
        let mut bytes = emit(&version_3(), ChecksumForm::PseudoHeader);
        bytes.extend([0; hmac::TRAILER_LENGTH]);
        let packet = datagram(&bytes, 255);
        let received = Datagram::from_ipv4_packet(&packet).unwrap().read().unwrap();
        assert_eq!(received.sealed_at, Some(12));
        assert_eq!(received.advert, version_3());
        assert_eq!(parse(&bytes[..39]).unwrap_err(), Rejection::Length);
        let mut bytes = emit(&version_2(), ChecksumForm::MessageOnly);
        bytes.extend([0; hmac::TRAILER_LENGTH]);
        assert_eq!(parse(&bytes).unwrap_err(), Rejection::Length);
    }

    #[test]
    fn both_checksum_forms_are_told_apart() {
        for form in [ChecksumForm::PseudoHeader, ChecksumForm::MessageOnly] {
            assert_eq!(parse(&emit(&version_3(), form)), Ok((version_3(), form)));
        }
        let (advert, _) = parse(&emit(&version_2(), ChecksumForm::PseudoHeader)).unwrap();
        assert_eq!(advert, version_2());
    }

    #[test]
    fn each_fault_has_its_reason() {
        let change = |advert: &Advert, position: usize, value: u8| {
            let mut bytes = emit(advert, ChecksumForm::MessageOnly);
            bytes[position] = value;
            bytes[CHECKSUM].fill(0);
            let checksum = !fold(sum(0, &bytes));
            bytes[CHECKSUM].copy_from_slice(&checksum.to_be_bytes());
            parse(&bytes).unwrap_err()
        };
        assert_eq!(change(&version_3(), 0, 0x41), Rejection::Version);
        assert_eq!(change(&version_3(), 0, 0x32), Rejection::Type);
        assert_eq!(change(&version_3(), 1, 0), Rejection::VirtualRouter);
        assert_eq!(change(&version_3(), 3, 2), Rejection::Length);
        assert_eq!(change(&version_3(), 5, 0), Rejection::Interval);
        assert_eq!(change(&version_2(), 5, 0), Rejection::Interval);
        assert_eq!(change(&version_2(), 4, 2), Rejection::AuthenticationType);

        let good = emit(&version_3(), ChecksumForm::PseudoHeader);
        let through_a_router = datagram(&good, 254);
        let datagram = Datagram::from_ipv4_packet(&through_a_router).unwrap();
        assert_eq!(datagram.hop_limit, 254);
        assert_eq!(datagram.virtual_router(), VirtualRouterId::new(50));
        let mut wrong = good.clone();
        wrong[7] ^= 1;
        assert_eq!(parse(&wrong).unwrap_err(), Rejection::Checksum);
        assert_eq!(parse(&good[..11]).unwrap_err(), Rejection::Length);
        assert_eq!(parse(&[]).unwrap_err(), Rejection::Length);

        let none = Advert {
            addresses: Vec::new(),
            ..version_3()
        };
        let bytes = emit(&none, ChecksumForm::PseudoHeader);
        assert_eq!(parse(&bytes).unwrap_err(), Rejection::AddressCount);
    }

    #[test]
    fn reserved_bits_are_ignored() {
        let mut bytes = emit(&version_3(), ChecksumForm::MessageOnly);
        bytes[4] |= 0xf0;
        bytes[CHECKSUM].fill(0);
        let checksum = !fold(sum(0, &bytes));
        bytes[CHECKSUM].copy_from_slice(&checksum.to_be_bytes());
        assert_eq!(parse(&bytes), Ok((version_3(), ChecksumForm::MessageOnly)));
    }

    #[test]
    fn an_ip_header_with_options_is_skipped() {
        let message = emit(&version_3(), ChecksumForm::PseudoHeader);
        let mut packet = datagram(&message, 255);
        packet[0] = 0x46;
        packet.splice(20..20, [1, 1, 1, 0]);
        packet[2..4].copy_from_slice(&(24 + message.len() as u16).to_be_bytes());
        assert_eq!(parse_packet(&packet).unwrap().0, version_3());
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse_packet(&bytes);
            let _ = over_ipv6(&bytes);
            let _ = parse(&bytes);
        }

        #[test]
        fn adverts_survive_the_wire(
            virtual_router in 1..=255u8,
            priority in 0..=255u8,
            centiseconds in 1..=4095u64,
            addresses in prop::collection::vec(any::<[u8; 4]>(), 1..=255),
            message_only in any::<bool>(),
        ) {
            let advert = Advert {
                version: Version::V3,
                virtual_router: VirtualRouterId::new(virtual_router).unwrap(),
                priority,
                interval: AdvertInterval::new(
                    Version::V3,
                    Duration::from_millis(centiseconds * 10),
                ).unwrap(),
                addresses: addresses.into_iter().map(IpAddr::from).collect(),
                password: None,
            };
            let form = if message_only {
                ChecksumForm::MessageOnly
            } else {
                ChecksumForm::PseudoHeader
            };
            let (parsed, seen) = parse(&emit(&advert, form)).unwrap();
            prop_assert_eq!(parsed, advert);
            prop_assert_eq!(seen, form);
        }
    }
}
