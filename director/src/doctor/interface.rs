//! The interfaces that virtual routers stand on.

use std::collections::BTreeSet;
use std::io;

use lvs_proto::Family;
use lvs_system::{address, syscalls, sysctl};

use super::Report;
use super::machine::Machine;

pub(super) fn examine(machine: &Machine<'_>, report: &mut Report) {
    let instances = machine.configuration().instances.iter();
    let vips = machine.vips().map(|vip| (vip.interface, None));
    let own = instances.map(|one| (one.interface.as_str(), Some(one)));
    let mut seen = BTreeSet::new();
    for (name, instance) in own.chain(vips) {
        let Some(link) = machine.link(name) else {
            if seen.insert(name) {
                report.error(
                    "interface",
                    name,
                    "there is none of this name",
                    "name one that `ip link` lists in `interface`, by node where the two differ, or make it",
                );
            }
            continue;
        };
        if seen.insert(name) {
            if link.up {
                report.ok("interface", name, format!("is up, MTU {}", link.mtu));
                large_receive_offload(name, report);
            } else {
                report.error(
                    "interface",
                    name,
                    "is down or has no carrier: its virtual routers are in fault",
                    format!("`ip link set {name} up`, and look at the cable or the switch's port"),
                );
            }
        }
        let Some(instance) = instance else {
            continue;
        };
        if instance.family() == Family::Ipv6
            && is_on(&format!(
                "net.ipv6.conf.{}.disable_ipv6",
                sysctl::part(name)
            ))
        {
            report.error(
                "interface",
                name,
                "IPv6 is switched off here, and virtual router ".to_owned()
                    + &instance.name
                    + " needs it",
                format!("`sysctl -w net.ipv6.conf.{name}.disable_ipv6=0`, and see /etc/sysctl.d"),
            );
            continue;
        }
        let excluded: Vec<_> = machine.vips().map(|vip| vip.address).collect();
        let addresses = &machine.picture.addresses;
        let found = match (instance.source, instance.family()) {
            (Some(source), _) => addresses
                .iter()
                .any(|own| own.address == source && !own.duplicate),
            (None, Family::Ipv4) => {
                address::primary_ipv4(addresses, link.index, &excluded).is_some()
            }
            (None, Family::Ipv6) => {
                address::primary_ipv6(addresses, link.index, &excluded).is_some()
            }
        };
        if !found {
            let family = instance.family();
            let what = instance.source.map_or_else(
                || format!("there is no {family} address of this machine's own to send adverts from"),
                |source| format!("{source}, which adverts are to be sent from (`source`), isn't an address of this machine"),
            );
            report.error(
                "interface",
                name,
                format!("virtual router {}: {what}", instance.name),
                format!("give {name} an address of its own, beside the VIPs"),
            );
        }
    }
}

/// Whether a setting of the kernel is on; not where there is none.
pub(super) fn is_on(name: &str) -> bool {
    sysctl::read(name).is_ok_and(|value| value != "0")
}

/// Packets that the card has put together are longer than what left the client, and the kernel can't
/// take them apart again: those that are forwarded are lost. It switches this off where it routes, which
/// a director doesn't need to do.
fn large_receive_offload(name: &str, report: &mut Report) {
    match syscalls::has_large_receive_offload(name) {
        Ok(true) => report.warning(
            "offload",
            name,
            "large receive offload is on: what the card puts together of several TCP packets is too \
             long to be forwarded",
            format!("`ethtool -K {name} lro off`, for good in what sets up the interface"),
        ),
        Ok(false) => report.ok("offload", name, "no large receive offload"),
        // Interfaces that are software have none.
        Err(error) if error.raw_os_error() == Some(nix::libc::EOPNOTSUPP) => {
            report.ok("offload", name, "no large receive offload");
        }
        Err(error) => {
            let what = if error.kind() == io::ErrorKind::PermissionDenied {
                "this user may not ask".to_owned()
            } else {
                format!("the driver doesn't tell: {error}")
            };
            report.unknown("offload", name, what, None);
        }
    }
}
