//! What holds where the file says nothing, and the bounds of what it may say, in one place.

use std::num::{NonZeroI16, NonZeroU8, NonZeroU16};
use std::ops::RangeInclusive;
use std::time::Duration;

use lvs_proto::Family;
use lvs_proto::health::{Floor, Percent, Quorum};
use lvs_proto::ipvs::{Forwarding, Scheduler};
use lvs_proto::vrrp::{ChecksumForm, Version};

use super::model::Dataplane;

const HOUR: Duration = Duration::from_secs(3600);

/// The firewall marks that the director's own probes carry: "LV" and 65,536 numbers.
pub const PROBE_MARKS: RangeInclusive<u32> = 0x4c56_0000..=0x4c56_ffff;

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
pub const DNS_PORT: u16 = 53;
/// The family of what is marked.
pub const MARKED_FAMILY: Family = Family::Ipv4;
/// Virtual services of one service.
pub const MAXIMUM_VIRTUAL_SERVICES: usize = 4096;
/// Virtual services of a file: more than any director has, and few enough to be read at once.
pub const MAXIMUM_TABLE: usize = 65_536;
/// Times that the kernel counts in its ticks without an overflow, at any of its rates
/// (`ip_vs_set_timeout`, `net/netfilter/ipvs/ip_vs_ctl.c`): up to 24 days.
pub const KERNEL_TIMES: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(24 * 86_400);
/// Weight of a real server.
pub const WEIGHT: u16 = 1;

/// How many healthy servers a service needs.
pub const QUORUM: Quorum = Quorum {
    servers: 1,
    hysteresis: 0,
};
/// How many servers checks leave.
pub const FLOOR: Floor = Floor::Servers(1);
/// The same where somebody is there for that case.
pub const FLOOR_BESIDE_A_SORRY_SERVER: Floor = Floor::Servers(0);
/// In what time a server that returns gets its whole share.
pub const SLOW_STARTS: RangeInclusive<Duration> = Duration::from_secs(1)..=HOUR;
/// How long a measured latency counts.
pub const SMOOTHING: Duration = Duration::from_secs(10);
/// Bounds of it.
pub const SMOOTHINGS: RangeInclusive<Duration> = Duration::from_secs(1)..=HOUR;
/// How much slower than the median makes no difference.
pub const DEAD_BAND: Percent = Percent::new(20);
/// How far a weight follows latency within a second.
pub const LARGEST_STEP: Percent = Percent::new(10);

/// The largest weight that scaling may make: the kernel's largest, and for `sh` what leaves everyone
/// of the servers some of its 256 slots (`IP_VS_SH_TAB_SIZE` of `net/netfilter/ipvs/ip_vs_sh.c`).
pub fn maximum_weight(scheduler: Scheduler, servers: usize) -> u16 {
    match scheduler {
        Scheduler::SourceHashing => u16::try_from(256 / servers.clamp(1, 256)).unwrap_or(1),
        _ => u16::MAX,
    }
}

/// Between two looks at what is watched.
pub const WATCH_INTERVAL: Duration = Duration::from_secs(10);
/// Bounds of it.
pub const WATCH_INTERVALS: RangeInclusive<Duration> = Duration::from_secs(1)..=HOUR;
/// So many intervals what a server told of a zone counts.
pub const WATCH_MEMORY: u32 = 3;
/// How long a server may be behind, if nothing else limits it.
pub const LAG_TIME: Duration = Duration::from_secs(300);
/// Bounds of it.
pub const LAG_TIMES: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(7 * 86_400);
/// Furthest that a serial number can be behind another one (RFC 1982, section 3.2).
pub const MAXIMUM_LAG: u32 = (1 << 31) - 1;
/// Where real servers of a service without a port are asked.
pub const WATCHED_PORT: NonZeroU16 = NonZeroU16::new(53).unwrap();
