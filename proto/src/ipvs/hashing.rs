//! Whom the kernel's schedulers by hash pick: `sh` (`ip_vs_sh.c`) and `mh` (`ip_vs_mh.c`), computed as the
//! kernel does with the sizes that it's built with by default (`IP_VS_SH_TAB_BITS` 8,
//! `IP_VS_MH_TAB_INDEX` 12), on a machine with 64 bits.

use std::net::IpAddr;

use super::DestinationKey;

/// Buckets of `sh`.
const SOURCE_HASH_BUCKETS: u32 = 256;
const SOURCE_HASH_BITS: u32 = 8;

/// Places in the table of `mh`, a prime, and how many bits they take.
const MAGLEV_PLACES: u32 = 4093;
const MAGLEV_BITS: u32 = 12;

/// `GOLDEN_RATIO_32` (`linux/hash.h`).
const GOLDEN_RATIO: u32 = 0x61c8_8647;

/// The keys of the first and the second hash of `mh`.
const MAGLEV_KEYS: [u64; 2] = [2_654_435_761, 2_654_446_892];

/// A destination of a service, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub key: DestinationKey,
    /// As the kernel has it now.
    pub weight: u32,
    /// The last one that wasn't 0, if there was one: `mh` keeps its table by it.
    pub last_weight: u32,
}

/// Of whom it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// The client's address.
    pub address: IpAddr,
    /// Its port where the scheduler counts it (`sh-port`, `mh-port`), else 0.
    pub port: u16,
}

/// The place of the candidate that `sh` picks among all destinations of a service, in the kernel's order;
/// `None` if it's nobody, who also is picked where the bucket's destination has the weight 0, unless there
/// is a `fallback` (`sh-fallback`).
pub fn source_hash(candidates: &[Candidate], client: Client, fallback: bool) -> Option<usize> {
    let buckets = source_hash_table(candidates);
    let value = u32::from(client.port).wrapping_add(folded(client.address));
    let hash = |offset: u32| {
        let hash = value.wrapping_mul(GOLDEN_RATIO) >> (u32::BITS - SOURCE_HASH_BITS);
        offset.wrapping_add(hash) % SOURCE_HASH_BUCKETS
    };
    let pick = |offset| buckets.get(hash(offset) as usize).copied();
    picked(candidates, pick, hash(0), SOURCE_HASH_BUCKETS, fallback)
}

/// The same for `mh` and `mh-fallback`.
pub fn maglev_hash(candidates: &[Candidate], client: Client, fallback: bool) -> Option<usize> {
    let places = maglev_table(candidates);
    let value = u32::from(client.port).wrapping_add(folded(client.address));
    let hash = |offset: u32| hsiphash(offset.wrapping_add(value), MAGLEV_KEYS[0]) % MAGLEV_PLACES;
    let pick = |offset| places.get(hash(offset) as usize).copied();
    picked(candidates, pick, hash(0), MAGLEV_PLACES, fallback)
}

fn picked(
    candidates: &[Candidate],
    pick: impl Fn(u32) -> Option<usize>,
    first: u32,
    size: u32,
    fallback: bool,
) -> Option<usize> {
    let takes = |place: &usize| candidates[*place].weight > 0;
    let original = pick(0)?;
    if takes(&original) || !fallback {
        return Some(original).filter(takes);
    }
    let others = (0..size).map(|offset| pick((offset + first) % size));
    others.flatten().find(takes)
}

/// Each gets as many buckets in a row as its weight says, at least one.
fn source_hash_table(candidates: &[Candidate]) -> Vec<usize> {
    let runs = candidates.iter().enumerate();
    let run = runs.flat_map(|(place, one)| (0..one.weight.max(1)).map(move |_| place));
    // An empty cycle ends at once.
    run.cycle().take(SOURCE_HASH_BUCKETS as usize).collect()
}

/// Each takes its turns, by its own order of places, until no place is left.
fn maglev_table(candidates: &[Candidate]) -> Vec<usize> {
    let divisor = candidates.iter().fold(0, |divisor, one| {
        greatest_common_divisor(divisor, one.last_weight)
    });
    if divisor == 0 {
        return Vec::new();
    }
    let most = candidates.iter().map(|one| one.last_weight).max();
    let occupied = u32::BITS - (most.unwrap_or(0) / divisor).leading_zeros();
    let shift = occupied.saturating_sub(MAGLEV_BITS);
    let mut setups: Vec<Setup> = candidates
        .iter()
        .map(|one| Setup::of(one, divisor, shift))
        .collect();
    let mut table = vec![None; MAGLEV_PLACES as usize];
    let mut left = MAGLEV_PLACES;
    while left > 0 {
        for (candidate, setup) in setups.iter_mut().enumerate() {
            for _ in 0..setup.turns.min(left) {
                while table[setup.place as usize].is_some() {
                    setup.place = (setup.place + setup.skip) % MAGLEV_PLACES;
                }
                table[setup.place as usize] = Some(candidate);
                left -= 1;
            }
        }
    }
    table.into_iter().flatten().collect()
}

struct Setup {
    place: u32,
    skip: u32,
    turns: u32,
}

impl Setup {
    fn of(candidate: &Candidate, divisor: u32, shift: u32) -> Self {
        let DestinationKey { address, port } = candidate.key;
        let value = u32::from(port).wrapping_add(folded(address));
        let [first, second] = MAGLEV_KEYS.map(|key| hsiphash(value, key));
        let weight = candidate.last_weight;
        Self {
            place: first % MAGLEV_PLACES,
            skip: second % (MAGLEV_PLACES - 1) + 1,
            turns: ((weight / divisor) >> shift).max(weight.min(1)),
        }
    }
}

fn greatest_common_divisor(mut one: u32, mut other: u32) -> u32 {
    while other != 0 {
        (one, other) = (other, one % other);
    }
    one
}

/// The words of an address, as numbers, together by exclusive or.
fn folded(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(address) => address.to_bits(),
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            [96, 64, 32, 0]
                .into_iter()
                .fold(0, |folded, shift| folded ^ (bits >> shift) as u32)
        }
    }
}

/// `hsiphash_1u32` with both halves of the key the same: SipHash-1-3, cut short (`lib/siphash.c`).
fn hsiphash(value: u32, key: u64) -> u32 {
    let mut state = [
        0x736f_6d65_7073_6575 ^ key,
        0x646f_7261_6e64_6f6d ^ key,
        0x6c79_6765_6e65_7261 ^ key,
        0x7465_6462_7974_6573 ^ key,
    ];
    let message = (4_u64 << 56) | u64::from(value);
    state[3] ^= message;
    siphash_round(&mut state);
    state[0] ^= message;
    state[2] ^= 0xff;
    for _ in 0..3 {
        siphash_round(&mut state);
    }
    let [a, b, c, d] = state;
    // The lower half is what the kernel takes.
    (a ^ b ^ c ^ d) as u32
}

fn siphash_round([a, b, c, d]: &mut [u64; 4]) {
    *a = a.wrapping_add(*b);
    *b = b.rotate_left(13) ^ *a;
    *a = a.rotate_left(32);
    *c = c.wrapping_add(*d);
    *d = d.rotate_left(16) ^ *c;
    *a = a.wrapping_add(*d);
    *d = d.rotate_left(21) ^ *a;
    *c = c.wrapping_add(*b);
    *b = b.rotate_left(17) ^ *c;
    *c = c.rotate_left(32);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::hash::{DefaultHasher, Hasher};

    use proptest::prelude::*;

    use super::*;

    /// The standard library's hasher is SipHash-1-3 with the key 0.
    #[test]
    fn the_hash_is_siphash_1_3() {
        for value in [0, 1, 0x0102_0304, u32::MAX] {
            let mut hasher = DefaultHasher::new();
            hasher.write(&value.to_le_bytes());
            assert_eq!(hsiphash(value, 0), hasher.finish() as u32);
        }
    }

    fn candidates(weights: &[u32]) -> Vec<Candidate> {
        let weights = (1..).zip(weights);
        weights
            .map(|(last, weight)| Candidate {
                key: DestinationKey {
                    address: [192, 0, 2, last].into(),
                    port: 53,
                },
                weight: *weight,
                last_weight: *weight,
            })
            .collect()
    }

    fn counted(table: &[usize], candidates: usize) -> Vec<usize> {
        let count = |place| table.iter().filter(|one| **one == place).count();
        (0..candidates).map(count).collect()
    }

    #[test]
    fn tables_are_full_and_follow_weights() {
        let three = candidates(&[1, 2, 1]);
        assert_eq!(counted(&source_hash_table(&three), 3), [64, 128, 64]);
        assert_eq!(source_hash_table(&three)[..6], [0, 1, 1, 2, 0, 1]);
        assert_eq!(counted(&maglev_table(&three), 3), [1024, 2046, 1023]);
        // Its first turns are more than there are places.
        let unlike = candidates(&[65_535, 1]);
        assert_eq!(counted(&maglev_table(&unlike), 2), [4093, 0]);
        let drained = candidates(&[3, 0]);
        assert_eq!(counted(&source_hash_table(&drained), 2), [192, 64]);
        for empty in [&candidates(&[])[..], &candidates(&[0, 0])] {
            assert!(maglev_table(empty).is_empty());
        }
        assert!(source_hash_table(&[]).is_empty());
    }

    proptest! {
        #[test]
        fn who_is_picked_takes_queries(
            weights in prop::collection::vec(0..20_u32, 0..8),
            last in prop::collection::vec(0..20_u32, 8),
            address: [u8; 16], is_ipv6: bool, port: u16, fallback: bool,
        ) {
            let mut all = candidates(&weights);
            for (one, last) in all.iter_mut().zip(last) {
                one.last_weight = one.weight.max(last);
            }
            let address = if is_ipv6 {
                IpAddr::from(address)
            } else {
                IpAddr::from(<[u8; 4]>::try_from(&address[..4]).unwrap())
            };
            let client = Client { address, port };
            for hash in [source_hash, maglev_hash] {
                let picked = hash(&all, client, fallback);
                if let Some(place) = picked {
                    prop_assert!(all[place].weight > 0);
                } else {
                    prop_assert!(all.iter().any(|one| one.weight == 0) || all.is_empty());
                }
            }
        }
    }
}
