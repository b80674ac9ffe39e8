//! The lab itself: what the other cases rely on.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::capture::Capture;
use crate::case::Case;
use crate::dns::{self, Questions};
use crate::inject::{self, Ipv4Header};
use crate::lab::{Lab, wait_until};
use crate::scenario::{PATIENCE, first};
use crate::topology::{ANSWERS, DnsPair, VIP, hold_vip_silently, two_hosts};
use crate::{bind, ping};

/// The cases of this theme.
pub(super) const CASES: &[Case] = &[
    Case::new("lab::hosts_reach_each_other", hosts_reach_each_other),
    Case::new(
        "lab::injected_packets_are_captured",
        injected_packets_are_captured,
    ),
    Case::new("lab::dns_load_counts_answers", dns_load_counts_answers),
    Case::new(
        "lab::the_pair_has_its_interfaces",
        the_pair_has_its_interfaces,
    ),
    Case::new("lab::ipvs_alternates", ipvs_alternates).needing_ipvs(),
];

fn hosts_reach_each_other(lab: &mut Lab) -> Result<()> {
    let (a, b) = two_hosts(lab)?;
    let capture = Capture::start(&b)?;
    let load = ping::start(&a, Ipv4Addr::new(192, 168, 56, 2), Duration::from_millis(5));
    wait_until("20 pings", PATIENCE, || load.report().sent() >= 20)?;
    let report = load.stop();
    ensure!(report.lost() == 0, "{report}");
    let (frame, arp) = capture.arps()[0].clone();
    ensure!(
        arp.request && arp.target.to_string() == "192.168.56.2" && arp.source == a.mac("eth0"),
        "{arp:?}"
    );
    let first = report.attempts[0].sent;
    ensure!(
        frame.at >= first - Duration::from_millis(1) && frame.at < first + Duration::from_secs(1),
        "an ARP request before the ping that made it"
    );

    b.link_down("eth0")?;
    let load = ping::start(
        &a,
        Ipv4Addr::new(192, 168, 56, 2),
        Duration::from_millis(20),
    );
    std::thread::sleep(Duration::from_millis(100));
    let report = load.stop();
    ensure!(report.answered() == 0, "answers over a cut link: {report}");
    ensure!(a.run("hostname")?.trim() == "a", "the host name");
    Ok(())
}

fn injected_packets_are_captured(lab: &mut Lab) -> Result<()> {
    let (a, b) = two_hosts(lab)?;
    let capture = Capture::start(&b)?;
    let header = Ipv4Header {
        source: "192.168.56.77".parse()?,
        destination: "224.0.0.18".parse()?,
        ttl: 255,
        protocol: 112,
    };
    // Version 3, advert, router 50, priority 200.
    inject::ipv4(&a, "eth0", header, &[0x31, 50, 200, 1, 0, 10, 0, 0])?;
    let frame = capture.wait_for("advert", Duration::from_secs(1), |frame| {
        frame.advert().is_some()
    })?;
    let (_, advert) = &capture.adverts()[0];
    ensure!(
        advert.source == header.source
            && advert.destination == header.destination
            && (advert.hop_limit, advert.version) == (255, 3)
            && (advert.virtual_router_id, advert.priority) == (50, 200),
        "{advert:?}"
    );
    ensure!(frame.interface == "eth0" && !frame.outgoing, "{frame:?}");

    let mut bytes = frame.bytes;
    bytes[..6].copy_from_slice(&b.mac("eth0"));
    inject::frame(&a, "eth0", bytes.clone())?;
    capture.wait_for("injected frame", Duration::from_secs(1), |frame| {
        frame.bytes == bytes
    })?;
    Ok(())
}

fn dns_load_counts_answers(lab: &mut Lab) -> Result<()> {
    let (client, server) = two_hosts(lab)?;
    let mut named = bind::start(&server, ANSWERS[0])?;
    let address = "192.168.56.2".parse()?;
    for questions in [
        Questions::new(address),
        Questions::new(address).from_port(40_000),
        Questions::new(address).over_tcp(),
    ] {
        let begun = Instant::now();
        let load = questions.clone().start(&client);
        wait_until("40 questions", PATIENCE, || load.report().sent() >= 40)?;
        let report = load.stop();
        // 50 a second, and the first at once.
        let most = begun.elapsed().as_secs_f64() * 50.0 + 1.0;
        ensure!(report.sent() as f64 <= most, "{questions:?}: {report}");
        ensure!(report.lost() == 0, "{questions:?}: {report}");
        ensure!(report.answers_by("1.2.3.4") == report.sent(), "{report}");
    }
    ensure!(dns::dig(&client, address, "")? == ["1.2.3.4"], "dig");

    named.kill();
    let load = Questions::new(address)
        .timeout(Duration::from_millis(100))
        .start(&client);
    wait_until("a gap", PATIENCE, || {
        load.report().longest_gap() > Duration::from_millis(200)
    })?;
    let report = load.stop();
    ensure!(report.answered() == 0, "a dead server answers: {report}");
    Ok(())
}

fn the_pair_has_its_interfaces(lab: &mut Lab) -> Result<()> {
    let pair = DnsPair::new(lab)?;
    for host in pair.hosts() {
        ensure!(
            host.holds(Ipv4Addr::new(10, 0, 2, 15)),
            "eth0 of {}",
            host.name()
        );
        let peer = Ipv4Addr::new(192, 168, 56, 10);
        ensure!(
            ping::answers(host, peer, Duration::from_secs(2)),
            "{} doesn't reach the client",
            host.name()
        );
    }
    ensure!(
        ping::answers(
            &pair.ds1,
            Ipv4Addr::new(192, 168, 1, 182),
            Duration::from_secs(2)
        ),
        "eth1 of the directors"
    );
    Ok(())
}

fn ipvs_alternates(lab: &mut Lab) -> Result<()> {
    let pair = DnsPair::with_service_lan_only(lab)?;
    hold_vip_silently(&pair.rs1, VIP)?;
    hold_vip_silently(&pair.rs2, VIP)?;
    let _named = pair.start_named()?;
    pair.ds1.add_address("eth2", "192.168.56.185/32")?;
    pair.ds1.run("ipvsadm -A -u 192.168.56.185:53 -s wrr -o")?;
    for server in ["192.168.56.183", "192.168.56.184"] {
        pair.ds1.run(&format!(
            "ipvsadm -a -u 192.168.56.185:53 -r {server} -g -w 1"
        ))?;
    }
    let load = Questions::new(VIP).from_port(40_000).start(&pair.client);
    let report = first(load, 90)?;
    ensure!(report.lost() == 0, "{report}");
    let (first, second) = (report.answers_by("1.2.3.4"), report.answers_by("1.2.3.5"));
    ensure!(first.abs_diff(second) <= 1, "not alternating: {report}");
    Ok(())
}
