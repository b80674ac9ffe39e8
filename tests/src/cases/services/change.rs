//! A live service that is changed in several ways at once.

use std::collections::{BTreeMap, BTreeSet};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::figures;
use crate::forwarding::{Table, saved};
use crate::lab::Lab;
use crate::scenario::{PATIENCE, nothing_lost};
use crate::solo::{Solo, configuration};

/// Questions a second that are asked for; an emulated machine asks fewer.
const RATE: u32 = 200;

/// One server comes, one goes, one gets another weight: no question is lost, and what was planned is
/// what the reload says and what the kernel shows.
pub(super) fn a_planned_change_loses_nothing(lab: &mut Lab) -> Result<()> {
    let solo = Solo::start(lab, &configuration(&[(0, 1), (1, 1)]))?;
    let host = solo.host();
    let next = configuration(&[(1, 3), (2, 2)]);
    let file = host.write_file("next.yaml", &next)?;
    let load = solo
        .questions()
        .every(Duration::from_secs(1) / RATE)
        .start(&solo.hosts.client);
    let start = Instant::now();
    sleep(Duration::from_secs(1));

    let before = saved(host)?;
    let file = file.to_string_lossy();
    let plan = host.output("director", ["plan", "--config", &file, "--json"], PATIENCE)?;
    ensure!(plan.code() == Some(2), "{plan:?}");
    ensure!(saved(host)? == before, "a plan has changed the table");
    let reloaded = solo.reload(&next)?;
    let after = saved(host)?;

    sleep(Duration::from_secs(1));
    let elapsed = start.elapsed();
    let report = load.stop();
    let rate = report.sent() as f64 / elapsed.as_secs_f64();
    figures::note("questions a second", rate, "", None);
    println!("measured: one added, one removed, one reweighted: {report}");
    println!("{reloaded}");
    nothing_lost(&report)?;

    let plan: Value = serde_json::from_str(&plan.stdout)?;
    let planned = plan["changes"].as_array().context("no changes")?;
    let text: Vec<&str> = planned
        .iter()
        .filter_map(|one| one["text"].as_str())
        .collect();
    let said: Vec<&str> = reloaded.lines().collect();
    ensure!(said == text, "planned {text:#?}, and then {said:#?}");
    let word = |change: &Value, key: &str| change[key].as_str().unwrap_or_default().to_owned();
    let planned: BTreeSet<[String; 3]> = planned
        .iter()
        .map(|change| ["action", "virtual_service", "server"].map(|key| word(change, key)))
        .collect();
    let seen = difference(&before, &after);
    for protocol in ["-u", "-t"] {
        for server in ["192.168.56.184:53 -g -w 3", "192.168.56.182:53 -g -w 2"] {
            let line = format!("-a {protocol} 192.168.56.185:53 -r {server}");
            ensure!(after.contains(&line), "no {line} in {after:#?}");
        }
    }
    // The server of each kind, by UDP and by TCP.
    ensure!(seen.len() == 6, "{seen:#?}");
    ensure!(planned == seen, "planned {planned:#?}, and not {seen:#?}");
    Ok(())
}

/// Action, virtual service and server of each server that isn't the same in both.
fn difference(before: &Table, after: &Table) -> BTreeSet<[String; 3]> {
    let (before, after) = (servers(before), servers(after));
    let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let changed = keys.into_iter().filter_map(|key| {
        let action = match (before.get(key), after.get(key)) {
            (None, _) => "add",
            (_, None) => "remove",
            (before, after) if before == after => return None,
            _ => "change",
        };
        Some([action, &key.0, &key.1].map(str::to_owned))
    });
    changed.collect()
}

/// Virtual service and server, and what follows.
fn servers(table: &Table) -> BTreeMap<(String, String), String> {
    let lines = table.iter().filter_map(|line| {
        let words: Vec<&str> = line.splitn(6, ' ').collect();
        let ["-a", protocol, service, "-r", server, settings] = *words.as_slice() else {
            return None;
        };
        let protocol = if protocol == "-u" { "udp" } else { "tcp" };
        let key = (format!("{service}/{protocol}"), server.to_owned());
        Some((key, settings.to_owned()))
    });
    lines.collect()
}
