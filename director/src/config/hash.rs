//! A short name for what a file means: two directors with the same one go by the same configuration.

use std::collections::BTreeMap;
use std::fmt::{self, Debug, Write};

use lvs_proto::vrrp::hmac;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::model::{Configuration, Holder, Instance, Service, VersionSettings, VirtualAddress};

/// What of a configuration has to be the same on both directors, hashed thing by thing: the virtual
/// routers without what is each node's own (interface, priority, preemption, source, peers, what is
/// tracked, hooks), the services, and how the table is programmed. The order of the file doesn't count.
///
/// Keys and passwords don't go into it, so that nobody can guess them from it; whether there are any
/// does. Two versions of the program may hash the same file differently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hashes {
    /// Of everything: 16 hexadecimal digits.
    pub all: String,
    /// By what it is of, such as `service resolver`.
    pub parts: BTreeMap<String, String>,
}

impl Hashes {
    /// The hashes of one node's configuration; it doesn't matter whether keys have been read.
    pub fn of(configuration: &Configuration) -> Self {
        let instances = configuration.instances.iter().map(shared_of_instance);
        let services = configuration.services.iter().map(shared_of_service);
        let table = (
            "table".to_owned(),
            hashed(&(
                configuration.dataplane,
                configuration.ipvs.program,
                configuration.ipvs.exclusive,
                configuration.ipvs.timeouts,
            )),
        );
        let parts: BTreeMap<String, String> = instances.chain(services).chain([table]).collect();
        Self {
            all: hashed(&parts),
            parts,
        }
    }

    /// What differs, or is on one side only.
    pub fn differing<'h>(&'h self, other: &'h Self) -> impl Iterator<Item = &'h str> {
        let names = self.parts.keys().chain(
            other
                .parts
                .keys()
                .filter(|name| !self.parts.contains_key(*name)),
        );
        names
            .filter(|name| self.parts.get(*name) != other.parts.get(*name))
            .map(String::as_str)
    }
}

impl fmt::Display for Hashes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{}  all", self.all)?;
        for (name, hash) in &self.parts {
            writeln!(formatter, "{hash}  {name}")?;
        }
        Ok(())
    }
}

fn shared_of_instance(instance: &Instance) -> (String, String) {
    let addresses = |addresses: &[VirtualAddress]| {
        let bare = addresses.iter().map(|vip| (vip.address, vip.prefix_length));
        let mut bare: Vec<_> = bare.collect();
        bare.sort();
        bare
    };
    let proof = match &instance.version {
        VersionSettings::V2 { password } => password.as_ref().map(|_| "password"),
        VersionSettings::V3 { hmac, .. } => hmac.as_ref().map(|_: &hmac::Configuration| "hmac"),
    };
    let (family, id) = (instance.family(), instance.virtual_router_id);
    let shared = (
        instance.version.version(),
        proof,
        instance.advert_interval,
        addresses(&instance.addresses),
        addresses(&instance.further_addresses),
        instance.virtual_mac.is_some(),
    );
    (format!("virtual router {id} {family}"), hashed(&shared))
}

fn shared_of_service(service: &Service) -> (String, String) {
    let mut shared = service.clone();
    for part in &mut shared.virtual_services {
        // The name of an instance may be the node's own.
        if let Holder::Instance(name) = &mut part.holder {
            name.clear();
        }
    }
    shared.virtual_services.sort_by_key(|part| part.key);
    shared.real_servers.sort_by_key(|server| server.key);
    (format!("service {}", service.name), hashed(&shared))
}

/// The first 8 octets of SHA-256 of what `Debug` says, which hides keys and passwords.
fn hashed(it: &impl Debug) -> String {
    let digest = Sha256::digest(format!("{it:?}"));
    digest
        .iter()
        .take(8)
        .fold(String::new(), |mut text, octet| {
            // Writing to a text doesn't fail.
            let _ = write!(text, "{octet:02x}");
            text
        })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use super::*;

    const FILE: &str = "
vrrp:
  - name: { a: left, b: right }
    interface: { a: eth1, b: eth2 }
    virtual_router_id: 50
    priority: { a: 200, b: 100 }
    authentication: { hmac: { send: 1, keys: { 1: '0123456789abcdef0123456789abcdef' } } }
    addresses: [192.0.2.1/24, 192.0.2.2/24]
services:
  - { name: one, address: 192.0.2.1, port: 53, protocols: [udp], check: none,
      real_servers: [{ address: 192.0.2.11 }, { address: 192.0.2.12 }] }
  - { name: two, address: 192.0.2.2, port: 53, protocols: [udp], check: none,
      real_servers: [{ address: 192.0.2.11 }] }
";

    fn of(text: &str, node: &str) -> Hashes {
        let file = super::super::parse(Path::new("d.yaml"), text);
        let file = file.unwrap_or_else(|errors| panic!("{errors}"));
        Hashes::of(&file.outline(node).unwrap())
    }

    fn differing(change: &[(&str, &str)]) -> Vec<String> {
        let changed = change.iter().fold(FILE.to_owned(), |text, (from, to)| {
            assert!(text.contains(from), "{from}");
            text.replace(from, to)
        });
        let (one, other) = (of(FILE, "a"), of(&changed, "a"));
        let names: Vec<String> = one.differing(&other).map(str::to_owned).collect();
        assert_eq!(names.is_empty(), one.all == other.all);
        names
    }

    #[test]
    fn both_nodes_of_a_file_have_the_same() {
        assert_eq!(of(FILE, "a"), of(FILE, "b"));
        assert_eq!(of(FILE, "a").all.len(), 16);
    }

    #[test]
    fn what_is_a_nodes_own_and_the_order_do_not_count() {
        let own = [("a: 200", "a: 150"), ("a: eth1", "a: eth7")];
        assert_eq!(differing(&own), [""; 0]);
        let order = [(
            "{ address: 192.0.2.11 }, { address: 192.0.2.12 }",
            "{ address: 192.0.2.12 }, { address: 192.0.2.11 }",
        )];
        assert_eq!(differing(&order), [""; 0]);
    }

    #[test]
    fn what_differs_is_named() {
        let vip = [("192.0.2.2/24]", "192.0.2.2/24, 192.0.2.3/24]")];
        assert_eq!(differing(&vip), ["virtual router 50 IPv4"]);
        let weight = [("192.0.2.12 }", "192.0.2.12, weight: 2 }")];
        assert_eq!(differing(&weight), ["service one"]);
        let name = [("name: two", "name: three")];
        assert_eq!(differing(&name), ["service two", "service three"]);
    }

    #[test]
    fn a_key_is_not_in_it_and_that_there_is_one_is() {
        let another = [("0123456789abcdef0", "fedcba98765432100")];
        assert_eq!(differing(&another), [""; 0]);
        let line = "    authentication: { hmac: { send: 1, keys: { 1: '0123456789abcdef0123456789abcdef' } } }\n";
        assert_eq!(differing(&[(line, "")]), ["virtual router 50 IPv4"]);
    }
}
