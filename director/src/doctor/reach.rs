//! The way to the real servers: whether there is one, and how long packets on it may be.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use lvs_proto::ipvs::{Forwarding, Tunnel, TunnelChecksum};
use lvs_system::echo;
use lvs_system::link::Link;

use super::Report;
use super::lan::Heard;
use super::machine::Machine;
use crate::config::{RealServer, Service};

/// How long a real server on a LAN may take to answer an echo request.
const ANSWER: Duration = Duration::from_secs(1);
/// A packet that goes anywhere.
const SMALL: usize = 64;
/// An IPv4 header with a UDP header, a GRE header without options (RFC 2784), a GUE header and its
/// option for remote checksums (`include/net/gue.h`), in bytes.
const UDP_HEADER: u32 = 8;
const GRE_HEADER: u32 = 4;
const GRE_CHECKSUM: u32 = 4;
const GUE_HEADER: u32 = 4;
const GUE_REMOTE_CHECKSUM: u32 = 8;

pub(super) fn examine(machine: &Machine<'_>, heard: &Heard, report: &mut Report) {
    let mut long = Vec::new();
    for (address, server, service) in machine.servers() {
        if machine.is_own(address) {
            continue;
        }
        let Some((way, link)) = machine
            .way_to(address)
            .and_then(|way| Some((way, machine.link_of(&way)?)))
        else {
            report.error(
                "real server",
                address,
                format!("there is no way to this real server of {}", service.name),
                format!("`ip route get {address}`: give an interface an address of its subnet, or a route"),
            );
            continue;
        };
        let is_direct = server.forwarding == Forwarding::DirectRouting;
        if let Some(gateway) = way.gateway.filter(|_| is_direct) {
            report.error(
                "real server",
                address,
                format!(
                    "is behind router {gateway}, and direct routing only reaches machines on a LAN of this one: \
                     the router would send the VIP's packets back"
                ),
                "give both an interface on one LAN, or write `forwarding: tunnel`",
            );
            continue;
        }
        if heard.asked.contains(&(link.index, address))
            && heard.owners_of(link.index, address).is_empty()
        {
            report.warning(
                "real server",
                address,
                format!("doesn't answer ARP or neighbour discovery on {}", link.name),
                "see whether it runs, and whether it is on this LAN",
            );
            continue;
        }
        report.ok(
            "real server",
            address,
            format!("is reached by {}", link.name),
        );
        if let Some(mtu) = lengths(machine, address, (server, service), link, report) {
            long.push((address, mtu));
        }
    }
    echo_all(&long, report);
}

/// Compares the interfaces' MTUs; returns the length that has to pass to a server reached directly.
fn lengths(
    machine: &Machine<'_>,
    address: IpAddr,
    (server, service): (&RealServer, &Service),
    link: &Link,
    report: &mut Report,
) -> Option<u32> {
    let vips: BTreeSet<IpAddr> = Machine::questions(service)
        .into_iter()
        .map(|(vip, ..)| vip)
        .collect();
    let lans = machine.vips().filter(|vip| vips.contains(&vip.address));
    let longest = lans
        .filter_map(|vip| machine.link(vip.interface))
        .max_by_key(|lan| lan.mtu)?;
    let overhead = overhead(server.forwarding, address);
    match judge_lengths(longest.mtu, link.mtu, overhead) {
        Lengths::Enough => {}
        Lengths::Short => report.warning(
            "mtu",
            address,
            format!(
                "clients' packets of up to {} bytes come in by {}, and {} towards this real server takes {}: \
                 longer ones are refused",
                longest.mtu, longest.name, link.name, link.mtu
            ),
            format!("`ip link set {} mtu {}`, and the same on the way and on the real server", link.name, longest.mtu),
        ),
        Lengths::ShortByTunnel => report.note(
            "mtu",
            address,
            format!(
                "the tunnel takes {overhead} bytes of the {} of {}: clients' packets of more than {} bytes, such as \
                 those of dynamic updates over TCP, are refused",
                link.mtu,
                link.name,
                link.mtu.saturating_sub(overhead)
            ),
            Some(format!(
                "`ip link set {} mtu {}` where the way allows it, or have the real server offer a smaller \
                 segment size (`ip route ... advmss {}`)",
                link.name,
                longest.mtu + overhead,
                link.mtu.saturating_sub(overhead + 40)
            )),
        ),
    }
    (server.forwarding == Forwarding::DirectRouting).then_some(longest.mtu.min(link.mtu))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lengths {
    Enough,
    Short,
    ShortByTunnel,
}

fn judge_lengths(of_clients: u32, of_servers: u32, overhead: u32) -> Lengths {
    if of_clients <= of_servers.saturating_sub(overhead) {
        Lengths::Enough
    } else if overhead > 0 && of_clients <= of_servers {
        Lengths::ShortByTunnel
    } else {
        Lengths::Short
    }
}

/// What a tunnel adds to a packet.
fn overhead(forwarding: Forwarding, server: IpAddr) -> u32 {
    let Forwarding::Tunnel(tunnel) = forwarding else {
        return 0;
    };
    let outer = if server.is_ipv4() { 20 } else { 40 };
    outer
        + match tunnel {
            Tunnel::IpIp => 0,
            Tunnel::Gue { checksum, .. } => {
                let option = if checksum == TunnelChecksum::Remote {
                    GUE_REMOTE_CHECKSUM
                } else {
                    0
                };
                UDP_HEADER + GUE_HEADER + option
            }
            Tunnel::Gre { checksum } => {
                GRE_HEADER
                    + if checksum == TunnelChecksum::None {
                        0
                    } else {
                        GRE_CHECKSUM
                    }
            }
        }
}

/// Whether packets as long as the interface allows arrive: the real server, or a switch, may take less.
fn echo_all(servers: &[(IpAddr, u32)], report: &mut Report) {
    let small = servers.iter().map(|(address, _)| (*address, SMALL));
    let long = servers
        .iter()
        .map(|(address, mtu)| (*address, *mtu as usize));
    let requests: Vec<(IpAddr, usize)> = small.chain(long).collect();
    if requests.is_empty() {
        return;
    }
    let answered = match echo::answering(&requests, ANSWER) {
        Ok(answered) => answered,
        Err(error) => {
            let advice = Some("run it as root".to_owned());
            return report.unknown(
                "mtu",
                "",
                format!("no echo request can be sent: {error}"),
                advice,
            );
        }
    };
    let (small, long) = answered.split_at(servers.len());
    for ((address, mtu), answers) in servers.iter().zip(small.iter().zip(long)) {
        match answers {
            (true, true) => report.ok("mtu", address, format!("packets of {mtu} bytes arrive")),
            (true, false) => report.warning(
                "mtu",
                address,
                format!(
                    "answers an echo request of {SMALL} bytes, and none of {mtu}: its interface or a switch on \
                     the way takes less than this machine's"
                ),
                "give all interfaces and switches of the LAN the same MTU: without, long queries and TCP \
                 segments of clients vanish",
            ),
            // A real server may well have switched that off.
            (false, _) => report.ok("mtu", address, "answers no echo requests: its MTU isn't known"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_has_to_take_what_clients_send() {
        assert_eq!(judge_lengths(1500, 1500, 0), Lengths::Enough);
        assert_eq!(judge_lengths(1500, 9000, 0), Lengths::Enough);
        assert_eq!(judge_lengths(9000, 1500, 0), Lengths::Short);
        assert_eq!(judge_lengths(1500, 1500, 20), Lengths::ShortByTunnel);
        assert_eq!(judge_lengths(1500, 1520, 20), Lengths::Enough);
        assert_eq!(judge_lengths(1500, 1400, 20), Lengths::Short);
    }

    #[test]
    fn tunnels_add_their_headers() {
        let four: IpAddr = [192, 0, 2, 1].into();
        let six: IpAddr = std::net::Ipv6Addr::LOCALHOST.into();
        let tunnel = |tunnel, server| overhead(Forwarding::Tunnel(tunnel), server);
        assert_eq!(overhead(Forwarding::DirectRouting, four), 0);
        assert_eq!(tunnel(Tunnel::IpIp, four), 20);
        assert_eq!(tunnel(Tunnel::IpIp, six), 40);
        assert_eq!(
            tunnel(
                Tunnel::Gre {
                    checksum: TunnelChecksum::Plain
                },
                four
            ),
            28
        );
        let port = std::num::NonZeroU16::MIN;
        assert_eq!(
            tunnel(
                Tunnel::Gue {
                    port,
                    checksum: TunnelChecksum::None
                },
                four
            ),
            32
        );
        assert_eq!(
            tunnel(
                Tunnel::Gue {
                    port,
                    checksum: TunnelChecksum::Remote
                },
                four
            ),
            40
        );
    }
}
