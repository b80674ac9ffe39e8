//! rs-agent.
fn main() {}
