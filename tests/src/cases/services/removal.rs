//! Servers that are taken out while they live, for a client that keeps its port; beside keepalived.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use crate::forwarding;
use crate::lab::{Host, Lab, Process, wait_until};
use crate::peer::virtual_server::{self, VirtualServer, balance};
use crate::responder::Responder;
use crate::scenario::{PATIENCE, nothing_lost};
use crate::solo::{SERVERS, Solo, configuration};
use crate::topology::{VIP, hold_vip_silently};
use crate::traffic::{Load, Report};

/// How long clients are watched after a server has gone.
const WATCHED: Duration = Duration::from_secs(2);

/// The very next question goes elsewhere. keepalived, left to its defaults, loses every later one of
/// a removed server's clients, and leaves them with a server of weight 0.
pub(super) fn the_next_question_goes_elsewhere(lab: &mut Lab) -> Result<()> {
    let theirs = Keepalived::start(lab)?;
    let ours = Solo::start(lab, &configuration(&[(0, 1), (1, 1)]))?;

    let (our_load, their_load) = (ours.questions().start(&ours.hosts.client), theirs.ask());
    sleep(Duration::from_secs(1));
    let pinned = theirs.pinned(&their_load)?;
    ours.reload(&configuration(&[(0, 1), (1, 0)]))?;
    theirs.weigh(pinned, Some(0))?;
    let (our_report, their_report) = (since_now(our_load), since_now(their_load));
    println!("measured: weight 0, ours: {our_report}");
    println!("measured: weight 0, keepalived: {their_report}");
    nothing_lost(&our_report).context("weight 0")?;
    only_by(&our_report, 0)?;
    let stuck = their_report.answers_by(&SERVERS[pinned].1.to_string());
    ensure!(
        stuck == their_report.sent(),
        "keepalived drains: {their_report}"
    );

    ours.reload(&configuration(&[(0, 1), (1, 1)]))?;
    theirs.weigh(pinned, Some(1))?;
    let (our_load, their_load) = (ours.questions().start(&ours.hosts.client), theirs.ask());
    sleep(Duration::from_secs(1));
    ours.reload(&configuration(&[(1, 1)]))?;
    theirs.weigh(pinned, None)?;
    let (our_report, their_report) = (since_now(our_load), since_now(their_load));
    println!("measured: removed, ours: {our_report}");
    println!("measured: removed, keepalived: {their_report}");
    nothing_lost(&our_report).context("removed")?;
    only_by(&our_report, 1)?;
    ensure!(
        their_report.lost() == their_report.sent(),
        "keepalived loses nothing: {their_report}"
    );
    Ok(())
}

/// What a client sees from now on; the change has been made.
fn since_now(load: Load) -> Report {
    let from = Instant::now();
    sleep(WATCHED);
    load.stop().since(from)
}

fn only_by(report: &Report, index: usize) -> Result<()> {
    let answers = report.answers_by(&SERVERS[index].1.to_string());
    ensure!(answers == report.sent(), "not by {index} alone: {report}");
    Ok(())
}

/// A LAN of its own where keepalived forwards to the same two servers, without checks.
struct Keepalived {
    client: Host,
    director: Host,
    process: Process,
    _responders: [Responder; 2],
}

impl Keepalived {
    fn start(lab: &mut Lab) -> Result<Self> {
        let lan = lab.add_lan("keepalived")?;
        let mut add = |name: &str, address: &str| {
            let host = lab.add_host(name)?;
            lab.attach(&host, "eth2", &lan, &[format!("{address}/24")])?;
            anyhow::Ok(host)
        };
        let client = add("k-client", "192.168.56.10")?;
        let director = add("k-ds", "192.168.56.181")?;
        let servers = [add("k-rs1", SERVERS[0].0)?, add("k-rs2", SERVERS[1].0)?];
        director.add_address("eth2", &format!("{VIP}/24"))?;
        let respond = |index: usize| {
            hold_vip_silently(&servers[index], VIP)?;
            Responder::start(&servers[index], VIP, SERVERS[index].1)
        };
        let responders = [respond(0)?, respond(1)?];
        let started = Self {
            process: balance(&director, &[keepalived([Some(1); 2])])?,
            client,
            director,
            _responders: responders,
        };
        started.wait_for([Some(1); 2])?;
        Ok(started)
    }

    fn ask(&self) -> Load {
        let questions = crate::dns::Questions::new(VIP).from_port(40_000);
        questions
            .timeout(Duration::from_secs(2))
            .start(&self.client)
    }

    /// The server that all questions go to.
    fn pinned(&self, load: &Load) -> Result<usize> {
        let report = load.report();
        let pinned = (0..2).find(|index| only_by(&report, *index).is_ok());
        pinned.with_context(|| format!("keepalived's client isn't pinned: {report}"))
    }

    /// Gives a server this weight, or takes it out.
    fn weigh(&self, index: usize, weight: Option<u32>) -> Result<()> {
        let mut weights = [Some(1); 2];
        weights[index] = weight;
        virtual_server::write(&self.director, &[keepalived(weights)])?;
        self.process.signal(Signal::SIGHUP)?;
        self.wait_for(weights)
    }

    fn wait_for(&self, weights: [Option<u32>; 2]) -> Result<()> {
        let mut expected = forwarding::Table::from([format!("UDP {VIP}:53 wrr")]);
        for ((address, _), weight) in SERVERS.iter().zip(weights) {
            if let Some(weight) = weight {
                expected.insert(format!("UDP {VIP}:53 -> {address}:53 Route {weight}"));
            }
        }
        wait_until("keepalived has its table", PATIENCE, || {
            forwarding::table(&self.director).is_ok_and(|table| table == expected)
        })?;
        Ok(())
    }
}

fn keepalived(weights: [Option<u32>; 2]) -> VirtualServer {
    let servers = SERVERS.iter().zip(weights);
    let present = servers.filter_map(|((address, _), weight)| Some((address, weight?)));
    VirtualServer::new(VIP, present)
}
