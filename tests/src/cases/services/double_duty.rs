//! Directors that are the real servers too.

use std::net::SocketAddrV4;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::capture::{Capture, Datagram};
use crate::dns::Questions;
use crate::figures;
use crate::lab::{Host, Lab, wait_until};
use crate::responder::Responder;
use crate::scenario::{PATIENCE, first, nothing_lost, shares};
use crate::service_file::ServiceFile;
use crate::topology::{ANSWERS, DnsPair, VIP, hold_vip_silently, start_director};

const SERVICE: SocketAddrV4 = SocketAddrV4::new(VIP, 53);

/// How long IP lets a packet of Linux live, in routers.
const TTL: u8 = 64;

/// One question, one answer, whoever of the two is Active. Were both to forward what they get, each
/// would hand every question to the other until its time to live is over.
pub(super) fn a_question_goes_round_in_no_circle(lab: &mut Lab) -> Result<()> {
    let hosts = DnsPair::with_service_lan_only(lab)?;
    let directors = [&hosts.ds1, &hosts.ds2];
    let mut responders = Vec::new();
    for (director, answer) in directors.into_iter().zip(ANSWERS) {
        hold_vip_silently(director, VIP)?;
        responders.push(Responder::start(director, VIP, answer)?);
    }
    let yaml = configuration();
    let mut processes = [
        start_director(&hosts.ds1, &yaml)?,
        start_director(&hosts.ds2, &yaml)?,
    ];
    let watch = |active: usize| {
        wait_until("the Active has the VIP", PATIENCE, || {
            has_vip(directors[active])
        })?;
        each_is_asked_once(&hosts, directors[active], directors[1 - active])
    };
    watch(0).context("ds1 is Active")?;
    for (active, arguments) in [(1, "handover"), (0, "handover --release")] {
        let captures = directors.map(Capture::start);
        let load = Questions::new(VIP)
            .every(Duration::from_millis(5))
            .start(&hosts.client);
        hosts.ds1.run(&format!("director {arguments}"))?;
        wait_until("the Active has the VIP", PATIENCE, || {
            has_vip(directors[active])
        })?;
        sleep(Duration::from_millis(500));
        let report = load.stop();
        println!("measured: {arguments}: {report}");
        nothing_lost(&report).context(arguments)?;
        for capture in captures {
            let capture = capture?;
            let ttls = received(&capture, to_vip).map(|datagram| datagram.ttl);
            let lowest = ttls.min().context("nothing was asked")?;
            let passes = usize::from(TTL - lowest);
            // Forwarded once, as ever; who meets the change of hands may be handed back.
            figures::at_most(&format!("{arguments}: passes of a question"), passes, 4)?;
        }
    }
    // The real server on it stays.
    processes[0].terminate(PATIENCE)?;
    watch(1).context("ds2 is Active")?;
    processes[0] = start_director(&hosts.ds1, &yaml)?;
    watch(0).context("ds1 is Active again")
}

fn configuration() -> String {
    let file = ServiceFile::new()
        .priority("{ ds1: 200, ds2: 150 }")
        .over_udp()
        .with("scheduler: rr")
        .server("192.168.56.181", 1)
        .server("192.168.56.182", 1);
    file.to_string()
}

fn each_is_asked_once(hosts: &DnsPair, active: &Host, other: &Host) -> Result<()> {
    const COUNT: usize = 40;
    // What else is being said about the change of hands.
    sleep(Duration::from_millis(500));
    let [at_client, at_active, at_other] = [
        Capture::start(&hosts.client)?,
        Capture::start(active)?,
        Capture::start(other)?,
    ];
    let report = first(Questions::new(VIP).start(&hosts.client), COUNT)?;
    nothing_lost(&report)?;
    let answers = || received(&at_client, |datagram| datagram.source == SERVICE).count();
    // A second answer would come after the first; and captures are read a little later.
    sleep(Duration::from_millis(200));
    wait_until(
        "as many answers as questions",
        Duration::from_secs(5),
        || answers() == received(&at_active, to_vip).count(),
    )?;
    let [received, forwarded] = [&at_active, &at_other].map(|capture| {
        let ttls = received(capture, to_vip).map(|datagram| datagram.ttl);
        ttls.collect::<Vec<_>>()
    });
    println!(
        "measured: {} Active: {} answers; {} questions received, {} forwarded, TTLs {:?}",
        active.name(),
        answers(),
        received.len(),
        forwarded.len(),
        forwarded.iter().min().zip(forwarded.iter().max()),
    );
    ensure!(
        shares(&report).iter().all(|share| *share >= COUNT / 2 - 1),
        "{report}"
    );
    ensure!(
        received.iter().all(|ttl| *ttl == TTL),
        "received: {received:?}"
    );
    // IPVS takes one, as a router does.
    ensure!(
        forwarded.iter().all(|ttl| *ttl == TTL - 1),
        "forwarded: {forwarded:?}"
    );
    ensure!(
        forwarded.len() <= received.len() / 2 + 1,
        "too many forwarded"
    );
    Ok(())
}

/// The datagrams that a host was sent.
fn received(capture: &Capture, wanted: fn(&Datagram) -> bool) -> impl Iterator<Item = Datagram> {
    let frames = capture.frames(|frame| !frame.outgoing && frame.interface == "eth2");
    let datagrams = frames.into_iter().filter_map(|frame| frame.datagram());
    datagrams.filter(wanted)
}

fn to_vip(datagram: &Datagram) -> bool {
    datagram.destination == SERVICE
}

/// Whether it has the VIP where clients look for it, and not on lo alone.
fn has_vip(host: &Host) -> bool {
    host.run("ip -4 -o address show dev eth2")
        .is_ok_and(|addresses| addresses.contains(&format!(" {VIP}/24 ")))
}
