//! The verdict and what follows, for people.

use std::fmt::Write as _;

use lvs_proto::ipvs::Timeouts;

use super::lines::Lines;
use super::{Node, policy, service, virtual_router};
use crate::config::{Configuration, Dataplane, File, Instance, Service};

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
            let same: Vec<&Service> = all.filter_map(|it| it.services.get(index)).collect();
            // Writing to a text can't fail.
            let _ = writeln!(
                text,
                "\nservice {}: {}",
                service.name,
                service::subject(service).words()
            );
            table(
                &rows(service::describe(service, &same, first)),
                "  ",
                &mut text,
            );
        }
        text += "\n";
        table(&rows(machine(nodes, first)), "", &mut text);
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
            (node, &instance.name, rows(lines))
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

/// What is said of the machine as a whole.
fn machine(nodes: &[Node], first: &Configuration) -> Lines {
    let mut lines = Lines::default();
    lines.add(
        "data plane",
        match first.dataplane {
            Dataplane::Ipvs => "ipvs",
            Dataplane::None => "none: nothing is forwarded",
        },
    );
    if first.dataplane == Dataplane::Ipvs && !first.services.is_empty() {
        lines.add("program", policy::program(&first.ipvs));
    }
    if first.ipvs.exclusive {
        lines.add("exclusive", "services that aren't configured are removed");
    }
    let Timeouts { tcp, tcp_fin, udp } = first.ipvs.timeouts;
    let timeouts: Vec<String> = [("tcp", tcp), ("tcp_fin", tcp_fin), ("udp", udp)]
        .iter()
        .filter(|(_, seconds)| *seconds > 0)
        .map(|(name, seconds)| format!("{name} {seconds}s"))
        .collect();
    if !timeouts.is_empty() {
        lines.add("timeouts", timeouts.join(" "));
    }
    let mut synchronization: Vec<String> = nodes
        .iter()
        .filter_map(|node| node.configuration.ipvs.synchronization.as_ref())
        .map(|it| {
            let daemon = it.daemon.to_string();
            let daemon = daemon.split_once(' ').map_or("", |(_, daemon)| daemon);
            format!(
                "tells while {} is Active, listens otherwise; {daemon}",
                it.instance
            )
        })
        .collect();
    synchronization.dedup();
    lines.extend("sync", synchronization);
    let settings = policy::settings(first);
    let longest = settings.iter().map(|it| it.name.len()).max().unwrap_or(0);
    let settings = settings.iter().map(|setting| {
        let policy::Setting {
            name,
            value,
            reason,
        } = setting;
        format!("{name:longest$} {value}: {reason}")
    });
    lines.extend("settings", settings);
    let metrics = first.metrics.map(|metrics| metrics.listen.to_string());
    lines.add("metrics", metrics.as_deref().unwrap_or("off"));
    lines.add(
        "commands from",
        match &first.control.group {
            Some(group) => format!("root and the group {group}"),
            None => "root".to_owned(),
        },
    );
    lines
}

fn rows(lines: Lines) -> Vec<Vec<String>> {
    lines.0.into_iter().map(Vec::from).collect()
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
