//! `director check FILE`: is the file valid for all nodes, and what follows from it? Looks at the
//! file only, never at the machine.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;

use crate::config::{
    self, Check, Configuration, Dataplane, Errors, File, Finding, Holder, Instance,
    OnePacketScheduling, Probe, Service,
};

/// Arguments of `director check`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The configuration file
    pub(super) file: PathBuf,
    /// Print the verdict as JSON on standard output: { valid, errors }
    #[arg(long)]
    pub(super) json: bool,
}

/// Prints what follows from a valid file on standard output, or the mistakes of an invalid one on
/// standard error. Ends with 0 for a valid file and 1 for an invalid one.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let verdict = config::load(&arguments.file).and_then(|file| summary(&file));
    let (output, errors) = match &verdict {
        _ if arguments.json => (json(verdict.as_ref().err()), String::new()),
        Ok(summary) => (summary.clone(), String::new()),
        Err(errors) => (String::new(), format!("{errors}\n")),
    };
    let written = io::stdout()
        .write_all(output.as_bytes())
        .and_then(|()| io::stderr().write_all(errors.as_bytes()));
    if verdict.is_ok() && written.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

#[derive(Serialize)]
struct JsonVerdict<'e> {
    valid: bool,
    errors: Vec<JsonError<'e>>,
}

/// `line` and `column` are null when the file could not be read.
#[derive(Serialize)]
struct JsonError<'e> {
    file: String,
    line: Option<u64>,
    column: Option<u64>,
    key: &'e str,
    message: &'e str,
}

impl<'e> From<&'e Finding> for JsonError<'e> {
    fn from(error: &'e Finding) -> Self {
        Self {
            file: error.file.display().to_string(),
            line: error.position.map(|position| position.line),
            column: error.position.map(|position| position.column),
            key: &error.key,
            message: &error.message,
        }
    }
}

fn json(errors: Option<&Errors>) -> String {
    let errors: Vec<JsonError<'_>> = errors
        .into_iter()
        .flat_map(Errors::iter)
        .map(JsonError::from)
        .collect();
    let verdict = JsonVerdict {
        valid: errors.is_empty(),
        errors,
    };
    // Texts, numbers and booleans always have a JSON form.
    serde_json::to_string_pretty(&verdict).map_or_else(|_| String::new(), |text| text + "\n")
}

/// What follows from the file, for people.
fn summary(file: &File) -> Result<String, Errors> {
    let mut nodes: Vec<&str> = file.nodes().into_iter().collect();
    let everywhere = nodes.is_empty();
    if everywhere {
        nodes.push("(any)");
    }
    let configurations = nodes
        .iter()
        .map(|node| Ok((*node, file.outline(node)?)))
        .collect::<Result<Vec<_>, Errors>>()?;
    let of = if everywhere {
        "every node".to_owned()
    } else {
        nodes.join(", ")
    };
    let mut text = format!("{}: valid for {of}\n", file.path().display());
    virtual_routers(&configurations, &mut text);
    // Of services only the holder can differ between nodes, and the rest is said once.
    if let Some((_, first)) = configurations.first() {
        for (index, service) in first.services.iter().enumerate() {
            let all = configurations
                .iter()
                .map(|(_, configuration)| configuration);
            let holders = all.filter_map(|configuration| configuration.services.get(index));
            let holders: BTreeSet<String> =
                holders.map(|service| holder(&service.holder)).collect();
            let holders = holders.into_iter().collect::<Vec<_>>().join(", ");
            describe_service(service, &holders, &mut text);
        }
        text += "\n";
        let metrics = first
            .metrics
            .map_or_else(|| "off".to_owned(), |it| it.listen.to_string());
        let dataplane = match first.dataplane {
            Dataplane::Ipvs => "ipvs",
            Dataplane::None => "none: nothing is forwarded",
        };
        table(
            &[row(["data plane", dataplane]), row(["metrics", &metrics])],
            "",
            &mut text,
        );
    }
    Ok(text)
}

fn virtual_routers(configurations: &[(&str, Configuration)], text: &mut String) {
    let mut rows = vec![row([
        "virtual router",
        "node",
        "interface",
        "id",
        "version",
        "priority",
        "interval",
        "skew",
        "active-down",
        "preempt",
        "addresses",
    ])];
    let instances = configurations
        .first()
        .map_or(0, |(_, first)| first.instances.len());
    for index in 0..instances {
        for (node, configuration) in configurations {
            rows.extend(
                configuration
                    .instances
                    .get(index)
                    .map(|it| virtual_router(node, it)),
            );
        }
    }
    if instances > 0 {
        text.push('\n');
        table(&rows, "", text);
    }
}

fn virtual_router(node: &str, instance: &Instance) -> Vec<String> {
    let version = instance.version.version();
    let interval = instance.advert_interval.get();
    let skew = instance.priority.skew_time(version, interval);
    let active_down = instance.priority.active_down_interval(version, interval);
    let addresses: Vec<String> = instance.addresses.iter().map(ToString::to_string).collect();
    row([
        instance.name.as_str(),
        node,
        &instance.interface,
        &instance.virtual_router_id.to_string(),
        match version {
            lvs_proto::vrrp::Version::V2 => "2",
            lvs_proto::vrrp::Version::V3 => "3",
        },
        &instance.priority.to_string(),
        &format!("{interval:?}"),
        &format!("{skew:.1?}"),
        &format!("{active_down:.1?}"),
        if instance.preempt { "yes" } else { "no" },
        &addresses.join(" "),
    ])
}

fn describe_service(service: &Service, holder: &str, text: &mut String) {
    let Service {
        name,
        address,
        port,
        ..
    } = service;
    let protocols: Vec<String> = service.protocols.iter().map(ToString::to_string).collect();
    // Writing to a text can't fail.
    let _ = writeln!(
        text,
        "\nservice {name}: {address} port {port} {}",
        protocols.join(" ")
    );
    let mut rows = vec![
        row(["held by", holder]),
        row(["scheduler", service.scheduler.name()]),
        row(["forwarding", &service.forwarding.to_string()]),
        row([
            "one-packet scheduling",
            one_packet_scheduling(service.one_packet_scheduling),
        ]),
    ];
    match &service.check {
        Some(check) => {
            let Probe::Dns { name, record_type } = &check.probe;
            let Check {
                interval,
                timeout,
                rise,
                fall,
                ..
            } = check;
            let every = format!("DNS {name} {record_type} every {interval:?}, timeout {timeout:?}");
            // A server that dies right after a good probe is asked an interval later.
            let at_most = *interval * u32::from(fall.get()) + *timeout;
            let out = format!("after {fall} failed in a row, within {at_most:?}");
            rows.push(row(["check", &every]));
            rows.push(row(["taken out", &out]));
            rows.push(row([
                "brought in",
                &format!("after {rise} passed in a row; at start after the first"),
            ]));
        }
        None => rows.push(row(["check", "none: real servers are always in"])),
    }
    for (index, server) in service.real_servers.iter().enumerate() {
        let label = if index == 0 { "real servers" } else { "" };
        rows.push(row([
            label,
            &format!("{} weight {}", server.address, server.weight),
        ]));
    }
    table(&rows, "  ", text);
}

fn holder(holder: &Holder) -> String {
    match holder {
        Holder::Instance(name) => format!("virtual router {name}"),
        Holder::External => "the operator (external)".to_owned(),
    }
}

fn one_packet_scheduling(policy: OnePacketScheduling) -> &'static str {
    match (policy.enabled, policy.configured) {
        (true, true) => "on for UDP, as the file says",
        (false, true) => "off, as the file says",
        (true, false) => "on for UDP, the default on port 53",
        (false, false) => "off, the default but for UDP on port 53",
    }
}

fn row<const CELLS: usize>(cells: [&str; CELLS]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

/// Columns as wide as their widest cell, two spaces apart.
fn table(rows: &[Vec<String>], indent: &str, text: &mut String) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column| {
        rows.iter()
            .filter_map(|row: &Vec<String>| row.get(column))
            .map(String::len)
            .max()
    };
    let widths: Vec<usize> = (0..columns)
        .map(|column| width(column).unwrap_or(0))
        .collect();
    for row in rows {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        let line = indent.to_owned() + &cells.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use super::*;

    const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/director.yaml");

    fn summary_of(path: &Path) -> String {
        let file = config::load(path).unwrap_or_else(|errors| panic!("{errors}"));
        summary(&file)
            .unwrap()
            .replace(&path.display().to_string(), "FILE")
    }

    fn written(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn the_example_in_brief() {
        let expected = "\
FILE: valid for ds1, ds2

virtual router  node  interface  id  version  priority  interval  skew    active-down  preempt  addresses
dns             ds1   eth2       50  3        200       100ms     21.9ms  321.9ms      yes      192.168.56.185/24
dns             ds2   eth2       50  3        150       100ms     41.4ms  341.4ms      yes      192.168.56.185/24

service resolver: 192.168.56.185 port 53 udp tcp
  held by                virtual router dns
  scheduler              wrr
  forwarding             direct-routing
  one-packet scheduling  on for UDP, the default on port 53
  check                  DNS www.abc.local A every 500ms, timeout 300ms
  taken out              after 2 failed in a row, within 1.3s
  brought in             after 2 passed in a row; at start after the first
  real servers           192.168.56.183 weight 1
                         192.168.56.184 weight 1

data plane  ipvs
metrics     127.0.0.1:9712
";
        assert_eq!(summary_of(Path::new(EXAMPLE)), expected);
    }

    #[test]
    fn a_file_for_every_node_in_brief() {
        let file = written(
            "services: [{ name: a, address: 192.0.2.1, port: 53, protocols: [udp], external: true, \
             one_packet_scheduling: false, check: none, real_servers: [{ address: 192.0.2.2 }] }]\n\
             vrrp: [{ name: b, interface: e0, virtual_router_id: 1, priority: 100, version: 2, \
             authentication: { password: s3cr3t }, preempt: false, addresses: [192.0.2.3/32] }]\n\
             dataplane: none",
        );
        let expected = "\
FILE: valid for every node

virtual router  node   interface  id  version  priority  interval  skew     active-down  preempt  addresses
b               (any)  e0         1   2        100       1s        609.4ms  3.6s         no       192.0.2.3/32

service a: 192.0.2.1 port 53 udp
  held by                the operator (external)
  scheduler              wrr
  forwarding             direct-routing
  one-packet scheduling  off, as the file says
  check                  none: real servers are always in
  real servers           192.0.2.2 weight 1

data plane  none: nothing is forwarded
metrics     off
";
        assert_eq!(summary_of(file.path()), expected);
    }

    #[test]
    fn json_has_every_mistake() {
        assert_eq!(json(None), "{\n  \"valid\": true,\n  \"errors\": []\n}\n");
        let file = written("vrrp: []\nservices: {}\n");
        let errors = config::load(file.path()).err().unwrap();
        let found: serde_json::Value = serde_json::from_str(&json(Some(&errors))).unwrap();
        let name = file.path().display().to_string();
        let expected = serde_json::json!({
            "valid": false,
            "errors": [
                { "file": name, "line": 1, "column": 7, "key": "vrrp",
                  "message": "is empty; must be a list of virtual routers" },
                { "file": name, "line": 2, "column": 11, "key": "services",
                  "message": "must be a list of services, but is a mapping" },
            ],
        });
        assert_eq!(found, expected);
        let errors = config::load(Path::new("/nonexistent/file")).err().unwrap();
        let found: serde_json::Value = serde_json::from_str(&json(Some(&errors))).unwrap();
        assert_eq!(found["errors"][0]["line"], serde_json::Value::Null);
    }

    #[test]
    fn the_exit_status_tells_the_verdict() {
        let status = |file: &Path| {
            format!(
                "{:?}",
                run(&Arguments {
                    file: file.into(),
                    json: true
                })
            )
        };
        assert_eq!(
            status(Path::new(EXAMPLE)),
            format!("{:?}", ExitCode::SUCCESS)
        );
        assert_eq!(
            status(Path::new("/nonexistent")),
            format!("{:?}", ExitCode::FAILURE)
        );
    }
}
