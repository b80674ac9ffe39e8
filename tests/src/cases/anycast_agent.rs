//! `rs-agent run` with `mode: anycast`: the VIP is on the machine only while its DNS answers. Where
//! routing daemons take it from there is the matter of `anycast`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::agent_run::{METRICS, figure};
use crate::case::Case;
use crate::dns::Questions;
use crate::lab::{Host, Lab, Process, wait_until};
use crate::responder::Responder;
use crate::{bind, figures};

/// The cases of this theme.
pub(super) const CASES: &[Case] = &[
    Case::new(
        "anycast_agent::a_dead_dns_is_withdrawn_and_comes_back_after_the_hold",
        a_dead_dns_is_withdrawn_and_comes_back_after_the_hold,
    )
    .soaked(),
    Case::new(
        "anycast_agent::each_vip_goes_by_its_own_service",
        each_vip_goes_by_its_own_service,
    ),
    Case::new(
        "anycast_agent::a_dns_that_is_not_on_the_vip_is_told_so",
        a_dns_that_is_not_on_the_vip_is_told_so,
    ),
    Case::new(
        "anycast_agent::the_vip_outlives_nobody",
        the_vip_outlives_nobody,
    ),
    Case::new(
        "anycast_agent::what_defeats_a_withdrawal_is_found",
        what_defeats_a_withdrawal_is_found,
    ),
    Case::new("anycast_agent::the_last_site_stays", the_last_site_stays),
    Case::new(
        "anycast_agent::a_degraded_server_moves_its_vip",
        a_degraded_server_moves_its_vip,
    )
    // Which has dummy interfaces too.
    .needing_ipvs(),
];

const VIP: Ipv4Addr = Ipv4Addr::new(6, 6, 6, 6);
const SECOND_VIP: Ipv4Addr = Ipv4Addr::new(6, 6, 6, 7);
const VIP_6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 6, 0, 0, 0, 0, 6);
const HERE: Ipv4Addr = Ipv4Addr::new(1, 2, 3, 1);
const BEYOND: Ipv4Addr = Ipv4Addr::new(1, 2, 3, 2);

/// From the death of a DNS server to the end of its VIP at the defaults: 500 ms until the next probe,
/// twice 300 ms until one counts as lost (the second follows at once), and 200 ms for what two
/// processors that several programs share may add.
const PROMISED: Duration = Duration::from_millis(1300);
/// What the issue promises of the same.
const WITHIN: Duration = Duration::from_millis(1500);
/// From the first answer of a DNS server to its VIP at the defaults: 500 ms until the next probe, and 100 ms
/// until the second.
const DOUBT: Duration = Duration::from_millis(600);
/// A lifetime of 3 s, which the kernel counts in whole seconds and looks at about once a second.
const BOUND: Duration = Duration::from_secs(5);
const LIMIT: Duration = Duration::from_secs(10);
/// What takes a moment elsewhere, on an emulated processor.
const EMULATED: Duration = Duration::from_secs(40);
/// How late a timer may fire here.
const MARGIN: Duration = Duration::from_millis(500);

/// Starts `rs-agent run`.
fn run(host: &Host, configuration: &str) -> Result<Process> {
    let file = host.write_file("rs-agent.yaml", configuration)?;
    host.spawn("rs-agent", [Path::new("run"), Path::new("--config"), &file])
}

fn by_default(more: &str) -> String {
    format!(
        "mode: anycast\n{more}vips:\n  - address: {VIP}\n    check: {{ dns: {{ name: www.abc.local }} }}\n"
    )
}

/// When the VIP comes or goes; how long that took.
fn until(host: &Host, vip: impl Into<IpAddr>, present: bool, limit: Duration) -> Result<Duration> {
    let vip = vip.into();
    let what = if present { "comes to" } else { "leaves" };
    wait_until(&format!("{vip} {what} {}", host.name()), limit, || {
        host.holds(vip) == present
    })
}

/// Neither an address nor a route of the VIP's, in any table.
fn nothing_left(host: &Host, vip: impl Into<IpAddr>) -> Result<()> {
    let vip = vip.into();
    ensure!(!host.holds(vip), "{vip} is on the machine");
    let family = if vip.is_ipv4() { "-4" } else { "-6" };
    let routes = host.run(&format!("ip {family} route show table all"))?;
    ensure!(!routes.contains(&vip.to_string()), "{routes}");
    Ok(())
}

/// What `rs-agent status` says of the first VIP.
fn status(host: &Host) -> Result<Value> {
    Ok(report(host, "status")?.0["announcements"][0].take())
}

/// Its severity, and how it is mended.
type Finding = (String, String);

/// What `rs-agent check` finds, and its exit status.
fn check(host: &Host) -> Result<(Vec<Finding>, Option<i32>)> {
    let (report, code) = report(host, "check")?;
    let findings = report["findings"].as_array().context("no findings")?;
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    let findings = findings.iter();
    let findings = findings.map(|finding| (text(finding, "severity"), text(finding, "mend")));
    Ok((findings.collect(), code))
}

fn report(host: &Host, verb: &str) -> Result<(Value, Option<i32>)> {
    let arguments = [verb, "--json", "--config", "/run/lab/rs-agent.yaml"];
    let nowhere = ["--frr", "/run/lab/frr.conf", "--bird", "/run/lab/bird.conf"];
    let output = host.output("rs-agent", arguments.into_iter().chain(nowhere), LIMIT)?;
    let report = serde_json::from_str(&output.stdout).with_context(|| format!("{output:?}"))?;
    Ok((report, output.code()))
}

/// A client, the server, and behind it another site that has the VIP all the time.
fn three_sites(lab: &mut Lab) -> Result<(Host, Host, Responder)> {
    let near = lab.add_lan("near")?;
    let far = lab.add_lan("far")?;
    let client = lab.add_host("client")?;
    let server = lab.add_host("server")?;
    let beyond = lab.add_host("beyond")?;
    lab.attach(&client, "eth0", &near, &["10.0.1.1/24"])?;
    lab.attach(&server, "eth0", &near, &["10.0.1.2/24"])?;
    lab.attach(&server, "eth1", &far, &["10.0.2.2/24"])?;
    lab.attach(&beyond, "eth0", &far, &["10.0.2.3/24"])?;
    client.run("ip route add default via 10.0.1.2")?;
    beyond.run("ip route add default via 10.0.2.2")?;
    beyond.add_address("lo", &format!("{VIP}/32"))?;
    server.run("ip route add 6.6.6.0/24 via 10.0.2.3")?;
    server.set_sysctl("net.ipv4.ip_forward", "1")?;
    let other = Responder::start(&beyond, VIP, BEYOND)?;
    Ok((client, server, other))
}

fn answered_by(client: &Host, answer: Ipv4Addr) -> Result<()> {
    wait_until(&format!("an answer of {answer}"), LIMIT, || {
        let question = Questions::new(VIP).timeout(Duration::from_millis(300));
        question
            .ask(client)
            .is_ok_and(|answered| answered == answer.to_string())
    })?;
    Ok(())
}

fn a_dead_dns_is_withdrawn_and_comes_back_after_the_hold(lab: &mut Lab) -> Result<()> {
    let margin = lab.mode().choose(MARGIN, Duration::ZERO);
    let (client, server, _other) = three_sites(lab)?;
    let mut agent = run(&server, &by_default("anycast: { minimum_hold: 2s }\n"))?;
    answered_by(&client, BEYOND)?;
    nothing_left(&server, VIP)?;
    let mut named = bind::start(&server, HERE)?;
    until(&server, VIP, true, LIMIT)?;
    answered_by(&client, HERE)?;
    ensure!(status(&server)?["state"] == "announced");

    named.kill();
    let gone = until(&server, VIP, false, LIMIT)?;
    figures::within("BIND killed, VIP gone", gone, WITHIN + margin)?;
    let went = Instant::now();
    nothing_left(&server, VIP)?;
    // Transit traffic isn't swallowed.
    answered_by(&client, BEYOND)?;
    let told = status(&server)?;
    ensure!(
        told["state"] == "withdrawn" && told["reason"].is_string(),
        "{told}"
    );
    ensure!(
        told["held_for_seconds"]
            .as_f64()
            .is_some_and(|held| held <= 2.0),
        "{told}"
    );
    let named = bind::start(&server, HERE)?;
    let answers_since = went.elapsed();
    until(&server, VIP, true, LIMIT)?;
    let held = went.elapsed();
    let hold = Duration::from_secs(2);
    ensure!(held + MARGIN / 10 >= hold, "back after {held:?}");
    let known = answers_since + DOUBT;
    figures::within("back after a hold of 2 s", held, hold.max(known) + MARGIN)?;
    answered_by(&client, HERE)?;

    named.signal(Signal::SIGSTOP)?;
    let gone = until(&server, VIP, false, LIMIT)?;
    figures::within("BIND stopped, VIP gone", gone, PROMISED + margin)?;
    let went = Instant::now();
    nothing_left(&server, VIP)?;
    named.signal(Signal::SIGCONT)?;
    until(&server, VIP, true, LIMIT)?;
    let (held, hold) = (went.elapsed(), Duration::from_secs(4));
    ensure!(held + MARGIN / 10 >= hold, "back after {held:?}");
    figures::within("back after the second hold, of 4 s", held, hold + MARGIN)?;

    let at = Instant::now();
    agent.terminate(LIMIT)?;
    figures::within("SIGTERM, agent gone", at.elapsed(), MARGIN + margin)?;
    nothing_left(&server, VIP)
}

fn each_vip_goes_by_its_own_service(lab: &mut Lab) -> Result<()> {
    let lan = lab.add_lan("lan")?;
    let (client, server) = (lab.add_host("client")?, lab.add_host("server")?);
    lab.attach(&client, "eth0", &lan, &["10.0.1.1/24"])?;
    lab.attach(&server, "eth0", &lan, &["10.0.1.2/24"])?;
    client.run("ip route add default via 10.0.1.2")?;
    let mut named = bind::start(&server, HERE)?;
    // The second service has sockets of its own, where BIND can have none then.
    let elsewhere = Responder::start(&server, Ipv4Addr::new(127, 0, 0, 2), BEYOND)?;
    let service = Responder::start(&server, SECOND_VIP, BEYOND)?;
    let configuration = format!(
        "{}  - {{ address: {SECOND_VIP}, probe: 127.0.0.2, check: {{ dns: {{ name: second.example }} }} }}\n",
        by_default("")
    );
    let _agent = run(&server, &configuration)?;
    until(&server, VIP, true, LIMIT)?;
    until(&server, SECOND_VIP, true, LIMIT)?;
    let load = Questions::new(SECOND_VIP)
        .every(Duration::from_millis(20))
        .start(&client);
    sleep(Duration::from_millis(200));
    named.kill();
    until(&server, VIP, false, WITHIN + MARGIN)?;
    nothing_left(&server, VIP)?;
    sleep(Duration::from_secs(1));
    ensure!(server.holds(SECOND_VIP), "the second VIP went along");
    let report = load.stop();
    figures::at_most("questions to the other VIP lost", report.lost(), 0)?;
    ensure!(report.sent() > 50, "{report}");
    drop((service, elsewhere));
    until(&server, SECOND_VIP, false, WITHIN + MARGIN)?;
    nothing_left(&server, SECOND_VIP)
}

fn a_dns_that_is_not_on_the_vip_is_told_so(lab: &mut Lab) -> Result<()> {
    let server = lab.add_host("server")?;
    let _responder = Responder::start(&server, Ipv4Addr::LOCALHOST, HERE)?;
    let _agent = run(&server, &by_default("anycast: { minimum_hold: 1s }\n"))?;
    for hold in [1, 2].map(Duration::from_secs) {
        until(&server, VIP, true, LIMIT)?;
        let up = until(&server, VIP, false, LIMIT)?;
        let went = Instant::now();
        // It gets 2 s to listen there.
        let settling = Duration::from_secs(2);
        figures::within("announced for nobody", up, settling + MARGIN)?;
        ensure!(up + MARGIN >= settling, "it had {up:?} to settle");
        let told = status(&server)?;
        let reason = told["reason"].as_str().unwrap_or_default();
        ensure!(
            reason.starts_with("the DNS answers at 127.0.0.1 and not at 6.6.6.6 (")
                && reason.contains("listen-on { any; }"),
            "{told}"
        );
        until(&server, VIP, true, LIMIT)?;
        let down = went.elapsed();
        let name = format!("down for a hold of {hold:?}");
        figures::within(&name, down, hold + MARGIN)?;
        ensure!(down + MARGIN >= hold, "back after {down:?}");
    }
    Ok(())
}

fn the_vip_outlives_nobody(lab: &mut Lab) -> Result<()> {
    let server = lab.add_host("server")?;
    let lan = lab.add_lan("lan")?;
    lab.attach(&server, "eth0", &lan, &["10.0.0.1/24"])?;
    let mut named = bind::start(&server, HERE)?;
    let configuration = format!(
        "{}  - {{ address: '{VIP_6}', check: {{ dns: {{ name: www.abc.local }} }} }}\n",
        by_default("")
    );
    let mut agent = run(&server, &configuration)?;
    until(&server, VIP, true, LIMIT)?;
    until(&server, VIP_6, true, LIMIT)?;
    // Through some renewals, and a reload to another mode that can't be: eth0 would tell the LAN.
    for round in 0..80 {
        sleep(Duration::from_millis(50));
        if round == 20 {
            server.write_file(
                "rs-agent.yaml",
                &format!("interface: eth0\nvips: [{VIP}]\n"),
            )?;
            let reload = ["reload", "--config", "/run/lab/rs-agent.yaml"];
            let refused = server.output("rs-agent", reload, LIMIT)?;
            ensure!(refused.stderr.contains("eth0 is neither"), "{refused:?}");
        }
        ensure!(
            server.holds(VIP) && server.holds(VIP_6),
            "a lifetime was not renewed"
        );
    }

    let at = Instant::now();
    agent.kill();
    named.kill();
    until(&server, VIP, false, BOUND)?;
    figures::within("agent and BIND killed, VIP gone", at.elapsed(), BOUND)?;
    until(&server, VIP_6, false, BOUND)?;
    figures::within("the same, of IPv6", at.elapsed(), BOUND)?;
    nothing_left(&server, VIP)?;
    nothing_left(&server, VIP_6)?;

    // As `ExecStopPost=` does.
    let _named = bind::start(&server, HERE)?;
    let mut agent = run(&server, &configuration)?;
    until(&server, VIP, true, LIMIT)?;
    agent.kill();
    let at = Instant::now();
    let stopped = server.output("rs-agent", ["stop", "--service-result", "signal"], LIMIT)?;
    ensure!(stopped.success(), "{stopped:?}");
    figures::within("agent killed, stop afterwards", at.elapsed(), 2 * MARGIN)?;
    nothing_left(&server, VIP)?;
    nothing_left(&server, VIP_6)?;
    let left = server.run("ls -A /run/rs-agent")?;
    ensure!(!left.contains("journal"), "{left}");
    Ok(())
}

fn what_defeats_a_withdrawal_is_found(lab: &mut Lab) -> Result<()> {
    let (lan, server) = (lab.add_lan("lan")?, lab.add_host("server")?);
    lab.attach(&server, "eth0", &lan, &["10.0.1.2/24"])?;
    let mut named = bind::start(&server, HERE)?;
    let more = format!("anycast: {{ minimum_hold: 0s }}\nrun: {{ metrics: \"{METRICS}\" }}\n");
    let _agent = run(&server, &by_default(&more))?;
    let well = || -> Result<()> {
        until(&server, VIP, true, LIMIT)?;
        wait_until("a check without findings", LIMIT, || {
            check(&server).is_ok_and(|(findings, code)| findings.is_empty() && code == Some(0))
        })
        .map(drop)
        .with_context(|| format!("{:?}", check(&server)))
    };
    let shows = |series: &str| {
        wait_until(series, LIMIT, || {
            figure(&server, series).is_ok_and(|value| value == 1)
        })
        .map(drop)
    };
    // As `check` says: a command, and what else is to be thought of.
    let mend = |mend: &str| server.run(mend.split(';').next().unwrap_or_default());
    well()?;
    for (plant, severity, status) in [
        ("ip route add blackhole 6.6.6.6/32", "error", 2),
        ("ip route add 6.6.6.6/32 via 10.0.1.1", "error", 2),
        ("ip route add unreachable 6.6.6.0/24", "warning", 3),
        ("ip address add 6.6.6.6/24 dev eth0", "error", 2),
        ("ip address add 6.6.6.6/32 dev eth0", "error", 2),
    ] {
        server.run(plant)?;
        let (findings, code) = check(&server)?;
        ensure!(
            findings.len() == 1 && findings[0].0 == severity && code == Some(status),
            "{plant}: {findings:?}, {code:?}"
        );
        mend(&findings[0].1)?;
        well().context(plant)?;
    }

    // The VIP that stays is said to stay.
    server.run("ip address add 6.6.6.6/32 dev eth0")?;
    named.kill();
    wait_until("the end of the agent's own", WITHIN + MARGIN, || {
        let own = server.run("ip -oneline address show dev lo");
        own.is_ok_and(|own| !own.contains("6.6.6.6"))
    })?;
    shows("rs_agent_announcement{state=\"withdrawn\",vip=\"6.6.6.6\"}")?;
    shows("rs_agent_state{state=\"withdrawn\"}")?;
    shows("rs_agent_vip_present{vip=\"6.6.6.6\"}")?;
    let (findings, code) = check(&server)?;
    ensure!(
        findings.len() == 2 && findings[0].0 == "error" && code == Some(2),
        "{findings:?}, {code:?}"
    );
    mend(&findings[0].1)?;
    nothing_left(&server, VIP)?;
    ensure!(check(&server)?.1 == Some(3), "{:?}", check(&server)?);

    // By hand is another matter.
    let _named = bind::start(&server, HERE)?;
    well()?;
    let agent = |line: &str| server.output("rs-agent", line.split_whitespace(), LIMIT);
    let wrong = agent("stop --vip 6.6.6.7")?;
    ensure!(
        wrong.code() == Some(1) && wrong.stderr.contains("it has 6.6.6.6,"),
        "{wrong:?}"
    );
    ensure!(agent("stop --vip 6.6.6.6")?.success(), "stop");
    nothing_left(&server, VIP)?;
    shows("rs_agent_announcement{state=\"stopped\",vip=\"6.6.6.6\"}")?;
    shows("rs_agent_state{state=\"stopped\"}")?;
    ensure!(
        status(&server)?["state"] == "stopped" && check(&server)?.1 == Some(3),
        "{:?}",
        check(&server)?
    );
    ensure!(agent("start")?.success(), "start");
    well()?;
    let drained = agent("stop --drain --quiet 300ms")?;
    ensure!(
        drained.code() == Some(3) && drained.stdout.contains("no router was told"),
        "{drained:?}"
    );
    nothing_left(&server, VIP)
}

fn the_last_site_stays(lab: &mut Lab) -> Result<()> {
    let lan = lab.add_lan("lan")?;
    let (server, other) = (lab.add_host("server")?, lab.add_host("other")?);
    lab.attach(&server, "eth0", &lan, &["10.0.1.2/24"])?;
    lab.attach(&other, "eth0", &lan, &["10.0.1.3/24"])?;
    let mut named = bind::start(&server, HERE)?;
    let guarded = "    last_site: { ask: [10.0.1.3] }\n";
    let _agent = run(&server, &(by_default("") + guarded))?;
    until(&server, VIP, true, LIMIT)?;
    named.kill();
    wait_until("the last site knows that it is", LIMIT, || {
        status(&server).is_ok_and(|told| told["last_site"] == true)
    })?;
    sleep(WITHIN);
    ensure!(server.holds(VIP), "the last site went");
    ensure!(check(&server)?.1 == Some(2), "{:?}", check(&server)?);
    let _site = Responder::start(&other, Ipv4Addr::new(10, 0, 1, 3), BEYOND)?;
    let gone = until(&server, VIP, false, LIMIT)?;
    figures::within("another site answers, VIP gone", gone, WITHIN + MARGIN)?;
    nothing_left(&server, VIP)
}

fn a_degraded_server_moves_its_vip(lab: &mut Lab) -> Result<()> {
    let server = lab.add_host("server")?;
    let _at_vip = Responder::start(&server, VIP, HERE)?;
    let _elsewhere = Responder::start(&server, Ipv4Addr::LOCALHOST, HERE)?;
    // Stands for a resolver's way out.
    let program = server.write_file("full.sh", "#!/bin/sh\nexec test -e /run/lab/full\n")?;
    server.run(&format!("chmod a+x {}", program.display()))?;
    server.write_file("full", "")?;
    let configuration = format!(
        "mode: anycast
anycast: {{ minimum_hold: 1s }}
vips:
  - address: {VIP}
    interface: dns0
    check: {{ exec: {{ command: [{}] }}, interval: 2s, timeout: 2s }}
    degraded: {{ interface: dns1, check: {{ dns: {{ name: local.example }} }} }}
",
        program.display()
    );
    let mut agent = run(&server, &configuration)?;
    let on = |interface: &str| {
        let shown = server.run("ip -oneline -4 address show");
        let vip = format!("inet {VIP}/32");
        shown.is_ok_and(|shown| {
            let lines: Vec<&str> = shown.lines().filter(|line| line.contains(&vip)).collect();
            lines.len() == 1 && lines[0].contains(interface)
        })
    };
    wait_until("the VIP on dns0", EMULATED, || on("dns0"))?;
    server.run("rm /run/lab/full")?;
    wait_until("the VIP on dns1", EMULATED, || on("dns1"))?;
    ensure!(status(&server)?["state"] == "degraded");
    server.write_file("full", "")?;
    wait_until("the VIP on dns0 again", EMULATED, || on("dns0"))?;
    agent.terminate(EMULATED)?;
    nothing_left(&server, VIP)?;
    // The agent had made them.
    for interface in ["dns0", "dns1"] {
        let shown = server.run(&format!("ip link show dev {interface}"));
        ensure!(shown.is_err(), "{interface} is left: {shown:?}");
    }
    Ok(())
}
