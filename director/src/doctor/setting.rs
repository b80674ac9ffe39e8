//! The kernel's settings that queries or adverts depend on, and that the director doesn't set itself.

use std::net::{IpAddr, Ipv4Addr};

use lvs_proto::Family;
use lvs_proto::ipvs::Forwarding;
use lvs_system::{arp, sysctl};

use super::Report;
use super::machine::Machine;

/// TEST-NET-3 (RFC 5737) stands for clients elsewhere.
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));

pub(super) fn examine(machine: &Machine<'_>, report: &mut Report) {
    reverse_path(machine, report);
    neighbour_settings(machine, report);
}

/// With `rp_filter` 1 the kernel drops what comes in by another interface than the way back leaves by
/// (RFC 3704, section 2.2); IPv6 has no such setting.
fn reverse_path(machine: &Machine<'_>, report: &mut Report) {
    // That one is missing has been said.
    let lans = machine.lans(Family::Ipv4).into_iter();
    for name in lans.filter(|name| machine.link(name).is_some()) {
        let Some(filter) = effective("rp_filter", name) else {
            report.unknown(
                "reverse path",
                name,
                "the kernel doesn't tell `rp_filter`",
                None,
            );
            continue;
        };
        let way = machine.way_to(ELSEWHERE);
        let back = way.and_then(|way| machine.link_of(&way));
        let back = back.map(|link| link.name.as_str());
        match judge_reverse_path(filter, name, back) {
            Ok(text) => report.ok("reverse path", name, text),
            Err(text) => report.warning("reverse path", name, text, loosen(name)),
        }
    }
    path_answers(machine, report);
}

/// `Err` says what is lost.
fn judge_reverse_path(filter: i32, name: &str, back: Option<&str>) -> Result<String, String> {
    match (filter, back) {
        (1, Some(back)) if back == name => Ok(format!(
            "rp_filter is strict, and the default route leaves by {name} too"
        )),
        (1, Some(back)) => Err(format!(
            "rp_filter is strict, and the default route leaves by {back}: queries of clients from \
             elsewhere that come in by {name} are dropped"
        )),
        (1, None) => Err(format!(
            "rp_filter is strict, and there is no default route: queries of clients from elsewhere that \
             come in by {name} are dropped"
        )),
        _ => Ok(format!(
            "rp_filter {filter} drops nothing that clients send"
        )),
    }
}

/// What real servers answer by the VIP to the director's own probes.
fn path_answers(machine: &Machine<'_>, report: &mut Report) {
    for (address, server, service) in machine.servers() {
        let asked_by_vip = service.checks.iter().any(|check| check.path);
        if !asked_by_vip || server.forwarding != Forwarding::DirectRouting || !address.is_ipv4() {
            continue;
        }
        let Some(way) = machine.way_to(address).filter(|way| !way.local) else {
            continue;
        };
        let Some(link) = machine.link_of(&way) else {
            continue;
        };
        let strange = machine
            .vips()
            .filter(|vip| {
                Machine::questions(service)
                    .iter()
                    .any(|(address, ..)| *address == vip.address)
            })
            .any(|vip| vip.address.is_ipv4() && vip.interface != link.name);
        if strange && effective("rp_filter", &link.name) == Some(1) {
            report.warning(
                "reverse path",
                &link.name,
                format!(
                    "rp_filter is strict: the answers of real server {address} from the VIP come in by {} \
                     and are dropped, so that checks by the VIP fail",
                    link.name
                ),
                loosen(&link.name),
            );
        }
    }
}

fn loosen(name: &str) -> String {
    format!(
        "`sysctl -w net.ipv4.conf.all.rp_filter=2 net.ipv4.conf.{}.rp_filter=2`, for good in \
         /etc/sysctl.d",
        sysctl::part(name)
    )
}

/// The larger of `all` and of the interface counts (`IN_DEV_RPFILTER`, `include/linux/inetdevice.h`).
fn effective(setting: &str, interface: &str) -> Option<i32> {
    let value = |part: &str| {
        let text = sysctl::read(&format!("net.ipv4.conf.{part}.{setting}")).ok()?;
        text.parse::<i32>().ok()
    };
    Some(value("all")?.max(value(&sysctl::part(interface))?))
}

/// A director that runs has made them; somebody may have undone that.
fn neighbour_settings(machine: &Machine<'_>, report: &mut Report) {
    if machine.patient.running.is_none() || machine.configuration().instances.is_empty() {
        return;
    }
    for setting in [arp::IGNORE, arp::ANNOUNCE] {
        let name = setting.of("all");
        match setting.values() {
            Ok(values) => {
                let insufficient = setting.insufficient(&values);
                if insufficient.is_empty() {
                    report.ok("sysctl", &name, "keeps the VIPs to their interfaces");
                } else {
                    let places: Vec<&str> = insufficient.into_iter().collect();
                    report.warning(
                        "sysctl",
                        &name,
                        format!(
                            "somebody has undone what the director set, on {}: the VIPs may be answered \
                             for on other LANs too",
                            places.join(", ")
                        ),
                        format!(
                            "`sysctl -w {name}={}`, and find who sets it (`grep -r {} /etc/sysctl.*`)",
                            setting.wanted, setting.name
                        ),
                    );
                }
            }
            Err(error) => report.unknown("sysctl", &name, error.to_string(), None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strict_filter_drops_what_has_another_way_back() {
        assert!(judge_reverse_path(1, "eth2", Some("eth2")).is_ok());
        assert!(judge_reverse_path(1, "eth2", Some("eth0")).is_err());
        assert!(judge_reverse_path(1, "eth2", None).is_err());
        for filter in [0, 2] {
            assert!(judge_reverse_path(filter, "eth2", Some("eth0")).is_ok());
            assert!(judge_reverse_path(filter, "eth2", None).is_ok());
        }
    }
}
