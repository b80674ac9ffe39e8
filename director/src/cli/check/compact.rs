//! The many virtual services of one service in as few words as the file has for them.

use std::net::IpAddr;

use lvs_proto::ipvs::{Protocol, ServiceKey};

/// What a service schedules.
pub(super) struct Subject {
    /// Addresses and ranges of them; none for a mark.
    pub(super) addresses: Vec<String>,
    /// Ports and ranges of them, or `any`; none for a mark.
    pub(super) ports: Vec<String>,
    /// None for a mark.
    pub(super) protocols: Vec<Protocol>,
    /// Marks with their families.
    pub(super) marks: Vec<ServiceKey>,
}

/// Keys as a configuration has them: every address with every port and every protocol.
pub(super) fn subject(keys: impl IntoIterator<Item = ServiceKey>) -> Subject {
    let (mut addresses, mut ports, mut protocols) = (Vec::new(), Vec::new(), Vec::new());
    let mut marks = Vec::new();
    for key in keys {
        let ServiceKey::Socket {
            address,
            port,
            protocol,
        } = key
        else {
            marks.push(key);
            continue;
        };
        if addresses.last() != Some(&address) {
            addresses.push(address);
        }
        // The first address shows what all have.
        if addresses.len() == 1 {
            if ports.last() != Some(&port) {
                ports.push(port);
            }
            if ports.len() == 1 {
                protocols.push(protocol);
            }
        }
    }
    let ports = if ports == [0] {
        vec!["any".to_owned()]
    } else {
        runs(&ports, |a, b| a.checked_add(1) == Some(*b))
    };
    Subject {
        addresses: runs(&addresses, follows),
        ports,
        protocols,
        marks,
    }
}

impl Subject {
    /// Such as `192.0.2.1 port 53 udp tcp`.
    pub(super) fn words(&self) -> String {
        if !self.marks.is_empty() {
            return join(&self.marks);
        }
        let label = match self.ports.as_slice() {
            [any] if any == "any" => {
                return format!(
                    "{} any port {}",
                    join(&self.addresses),
                    join(&self.protocols)
                );
            }
            [one] if !one.contains('-') => "port",
            _ => "ports",
        };
        let [addresses, ports, protocols] = [
            join(&self.addresses),
            join(&self.ports),
            join(&self.protocols),
        ];
        format!("{addresses} {label} {ports} {protocols}")
    }
}

/// With spaces in between.
pub(super) fn join<T: ToString>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    items.join(" ")
}

fn follows(first: &IpAddr, second: &IpAddr) -> bool {
    match (first, second) {
        (IpAddr::V4(first), IpAddr::V4(second)) => {
            first.to_bits().checked_add(1) == Some(second.to_bits())
        }
        (IpAddr::V6(first), IpAddr::V6(second)) => {
            first.to_bits().checked_add(1) == Some(second.to_bits())
        }
        _ => false,
    }
}

/// Three and more that follow on each other become a range.
fn runs<T: ToString>(items: &[T], follows: impl Fn(&T, &T) -> bool) -> Vec<String> {
    let mut words = Vec::new();
    for run in items.chunk_by(|first, second| follows(first, second)) {
        match run {
            [first, _, .., last] => {
                words.push(format!("{}-{}", first.to_string(), last.to_string()));
            }
            few => words.extend(few.iter().map(T::to_string)),
        }
    }
    words
}
