//! The forwarding table in a real kernel.

mod reconciler;

use std::io::{self, ErrorKind};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use crate::capture::Capture;
use crate::case::Case;
use crate::cases::neighbour::neighbour;
use crate::dns::Questions;
use crate::forwarding::{self, Table};
use crate::lab::{Host, Lab, wait_until};
use crate::scenario::{
    CONFIGURATION, PATIENCE, Pair, SERVERS, calm, edited, expected_table, first, nothing_lost,
    same_table, shares, weighted,
};
use crate::topology::{DnsPair, VIP, director_file, start_director};
use crate::traffic::{Attempt, Load, Outcome};

/// The cases of this theme.
pub(super) const CASES: &[Case] = &[
    Case::new("table::is_read_whole", is_read_whole).needing_ipvs(),
    Case::new("table::both_directors_have_it", both_directors_have_it).needing_ipvs(),
    Case::new(
        "table::a_found_service_is_adopted",
        a_found_service_is_adopted,
    )
    .needing_ipvs(),
    Case::new("table::weights_hold", weights_hold).needing_ipvs(),
    Case::new("table::pinned_flows_move", pinned_flows_move).needing_ipvs(),
    Case::new(
        "table::nobody_left_is_said_at_once",
        nobody_left_is_said_at_once,
    )
    .needing_ipvs()
    .soaked(),
    Case::new(
        "table::the_kernel_becomes_what_is_desired",
        reconciler::the_kernel_becomes_what_is_desired,
    )
    .needing_ipvs()
    .soaked()
    .within(Duration::from_secs(600)),
    Case::new(
        "table::what_surrounds_the_table_is_put_back",
        reconciler::what_surrounds_the_table_is_put_back,
    )
    .needing_ipvs(),
    Case::new(
        "table::the_kernel_refuses_as_expected",
        reconciler::the_kernel_refuses_as_expected,
    )
    .needing_ipvs(),
];

/// Services that the director must never touch: two with an address and one with a mark.
const STRANGERS: [&str; 6] = [
    "-A -u 192.168.56.181:5353 -s sh -p 60",
    "-a -u 192.168.56.181:5353 -r 192.168.56.77:53 -m -w 7",
    "-A -u [2001:db8::53]:53 -s mh",
    "-a -u [2001:db8::53]:53 -r [2001:db8::54]:53 -i -w 2",
    "-A -f 7 -s lc",
    "-a -f 7 -r 192.168.56.78:0 -i -w 9",
];

/// What the other cases rely on: `/proc` says what `ipvsadm` says, on each of several hosts whose
/// services share one hash table in the kernel.
fn is_read_whole(lab: &mut Lab) -> Result<()> {
    let mut hosts = Vec::new();
    for name in ["a", "b", "c", "d"] {
        let host = lab.add_host(name)?;
        for service in ["-u 192.0.2.1:53", "-t 192.0.2.1:53", "-u 192.0.2.2:53"] {
            host.run(&format!("ipvsadm -A {service} -s rr"))?;
            host.run(&format!("ipvsadm -a {service} -r 192.0.2.9:53 -g"))?;
        }
        hosts.push(host);
    }
    for host in &hosts {
        let listed = forwarding::listed(host)?;
        ensure!(listed.len() == 6, "{listed:?}");
        same_table(host.name(), &forwarding::table(host)?, &listed)?;
    }
    Ok(())
}

fn both_directors_have_it(lab: &mut Lab) -> Result<()> {
    const SETTING: &str = "net.ipv4.vs.expire_nodest_conn";
    let hosts = DnsPair::with_service_lan_only(lab)?;
    for command in STRANGERS {
        hosts.ds1.run(&format!("ipvsadm {command}"))?;
    }
    hosts.ds1.set_sysctl(SETTING, "0")?;
    hosts.ds2.set_sysctl(SETTING, "1")?;
    let strangers = forwarding::listed(&hosts.ds1)?;
    ensure!(strangers.len() == STRANGERS.len(), "{strangers:?}");

    let mut pair = Pair::start_on(hosts, &calm(&weighted([1, 3])))?;
    let [ds1, ds2] = [0, 1].map(|index| pair.director(index).clone());
    let ours = expected_table(&[(SERVERS[0], 1), (SERVERS[1], 3)]);
    let on_ds1 = forwarding::listed(&ds1)?;
    same_table("ds1", &on_ds1, &ours.union(&strangers).cloned().collect())?;
    same_table("ds2", &forwarding::listed(&ds2)?, &ours)?;
    for director in [&ds1, &ds2] {
        let value = director.sysctl(SETTING)?;
        ensure!(value == "1", "{SETTING} is {value} on {}", director.name());
    }
    for (director, holds) in [(&ds1, true), (&ds2, false)] {
        let addresses = director.run("ip -4 address show dev eth2")?;
        ensure!(
            addresses.contains("inet 192.168.56.185/24 ") == holds,
            "{}: {addresses}",
            director.name()
        );
    }

    // The client has the VIP's neighbour entry and asks nobody about it any more.
    pair.questions().ask(&pair.hosts.client)?;
    let (before, after) = (ds1.mac("eth2"), ds2.mac("eth2"));
    ensure!(neighbour(&pair.hosts.client, VIP) == Some(before), "ds1");
    let capture = Capture::start(&pair.hosts.client)?;
    let ended = pair.directors[0].terminate(PATIENCE)?;
    ensure!(ended.success(), "SIGTERM ended it with {ended}");
    wait_until("the client knows ds2", Duration::from_secs(1), || {
        neighbour(&pair.hosts.client, VIP) == Some(after)
    })?;
    let asked = capture.arps().into_iter().find(|(frame, arp)| {
        frame.outgoing && arp.request && arp.target == VIP && arp.sender != VIP
    });
    ensure!(asked.is_none(), "the client had to ask: {asked:?}");

    same_table("ds1 stopped", &forwarding::listed(&ds1)?, &strangers)?;
    ensure!(!ds1.holds(VIP), "a stopped director holds the VIP");
    ensure!(ds1.sysctl(SETTING)? == "0", "{SETTING} is not put back");
    same_table("ds2 alone", &forwarding::listed(&ds2)?, &ours)?;
    let ended = pair.directors[1].terminate(PATIENCE)?;
    ensure!(ended.success(), "SIGTERM ended it with {ended}");
    ensure!(forwarding::table(&ds2)?.is_empty(), "ds2 stopped");
    ensure!(ds2.sysctl(SETTING)? == "1", "{SETTING} is not put back");
    Ok(())
}

/// Somebody ran the service by hand: the director takes it over as it is, under traffic.
fn a_found_service_is_adopted(lab: &mut Lab) -> Result<()> {
    const SERVICE: &str = "UDP 192.168.56.185:53";
    let hosts = DnsPair::with_service_lan_only(lab)?;
    let _named = hosts.start_named()?;
    for server in [&hosts.rs1, &hosts.rs2] {
        server.run(&format!("rs-agent start --vip {VIP}"))?;
    }
    hosts.ds1.add_address("eth2", &format!("{VIP}/24"))?;
    for command in [
        "-A -u 192.168.56.185:53 -s sh",
        "-a -u 192.168.56.185:53 -r 192.168.56.183:53 -g -w 5",
        "-a -u 192.168.56.185:53 -r 192.168.56.77:53 -g -w 0",
    ] {
        hosts.ds1.run(&format!("ipvsadm {command}"))?;
    }
    let load = Questions::new(VIP)
        .timeout(Duration::from_secs(2))
        .start(&hosts.client);
    wait_until("the kernel has counted", PATIENCE, || {
        forwarding::connections(&hosts.ds1, SERVICE).is_ok_and(|count| count >= 100)
    })?;
    let before = forwarding::connections(&hosts.ds1, SERVICE)?;
    let _director = start_director(&hosts.ds1, &calm(CONFIGURATION))?;
    let expected = expected_table(&SERVERS.map(|server| (server, 1)));
    wait_until("the table is as configured", PATIENCE, || {
        forwarding::table(&hosts.ds1).is_ok_and(|table| table == expected)
    })?;
    let after = forwarding::connections(&hosts.ds1, SERVICE)?;
    ensure!(after >= before, "counted {before}, then {after}: made anew");
    sleep(Duration::from_secs(1));
    let report = load.stop();
    // While the kernel changes a scheduler the service has none, for one RCU grace period
    // (`ip_vs_edit_service`); a packet of that moment is refused. On two busy emulated processors
    // that takes up to half a second.
    let refused: Vec<Instant> = report.attempts.iter().filter_map(refused).collect();
    let moment = match refused.as_slice() {
        [first, .., last] => *last - *first,
        _ => Duration::ZERO,
    };
    ensure!(
        report.lost() == refused.len() && moment <= Duration::from_millis(500),
        "lost by a takeover by hand: {report}"
    );
    Ok(())
}

/// When this was sent, if the kernel refused it.
fn refused(attempt: &Attempt) -> Option<Instant> {
    let by_kernel = |reason: &str| reason.starts_with("Connection refused");
    matches!(&attempt.outcome, Outcome::Refused(reason) if by_kernel(reason))
        .then_some(attempt.sent)
}

fn weights_hold(lab: &mut Lab) -> Result<()> {
    // The load may keep busy emulated processors from answering probes in time: weights are what
    // is looked at here, so a server stays until it misses ten.
    let lenient = edited(&calm(&weighted([1, 3])), "fall: 2", "fall: 10");
    let pair = Pair::start(lab, &lenient)?;
    // A TCP connection costs much more than a datagram.
    let tcp = Questions::new(VIP).over_tcp();
    for (transport, questions, count) in [
        (
            "UDP, one source port",
            pair.questions().every(Duration::from_millis(10)),
            400,
        ),
        (
            "TCP",
            tcp.every(Duration::from_millis(50))
                .timeout(Duration::from_secs(3)),
            200,
        ),
    ] {
        let report = first(questions.start(&pair.hosts.client), count)?;
        let [light, heavy] = shares(&report);
        println!("measured: weights 1:3 by {transport}: {light}:{heavy} of {count}");
        nothing_lost(&report).context(transport)?;
        ensure!(
            light.abs_diff(count / 4) <= count / 50 && heavy.abs_diff(count * 3 / 4) <= count / 50,
            "{transport}: {report}"
        );
    }
    Ok(())
}

/// A client that keeps its port stays with one server for as long as it asks, until one-packet
/// scheduling is turned on.
fn pinned_flows_move(lab: &mut Lab) -> Result<()> {
    const KEY: &str = "    scheduler: wrr\n";
    let with = calm(CONFIGURATION);
    let without = edited(
        &with,
        KEY,
        &format!("{KEY}    one_packet_scheduling: false\n"),
    );
    let pair = Pair::start(lab, &with)?;
    let ds1 = pair.director(0).clone();
    let table = expected_table(&SERVERS.map(|server| (server, 1)));
    let follow = |yaml: &str, expected: &Table| {
        director_file(&ds1, yaml)?;
        pair.directors[0].signal(Signal::SIGHUP)?;
        wait_until("the table follows the file", PATIENCE, || {
            forwarding::table(&ds1).is_ok_and(|table| table == *expected)
        })
    };
    let pinned = table.iter().map(|line| line.replace(" ops", ""));
    follow(&without, &pinned.collect())?;
    let load = pair.ask();
    let before = first_answers(&load)?;
    ensure!(before.contains(&0), "not pinned: {before:?}");

    follow(&with, &table)?;
    // Each of the two is out for 0.2 s.
    sleep(Duration::from_secs(3));
    let moved = Instant::now();
    sleep(Duration::from_secs(2));
    let report = load.stop();
    nothing_lost(&report)?;
    let [one, other] = shares(&report.since(moved));
    ensure!(one.abs_diff(other) <= 2, "{one}:{other} after the move");
    Ok(())
}

/// Who answers the first questions of a load.
fn first_answers(load: &Load) -> Result<[usize; 2]> {
    wait_until("some questions are answered", PATIENCE, || {
        load.report().answered() >= 10
    })?;
    Ok(shares(&load.report()))
}

fn nobody_left_is_said_at_once(lab: &mut Lab) -> Result<()> {
    const KEY: &str = "    real_servers:\n";
    // The floor would keep those that failed last.
    let without_floor = edited(
        &calm(CONFIGURATION),
        KEY,
        &format!("    pool: {{ floor: 0 }}\n{KEY}"),
    );
    let mut pair = Pair::start(lab, &without_floor)?;
    for named in &mut pair.named {
        named.kill();
    }
    pair.wait_for_servers(0, &[])?;
    same_table(
        "without a server",
        &forwarding::listed(pair.director(0))?,
        &expected_table(&[]),
    )?;
    let questions = Questions::new(VIP).timeout(Duration::from_secs(5));
    for (protocol, questions) in [("UDP", questions.clone()), ("TCP", questions.over_tcp())] {
        // A busy emulated machine may stand still for so long that the pair changes hands meanwhile.
        let tries = lab.mode().choose(3, 1);
        let tries = (0..tries).map(|_| time_to_refusal(&questions, &pair.hosts.client));
        let tries: Vec<Result<Duration>> = tries.collect();
        println!("measured: {protocol} refused after {tries:.3?}");
        let at_once = |took: &Duration| *took < Duration::from_secs(2);
        ensure!(
            tries.iter().flatten().any(at_once),
            "{protocol} not refused at once: {tries:?}"
        );
    }
    Ok(())
}

fn time_to_refusal(questions: &Questions, client: &Host) -> Result<Duration> {
    let asked = Instant::now();
    let error = questions.clone().ask(client).err();
    let error = error.context("somebody answered")?;
    let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
    ensure!(kind == Some(ErrorKind::ConnectionRefused), "{error:#}");
    Ok(asked.elapsed())
}
