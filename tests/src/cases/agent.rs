//! `rs-agent`: a machine that holds the VIP, and that nobody on the LAN finds by it.

mod ipv6;
mod rivals;
mod silence;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lvs_system::packet::PacketSocket;
use nix::net::if_::if_nametoindex;

use super::neighbour::{arp_request, neighbour, replies};
use crate::capture::Capture;
use crate::case::Case;
use crate::lab::{Host, Lab, Output, wait_until};
use crate::topology::{VIP, two_hosts};
use crate::{binaries, ping};

/// The cases of this theme.
pub(super) const CASES: &[Case] = &[
    Case::new(
        "agent::leaves_the_machine_as_found",
        leaves_the_machine_as_found,
    ),
    Case::new("agent::makes_a_real_server", makes_a_real_server),
    Case::new("agent::the_vip_is_never_claimed", the_vip_is_never_claimed),
    Case::new("agent::the_vip_never_asks", the_vip_never_asks),
    Case::new("agent::a_reload_keeps_the_vip", a_reload_keeps_the_vip),
    Case::new(
        "agent::without_rights_nothing_changes",
        without_rights_nothing_changes,
    ),
    Case::new(
        "agent::says_what_it_was_not_told",
        says_what_it_was_not_told,
    ),
    Case::new(
        "agent::check_judges_as_the_lan_hears",
        silence::check_judges_as_the_lan_hears,
    ),
    Case::new(
        "agent::a_bystander_keeps_its_neighbour",
        silence::a_bystander_keeps_its_neighbour,
    ),
    Case::new(
        "agent::queries_of_its_own_never_carry_the_vip",
        silence::queries_of_its_own_never_carry_the_vip,
    ),
    Case::new(
        "agent::an_unchanged_reload_loses_nothing",
        silence::an_unchanged_reload_loses_nothing,
    ),
    Case::new(
        "agent::a_filter_is_left_alone",
        silence::a_filter_is_left_alone,
    ),
    Case::new(
        "agent::one_wins_and_the_other_says_who",
        rivals::one_wins_and_the_other_says_who,
    ),
    Case::new("agent::ipv6_from_end_to_end", ipv6::ipv6_from_end_to_end)
        .needing_ipvs()
        .within(Duration::from_secs(300)),
];

/// The host that is made a real server: see [`settled_hosts`].
const REAL_SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 56, 2);
const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 56, 1);
const LIMIT: Duration = Duration::from_secs(10);
/// A guest whose processor is emulated may have to load a module first.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// What an administrator may have set before.
const PLANTED: [(&str, &str); 6] = [
    ("all.arp_ignore", "0"),
    ("all.arp_announce", "1"),
    ("lo.arp_ignore", "3"),
    ("lo.arp_announce", "1"),
    ("eth0.arp_ignore", "3"),
    ("default.arp_announce", "1"),
];

fn leaves_the_machine_as_found(lab: &mut Lab) -> Result<()> {
    let (_, host) = settled_hosts(lab)?;
    for planted in [&PLANTED[..0], &PLANTED] {
        for (name, value) in planted {
            host.set_sysctl(&format!("net.ipv4.conf.{name}"), value)?;
        }
        let found = State::of(&host)?;
        for verb in ["start", "start", "reload", "stop", "stop"] {
            succeeds(&host, verb, &format!("{verb} --vip {VIP}"))?;
            ensure!(host.holds(VIP) == (verb != "stop"), "the VIP after {verb}");
        }
        found.is_still(&host)?;

        // By the file, and a stop that goes by its record alone.
        let file = host.write_file("rs-agent.yaml", &format!("vips: [{VIP}, 192.168.56.186]\n"))?;
        for verb in ["start", "reload", "start"] {
            succeeds(&host, verb, &format!("{verb} --config {}", file.display()))?;
        }
        ensure!(
            host.holds(Ipv4Addr::new(192, 168, 56, 186)),
            "the second VIP"
        );
        succeeds(&host, "stop", "stop")?;
        found.is_still(&host)?;

        // What others have put there is theirs.
        host.add_address("lo", "192.168.56.187/32")?;
        let found = State::of(&host)?;
        succeeds(&host, "start", &format!("start --vip {VIP}"))?;
        succeeds(&host, "stop", "stop")?;
        found.is_still(&host)?;
        host.run("ip address delete 192.168.56.187/32 dev lo")?;
    }
    Ok(())
}

fn makes_a_real_server(lab: &mut Lab) -> Result<()> {
    let (_, host) = settled_hosts(lab)?;
    for (name, value) in PLANTED {
        host.set_sysctl(&format!("net.ipv4.conf.{name}"), value)?;
    }
    // Without a VIP on the command line the default file counts.
    host.hide_folder("/etc")?;
    let vips = format!("echo 'vips: [{VIP}]' > /etc/rs-agent.yaml");
    ensure!(host.output("sh", ["-c", &vips], LIMIT)?.success(), "{vips}");
    succeeds(&host, "start", "start")?;
    let addresses = host.run("ip -4 -o address show dev lo")?;
    ensure!(
        addresses.lines().any(
            |line| line.contains("inet 192.168.56.185/32 brd 192.168.56.185 ")
                && line.contains(" lo:0")
        ),
        "{addresses}"
    );
    let routes = host.run("ip -4 route show table main")?;
    ensure!(
        routes.lines().any(|line| {
            line.starts_with("192.168.56.185 dev lo ") && line.contains(" src 192.168.56.185")
        }),
        "{routes}"
    );
    for (interface, setting, wanted) in [
        ("eth0", "arp_ignore", ["1", "2"].as_slice()),
        ("lo", "arp_ignore", &["1", "2"]),
        ("eth0", "arp_announce", &["2"]),
        ("lo", "arp_announce", &["2"]),
    ] {
        // The kernel takes the larger of the two (linux/inetdevice.h, IN_DEV_MAXCONF).
        let of = |place: &str| host.sysctl(&format!("net.ipv4.conf.{place}.{setting}"));
        let in_force = of("all")?.max(of(interface)?);
        ensure!(
            wanted.contains(&in_force.as_str()),
            "{setting} of {interface} is {in_force}"
        );
    }
    Ok(())
}

fn the_vip_is_never_claimed(lab: &mut Lab) -> Result<()> {
    const CYCLES: usize = 20;
    let (client, host) = settled_hosts(lab)?;
    for (name, value) in PLANTED {
        host.set_sysctl(&format!("net.ipv4.conf.{name}"), value)?;
    }
    let capture = Capture::start(&client)?;
    let questions = Questions::start(&client)?;
    // A VIP that is put there by hand is answered for: the questions are right.
    host.add_address("lo", &format!("{VIP}/32"))?;
    wait_until("an answer by a machine that isn't set right", LIMIT, || {
        replies(&capture, "eth0", VIP) > 0
    })?;
    host.run(&format!("ip address delete {VIP}/32 dev lo"))?;
    sleep(Duration::from_millis(50));
    let by_hand = replies(&capture, "eth0", VIP);

    let capture = Capture::start(&client)?;
    for _ in 0..CYCLES {
        succeeds(&host, "start", &format!("start --vip {VIP}"))?;
        ensure!(host.holds(VIP), "no VIP");
        succeeds(&host, "reload", &format!("reload --vip {VIP}"))?;
        succeeds(&host, "stop", "stop")?;
    }
    sleep(Duration::from_millis(50));
    let answers = replies(&capture, "eth0", VIP);
    let asked = questions.stop()?;
    println!(
        "measured: {answers} answers in {CYCLES} cycles of start, reload, stop; {asked} questions, {by_hand} answers by hand"
    );
    ensure!(answers == 0, "{answers} answers");
    ensure!(asked > 1_000, "only {asked} questions");
    let announced = capture
        .arps()
        .into_iter()
        .find(|(frame, arp)| !frame.outgoing && arp.sender == VIP);
    ensure!(announced.is_none(), "{announced:?}");
    ensure!(
        ping::answers(&client, REAL_SERVER, LIMIT),
        "its own address"
    );
    Ok(())
}

/// A real server answers with the VIP as source. To find its client it must not ask in that name:
/// every neighbour that heard it would take this machine for the VIP.
fn the_vip_never_asks(lab: &mut Lab) -> Result<()> {
    let (client, host) = settled_hosts(lab)?;
    let asks_as = |unknown: &'static str| -> Result<Ipv4Addr> {
        let capture = Capture::start(&client)?;
        host.within(move || UdpSocket::bind((VIP, 0))?.send_to(b"?", (unknown, 53)))?;
        let target: Ipv4Addr = unknown.parse()?;
        capture.wait_for("ARP request", LIMIT, |frame| {
            frame.arp().is_some_and(|arp| arp.target == target)
        })?;
        let arps = capture.arps();
        let asked = arps.iter().find(|(_, arp)| arp.target == target);
        Ok(asked.context("no ARP request")?.1.sender)
    };
    host.add_address("lo", &format!("{VIP}/32"))?;
    let sender = asks_as("192.168.56.70")?;
    ensure!(
        sender == VIP,
        "a machine that isn't set right asks as {sender}"
    );
    host.run(&format!("ip address delete {VIP}/32 dev lo"))?;

    succeeds(&host, "start", &format!("start --vip {VIP}"))?;
    let sender = asks_as("192.168.56.71")?;
    ensure!(sender == REAL_SERVER, "a real server asks as {sender}");
    Ok(())
}

fn a_reload_keeps_the_vip(lab: &mut Lab) -> Result<()> {
    let (_, host) = settled_hosts(lab)?;
    succeeds(&host, "start", &format!("start --vip {VIP}"))?;
    let watch = host.spawn("ip", ["-o", "monitor", "address", "route"])?;
    sleep(Duration::from_millis(300));
    for _ in 0..3 {
        succeeds(&host, "reload", &format!("reload --vip {VIP}"))?;
        succeeds(&host, "start", &format!("start --vip {VIP}"))?;
    }
    // Another VIP comes, then the first goes.
    succeeds(
        &host,
        "reload",
        &format!("reload --vip {VIP} --vip 192.168.56.186"),
    )?;
    sleep(Duration::from_millis(300));
    let seen = watch.log();
    ensure!(
        !seen.contains("192.168.56.185"),
        "the VIP was touched: {seen}"
    );
    ensure!(seen.contains("192.168.56.186"), "nothing was seen: {seen}");
    succeeds(&host, "reload", "reload --vip 192.168.56.186")?;
    ensure!(
        !host.holds(VIP) && host.holds(Ipv4Addr::new(192, 168, 56, 186)),
        "reload leaves {}",
        host.run("ip address show dev lo")?
    );
    succeeds(&host, "stop", "stop")?;
    Ok(())
}

fn without_rights_nothing_changes(lab: &mut Lab) -> Result<()> {
    let (_, host) = settled_hosts(lab)?;
    let agent = binaries::path("rs-agent")?.display().to_string();
    let found = State::of(&host)?;
    for verb in ["start", "reload", "stop"] {
        let command =
            format!("--bounding-set -net_admin --inh-caps -net_admin {agent} {verb} --vip {VIP}");
        let output = host.output("setpriv", command.split(' '), LIMIT)?;
        ensure!(
            output.code().is_some_and(|code| code != 0) && output.stdout.is_empty(),
            "{verb}: {output:?}"
        );
        ensure!(output.stderr.contains("CAP_NET_ADMIN"), "{}", output.stderr);
        found.is_still(&host)?;
    }
    let records = host.run("ls -A /run")?;
    ensure!(!records.contains("rs-agent"), "records: {records}");
    // With them it works in the same place.
    succeeds(&host, "start", &format!("start --vip {VIP}"))?;
    Ok(())
}

fn says_what_it_was_not_told(lab: &mut Lab) -> Result<()> {
    let (_, host) = settled_hosts(lab)?;
    let found = State::of(&host)?;
    for line in [
        "",
        "restart",
        "start 192.168.56.185",
        "start --vip 127.0.0.1",
    ] {
        let output = agent(&host, line)?;
        ensure!(output.code() == Some(64), "`rs-agent {line}`: {output:?}");
        ensure!(output.stdout.is_empty(), "{}", output.stdout);
        ensure!(
            line == "start --vip 127.0.0.1" || output.stderr.contains("Usage: rs-agent"),
            "`rs-agent {line}`: {}",
            output.stderr
        );
    }
    for (place, yaml) in [
        ("2:1", "vips: [192.168.56.185]\nvip: 192.168.56.186\n"),
        ("3:5", "vips:\n  - 192.168.56.185\n  - 192.168.56.999\n"),
        ("2:1", "vips: [192.168.56.185]\nvips: [192.168.56.186]\n"),
        ("1:7", "vips: []\n"),
    ] {
        let file = host.write_file("rs-agent.yaml", yaml)?;
        let place = format!("{}:{place}: ", file.display());
        for verb in ["start", "reload"] {
            let output = agent(&host, &format!("{verb} --config {}", file.display()))?;
            ensure!(
                output.code().is_some_and(|code| code != 0) && output.stdout.is_empty(),
                "{output:?}"
            );
            ensure!(output.stderr.contains(&place), "{place}{}", output.stderr);
        }
    }
    let output = agent(&host, "start --config /run/lab/nowhere.yaml")?;
    ensure!(
        !output.success() && output.stderr.contains("/run/lab/nowhere.yaml"),
        "{output:?}"
    );
    found.is_still(&host)
}

/// [`two_hosts`] whose links change no more by themselves: the kernel looks at a new link's carrier later,
/// on a worker of its own, and only then says that it is up and gives it an address and routes of IPv6.
fn settled_hosts(lab: &mut Lab) -> Result<(Host, Host)> {
    let (client, host) = two_hosts(lab)?;
    wait_until("the link's own IPv6 address", LIMIT, || {
        host.run("ip -6 -oneline address show dev eth0 scope link -tentative")
            .is_ok_and(|shown| shown.contains("fe80::"))
    })?;
    Ok((client, host))
}

/// ARP requests for the VIP, as many as a thread can send.
struct Questions {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<usize>>,
}

impl Questions {
    fn start(client: &Host) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let request = arp_request(client.mac("eth0"), CLIENT, VIP);
        let thread = client.thread(move || {
            let socket = PacketSocket::open(if_nametoindex("eth0")?)?;
            let mut asked = 0;
            while !stopped.load(Ordering::SeqCst) {
                asked += usize::from(socket.send(&request).is_ok());
                sleep(Duration::from_micros(20));
            }
            Ok(asked)
        });
        Ok(Self { stop, thread })
    }

    /// How many there were.
    fn stop(self) -> Result<usize> {
        self.stop.store(true, Ordering::SeqCst);
        match self.thread.join() {
            Ok(asked) => asked,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// All that `rs-agent` could change.
#[derive(Debug)]
struct State {
    addresses: String,
    routes: String,
    sysctls: BTreeMap<String, String>,
}

impl State {
    fn of(host: &Host) -> Result<Self> {
        Ok(Self {
            addresses: host.run("ip -d address")?,
            routes: host.run("ip route show table all")?,
            sysctls: host.interface_sysctls(),
        })
    }

    fn is_still(&self, host: &Host) -> Result<()> {
        let now = Self::of(host)?;
        let Self {
            addresses,
            routes,
            sysctls,
        } = self;
        ensure!(now.addresses == *addresses, "{addresses}{}", now.addresses);
        ensure!(now.routes == *routes, "{routes}{}", now.routes);
        let changed: Vec<_> = sysctls
            .iter()
            .filter(|(name, value)| now.sysctls.get(*name) != Some(value))
            .collect();
        ensure!(
            changed.is_empty() && now.sysctls.len() == sysctls.len(),
            "not as found: {changed:?}"
        );
        Ok(())
    }
}

fn agent(host: &Host, line: &str) -> Result<Output> {
    host.output("rs-agent", line.split_whitespace(), COMMAND_LIMIT)
}

/// Runs a verb that says it is done, and nothing else.
fn succeeds(host: &Host, verb: &str, line: &str) -> Result<()> {
    let output = agent(host, line)?;
    ensure!(
        output.success() && output.stdout == format!("rs {verb} ok\n") && output.stderr.is_empty(),
        "`rs-agent {line}`: {output:?}"
    );
    Ok(())
}
