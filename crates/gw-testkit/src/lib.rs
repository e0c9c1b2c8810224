#![doc = include_str!("../README.md")]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "test support: a broken expectation must stop the test at once, with a message"
)]

pub mod body;
pub mod client;
#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(feature = "elasticsearch")]
pub mod elasticsearch;
pub mod log_capture;
pub mod metrics_capture;
pub mod plot;
#[cfg(feature = "redis")]
pub mod redis;
pub mod service;
pub mod upstream;

mod descriptors;
mod gate;
mod listener;
mod patience;
mod signal;
mod wire;

// For the tests that `conformance!` makes in other crates.
#[cfg(feature = "conformance")]
#[doc(hidden)]
pub use gw_core;

pub use crate::descriptors::with_few_descriptors;
pub use crate::gate::Gate;
pub use crate::listener::{Listener, nosy_waker};
pub use crate::patience::{PATIENCE, within};
pub use crate::wire::RawHeaders;
