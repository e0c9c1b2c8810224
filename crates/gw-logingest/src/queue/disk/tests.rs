//! The engine on the simulated file system. The committer is driven by hand, so that each run is the same.

mod crash;
mod faults;
#[cfg(feature = "metrics")]
mod measures;
mod panics;
mod room;
mod table;
mod world;
