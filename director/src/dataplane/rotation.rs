//! Moving flows away from the servers that they are pinned to.
//!
//! One-packet scheduling that is turned on for a live service concerns new flows only: the kernel
//! keeps the entries of the others, and with them their servers, for as long as clients go on. It
//! ends the entries of a server that is removed (`ip_vs_expire_nodest_conn_flush`), so each server
//! is taken out for a moment, one after the other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use lvs_proto::ipvs::{DestinationKey, Protocol, Service, ServiceFlags, ServiceKey};

use super::plan::{Resting, extent, is_used};
use super::table::{Desired, DesiredDestination, Presence};

/// How long a server is out. The kernel ends the entries of a removed server from a work queue,
/// within 50 ms on a quiet machine.
pub(super) const REST: Duration = Duration::from_millis(200);

/// Whether such a change leaves flows at the servers that they are pinned to. Those of a mark stay:
/// what has it may be TCP too, whose connections would end.
pub(super) fn flows_move(from: &Service, to: &Service) -> bool {
    to.key.protocol() == Some(Protocol::Udp)
        && to.flags.contains(ServiceFlags::ONE_PACKET)
        && !from.flags.contains(ServiceFlags::ONE_PACKET)
}

/// Whose turn it is, in every service whose flows are being moved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rotation {
    services: BTreeMap<ServiceKey, Turns>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Turns {
    waiting: VecDeque<DestinationKey>,
    out: Option<(DestinationKey, Instant)>,
}

impl Rotation {
    /// These servers of a service have their turn from the next [`Self::advance`] on.
    ///
    /// A single one has nowhere to move flows to.
    pub(super) fn begin(
        &mut self,
        service: ServiceKey,
        servers: impl IntoIterator<Item = DestinationKey>,
    ) {
        let waiting: VecDeque<DestinationKey> = servers.into_iter().collect();
        if waiting.len() > 1 {
            self.services.entry(service).or_default().waiting = waiting;
        }
    }

    /// Lets servers in again that were out long enough, and the next ones out. A server is out only
    /// while another one takes its work on this machine, which has the `local_addresses`.
    pub(super) fn advance(
        &mut self,
        desired: &Desired,
        local_addresses: &BTreeSet<IpAddr>,
        now: Instant,
    ) {
        self.services.retain(|key, turns| {
            let Some(service) = desired.services.get(key) else {
                return false;
            };
            let extent = extent(service, desired.program, local_addresses, None);
            let used = service.destinations.values();
            let used: Vec<&DesiredDestination> = used
                .filter(|one| is_used(&one.destination.key, extent, local_addresses))
                .collect();
            if turns.out.is_some_and(|(server, since)| {
                now.saturating_duration_since(since) >= REST || !is_dispensable(&used, server)
            }) {
                turns.out = None;
            }
            let known = |server: &DestinationKey| {
                let mut used = used.iter();
                used.any(|one| one.destination.key == *server)
            };
            turns.waiting.retain(known);
            if used.len() < 2 {
                turns.waiting.clear();
            }
            if turns.out.is_none() {
                let mut waiting = turns.waiting.iter();
                let next = waiting
                    .position(|server| is_dispensable(&used, *server))
                    .and_then(|position| turns.waiting.remove(position));
                turns.out = next.map(|server| (server, now));
            }
            turns.out.is_some() || !turns.waiting.is_empty()
        });
    }

    /// The servers that are out.
    pub(super) fn resting(&self) -> Resting {
        let services = self.services.iter();
        services
            .filter_map(|(key, turns)| Some((*key, turns.out?.0)))
            .collect()
    }

    /// The services whose flows are being moved.
    pub(super) fn services(&self) -> BTreeSet<ServiceKey> {
        self.services.keys().copied().collect()
    }

    /// When [`Self::advance`] is due.
    pub(super) fn due(&self) -> Option<Instant> {
        let services = self.services.values();
        services.filter_map(|turns| Some(turns.out?.1 + REST)).min()
    }
}

/// Whether another one of these servers takes new flows.
fn is_dispensable(used: &[&DesiredDestination], server: DestinationKey) -> bool {
    let mut others = used.iter().filter(|one| one.destination.key != server);
    others.any(|one| one.presence == Presence::Present && one.destination.weight > 0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::fake;
    use super::super::table::Standing;
    use super::*;

    const NOWHERE: BTreeSet<IpAddr> = BTreeSet::new();

    /// Servers with these weights; the ones without are out.
    fn desired(weights: &[Option<u32>]) -> Desired {
        let servers = weights.iter().zip(0..).map(|(weight, number)| {
            let presence = match weight {
                Some(_) => Presence::Present,
                None => Presence::Absent,
            };
            (fake::destination(number, weight.unwrap_or(1)), presence)
        });
        let service = fake::desired_service(fake::service(fake::service_key(0)), servers);
        Desired {
            services: [(service.service.key, service)].into(),
            ..Desired::default()
        }
    }

    fn begun(desired: &Desired) -> Rotation {
        let mut rotation = Rotation::default();
        for (key, service) in &desired.services {
            rotation.begin(*key, service.destinations.keys().copied());
        }
        rotation
    }

    fn out(rotation: &Rotation) -> Vec<String> {
        let resting = rotation.resting().into_iter();
        resting.map(|(_, server)| server.to_string()).collect()
    }

    #[test]
    fn every_server_is_out_once_and_never_two_at_a_time() {
        let desired = desired(&[Some(1), Some(0), Some(2)]);
        let mut rotation = begun(&desired);
        let start = Instant::now();
        let mut seen = Vec::new();
        for milliseconds in (0..1000).step_by(50) {
            let now = start + Duration::from_millis(milliseconds);
            rotation.advance(&desired, &NOWHERE, now);
            let out = out(&rotation);
            assert!(out.len() <= 1, "{out:?}");
            assert_eq!(rotation.due().is_some(), !out.is_empty());
            seen.push(out.first().cloned());
        }
        let turn = |number: u8| Some(format!("192.0.2.1{number}:53"));
        let mut expected = Vec::new();
        for (server, times) in [(turn(0), 4), (turn(1), 4), (turn(2), 4), (None, 8)] {
            expected.extend(vec![server; times]);
        }
        assert_eq!(seen, expected);
        assert_eq!(rotation, Rotation::default());
    }

    #[test]
    fn nobody_leaves_a_service_without_a_server() {
        for weights in [
            &[Some(1)][..],
            &[Some(1), Some(0)],
            &[Some(1), None],
            &[None, None],
        ] {
            let desired = desired(weights);
            let mut rotation = begun(&desired);
            let now = Instant::now();
            rotation.advance(&desired, &NOWHERE, now);
            let only = desired.services.values().next().unwrap();
            let dispensable = out(&rotation);
            for server in only.destinations.values() {
                let takes = server.presence == Presence::Present && server.destination.weight > 0;
                let is_out = dispensable.contains(&server.destination.key.to_string());
                assert!(!(takes && is_out), "{weights:?}: {dispensable:?}");
            }
        }
    }

    /// The other one is desired, but not on this machine for now.
    #[test]
    fn the_only_server_here_stays() {
        let mut desired = desired(&[Some(1), Some(1)]);
        for service in desired.services.values_mut() {
            service.standing = Standing::External;
        }
        let here = BTreeSet::from([fake::destination(0, 1).key.address]);
        let mut rotation = begun(&desired);
        rotation.advance(&desired, &here, Instant::now());
        assert_eq!(rotation, Rotation::default());
    }

    #[test]
    fn a_server_comes_back_at_once_when_the_others_fail() {
        let both = desired(&[Some(1), Some(1)]);
        let mut rotation = begun(&both);
        let now = Instant::now();
        rotation.advance(&both, &NOWHERE, now);
        assert_eq!(out(&rotation), ["192.0.2.10:53"]);
        let one = desired(&[Some(1), None]);
        rotation.advance(&one, &NOWHERE, now + Duration::from_millis(1));
        assert!(!out(&rotation).contains(&"192.0.2.10:53".to_owned()));
        // The other one is no longer there to be moved from, and waits for nothing.
        rotation.advance(&Desired::default(), &NOWHERE, now);
        assert_eq!(rotation, Rotation::default());
    }
}
