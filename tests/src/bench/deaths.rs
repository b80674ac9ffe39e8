//! What clients lose when a DNS server dies, behind the director and behind keepalived's recipes: the same
//! servers, the same deaths, at the same time.

use std::fmt::Write as _;
use std::io::Write;
use std::net::Ipv4Addr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nix::sys::signal::Signal;

use crate::bind;
use crate::dns::Questions;
use crate::forwarding;
use crate::lab::{Lab, Process, wait_until};
use crate::peer::virtual_server::{Recipe, VirtualServer, balance};
use crate::scenario::{PATIENCE, SERVERS};
use crate::service_file::ServiceFile;
use crate::topology::{ANSWERS, DnsPair, VIP, hold_vip_silently, start_director};
use crate::traffic::Load;

/// The heading of the section that this fills.
pub const HEADING: &str = "## When a server dies";

/// keepalived's services.
const THEIRS: [(Recipe, Ipv4Addr); 2] = [
    (Recipe::DnsCheck, Ipv4Addr::new(192, 168, 56, 203)),
    (Recipe::Dig, Ipv4Addr::new(192, 168, 56, 202)),
];
/// Between two questions to one VIP; half of them go to each server.
const QUESTIONS: Duration = Duration::from_millis(50);
/// An answer takes a few milliseconds even on an emulated processor.
const TIMEOUT: Duration = Duration::from_secs(1);
/// From a death on. keepalived looks every 6 s and asks up to three times, 3 s each.
const WATCHED: Duration = Duration::from_secs(60);

/// So long nothing is lost before a death.
const QUIET: Duration = Duration::from_secs(5);
/// To find such a time on a busy machine.
const ATTEMPTS: usize = 20;

/// How a server ends.
#[derive(Clone, Copy, Debug)]
enum Death {
    /// Its port is closed, and the kernel says so.
    Closed,
    /// It hangs.
    Hung,
}

/// What the clients of one VIP have lost; or those that ask the server that stays, which have no part in it.
#[derive(Clone, Debug)]
pub struct Row {
    name: String,
    closed: Loss,
    hung: Loss,
}

/// In [`WATCHED`] from a death.
#[derive(Clone, Copy, Debug)]
struct Loss {
    asked: usize,
    lost: usize,
    /// When nobody was sent to the dead one any more.
    out: Option<Duration>,
}

/// Plays both deaths once, and tells how far it is.
///
/// # Errors
/// When a program can't be started, or doesn't find the servers.
pub fn run(lab: &mut Lab, out: &mut dyn Write) -> Result<Vec<Row>> {
    let hosts = DnsPair::with_service_lan_only(lab)?;
    let vips = vips().map(|(_, vip)| vip);
    for server in [&hosts.rs1, &hosts.rs2] {
        for vip in vips {
            hold_vip_silently(server, vip)?;
        }
    }
    let mut named = hosts.start_named()?;
    let servers = SERVERS.iter();
    let file = servers.fold(ServiceFile::new().over_udp(), |file, server| {
        file.server(server, 1)
    });
    // As everybody has it who writes nothing more than the name.
    let file = file.check("{ dns: { name: www.abc.local } }");
    let _director = start_director(&hosts.ds1, &file.to_string())?;
    let services = THEIRS.map(|(recipe, vip)| {
        hosts.ds2.add_address("eth2", &format!("{vip}/32"))?;
        let servers = SERVERS.map(|server| (server, 1));
        let service = VirtualServer::new(vip, servers).checked(recipe);
        anyhow::Ok(service.one_packet())
    });
    let [first, second] = services;
    let _keepalived = balance(&hosts.ds2, &[first?, second?])?;
    wait_for_all(&hosts)?;
    let closed = play(&hosts, &mut named[0], Death::Closed, out)?;
    named[0] = bind::start(&hosts.rs1, ANSWERS[0])?;
    wait_for_all(&hosts)?;
    let hung = play(&hosts, &mut named[0], Death::Hung, out)?;
    named[0].signal(Signal::SIGCONT)?;
    let losses = closed.into_iter().zip(hung);
    let rows = asked()?.into_iter().zip(losses);
    let rows = rows.map(|((name, _), (closed, hung))| Row { name, closed, hung });
    Ok(rows.collect())
}

/// The section of the document.
pub fn section(rows: &[Row], date: &str) -> String {
    let mut text = format!(
        "{HEADING}\n\n\
         Measured on {date} in the same guest as the tables above: two BIND servers behind three VIPs at the \
         same time, one of the director with its default check and two of keepalived, which forward each \
         query by itself too. A client asks each VIP every {QUESTIONS:?}, so half of the questions \
         go to the server that dies. What was lost in {WATCHED:?} from its death, and after how long the \
         kernel's table was without it. Whoever asks the other server itself loses what the emulated machine \
         loses by being busy, and so do all others.\n\n\
         | | lost, port closed | out after | lost, hung | out after |\n\
         |---|---:|---:|---:|---:|\n"
    );
    for Row { name, closed, hung } in rows {
        let cells = [closed, hung].map(|loss| {
            let out = loss.out.map_or_else(
                || "–".to_owned(),
                |out| format!("{:.2} s", out.as_secs_f64()),
            );
            format!("{} of {} | {out}", loss.lost, loss.asked)
        });
        let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
    }
    text
}

fn vips() -> [(String, Ipv4Addr); 3] {
    let [first, second] = THEIRS.map(|(recipe, vip)| (format!("keepalived, {recipe}"), vip));
    [("director".to_owned(), VIP), first, second]
}

/// Whom clients ask: the VIPs, and the server that stays.
fn asked() -> Result<[(String, Ipv4Addr); 4]> {
    let [first, second, third] = vips();
    let staying = ("the other server itself".to_owned(), SERVERS[1].parse()?);
    Ok([first, second, third, staying])
}

/// Until everybody forwards to both servers.
fn wait_for_all(hosts: &DnsPair) -> Result<()> {
    for (name, vip) in vips() {
        wait_until(&format!("{name} forwards to both"), PATIENCE, || {
            let mut servers = SERVERS.iter();
            servers.all(|server| forwards(hosts, vip, server))
                && Questions::new(vip).ask(&hosts.client).is_ok()
        })?;
    }
    // keepalived's checks of a server that returned are spread over its interval.
    sleep(Duration::from_secs(7));
    Ok(())
}

fn forwards(hosts: &DnsPair, vip: Ipv4Addr, server: &str) -> bool {
    let director = if vip == VIP { &hosts.ds1 } else { &hosts.ds2 };
    let line = format!("UDP {vip}:53 -> {server}:53 Route 1");
    forwarding::table(director).is_ok_and(|table| table.contains(&line))
}

/// Ends a server while clients ask, and returns what those of each VIP have lost.
fn play(
    hosts: &DnsPair,
    named: &mut Process,
    death: Death,
    out: &mut dyn Write,
) -> Result<Vec<Loss>> {
    let loads = undisturbed(hosts)?;
    let died = Instant::now();
    match death {
        Death::Closed => named.kill(),
        Death::Hung => named.signal(Signal::SIGSTOP)?,
    }
    let mut removed = [None; 4];
    while died.elapsed() < WATCHED {
        for ((_, vip), removed) in vips().into_iter().zip(&mut removed) {
            if removed.is_none() && !forwards(hosts, vip, SERVERS[0]) {
                *removed = Some(died.elapsed());
            }
        }
        sleep(Duration::from_millis(20));
    }
    let reports = loads.into_iter().map(Load::stop);
    let mut losses = Vec::new();
    for (((name, _), report), removed) in asked()?.into_iter().zip(reports).zip(removed) {
        let report = report.between(died, died + WATCHED);
        let loss = Loss {
            asked: report.sent(),
            lost: report.lost(),
            out: removed,
        };
        writeln!(out, "{death:?}: {name}: {loss:?}")?;
        losses.push(loss);
    }
    Ok(losses)
}

/// Clients of all VIPs, of whom none has lost anything for a while: what is lost from then on is lost
/// for what happens then.
fn undisturbed(hosts: &DnsPair) -> Result<[Load; 4]> {
    for _ in 0..ATTEMPTS {
        let loads = asked()?.map(|(_, address)| {
            let questions = Questions::new(address).every(QUESTIONS).timeout(TIMEOUT);
            questions.start(&hosts.client)
        });
        sleep(QUIET);
        if loads.iter().all(|load| load.report().lost() == 0) {
            return Ok(loads);
        }
    }
    bail!("queries are lost although all is well: this machine is too busy")
}
