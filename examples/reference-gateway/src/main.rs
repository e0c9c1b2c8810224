//! The gw layers composed into a gateway that serves.
fn main() {}
