//! What neighbours say of their addresses.

use lvs_proto::{arp, ndp};

use crate::bytes::Bytes;

/// The first byte chooses: an ARP frame, or an ICMPv6 message with its source and hop limit before it.
pub(super) fn claim(data: &[u8]) {
    let mut bytes = Bytes(data);
    if bytes.byte() == 0 {
        if let Some(claim) = arp::claim(bytes.0) {
            assert!(claim.address.is_ipv4() && !claim.address.is_unspecified());
        }
        return;
    }
    let (source, hop_limit) = (bytes.array::<16>().into(), bytes.byte());
    if let Some(claim) = ndp::claim(source, hop_limit, bytes.0) {
        assert!(claim.address.is_ipv6() && hop_limit == 255);
    }
}
