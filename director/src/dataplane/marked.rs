//! Services for probes: one for each real server that is reached as clients' packets are, under a mark
//! that this program's own packets carry.
//!
//! They are made, kept and removed as all services of ours are. They aren't anybody's services, so that
//! plans, the log and metrics leave them out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use lvs_proto::Family;
use lvs_proto::ipvs::{
    Destination, DestinationKey, Forwarding, Scheduler, Service, ServiceFlags, ServiceKey,
};
use lvs_system::{address, sysctl};

pub use crate::config::defaults::PROBE_MARKS;

use super::table::{Desired, DesiredDestination, DesiredService, Presence, Standing};

/// How often routes are looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// How a real server is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Way {
    /// Its own address.
    pub server: IpAddr,
    /// How packets get there.
    pub forwarding: Forwarding,
    /// The family of those packets.
    pub family: Family,
}

/// A mark for each way. Which one depends on the ways themselves, so that it stays when others come and
/// go, but for the rare one that another's number is in the way of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks(BTreeMap<Way, NonZeroU32>);

impl Marks {
    /// Gives every way a mark, as far as there are marks.
    pub fn of(ways: &BTreeSet<Way>) -> Self {
        let mut taken = BTreeSet::new();
        let count = PROBE_MARKS.end() - PROBE_MARKS.start() + 1;
        let marks = ways.iter().take(count as usize).filter_map(|way| {
            let mut number = place(way) % count;
            while !taken.insert(number) {
                number = (number + 1) % count;
            }
            Some((*way, NonZeroU32::new(PROBE_MARKS.start() + number)?))
        });
        Self(marks.collect())
    }

    /// The mark of a way.
    pub fn get(&self, way: &Way) -> Option<NonZeroU32> {
        self.0.get(way).copied()
    }

    /// The services that send what is marked on these ways.
    pub fn services(&self) -> impl Iterator<Item = (ServiceKey, DesiredService)> + '_ {
        self.0.iter().map(|(way, mark)| {
            let key = ServiceKey::FirewallMark {
                mark: *mark,
                family: way.family,
            };
            (key, service(way, key))
        })
    }
}

/// Whether a service is one for probes.
pub fn is_for_probes(key: &ServiceKey) -> bool {
    matches!(key, ServiceKey::FirewallMark { mark, .. } if PROBE_MARKS.contains(&mark.get()))
}

/// The settings for hearing answers, looked up again when the real servers are others, and now and then,
/// since routes change.
#[derive(Debug, Default)]
pub(super) struct Hearing {
    settings: BTreeSet<String>,
    looked: Option<(Instant, BTreeSet<DestinationKey>)>,
}

impl Hearing {
    /// The settings that have to be on.
    pub(super) fn settings(&mut self, desired: &Desired, now: Instant) -> BTreeSet<String> {
        let servers = servers(desired).copied().collect();
        let is_fresh = self.looked.as_ref().is_some_and(|(at, of)| {
            *of == servers && now.saturating_duration_since(*at) < LOOK_AGAIN
        });
        if !is_fresh {
            self.settings = hearing_settings(desired);
            self.looked = Some((now, servers));
        }
        self.settings.clone()
    }
}

/// The real servers that are probed by IPv4.
fn servers(desired: &Desired) -> impl Iterator<Item = &DestinationKey> {
    let services = desired.services.iter();
    let probed = services.filter(|(key, _)| is_for_probes(key) && key.family() == Family::Ipv4);
    probed.flat_map(|(_, service)| service.destinations.keys())
}

/// The settings under which this machine hears answers from a VIP that it holds itself: of the interfaces
/// by which it is reached from real servers. Never of `all`: where the VIP stands on an interface with a
/// virtual MAC, that one would answer the announcements of who takes it over.
pub(super) fn hearing_settings(desired: &Desired) -> BTreeSet<String> {
    let sources: BTreeSet<IpAddr> = servers(desired)
        .filter_map(|key| address::source_towards(key.address).ok())
        .collect();
    if sources.is_empty() {
        return BTreeSet::new();
    }
    let Ok(addresses) = nix::ifaddrs::getifaddrs() else {
        return BTreeSet::new();
    };
    let carries = |one: &nix::ifaddrs::InterfaceAddress| {
        let address = one.address.and_then(|address| {
            let address = address.as_sockaddr_in()?;
            Some(IpAddr::from(address.ip()))
        });
        address.is_some_and(|address| sources.contains(&address) && !address.is_loopback())
    };
    let names = addresses.filter(carries).map(|one| one.interface_name);
    // A label such as `eth0:1` stands for its interface.
    let names = names.map(|name| name.split(':').next().unwrap_or_default().to_owned());
    names
        .map(|name| format!("net.ipv4.conf.{}.accept_local", sysctl::part(&name)))
        .collect()
}

fn service(way: &Way, key: ServiceKey) -> DesiredService {
    let destination = Destination {
        key: DestinationKey {
            address: way.server,
            port: 0,
        },
        forwarding: way.forwarding,
        weight: 1,
        upper_threshold: 0,
        lower_threshold: 0,
    };
    let wanted = DesiredDestination {
        destination,
        presence: Presence::Present,
        weight_as_found: false,
    };
    DesiredService {
        name: format!("for probes of {}", way.server),
        service: Service {
            key,
            scheduler: Some(Scheduler::RoundRobin),
            // Of UDP; connections need their entries.
            flags: ServiceFlags::ONE_PACKET,
            persistence: None,
        },
        destinations: [(destination.key, wanted)].into(),
        standing: Standing::Held,
    }
}

/// FNV-1a over what makes the way the one it is.
fn place(way: &Way) -> u32 {
    const PRIME: u32 = 0x0100_0193;
    let text = format!("{} {:?} {:?}", way.server, way.forwarding, way.family);
    let hash = text.bytes().fold(0x811c_9dc5, |hash: u32, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(PRIME)
    });
    hash ^ (hash >> 16)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn ways(count: u16) -> BTreeSet<Way> {
        let address = |number: u16| {
            let [high, low] = number.to_be_bytes();
            Ipv4Addr::new(10, 1, high, low)
        };
        (0..count)
            .map(|number| Way {
                server: address(number).into(),
                forwarding: Forwarding::DirectRouting,
                family: Family::Ipv4,
            })
            .collect()
    }

    #[test]
    fn every_way_has_a_mark_of_its_own_in_the_range() {
        let ways = ways(5000);
        let marks = Marks::of(&ways);
        let numbers: BTreeSet<_> = ways.iter().filter_map(|way| marks.get(way)).collect();
        assert_eq!(numbers.len(), ways.len());
        assert!(marks.services().all(|(key, _)| is_for_probes(&key)));
    }

    #[test]
    fn marks_stay_when_others_come() {
        let (few, more) = (ways(20), ways(40));
        let (before, after) = (Marks::of(&few), Marks::of(&more));
        let stays = |way: &&Way| before.get(way) == after.get(way);
        // One in 65,536 pairs has the same first choice.
        assert!(few.iter().filter(stays).count() >= 19);
    }

    #[test]
    fn answers_are_heard_where_they_come_in() {
        let mut desired = Desired::default();
        assert!(hearing_settings(&desired).is_empty());
        // This machine itself is reached by lo, which needs no setting.
        let way = Way {
            server: Ipv4Addr::LOCALHOST.into(),
            forwarding: Forwarding::DirectRouting,
            family: Family::Ipv4,
        };
        desired.services = Marks::of(&[way].into()).services().collect();
        assert!(hearing_settings(&desired).is_empty());
    }
}
