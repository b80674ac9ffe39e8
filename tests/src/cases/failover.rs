//! Real servers and directors that go and come, seen by a client that asks through the VIP.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::bind;
use crate::capture::Capture;
use crate::case::{Case, Mode};
use crate::dns::Questions;
use crate::figures;
use crate::forwarding;
use crate::lab::{Host, Lab, Process, wait_until};
use crate::peer::virtual_server::{Recipe, VirtualServer, balance};
use crate::scenario::{
    self, CONFIGURATION, PATIENCE, Pair, SERVERS, calm, edited, expected_table, nothing_lost,
    same_table, shares, worker,
};
use crate::topology::{ANSWERS, VIP, hold_vip_silently};
use crate::traffic::{Load, Report};

/// The cases of this theme.
pub(super) const CASES: &[Case] = &[
    Case::new("failover::a_dead_server_leaves", a_dead_server_leaves)
        .needing_ipvs()
        .soaked(),
    Case::new(
        "failover::a_server_that_refuses_leaves",
        a_server_that_refuses_leaves,
    )
    .needing_ipvs(),
    Case::new(
        "failover::a_dead_director_is_replaced",
        a_dead_director_is_replaced,
    )
    .needing_ipvs()
    .soaked()
    .within(Duration::from_secs(300)),
    Case::new(
        "failover::a_dead_director_is_replaced_at_one_second",
        a_dead_director_is_replaced_at_one_second,
    )
    .needing_ipvs()
    .within(Duration::from_secs(300)),
    Case::new(
        "failover::a_stopped_director_leaves",
        a_stopped_director_leaves,
    )
    .needing_ipvs(),
    Case::new(
        "failover::a_planned_handover_loses_nothing",
        a_planned_handover_loses_nothing,
    )
    .needing_ipvs()
    .within(Duration::from_secs(300))
    .soaked(),
    Case::new(
        "failover::a_director_that_returns_loses_nothing",
        a_director_that_returns_loses_nothing,
    )
    .needing_ipvs()
    .soaked(),
    Case::new(
        "failover::a_director_without_verdicts_waits",
        a_director_without_verdicts_waits,
    )
    .needing_ipvs(),
    Case::new(
        "failover::a_dead_worker_leaves_its_table",
        a_dead_worker_leaves_its_table,
    )
    .needing_ipvs(),
];

/// Beside keepalived, which balances the same service with its defaults, at the same time.
fn a_dead_server_leaves(lab: &mut Lab) -> Result<()> {
    let watched = Duration::from_secs(lab.mode().choose(15, 30));
    let mut theirs = Keepalived::start(lab)?;
    // Another turn would begin with another Active.
    let mut ours = Pair::start(lab, &calm(CONFIGURATION))?;
    let (our_load, their_load) = (ours.ask(), theirs.ask());
    for load in [&our_load, &their_load] {
        wait_until("100 answers", PATIENCE, || load.report().answered() >= 100)?;
    }
    let [first, second] = shares(&our_load.report());
    ensure!(first.abs_diff(second) <= 2, "ours: {}", our_load.report());
    let pinned = shares(&their_load.report());
    let pinned_to = usize::from(pinned[1] > pinned[0]);
    ensure!(
        pinned[pinned_to] > 80 && pinned[1 - pinned_to] == 0,
        "keepalived's client isn't pinned: {}",
        their_load.report()
    );

    let limit = Duration::from_millis(lab.mode().choose(1700, 1300));
    let killed = Instant::now();
    theirs.named[pinned_to].kill();
    ours.named[0].kill();
    let mut removed = Duration::ZERO;
    for director in [0, 1] {
        ours.wait_for_servers(director, &SERVERS[1..])?;
        removed = removed.max(killed.elapsed());
    }
    sleep(watched.saturating_sub(killed.elapsed()));
    let end = killed + watched;
    let our_report = our_load.stop().between(killed, end);
    let their_report = their_load.stop().between(killed, end);
    println!("measured: a dead server left both tables after {removed:.2?}");
    println!("measured: in {watched:?} from its death, ours: {our_report}");
    println!("measured: in the same time, keepalived: {their_report}");
    ensure!(removed < limit, "removed after {removed:?}");
    ensure!(
        our_report.lost() * 15 <= their_report.lost(),
        "ours lost {}, keepalived {}",
        our_report.lost(),
        their_report.lost()
    );
    let last = our_report.last_loss().context("nothing was lost")?;
    ensure!(
        last - killed < limit,
        "lost {:?} after its death: {our_report}",
        last - killed
    );

    ours.named[0] = bind::start(&ours.hosts.rs1, ANSWERS[0])?;
    ours.wait_for_servers(0, &SERVERS)?;
    expect_alternation(&scenario::first(ours.ask(), 100)?)
}

/// named lives and has lost its zone: the server answers, and is of no use.
fn a_server_that_refuses_leaves(lab: &mut Lab) -> Result<()> {
    let mut pair = Pair::start(lab, &calm(CONFIGURATION))?;
    pair.named[0].kill();
    pair.wait_for_servers(0, &SERVERS[1..])?;
    let rs1 = pair.hosts.rs1.clone();
    let own = Questions::new(SERVERS[0].parse()?);
    // Without the zone it answers REFUSED; with a zone that doesn't load, SERVFAIL.
    for (zone, code) in [("", "Query Refused"), ("nonsense", "Server Failure")] {
        let file = rs1.write_file("named/broken.conf", &broken(zone))?;
        rs1.write_file("named/nonsense.zone", "nothing that a zone could be\n")?;
        let mut named = rs1.spawn("named", ["-g", "-n", "1", "-c", &file.to_string_lossy()])?;
        wait_until("it answers with an error", PATIENCE, || {
            own.clone()
                .ask(&rs1)
                .is_err_and(|error| error.to_string().contains(code))
        })?;
        let load = pair.ask();
        sleep(Duration::from_secs(2));
        let report = load.stop();
        ensure!(
            report.answers_by(&ANSWERS[1].to_string()) == report.sent(),
            "{code} came through the VIP: {report}"
        );
        pair.wait_for_servers(0, &SERVERS[1..])?;
        named.kill();
    }
    let started = Instant::now();
    pair.named[0] = bind::start(&rs1, ANSWERS[0])?;
    pair.wait_for_servers(0, &SERVERS)?;
    println!(
        "measured: named is back in the table {:.1?} after its start",
        started.elapsed()
    );
    Ok(())
}

fn a_dead_director_is_replaced(lab: &mut Lab) -> Result<()> {
    const LIMIT: Duration = Duration::from_millis(600);
    let mut pair = Pair::start(lab, CONFIGURATION)?;
    let mut gaps = Vec::new();
    for run in 1..=lab.mode().choose(3, 10) {
        let (report, standstill) = cut_off_under_load(&mut pair)?;
        println!("measured: run {run}: {report}, beside a standstill of {standstill:.3?}");
        let excused = lab.mode().choose(standstill, Duration::ZERO);
        gaps.push(report.longest_gap().saturating_sub(excused));
    }
    ensure!(gaps.iter().all(|gap| *gap < LIMIT), "gaps of {gaps:.3?}");
    Ok(())
}

fn a_dead_director_is_replaced_at_one_second(lab: &mut Lab) -> Result<()> {
    let slow = edited(
        CONFIGURATION,
        "advert_interval: 100ms",
        "advert_interval: 1s",
    );
    let mut pair = Pair::start(lab, &slow)?;
    let (report, standstill) = cut_off_under_load(&mut pair)?;
    println!("measured: adverts every second: {report}, beside a standstill of {standstill:.3?}");
    // RFC 9568, section 6.1: the Backup's priority is 150.
    let skew = Duration::from_secs(1) * (256 - 150) / 256;
    let limit = Duration::from_secs(3) + skew + Duration::from_millis(100);
    ensure!(
        report.longest_gap() < limit + standstill,
        "over {limit:?}: {report}"
    );
    Ok(())
}

/// Cuts ds1 off right after an advert, when it takes longest to be missed, and lets it return once
/// ds2 has taken over. Returns what a client saw until then, and how long the machine below stood still:
/// a run in which it did for longer than 0.1 s measures little and is done again, and no more than that is
/// returned.
fn cut_off_under_load(pair: &mut Pair) -> Result<(Report, Duration)> {
    const STALL: Duration = Duration::from_millis(100);
    const ATTEMPTS: usize = 5;
    const EVERY: Duration = Duration::from_millis(10);
    let mut attempt = 1;
    loop {
        // Not through the VIP: it sees no failover, and every stall.
        let control = Questions::new(SERVERS[1].parse()?).every(EVERY);
        let control = control.start(&pair.hosts.client);
        let load = dense(pair);
        sleep(Duration::from_millis(500));
        let capture = Capture::start(&pair.hosts.ds2)?;
        capture.wait_for("advert", Duration::from_secs(3), |frame| {
            frame.advert().is_some()
        })?;
        pair.cut_off(0)?;
        pair.wait_for_successor()?;
        sleep(Duration::from_millis(700));
        let (report, control) = (load.stop(), control.stop());
        pair.boot(0)?;
        pair.wait_for_active(0)?;
        // Where ds2 stood still at that moment, ds1 is Active before its probes are answered.
        pair.wait_for_servers(0, &SERVERS)?;
        let standstill = control.longest_gap().saturating_sub(EVERY);
        if standstill < STALL || attempt == ATTEMPTS {
            return Ok((report, standstill.min(STALL)));
        }
        println!("measured: again, for a client that asks a server itself saw: {control}");
        attempt += 1;
    }
}

fn a_stopped_director_leaves(lab: &mut Lab) -> Result<()> {
    let mut pair = Pair::start(lab, CONFIGURATION)?;
    let capture = Capture::start(&pair.hosts.client)?;
    let load = dense(&pair);
    sleep(Duration::from_millis(500));
    let ended = pair.directors[0].terminate(PATIENCE)?;
    ensure!(ended.success(), "SIGTERM ended it with {ended}");
    ensure!(!pair.director(0).holds(VIP), "the VIP is still there");
    ensure!(
        forwarding::table(pair.director(0))?.is_empty(),
        "the table is still there"
    );
    pair.wait_for_active(1)?;
    sleep(Duration::from_millis(700));
    let report = load.stop();
    println!("measured: SIGTERM on the Active: {report}");
    let left = capture.wait_for("priority 0", Duration::ZERO, |frame| {
        frame.advert().is_some_and(|advert| advert.priority == 0)
    })?;
    let taken = capture.wait_for("advert of ds2", Duration::ZERO, |frame| {
        frame.advert().is_some_and(|advert| advert.priority == 150)
    })?;
    println!(
        "measured: from priority 0 to the other's first advert: {:.1?}",
        taken.at - left.at
    );
    // A fifth of a second, in questions: those that an emulated processor answers late count not.
    ensure!(report.lost() < 20, "{report}");
    Ok(())
}

/// In a soak at half the rate that the machine carries without a handover, which is 1,000 questions a
/// second on real processors.
fn a_planned_handover_loses_nothing(lab: &mut Lab) -> Result<()> {
    // An emulated processor stands still for longer than adverts every 100 ms and probes of 300 ms
    // allow, while a director starts on it.
    let patient = edited(
        CONFIGURATION,
        "advert_interval: 100ms",
        "advert_interval: 1s",
    );
    let patient = edited(&patient, "interval: 500ms", "interval: 2s");
    let patient = edited(&patient, "timeout: 300ms", "timeout: 2s");
    let mut pair = Pair::start(lab, &patient)?;
    let (runs, interval) = match lab.mode() {
        Mode::Once => (1, Duration::from_millis(20)),
        Mode::Soak => (3, 2 * carried(&pair)?),
    };
    let mode = lab.mode();
    let changes_hands =
        |pair: &mut Pair, what: &str, change| loses_nothing(pair, mode, interval, what, change);
    for _ in 0..runs {
        changes_hands(&mut pair, "director handover", |pair| {
            let text = pair.director(0).run("director handover")?;
            ensure!(text.contains("192.168.56.182"), "{text}");
            pair.wait_for_active(1).map(|_| ())
        })?;
        changes_hands(&mut pair, "director handover --release", |pair| {
            pair.director(0).run("director handover --release")?;
            pair.wait_for_active(0).map(|_| ())
        })?;
        changes_hands(&mut pair, "SIGTERM", |pair| {
            let ended = pair.directors[0].terminate(PATIENCE)?;
            ensure!(ended.success(), "SIGTERM ended it with {ended}");
            pair.wait_for_active(1).map(|_| ())
        })?;
        changes_hands(&mut pair, "the way back", |pair| {
            pair.restart_director(0)?;
            pair.wait_for_active(0).map(|_| ())
        })?;
    }
    Ok(())
}

/// The VIP changes hands while a client asks.
fn loses_nothing(
    pair: &mut Pair,
    mode: Mode,
    interval: Duration,
    what: &str,
    change: fn(&mut Pair) -> Result<()>,
) -> Result<()> {
    // Not through the VIP: it sees no handover, and every stall of the machine below.
    let control = Questions::new(SERVERS[1].parse()?).start(&pair.hosts.client);
    let load = quick(pair, interval);
    let start = Instant::now();
    sleep(Duration::from_secs(1));
    change(pair)?;
    sleep(Duration::from_secs(1));
    let asked_for = start.elapsed();
    let (report, control) = (load.stop(), control.stop());
    let rate = report.sent() as f64 / asked_for.as_secs_f64();
    figures::note(&format!("{what}: questions a second"), rate, "", None);
    figures::time(&format!("{what}: longest gap"), report.longest_gap());
    if mode == Mode::Once && control.lost() > 0 {
        println!("measured: nothing, for a client that asks a server itself saw: {control}");
        return Ok(());
    }
    figures::at_most(&format!("{what}: lost"), report.lost(), 0)?;
    nothing_lost(&report)
}

/// The shortest interval of those tried at which no question is lost nor asked late.
fn carried(pair: &Pair) -> Result<Duration> {
    const TRIED: Duration = Duration::from_secs(2);
    let mut carried = None;
    for microseconds in [50_000, 20_000, 10_000, 5_000, 2_000, 1_000, 500] {
        let interval = Duration::from_micros(microseconds);
        let load = quick(pair, interval);
        sleep(TRIED);
        let report = load.stop();
        println!("measured: a question every {interval:?}: {report}");
        let expected = TRIED.as_secs_f64() / interval.as_secs_f64();
        if report.lost() > 0 || (report.sent() as f64) < 0.8 * expected {
            break;
        }
        carried = Some(interval);
    }
    carried.context("this machine carries not even 20 questions a second")
}

/// An answer may take as long as BIND takes on an emulated processor.
fn quick(pair: &Pair, interval: Duration) -> Load {
    let questions = pair.questions().every(interval);
    questions
        .timeout(Duration::from_secs(2))
        .start(&pair.hosts.client)
}

/// A director that starts has an empty table: with the VIP it would refuse every question. It has to take it
/// when nobody else is heard.
fn a_director_that_returns_loses_nothing(lab: &mut Lab) -> Result<()> {
    let mut pair = Pair::start(lab, &calm(CONFIGURATION))?;
    for run in 1..=lab.mode().choose(3, 5) {
        pair.directors[0].terminate(PATIENCE)?;
        pair.wait_for_active(1)?;
        let load = pair.ask();
        pair.restart_director(0)?;
        let took = pair.wait_for_active(0)?;
        sleep(Duration::from_secs(1));
        let report = load.stop();
        println!("measured: run {run}: Active again after {took:.1?}: {report}");
        nothing_lost(&report).with_context(|| format!("run {run}"))?;
    }
    Ok(())
}

/// The same where the servers' first answers take their time.
fn a_director_without_verdicts_waits(lab: &mut Lab) -> Result<()> {
    let patient = edited(CONFIGURATION, "interval: 500ms", "interval: 3s");
    let patient = edited(&patient, "timeout: 300ms", "timeout: 3s");
    let mut pair = Pair::start(lab, &calm(&patient))?;
    let ds1 = pair.director(0).clone();
    pair.directors[0].terminate(PATIENCE)?;
    pair.wait_for_active(1)?;
    // Nobody has this Ethernet address: questions vanish.
    for server in SERVERS {
        ds1.run(&format!(
            "ip neighbour replace {server} lladdr 02:00:00:00:00:99 dev eth2 nud permanent"
        ))?;
    }
    let load = pair.ask();
    let capture = Capture::start(&ds1)?;
    pair.restart_director(0)?;
    capture.wait_for("probe", PATIENCE, |frame| {
        frame.outgoing && frame.bytes.starts_with(&[0x02, 0, 0, 0, 0, 0x99])
    })?;
    let probed = Instant::now();
    // Four adverts, each of which shows that the other's priority is lower.
    while probed.elapsed() < Duration::from_secs(2) {
        ensure!(!ds1.holds(VIP), "it took the VIP and knows of no server");
        sleep(Duration::from_millis(5));
    }
    for server in SERVERS {
        ds1.run(&format!("ip neighbour delete {server} dev eth2"))?;
    }
    pair.wait_for_active(0)?;
    sleep(Duration::from_secs(1));
    let report = load.stop();
    nothing_lost(&report)?;
    Ok(())
}

fn a_dead_worker_leaves_its_table(lab: &mut Lab) -> Result<()> {
    const SERVICE: &str = "UDP 192.168.56.185:53";
    // The table is looked at all the time: two late answers must not change it.
    let mut pair = Pair::start(lab, &edited(CONFIGURATION, "fall: 2", "fall: 10"))?;
    let ds1 = pair.director(0).clone();
    let expected = expected_table(&SERVERS.map(|server| (server, 1)));
    let load = pair.ask();
    wait_until("the kernel has counted", PATIENCE, || {
        forwarding::connections(&ds1, SERVICE).is_ok_and(|count| count >= 100)
    })?;
    kill(Pid::from_raw(worker(&pair.directors[0])?), Signal::SIGKILL)?;
    let took = wait_until("the VIP is gone", PATIENCE, || !ds1.holds(VIP))?;
    println!("measured: the VIP went {took:.1?} after the worker");
    let ended = pair.directors[0].wait(PATIENCE)?;
    ensure!(!ended.success(), "a dead worker is no success");
    pair.wait_for_active(1)?;
    same_table("after the worker", &forwarding::table(&ds1)?, &expected)?;
    // Beyond the kernel's own pace of 2 s, so that the figure is final.
    sleep(Duration::from_millis(2500));
    let before = forwarding::connections(&ds1, SERVICE)?;

    pair.restart_director(0)?;
    let mut table = Ok(());
    wait_until("ds1 is Active again", PATIENCE, || {
        if table.is_ok() {
            table = forwarding::table(&ds1)
                .and_then(|found| same_table("on the way", &found, &expected));
        }
        ds1.holds(VIP)
    })?;
    table?;
    sleep(Duration::from_millis(2500));
    let after = forwarding::connections(&ds1, SERVICE)?;
    let report = load.stop();
    println!("measured: a dead worker: {report}; {before} connections counted, then {after}");
    ensure!(after > before, "counted {before}, then {after}: made anew");
    ensure!(report.lost() < lab.mode().choose(50, 10), "{report}");
    Ok(())
}

/// Often enough that a gap is measured to 10 ms.
fn dense(pair: &Pair) -> Load {
    pair.questions()
        .every(Duration::from_millis(10))
        .timeout(Duration::from_millis(200))
        .start(&pair.hosts.client)
}

fn expect_alternation(report: &Report) -> Result<()> {
    let [first, second] = shares(report);
    ensure!(
        report.lost() == 0 && first.abs_diff(second) <= 1,
        "not alternating: {report}"
    );
    Ok(())
}

fn broken(zone: &str) -> String {
    let zone = if zone.is_empty() {
        String::new()
    } else {
        format!("zone \"abc.local\" {{ type primary; file \"{zone}.zone\"; }};\n")
    };
    format!(
        "options {{
    directory \"/run/lab/named\";
    pid-file \"/run/lab/named/named.pid\";
    session-keyfile \"/run/lab/named/session.key\";
    listen-on {{ any; }};
    listen-on-v6 {{ none; }};
    recursion no;
    dnssec-validation no;
    empty-zones-enable no;
}};
controls {{ }};
{zone}"
    )
}

/// A LAN of its own where keepalived forwards to two servers; it checks them with its defaults.
struct Keepalived {
    client: Host,
    named: [Process; 2],
    _director: Process,
}

impl Keepalived {
    fn start(lab: &mut Lab) -> Result<Self> {
        let lan = lab.add_lan("predecessor")?;
        let mut add = |name: &str, address: &str| {
            let host = lab.add_host(name)?;
            lab.attach(&host, "eth2", &lan, &[address])?;
            anyhow::Ok(host)
        };
        let client = add("k-client", "192.168.56.10/24")?;
        let director = add("k-ds", "192.168.56.181/24")?;
        let servers = [
            add("k-rs1", "192.168.56.183/24")?,
            add("k-rs2", "192.168.56.184/24")?,
        ];
        director.add_address("eth2", &format!("{VIP}/32"))?;
        let mut named = Vec::new();
        for (server, answer) in servers.iter().zip(ANSWERS) {
            hold_vip_silently(server, VIP)?;
            named.push(bind::start(server, answer)?);
        }
        let servers = SERVERS.map(|server| (server, 1));
        let service = VirtualServer::new(VIP, servers).checked(Recipe::DnsCheck);
        let program = balance(&director, &[service])?;
        let started = Self {
            client,
            named: named
                .try_into()
                .map_err(|_| anyhow::anyhow!("two servers"))?,
            _director: program,
        };
        wait_until("DNS through keepalived's VIP", PATIENCE, || {
            started.questions().ask(&started.client).is_ok()
        })?;
        Ok(started)
    }

    fn questions(&self) -> Questions {
        Questions::new(VIP).timeout(Duration::from_millis(500))
    }

    fn ask(&self) -> Load {
        self.questions().from_port(40_000).start(&self.client)
    }
}
