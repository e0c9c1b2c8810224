//! The reference gateway as a user has it: the real program, real sockets, signals, and the tools of an operator.
//!
//! Nothing here sleeps to wait for something, and every wait has an end. A gateway that panics fails its test.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests: a broken expectation must stop the test at once, with a message"
)]

mod access_log;
mod adaptive;
mod admin;
mod api_keys;
mod check;
mod command;
mod consumer_limits;
mod demo;
mod faults;
mod forwarding;
mod framing;
mod gateway;
mod http;
mod isolation;
mod lane_listeners;
mod lanes;
mod limits;
mod lines;
mod listeners;
mod log_lines;
mod logs;
mod odd_http2;
mod odd_requests;
mod places;
mod refusals;
mod request_metrics;
mod retries;
mod shared_limits;
mod shutdown;
mod slow;
mod start;
mod stuck_pipe;
mod traces;
mod unnamed;
mod upstream_health;
