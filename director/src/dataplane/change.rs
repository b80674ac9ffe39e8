//! One change of the table, in an operator's words and in a program's.

use std::fmt;
use std::net::SocketAddr;

use lvs_proto::Family;
use lvs_proto::ipvs::{
    Command, Daemon, Destination, DestinationKey, Protocol, Scheduler, Service, ServiceFlags,
    ServiceKey, Timeouts,
};

use super::marked::is_for_probes;
use crate::control::{self, Object};
use crate::wording::{OFF, Setting, described, differences, sides};

/// One change, in operator's words on one line when written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Something is done to a service.
    Service {
        /// The operator's name of the service; `None` where it isn't configured.
        service: Option<String>,
        /// Which of the service's keys.
        key: ServiceKey,
        /// What is done to it.
        action: Action,
    },
    /// A setting of the kernel gets another value.
    Setting {
        /// Its name, as sysctl(8) writes it.
        name: String,
        /// What it is.
        from: String,
        /// What it becomes.
        to: String,
    },
    /// Idle connection entries stay longer or shorter.
    Timeouts {
        /// What they are.
        from: Timeouts,
        /// What they become; 0 stays.
        to: Timeouts,
    },
    /// A synchronization daemon is started.
    StartDaemon(Daemon),
    /// A synchronization daemon is ended.
    EndDaemon(Daemon),
}

/// What is done to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is made, without destinations.
    AddService {
        /// What it becomes.
        to: Service,
    },
    /// Its settings are changed; destinations and connections stay.
    SetService {
        /// What it is.
        from: Service,
        /// What it becomes.
        to: Service,
    },
    /// It is removed with its destinations.
    RemoveService,
    /// It gets another destination.
    AddDestination {
        /// What it becomes.
        to: Destination,
    },
    /// A destination's settings are changed.
    SetDestination {
        /// What it is.
        from: Destination,
        /// What it becomes.
        to: Destination,
    },
    /// A destination is removed.
    RemoveDestination {
        /// Which one.
        destination: DestinationKey,
    },
}

impl Change {
    /// The request that makes the change; `None` for a setting, which is a file.
    pub fn command(&self) -> Option<Command> {
        Some(match self {
            Self::Service { key, action, .. } => match *action {
                Action::AddService { to } => Command::NewService(to),
                Action::SetService { to, .. } => Command::SetService(to),
                Action::RemoveService => Command::DeleteService(*key),
                Action::AddDestination { to } => Command::NewDestination(*key, to),
                Action::SetDestination { to, .. } => Command::SetDestination(*key, to),
                Action::RemoveDestination { destination } => {
                    Command::DeleteDestination(*key, destination)
                }
            },
            Self::Setting { .. } => return None,
            Self::Timeouts { to, .. } => Command::SetTimeouts(*to),
            Self::StartDaemon(daemon) => Command::NewDaemon(daemon.clone()),
            Self::EndDaemon(daemon) => Command::DeleteDaemon(daemon.role),
        })
    }

    /// The command by which an operator does the same by hand; `None` where something is added or only
    /// a real server is concerned.
    pub(super) fn by_hand(&self) -> Option<String> {
        Some(match self {
            Self::Service {
                key,
                action: Action::RemoveService,
                ..
            } => format!("ipvsadm -D {}", service_option(*key)),
            Self::Setting { name, to, .. } => format!("sysctl -w {name}={to}"),
            Self::Timeouts { to, .. } => {
                format!("ipvsadm --set {} {} {}", to.tcp, to.tcp_fin, to.udp)
            }
            Self::EndDaemon(daemon) => format!("ipvsadm --stop-daemon {}", daemon.role),
            Self::Service { .. } | Self::StartDaemon(_) => return None,
        })
    }

    /// Whether it concerns a service for probes, which is nobody's.
    pub fn is_for_probes(&self) -> bool {
        matches!(self, Self::Service { key, .. } if is_for_probes(key))
    }

    /// What kind of thing is changed.
    pub fn object(&self) -> Object {
        match self {
            Self::Service { action, .. } => match action {
                Action::AddService { .. } | Action::SetService { .. } | Action::RemoveService => {
                    Object::Service
                }
                Action::AddDestination { .. }
                | Action::SetDestination { .. }
                | Action::RemoveDestination { .. } => Object::Server,
            },
            Self::Setting { .. } => Object::Setting,
            Self::Timeouts { .. } => Object::Timeouts,
            Self::StartDaemon(_) | Self::EndDaemon(_) => Object::Synchronization,
        }
    }

    /// What is done to it.
    pub fn kind(&self) -> control::Action {
        match self {
            Self::Service { action, .. } => match action {
                Action::AddService { .. } | Action::AddDestination { .. } => control::Action::Add,
                Action::SetService { .. } | Action::SetDestination { .. } => {
                    control::Action::Change
                }
                Action::RemoveService | Action::RemoveDestination { .. } => control::Action::Remove,
            },
            Self::Setting { .. } | Self::Timeouts { .. } => control::Action::Change,
            Self::StartDaemon(_) => control::Action::Add,
            Self::EndDaemon(_) => control::Action::Remove,
        }
    }

    /// What it is and what it becomes, each in words.
    fn ends(&self) -> (Option<String>, Option<String>) {
        match self {
            Self::Service { action, .. } => match action {
                Action::AddService { to } => (None, Some(described(&service_settings(to)))),
                Action::AddDestination { to } => (None, Some(described(&destination_settings(to)))),
                Action::SetService { from, to } => {
                    both(sides(&service_settings(from), &service_settings(to)))
                }
                Action::SetDestination { from, to } => both(sides(
                    &destination_settings(from),
                    &destination_settings(to),
                )),
                Action::RemoveService | Action::RemoveDestination { .. } => (None, None),
            },
            Self::Setting { from, to, .. } => (Some(from.clone()), Some(to.clone())),
            Self::Timeouts { from, to } => {
                both(sides(&timeout_settings(from), &becoming(from, to)))
            }
            Self::StartDaemon(daemon) => (None, Some(daemon.to_string())),
            Self::EndDaemon(daemon) => (Some(daemon.to_string()), None),
        }
    }
}

impl From<&Change> for control::Change {
    fn from(change: &Change) -> Self {
        let (from, to) = change.ends();
        let mut told = Self {
            from,
            to,
            ..Self::new(change.object(), change.kind(), change.to_string())
        };
        match change {
            Change::Service {
                service,
                key,
                action,
            } => {
                told.service.clone_from(service);
                told.virtual_service = Some(key.to_string());
                told.server = action.destination().map(|key| key.to_string());
            }
            Change::Setting { name, .. } => told.setting = Some(name.clone()),
            Change::Timeouts { .. } | Change::StartDaemon(_) | Change::EndDaemon(_) => {}
        }
        told
    }
}

impl Action {
    /// The destination that is concerned, if only one is.
    pub fn destination(&self) -> Option<DestinationKey> {
        match self {
            Self::AddDestination { to } | Self::SetDestination { to, .. } => Some(to.key),
            Self::RemoveDestination { destination } => Some(*destination),
            Self::AddService { .. } | Self::SetService { .. } | Self::RemoveService => None,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service {
                service,
                key,
                action,
            } => {
                match service {
                    Some(name) => write!(formatter, "service {name} {key}: ")?,
                    None => write!(formatter, "service {key}, which is not configured: ")?,
                }
                action.fmt(formatter)
            }
            Self::Setting { name, from, to } => {
                write!(formatter, "setting {name}: {from} → {to}")
            }
            Self::Timeouts { from, to } => {
                let settings = differences(&timeout_settings(from), &becoming(from, to));
                write!(formatter, "timeouts: {}", settings.join(", "))
            }
            Self::StartDaemon(daemon) => write!(formatter, "synchronization: start {daemon}"),
            Self::EndDaemon(daemon) => write!(formatter, "synchronization: end {daemon}"),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddService { to } => {
                write!(formatter, "add, {}", described(&service_settings(to)))
            }
            Self::SetService { from, to } => {
                let settings = differences(&service_settings(from), &service_settings(to));
                formatter.write_str(&settings.join(", "))
            }
            Self::RemoveService => formatter.write_str("remove"),
            Self::AddDestination { to } => write!(
                formatter,
                "add server {}, {}",
                to.key,
                described(&destination_settings(to))
            ),
            Self::SetDestination { from, to } => write!(
                formatter,
                "server {}: {}",
                to.key,
                differences(&destination_settings(from), &destination_settings(to)).join(", ")
            ),
            Self::RemoveDestination { destination } => {
                write!(formatter, "remove server {destination}")
            }
        }
    }
}

fn service_settings(service: &Service) -> Vec<Setting> {
    let scheduler = service.scheduler.map_or("unknown", Scheduler::name);
    let flags = match service.flags {
        ServiceFlags::NONE => OFF.to_owned(),
        flags => flags.to_string(),
    };
    let persistence = service.persistence.map_or_else(
        || OFF.to_owned(),
        |kept| format!("{} s /{}", kept.timeout.as_secs(), kept.prefix_length),
    );
    vec![
        ("scheduler", scheduler.to_owned()),
        ("flags", flags),
        ("persistence", persistence),
    ]
}

fn destination_settings(destination: &Destination) -> Vec<Setting> {
    let threshold = |connections: u32| match connections {
        0 => OFF.to_owned(),
        connections => connections.to_string(),
    };
    vec![
        ("forwarding", destination.forwarding.to_string()),
        ("weight", destination.weight.to_string()),
        ("upper threshold", threshold(destination.upper_threshold)),
        ("lower threshold", threshold(destination.lower_threshold)),
    ]
}

/// A service as ipvsadm(8) names it.
fn service_option(key: ServiceKey) -> String {
    match key {
        ServiceKey::Socket {
            address,
            port,
            protocol,
        } => {
            let option = match protocol {
                Protocol::Udp => "-u",
                Protocol::Tcp => "-t",
                Protocol::Sctp => "--sctp-service",
            };
            format!("{option} {}", SocketAddr::new(address, port))
        }
        ServiceKey::FirewallMark { mark, family } => match family {
            Family::Ipv4 => format!("-f {mark}"),
            Family::Ipv6 => format!("-f {mark} -6"),
        },
    }
}

fn timeout_settings(timeouts: &Timeouts) -> Vec<Setting> {
    let Timeouts { tcp, tcp_fin, udp } = timeouts;
    vec![
        ("tcp", format!("{tcp} s")),
        ("tcp_fin", format!("{tcp_fin} s")),
        ("udp", format!("{udp} s")),
    ]
}

/// `to` with what stays filled in.
fn becoming(from: &Timeouts, to: &Timeouts) -> Vec<Setting> {
    let filled = |from, to| if to == 0 { from } else { to };
    timeout_settings(&Timeouts {
        tcp: filled(from.tcp, to.tcp),
        tcp_fin: filled(from.tcp_fin, to.tcp_fin),
        udp: filled(from.udp, to.udp),
    })
}

fn both((from, to): (String, String)) -> (Option<String>, Option<String>) {
    (Some(from), Some(to))
}

#[cfg(test)]
mod tests {
    use super::super::fake;
    use super::*;

    #[test]
    fn a_change_is_a_line_for_people_and_fields_for_programs() {
        let key = fake::service_key(0);
        let from = fake::destination(1, 1);
        let to = Destination { weight: 3, ..from };
        let change = Change::Service {
            service: Some("resolver".into()),
            key,
            action: Action::SetDestination { from, to },
        };
        let expected = serde_json::json!({
            "object": "server",
            "action": "change",
            "service": "resolver",
            "virtual_service": "192.0.2.100:53/udp",
            "server": "192.0.2.11:53",
            "from": "weight 1",
            "to": "weight 3",
            "text": "service resolver 192.0.2.100:53/udp: server 192.0.2.11:53: weight 1 → 3",
        });
        let told = control::Change::from(&change);
        assert_eq!(serde_json::to_value(&told).ok(), Some(expected));
    }

    #[test]
    fn timeouts_that_stay_are_not_mentioned() {
        let from = Timeouts {
            tcp: 900,
            tcp_fin: 120,
            udp: 300,
        };
        let to = Timeouts {
            udp: 60,
            ..Timeouts::default()
        };
        let change = Change::Timeouts { from, to };
        assert_eq!(change.to_string(), "timeouts: udp 300 s → 60 s");
        let told = control::Change::from(&change);
        assert_eq!(told.from.as_deref(), Some("udp 300 s"));
        assert_eq!(told.to.as_deref(), Some("udp 60 s"));
    }
}
