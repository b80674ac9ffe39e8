//! Gratuitous ARP.
