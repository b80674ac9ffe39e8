//! The container of `deploy/anycast/container`: its entry point and its configuration, as they are.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::bgp::HOST;
use super::{VIP, WITHDRAWN, ways_to_vip};
use crate::binaries;
use crate::case::Case;
use crate::dns::Questions;
use crate::figures;
use crate::lab::{Host, Lab, Process, wait_until};
use crate::routing::frr::Frr;
use crate::routing::{self, CONVERGENCE};

/// The cases of this theme.
pub(in crate::cases) const CASES: &[Case] = &[Case::new(
    "anycast::container::announces_while_all_of_it_runs",
    announces_while_all_of_it_runs,
)
.among_routers()];

macro_rules! file {
    ($name:literal) => {
        (
            $name,
            include_str!(concat!("../../../../deploy/anycast/container/", $name)),
        )
    };
}
const FILES: [(&str, &str); 5] = [
    file!("entrypoint"),
    file!("bird.conf"),
    file!("named.conf"),
    file!("example.org.zone"),
    file!("rs-agent.yaml"),
];

fn announces_while_all_of_it_runs(lab: &mut Lab) -> Result<()> {
    let outside = lab.add_lan("outside")?;
    let services = lab.add_lan("services")?;
    let client = lab.add_host("client")?;
    lab.attach(&client, "eth0", &outside, &["10.9.3.1/24"])?;
    client.run("ip route add default via 10.9.3.2")?;
    let host = lab.add_host("host")?;
    lab.attach(&host, "eth0", &outside, &["10.9.3.2/24"])?;
    lab.attach(&host, "svc0", &services, &["10.211.88.1/24"])?;
    routing::forward(&host)?;
    let _frr = Frr::start(&host, &["ospfd", "bgpd"], HOST)?;
    let container = lab.add_host("container")?;
    lab.attach(&container, "eth0", &services, &["10.211.88.11/24"])?;
    // What Docker makes of an internal network with the driver macvlan.
    lab.attach_alone(&container, "uplink", &[] as &[&str])?;
    container.run("ip link add vip0 link uplink type macvlan mode bridge")?;
    container.link_up("vip0")?;
    for (name, content) in FILES {
        container.write_file(&format!("anycast/{name}"), content)?;
    }

    for end in [End::DnsDies, End::Stopped] {
        let mut entrypoint = start(&container)?;
        wait_until("an answer", CONVERGENCE, || {
            let question = Questions::new(VIP).name("www.example.org");
            let question = question.timeout(Duration::from_millis(200));
            question
                .ask(&client)
                .is_ok_and(|answer| answer == "192.0.2.80")
        })?;
        let expected = match end {
            End::DnsDies => {
                let named = named(&container).context("named doesn't run")?;
                container.run(&format!("kill -KILL {named}"))?;
                1
            }
            End::Stopped => {
                entrypoint.signal(nix::sys::signal::Signal::SIGTERM)?;
                0
            }
        };
        let gone = wait_until("the end of the route", WITHDRAWN * 2, || {
            ways_to_vip(&host).is_empty()
        })?;
        figures::time(end.what(), gone);
        ensure!(!container.holds(VIP), "the VIP is still there");
        let status = entrypoint.wait(CONVERGENCE)?;
        ensure!(status.code() == Some(expected), "it ended with {status}");
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum End {
    DnsDies,
    Stopped,
}

impl End {
    fn what(self) -> &'static str {
        match self {
            Self::DnsDies => "BIND killed, until the host's route is gone",
            Self::Stopped => "container stopped, until the host's route is gone",
        }
    }
}

fn start(container: &Host) -> Result<Process> {
    let agent = binaries::path("rs-agent")?;
    let folder = agent.parent().context("rs-agent lies in no folder")?;
    let path = format!("PATH={}:/usr/sbin:/usr/bin:/sbin:/bin", folder.display());
    let entrypoint = ["bash", "/run/lab/anycast/entrypoint", "/run/lab/anycast"];
    container.spawn("env", [path.as_str()].into_iter().chain(entrypoint))
}

fn named(container: &Host) -> Option<i32> {
    container.processes().into_iter().find(|pid| {
        std::fs::read_to_string(format!("/proc/{pid}/comm"))
            .is_ok_and(|name| name.trim_end() == "named")
    })
}
