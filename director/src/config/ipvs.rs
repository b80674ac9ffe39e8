//! Reads `ipvs`.

use std::net::IpAddr;
use std::num::{NonZeroU8, NonZeroU16};
use std::time::Duration;

use lvs_configuration::error::{Findings, Origin};
use lvs_configuration::reader::{self, Mapping, Place};
use lvs_proto::ipvs::Timeouts;

use super::defaults;
use super::model::Program;
use super::per_node::{Nodes, PerNode};

/// How the kernel's IPVS is used, where the daemon's virtual router has yet to be found.
pub(super) struct IpvsDraft {
    pub(super) origin: Origin,
    pub(super) program: Program,
    pub(super) exclusive: bool,
    pub(super) timeouts: Timeouts,
    pub(super) synchronization: Option<SynchronizationDraft>,
}

/// `sync`.
pub(super) struct SynchronizationDraft {
    pub(super) origin: Origin,
    pub(super) instance: PerNode<String>,
    pub(super) interface: PerNode<String>,
    pub(super) identifier: Option<u8>,
    pub(super) maximum_length: Option<NonZeroU16>,
    pub(super) group: Option<IpAddr>,
    pub(super) port: Option<NonZeroU16>,
    pub(super) time_to_live: Option<NonZeroU8>,
}

impl IpvsDraft {
    pub(super) fn read(place: &Place<'_>, findings: &mut Findings) -> Option<Self> {
        let known = ["program", "exclusive", "timeouts", "sync"];
        let keys = Mapping::of_known_keys(place, &known, findings)?;
        let program = keys.optional("program", findings, |place, findings| {
            let words = [
                ("always", Program::Always),
                ("when-active", Program::WhenActive),
            ];
            reader::word(place, &words, findings)
        });
        let exclusive = keys.optional("exclusive", findings, reader::boolean);
        let timeouts = keys.optional("timeouts", findings, timeouts);
        let synchronization = keys.optional("sync", findings, SynchronizationDraft::read);
        Some(Self {
            origin: place.origin(),
            program: program?.unwrap_or_default(),
            exclusive: exclusive?.unwrap_or(false),
            timeouts: timeouts?.unwrap_or_default(),
            synchronization: synchronization?,
        })
    }

    /// The nodes that it names.
    pub(super) fn nodes(&self) -> Vec<&str> {
        let Some(SynchronizationDraft {
            instance,
            interface,
            ..
        }) = &self.synchronization
        else {
            return Vec::new();
        };
        [instance.nodes(), interface.nodes()].concat()
    }
}

fn timeouts(place: &Place<'_>, findings: &mut Findings) -> Option<Timeouts> {
    let keys = Mapping::of_known_keys(place, &["tcp", "tcp_fin", "udp"], findings)?;
    let mut seconds = |key| {
        let time: Option<Option<Duration>> = keys.optional(key, findings, |place, findings| {
            reader::seconds_in(place, defaults::KERNEL_TIMES, findings)
        });
        let seconds = time?.map_or(0, |time| time.as_secs());
        u32::try_from(seconds).ok()
    };
    let (tcp, tcp_fin, udp) = (seconds("tcp"), seconds("tcp_fin"), seconds("udp"));
    Some(Timeouts {
        tcp: tcp?,
        tcp_fin: tcp_fin?,
        udp: udp?,
    })
}

impl SynchronizationDraft {
    fn read(place: &Place<'_>, findings: &mut Findings) -> Option<Self> {
        let known = [
            "instance",
            "interface",
            "id",
            "group",
            "port",
            "ttl",
            "maximum_length",
        ];
        let keys = Mapping::of_known_keys(place, &known, findings)?;
        let right = "write the virtual router that it follows: it tells while that is Active, and \
                     listens otherwise";
        let instance = keys.required("instance", right, findings, |place, findings| {
            PerNode::read(place, findings, reader::name)
        });
        let right = "write the interface between the directors";
        let interface = keys.required("interface", right, findings, |place, findings| {
            PerNode::read(place, findings, reader::interface)
        });
        let identifier = keys.optional("id", findings, |place, findings| {
            u8::try_from(reader::integer(place, 0..=255, findings)?).ok()
        });
        let group = keys.optional("group", findings, multicast_group);
        let port = keys.optional("port", findings, |place, findings| {
            let port = reader::integer(place, 1..=65535, findings)?;
            NonZeroU16::new(u16::try_from(port).ok()?)
        });
        let time_to_live = keys.optional("ttl", findings, reader::count);
        // Less than the least is more for one that listens (`start_sync_thread`,
        // `net/netfilter/ipvs/ip_vs_sync.c`).
        let headers = match group {
            Some(Some(IpAddr::V6(_))) => 48,
            _ => 28,
        };
        let maximum_length = keys.optional("maximum_length", findings, |place, findings| {
            let length = reader::integer(place, 1024..=65535 - headers, findings)?;
            NonZeroU16::new(u16::try_from(length).ok()?)
        });
        Some(Self {
            origin: place.origin(),
            instance: instance?,
            interface: interface?,
            identifier: identifier?,
            maximum_length: maximum_length?,
            group: group?,
            port: port?,
            time_to_live: time_to_live?,
        })
    }
}

fn multicast_group(place: &Place<'_>, findings: &mut Findings) -> Option<IpAddr> {
    let group: IpAddr = reader::parsed(place, "a multicast address", findings)?;
    if group.is_multicast() {
        return Some(group);
    }
    let message = format!("{group} is no multicast address; must be one such as 224.0.0.81");
    findings.add(&place.origin(), message);
    None
}
