//! Real BIND servers that hold the zone `abc.local`.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::dns::Questions;
use crate::lab::{Host, Process};

/// How long named may take to answer: it starts slowly on an emulated processor.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Starts named on `host` and waits until it answers. `www.abc.local` has the address `www`, which
/// tells the servers apart.
///
/// named has no recursion; it finds addresses that are added later by itself, as it does on real
/// servers (`automatic-interface-scan`).
///
/// # Errors
/// When it doesn't answer on the loopback address within a minute; the message has its output.
pub fn start(host: &Host, www: Ipv4Addr) -> Result<Process> {
    let mut named = spawn(host, www)?;
    wait_for(host, &mut named, www)?;
    Ok(named)
}

/// As [`start`], without waiting: several servers start together, see [`wait_for`].
pub fn spawn(host: &Host, www: impl Into<IpAddr>) -> Result<Process> {
    host.write_file(ZONE_FILE, &zone(www))?;
    let file = host.write_file("named/named.conf", CONFIGURATION)?;
    let file = file.to_string_lossy();
    // One worker thread: several would only compete for two processors.
    host.spawn("named", ["-g", "-n", "1", "-c", &file])
}

/// Waits until a server of [`spawn`] answers; the errors are those of [`start`].
pub fn wait_for(host: &Host, named: &mut Process, www: Ipv4Addr) -> Result<()> {
    let start = Instant::now();
    loop {
        let question = Questions::new(Ipv4Addr::LOCALHOST).timeout(Duration::from_millis(200));
        if question
            .ask(host)
            .is_ok_and(|answer| answer == www.to_string())
        {
            return Ok(());
        }
        if !named.is_running() || start.elapsed() > START_TIMEOUT {
            bail!("named on {} doesn't answer:\n{}", host.name(), named.log());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Writes the zone's file with another serial number, and with an address for `healthy.abc.local` or
/// without; SIGHUP makes a server read it.
pub fn rewrite(host: &Host, www: Ipv4Addr, serial: u32, healthy: bool) -> Result<()> {
    let mut zone = zone(www).replace(" 1 3600 ", &format!(" {serial} 3600 "));
    if healthy {
        zone += "healthy IN A 127.0.0.1\n";
    }
    host.write_file(ZONE_FILE, &zone).map(drop)
}

const ZONE_FILE: &str = "named/abc.local.zone";

const CONFIGURATION: &str = r#"options {
    directory "/run/lab/named";
    pid-file "/run/lab/named/named.pid";
    session-keyfile "/run/lab/named/session.key";
    listen-on { any; };
    listen-on-v6 { any; };
    recursion no;
    dnssec-validation no;
    empty-zones-enable no;
};
controls { };
zone "abc.local" { type primary; file "abc.local.zone"; };
"#;

fn zone(www: impl Into<IpAddr>) -> String {
    let www = www.into();
    let kind = if www.is_ipv6() { "AAAA" } else { "A" };
    format!(
        "$TTL 60\n\
         @ IN SOA ns.abc.local. hostmaster.abc.local. 1 3600 600 86400 60\n\
         @ IN NS ns.abc.local.\n\
         ns IN A 127.0.0.1\n\
         www IN {kind} {www}\n"
    )
}
