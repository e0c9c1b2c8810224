//! Shared limits with a real Redis server, which each test starts for itself on a free port of the loopback interface.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod changes;
mod cluster;
mod decisions;
mod failures;
mod kept;
mod late;
mod layer;
mod leases;
mod metrics;
mod odd;
mod runtimes;
mod script;
mod server;
mod slow;
#[cfg(feature = "redis-tls")]
mod tls;
