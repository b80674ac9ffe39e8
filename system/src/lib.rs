//! What both binaries do to Linux: netlink, addresses, routes, sysctls, raw sockets.
//!
//! Everything here is blocking and acts in the network namespace of the calling thread.

pub mod address;
pub mod arp;
#[doc(hidden)]
pub mod fuzzing;
pub mod ipvs;
pub mod link;
pub mod lock;
pub mod macvlan;
pub mod memory;
pub mod netlink;
pub mod packet;
pub mod record;
pub mod route;
pub mod syscalls;
pub mod sysctl;
pub mod virtual_mac;
pub mod vrrp_socket;
pub mod watch;
