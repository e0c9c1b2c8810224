//! `Forward` and `Upstream` over real sockets on loopback.

#![cfg(feature = "upstream")]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests: a broken expectation must stop the test at once"
)]

mod awaited;
mod bodies;
mod descriptors;
mod endpoint_health;
mod faults;
mod fields;
mod http2;
mod http2_faults;
mod http2_full;
mod http2_pings;
mod http2_shared;
#[cfg(feature = "metrics")]
mod metrics;
mod pool;
mod reused;
mod runtimes;
mod stack;
mod support;
mod timers;
mod tired;
mod upgrade;
mod whole;
