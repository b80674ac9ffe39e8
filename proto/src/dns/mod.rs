//! The DNS probe.
