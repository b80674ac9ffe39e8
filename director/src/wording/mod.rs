//! Settings and how they differ, and times, in an operator's words.

pub(crate) mod dns_check;

use std::time::Duration;

use lvs_proto::dns::Name;
use lvs_proto::health::{Floor, LatencyRules, Percent, Quorum};

use crate::config::{PoolSettings, Watch, ZoneWatch};

/// A setting's name and its value; [`OFF`] where it isn't used.
pub(crate) type Setting = (&'static str, String);

/// The value of what isn't used.
pub(crate) const OFF: &str = "off";

/// What is watched of the DNS data that real servers have.
pub(crate) fn watch(watch: Option<&Watch>) -> Vec<Setting> {
    let off = || OFF.to_owned();
    let zones = watch.into_iter().flat_map(|watch| &watch.zones);
    let zones: Vec<String> = zones.map(zone_watch).collect();
    let dnssec = watch.and_then(|watch| watch.dnssec.as_ref());
    let name = |name: Option<&Name>| name.map_or_else(off, Name::to_string);
    vec![
        (
            "every",
            watch.map_or_else(off, |watch| format!("{:?}", watch.interval)),
        ),
        (
            "zones",
            if zones.is_empty() {
                off()
            } else {
                zones.join(", ")
            },
        ),
        ("signed", name(dnssec.and_then(|it| it.signed.as_ref()))),
        ("bogus", name(dnssec.and_then(|it| it.bogus.as_ref()))),
        (
            "without validation",
            dnssec.map_or_else(off, |it| what_is_left(it.weight)),
        ),
    ]
}

/// As people say how long something has been: two units at most.
pub(crate) fn age(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if seconds < 1 => format!("{}ms", time.as_millis()),
        () if minutes < 1 => format!("{seconds}s"),
        () if hours < 1 => format!("{minutes}m {}s", seconds % 60),
        () if days < 1 => format!("{hours}h {}m", minutes % 60),
        () => format!("{days}d {}h", hours % 24),
    }
}

fn zone_watch(zone: &ZoneWatch) -> String {
    let lag = zone
        .rules
        .maximum_lag
        .map(|lag| format!("by more than {lag}"));
    let time = zone.rules.maximum_time.map(|time| format!("for {time:?}"));
    let limits: Vec<String> = lag.into_iter().chain(time).collect();
    let left = what_is_left(zone.weight);
    format!("{} behind {}: {left}", zone.name, limits.join(" or "))
}

fn what_is_left(weight: Percent) -> String {
    if weight == Percent::NONE {
        "out".to_owned()
    } else {
        format!("{weight} of the weight")
    }
}

/// How the servers of a service stand for each other.
pub(crate) fn pool(settings: &PoolSettings) -> Vec<Setting> {
    let off = || OFF.to_owned();
    let Quorum {
        servers,
        hysteresis,
    } = settings.quorum;
    let quorum = match hysteresis {
        0 => servers.to_string(),
        more => format!("{servers} ({} to regain it)", servers + more),
    };
    let floor = match settings.floor {
        Floor::Servers(0) => off(),
        Floor::Servers(number) => number.to_string(),
        Floor::Part(part) => part.to_string(),
    };
    let sorry_servers = settings.sorry_servers.iter();
    let sorry_servers: Vec<String> = sorry_servers
        .map(|server| format!("{} by {}", server.key, server.forwarding))
        .collect();
    let latency = settings.latency.map(|latency| {
        let LatencyRules {
            smoothing,
            dead_band,
            largest_step,
        } = latency;
        format!("smoothed over {smoothing:?} beyond {dead_band} by {largest_step} a second")
    });
    vec![
        ("quorum", quorum),
        ("floor", floor),
        (
            "sorry server",
            match sorry_servers.as_slice() {
                [] => off(),
                some => some.join(" "),
            },
        ),
        (
            "largest weight",
            match settings.maximum_weight {
                u16::MAX => off(),
                weight => weight.to_string(),
            },
        ),
        (
            "slow start",
            settings
                .slow_start
                .map_or_else(off, |time| format!("{time:?}")),
        ),
        ("latency", latency.unwrap_or_else(off)),
    ]
}

/// Those settings that are used.
pub(crate) fn described(settings: &[Setting]) -> String {
    let used = settings.iter().filter(|(_, value)| value != OFF);
    let described: Vec<String> = used.map(words).collect();
    described.join(", ")
}

/// What becomes of those settings that differ. Both sides list the same ones.
pub(crate) fn differences(from: &[Setting], to: &[Setting]) -> Vec<String> {
    differing(from, to)
        .map(|((name, from), (_, to))| format!("{name} {from} → {to}"))
        .collect()
}

/// Those settings that differ, before and after. Both sides list the same ones.
pub(crate) fn sides(from: &[Setting], to: &[Setting]) -> (String, String) {
    let (from, to): (Vec<String>, Vec<String>) = differing(from, to)
        .map(|(from, to)| (words(from), words(to)))
        .unzip();
    (from.join(", "), to.join(", "))
}

fn words((name, value): &Setting) -> String {
    format!("{name} {value}")
}

fn differing<'a>(
    from: &'a [Setting],
    to: &'a [Setting],
) -> impl Iterator<Item = (&'a Setting, &'a Setting)> {
    from.iter().zip(to).filter(|(from, to)| from != to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_used_and_what_differs_is_said() {
        let settings = |weight: &str, threshold: &str| {
            vec![
                ("forwarding", "masquerade".to_owned()),
                ("weight", weight.to_owned()),
                ("upper threshold", threshold.to_owned()),
            ]
        };
        let (from, to) = (settings("1", OFF), settings("3", "800"));
        assert_eq!(described(&from), "forwarding masquerade, weight 1");
        assert_eq!(
            differences(&from, &to),
            ["weight 1 → 3", "upper threshold off → 800"]
        );
        let expected = [
            "weight 1, upper threshold off",
            "weight 3, upper threshold 800",
        ];
        assert_eq!(sides(&from, &to), expected.map(str::to_owned).into());
        assert!(differences(&from, &from).is_empty());
    }

    #[test]
    fn times_are_as_people_say_them() {
        for (milliseconds, said) in [
            (0, "0ms"),
            (999, "999ms"),
            (59_999, "59s"),
            (60_000, "1m 0s"),
            (3_600_000, "1h 0m"),
            (90_000_000, "1d 1h"),
        ] {
            assert_eq!(age(Duration::from_millis(milliseconds)), said);
        }
    }
}
