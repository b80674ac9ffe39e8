//! Somebody else claims a VIP: who, how, and what to do about it.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// A claim to a VIP that this machine holds. Written as a line for people, with what to do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Conflict {
    /// The virtual router that holds the VIP here.
    pub instance: String,
    /// The VIP.
    pub address: IpAddr,
    /// The interface to its LAN.
    pub interface: String,
    /// Where the VIP is said to be, as `02:00:00:00:00:0b`.
    pub hardware_address: String,
    /// The addresses of who says so, as far as they are known.
    pub claimants: BTreeSet<IpAddr>,
    /// The services of which that is a real server; none for others.
    pub services: BTreeSet<String>,
    /// It answers who asks for the VIP.
    pub answers: bool,
    /// It announces the VIP, unasked.
    pub announces: bool,
    /// It asks for other addresses from the VIP.
    pub asks: bool,
}

impl Conflict {
    fn who(&self) -> String {
        let claimants: Vec<String> = self.claimants.iter().map(IpAddr::to_string).collect();
        let services: Vec<&str> = self.services.iter().map(String::as_str).collect();
        match (claimants.as_slice(), services.as_slice()) {
            ([], _) => format!("{}, a machine of unknown address,", self.hardware_address),
            (_, []) => format!("{} ({})", claimants.join(", "), self.hardware_address),
            (_, services) => format!(
                "real server {} of {} ({})",
                claimants.join(", "),
                services.join(", "),
                self.hardware_address
            ),
        }
    }

    fn what(&self) -> String {
        let (answers, asks) = if self.address.is_ipv4() {
            ("answers ARP for", "sends ARP requests from")
        } else {
            (
                "answers neighbour solicitations for",
                "solicits neighbours from",
            )
        };
        let ways = [
            (self.answers, answers),
            (self.announces, "announces"),
            (self.asks, asks),
        ];
        let ways: Vec<&str> = ways
            .into_iter()
            .filter_map(|(does, way)| does.then_some(way))
            .collect();
        format!("{} {} on {}", ways.join(", "), self.address, self.interface)
    }

    /// Who claims it, how, and what comes of it.
    pub(crate) fn claim(&self) -> String {
        format!(
            "{} {}: who hears it goes past this director",
            self.who(),
            self.what()
        )
    }

    /// What to do about it.
    pub(crate) fn remedy(&self) -> String {
        let vip = self.address;
        match (self.services.is_empty(), vip) {
            (false, IpAddr::V4(_)) => format!(
                "run `rs-agent start --vip {vip}` there, or set net.ipv4.conf.all.arp_ignore=1 and \
                 net.ipv4.conf.all.arp_announce=2"
            ),
            (false, IpAddr::V6(_)) => {
                format!("run `rs-agent start --vip {vip}` there, or move {vip}/128 to lo")
            }
            (true, _) => format!(
                "take {vip} away there; if it is a director, see whether it runs and whether the two \
                 hear each other's adverts"
            ),
        }
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}; {}", self.claim(), self.remedy())
    }
}

/// As people write an Ethernet address.
pub(crate) fn hardware_address_text(octets: [u8; 6]) -> String {
    octets.map(|octet| format!("{octet:02x}")).join(":")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use super::*;

    /// A real server that answers.
    pub(crate) fn conflict() -> Conflict {
        Conflict {
            instance: "dns".to_owned(),
            address: "192.0.2.100".parse().unwrap(),
            interface: "eth2".to_owned(),
            hardware_address: hardware_address_text([2, 0, 0, 0, 0, 0x0b]),
            claimants: ["192.0.2.3".parse().unwrap()].into(),
            services: ["resolver".to_owned()].into(),
            answers: true,
            announces: false,
            asks: false,
        }
    }

    #[test]
    fn a_line_says_who_and_what_and_what_to_do() {
        let server = conflict();
        assert_eq!(
            server.to_string(),
            "real server 192.0.2.3 of resolver (02:00:00:00:00:0b) answers ARP for 192.0.2.100 on \
             eth2: who hears it goes past this director; run `rs-agent start --vip 192.0.2.100` \
             there, or set net.ipv4.conf.all.arp_ignore=1 and net.ipv4.conf.all.arp_announce=2"
        );
        let stranger = Conflict {
            address: "2001:db8::53".parse().unwrap(),
            claimants: BTreeSet::new(),
            services: BTreeSet::new(),
            answers: false,
            announces: true,
            asks: true,
            ..conflict()
        };
        assert_eq!(
            stranger.to_string(),
            "02:00:00:00:00:0b, a machine of unknown address, announces, solicits neighbours from \
             2001:db8::53 on eth2: who hears it goes past this director; take 2001:db8::53 away \
             there; if it is a director, see whether it runs and whether the two hear each other's \
             adverts"
        );
    }
}
