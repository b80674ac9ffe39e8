//! The targets, by what their bytes stand for.

mod agent_check;
mod configuration;
mod dns;
mod ipvs;
mod local;
mod neighbour;
mod netlink;
mod vrrp_datagram;
mod vrrp_instance;

use crate::Target;

pub(crate) const ALL: &[Target] = &[
    Target {
        name: "vrrp_datagram",
        run: vrrp_datagram::run,
    },
    Target {
        name: "vrrp_instance",
        run: vrrp_instance::run,
    },
    Target {
        name: "dns_datagram",
        run: dns::datagram,
    },
    Target {
        name: "dns_stream",
        run: dns::stream,
    },
    Target {
        name: "agent_check",
        run: agent_check::line,
    },
    Target {
        name: "ipvs_reply",
        run: ipvs::reply,
    },
    Target {
        name: "neighbour",
        run: neighbour::claim,
    },
    Target {
        name: "netlink",
        run: netlink::datagram,
    },
    Target {
        name: "director_configuration",
        run: configuration::director,
    },
    Target {
        name: "agent_configuration",
        run: configuration::agent,
    },
    Target {
        name: "events",
        run: local::events,
    },
    Target {
        name: "connection",
        run: local::connection,
    },
    Target {
        name: "report",
        run: local::report,
    },
    Target {
        name: "control_request",
        run: local::control_request,
    },
    Target {
        name: "record",
        run: local::record,
    },
];
