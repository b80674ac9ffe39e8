//! Which servers are meant.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::config::RealServerKey;

/// Any service, or any server.
const ANY: &str = "*";

/// A server of a service.
///
/// Written `resolver/192.0.2.11`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Place {
    /// The service's name.
    pub service: String,
    /// Which of its servers.
    pub real_server: RealServerKey,
}

/// One server of one service, or more.
///
/// Written as a [`Place`] with `*` for any service or any server. A server without a port is meant with
/// all of its ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern {
    service: Option<String>,
    real_server: Option<RealServerKey>,
}

/// What isn't a server of a service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a server of a service; write it as resolver/192.0.2.11, '*/192.0.2.11' for a server in \
     all services, or 'resolver/*' for all servers of a service"
)]
pub struct PatternError(String);

impl Pattern {
    /// Whether this server is meant.
    pub fn matches(&self, place: &Place) -> bool {
        let service = self.service.as_ref();
        let server = self.real_server.as_ref();
        service.is_none_or(|service| *service == place.service)
            && server.is_none_or(|server| {
                server.address == place.real_server.address
                    && (server.port.is_none() || server.port == place.real_server.port)
            })
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let wrong = || PatternError(text.to_owned());
        let (service, server) = text.split_once('/').ok_or_else(wrong)?;
        if service.is_empty() {
            return Err(wrong());
        }
        Ok(Self {
            service: (service != ANY).then(|| service.to_owned()),
            real_server: match server {
                ANY => None,
                server => Some(server.parse().map_err(|_| wrong())?),
            },
        })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let service = self.service.as_deref().unwrap_or(ANY);
        match &self.real_server {
            Some(server) => write!(formatter, "{service}/{server}"),
            None => write!(formatter, "{service}/{ANY}"),
        }
    }
}

impl FromStr for Place {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        match text.parse()? {
            Pattern {
                service: Some(service),
                real_server: Some(real_server),
            } => Ok(Self {
                service,
                real_server,
            }),
            Pattern { .. } => Err(PatternError(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Pattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, PatternError> {
        text.parse()
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.to_string()
    }
}

impl TryFrom<String> for Place {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, PatternError> {
        text.parse()
    }
}

impl From<Place> for String {
    fn from(place: Place) -> Self {
        place.to_string()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.service, self.real_server)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_as_they_are_written() {
        for text in [
            "resolver/192.0.2.11",
            "resolver/192.0.2.11:5353",
            "a.b-c/2001:db8::1",
            "resolver/[2001:db8::1]:53",
            "*/192.0.2.11",
            "resolver/*",
            "*/*",
        ] {
            assert_eq!(text.parse::<Pattern>().unwrap().to_string(), text);
            let place = text.parse::<Place>().map(|place| place.to_string());
            assert_eq!(place.is_ok(), !text.contains(ANY), "{text}");
        }
        for text in [
            "resolver",
            "192.0.2.11",
            "/192.0.2.1",
            "a/",
            "a/b",
            "a/1.2.3.4:0",
            "a/b/*",
        ] {
            let error = text.parse::<Pattern>().unwrap_err().to_string();
            assert!(error.contains("write it as"), "{error}");
        }
    }
}
