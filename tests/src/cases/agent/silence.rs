//! What a LAN hears of a real server's VIP, by settings, and what `rs-agent check` says of them.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lvs_system::packet::PacketSocket;
use nix::net::if_::if_nametoindex;
use serde_json::Value;

use super::{
    CLIENT, LIMIT, REAL_SERVER, agent, arp_request, neighbour, replies, settled_hosts, succeeds,
};
use crate::capture::{Capture, Frame};
use crate::dns::Questions;
use crate::lab::{Host, Lab, Mac, wait_until};
use crate::responder::Responder;
use crate::topology::VIP;

/// How long an answer may take that must not come.
const SILENCE: Duration = Duration::from_millis(60);

/// `arp_ignore` of `all`, `eth0` and `lo`, the VIP's scope, and whether the server answers ARP for it.
const ROWS: [([u8; 3], &str, bool); 11] = [
    ([0, 0, 0], "global", true),
    ([0, 0, 1], "global", true),
    ([1, 0, 0], "global", false),
    ([0, 1, 0], "global", false),
    ([0, 2, 0], "global", false),
    ([0, 3, 0], "global", true),
    ([0, 3, 0], "host", false),
    ([0, 1, 0], "host", false),
    ([0, 8, 0], "global", false),
    ([0, 0, 0], "host", true),
    ([1, 3, 0], "global", true),
];

pub(super) fn check_judges_as_the_lan_hears(lab: &mut Lab) -> Result<()> {
    let (client, host) = settled_hosts(lab)?;
    for place in ["all", "default"] {
        host.set_sysctl(&format!("net.ipv4.conf.{place}.arp_announce"), "2")?;
    }
    for ([all, eth0, lo], scope, answers) in ROWS {
        for (place, value) in [("all", all), ("eth0", eth0), ("lo", lo)] {
            host.set_sysctl(
                &format!("net.ipv4.conf.{place}.arp_ignore"),
                &value.to_string(),
            )?;
        }
        host.run(&format!("ip address add {VIP}/32 dev lo scope {scope}"))?;
        let row = format!("arp_ignore all={all} eth0={eth0} lo={lo}, scope {scope}");

        let capture = Capture::start(&client)?;
        let report = check(&host)?;
        // The kernel tells of its IPv6 groups whenever it likes.
        let is_ipv6 = |frame: &Frame| frame.bytes.get(12..14) == Some(&[0x86, 0xdd]);
        let sent =
            capture.frames(|frame| !frame.outgoing && frame.interface == "eth0" && !is_ipv6(frame));
        ensure!(sent.is_empty(), "{row}: check sent {sent:?}");

        ask_who_has(&client, VIP)?;
        let answered = if answers {
            wait_until(&format!("an answer with {row}"), LIMIT, || {
                replies(&capture, "eth0", VIP) > 0
            })?;
            true
        } else {
            sleep(SILENCE);
            replies(&capture, "eth0", VIP) > 0
        };
        ensure!(answered == answers, "{row}: answered is {answered}");
        let accused = report.says("error", "answers ARP for 192.168.56.185 on eth0");
        ensure!(accused == answers, "{row}: {:?}", report.json);
        ensure!(
            report.says("warning", "arp_ignore is 8 on eth0") == (eth0 == 8),
            "{row}: {:?}",
            report.json
        );
        // What is said to mend it does.
        if answers {
            let mend = report.mend("answers ARP").context("no way to mend it")?;
            host.run(&mend)?;
            let capture = Capture::start(&client)?;
            ask_who_has(&client, VIP)?;
            sleep(SILENCE);
            ensure!(
                replies(&capture, "eth0", VIP) == 0,
                "{row}: `{mend}` didn't mend it"
            );
        }
        host.run(&format!("ip address delete {VIP}/32 dev lo"))?;
    }
    println!(
        "measured: {} rows of settings, each judged as it is heard, without a frame sent",
        ROWS.len()
    );
    Ok(())
}

/// A machine that has the VIP in its neighbour table, and isn't even spoken to.
pub(super) fn a_bystander_keeps_its_neighbour(lab: &mut Lab) -> Result<()> {
    const DIRECTOR: Mac = [2, 0, 0, 0, 0, 0x81];
    let lan = lab.add_lan("lan")?;
    let host = lab.add_host("server")?;
    let bystander = lab.add_host("bystander")?;
    lab.attach(&host, "eth0", &lan, &["192.168.56.2/24"])?;
    lab.attach(&bystander, "eth0", &lan, &["192.168.56.9/24"])?;
    // An entry is replaced once it is older than this, 1 s by default.
    bystander.set_sysctl("net.ipv4.neigh.eth0.locktime", "0")?;
    let believed_after_a_send = |target: &'static str| -> Result<Option<Mac>> {
        bystander.run(&format!(
            "ip neighbour replace {VIP} lladdr 02:00:00:00:00:81 dev eth0 nud stale"
        ))?;
        let capture = Capture::start(&bystander)?;
        // No entry is replaced within the tick of the clock that it was made in.
        sleep(SILENCE);
        host.within(move || UdpSocket::bind((VIP, 0))?.send_to(b"?", (target, 53)))?;
        let target: Ipv4Addr = target.parse()?;
        capture.wait_for("ARP request", LIMIT, |frame| {
            frame.arp().is_some_and(|arp| arp.target == target)
        })?;
        sleep(SILENCE);
        Ok(neighbour(&bystander, VIP))
    };
    // Only arp_announce is wrong.
    host.set_sysctl("net.ipv4.conf.all.arp_ignore", "1")?;
    host.add_address("lo", &format!("{VIP}/32"))?;
    let stolen = believed_after_a_send("192.168.56.70")?;
    ensure!(
        stolen == Some(host.mac("eth0")),
        "arp_announce 0 leaves {stolen:?}"
    );
    let report = check(&host)?;
    ensure!(
        report.says("error", "may ask in the name of 192.168.56.185 on eth0"),
        "{:?}",
        report.json
    );
    host.run(&format!("ip address delete {VIP}/32 dev lo"))?;

    succeeds(&host, "start", &format!("start --vip {VIP}"))?;
    for target in ["192.168.56.71", "192.168.56.72", "192.168.56.73"] {
        let kept = believed_after_a_send(target)?;
        ensure!(
            kept == Some(DIRECTOR),
            "after start the bystander believes {kept:?}"
        );
    }
    let report = check(&host)?;
    ensure!(!report.says("error", "may ask"), "{:?}", report.json);
    println!("measured: stolen with arp_announce 0, kept after start");
    Ok(())
}

/// What a server asks of others comes from its own address, by both families.
pub(super) fn queries_of_its_own_never_carry_the_vip(lab: &mut Lab) -> Result<()> {
    const VIP_6: &str = "2001:db8:56::185";
    let (client, host) = settled_hosts(lab)?;
    for (host, number) in [(&client, 1), (&host, 2)] {
        host.run(&format!(
            "ip address add 2001:db8:56::{number}/64 dev eth0 nodad"
        ))?;
    }
    host.run("ip route add default via 192.168.56.1")?;
    host.run("ip -6 route add default via 2001:db8:56::1")?;
    succeeds(&host, "start", &format!("start --vip {VIP} --vip {VIP_6}"))?;
    for (target, own) in [
        ("192.168.56.1", "192.168.56.2"),
        ("192.0.2.7", "192.168.56.2"),
        ("2001:db8:56::1", "2001:db8:56::2"),
        ("2001:db8:2::7", "2001:db8:56::2"),
        ("2001:db8:56::99", "2001:db8:56::2"),
    ] {
        let target: IpAddr = target.parse()?;
        let source = host.within(move || -> Result<IpAddr> {
            let socket = UdpSocket::bind(if target.is_ipv4() {
                "0.0.0.0:0"
            } else {
                "[::]:0"
            })?;
            socket.connect((target, 53))?;
            Ok(socket.local_addr()?.ip())
        })?;
        ensure!(
            source == own.parse::<IpAddr>()?,
            "{target} is asked from {source}"
        );
    }
    let capture = Capture::start(&client)?;
    for target in ["192.168.56.1", "192.0.2.7"] {
        for _ in 0..20 {
            host.within(move || UdpSocket::bind("0.0.0.0:0")?.send_to(b"?", (target, 53)))?;
        }
    }
    let asked = || {
        capture.frames(|frame| {
            frame
                .datagram()
                .is_some_and(|datagram| datagram.destination.port() == 53)
        })
    };
    wait_until("forty queries", LIMIT, || asked().len() >= 40)?;
    let sources: Vec<_> = asked()
        .iter()
        .filter_map(|frame| Some(*frame.datagram()?.source.ip()))
        .collect();
    ensure!(
        sources.iter().all(|source| *source == REAL_SERVER),
        "{sources:?}"
    );
    println!("measured: {} queries, none from the VIP", sources.len());
    Ok(())
}

pub(super) fn an_unchanged_reload_loses_nothing(lab: &mut Lab) -> Result<()> {
    let (client, host) = settled_hosts(lab)?;
    succeeds(&host, "start", &format!("start --vip {VIP}"))?;
    // The director's part: the way to a VIP that nobody answers for.
    client.run(&format!("ip route add {VIP}/32 via {REAL_SERVER}"))?;
    let _server = Responder::start(&host, VIP, Ipv4Addr::new(1, 2, 3, 4))?;
    Questions::new(VIP).ask(&client)?;
    let load = Questions::new(VIP)
        .every(Duration::from_millis(5))
        .start(&client);
    for _ in 0..20 {
        succeeds(&host, "reload", &format!("reload --vip {VIP}"))?;
        sleep(Duration::from_millis(50));
    }
    let report = load.stop();
    println!(
        "measured: {} lost of {} queries at 200 a second over 20 reloads",
        report.lost(),
        report.sent()
    );
    ensure!(report.lost() == 0, "{} lost", report.lost());
    ensure!(report.sent() >= 200, "only {} asked", report.sent());
    Ok(())
}

/// A packet filter keeps the VIP quiet, and the settings are the administrator's.
pub(super) fn a_filter_is_left_alone(lab: &mut Lab) -> Result<()> {
    let (client, host) = settled_hosts(lab)?;
    let rules = format!(
        "table arp quiet {{
            chain in {{ type filter hook input priority 0; arp operation request arp daddr ip {VIP} drop; }}
            chain out {{ type filter hook output priority 0; arp saddr ip {VIP} arp saddr ip set {REAL_SERVER}; }}
        }}"
    );
    let file = host.write_file("quiet.nft", &rules)?;
    host.run(&format!("nft -f {}", file.display()))?;
    let settings = host.interface_sysctls();
    succeeds(&host, "start", &format!("start --vip {VIP}"))?;
    ensure!(
        host.interface_sysctls() == settings,
        "settings were changed"
    );
    let capture = Capture::start(&client)?;
    ask_who_has(&client, VIP)?;
    sleep(SILENCE);
    ensure!(
        replies(&capture, "eth0", VIP) == 0,
        "the filter doesn't keep it quiet"
    );
    let report = check(&host)?;
    ensure!(
        report.json["vips"][0]["quiet"] == "filter",
        "{:?}",
        report.json
    );
    ensure!(
        !report.says("error", "ARP") && !report.says("error", "ask in the name"),
        "{:?}",
        report.json
    );
    // Without it the settings are needed.
    host.run("nft delete table arp quiet")?;
    ensure!(
        check(&host)?.says("error", "answers ARP"),
        "nothing is said of a VIP that is answered for"
    );
    succeeds(&host, "reload", &format!("reload --vip {VIP}"))?;
    ensure!(!check(&host)?.says("error", "ARP"), "reload didn't mend it");
    succeeds(&host, "stop", "stop")?;
    ensure!(host.interface_sysctls() == settings, "settings are left");
    Ok(())
}

/// What `rs-agent check --json` says.
struct Report {
    json: Value,
}

fn check(host: &Host) -> Result<Report> {
    let output = agent(host, &format!("check --vip {VIP} --json"))?;
    let json: Value =
        serde_json::from_str(&output.stdout).with_context(|| format!("{output:?}"))?;
    let report = Report { json };
    // The exit status is that of the worst.
    let code = match (report.says("error", ""), report.says("warning", "")) {
        (true, _) => 2,
        (false, true) => 3,
        (false, false) => 0,
    };
    ensure!(output.code() == Some(code), "{output:?}");
    Ok(report)
}

impl Report {
    fn findings(&self) -> impl Iterator<Item = &Value> {
        self.json["findings"].as_array().into_iter().flatten()
    }

    fn says(&self, severity: &str, words: &str) -> bool {
        self.findings().any(|finding| {
            finding["severity"] == severity
                && finding["problem"]
                    .as_str()
                    .is_some_and(|problem| problem.contains(words))
        })
    }

    fn mend(&self, words: &str) -> Option<String> {
        let mut findings = self.findings();
        let finding = findings.find(|finding| {
            finding["problem"]
                .as_str()
                .is_some_and(|problem| problem.contains(words))
        })?;
        Some(finding["mend"].as_str()?.to_owned())
    }
}

fn ask_who_has(client: &Host, address: Ipv4Addr) -> Result<()> {
    let request = arp_request(client.mac("eth0"), CLIENT, address);
    client.within(move || -> Result<()> {
        PacketSocket::open(if_nametoindex("eth0")?)?.send(&request)?;
        Ok(())
    })
}
