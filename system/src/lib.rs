//! What both binaries do to Linux: netlink, addresses, routes, sysctls, raw sockets.
//!
//! Everything here is blocking and acts in the network namespace of the calling thread.

pub mod address;
pub mod arp;
pub mod connections;
pub mod control_socket;
pub mod dummy;
pub mod echo;
pub mod file;
mod filter;
#[doc(hidden)]
pub mod fuzzing;
pub mod ipvs;
pub mod link;
pub mod listeners;
pub mod listening;
pub mod lock;
pub mod log;
pub mod macvlan;
pub mod memory;
pub mod neighbour_socket;
pub mod netlink;
pub mod packet;
pub mod proxy;
pub mod query_counter;
pub mod record;
pub mod route;
pub mod seconds;
pub mod syscalls;
pub mod sysctl;
pub mod virtual_mac;
pub mod vrrp_socket;
pub mod watch;
