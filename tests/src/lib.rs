//! The lab: machines, wires and traffic for end-to-end tests and for the demo.
//!
//! A [`lab::Lab`] is a set of machines (network, mount and UTS namespaces) joined by Ethernet
//! segments. Real programs run on them; traffic, captures and injected frames come from threads of
//! the test program itself, because a fork costs 44 ms on the guest's emulated processor.
//!
//! A test is a [`case::Case`] in one of the tables of [`cases`]. It asserts on what a client, a
//! peer or the kernel sees, never on the log of the program under test.

pub mod binaries;
pub mod bind;
pub mod capture;
pub mod case;
pub mod cases;
pub mod demo;
pub mod dns;
pub mod forwarding;
pub mod guest;
pub mod http;
pub mod inject;
pub mod lab;
pub mod ledger;
pub mod peer;
pub mod ping;
pub mod responder;
pub mod runner;
pub mod scenario;
pub mod topology;
pub mod traffic;
