//! What the kernel does with what this crate asks of it, in network namespaces of the test's own.
//!
//! Runs as any user whom the kernel lets have a user namespace. Interfaces are made with ip(8),
//! which knows nothing of this crate.

#![allow(clippy::unwrap_used, unreachable_pub)]

mod address;
mod macvlan;
mod memory;
mod namespace;
mod query_counter;
mod vrrp_socket;
mod watch;

use libtest_mimic::{Arguments, Trial};

type Case = (&'static str, fn());

fn main() {
    if memory::is_child() {
        return memory::child();
    }
    let arguments = Arguments::from_args();
    if !arguments.list {
        namespace::enter();
    }
    let cases = [
        address::CASES,
        macvlan::CASES,
        memory::CASES,
        query_counter::CASES,
        vrrp_socket::CASES,
        watch::CASES,
    ];
    let trials = cases.concat().into_iter().map(|(name, case)| {
        Trial::test(name, move || {
            case();
            Ok(())
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}
