//! VIPs with an Ethernet address of their own (RFC 9568, section 7.3).

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::duo::{Duo, TOLERANCE, active_down_interval, file};
use super::pair::within;
use super::{PAUSE, PING_INTERVAL};
use crate::capture::{Capture, Frame};
use crate::cases::neighbour::{arp_request, neighbour, replies};
use crate::inject;
use crate::lab::{Host, Lab, Mac, wait_until};
use crate::ping;
use crate::scenario::PATIENCE;
use crate::topology::{DnsPair, VIP};

/// `00-00-5E-00-01-{VRID}`.
const VIRTUAL_MAC: Mac = [0, 0, 0x5e, 0, 1, 50];
const MACVLAN: &str = "vrrp.50";
const ADDRESSES: &str = "addresses: [192.168.56.185/24]";

pub(super) fn clients_keep_their_entry(lab: &mut Lab) -> Result<()> {
    let lan = DnsPair::with_service_lan_only(lab)?;
    let hosts = [lan.ds1, lan.ds2];
    // What stricter administrators have.
    hosts[0].set_sysctl("net.ipv4.conf.all.rp_filter", "1")?;
    let before = [Machine::of(&hosts[0])?, Machine::of(&hosts[1])?];
    let yaml = file(&[ADDRESSES, "virtual_mac: true"]);
    let mut duo = Duo::start_on(lan.client, hosts, &yaml)?;
    let capture = Capture::start(&duo.client)?;
    asked_is_answered(&duo, &capture)?;
    has_entry(&duo)?;

    let load = ping::start(&duo.client, VIP, PING_INTERVAL);
    sleep(PAUSE);
    ensure!(duo.directors[0].terminate(PATIENCE)?.success(), "SIGTERM");
    asked_is_answered(&duo, &capture)?;
    has_entry(&duo)?;
    let after = Machine::of(&duo.hosts[0])?;
    ensure!(
        after == before[0],
        "left behind: {}",
        before[0].changes(&after)
    );
    duo.restart(0)?;
    duo.wait_for_active(0)?;
    sleep(PAUSE);
    for frame in capture.frames(|frame| frame.bytes.get(6..12) == Some(&VIRTUAL_MAC[..])) {
        let answer = frame.arp().is_some_and(|arp| arp.sender == VIP);
        ensure!(frame.advert().is_some() || answer, "{frame:02x?}");
    }
    let report = load.stop();
    println!("measured: a handover and a preemption: {report}");
    ensure!(report.lost() == 0, "{report}");

    let load = ping::start(&duo.client, VIP, PING_INTERVAL);
    sleep(PAUSE);
    duo.cut_off(0)?;
    wait_until("ds2 holds the VIP", PATIENCE, || duo.hosts[1].holds(VIP))?;
    asked_is_answered(&duo, &capture)?;
    has_entry(&duo)?;
    let gap = load.stop().longest_gap();
    within("gap of a crash", gap, active_down_interval() + TOLERANCE)?;
    ensure!(duo.directors[1].terminate(PATIENCE)?.success(), "SIGTERM");
    let after = Machine::of(&duo.hosts[1])?;
    ensure!(
        after == before[1],
        "left behind: {}",
        before[1].changes(&after)
    );

    // A Backup that said anything from there would have switches send it the Active's packets.
    for frame in capture.frames(|frame| frame.bytes.get(6..12) == Some(&VIRTUAL_MAC[..])) {
        let answer = frame.arp().is_some_and(|arp| arp.sender == VIP);
        ensure!(frame.advert().is_some() || answer, "{frame:02x?}");
    }
    let adverts = capture.frames(|frame| frame.advert().is_some());
    let announcements = capture.frames(announces_vip);
    ensure!(!adverts.is_empty() && !announcements.is_empty(), "nothing");
    for frame in adverts.iter().chain(&announcements) {
        let source = frame.bytes.get(6..12);
        ensure!(source == Some(&VIRTUAL_MAC[..]), "{frame:02x?}");
    }
    for (_, arp) in capture.arps() {
        ensure!(
            arp.sender != VIP || (arp.source, arp.sender_mac) == (VIRTUAL_MAC, VIRTUAL_MAC),
            "the VIP with another address: {arp:02x?}"
        );
        ensure!(
            arp.sender == VIP || arp.sender_mac != VIRTUAL_MAC,
            "another address with the VIP's: {arp:02x?}"
        );
    }
    Ok(())
}

/// A director that was killed whole leaves its macvlan and settings to its successor, which may want
/// none of them.
pub(super) fn a_successor_clears_up(lab: &mut Lab) -> Result<()> {
    let lan = DnsPair::with_service_lan_only(lab)?;
    let hosts = [lan.ds1, lan.ds2];
    let before = Machine::of(&hosts[0])?;
    // Of the same kind, and not ours.
    hosts[0].run(
        "ip link add link eth2 name foreign address 00:00:5e:00:01:33 type macvlan mode private",
    )?;
    let with_foreign = Machine::of(&hosts[0])?;
    let mut duo = Duo::start_on(lan.client, hosts, &file(&[ADDRESSES, "virtual_mac: true"]))?;
    duo.hosts[0].kill_processes();
    duo.directors[0].wait(PATIENCE)?;
    let left = Machine::of(&duo.hosts[0])?;
    ensure!(left.links.contains(MACVLAN), "nothing to clear up");
    // It adopts what it finds.
    duo.restart(0)?;
    duo.wait_for_active(0)?;
    ensure!(ping::answers(&duo.client, VIP, PATIENCE), "no answer");
    duo.hosts[0].kill_processes();
    duo.directors[0].wait(PATIENCE)?;
    let plain = file(&[ADDRESSES]);
    let mut successor = Duo::start_on(duo.client.clone(), duo.hosts.clone(), &plain)?;
    let now = Machine::of(&successor.hosts[0])?;
    ensure!(!now.links.contains(MACVLAN), "the macvlan stays");
    ensure!(now.links.contains("foreign"), "not its own");
    ensure!(
        successor.directors[0].terminate(PATIENCE)?.success(),
        "SIGTERM"
    );
    let after = Machine::of(&successor.hosts[0])?;
    ensure!(after == with_foreign, "{}", with_foreign.changes(&after));
    successor.hosts[0].run("ip link delete foreign")?;
    let after = Machine::of(&successor.hosts[0])?;
    ensure!(after == before, "{}", before.changes(&after));
    Ok(())
}

fn announces_vip(frame: &Frame) -> bool {
    frame
        .announcement()
        .is_some_and(|(address, _)| address == VIP)
}

/// Each question about the VIP is answered once, and about the directors' own addresses too.
fn asked_is_answered(duo: &Duo, capture: &Capture) -> Result<()> {
    const QUESTIONS: usize = 3;
    let client = duo.client.mac("eth2");
    let before = replies(capture, "eth2", VIP);
    for _ in 0..QUESTIONS {
        let question = arp_request(client, "192.168.56.10".parse()?, VIP);
        inject::frame(&duo.client, "eth2", question)?;
        sleep(Duration::from_millis(20));
    }
    sleep(PAUSE);
    // The client asks by itself now and then.
    let answers = replies(capture, "eth2", VIP) - before;
    ensure!(answers >= QUESTIONS, "{answers} answers");
    Ok(())
}

fn has_entry(duo: &Duo) -> Result<()> {
    ensure!(ping::answers(&duo.client, VIP, PATIENCE), "no answer");
    let found = neighbour(&duo.client, VIP);
    ensure!(found == Some(VIRTUAL_MAC), "{found:02x?}");
    Ok(())
}

/// What must be as it was.
#[derive(Debug, PartialEq, Eq)]
struct Machine {
    links: String,
    sysctls: BTreeMap<String, String>,
}

impl Machine {
    fn of(host: &Host) -> Result<Self> {
        // Without what a link counts by itself, and the state of its carrier.
        let links = host.run("ip -br link")?;
        let names = links
            .lines()
            .filter_map(|line| line.split_whitespace().next());
        Ok(Self {
            links: names.collect::<Vec<_>>().join(" "),
            sysctls: host.interface_sysctls(),
        })
    }

    fn changes(&self, other: &Self) -> String {
        let changed = |(name, value): (&String, &String)| {
            let before = self.sysctls.get(name);
            (before != Some(value)).then(|| format!("{name}: {before:?}, then {value}"))
        };
        let sysctls: Vec<String> = other.sysctls.iter().filter_map(changed).collect();
        format!("{}, then {}; {sysctls:#?}", self.links, other.links)
    }
}
