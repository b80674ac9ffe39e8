//! What would change, and what has: the same words for both.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::config;

/// A file's contents, for [`super::Request::Plan`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigurationText {
    /// The file's name, for messages.
    pub file: String,
    /// What is in it: at most [`lvs_configuration::MAXIMUM_FILE_SIZE`].
    pub text: String,
}

/// What would change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// In the order in which it is done.
    pub changes: Vec<Change>,
    /// What else there is to know of it.
    pub notes: Vec<String>,
}

/// What a reload has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reload {
    /// What was changed, in the words of the plan.
    pub changes: Vec<Change>,
    /// What else there is to know of it.
    pub notes: Vec<String>,
    /// What is still to come, and what it waits for.
    pub waiting: Vec<String>,
    /// What the kernel refused; it is tried again.
    pub failures: Vec<String>,
}

/// One change. What it concerns is given as far as it concerns anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// What kind of thing is changed.
    pub object: Object,
    /// What is done to it.
    pub action: Action,
    /// The configured service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The kernel's, as `192.0.2.1:53/udp` or `mark 7/ipv4`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_service: Option<String>,
    /// The real server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// The sysctl.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setting: Option<String>,
    /// The VRRP instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The VIP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// What it is now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// What it becomes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The real server was not judged yet: this comes once its check passes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub once_its_check_passes: bool,
    /// All of it on one line, for people.
    pub text: String,
}

/// What is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Object {
    /// A service of the kernel's.
    Service,
    /// A real server of one.
    Server,
    /// A sysctl.
    Setting,
    /// The kernel's time-outs of connection entries.
    Timeouts,
    /// The kernel's synchronization daemon.
    Synchronization,
    /// A VIP on an interface.
    Address,
    /// A VRRP instance.
    Instance,
    /// How the real servers of a service are probed.
    Check,
    /// What becomes of a service's servers when others fail or return.
    Pool,
    /// The director itself: what it listens on, what it forwards with.
    Director,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It comes.
    Add,
    /// It stays, and becomes another.
    Change,
    /// It goes.
    Remove,
}

/// A mistake in a configuration file; written as `director check` writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The file.
    pub file: String,
    /// From 1; nothing when the file could not be read.
    pub line: Option<u64>,
    /// From 1, in characters.
    pub column: Option<u64>,
    /// The keys that lead there.
    pub key: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl Change {
    /// A change that concerns nothing in particular yet.
    pub fn new(object: Object, action: Action, text: impl Into<String>) -> Self {
        Self {
            object,
            action,
            service: None,
            virtual_service: None,
            server: None,
            setting: None,
            instance: None,
            address: None,
            from: None,
            to: None,
            once_its_check_passes: false,
            text: text.into(),
        }
    }
}

impl Object {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Server => "server",
            Self::Setting => "setting",
            Self::Timeouts => "timeouts",
            Self::Synchronization => "synchronization",
            Self::Address => "address",
            Self::Instance => "instance",
            Self::Check => "check",
            Self::Pool => "pool",
            Self::Director => "director",
        }
    }
}

impl Action {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Change => "change",
            Self::Remove => "remove",
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl From<&config::Finding> for Finding {
    fn from(finding: &config::Finding) -> Self {
        Self {
            file: finding.file.display().to_string(),
            line: finding.position.map(|position| position.line),
            column: finding.position.map(|position| position.column),
            key: finding.key.clone(),
            message: finding.message.clone(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let position = self.line.zip(self.column);
        let finding = config::Finding {
            file: Path::new(&self.file).to_owned(),
            position: position.map(|(line, column)| config::Position { line, column }),
            key: self.key.clone(),
            message: self.message.clone(),
        };
        finding.fmt(formatter)
    }
}
