//! What holds where the file says nothing, and the bounds of what it may say, in one place.

use std::num::{NonZeroI16, NonZeroU8};
use std::ops::RangeInclusive;
use std::time::Duration;

use lvs_proto::dns::RecordType;
use lvs_proto::ipvs::{Forwarding, Scheduler};
use lvs_proto::vrrp::{ChecksumForm, Version};

use super::model::Dataplane;

const HOUR: Duration = Duration::from_secs(3600);

/// Bytes of a configuration file, at most: beyond any real one, and small enough to parse at once.
pub const MAXIMUM_FILE_SIZE: u64 = 1024 * 1024;

/// Data plane.
pub const DATAPLANE: Dataplane = Dataplane::Ipvs;

/// VRRP version.
pub const VERSION: Version = Version::V3;
/// What version 3 checksums cover: the form that keepalived sends too.
pub const CHECKSUM: ChecksumForm = ChecksumForm::PseudoHeader;
/// Priorities that a director may have; 255 is the owner's of the addresses.
pub const PRIORITIES: RangeInclusive<i64> = 1..=255;
/// VIPs of one instance: what an advert can count (RFC 9568, section 5.2.5).
pub const MAXIMUM_ADDRESSES: usize = 255;

/// Time between two adverts: a tenth of a second where the version can say it, else its shortest.
pub const fn advert_interval(version: Version) -> Duration {
    match version {
        Version::V2 => Duration::from_secs(1),
        Version::V3 => Duration::from_millis(100),
    }
}

/// What version 3 can say on the wire.
pub const ACCEPTED_INTERVALS: RangeInclusive<Duration> =
    Duration::from_millis(10)..=Duration::from_millis(40_950);
/// How long a lower Active is left alone.
pub const PREEMPT_DELAY: Duration = Duration::ZERO;
/// Bounds of it.
pub const PREEMPT_DELAYS: RangeInclusive<Duration> = Duration::ZERO..=HOUR;
/// The time to live that unicast adverts must have left: no router in between.
pub const MINIMUM_TIME_TO_LIVE: u8 = 255;
/// Between two packets of an announcement.
pub const ANNOUNCEMENT_PAUSE: Duration = Duration::ZERO;
/// Bounds of it.
pub const ANNOUNCEMENT_PAUSES: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(1);
/// How long after a promotion the second burst comes.
pub const SECOND_BURSTS: RangeInclusive<Duration> = Duration::ZERO..=HOUR;
/// How often an Active announces again.
pub const REFRESHES: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(86_400);

/// What may be added to a priority (keepalived's bounds).
pub const WEIGHTS: RangeInclusive<i64> = -253..=253;
/// What a tracked file's number counts for.
pub const FILE_WEIGHT: NonZeroI16 = NonZeroI16::new(1).expect("1 is not 0");
/// Between the starts of two runs of a tracked script.
pub const SCRIPT_INTERVAL: Duration = Duration::from_secs(1);
/// Bounds of it.
pub const SCRIPT_INTERVALS: RangeInclusive<Duration> = Duration::from_millis(100)..=HOUR;
/// Runs in a row that decide of a tracked script.
pub const SCRIPT_COUNT: NonZeroU8 = NonZeroU8::MIN;
/// How long a hook may run.
pub const HOOK_TIMEOUT: Duration = Duration::from_secs(10);
/// Bounds of it.
pub const HOOK_TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(100)..=HOUR;

/// How a real server is picked.
pub const SCHEDULER: Scheduler = Scheduler::WeightedRoundRobin;
/// How packets reach the real servers.
pub const FORWARDING: Forwarding = Forwarding::DirectRouting;
/// The port whose UDP half has one-packet scheduling: a resolver that asks from one source port
/// would otherwise stay on one real server for as long as it asks.
pub const ONE_PACKET_SCHEDULING_PORT: u16 = 53;
/// Weight of a real server.
pub const WEIGHT: u16 = 1;

/// Record type that a DNS probe asks for.
pub const RECORD_TYPE: RecordType = RecordType::A;
/// Between the starts of two probes.
pub const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// Bounds of it.
pub const CHECK_INTERVALS: RangeInclusive<Duration> = Duration::from_millis(10)..=HOUR;
/// How long an answer may take, if the interval isn't shorter.
pub const CHECK_TIMEOUT: Duration = Duration::from_millis(300);
/// Good probes in a row that bring a server in.
pub const RISE: NonZeroU8 = NonZeroU8::MIN.saturating_add(1);
/// Bad probes in a row that take a server out.
pub const FALL: NonZeroU8 = NonZeroU8::MIN.saturating_add(1);
