//! A VIP of IPv6 behind a director, from the question to the answer.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::super::neighbour::neighbour;
use super::{LIMIT, State, agent, succeeds};
use crate::bind;
use crate::capture::Capture;
use crate::forwarding;
use crate::lab::{Host, Lab, wait_until};
use crate::topology::{DnsPair, start_director};

const VIP: &str = "2001:db8:56::185";
const QUESTIONS: usize = 12;
/// The guest's processor is emulated.
const START: Duration = Duration::from_secs(40);

const DIRECTOR: &str = r#"
vrrp:
  - name: six
    interface: eth2
    virtual_router_id: 50
    priority: 200
    advert_interval: 500ms
    addresses: ["fe80::185/64", "2001:db8:56::185/64"]
services:
  - name: dns
    address: "2001:db8:56::185"
    port: 53
    protocols: [udp, tcp]
    scheduler: rr
    one_packet_scheduling: true
    check: { dns: { name: www.abc.local, type: AAAA }, interval: 1s, timeout: 800ms }
    real_servers: [{ address: "2001:db8:56::183" }, { address: "2001:db8:56::184" }]
"#;

/// One server has the VIP on `lo`, the other on a dummy interface that its agent makes; neighbours who ask
/// for the VIP, whomever they ask, hear of the director only.
pub(super) fn ipv6_from_end_to_end(lab: &mut Lab) -> Result<()> {
    let pair = DnsPair::with_service_lan_only(lab)?;
    let vip: Ipv6Addr = VIP.parse()?;
    let servers = [(&pair.rs1, 1, "lo"), (&pair.rs2, 2, "dns0")];
    let mut name_servers = Vec::new();
    let mut found = Vec::new();
    for (host, number, interface) in servers {
        found.push(State::of(host)?);
        name_servers.push(bind::spawn(host, address(number))?);
        succeeds(
            host,
            "start",
            &format!("start --vip {VIP} --interface {interface}"),
        )?;
        ensure!(
            host.run(&format!("ip -6 address show dev {interface}"))?
                .contains(&format!("{VIP}/128")),
            "no VIP"
        );
    }
    for (host, number, interface) in servers {
        wait_until("the name server", START, || {
            aaaa(host, VIP, "").is_ok_and(|answers| answers == [address(number).to_string()])
        })?;
        let check = agent(host, &format!("check --vip {VIP} --interface {interface}"))?;
        ensure!(
            check.success() && check.stdout == "rs check ok\n",
            "{check:?}"
        );
    }

    let capture = Capture::start(&pair.client)?;
    let mut director = start_director(&pair.ds1, DIRECTOR)?;
    wait_until("both servers over UDP and TCP", START, || {
        let table = forwarding::table(&pair.ds1).unwrap_or_default();
        table.iter().filter(|line| line.contains(" -> ")).count() == 4
    })?;
    wait_until("an answer by the VIP", START, || {
        aaaa(&pair.client, VIP, "").is_ok()
    })?;
    for options in ["", "+tcp"] {
        let mut answers = BTreeSet::new();
        let mut lost = 0;
        for _ in 0..QUESTIONS {
            match aaaa(&pair.client, VIP, options) {
                Ok(answer) => answers.extend(answer),
                Err(_) => lost += 1,
            }
        }
        let kind = if options.is_empty() { "UDP" } else { "TCP" };
        println!(
            "measured: {lost} lost of {QUESTIONS} AAAA questions over {kind}, answered by {} servers",
            answers.len()
        );
        ensure!(
            lost == 0 && answers == [1, 2].map(|number| address(number).to_string()).into(),
            "{kind}: {lost} lost, {answers:?}"
        );
    }

    // Asked for the VIP directly, a real server is silent. Its own address it tells.
    for (host, ..) in servers {
        let mac = host.mac("eth2");
        let shown: Vec<String> = mac.iter().map(|octet| format!("{octet:02x}")).collect();
        let probe = format!(
            "ip -6 neighbour replace {VIP} lladdr {} dev eth2 nud probe",
            shown.join(":")
        );
        pair.client.run(&probe)?;
        wait_until("the director in the server's place", LIMIT, || {
            let _ = aaaa(&pair.client, VIP, "");
            neighbour(&pair.client, vip) == Some(pair.ds1.mac("eth2"))
        })?;
    }
    let told = capture.neighbour_advertisements();
    let of_vip: Vec<_> = told
        .iter()
        .filter(|(frame, told)| !frame.outgoing && told.target == vip)
        .collect();
    let others = of_vip
        .iter()
        .filter(|(_, told)| told.source_mac != pair.ds1.mac("eth2"));
    let others: Vec<_> = others.collect();
    println!(
        "measured: {} neighbour advertisements for the VIP, {} by a real server",
        of_vip.len(),
        others.len()
    );
    ensure!(!of_vip.is_empty() && others.is_empty(), "{others:?}");

    director.terminate(LIMIT)?;
    for ((host, ..), found) in servers.iter().zip(found) {
        succeeds(host, "stop", "stop")?;
        found.is_still(host)?;
    }
    Ok(())
}

fn address(number: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number)
}

/// The AAAA records of `www.abc.local`.
fn aaaa(host: &Host, server: &str, options: &str) -> Result<Vec<String>> {
    let arguments = format!("@{server} www.abc.local AAAA +short +time=3 +tries=1 {options}");
    let output = host.output("dig", arguments.split_whitespace(), LIMIT)?;
    ensure!(output.success(), "dig {arguments}: {output:?}");
    Ok(output.stdout.lines().map(str::to_owned).collect())
}
