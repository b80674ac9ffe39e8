//! What holds of checks where the file says nothing, and the bounds of what it may say, in one place.

use std::num::NonZeroU8;
use std::ops::RangeInclusive;
use std::time::Duration;

use lvs_proto::dns::RecordType;

/// Record type that a DNS probe asks for.
pub const RECORD_TYPE: RecordType = RecordType::A;
/// Longest UDP answer in octets that a DNS server is told we take, where a probe uses EDNS: what
/// passes any network unfragmented.
pub const EDNS_SIZE: u16 = 1232;
/// Bounds of it: what DNS is without EDNS, and what a probe has room for.
pub const EDNS_SIZES: RangeInclusive<i64> = 512..=4096;
/// Longest time to live of a record, in seconds (RFC 2181, section 8).
pub const LONGEST_TIME_TO_LIVE: u32 = u32::MAX >> 1;
/// Between the starts of two probes.
pub const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// Bounds of it.
pub const CHECK_INTERVALS: RangeInclusive<Duration> =
    Duration::from_millis(10)..=Duration::from_secs(3600);
/// How long an answer may take, if the interval isn't shorter.
pub const CHECK_TIMEOUT: Duration = Duration::from_millis(300);
/// Between the starts of two runs of a program that looks at a server.
pub const EXEC_INTERVAL: Duration = Duration::from_secs(5);
/// How long it may run, if the interval isn't shorter.
pub const EXEC_TIMEOUT: Duration = Duration::from_secs(3);
/// The HTTP statuses that are good.
pub const GOOD_STATUSES: RangeInclusive<u16> = 200..=299;
/// Good probes in a row that bring a server in.
pub const RISE: NonZeroU8 = NonZeroU8::MIN.saturating_add(1);
/// Bad probes in a row that take a server out.
pub const FALL: NonZeroU8 = NonZeroU8::MIN.saturating_add(1);
