//! IPVS generic netlink messages.
