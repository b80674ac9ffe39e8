//! A VRRP datagram on its own, before any configuration is looked at.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime};

use lvs_proto::vrrp::hmac::{self, Key, KeyId, Mode, Origin, Sealer, Verifier};
use lvs_proto::vrrp::{ChecksumForm, Datagram, Family, IP_PROTOCOL, Received, Version};

use crate::bytes::bit;

const CHECKSUM: std::ops::Range<usize> = 6..8;
const HEADER_LENGTH: usize = 8;

/// A byte of switches, then the message: a fuzzer finds neither checksums nor codes by chance.
pub(super) fn run(data: &[u8]) {
    let Some((&switches, message)) = data.split_first() else {
        return;
    };
    let [whole_packet, ipv6, repaired, message_only, sealed, fitted] =
        [0, 1, 2, 3, 4, 5].map(|number| bit(switches, number));
    if whole_packet {
        if let Ok(datagram) = Datagram::from_ipv4_packet(message) {
            check(&datagram);
        }
        return;
    }
    let [source, destination] = if ipv6 { IPV6 } else { IPV4 };
    let mut message = message.to_vec();
    if fitted {
        fit(&mut message, Family::of(source));
    }
    if sealed && message.len() >= HEADER_LENGTH {
        check_seal(&mut message, source);
    }
    if repaired {
        let form = if message_only {
            ChecksumForm::MessageOnly
        } else {
            ChecksumForm::PseudoHeader
        };
        repair_checksum(&mut message, source, destination, form);
    }
    check(&Datagram {
        source,
        destination,
        hop_limit: 255,
        message: &message,
    });
}

const IPV4: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 168, 56, 182)),
    IpAddr::V4(Ipv4Addr::new(224, 0, 0, 18)),
];
const IPV6: [IpAddr; 2] = [
    IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2)),
    IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12)),
];

/// What is read is written as the same bytes, those aside that have no meaning.
fn check(datagram: &Datagram<'_>) {
    let Ok(received) = datagram.read() else {
        return;
    };
    let Received {
        advert,
        form,
        sealed_at,
    } = &received;
    assert_eq!(datagram.virtual_router(), Some(advert.virtual_router));
    let Datagram {
        source,
        destination,
        ..
    } = *datagram;
    let written = advert.to_bytes(source, destination, *form);
    let (body, trailer) = datagram.message.split_at(written.len());
    assert_eq!(trailer.len(), sealed_at.map_or(0, |_| hmac::TRAILER_LENGTH));
    assert_eq!(
        meaning(body, advert.version),
        meaning(&written, advert.version)
    );
    let again = Datagram {
        message: &written,
        ..*datagram
    };
    let again = again.read().expect("what was just written");
    assert_eq!(again.advert, *advert);
    assert_eq!((again.form, again.sealed_at), (*form, None));
}

/// A message without its checksum and without what is ignored: version 3's reserved bits, and the
/// authentication data of version 2 where there is no authentication.
fn meaning(message: &[u8], version: Version) -> Vec<u8> {
    let mut message = message.to_vec();
    message[CHECKSUM].fill(0);
    match version {
        Version::V3 => message[4] &= 0x0f,
        Version::V2 if message[4] == 0 => {
            let data = message.len() - 8;
            message[data..].fill(0);
        }
        Version::V2 => {}
    }
    message
}

/// Bytes that weren't sealed are refused, those that are accepted once. Leaves the trailer behind
/// the message.
fn check_seal(message: &mut Vec<u8>, source: IpAddr) {
    let pdu_length = message.len();
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(0x6800_0000);
    let id = KeyId::new(7).expect("not 0");
    let key = Key::new(*b"nobody finds these by flipping bits").expect("35 bytes");
    let window = Duration::from_secs(5);
    let configuration =
        hmac::Configuration::new(Mode::Enforce, id, BTreeMap::from([(id, key)]), window)
            .expect("the key is there");
    let mut verifier = Verifier::new(configuration.clone());
    for length in [pdu_length, pdu_length.saturating_sub(hmac::TRAILER_LENGTH)] {
        assert!(verifier.verify(message, length, source, wall).is_err());
    }
    Sealer::new(&configuration).seal(message, source, wall);
    let mut verify = || verifier.verify(message, pdu_length, source, wall);
    assert_eq!(verify(), Ok(Origin::Proven));
    assert_eq!(verify(), Err(hmac::Failure::Replayed));
}

/// Makes the count of addresses that of the addresses, and cuts what is over.
fn fit(message: &mut Vec<u8>, family: Family) {
    let (length, data) = match (family, message.first().map_or(0, |first| first >> 4)) {
        (Family::Ipv6, _) => (16, 0),
        (Family::Ipv4, 2) => (4, 8),
        (Family::Ipv4, _) => (4, 0),
    };
    let Some(rest) = message.len().checked_sub(HEADER_LENGTH + data) else {
        return;
    };
    let count = (rest / length).min(255);
    message[3] = count as u8;
    message.truncate(HEADER_LENGTH + count * length + data);
}

/// Writes the checksum of the part of a message that it covers, as far as there is one.
pub(super) fn repair_checksum(
    message: &mut [u8],
    source: IpAddr,
    destination: IpAddr,
    form: ChecksumForm,
) {
    let Some(&[version_and_type, _, _, count, ..]) = message.first_chunk::<HEADER_LENGTH>() else {
        return;
    };
    let family = Family::of(source);
    let (address_length, data) = match (family, version_and_type >> 4) {
        (Family::Ipv6, _) => (16, 0),
        (Family::Ipv4, 2) => (4, 8),
        (Family::Ipv4, _) => (4, 0),
    };
    let covered = match family {
        Family::Ipv6 => message.len(),
        Family::Ipv4 => message
            .len()
            .min(HEADER_LENGTH + usize::from(count) * address_length + data),
    };
    message[CHECKSUM].fill(0);
    let mut total = sum(&message[..covered]);
    if family == Family::Ipv6 || (form == ChecksumForm::PseudoHeader && version_and_type >> 4 != 2)
    {
        total += u64::from(IP_PROTOCOL) + covered as u64;
        for address in [source, destination] {
            total += match address {
                IpAddr::V4(address) => sum(&address.octets()),
                IpAddr::V6(address) => sum(&address.octets()),
            };
        }
    }
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    message[CHECKSUM].copy_from_slice(&(!(total as u16)).to_be_bytes());
}

fn sum(bytes: &[u8]) -> u64 {
    bytes
        .chunks(2)
        .map(|word| {
            u64::from(u16::from_be_bytes([
                word[0],
                word.get(1).copied().unwrap_or(0),
            ]))
        })
        .sum()
}
