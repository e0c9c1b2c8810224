//! Prints what leases cost: the table in `docs/ratelimit-leases.md`.
//!
//! Virtual time and the same seed each time, so the table is the same each time.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a program for people"
)]

mod simulation;
mod table;

fn main() {
    print!("{}", table::write());
}
