//! Reads `vrrp`: virtual routers whose every field may differ from node to node.

use std::time::Duration;

use lvs_proto::vrrp::{ChecksumForm, Password, Priority, Version, VirtualRouterId};

use super::defaults;
use super::document::Value;
use super::error::{Findings, Located};
use super::model::{AddressScope, VirtualAddress};
use super::per_node::PerNode;
use super::reader::{self, Mapping, Place};

/// A virtual router as written: what is missing has yet to be defaulted, and what one field means
/// for another has yet to be judged, node by node.
pub(super) struct InstanceDraft {
    pub(super) name: PerNode<String>,
    pub(super) interface: PerNode<String>,
    pub(super) virtual_router_id: PerNode<VirtualRouterId>,
    pub(super) priority: PerNode<Priority>,
    pub(super) advert_interval: Option<PerNode<Duration>>,
    pub(super) version: Option<PerNode<Version>>,
    pub(super) addresses: PerNode<Vec<Located<VirtualAddress>>>,
    pub(super) preempt: Option<PerNode<bool>>,
    pub(super) authentication: Option<PerNode<Password>>,
    pub(super) checksum: Option<PerNode<ChecksumForm>>,
}

const KEYS: [&str; 10] = [
    "name",
    "interface",
    "virtual_router_id",
    "priority",
    "advert_interval",
    "version",
    "addresses",
    "preempt",
    "authentication",
    "checksum",
];

impl InstanceDraft {
    pub(super) fn read(place: &Place<'_>, findings: &mut Findings) -> Option<Self> {
        let keys = Mapping::of_known_keys(place, &KEYS, findings)?;
        let name = keys.required(
            "name",
            "write a name for logs, metrics and commands",
            findings,
            |place, findings| PerNode::read(place, findings, reader::name),
        );
        let interface = keys.required(
            "interface",
            "write the interface that carries the adverts, such as eth0",
            findings,
            |place, findings| PerNode::read(place, findings, interface),
        );
        let virtual_router_id = keys.required(
            "virtual_router_id",
            "write a number from 1 to 255 that no other virtual router on the LAN has",
            findings,
            |place, findings| PerNode::read(place, findings, virtual_router_id),
        );
        let priority = keys.required(
            "priority",
            "write a number from 1 to 254 for each node, the highest for the one to be Active",
            findings,
            |place, findings| PerNode::read(place, findings, priority),
        );
        let addresses = keys.required(
            "addresses",
            "write the VIPs, such as [192.0.2.1/24]",
            findings,
            |place, findings| PerNode::read(place, findings, addresses),
        );
        let advert_interval = keys.optional("advert_interval", findings, |place, findings| {
            PerNode::read(place, findings, reader::duration)
        });
        let version = keys.optional("version", findings, |place, findings| {
            PerNode::read(place, findings, version)
        });
        let preempt = keys.optional("preempt", findings, |place, findings| {
            PerNode::read(place, findings, reader::boolean)
        });
        let authentication = keys.optional("authentication", findings, authentication);
        let checksum = keys.optional("checksum", findings, |place, findings| {
            PerNode::read(place, findings, checksum)
        });
        Some(Self {
            name: name?,
            interface: interface?,
            virtual_router_id: virtual_router_id?,
            priority: priority?,
            advert_interval: advert_interval?,
            version: version?,
            addresses: addresses?,
            preempt: preempt?,
            authentication: authentication?,
            checksum: checksum?,
        })
    }

    /// The nodes that its fields name. Keys under `authentication` don't count: should one be a
    /// misplaced password, it would be quoted as a node's name elsewhere.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &str> {
        fn of<T>(field: Option<&PerNode<T>>) -> impl Iterator<Item = &str> {
            field.into_iter().flat_map(PerNode::nodes)
        }
        of(Some(&self.name))
            .chain(of(Some(&self.interface)))
            .chain(of(Some(&self.virtual_router_id)))
            .chain(of(Some(&self.priority)))
            .chain(of(self.advert_interval.as_ref()))
            .chain(of(self.version.as_ref()))
            .chain(of(Some(&self.addresses)))
            .chain(of(self.preempt.as_ref()))
            .chain(of(self.checksum.as_ref()))
    }
}

/// What the kernel allows (`dev_valid_name`, `net/core/dev.c`).
fn interface(place: &Place<'_>, findings: &mut Findings) -> Option<String> {
    let text = reader::text(place, "the name of an interface", findings)?;
    let allowed = |letter: char| letter.is_ascii_graphic() && !"/:".contains(letter);
    if (1..=15).contains(&text.len()) && text.chars().all(allowed) && !matches!(text, "." | "..") {
        return Some(text.to_owned());
    }
    let message = format!(
        "`{text}` is not the name of an interface; \
         must be 1 to 15 printable characters other than `/` and `:`"
    );
    findings.add(&place.origin(), message);
    None
}

fn virtual_router_id(place: &Place<'_>, findings: &mut Findings) -> Option<VirtualRouterId> {
    let number = reader::integer(place, 1..=255, findings)?;
    VirtualRouterId::new(u8::try_from(number).ok()?)
}

fn priority(place: &Place<'_>, findings: &mut Findings) -> Option<Priority> {
    if matches!(place.value(), Value::Integer(255)) {
        let message = "255 belongs to the router that owns the addresses, and directors share \
                       them; must be a whole number from 1 to 254";
        findings.add(&place.origin(), message);
        return None;
    }
    let number = reader::integer(place, defaults::PRIORITIES, findings)?;
    Priority::new(u8::try_from(number).ok()?)
}

fn version(place: &Place<'_>, findings: &mut Findings) -> Option<Version> {
    Some(match reader::integer(place, 2..=3, findings)? {
        2 => Version::V2,
        _ => Version::V3,
    })
}

fn checksum(place: &Place<'_>, findings: &mut Findings) -> Option<ChecksumForm> {
    let words = [
        ("pseudo-header", ChecksumForm::PseudoHeader),
        ("message-only", ChecksumForm::MessageOnly),
    ];
    reader::word(place, &words, findings)
}

/// `{password: …}`, or a mapping by node name of such. Nothing here is ever quoted.
fn authentication(place: &Place<'_>, findings: &mut Findings) -> Option<PerNode<Password>> {
    let place = place.clone().secret();
    let by_node = matches!(place.value(), Value::Mapping(entries) if !entries.is_empty()
    && entries.iter().all(|(key, value)| {
        matches!(value.value, Value::Mapping(_))
            && !matches!(&key.value, Value::Text(text) if text == "password")
    }));
    if by_node {
        PerNode::read_by_node(&place, findings, credentials)
    } else {
        PerNode::read_for_every(&place, findings, credentials)
    }
}

fn credentials(place: &Place<'_>, findings: &mut Findings) -> Option<Password> {
    let keys = Mapping::of_known_keys(place, &["password"], findings)?;
    keys.required(
        "password",
        "write it in quotes, at most 8 bytes",
        findings,
        |place, findings| {
            let text = reader::text(place, "a text of 1 to 8 bytes", findings)?;
            let password = Password::new(text).ok().filter(|_| !text.is_empty());
            if password.is_none() {
                let bytes = text.len();
                let message = format!("must be a text of 1 to 8 bytes, but has {bytes} bytes");
                findings.add(&place.origin(), message);
            }
            password
        },
    )
}

fn addresses(place: &Place<'_>, findings: &mut Findings) -> Option<Vec<Located<VirtualAddress>>> {
    let what = "a list of VIPs, such as [192.0.2.1/24]";
    let addresses = reader::filled_list(place, what, findings, |place, findings| {
        let text = reader::text(place, "a VIP, such as 192.0.2.1/24", findings)?;
        let address = virtual_address(text);
        let address = address
            .map_err(|message| findings.add(&place.origin(), message))
            .ok()?;
        Some(place.located(address))
    })?;
    if addresses.len() > defaults::MAXIMUM_ADDRESSES {
        let (many, most) = (addresses.len(), defaults::MAXIMUM_ADDRESSES);
        findings.add(
            &place.origin(),
            format!("has {many} VIPs; an advert carries at most {most}"),
        );
        return None;
    }
    Some(addresses)
}

fn virtual_address(text: &str) -> Result<VirtualAddress, String> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let address = reader::parse_ipv4(address, "VIPs are IPv4 only for now")?;
    if let Some(reason) = reader::why_not_a_virtual_address(address) {
        return Err(format!(
            "{address} {reason}; a VIP is a unicast address of the LAN"
        ));
    }
    let Some(length) = length else {
        return Err(format!(
            "{address} has no prefix length; write that of its LAN, such as {address}/24, \
             or {address}/32"
        ));
    };
    let prefix_length = length
        .parse()
        .ok()
        .filter(|length| (1..=32).contains(length))
        .ok_or_else(|| format!("`/{length}` is not a prefix length; must be /1 to /32"))?;
    // Networks of /31 (RFC 3021) and /32 have neither of the two.
    if prefix_length <= 30 {
        let host = u32::MAX >> prefix_length;
        if address.to_bits() & host == 0 {
            return Err(format!(
                "{text} is the address of its own network; write one of a host"
            ));
        }
        if address.to_bits() & host == host {
            return Err(format!(
                "{text} is the broadcast address of its network; write a host's"
            ));
        }
    }
    Ok(VirtualAddress {
        address: address.into(),
        prefix_length,
        interface: None,
        scope: AddressScope::default(),
        label: None,
    })
}
