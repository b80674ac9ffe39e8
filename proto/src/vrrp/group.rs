//! Sync groups: virtual routers of one machine that are Active together or not at all.

use std::time::Instant;

use super::instance::Leash;
use super::{Fault, Instance, Reason, State};

/// Makes the members of a group follow each other. Called after every event that any of them heard,
/// before their actions are carried out.
///
/// A member in fault takes the others along; whoever changed last leads; a member takes over only when
/// all of them could.
pub fn keep_together(now: Instant, members: &mut [&mut Instance]) {
    for index in 0..members.len() {
        let dragged = others(members, index).any(has_own_fault);
        members[index].handle_fault(now, Fault::Group, dragged);
    }
    match leading_state(members) {
        Some(State::Backup) => members
            .iter_mut()
            .for_each(|member| member.handle_yield(now)),
        Some(State::Active) => members
            .iter_mut()
            .for_each(|member| member.handle_promote(now)),
        _ => {}
    }
    leash(now, members);
}

/// Tells each member what the others allow it. Called before timers expire, too.
pub fn leash(now: Instant, members: &mut [&mut Instance]) {
    for index in 0..members.len() {
        let left_at = members[index].left_at();
        let leash = Leash {
            may_preempt: others(members, index)
                .filter(|member| member.state() == State::Backup)
                .all(|member| {
                    let better = member.follows_a_better_until(None);
                    member.is_ready()
                        && member.aside().is_none()
                        && better.is_none_or(|until| until <= now)
                }),
            held_until: others(members, index)
                .filter_map(|member| member.follows_a_better_until(left_at))
                .max(),
        };
        members[index].set_leash(leash);
    }
}

fn others<'members>(
    members: &'members [&mut Instance],
    index: usize,
) -> impl Iterator<Item = &'members Instance> {
    members
        .iter()
        .enumerate()
        .filter(move |(other, _)| *other != index)
        .map(|(_, member)| &**member)
}

fn has_own_fault(member: &Instance) -> bool {
    member.faults().any(|fault| fault != Fault::Group)
}

/// The state of the member that changed last, Backup where two did at once. One that has just
/// started leads nobody.
fn leading_state(members: &[&mut Instance]) -> Option<State> {
    members
        .iter()
        .filter(|member| matches!(member.state(), State::Active | State::Backup))
        .max_by_key(|member| {
            let changed = member.last_transition().filter(|(_, transition)| {
                !matches!(transition.reason, Reason::Started | Reason::Recovered)
                    || transition.to == State::Active
            });
            (
                changed.map(|(at, _)| at),
                member.state() == State::Backup && changed.is_some(),
            )
        })
        .map(|member| member.state())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use core::net::IpAddr;
    use core::time::Duration;
    use std::time::SystemTime;

    use super::*;
    use crate::vrrp::{
        AcceptedIntervals, Advert, AdvertInterval, AlsoAccept, Announcements, Aside,
        Authentication, ChecksumForm, Configuration, Datagram, Family, Peers, Priority, Version,
        VirtualRouterId,
    };

    const INTERVAL: Duration = Duration::from_millis(100);

    fn member(id: u8, priority: u8) -> Instance {
        let interval = AdvertInterval::new(Version::V3, INTERVAL).unwrap();
        Instance::new(Configuration {
            version: Version::V3,
            virtual_router: VirtualRouterId::new(id).unwrap(),
            priority: Priority::new(priority).unwrap(),
            interval,
            accepted_intervals: AcceptedIntervals::around(interval),
            addresses: vec![IpAddr::from([192, 168, id, 185])],
            preempt: true,
            preempt_delay: Duration::ZERO,
            authentication: Authentication::None,
            also_accept: AlsoAccept::default(),
            peers: Peers::Multicast,
            checksum: ChecksumForm::PseudoHeader,
            primary_address: IpAddr::from([192, 168, id, 181]),
            announcements: Announcements::default(),
        })
    }

    fn pair(now: Instant) -> [Instance; 2] {
        let mut pair = [member(50, 200), member(51, 200)];
        for member in &mut pair {
            member.handle_ready(true);
            member.handle_start(now, false);
        }
        pair
    }

    fn together(now: Instant, pair: &mut [Instance; 2]) -> [State; 2] {
        let mut members: Vec<&mut Instance> = pair.iter_mut().collect();
        keep_together(now, &mut members);
        for member in pair.iter_mut() {
            while member.poll_action().is_some() {}
        }
        [pair[0].state(), pair[1].state()]
    }

    fn expire(now: Instant, pair: &mut [Instance; 2]) {
        let mut members: Vec<&mut Instance> = pair.iter_mut().collect();
        leash(now, &mut members);
        for member in members {
            member.handle_timeout(now);
        }
    }

    fn hear(now: Instant, member: &mut Instance, priority: u8) {
        let advert = Advert {
            priority,
            ..member.resignation()
        };
        let source = IpAddr::from([192, 168, advert.virtual_router.get(), 182]);
        let destination = Family::Ipv4.multicast_group();
        let message = advert.to_bytes(source, destination, ChecksumForm::PseudoHeader);
        let datagram = Datagram {
            source,
            destination,
            hop_limit: 255,
            message: &message,
        };
        member
            .handle_datagram(now, SystemTime::UNIX_EPOCH, &datagram)
            .unwrap();
    }

    fn active_pair(now: Instant) -> ([Instance; 2], Instant) {
        let mut pair = pair(now);
        let due = pair[0].poll_timeout().unwrap();
        pair[0].handle_timeout(due);
        assert_eq!(together(due, &mut pair), [State::Active; 2]);
        (pair, due)
    }

    #[test]
    fn members_become_active_and_yield_together() {
        let (mut pair, due) = active_pair(Instant::now());
        let later = due + INTERVAL / 2;
        hear(later, &mut pair[1], 210);
        assert_eq!(together(later, &mut pair), [State::Backup; 2]);
    }

    #[test]
    fn a_fault_takes_all_along_and_all_recover() {
        let (mut pair, due) = active_pair(Instant::now());
        pair[0].handle_fault(due, Fault::LinkDown, true);
        assert_eq!(together(due, &mut pair), [State::Fault; 2]);
        pair[0].handle_fault(due, Fault::LinkDown, false);
        assert_eq!(together(due, &mut pair), [State::Backup; 2]);
    }

    /// One that preempted alone would be pulled back by the other, again and again.
    #[test]
    fn nobody_preempts_while_another_member_follows_a_better_router() {
        let start = Instant::now();
        let mut pair = pair(start);
        let mut now = start;
        for _ in 0..20 {
            now += INTERVAL;
            hear(now, &mut pair[0], 150);
            hear(now, &mut pair[1], 210);
            expire(now, &mut pair);
            assert_eq!(together(now, &mut pair), [State::Backup; 2]);
        }
        // The better one is gone on both LANs: they take over together.
        for _ in 0..4 {
            now += INTERVAL;
            hear(now, &mut pair[0], 150);
            hear(now, &mut pair[1], 150);
            expire(now, &mut pair);
            together(now, &mut pair);
        }
        now += INTERVAL;
        expire(now, &mut pair);
        assert_eq!(together(now, &mut pair), [State::Active; 2]);
    }

    #[test]
    fn one_that_joins_late_follows_the_others() {
        let (mut pair, due) = active_pair(Instant::now());
        let later = due + INTERVAL / 2;
        pair[1] = member(52, 200);
        pair[1].handle_start(later, false);
        assert_eq!(together(later, &mut pair), [State::Active; 2]);
    }

    /// A split LAN stays split; the others must not follow it.
    #[test]
    fn one_lan_that_falls_silent_moves_nobody_while_another_has_a_better_active() {
        let start = Instant::now();
        let mut pair = pair(start);
        let mut now = start;
        for _ in 0..50 {
            now += INTERVAL;
            hear(now, &mut pair[1], 210);
            expire(now, &mut pair);
            assert_eq!(together(now, &mut pair), [State::Backup; 2]);
        }
        // It dies on both: nobody waits longer than once.
        let died = now;
        let down = pair[1].active_down_interval();
        while pair[1].state() == State::Backup {
            now = pair
                .iter()
                .filter_map(Instance::poll_timeout)
                .min()
                .unwrap();
            expire(now, &mut pair);
            together(now, &mut pair);
        }
        assert_eq!(now, died + down);
        assert_eq!(pair[0].state(), State::Active);
    }

    #[test]
    fn a_group_is_succeeded_within_the_skew_time() {
        let start = Instant::now();
        let mut pair = pair(start);
        let now = start + INTERVAL;
        for member in &mut pair {
            hear(now, member, 210);
        }
        let left = now + INTERVAL / 2;
        for member in &mut pair {
            hear(left, member, 0);
        }
        assert_eq!(together(left, &mut pair), [State::Backup; 2]);
        let due = pair[0].poll_timeout().unwrap();
        pair[0].handle_timeout(due);
        assert_eq!(together(due, &mut pair), [State::Active; 2]);
        assert_eq!(due, left + INTERVAL * 56 / 256);
    }

    /// The Active lost one link: its group says priority 0 on the other LAN only.
    #[test]
    fn one_that_leaves_and_one_that_falls_silent_are_succeeded_after_a_missed_advert() {
        let start = Instant::now();
        let mut pair = pair(start);
        let last = start + INTERVAL;
        for member in &mut pair {
            hear(last, member, 210);
        }
        for left in [last + INTERVAL / 10, last + INTERVAL] {
            let mut pair = pair.clone();
            hear(left, &mut pair[0], 0);
            let mut now = left;
            while together(now, &mut pair) == [State::Backup; 2] {
                let due = pair.iter().filter_map(Instance::poll_timeout).min();
                now = due.unwrap();
                expire(now, &mut pair);
            }
            assert_eq!(together(now, &mut pair), [State::Active; 2]);
            assert_eq!(now, last + INTERVAL * 3 / 2);
        }
    }

    /// A router without a group leaves one LAN and stays on the other.
    #[test]
    fn one_that_leaves_moves_nobody_while_another_is_heard_to_live() {
        let start = Instant::now();
        let mut pair = pair(start);
        let mut now = start;
        for round in 0..100 {
            now += INTERVAL;
            hear(now, &mut pair[1], 210);
            if round % 3 == 0 {
                now += INTERVAL / 2;
                hear(now, &mut pair[0], 0);
                now += INTERVAL / 4;
                expire(now, &mut pair);
                assert_eq!(together(now, &mut pair), [State::Backup; 2]);
                now += INTERVAL / 4;
                hear(now, &mut pair[1], 210);
                // An advert that is lost later is only that.
                now += INTERVAL * 2;
            }
            expire(now, &mut pair);
            assert_eq!(together(now, &mut pair), [State::Backup; 2]);
        }
        // It leaves the other too: nobody waits longer than once.
        let left = now + INTERVAL / 2;
        expire(left, &mut pair);
        hear(left, &mut pair[1], 0);
        while pair[1].state() == State::Backup {
            now = pair
                .iter()
                .filter_map(Instance::poll_timeout)
                .min()
                .unwrap();
            expire(now, &mut pair);
            together(now, &mut pair);
        }
        assert_eq!(now, left + INTERVAL * 56 / 256);
        assert_eq!(pair[0].state(), State::Active);
    }

    /// Each waits for its own successor, and none takes the group back.
    #[test]
    fn a_group_that_hands_over_stands_aside_together() {
        let (mut pair, due) = active_pair(Instant::now());
        for member in &mut pair {
            member.handle_handover(due, Aside::UntilReleased);
        }
        let mut now = due + INTERVAL / 2;
        hear(now, &mut pair[0], 150);
        now += INTERVAL / 4;
        hear(now, &mut pair[1], 150);
        for _ in 0..20 {
            now += INTERVAL / 2;
            expire(now, &mut pair);
            together(now, &mut pair);
            pair.iter_mut().for_each(|member| hear(now, member, 150));
        }
        assert_eq!(together(now, &mut pair), [State::Backup; 2]);
        for member in &pair {
            assert_eq!(member.aside(), Some(Aside::UntilReleased));
        }
    }

    /// A thread that looks late finds both timers due at once.
    #[test]
    fn members_that_are_due_at_once_wait_for_each_other_no_second_time() {
        let start = Instant::now();
        let mut pair = pair(start);
        let now = start + INTERVAL;
        for member in &mut pair {
            hear(now, member, 210);
        }
        assert_eq!(together(now, &mut pair), [State::Backup; 2]);
        let late = now + pair[0].active_down_interval() + INTERVAL / 10;
        expire(late, &mut pair);
        assert_eq!(together(late, &mut pair), [State::Active; 2]);
    }
}
