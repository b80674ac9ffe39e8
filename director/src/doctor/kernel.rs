//! IPVS in the kernel: its modules, and the size of its table of connections.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use lvs_proto::ipvs::{Protocol, Scheduler, ServiceKey};
use lvs_system::ipvs::Ipvs;

use super::Report;
use super::machine::Machine;
use super::modules::{Modules, Presence};
use crate::config::{Dataplane, Service, defaults};
use crate::dataplane::{FEW_ROWS, MODULE_OPTIONS};

/// IPVS shows its table there while it is loaded.
const TABLE: &str = "/proc/net/ip_vs";
/// Not under the name of the package's own, in place of which it would be read.
const MORE_MODULES: &str = "/etc/modules-load.d/ipvs-schedulers.conf";
/// Entries of connection tracking, and how many there may be.
const TRACKED: [&str; 2] = ["nf_conntrack_count", "nf_conntrack_max"];

pub(super) fn examine(machine: &Machine<'_>, report: &mut Report) {
    connection_tracking(report);
    let configuration = machine.configuration();
    if configuration.dataplane != Dataplane::Ipvs || configuration.services.is_empty() {
        return;
    }
    let modules = Modules::look();
    let is_loaded = Path::new(TABLE).exists();
    if is_loaded {
        report.ok("module", "ip_vs", "is loaded");
    } else if !tell("ip_vs", &modules, report) {
        return;
    }
    let schedulers: BTreeSet<Scheduler> = configuration
        .services
        .iter()
        .map(|service| service.scheduler)
        .collect();
    for scheduler in schedulers {
        tell(&format!("ip_vs_{scheduler}"), &modules, report);
    }
    if is_loaded {
        connection_table(&configuration.services, report);
    }
}

/// Whether it can be used.
fn tell(name: &str, modules: &Modules, report: &mut Report) -> bool {
    match modules.presence(name) {
        Presence::Loaded => report.ok("module", name, "is loaded"),
        Presence::BuiltIn => report.ok("module", name, "is a part of the kernel"),
        // Loading them while namespaces come and go was seen to hang.
        Presence::Loadable if name.starts_with("ip_vs_lblc") => report.warning(
            "module",
            name,
            "isn't loaded, and with Linux 6.1 loading it later was seen to hang",
            format!("write {name} to {MORE_MODULES}, and `modprobe {name}` now"),
        ),
        Presence::Loadable => report.ok("module", name, "is loaded when it is first used"),
        Presence::Missing => {
            report.error(
                "module",
                name,
                format!("kernel {} doesn't have it", modules.release()),
                "install the kernel's package with all modules (Debian: linux-image-amd64, not -cloud-), \
                 and start that kernel; or name another scheduler",
            );
            return false;
        }
        Presence::NotKnown => report.unknown(
            "module",
            name,
            format!(
                "isn't loaded, and /lib/modules/{} has no list",
                modules.release()
            ),
            Some(format!("`modprobe {name}` shows whether there is one")),
        ),
    }
    true
}

fn connection_table(services: &[Service], report: &mut Report) {
    let rows = match Ipvs::open().map(|mut ipvs| ipvs.information()) {
        Ok(Ok(information)) => information.connection_table_size,
        Ok(Err(error)) => return report.unknown("connection table", "", error.to_string(), None),
        Err(error) => return report.unknown("connection table", "", error.to_string(), None),
    };
    let pinned = services.iter().find(|service| is_pinned(service));
    match pinned {
        Some(service) if rows < FEW_ROWS => report.warning(
            "connection table",
            "",
            format!(
                "has {rows} rows, and service {} has no one-packet scheduling for UDP on port 53: every \
                 port of every client is an entry for minutes, and many entries in a row are found \
                 slowly",
                service.name
            ),
            format!(
                "leave `one_packet_scheduling` out, or write `options ip_vs conn_tab_bits=20` to \
                 {MODULE_OPTIONS}, in place of what stands there, which counts from the next time that the \
                 module is loaded"
            ),
        ),
        _ => report.ok("connection table", "", format!("has {rows} rows")),
    }
}

fn is_pinned(service: &Service) -> bool {
    service.virtual_services.iter().any(|one| {
        let is_dns = matches!(
            one.key,
            ServiceKey::Socket {
                port: defaults::DNS_PORT,
                protocol: Protocol::Udp,
                ..
            }
        );
        is_dns && !service.has_one_packet_scheduling(&one.key)
    })
}

/// A full table of connection tracking drops queries before anything else sees them.
fn connection_tracking(report: &mut Report) {
    let value = |name: &str| {
        let text = fs::read_to_string(Path::new("/proc/sys/net/netfilter").join(name));
        text.ok()?.trim().parse::<u64>().ok()
    };
    if let [Some(count), Some(most)] = TRACKED.map(value) {
        if count.saturating_mul(5) > most.saturating_mul(4) {
            report.warning(
                "connection tracking",
                "",
                format!("{count} of {most} entries are taken: beyond that packets are dropped"),
                "don't track DNS (`notrack` for port 53 in nftables' hook prerouting, and in output), or raise \
                 net.netfilter.nf_conntrack_max",
            );
        } else {
            report.ok(
                "connection tracking",
                "",
                format!("{count} of {most} entries are taken"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_goes_with_the_files_of_the_packages() {
        let packages = include_str!("../../Cargo.toml");
        for kind in ["deb", "generate-rpm"] {
            let (_, rest) = packages
                .split_once(&format!("[package.metadata.{kind}]"))
                .expect("it is packaged");
            let package = rest.split("\n[").next().unwrap_or_default();
            assert!(package.contains(&MODULE_OPTIONS[1..]), "{kind}");
            let (_, name) = MORE_MODULES.rsplit_once('/').expect("it is a path");
            assert!(
                package.contains("/modules-load.d/") && !package.contains(name),
                "{kind}"
            );
        }
    }
}
