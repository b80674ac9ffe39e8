//! The Debian packages: installed, run under systemd, upgraded and removed as an operator does.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::case::Case;
use crate::lab::{Host, Lab, wait_until};
use crate::machine::Machine;
use crate::topology::{DnsPair, VIP};
use crate::{binaries, figures, ping};

/// The cases of this theme.
pub(super) const CASES: &[Case] = &[
    Case::new(
        "package::a_clean_debian_takes_them_and_gives_them_up",
        a_clean_debian_takes_them_and_gives_them_up,
    )
    .needing_packages()
    .within(Duration::from_secs(240)),
    Case::new(
        "package::services_run_as_users_of_their_own_through_a_failover",
        services_run_as_users_of_their_own_through_a_failover,
    )
    .needing_packages()
    .within(Duration::from_secs(240)),
    Case::new("package::lintian_finds_no_error", lintian_finds_no_error)
        .needing_packages()
        .within(Duration::from_secs(180)),
    Case::new("package::rpms_hold_the_same", rpms_hold_the_same).needing_packages(),
];

const PATIENCE: Duration = Duration::from_secs(20);

/// `CAP_NET_ADMIN` and `CAP_NET_RAW`, as the kernel numbers them (`linux/capability.h`).
const CAPABILITIES: u64 = 1 << 12 | 1 << 13;

/// The promised exposure of both units.
const EXPOSURE: f64 = 2.5;

/// Everything that a package could leave behind, but what dpkg, systemd and passwd write for themselves.
const FILES: &str = r"find / -xdev \( -path /proc -o -path /sys -o -path /run -o -path /tmp -o -path /root \
    -o -path /var/tmp -o -path /var/lib/dpkg -o -path /var/log -o -path /var/cache -o -path /var/lib/systemd \) -prune \
    -o -print | grep -v -e '^/etc/\(passwd\|group\|shadow\|gshadow\|subuid\|subgid\)-$' -e '^/etc/\.pwd\.lock$'; \
    find /run -path '/run/lvs*' -o -path '/run/rs-agent*'; cut -d: -f1 /etc/passwd /etc/group";

fn a_clean_debian_takes_them_and_gives_them_up(lab: &mut Lab) -> Result<()> {
    let host = lab.add_host("debian")?;
    let machine = Machine::boot(&host)?;
    let before = lines(&machine.run(FILES)?);

    machine.run("dpkg --install /root/lvs-*.deb")?;
    for unit in ["director", "rs-agent"] {
        let verdict = machine.output(&format!(
            "systemd-analyze verify --man=no /usr/lib/systemd/system/{unit}.service"
        ))?;
        let words = format!("{}{}", verdict.stdout, verdict.stderr);
        ensure!(verdict.success() && words.is_empty(), "{unit}: {words}");
        judge_exposure(&machine, unit)?;
        // There is nothing to run yet, and that is no failure.
        let state = machine.output(&format!(
            "systemctl is-enabled {unit}; systemctl is-active {unit}"
        ))?;
        ensure!(
            state.stdout == "enabled\ninactive\n",
            "{unit}: {}",
            state.stdout
        );
    }
    machine.run("cd /usr/share/doc/lvs-director/examples && for file in *.yaml; do director check $file || exit; done")?;
    for file in [
        "/usr/share/man/man8/director.8.gz",
        "/usr/share/man/man8/rs-agent-stop.8.gz",
        "/usr/share/bash-completion/completions/rs-agent",
        "/usr/share/lvs-director/director.json",
        "/usr/share/lvs-rs-agent/rs-agent.json",
        "/etc/modprobe.d/lvs-director.conf",
        "/usr/lib/modules-load.d/lvs-director.conf",
    ] {
        machine.run(&format!("test -s {file}"))?;
    }
    let failed = machine.run("systemctl --failed --plain --no-legend")?;
    ensure!(failed.is_empty(), "{failed}");

    serve_as_a_real_server(&machine)?;

    die_and_shut_down(&machine)?;

    // What stays of the operator's is nobody else's who gets the group's number.
    let file = "/etc/lvs-director/director.yaml";
    machine.run(&format!(
        "install -D --group=lvs-director --mode=640 /dev/null {file}"
    ))?;
    machine.run("rm /etc/rs-agent.yaml; dpkg --purge lvs-director lvs-rs-agent")?;
    ensure!(!host.holds(VIP), "the VIP stayed");
    let owner = machine.run(&format!("stat --format=%U:%G {file}"))?;
    ensure!(owner.trim() == "root:root", "{file} is {owner}");
    machine.run("rm -r /etc/lvs-director")?;
    let after = lines(&machine.run(FILES)?);
    let left: Vec<_> = after.difference(&before).collect();
    let missing: Vec<_> = before.difference(&after).collect();
    ensure!(
        left.is_empty() && missing.is_empty(),
        "left behind: {left:?}, gone: {missing:?}"
    );
    Ok(())
}

/// The agent holds the VIP as a user of its own, and root's commands and the service get on with each other.
fn serve_as_a_real_server(machine: &Machine) -> Result<()> {
    let host = machine.host();
    let found = host.sysctl("net.ipv4.conf.all.arp_ignore")?;
    machine.write("/etc/rs-agent.yaml", &format!("vips: [{VIP}]\n"))?;
    machine.run("systemctl start rs-agent")?;
    runs_as(machine, "rs-agent", "lvs-rs-agent")?;
    let is_set = || {
        let ignores = host.sysctl("net.ipv4.conf.all.arp_ignore");
        host.holds(VIP) && ignores.is_ok_and(|value| value == "1")
    };
    ensure!(
        is_set(),
        "the service runs, and the machine is no real server"
    );
    machine.run("systemctl reload rs-agent && rs-agent status; rs-agent stop")?;
    ensure!(!host.holds(VIP), "stopped by root's hand, the VIP stayed");
    machine.run("systemctl stop rs-agent")?;
    // What root leaves in the records is the service's afterwards.
    machine.run("rs-agent start")?;
    ensure!(is_set(), "`rs-agent start` set nothing");
    machine.run("systemctl start rs-agent")?;
    machine.run("systemctl stop rs-agent")?;
    ensure!(!host.holds(VIP), "the service left, and the VIP stayed");
    let restored = host.sysctl("net.ipv4.conf.all.arp_ignore")?;
    ensure!(
        restored == found,
        "arp_ignore was {found} and is {restored}"
    );
    machine.run("systemctl start rs-agent").map(drop)
}

/// A death leaves the VIP where it is, and a shutdown takes it away before the DNS server stops.
fn die_and_shut_down(machine: &Machine) -> Result<()> {
    let host = machine.host();
    let monitor = host.spawn("ip", ["-o", "monitor", "address"])?;
    let first = process(machine, "rs-agent")?;
    machine.run(&format!("kill -9 {first}"))?;
    wait_for_another(machine, "rs-agent", &first)?;
    ensure!(monitor.log().is_empty(), "changed: {}", monitor.log());
    ensure!(host.holds(VIP), "the VIP went with the service");

    machine.write(
        "/etc/systemd/system/named.service",
        &format!(
            "[Service]\nExecStart=sleep infinity\n\
             ExecStop=-/bin/sh -c 'cat /proc/net/fib_trie >/root/at-the-end'\n\
             ExecStop=-/bin/sh -c 'grep -q {VIP} /root/at-the-end && touch /root/too-early'\n"
        ),
    )?;
    // What stops all in one transaction, as a shutdown does.
    machine.write(
        "/etc/systemd/system/end.target",
        "[Unit]\nConflicts=named.service rs-agent.service rs-agent-drain.service\n\
         After=named.service rs-agent.service rs-agent-drain.service\n",
    )?;
    machine
        .run("systemctl daemon-reload && systemctl start named && systemctl start end.target")?;
    machine.run("test -s /root/at-the-end")?;
    let states = machine.output("systemctl is-active named rs-agent rs-agent-drain")?;
    ensure!(
        states.stdout == "inactive\ninactive\ninactive\n",
        "{}",
        states.stdout
    );
    let early = machine.output("test -e /root/too-early")?.success();
    let held = host.holds(VIP);
    ensure!(
        !early && !held,
        "the DNS server stopped before the VIP went: {early}, the VIP stayed: {held}:\n{}{}",
        machine.journal("rs-agent-drain")?,
        machine.journal("rs-agent")?
    );
    machine.run("rm /etc/systemd/system/named.service /etc/systemd/system/end.target && systemctl daemon-reload && \
                 systemctl start rs-agent")?;
    machine.run("systemctl kill --signal=KILL rs-agent && systemctl stop rs-agent")?;
    ensure!(host.holds(VIP), "the VIP went with the service");
    Ok(())
}

/// What `systemd-analyze security` says of a unit, and that the unit explains each point that is left.
fn judge_exposure(machine: &Machine, unit: &str) -> Result<()> {
    let file = format!("/usr/lib/systemd/system/{unit}.service");
    let text = machine.run(&format!("cat {file}"))?;
    let (_, explained) = text
        .split_once("still counts, and why it stays:")
        .context("nothing is explained")?;
    let verdict = machine.run(&format!(
        "systemd-analyze security --offline=true --no-pager {file}"
    ))?;
    let mut points = 0;
    // The mark of a terminal that has no crosses.
    for line in verdict.lines().filter(|line| line.starts_with("- ")) {
        let name = line.split_whitespace().nth(1).context(line.to_owned())?;
        // One for each family, each capability and each group of system calls.
        let option = name.split_once('=').map_or(name, |(option, _)| option);
        for option in option.split('/').take(1) {
            ensure!(
                explained.contains(&format!("{option}=")),
                "{unit} doesn't explain {name}"
            );
        }
        points += 1;
    }
    ensure!(points > 5, "{verdict}");
    let exposure: f64 = verdict
        .split_once("Overall exposure level for ")
        .and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok())
        .context(verdict.clone())?;
    println!("systemd-analyze security: {unit} {exposure}, {points} points left");
    ensure!(exposure <= EXPOSURE, "{verdict}");
    Ok(())
}

fn services_run_as_users_of_their_own_through_a_failover(lab: &mut Lab) -> Result<()> {
    let pair = DnsPair::with_service_lan_only(lab)?;
    let machines = [Machine::boot(&pair.ds1)?, Machine::boot(&pair.ds2)?];
    for machine in &machines {
        machine.run("dpkg --install /root/lvs-director_*.deb")?;
        machine.write("/etc/lvs-director/director.yaml", DIRECTOR)?;
        machine.write("/etc/systemd/system/director.service.d/test.conf", HASTE)?;
        machine.run("systemctl daemon-reload && systemctl start director")?;
        runs_as(machine, "director", "lvs-director")?;
    }
    let [first, second] = &machines;
    holds(&pair.ds1, "the first director's turn")?;

    let load = ping::start(&pair.client, VIP, Duration::from_millis(10));
    // A planned leave: the peer has answered before this one stops.
    for command in [
        "systemctl restart director",
        "dpkg --install /root/lvs-director_*.deb",
    ] {
        let begun = Instant::now();
        first.run(command)?;
        runs_as(first, "director", "lvs-director")?;
        holds(&pair.ds1, command)?;
        let report = load.report().since(begun);
        println!("{command}: {report}");
        figures::at_most(&format!("lost in `{command}`"), report.lost(), 0)?;
    }

    // A death: the unit's own supervisor says so, and systemd starts it again.
    let begun = Instant::now();
    first.run("kill -9 $(cat /proc/$(systemctl show -P MainPID director)/task/*/children)")?;
    wait_until("the peer's turn", PATIENCE, || pair.ds2.holds(VIP))?;
    holds(&pair.ds1, "the first director's return")?;
    let report = load.report().since(begun);
    println!("kill -9 of the worker: {report}");
    // Skew time, and a busy machine.
    figures::within(
        "gap after a death",
        report.longest_gap(),
        Duration::from_millis(500),
    )?;

    // A worker that hangs doesn't feed the watchdog, whatever else of it could.
    let main = process(first, "director")?;
    let begun = Instant::now();
    first.run("kill -STOP $(cat /proc/$(systemctl show -P MainPID director)/task/*/children)")?;
    wait_for_another(first, "director", &main)?;
    println!(
        "a worker that hangs is replaced after {:.1} s",
        begun.elapsed().as_secs_f64()
    );
    runs_as(first, "director", "lvs-director")?;
    holds(&pair.ds1, "the first director's return from the watchdog")?;
    wait_until("one holder", PATIENCE, || !pair.ds2.holds(VIP))?;
    drop(load);

    for missing in ["CAP_NET_ADMIN", "CAP_NET_RAW"] {
        names_what_is_missing(second, missing)?;
    }
    Ok(())
}

/// Without one of its capabilities the service doesn't come up, and says which one it is.
fn names_what_is_missing(machine: &Machine, missing: &str) -> Result<()> {
    let kept = if missing == "CAP_NET_RAW" {
        "CAP_NET_ADMIN"
    } else {
        "CAP_NET_RAW"
    };
    let drop_in = format!(
        "[Service]\nAmbientCapabilities=\nAmbientCapabilities={kept}\nCapabilityBoundingSet=\n\
         CapabilityBoundingSet={kept}\nRestart=no\n"
    );
    machine.write(
        "/etc/systemd/system/director.service.d/without.conf",
        &drop_in,
    )?;
    let started = machine
        .output("systemctl stop director; systemctl daemon-reload; systemctl start director")?;
    ensure!(!started.success(), "it runs without {missing}");
    let words = machine.journal("director")?;
    ensure!(words.contains(missing), "nothing names {missing}:\n{words}");
    Ok(())
}

/// The number of a service's process.
fn process(machine: &Machine, unit: &str) -> Result<String> {
    machine.run(&format!("systemctl show -P MainPID {unit}"))
}

/// Waits until a service runs again in another process than `before`.
fn wait_for_another(machine: &Machine, unit: &str, before: &str) -> Result<()> {
    wait_until(&format!("the next {unit}"), PATIENCE, || {
        // For a moment after a death it's active without a process.
        machine.run(&format!("systemctl is-active {unit}")).is_ok()
            && process(machine, unit).is_ok_and(|now| now != before && now.trim() != "0")
    })?;
    Ok(())
}

/// A service's process: its user, its capabilities, and the marks of its unit's restrictions.
fn runs_as(machine: &Machine, unit: &str, user: &str) -> Result<()> {
    let wanted = machine.run(&format!("id --user {user}"))?;
    let status = machine.run(&format!(
        "cat /proc/$(systemctl show -P MainPID {unit})/status"
    ))?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.map(str::trim)
            .with_context(|| format!("{unit} has no {name} in {status}"))
    };
    let users: BTreeSet<&str> = field("Uid:")?.split_whitespace().collect();
    ensure!(
        users == BTreeSet::from([wanted.trim()]),
        "{unit} runs as {users:?}"
    );
    for set in ["CapEff:", "CapPrm:", "CapBnd:", "CapAmb:"] {
        let found = u64::from_str_radix(field(set)?, 16)?;
        ensure!(found == CAPABILITIES, "{unit} has {set} {found:x}");
    }
    ensure!(
        field("NoNewPrivs:")? == "1" && field("Seccomp:")? == "2",
        "{status}"
    );
    Ok(())
}

fn holds(host: &Host, what: &str) -> Result<()> {
    wait_until(what, PATIENCE, || host.holds(VIP)).map(drop)
}

fn lintian_finds_no_error(lab: &mut Lab) -> Result<()> {
    let host = lab.add_host("builder")?;
    let folder = binaries::target_directory()?.join("package");
    let command = format!("lintian --fail-on error {}/*.deb", folder.display());
    let verdict = host.output("sh", ["-c", &command], Duration::from_secs(170))?;
    println!("{}", verdict.stdout);
    ensure!(verdict.success(), "{}{}", verdict.stdout, verdict.stderr);
    Ok(())
}

/// For the same programs a machine with rpm gets the same files, but where its shells look elsewhere.
fn rpms_hold_the_same(lab: &mut Lab) -> Result<()> {
    let host = lab.add_host("builder")?;
    let folder = binaries::target_directory()?.join("package");
    let list = |command: &str| -> Result<BTreeSet<String>> {
        let command = format!("cd {} && {command}", folder.display());
        let output = host.output("sh", ["-c", &command], Duration::from_secs(60))?;
        ensure!(output.success(), "{command}: {}", output.stderr);
        let paths = output
            .stdout
            .lines()
            .map(|line| line.replace("vendor-completions", "site-functions"));
        Ok(paths
            .filter(|path| !path.ends_with('/') && !path.contains("/doc/"))
            .collect())
    };
    for package in ["lvs-director", "lvs-rs-agent"] {
        let debian = list(&format!(
            "dpkg-deb --fsys-tarfile {package}_*.deb | tar --list | sed 's/^.//'"
        ))?;
        let rpm = list(&format!("rpm --query --list --package {package}-*.rpm"))?;
        ensure!(
            debian.len() > 5 && debian == rpm,
            "{package}: {debian:?} and {rpm:?}"
        );
        let scripts = list(&format!("rpm --query --scripts --package {package}-*.rpm"))?;
        ensure!(
            scripts.iter().any(|line| line.contains("systemd-sysusers")),
            "{package} makes no user: {scripts:?}"
        );
    }
    Ok(())
}

fn lines(text: &str) -> BTreeSet<String> {
    text.lines().map(str::to_owned).collect()
}

/// Virtual routers alone: the kernel here may have no IPVS.
const DIRECTOR: &str = "vrrp:
  - name: dns
    interface: eth2
    virtual_router_id: 50
    priority: { ds1: 200, ds2: 150 }
    advert_interval: 100ms
    addresses: [192.168.56.185/24]
";

/// The unit's ten seconds are long for a test.
const HASTE: &str = "[Service]\nWatchdogSec=2\n";
