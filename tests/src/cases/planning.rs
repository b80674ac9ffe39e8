//! `director plan` and `director reload` against the kernel's table: what is planned is what is done.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::case::Case;
use crate::forwarding;
use crate::lab::{Host, Lab, Output, wait_until};
use crate::scenario::{self, CONFIGURATION as DEPLOYED, PATIENCE, Pair, edited, same_table};
use crate::topology::director_file;

/// The cases of this theme.
pub(super) const CASES: &[Case] = &[
    Case::new(
        "planning::a_reload_does_what_was_planned",
        a_reload_does_what_was_planned,
    )
    .needing_ipvs(),
    Case::new(
        "planning::a_backup_programs_when_it_is_active",
        a_backup_programs_when_it_is_active,
    )
    .needing_ipvs(),
];

/// A DNS server on an emulated machine may stand still for longer than 300 ms.
fn calm() -> String {
    let calm = edited(
        &scenario::calm(DEPLOYED),
        "interval: 500ms\n      timeout",
        "interval: 3s\n      timeout",
    );
    edited(&calm, "timeout: 300ms", "timeout: 2s")
}

fn a_reload_does_what_was_planned(lab: &mut Lab) -> Result<()> {
    let second = "      - { address: 192.168.56.184, weight: 1 }\n";
    let change = |yaml: &str, changes: &[(&str, &str)]| {
        let changes = changes.iter();
        changes.fold(yaml.to_owned(), |yaml, (from, to)| edited(&yaml, from, to))
    };
    let fewer = change(
        &calm(),
        &[
            (second, ""),
            ("192.168.56.183, weight: 1", "192.168.56.183, weight: 3"),
            ("scheduler: wrr", "scheduler: mh"),
            (
                "addresses: [192.168.56.185/24]",
                "addresses: [192.168.56.185/24, 192.168.56.186/24]",
            ),
        ],
    );
    // The second server comes back as a stranger, and its service a second time.
    let service = calm();
    let service = service.split_once("services:\n").unwrap_or_default().1;
    let service = service.split_once("# For Prometheus").unwrap_or_default().0;
    let another = change(
        service,
        &[
            ("name: resolver", "name: another"),
            ("address: 192.168.56.185", "address: 192.168.56.186"),
        ],
    );
    let more = change(
        &fewer,
        &[
            ("scheduler: mh", "scheduler: rr"),
            (
                "    real_servers:\n",
                &format!("    real_servers:\n{second}"),
            ),
            ("# For Prometheus", &format!("{another}# For Prometheus")),
        ],
    );
    let pair = Pair::start(lab, &calm())?;
    let [ds1, ds2] = [0, 1].map(|index| pair.director(index).clone());
    for (yaml, waits) in [(fewer, false), (more, true), (calm(), false)] {
        for director in [&ds1, &ds2] {
            let before = (forwarding::listed(director)?, addresses(director)?);
            director_file(director, &yaml)?;
            let plan = command(director, &["plan"])?;
            println!("{} plans:\n{}{}", director.name(), plan.stdout, plan.stderr);
            ensure!(plan.code() == Some(2), "{plan:?}");
            let marked = plan.stdout.contains("(once its check passes)\n");
            ensure!(marked == waits, "a new server: {waits}");
            let after = (forwarding::listed(director)?, addresses(director)?);
            ensure!(
                before == after,
                "a plan changes nothing: {before:?}, {after:?}"
            );
            let reload = command(director, &["reload"])?;
            println!(
                "{} reloads:\n{}{}",
                director.name(),
                reload.stdout,
                reload.stderr
            );
            ensure!(reload.code() == Some(0), "{reload:?}");
            ensure!(
                reload.stdout == plan.stdout && reload.stderr.is_empty(),
                "another"
            );
            let after = (forwarding::listed(director)?, addresses(director)?);
            ensure!(before.0 != after.0, "the table has not changed: {after:?}");
            let is_active = std::ptr::eq(director, &ds1);
            // The last file takes away what the first one brought.
            ensure!((before.1 != after.1) == (is_active && !waits), "{after:?}");
            for again in ["plan", "reload"] {
                let again = command(director, &[again])?;
                ensure!(again.code() == Some(0), "{again:?}");
                ensure!(again.stdout == "nothing to change\n", "{again:?}");
            }
        }
    }
    Ok(())
}

fn a_backup_programs_when_it_is_active(lab: &mut Lab) -> Result<()> {
    let yaml = format!("{}ipvs: {{ program: when-active }}\n", calm());
    let pair = Pair::start(lab, &calm())?;
    let [ds1, ds2] = [0, 1].map(|index| pair.director(index).clone());
    let full = forwarding::listed(&ds1)?;
    for director in [&ds1, &ds2] {
        director_file(director, &yaml)?;
        let reload = command(director, &["reload"])?;
        ensure!(reload.code() == Some(0), "{reload:?}");
        println!("{}: {}", director.name(), reload.stdout);
    }
    same_table("Active", &forwarding::listed(&ds1)?, &full)?;
    let none = forwarding::Table::new();
    same_table("Backup", &forwarding::table(&ds2)?, &none)?;
    let load = pair.ask();
    sleep(Duration::from_secs(1));
    let handover = command(&ds1, &["handover"])?;
    ensure!(handover.code() == Some(0), "{handover:?}");
    pair.wait_for_active(1)?;
    wait_until("the tables have changed hands", PATIENCE, || {
        forwarding::listed(&ds2).is_ok_and(|table| table == full)
            && forwarding::table(&ds1).is_ok_and(|table| table == none)
    })?;
    sleep(Duration::from_secs(1));
    let report = load.stop();
    println!("measured: handed over, programmed when active: {report}");
    Ok(())
}

fn addresses(host: &Host) -> Result<String> {
    host.run("ip -oneline address show")
}

fn command(host: &Host, arguments: &[&str]) -> Result<Output> {
    host.output("director", arguments, PATIENCE)
}
