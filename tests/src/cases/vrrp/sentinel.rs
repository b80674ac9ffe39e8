//! Who else claims a VIP: real servers that answer for it, and other directors that may.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::duo::{Duo, ask, file};
use crate::cases::metrics::Scrape;
use crate::cases::neighbour::arp_request;
use crate::inject;
use crate::lab::{Host, Lab, wait_until};
use crate::peer::INTERFACE;
use crate::scenario::PATIENCE;
use crate::topology::{DnsPair, VIP, hold_vip_silently};

/// From the mistake to the line in the status.
const NAMED_WITHIN: Duration = Duration::from_secs(5);
/// A healthy LAN is asked twice in that time, and answers are judged.
const HEALTHY_FOR: Duration = Duration::from_secs(5);
/// Who leaves has gone by then, whoever comes is settled and has asked at least twice.
const AFTER_CHANGE: Duration = Duration::from_secs(4);
const ADDRESSES: &str = "addresses: [192.168.56.185/24]";
const FURTHER: &str = "further_addresses: [\"2001:db8:56::185/64\"]";
const VIP_IPV6: &str = "2001:db8:56::185";
const SERVICE: &str = "
dataplane: none
services:
  - { name: resolver, address: 192.168.56.185, port: 53, protocols: [udp], check: none, real_servers: [{ address: 192.168.56.183 }, { address: 192.168.56.184 }] }
";

pub(super) fn a_real_server_that_answers_is_named(lab: &mut Lab) -> Result<()> {
    let hosts = DnsPair::with_service_lan_only(lab)?;
    let (rs1, rs2) = (&hosts.rs1, &hosts.rs2);
    for server in [rs1, rs2] {
        hold_vip_silently(server, VIP)?;
    }
    let directors = [hosts.ds1.clone(), hosts.ds2.clone()];
    let yaml = file(&[ADDRESSES, FURTHER]) + SERVICE;
    let duo = Duo::start_on(hosts.client.clone(), directors, &yaml)?;
    let [active, backup] = &duo.hosts;
    sleep(HEALTHY_FOR);
    for director in &duo.hosts {
        let found = conflicts(director)?;
        ensure!(found.is_empty(), "on a healthy LAN: {found:#?}");
        let claims = Scrape::of(director)?.family("director_vip_claims_total");
        ensure!(claims.len() == 3, "{claims:?}");
        ensure!(claims.values().all(|count| *count == 0), "{claims:?}");
    }

    let start = Instant::now();
    for interface in ["all", INTERFACE] {
        rs1.set_sysctl(&format!("net.ipv4.conf.{interface}.arp_ignore"), "0")?;
    }
    let named = |host: &Host, vip: &str, server: &str| {
        conflicts(host).is_ok_and(|found| {
            let is_it = |one: &Value| one["address"] == vip && one["claimants"][0] == server;
            found.iter().any(is_it)
        })
    };
    let first = "192.168.56.183";
    wait_until("rs1 is named", NAMED_WITHIN, || {
        named(active, "192.168.56.185", first)
    })
    .with_context(|| format!("{:#?}", conflicts(active)))?;
    let elapsed = start.elapsed();
    ensure!(elapsed <= NAMED_WITHIN, "named after {elapsed:?}");
    println!("measured: a real server with arp_ignore=0 is named after {elapsed:.3?}");
    let found = conflicts(active)?;
    ensure!(found.len() == 1, "{found:#?}");
    ensure!(
        found[0]["answers"] == true
            && found[0]["services"][0] == "resolver"
            && found[0]["hardware_address"] == mac(rs1),
        "{found:#?}"
    );
    let said = active.run("director status")?;
    ensure!(
        said.contains("real server 192.168.56.183 of resolver") && said.contains("rs-agent start"),
        "{said}"
    );
    let scrape = Scrape::of(active)?;
    let series = format!(
        "director_vip_claimant{{address=\"{VIP}\",claimant=\"{first}\",hardware_address=\"{}\",virtual_router=\"dns\"}}",
        mac(rs1)
    );
    ensure!(scrape.value(&series) == Some(1), "no {series}");
    ensure!(scrape.value("director_vip_claimants{virtual_router=\"dns\"}") == Some(1));
    let found = conflicts(backup)?;
    ensure!(found.is_empty(), "the Backup accuses: {found:#?}");

    // It is put right, and nothing is left of it.
    for interface in ["all", INTERFACE] {
        rs1.set_sysctl(&format!("net.ipv4.conf.{interface}.arp_ignore"), "1")?;
    }
    wait_until("rs1 is forgotten", PATIENCE, || {
        conflicts(active).is_ok_and(|found| found.is_empty())
    })?;
    ensure!(Scrape::of(active)?.value(&series).is_none(), "{series}");

    // A request from the VIP, as a server with arp_announce=0 sends it, and the VIP by IPv6 on the LAN's
    // own interface.
    let request = arp_request(rs2.mac(INTERFACE), VIP, "192.168.56.10".parse()?);
    inject::frame(rs2, INTERFACE, request)?;
    let second = "192.168.56.184";
    wait_until("rs2 is named", NAMED_WITHIN, || {
        named(active, "192.168.56.185", second)
    })?;
    ensure!(conflicts(active)?[0]["asks"] == true);
    rs1.run(&format!(
        "ip address add {VIP_IPV6}/64 dev {INTERFACE} nodad"
    ))?;
    wait_until("rs1 is named for IPv6", NAMED_WITHIN, || {
        named(active, VIP_IPV6, first)
    })
    .with_context(|| format!("{:#?}", conflicts(active)))?;
    Ok(())
}

pub(super) fn changes_of_roles_raise_no_alarm(lab: &mut Lab) -> Result<()> {
    // Adverts every 100 ms, and the pair's own Ethernet addresses; then every second, and virtual ones. A
    // stopped director is replaced, and wakes up before its successor has settled.
    let slow = [
        ADDRESSES,
        "version: 2",
        "advert_interval: 1s",
        "virtual_mac: true",
    ];
    let fast = [ADDRESSES, FURTHER];
    for (number, (lines, stopped)) in [(&fast[..], 800), (&slow, 5000)].into_iter().enumerate() {
        let (client, seats) = crate::topology::two_seats(lab, &format!("n{number}"))?;
        let mut duo = Duo::start_on(client, seats.map(|seat| seat.host), &file(lines))?;
        let alarms = Alarms::watch(&duo.hosts);
        // Handed over and taken back.
        duo.hosts[0].run("director handover --for 1s")?;
        duo.wait_for_active(1)?;
        sleep(AFTER_CHANGE);
        duo.wait_for_active(0)?;
        // Stopped in order and started again: preempted at once.
        duo.directors[0].terminate(PATIENCE)?;
        duo.restart(0)?;
        duo.wait_for_active(0)?;
        let worker = crate::scenario::worker(&duo.directors[0])?;
        stop_for(worker, Duration::from_millis(stopped))?;
        duo.wait_for_active(0)?;
        // The worker dies, and the supervisor takes the VIP away.
        kill(crate::scenario::worker(&duo.directors[0])?, Signal::SIGKILL)?;
        wait_until("ds2 is Active", PATIENCE, || duo.hosts[1].holds(VIP))?;
        sleep(AFTER_CHANGE);
        alarms.end()?;
        for mut director in duo.directors {
            director.kill_family();
        }
    }
    Ok(())
}

/// Looks again and again whether a director accuses anybody.
struct Alarms {
    stop: Arc<AtomicBool>,
    watchers: Vec<JoinHandle<Result<usize>>>,
}

impl Alarms {
    fn watch(hosts: &[Host]) -> Self {
        const PACE: Duration = Duration::from_millis(50);
        let stop = Arc::new(AtomicBool::new(false));
        let watchers = hosts.iter().map(|host| {
            let (host, stop) = (host.clone(), Arc::clone(&stop));
            std::thread::spawn(move || {
                let mut looks = 0;
                while !stop.load(Ordering::SeqCst) {
                    sleep(PACE);
                    // A director that isn't there accuses nobody.
                    let Ok(found) = conflicts(&host) else {
                        continue;
                    };
                    if !found.is_empty() {
                        bail!("{} accuses: {found:#?}", host.name());
                    }
                    looks += 1;
                }
                Ok(looks)
            })
        });
        Self {
            watchers: watchers.collect(),
            stop,
        }
    }

    fn end(self) -> Result<()> {
        self.stop.store(true, Ordering::SeqCst);
        for watcher in self.watchers {
            let looks = watcher
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            ensure!(looks > 30, "a watcher that has looked {looks} times");
        }
        Ok(())
    }
}

fn conflicts(host: &Host) -> Result<Vec<Value>> {
    let answer = ask(host, "{\"command\":\"status\"}\n")?;
    let found = answer["status"]["address_conflicts"].as_array();
    Ok(found.context("no address_conflicts")?.clone())
}

fn mac(host: &Host) -> String {
    let octets = host.mac(INTERFACE).map(|octet| format!("{octet:02x}"));
    octets.join(":")
}

fn stop_for(process: i32, time: Duration) -> Result<()> {
    kill(process, Signal::SIGSTOP)?;
    sleep(time);
    kill(process, Signal::SIGCONT)
}

fn kill(process: i32, signal: Signal) -> Result<()> {
    Ok(nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(process),
        signal,
    )?)
}
