//! Every tool of the crate, seen from outside: raw bytes on sockets, polling by hand, real clients.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests may panic as the tests do"
)]

mod auto_traits;
mod body;
mod client;
mod descriptors;
mod logs;
mod metrics;
mod service;
mod upstream_answers;
mod upstream_faults;
mod upstream_hyper;
mod upstream_record;
