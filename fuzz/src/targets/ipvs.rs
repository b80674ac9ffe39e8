//! What the kernel's IPVS replies: generic netlink headers and attributes.

use lvs_proto::ipvs::{
    Daemon, FoundDestination, FoundService, Information, Protocol, ServiceKey, Timeouts,
    family_identifier,
};

/// The payload of one reply, read as each of the replies that there are.
pub(super) fn reply(payload: &[u8]) {
    let _ = Information::decode(payload);
    let _ = Timeouts::decode(payload);
    let _ = Daemon::decode(payload);
    let _ = family_identifier(payload);
    if let Ok(Some(FoundService { service, .. })) = FoundService::decode(payload)
        && let Some(persistence) = service.persistence
    {
        let most = service.key.family().address_bits();
        assert!(persistence.prefix_length <= most, "{service:?}");
    }
    for address in ["192.0.2.100", "2001:db8::100"] {
        let service = ServiceKey::Socket {
            address: address.parse().expect("an address"),
            port: 53,
            protocol: Protocol::Udp,
        };
        let _ = FoundDestination::decode(&service, payload);
    }
}
