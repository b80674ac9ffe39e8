//! What becomes of servers when others fail, return, or are drained: for the kernel and for a client.

use std::net::Ipv4Addr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::metrics::Scrape;
use crate::case::{Case, Mode};
use crate::dns::Questions;
use crate::figures;
use crate::forwarding::{self, Table};
use crate::lab::{Host, Lab, wait_until};
use crate::responder::Responder;
use crate::scenario::{PATIENCE, nothing_lost, same_table};
use crate::service_file::ServiceFile;
use crate::solo::{SERVERS, Solo};
use crate::topology::{DnsPair, VIP};
use crate::traffic::Report;

/// The cases of this theme.
pub(super) const CASES: &[Case] = &[
    Case::new(
        "pool::all_failing_at_once_keeps_the_last_good_servers",
        all_failing_at_once_keeps_the_last_good_servers,
    )
    .needing_ipvs()
    .soaked(),
    Case::new(
        "pool::the_sorry_server_answers_while_nobody_else_does",
        the_sorry_server_answers_while_nobody_else_does,
    )
    .needing_ipvs()
    .soaked(),
    Case::new("pool::a_drain_loses_nothing", a_drain_loses_nothing)
        .needing_ipvs()
        .soaked(),
    Case::new(
        "pool::a_server_that_returns_climbs_its_ramp",
        a_server_that_returns_climbs_its_ramp,
    )
    .needing_ipvs()
    .soaked(),
];

/// One service over UDP, checked as by default, with these real servers of [`SERVERS`].
fn configuration(servers: &[usize]) -> String {
    file(servers).with("pool: { floor: 1 }").to_string()
}

fn file(servers: &[usize]) -> ServiceFile {
    let file = ServiceFile::new()
        .over_udp()
        .check("{ dns: { name: www.abc.local } }");
    let servers = servers.iter();
    servers.fold(file, |file, index| file.server(SERVERS[*index].0, 1))
}

/// A director with checked servers: what answers its checks can fail while the VIP is answered on.
struct Checked {
    solo: Solo,
    answering: Vec<Option<Responder>>,
}

impl Checked {
    fn start(lab: &mut Lab, servers: &[usize], yaml: &str) -> Result<Self> {
        let hosts = DnsPair::with_service_lan_only(lab)?;
        let answering = servers.iter().map(|index| answer_checks(&hosts, *index));
        let answering: Vec<_> = answering.map(|one| one.map(Some)).collect::<Result<_>>()?;
        let solo = Solo::start_on(hosts, yaml)?;
        let checked = Self { solo, answering };
        let all: Vec<_> = servers.iter().map(|index| (*index, 1)).collect();
        wait_until("all servers are in", PATIENCE, || checked.has(&all))?;
        Ok(checked)
    }

    fn fail(&mut self, index: usize) {
        self.answering[index] = None;
    }

    fn recover(&mut self, index: usize) -> Result<()> {
        self.answering[index] = Some(answer_checks(&self.solo.hosts, index)?);
        Ok(())
    }

    fn has(&self, weights: &[(usize, u32)]) -> bool {
        forwarding::table(self.solo.host()).is_ok_and(|table| table == expected(weights))
    }

    fn metric(&self, name: &str) -> Option<u64> {
        let labels = "{family=\"ipv4\",protocol=\"udp\",service=\"resolver\"}";
        Scrape::of(self.solo.host())
            .ok()?
            .value(&format!("{name}{labels}"))
    }

    /// What `director status` prints, and how it ends.
    fn status(&self) -> Result<(String, Option<i32>)> {
        let output = self.solo.host().output("director", ["status"], PATIENCE)?;
        Ok((output.stdout.clone(), output.code()))
    }
}

fn answer_checks(hosts: &DnsPair, index: usize) -> Result<Responder> {
    let (address, answer) = SERVERS[index];
    let host = [&hosts.rs1, &hosts.rs2, &hosts.ds2][index];
    Responder::start(host, address.parse::<Ipv4Addr>()?, answer)
}

/// Half a second until the next probe, another one after that, and what the machine adds.
fn alone_within(lab: &Lab) -> Duration {
    Duration::from_secs(lab.mode().choose(2, 1))
}

/// The kernel's table with these weights of these servers.
fn expected(weights: &[(usize, u32)]) -> Table {
    let mut table = Table::from([format!("UDP {VIP}:53 wrr ops")]);
    for (index, weight) in weights {
        let (address, _) = SERVERS[*index];
        table.insert(format!("UDP {VIP}:53 -> {address}:53 Route {weight}"));
    }
    table
}

fn all_failing_at_once_keeps_the_last_good_servers(lab: &mut Lab) -> Result<()> {
    let mut checked = Checked::start(lab, &[0, 1, 2], &configuration(&[0, 1, 2]))?;
    let all = [(0, 1), (1, 1), (2, 1)];
    let floor = "director_pool_floor_in_effect";
    ensure!(checked.metric(floor) == Some(0), "too early");
    let (text, code) = checked.status()?;
    ensure!(code == Some(0), "{text}");
    let lines: Vec<&str> = text
        .lines()
        .filter(|it| it.starts_with("resolver"))
        .collect();
    ensure!(lines == ["resolver  3 of 3   1"], "{text}");

    for index in 0..3 {
        checked.fail(index);
    }
    wait_until("the floor is in effect", PATIENCE, || {
        checked.metric(floor) == Some(1)
    })?;
    wait_until("the last good servers are back", PATIENCE, || {
        checked.has(&all)
    })?;
    // For longer than it takes to notice anything.
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(2) {
        same_table(
            "kept",
            &forwarding::table(checked.solo.host())?,
            &expected(&all),
        )?;
        sleep(Duration::from_millis(50));
    }
    ensure!(checked.metric("director_pool_quorum") == Some(0), "quorum");
    ensure!(
        checked.metric("director_pool_healthy_servers") == Some(0),
        "healthy"
    );
    let (text, code) = checked.status()?;
    println!("{text}");
    ensure!(code == Some(2), "{code:?}: {text}");
    for part in [
        "no server passes its checks: the last good ones are kept",
        "192.168.56.183  udp  kept  weight 1",
    ] {
        ensure!(text.contains(part), "no `{part}` in\n{text}");
    }
    checked.solo.questions().ask(&checked.solo.hosts.client)?;

    checked.recover(1)?;
    let took = wait_until("the one that returned is alone", PATIENCE, || {
        checked.has(&[(1, 1)])
    })?;
    figures::within("alone after", took, alone_within(lab))?;
    wait_until("the metrics follow", PATIENCE, || {
        checked.metric(floor) == Some(0) && checked.metric("director_pool_quorum") == Some(1)
    })?;
    checked.recover(0)?;
    checked.recover(2)?;
    wait_until("all are in again", PATIENCE, || checked.has(&all))?;
    Ok(())
}

fn the_sorry_server_answers_while_nobody_else_does(lab: &mut Lab) -> Result<()> {
    const SORRY: usize = 2;
    let pool = "pool: { floor: 0, sorry_server: { address: 192.168.56.182 } }";
    let yaml = file(&[0, 1]).with(pool).to_string();
    let mut checked = Checked::start(lab, &[0, 1], &yaml)?;
    let client = checked.solo.hosts.client.clone();
    let in_use = "director_pool_sorry_server_in_use";
    ensure!(checked.metric(in_use) == Some(0), "too early");
    for index in 0..2 {
        checked.fail(index);
    }
    wait_until("nobody else is left", PATIENCE, || {
        checked.has(&[(SORRY, 1)])
    })?;
    let load = load(&client);
    sleep(Duration::from_secs(1));
    let report = load.stop();
    ensure!(
        report.sent() > 10 && by(&report, SORRY) == report.sent(),
        "the sorry server answers not all: {report}"
    );
    wait_until("the metrics follow", PATIENCE, || {
        checked.metric(in_use) == Some(1) && checked.metric("director_pool_quorum") == Some(0)
    })?;
    let (text, code) = checked.status()?;
    ensure!(
        code == Some(2) && text.contains("sorry"),
        "{code:?}: {text}"
    );

    checked.recover(1)?;
    let took = wait_until("the one that returned is alone", PATIENCE, || {
        checked.has(&[(1, 1)])
    })?;
    figures::within("alone after", took, alone_within(lab))?;
    let load = self::load(&client);
    sleep(Duration::from_secs(1));
    let report = load.stop();
    ensure!(
        report.sent() > 10 && by(&report, 1) == report.sent(),
        "who returned answers not all: {report}"
    );
    Ok(())
}

fn a_drain_loses_nothing(lab: &mut Lab) -> Result<()> {
    let mut checked = Checked::start(lab, &[0, 1], &configuration(&[0, 1]))?;
    let client = checked.solo.hosts.client.clone();
    let host = checked.solo.host().clone();
    let load = load(&client);
    sleep(Duration::from_secs(2));
    let drained = host.run("director drain resolver/192.168.56.183 --reason disk")?;
    ensure!(
        drained == "resolver/192.168.56.183: drained until `director enable`; was enabled\n",
        "{drained}"
    );
    same_table(
        "drained",
        &forwarding::table(&host)?,
        &expected(&[(0, 0), (1, 1)]),
    )?;
    let told = Instant::now();
    sleep(Duration::from_secs(2));
    let report = load.stop();
    rate(&report);
    figures::at_most("lost", report.lost(), 0)?;
    nothing_lost(&report)?;
    let [before, after] = [
        report.between(report.attempts[0].sent, told),
        report.since(told),
    ];
    ensure!(by(&before, 0) > before.sent() / 4, "before: {before}");
    ensure!(by(&after, 0) == 0 && after.sent() > 50, "after: {after}");
    let (text, _) = checked.status()?;
    println!("{text}");
    let line = text.lines().find(|line| line.contains("by hand (disk);"));
    ensure!(
        line.is_some_and(|line| line.contains(" drained ")),
        "{text}"
    );
    let hand = "director_real_server_hand{family=\"ipv4\",protocol=\"udp\",\
                real_server=\"192.168.56.183\",service=\"resolver\",state=\"drained\"}";
    ensure!(Scrape::of(&host)?.value(hand) == Some(1), "no {hand}");

    // It outlives the death of the director, and ends by the clock.
    let yaml = configuration(&[0, 1]);
    checked.solo.director.kill_family();
    checked.solo.restart(&yaml)?;
    wait_until("the director answers", PATIENCE, || {
        checked.metric("director_pool_healthy_servers") == Some(1)
    })?;
    same_table(
        "again",
        &forwarding::table(&host)?,
        &expected(&[(0, 0), (1, 1)]),
    )?;
    let disabled = Instant::now();
    host.run("director disable */192.168.56.183 --for 3s")?;
    ensure!(
        checked.has(&[(1, 1)]),
        "disabled: {:?}",
        forwarding::table(&host)?
    );
    wait_until("its time is over", PATIENCE, || {
        checked.has(&[(0, 1), (1, 1)])
    })?;
    let took = disabled.elapsed();
    println!("measured: `--for 3s` took {took:.1?}");
    ensure!(
        (Duration::from_secs(3)..Duration::from_secs(6)).contains(&took),
        "{took:?}"
    );
    let refused = host.output("director", ["drain", "resolver/192.168.56.99"], PATIENCE)?;
    ensure!(
        refused.code() == Some(1)
            && refused
                .stderr
                .contains("no server is resolver/192.168.56.99"),
        "{refused:?}"
    );
    Ok(())
}

/// Of the ramp.
const RAMP: Duration = Duration::from_secs(20);
/// How late the kernel's table may be, and how long a look at it takes; a busy machine may miss a step.
fn slack(mode: Mode) -> Duration {
    mode.choose(RAMP / 10, Duration::from_millis(500))
}

fn a_server_that_returns_climbs_its_ramp(lab: &mut Lab) -> Result<()> {
    let slow = file(&[0, 1]).with("pool: { floor: 1, slow_start: 20s }");
    let yaml = slow.to_string();
    let slack = slack(lab.mode());
    let mut checked = Checked::start(lab, &[0, 1], &yaml)?;
    checked.fail(0);
    wait_until("it is out", PATIENCE, || checked.has(&[(1, 1)]))?;
    let load = load(&checked.solo.hosts.client.clone());
    checked.recover(0)?;
    let host = checked.solo.host().clone();
    wait_until("it is in again", PATIENCE, || {
        checked.has(&[(0, 5), (1, 100)])
    })?;
    let began = Instant::now();
    let mut seen = vec![5];
    while began.elapsed() < RAMP - slack {
        let before = began.elapsed();
        let weights = weights(&host)?;
        let allowed = percent(before.saturating_sub(slack))..=percent(began.elapsed() + slack / 2);
        ensure!(
            weights[1] == 100 && allowed.contains(&weights[0]),
            "{weights:?} after {before:?}: expected {allowed:?}"
        );
        if seen.last() != Some(&weights[0]) {
            seen.push(weights[0]);
        }
        sleep(Duration::from_millis(200));
    }
    println!("measured: weights of 100: {seen:?}");
    let steps = [5, 10, 20, 30, 40, 50, 60, 70, 80, 90];
    ensure!(seen.len() >= 8 && seen.is_sorted(), "{seen:?}");
    ensure!(seen.iter().all(|weight| steps.contains(weight)), "{seen:?}");
    wait_until("it has all", PATIENCE, || checked.has(&[(0, 1), (1, 1)]))?;
    figures::within(
        "ramp beyond its 20 s",
        began.elapsed().saturating_sub(RAMP),
        2 * slack,
    )?;
    sleep(Duration::from_secs(2));
    let report = load.stop();
    rate(&report);
    // What servers received in each step; the table may have been that of the one before for a while.
    let mut shares = Vec::new();
    let share_at = |weight: u32| f64::from(weight) / f64::from(weight + 100);
    for step in 0..11_u32 {
        let from = began + RAMP / 10 * step;
        let during = report.between(from, from + RAMP / 10);
        let share = by(&during, 0) as f64 / during.answered().max(1) as f64;
        let now = share_at(percent(RAMP / 10 * step));
        let before = share_at(percent(RAMP / 10 * step.saturating_sub(1)));
        shares.push(format!("{share:.2} ({now:.2})"));
        ensure!(during.answered() >= 40, "step {step}: {during}");
        // One turn of the weights takes up to 21 questions, and a step has some 100.
        ensure!(
            (before - 0.06..=now + 0.06).contains(&share),
            "step {step}: {share:.2} instead of {now:.2} of {during}"
        );
    }
    println!("measured: shares (of the ramp): {}", shares.join(", "));
    nothing_lost(&report)
}

/// What the ramp gives after that time, in percent.
fn percent(time: Duration) -> u32 {
    let steps = time.as_millis() * 10 / RAMP.as_millis();
    match u32::try_from(steps).unwrap_or(10) {
        0 => 5,
        step => 10 * step.min(10),
    }
}

/// The weights of the first two servers.
fn weights(host: &Host) -> Result<[u32; 2]> {
    let table = forwarding::table(host)?;
    let weight = |index: usize| {
        let server = format!("-> {}:53 Route ", SERVERS[index].0);
        let line = table.iter().find_map(|line| line.split_once(&server));
        anyhow::Ok(line.context("it isn't there")?.1.parse::<u32>()?)
    };
    Ok([weight(0)?, weight(1)?])
}

/// 200 questions a second, or as many as the machine carries.
fn load(client: &Host) -> crate::traffic::Load {
    Questions::new(VIP)
        .every(Duration::from_millis(5))
        .start(client)
}

fn by(report: &Report, index: usize) -> usize {
    report.answers_by(&SERVERS[index].1.to_string())
}

fn rate(report: &Report) {
    if let [first, .., last] = report.attempts.as_slice() {
        let time = last.sent - first.sent;
        figures::note(
            "questions",
            report.sent() as f64 / time.as_secs_f64(),
            "/s",
            None,
        );
    }
}
