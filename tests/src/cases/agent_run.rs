//! `rs-agent run`: the VIP as a service, and leaving without loss.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::metrics::promtool_accepts;
use crate::case::Case;
use crate::dns::Questions;
use crate::forwarding;
use crate::lab::{Host, Lab, Output, Process, wait_until};
use crate::responder::Responder;
use crate::scenario::{PATIENCE, SERVERS, nothing_lost};
use crate::topology::{ANSWERS, DnsPair, VIP, start_director, two_hosts};
use crate::traffic::{Load, Report};
use crate::{binaries, figures, http};

/// The cases of this theme.
pub(super) const CASES: &[Case] = &[
    Case::new("agent_run::drift_is_healed", drift_is_healed).soaked(),
    Case::new(
        "agent_run::a_dummy_that_was_deleted_comes_back",
        a_dummy_that_was_deleted_comes_back,
    )
    .needing_ipvs()
    .soaked(),
    Case::new(
        "agent_run::queries_are_counted_on_the_wire",
        queries_are_counted_on_the_wire,
    ),
    Case::new(
        "agent_run::commands_reach_the_service",
        commands_reach_the_service,
    ),
    Case::new(
        "agent_run::a_bad_file_changes_nothing",
        a_bad_file_changes_nothing,
    ),
    Case::new("agent_run::systemd_is_told", systemd_is_told),
    Case::new(
        "agent_run::a_death_takes_no_vip_and_a_stop_does",
        a_death_takes_no_vip_and_a_stop_does,
    ),
    Case::new(
        "agent_run::a_director_hears_of_a_drain",
        a_director_hears_of_a_drain,
    ),
    Case::new(
        "agent_run::stop_with_a_drain_loses_nothing",
        stop_with_a_drain_loses_nothing,
    )
    .needing_ipvs()
    .within(Duration::from_secs(240)),
];

pub(super) const METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9154);
const LIMIT: Duration = Duration::from_secs(10);
const SECOND_VIP: Ipv4Addr = Ipv4Addr::new(192, 168, 56, 186);

fn drift_is_healed(lab: &mut Lab) -> Result<()> {
    let (_, host) = two_hosts(lab)?;
    let configuration = format!("vips: [{SECOND_VIP}, {VIP}]");
    let mut service = Service::start(&host, &configuration)?;
    let route = |host: &Host| host.run("ip -4 route show table main");
    heal(
        lab,
        &host,
        "address",
        || lose_addresses(&host),
        || host.holds(VIP),
    )?;
    heal(
        lab,
        &host,
        "route",
        || {
            host.run(&format!("ip route delete {VIP} dev lo"))
                .map(|_| ())
        },
        || route(&host).is_ok_and(|routes| routes.contains(&format!("{VIP} dev lo"))),
    )?;
    for (name, bad, good) in [
        ("all.arp_ignore", "0", "1"),
        ("lo.arp_announce", "0", "2"),
        // A value that is larger than the one on `all`, and defeats it.
        ("eth0.arp_ignore", "3", "1"),
    ] {
        let name = format!("net.ipv4.conf.{name}");
        heal(
            lab,
            &host,
            "sysctl",
            || host.set_sysctl(&name, bad),
            || host.sysctl(&name).is_ok_and(|value| value == good),
        )?;
    }
    // One that can't be put right holds up no other.
    host.run(&format!("ip address add {SECOND_VIP}/24 dev lo"))?;
    heal(
        lab,
        &host,
        "address",
        || {
            host.run(&format!("ip address delete {VIP}/32 dev lo"))
                .map(drop)
        },
        || host.holds(VIP),
    )?;
    let name = "net.ipv4.conf.all.arp_ignore";
    heal(
        lab,
        &host,
        "sysctl",
        || host.set_sysctl(name, "0"),
        || host.sysctl(name).is_ok_and(|value| value == "1"),
    )?;
    // Nor does it keep the next service from doing its work.
    service.process.kill();
    host.run(&format!("ip address delete {VIP}/32 dev lo"))?;
    let _service = Service::start(&host, &configuration)?;
    wait_until("the VIP is back", LIMIT, || host.holds(VIP))?;
    Ok(())
}

fn a_dummy_that_was_deleted_comes_back(lab: &mut Lab) -> Result<()> {
    let (_, host) = two_hosts(lab)?;
    host.run("modprobe dummy numdummies=0")?;
    let _service = Service::start(&host, "interface: dns0\nvips: [192.168.56.185]")?;
    ensure!(host.holds(VIP), "no VIP on the dummy interface");
    for (kind, change) in [
        ("interface", "ip link delete dns0"),
        ("interface", "ip link set dns0 down"),
        ("address", "ip address flush dev dns0"),
    ] {
        heal(
            lab,
            &host,
            kind,
            || host.run(change).map(|_| ()),
            || host.holds(VIP),
        )?;
    }
    Ok(())
}

/// Somebody takes the VIPs away.
fn lose_addresses(host: &Host) -> Result<()> {
    host.run("ip address flush dev lo scope global").map(drop)
}

/// Makes a change, and measures how long it lasts.
fn heal(
    lab: &Lab,
    host: &Host,
    kind: &str,
    change: impl FnOnce() -> Result<()>,
    healed: impl Fn() -> bool,
) -> Result<()> {
    let series = format!("rs_agent_repairs_total{{kind=\"{kind}\"}}");
    let before = figure(host, &series)?;
    // Not in step with the service's own looks.
    sleep(Duration::from_millis(330));
    // Whoever makes the change takes a while for it, too.
    let begun = Instant::now();
    change()?;
    wait_until(kind, LIMIT, healed)?;
    let took = begun.elapsed();
    println!("measured: {kind} put right after {took:.0?}");
    let limit = Duration::from_millis(lab.mode().choose(2000, 1000));
    ensure!(took < limit, "{kind}: {took:?}");
    wait_until("the repair is counted", LIMIT, || {
        figure(host, &series).is_ok_and(|now| now > before)
    })?;
    Ok(())
}

fn queries_are_counted_on_the_wire(lab: &mut Lab) -> Result<()> {
    let (client, host) = two_hosts(lab)?;
    client.add_address("eth0", "192.168.56.3/24")?;
    client.run(&format!("ip route add {VIP} via 192.168.56.2"))?;
    let file = format!("vips: [{VIP}, 2001:db8::53]\ndirectors: [192.168.56.3]");
    let _service = Service::start(&host, &file)?;
    let ask = |source: &str, times: usize| -> Result<()> {
        let source: Ipv4Addr = source.parse()?;
        client.within(move || {
            let socket = UdpSocket::bind((source, 0))?;
            (0..times).try_for_each(|_| {
                sleep(Duration::from_micros(100));
                socket.send_to(b"?", (VIP, 53)).map(|_| ())
            })
        })?;
        Ok(())
    };
    ask("192.168.56.1", 300)?;
    ask("192.168.56.3", 50)?;
    let connect = client.output(
        "timeout",
        ["1", "bash", "-c", &format!("echo > /dev/tcp/{VIP}/53")],
        LIMIT,
    )?;
    ensure!(!connect.success(), "nobody listens: {connect:?}");
    let queries = |protocol: &str, vip: &str| {
        figure(
            &host,
            &format!("rs_agent_queries_total{{protocol=\"{protocol}\",vip=\"{vip}\"}}"),
        )
    };
    wait_until("the queries are counted", LIMIT, || {
        queries("udp", "192.168.56.185").is_ok_and(|count| count >= 300)
    })?;
    sleep(Duration::from_millis(500));
    let counted = [
        queries("udp", "192.168.56.185")?,
        queries("tcp", "192.168.56.185")?,
        queries("udp", "2001:db8::53")?,
    ];
    ensure!(counted == [300, 1, 0], "{counted:?}");
    promtool_accepts(&host, &http::get(&host, METRICS, "/metrics")?)
}

fn commands_reach_the_service(lab: &mut Lab) -> Result<()> {
    let (_, host) = two_hosts(lab)?;
    let mut service = Service::start(&host, &format!("vips: [{VIP}, {SECOND_VIP}]"))?;
    let second = agent(&host, "run --config /run/lab/rs-agent.yaml")?;
    let holder = format!("another rs-agent (process {}", service.process.pid());
    ensure!(
        second.code() == Some(1) && second.stderr.contains(&holder),
        "{second:?}"
    );
    let holds = |vips: [bool; 2]| [host.holds(VIP), host.holds(SECOND_VIP)] == vips;
    let succeeds = |line: &str, vips: [bool; 2]| -> Result<()> {
        let output = agent(&host, line)?;
        ensure!(output.success() && holds(vips), "{line}: {output:?}");
        // It stays so, whatever the service repairs.
        sleep(Duration::from_millis(600));
        ensure!(holds(vips), "{line}: not for long");
        Ok(())
    };
    for line in ["start", "reload", "start --vip 192.168.56.185"] {
        succeeds(line, [true, true])?;
    }
    let begin = || -> Result<Process> {
        let process = host.spawn("rs-agent", ["run", "--config", FILE])?;
        wait_until("the line is said again", LIMIT, || line(&host).is_ok())?;
        Ok(process)
    };
    succeeds("stop --vip 192.168.56.186", [true, false])?;
    succeeds("reload", [true, false])?;
    service.process.terminate(LIMIT)?;
    service.process = begin()?;
    succeeds("reload", [true, false])?;
    succeeds("start", [true, true])?;
    succeeds("stop", [false, false])?;
    service.process.terminate(LIMIT)?;
    service.process = begin()?;
    succeeds("reload", [false, false])?;
    ensure!(line(&host)? == "100% maint up\n", "{}", line(&host)?);
    let status = agent(&host, "status --config /run/lab/rs-agent.yaml")?;
    ensure!(
        status.stdout.contains("stopped by hand")
            && status.stdout.contains("mend: rs-agent start\n"),
        "{status:?}"
    );
    succeeds("start --vip 192.168.56.186", [false, true])?;
    succeeds("start", [true, true])?;
    for line in [
        "stop --vip 192.168.56.187",
        "start --vip 192.168.56.187",
        "reload --vip 192.168.56.185",
        "start --config /run/lab/other.yaml",
    ] {
        let output = agent(&host, line)?;
        ensure!(
            output.code() == Some(1) && output.stderr.contains("rs-agent.yaml"),
            "{line}: {output:?}"
        );
    }
    ensure!(holds([true, true]), "a refused command changed something");
    what_a_stop_could_not_do_is_done_later(&host)?;
    succeeds("start", [true, true])?;

    // Nobody reads the line: a drain is as good as its quiet, and one that is given up leaves all in place.
    let mut given_up = host.spawn("rs-agent", ["stop", "--drain", "--quiet", "30s"])?;
    wait_until("the drain is announced", LIMIT, || {
        line(&host).is_ok_and(|line| line == "100% drain up\n")
    })?;
    // SIGINT is ignored where a shell runs this in the background.
    given_up.signal(Signal::SIGTERM)?;
    given_up.wait(LIMIT)?;
    wait_until("the drain is called off", Duration::from_secs(1), || {
        line(&host).is_ok_and(|line| line == "100% ready up\n")
    })?;
    ensure!(holds([true, true]), "a drain that was given up took a VIP");
    let output = agent(&host, "stop --drain --json --quiet 500ms")?;
    let certificate: Value = serde_json::from_str(&output.stdout)?;
    ensure!(
        output.code() == Some(3) && certificate["verdict"] == "quiet_only",
        "{output:?}"
    );
    ensure!(holds([false, false]), "the VIPs after a drain");
    succeeds("start", [true, true])?;

    // No director reads the line: nobody could be told, and nothing is waited for.
    let begun = Instant::now();
    let status = service.process.terminate(LIMIT)?;
    ensure!(
        status.success() && holds([false, false]) && begun.elapsed() < Duration::from_secs(2),
        "{status:?} after {:?}",
        begun.elapsed()
    );
    // Without a service the commands do it themselves again.
    ensure!(
        agent(&host, "start --vip 192.168.56.185")?.success(),
        "start"
    );
    ensure!(holds([true, false]), "start without a service");
    // Stopped by nobody but a signal, they come back.
    service.process = begin()?;
    wait_until("both are back", LIMIT, || holds([true, true]))?;
    service.process.terminate(LIMIT)?;
    ensure!(
        agent(&host, "start --vip 192.168.56.185")?.success(),
        "start"
    );
    let output = agent(&host, "stop --drain --quiet 300ms")?;
    ensure!(
        output.code() == Some(3) && output.stderr.contains("no `rs-agent run` is at work"),
        "{output:?}"
    );
    ensure!(holds([false, false]), "stop without a service");
    Ok(())
}

fn what_a_stop_could_not_do_is_done_later(host: &Host) -> Result<()> {
    const SETTING: &str = "net.ipv4.conf.all.arp_ignore";
    host.run("mount --bind /proc/sys /proc/sys")?;
    host.run("mount -o remount,bind,ro /proc/sys")?;
    let output = agent(host, "stop")?;
    ensure!(
        output.code() == Some(1) && output.stderr.contains("net.ipv4.conf."),
        "{output:?}"
    );
    host.run("umount /proc/sys")?;
    let is_restored = || host.sysctl(SETTING).is_ok_and(|value| value == "0");
    wait_until("the setting is restored", LIMIT, is_restored)?;
    Ok(())
}

fn a_bad_file_changes_nothing(lab: &mut Lab) -> Result<()> {
    let (_, host) = two_hosts(lab)?;
    let service = Service::start(&host, &format!("vips: [{VIP}]"))?;
    let reloads = |result: &str| {
        let series = format!("rs_agent_configuration_reloads_total{{result=\"{result}\"}}");
        figure(&host, &series)
    };
    let monitor = host.spawn("ip", ["-o", "monitor", "address", "route"])?;
    sleep(Duration::from_millis(300));
    Service::write(&host, "vips: [192.168.56.186]\nvip: 192.168.56.187")?;
    let output = agent(&host, "reload")?;
    ensure!(
        output.code() == Some(1)
            && output
                .stderr
                .contains("rs-agent.yaml:2:1: vip: unknown key"),
        "{output:?}"
    );
    service.process.signal(Signal::SIGHUP)?;
    wait_until("both reloads failed", LIMIT, || {
        reloads("failure").is_ok_and(|count| count == 2)
    })?;
    // An interface of the LAN can't have a VIP: that is seen on the machine, not in the file.
    Service::write(&host, "interface: eth0\nvips: [192.168.56.186]")?;
    let output = agent(&host, "reload")?;
    ensure!(
        output.code() == Some(1) && output.stderr.contains("eth0 is neither lo"),
        "{output:?}"
    );
    sleep(Duration::from_millis(300));
    ensure!(monitor.log().is_empty(), "changed: {}", monitor.log());
    ensure!(host.holds(VIP), "the VIP is gone");
    // What was in force before still is.
    heal(
        lab,
        &host,
        "address",
        || lose_addresses(&host),
        || host.holds(VIP),
    )?;

    Service::write(&host, &format!("vips: [{SECOND_VIP}]"))?;
    service.process.signal(Signal::SIGHUP)?;
    wait_until("the good file is in force", LIMIT, || {
        host.holds(SECOND_VIP) && !host.holds(VIP)
    })?;
    ensure!(reloads("success")? == 1, "a success");
    let gone = figure(&host, "rs_agent_vip_present{vip=\"192.168.56.185\"}");
    ensure!(gone.is_err(), "{gone:?}");
    Ok(())
}

/// In the words of sd_notify(3).
fn systemd_is_told(lab: &mut Lab) -> Result<()> {
    let (_, host) = two_hosts(lab)?;
    Service::write(&host, &format!("vips: [{VIP}]"))?;
    let systemd = host.within(|| UnixDatagram::bind("/run/lab/notify"))?;
    systemd.set_read_timeout(Some(LIMIT))?;
    let next = || -> Result<String> {
        let mut buffer = [0; 256];
        let length = systemd.recv(&mut buffer).context("systemd hears nothing")?;
        Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
    };
    let says = |words: &str| -> Result<()> {
        loop {
            let said = next()?;
            if said.contains(words) {
                return Ok(());
            }
            ensure!(said.trim_end() == "WATCHDOG=1", "{said} instead of {words}");
        }
    };
    let program = binaries::path("rs-agent")?.display().to_string();
    let mut service = host.spawn(
        "env",
        [
            "NOTIFY_SOCKET=/run/lab/notify",
            "WATCHDOG_USEC=2000000",
            &program,
            "run",
            "--config",
            FILE,
        ],
    )?;
    says("READY=1")?;
    ensure!(host.holds(VIP), "ready without the VIP");
    for _ in 0..3 {
        let begun = Instant::now();
        says("WATCHDOG=1")?;
        ensure!(begun.elapsed() < Duration::from_secs(1), "a slow watchdog");
    }
    service.signal(Signal::SIGHUP)?;
    says("RELOADING=1\nMONOTONIC_USEC=")?;
    says("READY=1")?;
    service.signal(Signal::SIGTERM)?;
    says("STOPPING=1\nEXTEND_TIMEOUT_USEC=40000000")?;
    ensure!(service.wait(LIMIT)?.success(), "it left badly");
    Ok(())
}

/// By what `ExecStopPost=` in the unit says, word for word but for the program's place.
fn a_death_takes_no_vip_and_a_stop_does(lab: &mut Lab) -> Result<()> {
    let (_, host) = two_hosts(lab)?;
    let unit = include_str!("../../../deploy/rs-agent.service");
    let mut lines = unit.lines();
    let after = lines.find_map(|line| line.strip_prefix("ExecStopPost=/usr/sbin/rs-agent "));
    let after = |result: &str| {
        let line = after.context("the unit's line")?;
        agent(&host, &line.replace("${SERVICE_RESULT}", result))
    };
    let configuration = format!("vips: [{VIP}]");
    let mut service = Service::start(&host, &configuration)?;
    let monitor = host.spawn("ip", ["-o", "monitor", "address", "route"])?;
    sleep(Duration::from_millis(300));
    service.process.kill();
    let left = after("signal")?;
    ensure!(
        left.success() && left.stderr.contains(&format!("{VIP} stays")),
        "{left:?}"
    );
    let service = Service::start(&host, &configuration)?;
    ensure!(monitor.log().is_empty(), "changed: {}", monitor.log());
    // A stop that had to be enforced.
    let mut process = service.process;
    process.kill();
    ensure!(host.holds(VIP), "the VIP went by itself");
    let left = after("timeout")?;
    ensure!(left.success() && !host.holds(VIP), "{left:?}");
    Ok(())
}

/// A director that forwards nothing reads the line; SIGTERM drains.
fn a_director_hears_of_a_drain(lab: &mut Lab) -> Result<()> {
    let (director, server) = two_hosts(lab)?;
    let mut service = Service::start(&server, &format!("vips: [{VIP}]"))?;
    let _director = start_director(
        &director,
        "dataplane: none\nservices:\n  - { name: resolver, address: 192.168.56.185, port: 53, \
         protocols: [udp], external: true, check: { agent: {}, port: 5301, interval: 200ms }, \
         real_servers: [{ address: 192.168.56.2 }] }\n",
    )?;
    let state = |wanted: &str| {
        let status = director.output("director", ["status", "--json"], PATIENCE);
        let state = status.ok().and_then(|status| {
            let status: Value = serde_json::from_str(&status.stdout).ok()?;
            let server = &status["services"][0]["pools"][0]["servers"][0];
            Some(server["state"].as_str()?.to_owned())
        });
        state.as_deref() == Some(wanted)
    };
    wait_until("the director has the server", PATIENCE, || state("in"))?;
    wait_until("the service knows its director", LIMIT, || {
        figure(&server, "rs_agent_directors").is_ok_and(|directors| directors == 1)
    })?;
    let mut drain = server.spawn("rs-agent", ["stop", "--drain", "--quiet", "30s"])?;
    wait_until("the director drains it", LIMIT, || state("drained"))?;
    drain.signal(Signal::SIGTERM)?;
    drain.wait(LIMIT)?;
    wait_until("the director has it again", LIMIT, || state("in"))?;

    // Another one is configured, and nobody hears of it.
    Service::write(
        &server,
        &format!("vips: [{VIP}]\ndirectors: [192.168.56.1, 192.168.56.9]"),
    )?;
    server.run("rs-agent reload")?;
    let output = agent(&server, "stop --drain --json --quiet 300ms")?;
    let certificate: Value = serde_json::from_str(&output.stdout)?;
    ensure!(
        output.code() == Some(3) && certificate["silent"] == serde_json::json!(["192.168.56.9"]),
        "{output:?}"
    );
    Service::write(&server, &format!("vips: [{VIP}]"))?;
    server.run("rs-agent reload")?;
    server.run("rs-agent start")?;
    wait_until("the director has it again", LIMIT, || state("in"))?;

    let begun = Instant::now();
    service.process.signal(Signal::SIGTERM)?;
    wait_until("the director drains it", LIMIT, || state("drained"))?;
    ensure!(server.holds(VIP), "the VIP went before the quiet");
    let status = service.process.wait(LIMIT)?;
    let took = begun.elapsed();
    let said = service.process.log();
    println!("{said}");
    println!("measured: SIGTERM took {took:.1?}");
    ensure!(
        status.success() && said.contains("left: safe\n  192.168.56.1 read `drain` after"),
        "{status:?}: {said}"
    );
    ensure!(
        (Duration::from_secs(2)..Duration::from_secs(4)).contains(&took),
        "{took:?}"
    );
    ensure!(!server.holds(VIP), "the VIP stays");
    Ok(())
}

/// How a server leaves: with a drain, without, and as the scripts do that people use.
fn stop_with_a_drain_loses_nothing(lab: &mut Lab) -> Result<()> {
    const ENOUGH: usize = 2_000;
    let site = Site::start(lab)?;
    let server = &site.hosts.rs1;
    let load = site.ask();
    let mut drains = 0;
    sleep(Duration::from_secs(1));
    while load.report().sent() < ENOUGH {
        let begun = Instant::now();
        let output = agent(server, "stop --drain")?;
        let stopped = Instant::now();
        print!("{}", output.stdout);
        println!("measured: `stop --drain` took {:.1?}", stopped - begun);
        ensure!(
            output.success() && output.stdout.starts_with("left: safe\n"),
            "{output:?}"
        );
        ensure!(!server.holds(VIP), "the VIP stays");
        sleep(Duration::from_secs(1));
        let after = load.report().since(stopped);
        ensure!(
            after.answers_by(&ANSWERS[0].to_string()) == 0,
            "answered without the VIP: {after}"
        );
        drains += 1;
        ensure!(agent(server, "start")?.success(), "start");
        site.wait_for_both()?;
        sleep(Duration::from_secs(1));
    }
    let report = load.stop();
    println!(
        "measured: {} of {} queries lost in {drains} times `rs-agent stop --drain` and `start`",
        report.lost(),
        report.sent()
    );
    let both = ANSWERS.map(|answer| report.answers_by(&answer.to_string()));
    ensure!(
        both.iter().all(|count| *count > report.sent() / 10),
        "{both:?}"
    );
    figures::at_most("lost", report.lost(), 0)?;
    nothing_lost(&report)?;

    let abrupt = site.lost_by(|| agent(server, "stop").map(|_| ()))?;
    println!(
        "measured: `rs-agent stop` without a drain: {}",
        words(&abrupt)
    );
    ensure!(agent(server, "start")?.success(), "start");
    site.wait_for_both()?;

    // Whoever has the script has no agent that could be asked.
    site.become_scripted()?;
    let script = server.write_file("rs_init", SCRIPT)?.display().to_string();
    server.run(&format!("sh {script} start"))?;
    // A check that asked the VIP while it was away takes 1.5 s to fail, and the server with it.
    sleep(Duration::from_secs(2));
    site.wait_for_both()?;
    let scripted = site.lost_by(|| server.run(&format!("sh {script} stop")).map(|_| ()))?;
    println!("measured: `rs_init stop`: {}", words(&scripted));
    // How many an abrupt stop loses hangs on when the directors read the line next.
    ensure!(
        scripted.lost() > 0,
        "the script lost nothing, so that losses aren't seen: {scripted}"
    );
    Ok(())
}

fn words(report: &Report) -> String {
    format!("{} of {} queries lost", report.lost(), report.sent())
}

/// What goes from hand to hand under the name of `rs_init`, in its essence.
const SCRIPT: &str = "\
vip=192.168.56.185
case $1 in start) ignore=1 announce=2 ;; *) ignore=0 announce=0 ;; esac
[ $1 = start ] || ip address delete $vip/32 dev lo label lo:0
for interface in lo all; do
    echo $ignore > /proc/sys/net/ipv4/conf/$interface/arp_ignore
    echo $announce > /proc/sys/net/ipv4/conf/$interface/arp_announce
done
[ $1 != start ] || ip address add $vip/32 broadcast $vip dev lo label lo:0
";

/// Two directors, and two real servers with `rs-agent run`.
struct Site {
    hosts: DnsPair,
    _directors: [Process; 2],
    services: [Service; 2],
    _responders: [Responder; 4],
}

impl Site {
    fn start(lab: &mut Lab) -> Result<Self> {
        let hosts = DnsPair::with_service_lan_only(lab)?;
        let file = format!("vips: [{VIP}]");
        let services = [
            Service::start(&hosts.rs1, &file)?,
            Service::start(&hosts.rs2, &file)?,
        ];
        let respond = |host: &Host, address: &str, answer| {
            Responder::start(host, address.parse::<IpAddr>()?, answer)
        };
        let vip = VIP.to_string();
        let responders = [
            respond(&hosts.rs1, &vip, ANSWERS[0])?,
            respond(&hosts.rs1, SERVERS[0], ANSWERS[0])?,
            respond(&hosts.rs2, &vip, ANSWERS[1])?,
            respond(&hosts.rs2, SERVERS[1], ANSWERS[1])?,
        ];
        let yaml = directors(", { agent: {}, port: 5301, interval: 1s, timeout: 900ms, fall: 4 }");
        let site = Self {
            _directors: [
                start_director(&hosts.ds1, &yaml)?,
                start_director(&hosts.ds2, &yaml)?,
            ],
            services,
            _responders: responders,
            hosts,
        };
        site.wait_for_both()?;
        wait_until("one director holds the VIP", PATIENCE, || {
            site.hosts.ds1.holds(VIP) && !site.hosts.ds2.holds(VIP)
        })?;
        Ok(site)
    }

    /// 70 questions a second, as far as the machine carries them.
    fn ask(&self) -> Load {
        let questions = Questions::new(VIP).from_port(40_000);
        questions
            .every(Duration::from_millis(14))
            .timeout(Duration::from_secs(3))
            .start(&self.hosts.client)
    }

    fn wait_for_both(&self) -> Result<()> {
        let is_whole = |director: &Host| {
            forwarding::table(director).is_ok_and(|table| {
                SERVERS
                    .iter()
                    .all(|server| table.contains(&format!("UDP {VIP}:53 -> {server}:53 Route 1")))
            })
        };
        wait_until("both servers are in on both directors", PATIENCE, || {
            is_whole(&self.hosts.ds1) && is_whole(&self.hosts.ds2)
        })?;
        Ok(())
    }

    /// What a client sees from a second before until three seconds after.
    fn lost_by(&self, leave: impl FnOnce() -> Result<()>) -> Result<Report> {
        let load = self.ask();
        sleep(Duration::from_secs(1));
        leave()?;
        sleep(Duration::from_secs(3));
        Ok(load.stop())
    }

    /// No agent any more, on the servers and in the directors' checks.
    fn become_scripted(&self) -> Result<()> {
        for director in [&self.hosts.ds1, &self.hosts.ds2] {
            director.write_file("director.yaml", &directors(""))?;
            director.run("director reload")?;
        }
        for (host, service) in [&self.hosts.rs1, &self.hosts.rs2]
            .into_iter()
            .zip(&self.services)
        {
            service.process.signal(Signal::SIGKILL)?;
            host.run("rs-agent stop")?;
        }
        self.hosts.rs2.run(&format!("rs-agent start --vip {VIP}"))?;
        Ok(())
    }
}

/// With a DNS check, which asks the VIP too, and another one. An emulated machine gets time to answer.
fn directors(check: &str) -> String {
    format!(
        "vrrp:\n  - {{ name: dns, interface: eth2, virtual_router_id: 50, priority: {{ ds1: 200, ds2: 150 }}, \
         advert_interval: 500ms, addresses: [{VIP}/24] }}\nservices:\n  - {{ name: resolver, address: {VIP}, \
         port: 53, protocols: [udp], check: [{{ dns: {{ name: www.abc.local }}, interval: 2s, timeout: 1500ms \
         }}{check}], real_servers: [{{ address: {} }}, {{ address: {} }}] }}\n",
        SERVERS[0], SERVERS[1]
    )
}

/// `rs-agent run` at work.
struct Service {
    process: Process,
}

impl Service {
    /// With this configuration, and the line and metrics besides; waits until it serves.
    fn start(host: &Host, configuration: &str) -> Result<Self> {
        Self::write(host, configuration)?;
        // The default place of commands.
        let process = host.spawn("rs-agent", ["run", "--config", FILE])?;
        wait_until("the service is at work", PATIENCE, || {
            figure(host, "rs_agent_state{state=\"serving\"}").is_ok_and(|serving| serving == 1)
        })?;
        Ok(Self { process })
    }

    fn write(host: &Host, configuration: &str) -> Result<()> {
        let file = format!(
            "{configuration}\nrun: {{ agent_check: \"0.0.0.0:5301\", metrics: \"{METRICS}\" }}\n"
        );
        host.write_file("rs-agent.yaml", &file)?;
        Ok(())
    }
}

const FILE: &str = "/run/lab/rs-agent.yaml";

/// What the service says of itself.
fn line(host: &Host) -> Result<String> {
    host.within(|| {
        let mut stream = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, 5301))?;
        stream.set_read_timeout(Some(LIMIT))?;
        let mut line = String::new();
        std::io::Read::read_to_string(&mut stream, &mut line)?;
        anyhow::Ok(line)
    })
}

pub(super) fn figure(host: &Host, series: &str) -> Result<u64> {
    let text = http::get(host, METRICS, "/metrics")?;
    let line = text.lines().find_map(|line| line.strip_prefix(series));
    let value = line.with_context(|| format!("no {series}"))?.trim();
    Ok(value.parse()?)
}

fn agent(host: &Host, line: &str) -> Result<Output> {
    host.output("rs-agent", line.split_whitespace(), Duration::from_secs(60))
}
