//! Whether the machine is a correct real server, judged by what the kernel has in force; nothing is sent.
//!
//! [`View`] is what is read; [`judge`] is pure. `check` prints the findings, `status` the standing of each
//! VIP too.

mod announcements;
mod arp;
mod listening;
mod routing;
mod view;

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

use crate::agent::Foreign;
use crate::anycast::Status;
use crate::config::Configuration;
use crate::machine::{Found, Kind};
use crate::vip::{LOOPBACK, Place, Vip, host_prefix_length};

pub use listening::Listening;
pub use routing::{Files, Routing};
pub use view::{Process, View};

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The VIP that it concerns; `None` for all.
    pub vip: Option<IpAddr>,
    /// What is wrong, and what comes of it.
    pub problem: String,
    /// The command that mends it, or what to do.
    pub mend: String,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It works, but something it rests on is missing or hardly meant.
    Warning,
    /// Clients' queries are lost, or go past the directors.
    Error,
}

/// How one VIP stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// The VIP.
    pub address: IpAddr,
    /// The interface that it is to be on.
    pub interface: String,
    /// Whether it is there, as an address of its own.
    pub present: bool,
    /// Whether the agent put it there; `false` for one that somebody else did, or that is absent.
    pub ours: bool,
    /// Whether it was stopped by hand.
    pub stopped: bool,
    /// What keeps neighbours from hearing of it.
    pub quiet: Quiet,
    /// Who takes queries for it over UDP.
    pub udp: Listening,
    /// Who takes queries for it over TCP.
    pub tcp: Listening,
}

/// What keeps neighbours from hearing of a VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Quiet {
    /// `arp_ignore` and `arp_announce`.
    Sysctls,
    /// A packet filter.
    Filter,
    /// An IPv6 address is answered for only on the interface that it is on (`ndisc_recv_ns`,
    /// `net/ipv6/ndisc.c`), and no LAN is there.
    Ipv6,
    /// Nothing.
    No,
}

/// All that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// In the configuration's order.
    pub vips: Vec<Standing>,
    /// How announcements stand, with anycast.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub announcements: Vec<Status>,
    /// The worst first.
    pub findings: Vec<Finding>,
}

impl Report {
    /// With what a running agent says of its announcements; `None` where none runs.
    pub fn with_announcements(mut self, told: Option<Vec<Status>>) -> Self {
        self.findings.extend(announcements::judge(told.as_deref()));
        self.sort();
        self.announcements = told.unwrap_or_default();
        self
    }

    fn sort(&mut self) {
        self.findings
            .sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    }

    /// The worst of all findings; `None` when all is well.
    pub fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|finding| finding.severity).max()
    }
}

/// Judges the machine as `view` shows it against what is wanted.
pub fn judge(view: &View, wanted: &Configuration) -> Report {
    let mut findings = Vec::new();
    let mut vips = Vec::new();
    findings.extend(stopped(view, wanted));
    for vip in &wanted.vips {
        // Routers and neighbours may hear of a VIP that is announced.
        if wanted.anycast.is_none() {
            findings.extend(presence(view, vip));
            findings.extend(elsewhere(view, vip));
            findings.extend(proxied(view, vip.address));
        } else {
            findings.extend(absent(view, vip));
        }
        findings.extend(listening::judge(view, vip.address));
        vips.push(standing(view, vip));
    }
    match &wanted.anycast {
        None => {
            findings.extend(arp::judge(view, wanted));
            findings.extend(gateways(view, &wanted.directors));
        }
        Some(anycast) => {
            let vips = anycast.vips.iter().map(|vip| vip.vip.address);
            findings.extend(vips.clone().flat_map(|vip| foreign(view, vip)));
            findings.extend(routing::judge(&view.routing, vips));
        }
    }
    findings.extend(agents(view));
    let mut report = Report {
        vips,
        announcements: Vec::new(),
        findings,
    };
    report.sort();
    report
}

impl Finding {
    fn error(vip: Option<IpAddr>, problem: String, mend: String) -> Self {
        Self {
            severity: Severity::Error,
            vip,
            problem,
            mend,
        }
    }

    fn warning(vip: Option<IpAddr>, problem: String, mend: String) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(vip, problem, mend)
        }
    }
}

fn standing(view: &View, vip: &Vip) -> Standing {
    let place = vip.place();
    let present = view
        .addresses
        .iter()
        .any(|found| found.place() == place && is_single(found));
    Standing {
        address: vip.address,
        interface: vip.interface.clone(),
        present,
        ours: present && is_ours(view, &place),
        stopped: view.stopped.contains(vip.address),
        quiet: arp::quiet(view, vip.address),
        udp: listening::over_udp(view, vip.address),
        tcp: listening::over_tcp(view, vip.address),
    }
}

/// What keeps packets to the VIP from being taken.
fn presence(view: &View, vip: &Vip) -> Vec<Finding> {
    let Vip {
        address, interface, ..
    } = vip;
    let mut findings = Vec::new();
    let mut error = |problem, mend| findings.push(Finding::error(Some(*address), problem, mend));
    let place = vip.place();
    let length = host_prefix_length(*address);
    let here: Vec<&Found> = view
        .addresses
        .iter()
        .filter(|found| found.place() == place)
        .collect();
    for found in here.iter().filter(|found| !is_single(found)) {
        let wrong = found.detail.prefix_length;
        error(
            format!(
                "{address} is on {interface} with the prefix /{wrong}: the whole subnet counts as this machine's own, and it reaches nobody there"
            ),
            format!(
                "ip address delete {address}/{wrong} dev {interface} && {}",
                bring(view, vip)
            ),
        );
    }
    match view.interfaces.get(interface) {
        None => {}
        Some(found) if found.kind == Kind::Other => error(
            format!(
                "{interface} is neither {LOOPBACK} nor a dummy interface: neighbours there hear of {address}"
            ),
            format!(
                "name {LOOPBACK} or a dummy interface in the configuration, then `rs-agent reload`"
            ),
        ),
        Some(found) if !found.up => error(
            format!("{interface} is down, so that packets to {address} aren't taken"),
            format!("ip link set {interface} up"),
        ),
        Some(_) => {}
    }
    if here.is_empty() {
        if !view.stopped.contains(*address) {
            error(
                format!(
                    "{address} is not on {interface}: what directors send here for it is dropped"
                ),
                bring(view, vip),
            );
        }
        return findings;
    }
    if !view.taken.contains(address) {
        error(
            format!(
                "{address}/{length} is on {interface}, but the kernel's routes lead packets to it elsewhere; see `ip route get {address}`"
            ),
            format!("rs-agent stop --vip {address} && {}", start(vip)),
        );
    }
    if address.is_ipv4() && !view.host_routes.contains(&place) {
        findings.push(Finding::warning(
            Some(*address),
            format!("the route {address} dev {interface} src {address} is missing"),
            bring(view, vip),
        ));
    }
    findings
}

/// What a person has stopped, and may have forgotten.
fn stopped(view: &View, wanted: &Configuration) -> Vec<Finding> {
    let vips: Vec<&Vip> = match &wanted.anycast {
        None => wanted.vips.iter().collect(),
        Some(anycast) => anycast.vips.iter().map(|it| &it.vip).collect(),
    };
    let stopped = vips
        .into_iter()
        .filter(|vip| view.stopped.contains(vip.address));
    let finding = |vip: &Vip| {
        let mend = if view.stopped.is_all() {
            "rs-agent start".to_owned()
        } else {
            start(vip)
        };
        let address = vip.address;
        let problem =
            format!("{address} was stopped by hand, and stays so until a start or a reboot");
        Finding::warning(Some(address), problem, mend)
    };
    stopped.map(finding).collect()
}

/// The command that brings a VIP to the machine as it should be there, or says why it can't. A service does
/// that by itself: what it doesn't put right is refused, or not in the file that it has read.
fn bring(view: &View, vip: &Vip) -> String {
    if view.agents.is_empty() {
        start(vip)
    } else {
        "rs-agent reload".to_owned()
    }
}

/// For a service that runs, and where none does; no file is needed.
fn start(vip: &Vip) -> String {
    let mut command = format!("rs-agent start --vip {}", vip.address);
    if vip.interface != LOOPBACK {
        command += &format!(" --interface {}", vip.interface);
    }
    if let Some(label) = &vip.label {
        command += &format!(" --label {label}");
    }
    command
}

/// An announced VIP that the agent says is there.
fn absent(view: &View, vip: &Vip) -> Option<Finding> {
    let Vip {
        address, interface, ..
    } = vip;
    (!standing(view, vip).present).then(|| {
        Finding::error(
            Some(*address),
            format!(
                "{address} is to be announced and is not on {interface}, so that routers send clients elsewhere"
            ),
            "`journalctl -u rs-agent` says why; it is tried again several times a second".into(),
        )
    })
}

/// The VIP on an interface that leads to a LAN, where this machine answers for it whatever the settings
/// are. A director on this machine may hold it there; it marks what it holds.
fn elsewhere(view: &View, vip: &Vip) -> Vec<Finding> {
    let stray = |found: &&Found| {
        let kind = view
            .interfaces
            .get(&found.interface)
            .map(|interface| interface.kind);
        found.detail.address == vip.address
            && found.interface != vip.interface
            && kind == Some(Kind::Other)
            && !found.detail.is_ours()
    };
    let finding = |found: &Found| {
        let (interface, length) = (&found.interface, found.detail.prefix_length);
        let address = vip.address;
        Finding::error(
            Some(address),
            format!(
                "{address} is on {interface} too, and this machine claims it there: clients' packets come here past the directors"
            ),
            format!("ip address delete {address}/{length} dev {interface}"),
        )
    };
    view.addresses.iter().filter(stray).map(finding).collect()
}

/// What keeps an anycast VIP from being withdrawn: addresses that the agent leaves where they are.
fn foreign(view: &View, vip: IpAddr) -> impl Iterator<Item = Finding> {
    let is_foreign = move |found: &&Found| {
        let place = found.place();
        let marked = found.detail.is_ours() && is_for_vips(view, &place.interface);
        let is_ours = is_single(found) && (marked || view.owned.addresses.contains(&place));
        found.detail.address == vip && !is_ours
    };
    let finding = move |found: &Found| {
        let foreign = Foreign::from(found);
        let mend = format!("{}; also where the network is configured", foreign.mend());
        Finding::error(Some(vip), foreign.problem(), mend)
    };
    view.addresses.iter().filter(is_foreign).map(finding)
}

/// What answers neighbour solicitations for an IPv6 VIP although no interface there has it
/// (`pndisc_is_router()`, `net/ipv6/ndisc.c`). IPv4 asks for no proxy while the VIP is on the machine.
fn proxied(view: &View, vip: IpAddr) -> Vec<Finding> {
    let entries = view
        .proxied
        .iter()
        .filter(|(address, _)| *address == vip && vip.is_ipv6());
    let finding = |(address, interface): &(IpAddr, String)| {
        let mend = format!("ip -6 neighbour delete proxy {address} dev {interface}");
        if view.ndp_proxies.contains(interface) {
            let problem = format!(
                "{interface} answers neighbour solicitations for {address}, since it is a proxy for it: clients' packets come here past the directors"
            );
            Finding::error(Some(vip), problem, mend)
        } else {
            let problem = format!(
                "{interface} has a proxy entry for {address}, and would answer for it once forwarding and proxy_ndp are on"
            );
            Finding::warning(Some(vip), problem, mend)
        }
    };
    entries.map(finding).collect()
}

/// A director drops packets that come from its own VIP (`fib_validate_source()`, `net/ipv4/fib_frontend.c`).
fn gateways(view: &View, directors: &BTreeSet<IpAddr>) -> Vec<Finding> {
    let wrong = view
        .gateways
        .iter()
        .filter(|gateway| directors.contains(gateway));
    let finding = |gateway: &IpAddr| {
        let family = if gateway.is_ipv6() { "ip -6" } else { "ip" };
        Finding::error(
            None,
            format!(
                "answers leave by {gateway}, which is a director: it drops packets that come from a VIP of its own"
            ),
            format!(
                "{family} route replace default via ROUTER, with the LAN's router; also where the network is configured"
            ),
        )
    };
    wrong.map(finding).collect()
}

/// Agents that know nothing of each other.
fn agents(view: &View) -> Vec<Finding> {
    let mut findings = Vec::new();
    if view.agents.len() > 1 {
        let named: Vec<String> = view.agents.iter().map(Process::to_string).collect();
        findings.push(Finding::error(
            None,
            format!(
                "several agents run here, and undo each other's work: {}",
                named.join(", ")
            ),
            "end all but one: `systemctl stop` its unit, or `kill` with its process id".into(),
        ));
    }
    for found in &view.addresses {
        let on_record = view.owned.addresses.contains(&found.place());
        if found.detail.is_ours() && !on_record && is_for_vips(view, &found.interface) {
            findings.push(Finding::warning(
                Some(found.detail.address),
                format!("{} carries rs-agent's mark, but is not on record: the record was lost, or an agent with another --state-directory put it there", found.place()),
                "rs-agent reload, which takes it over, or away where the configuration doesn't name it; and one --state-directory for all".into(),
            ));
        }
    }
    findings
}

fn is_for_vips(view: &View, interface: &str) -> bool {
    let kind = view.interfaces.get(interface);
    matches!(
        kind.map(|interface| interface.kind),
        Some(Kind::Loopback | Kind::Dummy { .. })
    )
}

fn is_ours(view: &View, place: &Place) -> bool {
    let marked = |found: &Found| found.place() == *place && found.detail.is_ours();
    view.owned.addresses.contains(place) || view.addresses.iter().any(marked)
}

fn is_single(found: &Found) -> bool {
    found.detail.prefix_length == host_prefix_length(found.detail.address)
}

impl fmt::Display for Severity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// `error: PROBLEM` and, below, `  mend: COMMAND`.
impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}: {}\n  mend: {}",
            self.severity, self.problem, self.mend
        )
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use lvs_system::address::{Address, Scope};
    use lvs_system::listeners::{Listener, Transport};

    use super::*;
    use crate::fake::{VIP, place, vip};
    use crate::machine::Interface;
    use crate::run::Settings;

    const VIP_6: &str = "2001:db8::53";

    fn ipv6() -> IpAddr {
        VIP_6.parse().unwrap()
    }

    /// A correct real server for an IPv4 and an IPv6 VIP.
    fn sound() -> View {
        let mut view = View::default();
        for (name, kind) in [
            ("lo", Kind::Loopback),
            ("eth0", Kind::Other),
            ("eth1", Kind::Other),
        ] {
            view.interfaces
                .insert(name.into(), Interface { kind, up: true });
        }
        view.vip_interfaces.insert(1);
        for address in [VIP, ipv6()] {
            put(
                &mut view,
                "lo",
                Address::new(1, address, host_prefix_length(address)),
            );
            view.owned.addresses.insert(place(address));
            view.taken.insert(address);
        }
        view.host_routes.insert(place(VIP));
        for name in ["all", "default", "lo", "eth0", "eth1"] {
            view.ignore.insert(name.into(), i32::from(name == "all"));
            view.announce
                .insert(name.into(), if name == "all" { 2 } else { 0 });
        }
        let any = |transport| Listener {
            transport,
            address: "::".parse().unwrap(),
            only_ipv6: false,
            interface_index: 0,
        };
        view.listeners = Some(vec![any(Transport::Udp), any(Transport::Tcp)]);
        view
    }

    fn put(view: &mut View, interface: &str, detail: Address) {
        view.addresses.push(Found {
            interface: interface.into(),
            detail,
        });
    }

    fn wanted() -> Configuration {
        Configuration {
            vips: vec![vip(VIP), vip(ipv6())],
            directors: ["192.168.56.181".parse().unwrap()].into(),
            run: Settings::default(),
            anycast: None,
        }
    }

    fn report(change: impl FnOnce(&mut View)) -> Report {
        let mut view = sound();
        change(&mut view);
        judge(&view, &wanted())
    }

    /// The one finding, and how it is mended.
    fn finding(change: impl FnOnce(&mut View)) -> (Severity, String, String) {
        let report = report(change);
        let [finding] = report.findings.as_slice() else {
            panic!("{:?}", report.findings);
        };
        (
            finding.severity,
            finding.problem.clone(),
            finding.mend.clone(),
        )
    }

    #[test]
    fn nothing_is_said_of_a_sound_machine() {
        let report = report(|_| {});
        assert_eq!(report.worst(), None);
        let quiet: Vec<_> = report
            .vips
            .iter()
            .map(|vip| (vip.quiet, vip.present, vip.ours))
            .collect();
        assert_eq!(
            quiet,
            [(Quiet::Sysctls, true, true), (Quiet::Ipv6, true, true)]
        );
        assert!(report.vips.iter().all(|vip| vip.udp == Listening::Any));
    }

    /// The table of when a real server answers ARP for its VIP, as it was measured.
    #[test]
    fn arp_is_judged_by_what_is_in_force() {
        for (all, eth0, lo, scope, answers) in [
            (0, 0, 0, Scope::Global, true),
            (0, 0, 1, Scope::Global, true),
            (1, 0, 0, Scope::Global, false),
            (0, 1, 0, Scope::Global, false),
            (0, 2, 0, Scope::Global, false),
            (0, 3, 0, Scope::Global, true),
            (0, 3, 0, Scope::Host, false),
            (0, 1, 0, Scope::Host, false),
            (0, 8, 0, Scope::Global, false),
            (0, 0, 0, Scope::Host, true),
        ] {
            let report = report(|view| {
                view.interfaces.remove("eth1");
                view.ignore.extend([
                    ("all".into(), all),
                    ("eth0".into(), eth0),
                    ("lo".into(), lo),
                ]);
                view.addresses[0].detail.scope = scope;
            });
            let errors = report
                .findings
                .iter()
                .filter(|found| found.severity == Severity::Error);
            assert_eq!(errors.count() == 1, answers, "{all} {eth0} {lo} {scope:?}");
            // A server that answers for nothing at all is worth a word.
            let warned = report.worst() == Some(Severity::Warning);
            assert_eq!(warned, eth0 == 8);
            assert_eq!(report.vips[0].quiet == Quiet::No, answers);
        }
    }

    #[test]
    fn the_command_that_mends_it_is_said() {
        let (severity, problem, mend) = finding(|view| {
            view.ignore
                .extend([("all".into(), 0), ("eth1".into(), 3), ("lo".into(), 1)]);
        });
        assert_eq!(severity, Severity::Error);
        assert!(
            problem.contains("on eth0, eth1") && problem.contains("0 on eth0, 3 on eth1"),
            "{problem}"
        );
        assert!(problem.contains("that of lo has no effect"), "{problem}");
        assert_eq!(
            mend,
            "sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.eth1.arp_ignore=1"
        );
        let (_, problem, mend) = finding(|view| view.announce.extend([("eth0".into(), 3)]));
        assert!(
            problem.contains("arp_announce") && problem.contains("is 3, and only 2"),
            "{problem}"
        );
        assert_eq!(mend, "sysctl -w net.ipv4.conf.eth0.arp_announce=2");
        let (_, _, mend) = finding(|view| view.ignore.extend([("eth0".into(), 8)]));
        assert_eq!(mend, "sysctl -w net.ipv4.conf.eth0.arp_ignore=1");
    }

    #[test]
    fn a_packet_filter_does_as_well() {
        let report = report(|view| {
            view.ignore.insert("all".into(), 0);
            view.announce.insert("all".into(), 0);
            view.filtered.insert("192.168.56.185".parse().unwrap());
        });
        assert_eq!(
            (report.worst(), report.vips[0].quiet),
            (None, Quiet::Filter)
        );
    }

    #[test]
    fn a_vip_that_is_not_there_or_not_alone_is_an_error() {
        let (severity, problem, mend) = finding(|view| view.addresses.truncate(1));
        assert_eq!(
            (severity, mend.as_str()),
            (Severity::Error, "rs-agent start --vip 2001:db8::53")
        );
        assert!(problem.contains("2001:db8::53 is not on lo"), "{problem}");
        let (_, problem, mend) = finding(|view| view.addresses[0].detail.prefix_length = 24);
        assert!(problem.contains("the whole subnet"), "{problem}");
        assert!(
            mend.starts_with("ip address delete 192.168.56.185/24 dev lo && "),
            "{mend}"
        );
        for address in [VIP, ipv6()] {
            let (_, problem, mend) = finding(|view| {
                let detail = Address::new(2, address, 32);
                put(
                    view,
                    "eth0",
                    Address {
                        protocol: 0,
                        ..detail
                    },
                );
            });
            assert!(problem.contains("is on eth0 too"), "{problem}");
            assert_eq!(mend, format!("ip address delete {address}/32 dev eth0"));
        }
        // A director on the same machine holds it, and should.
        let held = report(|view| put(view, "eth0", Address::new(2, VIP, 32)));
        assert_eq!(held.worst(), None);
        let (_, problem, _) = finding(|view| view.taken.retain(|vip| *vip != VIP));
        assert!(problem.contains("ip route get 192.168.56.185"), "{problem}");
        let down = report(|view| view.interfaces.get_mut("lo").unwrap().up = false);
        assert!(
            down.findings
                .iter()
                .all(|found| found.mend == "ip link set lo up")
        );
        assert_eq!(down.findings.len(), 2);
        let (severity, ..) = finding(|view| view.host_routes.clear());
        assert_eq!(severity, Severity::Warning);
    }

    #[test]
    fn what_brings_a_vip_back_hangs_on_who_took_it() {
        let agent = |view: &mut View| {
            let command = "rs-agent run".into();
            view.agents = vec![Process { id: 7, command }];
        };
        // A service has what it needs, unless the file has changed.
        let (.., mend) = finding(|view| {
            view.addresses.truncate(1);
            agent(view);
        });
        assert_eq!(mend, "rs-agent reload");
        for (vips, mends) in [
            (&[ipv6()][..], &["rs-agent start --vip 2001:db8::53"][..]),
            (&[], &["rs-agent start", "rs-agent start"]),
        ] {
            let report = report(|view| {
                let gone = |address| vips.is_empty() || vips.contains(&address);
                view.addresses.retain(|found| !gone(found.detail.address));
                view.stopped.stop(vips);
                agent(view);
            });
            let found = report.findings.iter();
            assert!(
                found
                    .clone()
                    .all(|found| found.problem.contains("was stopped by hand"))
            );
            let found: Vec<&str> = found.map(|found| found.mend.as_str()).collect();
            assert_eq!(found, mends);
            assert_eq!(report.worst(), Some(Severity::Warning));
            assert!(report.vips[1].stopped);
        }
        let vip = Vip {
            interface: "dns0".into(),
            label: Some("dns0:a".into()),
            ..vip(VIP)
        };
        assert_eq!(
            start(&vip),
            "rs-agent start --vip 192.168.56.185 --interface dns0 --label dns0:a"
        );
    }

    #[test]
    fn an_anycast_vip_that_is_missing_or_somebody_else_s_is_an_error() {
        let text = format!("mode: anycast\nvips: [{VIP}, '{VIP_6}']\n");
        let anycast = crate::config::parse("rs-agent.yaml".as_ref(), &text).unwrap();
        let judged = |change: &dyn Fn(&mut View)| {
            let mut view = sound();
            view.host_routes.clear();
            change(&mut view);
            judge(&view, &anycast).findings
        };
        assert_eq!(judged(&|_| {}), []);
        let findings = judged(&|view| view.addresses.truncate(1));
        assert_eq!(findings.len(), 1);
        assert!(
            findings[0]
                .problem
                .contains("2001:db8::53 is to be announced and is not on lo"),
            "{findings:?}"
        );
        let somebodys = |interface: &str, address: IpAddr, length| {
            let detail = Address {
                protocol: 0,
                ..Address::new(2, address, length)
            };
            let findings = judged(&|view| put(view, interface, detail.clone()));
            let [finding] = findings.as_slice() else {
                panic!("{findings:?}");
            };
            assert_eq!(finding.severity, Severity::Error);
            finding.mend.clone()
        };
        for (interface, address, length) in
            [("lo", VIP, 24), ("eth0", VIP, 32), ("eth0", ipv6(), 64)]
        {
            assert_eq!(
                somebodys(interface, address, length),
                format!(
                    "ip address delete {address}/{length} dev {interface}; also where the network is configured"
                )
            );
        }
    }

    #[test]
    fn somebody_must_listen() {
        let only = |only_ipv6, transports: &[Transport], interface_index| {
            let listener = |transport: &Transport| Listener {
                transport: *transport,
                address: "::".parse().unwrap(),
                only_ipv6,
                interface_index,
            };
            transports.iter().map(listener).collect::<Vec<_>>()
        };
        let both = [Transport::Udp, Transport::Tcp];
        let (severity, problem, _) = finding(|view| view.listeners = Some(only(true, &both, 0)));
        assert_eq!(severity, Severity::Error);
        assert_eq!(
            problem,
            "nobody listens on 192.168.56.185 port 53 over UDP and TCP"
        );
        let without_tcp = report(|view| view.listeners = Some(only(false, &both[..1], 0)));
        assert_eq!(without_tcp.worst(), Some(Severity::Warning));
        // Packets don't come in by `lo`.
        let on_loopback = report(|view| view.listeners = Some(only(false, &both, 1)));
        assert_eq!(on_loopback.vips[0].udp, Listening::Nobody);
        let unknown = report(|view| view.listeners = None);
        assert_eq!(
            (unknown.worst(), unknown.vips[0].udp),
            (None, Listening::Unknown)
        );
    }

    #[test]
    fn the_next_hop_is_no_director() {
        let (severity, problem, _) = finding(|view| {
            view.gateways = vec![
                "192.168.56.1".parse().unwrap(),
                "192.168.56.181".parse().unwrap(),
            ];
        });
        assert_eq!(severity, Severity::Error);
        assert!(problem.contains("192.168.56.181"), "{problem}");
    }

    #[test]
    fn a_proxy_answers_for_an_ipv6_vip() {
        let entry =
            |view: &mut View| view.proxied = vec![(ipv6(), "eth0".into()), (VIP, "eth0".into())];
        let (severity, _, mend) = finding(entry);
        assert_eq!(severity, Severity::Warning);
        assert_eq!(mend, "ip -6 neighbour delete proxy 2001:db8::53 dev eth0");
        let (severity, ..) = finding(|view| {
            entry(view);
            view.ndp_proxies.insert("eth0".into());
        });
        assert_eq!(severity, Severity::Error);
    }

    #[test]
    fn agents_that_know_nothing_of_each_other() {
        let (severity, problem, _) = finding(|view| {
            let agent = |id| Process {
                id,
                command: "rs-agent run".into(),
            };
            view.agents = vec![agent(7), agent(9)];
        });
        assert_eq!(severity, Severity::Error);
        assert!(problem.contains("process 9 (`rs-agent run`)"), "{problem}");
        let (severity, ..) =
            finding(|view| view.owned.addresses.retain(|owned| *owned != place(VIP)));
        assert_eq!(severity, Severity::Warning);
        let foreign = report(|view| {
            view.owned.addresses.clear();
            view.addresses
                .iter_mut()
                .for_each(|found| found.detail.protocol = 0);
        });
        assert!(foreign.worst().is_none() && !foreign.vips[0].ours);
    }
}
