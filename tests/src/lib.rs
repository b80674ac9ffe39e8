//! The lab: machines, wires and traffic for end-to-end tests and for the demo.
//!
//! A [`lab::Lab`] is a set of machines (network, mount and UTS namespaces) joined by Ethernet
//! segments. Real programs run on them; traffic, captures and injected frames come from threads of
//! the test program itself, because a fork costs 44 ms on the guest's emulated processor.
//!
//! A test is a [`case::Case`] in one of the tables of [`cases`]. It asserts on what a client, a
//! peer or the kernel sees, never on the log of the program under test.
//!
//! [`simulation`] is a world of its own: it needs `lvs_proto` only, and is built without the feature
//! `lab`, that is without all the others, in a fraction of the time.

#[cfg(feature = "lab")]
pub mod bench;
#[cfg(feature = "lab")]
pub mod binaries;
#[cfg(feature = "lab")]
pub mod bind;
#[cfg(feature = "lab")]
pub mod browser;
#[cfg(feature = "lab")]
pub mod capture;
#[cfg(feature = "lab")]
pub mod case;
#[cfg(feature = "lab")]
pub mod cases;
#[cfg(feature = "lab")]
pub mod crowd;
#[cfg(feature = "lab")]
pub mod dashboard;
#[cfg(feature = "lab")]
pub mod demo;
#[cfg(feature = "lab")]
pub mod dns;
#[cfg(feature = "lab")]
pub mod figures;
#[cfg(feature = "lab")]
pub mod forwarding;
#[cfg(feature = "lab")]
pub mod guest;
#[cfg(feature = "lab")]
pub mod http;
#[cfg(feature = "lab")]
pub mod inject;
#[cfg(feature = "lab")]
pub mod lab;
#[cfg(feature = "lab")]
pub mod ledger;
#[cfg(feature = "lab")]
mod lock;
#[cfg(feature = "lab")]
pub mod machine;
#[cfg(feature = "lab")]
pub mod metrics_page;
#[cfg(feature = "lab")]
pub mod misbehaving;
#[cfg(feature = "lab")]
pub mod name_servers;
#[cfg(feature = "lab")]
pub mod peer;
#[cfg(feature = "lab")]
pub mod ping;
#[cfg(feature = "lab")]
pub mod prometheus;
#[cfg(feature = "lab")]
pub mod responder;
#[cfg(feature = "lab")]
pub mod routing;
#[cfg(feature = "lab")]
pub mod runner;
#[cfg(feature = "lab")]
pub mod scenario;
#[cfg(feature = "lab")]
pub mod service_file;
pub mod simulation;
#[cfg(feature = "lab")]
pub mod site;
#[cfg(feature = "lab")]
pub mod solo;
#[cfg(feature = "lab")]
pub mod stall;
#[cfg(feature = "lab")]
pub mod terminal;
#[cfg(feature = "lab")]
pub mod topology;
#[cfg(feature = "lab")]
pub mod traffic;
#[cfg(feature = "lab")]
pub mod whoami;
