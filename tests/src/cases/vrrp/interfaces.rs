//! A VIP stays on its interface, and the machine's settings come back.

use std::net::Ipv4Addr;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::PAUSE;
use super::pair::{Pair, Settings};
use crate::capture::Capture;
use crate::cases::neighbour::{arp_request, replies};
use crate::inject;
use crate::lab::{Host, Lab, wait_until};
use crate::scenario::PATIENCE;
use crate::topology::{DnsPair, VIP, start_director};

pub(super) fn other_interfaces_see_nothing(lab: &mut Lab) -> Result<()> {
    let pair = Pair::start_on(DnsPair::new(lab)?, Settings::FAST)?;
    let [active, backup] = &pair.hosts;
    let capture = Capture::start(active)?;
    sleep(Duration::from_secs(1));
    let adverts = capture.adverts();
    ensure!(adverts.len() >= 8, "only {} adverts", adverts.len());
    ensure!(
        adverts.iter().all(|(frame, _)| frame.interface == "eth2"),
        "an advert on another interface"
    );

    let capture = Capture::start(backup)?;
    let ask = |interface: &str, sender: Ipv4Addr| -> Result<usize> {
        let before = replies(&capture, interface, VIP);
        for _ in 0..3 {
            let request = arp_request(backup.mac(interface), sender, VIP);
            inject::frame(backup, interface, request)?;
        }
        sleep(PAUSE);
        Ok(replies(&capture, interface, VIP) - before)
    };
    let (office, service) = ("192.168.1.182".parse()?, "192.168.56.182".parse()?);
    ensure!(ask("eth2", service)? == 3, "no answer on the VIP's own LAN");
    ensure!(ask("eth1", office)? == 0, "the VIP is claimed on eth1");
    // The same question is answered by a machine that nobody has set right.
    active.set_sysctl("net.ipv4.conf.all.arp_ignore", "0")?;
    ensure!(ask("eth1", office)? == 3, "the question is wrong");
    Ok(())
}

pub(super) fn arp_settings_are_put_back(lab: &mut Lab) -> Result<()> {
    let hosts = DnsPair::with_service_lan_only(lab)?;
    // What an administrator may have chosen: found, and what is in force with a director.
    for (host, [ignore, announce], in_force) in [
        (&hosts.ds1, ["2", "1"], ["2", "2"]),
        (&hosts.ds2, ["0", "0"], ["1", "2"]),
    ] {
        host.set_sysctl(IGNORE, ignore)?;
        host.set_sysctl(ANNOUNCE, announce)?;
        let found = host.interface_sysctls();
        let yaml = Settings::FAST.yaml();
        let mut director = start_director(host, &yaml)?;
        wait_until("the VIP", PATIENCE, || host.holds(VIP))?;
        ensure!(values(host)? == in_force, "{:?}", values(host)?);
        ensure!(director.terminate(PATIENCE)?.success(), "SIGTERM");
        ensure!(host.interface_sysctls() == found, "{:?}", values(host)?);

        // A killed director can't put anything back; the next one does.
        start_and_kill(host, &yaml)?;
        ensure!(values(host)? == in_force, "{:?}", values(host)?);
        let mut director = start_director(host, &yaml)?;
        sleep(PAUSE);
        ensure!(director.terminate(PATIENCE)?.success(), "SIGTERM");
        ensure!(host.interface_sysctls() == found, "{:?}", values(host)?);
        ensure!(!host.holds(VIP), "the VIP of a killed director stays");
    }
    Ok(())
}

const IGNORE: &str = "net.ipv4.conf.all.arp_ignore";
const ANNOUNCE: &str = "net.ipv4.conf.all.arp_announce";

fn values(host: &Host) -> Result<[String; 2]> {
    Ok([host.sysctl(IGNORE)?, host.sysctl(ANNOUNCE)?])
}

fn start_and_kill(host: &Host, yaml: &str) -> Result<()> {
    let mut director = start_director(host, yaml)?;
    wait_until("the VIP", PATIENCE, || host.holds(VIP))?;
    host.kill_processes();
    director.wait(PATIENCE)?;
    Ok(())
}
