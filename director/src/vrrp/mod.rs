//! vrrp.
