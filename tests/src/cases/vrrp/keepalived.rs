//! A smoke test with Debian's keepalived as the peer: each takes over from the other.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::PAUSE;
use super::pair::{ADDRESSES, Settings, adverts_of, first_advert, within};
use crate::capture::Capture;
use crate::lab::{Host, Lab, Process, wait_until};
use crate::scenario::PATIENCE;
use crate::topology::{DnsPair, VIP, start_director};

const TOLERANCE: Duration = Duration::from_millis(50);

pub(super) fn speaks_version_2_with_password(lab: &mut Lab) -> Result<()> {
    take_turns(lab, &Settings::VERSION_2)
}

pub(super) fn speaks_version_3(lab: &mut Lab) -> Result<()> {
    take_turns(lab, &Settings::FAST)
}

/// keepalived on ds1 dies, we take over; it is Backup then, we leave, it takes over.
fn take_turns(lab: &mut Lab, settings: &Settings) -> Result<()> {
    let hosts = DnsPair::with_service_lan_only(lab)?;
    let capture = Capture::start(&hosts.client)?;
    let _keepalived = start(&hosts.ds1, settings, settings.priorities[0])?;
    wait_until("keepalived holds the VIP", PATIENCE, || {
        hosts.ds1.holds(VIP)
    })?;
    let mut ours = start_director(&hosts.ds2, &settings.yaml())?;
    // Longer than a Backup waits that hears nothing, or nothing that it understands.
    sleep(settings.active_down_interval(1) + PAUSE);
    ensure!(!hosts.ds2.holds(VIP), "we don't listen to keepalived");
    ensure!(
        adverts_of(&capture, ADDRESSES[1]).is_empty(),
        "we advertise"
    );

    hosts.ds1.link_down("eth2")?;
    hosts.ds1.kill_processes();
    let (last, _) = adverts_of(&capture, ADDRESSES[0])
        .pop()
        .context("no advert of keepalived")?;
    wait_until("we hold the VIP", PATIENCE, || hosts.ds2.holds(VIP))?;
    sleep(PAUSE);
    let first = first_advert(&capture, ADDRESSES[1], settings.priorities[1], last)?;
    let took = first.saturating_duration_since(last);
    let expected = settings.active_down_interval(1);
    within("takeover from keepalived", took, expected + TOLERANCE)?;
    ensure!(
        took + TOLERANCE >= expected,
        "{took:?}, {expected:?} is right"
    );

    // Back as a Backup.
    const LOW: u8 = 100;
    hosts
        .ds1
        .run(&format!("ip address flush dev eth2 to {VIP}/32"))?;
    hosts.ds1.link_up("eth2")?;
    let restarted = Instant::now();
    let _keepalived = start(&hosts.ds1, settings, LOW)?;
    sleep(settings.active_down_interval(0) + settings.interval + PAUSE);
    let theirs = adverts_of(&capture, ADDRESSES[0]).into_iter();
    ensure!(
        theirs.filter(|(at, _)| *at >= restarted).count() == 0,
        "keepalived doesn't listen to us"
    );
    ensure!(hosts.ds2.holds(VIP), "we have given up");
    let asked = Instant::now();
    ensure!(ours.terminate(PATIENCE)?.success(), "SIGTERM");
    wait_until("keepalived holds the VIP", PATIENCE, || {
        hosts.ds1.holds(VIP)
    })?;
    sleep(PAUSE);
    let resigned = first_advert(&capture, ADDRESSES[1], 0, asked)?;
    let taken = first_advert(&capture, ADDRESSES[0], LOW, resigned)?;
    let took = taken.saturating_duration_since(resigned);
    let skew = Settings {
        priorities: [LOW, LOW],
        ..settings.clone()
    }
    .skew_time(0);
    // Without priority 0 it would be three intervals more.
    within("keepalived after our priority 0", took, skew + TOLERANCE)
}

fn start(host: &Host, settings: &Settings, priority: u8) -> Result<Process> {
    let Settings {
        version, interval, ..
    } = settings;
    let authentication = settings.password.map_or_else(String::new, |password| {
        format!("authentication {{\n    auth_type PASS\n    auth_pass {password}\n  }}")
    });
    let file = host.write_file(
        "keepalived.conf",
        &format!(
            "global_defs {{\n  vrrp_version {version}\n}}\n\
             vrrp_instance dns {{\n  state BACKUP\n  interface eth2\n  virtual_router_id 50\n  \
             priority {priority}\n  advert_int {}\n  {authentication}\n  \
             virtual_ipaddress {{\n    {VIP}/24\n  }}\n}}\n",
            interval.as_secs_f64()
        ),
    )?;
    // In the foreground, VRRP only, its log on the standard error. Its process numbers lie where no
    // predecessor that was killed has left any.
    let arguments = format!(
        "-n -l -P -f {} -p /run/{priority}.pid -r /run/{priority}-vrrp.pid",
        file.display()
    );
    host.spawn("keepalived", arguments.split(' '))
}
