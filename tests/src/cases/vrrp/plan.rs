//! `director plan` and `director reload` of what no table has: VIPs, virtual routers, mistakes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::duo::{Duo, file, instance};
use crate::lab::{Host, Lab, Output, wait_until};
use crate::scenario::{PATIENCE, edited};
use crate::topology::director_file;

const ADDRESSES: &str = "addresses: [192.168.56.185/24, 192.168.56.186/24]";
/// How long a reload waits for verdicts and the kernel.
const LIMIT: Duration = Duration::from_secs(5);

pub(super) fn vips_move_as_planned(lab: &mut Lab) -> Result<()> {
    let yaml = file(&[ADDRESSES]);
    let duo = Duo::start(lab, &yaml)?;
    let [active, backup] = &duo.hosts;
    let moved = edited(
        &edited(&yaml, "185/24", "185/32"),
        "192.168.56.186/24",
        "{ address: 192.168.56.187/24, label: 'eth2:dns' }",
    );
    let expected = [
        "virtual router dns: address 192.168.56.185: prefix length 24 → 32",
        "virtual router dns: remove address 192.168.56.186/24 on eth2",
        "virtual router dns: add address 192.168.56.187/24 on eth2, label eth2:dns",
    ];
    let before = addresses(active)?;
    director_file(active, &moved)?;
    let plan = command(active, &["plan"])?;
    ensure!(plan.code() == Some(2) && plan.stderr.is_empty(), "{plan:?}");
    ensure!(lines(&plan) == expected, "{plan:?}");
    let found = addresses(active)?;
    ensure!(found == before, "a plan changes nothing: {before} {found}");
    let reload = command(active, &["reload"])?;
    ensure!(
        reload.code() == Some(0) && reload.stderr.is_empty(),
        "{reload:?}"
    );
    ensure!(reload.stdout == plan.stdout, "{reload:?}");
    let found = addresses(active)?;
    for (text, is_there) in [
        ("192.168.56.185/32", true),
        ("192.168.56.185/24", false),
        ("192.168.56.186", false),
        ("192.168.56.187/24 scope global secondary eth2:dns", true),
    ] {
        ensure!(found.contains(text) == is_there, "{text}: {found}");
    }
    for again in ["plan", "reload"] {
        let again = command(active, &[again])?;
        ensure!(again.code() == Some(0), "{again:?}");
        ensure!(again.stdout == "nothing to change\n", "{again:?}");
    }

    // A Backup has nothing to move, and says what it would have.
    let before = addresses(backup)?;
    director_file(backup, &moved)?;
    for (word, code) in [("plan", 2), ("reload", 0)] {
        let said = command(backup, &[word])?;
        ensure!(said.code() == Some(code), "{said:?}");
        let expected = "virtual router dns: addresses 192.168.56.185/24 192.168.56.186/24 → \
                        192.168.56.185/32 192.168.56.187/24\n";
        ensure!(said.stdout == expected, "{said:?}");
    }
    ensure!(addresses(backup)? == before, "a Backup has a VIP");

    // Another file than its own.
    let other = active.write_file("other.yaml", &yaml)?;
    let plan = active.output(
        "director",
        ["plan".as_ref(), "--config".as_ref(), other.as_os_str()],
        PATIENCE,
    )?;
    ensure!(
        plan.code() == Some(2) && lines(&plan).len() == 3,
        "{plan:?}"
    );
    let json = command(active, &["plan", "--json"])?;
    let said: Value = serde_json::from_str(&json.stdout).with_context(|| format!("{json:?}"))?;
    ensure!(
        json.code() == Some(0) && said["changes"] == serde_json::json!([]),
        "{json:?}"
    );
    Ok(())
}

pub(super) fn mistakes_change_nothing(lab: &mut Lab) -> Result<()> {
    let yaml = file(&[ADDRESSES]);
    let duo = Duo::start(lab, &yaml)?;
    let [active, _] = &duo.hosts;
    let before = addresses(active)?;
    let unknown = edited(
        &edited(&yaml, "185/24", "189/24"),
        "interface:",
        "inteface:",
    );
    let syntax = edited(&yaml, "185/24", "189/24]");
    // Good for everybody but this machine.
    let nodes = edited(&yaml, "ds1: 200", "ds3: 200");
    for (what, yaml) in [
        ("unknown key", unknown),
        ("syntax", syntax),
        ("node", nodes),
    ] {
        let file = director_file(active, &yaml)?;
        let file = file.as_os_str();
        for arguments in [
            vec!["reload".as_ref()],
            vec!["plan".as_ref()],
            vec!["plan".as_ref(), "--config".as_ref(), file],
        ] {
            let said = active.output("director", &arguments, PATIENCE)?;
            ensure!(
                said.code() == Some(1) && said.stdout.is_empty(),
                "{what}: {said:?}"
            );
            let place = format!("{}:", file.display());
            ensure!(said.stderr.starts_with(&place), "{what}: {said:?}");
            let check = active.output("director", ["check".as_ref(), file], PATIENCE)?;
            ensure!(
                check.stderr == said.stderr || what == "node",
                "{what}: {check:?}"
            );
        }
        let json = command(active, &["reload", "--json"])?;
        let said: Value = serde_json::from_str(&json.stdout)?;
        ensure!(
            json.code() == Some(1) && said["errors"][0]["line"].is_u64(),
            "{json:?}"
        );
        let found = addresses(active)?;
        ensure!(found == before, "{what}: {before} {found}");
    }
    let missing = command(active, &["plan", "--config", "/nonexistent"])?;
    ensure!(missing.code() == Some(1), "{missing:?}");
    for wrong in [
        &["plan", "now"][..],
        &["reload", "--config", "x"],
        &["plan", "--jason"],
    ] {
        let said = command(active, wrong)?;
        ensure!(said.code() == Some(64), "{wrong:?}: {said:?}");
    }
    Ok(())
}

pub(super) fn a_reload_waits_and_nobody_waits_for_it(lab: &mut Lab) -> Result<()> {
    let yaml = format!("{}dataplane: none\n", file(&[ADDRESSES]));
    let duo = Duo::start(lab, &yaml)?;
    let [active, _] = &duo.hosts;
    // Nobody has this address, so that the check has no verdict for long.
    let slow = format!(
        "{yaml}control: {{ group: adm }}\nservices:\n  - name: resolver\n    \
         address: 192.168.56.185\n    port: 53\n    protocols: [udp]\n    \
         check: {{ dns: {{ name: . }}, interval: 20s, timeout: 20s }}\n    \
         real_servers: [{{ address: 192.168.56.250 }}]\n"
    );
    director_file(active, &slow)?;
    let patient = {
        let host = active.clone();
        move || {
            let begun = Instant::now();
            let said = command(&host, &["reload"])?;
            Ok::<_, anyhow::Error>((said, begun.elapsed()))
        }
    };
    let (first, took) = patient()?;
    println!("measured: waited {took:.2?} for a verdict");
    ensure!(first.code() == Some(0), "{first:?}");
    // It has changed whose socket it is on the way, and is answered nevertheless.
    ensure!(
        lines(&first).contains(&"director: control group root → adm"),
        "{first:?}"
    );
    let waiting = "waiting: service resolver: server 192.168.56.250 over udp: no verdict yet\n";
    ensure!(first.stderr == waiting, "{first:?}");
    let limits = LIMIT..LIMIT + Duration::from_secs(2);
    ensure!(limits.contains(&took), "took {took:?}");

    // Another one is in force at once, and ends the first.
    let begun = Instant::now();
    let waiter = std::thread::scope(|scope| {
        let waiter = scope.spawn(&patient);
        std::thread::sleep(Duration::from_millis(500));
        let status = Instant::now();
        instance(active, "dns")?;
        ensure!(
            status.elapsed() < Duration::from_secs(1),
            "nothing else is answered"
        );
        director_file(active, &yaml)?;
        let second = command(active, &["reload"])?;
        ensure!(second.code() == Some(0), "{second:?}");
        ensure!(
            second.stdout.contains("service resolver: remove"),
            "{second:?}"
        );
        waiter
            .join()
            .map_err(|_| anyhow::anyhow!("it has panicked"))?
    });
    let (first, _) = waiter?;
    ensure!(begun.elapsed() < LIMIT, "took {:?}", begun.elapsed());
    ensure!(
        first.code() == Some(0) && first.stderr.contains("another reload"),
        "{first:?}"
    );
    Ok(())
}

pub(super) fn without_a_director_the_kernel_is_read(lab: &mut Lab) -> Result<()> {
    let yaml = format!("{}dataplane: none\n", file(&[ADDRESSES]));
    let duo = Duo::start(lab, &yaml)?;
    let [active, _] = &duo.hosts;
    let plan = |host: &Host, yaml: &str| {
        let path = director_file(host, yaml)?;
        let arguments = ["plan".as_ref(), "--node".as_ref(), "ds1".as_ref()];
        let config = ["--config".as_ref(), path.as_os_str()];
        host.output("director", arguments.into_iter().chain(config), PATIENCE)
    };
    // One that runs and doesn't listen isn't worked around.
    active.run("rm /run/lvs-director/control.sock")?;
    let said = plan(active, &yaml)?;
    ensure!(said.code() == Some(1) && said.stdout.is_empty(), "{said:?}");
    ensure!(said.stderr.contains("is at work"), "{said:?}");

    active.kill_processes();
    wait_until("the director has ended", PATIENCE, || {
        active.processes().is_empty()
    })?;
    let before = addresses(active)?;
    ensure!(
        before.contains("192.168.56.185/24"),
        "it left nothing: {before}"
    );
    let fewer = edited(&yaml, ", 192.168.56.186/24", "");
    let said = plan(active, &fewer)?;
    println!("{}{}", said.stdout, said.stderr);
    ensure!(said.code() == Some(2), "{said:?}");
    ensure!(
        lines(&said)
            == ["address 192.168.56.186/24 on eth2: remove, left behind by a director that died"],
        "{said:?}"
    );
    ensure!(said.stderr.contains("no director runs here"), "{said:?}");
    ensure!(
        said.stderr.contains("192.168.56.185/24 is on eth2"),
        "{said:?}"
    );
    ensure!(addresses(active)? == before, "a plan changes nothing");
    let said = command(active, &["reload"])?;
    ensure!(said.code() == Some(1), "{said:?}");
    Ok(())
}

fn lines(output: &Output) -> Vec<&str> {
    output.stdout.lines().collect()
}

fn addresses(host: &Host) -> Result<String> {
    host.run("ip -oneline -4 address show")
}

fn command(host: &Host, arguments: &[&str]) -> Result<Output> {
    host.output("director", arguments, PATIENCE)
}
