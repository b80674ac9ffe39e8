//! Packets in great number that are no adverts, or bad ones.
//!
//! Each would win if it were believed: its priority is above both directors'.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::thread::sleep;

use anyhow::{Result, ensure};
use pnet::packet::ip::IpNextHeaderProtocol;
use pnet::packet::ipv6::MutableIpv6Packet;
use pnet::util::{checksum, ipv4_checksum, ipv6_checksum};
use rand::rngs::StdRng;
use rand::seq::IndexedMutRandom;
use rand::{RngExt, SeedableRng};

use super::PAUSE;
use super::pair::{Pair, Settings, VIP6};
use super::rejection::{PRIORITY, VRRP, Watch, rejected};
use crate::cases::metrics::Scrape;
use crate::inject::Ipv4Header;
use crate::lab::{Host, Lab, Mac, wait_until};
use crate::scenario::{PATIENCE, resident, worker};
use crate::topology::VIP;
use crate::{figures, inject};

const PACKETS: u64 = 100_000;
/// A second: below what a director reads, so that adverts of the other one find room in its sockets.
const RATE: u32 = 15_000;
const SEED: u64 = 5_798;

/// Of 64 sources or kinds of fault at most it is said what is wrong, once a minute and instance; the
/// case may take longer than a minute.
const MOST_LINES: usize = 2 * 64 * 2;
/// What the worker's memory may grow by.
const MOST_GROWTH: f64 = 1024.0;

/// Of `auth_hmac`, in octets.
const TRAILER: usize = 28;

/// The place of the checksum in a message, in 16-bit words.
const CHECKSUM: usize = 3;

pub(super) fn a_flood_changes_nothing(lab: &mut Lab) -> Result<()> {
    let settings = Settings {
        ipv6: true,
        ..Settings::FAST
    };
    let pair = Pair::start(lab, settings)?;
    wait_until("IPv6 has settled", PATIENCE, || {
        let backup = "director_vrrp_state{state=\"backup\",virtual_router=\"dns6\"}";
        let says = Scrape::of(&pair.hosts[1]).ok();
        pair.hosts[0].holds(VIP6) && says.and_then(|says| says.value(backup)) == Some(1)
    })?;
    let watch = Watch::start(pair)?;
    let quiet = look(&watch)?;
    // What memory a first packet of each kind takes, it takes once.
    flood(&watch.pair.client, SEED + 1, PACKETS / 50)?;
    sleep(PAUSE);
    let before = look(&watch)?;
    flood(&watch.pair.client, SEED, PACKETS)?;
    sleep(PAUSE);
    let after = look(&watch)?;
    for (director, host) in watch.pair.hosts.iter().enumerate() {
        let name = host.name();
        let [quiet, before, after] = [&quiet, &before, &after].map(|look| &look[director]);
        let counted = (after.rejected - before.rejected) as usize;
        figures::at_most(
            &format!("packets that {name} counted"),
            counted,
            PACKETS as usize,
        )?;
        // A receive buffer may overflow.
        ensure!(counted >= PACKETS as usize * 9 / 10, "{counted} on {name}");
        figures::at_most(
            &format!("lines that {name} has logged of them"),
            after.lines - quiet.lines,
            MOST_LINES,
        )?;
        let growth = after.memory - before.memory;
        let what = format!("what the worker on {name} has grown by");
        figures::note(&what, growth, "KiB", Some(MOST_GROWTH));
        ensure!(growth <= MOST_GROWTH, "{what}: {growth} KiB");
        ensure!(after.worker == before.worker, "another worker on {name}");
    }
    ensure!(
        watch.pair.hosts[0].holds(VIP6) && !watch.pair.hosts[1].holds(VIP6),
        "the IPv6 VIP has moved"
    );
    watch.end()
}

/// What may not grow.
struct Look {
    worker: i32,
    rejected: u64,
    lines: usize,
    /// In KiB.
    memory: f64,
}

fn look(watch: &Watch) -> Result<Vec<Look>> {
    let pair = &watch.pair;
    let both = pair.hosts.iter().zip(&pair.directors);
    both.map(|(host, director)| {
        let worker = worker(director)?;
        Ok(Look {
            worker,
            rejected: rejected(host)?.values().sum(),
            lines: director.log().lines().count(),
            memory: resident(worker)? as f64,
        })
    })
    .collect()
}

fn flood(client: &Host, seed: u64, packets: u64) -> Result<()> {
    let mut random = StdRng::seed_from_u64(seed);
    let mac = client.mac("eth2");
    let frames = (0..packets).map(move |number| frame(&mut random, mac, number));
    inject::frames(client, "eth2", RATE, frames)
}

/// Every second one is IPv6; the four kinds take turns in each family.
fn frame(random: &mut StdRng, mac: Mac, number: u64) -> Vec<u8> {
    let way = match number % 2 {
        0 => Way::V4(Ipv4Addr::from_bits(
            0x0a00_0000 | random.random_range(1..1 << 24),
        )),
        _ => Way::V6(Ipv6Addr::from_bits(
            0xfe80 << 112 | u128::from(random.random::<u64>()),
        )),
    };
    let mut hop_limit = 255;
    let message = match number / 2 % 4 {
        0 => noise(random),
        // It gets past the first looks.
        1 => {
            let mut message = noise(random);
            let beginning = [0x31, 50, PRIORITY, 1];
            for (octet, wanted) in message.iter_mut().zip(beginning) {
                *octet = wanted;
            }
            message
        }
        2 => way.damaged(random),
        _ => {
            let (message, limit) = way.wrong(random);
            hop_limit = limit;
            message
        }
    };
    way.frame(mac, hop_limit, &message)
}

fn noise(random: &mut StdRng) -> Vec<u8> {
    let mut noise = vec![0; random.random_range(0..64)];
    random.fill(&mut noise[..]);
    noise
}

/// A family, and an address of nobody's.
#[derive(Clone, Copy)]
enum Way {
    V4(Ipv4Addr),
    V6(Ipv6Addr),
}

impl Way {
    const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
    const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);

    /// A good advert, but for its checksum.
    fn advert(self) -> Vec<u8> {
        let mut message = vec![0x31, 50, PRIORITY, 1, 0, 10, 0, 0];
        match IpAddr::from(self) {
            IpAddr::V4(_) => message.extend(VIP.octets()),
            IpAddr::V6(_) => message.extend(VIP6.octets()),
        }
        message
    }

    /// A good advert of which a few octets are others. Its checksum is wrong in both forms.
    fn damaged(self, random: &mut StdRng) -> Vec<u8> {
        let mut message = self.sealed(self.advert());
        for _ in 0..random.random_range(1..=4) {
            if let Some(octet) = message.choose_mut(random) {
                *octet ^= random.random_range(1..=u8::MAX);
            }
        }
        while [checksum(&message, CHECKSUM), self.sum(&message)].contains(&stated(&message)) {
            message[2 * CHECKSUM] ^= random.random_range(1..=u8::MAX);
        }
        message
    }

    /// An advert with a right checksum and one fault, and its hop limit.
    fn wrong(self, random: &mut StdRng) -> (Vec<u8>, u8) {
        let mut message = self.advert();
        let mut hop_limit = 255;
        match random.random_range(0..8) {
            0 => message[0] = random.random_range(4..16) << 4 | 1,
            1 => message[0] = 0x30 | random.random_range(2..16),
            2 => message[1] = random.random_range(51..=u8::MAX),
            3 => message[3] = random.random_range(2..=u8::MAX),
            4 => message[4..6].fill(0),
            5 => message.truncate(random.random_range(8..message.len())),
            // Shorter than a trailer, which needs no fault.
            6 => message.extend(vec![0; random.random_range(1..TRAILER)]),
            _ => hop_limit = random.random_range(1..255),
        }
        (self.sealed(message), hop_limit)
    }

    fn sealed(self, mut message: Vec<u8>) -> Vec<u8> {
        let sum = self.sum(&message);
        message[2 * CHECKSUM..2 * CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
        message
    }

    fn sum(self, message: &[u8]) -> u16 {
        let vrrp = IpNextHeaderProtocol(VRRP);
        match self {
            Self::V4(source) => {
                ipv4_checksum(message, CHECKSUM, &[], &source, &Self::GROUP_V4, vrrp)
            }
            Self::V6(source) => {
                ipv6_checksum(message, CHECKSUM, &[], &source, &Self::GROUP_V6, vrrp)
            }
        }
    }

    fn frame(self, mac: Mac, hop_limit: u8, message: &[u8]) -> Vec<u8> {
        let (group, ethertype, packet) = match self {
            Self::V4(source) => (
                [0x01, 0x00, 0x5e, 0, 0, 18],
                [0x08, 0x00],
                inject::ipv4_packet(
                    Ipv4Header {
                        source,
                        destination: Self::GROUP_V4,
                        ttl: hop_limit,
                        protocol: VRRP,
                    },
                    message,
                ),
            ),
            Self::V6(source) => (
                [0x33, 0x33, 0, 0, 0, 0x12],
                [0x86, 0xdd],
                ipv6_packet(source, hop_limit, message),
            ),
        };
        [&group[..], &mac, &ethertype, &packet].concat()
    }
}

impl From<Way> for IpAddr {
    fn from(way: Way) -> Self {
        match way {
            Way::V4(source) => source.into(),
            Way::V6(source) => source.into(),
        }
    }
}

/// The checksum that a message carries.
fn stated(message: &[u8]) -> u16 {
    u16::from_be_bytes([message[2 * CHECKSUM], message[2 * CHECKSUM + 1]])
}

fn ipv6_packet(source: Ipv6Addr, hop_limit: u8, message: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; MutableIpv6Packet::minimum_packet_size() + message.len()];
    if let Some(mut packet) = MutableIpv6Packet::new(&mut bytes) {
        packet.set_version(6);
        packet.set_payload_length(message.len() as u16);
        packet.set_next_header(IpNextHeaderProtocol(VRRP));
        packet.set_hop_limit(hop_limit);
        packet.set_source(source);
        packet.set_destination(Way::GROUP_V6);
        packet.set_payload(message);
    }
    bytes
}
