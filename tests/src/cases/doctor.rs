//! `director doctor` on machines that are well, and on machines with a fault each.

use std::collections::BTreeSet;
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lvs_system::syscalls;
use serde_json::Value;

use crate::binaries;
use crate::case::Case;
use crate::lab::{Host, Lab, Process, wait_until};
use crate::scenario::edited;
use crate::service_file::ServiceFile;
use crate::topology::{
    DnsPair, STATE_DIRECTORY, VIP, director_file, hold_vip_silently, start_director,
};

/// The cases of this theme.
pub(super) const CASES: &[Case] = &[
    Case::new(
        "doctor::each_planted_fault_is_found_and_no_other",
        each_planted_fault_is_found_and_no_other,
    )
    .needing_operator(),
    Case::new(
        "doctor::a_pair_that_forwards_is_well_until_ten_faults_are_planted",
        a_pair_that_forwards_is_well_until_ten_faults_are_planted,
    )
    .needing_ipvs(),
];

/// Directors that start, or take over.
const PATIENCE: Duration = Duration::from_secs(20);
/// `director doctor` listens for a second, and for longer with slower adverts.
const EXAMINATION: Duration = Duration::from_secs(40);
/// The file of the directors.
const FILE: &str = "/run/lab/director.yaml";
/// Directors that tell each other's doctor of their configuration; a machine that stands still for a moment
/// changes nothing of what is found.
fn configuration(file: ServiceFile) -> String {
    let file = file.advert_interval("300ms").check("none").both_servers();
    edited(&file.to_string(), "127.0.0.1:9712", "0.0.0.0:9712")
}

/// The same file with adverts that are signed.
fn signed(yaml: &str) -> String {
    let key =
        "authentication: { hmac: { send: 1, keys: { 1: '0123456789abcdef0123456789abcdef' } } }";
    yaml.replace("    addresses:", &format!("    {key}\n    addresses:"))
}

/// What isn't well: check, verdict and the words.
type Complaints = BTreeSet<(String, String, String)>;

/// Its findings, and all of them but those that are well; notes are none.
fn examine(host: &Host, file: &str) -> Result<Complaints> {
    let output = host.output(
        "director",
        ["doctor", "--config", file, "--json"],
        EXAMINATION,
    )?;
    let told: Value = serde_json::from_str(&output.stdout)
        .with_context(|| format!("{}{}", output.stdout, output.stderr))?;
    let findings = told["findings"].as_array().context("no findings")?;
    ensure!(
        findings.len() > 5,
        "hardly anything was looked at: {told:#}"
    );
    let word = |one: &Value, key: &str| one[key].as_str().unwrap_or_default().to_owned();
    let complaints: Complaints = findings
        .iter()
        .map(|one| {
            let text = format!("{} {}", word(one, "subject"), word(one, "text"));
            (word(one, "check"), word(one, "verdict"), text)
        })
        .filter(|(_, verdict, _)| verdict != "ok" && verdict != "note")
        .collect();
    let has = |verdict: &str| complaints.iter().any(|(_, one, _)| one == verdict);
    let expected = match (has("error"), complaints.is_empty()) {
        (true, _) => 2,
        (false, false) => 3,
        (false, true) => 0,
    };
    ensure!(output.code() == Some(expected), "{output:?}");
    Ok(complaints)
}

/// What examinations came to: one that is wrong doesn't keep the others from being made.
#[derive(Default)]
struct Ledger {
    found: usize,
    sound: usize,
    wrong: Vec<String>,
}

impl Ledger {
    fn is_well(&mut self, host: &Host) -> Result<()> {
        self.sound += 1;
        self.finds(host, FILE, "a sound machine", &[])
    }

    /// That there are these complaints and no others.
    fn finds(
        &mut self,
        host: &Host,
        file: &str,
        what: &str,
        expected: &[(&str, &str)],
    ) -> Result<()> {
        let complaints = examine(host, file).with_context(|| what.to_owned())?;
        let found: BTreeSet<(&str, &str)> = complaints
            .iter()
            .map(|(check, verdict, _)| (check.as_str(), verdict.as_str()))
            .collect();
        let expected: BTreeSet<(&str, &str)> = expected.iter().copied().collect();
        let name = host.name();
        for (check, verdict, text) in &complaints {
            println!("{name}: {what}: {verdict}: {check}: {text}");
        }
        if found == expected {
            self.found += found.len();
        } else {
            let text = format!("{name}: {what}: expected {expected:?}, found {complaints:#?}");
            self.wrong.push(text);
        }
        Ok(())
    }

    fn close(self) -> Result<()> {
        ensure!(self.wrong.is_empty(), "{}", self.wrong.join("\n"));
        let (found, sound) = (self.found, self.sound);
        println!(
            "measured: {found} planted faults found, none else; nothing on {sound} sound machines"
        );
        Ok(())
    }
}

/// The machines as they ought to be.
fn prepare(lab: &mut Lab) -> Result<DnsPair> {
    let hosts = DnsPair::with_service_lan_only(lab)?;
    for director in [&hosts.ds1, &hosts.ds2] {
        for interface in ["all", "eth2"] {
            director.set_sysctl(&format!("net.ipv4.conf.{interface}.rp_filter"), "0")?;
        }
        // The machine's own would be looked at, whose resolver is none of the lab's.
        let file = director.write_file("resolv.conf", "nameserver 192.168.56.10\n")?;
        mount_over(director, &file, "/etc/resolv.conf")?;
    }
    for server in [&hosts.rs1, &hosts.rs2] {
        hold_vip_silently(server, VIP)?;
    }
    Ok(hosts)
}

/// Only the host sees it.
fn mount_over(host: &Host, file: &Path, place: &str) -> Result<()> {
    host.run(&format!("mount --bind {} {place}", file.display()))?;
    Ok(())
}

fn start(hosts: &DnsPair, yaml: &str) -> Result<[Process; 2]> {
    let directors = [
        start_director(&hosts.ds1, yaml)?,
        start_director(&hosts.ds2, yaml)?,
    ];
    await_active(hosts)?;
    Ok(directors)
}

fn await_active(hosts: &DnsPair) -> Result<()> {
    wait_until("ds1 holds the VIP", PATIENCE, || {
        hosts.ds1.holds(VIP) && !hosts.ds2.holds(VIP)
    })?;
    for director in [&hosts.ds1, &hosts.ds2] {
        wait_until("the director answers", PATIENCE, || {
            director.run("director status").is_ok()
        })?;
    }
    Ok(())
}

fn each_planted_fault_is_found_and_no_other(lab: &mut Lab) -> Result<()> {
    let mut ledger = Ledger::default();
    let hosts = prepare(lab)?;
    let yaml = configuration(ServiceFile::probing());
    before_the_start(&mut ledger, &hosts, &yaml)?;
    let mut directors = start(&hosts, &yaml)?;
    ledger.is_well(&hosts.ds1)?;
    ledger.is_well(&hosts.ds2)?;
    of_the_machine(&mut ledger, &hosts)?;
    of_the_lan(&mut ledger, &hosts)?;
    of_the_pair(&mut ledger, &hosts, &yaml, &mut directors)?;
    ledger.is_well(&hosts.ds1)?;
    ledger.is_well(&hosts.ds2)?;
    ledger.close()
}

fn before_the_start(ledger: &mut Ledger, hosts: &DnsPair, yaml: &str) -> Result<()> {
    let ds1 = &hosts.ds1;
    director_file(ds1, yaml)?;
    ledger.is_well(ds1)?;

    let taken = ds1.within(|| TcpListener::bind("0.0.0.0:9712"))?;
    ledger.finds(
        ds1,
        FILE,
        "the port of metrics is taken",
        &[("listener", "error")],
    )?;
    drop(taken);

    let other = ds1.write_file("other.yaml", &yaml.replace("eth2", "eth7"))?;
    let other = other.display().to_string();
    ledger.finds(
        ds1,
        &other,
        "there is no such interface",
        &[("interface", "error")],
    )?;

    // The guest's clock, and that of many a host in a container, is kept right by nobody.
    if !syscalls::is_clock_synchronized()? {
        ds1.write_file("other.yaml", &signed(yaml))?;
        ledger.finds(
            ds1,
            &other,
            "nobody keeps the clock right",
            &[("clock", "error")],
        )?;
    }

    ds1.run("ip route add 10.9.9.0/24 via 192.168.56.10")?;
    ds1.write_file("other.yaml", &yaml.replace("192.168.56.184", "10.9.9.9"))?;
    let expected = [("real server", "error")];
    ledger.finds(ds1, &other, "a real server is behind a router", &expected)?;
    ds1.run("ip route del 10.9.9.0/24")?;
    ledger.finds(ds1, &other, "there is no way to a real server", &expected)
}

fn of_the_machine(ledger: &mut Ledger, hosts: &DnsPair) -> Result<()> {
    let ds1 = &hosts.ds1;
    ds1.set_sysctl("net.ipv4.conf.eth2.rp_filter", "1")?;
    ledger.finds(
        ds1,
        FILE,
        "reverse paths are strict",
        &[("reverse path", "warning")],
    )?;
    ds1.set_sysctl("net.ipv4.conf.eth2.rp_filter", "0")?;

    ds1.set_sysctl("net.ipv4.conf.all.arp_ignore", "0")?;
    ledger.finds(ds1, FILE, "arp_ignore is undone", &[("sysctl", "warning")])?;
    ds1.set_sysctl("net.ipv4.conf.all.arp_ignore", "1")?;

    ds1.write_file("resolv.conf", &format!("nameserver {VIP}\n"))?;
    ledger.finds(
        ds1,
        FILE,
        "resolv.conf names the VIP",
        &[("resolver", "error")],
    )?;
    ds1.write_file("resolv.conf", "nameserver 192.168.56.10\n")?;

    ds1.run("nft add table inet filter")?;
    ds1.run(
        "nft add chain inet filter input { type filter hook input priority 0 ; policy accept ; }",
    )?;
    ds1.run("nft add rule inet filter input meta l4proto 112 drop")?;
    ledger.finds(
        ds1,
        FILE,
        "nftables drops adverts",
        &[("firewall", "error")],
    )?;
    ds1.run("nft flush chain inet filter input")?;
    ds1.run("nft add rule inet filter input meta l4proto 112 limit rate over 5/second drop")?;
    let unknown = [("firewall", "unknown")];
    ledger.finds(ds1, FILE, "nftables may drop adverts", &unknown)?;
    ds1.run("nft flush chain inet filter input")?;
    // What nft itself can't tell of.
    ds1.run("iptables-nft -A INPUT -p vrrp -m comment --comment none -j DROP")?;
    ledger.finds(
        ds1,
        FILE,
        "iptables drops adverts in nftables",
        &[("firewall", "error")],
    )?;
    ds1.run("iptables-nft -F INPUT")?;
    // A filter that drops what it doesn't know and knows adverts is as it should be.
    for rule in [
        "meta l4proto vrrp accept",
        "iifname lo accept",
        "ct state established,related accept",
    ] {
        ds1.run(&format!("nft add rule inet filter input {rule}"))?;
    }
    ds1.run("nft add rule inet filter input tcp dport 9712 accept")?;
    ds1.run("nft add rule inet filter input ip protocol icmp accept")?;
    ds1.run("nft add chain inet filter input { policy drop ; }")?;
    ledger.is_well(ds1)?;
    ds1.run("nft delete table inet filter")?;

    let file = ds1.write_file(
        "keepalived.conf",
        "vrrp_instance other {\n interface eth2\n virtual_router_id 77\n priority 10\n \
         virtual_ipaddress {\n 192.168.56.77/24\n }\n}\n",
    )?;
    let options = ["--dont-fork", "--log-console", "--use-file"].map(str::to_owned);
    let rival = ds1.spawn(
        "keepalived",
        options.into_iter().chain([file.display().to_string()]),
    )?;
    let comm = format!("/proc/{}/comm", rival.pid());
    wait_until("keepalived runs", PATIENCE, || {
        std::fs::read_to_string(&comm).is_ok_and(|name| name == "keepalived\n")
    })?;
    ledger.finds(ds1, FILE, "keepalived runs too", &[("program", "warning")])?;
    let mut rival = rival;
    rival.terminate(PATIENCE)?;
    Ok(())
}

fn of_the_lan(ledger: &mut Ledger, hosts: &DnsPair) -> Result<()> {
    let DnsPair {
        ds1,
        ds2,
        rs1,
        client,
        ..
    } = hosts;
    rs1.run(&format!("ip address add {VIP}/32 dev eth2"))?;
    for director in [ds1, ds2] {
        let what = "a real server answers for the VIP";
        ledger.finds(director, FILE, what, &[("neighbour", "error")])?;
    }
    rs1.run(&format!("ip address del {VIP}/32 dev eth2"))?;

    client.run("ip address add 192.168.56.182/32 dev eth2")?;
    ledger.finds(
        ds2,
        FILE,
        "somebody has its own address",
        &[("duplicate address", "error")],
    )?;
    client.run("ip address del 192.168.56.182/32 dev eth2")?;

    rs1.run("ip link set eth2 mtu 1400")?;
    ledger.finds(
        ds1,
        FILE,
        "a real server takes shorter packets",
        &[("mtu", "warning")],
    )?;
    rs1.run("ip link set eth2 mtu 1500")?;

    rs1.link_down("eth2")?;
    ledger.finds(
        ds1,
        FILE,
        "a real server is gone",
        &[("real server", "warning")],
    )?;
    rs1.link_up("eth2")?;

    let stranger = "vrrp: [{ name: other, interface: eth2, virtual_router_id: 50, priority: 250, \
                    addresses: [192.168.56.199/24] }]\ndataplane: none\n";
    let mut stranger = start_director(&hosts.rs2, stranger)?;
    let address: IpAddr = [192, 168, 56, 199].into();
    wait_until("the stranger is Active", PATIENCE, || {
        hosts.rs2.holds(address) && !ds1.holds(VIP)
    })?;
    for director in [ds1, ds2] {
        let what = "somebody else uses the virtual router's id";
        ledger.finds(director, FILE, what, &[("speaker", "error")])?;
    }
    stranger.terminate(PATIENCE)?;
    await_active(hosts)
}

fn of_the_pair(
    ledger: &mut Ledger,
    hosts: &DnsPair,
    yaml: &str,
    directors: &mut [Process; 2],
) -> Result<()> {
    let DnsPair { ds1, ds2, .. } = hosts;
    // The second goes by another file now, and by the right one again.
    let heavier = yaml.replace("192.168.56.184, weight: 1", "192.168.56.184, weight: 3");
    director_file(ds2, &heavier)?;
    ds2.run("director reload")?;
    ledger.finds(
        ds2,
        "/run/lab/director.yaml",
        "the other director has another file",
        &[("peer", "error")],
    )?;
    director_file(ds2, yaml)?;
    ds2.run("director reload")?;

    // Without the right to real-time priority.
    directors[1].terminate(PATIENCE)?;
    let director = binaries::path("director")?;
    let command = [
        "--bounding-set=-sys_nice",
        "--inh-caps=-sys_nice",
        &director.display().to_string(),
        "run",
        "--config",
        FILE,
        "--state-directory",
        STATE_DIRECTORY,
    ];
    directors[1] = ds2.spawn("setpriv", command)?;
    wait_until("the director answers", PATIENCE, || {
        ds2.run("director status").is_ok()
    })?;
    ledger.finds(
        ds2,
        FILE,
        "CAP_SYS_NICE is missing",
        &[("capability", "warning")],
    )?;
    directors[1].terminate(PATIENCE)?;

    // Each hears nothing of the other: both are Active.
    ds2.run("nft add table inet filter")?;
    ds2.run(
        "nft add chain inet filter input { type filter hook input priority 0 ; policy accept ; }",
    )?;
    ds2.run("nft add rule inet filter input meta l4proto 112 drop")?;
    directors[1] = start_director(ds2, yaml)?;
    wait_until("both are Active", PATIENCE, || {
        ds1.holds(VIP) && ds2.holds(VIP)
    })?;
    ledger.finds(
        ds1,
        FILE,
        "two are Active, seen where adverts arrive",
        &[("speaker", "error"), ("neighbour", "error")],
    )?;
    ledger.finds(
        ds2,
        FILE,
        "two are Active, seen where they don't",
        &[("firewall", "error"), ("neighbour", "error")],
    )?;
    ds2.run("nft delete table inet filter")?;
    await_active(hosts)
}

fn a_pair_that_forwards_is_well_until_ten_faults_are_planted(lab: &mut Lab) -> Result<()> {
    let mut ledger = Ledger::default();
    let hosts = prepare(lab)?;
    let file = ServiceFile::new().priority("{ ds1: 200, ds2: 150 }");
    let yaml = configuration(file.with("scheduler: wrr"));
    let _directors = start(&hosts, &yaml)?;
    let DnsPair {
        ds1, rs1, client, ..
    } = &hosts;
    ledger.is_well(ds1)?;
    ledger.is_well(&hosts.ds2)?;

    // 1 to 3: what a file asks of this kernel and can't have.
    let other = signed(&yaml).replace(
        "scheduler: wrr",
        "scheduler: ovf\n    one_packet_scheduling: false",
    );
    let other = ds1.write_file("other.yaml", &other)?;
    ds1.hide_folder(format!(
        "/lib/modules/{}/kernel/net/netfilter/ipvs",
        ds1.run("uname -r")?.trim()
    ))?;
    // 4 to 6: the machine.
    ds1.set_sysctl("net.ipv4.conf.eth2.rp_filter", "1")?;
    ds1.write_file("resolv.conf", &format!("nameserver {VIP}\n"))?;
    let _listener = ds1.within(|| UdpSocket::bind("0.0.0.0:53"))?;
    // 7 to 10: the filter, and the LAN.
    ds1.run("iptables-legacy -A INPUT -p udp --dport 53 -j DROP")?;
    rs1.run(&format!("ip address add {VIP}/32 dev eth2"))?;
    client.run("ip address add 192.168.56.181/32 dev eth2")?;
    hosts.rs2.run("ip link set eth2 mtu 1400")?;
    let expected = [
        ("module", "error"),
        ("connection table", "warning"),
        ("clock", "error"),
        ("reverse path", "warning"),
        ("resolver", "error"),
        ("listener", "warning"),
        ("firewall", "error"),
        ("neighbour", "error"),
        ("duplicate address", "error"),
        ("mtu", "warning"),
    ];
    ledger.finds(ds1, &other.display().to_string(), "all at once", &expected)?;
    ledger.close()
}
