//! What is watched of the DNS data that real servers have.

use std::net::SocketAddr;
use std::time::Duration;

use lvs_proto::dns::Name;
use lvs_proto::health::Percent;
use lvs_proto::health::serial::LagRules;

/// What is watched at every real server of a service, beside its checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// Between two looks: 1 s to 1 h.
    pub interval: Duration,
    /// Zones whose serial numbers are compared; each once.
    pub zones: Vec<ZoneWatch>,
    /// Whether resolvers validate.
    pub dnssec: Option<DnssecWatch>,
}

/// What one watcher looks at. Services that watch the same at a server share it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Watched {
    /// Who is asked.
    pub server: SocketAddr,
    /// Between two looks.
    pub interval: Duration,
    /// For what.
    pub look: Look,
}

/// A name, and what is to be seen of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Look {
    /// A zone's serial number.
    Zone(Name),
    /// AD in the answer for a signed zone.
    Signed(Name),
    /// SERVFAIL for a name with bad signatures.
    Bogus(Name),
}

impl Watch {
    /// All that is to be looked at.
    pub fn looks(&self) -> impl Iterator<Item = Look> {
        let zones = self.zones.iter().map(|zone| Look::Zone(zone.name.clone()));
        let dnssec = self.dnssec.as_ref();
        let signed = dnssec.and_then(|dnssec| dnssec.signed.clone());
        let bogus = dnssec.and_then(|dnssec| dnssec.bogus.clone());
        zones
            .chain(signed.map(Look::Signed))
            .chain(bogus.map(Look::Bogus))
    }
}

/// A zone whose serial numbers are compared between the real servers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ZoneWatch {
    /// Its name.
    pub name: Name,
    /// How far a server may be behind.
    pub rules: LagRules,
    /// What is left of the weight of one that is further behind; out with nothing.
    pub weight: Percent,
}

/// Whether resolvers validate: at least one of the names is there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DnssecWatch {
    /// A zone whose signatures are good: answers must have AD.
    pub signed: Option<Name>,
    /// A name whose signatures are bad: answers must be SERVFAIL.
    pub bogus: Option<Name>,
    /// What is left of the weight of a server that doesn't validate; out with nothing.
    pub weight: Percent,
}
