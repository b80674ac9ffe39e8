//! Each scheduler, and what a client notices of it.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};

use super::forwarding::VRRP;
use super::programmed;
use crate::lab::Lab;
use crate::site::{INSIDE, Site};
use crate::whoami::{Conversation, Transport};

/// Where five connections go that stay open, of two servers: `1` is near1 with weight 1, `3` is near2
/// with weight 3, which the kernel has first.
#[derive(Clone, Copy, Debug)]
enum Spread {
    /// To these, one after the other.
    Order(&'static str),
    /// All to one: the addresses decide.
    One,
    /// To both: the client's ports decide too.
    Both,
}

use Spread::{Both, One, Order};

/// Schedulers, their switches as the kernel calls them, and what they make of it (`ip_vs_*.c`).
const SCHEDULERS: [(&str, &str, Spread); 15] = [
    ("rr", "", Order("31313")),
    ("wrr", "", Order("31333")),
    ("lc", "", Order("31313")),
    ("wlc", "", Order("31333")),
    // The one that it remembers, until that has more connections than weight.
    ("lblc", "", Order("33331")),
    ("lblcr", "", Order("33331")),
    ("dh", "", One),
    ("sh", "", One),
    ("sh", "sh-fallback,sh-port", Both),
    ("mh", "", One),
    ("mh", "mh-fallback,mh-port", Both),
    // (connections + 1) / weight.
    ("sed", "", Order("33313")),
    // The same once nobody is idle.
    ("nq", "", Order("31333")),
    ("fo", "", Order("33333")),
    // The heaviest, until that has more connections than weight.
    ("ovf", "", Order("33331")),
];

/// By chance one of two hashes takes so many with a probability below 1 to 100 million.
const HASHED: usize = 64;

pub(super) fn each_scheduler_spreads(lab: &mut Lab) -> Result<()> {
    let site = Site::new(lab)?;
    let ports: Vec<u16> = (0..SCHEDULERS.len()).map(port).collect();
    let _servers = site.serve(&ports)?;
    let (yaml, lines) = services();
    let _director = programmed(&site.director, &yaml, &lines)?;
    site.wait_for_vips()?;
    for (index, (scheduler, flags, spread)) in SCHEDULERS.iter().enumerate() {
        let server = SocketAddr::new(INSIDE[0], port(index));
        let count = if matches!(spread, Both) { HASHED } else { 5 };
        let mut open = Vec::new();
        let mut order = String::new();
        let is_one = |order: &str| order.chars().all(|server| order.starts_with(server));
        while open.len() < count {
            if matches!(spread, Both) && !is_one(&order) {
                break;
            }
            let mut conversation = Conversation::open(&site.client, Transport::Tcp, server)
                .with_context(|| format!("{scheduler} {flags} after {order}"))?;
            order += match conversation.ask()?.as_str() {
                "near1" => "1",
                _ => "3",
            };
            open.push(conversation);
        }
        let right = match spread {
            Order(expected) => order == *expected,
            One => is_one(&order),
            Both => !is_one(&order),
        };
        ensure!(right, "{scheduler} {flags}: {order}, and not {spread:?}");
    }
    Ok(())
}

fn port(index: usize) -> u16 {
    7100 + index as u16
}

fn services() -> (String, String) {
    let mut yaml = format!("{VRRP}services:\n");
    let mut lines = String::new();
    for (index, (scheduler, flags, _)) in SCHEDULERS.iter().enumerate() {
        let port = port(index);
        let configured = match *flags {
            "" => "",
            _ => "\n    scheduler_flags: [fallback, port]",
        };
        yaml += &format!(
            "  - name: service{index}
    address: 192.168.56.185
    port: {port}
    protocols: [tcp]
    scheduler: {scheduler}{configured}
    check: none
    real_servers:
      - {{ address: 192.168.56.183, weight: 1 }}
      - {{ address: 192.168.56.184, weight: 3 }}
"
        );
        let shown = match *flags {
            "" => String::new(),
            flags => format!(" -b {flags}"),
        };
        let service = format!("-t 192.168.56.185:{port}");
        lines += &format!(
            "-A {service} -s {scheduler}{shown}\n\
             -a {service} -r 192.168.56.183:{port} -g -w 1\n\
             -a {service} -r 192.168.56.184:{port} -g -w 3\n"
        );
    }
    (yaml, lines)
}
