//! `director status`: how the running director is, and what to do where all is not well.

use std::fmt::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use lvs_proto::vrrp::Rejection;

use super::{Target, finish};
use crate::control::{
    Answer, Aside, InstanceStatus, Margin, Ownership, Request, State, Status, ask,
};
use crate::tracking::{Condition, Kind, Tracked};

/// The daemon answers from memory.
const PATIENCE: Duration = Duration::from_secs(5);

/// An instance is in fault.
const EXIT_FAULT: u8 = 2;

/// Beyond this part of its limit, a time is worth a word.
const NEAR: f64 = 0.8;

#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// Print everything that is known as JSON
    #[arg(long)]
    json: bool,
}

/// Prints how each instance is, and a line for all that is not well. Ends with 0, with 2 when an
/// instance is in fault, and with 1 when the director can't be reached.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let directory = &arguments.target.runtime_directory;
    match ask(directory, &Request::Status, PATIENCE) {
        Ok(Answer::Status(status)) => {
            let output = if arguments.json {
                json(&status)
            } else {
                describe(&status)
            };
            finish(&output, exit_code(&status))
        }
        Ok(Answer::Error(error)) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
        Ok(Answer::Handover(_) | Answer::Released(_)) => {
            eprintln!("error: the director answers another question");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn exit_code(status: &Status) -> u8 {
    let mut states = status.instances.iter().map(|instance| instance.state);
    if states.any(|state| state == State::Fault) {
        EXIT_FAULT
    } else {
        0
    }
}

fn json(status: &Status) -> String {
    // Texts, numbers and booleans always have a JSON form.
    serde_json::to_string_pretty(status).map_or_else(|_| String::new(), |text| text + "\n")
}

fn describe(status: &Status) -> String {
    let uptime = age(status.uptime);
    let mut text = format!(
        "director {} on {}, up {uptime}\n",
        status.version, status.node
    );
    if status.instances.is_empty() {
        return text + "no VRRP instances\n";
    }
    let heads = [
        "INSTANCE",
        "STATE",
        "FOR",
        "PRIORITY",
        "ACTIVE",
        "INTERFACE",
        "VRID",
        "ADDRESSES",
    ];
    let mut rows = vec![heads.map(str::to_owned)];
    rows.extend(status.instances.iter().map(row));
    text += &table(&rows);
    for instance in &status.instances {
        for problem in problems(instance) {
            // Writing to a text doesn't fail.
            let _ = writeln!(text, "{}: {problem}", instance.name);
        }
    }
    text
}

fn row(instance: &InstanceStatus) -> [String; 8] {
    let state = match instance.ownership {
        Ownership::Adopting => format!("{}, adopting", instance.state),
        Ownership::HandingOver => format!("{}, handing over", instance.state),
        Ownership::Absent | Ownership::Held => instance.state.to_string(),
    };
    let priority = instance.priority;
    let active = match (&instance.active, instance.state) {
        (_, State::Active) => "this router".to_owned(),
        (Some(active), _) => format!("{} ({})", active.address, active.priority),
        (None, _) => "-".to_owned(),
    };
    let addresses = match instance.addresses.as_slice() {
        [] => "-".to_owned(),
        [one] => one.clone(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
    };
    [
        instance.name.clone(),
        state,
        age(instance.in_state),
        if priority.base == priority.effective {
            priority.base.to_string()
        } else {
            format!("{} (of {})", priority.effective, priority.base)
        },
        active,
        instance.interface.clone(),
        instance.virtual_router_id.to_string(),
        addresses,
    ]
}

/// Left-aligned columns, two spaces apart.
fn table<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: [usize; COLUMNS] = std::array::from_fn(|column| width(column).unwrap_or(0));
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// What is not well, and what to do next.
fn problems(instance: &InstanceStatus) -> Vec<String> {
    let mut problems = Vec::new();
    match instance.state {
        State::Fault => {
            let faults = if instance.faults.is_empty() {
                "the log says why".to_owned()
            } else {
                instance.faults.join(", ")
            };
            problems.push(format!(
                "in fault, takes part again when this is over: {faults}"
            ));
        }
        State::Initialize => problems.push("has not started yet".to_owned()),
        State::Backup | State::Active => {}
    }
    let troubled = |one: &&Tracked| one.fault || one.condition == Condition::Failing;
    problems.extend(instance.tracked.iter().filter(troubled).map(trouble));
    if !instance.ready {
        problems.push(
            "a service of it has no healthy server, or not all were asked yet; this router does \
             not take over from a living one"
                .to_owned(),
        );
    }
    match instance.stands_aside {
        Some(Aside::Time { left }) => problems.push(format!(
            "stands aside for {} more; `director handover --release` ends it",
            age(left)
        )),
        Some(Aside::Release) => {
            problems.push("stands aside until `director handover --release`".to_owned());
        }
        None => {}
    }
    if let Some(margin) = instance.silence.filter(is_near) {
        problems.push(format!(
            "heard nothing for {}, and takes over at {}; packets get lost, or advert_interval is too short",
            milliseconds(margin.longest),
            milliseconds(margin.limit),
        ));
    }
    if let Some(margin) = instance.lateness.filter(is_near) {
        problems.push(format!(
            "an advert was {} late, and {} is when it steps down; the machine is too busy, or advert_interval too short",
            milliseconds(margin.longest),
            milliseconds(margin.limit),
        ));
    }
    let rejected = &instance.counters.adverts_rejected;
    let rejected: Vec<String> = rejected
        .iter()
        // Another virtual router on the LAN is nobody's fault.
        .filter(|(reason, count)| **count > 0 && *reason != Rejection::VirtualRouter.label())
        .map(|(reason, count)| format!("{reason} {count}"))
        .collect();
    if !rejected.is_empty() {
        problems.push(format!(
            "discarded packets since its start: {}; the log says whose",
            rejected.join(", ")
        ));
    }
    problems
}

fn trouble(tracked: &Tracked) -> String {
    let next = match tracked.kind {
        Kind::Interface => format!("see `ip link show {}`", tracked.name),
        Kind::Script => "`journalctl -u director` has what it said".to_owned(),
        Kind::File => format!("see `cat {}`", tracked.name),
        Kind::Service => "`journalctl -u director` has its servers".to_owned(),
    };
    let effect = match (tracked.fault, tracked.adds) {
        (true, _) => " (fault)".to_owned(),
        (false, 0) => String::new(),
        (false, adds) => format!(" ({adds:+})"),
    };
    format!("{tracked}{effect}; {next}")
}

fn is_near(margin: &Margin) -> bool {
    margin.longest.as_secs_f64() > NEAR * margin.limit.as_secs_f64()
}

/// As people say how long something has been: two units at most.
fn age(time: Duration) -> String {
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

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::control::{ActiveRouter, Checksum, Counters, Family, Priorities, Transition};

    fn instance(name: &str, state: State) -> InstanceStatus {
        InstanceStatus {
            name: name.to_owned(),
            state,
            in_state: Duration::from_secs(93_784),
            ownership: Ownership::Held,
            ready: true,
            last_transition: Some(Transition {
                from: State::Backup,
                to: state,
                reason: "nothing heard".to_owned(),
                ago: Duration::from_millis(93_784_250),
            }),
            priority: Priorities {
                base: 200,
                effective: 200,
            },
            vrrp_version: 3,
            family: Family::Ipv4,
            interface: "eth2".to_owned(),
            virtual_router_id: 50,
            group: None,
            addresses: vec!["192.168.56.185/24".to_owned()],
            active: None,
            stands_aside: None,
            silence: None,
            lateness: Some(Margin {
                longest: Duration::from_micros(1_250),
                limit: Duration::from_micros(201_200),
            }),
            tracked: Vec::new(),
            faults: Vec::new(),
            counters: Counters::default(),
        }
    }

    fn backup() -> InstanceStatus {
        InstanceStatus {
            ownership: Ownership::Absent,
            addresses: Vec::new(),
            in_state: Duration::from_millis(250),
            active: Some(ActiveRouter {
                address: "192.168.56.181".parse().unwrap(),
                priority: 200,
                interval: Duration::from_millis(100),
                checksum: Some(Checksum::PseudoHeader),
                authenticated: false,
            }),
            ..instance("backup", State::Backup)
        }
    }

    fn status(instances: Vec<InstanceStatus>) -> Status {
        Status {
            version: "0.1.0".to_owned(),
            node: "ds1".to_owned(),
            uptime: Duration::from_secs(185),
            instances,
        }
    }

    #[test]
    fn when_all_is_well_there_is_a_table_and_nothing_else() {
        let mut dns = instance("dns", State::Active);
        dns.addresses.push("192.168.56.186/24".to_owned());
        let status = status(vec![dns, backup()]);
        assert_eq!(
            describe(&status),
            "\
director 0.1.0 on ds1, up 3m 5s
INSTANCE  STATE   FOR    PRIORITY  ACTIVE                INTERFACE  VRID  ADDRESSES
dns       active  1d 2h  200       this router           eth2       50    192.168.56.185/24 and 1 more
backup    backup  250ms  200       192.168.56.181 (200)  eth2       50    -
"
        );
        assert_eq!(exit_code(&status), 0);
    }

    #[test]
    fn what_is_wrong_is_said_with_what_to_do_next() {
        let mut instance = instance("dns", State::Fault);
        instance.ready = false;
        instance.faults = vec!["interface eth2 has no carrier".to_owned()];
        instance.stands_aside = Some(Aside::Time {
            left: Duration::from_secs(599),
        });
        let tracked = |kind, name: &str, condition, fault, adds| Tracked {
            kind,
            name: name.to_owned(),
            condition,
            fault,
            adds,
        };
        instance.tracked = vec![
            tracked(Kind::Script, "upstream", Condition::Failing, false, -20),
            tracked(Kind::Interface, "eth3", Condition::Failing, true, 0),
            tracked(Kind::Script, "new", Condition::Unknown, true, 0),
            tracked(Kind::File, "/run/bias", Condition::Failing, false, 0),
            tracked(Kind::Service, "resolver", Condition::Well, false, 5),
        ];
        instance.priority.effective = 185;
        let margin = Margin {
            longest: Duration::from_micros(30_000),
            limit: Duration::from_micros(34_141),
        };
        instance.silence = Some(margin);
        instance.lateness = Some(margin);
        let rejected = [("checksum".to_owned(), 3), ("ttl".to_owned(), 0)];
        instance.counters.adverts_rejected = rejected.into();
        let said = problems(&instance);
        let expected = [
            "in fault, takes part again when this is over: interface eth2 has no carrier",
            "script upstream fails (-20); `journalctl -u director` has what it said",
            "interface eth3 is missing or has no carrier (fault); see `ip link show eth3`",
            "script new is not known yet (fault); `journalctl -u director` has what it said",
            "file /run/bias has no whole number; see `cat /run/bias`",
            "a service of it has no healthy server, or not all were asked yet; this router does \
             not take over from a living one",
            "stands aside for 9m 59s more; `director handover --release` ends it",
            "heard nothing for 30.0 ms, and takes over at 34.1 ms; packets get lost, or \
             advert_interval is too short",
            "an advert was 30.0 ms late, and 34.1 ms is when it steps down; the machine is too \
             busy, or advert_interval too short",
            "discarded packets since its start: checksum 3; the log says whose",
        ];
        assert_eq!(said, expected);
        let status = status(vec![backup(), instance]);
        assert!(describe(&status).contains("  185 (of 200)  "));
        assert!(describe(&status).contains("\ndns: script upstream fails"));
        assert_eq!(exit_code(&status), EXIT_FAULT);
    }

    #[test]
    fn json_is_read_back_as_it_was() {
        let mut aside = instance("dns", State::Active);
        aside.stands_aside = Some(Aside::Release);
        let status = status(vec![aside, backup()]);
        let text = json(&status);
        assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status);
        for part in [
            "\"state\": \"active\"",
            "\"in_state_seconds\": 93784.0",
            "\"stands_aside\": {\n        \"until\": \"release\"",
            "\"limit_seconds\": 0.2012",
            "\"checksum\": \"pseudo-header\"",
        ] {
            assert!(text.contains(part), "{text}");
        }
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
