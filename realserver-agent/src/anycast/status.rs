//! How announcements stand, for people and programs.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use lvs_system::seconds;
use serde::{Deserialize, Serialize};

use super::Tier;

/// How one VIP stands.
///
/// Displays as a line for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The VIP.
    pub address: IpAddr,
    /// One of [`Self::STATES`].
    pub state: String,
    /// The interface that it is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// How long it has stood so by its checks.
    #[serde(
        rename = "for_seconds",
        with = "seconds::optional",
        skip_serializing_if = "Option::is_none",
        default
    )]
    pub lasting: Option<Duration>,
    /// Why it isn't announced, or as degraded only, or although it isn't well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How soon it may come back, if that isn't at once when it is well.
    #[serde(
        rename = "held_for_seconds",
        with = "seconds::optional",
        skip_serializing_if = "Option::is_none",
        default
    )]
    pub held_for: Option<Duration>,
    /// Whether it stays only because no other site answers.
    pub last_site: bool,
    /// How often it was withdrawn since the agent started.
    pub withdrawals: u64,
    /// What is asked, and where while the VIP isn't on the machine.
    pub check: String,
}

const STOPPED: &str = "stopped";

impl Status {
    /// Where a VIP may be to be.
    pub const STATES: [&str; 4] = [
        Tier::Announced.word(),
        Tier::Degraded.word(),
        Tier::Withdrawn.word(),
        STOPPED,
    ];

    /// The same of a VIP that was stopped by hand, and is away whatever its checks say.
    #[must_use]
    pub fn stopped(self) -> Self {
        Self {
            state: STOPPED.to_owned(),
            interface: None,
            lasting: None,
            reason: None,
            held_for: None,
            last_site: false,
            ..self
        }
    }

    /// Whether it was stopped by hand.
    pub fn is_stopped(&self) -> bool {
        self.state == STOPPED
    }
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.address, self.state)?;
        if let Some(interface) = &self.interface {
            write!(formatter, " on {interface}")?;
        }
        if let Some(lasting) = self.lasting {
            write!(formatter, " for {} s", lasting.as_secs())?;
        }
        if self.is_stopped() {
            formatter.write_str(" by hand")?;
        }
        if let Some(reason) = &self.reason {
            write!(formatter, ": {reason}")?;
        }
        if self.last_site {
            formatter.write_str("; it stays because no other site answers")?;
        }
        if let Some(held_for) = self.held_for {
            let seconds = held_for.as_secs_f64().ceil();
            write!(formatter, "; comes back in {seconds} s at the earliest")?;
        }
        Ok(())
    }
}
