//! Reads how the servers of a service stand for each other.

use lvs_configuration::document::Value;
use lvs_configuration::error::{Findings, Located, Origin};
use lvs_configuration::reader::{self, Mapping, Place};
use lvs_proto::health::{Floor, LatencyRules, Percent, Quorum};
use lvs_proto::ipvs::Scheduler;

use super::real_server::{self, Context};
use crate::config::defaults;
use crate::config::model::{PoolSettings, RealServer};

/// What a file says of a pool.
#[derive(Default)]
pub(in crate::config) struct PoolDraft {
    pub(in crate::config) quorum: Option<Located<Quorum>>,
    pub(in crate::config) floor: Option<Located<Floor>>,
    pub(in crate::config) sorry_servers: Vec<Located<RealServer>>,
    maximum_weight: Option<Located<u16>>,
    slow_start: Option<Located<std::time::Duration>>,
    latency: Option<Located<LatencyRules>>,
}

pub(super) fn read(
    place: &Place<'_>,
    context: Option<&Context>,
    findings: &mut Findings,
) -> Option<PoolDraft> {
    let known = [
        "quorum",
        "floor",
        "sorry_server",
        "maximum_weight",
        "slow_start",
        "latency",
    ];
    let keys = Mapping::of_known_keys(place, &known, findings)?;
    let quorum = keys.optional("quorum", findings, |place, findings| {
        Some(place.located(quorum(place, findings)?))
    });
    let floor = keys.optional("floor", findings, |place, findings| {
        Some(place.located(floor(place, findings)?))
    });
    let sorry_servers = keys.optional("sorry_server", findings, |place, findings| {
        sorry_servers(place, context, findings)
    });
    let maximum_weight = keys.optional("maximum_weight", findings, |place, findings| {
        let weight = reader::integer(place, 1..=65535, findings)?;
        Some(place.located(u16::try_from(weight).ok()?))
    });
    let slow_start = keys.optional("slow_start", findings, |place, findings| {
        let time = reader::duration_in(place, defaults::SLOW_STARTS, findings)?;
        Some(place.located(time))
    });
    let latency = keys.optional("latency", findings, |place, findings| {
        Some(place.located(latency(place, findings)?))
    });
    Some(PoolDraft {
        quorum: quorum?,
        floor: floor?,
        sorry_servers: sorry_servers?.unwrap_or_default(),
        maximum_weight: maximum_weight?,
        slow_start: slow_start?,
        latency: latency?,
    })
}

/// A number, or a mapping with the hysteresis.
fn quorum(place: &Place<'_>, findings: &mut Findings) -> Option<Quorum> {
    let number = |place: &Place<'_>, least, findings: &mut Findings| {
        usize::try_from(reader::integer(place, least..=65535, findings)?).ok()
    };
    if !matches!(place.value(), Value::Mapping(_)) {
        return Some(Quorum {
            servers: number(place, 1, findings)?,
            hysteresis: 0,
        });
    }
    let keys = Mapping::of_known_keys(place, &["servers", "hysteresis"], findings)?;
    let right = "write how many healthy servers are needed";
    let servers = keys.required("servers", right, findings, |place, findings| {
        number(place, 1, findings)
    });
    let hysteresis = keys.optional("hysteresis", findings, |place, findings| {
        number(place, 0, findings)
    });
    Some(Quorum {
        servers: servers?,
        hysteresis: hysteresis?.unwrap_or(0),
    })
}

/// A number of servers, or a part of them.
fn floor(place: &Place<'_>, findings: &mut Findings) -> Option<Floor> {
    match place.value() {
        Value::Text(text) if text.contains('%') => percent(place, 0, findings).map(Floor::Part),
        Value::Text(_) => {
            place.expected("a number of servers, or a part such as \"50%\"", findings);
            None
        }
        _ => {
            let number = reader::integer(place, 0..=65535, findings)?;
            usize::try_from(number).ok().map(Floor::Servers)
        }
    }
}

/// A part written as `20%`.
pub(super) fn percent(place: &Place<'_>, least: u64, findings: &mut Findings) -> Option<Percent> {
    let text = reader::text(place, "a part such as \"20%\"", findings)?;
    let number = text
        .strip_suffix('%')
        .and_then(|it| it.trim_end().parse().ok());
    match number {
        Some(number) if (least..=100).contains(&number) => Some(Percent::new(number)),
        _ => {
            let quoted = place.quote(format_args!("`{text}`"));
            let message = format!("{quoted}is not a part; must be from \"{least}%\" to \"100%\"");
            findings.add(&place.origin(), message);
            None
        }
    }
}

/// One, or a list of them: one for each family.
fn sorry_servers(
    place: &Place<'_>,
    context: Option<&Context>,
    findings: &mut Findings,
) -> Option<Vec<Located<RealServer>>> {
    let one =
        |place: &Place<'_>, findings: &mut Findings| real_server::sorry(place, context, findings);
    if matches!(place.value(), Value::List(_)) {
        let what = "a mapping such as { address: 192.0.2.9 }, or one for each family";
        return reader::filled_list(place, what, findings, one);
    }
    Some(vec![one(place, findings)?])
}

fn latency(place: &Place<'_>, findings: &mut Findings) -> Option<LatencyRules> {
    let known = ["smoothing", "dead_band", "largest_step"];
    let keys = Mapping::of_known_keys(place, &known, findings)?;
    let smoothing = keys.optional("smoothing", findings, |place, findings| {
        reader::duration_in(place, defaults::SMOOTHINGS, findings)
    });
    let dead_band = keys.optional("dead_band", findings, |place, findings| {
        percent(place, 0, findings)
    });
    let largest_step = keys.optional("largest_step", findings, |place, findings| {
        percent(place, 1, findings)
    });
    Some(LatencyRules {
        smoothing: smoothing?.unwrap_or(defaults::SMOOTHING),
        dead_band: dead_band?.unwrap_or(defaults::DEAD_BAND),
        largest_step: largest_step?.unwrap_or(defaults::LARGEST_STEP),
    })
}

impl PoolDraft {
    /// The settings, beside these servers and this scheduler.
    pub(in crate::config) fn resolve(
        &self,
        servers: &[Located<RealServer>],
        scheduler: Scheduler,
        is_checked: bool,
        findings: &mut Findings,
    ) -> PoolSettings {
        let largest = servers.iter().map(|it| it.value.weight).max().unwrap_or(0);
        if let Some(most) = &self.maximum_weight
            && most.value < largest
        {
            let message = format!(
                "a real server has a weight of {largest}; must be at least that, or leave it out"
            );
            findings.add(&most.origin, message);
        }
        if let (Some(latency), false) = (&self.latency, is_checked) {
            let message = "without a check nobody measures it; write one, or leave this out";
            findings.add(&latency.origin, message);
        }
        for server in &self.sorry_servers {
            if servers.iter().any(|it| it.value.key == server.value.key) {
                let key = server.value.key;
                let message = format!("{key} is a real server of the service; write another one");
                findings.add(&server.origin, message);
            }
        }
        self.warn_of_what_has_no_effect(scheduler, findings);
        let default_floor = if self.sorry_servers.is_empty() {
            defaults::FLOOR
        } else {
            defaults::FLOOR_BESIDE_A_SORRY_SERVER
        };
        let value = |floor: &Located<Floor>| floor.value;
        PoolSettings {
            quorum: self.quorum.as_ref().map_or(defaults::QUORUM, |it| it.value),
            floor: self.floor.as_ref().map_or(default_floor, value),
            sorry_servers: self.sorry_servers.iter().map(|it| it.value).collect(),
            maximum_weight: self
                .maximum_weight
                .as_ref()
                .map_or_else(
                    || defaults::maximum_weight(scheduler, servers.len()),
                    |it| it.value,
                )
                .max(largest),
            slow_start: self.slow_start.as_ref().map(|it| it.value),
            latency: self.latency.as_ref().map(|it| it.value),
        }
    }

    fn warn_of_what_has_no_effect(&self, scheduler: Scheduler, findings: &mut Findings) {
        use Scheduler::{DestinationHashing, LeastConnection, RoundRobin};
        if !matches!(scheduler, RoundRobin | LeastConnection | DestinationHashing) {
            return;
        }
        let origins: [Option<&Origin>; 2] = [
            self.slow_start.as_ref().map(|it| &it.origin),
            self.latency.as_ref().map(|it| &it.origin),
        ];
        for origin in origins.into_iter().flatten() {
            let message = format!("has no effect: `{scheduler}` knows no weights but 0; write wrr");
            findings.warn(origin, message);
        }
    }
}
