//! What the kernel says over rtnetlink.

/// One datagram.
pub(super) fn datagram(datagram: &[u8]) {
    lvs_system::fuzzing::netlink(datagram);
}
