//! The verdict and what follows, for people.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::{Node, virtual_router};
use crate::config::{
    Check, Dataplane, File, Holder, Instance, OnePacketScheduling, Probe, Service,
};

/// What the file warns of, a line each.
pub(super) fn warnings(file: &File) -> String {
    let warning = |finding| format!("warning: {finding}\n");
    file.warnings().iter().map(warning).collect()
}

/// What follows from the file.
pub(super) fn summary(file: &File, nodes: &[Node]) -> String {
    let names: Vec<&str> = nodes
        .iter()
        .filter_map(|node| node.name.as_deref())
        .collect();
    let of = if names.is_empty() {
        "every node".to_owned()
    } else {
        names.join(", ")
    };
    let mut text = format!("{}: valid for {of}\n", file.path().display());
    virtual_routers(nodes, &mut text);
    // Of services only the holder can differ between nodes, and the rest is said once.
    if let Some(first) = nodes.first().map(|node| &node.configuration) {
        for (index, service) in first.services.iter().enumerate() {
            let all = nodes.iter().map(|node| &node.configuration);
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
        let control = match &first.control.group {
            Some(group) => format!("root and the group {group}"),
            None => "root".to_owned(),
        };
        let rows = [
            row(["data plane", dataplane]),
            row(["metrics", &metrics]),
            row(["commands from", &control]),
        ];
        table(&rows, "", &mut text);
    }
    text
}

fn virtual_routers(nodes: &[Node], text: &mut String) {
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
    let instances = nodes
        .first()
        .map_or(0, |first| first.configuration.instances.len());
    for index in 0..instances {
        for (node, instance) in on_all(nodes, index) {
            rows.push(overview(node.name.as_deref().unwrap_or("(any)"), instance));
        }
    }
    if instances > 0 {
        text.push('\n');
        table(&rows, "", text);
    }
    for index in 0..instances {
        describe_virtual_router(nodes, index, text);
    }
}

fn on_all(nodes: &[Node], index: usize) -> impl Iterator<Item = (&Node, &Instance)> {
    nodes
        .iter()
        .filter_map(move |node| Some((node, node.configuration.instances.get(index)?)))
}

/// Once for all nodes where they are alike.
fn describe_virtual_router(nodes: &[Node], index: usize, text: &mut String) {
    let descriptions: Vec<_> = on_all(nodes, index)
        .map(|(node, instance)| {
            let lines = virtual_router::describe(instance, &node.configuration);
            let rows: Vec<Vec<String>> = lines.into_iter().map(Vec::from).collect();
            (node, &instance.name, rows)
        })
        .collect();
    let alike = descriptions
        .windows(2)
        .all(|pair| (pair[0].1, &pair[0].2) == (pair[1].1, &pair[1].2));
    for (node, name, rows) in &descriptions {
        // Writing to a text can't fail.
        let _ = match &node.name {
            Some(node) if !alike => writeln!(text, "\nvirtual router {name} on {node}"),
            _ => writeln!(text, "\nvirtual router {name}"),
        };
        table(rows, "  ", text);
        if alike {
            return;
        }
    }
}

fn overview(node: &str, instance: &Instance) -> Vec<String> {
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
