//! What the command line says of a running director, and what it has it do.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::unistd::Group;
use serde_json::Value;

use super::duo::{Duo, TOLERANCE, claims, file, instance, skew_time, wait_for};
use super::pair::{ADDRESSES, first_advert, within};
use super::{LINGER, PAUSE, PING_INTERVAL};
use crate::capture::Capture;
use crate::lab::{Host, Lab, Output};
use crate::ping;
use crate::scenario::PATIENCE;
use crate::topology::VIP;

const ADDRESS: &str = "addresses: [192.168.56.185/24]";
const SOCKET: &str = "/run/lvs-director/control.sock";
/// Every Debian has it.
const GROUP: &str = "adm";

pub(super) fn status_says_how_it_is(lab: &mut Lab) -> Result<()> {
    let yaml = format!("{}control: {{ group: {GROUP} }}\n", file(&[ADDRESS]));
    let duo = Duo::start(lab, &yaml)?;
    let [active, backup] = &duo.hosts;
    sleep(PAUSE);
    let (code, said) = status(active)?;
    ensure!(code == 0, "Active: {code}: {said:#}");
    ensure!(said["node"] == "ds1", "{said:#}");
    let one = &said["instances"][0];
    ensure!(
        one["state"] == "active" && one["ownership"] == "held",
        "{one:#}"
    );
    ensure!(one["addresses"][0] == "192.168.56.185/24", "{one:#}");
    ensure!(
        one["priority"]["base"] == 200 && one["priority"]["effective"] == 200,
        "{one:#}"
    );
    ensure!(one["last_transition"]["from"] == "backup", "{one:#}");
    ensure!(
        one["lateness"]["limit_seconds"]
            .as_f64()
            .is_some_and(|limit| limit > 0.1),
        "{one:#}"
    );
    ensure!(
        one["counters"]["adverts_sent"]
            .as_u64()
            .is_some_and(|count| count > 2),
        "{one:#}"
    );
    let (code, said) = status(backup)?;
    ensure!(code == 0, "Backup: {code}: {said:#}");
    let one = &said["instances"][0];
    ensure!(
        one["state"] == "backup" && one["ownership"] == "absent",
        "{one:#}"
    );
    ensure!(
        one["addresses"].as_array().is_some_and(Vec::is_empty),
        "{one:#}"
    );
    ensure!(
        one["active"]["address"] == ADDRESSES[0].to_string(),
        "{one:#}"
    );
    ensure!(one["active"]["priority"] == 200, "{one:#}");
    ensure!(
        one["silence"]["limit_seconds"]
            .as_f64()
            .is_some_and(|limit| (limit - 0.341).abs() < 0.001),
        "{one:#}"
    );
    let plain = command(backup, &["status"])?;
    ensure!(
        plain.code() == Some(0) && plain.stderr.is_empty(),
        "{plain:?}"
    );
    ensure!(
        plain.stdout.contains("dns") && plain.stdout.contains("backup"),
        "{}",
        plain.stdout
    );

    backup.link_down("eth2")?;
    wait_for("ds2 is in fault", backup, "dns", |one| {
        one["state"] == "fault"
    })?;
    let (code, said) = status(backup)?;
    ensure!(code == 2, "fault: {code}: {said:#}");
    ensure!(
        said["instances"][0]["faults"]
            .as_array()
            .is_some_and(|all| all.len() == 1),
        "{said:#}"
    );
    let plain = command(backup, &["status"])?;
    ensure!(plain.code() == Some(2), "{plain:?}");
    ensure!(
        plain.stdout.contains("eth2") && plain.stdout.contains("fault"),
        "{}",
        plain.stdout
    );

    // Root's and the group's, and nobody else's.
    let (mode, group) = active.within(|| {
        let found = fs::metadata(SOCKET)?;
        Ok::<_, std::io::Error>((found.mode() & 0o7777, found.gid()))
    })?;
    let wanted = Group::from_name(GROUP)?.context("no such group")?.gid;
    ensure!(
        (mode, group) == (0o660, wanted.as_raw()),
        "{mode:o} {group}"
    );
    let director = crate::binaries::path("director")?;
    for (group, expected) in [(GROUP, Some(0)), ("nogroup", Some(1))] {
        let program = director.as_os_str();
        let arguments = ["--reuid=nobody", "--clear-groups", "--regid", group];
        let mut all: Vec<_> = arguments.iter().map(std::ffi::OsStr::new).collect();
        all.extend([program, "status".as_ref()]);
        let output = active.output("setpriv", all, PATIENCE)?;
        ensure!(output.code() == expected, "as {group}: {output:?}");
    }
    Ok(())
}

pub(super) fn a_handover_loses_nothing(lab: &mut Lab) -> Result<()> {
    const ASIDE: Duration = Duration::from_secs(2);
    let duo = Duo::start(lab, &file(&[ADDRESS]))?;
    let [first, second] = &duo.hosts;
    let capture = Capture::start(&duo.client)?;
    let load = ping::start(&duo.client, VIP, PING_INTERVAL);
    sleep(PAUSE);

    // For a while: then ds1 takes over by itself.
    let asked = Instant::now();
    let output = command(first, &["handover", "--for", "2s"])?;
    let told = Instant::now();
    ensure!(output.code() == Some(0), "{output:?}");
    ensure!(
        output.stdout.contains(&ADDRESSES[1].to_string()),
        "{}",
        output.stdout
    );
    duo.wait_for_active(1)?;
    let aside = instance(first, "dns")?;
    ensure!(aside["stands_aside"]["until"] == "time", "{aside:#}");
    let resigned = first_advert(&capture, ADDRESSES[0], 0, asked)?;
    let taken = first_advert(&capture, ADDRESSES[1], 150, asked)?;
    within(
        "handover: takeover",
        taken.saturating_duration_since(resigned),
        skew_time() + TOLERANCE,
    )?;
    within(
        "handover: until the answer",
        told - resigned,
        skew_time() + LINGER + 4 * TOLERANCE,
    )?;
    let back = duo.wait_for_active(0).map(|_| Instant::now())?;
    ensure!(back >= resigned + ASIDE, "back after {:?}", back - resigned);
    within(
        "back",
        back - resigned,
        ASIDE + 4 * super::duo::INTERVAL + 4 * TOLERANCE,
    )?;

    // Until it is told otherwise: also through a reload.
    let asked = Instant::now();
    let output = command(first, &["handover", "dns"])?;
    ensure!(output.code() == Some(0), "{output:?}");
    let resigned = first_advert(&capture, ADDRESSES[0], 0, asked)?;
    duo.wait_for_active(1)?;
    let aside = instance(first, "dns")?;
    ensure!(aside["stands_aside"]["until"] == "release", "{aside:#}");
    duo.reload(0, &file(&[ADDRESS]))?;
    sleep(Duration::from_secs(1));
    let early = claims(&capture, ADDRESSES[0], resigned);
    ensure!(early.is_empty(), "it took over: {early:02x?}");
    let output = command(first, &["handover", "--release"])?;
    ensure!(output.code() == Some(0), "{output:?}");
    let took = duo.wait_for_active(0)?;
    within(
        "back after the release",
        took,
        5 * super::duo::INTERVAL + 4 * TOLERANCE,
    )?;
    sleep(PAUSE);
    let report = load.stop();
    println!("measured: two handovers, two returns: {report}");
    ensure!(report.lost() == 0, "{report}");

    let unknown = command(second, &["handover", "nothing"])?;
    ensure!(
        unknown.code() == Some(1) && unknown.stdout.contains("nothing"),
        "{unknown:?}"
    );
    // Nobody is there to take over: it stays.
    second.kill_processes();
    let load = ping::start(&duo.client, VIP, PING_INTERVAL);
    let output = command(first, &["handover", "--for", "10s"])?;
    ensure!(output.code() == Some(1), "{output:?}");
    ensure!(first.holds(VIP), "it gave the VIP up");
    let report = load.stop();
    ensure!(report.lost() == 0, "{report}");
    Ok(())
}

fn command(host: &Host, arguments: &[&str]) -> Result<Output> {
    host.output("director", arguments, PATIENCE)
}

/// Exit status, and what `--json` says.
fn status(host: &Host) -> Result<(i32, Value)> {
    let output = command(host, &["status", "--json"])?;
    let said = serde_json::from_str(&output.stdout).with_context(|| format!("{output:?}"))?;
    Ok((output.code().unwrap_or(-1), said))
}
