//! A kernel's forwarding table as text: one line a service, one line a server.
//!
//! It comes from `/proc` or from `ipvsadm`, never through the code under test.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use director::dataplane::PROBE_MARKS;

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
    let all = everything()?;
    Ok(all
        .into_iter()
        .filter(|line| !is_for_probes(line))
        .collect())
}

fn everything() -> Result<Table> {
    let file = File::open("/proc/thread-self/net/ip_vs");
    let mut file = file.context("no /proc/net/ip_vs")?;
    // In one read: the kernel continues a second one at the wrong place, since it counts other
    // namespaces' services when it goes on and not when it starts again (`ip_vs_info_seq_next`).
    let mut buffer = vec![0; 1 << 16];
    let length = file.read(&mut buffer)?;
    Ok(parse_all(&String::from_utf8_lossy(&buffer[..length])))
}

/// The same by `ipvsadm -Ln`.
///
/// # Errors
/// When it can't be run.
pub fn listed(host: &Host) -> Result<Table> {
    Ok(parse(&host.run("ipvsadm -Ln")?))
}

/// The same by `ipvsadm -S -n`: lines such as `-A -u 192.168.56.185:53 -s wrr -o` and
/// `-a -u 192.168.56.185:53 -r 192.168.56.183:53 -g -w 1`. It knows of tunnels and not of thresholds.
///
/// # Errors
/// When it can't be run.
pub fn saved(host: &Host) -> Result<Table> {
    let text = host.run("ipvsadm -S -n")?;
    let lines = text.lines().map(|line| line.trim_end().to_owned());
    let is_for_probes = |line: &String| {
        let mark = line.split_once(" -f ").map(|(_, rest)| rest);
        let mark = mark.and_then(|rest| rest.split(' ').next()?.parse().ok());
        mark.is_some_and(|mark| PROBE_MARKS.contains(&mark))
    };
    Ok(lines.filter(|line| !is_for_probes(line)).collect())
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

/// The services for probes of `host`: one for each real server that is asked by the VIP.
///
/// # Errors
/// When its kernel has no IPVS.
pub fn probes(host: &Host) -> Result<Table> {
    let all = host.within(everything)?;
    Ok(all.into_iter().filter(|line| is_for_probes(line)).collect())
}

/// Understands what `/proc/net/ip_vs` and `ipvsadm -Ln` print, and leaves out what is nobody's service.
fn parse(text: &str) -> Table {
    let table = parse_all(text).into_iter();
    table.filter(|line| !is_for_probes(line)).collect()
}

fn is_for_probes(line: &str) -> bool {
    let mark = line
        .strip_prefix("FWM ")
        .and_then(|rest| rest.split(' ').next()?.parse().ok());
    mark.is_some_and(|mark| PROBE_MARKS.contains(&mark))
}

fn parse_all(text: &str) -> Table {
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
    matches!(protocol, "UDP" | "TCP" | "SCTP" | "FWM")
        .then(|| (format!("{protocol} {}", endpoint(service)), settings))
}

/// `C0A838B9:0035` as `192.168.56.185:53`, and a mark of eight digits as a number; what is decimal
/// already stays.
fn endpoint(text: &str) -> String {
    let decoded = || {
        let Some((address, port)) = text.rsplit_once(':') else {
            let mark = u32::from_str_radix(text, 16).ok()?;
            return (text.len() == 8).then(|| mark.to_string());
        };
        let address: IpAddr = match address.strip_prefix('[') {
            // All eight groups, which ipvsadm shortens.
            Some(address) if address.len() == 40 => address.strip_suffix(']')?.parse().ok()?,
            Some(_) => return None,
            None => Ipv4Addr::from_bits(u32::from_str_radix(address, 16).ok()?).into(),
        };
        let port = u16::from_str_radix(port, 16).ok()?;
        Some(SocketAddr::new(address, port).to_string())
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
SCTP [2001:0db8:0000:0000:0000:0000:0000:0053]:14E9 mh 
  -> [2001:0db8:0000:0000:0000:0000:0000:0054]:14E9      Tunnel  2      0          0         
FWM  00000017 lc 
";
        let ipvsadm = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  192.168.56.185:53 wrr
  -> 192.168.56.183:53            Route   3      0          0         
UDP  192.168.56.185:53 wrr ops
SCTP [2001:db8::53]:5353 mh
  -> [2001:db8::54]:5353          Tunnel  2      0          0         
FWM  23 lc
";
        let expected = [
            "TCP 192.168.56.185:53 wrr",
            "TCP 192.168.56.185:53 -> 192.168.56.183:53 Route 3",
            "UDP 192.168.56.185:53 wrr ops",
            "SCTP [2001:db8::53]:5353 mh",
            "SCTP [2001:db8::53]:5353 -> [2001:db8::54]:5353 Tunnel 2",
            "FWM 23 lc",
        ]
        .map(str::to_owned);
        assert_eq!(parse(kernel), Table::from(expected));
        assert_eq!(parse(kernel), parse(ipvsadm));
    }
}
