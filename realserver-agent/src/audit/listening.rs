//! Who takes queries for a VIP.

use std::fmt;
use std::net::IpAddr;

use lvs_system::listeners::{Listener, Transport};
use serde::Serialize;

use super::{Finding, View};

/// The port of the DNS (RFC 1035, section 4.2).
pub(super) const PORT: u16 = 53;

/// Who takes queries over one transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Listening {
    /// A socket of the VIP's own.
    Vip,
    /// A socket for any address.
    Any,
    /// Nobody.
    Nobody,
    /// The kernel doesn't tell.
    Unknown,
}

pub(super) fn over_udp(view: &View, vip: IpAddr) -> Listening {
    over(view, vip, Transport::Udp)
}

pub(super) fn over_tcp(view: &View, vip: IpAddr) -> Listening {
    over(view, vip, Transport::Tcp)
}

/// What is missing: UDP is what clients ask by first, TCP what they ask by where an answer is too long.
pub(super) fn judge(view: &View, vip: IpAddr) -> Vec<Finding> {
    let missing = |listening| listening == Listening::Nobody;
    let mend = format!(
        "have the DNS server listen on {vip}, or on any address, and start it; see `ss -lntu sport = :{PORT}`"
    );
    match (missing(over_udp(view, vip)), missing(over_tcp(view, vip))) {
        (true, tcp) => {
            let transports = if tcp { "UDP and TCP" } else { "UDP" };
            let problem = format!("nobody listens on {vip} port {PORT} over {transports}");
            vec![Finding::error(Some(vip), problem, mend)]
        }
        (false, true) => {
            let problem = format!(
                "nobody listens on {vip} port {PORT} over TCP, which clients need for long answers"
            );
            vec![Finding::warning(Some(vip), problem, mend)]
        }
        (false, false) => Vec::new(),
    }
}

fn over(view: &View, vip: IpAddr, transport: Transport) -> Listening {
    let Some(listeners) = &view.listeners else {
        return Listening::Unknown;
    };
    // Packets come from a LAN: a socket of another interface's doesn't see them.
    let lan = |listener: &&Listener| !view.vip_interfaces.contains(&listener.interface_index);
    let mut best = Listening::Nobody;
    for listener in listeners.iter().filter(lan) {
        if listener.transport == transport && listener.takes(vip) {
            if listener.address.is_unspecified() {
                best = Listening::Any;
            } else {
                return Listening::Vip;
            }
        }
    }
    best
}

impl fmt::Display for Listening {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Vip => "on the VIP",
            Self::Any => "on any address",
            Self::Nobody => "nobody",
            Self::Unknown => "unknown",
        })
    }
}
