//! The entries of the kernel's connection table (`/proc/net/ip_vs_conn`).

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// Where this thread's network namespace has it; for root only.
const FILE: &str = "/proc/thread-self/net/ip_vs_conn";

/// Packets of a client that stay with their destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// `UDP`, `TCP`, `SCTP`, or `IP` for a template of a firewall mark.
    pub protocol: String,
    /// The client, or its network with the port 0 in a template of a persistent service.
    pub client: SocketAddr,
    /// The virtual address; the firewall mark as an address in a template of one.
    pub service: SocketAddr,
    /// The real server.
    pub destination: SocketAddr,
    /// Of the protocol, such as `ESTABLISHED`.
    pub state: String,
    /// How long it stays if nothing comes, in whole seconds.
    pub expires: Duration,
}

/// Reads those entries of which `is_wanted`.
///
/// There may be millions: it takes about a second for each, and nothing is kept that isn't wanted.
///
/// # Errors
/// When it can't be read.
pub fn read(is_wanted: impl Fn(&Connection) -> bool) -> io::Result<Vec<Connection>> {
    let mut found = Vec::new();
    for line in BufReader::new(File::open(FILE)?).lines() {
        found.extend(parse(&line?).filter(&is_wanted));
    }
    Ok(found)
}

/// One line; `None` for the heading, and for what isn't understood.
pub fn parse(line: &str) -> Option<Connection> {
    let mut words = line.split_ascii_whitespace();
    let protocol = words.next()?.to_owned();
    let mut socket = || {
        let address = address(words.next()?)?;
        let port = u16::from_str_radix(words.next()?, 16).ok()?;
        Some(SocketAddr::new(address, port))
    };
    let (client, service, destination) = (socket()?, socket()?, socket()?);
    let state = words.next()?.to_owned();
    let expires = Duration::from_secs(words.next()?.parse().ok()?);
    Some(Connection {
        protocol,
        client,
        service,
        destination,
        state,
        expires,
    })
}

/// Eight hexadecimal digits, or eight groups of four.
fn address(word: &str) -> Option<IpAddr> {
    if word.contains(':') {
        return word
            .trim_matches(['[', ']'])
            .parse::<Ipv6Addr>()
            .ok()
            .map(IpAddr::from);
    }
    let is_whole = word.len() == 8;
    let bits = u32::from_str_radix(word, 16).ok().filter(|_| is_whole)?;
    Some(IpAddr::from(bits.to_be_bytes()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// As Linux 6.1 writes them.
    #[test]
    fn entries_of_both_families_and_templates_are_read() {
        let heading =
            "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData";
        assert_eq!(parse(heading), None);
        let udp = "UDP C0A83801 D903 C0A838B9 0035 C0A838B7 0035 UDP             298";
        assert_eq!(
            parse(udp).unwrap(),
            Connection {
                protocol: "UDP".to_owned(),
                client: "192.168.56.1:55555".parse().unwrap(),
                service: "192.168.56.185:53".parse().unwrap(),
                destination: "192.168.56.183:53".parse().unwrap(),
                state: "UDP".to_owned(),
                expires: Duration::from_secs(298),
            }
        );
        let ipv6 = "TCP 2001:0db8:0000:0000:0000:0000:0000:0001 D903 \
                    2001:0db8:0000:0000:0000:0000:0000:0053 0035 \
                    2001:0db8:0000:0000:0000:0000:0000:0011 0035 ESTABLISHED     899";
        let found = parse(ipv6).unwrap();
        assert_eq!(found.client, "[2001:db8::1]:55555".parse().unwrap());
        assert_eq!(found.state, "ESTABLISHED");
        let template = "IP  C0A83800 0000 00000007 0000 C0A838B7 0000 NONE            42";
        let found = parse(template).unwrap();
        assert_eq!(
            (found.client.port(), found.service.ip()),
            (0, [0, 0, 0, 7].into())
        );
        for length in 0..udp.len() - 13 {
            assert_eq!(parse(&udp[..length]), None);
        }
    }
}
