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
//! and eight octets of authentication data at the end, always.

use core::fmt;
use core::net::Ipv4Addr;
use core::time::Duration;

use super::{AdvertInterval, IP_PROTOCOL, Password, TIME_TO_LIVE, Version, VirtualRouterId};

const TYPE_ADVERTISEMENT: u8 = 1;
const HEADER_LENGTH: usize = 8;
const ADDRESS_LENGTH: usize = 4;
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
    /// Time to live isn't 255: the packet came through a router.
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
    /// Our own address as source: a loop in the LAN, or a machine with the same address.
    OwnAddress,
    /// We own the addresses, nobody else may advertise them (RFC 3768, section 7.1).
    Owner,
}

impl Rejection {
    /// All reasons, for counters that exist from the start.
    pub const ALL: [Self; 12] = [
        Self::Length,
        Self::TimeToLive,
        Self::Version,
        Self::Type,
        Self::Checksum,
        Self::VirtualRouter,
        Self::AddressCount,
        Self::Interval,
        Self::AuthenticationType,
        Self::Password,
        Self::OwnAddress,
        Self::Owner,
    ];

    /// The reason as a metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Length => "length",
            Self::TimeToLive => "time_to_live",
            Self::Version => "version",
            Self::Type => "type",
            Self::Checksum => "checksum",
            Self::VirtualRouter => "virtual_router",
            Self::AddressCount => "address_count",
            Self::Interval => "interval",
            Self::AuthenticationType => "authentication_type",
            Self::Password => "password",
            Self::OwnAddress => "own_address",
            Self::Owner => "owner",
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Length => "the packet is shorter or longer than its fields say",
            Self::TimeToLive => "its time to live is not 255: it came through a router",
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
            Self::OwnAddress => {
                "it came from our own address: a loop, or a machine with the same address"
            }
            Self::Owner => "this router owns the addresses (priority 255)",
        })
    }
}

/// An IPv4 packet as a raw socket delivers it: header, then VRRP message.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Who sent it.
    pub source: Ipv4Addr,
    /// The multicast group, or our own address.
    pub destination: Ipv4Addr,
    time_to_live: u8,
    message: &'a [u8],
}

impl<'a> Datagram<'a> {
    /// Reads the IP header, options included (RFC 791).
    pub fn parse(packet: &'a [u8]) -> Result<Self, Rejection> {
        let header = pnet::packet::ipv4::Ipv4Packet::new(packet).ok_or(Rejection::Length)?;
        let start = usize::from(header.get_header_length()) * 4;
        let end = usize::from(header.get_total_length());
        if start < pnet::packet::ipv4::Ipv4Packet::minimum_packet_size() {
            return Err(Rejection::Length);
        }
        Ok(Self {
            source: header.get_source(),
            destination: header.get_destination(),
            time_to_live: header.get_ttl(),
            message: packet.get(start..end).ok_or(Rejection::Length)?,
        })
    }

    /// The virtual router that the message names, whether or not the rest of it is valid: so that a
    /// bad packet is counted where it was aimed.
    pub fn virtual_router(&self) -> Option<VirtualRouterId> {
        self.message.get(1).copied().and_then(VirtualRouterId::new)
    }

    /// Reads the advert, and says which checksum form it was sent with.
    ///
    /// Checked here is what needs no configuration (RFC 9568, section 7.1); [`super::Instance`]
    /// checks the rest. The length must be exact, as keepalived and FRR have it.
    pub fn advert(&self) -> Result<(Advert, ChecksumForm), Rejection> {
        if self.time_to_live != TIME_TO_LIVE {
            return Err(Rejection::TimeToLive);
        }
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
        let version = match version_and_type >> 4 {
            2 => Version::V2,
            3 => Version::V3,
            _ => return Err(Rejection::Version),
        };
        if version_and_type & 0xf != TYPE_ADVERTISEMENT {
            return Err(Rejection::Type);
        }
        if message.len() != length(version, usize::from(count)) {
            return Err(Rejection::Length);
        }
        let form = self.checksum_form(version)?;
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
        let (addresses, data) = message[HEADER_LENGTH..]
            .split_at_checked(usize::from(count) * ADDRESS_LENGTH)
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
            addresses: addresses
                .chunks_exact(ADDRESS_LENGTH)
                .map(|octets| Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]))
                .collect(),
            password,
        };
        Ok((advert, form))
    }

    fn checksum_form(&self, version: Version) -> Result<ChecksumForm, Rejection> {
        // The sum over a message that contains its right checksum is all ones.
        let message = sum(0, self.message);
        let with_header = sum(
            pseudo_header(self.source, self.destination, self.message.len()),
            self.message,
        );
        if version == Version::V3 && fold(with_header) == 0xffff {
            Ok(ChecksumForm::PseudoHeader)
        } else if fold(message) == 0xffff {
            Ok(ChecksumForm::MessageOnly)
        } else {
            Err(Rejection::Checksum)
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
    /// The virtual addresses: 1 to 255.
    pub addresses: Vec<Ipv4Addr>,
    /// Version 2 only.
    pub password: Option<Password>,
}

impl Advert {
    /// Length of the message in bytes.
    pub fn buffer_length(&self) -> usize {
        length(self.version, self.addresses.len())
    }

    /// Writes the message into `buffer`, of exactly [`Self::buffer_length`] bytes.
    ///
    /// `source` and `destination` must be the addresses that the packet is really sent with. The
    /// checksum of version 2 never covers a pseudo-header, whatever `form` says.
    ///
    /// # Panics
    /// If the buffer has another length.
    pub fn emit(
        &self,
        buffer: &mut [u8],
        source: Ipv4Addr,
        destination: Ipv4Addr,
        form: ChecksumForm,
    ) {
        assert_eq!(
            buffer.len(),
            self.buffer_length(),
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
        let (addresses, data) = rest.split_at_mut(self.addresses.len() * ADDRESS_LENGTH);
        for (octets, address) in addresses
            .chunks_exact_mut(ADDRESS_LENGTH)
            .zip(&self.addresses)
        {
            octets.copy_from_slice(&address.octets());
        }
        match &self.password {
            Some(password) if self.version == Version::V2 => {
                data.copy_from_slice(password.octets());
            }
            _ => data.fill(0),
        }
        let start = match (self.version, form) {
            (Version::V3, ChecksumForm::PseudoHeader) => {
                pseudo_header(source, destination, buffer.len())
            }
            _ => 0,
        };
        let checksum = !fold(sum(start, buffer));
        buffer[CHECKSUM].copy_from_slice(&checksum.to_be_bytes());
    }

    /// The message as bytes; see [`Self::emit`].
    pub fn to_bytes(&self, source: Ipv4Addr, destination: Ipv4Addr, form: ChecksumForm) -> Vec<u8> {
        let mut buffer = vec![0; self.buffer_length()];
        self.emit(&mut buffer, source, destination, form);
        buffer
    }
}

fn length(version: Version, addresses: usize) -> usize {
    let data = match version {
        Version::V2 => AUTHENTICATION_LENGTH,
        Version::V3 => 0,
    };
    HEADER_LENGTH + addresses * ADDRESS_LENGTH + data
}

/// The start value for [`sum`] that stands for the IPv4 pseudo-header (RFC 793, section 3.1).
fn pseudo_header(source: Ipv4Addr, destination: Ipv4Addr, length: usize) -> u32 {
    let start = u32::from(IP_PROTOCOL) + length as u32;
    sum(sum(start, &source.octets()), &destination.octets())
}

/// Adds the 16-bit words of `bytes` (RFC 1071); a message of at most 1,036 bytes can't overflow.
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
    const GROUP: Ipv4Addr = super::super::MULTICAST_GROUP;

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
        Datagram::parse(&datagram(message, 255)).and_then(|datagram| datagram.advert())
    }

    fn version_3() -> Advert {
        Advert {
            version: Version::V3,
            virtual_router: VirtualRouterId::new(50).unwrap(),
            priority: 200,
            interval: AdvertInterval::new(Version::V3, Duration::from_millis(100)).unwrap(),
            addresses: vec![Ipv4Addr::new(192, 168, 56, 185)],
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
        let mut buffer = vec![0xa5; advert.buffer_length()];
        advert.emit(&mut buffer, SOURCE, GROUP, form);
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
        let datagram = Datagram::parse(&through_a_router).unwrap();
        assert_eq!(datagram.advert().unwrap_err(), Rejection::TimeToLive);
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
        assert_eq!(
            Datagram::parse(&packet).unwrap().advert().unwrap().0,
            version_3()
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Datagram::parse(&bytes).map(|datagram| datagram.advert());
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
                addresses: addresses.into_iter().map(Ipv4Addr::from).collect(),
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
