//! Checkers beyond one DNS server: how many run, how soon they know, and what the other kinds find.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use crate::bind;
use crate::capture::Capture;
use crate::case::Case;
use crate::cases::metrics::Scrape;
use crate::crowd::{self, Crowd};
use crate::dns::Questions;
use crate::forwarding;
use crate::lab::{Host, Lab, Process, wait_until};
use crate::peer::virtual_server::{Recipe, VirtualServer, balance};
use crate::scenario::{PATIENCE, SERVERS};
use crate::topology::{ANSWERS, DnsPair, VIP, start_director, two_hosts};

/// The cases of this theme.
pub(super) const CASES: &[Case] = &[
    Case::new(
        "checkers::equal_checks_of_a_server_are_run_once",
        equal_checks_of_a_server_are_run_once,
    ),
    Case::new(
        "checkers::a_dead_and_a_hung_server_leave_in_time",
        a_dead_and_a_hung_server_leave_in_time,
    )
    .needing_ipvs()
    .soaked(),
    Case::new(
        "checkers::others_keep_what_hangs_or_has_expired",
        others_keep_what_hangs_or_has_expired,
    )
    .needing_ipvs()
    // Our own part of it is shown above; keepalived takes its time.
    .only_soaked(),
];

const SHARED: u16 = 50;
const SERVICES: u8 = 10;
const INTERVAL: Duration = Duration::from_millis(500);

fn equal_checks_of_a_server_are_run_once(lab: &mut Lab) -> Result<()> {
    let (director, servers) = two_hosts(lab)?;
    director.run(&format!("ip route add {} via 192.168.56.2", crowd::NETWORK))?;
    let crowd = Crowd::start(&servers, |_| false)?;
    let _director = start_director(&director, &configuration())?;
    wait_until("a first question", PATIENCE, || {
        !crowd.questions().is_empty()
    })?;
    let limit = lab.mode().choose(1500, 1000);
    let all = usize::from(SHARED) * usize::from(SERVICES);
    wait_until("verdicts", Duration::from_millis(limit), || {
        let healthy = |scrape: Scrape| scrape.family("director_real_server_healthy");
        Scrape::of(&director)
            .is_ok_and(|scrape| healthy(scrape).values().sum::<u64>() == all as u64)
    })?;

    sleep(INTERVAL);
    crowd.forget();
    sleep(8 * INTERVAL);
    let questions = crowd.questions();
    let mut asked = HashMap::<Ipv4Addr, usize>::new();
    for question in &questions {
        *asked.entry(question.server).or_default() += 1;
    }
    ensure!(
        asked.len() == usize::from(SHARED),
        "{} were asked",
        asked.len()
    );
    for (server, times) in asked {
        // Intervals are up to a tenth shorter.
        ensure!(
            (7..=10).contains(&times),
            "{server} was asked {times} times"
        );
    }
    Ok(())
}

fn configuration() -> String {
    let mut text =
        "dataplane: none\nmetrics: { listen: \"127.0.0.1:9712\" }\nservices:\n".to_owned();
    let servers: Vec<String> = (1..=SHARED)
        .map(|number| format!("{{ address: {} }}", crowd::server(number)))
        .collect();
    for service in 1..=SERVICES {
        let _ = writeln!(
            text,
            "  - {{ name: s{service}, address: 192.0.2.{service}, port: 53, protocols: [udp], external: \
             true, check: {{ dns: {{ name: www.abc.local }} }}, real_servers: [{}] }}",
            servers.join(", ")
        );
    }
    text
}

/// Two BIND servers and a third one that stays well, and a director that forwards UDP to them, with
/// the defaults of checks.
struct Two {
    hosts: DnsPair,
    named: [Process; 2],
    _well: Process,
    _director: Process,
}

impl Two {
    fn start(lab: &mut Lab) -> Result<Self> {
        let hosts = DnsPair::with_service_lan_only(lab)?;
        let two = Self {
            named: hosts.start_named()?,
            _well: bind::start(&hosts.client, ANSWERS[1])?,
            _director: start_director(&hosts.ds1, DEFAULTS)?,
            hosts,
        };
        two.wait_for(&SERVERS)?;
        Ok(two)
    }

    fn wait_for(&self, servers: &[&str]) -> Result<Duration> {
        wait_until(&format!("exactly {servers:?}"), PATIENCE, || {
            forwarding::table(&self.hosts.ds1).is_ok_and(|table| {
                let is_in = |server: &&str| has(&table, VIP, server);
                SERVERS.iter().filter(|it| is_in(it)).eq(servers)
            })
        })
    }
}

const DEFAULTS: &str = "\
services:
  - name: resolver
    address: 192.168.56.185
    port: 53
    protocols: [udp]
    external: true
    check: { dns: { name: www.abc.local } }
    real_servers: [{ address: 192.168.56.183 }, { address: 192.168.56.184 }, { address: 192.168.56.10 }]
";
fn has(table: &forwarding::Table, service: Ipv4Addr, server: &str) -> bool {
    let start = format!("UDP {service}:53 -> {server}:53 ");
    table.iter().any(|line| line.starts_with(&start))
}

/// A closed port and a server that hangs, each from the first probe that meets it. The second is
/// `fall` times the time-out, 600 ms, and what the emulated machine needs to act on it.
fn a_dead_and_a_hung_server_leave_in_time(lab: &mut Lab) -> Result<()> {
    let mut two = Two::start(lab)?;
    let server: Ipv4Addr = SERVERS[0].parse()?;
    let capture = Capture::start(&two.hosts.rs1)?;
    let slack = lab.mode().choose(1000, 0);
    for (what, limit) in [("closed", 300), ("hung", 700)] {
        // Not in step with the probes.
        sleep(Duration::from_millis(730));
        let begun = Instant::now();
        if what == "closed" {
            two.named[0].kill();
        } else {
            two.named[0].signal(Signal::SIGSTOP)?;
        }
        two.wait_for(&SERVERS[1..])?;
        let out = Instant::now();
        let frames = capture.frames(|frame| frame.at >= begun);
        // One that ends may have answered once more.
        let answered = |port: u16| {
            let mut datagrams = frames.iter().filter(|frame| frame.outgoing);
            datagrams.any(|frame| {
                frame.datagram().is_some_and(|datagram| {
                    datagram.source.port() == 53 && datagram.destination.port() == port
                })
            })
        };
        let mut probes = frames.iter().filter(|frame| {
            !frame.outgoing
                && frame.datagram().is_some_and(|datagram| {
                    *datagram.destination.ip() == server
                        && datagram.destination.port() == 53
                        && !answered(datagram.source.port())
                })
        });
        let probe = probes.next().context("no probe came")?.at;
        println!(
            "measured: a {what} server is out {:?} after the first probe, {:?} after its end",
            out - probe,
            out - begun
        );
        let limit = Duration::from_millis(limit + slack);
        ensure!(out - probe <= limit, "{what}: more than {limit:?}");
        let whole = Duration::from_millis(1300 + slack);
        ensure!(out - begun <= whole, "{what}: more than {whole:?}");
        if what == "closed" {
            two.named[0] = bind::start(&two.hosts.rs1, ANSWERS[0])?;
            two.wait_for(&SERVERS)?;
        }
    }
    two.named[0].signal(Signal::SIGCONT)?;
    two.wait_for(&SERVERS)?;
    Ok(())
}

/// keepalived's services, each with one of its recipes.
const RECIPES: [(Recipe, Ipv4Addr); 3] = [
    (Recipe::UdpCheck, Ipv4Addr::new(192, 168, 56, 201)),
    (Recipe::Dig, Ipv4Addr::new(192, 168, 56, 202)),
    (Recipe::DnsCheck, Ipv4Addr::new(192, 168, 56, 203)),
];
/// How long it's watched.
const WATCHED: Duration = Duration::from_secs(50);

/// rs1 hangs, and rs2's zone has expired: both go here; beside it keepalived's recipes.
fn others_keep_what_hangs_or_has_expired(lab: &mut Lab) -> Result<()> {
    let two = Two::start(lab)?;
    let keepalived = &two.hosts.ds2;
    let services = RECIPES.map(|(recipe, vip)| {
        VirtualServer::new(vip, SERVERS.map(|server| (server, 1))).checked(recipe)
    });
    let _keepalived = balance(keepalived, &services)?;
    wait_until("keepalived's services", PATIENCE, || {
        forwarding::table(keepalived).is_ok_and(|table| {
            let mut all = RECIPES
                .iter()
                .flat_map(|(_, vip)| SERVERS.map(|server| (vip, server)));
            all.all(|(vip, server)| has(&table, *vip, server))
        })
    })?;
    // Its first checks come within its interval.
    sleep(Duration::from_secs(7));

    expire(&two.hosts.rs2, &two.named[1])?;
    two.named[0].signal(Signal::SIGSTOP)?;
    let begun = Instant::now();
    let mut out = BTreeMap::new();
    while begun.elapsed() < WATCHED {
        let tables = [
            forwarding::table(&two.hosts.ds1)?,
            forwarding::table(keepalived)?,
        ];
        let recipes = RECIPES
            .iter()
            .map(|(recipe, vip)| (Some(*recipe), *vip, &tables[1]));
        for (who, vip, table) in recipes.chain([(None, VIP, &tables[0])]) {
            for (server, state) in SERVERS.iter().zip(["hung", "expired"]) {
                if !has(table, vip, server) {
                    out.entry((who, state)).or_insert_with(|| begun.elapsed());
                }
            }
        }
        sleep(Duration::from_millis(20));
    }
    two.named[0].signal(Signal::SIGCONT)?;
    let theirs = RECIPES.map(|(recipe, _)| Some(recipe));
    for who in [None].into_iter().chain(theirs) {
        let name = who.map_or_else(|| "director".to_owned(), |recipe| recipe.to_string());
        for state in ["hung", "expired"] {
            let what = match out.get(&(who, state)) {
                Some(after) => format!("removed the {state} server after {after:.2?}"),
                None => format!("kept the {state} server for {WATCHED:?}"),
            };
            println!("measured: {name} {what}");
        }
    }
    let limit = Duration::from_millis(lab.mode().choose(2500, 1300));
    for state in ["hung", "expired"] {
        let ours = out.get(&(None, state));
        ensure!(
            ours.is_some_and(|after| *after < limit),
            "{state}: {ours:?}"
        );
    }
    ensure!(
        !out.contains_key(&(Some(Recipe::UdpCheck), "hung")),
        "UDP_CHECK noticed"
    );
    let dig = (Some(Recipe::Dig), "expired");
    ensure!(!out.contains_key(&dig), "dig noticed");
    Ok(())
}

/// Makes named a secondary that hasn't reached its primary for longer than the zone may live.
fn expire(host: &Host, named: &Process) -> Result<()> {
    let file = host.run("cat /run/lab/named/named.conf")?;
    let secondary = "type secondary; primaries { 192.0.2.1; }; masterfile-format text;";
    host.write_file(
        "named/named.conf",
        &file.replace("type primary;", secondary),
    )?;
    host.run("touch -d 2020-01-01 /run/lab/named/abc.local.zone")?;
    named.signal(Signal::SIGHUP)?;
    let address: Ipv4Addr = SERVERS[1].parse()?;
    let own = Questions::new(address);
    wait_until("its zone has expired", PATIENCE, || {
        let asked = own.clone().ask(host);
        asked.is_err_and(|error| error.to_string().contains("Server Failure"))
    })?;
    Ok(())
}
