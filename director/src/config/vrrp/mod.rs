//! Reads `vrrp`: virtual routers whose every field may differ from node to node.

mod authentication;
mod tracking;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use lvs_proto::vrrp::{AcceptedIntervals, ChecksumForm, Priority, Version, VirtualRouterId};

pub(super) use authentication::{AlsoAcceptDraft, Credentials, HmacDraft, KeyDraft};
use lvs_configuration::address;
use lvs_configuration::document::Value;
use lvs_configuration::error::{Findings, Located};
use lvs_configuration::reader::{self, Mapping, Place};
pub(super) use tracking::TrackDraft;

use super::model::{Hook, VirtualAddress};
use super::per_node::{Nodes, PerNode};
use super::{defaults, vip};

/// A virtual router as written: what is missing has yet to be defaulted, and what one field means
/// for another has yet to be judged, node by node.
pub(super) struct InstanceDraft {
    name: PerNode<String>,
    interface: PerNode<String>,
    virtual_router_id: PerNode<VirtualRouterId>,
    priority: PerNode<Priority>,
    advert_interval: Option<PerNode<Duration>>,
    accept_intervals: Option<PerNode<AcceptedIntervals>>,
    version: Option<PerNode<Version>>,
    checksum: Option<PerNode<ChecksumForm>>,
    authentication: Option<PerNode<Credentials>>,
    also_accept: Option<PerNode<AlsoAcceptDraft>>,
    preempt: Option<PerNode<bool>>,
    preempt_delay: Option<PerNode<Duration>>,
    source: Option<PerNode<IpAddr>>,
    peers: Option<PerNode<Vec<Located<IpAddr>>>>,
    minimum_ttl: Option<PerNode<u8>>,
    virtual_mac: Option<PerNode<VirtualMac>>,
    addresses: PerNode<Vec<Located<VirtualAddress>>>,
    further_addresses: Option<PerNode<Vec<Located<VirtualAddress>>>>,
    announce: Option<PerNode<AnnounceDraft>>,
    group: Option<PerNode<String>>,
    track: Option<PerNode<TrackDraft>>,
    hooks: Option<PerNode<Vec<Hook>>>,
}

/// What a file says of a virtual router on one node.
pub(super) struct Written<'d> {
    pub(super) name: &'d Located<String>,
    pub(super) interface: &'d Located<String>,
    pub(super) virtual_router_id: &'d Located<VirtualRouterId>,
    pub(super) priority: &'d Located<Priority>,
    pub(super) advert_interval: Option<&'d Located<Duration>>,
    pub(super) accept_intervals: Option<&'d Located<AcceptedIntervals>>,
    pub(super) version: Option<&'d Located<Version>>,
    pub(super) checksum: Option<&'d Located<ChecksumForm>>,
    pub(super) authentication: Option<&'d Located<Credentials>>,
    pub(super) also_accept: Option<&'d Located<AlsoAcceptDraft>>,
    pub(super) preempt: Option<&'d Located<bool>>,
    pub(super) preempt_delay: Option<&'d Located<Duration>>,
    pub(super) source: Option<&'d Located<IpAddr>>,
    pub(super) peers: Option<&'d Located<Vec<Located<IpAddr>>>>,
    pub(super) minimum_ttl: Option<&'d Located<u8>>,
    pub(super) virtual_mac: Option<&'d Located<VirtualMac>>,
    pub(super) addresses: &'d Located<Vec<Located<VirtualAddress>>>,
    pub(super) further_addresses: Option<&'d Located<Vec<Located<VirtualAddress>>>>,
    pub(super) announce: Option<&'d Located<AnnounceDraft>>,
    pub(super) group: Option<&'d Located<String>>,
    pub(super) track: Option<&'d Located<TrackDraft>>,
    pub(super) hooks: Option<&'d Located<Vec<Hook>>>,
}

impl Written<'_> {
    /// The files that its keys stand in.
    pub(super) fn key_files(&self) -> Vec<PathBuf> {
        let credentials = self.authentication.map(|it| &it.value);
        let Some(Credentials::Hmac(hmac)) = credentials else {
            return Vec::new();
        };
        let files = hmac.keys.values().filter_map(|key| match &key.value {
            KeyDraft::File(path) => Some(path.clone()),
            KeyDraft::Written(_) => None,
        });
        files.collect()
    }
}

/// Whether there is to be a macvlan with the virtual MAC address.
pub(super) enum VirtualMac {
    Without,
    Named(String),
    /// By a name that follows from the virtual router.
    ByDefaultName,
}

/// What the file says of announcements; times of zero mean never.
pub(super) struct AnnounceDraft {
    pub(super) burst: Option<u8>,
    pub(super) pause: Option<Duration>,
    pub(super) again_after: Option<Duration>,
    pub(super) refresh: Option<Duration>,
}

const KEYS: [&str; 22] = [
    "name",
    "interface",
    "virtual_router_id",
    "priority",
    "advert_interval",
    "accept_intervals",
    "version",
    "checksum",
    "authentication",
    "also_accept",
    "preempt",
    "preempt_delay",
    "source",
    "peers",
    "minimum_ttl",
    "virtual_mac",
    "addresses",
    "further_addresses",
    "announce",
    "group",
    "track",
    "hooks",
];
const INTERVAL_KEYS: [&str; 2] = ["from", "to"];
const ANNOUNCE_KEYS: [&str; 4] = ["burst", "pause", "again_after", "refresh"];

impl InstanceDraft {
    pub(super) fn read(place: &Place<'_>, findings: &mut Findings) -> Option<Self> {
        let keys = Fields(Mapping::of_known_keys(place, &KEYS, findings)?);
        let name = keys.required(
            "name",
            "write a name for logs, metrics and commands",
            findings,
            reader::name,
        );
        let interface = keys.required(
            "interface",
            "write the interface that carries the adverts, such as eth0",
            findings,
            reader::interface,
        );
        let virtual_router_id = keys.required(
            "virtual_router_id",
            "write a number from 1 to 255 that no other virtual router on the LAN has",
            findings,
            virtual_router_id,
        );
        let priority = keys.required(
            "priority",
            "write a number from 1 to 254 for each node, the highest for the one to be Active",
            findings,
            priority,
        );
        let addresses = keys.required(
            "addresses",
            "write the VIPs, such as [192.0.2.1/24]",
            findings,
            addresses,
        );
        let advert_interval = keys.optional("advert_interval", findings, reader::duration);
        let accept_intervals = keys.mapping(
            "accept_intervals",
            &INTERVAL_KEYS,
            findings,
            accept_intervals,
        );
        let version = keys.optional("version", findings, authentication::version);
        let checksum = keys.optional("checksum", findings, checksum);
        let authentication = keys.secret_mapping(
            "authentication",
            &authentication::KEYS,
            findings,
            authentication::credentials,
        );
        let also_accept = keys.secret_mapping(
            "also_accept",
            &authentication::ALSO_ACCEPT_KEYS,
            findings,
            authentication::also_accept,
        );
        let preempt = keys.optional("preempt", findings, reader::boolean);
        let preempt_delay = keys.optional("preempt_delay", findings, |place, findings| {
            reader::duration_in(place, defaults::PREEMPT_DELAYS, findings)
        });
        let source = keys.optional("source", findings, |place, findings| {
            address::host(place, "an own address to send adverts from", findings)
        });
        let peers = keys.optional("peers", findings, peers);
        let minimum_ttl = keys.optional("minimum_ttl", findings, |place, findings| {
            u8::try_from(reader::integer(place, 1..=255, findings)?).ok()
        });
        let virtual_mac = keys.optional("virtual_mac", findings, virtual_mac);
        let further_addresses =
            keys.optional("further_addresses", findings, vip::virtual_addresses);
        let announce = keys.mapping("announce", &ANNOUNCE_KEYS, findings, announce);
        let group = keys.optional("group", findings, reader::name);
        let track = keys.mapping("track", &tracking::KEYS, findings, TrackDraft::read);
        let hooks = keys.optional("hooks", findings, tracking::hooks);
        Some(Self {
            name: name?,
            interface: interface?,
            virtual_router_id: virtual_router_id?,
            priority: priority?,
            advert_interval: advert_interval?,
            accept_intervals: accept_intervals?,
            version: version?,
            checksum: checksum?,
            authentication: authentication?,
            also_accept: also_accept?,
            preempt: preempt?,
            preempt_delay: preempt_delay?,
            source: source?,
            peers: peers?,
            minimum_ttl: minimum_ttl?,
            virtual_mac: virtual_mac?,
            addresses: addresses?,
            further_addresses: further_addresses?,
            announce: announce?,
            group: group?,
            track: track?,
            hooks: hooks?,
        })
    }

    /// The nodes that its fields name. Keys under `authentication` and `also_accept` don't count:
    /// should one be a misplaced password, it would be quoted as a node's name elsewhere.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &str> {
        let fields: [&dyn Nodes; 20] = [
            &self.name,
            &self.interface,
            &self.virtual_router_id,
            &self.priority,
            &self.advert_interval,
            &self.accept_intervals,
            &self.version,
            &self.checksum,
            &self.preempt,
            &self.preempt_delay,
            &self.source,
            &self.peers,
            &self.minimum_ttl,
            &self.virtual_mac,
            &self.addresses,
            &self.further_addresses,
            &self.announce,
            &self.group,
            &self.track,
            &self.hooks,
        ];
        fields.into_iter().flat_map(Nodes::nodes)
    }

    /// What is written for one node; nothing when a map lacks the node.
    pub(super) fn on(&self, node: &str, findings: &mut Findings) -> Option<Written<'_>> {
        let name = self.name.required(node, findings);
        let interface = self.interface.required(node, findings);
        let virtual_router_id = self.virtual_router_id.required(node, findings);
        let priority = self.priority.required(node, findings);
        let addresses = self.addresses.required(node, findings);
        let mut lookup = Lookup { node, findings };
        let advert_interval = lookup.of(&self.advert_interval);
        let accept_intervals = lookup.of(&self.accept_intervals);
        let version = lookup.of(&self.version);
        let checksum = lookup.of(&self.checksum);
        let authentication = lookup.of(&self.authentication);
        let also_accept = lookup.of(&self.also_accept);
        let preempt = lookup.of(&self.preempt);
        let preempt_delay = lookup.of(&self.preempt_delay);
        let source = lookup.of(&self.source);
        let peers = lookup.of(&self.peers);
        let minimum_ttl = lookup.of(&self.minimum_ttl);
        let virtual_mac = lookup.of(&self.virtual_mac);
        let further_addresses = lookup.of(&self.further_addresses);
        let announce = lookup.of(&self.announce);
        let group = lookup.of(&self.group);
        let track = lookup.of(&self.track);
        let hooks = lookup.of(&self.hooks);
        Some(Written {
            name: name?,
            interface: interface?,
            virtual_router_id: virtual_router_id?,
            priority: priority?,
            advert_interval: advert_interval?,
            accept_intervals: accept_intervals?,
            version: version?,
            checksum: checksum?,
            authentication: authentication?,
            also_accept: also_accept?,
            preempt: preempt?,
            preempt_delay: preempt_delay?,
            source: source?,
            peers: peers?,
            minimum_ttl: minimum_ttl?,
            virtual_mac: virtual_mac?,
            addresses: addresses?,
            further_addresses: further_addresses?,
            announce: announce?,
            group: group?,
            track: track?,
            hooks: hooks?,
        })
    }
}

struct Lookup<'l> {
    node: &'l str,
    findings: &'l mut Findings,
}

impl Lookup<'_> {
    /// `Some(None)` when the file doesn't say, `None` when it says nothing for this node.
    fn of<'d, T>(&mut self, field: &'d Option<PerNode<T>>) -> Option<Option<&'d Located<T>>> {
        match field {
            Some(field) => field.optional(self.node, self.findings),
            None => Some(None),
        }
    }
}

/// The keys of a virtual router, of which each may be by node name.
struct Fields<'n>(Mapping<'n>);

impl<'n> Fields<'n> {
    fn required<T>(
        &self,
        key: &str,
        right: &str,
        findings: &mut Findings,
        read: impl Fn(&Place<'n>, &mut Findings) -> Option<T>,
    ) -> Option<PerNode<T>> {
        self.0.required(key, right, findings, |place, findings| {
            PerNode::read(place, findings, read)
        })
    }

    fn optional<T>(
        &self,
        key: &str,
        findings: &mut Findings,
        read: impl Fn(&Place<'n>, &mut Findings) -> Option<T>,
    ) -> Option<Option<PerNode<T>>> {
        self.0.optional(key, findings, |place, findings| {
            PerNode::read(place, findings, read)
        })
    }

    fn mapping<T>(
        &self,
        key: &str,
        known: &[&str],
        findings: &mut Findings,
        read: impl Fn(&Place<'n>, &mut Findings) -> Option<T>,
    ) -> Option<Option<PerNode<T>>> {
        self.0.optional(key, findings, |place, findings| {
            PerNode::read_mapping(place, known, findings, read)
        })
    }

    /// Nothing that stands there is ever quoted.
    fn secret_mapping<T>(
        &self,
        key: &str,
        known: &[&str],
        findings: &mut Findings,
        read: impl Fn(&Place<'n>, &mut Findings) -> Option<T>,
    ) -> Option<Option<PerNode<T>>> {
        self.0.optional(key, findings, |place, findings| {
            PerNode::read_mapping(&place.clone().secret(), known, findings, read)
        })
    }
}

fn virtual_router_id(place: &Place<'_>, findings: &mut Findings) -> Option<VirtualRouterId> {
    let number = reader::integer(place, 1..=255, findings)?;
    VirtualRouterId::new(u8::try_from(number).ok()?)
}

fn priority(place: &Place<'_>, findings: &mut Findings) -> Option<Priority> {
    let number = reader::integer(place, defaults::PRIORITIES, findings)?;
    Priority::new(u8::try_from(number).ok()?)
}

fn accept_intervals(place: &Place<'_>, findings: &mut Findings) -> Option<AcceptedIntervals> {
    let keys = Mapping::of_known_keys(place, &INTERVAL_KEYS, findings)?;
    let read = |place: &Place<'_>, findings: &mut Findings| {
        reader::duration_in(place, defaults::ACCEPTED_INTERVALS, findings)
    };
    let least = keys.required("from", "write the shortest, such as 10ms", findings, read);
    let most = keys.required("to", "write the longest, such as 1s", findings, read);
    Some(AcceptedIntervals {
        least: least?,
        most: most?,
    })
}

fn checksum(place: &Place<'_>, findings: &mut Findings) -> Option<ChecksumForm> {
    let words = [
        ("pseudo-header", ChecksumForm::PseudoHeader),
        ("message-only", ChecksumForm::MessageOnly),
    ];
    reader::word(place, &words, findings)
}

fn peers(place: &Place<'_>, findings: &mut Findings) -> Option<Vec<Located<IpAddr>>> {
    let what = "a list of the other directors' own addresses, such as [192.0.2.2]";
    let peers = reader::filled_list(place, what, findings, |place, findings| {
        let what = "another director's own address";
        Some(place.located(address::host(place, what, findings)?))
    })?;
    let mut good = true;
    for (index, peer) in peers.iter().enumerate() {
        if peers[..index]
            .iter()
            .any(|earlier| earlier.value == peer.value)
        {
            let message = format!("{} is already listed; list it once", peer.value);
            findings.add(&peer.origin, message);
            good = false;
        }
    }
    good.then_some(peers)
}

fn virtual_mac(place: &Place<'_>, findings: &mut Findings) -> Option<VirtualMac> {
    match place.value() {
        Value::Boolean(true) => Some(VirtualMac::ByDefaultName),
        Value::Boolean(false) => Some(VirtualMac::Without),
        Value::Text(_) => Some(VirtualMac::Named(reader::interface(place, findings)?)),
        _ => {
            let what = "`true`, `false` or the name of the interface to make";
            place.expected(what, findings);
            None
        }
    }
}

fn addresses(place: &Place<'_>, findings: &mut Findings) -> Option<Vec<Located<VirtualAddress>>> {
    let addresses = vip::virtual_addresses(place, findings)?;
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

fn announce(place: &Place<'_>, findings: &mut Findings) -> Option<AnnounceDraft> {
    let keys = Mapping::of_known_keys(place, &ANNOUNCE_KEYS, findings)?;
    let burst = keys.optional("burst", findings, reader::count);
    let mut time = |key, range| {
        keys.optional(key, findings, |place, findings| {
            reader::duration_in(place, range, findings)
        })
    };
    let pause = time("pause", defaults::ANNOUNCEMENT_PAUSES);
    let again_after = time("again_after", defaults::SECOND_BURSTS);
    let refresh = time("refresh", defaults::REFRESHES);
    Some(AnnounceDraft {
        burst: burst?.map(Into::into),
        pause: pause?,
        again_after: again_after?,
        refresh: refresh?,
    })
}
