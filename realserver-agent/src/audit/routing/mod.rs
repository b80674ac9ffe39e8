//! What would defeat an anycast withdrawal: whatever attracts or swallows packets for a VIP although the
//! VIP isn't on the machine. The kernel's routes, and what FRR and BIRD are told, are looked at; nothing
//! is changed, and no daemon is asked.
//!
//! A route that a routing daemon learned from others is no finding: packets for the withdrawn VIP shall
//! follow it.

mod bird;
mod frr;
mod prefix;

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use lvs_system::netlink::Connection;
use lvs_system::route::{self, Kind, Origin, Route};

use super::Finding;
use crate::vip::host_prefix_length;

pub(crate) use prefix::Prefix;

/// The routing daemons' configurations.
#[derive(Args, Clone, Debug)]
pub struct Files {
    /// FRR's configuration, looked at with `mode: anycast` where it is there
    #[arg(long, value_name = "FILE", default_value = "/etc/frr/frr.conf")]
    pub frr: PathBuf,
    /// BIRD's configuration, likewise
    #[arg(long, value_name = "FILE", default_value = "/etc/bird/bird.conf")]
    pub bird: PathBuf,
}

/// What is read for this: see [`Routing::read`].
#[derive(Clone, Debug, Default)]
pub struct Routing {
    /// All routes of all tables, those of the kernel's table `local` aside.
    pub routes: Vec<Route>,
    /// FRR's configuration, where there is one.
    pub frr: Option<File>,
    /// BIRD's configuration, where there is one.
    pub bird: Option<File>,
}

/// A routing daemon's configuration.
#[derive(Clone, Debug)]
pub struct File {
    /// Where it is.
    pub path: PathBuf,
    /// What it says, or why it can't be read.
    pub text: Result<String, String>,
}

impl Routing {
    /// Reads the kernel's routes, and the two files where they are.
    ///
    /// # Errors
    /// When the kernel doesn't tell its routes.
    pub fn read(connection: &mut Connection, files: &Files) -> Result<Self, route::Error> {
        Ok(Self {
            routes: route::list(connection)?,
            frr: File::read(&files.frr),
            bird: File::read(&files.bird),
        })
    }
}

impl File {
    fn read(path: &Path) -> Option<Self> {
        let text = match fs::read(path) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => Err(error.to_string()),
        };
        let path = path.into();
        Some(Self { path, text })
    }
}

/// Something in a file that announces or swallows a prefix, VIP or not.
#[derive(Debug, PartialEq, Eq)]
struct Statement {
    /// From 1.
    line: usize,
    prefix: Prefix,
    /// What comes of it, behind "PREFIX".
    problem: &'static str,
    /// What to do about it.
    mend: &'static str,
}

/// Judges what was read.
pub(super) fn judge(routing: &Routing, vips: impl Iterator<Item = IpAddr>) -> Vec<Finding> {
    let frr = statements(routing.frr.as_ref(), frr::statements);
    let bird = statements(routing.bird.as_ref(), bird::statements);
    let mut findings = Vec::new();
    for file in [&routing.frr, &routing.bird].into_iter().flatten() {
        if let Err(reason) = &file.text {
            let path = file.path.display();
            findings.push(Finding::warning(
                None,
                format!("cannot read {path}, so it isn't known what is announced always: {reason}"),
                "run `rs-agent check` as root".into(),
            ));
        }
    }
    for vip in vips {
        for route in &routing.routes {
            findings.extend(in_the_kernel(route, vip));
        }
        for (path, statement) in frr.iter().chain(&bird) {
            if !statement.prefix.contains(vip) {
                continue;
            }
            let Statement {
                line,
                prefix,
                problem,
                mend,
            } = statement;
            findings.push(Finding::error(
                Some(vip),
                format!("{}:{line}: {prefix} {problem}", path.display()),
                (*mend).into(),
            ));
        }
    }
    findings
}

fn statements(
    file: Option<&File>,
    find: impl Fn(&str) -> Vec<Statement>,
) -> Vec<(&Path, Statement)> {
    let Some(File {
        path,
        text: Ok(text),
    }) = file
    else {
        return Vec::new();
    };
    let found = find(text).into_iter();
    found.map(|statement| (path.as_path(), statement)).collect()
}

fn in_the_kernel(route: &Route, vip: IpAddr) -> Option<Finding> {
    let prefix = Prefix::new(route.destination, route.prefix_length);
    if !prefix.contains(vip) || route.prefix_length == 0 {
        return None;
    }
    let of_daemon = match route.origin {
        // FRR's staticd has a number of its own, and no routing protocol behind it.
        Origin::Daemon(number) => number != FRR_STATIC,
        Origin::Kernel | Origin::Administrator => false,
    };
    let single = route.prefix_length == host_prefix_length(vip);
    let family = if vip.is_ipv6() { "ip -6" } else { "ip" };
    let (what, swallows) = match route.kind {
        Kind::Unicast => ("", false),
        Kind::Blackhole => ("blackhole ", true),
        Kind::Unreachable => ("unreachable ", true),
        Kind::Prohibit => ("prohibit ", true),
    };
    let table = match route.table {
        MAIN => String::new(),
        number => format!(" table {number}"),
    };
    let mend = format!(
        "{family} route delete {what}{prefix}{table}; also where the network is configured"
    );
    if of_daemon || (!single && !swallows) {
        return None;
    }
    let problem = if single {
        format!(
            "the kernel has a route for {prefix} that doesn't go with the VIP (`{family} route show {prefix}`): while the VIP is withdrawn it leads packets for it astray, and a routing daemon that redistributes it goes on announcing the VIP"
        )
    } else {
        format!(
            "the kernel has the route `{what}{prefix}`: while {vip} is withdrawn and no longer prefix is known, packets for it that pass through are swallowed here, and a routing daemon that announces this one attracts them"
        )
    };
    Some(if single {
        Finding::error(Some(vip), problem, mend)
    } else {
        Finding::warning(Some(vip), problem, mend)
    })
}

/// The problem of a route that only a person removes.
const STATIC: &str = "is a static route, which doesn't go with the VIP: whatever announces it goes on when \
                      the VIP is withdrawn";

/// `RTPROT_ZSTATIC`, FRR's `zebra/rt_netlink.h`.
const FRR_STATIC: u8 = 196;

/// `RT_TABLE_MAIN`, `linux/rtnetlink.h`.
const MAIN: u32 = 254;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::Severity;
    use super::*;

    const VIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(6, 6, 6, 6));

    fn route(prefix: &str, kind: Kind, origin: Origin) -> Route {
        let (destination, length) = prefix.split_once('/').unwrap();
        Route {
            destination: destination.parse().unwrap(),
            prefix_length: length.parse().unwrap(),
            table: MAIN,
            kind,
            origin,
        }
    }

    fn severities(routing: &Routing) -> Vec<Severity> {
        let findings = judge(routing, [VIP].into_iter());
        findings.iter().map(|finding| finding.severity).collect()
    }

    #[test]
    fn routes_of_the_kernel_that_stay() {
        let of = |routes: &[Route]| {
            severities(&Routing {
                routes: routes.to_vec(),
                ..Routing::default()
            })
        };
        let by_hand = Origin::Administrator;
        let by_bird = Origin::Daemon(12);
        assert_eq!(
            of(&[
                route("0.0.0.0/0", Kind::Unicast, by_hand),
                route("6.6.6.0/24", Kind::Unicast, Origin::Kernel),
                route("6.6.7.0/24", Kind::Blackhole, by_hand),
                route("6.6.6.6/32", Kind::Unicast, by_bird),
                route("6.6.6.0/24", Kind::Blackhole, by_bird),
            ]),
            []
        );
        for (prefix, kind, origin, severity) in [
            ("6.6.6.6/32", Kind::Unicast, by_hand, Severity::Error),
            ("6.6.6.6/32", Kind::Blackhole, by_hand, Severity::Error),
            (
                "6.6.6.6/32",
                Kind::Unicast,
                Origin::Daemon(FRR_STATIC),
                Severity::Error,
            ),
            ("6.6.6.0/24", Kind::Blackhole, by_hand, Severity::Warning),
            (
                "6.6.0.0/16",
                Kind::Unreachable,
                Origin::Daemon(FRR_STATIC),
                Severity::Warning,
            ),
        ] {
            assert_eq!(of(&[route(prefix, kind, origin)]), [severity], "{prefix}");
        }
    }

    #[test]
    fn files_are_named_with_their_lines() {
        let file = |text: &str| {
            Some(File {
                path: "/etc/frr/frr.conf".into(),
                text: Ok(text.into()),
            })
        };
        let routing = Routing {
            frr: file("!\nip route 6.6.6.0/24 Null0\nip route 6.6.7.0/24 Null0\n"),
            ..Routing::default()
        };
        let findings = judge(&routing, [VIP].into_iter());
        assert_eq!(findings.len(), 1);
        assert!(
            findings[0]
                .problem
                .starts_with("/etc/frr/frr.conf:2: 6.6.6.0/24 ")
        );
        let routing = Routing {
            bird: Some(File {
                path: "/etc/bird/bird.conf".into(),
                text: Err("permission denied".into()),
            }),
            ..Routing::default()
        };
        assert_eq!(severities(&routing), [Severity::Warning]);
    }

    #[test]
    fn what_is_shipped_defeats_nothing() {
        macro_rules! shipped {
            ($name:literal) => {
                include_str!(concat!("../../../../deploy/anycast/", $name))
            };
        }
        for text in [
            shipped!("frr-ospfv2.conf"),
            shipped!("frr-ospfv3.conf"),
            shipped!("frr-bgp.conf"),
            shipped!("frr-bgp-ospf-host.conf"),
            shipped!("static-bfd-server-frr.conf"),
        ] {
            assert_eq!(frr::statements(text), []);
        }
        for text in [shipped!("bird-ospf.conf"), shipped!("bird-bgp.conf")] {
            assert_eq!(bird::statements(text), []);
        }
        // A router's static route is no server's.
        assert!(!bird::statements(shipped!("static-bfd-router-bird.conf")).is_empty());
    }
}
