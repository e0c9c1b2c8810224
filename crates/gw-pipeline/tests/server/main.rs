//! The server on loopback sockets.
//!
//! Where a timer is tested it is set short, and the test waits for what it does, never for how long.
#![cfg(feature = "server")]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a broken expectation must stop the test at once"
)]

mod descriptors;
mod http2;
mod http2_breaks;
mod http2_farewell;
mod http2_floods;
mod http2_stalls;
mod limits;
#[cfg(feature = "metrics")]
mod metrics;
mod requests;
mod shutdown;
mod support;
mod timers;
mod unread;
mod workers;
