//! What the service does besides keeping the VIPs.

use std::net::SocketAddr;

use super::Patience;

/// What `run` in the configuration says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where the agent-check line is said; nowhere if `None`.
    pub agent_check: Option<SocketAddr>,
    /// What the line says of the server's weight, in percent of what the directors have configured.
    pub weight: u8,
    /// Where metrics are served; nowhere if `None`.
    pub metrics: Option<SocketAddr>,
    /// How long a drain waits.
    pub patience: Patience,
    /// Whose members may use the control socket besides its owner.
    pub group: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            agent_check: None,
            weight: 100,
            metrics: None,
            patience: Patience::default(),
            group: None,
        }
    }
}
