//! How long a dead or hung DNS server stays announced: by this agent, and by ExaBGP's health check.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::server::Server;
use super::{MARGIN, VIP, WITHDRAWN, bgp};
use crate::bind;
use crate::case::Case;
use crate::figures;
use crate::lab::{Host, Lab, Process, wait_until};
use crate::routing::frr::Frr;
use crate::routing::{self, CONVERGENCE, adapted, ways};

/// The cases of this theme.
pub(in crate::cases) const CASES: &[Case] = &[Case::new(
    "anycast::comparison::from_death_to_withdrawal",
    from_death_to_withdrawal,
)
.among_routers()
.soaked()];

/// What is promised for this agent, before the routing protocol.
const PROMISED: Duration = Duration::from_millis(1500);

/// The longest that ExaBGP's defaults can take: 5 s for a check that times out, 5 s until the next,
/// and twice 5 s and 1 s in doubt (`timeout`, `interval`, `fast-interval`, `fall` of 3).
const SLOWEST: Duration = Duration::from_secs(22);

/// ExaBGP with its own health check at its defaults, and BIND.
struct ExaBgp {
    named: Process,
    _exabgp: Process,
    vip: String,
}

impl ExaBgp {
    fn start(host: &Host, number: u8) -> Result<Self> {
        let vip = format!("6.6.7.{number}/32");
        host.add_address("lo", &vip)?;
        let named = bind::start(host, Ipv4Addr::new(1, 2, 3, number))?;
        // By default it would go on announcing the VIP of a dead server, at a worse metric.
        let configuration = format!(
            "process check {{
    run /usr/bin/python3 -m exabgp healthcheck --cmd \"dig +short @127.0.0.1 www.abc.local\" --ip {vip} --withdraw-on-down --no-syslog;
    encoder text;
}}
neighbor 10.211.77.1 {{
    router-id 10.211.77.{number};
    local-address 10.211.77.{number};
    local-as 65102;
    peer-as 65001;
    api {{ processes [ check ]; }}
}}
"
        );
        let file = host.write_file("exabgp.conf", &configuration)?;
        let file = file.to_string_lossy();
        let settings = ["exabgp.daemon.user=root", "exabgp.api.cli=false"];
        let exabgp = host.spawn("env", settings.into_iter().chain(["exabgp", &file]))?;
        Ok(Self {
            named,
            _exabgp: exabgp,
            vip,
        })
    }
}

fn from_death_to_withdrawal(lab: &mut Lab) -> Result<()> {
    let promised = PROMISED + lab.mode().choose(MARGIN, Duration::ZERO);
    let lan = lab.add_lan("dns")?;
    let router = lab.add_host("router")?;
    lab.attach(&router, "eth0", &lan, &["10.211.77.1/24"])?;
    routing::forward(&router)?;
    let neighbours = [
        ("10.211.77.11", 65101),
        ("10.211.77.21", 65102),
        ("10.211.77.22", 65102),
    ];
    let configuration = bgp::router(65001, "10.211.77.1", &neighbours, "");
    let _router = Frr::start(&router, &["bgpd"], &configuration)?;
    let mut add = |name: &str, number: u8| {
        let host = lab.add_host(name)?;
        lab.attach(&host, "eth0", &lan, &[format!("10.211.77.{number}/24")])?;
        anyhow::Ok(host)
    };
    let ours = add("ours", 11)?;
    let mut killed = ExaBgp::start(&add("killed", 21)?, 21)?;
    let hung = ExaBgp::start(&add("hung", 22)?, 22)?;
    let _speaker = Frr::start(&ours, &["bgpd"], &adapted(bgp::FRR, &[]))?;
    let mut server = Server::start(&ours, 1, &[VIP.into()])?;

    let announced = |prefix: &str| ways(&router, prefix).is_ok_and(|ways| !ways.is_empty());
    for prefix in ["6.6.6.0/24", &killed.vip, &hung.vip] {
        wait_until(prefix, CONVERGENCE, || announced(prefix))?;
    }
    // Checks follow no pattern that this could be in step with.
    let others = Instant::now();
    killed.named.kill();
    hung.named.signal(nix::sys::signal::Signal::SIGSTOP)?;
    let mut waiting = vec![
        (killed.vip.clone(), "ExaBGP, DNS killed"),
        (hung.vip, "ExaBGP, DNS hung"),
    ];

    for (how, what) in [
        (Server::die as fn(&mut Server) -> Result<()>, "killed"),
        (Server::hang, "hung"),
    ] {
        let at = Instant::now();
        how(&mut server)?;
        wait_until("the end of the VIP", promised, || !ours.holds(VIP))?;
        figures::within(
            &format!("ours, DNS {what}, VIP gone"),
            at.elapsed(),
            promised,
        )?;
        let limit = promised + WITHDRAWN;
        wait_until("the end of the route", limit, || !announced("6.6.6.0/24"))?;
        figures::within(
            &format!("ours, DNS {what}, route gone"),
            at.elapsed(),
            limit,
        )?;
        if what == "killed" {
            server.recover()?;
            wait_until("the route", CONVERGENCE, || announced("6.6.6.0/24"))?;
        }
    }
    wait_until("the end of ExaBGP's routes", SLOWEST * 2, || {
        waiting.retain(|(prefix, what)| {
            let stays = announced(prefix);
            if !stays {
                figures::time(&format!("{what}, route gone"), others.elapsed());
            }
            stays
        });
        waiting.is_empty()
    })
    .with_context(|| format!("{waiting:?}"))?;
    ensure!(
        others.elapsed() > PROMISED,
        "ExaBGP was faster than it can be"
    );
    Ok(())
}
