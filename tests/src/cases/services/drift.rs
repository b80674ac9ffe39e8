//! What somebody else changes in the table.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cases::metrics::Scrape;
use crate::figures;
use crate::forwarding::{saved, table};
use crate::lab::{Host, Lab, wait_until};
use crate::scenario::{PATIENCE, edited, same_table};
use crate::solo::{Solo, configuration};

/// Objects, actions, and how many of them.
type Repairs = &'static [(&'static str, &'static str, u64)];

/// What a stranger does, and what repairs it.
const DRIFTS: [(&str, Repairs); 5] = [
    (
        "-e -u 192.168.56.185:53 -r 192.168.56.183:53 -g -w 9",
        &[("server", "change", 1)],
    ),
    (
        "-d -u 192.168.56.185:53 -r 192.168.56.184:53",
        &[("server", "add", 1)],
    ),
    (
        "-a -t 192.168.56.185:53 -r 192.168.56.77:53 -g",
        &[("server", "remove", 1)],
    ),
    ("-E -t 192.168.56.185:53 -s rr", &[("service", "change", 1)]),
    ("-C", &[("service", "add", 2), ("server", "add", 4)]),
];

/// A service of somebody else.
const FOREIGN: [&str; 2] = [
    "-A -u 192.168.56.181:5353 -s sh -p 60",
    "-a -u 192.168.56.181:5353 -r 192.168.56.77:53 -m -w 7",
];

/// Under 50 questions a second each change is repaired within a second and counted; a service of
/// somebody else stays as it is, until all services of this kernel shall be the director's.
pub(super) fn is_repaired_and_counted(lab: &mut Lab) -> Result<()> {
    let yaml = configuration(&[(0, 1), (1, 1)]);
    // An emulated machine with other work takes a while for one pass over the table.
    let limit = lab
        .mode()
        .choose(Duration::from_secs(3), Duration::from_secs(1));
    let solo = Solo::start(lab, &yaml)?;
    let host = solo.host();
    let (ours, alone) = (saved(host)?, table(host)?);
    let load = solo.questions().start(&solo.hosts.client);
    for command in FOREIGN {
        host.run(&format!("ipvsadm {command}"))?;
    }
    for (drift, repairs) in DRIFTS {
        let mut expected = ours.clone();
        expected.extend(FOREIGN.map(str::to_owned));
        same_table("before", &saved(host)?, &expected)?;
        if drift == "-C" {
            expected = ours.clone();
        }
        let before = counted(host)?;
        let whole = if drift == "-C" {
            alone.clone()
        } else {
            table(host)?
        };
        host.run(&format!("ipvsadm {drift}"))?;
        let took = wait_until("the table is repaired", PATIENCE, || {
            table(host).is_ok_and(|found| found == whole)
        })
        .with_context(|| format!("after ipvsadm {drift}"))?;
        figures::within(&format!("repaired after ipvsadm {drift}"), took, limit)?;
        same_table("after", &saved(host)?, &expected)?;
        let mut after = before.clone();
        for (object, action, count) in repairs {
            *after.entry(series(object, action)).or_default() += count;
        }
        wait_until("the repair is counted", PATIENCE, || {
            counted(host).is_ok_and(|counted| counted == after)
        })
        .with_context(|| format!("after ipvsadm {drift}: {:?}", counted(host)))?;
    }
    sleep(Duration::from_millis(500));
    let report = load.stop();
    println!("measured: while a stranger changes the table: {report}");

    for command in FOREIGN {
        host.run(&format!("ipvsadm {command}"))?;
    }
    solo.reload(&edited(
        &yaml,
        "services:",
        "ipvs: { exclusive: true }\nservices:",
    ))?;
    wait_until("the foreign service is gone", PATIENCE, || {
        saved(host).is_ok_and(|found| found == ours)
    })?;
    Ok(())
}

/// All repairs until now, by series.
fn counted(host: &Host) -> Result<BTreeMap<String, u64>> {
    Ok(Scrape::of(host)?.family("director_table_repairs_total"))
}

fn series(object: &str, action: &str) -> String {
    format!("director_table_repairs_total{{action=\"{action}\",object=\"{object}\"}}")
}
