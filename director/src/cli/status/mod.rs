//! `director status`: how the running director is, and what to do where all is not well.

pub(super) mod services;

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::{Target, fail, finish, json, unanswered};
use crate::control::{Answer, InstanceStatus, Ownership, Request, State, Status, ask, findings};
use crate::wording::age;

/// The daemon answers from memory.
const PATIENCE: Duration = Duration::from_secs(5);

/// An instance is in fault, or a service has lost its quorum.
const EXIT_FAULT: u8 = 2;

/// Shown after the options.
pub(super) const HELP: &str = "\
Examples:
  director status
  director status --json
  director status --watch 5
      Shows it every five seconds, until Ctrl-C.

Exit status:
  0   no instance is in fault, and no service has lost its quorum; there may be lines about other things
  1   the director can't be reached; the message says how to see whether it runs
  2   an instance is in fault, or a service has lost its quorum
  64  wrong command line";

#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// Print everything that is known as JSON
    #[arg(long)]
    json: bool,
    /// Print it again and again until interrupted: every 2 seconds, or as often as said
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    watch: Option<u64>,
}

/// Clears a terminal, and goes to its first line.
const CLEAR: &str = "\x1b[H\x1b[2J\x1b[3J";

/// Prints how each instance and each service is, and a line for all that is not well. Ends with 0, with
/// 2 when an instance is in fault or a service has lost its quorum, and with 1 when the director can't be reached.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    if let Some(seconds) = arguments.watch {
        return watch(arguments, Duration::from_secs(seconds));
    }
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
        other => unanswered(other),
    }
}

/// Prints it until nobody reads it any more. A director that doesn't answer may come back.
fn watch(arguments: &Arguments, pause: Duration) -> ExitCode {
    let directory = &arguments.target.runtime_directory;
    let clear = if std::io::stdout().is_terminal() {
        CLEAR
    } else {
        ""
    };
    loop {
        let output = match ask(directory, &Request::Status, PATIENCE) {
            // One document a line.
            Ok(Answer::Status(status)) if arguments.json => {
                serde_json::to_string(&status).unwrap_or_default() + "\n"
            }
            Ok(Answer::Status(status)) => format!("{clear}{}\n", describe(&status)),
            Ok(_) => return fail("the director answers another question"),
            Err(error) if arguments.json => {
                eprintln!("error: {error}");
                String::new()
            }
            Err(error) => format!("{clear}{error}\n\n"),
        };
        let mut standard_output = std::io::stdout();
        let printed = standard_output.write_all(output.as_bytes());
        if printed.and_then(|()| standard_output.flush()).is_err() {
            return ExitCode::SUCCESS;
        }
        std::thread::sleep(pause);
    }
}

fn exit_code(status: &Status) -> u8 {
    let mut states = status.instances.iter().map(|instance| instance.state);
    let mut pools = status.services.iter().flat_map(|service| &service.pools);
    if states.any(|state| state == State::Fault) || pools.any(|pool| pool.quorum == Some(false)) {
        EXIT_FAULT
    } else {
        0
    }
}

fn describe(status: &Status) -> String {
    let uptime = age(status.uptime);
    let mut text = format!(
        "director {} on {}, up {uptime}\n",
        status.version, status.node
    );
    if status.instances.is_empty() {
        text += "no VRRP instances\n";
    } else {
        text += &instances(&status.instances);
    }
    if !status.services.is_empty() {
        text += &services::describe(&status.services);
    }
    for problem in findings::of_the_rest(status) {
        // Writing to a text doesn't fail.
        let _ = writeln!(text, "{problem}");
    }
    text
}

fn instances(instances: &[InstanceStatus]) -> String {
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
    rows.extend(instances.iter().map(row));
    let mut text = table(&rows);
    for instance in instances {
        for problem in findings::of_instance(instance) {
            let _ = writeln!(text, "{problem}");
        }
    }
    text
}

/// Its state, and what it does beside that.
pub(super) fn role(instance: &InstanceStatus) -> String {
    match instance.ownership {
        Ownership::Adopting => format!("{}, adopting", instance.state),
        Ownership::HandingOver => format!("{}, handing over", instance.state),
        Ownership::Absent | Ownership::Held => instance.state.to_string(),
    }
}

/// The Active, as far as is known, and its priority.
pub(super) fn who_is_active(instance: &InstanceStatus) -> String {
    match (&instance.active, instance.state) {
        (_, State::Active) => "this router".to_owned(),
        (Some(active), _) => format!("{} ({})", active.address, active.priority),
        (None, _) => "-".to_owned(),
    }
}

fn row(instance: &InstanceStatus) -> [String; 8] {
    let priority = instance.priority;
    let active = who_is_active(instance);
    let addresses = match instance.addresses.as_slice() {
        [] => "-".to_owned(),
        [one] => one.clone(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
    };
    [
        instance.name.clone(),
        role(instance),
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::control::{
        ActiveRouter, Aside, Checksum, Counters, Family, Margin, Priorities, Transition,
    };

    fn instance(name: &str, state: State) -> InstanceStatus {
        InstanceStatus {
            name: name.to_owned(),
            state,
            in_state: Duration::from_secs(93_784),
            ownership: Ownership::Held,
            ready: true,
            obstacle: None,
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
            configuration_hash: "0123456789abcdef".to_owned(),
            configuration_parts: Default::default(),
            uptime: Duration::from_secs(185),
            instances,
            address_conflicts: Vec::new(),
            services: Vec::new(),
            hand_problems: Vec::new(),
            path_problems: Vec::new(),
            table_problems: Vec::new(),
            findings: Vec::new(),
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
    fn what_is_wrong_is_below_the_table() {
        let mut instance = instance("dns", State::Fault);
        instance.faults = vec!["interface eth2 has no carrier".to_owned()];
        instance.priority.effective = 185;
        let status = status(vec![backup(), instance]);
        let text = describe(&status);
        assert!(text.contains("  185 (of 200)  "), "{text}");
        let said =
            "\ndns: in fault, takes part again when this is over: interface eth2 has no carrier\n";
        assert!(text.ends_with(said), "{text}");
        assert_eq!(exit_code(&status), EXIT_FAULT);
    }

    #[test]
    fn what_is_wrong_with_the_table_is_said_with_and_without_instances() {
        let foreign = "synchronization: somebody else runs a daemon; end it";
        for (instances, before) in [(Vec::new(), "no VRRP instances"), (vec![backup()], "-")] {
            let mut status = status(instances);
            status.table_problems = vec![foreign.to_owned()];
            let expected = format!("{before}\ntable: {foreign}\n");
            assert!(
                describe(&status).ends_with(&expected),
                "{}",
                describe(&status)
            );
            assert_eq!(exit_code(&status), 0);
            let read: Status = serde_json::from_str(&json(&status)).unwrap();
            assert_eq!(read, status);
        }
    }

    #[test]
    fn who_else_claims_a_vip_is_named() {
        let conflict = crate::sentinel::conflict_for_tests();
        let mut status = status(vec![instance("dns", State::Active)]);
        status.address_conflicts = vec![conflict.clone()];
        let expected = format!("\ndns: {conflict}\n");
        assert!(
            describe(&status).ends_with(&expected),
            "{}",
            describe(&status)
        );
        let read: Status = serde_json::from_str(&json(&status)).unwrap();
        assert_eq!(read, status);
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
}
