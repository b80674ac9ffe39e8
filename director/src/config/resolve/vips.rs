//! The VIPs of one node, and who holds each.

use std::collections::BTreeMap;
use std::net::IpAddr;

use lvs_configuration::address::is_link_local;
use lvs_configuration::error::{Findings, Located, Origin, already};

use crate::config::model::VirtualAddress;

/// VIPs with the name of the instance that lists each, and where.
#[derive(Default)]
pub(super) struct Vips {
    holders: BTreeMap<IpAddr, (String, Origin)>,
    /// Link-local ones by interface, for they may be on several.
    seen: BTreeMap<(IpAddr, Option<String>), Origin>,
    /// Whether those are all.
    pub(super) complete: bool,
}

impl Vips {
    pub(super) fn add(
        &mut self,
        instance: &str,
        interface: &str,
        vip: &Located<VirtualAddress>,
        findings: &mut Findings,
    ) {
        let address = vip.value.address;
        let link = is_link_local(address).then(|| interface.to_owned());
        if let Some(line) = already(&mut self.seen, (address, link), &vip.origin) {
            let message = format!("{address} is already a VIP in line {line}; list it once");
            findings.add(&vip.origin, message);
        }
        self.holders
            .entry(address)
            .or_insert_with(|| (instance.to_owned(), vip.origin.clone()));
    }

    /// The instance that lists the address, and where.
    pub(super) fn holder(&self, address: impl Into<IpAddr>) -> Option<(&str, &Origin)> {
        let (instance, origin) = self.holders.get(&address.into())?;
        Some((instance, origin))
    }
}
