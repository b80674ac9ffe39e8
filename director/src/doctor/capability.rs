//! What the director may do, and who else does it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

use super::machine::Machine;
use super::{Report, Running};
use crate::control;

/// A capability (`linux/capability.h`), and what is lost without it.
struct Capability {
    bit: u32,
    name: &'static str,
    purpose: &'static str,
}

const NEEDED: [Capability; 2] = [
    Capability {
        bit: 12,
        name: "CAP_NET_ADMIN",
        purpose: "to add VIPs and to program IPVS",
    },
    Capability {
        bit: 13,
        name: "CAP_NET_RAW",
        purpose: "to send and hear adverts and ARP",
    },
];

/// Where packages and administrators put units, in the order in which systemd looks.
const UNIT_FOLDERS: [&str; 4] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
const UNITS: [&str; 2] = ["lvs-director.service", "director.service"];

/// Programs that put VIPs on interfaces or write into the table themselves, by the names of their
/// processes.
const RIVALS: [&str; 3] = ["keepalived", "ldirectord", "ucarp"];

pub(super) fn examine(machine: &Machine<'_>, report: &mut Report) {
    match machine.patient.running {
        Some(running) => of_running(running, report),
        None => {
            of_doctor(report);
            of_unit(report);
        }
    }
    rivals(report);
}

fn of_running(running: Running<'_>, report: &mut Report) {
    let socket = running.runtime_directory.join(control::SOCKET);
    let peer = UnixStream::connect(socket)
        .ok()
        .and_then(|stream| getsockopt(&stream, PeerCredentials).ok());
    let process = peer.map(|peer| peer.pid()).filter(|process| *process > 0);
    let of_process = |process: i32| {
        let text = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        Some((process, effective(&text)?))
    };
    let Some((process, effective)) = process.and_then(of_process) else {
        let why = "the director's process can't be seen, as from another PID namespace".to_owned();
        return report.unknown("capability", "", why, None);
    };
    for Capability { bit, name, purpose } in &NEEDED {
        if effective & (1 << bit) == 0 {
            report.error(
                "capability",
                name,
                format!("the director that runs (process {process}) lacks it; it is needed {purpose}"),
                format!(
                    "add {name} to AmbientCapabilities= and CapabilityBoundingSet= of its unit, and \
                     restart it"
                ),
            );
        } else {
            report.ok("capability", name, "the director that runs has it");
        }
    }
    match policy_of_thread(process, "vrrp") {
        Some(policy) if policy == nix::libc::SCHED_FIFO => {
            report.ok(
                "capability",
                "real-time priority",
                "the thread of the adverts has it",
            );
        }
        Some(_) => report.warning(
            "capability",
            "real-time priority",
            "the thread of the adverts has none: on a busy machine adverts are late, and the other \
             director takes over",
            "give the unit LimitRTPRIO=50 or CAP_SYS_NICE, and restart it",
        ),
        None => {}
    }
}

/// The line `CapEff` of `/proc/PID/status` (proc(5)).
fn effective(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn policy_of_thread(process: i32, name: &str) -> Option<i32> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).ok()?;
    let mut stats = threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok());
    stats.find_map(|stat| policy(&stat, name))
}

/// The field `policy` of `/proc/PID/task/TID/stat` (proc(5)), if it is that of this thread.
fn policy(stat: &str, name: &str) -> Option<i32> {
    let (before, after) = stat.rsplit_once(')')?;
    let (_, comm) = before.split_once('(')?;
    // The first behind the name is number 3, the policy number 41.
    let field = after.split_whitespace().nth(41 - 3)?;
    (comm == name).then(|| field.parse().ok())?
}

/// Without these nothing could be asked of the LAN.
fn of_doctor(report: &mut Report) {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = effective(&status).unwrap_or_default();
    let missing: Vec<&str> = NEEDED
        .iter()
        .filter(|one| effective & (1 << one.bit) == 0)
        .map(|one| one.name)
        .collect();
    if !missing.is_empty() {
        report.unknown(
            "capability",
            "this command",
            format!("lacks {}: much can't be seen", missing.join(" and ")),
            Some("run it as root".to_owned()),
        );
    }
}

fn of_unit(report: &mut Report) {
    let paths = UNITS
        .iter()
        .flat_map(|unit| UNIT_FOLDERS.map(|folder| Path::new(folder).join(unit)));
    let found = paths
        .map(|path| (fs::read_to_string(&path), path))
        .find_map(|(text, path)| Some((text.ok()?, path)));
    let Some((mut text, path)) = found else {
        return;
    };
    let unit = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    for folder in UNIT_FOLDERS {
        let Ok(entries) = fs::read_dir(Path::new(folder).join(format!("{unit}.d"))) else {
            continue;
        };
        let mut drop_ins: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        drop_ins.sort();
        for drop_in in drop_ins {
            text.push('\n');
            text += &fs::read_to_string(drop_in).unwrap_or_default();
        }
    }
    let missing = missing_in_unit(&text);
    if missing.is_empty() {
        report.ok("capability", &unit, "the unit gives what is needed");
    } else {
        report.error(
            "capability",
            &unit,
            format!("{} doesn't give {}", path.display(), missing.join(" and ")),
            "add it to AmbientCapabilities= and CapabilityBoundingSet=, and `systemctl daemon-reload`",
        );
    }
}

/// Needed capabilities that a unit (systemd.exec(5)) doesn't give.
fn missing_in_unit(text: &str) -> Vec<&'static str> {
    let values = |key: &str| -> Option<Vec<String>> {
        let mut all: Option<Vec<String>> = None;
        for line in text.lines() {
            let Some((_, value)) = line.split_once('=').filter(|(name, _)| name.trim() == key)
            else {
                continue;
            };
            let words: Vec<String> = value.split_whitespace().map(str::to_owned).collect();
            match &mut all {
                // An empty one takes back what was said.
                Some(known) if !words.is_empty() => known.extend(words),
                _ => all = Some(words),
            }
        }
        all
    };
    let user = values("User").unwrap_or_default();
    let is_root = user.is_empty() || user == ["root"];
    let bounding = values("CapabilityBoundingSet");
    let ambient = values("AmbientCapabilities").unwrap_or_default();
    // `~` lists what is taken away.
    let bounds = |name: &str| match bounding.as_deref() {
        None => true,
        Some([first, rest @ ..]) if first.starts_with('~') => {
            first.trim_start_matches('~') != name && !rest.iter().any(|one| one == name)
        }
        Some(names) => names.iter().any(|one| one == name),
    };
    NEEDED
        .iter()
        .map(|one| one.name)
        .filter(|name| !bounds(name) || !(is_root || ambient.iter().any(|one| one == name)))
        .collect()
}

/// A process that may hold VIPs.
struct Rival {
    name: String,
    process: String,
    /// Whether it is in this network namespace; nothing where that can't be seen.
    is_here: Option<bool>,
}

fn rivals(report: &mut Report) {
    let namespace = |process: &Path| Some(fs::metadata(process.join("ns/net")).ok()?.ino());
    let own = namespace(Path::new("/proc/self"));
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let found = processes
        .filter_map(|process| {
            let name = fs::read_to_string(process.path().join("comm")).ok()?;
            RIVALS.contains(&name.trim()).then(|| Rival {
                name: name.trim().to_owned(),
                process: process.file_name().to_string_lossy().into_owned(),
                is_here: own
                    .zip(namespace(&process.path()))
                    .map(|(own, other)| own == other),
            })
        })
        .collect();
    // Mounted with `hidepid`, or in a unit with ProtectProc=.
    let are_hidden = fs::metadata("/proc/1").is_err();
    judge_rivals(found, are_hidden, report);
}

fn judge_rivals(mut found: Vec<Rival>, are_hidden: bool, report: &mut Report) {
    found.retain(|rival| rival.is_here != Some(false));
    // One process of each, rather one that is here for certain.
    found.sort_by(|one, other| {
        let order = |rival: &Rival| (rival.name.clone(), rival.is_here.is_none());
        order(one).cmp(&order(other))
    });
    found.dedup_by(|one, other| one.name == other.name);
    let as_root = || Some("run it as root".to_owned());
    if found.is_empty() {
        if are_hidden {
            let text = "whether others here hold VIPs isn't known: processes of others are hidden";
            report.unknown("program", "", text, as_root());
        } else {
            report.ok("program", "", "nobody else here holds VIPs");
        }
    }
    for Rival {
        name,
        process,
        is_here,
    } in found
    {
        if is_here.is_none() {
            let text = format!(
                "runs (process {process}); whether it holds VIPs here, or in a network namespace of its own, can't be seen"
            );
            report.unknown("program", name, text, as_root());
            continue;
        }
        report.warning(
            "program",
            &name,
            format!(
                "runs here too (process {process}): both write VIPs and the forwarding table, each undoing \
                 what the other does"
            ),
            format!("`systemctl disable --now {name}`, or take out of its file what the director has"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn capabilities_are_read_as_the_kernel_writes_them() {
        let status = "Name:\tdirector\nCapPrm:\t0000000000000000\nCapEff:\t0000000000003000\n";
        assert_eq!(effective(status), Some(0x3000));
        assert_eq!(effective("Name:\tdirector\n"), None);
    }

    #[test]
    fn who_cannot_be_seen_may_be_a_rival() {
        let judged = |places: &[Option<bool>], are_hidden| {
            let rivals = places.iter().map(|is_here| Rival {
                name: "keepalived".to_owned(),
                process: "77".to_owned(),
                is_here: *is_here,
            });
            let mut report = Report::default();
            judge_rivals(rivals.collect(), are_hidden, &mut report);
            let verdicts = report.verdicts().into_iter();
            verdicts.map(|(.., verdict)| verdict).collect::<Vec<_>>()
        };
        assert_eq!(judged(&[], false), [Verdict::Ok]);
        assert_eq!(judged(&[], true), [Verdict::Unknown]);
        assert_eq!(judged(&[Some(false)], false), [Verdict::Ok]);
        assert_eq!(judged(&[None], false), [Verdict::Unknown]);
        assert_eq!(judged(&[None, Some(true)], false), [Verdict::Warning]);
    }

    #[test]
    fn the_policy_is_the_41st_field_whatever_the_name() {
        let fields: Vec<String> = (4..=52)
            .map(|field| {
                if field == 41 {
                    "1".into()
                } else {
                    "0".to_string()
                }
            })
            .collect();
        let stat = format!("77 (a) b) S {}", fields.join(" "));
        assert_eq!(policy(&stat, "a) b"), Some(1));
        assert_eq!(policy(&stat, "vrrp"), None);
        assert_eq!(policy("77 (vrrp) S 1 2", "vrrp"), None);
    }

    #[test]
    fn a_units_capabilities_are_what_is_left_in_the_end() {
        let both = ["CAP_NET_ADMIN", "CAP_NET_RAW"];
        let deployed = include_str!("../../../deploy/director.service");
        assert_eq!(missing_in_unit(deployed), [""; 0]);
        assert_eq!(missing_in_unit("[Service]\nUser=lvs\n"), both);
        assert_eq!(missing_in_unit("[Service]\n"), [""; 0]);
        let half = "User=lvs\nAmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW\nCapabilityBoundingSet=~CAP_NET_RAW\n";
        assert_eq!(missing_in_unit(half), ["CAP_NET_RAW"]);
        let undone = format!("{deployed}\nAmbientCapabilities=\nUser=lvs\n");
        assert_eq!(missing_in_unit(&undone), both);
    }
}
