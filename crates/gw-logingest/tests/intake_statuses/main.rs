//! Each row of the table of statuses, with hostile input, and what a receipt says.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test"
)]

mod bodies;
#[path = "../intake_support/mod.rs"]
mod intake_support;
mod receipts;
mod refusals;
mod settings;
