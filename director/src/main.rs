//! director.
fn main() {}
