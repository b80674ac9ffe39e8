//! `director plan`: what the configuration file would change, while nothing is changed.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use lvs_system::lock::{self, Lock};
use lvs_system::netlink::{Connection, Protocol};
use lvs_system::watch::{self, Picture};
use serde::Serialize;

use super::run::LOCK;
use super::{CONFIGURATION_FILE, Target, fail, finish, json, this_node, unanswered};
use crate::config::{self, Configuration, Errors};
use crate::control::{
    Action, Answer, AskError, Change, ConfigurationText, Finding, Object, Plan, Request, ask,
};
use crate::engine::{self, Unjudged};
use crate::{address, dataplane, hand};

/// The daemon reads a file and the kernel's table.
const PATIENCE: Duration = Duration::from_secs(20);

/// Something would change.
const EXIT_CHANGES: u8 = 2;

/// Shown after the options.
pub(super) const HELP: &str = "\
Examples:
  director plan
      The file that the director runs with, as it is now.
  director plan --config new.yaml
      Another file.

Exit status:
  0   nothing would change
  1   the file is invalid, or the director doesn't answer
  2   something would change
  64  wrong command line";

#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// The configuration file to compare with [default: the one that the director runs with]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where no director runs that knows: which node of the file this machine is [default: the host
    /// name]
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Where no director runs: where it is kept what operators have drained and disabled
    #[arg(long, value_name = "DIRECTORY", default_value = super::STATE_DIRECTORY)]
    state_directory: PathBuf,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

/// Prints a line for each change. Ends with 0 when there is none, with 2 when there are some, and
/// with 1 when the file is invalid or nobody can be asked.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let json = arguments.json;
    let given = match arguments.config.as_deref().map(read).transpose() {
        Ok(given) => given,
        Err(errors) => return refuse(&findings(&errors), json),
    };
    let request = Request::Plan {
        configuration: given.clone(),
    };
    match ask(&arguments.target.runtime_directory, &request, PATIENCE) {
        Ok(Answer::Plan(plan)) => tell(&plan, json),
        Ok(Answer::Invalid(findings)) => refuse(&findings, json),
        Err(AskError::NotRunning(_)) => without_daemon(arguments, given),
        other => unanswered(other),
    }
}

/// Prints what is wrong with a file as `director check` does.
pub(super) fn refuse(findings: &[Finding], as_json: bool) -> ExitCode {
    #[derive(Serialize)]
    struct Refusal<'f> {
        errors: &'f [Finding],
    }
    if as_json {
        return finish(&json(&Refusal { errors: findings }), 1);
    }
    for finding in findings {
        eprintln!("{finding}");
    }
    ExitCode::FAILURE
}

/// A line for each change.
pub(super) fn lines(changes: &[Change]) -> String {
    if changes.is_empty() {
        return "nothing to change\n".to_owned();
    }
    changes.iter().map(|change| format!("{change}\n")).collect()
}

fn tell(plan: &Plan, as_json: bool) -> ExitCode {
    let output = if as_json {
        json(plan)
    } else {
        for note in &plan.notes {
            eprintln!("note: {note}");
        }
        lines(&plan.changes)
    };
    let code = if plan.changes.is_empty() {
        0
    } else {
        EXIT_CHANGES
    };
    finish(&output, code)
}

fn read(path: &Path) -> Result<ConfigurationText, Errors> {
    Ok(ConfigurationText {
        file: path.display().to_string(),
        text: config::read(path)?,
    })
}

fn findings(errors: &Errors) -> Vec<Finding> {
    errors.iter().map(Finding::from).collect()
}

/// What a director would change that was started now.
fn without_daemon(arguments: &Arguments, given: Option<ConfigurationText>) -> ExitCode {
    let directory = &arguments.target.runtime_directory;
    // None may start while the kernel is read.
    let _lock = match idle(directory) {
        Ok(lock) => lock,
        Err(error) => return fail(error),
    };
    let file = match given {
        Some(given) => config::parse(Path::new(&given.file), &given.text),
        None => config::load(Path::new(CONFIGURATION_FILE)),
    };
    let outline = file.and_then(|file| {
        let node = this_node(&file, arguments.node.as_deref());
        file.outline(&node)
    });
    let configuration = match outline {
        Ok(configuration) => configuration,
        Err(errors) => return refuse(&findings(&errors), arguments.json),
    };
    let picture = Connection::open(Protocol::Route)
        .map_err(watch_error)
        .and_then(|mut route| watch::picture(&mut route).map_err(watch_error));
    let picture = match picture {
        Ok(picture) => picture,
        Err(error) => return fail(error),
    };
    let found = found(&configuration, &picture);
    let keeping = found.iter().map(|(instance, ..)| *instance).collect();
    let hands = match hand::peek(&arguments.state_directory) {
        Ok(hands) => hands,
        Err(error) => return fail(error),
    };
    let desired = engine::desired_at_start(&configuration, &keeping, &hands);
    let table = match dataplane::plan_without_daemon(directory, &desired) {
        Ok(table) => table,
        Err(error) => return fail(error),
    };
    let mut plan = Plan {
        changes: left_behind(&configuration, &picture),
        notes: vec![
            "no director runs here: this is what one would change that starts now, as Backup and \
             with every server healthy"
                .to_owned(),
        ],
    };
    plan.notes.extend(found.iter().map(kept));
    let unjudged = Unjudged::new();
    let table_changes = table.changes.iter();
    plan.changes
        .extend(table_changes.map(|change| engine::in_words(change, &unjudged)));
    let complaints = table.complaints.iter().map(ToString::to_string);
    plan.notes.extend(complaints);
    plan.notes
        .extend(table.notes.iter().map(ToString::to_string));
    tell(&plan, arguments.json)
}

fn watch_error(error: impl std::fmt::Display) -> String {
    format!("cannot read this machine's addresses: {error}")
}

/// That no director is at work: one that is must be asked, for it alone knows its verdicts and roles.
fn idle(directory: &Path) -> Result<Option<Lock>, String> {
    let path = directory.join(LOCK);
    // Nothing is made here.
    if !path.exists() {
        return Ok(None);
    }
    match Lock::acquire(&path, "director", Duration::ZERO) {
        Ok(lock) => Ok(Some(lock)),
        Err(error @ lock::Error::Held { .. }) => Err(format!(
            "{error}, and does not listen on its control socket; `journalctl -u director` may say \
             why"
        )),
        Err(error @ lock::Error::Unavailable { .. }) => Err(error.to_string()),
    }
}

/// VIPs on interfaces of this machine that a dead director left there and that the configuration
/// doesn't have: the next one removes them.
fn left_behind(configuration: &Configuration, picture: &Picture) -> Vec<Change> {
    let mut changes = Vec::new();
    for orphan in address::ours(&picture.addresses) {
        let interface = interface_name(picture, orphan.interface_index);
        let wanted = vips(configuration).any(|(_, vip, place)| {
            (vip.address, vip.prefix_length) == (orphan.address, orphan.prefix_length)
                && place == interface
        });
        if !wanted {
            let there = format!("{}/{} on {interface}", orphan.address, orphan.prefix_length);
            changes.push(Change {
                address: Some(orphan.address.to_string()),
                text: format!("address {there}: remove, left behind by a director that died"),
                from: Some(there),
                ..Change::new(Object::Address, Action::Remove, "")
            });
        }
    }
    changes
}

/// A VIP, its instance's name and its interface.
type Vip<'a> = (&'a str, &'a config::VirtualAddress, &'a str);

/// VIPs that are on their interfaces already: whoever starts keeps them until it knows better.
fn found<'a>(configuration: &'a Configuration, picture: &Picture) -> Vec<Vip<'a>> {
    let is_there = |(_, vip, place): &Vip<'_>| {
        picture.addresses.iter().any(|there| {
            (there.address, there.prefix_length) == (vip.address, vip.prefix_length)
                && interface_name(picture, there.interface_index) == *place
        })
    };
    vips(configuration).filter(is_there).collect()
}

fn kept((instance, vip, place): &Vip<'_>) -> String {
    format!(
        "virtual router {instance}: address {vip} is on {place} and stays there until another \
         Active is heard, and so do services that only an Active has"
    )
}

fn vips(configuration: &Configuration) -> impl Iterator<Item = Vip<'_>> {
    configuration.instances.iter().flat_map(|instance| {
        let all = instance.addresses.iter().chain(&instance.further_addresses);
        all.map(|vip| (instance.name.as_str(), vip, instance.interface_of(vip)))
    })
}

fn interface_name(picture: &Picture, index: u32) -> &str {
    let mut links = picture.links.iter();
    let link = links.find(|link| link.index == index);
    link.map_or("an interface that is gone", |link| link.name.as_str())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use lvs_system::address::Address;
    use lvs_system::link::Link;

    use super::*;
    use crate::dataplane::Standing;

    const FILE: &str = "
vrrp:
  - { name: left, interface: eth2, virtual_router_id: 50, priority: 200, addresses: [192.0.2.1/24] }
  - { name: right, interface: eth2, virtual_router_id: 51, priority: 200, addresses: [192.0.2.2/24] }
services:
  - { name: one, address: 192.0.2.1, port: 53, protocols: [udp], check: none, real_servers: [{ address: 192.0.2.11 }] }
  - { name: two, address: 192.0.2.2, port: 53, protocols: [udp], check: none, real_servers: [{ address: 192.0.2.11 }] }
";

    #[test]
    fn what_a_found_address_holds_stays_as_it_is_found() {
        let file = config::parse(Path::new("director.yaml"), FILE).unwrap();
        let configuration = file.outline("ds1").unwrap();
        let link = |index, name: &str| Link {
            index,
            name: name.to_owned(),
            hardware_address: [0; 6],
            up: true,
            mtu: 1500,
        };
        let picture = Picture {
            links: vec![link(2, "eth2"), link(3, "eth3")],
            addresses: vec![
                Address::new(2, "192.0.2.1".parse().unwrap(), 24),
                Address::new(3, "192.0.2.2".parse().unwrap(), 24),
            ],
        };
        let found = found(&configuration, &picture);
        let keeping = found.iter().map(|(instance, ..)| *instance).collect();
        let desired = engine::desired_at_start(&configuration, &keeping, &hand::Hands::default());
        let standings: Vec<(&str, Standing)> = desired
            .services
            .values()
            .map(|service| (service.name.as_str(), service.standing))
            .collect();
        let expected = [("one", Standing::Adopting), ("two", Standing::NotHeld)];
        assert_eq!(standings, expected);
    }
}
