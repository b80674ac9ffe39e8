//! Reads `services`. Nothing here differs from node to node.

mod address;
mod forwarding;
mod intervals;
mod judge;
mod pool;
mod port;
mod real_server;
mod scheduling;
mod subject;
mod watch;

use lvs_configuration::error::{Findings, Located, Origin};
use lvs_configuration::reader::{self, Mapping, Place};
use lvs_health::reading::{self, CheckDraft};
use lvs_proto::ipvs::{Protocol, Scheduler, ServiceFlags};

use super::defaults;
use super::model::{Check, OnePacketScheduling, PersistenceSettings, RealServer, Watch};
use pool::PoolDraft;
use real_server::Context;
pub(super) use subject::Subject;

/// A service whose holders have yet to be found.
pub(super) struct ServiceDraft {
    pub(super) origin: Origin,
    pub(super) name: Located<String>,
    pub(super) subject: Subject,
    /// What its checks speak for; without any, what the file lists.
    pub(super) protocols: Vec<Protocol>,
    pub(super) scheduler: Located<Scheduler>,
    pub(super) scheduler_flags: ServiceFlags,
    pub(super) persistence: Option<Located<PersistenceSettings>>,
    pub(super) one_packet_scheduling: Located<OnePacketScheduling>,
    pub(super) checks: Vec<Check>,
    /// Programs that the checks run.
    pub(super) programs: Vec<Located<String>>,
    pub(super) real_servers: Vec<Located<RealServer>>,
    pub(super) pool: PoolDraft,
    pub(super) watch: Option<Watch>,
    pub(super) external: Option<Located<bool>>,
}

const KEYS: [&str; 19] = [
    "name",
    "address",
    "addresses",
    "port",
    "ports",
    "protocols",
    "firewall_mark",
    "family",
    "instance",
    "external",
    "scheduler",
    "scheduler_flags",
    "forwarding",
    "persistence",
    "one_packet_scheduling",
    "check",
    "pool",
    "watch",
    "real_servers",
];

impl ServiceDraft {
    pub(super) fn read(place: &Place<'_>, findings: &mut Findings) -> Option<Self> {
        let keys = Mapping::of_known_keys(place, &KEYS, findings)?;
        let name = keys.required(
            "name",
            "write a name for logs, metrics and commands",
            findings,
            |place, findings| Some(place.located(reader::name(place, findings)?)),
        );
        let subject = Subject::read(&keys, findings);
        let scheduler = scheduling::scheduler(&keys, findings);
        let scheduler_flags = scheduling::flags(&keys, scheduler.as_ref(), findings);
        let persistence = keys.optional("persistence", findings, scheduling::persistence);
        let one_packet_scheduling = scheduling::one_packet(&keys, findings);
        let forwarding = keys.optional("forwarding", findings, forwarding::read);
        let forwarding = forwarding.map(|chosen| chosen.unwrap_or(defaults::FORWARDING));
        let check = keys.required(
            "check",
            "without one a dead real server keeps its share of the clients; \
             write a `dns` check, or `check: none` to have it so",
            findings,
            reading::read,
        );
        let context = subject
            .as_ref()
            .zip(forwarding)
            .map(|(subject, forwarding)| Context {
                port: subject.only_port(),
                forwarding,
            });
        let real_servers = keys.required(
            "real_servers",
            "write a list such as [{ address: 192.0.2.2 }]",
            findings,
            |place, findings| real_server::list(place, context.as_ref(), findings),
        );
        let pool = keys.optional("pool", findings, |place, findings| {
            pool::read(place, context.as_ref(), findings)
        });
        let watch = keys.optional("watch", findings, watch::read);
        let external = keys.optional("external", findings, |place, findings| {
            Some(place.located(reader::boolean(place, findings)?))
        });
        let check = check?;
        let draft = Self {
            origin: place.origin(),
            name: name?,
            subject: subject?,
            protocols: Vec::new(),
            scheduler: scheduler?,
            scheduler_flags: scheduler_flags?,
            persistence: persistence?.flatten(),
            one_packet_scheduling: one_packet_scheduling?,
            checks: Vec::new(),
            programs: check.iter().filter_map(CheckDraft::program).collect(),
            real_servers: real_servers?,
            pool: pool?.unwrap_or_default(),
            watch: watch?,
            external: external?,
        };
        judge::judge(draft, &check, findings)
    }
}
