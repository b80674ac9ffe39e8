//! What else decides over a director: interfaces, scripts, files and services.

use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::duo::{Duo, entry, instance, wait_for};
use super::pair::within;
use crate::lab::{Host, Lab};
use crate::responder::Responder;
use crate::topology::{ANSWERS, DnsPair};

/// Six virtual routers beside each other, so that nobody waits for anybody: what each tracks.
const TRACKED: [(&str, u8, &str, &str); 6] = [
    ("interface", 50, "192.168.56.185", "interfaces: [eth1]"),
    (
        "weighted",
        51,
        "192.168.56.186",
        "interfaces: [{ name: eth1, weight: -100 }]",
    ),
    (
        "script",
        52,
        "192.168.56.187",
        "scripts: [{ name: check, command: [/bin/sh, /run/lab/check], interval: 200ms, \
         timeout: 200ms, fall: 2, rise: 2 }]",
    ),
    (
        "file",
        53,
        "192.168.56.188",
        "files: [{ path: /run/lab/bias, weight: 2 }]",
    ),
    ("service", 54, "192.168.56.189", "services: [resolver]"),
    (
        "burdened",
        55,
        "192.168.56.190",
        "services: [{ name: resolver, weight: -60 }]",
    ),
];

/// The service is nobody's among them, so that only tracking it matters.
const SERVICE: &str = "dataplane: none
services:
  - name: resolver
    address: 192.168.56.199
    external: true
    port: 53
    protocols: [udp]
    check: { dns: { name: www.abc.local }, interval: 200ms, timeout: 100ms }
    real_servers: [{ address: 192.168.56.183 }]
";

const REAL_SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 56, 183);

/// Ends well unless a file says otherwise, and hangs if it says so.
const CHECK: &str =
    "test ! -e /run/lab/bad || exit 1\ntest ! -e /run/lab/slow || exec sleep 86398\n";

/// Until what has happened is noticed: files four times a second, scripts and probes twice 200 ms
/// and a time-out; then three adverts until the other one takes over, and a busy machine.
const NOTICED: Duration = Duration::from_millis(2000);

pub(super) fn each_kind_moves_the_vip_and_gives_it_back(lab: &mut Lab) -> Result<()> {
    let lan = DnsPair::new(lab)?;
    let real_server = || Responder::start(&lan.rs1, REAL_SERVER, ANSWERS[0]);
    let responder = real_server()?;
    let hosts = [lan.ds1, lan.ds2];
    for host in &hosts {
        host.write_file("check", CHECK)?;
    }
    let mut yaml = String::from("vrrp:\n");
    for (name, id, address, track) in TRACKED {
        let lines = [
            format!("addresses: [{address}/24]"),
            format!("track: {{ {track} }}"),
        ];
        yaml.push_str(&entry(name, id, &lines.each_ref().map(String::as_str)));
    }
    yaml.push_str(SERVICE);
    let duo = Duo::start_on(lan.client, hosts, &yaml)?;
    let [first, _] = &duo.hosts;

    first.link_down("eth1")?;
    moved(&duo, "interface", |one| {
        one["state"] == "fault" && one["priority"]["effective"] == 200
    })?;
    moved(&duo, "weighted", |one| {
        one["state"] == "backup" && one["priority"]["effective"] == 100
    })?;
    let said = first.output("director", ["status"], NOTICED)?;
    ensure!(
        said.code() == Some(2) && said.stdout.contains("eth1"),
        "{said:?}"
    );
    first.link_up("eth1")?;
    came_back(&duo, "interface")?;
    came_back(&duo, "weighted")?;

    for file in ["bad", "slow"] {
        first.write_file(file, "")?;
        moved(&duo, "script", |one| one["state"] == "fault")?;
        remove(first, file)?;
        came_back(&duo, "script")?;
    }

    // Twice that is added: too little, enough, and a fault.
    first.write_file("bias", "-10\n")?;
    wait_for("20 less", first, "file", |one| {
        one["priority"]["effective"] == 180
    })?;
    ensure!(instance(first, "file")?["state"] == "active", "it moved");
    first.write_file("bias", "-30\n")?;
    moved(&duo, "file", |one| {
        one["state"] == "backup" && one["priority"]["effective"] == 140
    })?;
    first.write_file("bias", "-127\n")?;
    moved(&duo, "file", |one| one["state"] == "fault")?;
    remove(first, "bias")?;
    came_back(&duo, "file")?;

    // Both see the real server die. Who tracks it without a weight is in fault on both machines; with
    // one, the better one stays the better one.
    drop(responder);
    wait_for("ds1 gives it up", first, "service", |one| {
        one["state"] == "fault" && one["faults"][0].as_str().is_some_and(|why| !why.is_empty())
    })?;
    wait_for("ds2 too", &duo.hosts[1], "service", |one| {
        one["state"] == "fault"
    })?;
    ensure!(!first.holds(address_of("service")?), "it still holds it");
    wait_for("60 less", first, "burdened", |one| {
        one["state"] == "active" && one["priority"]["effective"] == 140
    })?;
    let _responder = real_server()?;
    came_back(&duo, "service")?;
    wait_for("its priority again", first, "burdened", |one| {
        one["priority"]["effective"] == 200
    })?;

    // One that loses its way to the real server alone loses the VIP.
    first.run("ip route add blackhole 192.168.56.183/32")?;
    moved(&duo, "service", |one| one["state"] == "fault")?;
    moved(&duo, "burdened", |one| one["state"] == "backup")?;
    first.run("ip route del blackhole 192.168.56.183/32")?;
    came_back(&duo, "service")?;
    came_back(&duo, "burdened")?;
    Ok(())
}

/// ds1 is `there`, without the VIP, and ds2 has it.
fn moved(duo: &Duo, name: &str, there: impl Fn(&Value) -> bool) -> Result<()> {
    let [first, second] = &duo.hosts;
    let took = wait_for("ds1 gives it up", first, name, there)?;
    let taken = wait_for("ds2 is Active", second, name, |one| {
        one["state"] == "active"
    })?;
    let address = address_of(name)?;
    ensure!(
        !first.holds(address) && second.holds(address),
        "{name}: who has {address}?"
    );
    within(&format!("{name} moves"), took + taken, NOTICED)
}

fn came_back(duo: &Duo, name: &str) -> Result<()> {
    let [first, second] = &duo.hosts;
    let took = wait_for("ds1 has it again", first, name, |one| {
        one["state"] == "active" && one["priority"]["effective"] == 200
    })?;
    wait_for("ds2 gives it up", second, name, |one| {
        one["state"] == "backup"
    })?;
    within(&format!("{name} comes back"), took, NOTICED)
}

fn address_of(name: &str) -> Result<Ipv4Addr> {
    let mut all = TRACKED.iter();
    let found = all.find(|(of, ..)| *of == name);
    Ok(found.context("not in the table")?.2.parse()?)
}

fn remove(host: &Host, file: &str) -> Result<()> {
    let path = format!("/run/lab/{file}");
    host.within(move || fs::remove_file(path))?;
    Ok(())
}
