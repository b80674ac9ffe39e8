//! The kernel's settings that forwarding needs.

use std::collections::BTreeSet;

use lvs_proto::Family;
use lvs_proto::ipvs::Forwarding;

use super::table::{Desired, DesiredService, Settings};

/// Without it, packets of flows to a removed server vanish until the flow's entry times out.
pub(crate) const EXPIRE_NODEST_CONN: &str = "net.ipv4.vs.expire_nodest_conn";
/// Without it, a persistent client stays with a server of weight 0.
pub(crate) const EXPIRE_QUIESCENT_TEMPLATE: &str = "net.ipv4.vs.expire_quiescent_template";
/// Without it, all counters stand still.
pub(crate) const RUN_ESTIMATION: &str = "net.ipv4.vs.run_estimation";
/// Without it, answers of masqueraded servers end here.
pub(crate) const IPV4_FORWARDING: &str = "net.ipv4.ip_forward";
/// The same for IPv6.
pub(crate) const IPV6_FORWARDING: &str = "net.ipv6.conf.all.forwarding";

/// Those that every kernel has and [`wanted`] may name.
const ALL: [&str; 5] = [
    EXPIRE_NODEST_CONN,
    EXPIRE_QUIESCENT_TEMPLATE,
    RUN_ESTIMATION,
    IPV4_FORWARDING,
    IPV6_FORWARDING,
];

/// The settings that have to be on. They follow from what is configured, not from what is in the
/// kernel at the moment, so that a change of role changes none.
pub(super) fn wanted(desired: &Desired) -> impl Iterator<Item = &str> {
    let any = |is: fn(&DesiredService) -> bool| desired.services.values().any(is);
    let wanted = [
        !desired.services.is_empty(),
        any(|one| one.service.persistence.is_some()),
        !desired.services.is_empty(),
        any(|one| masquerades(one, Family::Ipv4)),
        any(|one| masquerades(one, Family::Ipv6)),
    ];
    ALL.into_iter()
        .zip(wanted)
        .filter_map(|(name, wanted)| wanted.then_some(name))
        .chain(desired.further_settings.iter().map(String::as_str))
}

/// The settings whose values matter: those that may be wanted, `further` among them, and those that were
/// changed.
pub(super) fn of_interest(further: &BTreeSet<String>, changed: &Settings) -> BTreeSet<String> {
    let further = further.iter().chain(changed.keys());
    let all = ALL.into_iter().map(str::to_owned);
    all.chain(further.cloned()).collect()
}

/// The value that turns a setting on.
pub(crate) const ON: &str = "1";

fn masquerades(service: &DesiredService, family: Family) -> bool {
    let mut destinations = service.destinations.values();
    destinations.any(|one| {
        one.destination.forwarding == Forwarding::Masquerading
            && Family::of(one.destination.key.address) == family
    })
}
