//! What is ours, and what was there before, kept where the process's death doesn't reach it.

use std::net::IpAddr;
use std::num::{NonZeroU8, NonZeroU16, NonZeroU32};
use std::path::Path;

use lvs_proto::Family;
use lvs_proto::ipvs::{Daemon, DaemonRole, Protocol, ServiceKey, Timeouts};
use lvs_system::record::{self, Record};
use lvs_system::sysctl;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::table::{Owned, Settings};

/// The records of one network namespace; the settings found are in a journal of their own.
#[derive(Debug)]
pub(super) struct OwnershipRecord {
    services: Record<Vec<RecordedService>>,
    surroundings: Record<RecordedSurroundings>,
    kept: Option<Owned>,
}

/// What a predecessor has recorded in `directory`, for a look beside whoever has the record open;
/// changes no file.
pub(super) fn peek(directory: &Path) -> Result<Owned, sysctl::Error> {
    let services: Vec<RecordedService> = Record::peek(directory, SERVICES)?;
    let surroundings = Record::peek(directory, SURROUNDINGS)?;
    let settings = sysctl::recorded(directory)?;
    Ok(owned(&services, &surroundings, &settings))
}

const SERVICES: &str = "services";
const SURROUNDINGS: &str = "surroundings";

impl OwnershipRecord {
    /// Reads what a predecessor has recorded.
    pub(super) fn open(directory: &Path) -> Result<Self, record::Error> {
        let services = Record::open(directory, SERVICES)?;
        if let Some(damage) = services.damage() {
            warn!(
                "{damage}; services of an earlier run that are not configured any more stay in the \
                 table"
            );
        }
        let surroundings = Record::open(directory, SURROUNDINGS)?;
        if let Some(damage) = surroundings.damage() {
            warn!("{damage}; time-outs and synchronization daemons of an earlier run stay");
        }
        Ok(Self {
            services,
            surroundings,
            kept: None,
        })
    }

    /// What is recorded, with `settings` as the values found of settings.
    pub(super) fn owned(&self, settings: &Settings) -> Owned {
        owned(
            self.services.contents(),
            self.surroundings.contents(),
            settings,
        )
    }

    /// Records all but the settings.
    pub(super) fn keep(&mut self, owned: &Owned) -> Result<(), record::Error> {
        if self.kept.as_ref() == Some(owned) {
            return Ok(());
        }
        let services = owned.services.iter().map(RecordedService::new).collect();
        let Timeouts { tcp, tcp_fin, udp } = owned.timeouts;
        let surroundings = RecordedSurroundings {
            timeouts: RecordedTimeouts { tcp, tcp_fin, udp },
            daemons: owned.daemons.iter().map(RecordedDaemon::new).collect(),
        };
        self.services.update(|recorded| *recorded = services)?;
        self.surroundings
            .update(|recorded| *recorded = surroundings)?;
        self.kept = Some(owned.clone());
        Ok(())
    }
}

fn owned(
    services: &[RecordedService],
    surroundings: &RecordedSurroundings,
    settings: &Settings,
) -> Owned {
    let RecordedSurroundings { timeouts, daemons } = surroundings;
    Owned {
        services: services.iter().map(RecordedService::owned).collect(),
        settings: settings.clone(),
        timeouts: Timeouts {
            tcp: timeouts.tcp,
            tcp_fin: timeouts.tcp_fin,
            udp: timeouts.udp,
        },
        daemons: daemons.iter().map(RecordedDaemon::daemon).collect(),
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct RecordedSurroundings {
    timeouts: RecordedTimeouts,
    daemons: Vec<RecordedDaemon>,
}

/// Seconds; 0 where it was not changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct RecordedTimeouts {
    tcp: u32,
    tcp_fin: u32,
    udp: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct RecordedDaemon {
    #[serde(with = "RecordedRole")]
    role: DaemonRole,
    interface: String,
    identifier: u8,
    maximum_length: Option<NonZeroU16>,
    group: Option<IpAddr>,
    port: Option<NonZeroU16>,
    time_to_live: Option<NonZeroU8>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "DaemonRole", rename_all = "lowercase")]
enum RecordedRole {
    Master,
    Backup,
}

impl RecordedDaemon {
    fn new(daemon: &Daemon) -> Self {
        let Daemon {
            role,
            interface,
            identifier,
            maximum_length,
            group,
            port,
            time_to_live,
        } = daemon.clone();
        Self {
            role,
            interface,
            identifier,
            maximum_length,
            group,
            port,
            time_to_live,
        }
    }

    fn daemon(&self) -> Daemon {
        let Self {
            role,
            interface,
            identifier,
            maximum_length,
            group,
            port,
            time_to_live,
        } = self.clone();
        Daemon {
            role,
            interface,
            identifier,
            maximum_length,
            group,
            port,
            time_to_live,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct RecordedService {
    name: String,
    #[serde(flatten)]
    key: RecordedKey,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum RecordedKey {
    Socket {
        address: IpAddr,
        port: u16,
        #[serde(with = "RecordedProtocol")]
        protocol: Protocol,
    },
    FirewallMark {
        mark: NonZeroU32,
        #[serde(with = "RecordedFamily")]
        family: Family,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Protocol", rename_all = "lowercase")]
enum RecordedProtocol {
    Udp,
    Tcp,
    Sctp,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Family", rename_all = "lowercase")]
enum RecordedFamily {
    Ipv4,
    Ipv6,
}

impl RecordedService {
    fn new((key, name): (&ServiceKey, &String)) -> Self {
        Self {
            name: name.clone(),
            key: match *key {
                ServiceKey::Socket {
                    address,
                    port,
                    protocol,
                } => RecordedKey::Socket {
                    address,
                    port,
                    protocol,
                },
                ServiceKey::FirewallMark { mark, family } => {
                    RecordedKey::FirewallMark { mark, family }
                }
            },
        }
    }

    fn owned(&self) -> (ServiceKey, String) {
        let key = match self.key {
            RecordedKey::Socket {
                address,
                port,
                protocol,
            } => ServiceKey::Socket {
                address,
                port,
                protocol,
            },
            RecordedKey::FirewallMark { mark, family } => ServiceKey::FirewallMark { mark, family },
        };
        (key, self.name.clone())
    }
}
