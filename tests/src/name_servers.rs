//! Real name servers with zones of any kind: BIND as an authority, unbound as a resolver, signatures.

use std::fmt::Write;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context, Result};

use crate::lab::{Host, Process};

/// Where zones and their keys are, on each host.
const FOLDER: &str = "/run/lab/zones";

/// When signatures hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// Now, and for 30 days.
    Now,
    /// Years ago.
    Past,
}

/// Signs a zone's file in `/run/lab/zones`, into one with `.signed` behind its name. Returns the key's
/// record, for those who are to trust it.
///
/// # Errors
/// When BIND's tools refuse the zone.
pub fn sign(host: &Host, zone: &str, file: &Path, period: Period) -> Result<String> {
    let made = host.run(&format!(
        "dnssec-keygen -q -K {FOLDER} -a ECDSAP256SHA256 -f KSK {zone}"
    ))?;
    let times = match period {
        Period::Now => "",
        Period::Past => "-s 20200101000000 -e 20200201000000",
    };
    host.run(&format!(
        "dnssec-signzone -q -P -S -z -K {FOLDER} -d {FOLDER} -o {zone} {times} {}",
        file.display()
    ))?;
    let key = host.run(&format!("cat {FOLDER}/{}.key", made.trim()))?;
    let record = key.lines().find(|line| !line.starts_with(';'));
    Ok(record.context("a key file without a key")?.to_owned())
}

/// Starts named at one address, without recursion, with these zones: name and options.
///
/// # Errors
/// When it can't be started.
pub fn named(host: &Host, address: Ipv4Addr, zones: &[(&str, &str)]) -> Result<Process> {
    let mut configuration = format!(
        "options {{
    directory \"{FOLDER}\";
    pid-file none;
    session-keyfile none;
    listen-on {{ {address}; }};
    listen-on-v6 {{ none; }};
    query-source address {address};
    transfer-source {address};
    recursion no;
    dnssec-validation no;
    empty-zones-enable no;
}};
controls {{ }};
"
    );
    for (zone, options) in zones {
        writeln!(configuration, "zone \"{zone}\" {{ {options} }};")?;
    }
    let file = host.write_file(&format!("zones/{address}.conf"), &configuration)?;
    host.spawn("named", ["-g", "-n", "1", "-c", &file.to_string_lossy()])
}

/// Starts unbound at one address, which asks one authority for these zones, and believes those signed
/// that it's given a key of.
///
/// # Errors
/// When it can't be started.
pub fn unbound(
    host: &Host,
    address: Ipv4Addr,
    authority: Ipv4Addr,
    zones: &[&str],
    trusted: &[&str],
) -> Result<Process> {
    let mut configuration = format!(
        "server:
    interface: {address}
    outgoing-interface: {address}
    access-control: 0.0.0.0/0 allow
    do-daemonize: no
    username: \"\"
    chroot: \"\"
    pidfile: \"\"
    use-syslog: no
    do-ip6: no
    num-threads: 1
    local-zone: \"local.\" nodefault
"
    );
    for key in trusted {
        writeln!(configuration, "    trust-anchor: \"{key}\"")?;
    }
    configuration.push_str("remote-control:\n    control-enable: no\n");
    for zone in zones {
        writeln!(
            configuration,
            "stub-zone:\n    name: {zone}\n    stub-addr: {authority}"
        )?;
    }
    let file = host.write_file(&format!("unbound/{address}.conf"), &configuration)?;
    host.spawn("unbound", ["-d", "-p", "-c", &file.to_string_lossy()])
}
