//! A kernel's forwarding table as text: one line a service, one line a server.
//!
//! It comes from `/proc` or from `ipvsadm`, never through the code under test.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::net::Ipv4Addr;

use anyhow::{Context, Result};

use crate::lab::Host;

/// Lines such as `UDP 192.168.56.185:53 wrr ops` and
/// `UDP 192.168.56.185:53 -> 192.168.56.183:53 Route 1` (forwarding and weight).
pub type Table = BTreeSet<String>;

/// The table of `host`, read without a fork.
///
/// # Errors
/// When its kernel has no IPVS.
pub fn table(host: &Host) -> Result<Table> {
    host.within(here)
}

/// The table of the host that the calling thread belongs to.
///
/// # Errors
/// When its kernel has no IPVS.
pub fn here() -> Result<Table> {
    let file = File::open("/proc/thread-self/net/ip_vs");
    let mut file = file.context("no /proc/net/ip_vs")?;
    // In one read: the kernel continues a second one at the wrong place, since it counts other
    // namespaces' services when it goes on and not when it starts again (`ip_vs_info_seq_next`).
    let mut buffer = vec![0; 1 << 16];
    let length = file.read(&mut buffer)?;
    Ok(parse(&String::from_utf8_lossy(&buffer[..length])))
}

/// The same by `ipvsadm -Ln`.
///
/// # Errors
/// When it can't be run.
pub fn listed(host: &Host) -> Result<Table> {
    Ok(parse(&host.run("ipvsadm -Ln")?))
}

/// How many connections the kernel has counted for a service such as `UDP 192.168.56.185:53`; with
/// one-packet scheduling each packet is one. The kernel renews the figure every 2 s.
///
/// # Errors
/// When there is no such service.
pub fn connections(host: &Host, service: &str) -> Result<u64> {
    let text = host.run("ipvsadm -Ln --stats --exact")?;
    text.lines()
        .find_map(|line| {
            let (found, figures) = name(line)?;
            (found == service).then(|| figures.split_whitespace().next()?.parse().ok())?
        })
        .with_context(|| format!("no service {service} in\n{text}"))
}

/// Understands what `/proc/net/ip_vs` and `ipvsadm -Ln` print.
fn parse(text: &str) -> Table {
    let mut table = Table::new();
    let mut service = String::new();
    for line in text.lines() {
        if let Some(server) = line.trim_start().strip_prefix("-> ") {
            let mut words = server.split_whitespace();
            if let (Some(server), Some(forwarding), Some(weight)) =
                (words.next(), words.next(), words.next())
                && server != "RemoteAddress:Port"
            {
                let server = endpoint(server);
                table.insert(format!("{service} -> {server} {forwarding} {weight}"));
            }
        } else if let Some((found, settings)) = name(line) {
            service = found;
            let settings = settings.split_whitespace();
            let words: Vec<&str> = std::iter::once(service.as_str()).chain(settings).collect();
            table.insert(words.join(" "));
        }
    }
    table
}

/// The service that a line begins with, and what follows.
fn name(line: &str) -> Option<(String, &str)> {
    let (protocol, rest) = line.split_once(' ')?;
    let rest = rest.trim_start();
    let (service, settings) = rest.split_once(' ').unwrap_or((rest, ""));
    matches!(protocol, "UDP" | "TCP" | "FWM")
        .then(|| (format!("{protocol} {}", endpoint(service)), settings))
}

/// `C0A838B9:0035` as `192.168.56.185:53`; what is decimal already stays.
fn endpoint(text: &str) -> String {
    let decoded = || {
        let (address, port) = text.split_once(':')?;
        let address = u32::from_str_radix(address, 16).ok()?;
        let port = u16::from_str_radix(port, 16).ok()?;
        Some(format!("{}:{port}", Ipv4Addr::from_bits(address)))
    };
    decoded().unwrap_or_else(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sources_say_the_same() {
        let kernel = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  C0A838B9:0035 wrr 
  -> C0A838B7:0035      Route   3      2          1         
UDP  C0A838B9:0035 wrr ops 
";
        let ipvsadm = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  192.168.56.185:53 wrr
  -> 192.168.56.183:53            Route   3      0          0         
UDP  192.168.56.185:53 wrr ops
";
        let expected = [
            "TCP 192.168.56.185:53 wrr",
            "TCP 192.168.56.185:53 -> 192.168.56.183:53 Route 3",
            "UDP 192.168.56.185:53 wrr ops",
        ]
        .map(str::to_owned);
        assert_eq!(parse(kernel), Table::from(expected));
        assert_eq!(parse(kernel), parse(ipvsadm));
    }
}
