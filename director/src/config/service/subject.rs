//! Reads what a service schedules.

use std::num::{NonZeroU16, NonZeroU32};

use lvs_configuration::error::{Findings, Located, Origin};
use lvs_configuration::reader::{self, Mapping, Place};
use lvs_health::reading;
use lvs_proto::Family;
use lvs_proto::ipvs::{Protocol, ServiceKey};

use super::address::{self, AddressRange};
use super::port::{self, Ports};
use crate::config::defaults;

/// What a service schedules.
pub(in crate::config) enum Subject {
    /// What is sent to its addresses and ports.
    Sockets {
        /// Without an address in common.
        addresses: Vec<Located<AddressRange>>,
        ports: Located<Ports>,
        protocols: Vec<Protocol>,
    },
    /// What the packet filter has marked.
    FirewallMark {
        mark: Located<NonZeroU32>,
        family: Family,
        /// Whose being Active decides, if a virtual router's.
        instance: Option<Located<String>>,
        /// What may be probed.
        protocols: Vec<Protocol>,
    },
}

impl Subject {
    pub(super) fn read(keys: &Mapping<'_>, findings: &mut Findings) -> Option<Self> {
        if keys.get("firewall_mark").is_some() {
            firewall_mark(keys, findings)
        } else {
            sockets(keys, findings)
        }
    }

    /// What the file lists as its protocols.
    pub(super) fn protocols(&self) -> &[Protocol] {
        match self {
            Self::Sockets { protocols, .. } | Self::FirewallMark { protocols, .. } => protocols,
        }
    }

    /// The port of all its virtual services, where there is only one.
    pub(super) fn only_port(&self) -> Option<NonZeroU16> {
        let Self::Sockets { ports, .. } = self else {
            return None;
        };
        let mut numbers = ports.value.numbers();
        match (numbers.next(), numbers.next()) {
            (Some(port), None) => NonZeroU16::new(port),
            _ => None,
        }
    }

    /// The first port that the file names.
    pub(super) fn first_port(&self) -> Option<NonZeroU16> {
        let Self::Sockets { ports, .. } = self else {
            return None;
        };
        NonZeroU16::new(ports.value.numbers().next()?)
    }

    /// How many virtual services it is.
    pub(in crate::config) fn number(&self) -> usize {
        let Self::Sockets {
            addresses,
            ports,
            protocols,
        } = self
        else {
            return 1;
        };
        let addresses: usize = addresses.iter().map(|range| range.value.length()).sum();
        addresses * ports.value.numbers().count() * protocols.len()
    }

    /// The virtual services by address, each with where its address stands in the file.
    pub(in crate::config) fn keys(&self) -> Vec<(ServiceKey, &Origin)> {
        let (addresses, ports, protocols) = match self {
            Self::Sockets {
                addresses,
                ports,
                protocols,
            } => (addresses, ports, protocols),
            Self::FirewallMark { mark, family, .. } => {
                let key = ServiceKey::FirewallMark {
                    mark: mark.value,
                    family: *family,
                };
                return vec![(key, &mark.origin)];
            }
        };
        let mut keys = Vec::with_capacity(self.number());
        for range in addresses {
            for address in range.value.addresses() {
                for port in ports.value.numbers() {
                    keys.extend(protocols.iter().map(|&protocol| {
                        let key = ServiceKey::Socket {
                            address,
                            port,
                            protocol,
                        };
                        (key, &range.origin)
                    }));
                }
            }
        }
        keys
    }
}

fn sockets(keys: &Mapping<'_>, findings: &mut Findings) -> Option<Subject> {
    for key in ["family", "instance"] {
        if let Some(place) = keys.get(key) {
            let message = "is for a service with `firewall_mark`, since addresses say it \
                           themselves; leave it out";
            findings.add(&place.origin(), message);
        }
    }
    let addresses = one_or_several(
        keys,
        ["address", "addresses"],
        "write the VIP that clients ask, or `addresses` for several",
        [address::one, address::several],
        findings,
    );
    let ports = one_or_several(
        keys,
        ["port", "ports"],
        "write 53 for DNS, or `ports` for several",
        [port::one, port::several],
        findings,
    );
    let right = "write [udp, tcp] for DNS, which needs both";
    let protocols = keys.required("protocols", right, findings, reading::protocols);
    Some(Subject::Sockets {
        addresses: addresses?,
        ports: ports?,
        protocols: protocols?,
    })
}

/// The value of one of two keys.
fn one_or_several<T>(
    keys: &Mapping<'_>,
    [one, several]: [&str; 2],
    right: &str,
    [read_one, read_several]: [fn(&Place<'_>, &mut Findings) -> Option<T>; 2],
    findings: &mut Findings,
) -> Option<T> {
    match (keys.get(one), keys.get(several)) {
        (_, None) => keys.required(one, right, findings, read_one),
        (None, Some(place)) => read_several(place, findings),
        (Some(_), Some(place)) => {
            let message = format!("there is `{one}` too; write all of them here, and leave it out");
            findings.add(&place.origin(), message);
            None
        }
    }
}

fn firewall_mark(keys: &Mapping<'_>, findings: &mut Findings) -> Option<Subject> {
    for key in ["address", "addresses", "port", "ports"] {
        if let Some(place) = keys.get(key) {
            let message = "the packet filter's rules for the mark decide that; leave it out, or \
                           leave out `firewall_mark`";
            findings.add(&place.origin(), message);
        }
    }
    let right = "write the mark";
    let mark = keys.required("firewall_mark", right, findings, |place, findings| {
        let number = reader::integer(place, 1..=i64::from(u32::MAX), findings)?;
        let number = u32::try_from(number).ok()?;
        let probes = defaults::PROBE_MARKS;
        if probes.contains(&number) {
            let message = format!(
                "{}is a mark of the director's own probes, as all from {} to {} are; take another",
                place.quote(number),
                probes.start(),
                probes.end()
            );
            findings.add(&place.origin(), message);
            return None;
        }
        Some(place.located(NonZeroU32::new(number)?))
    });
    let family = keys.optional("family", findings, |place, findings| {
        let words = [("ipv4", Family::Ipv4), ("ipv6", Family::Ipv6)];
        reader::word(place, &words, findings)
    });
    let instance = keys.optional("instance", findings, |place, findings| {
        Some(place.located(reader::name(place, findings)?))
    });
    let protocols = keys.optional("protocols", findings, reading::protocols);
    Some(Subject::FirewallMark {
        mark: mark?,
        family: family?.unwrap_or(defaults::MARKED_FAMILY),
        instance: instance?,
        protocols: protocols?.unwrap_or_default(),
    })
}
